r"""The direct linear forecast: the next `horizon` steps as a linear map of the last `window` steps, for all series one.

.. math:: \hat s_{t+k} = s_t + b_k + \sum_{i=1}^{w-1} W_{ik} (s_{t-w+i} - s_t), \qquad k = 1, \dots, h

W and b minimize the squared error over all origins, each divided by the variance of its window, plus :math:`\lambda \lVert W
\rVert^2`. The penalty λ is chosen on the last quarter of the origins, with W fitted to the earlier ones: the largest penalty
whose error is at most one per cent above the smallest. W is then fitted to all origins.

References
----------
Zeng, A., Chen, M., Zhang, L. and Xu, Q. (2023). Are transformers effective for time series forecasting? AAAI.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fastrnn.engine.kernels.matmul import matmul

__all__ = ["LinearForecast", "fill_forward", "fit_linear"]

#: Penalties that are tried, in units of the mean square of the inputs.
_PENALTIES = (0.001, 0.01, 0.1, 1.0, 3.0, 10.0)
#: A larger penalty is taken if the error grows by no more than this fraction: a calmer forecast that is as good.
_TOLERANCE = 0.01
#: Fraction of the origins that judges them.
_HELD_OUT = 0.25
#: Added to the variance of a window, as a fraction of the mean variance: flat windows would weigh most.
_LEAST_VARIANCE = 0.0025
#: Origins that are worked on at a time.
_ROWS = 2048


class LinearForecast(NamedTuple):
    """A fitted linear forecast.

    Attributes
    ----------
    weights : ndarray of shape (window - 1, horizon)
    intercept : ndarray of shape (horizon,)
    """

    weights: NDArray[Any]
    intercept: NDArray[Any]

    @property
    def window(self) -> int:
        """Steps that a forecast looks at."""
        return len(self.weights) + 1

    def __call__(self, filled: NDArray[Any], origins: NDArray[Any]) -> NDArray[Any]:
        """Forecast from some origins.

        The numbers of an origin are the same to the bit whatever other origins there are.

        Parameters
        ----------
        filled : ndarray of shape (n_steps,)
            The series, gaps filled.
        origins : ndarray of int, shape (n_origins,)

        Returns
        -------
        ndarray of shape (n_origins, horizon)
            NaN at origins before which the window does not fit.
        """
        out = np.full((len(origins), self.weights.shape[1]), np.nan)
        rows = np.flatnonzero(origins >= self.window - 1)
        for begin in range(0, len(rows), _ROWS):
            part = rows[begin : begin + _ROWS]
            last, change = _windows(filled, origins[part], self.window)
            out[part] = last + matmul(change, self.weights) + self.intercept
        return out


def _windows(filled: NDArray[Any], origins: NDArray[Any], window: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Last values (n, 1), and earlier ones of the window beside them (n, window - 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(filled, window)[origins - window + 1]
    return windows[:, -1:], windows[:, :-1] - windows[:, -1:]


def fill_forward(s: NDArray[Any]) -> NDArray[Any]:
    """The last known value at each step; NaN before the first."""
    known = np.where(np.isnan(s), 0, np.arange(len(s)))
    return s[np.maximum.accumulate(known)]


class _Moments:
    """Sums of products of windows and futures, from which W, b and their error follow.

    The inputs are the window - 1 changes of a window, and 1 for the intercept.
    """

    def __init__(self, window: int, horizon: int) -> None:
        self.inputs = np.zeros((window, window))
        self.both = np.zeros((window, horizon))
        self.futures, self.n = 0.0, 0

    def add(self, filled: NDArray[Any], s: NDArray[Any], origins: NDArray[Any], least: float) -> None:
        window, horizon = self.both.shape
        futures = np.lib.stride_tricks.sliding_window_view(s, horizon)
        for begin in range(0, len(origins), _ROWS):
            part = origins[begin : begin + _ROWS]
            last, x = _windows(filled, part, window)
            y = futures[part + 1] - last
            known = ~(np.isnan(y).any(axis=1) | np.isnan(x).any(axis=1))
            x, y = x[known], y[known]
            size = 1 / np.sqrt(x.var(axis=1, keepdims=True) + least)
            x, y = np.concatenate([x * size, size], axis=1), y * size
            self.inputs += matmul(x, x, transpose_a=True)
            self.both += matmul(x, y, transpose_a=True)
            self.futures += float(np.sum(y * y))
            self.n += len(x)

    def __add__(self, other: _Moments) -> _Moments:
        total = _Moments(*self.both.shape)
        total.inputs, total.both = self.inputs + other.inputs, self.both + other.both
        total.futures, total.n = self.futures + other.futures, self.n + other.n
        return total

    def solve(self, penalty: float) -> NDArray[Any]:
        """W and, in the last row, b."""
        diagonal = self.inputs.diagonal().copy()
        diagonal[:-1] += max(penalty * diagonal[:-1].mean(), 1e-12)
        a = self.inputs.copy()
        np.fill_diagonal(a, diagonal)
        # In units in which the diagonal is 1: the intercept of flat series would be too large beside the changes.
        unit = np.sqrt(diagonal)[:, None]
        result: NDArray[Any] = linalg.solve(a / (unit * unit.T), self.both / unit, assume_a="pos") / unit
        return result

    def error(self, weights: NDArray[Any]) -> float:
        """Sum of the squared errors of a solution."""
        return self.futures + float(np.sum(weights * (self.inputs @ weights - 2 * self.both)))


def fit_linear(series: list[NDArray[Any]], window: int, horizon: int) -> LinearForecast | None:
    """Find W and b from series s, NaN where missing; None if no window with its future fits into any of them."""
    # The futures of the origins in the gap reach into those that judge.
    early, gap, late = (_Moments(window, horizon) for _ in range(3))
    for s in series:
        origins = np.arange(window - 1, len(s) - horizon)
        filled = fill_forward(s)
        if not len(origins) or np.isnan(filled[-1]):
            continue
        least = max(_LEAST_VARIANCE * float(np.nanvar(filled)), 1e-12)
        split = round((1 - _HELD_OUT) * len(origins))
        cuts = np.split(origins, [max(split - horizon, 0), split])
        for moments, part in zip((early, gap, late), cuts, strict=True):
            moments.add(filled, s, part, least)
    whole = early + gap + late
    if not whole.n:
        return None
    if not early.n or not late.n:
        return _forecast(whole.solve(max(_PENALTIES)))
    errors = [late.error(early.solve(penalty)) for penalty in _PENALTIES]
    good = [p for p, error in zip(_PENALTIES, errors, strict=True) if error <= (1 + _TOLERANCE) * min(errors)]
    return _forecast(whole.solve(max(good)))


def _forecast(solution: NDArray[Any]) -> LinearForecast:
    return LinearForecast(solution[:-1].copy(), solution[-1].copy())

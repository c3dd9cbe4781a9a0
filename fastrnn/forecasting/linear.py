r"""The direct linear forecast: the next `horizon` steps as a linear map of the last `window` steps, for all series one.

.. math:: \hat s_{t+k} = s_t + \sum_{i=1}^{w-1} W_{ik} (s_{t-w+i} - s_t), \qquad k = 1, \dots, h

A solution minimizes the squared error over all origins, each divided by the variance of its window, plus the penalty

.. math:: \lambda \sum_{ik} p_i (W_{ik} - V_{ik})^2.

W is the mean of four such solutions. In two of them V is the forecast by the last value, in the others half the mean of the
last season and half the mean over the same step of the seasons in the window, with the weights of the reference "smooth".
The :math:`p_i` are 1 in two of them; in the others they grow by 1 with each season between step i and the origin, so that
steps long ago have less influence. For each of the four, λ is chosen by cross-validation over four parts of the origins in
the order of time; if the series are too short for that, it is the largest.

References
----------
Zeng, A., Chen, M., Zhang, L. and Xu, Q. (2023). Are transformers effective for time series forecasting? AAAI.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fastrnn.engine.kernels.matmul import matmul
from fastrnn.forecasting.single_step import NEWEST

__all__ = ["LinearForecast", "fill_forward", "fit_linear"]

#: Penalties that are tried, in units of the mean square of the inputs.
_PENALTIES = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
#: Growth of the penalty with each season of distance that is tried.
_GROWTHS = (0.0, 1.0)
#: Parts of the origins that judge the penalties, one at a time.
_PARTS = 4
#: Added to the variance of a window, as a fraction of the mean variance: flat windows would weigh most.
_LEAST_VARIANCE = 0.0025
#: Origins that are worked on at a time.
_ROWS = 2048


class LinearForecast(NamedTuple):
    """A fitted linear forecast.

    Attributes
    ----------
    weights : ndarray of shape (window - 1, horizon)
    """

    weights: NDArray[Any]

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
            out[part] = last + matmul(change, self.weights)
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
    """Sums of products of windows and futures, from which W and its error follow."""

    def __init__(self, window: int, horizon: int) -> None:
        self.inputs = np.zeros((window - 1, window - 1))
        self.both = np.zeros((window - 1, horizon))
        self.futures, self.n = 0.0, 0

    def add(self, filled: NDArray[Any], s: NDArray[Any], origins: NDArray[Any], least: float) -> None:
        window, horizon = len(self.inputs) + 1, self.both.shape[1]
        futures = np.lib.stride_tricks.sliding_window_view(s, horizon)
        for begin in range(0, len(origins), _ROWS):
            part = origins[begin : begin + _ROWS]
            last, x = _windows(filled, part, window)
            y = futures[part + 1] - last
            known = ~(np.isnan(y).any(axis=1) | np.isnan(x).any(axis=1))
            x, y = x[known], y[known]
            size = 1 / np.sqrt(x.var(axis=1, keepdims=True) + least)
            x, y = x * size, y * size
            self.inputs += matmul(x, x, transpose_a=True)
            self.both += matmul(x, y, transpose_a=True)
            self.futures += float(np.sum(y * y))
            self.n += len(x)

    def __add__(self, other: _Moments) -> _Moments:
        total = _Moments(len(self.inputs) + 1, self.both.shape[1])
        total.inputs, total.both = self.inputs + other.inputs, self.both + other.both
        total.futures, total.n = self.futures + other.futures, self.n + other.n
        return total

    def solve(self, priors: NDArray[Any], penalties: NDArray[Any]) -> NDArray[Any]:
        """Solutions for each V, of shape (n_priors, window - 1, horizon).

        Parameters
        ----------
        priors : ndarray of shape (n_priors, window - 1, horizon)
        penalties : ndarray of shape (window - 1,)
            In units of the mean square of the inputs.
        """
        ridge = np.maximum(penalties * np.trace(self.inputs) / len(self.inputs), 1e-12)
        a = self.inputs.copy()
        a.flat[:: len(a) + 1] += ridge
        right = np.concatenate([self.both + ridge[:, None] * prior for prior in priors], axis=1)
        return np.stack(np.split(linalg.solve(a, right, assume_a="pos"), len(priors), axis=1))

    def error(self, weights: NDArray[Any]) -> float:
        """Sum of the squared errors of W."""
        return self.futures + float(np.sum(weights * (self.inputs @ weights - 2 * self.both)))


def _simple_forecast(window: int, horizon: int, season: int) -> NDArray[Any]:
    """V, of shape (window - 1, horizon)."""
    weights = np.zeros((window, horizon))
    if season == 1 or season > window:
        return weights[:-1]
    weights[-season:] += 0.5 / season
    shares = (1 - NEWEST) ** np.arange(window // season)
    for k in range(horizon):
        same_step = window - season + k % season - season * np.arange(len(shares))
        weights[same_step, k] += 0.5 * shares / shares.sum()
    return weights[:-1]


def fit_linear(
    series: list[NDArray[Any]], window: int, horizon: int, season: int = 1
) -> LinearForecast | None:
    """Find W from series s, NaN where missing; None if no window with its future fits into any of them."""
    # The futures of the origins at the end of a part reach into the next one, whose first origins judge nothing.
    gaps = [_Moments(window, horizon) for _ in range(_PARTS)]
    parts = [_Moments(window, horizon) for _ in range(_PARTS)]
    for s in series:
        origins = np.arange(window - 1, len(s) - horizon)
        filled = fill_forward(s)
        if not len(origins) or np.isnan(filled[-1]):
            continue
        least = max(_LEAST_VARIANCE * float(np.nanvar(filled)), 1e-12)
        for gap, part, at in zip(gaps, parts, np.array_split(origins, _PARTS), strict=True):
            gap.add(filled, s, at[:horizon], least)
            part.add(filled, s, at[horizon:], least)
    whole = _sum(gaps + parts)
    if not whole.n:
        return None
    priors = np.stack([np.zeros((window - 1, horizon)), _simple_forecast(window, horizon, season)])
    seasons_before = np.arange(window - 1, 0, -1) / season
    solutions = []
    for growth in _GROWTHS:
        candidates = [p * (1 + seasons_before) ** growth for p in _PENALTIES]
        for prior, best in zip(priors, _choose(parts, priors, candidates), strict=True):
            solutions.append(whole.solve(prior[None], candidates[best])[0])
    return LinearForecast(np.mean(solutions, axis=0))


def _sum(moments: list[_Moments]) -> _Moments:
    return functools.reduce(operator.add, moments)


def _choose(parts: list[_Moments], priors: NDArray[Any], candidates: list[NDArray[Any]]) -> NDArray[np.intp]:
    """For each V, the position of the penalties whose solutions for the other parts have the smallest error."""
    if not all(part.n for part in parts):
        return np.full(len(priors), len(candidates) - 1)
    errors = np.zeros((len(priors), len(candidates)))
    for i, judge in enumerate(parts):
        others = _sum(parts[:i] + parts[i + 1 :])
        for j, penalties in enumerate(candidates):
            errors[:, j] += [judge.error(weights) for weights in others.solve(priors, penalties)]
    return errors.argmin(axis=1)

"""Windows of a series, and the seasonal naive forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.checks import refuse_masked

__all__ = ["as_series", "make_windows", "seasonal_naive"]


def as_series(values: ArrayLike, name: str) -> NDArray[Any]:
    refuse_masked(values, name)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}; pass numbers")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {array.shape}; pass (n_steps,) or (n_steps, n_features)")
    return array


def make_windows(
    series: ArrayLike,
    n_past: int,
    n_ahead: int = 1,
    *,
    target: int | Sequence[int] | None = None,
    stride: int = 1,
    gap: int = 0,
) -> tuple[NDArray[Any], NDArray[Any]]:
    r"""Cut a series into pairs of past and future.

    Row i has the past :math:`x_{is}, \dots, x_{is+n_{past}-1}` and, after `gap` steps left out, the `n_ahead` values
    that follow, with s the stride.

    Parameters
    ----------
    series : array-like of shape (n_steps,) or (n_steps, n_features)
        The series, equally spaced in time.
    n_past : int
        Steps in each window.
    n_ahead : int
        Steps to forecast.
    target : int, sequence of int or None
        Which features are forecast; None means all.
    stride : int
        Steps between the starts of two windows.
    gap : int
        Steps between the end of the past and the start of the future.

    Returns
    -------
    X : ndarray of shape (n_windows, n_past, n_features)
        A read-only view of the series.
    y : ndarray of shape (n_windows, n_ahead), or (n_windows, n_ahead, n_targets) with more than one target
        The future; a copy.

    Raises
    ------
    ValueError
        If an argument is out of range or the series is too short for one window.

    Examples
    --------
    >>> X, y = make_windows([1.0, 2.0, 3.0, 4.0], n_past=2)
    >>> X[:, :, 0]
    array([[1., 2.],
           [2., 3.]])
    >>> y
    array([[3.],
           [4.]])
    """
    array = as_series(series, "series")
    if array.ndim == 1:
        array = array[:, None]
    for name, number, least in (
        ("n_past", n_past, 1),
        ("n_ahead", n_ahead, 1),
        ("stride", stride, 1),
        ("gap", gap, 0),
    ):
        if number < least:
            raise ValueError(f"{name}={number!r} must be at least {least}")
    need = n_past + gap + n_ahead
    if len(array) < need:
        raise ValueError(
            f"series has {len(array)} steps, a window takes n_past + gap + n_ahead = {need}; "
            "pass a longer series or smaller windows"
        )
    n_features = array.shape[1]
    columns = [target] if isinstance(target, (int, np.integer)) else target
    if columns is None:
        columns = range(n_features)
    for column in columns:
        if not -n_features <= column < n_features:
            raise ValueError(f"target={column!r} is out of range: the series has {n_features} features")
    windows = np.lib.stride_tricks.sliding_window_view(array, need, axis=0)[::stride]  # (n, n_features, need)
    past = windows[:, :, :n_past].transpose(0, 2, 1)
    future = windows[:, list(columns), n_past + gap :].transpose(0, 2, 1)
    return past, np.ascontiguousarray(future[:, :, 0] if len(columns) == 1 else future)


def seasonal_naive(history: ArrayLike, n_ahead: int, period: int = 1) -> NDArray[Any]:
    r"""Repeat the last season: :math:`\hat y_{T+k} = y_{T+k-mp}` with the smallest m for which the step is known.

    Parameters
    ----------
    history : array-like of shape (n_steps,) or (n_steps, n_features)
        The known steps.
    n_ahead : int
        Steps to forecast.
    period : int
        Steps in a season: 12 for months, 1 repeats the last value.

    Returns
    -------
    ndarray of shape (n_ahead,) or (n_ahead, n_features)

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import seasonal_naive
    >>> seasonal_naive(np.array([1.0, 2.0, 3.0, 4.0]), 3, 2).tolist()
    [3.0, 4.0, 3.0]
    """
    array = as_series(history, "history")
    for name, number in (("n_ahead", n_ahead), ("period", period)):
        if number < 1:
            raise ValueError(f"{name}={number!r} must be at least 1")
    if len(array) < period:
        raise ValueError(f"history has {len(array)} steps, less than one season of period={period}")
    return array[len(array) - period + np.arange(n_ahead) % period]

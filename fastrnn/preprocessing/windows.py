"""Windows of a series."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import integer, real_array

__all__ = ["sliding_windows"]


def sliding_windows(values: Any, width: int, step: int = 1) -> np.ndarray:
    """Cut a series into windows, without a copy.

    Window i holds the time steps ``i * step ... i * step + width - 1``; a shorter rest is left out. `fit` and `predict` of
    the estimators copy a batch at a time, so that windows take no more memory than the series.

    Parameters
    ----------
    values : array-like of shape (n_timesteps, n_features) or (n_timesteps,)
    width, step : int
        Time steps in a window, and between the starts of two windows.

    Returns
    -------
    ndarray of shape (n_windows, width, n_features)
        A read-only view of `values`, if these are an array.

    Raises
    ------
    ValueError
        If `width` or `step` is below 1, or the series is shorter than a window.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import sliding_windows
    >>> X = sliding_windows(np.arange(6.0), 4)
    >>> X.shape
    (3, 4, 1)
    >>> X[..., 0]
    array([[0., 1., 2., 3.],
           [1., 2., 3., 4.],
           [2., 3., 4., 5.]])
    """
    width, step = integer(width, "width"), integer(step, "step")
    series = real_array(values, name="values")
    if series.ndim not in (1, 2):
        raise ValueError(
            f"values has shape {series.shape}: give one series of shape (n_timesteps, n_features) or (n_timesteps,)"
        )
    series = series[:, None] if series.ndim == 1 else series
    if len(series) < width:
        raise ValueError(f"values has {len(series)} time steps, fewer than a window of width={width}")
    windows = np.lib.stride_tricks.sliding_window_view(series, width, axis=0)
    return windows[::step].swapaxes(1, 2)

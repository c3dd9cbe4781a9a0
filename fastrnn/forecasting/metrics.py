"""Errors that compare across series, and what tells of intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.forecasting.windows import as_series

__all__ = ["mase", "smape"]


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray, NDArray]:
    true, pred = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    if true.shape != pred.shape:
        raise ValueError(f"y_true has shape {true.shape}, y_pred {pred.shape}; they must be the same")
    if not true.size:
        raise ValueError("y_true is empty; there is nothing to measure")
    return true, pred


def mase(y_true: ArrayLike, y_pred: ArrayLike, y_train: ArrayLike, period: int = 1) -> float:
    r"""Mean absolute scaled error: the forecast's error over that of the seasonal naive one on the training data.

    .. math:: \frac{\operatorname{mean} |y_t - \hat y_t|}{\operatorname{mean}_{t > p} |y_t - y_{t-p}|}

    Below 1 is better than the naive forecast was inside the training data.

    Parameters
    ----------
    y_true, y_pred : array-like of the same shape
        Truth and forecast.
    y_train : array-like of shape (n_steps,)
        The series before the forecast.
    period : int
        Steps in a season.

    References
    ----------
    Hyndman, R. J. and Koehler, A. B. (2006). Another look at measures of forecast accuracy.
    International Journal of Forecasting 22, 679-688.
    """
    true, pred = _pair(y_true, y_pred)
    train = as_series(y_train, "y_train")
    if not 1 <= period < len(train):
        raise ValueError(f"period={period!r} must be at least 1 and below the {len(train)} steps of y_train")
    scale = np.mean(np.abs(train[period:] - train[:-period]))
    if scale == 0:
        raise ValueError("y_train repeats itself exactly with this period, so the scale of the error is zero")
    return float(np.mean(np.abs(true - pred)) / scale)


def smape(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    r"""Symmetric mean absolute percentage error, in percent from 0 to 200.

    .. math:: 100 \operatorname{mean} \frac{2 |y_t - \hat y_t|}{|y_t| + |\hat y_t|}

    Terms where both are zero count as zero.
    """
    true, pred = _pair(y_true, y_pred)
    size = np.abs(true) + np.abs(pred)
    return float(200 * np.mean(np.abs(true - pred) / np.where(size == 0, 1, size)))

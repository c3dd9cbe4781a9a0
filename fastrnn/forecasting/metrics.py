"""Scaled errors, which are comparable across series, and measures of intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.checks import refuse_masked
from fastrnn.forecasting.windows import as_series

__all__ = ["coverage", "interval_width", "mase", "naive_scale", "pinball", "rmsse", "smape"]


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    refuse_masked(y_true, "y_true")
    refuse_masked(y_pred, "y_pred")
    true, pred = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    if true.shape != pred.shape:
        raise ValueError(f"y_true has shape {true.shape}, y_pred {pred.shape}; they must be the same")
    if not true.size:
        raise ValueError("y_true is empty; there is nothing to measure")
    return true, pred


def mase(y_true: ArrayLike, y_pred: ArrayLike, y_train: ArrayLike, period: int = 1) -> float:
    r"""Mean absolute scaled error: the error of the forecast over that of the seasonal naive forecast in the training data.

    .. math:: \frac{\operatorname{mean} |y_t - \hat y_t|}{\operatorname{mean}_{t > p} |y_t - y_{t-p}|}

    Values below 1 are better than the naive forecast in the training data.

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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import mase
    >>> past = np.array([1.0, 3.0, 2.0, 4.0])
    >>> round(float(mase(np.array([3.0, 5.0]), np.array([4.0, 4.0]), past)), 3)
    0.6
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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import smape
    >>> round(float(smape(np.array([100.0, 200.0]), np.array([110.0, 190.0]))), 2)
    7.33
    """
    true, pred = _pair(y_true, y_pred)
    size = np.abs(true) + np.abs(pred)
    return float(200 * np.mean(np.abs(true - pred) / np.where(size == 0, 1, size)))


def naive_scale(y_train: ArrayLike, period: int = 1) -> float:
    """Return the mean absolute error of the seasonal naive forecast in the training data, without missing steps.

    If it is zero or undefined for this period, period 1 is used; NaN if that is zero or undefined too.

    Examples
    --------
    >>> from fastrnn.forecasting import naive_scale
    >>> naive_scale([1.0, 2.0, 4.0, 7.0])  # the mean of 1, 2 and 3
    2.0
    """
    train = as_series(y_train, "y_train")
    for lag in (period, 1):
        if len(train) > lag:
            changes = np.abs(train[lag:] - train[:-lag])
            changes = changes[~np.isnan(changes)]
            if changes.size and changes.mean() > 0:
                return float(changes.mean())
    return float("nan")


def rmsse(y_true: ArrayLike, y_pred: ArrayLike, y_train: ArrayLike, period: int = 1) -> float:
    r"""Root mean squared scaled error, over that of the seasonal naive forecast on the training data.

    .. math:: \sqrt{\frac{\operatorname{mean} (y_t - \hat y_t)^2}{\operatorname{mean}_{t > p} (y_t - y_{t-p})^2}}

    Parameters
    ----------
    y_true, y_pred : array-like of the same shape
    y_train : array-like of shape (n_steps,)
    period : int

    References
    ----------
    Makridakis, S., Spiliotis, E. and Assimakopoulos, V. (2022). M5 accuracy competition: results, findings, and
    conclusions. International Journal of Forecasting 38, 1346-1364.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import rmsse
    >>> past = np.array([1.0, 3.0, 2.0, 4.0])
    >>> round(float(rmsse(np.array([3.0, 5.0]), np.array([4.0, 4.0]), past)), 3)
    0.577
    """
    true, pred = _pair(y_true, y_pred)
    train = as_series(y_train, "y_train")
    if not 1 <= period < len(train):
        raise ValueError(f"period={period!r} must be at least 1 and below the {len(train)} steps of y_train")
    scale = np.mean((train[period:] - train[:-period]) ** 2)
    if scale == 0:
        raise ValueError("y_train repeats itself exactly with this period, so the scale of the error is zero")
    return float(np.sqrt(np.mean((true - pred) ** 2) / scale))


def pinball(y_true: ArrayLike, y_pred: ArrayLike, level: float) -> float:
    r"""Mean pinball loss of forecasts of the quantile `level`.

    .. math:: \operatorname{mean} \max(q (y_t - \hat y_t), (q - 1)(y_t - \hat y_t))

    Examples
    --------
    >>> from fastrnn.forecasting import pinball
    >>> round(pinball([1.0, 2.0], [2.0, 1.0], 0.9), 3)  # too low costs nine times as much as too high
    0.5
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must lie between 0 and 1")
    true, pred = _pair(y_true, y_pred)
    error = true - pred
    return float(np.mean(np.maximum(level * error, (level - 1) * error)))


def coverage(y_true: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Fraction of true values inside the intervals, including the bounds.

    Examples
    --------
    >>> from fastrnn.forecasting import coverage
    >>> coverage([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0], [3, 3, 3, 3])
    0.75
    """
    true, low = _pair(y_true, lower)
    high = _pair(y_true, upper)[1]
    return float(np.mean((true >= low) & (true <= high)))


def interval_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Mean width of intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import interval_width
    >>> float(interval_width(np.array([0.0, 1.0]), np.array([3.0, 2.0])))
    2.0
    """
    low, high = _pair(lower, upper)
    return float(np.mean(high - low))

"""Forecasting: windows of a series, the seasonal naive forecast, errors that compare across series, a forecaster."""

from typing import Any

from fastrnn.forecasting.metrics import coverage, interval_width, mase, naive_scale, pinball, rmsse, smape
from fastrnn.forecasting.windows import make_windows, seasonal_naive

__all__ = [
    "ConformalIntervals",
    "RNNForecaster",
    "coverage",
    "interval_width",
    "make_windows",
    "mase",
    "naive_scale",
    "pinball",
    "rmsse",
    "seasonal_naive",
    "smape",
]


def __getattr__(name: str) -> Any:
    if name == "RNNForecaster":
        from fastrnn.forecasting.forecaster import RNNForecaster

        return RNNForecaster
    if name == "ConformalIntervals":
        from fastrnn.forecasting.intervals import ConformalIntervals

        return ConformalIntervals
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

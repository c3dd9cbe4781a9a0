"""Forecasting: windows of a series, the seasonal naive forecast, errors that compare across series."""

from fastrnn.forecasting.metrics import mase, smape
from fastrnn.forecasting.windows import make_windows, seasonal_naive

__all__ = ["make_windows", "mase", "seasonal_naive", "smape"]

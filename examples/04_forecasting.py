"""
Forecasting
===========

One network learns from every origin of one or thousands of series in one pass, and forecasts from every origin in
one pass. Series are arrays, lists of arrays of any lengths, pandas Series, wide or long frames, or long polars
frames.

What is learnt is how the future differs from a simple forecast (last value, season, mean of seasons, growth) that
each origin chooses by its errors so far, so nothing looks ahead; ``target="linear"`` adds a linear
forecast to the choice, for long series. Missing steps stay missing. ``X`` holds
covariates, ``static`` what describes a series, ``distribution="negative_binomial"`` is for counts.
:mod:`fastrnn.forecasting` maps the words of statsforecast, neuralforecast and darts to these.
"""

# %%
# Your own CSV
# ------------
# Two columns, a time stamp and a value. This one is written here first, so that the page runs as it is.
import csv
import tempfile
from pathlib import Path

import numpy as np

from fastrnn.datasets import load_airline
from fastrnn.forecasting import BacktestDisplay, ConformalIntervals, ForecastDisplay, RNNForecaster

airline = load_airline()
folder = Path(tempfile.mkdtemp())
with open(folder / "passengers.csv", "w", newline="") as file:
    csv.writer(file).writerows([("month", "passengers"), *zip(airline.time, airline.values, strict=True)])

with open(folder / "passengers.csv", newline="") as file:
    values = np.array([float(row["passengers"]) for row in csv.DictReader(file)])

# %%
# Forecast
# --------
# With pandas installed, ``pd.read_csv("passengers.csv", index_col="month", parse_dates=True)["passengers"]`` is
# as good, and what comes back is a frame with the index of the future. A CSV with a row for each series and step is a long
# frame, ``pd.read_csv("sales.csv", parse_dates=["date"])``, whose columns are named to the forecaster:
# ``RNNForecaster(horizon=14, id_col="shop", time_col="date", target_col="sales")``.
forecaster = RNNForecaster(horizon=12, season_length=12, quantiles=(0.1, 0.5, 0.9), random_state=0)
forecaster.fit(values[:120])
print(forecaster.predict().round()[:3])

# %%
# New months: states go on, weights stay.
forecaster.update(values[120:126])
print(forecaster.predict().round()[:1])

# %%
# Backtest
# --------
# Forecasts from every origin of the last two years, in one pass and without a refit, beside the seasonal naive
# forecast.
backtest = forecaster.backtest(values, start=120)
for name, value in backtest.metrics().items():
    print(f"{name:>12} {value:8.3f}")

# %%
ForecastDisplay.from_backtest(backtest, values)

# %%
BacktestDisplay.from_backtest(backtest)

# %%
# Intervals from the errors of a backtest
# ---------------------------------------
intervals = ConformalIntervals(0.8).fit(forecaster.backtest(values[:138], start=120))
print(intervals.report(forecaster.backtest(values, start=131)))

# %%
# The widths go with any later forecast; those of quantiles that the forecaster has are widened, others are around the
# forecast.
print(forecaster.predict_interval(conformal=intervals).round()[:3])

# %%
# Many series, covariates, long series
# ------------------------------------
# ``examples/forecasting.py`` forecasts two years of airline passengers, each day of electricity demand with its temperature
# known, and the 414 hourly series of M4, and draws them. Each takes less than three minutes on two cores; the second
# downloads its series, the third reads files, see :mod:`fastrnn.datasets`.
#
# .. code-block:: bash
#
#    python examples/forecasting.py --series airline
#    python examples/forecasting.py --series vic_elec
#    python examples/forecasting.py --series m4_hourly --data FOLDER

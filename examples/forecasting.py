"""Forecasts of airline passengers, of electricity demand with known temperature, and of the 414 hourly series of M4.

Prints the errors and those of the seasonal naive forecast, and writes pictures of forecasts and of the backtest. Airline
passengers come with the package; the other series are files in a folder, see `fastrnn.datasets` (M4 Hourly:
``series/m4_hourly_train.csv.gz`` and ``series/m4_hourly_test.csv.gz``, one row for each series, its name first).
Each takes less than three minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrnn.datasets import data_folder, load_airline, load_vic_elec
from fastrnn.forecasting import BacktestDisplay, ConformalIntervals, ForecastDisplay, RNNForecaster


def read_m4(path: Path) -> list[NDArray]:
    """Series of an M4 file, one row each."""
    with gzip.open(path, "rt", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [np.array([float(v) for v in row[1:] if v]) for row in rows]


def save(display: BacktestDisplay | ForecastDisplay, path: Path) -> None:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(path, dpi=120)
    print(f"wrote {path}")


def report(metrics: dict[str, float]) -> None:
    """Print the errors and those of the seasonal naive forecast."""
    for name in ("mae", "smape", "mase"):
        print(f"{name:6} {metrics[name]:10.3f}   seasonal naive {metrics['naive_' + name]:10.3f}")


def airline(out: Path, seed: int) -> None:
    """Forecast 24 months at once."""
    y = load_airline().values
    forecaster = RNNForecaster(24, season_length=12, random_state=seed).fit(y[:-24])
    backtest = forecaster.backtest(y, start=-24)
    report(backtest.metrics())
    save(ForecastDisplay.from_backtest(backtest, y), out / "forecast_airline.png")


def vic_elec(out: Path, seed: int, folder: Path | None) -> None:
    """Forecast each day of eight weeks at midnight; intervals are calibrated on the eight weeks before."""
    series = load_vic_elec(folder)
    y, X = series.values[:, 0], series.values[:, 1:]
    last, before = len(y) - 56 * 48, len(y) - 112 * 48
    forecaster = RNNForecaster(48, season_length=48, max_iter=40, random_state=seed).fit(
        y[:before], X[:before]
    )
    intervals = ConformalIntervals(0.8).fit(forecaster.backtest(y[:last], X[:last], start=before, step=48))
    backtest = forecaster.backtest(y, X, start=last, step=48)
    report(backtest.metrics())
    s = backtest.series[0]
    week = y[s.origins[:, None] + 1 + np.arange(48) - 336]
    print(f"mae of the same half-hour a week before: {np.abs(s.truth - week).mean():.1f}")
    print("80% intervals:", {k: round(v, 3) for k, v in intervals.report(backtest).items()})
    save(ForecastDisplay.from_backtest(backtest, y, origin=10), out / "forecast_vic_elec.png")
    save(BacktestDisplay.from_backtest(backtest), out / "backtest_vic_elec.png")


def m4_hourly(out: Path, seed: int, folder: Path | None) -> None:
    """Forecast two days of 414 series with one network."""
    home = data_folder(folder) / "series"
    train, test = read_m4(home / "m4_hourly_train.csv.gz"), read_m4(home / "m4_hourly_test.csv.gz")
    forecaster = RNNForecaster(48, season_length=24, random_state=seed, verbose=True).fit(train)
    whole = [np.concatenate(pair) for pair in zip(train, test, strict=True)]
    backtest = forecaster.backtest(whole)
    report(backtest.metrics())
    save(
        ForecastDisplay.from_backtest(backtest, whole, series=[0, 100, 200, 400]),
        out / "forecast_m4_hourly.png",
    )
    save(BacktestDisplay.from_backtest(backtest), out / "backtest_m4_hourly.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", choices=("airline", "vic_elec", "m4_hourly"), default="airline")
    parser.add_argument("--data", type=Path, help="folder with the series (default: FASTRNN_DATA)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.series == "airline":
        airline(arguments.out, arguments.seed)
    elif arguments.series == "vic_elec":
        vic_elec(arguments.out, arguments.seed, arguments.data)
    else:
        m4_hourly(arguments.out, arguments.seed, arguments.data)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

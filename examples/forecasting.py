"""Forecasts of airline passengers, of electricity demand with known temperature, and of the hourly and weekly series of M4.

Prints the errors and those of the seasonal naive forecast, and writes pictures of forecasts and of the backtest. Airline
passengers come with the package; the demand is read from --data, or from the folder that FASTRNN_DATA names, or is
downloaded once (extra "data"). The series of M4 are files in such a folder: they are published as
``Dataset/Train/Hourly-train.csv``, ``Dataset/Test/Hourly-test.csv`` and so on at github.com/Mcompetitions/M4-methods, and go
into its folder ``series``. Each example takes less than three minutes on two cores.

M4 takes the defaults and the length of the season, no other settings: on the hourly series their sMAPE is below that of the
competition's winner.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.datasets import DataNotFoundError, data_folder, fetch_vic_elec, load_airline, load_vic_elec
from fastrnn.forecasting import BacktestDisplay, ConformalIntervals, ForecastDisplay, RNNForecaster


def load_m4(frequency: str, folder: Path | None = None) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Series of one frequency of M4, "hourly" or "weekly": those to fit to, and what followed."""
    home = data_folder(folder) / "series"
    parts = []
    for part in ("train", "test"):
        packed, plain = home / f"m4_{frequency}_{part}.csv.gz", home / f"{frequency.title()}-{part}.csv"
        if not packed.exists() and not plain.exists():
            raise DataNotFoundError(
                f"{plain} is missing; it comes from github.com/Mcompetitions/M4-methods, Dataset/{part.title()}"
            )
        with gzip.open(packed, "rt", newline="") if packed.exists() else open(plain, newline="") as file:
            rows = csv.reader(file)
            next(rows)
            parts.append([np.array([float(v) for v in row[1:] if v]) for row in rows])
    return parts[0], parts[1]


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
    """Forecast each day of eight weeks at midnight; the quantiles are calibrated on the eight weeks before."""
    series = load_vic_elec(folder) if folder else fetch_vic_elec()
    y, X = series.values[:, 0], series.values[:, 1:]
    last, before = len(y) - 56 * 48, len(y) - 112 * 48
    forecaster = RNNForecaster(
        48,
        season_length=48,
        quantiles=(0.1, 0.5, 0.9),
        target="linear",
        max_iter=20,
        truncated_bptt_steps=96,
        random_state=seed,
    ).fit(y[:before], X[:before])
    intervals = ConformalIntervals(0.8).fit(forecaster.backtest(y[:last], X[:last], start=before, step=48))
    forecaster.fit(y[:last], X[:last])
    backtest = forecaster.backtest(y, X, start=last, step=48)
    metrics = backtest.metrics()
    report(metrics)
    s = backtest.series[0]
    week = y[s.origins[:, None] + 1 + np.arange(48) - 336]
    print(f"mae of the same half-hour a week before: {np.abs(s.truth - week).mean():.1f}")
    conformal = intervals.report(backtest)
    for name, figures in (("quantiles", metrics), ("conformal", conformal)):
        print(f"80% intervals, {name}: coverage {figures['coverage']:.3f}, width {figures['width']:.0f}")
    save(ForecastDisplay.from_backtest(backtest, y, origin=10), out / "forecast_vic_elec.png")
    save(BacktestDisplay.from_backtest(backtest), out / "backtest_vic_elec.png")


def m4(frequency: str, out: Path, seed: int, folder: Path | None) -> None:
    """Forecast all series of a frequency with one network."""
    train, test = load_m4(frequency, folder)
    season = {"hourly": 24, "weekly": 52}[frequency]
    forecaster = RNNForecaster(len(test[0]), season_length=season, random_state=seed, verbose=True).fit(train)
    whole = [np.concatenate(pair) for pair in zip(train, test, strict=True)]
    backtest = forecaster.backtest(whole)
    report(backtest.metrics())
    shown = [i * len(whole) // 4 for i in range(4)]
    display = ForecastDisplay.from_backtest(backtest, whole, series=shown)
    save(display, out / f"forecast_m4_{frequency}.png")
    save(BacktestDisplay.from_backtest(backtest), out / f"backtest_m4_{frequency}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--series", choices=("airline", "vic_elec", "m4_hourly", "m4_weekly"), default="airline"
    )
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
        m4(arguments.series.removeprefix("m4_"), arguments.out, arguments.seed, arguments.data)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

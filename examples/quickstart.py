"""Both estimators on real data: digits read row by row, and a forecast of airline passengers.

Prints one table and writes pictures of the learning curves and of the forecast. Takes well under two minutes, the first
compilation included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.datasets import load_airline
from fastrnn.forecasting import make_windows, mase, seasonal_naive, smape
from fastrnn.plotting import plot_forecast, plot_learning_curves
from fastrnn.preprocessing import StandardScaler3D

YEAR = 12
N_PAST = 2 * YEAR
N_TEST = 3 * YEAR


class Row(NamedTuple):
    """A line of the table."""

    job: str
    method: str
    measure: str
    value: float
    seconds: float | None


def classify_digits(out: Path) -> list[Row]:
    """Each image of 8 x 8 pixels is a sequence of 8 steps, its rows, with 8 features."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)

    start = time.perf_counter()
    model = make_pipeline(
        StandardScaler3D(),
        RNNClassifier(
            cell="gru",
            units=96,
            dropout=0.1,
            learning_rate_init=0.003,
            max_iter=60,
            early_stopping=True,
            n_iter_no_change=15,
            random_state=0,
        ),
    )
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start

    axes = plot_learning_curves(model[-1], title="digits, row by row")
    axes[0].figure.savefig(out / "digits_learning_curves.png", dpi=120)
    return [Row("digits", "RNNClassifier (GRU)", "test accuracy", model.score(X_test, y_test), seconds)]


def relative_windows(X: NDArray, scale: float) -> NDArray:
    """Windows of the logarithm minus their last value: growth, independent of the level."""
    return (X - X[:, -1:]) / scale


def forecast_passengers(out: Path) -> list[Row]:
    """Forecast each of the last three years at its beginning; the network is trained on the years before them."""
    series = load_airline()
    logs = np.log(series.values)
    train = logs[:-N_TEST]
    X, y = make_windows(train, N_PAST, YEAR)
    scale = float(np.std(X - X[:, -1:]))

    start = time.perf_counter()
    # All months have one scale already. Standardised month by month, the first ones, which vary least, would count as much
    # as the last ones.
    model = RNNRegressor(
        cell="gru",
        units=32,
        normalize_y=False,
        learning_rate_init=0.01,
        batch_size=16,
        max_iter=150,
        tol=None,
        random_state=0,
    )
    model.fit(relative_windows(X, scale), (y - X[:, -1]) / scale)
    seconds = time.perf_counter() - start

    network, naive = [], []
    for end in range(len(logs) - N_TEST, len(logs), YEAR):
        past = logs[end - N_PAST : end]
        ahead = model.predict(relative_windows(past[None, :, None], scale))[0]
        network.append(np.exp(past[-1] + scale * ahead))
        naive.append(seasonal_naive(series.values[:end], YEAR, period=YEAR))
    forecasts = {"RNNRegressor (GRU)": np.concatenate(network), "seasonal naive": np.concatenate(naive)}

    axes = plot_learning_curves(model, title="airline passengers")
    axes[0].set_yscale("log")
    axes[0].figure.savefig(out / "airline_learning_curve.png", dpi=120)
    ax = plot_forecast(
        series.values[-3 * N_TEST :],
        forecasts,
        time=series.time[-3 * N_TEST :],
        ylabel="thousand passengers a month",
        title="each year forecast at its beginning",
    )
    ax.figure.savefig(out / "airline_forecast.png", dpi=120)

    truth, known = series.values[-N_TEST:], series.values[:-N_TEST]
    rows = []
    for method, values in forecasts.items():
        spent = seconds if method.startswith("RNN") else None
        rows.append(Row("airline", method, "MASE", mase(truth, values, known, period=YEAR), spent))
        rows.append(Row("airline", method, "sMAPE, %", smape(truth, values), None))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Format the rows in columns."""
    lines = [f"{'job':<9}{'method':<22}{'measure':<16}{'value':>7}{'fit, s':>9}"]
    lines.append("-" * len(lines[0]))
    for row in rows:
        spent = "" if row.seconds is None else f"{row.seconds:.1f}"
        lines.append(f"{row.job:<9}{row.method:<22}{row.measure:<16}{row.value:>7.3f}{spent:>9}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both jobs; the exit code is 0 if both results are as good as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for the pictures (default: out)"
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    rows = classify_digits(args.out) + forecast_passengers(args.out)
    print(table(rows))
    print(f"\n{time.perf_counter() - start:.1f} s in all; pictures in {args.out.resolve()}:")
    for path in sorted(args.out.glob("*.png")):
        print(f"  {path.name}")

    accuracy = rows[0].value
    network, naive = (row.value for row in rows if row.measure == "MASE")
    if accuracy < 0.97 or network >= naive:
        print("expected an accuracy of at least 0.97 and a forecast better than the seasonal naive one")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

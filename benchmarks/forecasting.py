"""Errors and times of forecasts, and those of other packages in the same run on the same cores.

``python -m benchmarks.forecasting`` needs the series of ``FASTRNN_DATA`` and writes ``forecasting.json``, ``.md`` and
``.png`` into ``benchmarks/results``. With ``--peers`` the installed ones of the other packages are measured too
(``pip install --group forecasting-peers``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from examples.forecasting import read_m4
from fastrnn.datasets import data_folder, load_airline, load_etth1, load_vic_elec
from fastrnn.forecasting import RNNForecaster, mase, smape

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def m4(seed: int) -> tuple[list[Any], list[Any]]:
    home = data_folder(None) / "series"
    return read_m4(home / "m4_hourly_train.csv.gz"), read_m4(home / "m4_hourly_test.csv.gz")


def m4_errors(forecasts: Any, train: Any, test: Any) -> Row:
    pairs = list(zip(test, forecasts, train, strict=True))
    return {
        "smape": float(np.mean([smape(t, f) for t, f, _ in pairs])),
        "mase": float(np.mean([mase(t, f, y, 24) for t, f, y in pairs])),
    }


def run_m4(seed: int, peers: bool) -> list[Row]:
    train, test = m4(seed)
    forecaster = RNNForecaster(48, season_length=24, random_state=seed)
    cpu = time.process_time()
    _, fit_s = timed(lambda: forecaster.fit(train))
    row: Row = {"data": "M4 Hourly", "model": "RNNForecaster, defaults", "fit_s": fit_s}
    row["fit_cpu_s"] = time.process_time() - cpu
    forecasts, row["predict_s"] = timed(forecaster.predict)
    rows = [row | m4_errors(forecasts, train, test)]
    naive = [np.tile(y[-24:], 2) for y in train]
    rows.append({"data": "M4 Hourly", "model": "seasonal naive", **m4_errors(naive, train, test)})
    if peers:
        rows += m4_peers(train, test)
    return rows


def m4_peers(train: Any, test: Any) -> list[Row]:
    import pandas as pd

    rows: list[Row] = []
    frame = pd.concat(
        [pd.DataFrame({"unique_id": i, "ds": np.arange(len(y)), "y": y}) for i, y in enumerate(train)],
        ignore_index=True,
    )
    try:
        from statsforecast import StatsForecast
        from statsforecast.models import AutoETS, Theta
    except ImportError:
        print("statsforecast is not installed: left out")
    else:
        for model in (Theta(season_length=24), AutoETS(season_length=24)):
            peer = StatsForecast(models=[model], freq=1, n_jobs=os.cpu_count())
            out, seconds = timed(lambda peer=peer: peer.forecast(df=frame, h=48))
            values = out[str(model)].to_numpy().reshape(-1, 48)
            row = {"data": "M4 Hourly", "model": f"statsforecast {model}", "fit_s": seconds}
            rows.append(row | m4_errors(values, train, test))
    try:
        from neuralforecast import NeuralForecast
        from neuralforecast.models import GRU
    except ImportError:
        print("neuralforecast is not installed: left out")
    else:
        peer = NeuralForecast(
            models=[GRU(h=48, input_size=336, scaler_type="robust", max_steps=1000, logger=False)], freq=1
        )
        _, fit_s = timed(lambda: peer.fit(df=frame))
        out, predict_s = timed(peer.predict)
        values = out["GRU"].to_numpy().reshape(-1, 48)
        row = {"data": "M4 Hourly", "model": "neuralforecast GRU", "fit_s": fit_s, "predict_s": predict_s}
        rows.append(row | m4_errors(values, train, test))
    return rows


def run_airline(seed: int) -> list[Row]:
    y = load_airline().values
    forecaster = RNNForecaster(24, season_length=12, random_state=seed)
    _, fit_s = timed(lambda: forecaster.fit(y[:-24]))
    error = mase(y[-24:], forecaster.predict(), y[:-24], 12)
    return [{"data": "airline", "model": "RNNForecaster, defaults", "fit_s": fit_s, "mase": error}]


def run_vic_elec(seed: int) -> list[Row]:
    series = load_vic_elec()
    y, X = series.values[:, 0], series.values[:, 1:]
    last = len(y) - 56 * 48
    forecaster = RNNForecaster(
        48, season_length=48, quantiles=(0.1, 0.5, 0.9), max_iter=40, random_state=seed
    )
    _, fit_s = timed(lambda: forecaster.fit(y[:last], X[:last]))
    backtest, seconds = timed(lambda: forecaster.backtest(y, X, start=last, step=48))
    s = backtest.series[0]
    week = y[s.origins[:, None] + 1 + np.arange(48) - 336]
    metrics = backtest.metrics()
    row = {
        "data": "vic_elec, day ahead",
        "model": "RNNForecaster, quantiles, 40 epochs",
        "fit_s": fit_s,
        "backtest_s": seconds,
        "mae_over_week_before": metrics["mae"] / float(np.abs(s.truth - week).mean()),
        "coverage_80": metrics["coverage"],
    }
    return [row]


def run_etth1(seed: int) -> list[Row]:
    """ETTh1 in its published split: 12, 4 and 4 months of 30 days."""
    values = load_etth1()
    y = values.values[:, values.names.index("OT")]
    month = 30 * 24
    y = (y - y[: 12 * month].mean()) / y[: 12 * month].std()
    rows = []
    for horizon in (24, 96, 336):
        forecaster = RNNForecaster(
            horizon, season_length=24, target="last", loss="squared_error", random_state=seed
        )
        _, fit_s = timed(lambda f=forecaster: f.fit(y[: 12 * month]))
        s = forecaster.backtest(y[: 20 * month], start=16 * month).series[0]
        error = float(np.mean((s.truth - s.forecast) ** 2))
        rows.append(
            {
                "data": f"ETTh1 OT, horizon {horizon}",
                "model": "RNNForecaster, target='last', squared error",
                "fit_s": fit_s,
                "mse": error,
            }
        )
    return rows


def run_speed(seed: int) -> list[Row]:
    """Times of a backtest of 1,000 origins, and of an update with one step and its forecast."""
    rng = np.random.default_rng(seed)
    y = 10 + np.sin(np.arange(2048) * 2 * np.pi / 24) + rng.normal(scale=0.1, size=2048)
    forecaster = RNNForecaster(48, season_length=24, max_iter=1, random_state=seed).fit(y[:1000])
    backtest = lambda: forecaster.backtest(y[:2047], start=1000)  # noqa: E731
    backtest()
    seconds = min(timed(backtest)[1] for _ in range(5))
    # A forecaster without states would compute each forecast by a pass over the series up to its origin.
    alone = [timed(lambda o=o: forecaster.backtest(y[: o + 48], start=o))[1] for o in range(1000, 2000, 50)]
    steps = []
    for i in range(1000, 1500):
        start = time.perf_counter()
        forecaster.update(y[i : i + 1])
        forecaster.predict()
        steps.append(time.perf_counter() - start)
    return [
        {
            "data": "speed, one series",
            "model": "RNNForecaster",
            "backtest_of_1000_origins_ms": 1e3 * seconds,
            "times_as_fast_as_1000_single_forecasts": 1000 * float(np.median(alone)) / seconds,
            "update_and_predict_us": 1e6 * float(np.median(steps)),
        }
    ]


def table(rows: list[Row]) -> str:
    """A Markdown table with one line for each row."""
    lines = ["| data | model | figures |", "|---|---|---|"]
    for row in rows:
        figures = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k not in ("data", "model"))
        lines.append(f"| {row['data']} | {row['model']} | {figures} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Draw the errors of M4 Hourly as bars."""
    from matplotlib import pyplot

    shown = [row for row in rows if row["data"] == "M4 Hourly"]
    figure, both = pyplot.subplots(
        1, 2, figsize=(9, 0.5 * len(shown) + 1.5), layout="constrained", sharey=True
    )
    for axes, key in zip(both, ("smape", "mase"), strict=True):
        axes.barh([row["model"] for row in shown], [row[key] for row in shown])
        axes.set_xlabel(f"{key} on M4 Hourly")
    both[0].invert_yaxis()
    figure.savefig(path, dpi=120)


RUNS = {
    "m4": lambda a: run_m4(a.seed, a.peers),
    "airline": lambda a: run_airline(a.seed),
    "vic_elec": lambda a: run_vic_elec(a.seed),
    "etth1": lambda a: run_etth1(a.seed),
    "speed": lambda a: run_speed(a.seed),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=RUNS, nargs="*", default=list(RUNS))
    parser.add_argument("--peers", action="store_true", help="measure statsforecast and neuralforecast too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.only:
        rows += RUNS[name](arguments)
        print(table(rows), flush=True)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "forecasting.json").write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    (arguments.out / "forecasting.md").write_text(table(rows))
    if "m4" in arguments.only:
        draw(rows, arguments.out / "forecasting.png")


if __name__ == "__main__":
    main()

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import forecasting_peers as peers
from benchmarks.forecasting_peers import Row, timed
from examples.forecasting import load_m4
from fastrnn.datasets import load_airline, load_etth1, load_vic_elec
from fastrnn.forecasting import Backtest, ConformalIntervals, RNNForecaster, mase, smape

#: In the order of the table.
DATA = (
    "M4 Hourly",
    "M4 Hourly, training time",
    "M4 Weekly",
    "airline",
    "vic_elec, day ahead",
    "ETTh1 OT, horizon 24",
    "ETTh1 OT, horizon 96",
    "ETTh1 OT, horizon 336",
    "speed, one series",
)
#: Recurrent peers may train on M4 Hourly for this multiple of the seconds of our fit.
PEER_TIMES = 5
#: Seeds of the forecaster on M4 Hourly, and of the forecaster and NLinear on ETTh1.
N_SEEDS = 5
RESULTS = Path(__file__).parent / "results"


def m4_errors(forecasts: Any, train: Any, test: Any, season: int) -> Row:
    """Errors as the M4 competition measures them; `season` is that of the scale of MASE."""
    pairs = list(zip(test, forecasts, train, strict=True))
    return {
        "smape": float(np.mean([smape(t, f) for t, f, _ in pairs])),
        "mase": float(np.mean([mase(t, f, y, season) for t, f, y in pairs])),
    }


def words(settings: dict[str, Any]) -> str:
    """Settings as they are written in a call."""
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())


def run_m4(seed: int, with_peers: bool) -> list[Row]:
    train, test = load_m4("hourly")
    errors = partial(m4_errors, train=train, test=test, season=24)
    found: list[Row] = []
    for s in range(seed, seed + N_SEEDS):
        forecaster = RNNForecaster(48, season_length=24, random_state=s)
        cpu = time.process_time()
        _, fit_s = timed(lambda f=forecaster: f.fit(train))
        cpu = time.process_time() - cpu
        forecasts, predict_s = timed(forecaster.predict)
        found.append({"fit_s": fit_s, "fit_cpu_s": cpu, "predict_s": predict_s} | errors(forecasts))
    row: Row = {"data": "M4 Hourly", "model": f"RNNForecaster, defaults, mean of {N_SEEDS} seeds"}
    row |= {key: float(np.mean([f[key] for f in found])) for key in found[0]}
    rows = [row | {f"worst_{key}": max(f[key] for f in found) for key in ("smape", "mase")}]
    naive = [np.tile(y[-24:], 2) for y in train]
    rows.append({"data": "M4 Hourly", "model": "seasonal naive", **errors(naive)})
    if with_peers:
        rows += peers.alone(peers.statistical, "M4 Hourly", train, 48, 24, errors)
    return rows


def run_training_time(seed: int, with_peers: bool) -> list[Row]:
    """Errors of recurrent peers on M4 Hourly after a multiple of the seconds of our fit."""
    if not with_peers:
        return []
    name = "M4 Hourly, training time"
    train, test = load_m4("hourly")
    errors = partial(m4_errors, train=train, test=test, season=24)
    forecaster = RNNForecaster(48, season_length=24, random_state=seed)
    _, fit_s = timed(lambda: forecaster.fit(train))
    rows: list[Row] = [{"data": name, "model": "RNNForecaster, defaults", "fit_s": fit_s}]
    rows[0] |= errors(forecaster.predict())
    for model, settings in peers.RECURRENT:
        row = peers.alone(peers.recurrent, name, train, 48, PEER_TIMES * fit_s, errors, model, settings)
        rows += [r | {"times_the_seconds_of_our_fit": r["fit_s"] / fit_s} for r in row]
    return rows


def run_weekly(seed: int, with_peers: bool) -> list[Row]:
    """The weekly series of M4, whose MASE has the scale of the naive forecast of one step."""
    train, test = load_m4("weekly")
    errors = partial(m4_errors, train=train, test=test, season=1)
    forecaster = RNNForecaster(13, season_length=52, random_state=seed)
    _, fit_s = timed(lambda: forecaster.fit(train))
    rows: list[Row] = [
        {"data": "M4 Weekly", "model": "RNNForecaster, defaults, season_length=52", "fit_s": fit_s}
        | errors(forecaster.predict())
    ]
    naive = [np.full(13, y[-1]) for y in train]
    rows.append({"data": "M4 Weekly", "model": "naive", **errors(naive)})
    if with_peers:
        for season in (1, 52):
            for row in peers.alone(peers.statistical, "M4 Weekly", train, 13, season, errors):
                rows.append(row | {"model": f"{row['model']}, season_length={season}"})
    return rows


def run_airline(seed: int) -> list[Row]:
    """The last 24 months; a fit takes so little time that ten seeds show the spread."""
    y = load_airline().values
    errors, seconds = [], []
    for s in range(seed, seed + 10):
        forecaster = RNNForecaster(24, season_length=12, random_state=s)
        seconds.append(timed(lambda f=forecaster: f.fit(y[:-24]))[1])
        errors.append(mase(y[-24:], forecaster.predict(), y[:-24], 12))
    naive = mase(y[-24:], np.tile(y[-36:-24], 2), y[:-24], 12)
    figures = {
        "fit_s": min(seconds),
        "mase": float(np.mean(errors)),
        "mase_of_the_worst_of_10_seeds": max(errors),
    }
    return [
        {"data": "airline", "model": "RNNForecaster, defaults"} | figures,
        {"data": "airline", "model": "seasonal naive", "mase": naive},
    ]


#: Settings for vic_elec; the pinball loss on the eight weeks before the test windows chooses.
VIC_ELEC = [
    {"max_iter": 20},
    {"target": "linear", "max_iter": 20},
    {"target": "linear", "max_iter": 20, "truncated_bptt_steps": 96},
    {"target": "linear", "max_iter": 20, "truncated_bptt_steps": 96, "dropout": 0.0},
]


def run_vic_elec(seed: int) -> list[Row]:
    """A day ahead from midnight, for the last eight weeks."""
    series = load_vic_elec()
    y, X = series.values[:, 0], series.values[:, 1:]
    weeks = 56 * 48

    def judge(settings: dict[str, Any], start: int) -> tuple[Row, Backtest]:
        forecaster = RNNForecaster(
            48, season_length=48, quantiles=(0.1, 0.5, 0.9), random_state=seed, **settings
        )
        _, fit_s = timed(lambda: forecaster.fit(y[:start], X[:start]))
        known, rows = y[: start + weeks], X[: start + weeks]
        backtest, seconds = timed(lambda: forecaster.backtest(known, rows, start=start, step=48))
        s, metrics = backtest.series[0], backtest.metrics()
        week = y[s.origins[:, None] + 1 + np.arange(48) - 336]
        row = {
            "fit_s": fit_s,
            "backtest_s": seconds,
            "mae_over_week_before": metrics["mae"] / float(np.abs(s.truth - week).mean()),
            "coverage_80_quantiles": metrics["coverage"],
            "pinball": metrics["pinball"],
        }
        return row, backtest

    n = len(y)
    validated = [judge(settings, n - 2 * weeks) for settings in VIC_ELEC]
    best = int(np.argmin([row["pinball"] for row, _ in validated]))
    # The errors of the eight weeks before widen the quantiles of the forecaster that learns from these weeks too.
    intervals = ConformalIntervals(0.8).fit(validated[best][1])
    row, backtest = judge(VIC_ELEC[best], n - weeks)
    row["coverage_80_conformal"] = intervals.report(backtest)["coverage"]
    row["validation_pinball"] = validated[best][0]["pinball"]
    model = f"RNNForecaster, quantiles, {words(VIC_ELEC[best])}"
    return [{"data": "vic_elec, day ahead", "model": model} | row]


#: Settings for ETTh1; the four months of validation choose one of them for all horizons.
ETTH1: list[dict[str, Any]] = [
    {"target": "last"},
    *(
        {"target": "linear", "season_length": seasons, **network}
        for seasons in (24, (24, 120), (24, 336))
        for network in ({"max_iter": 1}, {"units": 16, "dropout": 0.5, "early_stopping": True})
    ),
]


def run_etth1(seed: int, with_peers: bool) -> list[Row]:
    """The papers' split: 12 months of 30 days to train, 4 to choose settings, 4 to test."""
    values = load_etth1()
    y = values.values[:, values.names.index("OT")]
    month = 30 * 24
    y = (y - y[: 12 * month].mean()) / y[: 12 * month].std()

    def fitted(horizon: int, settings: dict[str, Any], s: int = seed) -> RNNForecaster:
        options = {"season_length": 24, "loss": "squared_error", "random_state": s} | settings
        return RNNForecaster(horizon, **options).fit(y[: 12 * month])

    def error(forecaster: RNNForecaster, start: int) -> float:
        s = forecaster.backtest(y[: (start + 4) * month], start=start * month).series[0]
        return float(np.mean((s.truth - s.forecast) ** 2))

    horizons = (24, 96, 336)
    validated = np.array([[error(fitted(h, settings), 12) for h in horizons] for settings in ETTH1])
    best = int(np.argmin((validated / validated.min(axis=0)).mean(axis=1)))
    rows = []
    for horizon, least in zip(horizons, validated[best], strict=True):
        forecasters = [
            timed(lambda h=horizon, s=s: fitted(h, ETTH1[best], s)) for s in range(seed, seed + N_SEEDS)
        ]
        errors = [error(forecaster, 16) for forecaster, _ in forecasters]
        row: Row = {
            "data": f"ETTh1 OT, horizon {horizon}",
            "model": f"RNNForecaster, {words(ETTH1[best])}, mean of {N_SEEDS} seeds",
        }
        row |= {"fit_s": min(seconds for _, seconds in forecasters), "validation_mse": float(least)}
        rows.append(row | {"mse": float(np.mean(errors)), "best_mse": min(errors), "worst_mse": max(errors)})
        if with_peers:
            rows += peers.alone(
                peers.nlinear, y, horizon, 12 * month, 4 * month, 4 * month, range(seed, seed + N_SEEDS)
            )
    return rows


def run_speed(seed: int, with_peers: bool) -> list[Row]:
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
    rows: list[Row] = [
        {
            "data": "speed, one series",
            "model": "RNNForecaster",
            "backtest_of_1000_origins_ms": 1e3 * seconds,
            "times_as_fast_as_1000_single_forecasts": 1000 * float(np.median(alone)) / seconds,
            "update_and_predict_us": 1e6 * float(np.median(steps)),
        }
    ]
    return rows + (peers.alone(peers.backtests, y[:2047], 1000, 48) if with_peers else [])


def table(rows: list[Row]) -> str:
    """A Markdown table with one line for each row."""
    lines = ["| data | model | figures |", "|---|---|---|"]
    for row in rows:
        figures = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k not in ("data", "model"))
        lines.append(f"| {row['data']} | {row['model']} | {figures} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Errors of M4 Hourly, and seconds of the fits."""
    from matplotlib import pyplot

    shown = [row for row in rows if row["data"] == "M4 Hourly"]
    shown += [row for row in rows if row["data"] == DATA[1] and "updates" in row]
    figure, panels = pyplot.subplots(
        1, 3, figsize=(11, 0.45 * len(shown) + 1.5), layout="constrained", sharey=True
    )
    for axes, key, label in zip(
        panels, ("smape", "mase", "fit_s"), ("sMAPE (%)", "MASE", "fit (s)"), strict=True
    ):
        bars = axes.barh([row["model"] for row in shown], [row.get(key, np.nan) for row in shown])
        axes.bar_label(bars, [f"{row[key]:.3g}" if key in row else "" for row in shown], padding=3)
        axes.margins(x=0.35)
        axes.set_xlabel(label)
    panels[0].invert_yaxis()
    figure.suptitle("M4 Hourly, 48 hours ahead")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


RUNS: dict[str, Callable[[Any], list[Row]]] = {
    "m4": lambda a: run_m4(a.seed, a.peers),
    "training_time": lambda a: run_training_time(a.seed, a.peers),
    "weekly": lambda a: run_weekly(a.seed, a.peers),
    "airline": lambda a: run_airline(a.seed),
    "vic_elec": lambda a: run_vic_elec(a.seed),
    "etth1": lambda a: run_etth1(a.seed, a.peers),
    "speed": lambda a: run_speed(a.seed, a.peers),
}


def merged(before: list[Row], new: list[Row]) -> list[Row]:
    """Rows of a file, those of data that were measured again replaced."""
    measured = {row["data"] for row in new}
    return [row for row in before if row["data"] not in measured] + new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=RUNS, nargs="*", default=list(RUNS))
    parser.add_argument(
        "--peers", action="store_true", help="measure statsforecast, neuralforecast and darts too"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "forecasting.json"
    for name in arguments.only:
        try:
            found = RUNS[name](arguments)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}")
            continue
        if not found:
            continue
        print(table(found), flush=True)
        write(path, [row | {"load": round(os.getloadavg()[0], 2)} for row in found])


def write(path: Path, new: list[Row]) -> None:
    """Put rows into the files of results."""
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = sorted(merged(before, new), key=lambda row: DATA.index(row["data"]))
    content = {"machine": platform.machine(), "cores": os.cpu_count(), "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(rows))
    if any(row["data"].startswith("M4 Hourly") for row in new):
        draw(rows, path.with_suffix(".png"))


if __name__ == "__main__":
    main()

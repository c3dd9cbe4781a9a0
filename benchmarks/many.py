"""Training of many small models: python -m benchmarks.many

200 regressors (GRU of 16 units, 100 sequences of 50 steps of 3 channels, 20 epochs), each for its own data, are trained by
`fastrnn.fit_many`, by single fits in a loop, by `joblib.Parallel` over single fits in two processes and in two threads; and
scikit-learn's `MLPRegressor` is trained on the same windows as rows, by joblib too. All take turns. joblib's processes
are started before the rounds; a first call, which starts them and imports fastrnn in them, has a row of its own.

`floor` is the time of the compiled passes of one model, forward and backward, on one core. `limit` is less: its matrix
products at the micro-kernel's best speed and its pointwise functions at theirs, as in `benchmarks.limits`. The page says how
many times as fast as joblib's processes two cores would be that computed nothing else. Before timing, all ways must give the
models of single fits. Written to benchmarks/results/: many.json and many.md.

    python -m benchmarks.many               # about a minute
    python -m benchmarks.many --models 40   # shorter
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.neural_network import MLPRegressor

from benchmarks.limits import micro_kernel_peak, pointwise_seconds, product_flop
from benchmarks.report import table
from benchmarks.timing import environment, wait
from fastrnn import RNNRegressor, fit_many
from fastrnn.bench.cases import case_named
from fastrnn.engine.recurrence import run

RESULTS = Path(__file__).parent / "results"
SEQUENCES, STEPS, CHANNELS, UNITS, EPOCHS = 100, 50, 3, 16, 20
JOBS = 2
#: Target: times as fast as joblib's processes.
TARGET = 5.0


def data_sets(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The sums of the last values of the first channel, to be found from random sequences."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, SEQUENCES, STEPS, CHANNELS)).astype(np.float32)
    return [(one, one[:, -5:, 0].sum(axis=1)) for one in x]


def estimator() -> RNNRegressor:
    return RNNRegressor(cell="gru", units=UNITS, max_iter=EPOCHS, tol=None, random_state=0, n_jobs=1)


def perceptron() -> MLPRegressor:
    return MLPRegressor(
        hidden_layer_sizes=(UNITS,),
        max_iter=EPOCHS,
        batch_size=32,
        tol=0.0,
        n_iter_no_change=EPOCHS,
        random_state=0,
    )


def fitted(made: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """A fitted clone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(made).fit(x, y)


def passes(model: RNNRegressor, x: np.ndarray) -> float:
    """Seconds of the compiled passes of one fit: forward and backward of all batches, the shortest of several runs."""
    cell = model.model_.layers[0].cell
    kernel, weights = cell.kernel_cell(), cell.kernel_weights()
    batches = [x[i : i + 32] for i in range(0, SEQUENCES, 32)]
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for batch in batches:
            tape = run.forward(kernel, weights, batch, save=True, n_threads=1).tape
            assert tape is not None
            run.backward(tape, None, np.ones((1, len(batch), UNITS), np.float32), need_dx=False)
        times.append(time.perf_counter() - start)
    return EPOCHS * min(times)


def limit() -> tuple[float, float]:
    """Seconds of the products and of the pointwise functions of one fit, each at its best, on one core."""
    case = case_named(f"gru-training-B{SEQUENCES}xT{STEPS}xI{CHANNELS}xH{UNITS}")
    products = product_flop(case) / (1e9 * micro_kernel_peak())
    pointwise = pointwise_seconds("gru", UNITS, training=True) * case.rows * UNITS
    return EPOCHS * products, EPOCHS * pointwise


def ways(data: list[Any]) -> dict[str, Callable[[], Any]]:
    """The ways to train all models."""
    rows = [(x.reshape(len(x), -1), y) for x, y in data]

    def joblib_over(made: Any, sets: list[Any], backend: str) -> Any:
        return Parallel(n_jobs=JOBS, backend=backend)(delayed(fitted)(made, x, y) for x, y in sets)

    return {
        "fit_many, 2 threads": lambda: fit_many(estimator(), data, n_jobs=JOBS),
        "fit_many, 1 thread": lambda: fit_many(estimator(), data, n_jobs=1),
        "single fits": lambda: [fitted(estimator(), x, y) for x, y in data],
        "joblib, 2 processes": lambda: joblib_over(estimator(), data, "loky"),
        "joblib, 2 threads": lambda: joblib_over(estimator(), data, "threading"),
        "MLPRegressor, joblib, 2 processes": lambda: joblib_over(perceptron(), rows, "loky"),
        "MLPRegressor, single fits": lambda: [fitted(perceptron(), x, y) for x, y in rows],
    }


def check(all_ways: dict[str, Callable[[], Any]]) -> None:
    """Raise unless all ways give the models of single fits, but for rounding."""
    expected = all_ways["single fits"]()
    for name, train in all_ways.items():
        if name.startswith("MLP"):
            train()
            continue
        for model, other in zip(train(), expected, strict=True):
            np.testing.assert_allclose(model.loss_curve_, other.loss_curve_, rtol=1e-3, err_msg=name)


def measure(n_models: int, rounds: int) -> tuple[list[dict[str, Any]], float]:
    """A row for each way, and the floor in seconds for one model."""
    data = data_sets(n_models)
    all_ways = ways(data)
    floor = passes(estimator().fit(*data[0]), data[0][0])
    check(ways(data[:4]))
    get_reusable_executor().shutdown(wait=True)
    start = time.perf_counter()
    all_ways["joblib, 2 processes"]()
    first = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    for turn in range(rounds):
        names = list(all_ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wait(0.1)
            start = time.perf_counter()
            all_ways[name]()
            times[name].append(time.perf_counter() - start)
    times["joblib, 2 processes, first call"] = [first]
    fastest = float(np.median(times["fit_many, 2 threads"]))
    return [
        {
            "way": name,
            "models": n_models,
            "seconds": float(np.median(seconds)),
            "ms_per_model": 1e3 * float(np.median(seconds)) / n_models,
            "ratio": float(np.median(seconds)) / fastest,
            "rounds_s": seconds,
        }
        for name, seconds in times.items()
    ], floor


def page(rows: list[dict[str, Any]], floor: float, best: tuple[float, float]) -> str:
    cells = [[r["way"], f"{r['seconds']:.2f}", f"{r['ms_per_model']:.1f}", f"{r['ratio']:.2f}"] for r in rows]
    head = [f"{rows[0]['models']} models", "seconds", "ms a model", "times fit_many"]
    ratio = next(r["ratio"] for r in rows if r["way"] == "joblib, 2 processes")
    processes = next(r["seconds"] / r["models"] for r in rows if r["way"] == "joblib, 2 processes")
    first = next(r["ratio"] for r in rows if r["way"].endswith("first call"))
    return "\n".join(
        [
            f"# Many small models: GRU {UNITS}, {SEQUENCES} x {STEPS} x {CHANNELS}, {EPOCHS} epochs",
            "",
            *table(head, cells),
            "",
            f"The compiled passes of one model take {1e3 * floor:.1f} ms on one core. {JOBS} cores that computed nothing "
            f"else would be {processes * JOBS / floor:.1f} times as fast as joblib's processes.",
            "",
            f"Its products take {1e3 * best[0]:.1f} ms at their best, its functions {1e3 * best[1]:.1f} ms at theirs. "
            f"{JOBS} cores that computed nothing else would be {processes * JOBS / sum(best):.1f} times as fast.",
            "",
            f"Target: {TARGET:.0f} times as fast as joblib's processes. Found: {ratio:.1f} where they run already, "
            f"{first:.1f} where the call starts them.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows, floor = measure(options.models, options.rounds)
    best = limit()
    text = page(rows, floor, best)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"environment": environment(), "floor_s": floor, "limit_s": best, "rows": rows}
    (options.out / "many.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    (options.out / "many.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

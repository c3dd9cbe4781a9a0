"""How fast is training on two workers of a dask cluster, beside one process with two threads? python -m benchmarks.cluster

Both fit the same network to the same data with the same global batches. They take turns, fit by fit. The time of an epoch is
the difference of a long and a short fit, divided by their difference in epochs: compiling and moving the data don't count.
The target is 75% of the speed of one process. Writes benchmarks/results/cluster.json and cluster.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import described
from benchmarks.timing import environment
from fastrnn import RNNClassifier
from fastrnn.bench.rows import table

RESULTS = Path(__file__).parent / "results"
TARGET = 0.75
#: Epochs of the short fit.
SHORT = 2


def seconds_of_epoch(fit: Callable[[int], Any], epochs: int) -> float:
    """Seconds of one of `epochs` epochs after the first ones."""
    times = []
    for n in (SHORT, SHORT + epochs):
        start = time.perf_counter()
        fit(n)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / epochs


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch of both, for each round."""
    import dask.array as da
    from distributed import Client, LocalCluster

    from fastrnn.distributed import DaskRNNClassifier

    rng = np.random.default_rng(0)
    X = rng.standard_normal((args.samples, args.steps, args.inputs)).astype(np.float32)
    y = (X[:, :, 0].mean(axis=1) > 0).astype(int)
    options = {
        "cell": args.cell, "units": args.units, "batch_size": args.batch, "tol": None, "random_state": 0,
    }  # fmt: skip
    found: dict[str, list[float]] = {"one process": [], "cluster": []}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        spread = da.from_array(X, chunks=(-(-args.samples // 2), -1, -1))
        fits: dict[str, Callable[[int], Any]] = {
            "one process": lambda n: RNNClassifier(**options, max_iter=n, n_jobs=2).fit(X, y),
            "cluster": lambda n: DaskRNNClassifier(**options, max_iter=n).fit(spread, y, client=client),
        }
        for fit in fits.values():
            fit(1)  # compiles
        for _ in range(args.rounds):
            for name, fit in fits.items():
                found[name].append(seconds_of_epoch(fit, args.epochs))
    return {"arguments": {k: v for k, v in vars(args).items() if k != "out"}, "seconds": found}


def lines(found: dict[str, Any]) -> list[str]:
    """The table."""
    middle = {name: float(np.median(values)) for name, values in found["seconds"].items()}
    speed = middle["one process"] / middle["cluster"]
    a = found["arguments"]
    return [
        f"{a['cell']}, {a['units']} units, {a['samples']} sequences of {a['steps']} steps with {a['inputs']} inputs, "
        f"global batch {a['batch']}: median seconds of an epoch.",
        "",
        *table(
            ("one process, 2 threads", "2 workers of 1 thread", "speed", "target"),
            [(f"{middle['one process']:.3f}", f"{middle['cluster']:.3f}", f"{speed:.2f}", f">= {TARGET}")],
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--cell", default="gru")
    for name, value in (
        ("units", 64), ("inputs", 16), ("steps", 50), ("samples", 16384), ("batch", 4096), ("epochs", 4), ("rounds", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default {value})")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    info, found = environment(), measure(args)
    text = "\n".join([described(info), "", *lines(found)]) + "\n"
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cluster.json").write_text(json.dumps({"environment": info, **found}, indent=1) + "\n")
    (args.out / "cluster.md").write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

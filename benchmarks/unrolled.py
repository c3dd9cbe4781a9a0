"""What `unroll=True` gains for a single sequence: python -m benchmarks.unrolled

Each size is measured with the looped and the unrolled kernels in turn, on one thread: inference of 100 time steps, a
training step of 100 time steps (forward, backward, weight gradients, SGD), and a streamed step. Compiling a size for the
first time is timed too; it is kept on disk.

Written to benchmarks/results/: unrolled.json and unrolled.md, with the width of the vectors in their names where code is
generated for another processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import described, table
from benchmarks.timing import environment, suffix
from fastrnn import Sequential, layers
from fastrnn.bench.cases import CELLS
from fastrnn.bench.timing import seconds_of
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS

RESULTS = Path(__file__).parent / "results"
LAYERS: dict[str, Any] = {"simple_rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}
N_INPUTS, N_STEPS = 8, 100

COMPILE = """
import sys, time
import numpy as np
from benchmarks.unrolled import LAYERS, jobs, model
for unroll in (False, True):
    start = time.perf_counter()
    for job in jobs(model(sys.argv[1], 8, unroll)).values():
        job()
    print(time.perf_counter() - start)
"""


def model(cell: str, units: int, unroll: bool) -> Sequential:
    """One layer that returns its last output, on one thread."""
    made = Sequential([LAYERS[cell](units, unroll=unroll)], seed=0)
    made.layers[0].n_threads = 1
    made.build((None, None, N_INPUTS))
    made.compile("sgd", "mse")
    return made


def jobs(made: Sequential) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, N_STEPS, N_INPUTS)).astype("f")
    y = rng.normal(size=(1, made.layers[0].units)).astype("f")
    stream, sample = made.stream(batch_size=1), np.ascontiguousarray(x[:, 0])
    layer = made.layers[0]
    return {
        "inference": lambda: layer(x),
        "training": lambda: made.train_on_batch(x, y),
        "streamed step": lambda: stream.step(sample),
    }


def ratio(looped: Callable[[], Any], unrolled: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Least seconds of a call of both; blocks of calls in turn."""
    calls = max(1, int(2e-3 / seconds_of(looped, 20)))
    times = [(seconds_of(looped, calls), seconds_of(unrolled, calls)) for _ in range(rounds)]
    best = np.min(times, axis=0)
    return float(best[0]), float(best[1])


def compile_seconds(cell: str) -> tuple[float, float]:
    """Seconds until all jobs have run once, with an empty cache: looped, and then unrolled."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", COMPILE, cell],
            env={**os.environ, "NUMBA_CACHE_DIR": folder},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
    looped, unrolled = (float(line) for line in done.stdout.split())
    return looped, unrolled


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.unrolled", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--units", type=int, nargs="+", default=(8, 16, 32))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows, lines, compiled = [], [], {}
    for cell in CELLS:
        compiled[cell] = compile_seconds(cell)
        print(
            f"{cell}: all jobs once {compiled[cell][0]:.1f} s, then unrolled {compiled[cell][1]:.1f} s",
            flush=True,
        )
        for units in args.units:
            looped, unrolled = (jobs(model(cell, units, unroll)) for unroll in (False, True))
            shown = []
            for name in looped:
                before, after = ratio(looped[name], unrolled[name], args.rounds)
                rows.append({"cell": cell, "units": units, "job": name, "looped": before, "unrolled": after})
                shown.append(f"{before * 1e6:.2f} / {after * 1e6:.2f}: {before / after:.2f}")
            lines.append([cell, units, *shown])
            print(*lines[-1], sep="\t", flush=True)
    names = list(dict.fromkeys(row["job"] for row in rows))
    means = []
    for name in names:
        ratios = [row["looped"] / row["unrolled"] for row in rows if row["job"] == name]
        means.append(f"{name} {np.exp(np.mean(np.log(ratios))):.2f} (least {min(ratios):.2f})")
    seconds = [f"{cell} {first:.1f}, then unrolled {then:.1f}" for cell, (first, then) in compiled.items()]
    notes = [
        described(environment()),
        f"Vectors of {VECTOR_BITS} bits; one sequence of {N_STEPS} steps and {N_INPUTS} inputs, one thread.",
        f"Geometric means of the ratios: {', '.join(means)}.",
        f"Seconds until all three have run once at 8 units, with an empty cache: {'; '.join(seconds)}.",
    ]
    print("\n".join(notes))
    heads = ["cell", "units", *(f"{name}: looped / unrolled in us, and the ratio" for name in names)]
    kept = {"environment": environment(), "bits": VECTOR_BITS, "compile_seconds": compiled, "rows": rows}
    name = f"unrolled{suffix()}"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.md").write_text("\n\n".join(notes) + "\n\n" + "\n".join(table(heads, lines)) + "\n")
    (args.out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How much memory training takes: python -m benchmarks.memory

Peak: the most resident memory of a fresh process that fits tokens of the shape of the IMDB reviews (see `epochs`), with
fastrnn and with Keras on JAX; with and without the memory of the imports. Step: the memory that one training step allocates
in addition to weights, inputs and targets (counted by tracemalloc, which sees every NumPy array), compared with

    (n_saved + n_states) * units * rows + n_inputs * rows + n_states * units * batch    numbers,  rows = batch * steps

which are the saved gates, the states and the inputs of the batch. Where all outputs are returned, their gradient is as
large as a state; the table has a ratio that counts it, too. Written to benchmarks/results/: memory.json and memory.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.cases import CELLS
from fastrnn.bench.peers import installed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
#: Targets: peak relative to Keras, and memory of a step relative to the formula.
PEAK_TARGET, STEP_TARGET = 0.5, 1.2

# getrusage's maximum includes the memory of the parent process before exec, so VmHWM is read where it exists.
RESIDENT = """
def resident():
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except OSError:
        import resource, sys
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
"""

PEAK = (
    RESIDENT
    + """
import json
from benchmarks import epochs
cell, batch, n, rounds = {cell!r}, {batch}, {samples}, {rounds}
model = epochs.{library}_reviews(cell)
imported = resident()
x, y = epochs.reviews(n)
model.fit(x, y, batch_size=batch, epochs=rounds, verbose=0)
print(json.dumps({{"peak": resident(), "imported": imported, "data": x.nbytes + y.nbytes}}))
"""
)

STEP = """
import json, tracemalloc
import numpy as np
from fastrnn.bench.cases import Case, Size
from fastrnn.bench.ours import fastrnn_model
from fastrnn.engine.recurrence.contract import traits
case = Case({cell!r}, Size(*{size}), "training")
(x, y), s = case.data(), case.size
if not {sequences}:
    y = np.ascontiguousarray(y[:, -1])
model = fastrnn_model(case, {threads}, return_sequences={sequences})
model.train_on_batch(x[:16], y[:16])  # compiles
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
tracemalloc.reset_peak()
model.train_on_batch(x, y)
peak = tracemalloc.get_traced_memory()[1] - before
parts = traits(model.layers[0].cell.kernel_cell())
rows = s.batch * s.steps
kept = (parts.n_saved + parts.n_states) * s.units * rows + s.inputs * rows + parts.n_states * s.units * s.batch
d_out = s.units * rows * {sequences}
print(json.dumps({{"peak": peak, "formula": kept * x.itemsize, "d_out": d_out * x.itemsize, "x": x.nbytes}}))
"""


def run(script: str) -> dict[str, Any]:
    variables = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def peak(library: str, cell: str, batch: int, samples: int, rounds: int) -> dict[str, Any]:
    """Peak resident bytes of a fresh process."""
    script = PEAK.format(library=library, cell=cell, batch=batch, samples=samples, rounds=rounds)
    return run(script)


def step(
    cell: str, size: tuple[int, int, int, int], sequences: bool = False, threads: int = 1
) -> dict[str, Any]:
    """Bytes that one training step allocates, including the inputs, and the formula's bytes."""
    found = run(STEP.format(cell=cell, size=size, sequences=sequences, threads=threads))
    # The inputs existed before the step; the formula counts them, as inner layers allocate theirs.
    return {"peak": found["peak"] + found["x"], "formula": found["formula"], "d_out": found["d_out"]}


def megabytes(n: float) -> str:
    return f"{n / 1e6:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--samples", type=int, default=20_000, help="reviews (default 20000)")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=(128,), help="of the reviews (default 128)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="epochs (default 1)")
    parser.add_argument("--parts", nargs="+", choices=("peak", "step"), default=("peak", "step"))
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    info = environment()
    rows: list[dict[str, Any]] = []
    text = [described(info)]
    if "peak" in args.parts:
        lines = []
        libraries = ["fastrnn", *(["keras"] if installed("keras", "jax") else [])]
        for cell in args.cells:
            for batch in args.batch_sizes:
                found = {name: peak(name, cell, batch, args.samples, args.rounds) for name in libraries}
                rows += [
                    {"part": "peak", "cell": cell, "batch": batch, "library": k, **v}
                    for k, v in found.items()
                ]
                ours, theirs = found["fastrnn"], found.get("keras")
                ratio = ours["peak"] / theirs["peak"] if theirs else float("nan")
                line = [cell, batch, megabytes(ours["peak"]), megabytes(theirs["peak"]) if theirs else ""]
                line += [megabytes(ours["peak"] - ours["imported"])]
                line += [megabytes(theirs["peak"] - theirs["imported"]) if theirs else ""]
                line += [f"{ratio:.2f}", "yes" if ratio < PEAK_TARGET else "NO"]
                lines.append(line)
                print(" | ".join(map(str, line)), flush=True)
        head = [
            "cell",
            "batch",
            "fastrnn, MB",
            "Keras-JAX, MB",
            "fastrnn without imports",
            "Keras-JAX without",
        ]
        head += ["ratio", f"met (< {PEAK_TARGET:g})?"]
        text += ["", f"Peak of a fit of {args.samples:,} x 500 tokens", "", *table(head, lines)]
    if "step" in args.parts:
        lines = []
        for cell in args.cells:
            for size in ((128, 500, 32, 32), (32, 100, 64, 128)):
                for sequences in (False, True):
                    found = step(cell, size, sequences)
                    rows.append({"part": "step", "cell": cell, "size": size, "sequences": sequences, **found})
                    ratio = found["peak"] / found["formula"]
                    line = [cell, "B{} T{} I{} H{}".format(*size), "all" if sequences else "last"]
                    line += [megabytes(found["peak"]), megabytes(found["formula"]), f"{ratio:.2f}"]
                    line += ["yes" if ratio <= STEP_TARGET else "NO"]
                    line += [f"{found['peak'] / (found['formula'] + found['d_out']):.2f}"]
                    lines.append(line)
                    print(" | ".join(map(str, line)), flush=True)
        head = [
            "cell",
            "size",
            "outputs",
            "a step takes, MB",
            "formula, MB",
            "ratio",
            f"met (<= {STEP_TARGET:g})?",
            "with the outputs' gradient",
        ]
        text += ["", "Working memory of a training step, one thread", "", *table(head, lines)]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memory.json").write_text(json.dumps({"environment": info, "rows": rows}, indent=1) + "\n")
    (args.out / "memory.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

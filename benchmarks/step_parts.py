"""What a time step of a small network consists of: python -m benchmarks.step_parts

A time step consists of its part of the input product, the recurrent product, the pointwise part and the loop: addresses,
calls, copies. Without the loop, a step would be ``step / (step - loop)`` times as fast. A call of 8 or 32 steps would gain
less, because the call itself takes a constant time. `unrolled` measures what the unrolled kernels do gain.

Written to benchmarks/results/: step_parts.json and step_parts.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.cases import CELLS, GATES, Case, Size
from fastrnn.bench.ours import fastrnn_layer
from fastrnn.bench.timing import seconds_of
from fastrnn.cells.gru import GRU
from fastrnn.cells.lstm import LSTM
from fastrnn.cells.simple_rnn import SimpleRNN
from fastrnn.engine.kernels.matmul import pack, packed_size, product
from fastrnn.engine.recurrence.contract import Forward, step_forward, traits
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.memory import aligned
from fastrnn.engine.runtime.views import block, segment, slab

RESULTS = Path(__file__).parent / "results"
KERNEL_CELLS: dict[str, Any] = {"simple_rnn": SimpleRNN, "gru": GRU, "lstm": LSTM}
LONG, SHORT = 32, 8


@jit
def _products(a, packed, n, c, times):
    for _ in range(times):
        product(a, packed, n, c, c)


@jit
def pointwise_steps(cell, n, z, hu, states, saved, scratch, times):
    """Compute the pointwise part of a step of `n` rows several times; without saving if `saved` has no elements."""
    before, width = flush_denormals(), z.shape[1]
    for _ in range(times):
        step = Forward(
            z=block(z, 0, n, 0, width),
            hu=block(hu, 0, n, 0, width),
            previous=slab(states, states.shape[0], 0, n, cell.n_units),
            states=slab(states, states.shape[0], n, n, cell.n_units),
            saved=saved,
            operand=scratch,
            extra=segment(scratch[0], 0, cell.n_units),
            scratch=scratch,
            save=1 if saved.size > 0 else 0,
            first=None,
            n_units=None,
        )
        step_forward(cell, 0, step)
    restore_denormals(before)


def least(run: Callable[[int], Any], times: int) -> float:
    """Least seconds per repetition of `run` over many rounds."""
    run(1)
    return min(seconds_of(lambda: run(times), 1) for _ in range(60)) / times


def filled(*shape: int) -> np.ndarray:
    """An aligned array of small random numbers."""
    array = aligned(shape, np.dtype("float32"))
    array[...] = np.random.default_rng(0).standard_normal(shape) * 0.1
    return array


def parts(cell: str, batch: int, units: int) -> dict[str, float]:
    """Seconds of a time step and of its parts."""
    kernel, width = KERNEL_CELLS[cell](units), GATES[cell] * units
    packed = filled(packed_size(units, width, "float32"))
    pack(filled(units, width), packed, 0, width, False, 0, 1)
    x, z, h, hu = (
        filled(LONG * batch, units),
        filled(LONG * batch, width),
        filled(batch, units),
        filled(batch, width),
    )
    states, scratch = filled(traits(kernel).n_states, 2 * batch, units), filled(GATES[cell] + 4, units)
    saved = np.empty((0, 0), np.float32)
    times = max(5, 4000 // batch)
    times_of = {
        "input product": least(lambda n: _products(x, packed, width, z, n), max(1, times // LONG)) / LONG,
        "recurrent product": least(lambda n: _products(h, packed, width, hu, n), times),
        "pointwise": least(lambda n: pointwise_steps(kernel, batch, z, hu, states, saved, scratch, n), times),
    }
    took = []
    for steps in (SHORT, LONG):
        case = Case(cell, Size(batch, steps, units, units))
        layer, data = fastrnn_layer(case), case.data()[0]
        layer.n_threads = 1
        took.append(least(lambda n, layer=layer, data=data: [layer(data) for _ in range(n)], 1 + times // 60))
    return {**times_of, "step": (took[1] - took[0]) / (LONG - SHORT), "call": took[0]}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_parts", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--units", type=int, nargs="+", default=(8, 16, 32))
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows, lines = [], []
    for cell in CELLS:
        for batch in args.batches:
            for units in args.units:
                measured = parts(cell, batch, units)
                work = sum(measured[name] for name in ("input product", "recurrent product", "pointwise"))
                own = measured["call"] - SHORT * measured["step"]
                limits = [measured["step"] / work]
                limits += [(own + t * measured["step"]) / (own + t * work) for t in (SHORT, LONG)]
                rows.append({"cell": cell, "batch": batch, "units": units, **measured, "limits": limits})
                nanoseconds = [f"{measured[name] * 1e9:.0f}" for name in ("step", *list(measured)[:3])]
                lines.append(
                    [cell, batch, units, *nanoseconds, f"{own * 1e9:.0f}", *(f"{x:.2f}" for x in limits)]
                )
                print(*lines[-1], sep="\t", flush=True)
    info = environment()
    heads = [
        "cell",
        "B",
        "H",
        "step, ns",
        "input product",
        "recurrent product",
        "pointwise",
        "call itself",
        "without the loop: a step",
        f"a call of {SHORT} steps",
        f"of {LONG} steps",
    ]
    text = "\n".join([described(info), "", *table(heads, lines)])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "step_parts.md").write_text(text + "\n")
    (args.out / "step_parts.json").write_text(
        json.dumps({"environment": info, "rows": rows}, indent=1) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

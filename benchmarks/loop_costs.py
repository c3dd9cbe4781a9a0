"""What the loops of cells' equations cost, cut in several ways: the table LOOP_COSTS of `fastrnn.engine.tuning`.

A step's elementary functions may share a loop over the units of a row or have one each, and a loop may work on several
vectors at once. Every way is compiled into the kernels of several cells, and whole passes over sequences are timed, the
ways in turns: rows of one vector and of eight, products included, which are the same for all ways. (A step's loops alone,
on made-up arrays, gave another order than the kernels have.) The table is printed as it stands in `tuning.py`, for this
processor's vectors::

    python -m benchmarks.loop_costs                                             # about four minutes
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= python -m benchmarks.loop_costs  # AVX2, on a processor that has more
    python -m benchmarks.loop_costs --cells janet gru_before --units 128        # each cell by itself
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import numba
import numpy as np

from fastrnn import cells
from fastrnn.cells.gru import GRUBefore
from fastrnn.engine.equations import cell as cell_classes
from fastrnn.engine.equations.loops import ALL, Schedule
from fastrnn.engine.equations.schedules import Schedules
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.engine.recurrence import run

FORWARD = ((0, 2), (1, 2), (1, 4), (2, 2))
BACKWARD = (1, 2, 4)
#: Cells whose way back has elementary functions, and cells whose has none.
CELLS = ("lstm", "gru", "janet", "peephole_lstm", "gru_before")
WITH_FUNCTIONS = ("lstm", "peephole_lstm")
BATCH, STEPS = 16, 100
BLOCK_SECONDS = 2e-3
KNOWN = {**cells.registered(), "gru_before": GRUBefore}


class Job(NamedTuple):
    """A pass that is timed, `n` times in a block."""

    cell: str
    cut: tuple[int, int]
    kind: str
    units: int
    run: Callable[[], Any]
    n: int


def cut_class(base: Any, cut: tuple[int, int]) -> Any:
    """The class of a cell whose loops are cut in one way, for rows of any width."""
    label = f"{cut[0]}_{cut[1]}"
    way = Schedule(cut[0] or ALL, at_once=cut[1], plain_at_once=cut[1])
    cls = cell_classes._made(
        base.definition,
        base.choice,
        f"{base.__name__}_{label}",
        f"{base.__qualname__}.{label}",
        base.__module__,
        base,
    )
    chosen = Schedules(way, way, 0, way._replace(functions=ALL))
    with mock.patch.object(cell_classes, "schedules", return_value=chosen):
        cls.source_digest()  # keeps the sources
    return cls


def passes(cell: Any, dtype: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The passes of a cell with one input: without saving, with saving, and back."""
    parts, u, rng = cell.traits(), cell.n_units, np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(u)).astype(dtype)

    width = parts.n_gates * u
    weights = run.Weights(
        numbers(1, width), numbers(u, width) if parts.recurrent else None, numbers(width),
        numbers(width) if parts.split else None, numbers(parts.n_extra * u) if parts.n_extra else None,
    )  # fmt: skip
    x = rng.normal(size=(BATCH, STEPS, 1)).astype(dtype)
    yield "inference", functools.partial(run.forward, cell, weights, x, n_threads=1)
    yield "training", functools.partial(run.forward, cell, weights, x, save=True, n_threads=1)
    saved = run.forward(cell, weights, x, save=True, sequences=True, n_threads=1)
    gradients = numbers(BATCH, STEPS, u)
    yield "backward", functools.partial(run.backward, saved.tape, gradients)


def jobs_of(name: str, units: Sequence[int], dtype: Any) -> list[Job]:
    """Every way of one cell."""
    found = []
    for cut in dict.fromkeys((*FORWARD, *((0, n) for n in BACKWARD))):
        cls = cut_class(KNOWN[name], cut)
        for n_units in units:
            for kind, call in passes(cls(n_units), dtype):
                if cut not in FORWARD and kind != "backward":
                    continue
                call()
                start = time.perf_counter()
                call()
                n = max(1, int(BLOCK_SECONDS / (time.perf_counter() - start)))
                found.append(Job(name, cut, kind, n_units, call, n))
    return found


def nanoseconds(jobs: Sequence[Job], rounds: int) -> dict[tuple, float]:
    """The time of each step for a unit, by cell, cut, kind and units: the median of the rounds."""
    times = np.empty((rounds, len(jobs)))
    for i in range(rounds):
        for k, job in enumerate(jobs):
            start = time.perf_counter()
            for _ in range(job.n):
                job.run()
            times[i, k] = time.perf_counter() - start
    middle = np.median(times, axis=0)
    return {
        job[:4]: 1e9 * t / job.n / job.units / (BATCH * STEPS) for job, t in zip(jobs, middle, strict=True)
    }


def entry(times: dict[tuple, float], bits: int, narrow: int, wide: int) -> str:
    """The table's entry, as Python."""
    names = list(dict.fromkeys(key[0] for key in times))
    kinds = ("inference", "training")

    def mean(cut: Any, units: int, kinds: Sequence[str], names: Sequence[str]) -> float:
        return float(np.mean([times[name, cut, kind, units] for name in names for kind in kinds]))

    lines = [f"    ({VECTOR_BITS}, {bits}): LoopCosts(", "        {"]
    for cut in FORWARD:
        lines.append(
            f"            {cut}: ({mean(cut, narrow, kinds, names):.2f}, {mean(cut, wide, kinds, names):.2f}),"
        )
    lines += ["        },", "        {"]
    plain = [name for name in names if name not in WITH_FUNCTIONS]
    for n in BACKWARD:
        pair = (mean((0, n), wide, ["backward"], group) for group in (WITH_FUNCTIONS, plain))
        lines.append("            {}: ({:.2f}, {:.2f}),".format(n, *pair))
    return "\n".join([*lines, "        },", "    ),"])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loop_costs", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--cells", nargs="+", choices=sorted(KNOWN), help="print these cells, no table")
    parser.add_argument("--units", type=int, nargs="+", default=[16, 128], help="with --cells")
    parser.add_argument("--bits", type=int, nargs="+", choices=(32, 64), default=[32, 64], help="of numbers")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of all ways of a cell")
    args = parser.parse_args(argv)
    for bits in args.bits:
        lanes = max(1, VECTOR_BITS // bits)
        units = args.units if args.cells else [lanes, 8 * lanes]
        times: dict[tuple, float] = {}
        for name in args.cells or CELLS:
            times |= nanoseconds(jobs_of(name, units, np.dtype(f"float{bits}").type), args.rounds)
        if not args.cells:
            print(entry(times, bits, *units), flush=True)
            continue
        for (name, cut, kind, n_units), t in times.items():
            print(f"{name} float{bits} {kind} {n_units} units, {cut}: {t:.2f} ns a unit")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="loops-") as folder:
        # The classes exist in this process only, so their kernels are not kept.
        numba.config.CACHE_DIR = folder
        main()

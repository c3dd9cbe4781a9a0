"""What the loops of cells' equations cost, cut in several ways: the table LOOP_COSTS of `fastrnn.engine.tuning`.

A step's elementary functions may share a loop over the units of a row or have one each, and a loop may work on several
vectors at once. Every way is compiled for several cells and timed on rows of two and of eight vectors, the ways in turns,
with arrays at several places in memory. The table is printed as it stands in `tuning.py`, for this processor's vectors::

    python -m benchmarks.loop_costs                                             # about a minute
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= python -m benchmarks.loop_costs  # AVX2, on a processor that has more
    python -m benchmarks.loop_costs --cells janet gru_before --units 128        # each cell by itself
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from fastrnn import cells
from fastrnn.cells.gru import GRUBefore
from fastrnn.engine.equations.cell import bodies_of, written
from fastrnn.engine.equations.derive import derive
from fastrnn.engine.equations.loops import ALL, Schedule
from fastrnn.engine.equations.schedules import Schedules
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.engine.kernels.vecmath import prepare_activations
from fastrnn.engine.numba_private.pipeline import Pipeline
from fastrnn.engine.recurrence.contract import Backward, Forward
from fastrnn.engine.runtime.jit import FASTMATH

FORWARD = [(functions, at_once) for functions in (0, 1, 2) for at_once in (1, 2, 4)]
BACKWARD = (1, 2, 4)
#: Cells whose way back has elementary functions, and cells whose has none.
CELLS = ("lstm", "gru", "janet", "peephole_lstm", "gru_before")
WITH_FUNCTIONS = ("lstm", "peephole_lstm")
ROWS = 16
PAGE, PLACEMENTS = 4096, 4
BLOCK_SECONDS = 4e-4
KNOWN = {**cells.registered(), "gru_before": GRUBefore}
#: As the engine compiles its kernels: the same code in Numba's own pipeline took up to 1.4 times as long.
OPTIONS: dict[str, Any] = {
    "nopython": True, "nogil": True, "error_model": "numpy", "fastmath": set(FASTMATH), "_nrt": False,
    "pipeline_class": Pipeline,
}  # fmt: skip


class Job(NamedTuple):
    """A step that is timed, `n` times in a call."""

    cell: str
    cut: Any
    kind: str
    units: int
    run: Callable[[int], None]
    n: int


def repeated(body: Callable, phases: tuple[int, ...]) -> Callable:
    """Compile a loop of calls of a body."""
    compiled = numba.jit(**OPTIONS)(body)

    @numba.jit(**OPTIONS)
    def run(cell, step, n):
        for _ in range(n):
            for phase in phases:
                compiled(cell, phase, step)

    return run


def steps(cell: Any, dtype: Any, seed: int) -> dict[str, Any]:
    """Arguments of a step without saving, with saving, and of the way back.

    Arrays start at random places of a page: a load waits for an earlier store to the same place of another page.
    """
    parts, u, rng = cell.traits(), cell.n_units, np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        values = (rng.normal(size=shape) * 0.5).astype(dtype)
        block = np.empty(values.nbytes + 2 * PAGE, np.uint8)
        start = -block.ctypes.data % PAGE + 64 * int(rng.integers(PAGE // 64))
        placed = block[start : start + values.nbytes].view(dtype).reshape(shape)
        placed[...] = values
        return placed

    gates, states = (ROWS, parts.n_gates * u), (parts.n_states, ROWS, u)
    saved, extra = numbers(ROWS, parts.n_saved * u), numbers(max(1, parts.n_extra) * u)
    np.abs(saved, out=saved)
    scratch, operand = numbers(parts.n_gates + 4, u), numbers(ROWS, u)
    before, after = numbers(*states), numbers(*states)
    np.abs(before, out=before)
    given = (numbers(*gates), numbers(*gates), before, after)
    back = Backward(
        numbers(*states), before, after, saved, *given[:2], operand, extra, numbers(*extra.shape), scratch
    )
    return {
        "inference": Forward(*given, numbers(0, 0), operand, extra, scratch, 0),
        "training": Forward(*given, numbers(*saved.shape), operand, extra, scratch, 1),
        "backward": back,
    }


def jobs_of(name: str, units: Sequence[int], dtype: Any) -> list[Job]:
    """Every way of one cell, and its activations row by row."""
    base = KNOWN[name]
    phases = (0, 1) if base.definition.late else (0,)
    rowwise = Schedule(at_once=0, plain_at_once=0)
    ways: list[tuple[Any, Any, Schedule]] = [("by row", base.With, rowwise)]
    ways += [(cut, base, Schedule(cut[0] or ALL, at_once=cut[1], plain_at_once=cut[1])) for cut in FORWARD]
    found = []
    for cut, cls, schedule in ways:
        text = written(derive(cls.definition, cls.choice), Schedules(schedule, schedule, 0, schedule))
        bodies = bodies_of(text, f"{name}, {cut}")
        runs = {"forward": repeated(bodies["forward"], phases), "back": None}
        if cut == "by row" or cut[0] == 0:
            runs["back"] = repeated(bodies["backward"], phases[::-1])
        for n_units in units:
            cell = cls(n_units)
            prepare_activations(cell, np.dtype(dtype))
            placements = [steps(cell, dtype, seed) for seed in range(PLACEMENTS)]
            for kind, step in [item for placed in placements for item in placed.items()]:
                run = runs["back" if kind == "backward" else "forward"]
                if run is None:
                    continue
                run(cell, step, 1)
                start = time.perf_counter()
                run(cell, step, 20)
                n = max(1, int(20 * BLOCK_SECONDS / (time.perf_counter() - start)))
                found.append(
                    Job(name, cut, kind, n_units, lambda n, a=(run, cell, step): a[0](a[1], a[2], n), n)
                )
    return found


def nanoseconds(jobs: Sequence[Job], rounds: int) -> dict[tuple, float]:
    """The time of each step for a unit, by cell, cut, kind and units: the mean over placements of the least time of each."""
    best = [np.inf] * len(jobs)
    for _ in range(rounds):
        for k, job in enumerate(jobs):
            start = time.perf_counter()
            job.run(job.n)
            best[k] = min(best[k], time.perf_counter() - start)
    found: dict[tuple, list[float]] = {}
    for job, t in zip(jobs, best, strict=True):
        found.setdefault(job[:4], []).append(1e9 * t / job.n / job.units / ROWS)
    return {key: float(np.mean(times)) for key, times in found.items()}


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
    parser.add_argument("--units", type=int, nargs="+", default=[32, 128], help="with --cells")
    parser.add_argument("--bits", type=int, nargs="+", choices=(32, 64), default=[32, 64], help="of numbers")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of all ways of a cell")
    args = parser.parse_args(argv)
    for bits in args.bits:
        lanes = max(1, VECTOR_BITS // bits)
        units = args.units if args.cells else [2 * lanes, 8 * lanes]
        times: dict[tuple, float] = {}
        for name in args.cells or CELLS:
            times |= nanoseconds(jobs_of(name, units, np.dtype(f"float{bits}").type), args.rounds)
        if not args.cells:
            print(entry(times, bits, *units), flush=True)
            continue
        for (name, cut, kind, n_units), t in times.items():
            print(f"{name} float{bits} {kind} {n_units} units, {cut}: {t:.2f} ns a unit")


if __name__ == "__main__":
    main()

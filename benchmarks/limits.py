"""Speed limits of the machine, and how near to them a pass comes: python -m benchmarks.limits [CASE ...]

The limit of a pass is the time of its matrix products plus the time of its pointwise functions at the speed that they have
on a few rows in the innermost cache. The products are taken twice: at the micro-kernel's best speed, which they have where
all numbers are in a cache; and with the recurrent products in place: as many rows as a step has, with all weights that a
thread reads in a step, one step after the other. With few rows and many units these are limited by the memory that the
weights are read from. What the steps wait for, and what the threads send one another, is in neither.

Without a CASE (written as in fastrnn.bench.cases), these are the points of the stored grid at which fastrnn is below its
target, and the cases of `breakdown`. The products and the pass take turns, and the best block of calls of each counts.

Written to benchmarks/results/: limits.json and limits.md, with the width of the vectors in their names where code is
generated for another processor.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.breakdown import CASES
from benchmarks.report import below_target, described, stored, table
from benchmarks.step_parts import KERNEL_CELLS, filled, pointwise_steps
from benchmarks.timing import environment, suffix, time_side_by_side
from fastrnn.bench.cases import GATES, Case, case_named
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import Contender, thread_counts
from fastrnn.bench.timing import seconds_of
from fastrnn.engine import tuning
from fastrnn.engine.kernels import matmul
from fastrnn.engine.kernels.micro_kernel import VECTORS, lanes
from fastrnn.engine.recurrence.by_units import GROUP_VECTORS
from fastrnn.engine.recurrence.contract import Backward, step_backward, traits
from fastrnn.engine.recurrence.plans import slice_count
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import ALONE, share
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.memory import aligned
from fastrnn.engine.runtime.threads import parallel_region
from fastrnn.engine.runtime.views import block, part, planes, segment, slab, smaller

RESULTS = Path(__file__).parent / "results"
#: Share of the limit's speed that a pass should reach where a peer can't be beaten by the target.
NEAR = 0.85
#: Numbers of a step of which the pointwise speed is measured.
_POINTWISE_NUMBERS = 2048
#: Rows, depth and columns of a product that fits the caches; repetitions by which its speed is measured, on each thread.
_WORK, _REPEATS = (64, 256, 512), 30


@numba.njit(nogil=True)
def _product(a, packed, n, out, start, repeats):
    for _ in range(repeats):
        matmul.product(a, packed, n, out, start)


def packed_product(a: NDArray, b: NDArray, repeats: int = 1) -> tuple[Callable[[], Any], NDArray]:
    """A function that computes ``a @ b`` with the micro-kernel and b packed beforehand, and the result's array."""
    n = b.shape[1]
    packed = np.zeros(matmul.packed_size(*b.shape, b.dtype), b.dtype)
    matmul.pack(b, packed, 0, n, False, 0, 1)
    out, start = np.zeros((len(a), n), b.dtype), np.zeros((0, n), b.dtype)
    return lambda: _product(a, packed, n, out, start, repeats), out


def fastest(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def micro_kernel_peak(dtype: str = "float32", *, threads: int = 1, repeats: int = 15) -> float:
    """GFLOP/s of the micro-kernel on `threads` cores, the best of a few sizes that fit the caches."""
    best = 0.0
    for m, k, n in ((32, 128, 512), (64, 256, 512), (64, 512, 256), (128, 512, 512)):
        flop = 2 * m * k * n
        calls = max(1, round(2e8 / flop))
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        runs = [packed_product(a, b, calls)[0] for _ in range(threads)]
        runs[0]()

        def together(runs: list = runs) -> None:
            workers = [threading.Thread(target=run) for run in runs[1:]]
            for worker in workers:
                worker.start()
            runs[0]()
            for worker in workers:
                worker.join()

        best = max(best, threads * calls * flop / fastest(together, repeats) / 1e9)
    return best


@jit
def _product_part(arguments, at, k):
    a, packed, n, out, start, repeats = fetch(arguments, at)
    for _ in range(repeats):
        matmul.product(a, packed, n, planes(out, k, 0, a.shape[0], n), start)


_part = address(_product_part)


@jit
def _products(state, parts, *args):
    share(state, _part(args), spill(args), parts)


def micro_kernel_work(flop: float, threads: int = 1) -> Callable[[], Any]:
    """A function that runs `flop` operations of the micro-kernel on `threads` threads, at a size that fits the caches."""
    m, k, n = _WORK
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype("float32") for shape in ((m, k), (k, n)))
    packed = np.zeros(matmul.packed_size(k, n, b.dtype), b.dtype)
    matmul.pack(b, packed, 0, n, False, 0, 1)
    out, start = np.zeros((threads, m, n), b.dtype), np.zeros((0, n), b.dtype)
    repeats = max(1, round(flop / threads / (2 * m * k * n)))

    def run() -> None:
        if threads == 1:
            _product(a, packed, n, out[0], start, repeats)
            return
        with parallel_region(threads) as state:
            if state is None:
                for k in range(threads):
                    _product(a, packed, n, out[k], start, repeats)
            else:
                _products(state, threads, a, packed, n, out, start, repeats)

    return run


@jit
def _steps_of_slice(arguments, at, k):
    a, packed, out, steps, n_groups = fetch(arguments, at)
    depth, columns, mine = a.shape[2], out.shape[2] // n_groups, smaller(k, packed.shape[0] - 1)
    size, left = packed.shape[1] // n_groups, planes(a, k, 0, a.shape[1], depth)
    for s in range(steps):
        for i in range(n_groups):  # to and fro, as in `by_units`
            g = n_groups - 1 - i if s & 1 else i
            weights = segment(part(packed, mine, 0, packed.shape[1]), g * size, size)
            target = block(
                planes(out, k, 0, out.shape[1], out.shape[2]), 0, out.shape[1], g * columns, columns
            )
            matmul.product(left, weights, columns, target, target)


_slice_of_steps = address(_steps_of_slice)


@jit
def _all_steps(state, parts, *args):
    share(state, _slice_of_steps(args), spill(args), parts)


def recurrent_work(case: Case, threads: int, *, back: bool = False) -> Callable[[], Any]:
    """A function that computes the recurrent products of all steps of a case, and nothing else.

    Each thread has the rows and columns that it has in the pass, and no thread waits for another. `back` means the products
    of the backward pass.
    """
    s, gates = case.size, GATES[case.cell]
    cell = KERNEL_CELLS[case.cell](s.units)
    by_units = slice_count(cell, s.batch, s.steps, s.inputs, threads) > 1
    width = VECTORS * lanes(case.dtype)
    rows = s.batch if by_units else math.ceil(s.batch / threads)
    units = math.ceil(math.ceil(s.units / width) / threads) * width if by_units else s.units
    depth, columns = (gates * s.units, units) if back else (s.units, gates * units)
    group = GROUP_VECTORS * lanes(case.dtype)  # read to and fro
    n_groups = max(1, columns // group) if by_units else 1
    while columns % n_groups:
        n_groups -= 1
    one = n_groups * matmul.packed_size(depth, columns // n_groups, case.dtype)
    shared = one * np.dtype(case.dtype).itemsize > tuning.OWN_WEIGHTS_BYTES and not by_units
    rng = np.random.default_rng(0)
    packed = aligned((1 if shared else threads, one), np.dtype(case.dtype))
    packed[:] = rng.standard_normal(one) / 100
    a = rng.standard_normal((threads, rows, depth)).astype(case.dtype)
    out = np.zeros((threads, rows, columns), case.dtype)

    def run() -> None:
        with parallel_region(threads) as state:
            out.fill(0)
            _all_steps(ALONE if state is None else state, threads, a, packed, out, s.steps, n_groups)

    return run


def machine_limits() -> dict[str, float]:
    """GFLOP/s of the fastest installed matrix product, and GB/s of a copy, on all cores."""
    a, b = (np.ones((1024, 1024), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    blas = 2 * 1024**3 / fastest(lambda: np.matmul(a, b, out=out), 15) / 1e9
    ours = micro_kernel_peak(threads=thread_counts()[-1])
    source = np.ones(2**26, dtype=np.float32)
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 7) / 1e9
    return {"gflops": max(blas, ours), "gbytes_per_s": bandwidth}


@jit
def _steps_back(cell, n, arrays, times):
    ds, states, saved, dz, extra, scratch = arrays
    before, u = flush_denormals(), cell.n_units
    for _ in range(times):
        step = Backward(
            ds=slab(ds, ds.shape[0], 0, n, u),
            previous=slab(states, states.shape[0], 0, n, u),
            states=slab(states, states.shape[0], n, n, u),
            saved=block(saved, 0, n, 0, saved.shape[1]),
            dz=block(dz, 0, n, 0, dz.shape[1]),
            du=block(dz, n, n, 0, dz.shape[1]),
            d_operand=scratch,
            extra=segment(extra, 0, 0),
            d_extra=segment(extra, 0, 0),
            scratch=scratch,
            first=None,
            n_units=None,
        )
        step_backward(cell, 0, step)
    restore_denormals(before)


def pointwise_seconds(cell: str, units: int, *, training: bool) -> float:
    """Seconds for each unit, sequence and time step on one core; forward and backward together for training."""
    kernel = KERNEL_CELLS[cell](units)
    sizes, width = traits(kernel), GATES[cell] * units
    n = max(1, _POINTWISE_NUMBERS // units)
    states, scratch = filled(sizes.n_states, 2 * n, units), filled(GATES[cell] + 4, units)
    saved = filled(n, sizes.n_saved * units) if training else np.empty((0, 0), np.float32)
    z, hu, dz, ds = filled(n, width), filled(n, width), filled(2 * n, width), filled(sizes.n_states, n, units)
    back = (ds, states, saved, dz, np.zeros(1, np.float32), scratch)
    times = 50

    def forward() -> None:
        pointwise_steps(kernel, n, z, hu, states, saved, scratch, times)

    def backward() -> None:
        _steps_back(kernel, n, back, times)

    total = 0.0
    for run in (forward, backward) if training else (forward,):
        run()
        total += min(seconds_of(run, 1) for _ in range(60))
    return total / (times * n * units)


def product_flop(case: Case) -> int:
    """Operations of the products that one plain layer needs: no gradient of the inputs."""
    s = case.size
    forward, back = s.inputs + s.units, s.units + s.inputs + s.units
    return 2 * GATES[case.cell] * s.units * case.rows * (forward + (back if case.kind == "training" else 0))


@dataclass
class Near:
    """Seconds of a pass, and of its parts at the limit: products at their best, and the recurrent ones in place."""

    case: str
    threads: int
    products: float
    in_place: float
    pointwise: float
    measured: float

    @property
    def share_of_best(self) -> float:
        """The time at the speed of the caches over that of the pass."""
        return (self.products + self.pointwise) / self.measured

    @property
    def share(self) -> float:
        """The limit's time over that of the pass."""
        return (self.in_place + self.pointwise) / self.measured


def nearness(case: Case, threads: int, seconds: float) -> Near:
    """How near a pass of `threads` threads comes to the limit."""
    # Whole repetitions of one product, because that of a small case would take less time than a hand-over.
    flop = _REPEATS * threads * 2.0 * math.prod(_WORK)
    work = micro_kernel_work(flop, threads)
    (ours,) = fastrnn_contenders(case, (threads,))
    sides = [
        work,
        *(recurrent_work(case, threads, back=b) for b in (False, True)[: 1 + (case.kind == "training")]),
    ]
    limits = [Contender("limit", str(threads), run, run) for run in sides]
    times = time_side_by_side([*limits, ours], seconds=seconds)
    per_number = pointwise_seconds(case.cell, case.size.units, training=case.kind == "training")
    pointwise = per_number * case.rows * case.size.units / threads
    best, *recurrent, measured = times  # the least of each, because other processes make any of them slower
    products = float(np.min(best)) * product_flop(case) / flop
    size = case.size
    others = product_flop(case) - len(recurrent) * 2 * GATES[case.cell] * case.rows * size.units**2
    in_place = float(np.min(best)) * others / flop + sum(float(np.min(times)) for times in recurrent)
    return Near(str(case), threads, products, max(products, in_place), pointwise, float(np.min(measured)))


def markdown(found: Sequence[Near], info: dict[str, Any]) -> str:
    lines = [
        [
            one.case.removesuffix("-float32"),
            one.threads,
            *(f"{value * 1e3:.3g}" for value in (one.products, one.in_place, one.pointwise, one.measured)),
            f"{one.share_of_best:.2f}",
            f"{one.share:.2f}" + ("" if one.share >= NEAR else " **below**"),
        ]
        for one in found
    ]
    head = [
        "case",
        "threads",
        "products at their best, ms",
        "recurrent ones in place, ms",
        "pointwise at its best, ms",
        "pass at its best, ms",
        "best / pass",
        "limit / pass",
    ]
    text = [
        described(info),
        "",
        "At their best, products have all numbers in a cache. In place, a recurrent product has the rows of a step, and",
        "reads the weights in every step from where they lie. The limit is the sum of these products and the pointwise",
        "functions: no move of rows, no exchange between threads, no hand-over, no Python.",
        "",
        *table(head, lines),
        "",
        f"{sum(one.share >= NEAR for one in found)} of {len(found)} are at {NEAR:.0%} of the limit's speed or above.",
    ]
    return "\n".join(text) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__.split("\n\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each side of a case (default 1)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    try:
        cases = [case_named(name) for name in args.cases]
    except ValueError as error:
        parser.error(str(error))
    if any(case.variant != "plain" for case in cases):
        parser.error("the limits are those of plain networks: one layer on full sequences")
    below = [case for case in below_target(stored(RESULTS)[0]) if case.variant == "plain"]
    info, found = environment(), []
    args.out.mkdir(parents=True, exist_ok=True)
    for case in cases or dict.fromkeys([*below, *CASES]):
        for threads in args.threads:
            found.append(nearness(case, threads, args.seconds))
            print(f"{case}, {threads} threads: {found[-1].share:.2f} of the limit's speed", flush=True)
    stem = args.out / f"limits{suffix()}"
    content = {"environment": info, "rows": [asdict(one) for one in found]}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(found, info))
    print(markdown(found, info))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How a pass is laid out: the schedule of a mask, blocks of rows, threads, chunks of steps, sizes and offsets.

A plan depends on sizes and options only; that of a dense batch is kept, and with it how the way back is laid out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.matmul import packed_size
from fastrnn.engine.recurrence import scan
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.memory import recycler

__all__ = [
    "Blocks",
    "Options",
    "Packing",
    "Plan",
    "column_groups",
    "dense_plan",
    "dense_schedule",
    "masked_schedule",
    "packing",
    "plan_back",
    "plan_pass",
    "share_count",
    "some_and_all",
    "split_pair",
    "strides",
    "thread_count",
]


@functools.lru_cache(maxsize=256)
def dense_schedule(n_batch: int, n_steps: int) -> np.ndarray:
    starts = np.arange(n_steps + 1) * n_batch
    active = np.full(n_steps + 1, n_batch)
    active[-1] = 0
    schedule = np.concatenate([starts, active, np.arange(n_batch), [1], np.arange(n_steps)]).astype(np.int64)
    return schedule


def masked_schedule(mask: np.ndarray, schedule: np.ndarray | None = None) -> np.ndarray:
    """The schedule of a boolean ``(n_batch, n_steps)`` mask in processing order, written to `schedule` if it is given."""
    n_batch, n_steps = mask.shape
    if schedule is None:
        schedule = np.empty(2 * (n_steps + 1) + n_batch + 1 + n_batch * n_steps, np.int64)
    _fill_schedule(mask if mask.flags.c_contiguous else mask.copy(), schedule)
    return schedule


def some_and_all(schedule: np.ndarray, n_batch: int, n_steps: int) -> tuple[bool, bool]:
    """Whether each sequence has a step, and whether each has all: how many run at the first, and at the last."""
    return bool(schedule[n_steps + 1] == n_batch), bool(schedule[2 * n_steps] == n_batch)


@jit(allocates=True)
def _fill_schedule(mask, schedule):
    n_batch, n_steps = mask.shape
    starts, active = schedule[: n_steps + 1], schedule[n_steps + 1 : 2 * (n_steps + 1)]
    order = schedule[2 * (n_steps + 1) : 2 * (n_steps + 1) + n_batch]
    schedule[2 * (n_steps + 1) + n_batch] = 0
    times = schedule[2 * (n_steps + 1) + n_batch + 1 :]
    # A sort by counting: first how many rows have each length, then how many have more.
    active[:] = 0
    lengths = np.zeros(n_batch, np.int64)
    for b in range(n_batch):
        for t in range(n_steps):
            lengths[b] += mask[b, t]
        active[lengths[b]] += 1
    longer = 0
    for length in range(n_steps, -1, -1):
        active[length], longer = longer, longer + active[length]
    place = active.copy()
    for b in range(n_batch):
        order[place[lengths[b]]] = b
        place[lengths[b]] += 1
    total = 0
    for s in range(n_steps + 1):
        starts[s] = total
        total += active[s]
    for r in range(n_batch):
        at, rest, b = r * n_steps, r * n_steps + lengths[order[r]], order[r]
        for t in range(n_steps):
            if mask[b, t]:
                times[at] = t
                at += 1
            else:
                times[rest] = t
                rest += 1


def strides(time_major: bool, n_batch: int, n_steps: int) -> tuple[int, int]:
    """How many rows apart two steps, and two sequences, are."""
    return (n_batch, 1) if time_major else (1, n_steps)


class Packing(NamedTuple):
    """Where the weights are in a packed row: `layout` as `packing.pack_rows` takes it, and the length of the row."""

    layout: np.ndarray
    size: int


def _packing(sizes: list[int], input_groups: int, groups: int, turned: bool) -> Packing:
    """Parts of these sizes one after the other."""
    at = np.cumsum([0, *sizes])
    return Packing(
        np.array([*at, input_groups, groups, 1, 1, 1, turned, turned, 0, 0, 0], np.int64), int(at[-1])
    )


# typed: cells of different kinds compare equal when their numbers do, as all NamedTuples
@functools.lru_cache(maxsize=512, typed=True)
def packing(cell: Any, n_inputs: int, input_groups: int, recurrent_masks: bool, dtype: Any) -> Packing:
    """How the forward kernels read the weights."""
    parts = traits(cell)
    n, width = cell.n_units, parts.n_gates * cell.n_units
    input_groups, groups = column_groups(cell, input_groups, recurrent_masks)
    sizes = [
        input_groups * packed_size(n_inputs, width // input_groups, dtype),
        parts.recurrent * groups * packed_size(n, width // groups, dtype),
        packed_size(1, width, dtype),
        packed_size(1, width, dtype),
        packed_size(1, parts.n_extra * n, dtype),
    ]
    return _packing(sizes, input_groups, groups, False)


def column_groups(cell: Any, input_groups: int, recurrent_masks: bool) -> tuple[int, int]:
    """Number of column groups of the input product and of the recurrent product."""
    parts = traits(cell)
    return max(1, input_groups), parts.n_gates if recurrent_masks or parts.late else 1


def _bounds(schedule: np.ndarray, n_batch: int, n_steps: int, n_threads: int) -> list[int]:
    """Ranges of sorted rows, one a thread, of about the same number of steps each; fewer where a range would be empty."""
    if schedule[2 * (n_steps + 1) + n_batch] == 1:
        return [k * n_batch // n_threads for k in range(n_threads + 1)]
    bounds = np.empty(n_threads + 1, np.int64)
    _fill_bounds(schedule, n_batch, n_steps, bounds)
    return sorted({*bounds.tolist()})


@jit
def _fill_bounds(schedule, n_batch, n_steps, bounds):
    n_threads = bounds.shape[0] - 1
    bounds[0], bounds[n_threads] = 0, n_batch  # rows without a valid step come last and weigh nothing
    own, rest, length, k = 0, schedule[n_steps], n_steps, 1
    for r in range(n_batch):
        while length > 0 and schedule[n_steps + 1 + length - 1] <= r:
            length -= 1
        # A row is the next thread's if with it this one would have more steps than each of those after it without.
        if own > 0 and k < n_threads and (own + length) * (n_threads - k) > rest:
            bounds[k], k, own = r, k + 1, 0
        own, rest = own + length, rest - length
    while k < n_threads:
        bounds[k] = n_batch
        k += 1


_NO_SCHEDULE = np.empty(0, np.int64)


class Blocks(NamedTuple):
    """Sorted rows ``borders[i] ... borders[i + 1]`` are block i; thread k has those from ``firsts[k]`` on.

    `most` is the number of rows of the largest; `light` ones are not worth waking a thread for. Of a single block each
    product may be cut into `shares`, for as many threads.
    """

    borders: np.ndarray
    firsts: np.ndarray
    most: int
    light: bool
    shares: int = 1

    @property
    def n_rows(self) -> int:
        """Number of threads that own rows."""
        return len(self.firsts) - 1

    @property
    def n_threads(self) -> int:
        """Number of threads at work."""
        return max(self.n_rows, self.shares)


def _blocks(bounds: np.ndarray, work: int, shares: int) -> Blocks:
    """Cut the ranges of rows into blocks of at most `MAX_BLOCK_ROWS`, in whole tiles and of about the same size."""
    most = max(1, int(np.diff(bounds).max()))
    n_blocks = -(-most // tuning.MAX_BLOCK_ROWS)
    size = most if n_blocks == 1 else -(-most // (4 * n_blocks)) * 4
    starts = [
        (thread, first)
        for thread, (start, end) in enumerate(itertools.pairwise(bounds.tolist()))
        for first in range(start, end, size)
    ]
    borders = np.array([*(first for _, first in starts), bounds[-1]], np.int64)
    firsts = np.searchsorted([thread for thread, _ in starts], np.arange(len(bounds)), side="left")
    return Blocks(borders, firsts.astype(np.int64), size, work < tuning.MIN_WAKING_WORK, shares)


class Options(NamedTuple):
    """What a plan depends on, besides the cell and the threads' rows."""

    n_batch: int
    n_steps: int
    n_inputs: int
    dtype: Any
    time_major: bool
    reverse: bool
    repeat: bool
    input_groups: int
    recurrent_masks: bool
    save: bool
    sequences: bool


def _work(cell: Any, n_rows: int, n_inputs: int) -> int:
    """Multiply-adds of so many steps."""
    return n_rows * traits(cell).n_gates * cell.n_units * (n_inputs + cell.n_units)


def split_pair(
    cells: Sequence[Any], shape: tuple[int, ...], n_threads: int | None, least_rows: int = 1
) -> tuple[int, int, bool]:
    """How passes over a dense batch run side by side: the number of threads, pieces of each pass, whether they are light.

    Steps count here besides products: a thread of its own helps a pass whose batch is too small to be cut.
    """
    n_batch, n_steps, n_inputs = shape
    work = sum(n_steps * tuning.STEP_WORK + _work(cell, n_batch * n_steps, n_inputs) for cell in cells)
    if work < tuning.MIN_THREAD_WORK:
        return 1, 1, True
    n = min(
        threads.resolve(n_threads),
        work if tuning.MIN_THREAD_WORK == 0 else 1 + work // tuning.MIN_THREAD_WORK,
    )
    # Where passes can't have as many threads each, all threads have a piece of every pass, so none has more than others.
    pieces = n // len(cells) if n % len(cells) == 0 else n
    return n, min(pieces, -(-n_batch // least_rows)), work < tuning.MIN_WAKING_WORK


def thread_count(
    cell: Any, n_rows: int, n_inputs: int, n_batch: int, n_threads: int | None, least_rows: int = 1
) -> int:
    """Threads to use: as many as find enough work, and all but the last of them `least_rows` sequences."""
    most = -(-n_batch // least_rows)
    if most == 1 or n_threads == 1:
        return 1
    work = _work(cell, n_rows, n_inputs)
    if work < tuning.MIN_THREAD_WORK:
        return 1
    enough = work if tuning.MIN_THREAD_WORK == 0 else 1 + work // tuning.MIN_THREAD_WORK
    return max(1, min(threads.resolve(n_threads), most, enough))


def share_count(cell: Any, n_batch: int, n_steps: int, n_inputs: int, n_threads: int | None) -> int:
    """Threads that should have a share of each step, rather than sequences of their own; 1: none should.

    It is the sequences that don't fill the threads' tiles evenly, such as a single one, that decide.
    """
    if n_threads == 1:
        return 1
    parts = traits(cell)
    weights = parts.recurrent * parts.n_gates * cell.n_units**2
    if _work(cell, n_batch * n_steps, n_inputs) < tuning.MIN_WAKING_WORK:
        return 1
    n = min(threads.resolve(n_threads), n_batch * weights // tuning.MIN_SLICE_WORK)
    if n < 2:
        return 1
    own, shared = max(tuning.MIN_PRODUCT_ROWS, -(-n_batch // n)), max(tuning.MIN_PRODUCT_ROWS, n_batch) / n
    return n if (own - shared) * weights > tuning.SPLIT_STEP_COST[min(n_batch, 2) - 1] else 1


class BackPlan(NamedTuple):
    """The same for the way back; ``pieces`` are the ends of the kernel's, recurrent kernel's, ... gradient in one row."""

    plans: np.ndarray
    packing: Packing
    pieces: tuple[int, ...]
    grads_shape: tuple[int, int]
    work_shape: tuple[int, int]


class Plan(NamedTuple):
    """What the kernels are told, and the shapes of the arrays that they fill."""

    cell: Any
    options: Options
    plans: np.ndarray
    packing: Packing
    schedule: np.ndarray
    blocks: Blocks
    final_shape: tuple[int, ...]
    states_shape: tuple[int, ...]
    saved_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    recycle: bool
    work_shape: tuple[int, ...]
    #: How the way back is laid out, as far as it was asked for: by `plan_back`'s arguments.
    back: dict[tuple[bool, bool], BackPlan]

    @property
    def dense(self) -> bool:
        """Whether every sequence runs through all time steps."""
        return bool(self.schedule[2 * (self.options.n_steps + 1) + self.options.n_batch] == 1)


@functools.lru_cache(maxsize=512, typed=True)
def dense_plan(cell: Any, options: Options, n_threads: int, shares: int = 1) -> Plan:
    """The plan of a batch without a mask: it depends on sizes only, so it is kept."""
    return plan_pass(cell, options, dense_schedule(options.n_batch, options.n_steps), n_threads, shares)


def plan_pass(cell: Any, options: Options, schedule: np.ndarray, n_threads: int, shares: int = 1) -> Plan:
    """The plan of a batch with any mask: what does not depend on the schedule itself is kept.

    So many threads own sequences, or have so many shares of each product.
    """
    n_batch, n_steps = options[:2]
    if shares > 1:
        n_threads = 1
    bounds = (0, n_batch) if n_threads == 1 else tuple(_bounds(schedule, n_batch, n_steps, n_threads))
    plan = _sizes(cell, options, bounds, shares)
    if not options.save:
        return plan._replace(schedule=schedule)
    # How many steps there are is another number for nearly every ragged batch: only the shapes depend on it.
    n_rows = int(schedule[n_steps])
    n_states, _, n_units = plan.states_shape
    return plan._replace(
        schedule=schedule,
        states_shape=(n_states, n_batch + n_rows, n_units),
        saved_shape=(n_rows, plan.saved_shape[1]),
    )


@functools.lru_cache(maxsize=512, typed=True)
def _sizes(cell: Any, options: Options, bounds: tuple[int, ...], shares: int) -> Plan:
    """A plan without its schedule and, in a pass that saves, without the number of steps that there are."""
    parts, n_units = traits(cell), cell.n_units
    n_batch, n_steps, n_inputs = options[:3]
    blocks = _blocks(np.array(bounds), _work(cell, n_batch * n_steps, n_inputs), shares)
    block, n_threads = blocks.most, blocks.n_rows
    width = parts.n_gates * cell.n_units
    input_groups, groups = column_groups(cell, options.input_groups, options.recurrent_masks)
    packed = packing(cell, n_inputs, options.input_groups, options.recurrent_masks, options.dtype)
    x_step, x_row = strides(options.time_major, n_batch, n_steps)
    out_step, out_row = strides(False, n_batch, n_steps)
    settings = dict(
        n_steps=n_steps,
        n_batch=n_batch,
        n_inputs=n_inputs,
        n_units=cell.n_units,
        n_gates=parts.n_gates,
        n_states=parts.n_states,
        n_saved=parts.n_saved,
        n_extra=parts.n_extra,
        split=parts.split,
        recurrent=parts.recurrent,
        late=parts.late,
        operand=parts.operand,
        input_masks=options.input_groups,
        input_groups=input_groups,
        groups=groups,
        recurrent_masks=options.recurrent_masks,
        x_step=x_step,
        x_row=x_row,
        out_step=out_step,
        out_row=out_row,
        reverse=options.reverse,
        repeat=options.repeat,
        ring=not options.save,
        save=options.save,
        rows=block,
        shares=shares,
        chunk=_chunk(n_steps, block, width + n_inputs, options.dtype),
        **dict(zip(("w", "u", "b", "rb", "extra"), packed.layout.tolist(), strict=False)),
    )
    plans = np.zeros(1, scan.PLAN)
    for name, value in settings.items():
        plans[0][name] = value
    per_row = n_inputs * settings["chunk"] + width * (settings["chunk"] + 1) + 2 * n_units
    return Plan(
        cell,
        options,
        plans,
        packed,
        _NO_SCHEDULE,
        blocks,
        final_shape=(parts.n_states, n_batch, n_units),
        states_shape=(parts.n_states, 0 if options.save else 2 * block * n_threads, n_units),
        saved_shape=(0, parts.n_saved * n_units),
        out_shape=(n_batch * n_steps, n_units),
        recycle=n_batch * n_steps * n_units * options.dtype.itemsize >= recycler.smallest,
        work_shape=(n_threads, block * per_row + shares * (parts.n_gates + 4) * n_units),
        back={},
    )


def plan_back(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    """How the way back of a pass is laid out; `d_time_major`: so are the rows of the outputs' gradient."""
    known = plan.back.get((need_dx, d_time_major))
    if known is None:
        known = plan.back[need_dx, d_time_major] = _plan_back(plan, need_dx, d_time_major)
    return known


def _plan_back(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    options, parts, n = plan.options, traits(plan.cell), plan.cell.n_units
    n_batch, n_steps, n_inputs, dtype = options[:4]
    width, rows = parts.n_gates * n, plan.blocks.most
    input_groups, groups = column_groups(plan.cell, options.input_groups, options.recurrent_masks)
    sizes = [
        need_dx * input_groups * packed_size(width // input_groups, n_inputs, dtype),
        parts.recurrent * groups * packed_size(width // groups, n, dtype),
        0,
        0,
        packed_size(1, parts.n_extra * n, dtype),
    ]
    packed = _packing(sizes, input_groups, groups, True)
    pieces = np.cumsum(
        [n_inputs * width, parts.recurrent * n * width, width, width, parts.n_extra * n]
    ).tolist()
    chunk = _chunk(n_steps, rows, width * (1 + parts.split) + n_inputs + n, dtype)
    chunk = max(chunk, min(n_steps, -(-tuning.MIN_GRAD_ROWS // rows)))
    plans = plan.plans.copy()
    out_step, out_row = strides(d_time_major, n_batch, n_steps)
    dx_step, dx_row = strides(options.time_major, n_batch, n_steps)
    settings = dict(
        chunk=chunk,
        out_step=out_step,
        out_row=out_row,
        dx_step=dx_step,
        dx_row=dx_row,
        need_dx=need_dx,
        **dict(zip(("w", "u", "b", "rb", "extra"), packed.layout.tolist(), strict=False)),
    )
    for name, value in settings.items():
        plans[0][name] = value
    n_threads = plan.blocks.n_rows
    per_row = chunk * (n_inputs + 2 * width + n) + (parts.n_states + 2) * n
    return BackPlan(
        plans,
        packed,
        tuple(pieces),
        grads_shape=(n_threads, pieces[-1]),
        work_shape=(n_threads, rows * per_row + plan.blocks.shares * (parts.n_gates + 4) * n),
    )


def _chunk(n_steps: int, block: int, columns: int, dtype: Any) -> int:
    """Time steps whose buffers of so many columns fit `tuning.CHUNK_BYTES`."""
    return max(1, min(n_steps, tuning.CHUNK_BYTES // (block * columns * np.dtype(dtype).itemsize)))

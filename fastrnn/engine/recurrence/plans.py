"""Plans of passes: blocks of rows, threads, chunks of steps, and the shapes and layouts of all arrays.

A plan depends only on sizes and options. Plans of dense batches are cached, with the plans of their backward passes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.matmul import packed_size, panel_size
from fastrnn.engine.kernels.packing import PackedRows, packed_rows
from fastrnn.engine.kernels.vecmath import prepare_activations
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.recurrence.layouts import (
    column_groups,
    gates_apart,
    layout_of,
    mask_groups,
    packing,
    placed,
    slices_are_even,
)
from fastrnn.engine.recurrence.schedule import dense_schedule, is_dense, row_bounds, row_total
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.memory import recycler
from fastrnn.engine.runtime.turns import turn_bytes

__all__ = [
    "SETTINGS",
    "BackPlan",
    "Blocks",
    "Options",
    "Plan",
    "changed",
    "dense_rows_plan",
    "is_long",
    "needs_one_thread",
    "pass_work",
    "plan_back",
    "plan_pass",
    "slice_count",
    "strides",
    "thread_count",
    "threads_of_both",
]


#: Settings of a pass for the kernels, as a record, which is one argument with named fields.
SETTINGS = np.dtype(
    [
        (name, np.int64)
        for names in (
            # Sizes.
            "n_steps n_batch n_inputs n_units n_gates n_states n_saved n_extra",
            # Traits of the cell (see `contract.Traits`), 0 or 1 where they are flags.
            "split recurrent late operand",
            # Dropout: the number of input masks, whether there are recurrent masks; groups of columns, one product each.
            "input_masks recurrent_masks input_groups groups",
            # Rows from one step to the next and from one sequence to the next, of inputs, outputs and the gradient of the
            # inputs; `out_first` is the row of the first output.
            "x_step x_row out_step out_row out_first dx_step dx_row",
            # Flags: time is reversed; masked steps repeat the output; only states of two steps are kept, alternately; save
            # for the backward pass; compute the gradient of the inputs; slices of a split step are of units.
            "reverse repeat ring save need_dx by_units",
            # Set by another thread to end the pass before the next chunk; its results are then incomplete.
            "stop",
            # Time steps of a chunk, rows of the largest block, slices of a split step.
            "chunk rows n_slices",
            # Starts of the weights in a packed row, and the size of one group of the kernels.
            "kernel recurrent_kernel bias recurrent_bias extra kernel_size recurrent_size",
            # Starts of the arrays in a thread's scratch memory.
            "at_x at_z at_hu at_h at_ds at_operand at_masked at_scratch at_turns at_panel at_spread",
            # Starts of the gradients in a thread's row of gradients.
            "d_kernel d_recurrent d_bias d_recurrent_bias d_extra",
        )
        for name in names.split()
    ]
)


def changed(base: np.ndarray, **values: int) -> np.ndarray:
    """A copy of an array of one record with new values for some fields."""
    settings = base.copy()
    for name, value in values.items():
        settings[0][name] = value
    return settings


def strides(time_major: bool, n_batch: int, n_steps: int) -> tuple[int, int]:
    """Distances in rows between two steps, and between two sequences."""
    return (n_batch, 1) if time_major else (1, n_steps)


_NO_SCHEDULE = np.empty(0, np.int64)


class Blocks(NamedTuple):
    """How sorted rows are divided into blocks, and blocks between threads.

    Attributes
    ----------
    borders, firsts : 1-D arrays
        Rows ``borders[i] ... borders[i + 1]`` are block i; thread k has the blocks ``firsts[k] ... firsts[k + 1]``.
    most_rows : int
        Rows of the largest block.
    light : bool
        Whether the work is too small to wake a thread.
    long : bool
        Whether the work takes long enough that Ctrl-C must be able to end it.
    n_slices : int
        Number of slices into which each step of a single block is split, for the same number of threads.
    n_owners : int
        Number of threads that compute rows of their own.
    n_threads : int
        Number of threads.
    by_units : bool
        Whether the slices of a step are of units (see `by_units`).
    """

    borders: np.ndarray
    firsts: np.ndarray
    most_rows: int
    light: bool
    long: bool
    n_slices: int
    n_owners: int
    n_threads: int
    by_units: bool

    @property
    def pieces(self) -> int:
        """Number of calls of the kernel that is the part of one thread."""
        return self.n_slices if self.by_units else self.n_owners


def _blocks(bounds: np.ndarray, work: int, n_slices: int, by_units: bool) -> Blocks:
    """Divide the ranges of rows into blocks of at most `MAX_BLOCK_ROWS`, of whole tiles and about equal size."""
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
    light, long = work < tuning.MIN_WAKING_WORK, work > tuning.LONG_WORK
    n_owners = len(firsts) - 1
    n_threads = max(n_owners, n_slices)
    return Blocks(
        borders, firsts.astype(np.int64), size, light, long, n_slices, n_owners, n_threads, by_units
    )


class Options(NamedTuple):
    """Everything that a plan depends on, except the cell and the threads' rows."""

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


def pass_work(cell: Any, n_rows: int, n_inputs: int) -> int:
    """Multiply-adds of `n_rows` time steps of one sequence."""
    return n_rows * traits(cell).n_gates * cell.n_units * (n_inputs + cell.n_units)


def is_long(cell: Any, n_rows: int, n_inputs: int) -> bool:
    """Whether a pass over `n_rows` time steps takes long enough that Ctrl-C must be able to end it."""
    return pass_work(cell, n_rows, n_inputs) > tuning.LONG_WORK


def threads_of_both(
    cells: Sequence[Any], shape: tuple[int, ...], n_threads: int | None, min_rows: int = 1
) -> tuple[int, int, bool]:
    """Number of threads, number of pieces of each pass, and whether they are light, for parallel passes over a dense batch.

    The work includes the time steps, not only products: separate threads for the passes help even if the batch is too small
    to be divided.
    """
    n_batch, n_steps, n_inputs = shape
    work = sum(n_steps * tuning.STEP_WORK + pass_work(cell, n_batch * n_steps, n_inputs) for cell in cells)
    if work < tuning.MIN_THREAD_WORK:
        return 1, 1, True
    n = min(
        threads.resolve(n_threads),
        work if tuning.MIN_THREAD_WORK == 0 else 1 + work // tuning.MIN_THREAD_WORK,
    )
    # If the threads can't be divided evenly between the passes, each thread gets a piece of every pass.
    pieces = n // len(cells) if n % len(cells) == 0 else n
    return n, min(pieces, -(-n_batch // min_rows)), work < tuning.MIN_WAKING_WORK


def thread_count(
    cell: Any, n_rows: int, n_inputs: int, n_batch: int, n_threads: int | None, min_rows: int = 1
) -> int:
    """Number of threads, limited by the work and by at least `min_rows` sequences for all threads but the last."""
    most = -(-n_batch // min_rows)
    if most == 1 or n_threads == 1:
        return 1
    work = pass_work(cell, n_rows, n_inputs)
    if work < tuning.MIN_THREAD_WORK:
        return 1
    enough = work if tuning.MIN_THREAD_WORK == 0 else 1 + work // tuning.MIN_THREAD_WORK
    return max(1, min(threads.resolve(n_threads), most, enough))


def slice_count(cell: Any, n_batch: int, n_steps: int, n_inputs: int, n_threads: int | None) -> int:
    """Number of threads that should split each step; 1 if each thread should compute its own sequences.

    Splitting is faster if the sequences do not fill the threads' tiles evenly, for example with one sequence.
    """
    if n_threads == 1:
        return 1
    parts = traits(cell)
    weights = parts.recurrent * parts.n_gates * cell.n_units**2
    if pass_work(cell, n_batch * n_steps, n_inputs) < tuning.MIN_WAKING_WORK:
        return 1
    n = min(threads.resolve(n_threads), n_batch * weights // tuning.MIN_SLICE_WORK)
    if n < 2:
        return 1
    own, shared = max(tuning.MIN_PRODUCT_ROWS, -(-n_batch // n)), max(tuning.MIN_PRODUCT_ROWS, n_batch) / n
    cost = tuning.SPLIT_STEP_COST[min(n_batch, 2) - 1]
    # As in `_sizes`, but for float32, and without regard to dropout.
    if gates_apart(cell, np.float32) and slices_are_even(cell.n_units, n, np.float32):
        cost = min(cost, tuning.UNITS_STEP_COST)
    return n if (own - shared) * weights > cost else 1


def needs_one_thread(cell: Any, n_batch: int, n_steps: int, n_inputs: int, n_threads: int | None) -> bool:
    """Whether a training pass runs on one thread, however many are free."""
    if n_threads == 1:
        return True
    parts, work = traits(cell), pass_work(cell, n_batch * n_steps, n_inputs)
    slices = n_batch * parts.recurrent * parts.n_gates * cell.n_units**2 // tuning.MIN_SLICE_WORK
    return (n_batch == 1 or work < tuning.MIN_THREAD_WORK) and (work < tuning.MIN_WAKING_WORK or slices < 2)


class BackPlan(NamedTuple):
    """Plan of a backward pass; ``pieces`` are the ends of the gradients of kernel, recurrent kernel, ... in one row."""

    settings: np.ndarray
    packed: PackedRows
    pieces: tuple[int, ...]
    grads_shape: tuple[int, int]
    work_shape: tuple[int, int]


class Plan(NamedTuple):
    """Settings for the kernels, and the shapes of the arrays that they write."""

    cell: Any
    options: Options
    settings: np.ndarray
    packed: PackedRows
    schedule: np.ndarray
    blocks: Blocks
    final_shape: tuple[int, ...]
    states_shape: tuple[int, ...]
    saved_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    recycle: bool
    work_shape: tuple[int, ...]
    #: Plans of backward passes that were made so far, by the arguments of `plan_back`.
    back: dict[tuple[bool, bool], BackPlan]
    #: The cell that the kernels get, and the lanes of a block; 0 if sequences are rows (see `lane_plans`).
    kernel_cell: Any
    n_lanes: int = 0
    #: If sequences are lanes, the plan of the same pass with sequences as rows, which masks need.
    as_rows: Any = None

    @property
    def in_rows(self) -> Plan:
        """The plan with sequences as rows."""
        return self if self.as_rows is None else self.as_rows

    @property
    def dense(self) -> bool:
        """Whether every sequence runs through all time steps."""
        return is_dense(self.schedule, self.options.n_batch, self.options.n_steps)


@functools.lru_cache(maxsize=tuning.MAX_PLANS, typed=True)
def dense_rows_plan(cell: Any, options: Options, n_threads: int, n_slices: int = 1) -> Plan:
    """The plan of a batch without a mask, in rows; cached, because it depends only on sizes."""
    return plan_pass(cell, options, dense_schedule(options.n_batch, options.n_steps), n_threads, n_slices)


def plan_pass(cell: Any, options: Options, schedule: np.ndarray, n_threads: int, n_slices: int = 1) -> Plan:
    """The plan of a batch with any mask; parts that do not depend on the schedule are cached.

    The sequences are divided between `n_threads`, or each step is split into `n_slices`.
    """
    n_batch, n_steps = options[:2]
    if n_slices > 1:
        n_threads = 1
    bounds = (0, n_batch) if n_threads == 1 else tuple(row_bounds(schedule, n_batch, n_steps, n_threads))
    plan = _sizes(cell, options, bounds, n_slices)
    if not options.save:
        return plan._replace(schedule=schedule)
    # The number of valid steps differs between ragged batches, but only shapes depend on it.
    n_rows = row_total(schedule, n_steps)
    n_states, _, n_units = plan.states_shape
    return plan._replace(
        schedule=schedule,
        states_shape=(n_states, n_batch + n_rows, n_units),
        saved_shape=(n_rows, plan.saved_shape[1]),
    )


@functools.lru_cache(maxsize=tuning.MAX_PLANS, typed=True)
def _sizes(cell: Any, options: Options, bounds: tuple[int, ...], n_slices: int) -> Plan:
    """A plan without its schedule and, in a pass that saves, without the number of valid steps."""
    prepare_activations(cell, options.dtype)
    parts, n_units = traits(cell), cell.n_units
    n_batch, n_steps, n_inputs = options[:3]
    width = parts.n_gates * cell.n_units
    masks = options.input_groups, options.recurrent_masks
    input_groups, groups = column_groups(cell, *masks, options.dtype)
    by_units = (
        n_slices > 1
        and not any(masks)
        and gates_apart(cell, options.dtype)
        and slices_are_even(n_units, n_slices, options.dtype)
    )
    blocks = _blocks(np.array(bounds), pass_work(cell, n_batch * n_steps, n_inputs), n_slices, by_units)
    block, n_threads = blocks.most_rows, blocks.n_owners
    packed = packing(cell, n_inputs, *masks, options.dtype)
    x_step, x_row = strides(options.time_major, n_batch, n_steps)
    out_step, out_row = strides(False, n_batch, n_steps)
    # Threads with their own units have a part of a chunk each.
    columns = (width + n_inputs) // (tuning.UNITS_CHUNK if by_units else 1)
    chunk = _chunk(n_steps, block, columns, options.dtype)
    scratch = n_slices * (parts.n_gates + 4) * n_units
    arrays = dict(
        x=(n_slices if by_units else 1) * chunk * block * n_inputs,
        z=chunk * block * width,
        hu=block * width,
        operand=block * n_units,
        masked=block * n_units,
        scratch=scratch,
        turns=by_units * turn_bytes(n_slices) // options.dtype.itemsize,
    )
    places, work = placed("at_", arrays, 64 // options.dtype.itemsize)
    settings = changed(
        np.zeros(1, SETTINGS),
        n_steps=n_steps,
        n_batch=n_batch,
        n_inputs=n_inputs,
        n_units=n_units,
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
        by_units=by_units,
        n_slices=n_slices,
        chunk=chunk,
        **packed.settings,
        **places,
    )
    return Plan(
        cell,
        options,
        settings,
        packed_rows(packed.layout, packed.size, options.dtype, blocks.n_owners, blocks.n_threads),
        _NO_SCHEDULE,
        blocks,
        final_shape=(parts.n_states, n_batch, n_units),
        states_shape=(parts.n_states, 0 if options.save else 2 * block * n_threads, n_units),
        saved_shape=(0, parts.n_saved * n_units),
        out_shape=(n_batch * n_steps, n_units),
        recycle=n_batch * n_steps * n_units * options.dtype.itemsize >= recycler.smallest,
        work_shape=(n_threads, work),
        back={},
        kernel_cell=cell,
    )


def plan_back(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    """The plan of a backward pass; `d_time_major` means that the rows of the outputs' gradient are time-major."""
    known = plan.back.get((need_dx, d_time_major))
    if known is None:
        known = plan.back[need_dx, d_time_major] = _plan_back(plan, need_dx, d_time_major)
    return known


def _plan_back(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    options, parts, n = plan.options, traits(plan.cell), plan.cell.n_units
    n_batch, n_steps, n_inputs, dtype = options[:4]
    width, rows = parts.n_gates * n, plan.blocks.most_rows
    input_groups, groups = mask_groups(plan.cell, options.input_groups, options.recurrent_masks)
    sizes = [
        need_dx * input_groups * packed_size(width // input_groups, n_inputs, dtype),
        parts.recurrent * groups * packed_size(width // groups, n, dtype),
        0,
        0,
        packed_size(1, parts.n_extra * n, dtype),
    ]
    packed = layout_of(sizes, input_groups, groups, True)
    gradients = dict(
        kernel=n_inputs * width,
        recurrent=parts.recurrent * n * width,
        bias=width,
        recurrent_bias=width,
        extra=parts.n_extra * n,
    )
    starts, grads_size = placed("d_", gradients)
    chunk = _chunk(n_steps, rows, width * (1 + parts.split) + n_inputs + n, dtype)
    chunk = max(chunk, min(n_steps, -(-tuning.MIN_GRAD_ROWS // rows)))
    arrays = dict(
        x=chunk * rows * n_inputs,
        z=chunk * rows * width,
        hu=parts.split * chunk * rows * width,
        h=chunk * rows * n,
        ds=parts.n_states * rows * n,
        operand=rows * n,
        masked=rows * n,
        scratch=plan.blocks.n_slices * (parts.n_gates + 4) * n,
        panel=plan.blocks.n_slices
        * panel_size(chunk * rows, width, dtype),  # the last: it has the rest of the memory
    )
    places, work = placed("at_", arrays, 64 // dtype.itemsize)
    out_step, out_row = strides(d_time_major, n_batch, n_steps)
    dx_step, dx_row = strides(options.time_major, n_batch, n_steps)
    settings = changed(
        plan.settings,
        chunk=chunk,
        out_step=out_step,
        out_row=out_row,
        dx_step=dx_step,
        dx_row=dx_row,
        need_dx=need_dx,
        input_groups=input_groups,
        groups=groups,
        **packed.settings,
        **places,
        **starts,
    )
    n_threads = plan.blocks.n_owners
    return BackPlan(
        settings,
        packed_rows(packed.layout, packed.size, dtype, n_threads, plan.blocks.n_threads),
        (*starts.values(), grads_size)[1:],
        grads_shape=(n_threads, grads_size),
        work_shape=(n_threads, work),
    )


def _chunk(n_steps: int, block: int, columns: int, dtype: Any) -> int:
    """Time steps whose buffers, of this many columns, fit `CHUNK_BYTES`."""
    return max(1, min(n_steps, tuning.CHUNK_BYTES // (block * columns * np.dtype(dtype).itemsize)))

"""One pass of a cell over a batch of sequences, forward and backward: NumPy arrays in, NumPy arrays out.

Here the arguments of the kernels in `scan` are laid out: weights packed, the schedule of a mask made, chunk and block
sizes chosen, threads counted, scratch memory kept from call to call.
"""

from __future__ import annotations

import functools
import itertools
import threading
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import scan, threads
from fastrnn.engine.contract import traits
from fastrnn.engine.matmul import pack, packed_size
from fastrnn.engine.memory import aligned, pool, recycler
from fastrnn.engine.programs import Program, part

__all__ = [
    "Prepared",
    "Result",
    "Tape",
    "Weights",
    "backward",
    "forward",
    "pack_weights",
    "prepare",
    "step_program",
]

# Steps and rows of a chunk are chosen so that its buffers stay in a core's L2 beside the weights.
_CHUNK_BYTES = 192 * 1024
# On the way back a chunk's rows are what the weight gradients are summed over: with fewer, reading and writing the
# gradients themselves takes longer than the products once they outgrow L2.
_LEAST_ROWS = 256
_MAX_ROWS = 64
# Inputs and outputs up to this size are copied rather than handed over.
_SMALL_BYTES = 64 * 1024
# Below this many multiply-adds a second thread costs more than it brings.
_SERIAL_WORK = 2_000_000


class Weights(NamedTuple):
    """A cell's arrays: kernel ``(n_inputs, n_gates * n_units)``, recurrent kernel, bias, recurrent bias, extra."""

    kernel: np.ndarray
    recurrent: np.ndarray | None = None
    bias: np.ndarray | None = None
    recurrent_bias: np.ndarray | None = None
    extra: np.ndarray | None = None


class Tape(NamedTuple):
    """What `backward` needs to know of a `forward` with ``save=True``."""

    cell: Any
    weights: Weights
    plans: np.ndarray
    schedule: np.ndarray
    x: np.ndarray
    time_major: bool
    masks: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    blocks: Any


class Result(NamedTuple):
    """``out (n_batch, n_steps, n_units)`` or None, final states ``(n_states, n_batch, n_units)``, tape or None."""

    out: np.ndarray | None
    final: np.ndarray
    tape: Tape | None


@functools.lru_cache(maxsize=256)
def _dense_schedule(n_batch: int, n_steps: int) -> np.ndarray:
    starts = np.arange(n_steps + 1) * n_batch
    active = np.full(n_steps + 1, n_batch)
    active[-1] = 0
    schedule = np.concatenate([starts, active, np.arange(n_batch), [1], np.arange(n_steps)]).astype(np.int64)
    return schedule


def _masked_schedule(mask: np.ndarray) -> np.ndarray:
    """The schedule of a boolean ``(n_batch, n_steps)`` mask in processing order."""
    n_steps = mask.shape[1]
    lengths = mask.sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    active = np.searchsorted(-lengths[order], -np.arange(n_steps + 1), side="left")
    starts = np.concatenate([[0], np.cumsum(active[:-1])])
    # A stable sort by "is masked" puts the valid times first, in order.
    times = np.argsort(~mask[order], axis=1, kind="stable")
    return np.concatenate([starts, active, order, [0], times.ravel()]).astype(np.int64)


def _physical(x: np.ndarray, dtype: Any) -> tuple[np.ndarray, bool]:
    """``x (n_batch, n_steps, n)`` as contiguous rows ``(n_batch * n_steps, n)``, and whether they are time-major."""
    n_batch, n_steps, n = x.shape
    if x.dtype == dtype and x.flags.c_contiguous:
        return x.reshape(n_batch * n_steps, n), False
    if x.dtype == dtype:
        swapped = x.transpose(1, 0, 2)
        if swapped.flags.c_contiguous:
            return swapped.reshape(n_steps * n_batch, n), True
    return np.ascontiguousarray(x, dtype).reshape(n_batch * n_steps, n), False


def _strides(time_major: bool, n_batch: int, n_steps: int) -> tuple[int, int]:
    """How many rows apart two steps, and two sequences, are."""
    return (n_batch, 1) if time_major else (1, n_steps)


# typed: cells of different kinds compare equal when their numbers do, as all NamedTuples
@functools.lru_cache(maxsize=512, typed=True)
def _layout(cell: Any, n_inputs: int, input_groups: int, groups: int, dtype: Any) -> tuple[int, ...]:
    """Offsets of kernel, recurrent kernel, bias, recurrent bias and extra in the packed weights, and their end."""
    parts = traits(cell)
    n, width = cell.n_units, parts.n_gates * cell.n_units
    sizes = [
        input_groups * packed_size(n_inputs, width // input_groups, dtype),
        parts.recurrent * groups * packed_size(n, width // groups, dtype),
        width,
        width,
        parts.n_extra * n,
    ]
    return (0, *np.cumsum(sizes).tolist())


def _groups(cell: Any, input_groups: int, recurrent_masks: bool) -> tuple[int, int]:
    """Number of column groups of the input product and of the recurrent product."""
    parts = traits(cell)
    return max(1, input_groups), parts.n_gates if recurrent_masks or parts.late else 1


def pack_weights(
    cell: Any, weights: Weights, input_groups: int = 0, recurrent_masks: bool = False
) -> np.ndarray:
    """The weights as the forward kernels read them: one array, valid until the weights change."""
    dtype = weights.kernel.dtype
    input_groups, groups = _groups(cell, input_groups, recurrent_masks)
    at = _layout(cell, len(weights.kernel), input_groups, groups, dtype)
    out = aligned(at[-1], dtype)
    out.fill(0)
    _pack_groups(weights.kernel, input_groups, False, out[at[0] : at[1]])
    if weights.recurrent is not None:
        _pack_groups(weights.recurrent, groups, False, out[at[1] : at[2]])
    for k, vector in ((2, weights.bias), (3, weights.recurrent_bias), (4, weights.extra)):
        if vector is not None:
            out[at[k] : at[k + 1]] = vector.ravel()
    return out


def _pack_groups(matrix: np.ndarray, groups: int, turned: bool, out: np.ndarray) -> None:
    """Pack equal groups of columns one after the other, or the transpose of each."""
    if not matrix.flags.c_contiguous:
        matrix = np.ascontiguousarray(matrix)
    if groups == 1:
        pack(matrix, out, 0, matrix.shape[1], turned)
        return
    step, part = matrix.shape[1] // groups, out.size // groups
    for g in range(groups):
        pack(matrix, out[g * part : (g + 1) * part], g * step, step, turned)


def _bounds(schedule: np.ndarray, n_batch: int, n_steps: int, n_threads: int) -> np.ndarray:
    """Ranges of sorted rows, one a thread, of about the same number of steps each."""
    if schedule[2 * (n_steps + 1) + n_batch] == 1:
        return np.arange(n_threads + 1) * n_batch // n_threads
    active = schedule[n_steps + 1 : 2 * (n_steps + 1) - 1]
    lengths = (active[:, None] > np.arange(n_batch)).sum(axis=0)
    total = np.concatenate([[0], np.cumsum(lengths)])
    bounds = np.searchsorted(total, np.arange(n_threads + 1) * total[-1] / n_threads, side="left").astype(
        np.int64
    )
    bounds[-1] = n_batch  # rows without a valid step come last and weigh nothing
    return bounds


def forward(
    cell: Any,
    weights: Weights,
    x: np.ndarray,
    state0: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
    reverse: bool = False,
    repeat: bool = True,
    input_masks: np.ndarray | None = None,
    recurrent_masks: np.ndarray | None = None,
    sequences: bool = False,
    save: bool = False,
    n_threads: int | None = None,
    packed: np.ndarray | None = None,
) -> Result:
    """Run `cell` over a batch of sequences.

    Parameters
    ----------
    cell : NamedTuple
        One of `fastrnn.cells`.
    weights : Weights
    x : (n_batch, n_steps, n_inputs) array
        C-contiguous or the transposed view of a C-contiguous time-major array; others are copied.
    state0 : (n_states, n_batch, n_units) array, optional
        Zeros if not given.
    mask : (n_batch, n_steps) bool array, optional
        False marks steps to skip: they change no state. In processing order when `reverse`.
    reverse : bool
        Read time backwards; outputs come in processing order.
    repeat : bool
        The output of a masked step is the output before it; otherwise zero.
    input_masks : (1 or n_gates, n_batch, n_inputs) array, optional
        Dropout factors, the same at every step, for all gates or each gate.
    recurrent_masks : (n_gates, n_batch, n_units) array, optional
        Dropout factors of the left operand of the recurrent products.
    sequences : bool
        Return the output of every step.
    save : bool
        Keep what `backward` needs.
    n_threads : int, optional
        At most this many threads; default: those free to this process.
    packed : 1-D array, optional
        `weights` as :func:`pack_weights` returned them, for callers that keep them from call to call.

    Returns
    -------
    Result
    """
    dtype = weights.kernel.dtype
    n_batch, n_steps, n_inputs = x.shape
    if n_inputs != weights.kernel.shape[0]:
        raise ValueError(f"x has {n_inputs} features: the kernel was made for {weights.kernel.shape[0]}")
    rows, time_major = _physical(x, dtype)
    input_groups = 0 if input_masks is None else len(input_masks)
    masked = recurrent_masks is not None
    if packed is None:
        packed = pack_weights(cell, weights, input_groups, masked)
    options = _Options(
        n_batch, n_steps, n_inputs, dtype, time_major, reverse, repeat, input_groups, masked, save, sequences
    )
    if mask is None:
        plan = _dense_plan(
            cell, options, _thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads)
        )
    else:
        schedule = _masked_schedule(mask)
        n_threads = _thread_count(cell, int(schedule[n_steps]), n_inputs, n_batch, n_threads)
        plan = _plan(cell, options, schedule, n_threads)
    masks = _join_masks(input_masks, recurrent_masks, dtype) if input_groups or masked else _nothing(dtype, 1)
    if not save:
        return _infer(cell, plan, rows, state0, packed, masks, sequences, x.shape)

    final = np.empty(plan.final_shape, dtype)
    if state0 is None:
        state0 = np.zeros(plan.final_shape, dtype)
    states, saved = recycler.take(plan.states_shape, dtype), recycler.take(plan.saved_shape, dtype)
    # A saved dense pass has its outputs already, as the states in time-major order.
    out = np.empty(plan.out_shape, dtype) if sequences and mask is not None else _nothing(dtype, 2)
    work = pool.take("forward", plan.work_shape, dtype)
    arguments = (
        cell,
        plan.plans,
        plan.schedule,
        rows,
        state0,
        packed,
        masks,
        states,
        saved,
        out,
        final,
        work,
    )
    _run(scan.forward_rows, scan.forward_parallel, arguments, plan.blocks)
    result = None
    if sequences and mask is None:
        result = states[0, n_batch:].reshape(n_steps, n_batch, -1).transpose(1, 0, 2)
    elif sequences:
        result = out.reshape(n_batch, n_steps, -1)
    tape = Tape(cell, weights, plan.plans, plan.schedule, rows, time_major, masks, states, saved, plan.blocks)
    return Result(result, final, tape)


def _infer(
    cell: Any,
    plan: _Plan,
    rows: np.ndarray,
    state0: np.ndarray | None,
    packed: np.ndarray,
    masks: np.ndarray,
    sequences: bool,
    shape: tuple[int, ...],
) -> Result:
    """A pass that keeps nothing: states live in a ring of two steps."""
    dtype = packed.dtype
    final = np.empty(plan.final_shape, dtype)
    if sequences:
        out = recycler.take(plan.out_shape, dtype) if plan.recycle else np.empty(plan.out_shape, dtype)
    else:
        out = _nothing(dtype, 2)
    arguments = (
        cell,
        plan.plans,
        plan.schedule,
        rows,
        _zeros(plan.final_shape, dtype) if state0 is None else state0,
        packed,
        masks,
        pool.take("ring", plan.states_shape, dtype),
        _nothing(dtype, 2),
        out,
        final,
        pool.take("forward", plan.work_shape, dtype),
    )
    _run(scan.forward_rows, scan.forward_parallel, arguments, plan.blocks)
    return Result(out.reshape(shape[0], shape[1], -1) if sequences else None, final, None)


class Prepared:
    """Everything about a pass but its numbers: for calls that come again and again with the same shape.

    A small one runs as a program, on the thread that it was prepared on.
    """

    def __init__(self, cell: Any, packed: np.ndarray, plan: _Plan, shape: tuple[int, ...], sequences: bool):
        self._cell, self._packed, self._plan, self._shape = cell, packed, plan, shape
        self._sequences = sequences
        n_batch, n_steps, n_inputs = shape
        self._out_shape = (n_batch, n_steps, cell.n_units) if sequences else (n_batch, cell.n_units)
        size = n_batch * n_steps * (n_inputs + cell.n_units) * packed.dtype.itemsize
        self._owner = 0
        if size <= _SMALL_BYTES and len(plan.blocks.firsts) == 2:
            self._owner = threading.get_ident()
            x = aligned((n_batch * n_steps, n_inputs), packed.dtype)
            zeros, final = (np.zeros(plan.final_shape, packed.dtype) for _ in range(2))
            self._program = _program(cell, packed, plan, x, zeros, final, sequences)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """All outputs, or the last ones, for ``x``, C-contiguous, of the shape and dtype that this was prepared for."""
        if threading.get_ident() == self._owner:
            out = np.empty(self._out_shape, self._packed.dtype)
            self._program.run_out(x, out)
            return out
        rows, masks = x.reshape(-1, x.shape[2]), _nothing(self._packed.dtype, 1)
        result = _infer(self._cell, self._plan, rows, None, self._packed, masks, self._sequences, self._shape)
        return result.final[0] if result.out is None else result.out


def _program(
    cell: Any,
    packed: np.ndarray,
    plan: _Plan,
    x: np.ndarray,
    state0: np.ndarray,
    final: np.ndarray,
    sequences: bool,
) -> Program:
    """A pass over the rows `x` from the states `state0`, on one thread."""
    dtype = packed.dtype
    out = aligned(plan.out_shape if sequences else (0, 0), dtype)
    step = part(
        scan.forward_part,
        cell,
        plan.plans,
        plan.schedule,
        x,
        state0,
        packed,
        np.empty(0, dtype),
        aligned(plan.states_shape, dtype),
        np.empty((0, 0), dtype),
        out,
        final,
        aligned(plan.work_shape, dtype),
        plan.blocks.borders,
        plan.blocks.firsts,
    )
    return Program([step], x, out if sequences else final[0])


def step_program(cell: Any, weights: Weights, x: np.ndarray, state: np.ndarray) -> Program:
    """One time step of the rows `x (n_batch, n_inputs)`, from `state (n_states, n_batch, n_units)`, which it changes.

    The output is ``state[0]``.
    """
    n_batch, n_inputs = x.shape
    options = _Options(n_batch, 1, n_inputs, x.dtype, False, False, True, 0, False, False, False)
    packed = pack_weights(cell, weights)
    return _program(cell, packed, _dense_plan(cell, options, 1), x, state, state, False)


def prepare(
    cell: Any,
    weights: Weights,
    shape: tuple[int, ...],
    *,
    reverse: bool = False,
    sequences: bool = False,
    n_threads: int | None = None,
    packed: np.ndarray | None = None,
) -> Prepared:
    """Prepare passes over batches of one `shape` without mask, dropout or initial state; arguments as of `forward`."""
    n_batch, n_steps, n_inputs = shape
    if packed is None:
        packed = pack_weights(cell, weights)
    options = _Options(
        n_batch, n_steps, n_inputs, packed.dtype, False, reverse, True, 0, False, False, sequences
    )
    n_threads = _thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads)
    return Prepared(cell, packed, _dense_plan(cell, options, n_threads), shape, sequences)


class _Blocks(NamedTuple):
    """Sorted rows ``borders[i] ... borders[i + 1]`` are block i; thread k has those from ``firsts[k]`` on."""

    borders: np.ndarray
    firsts: np.ndarray
    most: int
    #: The same as ``(thread, first row, end)``, one for each block.
    calls: tuple[tuple[int, int, int], ...]


def _blocks(bounds: np.ndarray) -> _Blocks:
    """Cut the threads' ranges of rows into blocks of at most `_MAX_ROWS`, in whole tiles and of about the same size."""
    most = max(1, int(np.diff(bounds).max()))
    n_blocks = -(-most // _MAX_ROWS)
    size = most if n_blocks == 1 else -(-most // (4 * n_blocks)) * 4
    calls = [
        (thread, first, min(first + size, end))
        for thread, (start, end) in enumerate(itertools.pairwise(bounds.tolist()))
        for first in range(start, end, size)
    ]
    borders = np.array([*(first for _, first, _ in calls), bounds[-1]], np.int64)
    firsts = np.searchsorted([thread for thread, _, _ in calls], np.arange(len(bounds)), side="left")
    return _Blocks(borders, firsts.astype(np.int64), size, tuple(calls))


def _run(rows: Any, parallel: Any, arguments: tuple, blocks: _Blocks) -> None:
    """Call a kernel for all blocks: each thread's on a thread of its own, or all on this one, one after the other."""
    n_threads = len(blocks.firsts) - 1
    if n_threads > 1:
        with threads.parallel_region(n_threads) as state:
            if state is not None:
                parallel(state, *arguments, blocks.borders, blocks.firsts)
                return
    rows = getattr(rows, "dispatcher", rows)
    for call in blocks.calls:
        rows(*arguments, *call)


class _Options(NamedTuple):
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


def _thread_count(cell: Any, n_rows: int, n_inputs: int, n_batch: int, n_threads: int | None) -> int:
    """Threads to use: one where the work is small, never more than sequences."""
    if (
        n_batch == 1
        or n_rows * traits(cell).n_gates * cell.n_units * (n_inputs + cell.n_units) < _SERIAL_WORK
    ):
        return 1
    return max(1, min(threads.resolve(n_threads), n_batch))


class _Plan(NamedTuple):
    """What the kernels are told, and the shapes of the arrays that they fill."""

    plans: np.ndarray
    schedule: np.ndarray
    blocks: _Blocks
    final_shape: tuple[int, ...]
    states_shape: tuple[int, ...]
    saved_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    recycle: bool
    work_shape: tuple[int, ...]


@functools.lru_cache(maxsize=512, typed=True)
def _dense_plan(cell: Any, options: _Options, n_threads: int) -> _Plan:
    """The plan of a batch without a mask: it depends on sizes only, so it is kept."""
    return _plan(cell, options, _dense_schedule(options.n_batch, options.n_steps), n_threads)


def _plan(cell: Any, options: _Options, schedule: np.ndarray, n_threads: int) -> _Plan:
    parts, n_units = traits(cell), cell.n_units
    n_batch, n_steps, n_inputs = options[:3]
    blocks = _blocks(_bounds(schedule, n_batch, n_steps, n_threads))
    block = blocks.most
    n_rows = int(schedule[n_steps])
    width = parts.n_gates * cell.n_units
    input_groups, groups = _groups(cell, options.input_groups, options.recurrent_masks)
    offsets = _layout(cell, n_inputs, input_groups, groups, options.dtype)
    x_step, x_row = _strides(options.time_major, n_batch, n_steps)
    out_step, out_row = _strides(False, n_batch, n_steps)
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
        input_groups=options.input_groups,
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
        chunk=_chunk(n_steps, block, width + n_inputs, options.dtype),
        w=offsets[0],
        u=offsets[1],
        b=offsets[2],
        rb=offsets[3],
        extra=offsets[4],
    )
    plans = np.zeros(1, scan.PLAN)
    for name, value in settings.items():
        plans[0][name] = value
    per_row = n_inputs * settings["chunk"] + width * (settings["chunk"] + 1) + 2 * n_units
    return _Plan(
        plans,
        schedule,
        blocks,
        final_shape=(parts.n_states, n_batch, n_units),
        states_shape=(parts.n_states, n_batch + n_rows if options.save else 2 * block * n_threads, n_units),
        saved_shape=(n_rows, parts.n_saved * n_units),
        out_shape=(n_batch * n_steps, n_units),
        recycle=n_batch * n_steps * n_units * options.dtype.itemsize >= recycler.smallest,
        work_shape=(n_threads, block * per_row + (parts.n_gates + 4) * n_units),
    )


def _chunk(n_steps: int, block: int, columns: int, dtype: Any) -> int:
    """Time steps whose buffers of so many columns fit `_CHUNK_BYTES`."""
    return max(1, min(n_steps, _CHUNK_BYTES // (block * columns * np.dtype(dtype).itemsize)))


@functools.lru_cache(maxsize=64)
def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Initial states of zero, which kernels only read."""
    return np.zeros(shape, dtype)


@functools.cache
def _nothing(dtype: Any, n_dims: int) -> np.ndarray:
    """An array without elements."""
    return np.empty((0,) * n_dims, dtype)


def _join_masks(input_masks: np.ndarray | None, recurrent_masks: np.ndarray | None, dtype: Any) -> np.ndarray:
    given = [np.asarray(m, dtype).ravel() for m in (input_masks, recurrent_masks) if m is not None]
    return np.concatenate(given)


def backward(
    tape: Tape,
    d_out: np.ndarray | None = None,
    d_final: np.ndarray | None = None,
    *,
    need_dx: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, Weights]:
    """Gradients of a pass.

    Parameters
    ----------
    tape : Tape
        Of `forward` with ``save=True``.
    d_out : (n_batch, n_steps, n_units) array, optional
        Gradient with respect to the outputs.
    d_final : (n_states, n_batch, n_units) array, optional
        Gradient with respect to the final states.
    need_dx : bool
        Compute the gradient with respect to the inputs.

    Returns
    -------
    dx : (n_batch, n_steps, n_inputs) array or None
    d_state0 : (n_states, n_batch, n_units) array
    gradients : Weights
    """
    cell, weights = tape.cell, tape.weights
    parts = traits(cell)
    dtype = weights.kernel.dtype
    plans = tape.plans.copy()
    plan = plans[0]
    n_batch, n_steps, n_inputs, n_units = (
        int(plan[name]) for name in ("n_batch", "n_steps", "n_inputs", "n_units")
    )
    width = parts.n_gates * n_units
    n_threads = len(tape.blocks.firsts) - 1
    input_groups, groups = max(1, int(plan["input_groups"])), int(plan["groups"])
    sizes = [
        need_dx * input_groups * packed_size(width // input_groups, n_inputs, dtype),
        parts.recurrent * groups * packed_size(width // groups, n_units, dtype),
        parts.n_extra * n_units,
    ]
    offsets = [0, *np.cumsum(sizes).tolist()]
    packed = aligned(offsets[-1], dtype)
    if need_dx:
        _pack_groups(weights.kernel, input_groups, True, packed[: offsets[1]])
    if weights.recurrent is not None:
        _pack_groups(weights.recurrent, groups, True, packed[offsets[1] : offsets[2]])
    if weights.extra is not None:
        packed[offsets[2] :] = weights.extra.ravel()
    if d_out is None:
        d_rows = np.empty((0, n_units), dtype)
    else:
        d_rows, d_time_major = _physical(d_out, dtype)
        plan["out_step"], plan["out_row"] = _strides(d_time_major, n_batch, n_steps)
    if d_final is None:
        d_final = np.zeros((parts.n_states, n_batch, n_units), dtype)
    dense = tape.schedule[2 * (n_steps + 1) + n_batch] == 1
    if need_dx:
        dx = recycler.take((n_batch * n_steps, n_inputs), dtype)
        if not dense:
            dx.fill(0)
    else:
        dx = np.empty((0, n_inputs), dtype)
    block = int(plan["rows"])
    chunk = _chunk(n_steps, block, width * (1 + parts.split) + n_inputs + n_units, dtype)
    chunk = max(chunk, min(n_steps, -(-_LEAST_ROWS // block)))
    dx_step, dx_row = _strides(tape.time_major, n_batch, n_steps)
    for name, value in dict(
        chunk=chunk,
        dx_step=dx_step,
        dx_row=dx_row,
        need_dx=need_dx,
        w=offsets[0],
        u=offsets[1],
        b=offsets[2],
        extra=offsets[2],
    ).items():
        plan[name] = value
    d_state0 = np.empty((parts.n_states, n_batch, n_units), dtype)
    sizes = [n_inputs * width, parts.recurrent * n_units * width, width, width, parts.n_extra * n_units]
    grads = recycler.take((n_threads, sum(sizes)), dtype)
    grads.fill(0)
    per_row = chunk * (n_inputs + 2 * width + n_units) + (parts.n_states + 2) * n_units
    work = pool.take("backward", (n_threads, block * per_row + (parts.n_gates + 4) * n_units), dtype)
    arguments = (
        cell,
        plans,
        tape.schedule,
        tape.x,
        packed,
        tape.masks,
        tape.states,
        tape.saved,
        d_rows,
        d_final,
        dx,
        d_state0,
        grads,
        work,
    )
    _run(scan.backward_rows, scan.backward_parallel, arguments, tape.blocks)
    total = grads[0]
    for k in range(1, n_threads):
        total += grads[k]
    pieces = np.split(total, np.cumsum(sizes)[:-1])
    gradients = Weights(
        pieces[0].reshape(n_inputs, width),
        pieces[1].reshape(n_units, width) if parts.recurrent else None,
        None if weights.bias is None else pieces[2],
        None if weights.recurrent_bias is None else pieces[3],
        pieces[4] if parts.n_extra else None,
    )
    if not need_dx:
        return None, d_state0, gradients
    if tape.time_major:
        return dx.reshape(n_steps, n_batch, n_inputs).transpose(1, 0, 2), d_state0, gradients
    return dx.reshape(n_batch, n_steps, n_inputs), d_state0, gradients

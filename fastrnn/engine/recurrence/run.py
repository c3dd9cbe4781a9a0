"""One pass of a cell over a batch of sequences, forward and backward: NumPy arrays in, NumPy arrays out.

Here the arguments of the kernels in `scan` are made, as `plans` lays them out, and scratch memory is kept from call to
call.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.packing import Weights, copies, pack_rows, pieces_of
from fastrnn.engine.kernels.vecmath import prepare_activations
from fastrnn.engine.recurrence.backward import backward_pass, split_backward_pass
from fastrnn.engine.recurrence.call_list import Part, Program, part, placeholder
from fastrnn.engine.recurrence.forward import (
    forward_pass,
    forward_piece,
    split_forward_pass,
)
from fastrnn.engine.recurrence.plans import (
    Blocks,
    Options,
    Packing,
    Plan,
    dense_plan,
    packing,
    plan_back,
    plan_pass,
    slice_count,
    thread_count,
)
from fastrnn.engine.recurrence.rows import needed_backward, needed_forward
from fastrnn.engine.recurrence.schedule import mask_extent, masked_schedule, unpacked
from fastrnn.engine.runtime import linking, threads
from fastrnn.engine.runtime.handover import ALONE
from fastrnn.engine.runtime.memory import aligned, pool, recycler, zeros

__all__ = [
    "Prepared",
    "Result",
    "Tape",
    "Weights",
    "backward",
    "forward",
    "pack_weights",
    "pass_part",
    "prepare",
    "step_program",
]


class Tape(NamedTuple):
    """What `backward` needs to know of a `forward` with ``save=True``."""

    weights: Weights
    plan: Plan
    x: np.ndarray
    masks: np.ndarray
    states: np.ndarray
    saved: np.ndarray

    @property
    def n_batch(self) -> int:
        """Number of sequences."""
        return self.plan.options.n_batch


class Result(NamedTuple):
    """``out (n_batch, n_steps, n_units)`` or None, final states ``(n_states, n_batch, n_units)``, tape or None."""

    out: np.ndarray | None
    final: np.ndarray
    tape: Tape | None
    #: Whether each sequence has a step that is not masked.
    stepped: bool = True


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


def pack_weights(cell: Any, weights: Weights) -> np.ndarray:
    """The weights as inference reads them: valid until they change."""
    packed = packing(cell, len(weights.kernel), 0, False, weights.kernel.dtype)
    rows = aligned((1, packed.size), weights.kernel.dtype)
    pack_rows(ALONE, pieces_of(weights), packed.layout, rows, 1)
    return rows


def _to_pack(weights: Weights, packed: Packing, blocks: Blocks) -> tuple[Any, ...]:
    """Arguments of `pack_rows`, with memory for as many rows as the threads need in one pass."""
    dtype = weights.kernel.dtype
    n = copies(packed.size, dtype, blocks.n_owners)
    rows = pool.take("packed", (n, packed.size), dtype)
    return pieces_of(weights), packed.layout, rows, blocks.n_threads if n == 1 else 1


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
    packed : array, optional
        `weights` as :func:`pack_weights` returned them, for callers that keep them from call to call.

    Returns
    -------
    Result
    """
    dtype = weights.kernel.dtype
    n_batch, n_steps, n_inputs = x.shape
    if n_inputs != weights.kernel.shape[0]:
        raise ValueError(f"x has {n_inputs} features: the kernel was made for {weights.kernel.shape[0]}")
    schedule, stepped = None, True
    if mask is not None:
        schedule = masked_schedule(mask)
        stepped, full = mask_extent(schedule, n_batch, n_steps)
        if full:
            mask = schedule = None  # a batch of sequences that happen to be of one length
    rows, time_major = _physical(x, dtype)
    input_groups = 0 if input_masks is None else len(input_masks)
    masked = recurrent_masks is not None
    options = Options(
        n_batch, n_steps, n_inputs, dtype, time_major, reverse, repeat, input_groups, masked, save, sequences
    )
    least = 1 if save else tuning.MIN_INFERENCE_ROWS
    n_slices = slice_count(cell, n_batch, n_steps, n_inputs, n_threads)
    if schedule is None:
        n_threads = thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads, least)
        plan = dense_plan(cell, options, n_threads, n_slices)
    else:
        n_threads = thread_count(
            cell,
            int(unpacked(schedule, n_batch, n_steps).starts[n_steps]),
            n_inputs,
            n_batch,
            n_threads,
            least,
        )
        plan = plan_pass(cell, options, schedule, n_threads, n_slices)
    masks = _join_masks(input_masks, recurrent_masks, dtype) if input_groups or masked else _nothing(dtype, 1)
    to_pack = _to_pack(weights, plan.packing, plan.blocks) if packed is None else ()
    packed = to_pack[2] if packed is None else packed
    if not save:
        result = _infer(cell, plan, rows, state0, packed, masks, sequences, x.shape, to_pack)
        return result if stepped else result._replace(stepped=False)

    final = np.empty(plan.final_shape, dtype)
    if state0 is None:
        state0 = zeros(plan.final_shape, dtype)
    states, saved = recycler.take(plan.states_shape, dtype), recycler.take(plan.saved_shape, dtype)
    # A saved dense pass has its outputs already, as the states in time-major order.
    out = recycler.take(plan.out_shape, dtype) if sequences and mask is not None else _nothing(dtype, 2)
    work = pool.take("work", plan.work_shape, dtype)
    arguments = (
        cell,
        plan.settings,
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
    _run(_FORWARD, _needed_forward(plan), arguments, plan.blocks, to_pack)
    out_rows = None
    if sequences and mask is None:
        out_rows = states[0, n_batch:].reshape(n_steps, n_batch, -1).transpose(1, 0, 2)
    elif sequences:
        out_rows = out.reshape(n_batch, n_steps, -1)
    return Result(out_rows, final, Tape(weights, plan, rows, masks, states, saved), stepped)


def _infer(
    cell: Any,
    plan: Plan,
    rows: np.ndarray,
    state0: np.ndarray | None,
    packed: np.ndarray,
    masks: np.ndarray,
    sequences: bool,
    shape: tuple[int, ...],
    to_pack: tuple[Any, ...] = (),
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
        plan.settings,
        plan.schedule,
        rows,
        zeros(plan.final_shape, dtype) if state0 is None else state0,
        packed,
        masks,
        pool.take("ring", plan.states_shape, dtype),
        _nothing(dtype, 2),
        out,
        final,
        pool.take("work", plan.work_shape, dtype),
    )
    _run(_FORWARD, _needed_forward(plan), arguments, plan.blocks, to_pack)
    return Result(out.reshape(shape[0], shape[1], -1) if sequences else None, final, None)


class Prepared:
    """Everything about a pass but its numbers: for calls that come again and again with the same shape.

    It runs as a program on the thread that it was prepared on.
    """

    def __init__(self, cell: Any, packed: np.ndarray, plan: Plan, shape: tuple[int, ...], sequences: bool):
        self._cell, self._packed, self._plan, self._shape = cell, packed, plan, shape
        self._sequences, self._dtype = sequences, packed.dtype
        n_batch, n_steps, _ = shape
        self._out_shape = (n_batch, n_steps, cell.n_units) if sequences else plan.final_shape
        self._take = recycler.take if sequences and plan.recycle else np.empty
        self._owner = threading.get_ident()
        self._dense = self._program_of(plan)
        self._masked: Program | None = None
        self._schedule: np.ndarray | None = None
        #: Whether calls with a mask are made by `masked`.
        self.takes_masks = plan.blocks.n_owners == 1

    def _program_of(self, plan: Plan) -> Program:
        n_batch, n_steps, n_inputs = self._shape
        x = placeholder((n_batch * n_steps, n_inputs), self._dtype)
        state0, final = zeros(plan.final_shape, self._dtype), np.empty(plan.final_shape, self._dtype)
        return _program(self._cell, self._packed, plan, x, state0, final, self._sequences)

    def _elsewhere(self, x: np.ndarray, plan: Plan) -> np.ndarray:
        """What a program would give, on a thread that is not its owner."""
        rows, masks = x.reshape(-1, x.shape[2]), _nothing(self._dtype, 1)
        result = _infer(self._cell, plan, rows, None, self._packed, masks, self._sequences, self._shape)
        return result.final[0] if result.out is None else result.out

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """All outputs, or the last ones, for ``x``, C-contiguous, of the shape and dtype that this was prepared for."""
        if threading.get_ident() == self._owner:
            out = self._take(self._out_shape, self._dtype)
            self._dense.run_out(x, out)
            return out if self._sequences else out[0]
        return self._elsewhere(x, self._plan)

    def masked(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, bool]:
        """The same with a mask in processing order, and whether each sequence has a step."""
        n_batch, n_steps, _ = self._shape
        own = threading.get_ident() == self._owner
        schedule = masked_schedule(mask, self._schedule if own else None)
        stepped, full = mask_extent(schedule, n_batch, n_steps)
        if full:
            return self(x), True
        if not own:
            return self._elsewhere(x, self._plan._replace(schedule=schedule)), stepped
        if self._masked is None:
            self._schedule = schedule
            self._masked = self._program_of(self._plan._replace(schedule=schedule))
        out = self._take(self._out_shape, self._dtype)
        self._masked.run_out(x, out)
        return (out if self._sequences else out[0]), stepped


def _program(
    cell: Any,
    packed: np.ndarray,
    plan: Plan,
    x: np.ndarray,
    state0: np.ndarray,
    final: np.ndarray,
    sequences: bool,
) -> Program:
    """A pass over the rows `x` from the states `state0`; its output is all outputs, or `final`."""
    out = placeholder(plan.out_shape, packed.dtype) if sequences else _nothing(packed.dtype, 2)
    step = pass_part(cell, packed, plan, x, state0, out, final)
    return Program([step], x, out if sequences else final, plan.blocks.light)


def _needed_forward(plan: Plan) -> tuple[linking.Slots, ...]:
    return needed_forward(plan.dense, plan.options.sequences, plan.options.recurrent_masks)


def pass_part(
    cell: Any,
    packed: np.ndarray,
    plan: Plan,
    x: np.ndarray,
    state0: np.ndarray,
    out: np.ndarray,
    final: np.ndarray,
) -> Part:
    """A pass over the rows `x` from the states `state0`, with memory of its own."""
    dtype = packed.dtype
    prepare_activations(cell, dtype)
    return part(
        forward_piece,
        None,
        cell,
        plan.settings,
        plan.schedule,
        x,
        state0,
        packed,
        _nothing(dtype, 1),
        aligned(plan.states_shape, dtype),
        _nothing(dtype, 2),
        out,
        final,
        aligned(plan.work_shape, dtype),
        plan.blocks.borders,
        plan.blocks.firsts,
        pieces=plan.blocks.n_owners,
        needed=_needed_forward(plan),
        item_size=dtype.itemsize,
    )


def step_program(cell: Any, weights: Weights, x: np.ndarray, state: np.ndarray) -> Program:
    """One time step of the rows `x (n_batch, n_inputs)`, from `state (n_states, n_batch, n_units)`, which it changes."""
    n_batch, n_inputs = x.shape
    options = Options(n_batch, 1, n_inputs, x.dtype, False, False, True, 0, False, False, False)
    packed = pack_weights(cell, weights)
    return _program(cell, packed, dense_plan(cell, options, 1), x, state, state, False)


def prepare(
    cell: Any,
    weights: Weights,
    shape: tuple[int, ...],
    *,
    reverse: bool = False,
    repeat: bool = True,
    sequences: bool = False,
    n_threads: int | None = None,
    packed: np.ndarray | None = None,
) -> Prepared | None:
    """Prepare passes over batches of one `shape` without dropout or initial state; arguments as of `forward`.

    None where threads should share each product: programs are shared as a whole.
    """
    n_batch, n_steps, n_inputs = shape
    if slice_count(cell, n_batch, n_steps, n_inputs, n_threads) > 1:
        return None
    if packed is None:
        packed = pack_weights(cell, weights)
    options = Options(
        n_batch, n_steps, n_inputs, packed.dtype, False, reverse, repeat, 0, False, False, sequences
    )
    n_threads = thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads, tuning.MIN_INFERENCE_ROWS)
    return Prepared(cell, packed, dense_plan(cell, options, n_threads), shape, sequences)


#: How a pass is run by threads that own sequences, and by threads that have n_slices of each step.
_FORWARD = forward_pass, split_forward_pass
_BACKWARD = backward_pass, split_backward_pass


def _run(
    entries: tuple[Any, Any],
    needed: Sequence[linking.Slots],
    arguments: tuple,
    blocks: Blocks,
    to_pack: tuple[Any, ...],
) -> None:
    """Pack the weights, if `to_pack` says how, and run all blocks: each thread's on one of its own, or all on this one."""
    arguments = (*arguments, blocks.borders, blocks.firsts)
    dtype = arguments[3].dtype
    prepare_activations(arguments[0], dtype)
    with threads.parallel_region(blocks.n_threads, blocks.light) as team:
        state = ALONE if team is None else team
        if to_pack:
            pack_rows(state, *to_pack)
        linking.launch(needed, dtype.itemsize, entries[blocks.n_slices > 1], state, *arguments)


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
    weights, plan = tape.weights, tape.plan
    cell, options, dtype = plan.cell, plan.options, weights.kernel.dtype
    n_batch, n_steps, n_inputs = options[:3]
    d_rows, d_time_major = (_nothing(dtype, 2), False) if d_out is None else _physical(d_out, dtype)
    back = plan_back(plan, need_dx, d_time_major)
    to_pack = _to_pack(weights, back.packing, plan.blocks)
    if d_final is None:
        d_final = zeros(plan.final_shape, dtype)
    if need_dx:
        dx = recycler.take((n_batch * n_steps, n_inputs), dtype)
        if not plan.dense:
            dx.fill(0)
    else:
        dx = _nothing(dtype, 2)
    d_state0 = np.empty(plan.final_shape, dtype)
    grads = recycler.take(back.grads_shape, dtype)
    arguments = (
        cell,
        back.settings,
        plan.schedule,
        tape.x,
        to_pack[2],
        tape.masks,
        tape.states,
        tape.saved,
        d_rows,
        d_final,
        dx,
        d_state0,
        grads,
        pool.take("work", back.work_shape, dtype),
    )
    needed = needed_backward(plan.dense, d_out is not None, need_dx, options.recurrent_masks)
    _run(_BACKWARD, needed, arguments, plan.blocks, to_pack)
    total = grads[0]
    kernel, recurrent, bias, recurrent_bias, extra = (
        total[start:end] for start, end in zip((0, *back.pieces), back.pieces, strict=False)
    )
    gradients = Weights(
        kernel.reshape(n_inputs, -1),
        recurrent.reshape(cell.n_units, -1) if weights.recurrent is not None else None,
        None if weights.bias is None else bias,
        None if weights.recurrent_bias is None else recurrent_bias,
        None if weights.extra is None else extra,
    )
    if not need_dx:
        return None, d_state0, gradients
    if options.time_major:
        return dx.reshape(n_steps, n_batch, n_inputs).transpose(1, 0, 2), d_state0, gradients
    return dx.reshape(n_batch, n_steps, n_inputs), d_state0, gradients

"""Passes of a cell over a batch of sequences, forward and backward, on NumPy arrays.

This module makes the arguments of the time loops by their plans (see `plans`) and launches the loops; scratch memory is kept
between calls. Repeated inference with one shape uses `inference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.packing import PackedRows, Weights, matrices_of, pack_rows
from fastrnn.engine.recurrence.kernels import backward_kernel, forward_kernel
from fastrnn.engine.recurrence.lane_plans import back_plan, dense_plan
from fastrnn.engine.recurrence.layouts import packing
from fastrnn.engine.recurrence.plans import (
    Blocks,
    Options,
    Plan,
    plan_pass,
    slice_count,
    thread_count,
)
from fastrnn.engine.recurrence.rows import needed_backward, needed_forward
from fastrnn.engine.recurrence.schedule import mask_extent, masked_schedule, row_total
from fastrnn.engine.recurrence.unrolled import suited
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.handover import ALONE
from fastrnn.engine.runtime.launch import launching
from fastrnn.engine.runtime.linking import Slots
from fastrnn.engine.runtime.memory import aligned, nothing, pool, recycler

__all__ = ["Result", "Tape", "Weights", "backward", "forward", "pack_weights"]


class Tape(NamedTuple):
    """Results of a `forward` with ``save=True`` that `backward` needs."""

    weights: Weights
    #: The weights as matrices, the argument of `pack_rows`.
    matrices: tuple[np.ndarray, ...]
    plan: Plan
    #: Whether no time step of any sequence is masked.
    dense: bool
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


def contiguous_rows(x: np.ndarray, dtype: Any) -> tuple[np.ndarray, bool]:
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
    """The packed weights for inference, which are valid until the weights change."""
    packed = packing(cell, len(weights.kernel), 0, False, weights.kernel.dtype)
    rows = aligned((1, packed.size), weights.kernel.dtype)
    pack_rows(ALONE, matrices_of(weights), packed.layout, rows, 1)
    return rows


def _to_pack(matrices: tuple[np.ndarray, ...], packed: PackedRows) -> tuple[Any, ...]:
    """Arguments of `pack_rows`, with memory for the rows."""
    layout, shape, n_slices = packed
    return matrices, layout, pool.take("packed", shape, matrices[0].dtype), n_slices


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
        C-contiguous, or a transposed view of a C-contiguous time-major array; other arrays are copied.
    state0 : (n_states, n_batch, n_units) array, optional
        Initial states; zeros by default.
    mask : (n_batch, n_steps) bool array, optional
        False for steps that are skipped and do not change states. In processing order with `reverse`.
    reverse : bool
        Whether to read time backwards; outputs are in processing order.
    repeat : bool
        Whether the output of a masked step is the previous output; otherwise it is zero.
    input_masks : (1 or n_gates, n_batch, n_inputs) array, optional
        Dropout factors, the same at every step, for all gates or for each gate.
    recurrent_masks : (n_gates, n_batch, n_units) array, optional
        Dropout factors of the left operand of the recurrent products.
    sequences : bool
        Whether to return the outputs of all steps.
    save : bool
        Whether to keep what `backward` needs.
    n_threads : int, optional
        Largest number of threads; by default all free cores.
    packed : array, optional
        The result of :func:`pack_weights` for `weights`, for callers that keep it between calls.

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
            mask = schedule = None  # all sequences have the same length
    rows, time_major = contiguous_rows(x, dtype)
    input_groups = 0 if input_masks is None else len(input_masks)
    masked = recurrent_masks is not None
    cell = suited(cell, n_batch, masked)
    options = Options(
        n_batch, n_steps, n_inputs, dtype, time_major, reverse, repeat, input_groups, masked, save, sequences
    )
    least = 1 if save else tuning.MIN_INFERENCE_ROWS
    n_slices = slice_count(cell, n_batch, n_steps, n_inputs, n_threads)
    if schedule is None:
        n_threads = thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads, least)
        plan = dense_plan(cell, options, n_threads, n_slices)
    else:
        n_threads = thread_count(cell, row_total(schedule, n_steps), n_inputs, n_batch, n_threads, least)
        plan = plan_pass(cell, options, schedule, n_threads, n_slices)
    matrices, to_pack = (matrices_of(weights) if save or packed is None else ()), None
    if packed is None:
        to_pack = _to_pack(matrices, plan.packed)
        packed = to_pack[2]
    if state0 is None:
        state0 = np.zeros(plan.final_shape, dtype)
    masks = _join_masks(input_masks, recurrent_masks, dtype) if input_groups or masked else nothing(dtype, 1)
    out = saved = nothing(dtype, 2)
    if save:
        states = recycler.take(plan.states_shape, dtype)
        saved = recycler.take(plan.saved_shape, dtype)
    else:
        states = pool.take("ring", plan.states_shape, dtype)
    # In a dense pass of rows, the saved time-major states are the outputs.
    states_are_outputs = save and mask is None and not plan.n_lanes
    if sequences and not states_are_outputs:
        out = (recycler.take if save or plan.recycle else np.empty)(plan.out_shape, dtype)
    final, work = np.empty(plan.final_shape, dtype), pool.take("work", plan.work_shape, dtype)
    # In the order of the fields of `ForwardArguments`: names would take as long as ten time steps of a small cell.
    arguments = (
        plan.kernel_cell,
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
        plan.blocks.borders,
        plan.blocks.firsts,
    )
    needed = needed_forward(schedule is None, sequences, masked)
    _launch(forward_kernel(plan), arguments, plan.blocks, needed, to_pack)
    outputs = None
    if sequences and save and mask is None:
        steps = states[0, n_batch:] if states_are_outputs else out
        outputs = steps.reshape(n_steps, n_batch, -1).transpose(1, 0, 2)
    elif sequences:
        outputs = out.reshape(n_batch, n_steps, -1)
    tape = Tape(weights, matrices, plan, schedule is None, rows, masks, states, saved) if save else None
    return Result(outputs, final, tape, stepped)


def _launch(
    entry: Any,
    arguments: tuple[Any, ...],
    blocks: Blocks,
    needed: Sequence[Slots],
    to_pack: tuple[Any, ...] | None,
) -> None:
    """Pack the weights, if `to_pack` is given, and run all blocks with the number of threads of the plan."""
    if blocks.long and threads.in_main():
        _launch_interruptibly(entry, arguments, blocks, needed, to_pack)
        return
    # One thread has no other to share with. A context that does nothing would show in the times of small layers.
    region = threads.parallel_region(blocks.n_threads, blocks.light) if blocks.n_threads > 1 else None
    team = None if region is None else region.__enter__()
    try:
        state = ALONE if team is None else team
        if to_pack is not None:
            pack_rows(state, *to_pack)
        with launching(needed, arguments[3].dtype.itemsize):  # of the inputs
            entry(state, *arguments)
    finally:
        if region is not None:
            region.__exit__()


def _launch_interruptibly(entry: Any, arguments: tuple[Any, ...], *how: Any) -> None:
    """As `_launch`, on another thread, while this one handles Ctrl-C and tells the other to stop."""
    # A copy of the settings, in which `stop` sets a flag.
    cell, settings, *others = arguments
    settings = settings.copy()

    def stop() -> None:
        settings[0]["stop"] = 1

    threads.run_interruptibly(lambda: _launch(entry, (cell, settings, *others), *how), stop)


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
    """Compute the gradients of a pass.

    Parameters
    ----------
    tape : Tape
        Tape of `forward` with ``save=True``.
    d_out : (n_batch, n_steps, n_units) array, optional
        Gradient with respect to the outputs.
    d_final : (n_states, n_batch, n_units) array, optional
        Gradient with respect to the final states.
    need_dx : bool
        Whether to compute the gradient with respect to the inputs.

    Returns
    -------
    dx : (n_batch, n_steps, n_inputs) array or None
    d_state0 : (n_states, n_batch, n_units) array
    gradients : Weights
    """
    weights, plan = tape.weights, tape.plan
    cell, options, dtype = plan.cell, plan.options, weights.kernel.dtype
    n_batch, n_steps, n_inputs = options[:3]
    d_rows, d_time_major = (nothing(dtype, 2), False) if d_out is None else contiguous_rows(d_out, dtype)
    back = back_plan(plan, need_dx, d_time_major)
    to_pack = _to_pack(tape.matrices, back.packed)
    if d_final is None:
        d_final = np.zeros(plan.final_shape, dtype)
    dx = nothing(dtype, 2)
    if need_dx:
        dx = recycler.take((n_batch * n_steps, n_inputs), dtype)
        if not tape.dense:
            dx.fill(0)
    d_state0 = np.empty(plan.final_shape, dtype)
    grads = recycler.take(back.grads_shape, dtype)
    # In the order of the fields of `BackwardArguments`.
    arguments = (
        plan.kernel_cell,
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
        plan.blocks.borders,
        plan.blocks.firsts,
    )
    several = plan.blocks.firsts.shape[0] > 2
    scattered = need_dx and not plan.n_lanes
    needed = needed_backward(tape.dense, d_out is not None, scattered, options.recurrent_masks, several)
    _launch(backward_kernel(plan), arguments, plan.blocks, needed, to_pack)
    total, (kernel, recurrent, bias, recurrent_bias, extra) = grads[0], back.pieces
    gradients = Weights(
        total[:kernel].reshape(n_inputs, -1),
        None if weights.recurrent is None else total[kernel:recurrent].reshape(cell.n_units, -1),
        None if weights.bias is None else total[recurrent:bias],
        None if weights.recurrent_bias is None else total[bias:recurrent_bias],
        None if weights.extra is None else total[recurrent_bias:extra],
    )
    if not need_dx:
        return None, d_state0, gradients
    if options.time_major:
        return dx.reshape(n_steps, n_batch, n_inputs).transpose(1, 0, 2), d_state0, gradients
    return dx.reshape(n_batch, n_steps, n_inputs), d_state0, gradients

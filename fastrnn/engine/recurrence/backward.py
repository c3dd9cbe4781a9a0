"""The time loop backward: the gradients of `forward`, with the same rows, blocks and threads.

Chunks of steps are computed from the last to the first. For each chunk, its terms of the weight gradients are added as three
large products of ``dz``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.recurrence.contract import Backward
from fastrnn.engine.recurrence.rows import (
    Batch,
    Span,
    active_rows,
    add_output_gradients,
    add_rows,
    clear,
    gather_inputs,
    inputs_in_order,
    is_whole,
    mask_rows,
    move,
    scatter_input_gradients,
    state_rows,
    sum_rows,
)
from fastrnn.engine.recurrence.schedule import unpacked
from fastrnn.engine.recurrence.split_step import split_backward, split_product, split_product_tn
from fastrnn.engine.recurrence.unrolled import product_back, running_rows, sizes
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, linked, spill
from fastrnn.engine.runtime.views import (
    add,
    block,
    copy,
    cube,
    matrix,
    part,
    plane,
    planes,
    segment,
    slab,
    smaller,
)
from fastrnn.engine.tuning import MIN_SHARED_SUM

__all__ = ["BackwardArguments", "backward_pass", "backward_piece", "backward_rows", "split_backward_pass"]


class BackwardArguments(NamedTuple):
    """Arrays that a backward pass reads and writes; names that `ForwardArguments` has too have the same meaning.

    Attributes
    ----------
    packed
        The transposed weights.
    d_out : (n_batch * n_steps, n_units) array
        Gradient of the outputs, or no elements.
    d_final, d_state0 : (n_states, n_batch, n_units) arrays
        Gradients of the final states, which are read, and of the initial states, which are written.
    dx : (n_batch * n_steps, n_inputs) array
        Gradient of the inputs, which is written, or no elements.
    grads : (n_threads, size) array
        Gradients of the weights from each thread, which are written.
    """

    team: Any
    cell: Any
    settings: np.ndarray
    schedule: np.ndarray
    x: np.ndarray
    packed: np.ndarray
    masks: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    d_out: np.ndarray
    d_final: np.ndarray
    dx: np.ndarray
    d_state0: np.ndarray
    grads: np.ndarray
    work: np.ndarray
    borders: np.ndarray
    firsts: np.ndarray


class _Gradients(NamedTuple):
    """One thread's gradients of the weights."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    recurrent_bias: np.ndarray
    extra: np.ndarray


class _Buffers(NamedTuple):
    """Scratch memory of one block: rows of a chunk, and arrays of one step; `du` is `dz` unless the cell is split."""

    x: np.ndarray
    dz: np.ndarray
    du: np.ndarray
    h: np.ndarray
    ds: np.ndarray
    d_operand: np.ndarray
    masked: np.ndarray
    scratch: np.ndarray
    panel: np.ndarray


class _Saved(NamedTuple):
    """Arrays that the forward pass has saved."""

    states: np.ndarray
    values: np.ndarray


@linked
@jit(inner=True)
def backward_rows(arguments, at, k, i):
    """The backward pass through all time steps of the sorted rows of block `i`.

    The first block of a thread writes its gradients to ``args.grads[k]``, the others add to them.
    """
    before = flush_denormals()
    args = BackwardArguments(*fetch(arguments, at))
    team, cell, settings = args.team, args.cell, args.settings[0]
    n_steps = settings["n_steps"]
    n_units, n_gates, n_states, split, recurrent, late = sizes(cell, settings)
    schedule = unpacked(args.schedule, settings["n_batch"], n_steps)
    batch = Batch(settings, schedule, args.x, args.masks)
    packed, states, saved = args.packed, args.states, args.saved
    weights = part(packed, smaller(k, packed.shape[0] - 1), 0, packed.shape[1])
    extra = segment(weights, settings["extra"], settings["n_extra"] * n_units)
    nothing = block(packed, 0, 0, 0, 0)
    r0, r1 = args.borders[i], args.borders[i + 1]
    rows, chunk, width = r1 - r0, settings["chunk"], n_gates * n_units
    work = part(args.work, k, 0, args.work.shape[1])
    buffers = _Buffers(
        matrix(work, settings["at_x"], chunk * rows, settings["n_inputs"]),
        matrix(work, settings["at_z"], chunk * rows, width),
        matrix(work, settings["at_hu"] if split else settings["at_z"], chunk * rows, width),
        matrix(work, settings["at_h"], chunk * rows, n_units),
        cube(work, settings["at_ds"], n_states, rows, n_units),
        matrix(work, settings["at_operand"], rows, n_units),
        matrix(work, settings["at_masked"], rows, n_units),
        matrix(work, settings["at_scratch"], settings["n_slices"] * (n_gates + 4), n_units),
        segment(work, settings["at_panel"], work.shape[0] - settings["at_panel"]),
    )
    ds = buffers.ds
    groups, slices = settings["groups"], settings["n_slices"]
    group_width = width // groups

    grads = part(args.grads, k, 0, args.grads.shape[1])
    gradients = _Gradients(
        matrix(grads, settings["d_kernel"], settings["n_inputs"], width),
        matrix(grads, settings["d_recurrent"], recurrent * n_units, width),
        segment(grads, settings["d_bias"], width),
        segment(grads, settings["d_recurrent_bias"], width),
        segment(grads, settings["d_extra"], settings["n_extra"] * n_units),
    )
    begun = i > args.firsts[k]
    if not begun:
        clear(segment(grads, settings["d_bias"], grads.shape[0] - settings["d_bias"]))

    for state in range(n_states):
        for r in range(rows):
            move(plane(args.d_final, state, schedule.order[r0 + r], n_units), plane(ds, state, r, n_units))

    for s0 in range((n_steps - 1) // chunk * chunk, -1, -chunk):
        if settings["stop"]:
            break
        s1 = smaller(n_steps, s0 + chunk)
        total = 0
        for s in range(s0, s1):
            total += active_rows(schedule, s, r0, r1)
        if total == 0:
            continue
        at = total
        for s in range(s1 - 1, s0 - 1, -1):
            n = running_rows(cell, schedule, s, r0, r1)
            if n == 0:
                continue
            at -= n
            if args.d_out.shape[0] > 0 and schedule.dense:
                for r in range(n):
                    row = (r0 + r) * settings["out_row"] + s * settings["out_step"]
                    add(part(args.d_out, row, 0, n_units), plane(ds, 0, r, n_units))
            elif args.d_out.shape[0] > 0:
                add_output_gradients(batch, args.d_out, s, r0, slab(ds, n_states, 0, n, n_units))
            old, new = state_rows(batch, s)
            for phase in range(1 if late else 0, -1, -1):
                step = Backward(
                    ds=slab(ds, n_states, 0, n, n_units),
                    previous=slab(states, n_states, old + r0, n, n_units),
                    states=slab(states, n_states, new + r0, n, n_units),
                    saved=block(saved, schedule.starts[s] + r0, n, 0, saved.shape[1]),
                    dz=block(buffers.dz, at, n, 0, width),
                    du=block(buffers.du, at, n, 0, width),
                    d_operand=block(buffers.d_operand, 0, n, 0, n_units),
                    extra=extra,
                    d_extra=gradients.extra,
                    scratch=buffers.scratch,
                    first=None,
                    n_units=None,
                )
                split_backward(team, 1 if settings["n_extra"] else slices, cell, phase, step)
                if recurrent:
                    for g in range(groups - late if phase else 0, groups if phase else groups - late):
                        size = settings["recurrent_size"]
                        kernel = segment(weights, settings["recurrent_kernel"] + g * size, size)
                        columns = block(buffers.du, at, n, g * group_width, group_width)
                        if phase:
                            target = block(buffers.d_operand, 0, n, 0, n_units)
                        else:
                            target = planes(ds, 0, 0, n, n_units)
                        masked = settings["recurrent_masks"]
                        result = block(buffers.masked, 0, n, 0, n_units) if masked else target
                        start = nothing if phase or masked else target
                        product_back(cell, team, slices, columns, kernel, n_units, result, start)
                        if masked:
                            mask_rows(batch, g, r0, result, result)
                            add_rows(result, target, phase)
        span, history = Span(s0, s1, r0, r1), _Saved(states, saved)
        _add_weight_gradients(team, batch, span, history, buffers, gradients, begun)
        begun = True
        if settings["need_dx"]:
            _input_gradients(team, batch, weights, span, buffers, args.dx)
    for state in range(n_states):
        for r in range(rows):
            move(plane(ds, state, r, n_units), plane(args.d_state0, state, schedule.order[r0 + r], n_units))
    if not begun:
        clear(grads)
    restore_denormals(before)


@inlined
def _input_gradients(team, batch, weights, span, buffers, dx):
    """``dx = dz @ W.T`` for a chunk of steps."""
    settings, schedule = batch.settings, batch.schedule
    s0, s1, r0, r1 = span
    n_inputs, groups = settings["n_inputs"], settings["input_groups"]
    width = settings["n_gates"] * settings["n_units"] // groups
    total = 0
    for s in range(s0, s1):
        total += active_rows(schedule, s, r0, r1)
    for g in range(groups):
        kernel = segment(weights, settings["kernel"] + g * settings["kernel_size"], settings["kernel_size"])
        columns = block(buffers.dz, 0, total, g * width, width)
        target, in_order = block(buffers.x, 0, total, 0, n_inputs), inputs_in_order(batch, span)
        if in_order:
            target = block(dx, s0 * settings["dx_step"], total, 0, n_inputs)
        split_product(
            team, settings["n_slices"], columns, kernel, n_inputs, target, block(buffers.x, 0, 0, 0, 0)
        )
        if in_order:
            continue
        at = 0
        for s in range(s0, s1):
            n = active_rows(schedule, s, r0, r1)
            scatter_input_gradients(batch, g, s, r0, block(buffers.x, at, n, 0, n_inputs), dx)
            at += n


@inlined
def _gather_operands(batch, group, span, history, buffer):
    """Copy to a buffer what a group's columns of the recurrent kernel were multiplied by, step after step."""
    settings, schedule, n_units = batch.settings, batch.schedule, buffer.shape[1]
    late = group >= settings["groups"] - settings["late"]
    at = 0
    for s in range(span.s0, span.s1):
        n = active_rows(schedule, s, span.r0, span.r1)
        old, kept = state_rows(batch, s)[0] + span.r0, schedule.starts[s] + span.r0
        for r in range(n):
            operand = part(history.values, kept + r, settings["operand"] * n_units, n_units)
            state = plane(history.states, 0, old + r, n_units)
            copy(operand if late else state, part(buffer, at + r, 0, n_units))
        if settings["recurrent_masks"]:
            left = block(buffer, at, n, 0, n_units)
            mask_rows(batch, group, span.r0, left, left)
        at += n


@linked
@jit(inner=True)
def _add_weight_gradients(team, batch, span, history, buffers, gradients, begun):
    """Add the terms of a chunk of steps to the gradients of the weights: ``x.T @ dz``, ``h_prev.T @ du``, sums.

    If not `begun`, the gradients of the kernels are overwritten.
    """
    settings = batch.settings
    n_units, n_inputs, slices = settings["n_units"], settings["n_inputs"], settings["n_slices"]
    width = settings["n_gates"] * n_units
    input_groups, groups = settings["input_groups"], settings["groups"]
    input_width, group_width = width // input_groups, width // groups
    total = 0
    total = 0
    for g in range(input_groups):
        if inputs_in_order(batch, span):
            total = (span.s1 - span.s0) * settings["n_batch"]
            left = block(batch.x, span.s0 * settings["x_step"], total, 0, n_inputs)
        else:
            total = gather_inputs(batch, g, span, buffers.x)
            left = block(buffers.x, 0, total, 0, n_inputs)
        split_product_tn(
            team,
            slices,
            left,
            block(buffers.dz, 0, total, g * input_width, input_width),
            block(gradients.kernel, 0, n_inputs, g * input_width, input_width),
            begun,
            buffers.panel,
        )
    if settings["recurrent"]:
        for g in range(groups):
            late = g >= groups - settings["late"]
            if late or settings["recurrent_masks"] or not is_whole(batch, span):
                _gather_operands(batch, g, span, history, buffers.h)
                left = block(buffers.h, 0, total, 0, n_units)
            else:
                left = planes(history.states, 0, span.s0 * settings["n_batch"], total, n_units)
            split_product_tn(
                team,
                slices,
                left,
                block(buffers.du, 0, total, g * group_width, group_width),
                block(gradients.recurrent, 0, n_units, g * group_width, group_width),
                begun,
                buffers.panel,
            )
    for r in range(total):
        add(part(buffers.dz, r, 0, width), gradients.bias)
    if settings["split"]:
        for r in range(total):
            add(part(buffers.du, r, 0, width), gradients.recurrent_bias)


@jit(inner=True, few_passes=True)
def _backward_blocks(arguments, at, k):
    args = BackwardArguments(*fetch(arguments, at))
    for i in range(args.firsts[k], args.firsts[k + 1]):
        backward_rows(arguments, at, k, i)


backward_piece = address(_backward_blocks)


@jit(entry=True, few_passes=True)
def backward_pass(state, *values):
    """Run the blocks of all threads on the team that shares `state`, then sum their gradients.

    `values` are `BackwardArguments` without the team.
    """
    args, named = (None, *values), BackwardArguments(None, *values)
    n_threads = named.firsts.shape[0] - 1
    share(state, backward_piece(args), spill(args), n_threads)
    if n_threads > 1:
        sum_rows(state if named.grads.shape[1] >= MIN_SHARED_SUM else state[:0], named.grads)


@jit(entry=True, few_passes=True)
def split_backward_pass(state, *values):
    """Run a single thread's blocks, each step split over the team that shares `state`."""
    args = (state, *values)
    share(state[:0], backward_piece(args), spill(args), 1)

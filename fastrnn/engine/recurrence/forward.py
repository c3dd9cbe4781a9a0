"""The forward time loop, one function for all cells, layouts, masks and numbers of threads.

Each thread computes a range of sorted rows (see `schedule`) for all time steps, without barriers between steps; or one
thread computes all rows, and the team splits each step (see `split_step`). The input product is computed for a chunk of
steps, as one product over ``steps * rows`` rows; then the steps of the chunk are computed while its pre-activations are in
the cache. Threads that compute units of their own have another loop (see `by_units`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.recurrence.contract import Forward
from fastrnn.engine.recurrence.rows import (
    Batch,
    Span,
    active_rows,
    gather_inputs,
    hide_outputs,
    inputs_in_order,
    mask_rows,
    move,
    output_row,
    state_rows,
    steps_of,
)
from fastrnn.engine.recurrence.schedule import unpacked
from fastrnn.engine.recurrence.split_step import split_forward, split_product
from fastrnn.engine.recurrence.unrolled import product_forward, product_weights, running_rows, sizes
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, linked, spill
from fastrnn.engine.runtime.views import (
    block,
    copy,
    matrix,
    part,
    plane,
    plane_rows,
    planes,
    segment,
    slab,
    smaller,
    spaced,
)
from fastrnn.engine.tuning import MIN_ROWS_IN_PLACE

__all__ = ["ForwardArguments", "forward_pass", "forward_piece", "forward_rows", "split_forward_pass"]


class ForwardArguments(NamedTuple):
    """Arrays that a forward pass reads and writes.

    Attributes
    ----------
    team : array or None
        The team that splits each step, or None if each thread computes its own rows.
    cell : NamedTuple
    settings : (1,) array of `plans.SETTINGS`
    schedule : 1-D array
        See `schedule.unpacked`.
    x : (n_batch * n_steps, n_inputs) array
        The inputs.
    state0 : (n_states, n_batch, n_units) array
        The initial states.
    packed : (1 or n_threads, size) array
        Packed weights; threads without a row of their own read the last row.
    masks : 1-D array
        Dropout masks of the inputs, then of the recurrent products.
    states : (n_states, n_batch + n_rows, n_units) array
        The states before the first step and after each step; or of two steps for each thread, if they are not saved.
    saved : (n_rows, n_saved * n_units) array
        Values that the cell saves for each step.
    out : (n_batch * n_steps, n_units) array
        Outputs, or no elements.
    final : (n_states, n_batch, n_units) array
        The final states.
    work : (n_threads, size) array
        Scratch memory.
    borders, firsts : 1-D arrays
        Rows ``borders[i] ... borders[i + 1]`` are block i; thread k has the blocks ``firsts[k] ... firsts[k + 1]``.
    """

    team: Any
    cell: Any
    settings: np.ndarray
    schedule: np.ndarray
    x: np.ndarray
    state0: np.ndarray
    packed: np.ndarray
    masks: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    out: np.ndarray
    final: np.ndarray
    work: np.ndarray
    borders: np.ndarray
    firsts: np.ndarray


class _Buffers(NamedTuple):
    """Scratch memory of one block: inputs and pre-activations of a chunk, arrays of one step."""

    x: np.ndarray
    z: np.ndarray
    hu: np.ndarray
    operand: np.ndarray
    masked: np.ndarray
    scratch: np.ndarray


@inlined
def _input_products(team, batch, weights, bias, buffers, span):
    """``z = b + x @ W`` for a chunk of steps."""
    settings, schedule = batch.settings, batch.schedule
    s0, s1, r0, r1 = span
    rows, n_inputs, groups = r1 - r0, settings["n_inputs"], settings["input_groups"]
    width = settings["n_gates"] * settings["n_units"] // groups
    # If all rows run and are enough to fill the tiles of a product, the product reads the inputs without copying them.
    by_step = settings["input_masks"] == 0 and rows >= MIN_ROWS_IN_PLACE and schedule.dense
    left = block(buffers.x, 0, 0, 0, n_inputs)
    for s in range(s0, s1 if by_step else s0 + 1):
        if by_step:
            t = settings["n_steps"] - 1 - s if settings["reverse"] else s
            first = r0 * settings["x_row"] + t * settings["x_step"]
            left = spaced(batch.x, first, settings["x_row"], rows, n_inputs)
        for g in range(groups):
            kernel = segment(
                weights, settings["kernel"] + g * settings["kernel_size"], settings["kernel_size"]
            )
            start = block(bias, 0, 1, g * width, width)
            if by_step:
                pass
            elif inputs_in_order(batch, span):
                left = block(batch.x, s0 * settings["x_step"], (s1 - s0) * rows, 0, n_inputs)
            elif g == 0 or settings["input_masks"] > 1:  # otherwise all groups have the same inputs
                left = block(buffers.x, 0, gather_inputs(batch, g, span, buffers.x), 0, n_inputs)
            target = block(buffers.z, (s - s0) * rows, left.shape[0], g * width, width)
            split_product(team, settings["n_slices"], left, kernel, width, target, start)


@linked
@jit(inner=True)
def forward_rows(arguments, at, k, i):
    """Compute all time steps of the sorted rows of block `i`, with the memory of thread `k`."""
    before = flush_denormals()
    args = ForwardArguments(*fetch(arguments, at))
    team, cell, settings = args.team, args.cell, args.settings[0]
    n_steps = settings["n_steps"]
    n_units, n_gates, n_states, split, recurrent, late = sizes(cell, settings)
    schedule = unpacked(args.schedule, settings["n_batch"], n_steps)
    batch = Batch(settings, schedule, args.x, args.masks)
    packed, states, saved, out = args.packed, args.states, args.saved, args.out
    r0, r1 = args.borders[i], args.borders[i + 1]
    rows, chunk, width = r1 - r0, settings["chunk"], n_gates * n_units
    weights = part(packed, smaller(k, packed.shape[0] - 1), 0, packed.shape[1])
    bias = matrix(weights, settings["bias"], 1, width)
    recurrent_bias = matrix(weights, settings["recurrent_bias"], 1, width)
    extra = segment(weights, settings["extra"], settings["n_extra"] * n_units)
    work = part(args.work, k, 0, args.work.shape[1])
    buffers = _Buffers(
        matrix(work, settings["at_x"], chunk * rows, settings["n_inputs"]),
        matrix(work, settings["at_z"], chunk * rows, width),
        matrix(work, settings["at_hu"], rows, width),
        matrix(work, settings["at_operand"], rows, n_units),
        matrix(work, settings["at_masked"], rows, n_units),
        matrix(work, settings["at_scratch"], settings["n_slices"] * (n_gates + 4), n_units),
    )
    groups, slices = settings["groups"], settings["n_slices"]
    group_width = width // groups
    ring = settings["ring"]
    own = 2 * settings["rows"] * k  # first row of this thread in `states`, if that has only two steps

    for state in range(n_states):
        if schedule.dense:  # in their order
            target = plane_rows(states, state, own if ring else r0, rows, n_units)
            move(plane_rows(args.state0, state, r0, rows, n_units), target)
        for r in range(0 if schedule.dense else rows):
            source = plane(args.state0, state, schedule.order[r0 + r], n_units)
            move(source, plane(states, state, (own if ring else r0) + r, n_units))

    for s0 in range(0, n_steps, chunk):
        s1 = smaller(n_steps, s0 + chunk)
        if active_rows(schedule, s0, r0, r1) == 0 or settings["stop"]:
            break
        span = Span(s0, s1, r0, r1)
        _input_products(team, batch, weights, bias, buffers, span)
        at = 0
        for s in range(s0, s1):
            n = running_rows(cell, schedule, s, r0, r1)
            if n == 0:
                break
            old, new = state_rows(batch, s)
            if ring:
                old, new = own + (s & 1) * rows, own + (1 - (s & 1)) * rows
            else:
                old, new = old + r0, new + r0
            step = Forward(
                z=block(buffers.z, at, n, 0, width),
                hu=block(buffers.hu, 0, n, 0, width),
                previous=slab(states, n_states, old, n, n_units),
                states=slab(states, n_states, new, n, n_units),
                saved=block(saved, schedule.starts[s] + r0, n, 0, saved.shape[1]),
                operand=block(buffers.operand, 0, n, 0, n_units),
                extra=extra,
                scratch=buffers.scratch,
                save=settings["save"],
                first=None,
                n_units=None,
                weights=product_weights(cell, weights, settings),
            )
            for phase in range(2 if late else 1):
                if recurrent:
                    for g in range(groups - late if phase else 0, groups if phase else groups - late):
                        size, lo = settings["recurrent_size"], g * group_width
                        kernel = segment(weights, settings["recurrent_kernel"] + g * size, size)
                        if phase:
                            operand = block(buffers.operand, 0, n, 0, n_units)
                        else:
                            operand = planes(states, 0, old, n, n_units)
                        if settings["recurrent_masks"]:
                            masked = block(buffers.masked, 0, n, 0, n_units)
                            mask_rows(batch, g, r0, operand, masked)
                            operand = masked
                        if split:
                            target = block(buffers.hu, 0, n, lo, group_width)
                            start = block(recurrent_bias, 0, 1, lo, group_width)
                        else:
                            target = block(buffers.z, at, n, lo, group_width)
                            start = target
                        product_forward(cell, team, slices, operand, kernel, group_width, target, start)
                split_forward(team, slices, cell, phase, step)
            if out.shape[0] > 0:
                for r in range(n):
                    target = part(out, output_row(batch, r0 + r, s), 0, n_units)
                    copy(plane(states, 0, new + r, n_units), target)
            at += n

    if schedule.dense:
        last = own + (n_steps & 1) * rows if ring else state_rows(batch, n_steps)[0] + r0
        for state in range(n_states):
            target = plane_rows(args.final, state, r0, rows, n_units)
            move(plane_rows(states, state, last, rows, n_units), target)
    for r in range(0 if schedule.dense else rows):
        n = steps_of(schedule, r0 + r)
        last = own + (n & 1) * rows if ring else state_rows(batch, n)[0] + r0
        for state in range(n_states):
            target = plane(args.final, state, schedule.order[r0 + r], n_units)
            move(plane(states, state, last + r, n_units), target)
        if out.shape[0] > 0 and n < n_steps:
            hide_outputs(batch, out, r0 + r, n)
    restore_denormals(before)


@jit(inner=True, few_passes=True)
def _forward_blocks(arguments, at, k):
    args = ForwardArguments(*fetch(arguments, at))
    for i in range(args.firsts[k], args.firsts[k + 1]):
        forward_rows(arguments, at, k, i)


#: Computes all blocks of thread k, for `handover` and `call_list`. Its arguments are `ForwardArguments`.
forward_piece = address(_forward_blocks)


@jit(entry=True, few_passes=True)
def forward_pass(state, *values):
    """Run the blocks of all threads on the team that shares `state`; `values` are `ForwardArguments` without the team."""
    args = (None, *values)
    share(state, forward_piece(args), spill(args), ForwardArguments(None, *values).firsts.shape[0] - 1)


@jit(entry=True, few_passes=True)
def split_forward_pass(state, *values):
    """Run a single thread's blocks, each step split over the team that shares `state`."""
    args = (state, *values)
    share(state[:0], forward_piece(args), spill(args), 1)

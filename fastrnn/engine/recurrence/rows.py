"""Copying rows from the batch to packed order and back: inputs, dropout masks, outputs, and their gradients.

See `schedule` for the order. Functions that only masked batches, dropout or gradients of inputs need are compiled on demand.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.recurrence.schedule import Schedule
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import PLAIN, inlined, jit
from fastrnn.engine.runtime.linking import Slots, address, fetch, linked, slots_of, spill
from fastrnn.engine.runtime.views import add, clear_row, copy, part, plane, segment

__all__ = [
    "Batch",
    "Span",
    "active_rows",
    "add_output_gradients",
    "add_rows",
    "clear",
    "gather_inputs",
    "hide_outputs",
    "inputs_in_order",
    "is_whole",
    "mask_rows",
    "move",
    "needed_backward",
    "needed_forward",
    "output_row",
    "scatter_input_gradients",
    "state_rows",
    "steps_of",
    "sum_piece",
    "sum_rows",
]


class Batch(NamedTuple):
    """The sequences of a pass: the record of `plans.SETTINGS`, their order, the inputs, and the dropout masks."""

    settings: Any
    schedule: Schedule
    x: np.ndarray
    masks: np.ndarray


class Span(NamedTuple):
    """The steps ``s0 ... s1`` of the sorted rows ``r0 ... r1``."""

    s0: int
    s1: int
    r0: int
    r1: int


@inlined
def active_rows(schedule, s, r0, r1):
    """Number of the sorted rows ``r0 ... r1`` that have a step `s`."""
    n = schedule.active[s]
    if n >= r1:
        return r1 - r0
    return n - r0 if n > r0 else 0


@inlined
def state_rows(batch, s):
    """First rows of the states before step `s` and after it, in the saved states.

    The saved states are the initial states, then the states after each step.
    """
    starts, n_batch = batch.schedule.starts, batch.settings["n_batch"]
    return 0 if s == 0 else n_batch + starts[s - 1], n_batch + starts[s]


@inlined
def steps_of(schedule, r):
    """Number of steps of sorted row `r`."""
    low, high = 0, schedule.active.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if schedule.active[middle] > r:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def output_row(batch, r, s):
    """Row of the output array for step `s` of sorted row `r`."""
    settings, schedule = batch.settings, batch.schedule
    first = settings["out_first"] + schedule.order[r] * settings["out_row"]
    return first + schedule.times[r, s] * settings["out_step"]


@linked
@jit(inner=True)
def move(source, target):
    """Copy an array; not inlined, because compiling it into each caller would take as long as compiling a product."""
    copy(source, target)


@linked
@jit(inner=True)
def clear(target):
    """Set an array to zero; not inlined, for the same reason."""
    clear_row(target)


@inlined
def _gather_row(batch, group, b, t, target):
    """The input of sequence `b` at time `t`, times the dropout mask."""
    settings, n_inputs = batch.settings, target.shape[0]
    if settings["reverse"]:
        t = settings["n_steps"] - 1 - t
    source = part(batch.x, b * settings["x_row"] + t * settings["x_step"], 0, n_inputs)
    if settings["input_masks"] > 0:
        mask = segment(batch.masks, (group * settings["n_batch"] + b) * n_inputs, n_inputs)
        for i in range(n_inputs):
            target[i] = source[i] * mask[i]
    else:
        copy(source, target)


@linked
@jit(inner=True)
def gather_inputs(batch, group, span, out):
    """Copy the inputs of a span to `out`, step by step, times the dropout mask of a group; return the number of rows."""
    settings, schedule = batch.settings, batch.schedule
    s0, s1, r0, r1 = span
    n_inputs, rows = settings["n_inputs"], r1 - r0
    # Row by row, in the order of memory, for steps that all rows have; the other steps are copied step by step.
    full = s0
    while full < s1 and active_rows(schedule, full, r0, r1) == rows:
        full += 1
    for r in range(rows):
        b = schedule.order[r0 + r]
        for s in range(s0, full):
            _gather_row(
                batch, group, b, schedule.times[r0 + r, s], part(out, (s - s0) * rows + r, 0, n_inputs)
            )
    at = (full - s0) * rows
    for s in range(full, s1):
        at += active_rows(schedule, s, r0, r1)
    if full < s1:
        _gather_ragged(batch, group, Span(full, s1, r0, r1), out, (full - s0) * rows)
    return at


@linked(on_demand=True)
@jit(inner=True)
def _gather_ragged(batch, group, span, out, at):
    """As `gather_inputs`, for steps that not all rows have, to the rows of `out` from `at` on."""
    schedule, n_inputs = batch.schedule, batch.settings["n_inputs"]
    for s in range(span.s0, span.s1):
        n = active_rows(schedule, s, span.r0, span.r1)
        for r in range(span.r0, span.r0 + n):
            target = part(out, at + r - span.r0, 0, n_inputs)
            _gather_row(batch, group, schedule.order[r], schedule.times[r, s], target)
        at += n


@inlined
def is_whole(batch, span):
    """Whether a span has all sequences of a dense batch: what is in time-major order is then one row after the other."""
    return batch.schedule.dense and span.r1 - span.r0 == batch.settings["n_batch"]


@inlined
def inputs_in_order(batch, span):
    """Whether the inputs of a span lie one after the other, step after step, as they are multiplied."""
    settings = batch.settings
    as_given = settings["input_masks"] == 0 and not settings["reverse"]
    return as_given and (settings["n_batch"] == 1 or settings["x_row"] == 1) and is_whole(batch, span)


@linked(on_demand=True)
@jit(inner=True)
def mask_rows(batch, group, r0, rows, out):
    """``out = rows * mask`` with the recurrent dropout mask of a group, for sorted rows from `r0` on."""
    settings, n_units = batch.settings, batch.settings["n_units"]
    first = settings["input_masks"] * settings["n_batch"] * settings["n_inputs"]
    for r in range(rows.shape[0]):
        b = batch.schedule.order[r0 + r]
        mask = segment(batch.masks, first + (group * settings["n_batch"] + b) * n_units, n_units)
        source, target = part(rows, r, 0, n_units), part(out, r, 0, n_units)
        for j in range(n_units):
            target[j] = source[j] * mask[j]


@linked(on_demand=True)
@jit(inner=True)
def hide_outputs(batch, out, r, n):
    """Write the outputs of the masked steps of sorted row `r` with `n` valid steps: the previous output, or zeros.

    Outputs before the first valid step are zeros.
    """
    settings, times = batch.settings, batch.schedule.times
    n_steps, n_units, step = settings["n_steps"], settings["n_units"], settings["out_step"]
    row = settings["out_first"] + batch.schedule.order[r] * settings["out_row"]
    t = 0
    for s in range(n + 1):
        valid = times[r, s] if s < n else n_steps
        if s > 0 and settings["repeat"]:
            source = part(out, row + (t - 1) * step, 0, n_units)
            for hidden in range(t, valid):
                copy(source, part(out, row + hidden * step, 0, n_units))
        else:
            for hidden in range(t, valid):
                clear_row(part(out, row + hidden * step, 0, n_units))
        t = valid + 1


@linked(on_demand=True)
@jit(inner=True)
def add_rows(rows, target, overwrite):
    """``target += rows``, or ``target = rows``."""
    for r in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            target[r, j] = rows[r, j] + (0 if overwrite else target[r, j])


@linked(on_demand=True)
@jit(inner=True)
def add_output_gradients(batch, d_out, s, r0, ds):
    """Add to ``ds[0]`` the gradients of the outputs of step `s` of sorted rows, and of masked steps that repeat them.

    A dense batch has no masked steps, whose outputs repeat others: `backward` adds its gradients itself.
    """
    settings, schedule = batch.settings, batch.schedule
    n_steps, n_units, step = settings["n_steps"], settings["n_units"], settings["out_step"]
    for r in range(r0, r0 + ds.shape[1]):
        row = schedule.order[r] * settings["out_row"]
        t = schedule.times[r, s]
        end = t + 1
        if settings["repeat"]:
            last = s + 1 == n_steps or schedule.active[s + 1] <= r
            end = n_steps if last else schedule.times[r, s + 1]
        target = plane(ds, 0, r - r0, n_units)
        for i in range(t, end):
            add(part(d_out, row + i * step, 0, n_units), target)


@linked(on_demand=True)
@jit(inner=True)
def scatter_input_gradients(batch, group, s, r0, rows, dx):
    """Add the gradients of the inputs at step `s` to `dx`; those of the first group of gates overwrite it."""
    settings, schedule, n_inputs = batch.settings, batch.schedule, batch.settings["n_inputs"]
    for r in range(r0, r0 + rows.shape[0]):
        b, t = schedule.order[r], schedule.times[r, s]
        if settings["reverse"]:
            t = settings["n_steps"] - 1 - t
        source = part(rows, r - r0, 0, n_inputs)
        target = part(dx, b * settings["dx_row"] + t * settings["dx_step"], 0, n_inputs)
        if settings["input_masks"] > 0:
            mask = segment(batch.masks, (group * settings["n_batch"] + b) * n_inputs, n_inputs)
            for i in range(n_inputs):
                source[i] *= mask[i]
        if group == 0:
            copy(source, target)
        else:
            for i in range(n_inputs):
                target[i] += source[i]


@jit(inner=True)
def _sum_columns(arguments, at, k):
    """Sum slice `k` of the columns of all rows into the first row."""
    rows, n_slices = fetch(arguments, at)
    n_columns = rows.shape[1]
    first, end = k * n_columns // n_slices, (k + 1) * n_columns // n_slices
    for other in range(1, rows.shape[0]):
        add(part(rows, other, first, end - first), part(rows, 0, first, end - first))


#: Sums a slice of the columns of all rows into the first row; arguments the rows, and the number of slices.
sum_piece = address(_sum_columns)


def _sum_rows(state, rows):
    """Sum all rows into the first one, with the team that shares `state`, or without one if it is empty."""
    sums = (rows, 1 if state.shape[0] == 0 else rows.shape[0])
    share(state, sum_piece(sums), spill(sums), sums[1])


sum_rows = _sum_rows if PLAIN else linked(jit(inner=True)(_sum_rows), on_demand=True)


@functools.cache
def needed_forward(dense: bool, sequences: bool, recurrent_masks: bool) -> tuple[Slots, ...]:
    """What is compiled on demand, and needed by a pass forward with these options (see `runtime.launch`)."""
    functions = []
    if not dense:
        functions += [_gather_ragged, hide_outputs] if sequences else [_gather_ragged]
    if recurrent_masks:
        functions.append(mask_rows)
    return slots_of(*functions)


@functools.cache
def needed_backward(
    dense: bool, d_out: bool, need_dx: bool, recurrent_masks: bool, several: bool
) -> tuple[Slots, ...]:
    """As `needed_forward` for a backward pass.

    With a gradient of all outputs (`d_out`), of the inputs (`need_dx`), and `several` threads with gradients of their own.
    """
    functions = [] if dense else [_gather_ragged]
    functions += [add_output_gradients] if d_out and not dense else []
    functions += [scatter_input_gradients] if need_dx else []
    functions += [mask_rows, add_rows] if recurrent_masks else []
    functions += [sum_rows] if several else []
    return slots_of(*functions)

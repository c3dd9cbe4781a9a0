"""The time loop forward where each thread computes some of the units in all time steps.

This is for networks with many units and few sequences, as `split_step`, and for cells that can compute some of their units.
Each slice has the input products, recurrent products, functions and outputs of its units, so its thread reads the same part
of the weights in every step. The states before and after a step are different memory, so no thread writes what another
reads, and the threads wait for one another once in each step (see `turns`).
"""

from __future__ import annotations

from fastrnn.engine.kernels.matmul import product
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS, VECTORS, WIDE_PANELS
from fastrnn.engine.recurrence.contract import Forward, step_forward
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.recurrence.rows import (
    Batch,
    Span,
    active_rows,
    gather_inputs,
    hide_outputs,
    inputs_in_order,
    output_row,
    state_rows,
    steps_of,
)
from fastrnn.engine.recurrence.schedule import unpacked
from fastrnn.engine.recurrence.split_step import column_range
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.turns import arrive, begun, finish, leave, next_turn, turn_bytes, turn_words
from fastrnn.engine.runtime.views import (
    block,
    clear_row,
    copy,
    matrix,
    part,
    plane,
    planes,
    segment,
    slab_columns,
    smaller,
)

__all__ = ["GROUP_VECTORS", "units_forward_pass", "units_piece"]

#: Vectors of a group of columns. The groups are multiplied in turn.
GROUP_VECTORS = VECTORS * max(WIDE_PANELS)


@inlined
def _input_columns(settings, weights, g, first, inputs, z):
    """``z = b + x @ W`` for all columns of `z`, which are those of gate `g` from unit `first` on."""
    size, n_inputs, width = settings["kernel_size"], settings["n_inputs"], z.shape[1]
    kernel = segment(weights, settings["kernel"] + g * size + first * n_inputs, size - first * n_inputs)
    bias = matrix(weights, settings["bias"] + g * settings["n_units"] + first, 1, width)
    product(inputs, kernel, width, z, block(bias, 0, 1, 0, width))


@inlined
def _recurrent_columns(settings, weights, g, first, n, h, step):
    """``z += h @ U``, or ``hu = b + h @ U``, for `n` columns of gate `g` from unit `first` on."""
    size, n_units = settings["recurrent_size"], settings["n_units"]
    kernel = segment(
        weights, settings["recurrent_kernel"] + g * size + first * n_units, size - first * n_units
    )
    column, n_rows = g * n_units + first, step.z.shape[0]
    target = start = block(step.z, 0, n_rows, column, n)
    if settings["split"]:
        target = block(step.hu, 0, n_rows, column, n)
        start = block(matrix(weights, settings["recurrent_bias"] + column, 1, n), 0, 1, 0, n)
    product(h, kernel, n, target, start)


@inlined
def _recurrent_products(settings, weights, first, end, h, step, backwards):
    """The recurrent products of the units ``first ... end``.

    If weights do not fit the cache, what was read last is still there in the next step, so that one reads them `backwards`.
    """
    width = GROUP_VECTORS * (VECTOR_BITS // (8 * step.z.itemsize))
    n_groups = (end - first + width - 1) // width
    total = settings["n_gates"] * n_groups
    for i in range(total):
        at = total - 1 - i if backwards else i
        left = first + at % n_groups * width
        _recurrent_columns(settings, weights, at // n_groups, left, smaller(width, end - left), h, step)


@jit(inner=True)
def _forward_units(arguments, at, k):
    """Compute the units of slice `k` in all time steps, and those of slices without a thread."""
    before = flush_denormals()
    args = ForwardArguments(*fetch(arguments, at))
    cell, settings, states, out = args.cell, args.settings[0], args.states, args.out
    n_steps, n_units, n_gates = settings["n_steps"], settings["n_units"], settings["n_gates"]
    n_states, n_slices, chunk = settings["n_states"], settings["n_slices"], settings["chunk"]
    width, ring = n_gates * n_units, settings["ring"]
    schedule = unpacked(args.schedule, settings["n_batch"], n_steps)
    batch = Batch(settings, schedule, args.x, args.masks)
    weights = part(args.packed, 0, 0, args.packed.shape[1])
    extra = segment(weights, settings["extra"], settings["n_extra"] * n_units)
    work = part(args.work, 0, 0, args.work.shape[1])
    words = turn_words(segment(work, settings["at_turns"], turn_bytes(n_slices) // work.itemsize))
    # The stages of a block: the states before the first step, the steps, and the final states.
    stages, depth = n_steps + 2, n_gates + 4
    n_stages = stages * (args.borders.shape[0] - 1)
    arrive(words, k)
    stage = begun(words, k)
    while stage < n_stages and not settings["stop"]:
        slice = next_turn(words, k, stage, n_slices)
        if slice < 0:
            stage = begun(words, k)
            continue
        now = stage if slice == k else stage - 1
        i, s = now // stages, now % stages - 1
        r0, r1 = args.borders[i], args.borders[i + 1]
        rows = r1 - r0
        first, end = column_range(n_units, slice, n_slices, work.itemsize)
        n = end - first
        if s < 0:
            for state in range(n_states):
                for r in range(rows):
                    source = segment(plane(args.state0, state, schedule.order[r0 + r], n_units), first, n)
                    copy(source, segment(plane(states, state, (0 if ring else r0) + r, n_units), first, n))
        elif s == n_steps:
            for r in range(rows):
                valid = steps_of(schedule, r0 + r)
                last = (valid & 1) * settings["rows"] if ring else state_rows(batch, valid)[0] + r0
                for state in range(n_states):
                    target = segment(plane(args.final, state, schedule.order[r0 + r], n_units), first, n)
                    copy(segment(plane(states, state, last + r, n_units), first, n), target)
                if slice == 0 and out.shape[0] > 0 and valid < n_steps:
                    hide_outputs(batch, out, r0 + r, valid)
        elif active_rows(schedule, s, r0, r1) > 0:
            s0, n_rows, row = s // chunk * chunk, active_rows(schedule, s, r0, r1), 0
            for earlier in range(s0, s):
                row += active_rows(schedule, earlier, r0, r1)
            z = matrix(work, settings["at_z"], chunk * rows, width)
            hu = matrix(work, settings["at_hu"], rows, width)
            old, new = state_rows(batch, s)
            if ring:
                old, new = (s & 1) * settings["rows"], (1 - (s & 1)) * settings["rows"]
            else:
                old, new = old + r0, new + r0
            step = Forward(
                z=block(z, row, n_rows, 0, width),
                hu=block(hu, 0, n_rows, 0, width),
                previous=slab_columns(states, n_states, old, n_rows, first, n),
                states=slab_columns(states, n_states, new, n_rows, first, n),
                saved=block(args.saved, schedule.starts[s] + r0, n_rows, 0, args.saved.shape[1]),
                operand=block(hu, 0, 0, 0, n),
                extra=extra,
                scratch=matrix(work, settings["at_scratch"] + slice * depth * n_units, depth, n),
                save=settings["save"],
                first=first,
                n_units=n,
            )
            if s == s0:
                span = Span(s0, smaller(n_steps, s0 + chunk), r0, r1)
                # Copied for each slice, because another thread's copy is not in the cache.
                most = chunk * settings["rows"]
                at_x = settings["at_x"] + slice * most * settings["n_inputs"]
                inputs = matrix(work, at_x, most, settings["n_inputs"])
                if inputs_in_order(batch, span):
                    n_given = (span.s1 - span.s0) * rows
                    inputs = block(batch.x, s0 * settings["x_step"], n_given, 0, settings["n_inputs"])
                else:
                    n_given = gather_inputs(batch, 0, span, inputs)
                    inputs = block(inputs, 0, n_given, 0, settings["n_inputs"])
                for g in range(n_gates):
                    columns = block(z, 0, inputs.shape[0], g * n_units + first, n)
                    _input_columns(settings, weights, g, first, inputs, columns)
            h = planes(states, 0, old, n_rows, n_units)
            _recurrent_products(settings, weights, first, end, h, step, s & 1)
            step_forward(cell, 0, step)
            if out.shape[0] > 0:
                for r in range(n_rows):
                    target = part(out, output_row(batch, r0 + r, s), first, n)
                    copy(segment(plane(states, 0, new + r, n_units), first, n), target)
        finish(words, slice, now)
        if slice == k:
            stage += 1
    leave(words, n_slices)
    restore_denormals(before)


#: Computes slice k of the units, for `handover` and `call_list`. Its arguments are `ForwardArguments`.
units_piece = address(_forward_units)


@jit(entry=True, few_passes=True)
def units_forward_pass(state, *values):
    """Compute all units with the team that shares `state`; `values` are `ForwardArguments` without the team."""
    args, named = (None, *values), ForwardArguments(None, *values)
    settings = named.settings[0]
    size = turn_bytes(settings["n_slices"]) // named.work.itemsize
    clear_row(part(named.work, 0, settings["at_turns"], size))
    share(state, units_piece(args), spill(args), settings["n_slices"])

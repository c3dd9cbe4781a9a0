"""The time loop backward of small layers, with sequences as lanes of vectors: the gradients of `lane_forward`.

The gradients of the weights are sums over steps and lanes, which are added in registers for a chunk of steps (`dot_lanes`).
Lanes without a sequence have gradients of zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastrnn.engine.kernels.lane_product import Factor, dot_lanes, from_lanes, lane_product, to_lanes
from fastrnn.engine.kernels.micro_kernel import Strided, lanes_of
from fastrnn.engine.recurrence.backward import BackwardArguments
from fastrnn.engine.recurrence.contract import Backward, step_backward
from fastrnn.engine.recurrence.lane_forward import sequences_of, sequences_of_state, spread, take_inputs
from fastrnn.engine.recurrence.rows import clear, sum_rows
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, linked, spill
from fastrnn.engine.runtime.views import (
    add,
    block,
    cube,
    data_address,
    matrix,
    part,
    plane,
    segment,
    slab,
    smaller,
)
from fastrnn.engine.tuning import MIN_SHARED_SUM

__all__ = ["lane_backward_pass", "lane_backward_piece"]


class _Chunk(NamedTuple):
    """Addresses of what the weight gradients of a chunk of steps are made of, as rows of lanes of all its steps.

    Attributes
    ----------
    inputs : Strided
        With bytes from step to step in place of those from column to column, as for all.
    dz, du : Strided
        Gradients of the input columns and of the recurrent columns.
    h, operand : Strided
        Left operands of the recurrent products: the states before the steps, and what the cell has saved for late products.
    """

    inputs: Any
    dz: Any
    du: Any
    h: Any
    operand: Any


@inlined
def _take_output_gradients(args, settings, r0, n, s0, s1, target, row):
    """The gradients of the outputs of a chunk of steps as lanes, in processing order, at the address `target`."""
    zero, n_units = args.packed.dtype.type(0), settings["n_units"]
    first = r0 * settings["out_row"] + s0 * settings["out_step"]
    if settings["out_step"] == 1:
        columns = (s1 - s0) * n_units
        to_lanes(zero, sequences_of(args.d_out, first, settings["out_row"]), n, columns, target, row, 0)
    else:
        for s in range(s1 - s0):
            source = sequences_of(args.d_out, first + s * settings["out_step"], settings["out_row"])
            to_lanes(zero, source, n, n_units, target + s * n_units * row, row, 0)


@inlined
def _give_input_gradients(args, settings, r0, n, s0, s1, source, row):
    """The gradients of the inputs of a chunk of steps, which are lanes in order of time at the address `source`."""
    zero, n_inputs = args.packed.dtype.type(0), settings["n_inputs"]
    t0 = settings["n_steps"] - s1 if settings["reverse"] else s0
    first = r0 * settings["dx_row"] + t0 * settings["dx_step"]
    if settings["dx_step"] == 1:
        columns = (s1 - s0) * n_inputs
        from_lanes(zero, source, row, columns, sequences_of(args.dx, first, settings["dx_row"]), n)
    else:
        for t in range(s1 - s0):
            target = sequences_of(args.dx, first + t * settings["dx_step"], settings["dx_row"])
            from_lanes(zero, source + t * n_inputs * row, row, n_inputs, target, n)


@inlined
def _add_weight_gradients(grads, settings, chunk, n_steps, row, begun):
    """Add the terms of a chunk of steps to the gradients of both kernels; if not `begun`, they are overwritten."""
    zero, size, n_units = grads.dtype.type(0), grads.itemsize, settings["n_units"]
    width, n_vectors = settings["n_gates"] * n_units, row // (lanes_of(zero) * size)
    at = data_address(grads)
    dot_lanes(
        zero,
        chunk.inputs,
        settings["n_inputs"],
        chunk.dz,
        width,
        Strided(at + settings["d_kernel"] * size, width * size, size),
        n_steps,
        n_vectors,
        begun,
    )
    groups = settings["groups"]
    group_width = width // groups
    for g in range(groups):
        late = g >= groups - settings["late"]
        dot_lanes(
            zero,
            chunk.operand if late else chunk.h,
            n_units,
            Strided(chunk.du.at + g * group_width * row, chunk.du.row, chunk.du.column),
            group_width,
            Strided(at + (settings["d_recurrent"] + g * group_width) * size, width * size, size),
            n_steps,
            n_vectors,
            begun,
        )


@inlined
def _sum_lanes(sums, target):
    """Add the lanes of each row of `sums` to a number of `target`."""
    n_lanes = sums.shape[0] // target.shape[0]
    for i in range(target.shape[0]):
        total = sums.dtype.type(0)
        for j in range(n_lanes):
            total += sums[i * n_lanes + j]
        target[i] += total


@linked
@jit(inner=True)
def _backward_lanes(arguments, at, k, i):
    """The backward pass through all time steps of the sequences of block `i`.

    The first block of a thread writes its gradients to ``args.grads[k]``, the others add to them.
    """
    before = flush_denormals()
    args = BackwardArguments(*fetch(arguments, at))
    cell, settings = args.cell, args.settings[0]
    states, zero = args.states, args.packed.dtype.type(0)
    n_steps, n_units, n_gates = settings["n_steps"], settings["n_units"], settings["n_gates"]
    n_states, n_inputs, groups, late = (
        settings["n_states"],
        settings["n_inputs"],
        settings["groups"],
        settings["late"],
    )
    r0, n_lanes, chunk = args.borders[i], settings["rows"], settings["chunk"]
    n, width, size = args.borders[i + 1] - r0, n_gates * n_units, args.packed.itemsize
    long, row, split = n_units * n_lanes, n_lanes * size, settings["split"]
    wide = width * n_lanes
    weights = part(args.packed, smaller(k, args.packed.shape[0] - 1), 0, args.packed.shape[1])
    grads = part(args.grads, k, 0, args.grads.shape[1])
    work = part(args.work, k, 0, args.work.shape[1])
    inputs = data_address(segment(work, settings["at_x"], 0))
    dz_rows = matrix(work, settings["at_z"], chunk, wide)
    du_rows = matrix(work, settings["at_hu"] if split else settings["at_z"], chunk, wide)
    d_outputs = matrix(work, settings["at_h"], chunk, long)
    ds = cube(work, settings["at_ds"], n_states, 1, long)
    d_operand = matrix(work, settings["at_operand"], 1, long)
    scratch = matrix(work, settings["at_scratch"], n_gates + 4, long)
    # Sums over all steps of each lane; those of `extra`, and `extra` itself.
    d_bias = segment(work, settings["at_spread"], wide)
    d_recurrent_bias = segment(work, settings["at_spread"] + wide * split, wide)
    further = settings["n_extra"] * long
    d_extra = segment(work, settings["at_spread"] + (1 + split) * wide, further)
    extra = segment(work, settings["at_spread"] + (1 + split) * wide + further, further)
    clear(segment(work, settings["at_spread"], (1 + split) * wide + further))
    if further > 0:
        spread(segment(weights, settings["extra"], settings["n_extra"] * n_units), extra)
    group_width, nothing = width // groups, Factor(0, 0, 0)
    begun = i > args.firsts[k]
    if not begun:
        clear(segment(grads, settings["d_bias"], grads.shape[0] - settings["d_bias"]))
    own = (n_steps + 1) * i
    for state in range(n_states):
        source = sequences_of_state(args.d_final, state, r0)
        to_lanes(zero, source, n, n_units, data_address(ds) + state * ds.strides[0], row, 0)

    for s0 in range((n_steps - 1) // chunk * chunk, -1, -chunk):
        if settings["stop"]:
            break
        s1 = smaller(n_steps, s0 + chunk)
        take_inputs(args, settings, r0, n, s0, s1, inputs, row)
        if args.d_out.shape[0] > 0:
            _take_output_gradients(args, settings, r0, n, s0, s1, data_address(d_outputs), row)
        for s in range(s1 - 1, s0 - 1, -1):
            if args.d_out.shape[0] > 0:
                add(part(d_outputs, s - s0, 0, long), plane(ds, 0, 0, long))
            # In order of time, as the inputs are.
            t = s1 - 1 - s if settings["reverse"] else s - s0
            old = own + s
            step = Backward(
                ds=ds,
                previous=slab(states, n_states, old, 1, long),
                states=slab(states, n_states, old + 1, 1, long),
                saved=block(args.saved, i * n_steps + s, 1, 0, args.saved.shape[1]),
                dz=block(dz_rows, t, 1, 0, wide),
                du=block(du_rows, t, 1, 0, wide),
                d_operand=d_operand,
                extra=extra,
                d_extra=d_extra,
                scratch=scratch,
                first=None,
                n_units=None,
            )
            du = data_address(du_rows) + t * du_rows.strides[0]
            for phase in range(1 if late else 0, -1, -1):
                step_backward(cell, phase, step)
                for g in range(groups - late if phase else 0, groups if phase else groups - late):
                    kernel = settings["recurrent_kernel"] + g * settings["recurrent_size"]
                    target = data_address(d_operand) if phase else data_address(ds)
                    lane_product(
                        zero,
                        Factor(
                            data_address(weights) + kernel * size, du + g * group_width * row, group_width
                        ),
                        nothing,
                        n_units,
                        target,
                        0 if phase and g == groups - late else target,
                        row,
                        size,
                    )
            add(part(dz_rows, t, 0, wide), d_bias)
            if split:
                add(part(du_rows, t, 0, wide), d_recurrent_bias)
        # In the order of `dz_rows`.
        start, direction = (s1 - 1, -1) if settings["reverse"] else (s0, 1)
        terms = _Chunk(
            Strided(inputs, row, n_inputs * row),
            Strided(data_address(dz_rows), row, wide * size),
            Strided(data_address(du_rows), row, wide * size),
            Strided(
                data_address(states) + (own + start) * states.strides[1], row, direction * states.strides[1]
            ),
            Strided(
                data_address(args.saved)
                + (i * n_steps + start) * args.saved.strides[0]
                + settings["operand"] * long * size,
                row,
                direction * args.saved.strides[0],
            ),
        )
        _add_weight_gradients(grads, settings, terms, s1 - s0, row, begun)
        begun = True
        if settings["need_dx"]:
            for t in range(s1 - s0):
                lane_product(
                    zero,
                    Factor(
                        data_address(weights) + settings["kernel"] * size,
                        data_address(dz_rows) + t * dz_rows.strides[0],
                        width,
                    ),
                    nothing,
                    n_inputs,
                    inputs + t * n_inputs * row,
                    0,
                    row,
                    size,
                )
            _give_input_gradients(args, settings, r0, n, s0, s1, inputs, row)
    _sum_lanes(d_bias, segment(grads, settings["d_bias"], width))
    if split:
        _sum_lanes(d_recurrent_bias, segment(grads, settings["d_recurrent_bias"], width))
    if further > 0:
        _sum_lanes(d_extra, segment(grads, settings["d_extra"], settings["n_extra"] * n_units))
    for state in range(n_states):
        end = sequences_of_state(args.d_state0, state, r0)
        from_lanes(zero, data_address(ds) + state * ds.strides[0], row, n_units, end, n)
    restore_denormals(before)


@jit(inner=True, few_passes=True)
def _backward_blocks(arguments, at, k):
    args = BackwardArguments(*fetch(arguments, at))
    for i in range(args.firsts[k], args.firsts[k + 1]):
        _backward_lanes(arguments, at, k, i)


lane_backward_piece = address(_backward_blocks)


@jit(entry=True, few_passes=True)
def lane_backward_pass(state, *values):
    """Run the blocks of all threads on the team that shares `state`, then sum their gradients.

    `values` are `BackwardArguments` without the team.
    """
    args, named = (None, *values), BackwardArguments(None, *values)
    n_threads = named.firsts.shape[0] - 1
    share(state, lane_backward_piece(args), spill(args), n_threads)
    if n_threads > 1:
        sum_rows(state if named.grads.shape[1] >= MIN_SHARED_SUM else state[:0], named.grads)

"""The forward time loop of small layers, with sequences as lanes of vectors (see `kernels.lane_product`).

A block of sequences runs through all time steps on one thread. Its states are matrices of ``n_units`` rows and as many
columns as the block has lanes, so the body of a cell, which knows rows of units, computes a single row of
``n_units * n_lanes`` "units". The inputs of a chunk of steps are transposed before its steps, its outputs after them.

Only dense batches without dropout masks are computed in this way (see `lane_plans`).
"""

from __future__ import annotations

from fastrnn.engine.kernels.lane_product import Factor, from_lanes, lane_product, to_lanes
from fastrnn.engine.kernels.micro_kernel import Strided
from fastrnn.engine.recurrence.contract import Forward, step_forward
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, linked, spill
from fastrnn.engine.runtime.views import block, data_address, fill, matrix, part, segment, slab, smaller

__all__ = [
    "lane_forward_pass",
    "lane_forward_piece",
    "sequences_of",
    "sequences_of_state",
    "spread",
    "take_inputs",
]


@inlined
def spread(values, target):
    """Each number of `values`, for all lanes of a row of the 1-D `target`."""
    n_lanes = target.shape[0] // values.shape[0]
    for i in range(values.shape[0]):
        fill(segment(target, i * n_lanes, n_lanes), values[i])


@inlined
def sequences_of(rows, first, step):
    """Row `first` of `rows`, and every `step`-th row after it, as Strided; each may go on over the following rows."""
    return Strided(data_address(rows) + first * rows.strides[0], step * rows.strides[0], rows.itemsize)


@inlined
def sequences_of_state(states, state, first):
    """A state of the sequences from `first` on, of an array ``(n_states, n_batch, n_units)``, as Strided."""
    at = data_address(states) + state * states.strides[0] + first * states.strides[1]
    return Strided(at, states.strides[1], states.itemsize)


@inlined
def take_inputs(args, settings, r0, n, s0, s1, target, row):
    """The inputs of a chunk of steps as lanes, in order of time, at the address `target`."""
    zero, n_inputs = args.packed.dtype.type(0), settings["n_inputs"]
    t0 = settings["n_steps"] - s1 if settings["reverse"] else s0
    first = r0 * settings["x_row"] + t0 * settings["x_step"]
    if settings["x_step"] == 1:
        columns = (s1 - s0) * n_inputs
        to_lanes(zero, sequences_of(args.x, first, settings["x_row"]), n, columns, target, row, 1)
    else:
        for t in range(s1 - s0):
            source = sequences_of(args.x, first + t * settings["x_step"], settings["x_row"])
            to_lanes(zero, source, n, n_inputs, target + t * n_inputs * row, row, 1)


@inlined
def _give_outputs(args, settings, r0, n, s0, s1, source, row):
    """The outputs of a chunk of steps, which are lanes at the address `source`."""
    zero, n_units = args.packed.dtype.type(0), settings["n_units"]
    first = settings["out_first"] + r0 * settings["out_row"] + s0 * settings["out_step"]
    if settings["out_step"] == 1:
        columns = (s1 - s0) * n_units
        from_lanes(zero, source, row, columns, sequences_of(args.out, first, settings["out_row"]), n)
    else:
        for s in range(s1 - s0):
            target = sequences_of(args.out, first + s * settings["out_step"], settings["out_row"])
            from_lanes(zero, source + s * n_units * row, row, n_units, target, n)


@linked
@jit(inner=True)
def _forward_lanes(arguments, at, k, i):
    """Compute all time steps of the sequences of block `i`, with the memory of thread `k`."""
    before = flush_denormals()
    args = ForwardArguments(*fetch(arguments, at))
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
    long, row = n_units * n_lanes, n_lanes * size
    ring, split = settings["ring"], settings["split"]
    weights = part(args.packed, smaller(k, args.packed.shape[0] - 1), 0, args.packed.shape[1])
    work = part(args.work, k, 0, args.work.shape[1])
    inputs = data_address(segment(work, settings["at_x"], 0))
    z = matrix(work, settings["at_z"], 1, width * n_lanes)
    hu = matrix(work, settings["at_hu"], 1, width * n_lanes)
    operand = matrix(work, settings["at_operand"], 1, long)
    scratch = matrix(work, settings["at_scratch"], n_gates + 4, long)
    bias = segment(work, settings["at_spread"], width * n_lanes)
    recurrent_bias = segment(work, settings["at_spread"] + width * n_lanes, width * n_lanes)
    extra = segment(work, settings["at_spread"] + 2 * width * n_lanes, settings["n_extra"] * long)
    spread(segment(weights, settings["bias"], width), bias)
    if split:
        spread(segment(weights, settings["recurrent_bias"], width), recurrent_bias)
    if settings["n_extra"] > 0:
        spread(segment(weights, settings["extra"], settings["n_extra"] * n_units), extra)
    group_width, nothing = width // groups, Factor(0, 0, 0)
    kernel = data_address(weights) + settings["kernel"] * size
    recurrent_kernel = data_address(weights) + settings["recurrent_kernel"] * size
    # Both products are added in registers if they have the same columns.
    together = groups == 1 and not split
    target = data_address(hu if split else z)
    begin = data_address(recurrent_bias if split else bias)
    if not split and not together:
        begin = target
    # The first row of this block's states: those of a chunk, which are used again, or those of all steps.
    own = (chunk + 1) * k if ring else (n_steps + 1) * i
    for state in range(n_states):
        source = sequences_of_state(args.state0, state, r0)
        place = data_address(states) + state * states.strides[0] + own * states.strides[1]
        to_lanes(zero, source, n, n_units, place, row, 1)

    for s0 in range(0, n_steps, chunk):
        if settings["stop"]:
            break
        s1 = smaller(n_steps, s0 + chunk)
        first = own if ring else own + s0
        if ring and s0 > 0:
            for state in range(n_states):
                reached = slab(states, n_states, own + chunk, 1, long)
                again = slab(states, n_states, own, 1, long)
                for j in range(long):
                    again[state, 0, j] = reached[state, 0, j]
        take_inputs(args, settings, r0, n, s0, s1, inputs, row)
        for s in range(s0, s1):
            t = s1 - 1 - s if settings["reverse"] else s - s0
            old = first + s - s0
            step = Forward(
                z=z,
                hu=hu,
                previous=slab(states, n_states, old, 1, long),
                states=slab(states, n_states, old + 1, 1, long),
                saved=block(args.saved, i * n_steps + s, 1, 0, args.saved.shape[1]),
                operand=operand,
                extra=extra,
                scratch=scratch,
                save=settings["save"],
                first=None,
                n_units=None,
            )
            inputs_at = Factor(kernel, inputs + t * n_inputs * row, n_inputs)
            h = data_address(states) + old * states.strides[1]
            if not together:
                lane_product(zero, inputs_at, nothing, width, data_address(z), data_address(bias), row, size)
            for phase in range(2 if late else 1):
                for g in range(groups - late if phase else 0, groups if phase else groups - late):
                    lane_product(
                        zero,
                        inputs_at if together else nothing,
                        Factor(
                            recurrent_kernel + g * settings["recurrent_size"] * size,
                            data_address(operand) if phase else h,
                            n_units,
                        ),
                        group_width,
                        target + g * group_width * row,
                        begin + g * group_width * row,
                        row,
                        size,
                    )
                step_forward(cell, phase, step)
        if args.out.shape[0] > 0:
            outputs = data_address(states) + (first + 1) * states.strides[1]
            _give_outputs(args, settings, r0, n, s0, s1, outputs, row)

    last = own + (n_steps - (n_steps - 1) // chunk * chunk if ring else n_steps)
    for state in range(n_states):
        end = sequences_of_state(args.final, state, r0)
        place = data_address(states) + state * states.strides[0] + last * states.strides[1]
        from_lanes(zero, place, row, n_units, end, n)
    restore_denormals(before)


@jit(inner=True, few_passes=True)
def _forward_blocks(arguments, at, k):
    args = ForwardArguments(*fetch(arguments, at))
    for i in range(args.firsts[k], args.firsts[k + 1]):
        _forward_lanes(arguments, at, k, i)


#: Computes all blocks of thread k; its arguments are `ForwardArguments`.
lane_forward_piece = address(_forward_blocks)


@jit(entry=True, few_passes=True)
def lane_forward_pass(state, *values):
    """Run the blocks of all threads on the team that shares `state`; `values` are `ForwardArguments` without the team."""
    args = (None, *values)
    share(state, lane_forward_piece(args), spill(args), ForwardArguments(None, *values).firsts.shape[0] - 1)

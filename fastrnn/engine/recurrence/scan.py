"""All time loops: one body forward and one backward, for every cell, layout, mask and number of threads.

A batch is processed in *packed* order: row ``r`` of the sorted batch holds the row of the batch with the ``r``-th most
valid time steps, and step ``s`` of a row is its ``s``-th valid step, wherever it lies in time. A masked step changes
nothing but its output, so leaving it out is exact for any boolean mask, and the work is in proportion to the number of
valid steps. At step ``s`` the rows that still run are a prefix of the sorted rows. A dense batch is the case in which
every row runs to the end; a reversed one reads time from the other end. All of it is in the `schedule`.

Each thread owns a range of sorted rows for all time steps, so there is no barrier between steps; or all rows are one
thread's, and the team has shares of each step (see `shares`). Within it, the input product is made for a chunk of steps
at a time, as one product over ``steps * rows`` rows, then the steps of the chunk follow while its pre-activations are in
the cache. Going back, the same chunks in the opposite order yield ``dz``, from which each chunk adds its share of the
weight gradients as three large products.
"""

from __future__ import annotations

import functools

import numpy as np

from fastrnn.engine.recurrence.contract import Backward, Forward
from fastrnn.engine.recurrence.split_step import (
    shared_backward,
    shared_forward,
    shared_product,
    shared_product_tn,
)
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import Slots, address, fetch, on_demand, separate, slots_of, spill
from fastrnn.engine.runtime.views import (
    add,
    block,
    copy,
    cube,
    fill,
    matrix,
    part,
    plane,
    planes,
    segment,
    slab,
    spaced,
)
from fastrnn.engine.tuning import MIN_ROWS_IN_PLACE, MIN_SHARED_SUM

#: What one call of a kernel needs to know, as one record (one argument instead of thirty).
PLAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            "n_steps n_batch n_inputs n_units n_gates n_states n_saved n_extra split recurrent late operand "
            "input_masks input_groups groups x_step x_row out_step out_row out_first reverse repeat ring save chunk rows "
            "recurrent_masks dx_step dx_row need_dx w u b rb extra shares"
        ).split()
    ]
)

# --------------------------------------------------------------------------------------------------------------------
# Kernels. `schedule` is [starts (T + 1) | active (T + 1) | order (B) | n_times | times (1 or B, T)].


@inlined
def _active(schedule, n_steps, s, r0, r1):
    """How many of the sorted rows ``r0 ... r1`` run at step ``s``."""
    n = schedule[n_steps + 1 + s]
    if n >= r1:
        return r1 - r0
    return n - r0 if n > r0 else 0


@inlined
def _gather_row(plan, x, masks, group, b, t, out, at):
    """The input of sequence ``b`` at time ``t``, times the dropout mask."""
    n_inputs = plan["n_inputs"]
    if plan["reverse"]:
        t = plan["n_steps"] - 1 - t
    source, target = part(x, b * plan["x_row"] + t * plan["x_step"], 0, n_inputs), part(out, at, 0, n_inputs)
    if plan["input_masks"] > 0:
        mask = segment(masks, (group * plan["n_batch"] + b) * n_inputs, n_inputs)
        for i in range(n_inputs):
            target[i] = source[i] * mask[i]
    else:
        copy(source, target)


@separate
@jit(inner=True)
def _move(source, target):
    """A copy that is no part of those who call it: each would take the compiler as long as a product does."""
    copy(source, target)


@separate
@jit(inner=True)
def _clear(target):
    """Likewise, zeros."""
    fill(target, 0)


@separate
@jit(inner=True)
def _gather(plan, schedule, x, masks, group, s0, s1, r0, r1, out):
    """Rows of x for the steps ``s0 ... s1`` of the sorted rows ``r0 ... r1``, times the dropout mask; how many."""
    n_steps, n_batch = plan["n_steps"], plan["n_batch"]
    base = 2 * (n_steps + 1)
    times = base + n_batch + 1
    shared = schedule[base + n_batch] == 1
    rows = r1 - r0
    # Row by row, which reads memory in its order, as long as all rows run; the few steps after that step by step.
    full = s0
    while full < s1 and _active(schedule, n_steps, full, r0, r1) == rows:
        full += 1
    for r in range(rows):
        b = schedule[base + r0 + r]
        own = times if shared else times + (r0 + r) * n_steps
        for s in range(s0, full):
            _gather_row(plan, x, masks, group, b, schedule[own + s], out, (s - s0) * rows + r)
    at = (full - s0) * rows
    for s in range(full, s1):
        at += _active(schedule, n_steps, s, r0, r1)
    if full < s1:
        _gather_rest(plan, schedule, x, masks, group, full, s1, r0, r1, out, (full - s0) * rows)
    return at


@on_demand
@jit(inner=True)
def _gather_rest(plan, schedule, x, masks, group, s0, s1, r0, r1, out, at):
    """The rows of the steps ``s0 ... s1`` at which not all rows run."""
    n_steps, n_batch = plan["n_steps"], plan["n_batch"]
    base = 2 * (n_steps + 1)
    times = base + n_batch + 1
    shared = schedule[base + n_batch] == 1
    for s in range(s0, s1):
        n = _active(schedule, n_steps, s, r0, r1)
        for r in range(n):
            own = times if shared else times + (r0 + r) * n_steps
            _gather_row(plan, x, masks, group, schedule[base + r0 + r], schedule[own + s], out, at + r)
        at += n


@on_demand
@jit(inner=True)
def _masked_rows(rows, first, n, plan, schedule, masks, group, r0, out, at_out):
    """``out[at_out ...] = rows[first ...] * mask`` with the recurrent dropout mask of one group."""
    n_units, n_batch = plan["n_units"], plan["n_batch"]
    base = plan["input_masks"] * n_batch * plan["n_inputs"]
    order = 2 * (plan["n_steps"] + 1)
    for r in range(n):
        b = schedule[order + r0 + r]
        at = base + (group * n_batch + b) * n_units
        mask, source, target = (
            segment(masks, at, n_units),
            part(rows, first + r, 0, n_units),
            part(out, at_out + r, 0, n_units),
        )
        for j in range(n_units):
            target[j] = source[j] * mask[j]


@inlined
def _place(plan, schedule, s, r):
    """Row of the output array that holds step ``s`` of sorted row ``r``."""
    n_steps, n_batch = plan["n_steps"], plan["n_batch"]
    base = 2 * (n_steps + 1)
    shared = schedule[base + n_batch] == 1
    t = schedule[base + n_batch + 1 + (0 if shared else r * n_steps) + s]
    return plan["out_first"] + schedule[base + r] * plan["out_row"] + t * plan["out_step"]


@inlined
def _steps_of(schedule, n_steps, r):
    """Number of steps of sorted row ``r``."""
    low, high = 0, n_steps
    while low < high:
        middle = (low + high) // 2
        if schedule[n_steps + 1 + middle] > r:
            low = middle + 1
        else:
            high = middle
    return low


@separate
@jit(inner=True)
def forward_rows(
    team,
    cell,
    plans,
    schedule,
    x,
    state0,
    packs,
    masks,
    states,
    saved,
    out,
    final,
    works,
    borders,
    firsts,
    k,
    i,
):
    """All time steps of the sorted rows of block ``i``, ``r0 ... r1``, with the memory of thread ``k``."""
    before = flush_denormals()
    plan, work = plans[0], part(works, k, 0, works.shape[1])
    weights = part(packs, min(k, packs.shape[0] - 1), 0, packs.shape[1])
    r0, r1 = borders[i], borders[i + 1]
    slot = 2 * plan["rows"] * k  # where this thread's part of `states` begins, when that is a ring
    n_steps, n_units, n_inputs = plan["n_steps"], plan["n_units"], plan["n_inputs"]
    n_states, n_batch, save, ring = plan["n_states"], plan["n_batch"], plan["save"], plan["ring"]
    width = plan["n_gates"] * n_units
    rows, chunk = r1 - r0, plan["chunk"]
    split, recurrent, late, shares = plan["split"], plan["recurrent"], plan["late"], plan["shares"]
    input_groups, groups = plan["input_groups"], plan["groups"]
    input_width, group_width = width // input_groups, width // groups
    input_packed = (plan["u"] - plan["w"]) // input_groups
    group_packed = (plan["b"] - plan["u"]) // groups
    bias = matrix(weights, plan["b"], 1, width)
    recurrent_bias = matrix(weights, plan["rb"], 1, width)
    extra = segment(weights, plan["extra"], plan["n_extra"] * n_units)

    a, b = chunk * rows * n_inputs, chunk * rows * width
    xs = matrix(work, 0, chunk * rows, n_inputs)
    z = matrix(work, a, chunk * rows, width)
    a += b
    hu = matrix(work, a, rows, width)
    a += rows * width
    left = matrix(work, a, rows, n_units)
    a += rows * n_units
    masked = matrix(work, a, rows, n_units)
    a += rows * n_units
    scratch = matrix(work, a, shares * (plan["n_gates"] + 4), n_units)

    order = 2 * (n_steps + 1)
    # Rows of the input that are many and whole fill the tiles of a product where they lie, step by step.
    in_place = plan["input_masks"] == 0 and rows >= MIN_ROWS_IN_PLACE and schedule[order + n_batch] == 1
    first = slot if ring else r0
    for state in range(n_states):
        for r in range(rows):
            _move(
                plane(state0, state, schedule[order + r0 + r], n_units),
                plane(states, state, first + r, n_units),
            )

    for s0 in range(0, n_steps, chunk):
        s1 = min(n_steps, s0 + chunk)
        if _active(schedule, n_steps, s0, r0, r1) == 0:
            break
        for g in range(input_groups):
            lo = g * input_width
            packed = segment(weights, plan["w"] + g * input_packed, input_packed)
            start = block(bias, 0, 1, lo, input_width)
            total = 0 if in_place else _gather(plan, schedule, x, masks, g, s0, s1, r0, r1, xs)
            for s in range(s0, s1 if in_place else s0 + 1):
                if in_place:
                    t = n_steps - 1 - s if plan["reverse"] else s
                    left_rows = spaced(
                        x, r0 * plan["x_row"] + t * plan["x_step"], plan["x_row"], rows, n_inputs
                    )
                    target = block(z, (s - s0) * rows, rows, lo, input_width)
                else:
                    left_rows, target = block(xs, 0, total, 0, n_inputs), block(z, 0, total, lo, input_width)
                shared_product(team, shares, left_rows, packed, input_width, target, start)
        at = 0
        for s in range(s0, s1):
            n = _active(schedule, n_steps, s, r0, r1)
            if n == 0:
                break
            if ring:
                prev, new = slot + (s & 1) * rows, slot + (1 - (s & 1)) * rows
            else:
                prev = r0 if s == 0 else n_batch + schedule[s - 1] + r0
                new = n_batch + schedule[s] + r0
            kept = schedule[s] + r0
            for phase in range(2 if late else 1):
                if recurrent:
                    for g in range(groups - late if phase else 0, groups if phase else groups - late):
                        packed = segment(weights, plan["u"] + g * group_packed, group_packed)
                        lo = g * group_width
                        operand = (
                            block(left, 0, n, 0, n_units) if phase else planes(states, 0, prev, n, n_units)
                        )
                        if plan["recurrent_masks"]:
                            _masked_rows(operand, 0, n, plan, schedule, masks, g, r0, masked, 0)
                            operand = block(masked, 0, n, 0, n_units)
                        if split:
                            target = block(hu, 0, n, lo, group_width)
                            start = block(recurrent_bias, 0, 1, lo, group_width)
                        else:
                            target = block(z, at, n, lo, group_width)
                            start = target
                        shared_product(team, shares, operand, packed, group_width, target, start)
                step = Forward(
                    z=block(z, at, n, 0, width),
                    hu=block(hu, 0, n, 0, width),
                    previous=slab(states, n_states, prev, n, n_units),
                    states=slab(states, n_states, new, n, n_units),
                    saved=block(saved, kept, n, 0, saved.shape[1]),
                    operand=block(left, 0, n, 0, n_units),
                    extra=extra,
                    scratch=scratch,
                    save=save,
                )
                shared_forward(team, shares, cell, phase, step)
            if out.shape[0] > 0:
                for r in range(n):
                    copy(
                        plane(states, 0, new + r, n_units),
                        part(out, _place(plan, schedule, s, r0 + r), 0, n_units),
                    )
            at += n

    for r in range(rows):
        n = _steps_of(schedule, n_steps, r0 + r)
        if ring:
            at = slot + (n & 1) * rows + r
        else:
            at = r0 + r if n == 0 else n_batch + schedule[n - 1] + r0 + r
        for state in range(n_states):
            _move(plane(states, state, at, n_units), plane(final, state, schedule[order + r0 + r], n_units))
        if out.shape[0] > 0 and n < n_steps:
            _fill(plan, schedule, out, r0 + r, n)
    restore_denormals(before)


@on_demand
@jit(inner=True)
def _fill(plan, schedule, out, r, n):
    """Outputs of masked steps of row ``r``: the output before it (zeros before the first), or zeros."""
    n_steps, n_batch, n_units = plan["n_steps"], plan["n_batch"], plan["n_units"]
    base = 2 * (n_steps + 1)
    times = base + n_batch + 1 + r * n_steps
    row, step = plan["out_first"] + schedule[base + r] * plan["out_row"], plan["out_step"]
    t = 0
    for s in range(n + 1):
        valid = schedule[times + s] if s < n else n_steps
        if s > 0 and plan["repeat"]:
            source = part(out, row + (t - 1) * step, 0, n_units)
            for hidden in range(t, valid):
                copy(source, part(out, row + hidden * step, 0, n_units))
        else:
            for hidden in range(t, valid):
                fill(part(out, row + hidden * step, 0, n_units), 0)
        t = valid + 1


@separate
@jit(inner=True)
def backward_rows(
    team,
    cell,
    plans,
    schedule,
    x,
    packs,
    masks,
    states,
    saved,
    d_out,
    d_final,
    dx,
    d_state0,
    all_grads,
    works,
    borders,
    firsts,
    k,
    i,
):
    """The way back through all time steps of the sorted rows of block ``i``, ``r0 ... r1``.

    The gradients are written to ``all_grads[k]`` by the thread's first block, and added by the others.
    """
    before = flush_denormals()
    plan, work = plans[0], part(works, k, 0, works.shape[1])
    weights = part(packs, min(k, packs.shape[0] - 1), 0, packs.shape[1])
    r0, r1 = borders[i], borders[i + 1]
    grads = part(all_grads, k, 0, all_grads.shape[1])
    n_steps, n_units, n_inputs = plan["n_steps"], plan["n_units"], plan["n_inputs"]
    n_states, n_batch = plan["n_states"], plan["n_batch"]
    width = plan["n_gates"] * n_units
    rows, chunk = r1 - r0, plan["chunk"]
    split, recurrent, late, shares = plan["split"], plan["recurrent"], plan["late"], plan["shares"]
    input_groups, groups = plan["input_groups"], plan["groups"]
    input_width, group_width = width // input_groups, width // groups
    input_packed = (plan["u"] - plan["w"]) // input_groups
    group_packed = (plan["b"] - plan["u"]) // groups
    extra = segment(weights, plan["extra"], plan["n_extra"] * n_units)
    nothing = block(works, 0, 0, 0, 0)

    a = n_inputs * width
    d_kernel = matrix(grads, 0, n_inputs, width)
    d_recurrent = matrix(grads, a, recurrent * n_units, width)
    a += recurrent * n_units * width
    d_bias, d_recurrent_bias = segment(grads, a, width), segment(grads, a + width, width)
    d_extra = segment(grads, a + 2 * width, plan["n_extra"] * n_units)
    begun = i > firsts[k]
    if not begun:
        _clear(segment(grads, a, grads.shape[0] - a))

    a, b = chunk * rows * n_inputs, chunk * rows * width
    xs = matrix(work, 0, chunk * rows, n_inputs)
    dz = matrix(work, a, chunk * rows, width)
    a += b
    du = matrix(work, a, chunk * rows, width) if split else dz
    a += b
    b = chunk * rows * n_units
    hs = matrix(work, a, chunk * rows, n_units)
    a += b
    ds = cube(work, a, n_states, rows, n_units)
    a += n_states * rows * n_units
    d_left = matrix(work, a, rows, n_units)
    a += rows * n_units
    masked = matrix(work, a, rows, n_units)
    a += rows * n_units
    scratch = matrix(work, a, shares * (plan["n_gates"] + 4), n_units)

    order = 2 * (n_steps + 1)
    for state in range(n_states):
        for r in range(rows):
            _move(plane(d_final, state, schedule[order + r0 + r], n_units), plane(ds, state, r, n_units))

    for s0 in range((n_steps - 1) // chunk * chunk, -1, -chunk):
        s1 = min(n_steps, s0 + chunk)
        total = 0
        for s in range(s0, s1):
            total += _active(schedule, n_steps, s, r0, r1)
        if total == 0:
            continue
        at = total
        for s in range(s1 - 1, s0 - 1, -1):
            n = _active(schedule, n_steps, s, r0, r1)
            if n == 0:
                continue
            at -= n
            prev = r0 if s == 0 else n_batch + schedule[s - 1] + r0
            new = n_batch + schedule[s] + r0
            kept = schedule[s] + r0
            if d_out.shape[0] > 0:
                _add_outputs(plan, schedule, d_out, s, r0, n, ds)
            for phase in range(1 if late else 0, -1, -1):
                step = Backward(
                    ds=slab(ds, n_states, 0, n, n_units),
                    previous=slab(states, n_states, prev, n, n_units),
                    states=slab(states, n_states, new, n, n_units),
                    saved=block(saved, kept, n, 0, saved.shape[1]),
                    dz=block(dz, at, n, 0, width),
                    du=block(du, at, n, 0, width),
                    d_operand=block(d_left, 0, n, 0, n_units),
                    extra=extra,
                    d_extra=d_extra,
                    scratch=scratch,
                )
                shared_backward(team, 1 if plan["n_extra"] else shares, cell, phase, step)
                if recurrent:
                    for g in range(groups - late if phase else 0, groups if phase else groups - late):
                        packed = segment(weights, plan["u"] + g * group_packed, group_packed)
                        columns = block(du, at, n, g * group_width, group_width)
                        target = block(d_left, 0, n, 0, n_units) if phase else planes(ds, 0, 0, n, n_units)
                        result = block(masked, 0, n, 0, n_units) if plan["recurrent_masks"] else target
                        start = nothing if phase or plan["recurrent_masks"] else target
                        shared_product(team, shares, columns, packed, n_units, result, start)
                        if plan["recurrent_masks"]:
                            _masked_rows(result, 0, n, plan, schedule, masks, g, r0, masked, 0)
                            _take_masked(result, target, phase)
        _chunk_gradients(
            team,
            plan,
            schedule,
            x,
            masks,
            states,
            saved,
            block(dz, 0, total, 0, width),
            block(du, 0, total, 0, width),
            xs,
            hs,
            r0,
            r1,
            s0,
            s1,
            d_kernel,
            d_recurrent,
            d_bias,
            d_recurrent_bias,
            begun,
        )
        begun = True
        if plan["need_dx"]:
            for g in range(input_groups):
                packed = segment(weights, plan["w"] + g * input_packed, input_packed)
                shared_product(
                    team,
                    shares,
                    block(dz, 0, total, g * input_width, input_width),
                    packed,
                    n_inputs,
                    block(xs, 0, total, 0, n_inputs),
                    nothing,
                )
                at = 0
                for s in range(s0, s1):
                    n = _active(schedule, n_steps, s, r0, r1)
                    _scatter(plan, schedule, xs, at, masks, g, s, r0, n, dx)
                    at += n
    for state in range(n_states):
        for r in range(rows):
            _move(plane(ds, state, r, n_units), plane(d_state0, state, schedule[order + r0 + r], n_units))
    if not begun:
        _clear(grads)
    restore_denormals(before)


@on_demand
@jit(inner=True)
def _take_masked(rows, target, write):
    """``target (+)= rows``."""
    for r in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            target[r, j] = rows[r, j] + (0 if write else target[r, j])


@on_demand
@jit(inner=True)
def _add_outputs(plan, schedule, d_out, s, r0, n, ds):
    """Add to ``ds[0, :n]`` the gradient of every output that shows step ``s``: its own, and those that repeat it."""
    n_steps, n_batch, n_units = plan["n_steps"], plan["n_batch"], plan["n_units"]
    base = 2 * (n_steps + 1)
    step, shared = plan["out_step"], schedule[base + n_batch] == 1
    for r in range(n):
        row, times = schedule[base + r0 + r] * plan["out_row"], base + n_batch + 1
        if not shared:
            times += (r0 + r) * n_steps
        t = schedule[times + s]
        end = t + 1
        if plan["repeat"] and not shared:
            last = s + 1 == n_steps or schedule[n_steps + 1 + s + 1] <= r0 + r
            end = n_steps if last else schedule[times + s + 1]
        target = plane(ds, 0, r, n_units)
        for i in range(t, end):
            add(part(d_out, row + i * step, 0, n_units), target)


@on_demand
@jit(inner=True)
def _scatter(plan, schedule, rows, at, masks, group, s, r0, n, dx):
    """Add (for the first group: write) the gradients of the inputs of step ``s``."""
    n_steps, n_batch, n_inputs = plan["n_steps"], plan["n_batch"], plan["n_inputs"]
    base = 2 * (n_steps + 1)
    shared = schedule[base + n_batch] == 1
    for r in range(r0, r0 + n):
        b = schedule[base + r]
        t = schedule[base + n_batch + 1 + (0 if shared else r * n_steps) + s]
        if plan["reverse"]:
            t = n_steps - 1 - t
        source = part(rows, at + r - r0, 0, n_inputs)
        target = part(dx, b * plan["dx_row"] + t * plan["dx_step"], 0, n_inputs)
        if plan["input_masks"] > 0:
            mask = segment(masks, (group * n_batch + b) * n_inputs, n_inputs)
            for i in range(n_inputs):
                source[i] *= mask[i]
        if group == 0:
            copy(source, target)
        else:
            for i in range(n_inputs):
                target[i] += source[i]


@separate
@jit(inner=True)
def _chunk_gradients(
    team,
    plan,
    schedule,
    x,
    masks,
    states,
    saved,
    dz,
    du,
    xs,
    hs,
    r0,
    r1,
    s0,
    s1,
    d_kernel,
    d_recurrent,
    d_bias,
    d_recurrent_bias,
    begun,
):
    """Add the share of the steps ``s0 ... s1`` to the weight gradients: ``x.T @ dz``, ``h_prev.T @ du``, sums.

    Those of the kernels are overwritten if they are not `begun`.
    """
    n_steps, n_units, n_batch, shares = plan["n_steps"], plan["n_units"], plan["n_batch"], plan["shares"]
    width = plan["n_gates"] * n_units
    input_groups, groups = plan["input_groups"], plan["groups"]
    input_width, group_width = width // input_groups, width // groups
    for g in range(input_groups):
        at = _gather(plan, schedule, x, masks, g, s0, s1, r0, r1, xs)
        lo = g * input_width
        shared_product_tn(
            team,
            shares,
            block(xs, 0, at, 0, plan["n_inputs"]),
            block(dz, 0, at, lo, input_width),
            block(d_kernel, 0, plan["n_inputs"], lo, input_width),
            begun,
        )
    if plan["recurrent"]:
        for g in range(groups):
            at = 0
            first = plan["operand"] * n_units
            for s in range(s0, s1):
                n = _active(schedule, n_steps, s, r0, r1)
                prev = r0 if s == 0 else n_batch + schedule[s - 1] + r0
                for r in range(n):
                    late = g >= groups - plan["late"]
                    kept, state = (
                        part(saved, schedule[s] + r0 + r, first, n_units),
                        plane(states, 0, prev + r, n_units),
                    )
                    copy(kept if late else state, part(hs, at + r, 0, n_units))
                if plan["recurrent_masks"]:
                    _masked_rows(block(hs, at, n, 0, n_units), 0, n, plan, schedule, masks, g, r0, hs, at)
                at += n
            lo = g * group_width
            shared_product_tn(
                team,
                shares,
                block(hs, 0, at, 0, n_units),
                block(du, 0, at, lo, group_width),
                block(d_recurrent, 0, n_units, lo, group_width),
                begun,
            )
    for split in range(1 + plan["split"]):
        for r in range(dz.shape[0]):
            add(part(du if split else dz, r, 0, width), d_recurrent_bias if split else d_bias)


@jit(inner=True)
def _forward_blocks(arguments, at, k):
    args = fetch(arguments, at)
    firsts = args[14]
    for i in range(firsts[k], firsts[k + 1]):
        forward_rows(*args, k, i)


@jit(inner=True)
def _backward_blocks(arguments, at, k):
    args = fetch(arguments, at)
    firsts = args[16]
    for i in range(firsts[k], firsts[k + 1]):
        backward_rows(*args, k, i)


@jit(inner=True)
def _sum_columns(arguments, at, k):
    all_grads, n_shares = fetch(arguments, at)
    n_columns = all_grads.shape[1]
    first, end = k * n_columns // n_shares, (k + 1) * n_columns // n_shares
    for other in range(1, all_grads.shape[0]):
        add(part(all_grads, other, first, end - first), part(all_grads, 0, first, end - first))


#: Part k of a job, for `handover` and `programs`: the blocks ``firsts[k] ... firsts[k + 1]``, of which the i-th is the
#: rows ``borders[i] ... borders[i + 1]``. Arguments: those of the kernel up to `firsts`, of which the first is None, or
#: the team that has shares in what is done (see `shares`).
forward_part, backward_part = address(_forward_blocks), address(_backward_blocks)
#: Part k of so many: its share of the columns, summed to the first row. Arguments: the rows, and how many.
_sum_part = address(_sum_columns)


@jit
def forward_pass(state, *args):
    """All parts, by the team that shares `state`; arguments as of `forward_part`, without the first."""
    args = (None, *args)
    share(state, forward_part(args), spill(args), args[14].shape[0] - 1)


@jit
def shared_forward_pass(state, *args):
    """Likewise, of a single part, within which the team has shares."""
    args = (state, *args)
    share(state[:0], forward_part(args), spill(args), 1)


@jit
def backward_pass(state, *args):
    """All parts, likewise, then the sum of their gradients; arguments as of `backward_part`, without the first."""
    n_threads = args[15].shape[0] - 1
    grads, args = (args[12], n_threads), (None, *args)
    share(state, backward_part(args), spill(args), n_threads)
    if n_threads > 1:
        if grads[0].shape[1] < MIN_SHARED_SUM:
            grads, state = (grads[0], 1), state[:0]
        share(state, _sum_part(grads), spill(grads), grads[1])


@jit
def shared_backward_pass(state, *args):
    """Likewise, of a single part, within which the team has shares."""
    args = (state, *args)
    share(state[:0], backward_part(args), spill(args), 1)


@functools.cache
def needed_forward(dense: bool, sequences: bool, recurrent_masks: bool) -> tuple[Slots, ...]:
    """What is compiled on demand, and needed by a pass forward with these options (see `linking.launch`)."""
    functions = []
    if not dense:
        functions += [_gather_rest, _fill] if sequences else [_gather_rest]
    if recurrent_masks:
        functions.append(_masked_rows)
    return slots_of(*functions)


@functools.cache
def needed_backward(dense: bool, d_out: bool, need_dx: bool, recurrent_masks: bool) -> tuple[Slots, ...]:
    """The same for a pass backward: whether there is a gradient of all outputs, and whether that of the input is wanted."""
    functions = [] if dense else [_gather_rest]
    functions += [_add_outputs] if d_out else []
    functions += [_scatter] if need_dx else []
    functions += [_masked_rows, _take_masked] if recurrent_masks else []
    return slots_of(*functions)

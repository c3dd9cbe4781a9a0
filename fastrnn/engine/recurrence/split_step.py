"""What several threads share within a step: columns of a product, rows of the pointwise part.

For networks with many units over few sequences. Where threads own sequences, each reads all weights for a few rows;
where they own columns, each reads its part of the weights, which may then stay in its cache, for all rows. The price is
hand-overs in every step. A thread that the system lets wait is not waited for: who is free takes its share. What comes
out does not depend on the number of shares.

A kernel whose `team` is None does all of it itself, and has no code for anything else: kernels that share are compiled
when first needed.
"""

from __future__ import annotations

from numba import types

from fastrnn.engine.kernels.matmul import product, product_tn
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS, VECTORS
from fastrnn.engine.recurrence.contract import Backward, Forward, step_backward, step_forward
from fastrnn.engine.runtime.compiling import Passed
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.views import block, segment, slab

__all__ = ["shared_backward", "shared_forward", "shared_product", "shared_product_tn"]


@inlined
def _columns(n, share, n_shares, itemsize):
    """The first column of a share of ``n`` columns, and the one after its last: whole panels."""
    width = VECTORS * (VECTOR_BITS // (8 * itemsize))
    n_panels = (n + width - 1) // width
    return min(n, share * n_panels // n_shares * width), min(n, (share + 1) * n_panels // n_shares * width)


@jit(inner=True)
def _product_share(arguments, at, part):
    parts, a, packed, n, c, start = fetch(arguments, at)
    first, end = _columns(n, part, parts, c.itemsize)
    before = flush_denormals()
    product(
        a,
        segment(packed, first * a.shape[1], packed.shape[0] - first * a.shape[1]),
        end - first,
        block(c, 0, c.shape[0], first, end - first),
        block(start, 0, start.shape[0], first, end - first),
    )
    restore_denormals(before)


_product_part = address(_product_share)


def shared_product(team, n_shares, a, packed, n, c, start):
    """`matmul.product`, its columns in so many shares for the `team`."""
    product(a, packed, n, c, start)


@body_of(shared_product)
def _shared_product(team, *kinds):
    def together(team, n_shares, a, packed, n, c, start):
        args = (n_shares, a, packed, n, c, start)
        share(team, _product_part(args), spill(args), n_shares)

    return Passed(product, 2) if team == types.none else together


@jit(inner=True)
def _product_tn_share(arguments, at, part):
    parts, a, b, c, accumulate = fetch(arguments, at)
    first, end = _columns(c.shape[1], part, parts, c.itemsize)
    before = flush_denormals()
    product_tn(
        a,
        block(b, 0, b.shape[0], first, end - first),
        block(c, 0, c.shape[0], first, end - first),
        accumulate,
    )
    restore_denormals(before)


_product_tn_part = address(_product_tn_share)


def shared_product_tn(team, n_shares, a, b, c, accumulate):
    """`matmul.product_tn`, its columns in so many shares for the `team`."""
    product_tn(a, b, c, accumulate)


@body_of(shared_product_tn)
def _shared_product_tn(team, *kinds):
    def together(team, n_shares, a, b, c, accumulate):
        args = (n_shares, a, b, c, accumulate)
        share(team, _product_tn_part(args), spill(args), n_shares)

    return Passed(product_tn, 2) if team == types.none else together


@inlined
def _rows(n, part, parts, scratch, n_units):
    """The first of a part's rows, how many they are, and the part's own scratch."""
    first, depth = part * n // parts, scratch.shape[0] // parts
    return first, (part + 1) * n // parts - first, block(scratch, part * depth, depth, 0, n_units)


@jit(inner=True)
def _forward_share(arguments, at, part):
    parts, cell, phase, step = fetch(arguments, at)
    u = cell.n_units
    r, n, scratch = _rows(step.z.shape[0], part, parts, step.scratch, u)
    before = flush_denormals()
    rows = Forward(
        z=block(step.z, r, n, 0, step.z.shape[1]),
        hu=block(step.hu, r, n, 0, step.hu.shape[1]),
        previous=slab(step.previous, step.previous.shape[0], r, n, u),
        states=slab(step.states, step.states.shape[0], r, n, u),
        saved=block(step.saved, r, n, 0, step.saved.shape[1]),
        operand=block(step.operand, r, n, 0, u),
        extra=step.extra,
        scratch=scratch,
        save=step.save,
    )
    step_forward(cell, phase, rows)
    restore_denormals(before)


_forward_part = address(_forward_share)


def shared_forward(team, n_shares, cell, phase, step):
    """`contract.step_forward`, its rows in so many shares for the `team`; there is as much `scratch` for each."""
    step_forward(cell, phase, step)


@body_of(shared_forward)
def _shared_forward(team, *kinds):
    def together(team, n_shares, cell, phase, step):
        parts = min(step.z.shape[0], n_shares)
        args = (parts, cell, phase, step)
        share(team if parts > 1 else team[:0], _forward_part(args), spill(args), parts)

    return Passed(step_forward, 2) if team == types.none else together


@jit(inner=True)
def _backward_share(arguments, at, part):
    parts, cell, phase, step = fetch(arguments, at)
    u = cell.n_units
    r, n, scratch = _rows(step.dz.shape[0], part, parts, step.scratch, u)
    before = flush_denormals()
    rows = Backward(
        ds=slab(step.ds, step.ds.shape[0], r, n, u),
        previous=slab(step.previous, step.previous.shape[0], r, n, u),
        states=slab(step.states, step.states.shape[0], r, n, u),
        saved=block(step.saved, r, n, 0, step.saved.shape[1]),
        dz=block(step.dz, r, n, 0, step.dz.shape[1]),
        du=block(step.du, r, n, 0, step.du.shape[1]),
        d_operand=block(step.d_operand, r, n, 0, u),
        extra=step.extra,
        d_extra=step.d_extra,
        scratch=scratch,
    )
    step_backward(cell, phase, rows)
    restore_denormals(before)


_backward_part = address(_backward_share)


def shared_backward(team, n_shares, cell, phase, step):
    """`contract.step_backward`, likewise; for cells with `extra`, to whose gradient all rows add, `n_shares` must be 1."""
    step_backward(cell, phase, step)


@body_of(shared_backward)
def _shared_backward(team, *kinds):
    def together(team, n_shares, cell, phase, step):
        parts = min(step.dz.shape[0], n_shares)
        args = (parts, cell, phase, step)
        share(team if parts > 1 else team[:0], _backward_part(args), spill(args), parts)

    return Passed(step_backward, 2) if team == types.none else together

"""Time steps that are split between threads: each computes a slice of the columns of a product, or of the rows of a step.

This is for networks with many units and few sequences. If each thread computes its own sequences, it reads all weights for a
few rows; if each thread computes some columns, it reads only its part of the weights, which may stay in its cache. The
threads synchronise in every step. A free thread takes the next slice, so slices are not bound to threads. Results do not
depend on the number of slices. Cells that can compute some of their units have a better way: see `by_units`.

A kernel whose `team` is None computes everything itself, and contains no code for splitting; kernels that split are compiled
when they are first needed.
"""

from __future__ import annotations

from numba import types

from fastrnn.engine.kernels.matmul import product, product_tn
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS, VECTORS
from fastrnn.engine.numba_private.services import Redirect
from fastrnn.engine.recurrence.contract import Backward, Forward, step_backward, step_forward
from fastrnn.engine.runtime.denormals import flush_denormals, restore_denormals
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.views import (
    block,
    segment,
    slab,
    smaller,
)

__all__ = [
    "column_range",
    "split_backward",
    "split_forward",
    "split_product",
    "split_product_tn",
]


@inlined
def column_range(n, k, n_slices, itemsize):
    """The first and the end column of slice `k` of `n` columns; slices are whole panels."""
    width = VECTORS * (VECTOR_BITS // (8 * itemsize))
    n_panels = (n + width - 1) // width
    return smaller(n, k * n_panels // n_slices * width), smaller(n, (k + 1) * n_panels // n_slices * width)


@jit(inner=True)
def _product_slice(arguments, at, k):
    n_slices, a, packed, n, c, start = fetch(arguments, at)
    first, end = column_range(n, k, n_slices, c.itemsize)
    before = flush_denormals()
    product(
        a,
        segment(packed, first * a.shape[1], packed.shape[0] - first * a.shape[1]),
        end - first,
        block(c, 0, c.shape[0], first, end - first),
        block(start, 0, start.shape[0], first, end - first),
    )
    restore_denormals(before)


_product_piece = address(_product_slice)


def split_product(team, n_slices, a, packed, n, c, start):
    """`matmul.product` with its columns divided into `n_slices` for the `team`."""
    product(a, packed, n, c, start)


@body_of(split_product)
def _split_product(team, *kinds):
    def on_team(team, n_slices, a, packed, n, c, start):
        args = (n_slices, a, packed, n, c, start)
        share(team, _product_piece(args), spill(args), n_slices)

    return Redirect(product, 2) if team == types.none else on_team


@jit(inner=True)
def _product_tn_slice(arguments, at, k):
    n_slices, a, b, c, accumulate, panels = fetch(arguments, at)
    panel = panels.shape[0] // n_slices
    first, end = column_range(c.shape[1], k, n_slices, c.itemsize)
    before = flush_denormals()
    product_tn(
        a,
        block(b, 0, b.shape[0], first, end - first),
        block(c, 0, c.shape[0], first, end - first),
        accumulate,
        segment(panels, k * panel, panel),
    )
    restore_denormals(before)


_product_tn_piece = address(_product_tn_slice)


def split_product_tn(team, n_slices, a, b, c, accumulate, panels):
    """`matmul.product_tn` with its columns divided into `n_slices` for the `team`, each with a part of `panels`."""
    product_tn(a, b, c, accumulate, panels)


@body_of(split_product_tn)
def _split_product_tn(team, *kinds):
    def on_team(team, n_slices, a, b, c, accumulate, panels):
        args = (n_slices, a, b, c, accumulate, panels)
        share(team, _product_tn_piece(args), spill(args), n_slices)

    return Redirect(product_tn, 2) if team == types.none else on_team


@inlined
def _row_range(n, k, n_slices, scratch, n_units):
    """The first row of slice `k` of `n` rows, its number of rows, and its part of the scratch memory."""
    first, depth = k * n // n_slices, scratch.shape[0] // n_slices
    return first, (k + 1) * n // n_slices - first, block(scratch, k * depth, depth, 0, n_units)


@jit(inner=True)
def _forward_slice(arguments, at, k):
    n_slices, cell, phase, step = fetch(arguments, at)
    u = cell.n_units
    r, n, scratch = _row_range(step.z.shape[0], k, n_slices, step.scratch, u)
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
        first=step.first,
        n_units=step.n_units,
    )
    step_forward(cell, phase, rows)
    restore_denormals(before)


_forward_piece = address(_forward_slice)


def split_forward(team, n_slices, cell, phase, step):
    """`contract.step_forward` with its rows divided into `n_slices` for the `team`, each with its part of `scratch`."""
    step_forward(cell, phase, step)


@body_of(split_forward)
def _split_forward(team, *kinds):
    def on_team(team, n_slices, cell, phase, step):
        n_slices = smaller(step.z.shape[0], n_slices)
        args = (n_slices, cell, phase, step)
        share(team if n_slices > 1 else team[:0], _forward_piece(args), spill(args), n_slices)

    return Redirect(step_forward, 2) if team == types.none else on_team


@jit(inner=True)
def _backward_slice(arguments, at, k):
    n_slices, cell, phase, step = fetch(arguments, at)
    u = cell.n_units
    r, n, scratch = _row_range(step.dz.shape[0], k, n_slices, step.scratch, u)
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
        first=step.first,
        n_units=step.n_units,
    )
    step_backward(cell, phase, rows)
    restore_denormals(before)


_backward_piece = address(_backward_slice)


def split_backward(team, n_slices, cell, phase, step):
    """As `split_forward` for `contract.step_backward`; `n_slices` must be 1 for cells with `extra`."""
    step_backward(cell, phase, step)


@body_of(split_backward)
def _split_backward(team, *kinds):
    def on_team(team, n_slices, cell, phase, step):
        n_slices = smaller(step.dz.shape[0], n_slices)
        args = (n_slices, cell, phase, step)
        share(team if n_slices > 1 else team[:0], _backward_piece(args), spill(args), n_slices)

    return Redirect(step_backward, 2) if team == types.none else on_team

"""Gated recurrent unit (Cho et al. 2014), with the reset gate after the recurrent product or before it.

Columns in the order z, r, h::

    z, r = act_rec(x_z + h_prev @ U_z), act_rec(x_r + h_prev @ U_r)
    g    = act(x_h + r * (h_prev @ U_h + b_rec))        GRU       (`reset_after=True`)
    g    = act(x_h + (r * h_prev) @ U_h)                GRUBefore (`reset_after=False`)
    h    = z * h_prev + (1 - z) * g

References
----------
Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder for statistical machine translation.
EMNLP. arXiv:1406.1078 (v1 has the form with the reset gate after the product, v3 the one before it).
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import SIGMOID, TANH, activate_backward_row, activate_row, sigmoid, tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, part, plane, segment, stretch


class GRU(NamedTuple):
    """With tanh and sigmoid, fused with what follows them."""

    n_units: int

    def traits(self) -> Traits:
        return Traits(n_gates=3, n_saved=4, split=True)


class GRUWith(NamedTuple):
    """With any activations, applied row by row."""

    n_units: int
    activation: int
    recurrent_activation: int

    def traits(self) -> Traits:
        return Traits(n_gates=3, n_saved=4, split=True)


class GRUBefore(NamedTuple):
    n_units: int
    activation: int = TANH
    recurrent_activation: int = SIGMOID

    def traits(self) -> Traits:
        return Traits(n_gates=3, n_saved=4, late=1, operand=3)


@implements(step_forward, GRU)
def forward(cell, phase, n, z, pz, hu, states, prev, new, extra, saved, ps, save, operand, scratch):
    u = cell.n_units
    for r in range(n):
        h_prev, h = plane(states, 0, prev + r, u), plane(states, 0, new + r, u)
        xz, xr, xh = part(z, pz + r, 0, u), part(z, pz + r, u, u), part(z, pz + r, 2 * u, u)
        uz, ur, uh = part(hu, r, 0, u), part(hu, r, u, u), part(hu, r, 2 * u, u)
        # Doubles take a loop for each function: the constants of three don't fit the registers.
        if save or z.itemsize == 8:
            gates = part(saved, ps + r, 0, 3 * u) if save else stretch(scratch, 0, 3 * u)
            # One output a loop: with more than two the compiler gives up proving them apart.
            both, recurrent = part(z, pz + r, 0, 2 * u), part(hu, r, 0, 2 * u)
            sz_sr, sg = segment(gates, 0, 2 * u), segment(gates, 2 * u, u)
            sz, sr = segment(gates, 0, u), segment(gates, u, u)
            for j in range(2 * u):
                sz_sr[j] = sigmoid(both[j] + recurrent[j])
            for j in range(u):
                sg[j] = tanh(xh[j] + sr[j] * uh[j])
            if save:
                copy(uh, part(saved, ps + r, 3 * u, u))
            for j in range(u):
                h[j] = sg[j] + sz[j] * (h_prev[j] - sg[j])
        else:
            for j in range(u):
                gj = tanh(xh[j] + sigmoid(xr[j] + ur[j]) * uh[j])
                h[j] = gj + sigmoid(xz[j] + uz[j]) * (h_prev[j] - gj)


@implements(step_backward, GRU)
def backward(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    one = ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(n):
        dh, h_prev = plane(ds, 0, r, u), plane(states, 0, prev + r, u)
        sz, sr = part(saved, ps + r, 0, u), part(saved, ps + r, u, u)
        sg, su = part(saved, ps + r, 2 * u, u), part(saved, ps + r, 3 * u, u)
        xz, xr, xh = part(dz, pz + r, 0, u), part(dz, pz + r, u, u), part(dz, pz + r, 2 * u, u)
        uh = part(du, pu + r, 2 * u, u)
        for j in range(u):
            xh[j] = dh[j] * (one - sz[j]) * (one - sg[j] * sg[j])
        for j in range(u):
            xz[j] = dh[j] * (h_prev[j] - sg[j]) * sz[j] * (one - sz[j])
        for j in range(u):
            xr[j] = xh[j] * su[j] * sr[j] * (one - sr[j])
            uh[j] = xh[j] * sr[j]
        for j in range(u):
            dh[j] *= sz[j]
        copy(part(dz, pz + r, 0, 2 * u), part(du, pu + r, 0, 2 * u))


@implements(step_forward, GRUWith)
def forward_with(cell, phase, n, z, pz, hu, states, prev, new, extra, saved, ps, save, operand, scratch):
    u = cell.n_units
    for r in range(n):
        h_prev, h = plane(states, 0, prev + r, u), plane(states, 0, new + r, u)
        xz, xr, xh = part(z, pz + r, 0, u), part(z, pz + r, u, u), part(z, pz + r, 2 * u, u)
        uz, ur, uh = part(hu, r, 0, u), part(hu, r, u, u), part(hu, r, 2 * u, u)
        for j in range(u):
            xz[j] += uz[j]
        for j in range(u):
            xr[j] += ur[j]
        if save:
            copy(part(z, pz + r, 0, 2 * u), part(saved, ps + r, 0, 2 * u))
            copy(uh, part(saved, ps + r, 3 * u, u))
        activate_row(cell.recurrent_activation, xz)
        activate_row(cell.recurrent_activation, xr)
        for j in range(u):
            xh[j] += xr[j] * uh[j]
        if save:
            copy(xh, part(saved, ps + r, 2 * u, u))
        activate_row(cell.activation, xh)
        for j in range(u):
            h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRUWith)
def backward_with(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    one = ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(n):
        dh, h_prev = plane(ds, 0, r, u), plane(states, 0, prev + r, u)
        sz, sr = part(saved, ps + r, 0, u), part(saved, ps + r, u, u)
        sg, su = part(saved, ps + r, 2 * u, u), part(saved, ps + r, 3 * u, u)
        xz, xr, xh = part(dz, pz + r, 0, u), part(dz, pz + r, u, u), part(dz, pz + r, 2 * u, u)
        uz, ur, uh = part(du, pu + r, 0, u), part(du, pu + r, u, u), part(du, pu + r, 2 * u, u)
        gate, reset = part(scratch, 0, 0, u), part(scratch, 1, 0, u)
        g, d = part(scratch, 2, 0, u), part(scratch, 3, 0, u)
        copy(sz, gate)
        copy(sr, reset)
        copy(sg, g)
        activate_row(cell.recurrent_activation, gate)
        activate_row(cell.recurrent_activation, reset)
        activate_row(cell.activation, g)
        for j in range(u):
            d[j] = dh[j] * (one - gate[j])
        activate_backward_row(cell.activation, sg, g, d, xh)
        for j in range(u):
            d[j] = dh[j] * (h_prev[j] - g[j])
        activate_backward_row(cell.recurrent_activation, sz, gate, d, xz)
        for j in range(u):
            d[j] = xh[j] * su[j]
        activate_backward_row(cell.recurrent_activation, sr, reset, d, xr)
        for j in range(u):
            uz[j] = xz[j]
            ur[j] = xr[j]
            uh[j] = xh[j] * reset[j]
            dh[j] *= gate[j]


@implements(step_forward, GRUBefore)
def forward_before(cell, phase, n, z, pz, hu, states, prev, new, extra, saved, ps, save, operand, scratch):
    u = cell.n_units
    for r in range(n):
        h_prev, h, left = plane(states, 0, prev + r, u), plane(states, 0, new + r, u), part(operand, r, 0, u)
        xz, xr, xh = part(z, pz + r, 0, u), part(z, pz + r, u, u), part(z, pz + r, 2 * u, u)
        if phase == 0:
            if save:
                copy(part(z, pz + r, 0, 2 * u), part(saved, ps + r, 0, 2 * u))
            activate_row(cell.recurrent_activation, xz)
            activate_row(cell.recurrent_activation, xr)
            for j in range(u):
                left[j] = xr[j] * h_prev[j]
            if save:
                copy(left, part(saved, ps + r, 3 * u, u))
        else:
            if save:
                copy(xh, part(saved, ps + r, 2 * u, u))
            activate_row(cell.activation, xh)
            for j in range(u):
                h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRUBefore)
def backward_before(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    one = ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    gate, y, d = part(scratch, 0, 0, u), part(scratch, 1, 0, u), part(scratch, 2, 0, u)
    for r in range(n):
        dh, h_prev, d_left = plane(ds, 0, r, u), plane(states, 0, prev + r, u), part(d_operand, r, 0, u)
        sz, sr, sg = part(saved, ps + r, 0, u), part(saved, ps + r, u, u), part(saved, ps + r, 2 * u, u)
        xz, xr, xh = part(dz, pz + r, 0, u), part(dz, pz + r, u, u), part(dz, pz + r, 2 * u, u)
        if phase == 1:
            copy(sz, gate)
            copy(sg, y)
            activate_row(cell.recurrent_activation, gate)
            activate_row(cell.activation, y)
            for j in range(u):
                d[j] = dh[j] * (one - gate[j])
            activate_backward_row(cell.activation, sg, y, d, xh)
            for j in range(u):
                d[j] = dh[j] * (h_prev[j] - y[j])
                dh[j] *= gate[j]
            activate_backward_row(cell.recurrent_activation, sz, gate, d, xz)
        else:
            copy(sr, y)
            activate_row(cell.recurrent_activation, y)
            for j in range(u):
                d[j] = d_left[j] * h_prev[j]
                dh[j] += d_left[j] * y[j]
            activate_backward_row(cell.recurrent_activation, sr, y, d, xr)

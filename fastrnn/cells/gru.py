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
def forward(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        h_prev, h = plane(step.previous, 0, r, u), plane(step.states, 0, r, u)
        xz, xr, xh = part(step.z, r, 0, u), part(step.z, r, u, u), part(step.z, r, 2 * u, u)
        uz, ur, uh = part(step.hu, r, 0, u), part(step.hu, r, u, u), part(step.hu, r, 2 * u, u)
        # Doubles take a loop for each function: the constants of three don't fit the registers.
        if step.save or step.z.itemsize == 8:
            gates = part(step.saved, r, 0, 3 * u) if step.save else stretch(step.scratch, 0, 3 * u)
            # One output a loop: with more than two the compiler gives up proving them apart.
            both, recurrent = part(step.z, r, 0, 2 * u), part(step.hu, r, 0, 2 * u)
            sz_sr, sg = segment(gates, 0, 2 * u), segment(gates, 2 * u, u)
            sz, sr = segment(gates, 0, u), segment(gates, u, u)
            for j in range(2 * u):
                sz_sr[j] = sigmoid(both[j] + recurrent[j])
            for j in range(u):
                sg[j] = tanh(xh[j] + sr[j] * uh[j])
            if step.save:
                copy(uh, part(step.saved, r, 3 * u, u))
            for j in range(u):
                h[j] = sg[j] + sz[j] * (h_prev[j] - sg[j])
        else:
            for j in range(u):
                gj = tanh(xh[j] + sigmoid(xr[j] + ur[j]) * uh[j])
                h[j] = gj + sigmoid(xz[j] + uz[j]) * (h_prev[j] - gj)


@implements(step_backward, GRU)
def backward(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, h_prev = plane(step.ds, 0, r, u), plane(step.previous, 0, r, u)
        sz, sr = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        sg, su = part(step.saved, r, 2 * u, u), part(step.saved, r, 3 * u, u)
        xz, xr, xh = part(step.dz, r, 0, u), part(step.dz, r, u, u), part(step.dz, r, 2 * u, u)
        uh = part(step.du, r, 2 * u, u)
        for j in range(u):
            xh[j] = dh[j] * (one - sz[j]) * (one - sg[j] * sg[j])
        for j in range(u):
            xz[j] = dh[j] * (h_prev[j] - sg[j]) * sz[j] * (one - sz[j])
        for j in range(u):
            xr[j] = xh[j] * su[j] * sr[j] * (one - sr[j])
            uh[j] = xh[j] * sr[j]
        for j in range(u):
            dh[j] *= sz[j]
        copy(part(step.dz, r, 0, 2 * u), part(step.du, r, 0, 2 * u))


@implements(step_forward, GRUWith)
def forward_with(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        h_prev, h = plane(step.previous, 0, r, u), plane(step.states, 0, r, u)
        xz, xr, xh = part(step.z, r, 0, u), part(step.z, r, u, u), part(step.z, r, 2 * u, u)
        uz, ur, uh = part(step.hu, r, 0, u), part(step.hu, r, u, u), part(step.hu, r, 2 * u, u)
        for j in range(u):
            xz[j] += uz[j]
        for j in range(u):
            xr[j] += ur[j]
        if step.save:
            copy(part(step.z, r, 0, 2 * u), part(step.saved, r, 0, 2 * u))
            copy(uh, part(step.saved, r, 3 * u, u))
        activate_row(cell.recurrent_activation, xz)
        activate_row(cell.recurrent_activation, xr)
        for j in range(u):
            xh[j] += xr[j] * uh[j]
        if step.save:
            copy(xh, part(step.saved, r, 2 * u, u))
        activate_row(cell.activation, xh)
        for j in range(u):
            h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRUWith)
def backward_with(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, h_prev = plane(step.ds, 0, r, u), plane(step.previous, 0, r, u)
        sz, sr = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        sg, su = part(step.saved, r, 2 * u, u), part(step.saved, r, 3 * u, u)
        xz, xr, xh = part(step.dz, r, 0, u), part(step.dz, r, u, u), part(step.dz, r, 2 * u, u)
        uz, ur, uh = part(step.du, r, 0, u), part(step.du, r, u, u), part(step.du, r, 2 * u, u)
        gate, reset = part(step.scratch, 0, 0, u), part(step.scratch, 1, 0, u)
        g, d = part(step.scratch, 2, 0, u), part(step.scratch, 3, 0, u)
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
def forward_before(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        h_prev, h, left = (
            plane(step.previous, 0, r, u),
            plane(step.states, 0, r, u),
            part(step.operand, r, 0, u),
        )
        xz, xr, xh = part(step.z, r, 0, u), part(step.z, r, u, u), part(step.z, r, 2 * u, u)
        if phase == 0:
            if step.save:
                copy(part(step.z, r, 0, 2 * u), part(step.saved, r, 0, 2 * u))
            activate_row(cell.recurrent_activation, xz)
            activate_row(cell.recurrent_activation, xr)
            for j in range(u):
                left[j] = xr[j] * h_prev[j]
            if step.save:
                copy(left, part(step.saved, r, 3 * u, u))
        else:
            if step.save:
                copy(xh, part(step.saved, r, 2 * u, u))
            activate_row(cell.activation, xh)
            for j in range(u):
                h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRUBefore)
def backward_before(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    gate, y, d = part(step.scratch, 0, 0, u), part(step.scratch, 1, 0, u), part(step.scratch, 2, 0, u)
    for r in range(step.dz.shape[0]):
        dh, h_prev, d_left = (
            plane(step.ds, 0, r, u),
            plane(step.previous, 0, r, u),
            part(step.d_operand, r, 0, u),
        )
        sz, sr, sg = part(step.saved, r, 0, u), part(step.saved, r, u, u), part(step.saved, r, 2 * u, u)
        xz, xr, xh = part(step.dz, r, 0, u), part(step.dz, r, u, u), part(step.dz, r, 2 * u, u)
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

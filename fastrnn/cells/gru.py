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

from fastrnn.engine.contract import Traits, step_backward, step_forward
from fastrnn.engine.jit import implements
from fastrnn.engine.vecmath import SIGMOID, TANH, activate_backward_row, activate_row, sigmoid, tanh


class GRU(NamedTuple):
    n_units: int
    activation: int = TANH
    recurrent_activation: int = SIGMOID

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
    fused = cell.activation == TANH and cell.recurrent_activation == SIGMOID
    for r in range(n):
        zr, ur, h_prev, h = z[pz + r], hu[r], states[0, prev + r], states[0, new + r]
        xz, xr, xh = zr[:u], zr[u : 2 * u], zr[2 * u :]
        uz, ur_, uh = ur[:u], ur[u : 2 * u], ur[2 * u :]
        if fused and save:
            kept = saved[ps + r]
            sz, sr, sg, su = kept[:u], kept[u : 2 * u], kept[2 * u : 3 * u], kept[3 * u :]
            for j in range(u):
                gate, reset = sigmoid(xz[j] + uz[j]), sigmoid(xr[j] + ur_[j])
                g = tanh(xh[j] + reset * uh[j])
                sz[j] = gate
                sr[j] = reset
                sg[j] = g
                su[j] = uh[j]
                h[j] = g + gate * (h_prev[j] - g)
        elif fused:
            for j in range(u):
                g = tanh(xh[j] + sigmoid(xr[j] + ur_[j]) * uh[j])
                h[j] = g + sigmoid(xz[j] + uz[j]) * (h_prev[j] - g)
        else:
            for j in range(u):
                xz[j] += uz[j]
            for j in range(u):
                xr[j] += ur_[j]
            if save:
                saved[ps + r, : 2 * u] = zr[: 2 * u]
                saved[ps + r, 3 * u :] = uh
            activate_row(cell.recurrent_activation, xz)
            activate_row(cell.recurrent_activation, xr)
            for j in range(u):
                xh[j] += xr[j] * uh[j]
            if save:
                saved[ps + r, 2 * u : 3 * u] = xh
            activate_row(cell.activation, xh)
            for j in range(u):
                h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRU)
def backward(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    u = cell.n_units
    fused = cell.activation == TANH and cell.recurrent_activation == SIGMOID
    for r in range(n):
        dh, h_prev, kept, out, rec = ds[0, r], states[0, prev + r], saved[ps + r], dz[pz + r], du[pu + r]
        sz, sr, sg, su = kept[:u], kept[u : 2 * u], kept[2 * u : 3 * u], kept[3 * u :]
        xz, xr, xh = out[:u], out[u : 2 * u], out[2 * u :]
        uz, ur, uh = rec[:u], rec[u : 2 * u], rec[2 * u :]
        if fused:
            for j in range(u):
                gate, reset, g = sz[j], sr[j], sg[j]
                dg = dh[j] * (1 - gate) * (1 - g * g)
                dgate = dh[j] * (h_prev[j] - g) * gate * (1 - gate)
                dreset = dg * su[j] * reset * (1 - reset)
                xz[j] = dgate
                xr[j] = dreset
                xh[j] = dg
                uz[j] = dgate
                ur[j] = dreset
                uh[j] = dg * reset
                dh[j] = dh[j] * gate
        else:
            gate, reset, g, d = scratch[0], scratch[1], scratch[2], scratch[3]
            gate[:] = sz
            reset[:] = sr
            g[:] = sg
            activate_row(cell.recurrent_activation, gate)
            activate_row(cell.recurrent_activation, reset)
            activate_row(cell.activation, g)
            for j in range(u):
                d[j] = dh[j] * (1 - gate[j])
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
        zr, h_prev, h, left = z[pz + r], states[0, prev + r], states[0, new + r], operand[r]
        xz, xr, xh = zr[:u], zr[u : 2 * u], zr[2 * u :]
        if phase == 0:
            if save:
                saved[ps + r, : 2 * u] = zr[: 2 * u]
            activate_row(cell.recurrent_activation, xz)
            activate_row(cell.recurrent_activation, xr)
            for j in range(u):
                left[j] = xr[j] * h_prev[j]
            if save:
                saved[ps + r, 3 * u :] = left
        else:
            if save:
                saved[ps + r, 2 * u : 3 * u] = xh
            activate_row(cell.activation, xh)
            for j in range(u):
                h[j] = xh[j] + xz[j] * (h_prev[j] - xh[j])


@implements(step_backward, GRUBefore)
def backward_before(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    u = cell.n_units
    gate, y, d = scratch[0], scratch[1], scratch[2]
    for r in range(n):
        dh, h_prev, kept, out = ds[0, r], states[0, prev + r], saved[ps + r], dz[pz + r]
        sz, sr, sg = kept[:u], kept[u : 2 * u], kept[2 * u : 3 * u]
        xz, xr, xh = out[:u], out[u : 2 * u], out[2 * u : 3 * u]
        if phase == 1:
            gate[:] = sz
            y[:] = sg
            activate_row(cell.recurrent_activation, gate)
            activate_row(cell.activation, y)
            for j in range(u):
                d[j] = dh[j] * (1 - gate[j])
            activate_backward_row(cell.activation, sg, y, d, xh)
            for j in range(u):
                d[j] = dh[j] * (h_prev[j] - y[j])
                dh[j] *= gate[j]
            activate_backward_row(cell.recurrent_activation, sz, gate, d, xz)
        else:
            y[:] = sr
            activate_row(cell.recurrent_activation, y)
            for j in range(u):
                d[j] = d_operand[r, j] * h_prev[j]
                dh[j] += d_operand[r, j] * y[j]
            activate_backward_row(cell.recurrent_activation, sr, y, d, xr)

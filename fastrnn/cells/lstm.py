"""Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gate (Gers et al. 2000).

With ``z = x @ W + h_prev @ U + b`` cut into four gates, columns in the order i, f, g, o (Keras writes c for g)::

    i, f, o = act_rec(z_i), act_rec(z_f), act_rec(z_o)
    g       = act(z_g)
    c       = f * c_prev + i * g
    h       = o * act(c)

References
----------
Hochreiter, S. & Schmidhuber, J. (1997). Long short-term memory. Neural Computation 9(8), 1735-1780.
Gers, F., Schmidhuber, J. & Cummins, F. (2000). Learning to forget. Neural Computation 12(10), 2451-2471.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import activate_backward_row, activate_row, sigmoid, tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, fill, part, plane, segment, stretch


class LSTM(NamedTuple):
    """With tanh and sigmoid, fused with what follows them."""

    n_units: int

    def traits(self) -> Traits:
        return Traits(n_gates=4, n_states=2, n_saved=4)


class LSTMWith(NamedTuple):
    """With any activations, applied row by row."""

    n_units: int
    activation: int
    recurrent_activation: int

    def traits(self) -> Traits:
        return Traits(n_gates=4, n_states=2, n_saved=4)


@implements(step_forward, LSTM)
def forward(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        c_prev, c, h = (
            plane(step.previous, 1, r, u),
            plane(step.states, 1, r, u),
            plane(step.states, 0, r, u),
        )
        zi, zf = part(step.z, r, 0, u), part(step.z, r, u, u)
        zg, zo = part(step.z, r, 2 * u, u), part(step.z, r, 3 * u, u)
        # Doubles take a loop for each function: the constants of five don't fit the registers.
        if step.save or step.z.itemsize == 8:
            gates = part(step.saved, r, 0, 4 * u) if step.save else stretch(step.scratch, 0, 4 * u)
            # Few outputs a loop: with more than two the compiler gives up proving them apart.
            both, si_sf = part(step.z, r, 0, 2 * u), segment(gates, 0, 2 * u)
            si, sf = segment(gates, 0, u), segment(gates, u, u)
            sg, so = segment(gates, 2 * u, u), segment(gates, 3 * u, u)
            for j in range(2 * u):
                si_sf[j] = sigmoid(both[j])
            for j in range(u):
                sg[j] = tanh(zg[j])
            for j in range(u):
                so[j] = sigmoid(zo[j])
            for j in range(u):
                cj = sf[j] * c_prev[j] + si[j] * sg[j]
                c[j] = cj
                h[j] = so[j] * tanh(cj)
        else:
            for j in range(u):
                cj = sigmoid(zf[j]) * c_prev[j] + sigmoid(zi[j]) * tanh(zg[j])
                c[j] = cj
                h[j] = sigmoid(zo[j]) * tanh(cj)


@implements(step_backward, LSTM)
def backward(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, dc = plane(step.ds, 0, r, u), plane(step.ds, 1, r, u)
        c, c_prev = plane(step.states, 1, r, u), plane(step.previous, 1, r, u)
        si, sf = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        sg, so = part(step.saved, r, 2 * u, u), part(step.saved, r, 3 * u, u)
        di, df = part(step.dz, r, 0, u), part(step.dz, r, u, u)
        dg, do = part(step.dz, r, 2 * u, u), part(step.dz, r, 3 * u, u)
        for j in range(u):  # few arrays a loop, as above
            yj = tanh(c[j])
            dc[j] += dh[j] * so[j] * (one - yj * yj)
            do[j] = dh[j] * yj * so[j] * (one - so[j])
        for j in range(u):
            di[j] = dc[j] * sg[j] * si[j] * (one - si[j])
            dg[j] = dc[j] * si[j] * (one - sg[j] * sg[j])
        for j in range(u):
            df[j] = dc[j] * c_prev[j] * sf[j] * (one - sf[j])
            dc[j] *= sf[j]
        fill(dh, 0)


@implements(step_forward, LSTMWith)
def forward_with(cell, phase, step):
    u = cell.n_units
    for r in range(step.z.shape[0]):
        c_prev, c, h = (
            plane(step.previous, 1, r, u),
            plane(step.states, 1, r, u),
            plane(step.states, 0, r, u),
        )
        zi, zf = part(step.z, r, 0, u), part(step.z, r, u, u)
        zg, zo = part(step.z, r, 2 * u, u), part(step.z, r, 3 * u, u)
        if step.save:  # pre-activations: not every activation can be differentiated at its value
            copy(part(step.z, r, 0, 4 * u), part(step.saved, r, 0, 4 * u))
        activate_row(cell.recurrent_activation, zi)
        activate_row(cell.recurrent_activation, zf)
        activate_row(cell.activation, zg)
        activate_row(cell.recurrent_activation, zo)
        for j in range(u):
            c[j] = zf[j] * c_prev[j] + zi[j] * zg[j]
        copy(c, h)
        activate_row(cell.activation, h)
        for j in range(u):
            h[j] *= zo[j]


@implements(step_backward, LSTMWith)
def backward_with(cell, phase, step):
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, dc = plane(step.ds, 0, r, u), plane(step.ds, 1, r, u)
        c, c_prev = plane(step.states, 1, r, u), plane(step.previous, 1, r, u)
        si, sf = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        sg, so = part(step.saved, r, 2 * u, u), part(step.saved, r, 3 * u, u)
        di, df = part(step.dz, r, 0, u), part(step.dz, r, u, u)
        dg, do = part(step.dz, r, 2 * u, u), part(step.dz, r, 3 * u, u)
        i, f = part(step.scratch, 0, 0, u), part(step.scratch, 1, 0, u)
        g, o = part(step.scratch, 2, 0, u), part(step.scratch, 3, 0, u)
        y, d, dx = part(step.scratch, 4, 0, u), part(step.scratch, 5, 0, u), part(step.scratch, 6, 0, u)
        copy(si, i)
        copy(sf, f)
        copy(sg, g)
        copy(so, o)
        copy(c, y)
        activate_row(cell.recurrent_activation, i)
        activate_row(cell.recurrent_activation, f)
        activate_row(cell.activation, g)
        activate_row(cell.recurrent_activation, o)
        activate_row(cell.activation, y)
        for j in range(u):
            d[j] = dh[j] * o[j]
        activate_backward_row(cell.activation, c, y, d, dx)
        for j in range(u):
            d[j] = dh[j] * y[j]
        activate_backward_row(cell.recurrent_activation, so, o, d, do)
        for j in range(u):
            dc[j] += dx[j]
            d[j] = dc[j] * g[j]
        activate_backward_row(cell.recurrent_activation, si, i, d, di)
        for j in range(u):
            d[j] = dc[j] * c_prev[j]
        activate_backward_row(cell.recurrent_activation, sf, f, d, df)
        for j in range(u):
            d[j] = dc[j] * i[j]
        activate_backward_row(cell.activation, sg, g, d, dg)
        for j in range(u):
            dc[j] *= f[j]
            dh[j] = 0

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

from fastrnn.engine.contract import Traits, step_backward, step_forward
from fastrnn.engine.jit import implements
from fastrnn.engine.vecmath import SIGMOID, TANH, activate_backward_row, activate_row, sigmoid, tanh


class LSTM(NamedTuple):
    n_units: int
    activation: int = TANH
    recurrent_activation: int = SIGMOID

    def traits(self) -> Traits:
        return Traits(n_gates=4, n_states=2, n_saved=4)


@implements(step_forward, LSTM)
def forward(cell, phase, n, z, pz, hu, states, prev, new, extra, saved, ps, save, operand, scratch):
    u = cell.n_units
    fused = cell.activation == TANH and cell.recurrent_activation == SIGMOID
    for r in range(n):
        zr, c_prev = z[pz + r], states[1, prev + r]
        h, c = states[0, new + r], states[1, new + r]
        zi, zf, zg, zo = zr[:u], zr[u : 2 * u], zr[2 * u : 3 * u], zr[3 * u :]
        if fused and save:
            kept = saved[ps + r]
            si, sf, sg, so = kept[:u], kept[u : 2 * u], kept[2 * u : 3 * u], kept[3 * u :]
            for j in range(u):
                i, f, g, o = sigmoid(zi[j]), sigmoid(zf[j]), tanh(zg[j]), sigmoid(zo[j])
                si[j] = i
                sf[j] = f
                sg[j] = g
                so[j] = o
                value = f * c_prev[j] + i * g
                c[j] = value
                h[j] = o * tanh(value)
        elif fused:
            for j in range(u):
                value = sigmoid(zf[j]) * c_prev[j] + sigmoid(zi[j]) * tanh(zg[j])
                c[j] = value
                h[j] = sigmoid(zo[j]) * tanh(value)
        else:
            if save:  # pre-activations: not every activation can be differentiated at its value
                saved[ps + r, :] = zr
            for k in range(4):
                activate_row(cell.activation if k == 2 else cell.recurrent_activation, zr[k * u : (k + 1) * u])
            for j in range(u):
                c[j] = zf[j] * c_prev[j] + zi[j] * zg[j]
            h[:] = c
            activate_row(cell.activation, h)
            for j in range(u):
                h[j] *= zo[j]


@implements(step_backward, LSTM)
def backward(
    cell, phase, n, ds, states, prev, new, extra, saved, ps, dz, pz, du, pu, d_operand, d_extra, scratch
):
    u = cell.n_units
    fused = cell.activation == TANH and cell.recurrent_activation == SIGMOID
    for r in range(n):
        dh, dc, c, c_prev = ds[0, r], ds[1, r], states[1, new + r], states[1, prev + r]
        kept, out = saved[ps + r], dz[pz + r]
        si, sf, sg, so = kept[:u], kept[u : 2 * u], kept[2 * u : 3 * u], kept[3 * u :]
        di, df, dg, do = out[:u], out[u : 2 * u], out[2 * u : 3 * u], out[3 * u :]
        if fused:
            for j in range(u):
                i, f, g, o = si[j], sf[j], sg[j], so[j]
                y = tanh(c[j])
                d = dc[j] + dh[j] * o * (1 - y * y)
                do[j] = dh[j] * y * o * (1 - o)
                di[j] = d * g * i * (1 - i)
                df[j] = d * c_prev[j] * f * (1 - f)
                dg[j] = d * i * (1 - g * g)
                dc[j] = d * f
                dh[j] = 0
        else:
            gates, yc, d, dx = scratch[:4], scratch[4], scratch[5], scratch[6]
            for k in range(4):
                gates[k, :] = kept[k * u : (k + 1) * u]
                activate_row(cell.activation if k == 2 else cell.recurrent_activation, gates[k])
            yc[:] = c
            activate_row(cell.activation, yc)
            for j in range(u):
                d[j] = dh[j] * gates[3, j]
            activate_backward_row(cell.activation, c, yc, d, dx)
            for j in range(u):
                d[j] = dh[j] * yc[j]
            activate_backward_row(cell.recurrent_activation, so, gates[3], d, do)
            for j in range(u):
                dc[j] += dx[j]
                d[j] = dc[j] * gates[2, j]
            activate_backward_row(cell.recurrent_activation, si, gates[0], d, di)
            for j in range(u):
                d[j] = dc[j] * c_prev[j]
            activate_backward_row(cell.recurrent_activation, sf, gates[1], d, df)
            for j in range(u):
                d[j] = dc[j] * gates[0, j]
            activate_backward_row(cell.activation, sg, gates[2], d, dg)
            for j in range(u):
                dc[j] *= gates[1, j]
                dh[j] = 0

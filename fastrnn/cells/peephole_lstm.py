"""Long short-term memory whose gates see the cell state (Gers & Schmidhuber 2000).

With ``z = x @ W + h_prev @ U + b`` cut into four gates, columns in the order i, f, g, o, and three vectors p::

    i, f = act_rec(z_i + p_i * c_prev), act_rec(z_f + p_f * c_prev)
    g    = act(z_g)
    c    = f * c_prev + i * g
    o    = act_rec(z_o + p_o * c)
    h    = o * act(c)

``extra`` is p_i, p_f, p_o, one after the other.

References
----------
Gers, F. & Schmidhuber, J. (2000). Recurrent nets that time and count. IJCNN 2000, vol. 3, 189-194.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import SIGMOID, TANH, activate_backward_row, activate_row, sigmoid, tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, fill, part, plane, segment


class PeepholeLSTM(NamedTuple):
    n_units: int
    activation: int = TANH
    recurrent_activation: int = SIGMOID

    def traits(self) -> Traits:
        return Traits(n_gates=4, n_states=2, n_saved=4, n_extra=3)


@implements(step_forward, PeepholeLSTM)
def forward(cell, phase, step):
    u = cell.n_units
    fused = cell.activation == TANH and cell.recurrent_activation == SIGMOID
    pi, pf, po = segment(step.extra, 0, u), segment(step.extra, u, u), segment(step.extra, 2 * u, u)
    for r in range(step.z.shape[0]):
        c_prev, c, h = (
            plane(step.previous, 1, r, u),
            plane(step.states, 1, r, u),
            plane(step.states, 0, r, u),
        )
        zi, zf = part(step.z, r, 0, u), part(step.z, r, u, u)
        zg, zo = part(step.z, r, 2 * u, u), part(step.z, r, 3 * u, u)
        for j in range(u):
            zi[j] += pi[j] * c_prev[j]
        for j in range(u):
            zf[j] += pf[j] * c_prev[j]
        # Pre-activations are kept, and the output gate's completed below, once the new cell state is known.
        if step.save:
            copy(part(step.z, r, 0, 3 * u), part(step.saved, r, 0, 3 * u))
        if fused:
            for j in range(u):
                c[j] = sigmoid(zf[j]) * c_prev[j] + sigmoid(zi[j]) * tanh(zg[j])
            for j in range(u):
                zo[j] += po[j] * c[j]
            if step.save:
                copy(zo, part(step.saved, r, 3 * u, u))
            for j in range(u):
                h[j] = sigmoid(zo[j]) * tanh(c[j])
        else:
            activate_row(cell.recurrent_activation, zi)
            activate_row(cell.recurrent_activation, zf)
            activate_row(cell.activation, zg)
            for j in range(u):
                c[j] = zf[j] * c_prev[j] + zi[j] * zg[j]
            for j in range(u):
                zo[j] += po[j] * c[j]
            if step.save:
                copy(zo, part(step.saved, r, 3 * u, u))
            activate_row(cell.recurrent_activation, zo)
            copy(c, h)
            activate_row(cell.activation, h)
            for j in range(u):
                h[j] *= zo[j]


@implements(step_backward, PeepholeLSTM)
def backward(cell, phase, step):
    u = cell.n_units
    pi, pf, po = segment(step.extra, 0, u), segment(step.extra, u, u), segment(step.extra, 2 * u, u)
    d_pi, d_pf, d_po = (
        segment(step.d_extra, 0, u),
        segment(step.d_extra, u, u),
        segment(step.d_extra, 2 * u, u),
    )
    i, f = part(step.scratch, 0, 0, u), part(step.scratch, 1, 0, u)
    g, o = part(step.scratch, 2, 0, u), part(step.scratch, 3, 0, u)
    y, d, dx = part(step.scratch, 4, 0, u), part(step.scratch, 5, 0, u), part(step.scratch, 6, 0, u)
    for r in range(step.dz.shape[0]):
        dh, dc = plane(step.ds, 0, r, u), plane(step.ds, 1, r, u)
        c, c_prev = plane(step.states, 1, r, u), plane(step.previous, 1, r, u)
        si, sf = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        sg, so = part(step.saved, r, 2 * u, u), part(step.saved, r, 3 * u, u)
        di, df = part(step.dz, r, 0, u), part(step.dz, r, u, u)
        dg, do = part(step.dz, r, 2 * u, u), part(step.dz, r, 3 * u, u)
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
            d[j] = dh[j] * y[j]
        activate_backward_row(cell.recurrent_activation, so, o, d, do)
        for j in range(u):
            d[j] = dh[j] * o[j]
        activate_backward_row(cell.activation, c, y, d, dx)
        for j in range(u):
            dc[j] += dx[j] + do[j] * po[j]
        for j in range(u):
            d_po[j] += do[j] * c[j]
        for j in range(u):
            d[j] = dc[j] * g[j]
        activate_backward_row(cell.recurrent_activation, si, i, d, di)
        for j in range(u):
            d[j] = dc[j] * c_prev[j]
        activate_backward_row(cell.recurrent_activation, sf, f, d, df)
        for j in range(u):
            d[j] = dc[j] * i[j]
        activate_backward_row(cell.activation, sg, g, d, dg)
        for j in range(u):
            d_pi[j] += di[j] * c_prev[j]
        for j in range(u):
            d_pf[j] += df[j] * c_prev[j]
        for j in range(u):
            dc[j] = dc[j] * f[j] + di[j] * pi[j] + df[j] * pf[j]
        fill(dh, 0)

"""JANET: a long short-term memory with nothing but a forget gate (van der Westhuizen & Lasenby 2018).

With ``z = x @ W + h_prev @ U + b`` cut into two, columns in the order f, g::

    g = act(z_g)
    h = act_rec(z_f) * h_prev + (1 - act_rec(z_f - beta)) * g

References
----------
van der Westhuizen, J. & Lasenby, J. (2018). The unreasonable effectiveness of the forget gate. arXiv:1804.04849.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import SIGMOID, TANH, activate_backward_row, activate_row
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, fill, part, plane


class JANET(NamedTuple):
    n_units: int
    activation: int = TANH
    recurrent_activation: int = SIGMOID
    beta: float = 1.0

    def traits(self) -> Traits:
        return Traits(n_gates=2, n_saved=2)


@implements(step_forward, JANET)
def forward(cell, phase, step):
    one = step.z.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    gate = part(step.scratch, 0, 0, u)
    for r in range(step.z.shape[0]):
        h_prev, h = plane(step.previous, 0, r, u), plane(step.states, 0, r, u)
        zf, zg = part(step.z, r, 0, u), part(step.z, r, u, u)
        if step.save:
            copy(part(step.z, r, 0, 2 * u), part(step.saved, r, 0, 2 * u))
        # By way of the array, so that a float32 network does not compute in float64.
        fill(gate, cell.beta)
        for j in range(u):
            gate[j] = zf[j] - gate[j]
        activate_row(cell.recurrent_activation, zf)
        activate_row(cell.recurrent_activation, gate)
        activate_row(cell.activation, zg)
        for j in range(u):
            h[j] = zf[j] * h_prev[j] + (one - gate[j]) * zg[j]


@implements(step_backward, JANET)
def backward(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    f, late, gate = part(step.scratch, 0, 0, u), part(step.scratch, 1, 0, u), part(step.scratch, 2, 0, u)
    g, d, dx = part(step.scratch, 3, 0, u), part(step.scratch, 4, 0, u), part(step.scratch, 5, 0, u)
    for r in range(step.dz.shape[0]):
        dh, h_prev = plane(step.ds, 0, r, u), plane(step.previous, 0, r, u)
        sf, sg = part(step.saved, r, 0, u), part(step.saved, r, u, u)
        df, dg = part(step.dz, r, 0, u), part(step.dz, r, u, u)
        copy(sf, f)
        copy(sg, g)
        fill(late, cell.beta)
        for j in range(u):
            late[j] = sf[j] - late[j]
        copy(late, gate)
        activate_row(cell.recurrent_activation, f)
        activate_row(cell.recurrent_activation, gate)
        activate_row(cell.activation, g)
        for j in range(u):
            d[j] = dh[j] * h_prev[j]
        activate_backward_row(cell.recurrent_activation, sf, f, d, df)
        for j in range(u):
            d[j] = -dh[j] * g[j]
        activate_backward_row(cell.recurrent_activation, late, gate, d, dx)
        for j in range(u):
            df[j] += dx[j]
        for j in range(u):
            d[j] = dh[j] * (one - gate[j])
        activate_backward_row(cell.activation, sg, g, d, dg)
        for j in range(u):
            dh[j] *= f[j]

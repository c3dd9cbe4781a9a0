"""The independently recurrent network: each unit sees only its own past (Li et al. 2018).

With one recurrent weight for each unit in ``extra``::

    h = act(x @ W + u * h_prev + b)

References
----------
Li, S., Li, W., Cook, C., Zhu, C. & Gao, Y. (2018). Independently recurrent neural network (IndRNN): building a longer and
deeper RNN. CVPR 2018, 5457-5466.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import ACTIVATIONS, activate_backward_row, activate_row
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, part, plane, segment


class IndRNN(NamedTuple):
    n_units: int
    activation: int = ACTIVATIONS["relu"]

    def traits(self) -> Traits:
        return Traits(n_gates=1, n_saved=1, recurrent=False, n_extra=1)


@implements(step_forward, IndRNN)
def forward(cell, phase, step):
    u = cell.n_units
    weight = segment(step.extra, 0, u)
    for r in range(step.z.shape[0]):
        h_prev, h, zr = plane(step.previous, 0, r, u), plane(step.states, 0, r, u), part(step.z, r, 0, u)
        for j in range(u):
            zr[j] += weight[j] * h_prev[j]
        if step.save:
            copy(zr, part(step.saved, r, 0, u))
        activate_row(cell.activation, zr)
        copy(zr, h)


@implements(step_backward, IndRNN)
def backward(cell, phase, step):
    u = cell.n_units
    weight, d_weight = segment(step.extra, 0, u), segment(step.d_extra, 0, u)
    for r in range(step.dz.shape[0]):
        dh, h, h_prev = plane(step.ds, 0, r, u), plane(step.states, 0, r, u), plane(step.previous, 0, r, u)
        out = part(step.dz, r, 0, u)
        activate_backward_row(cell.activation, part(step.saved, r, 0, u), h, dh, out)
        for j in range(u):
            d_weight[j] += out[j] * h_prev[j]
        for j in range(u):
            dh[j] = out[j] * weight[j]

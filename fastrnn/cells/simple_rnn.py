"""The simple recurrent cell (Elman 1990): ``h = act(x @ W + h_prev @ U + b)``.

References
----------
Elman, J. L. (1990). Finding structure in time. Cognitive Science 14(2), 179-211.
"""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine.kernels.vecmath import TANH, activate_backward_row, activate_row, tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import copy, fill, part, plane


class SimpleRNN(NamedTuple):
    n_units: int
    activation: int = TANH

    def traits(self) -> Traits:
        # Other activations are differentiated at their pre-activations, which must be kept then.
        return Traits(n_gates=1, n_saved=0 if self.activation == TANH else 1)


@implements(step_forward, SimpleRNN)
def forward(cell, phase, step):
    for r in range(step.z.shape[0]):
        zr, h = part(step.z, r, 0, cell.n_units), plane(step.states, 0, r, cell.n_units)
        if cell.activation == TANH:
            for j in range(cell.n_units):
                h[j] = tanh(zr[j])
        else:
            if step.save:
                copy(zr, part(step.saved, r, 0, cell.n_units))
            activate_row(cell.activation, zr)
            copy(zr, h)


@implements(step_backward, SimpleRNN)
def backward(cell, phase, step):
    one = step.ds.dtype.type(1)  # an integer would make it float64
    u = cell.n_units
    for r in range(step.dz.shape[0]):
        dh, h, out = plane(step.ds, 0, r, u), plane(step.states, 0, r, u), part(step.dz, r, 0, u)
        if cell.activation == TANH:
            for j in range(cell.n_units):
                out[j] = dh[j] * (one - h[j] * h[j])
        else:
            activate_backward_row(cell.activation, part(step.saved, r, 0, u), h, dh, out)
        fill(dh, 0)

"""Kernels of layers without states, for call lists: rows of a dense layer, of an activation, of a table."""

from __future__ import annotations

from fastrnn.engine.kernels.matmul import product
from fastrnn.engine.kernels.vecmath import activate_row
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch
from fastrnn.engine.runtime.views import copy, part

__all__ = ["activation_step", "dense_step", "gather_step"]


@jit(inner=True)
def _dense(arguments, at, k):
    x, packed, bias, code, out = fetch(arguments, at)
    n = out.shape[1]
    product(x, packed, n, out, bias)
    for r in range(out.shape[0]):
        activate_row(code, part(out, r, 0, n))


@jit(inner=True)
def _activation(arguments, at, k):
    x, code, out = fetch(arguments, at)
    for r in range(out.shape[0]):
        row = part(out, r, 0, out.shape[1])
        copy(part(x, r, 0, out.shape[1]), row)
        activate_row(code, row)


@jit(inner=True)
def _gather(arguments, at, k):
    tokens, table, out = fetch(arguments, at)
    for r in range(out.shape[0]):
        copy(part(table, tokens[r], 0, out.shape[1]), part(out, r, 0, out.shape[1]))


#: ``out (n, units) = activation(x @ W + bias)``; arguments x, packed W, bias (0 or 1 rows), activation code, out.
dense_step = address(_dense)
#: ``out = activation(x)``; arguments x, activation code, out.
activation_step = address(_activation)
#: ``out[r] = table[tokens[r]]``, tokens in range; arguments tokens, table, out.
gather_step = address(_gather)

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

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["GRU"]


@equations("z r h")
def GRU(z, u, prev, activation=tanh, recurrent_activation=sigmoid):
    """Gated recurrent unit, the reset gate after the recurrent product (Cho et al. 2014); one state, h."""
    g = activation(z.h + recurrent_activation(z.r + u.r) * u.h)
    return g + recurrent_activation(z.z + u.z) * (prev.h - g)


@equations("z r h", late="h")
def GRUBefore(z, prev, activation=tanh, recurrent_activation=sigmoid):
    """Gated recurrent unit, the reset gate before the recurrent product (Cho et al. 2014); one state, h."""
    g = activation(z.h(recurrent_activation(z.r) * prev.h))
    return g + recurrent_activation(z.z) * (prev.h - g)


#: The cell with any activations, computed row by row.
GRUWith = GRU.With

"""Long short-term memory whose gates depend on the cell state (Gers & Schmidhuber 2000).

With ``z = x @ W + h_prev @ U + b``, columns in the order i, f, c, o, and three vectors p::

    i, f = act_rec(z_i + p_i * c_prev), act_rec(z_f + p_f * c_prev)
    g    = act(z_c)
    c    = f * c_prev + i * g
    o    = act_rec(z_o + p_o * c)
    h    = o * act(c)

The rows of ``extra`` are p_i, p_f and p_o.

References
----------
Gers, F. & Schmidhuber, J. (2000). Recurrent nets that time and count. IJCNN 2000, vol. 3, 189-194.
"""

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["PeepholeLSTM"]


@equations("i f c o", "h c", extra="i f o")
def PeepholeLSTM(z, prev, p, activation=tanh, recurrent_activation=sigmoid):
    """Long short-term memory whose gates depend on the cell state (Gers & Schmidhuber 2000); two states, h and c."""
    i, f = recurrent_activation(z.i + p.i * prev.c), recurrent_activation(z.f + p.f * prev.c)
    c = f * prev.c + i * activation(z.c)
    o = recurrent_activation(z.o + p.o * c)
    return o * activation(c), c

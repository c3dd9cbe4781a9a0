"""Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gate (Gers et al. 2000).

With ``z = x @ W + h_prev @ U + b``, columns in the order i, f, c, o::

    i, f, o = act_rec(z_i), act_rec(z_f), act_rec(z_o)
    g       = act(z_c)
    c       = f * c_prev + i * g
    h       = o * act(c)

References
----------
Hochreiter, S. & Schmidhuber, J. (1997). Long short-term memory. Neural Computation 9(8), 1735-1780.
Gers, F., Schmidhuber, J. & Cummins, F. (2000). Learning to forget. Neural Computation 12(10), 2451-2471.
"""

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["LSTM"]


@equations("i f c o", "h c", start={"f": 1.0})
def LSTM(z, prev, activation=tanh, recurrent_activation=sigmoid):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); two states, h and c."""
    i, f, o = recurrent_activation(z.i), recurrent_activation(z.f), recurrent_activation(z.o)
    c = f * prev.c + i * activation(z.c)
    return o * activation(c), c


#: The cell with any activations, computed row by row.
LSTMWith = LSTM.With

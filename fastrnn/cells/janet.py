"""JANET: a long short-term memory with a forget gate as its only gate (van der Westhuizen & Lasenby 2018).

With ``z = x @ W + h_prev @ U + b``, columns in the order f, g::

    g = act(z_g)
    h = act_rec(z_f) * h_prev + (1 - act_rec(z_f - beta)) * g

References
----------
van der Westhuizen, J. & Lasenby, J. (2018). The unreasonable effectiveness of the forget gate. arXiv:1804.04849.
"""

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["JANET"]


@equations("f g", start={"f": 1.0})
def JANET(z, prev, activation=tanh, recurrent_activation=sigmoid, beta=1.0):
    """Long short-term memory with a forget gate as its only gate (van der Westhuizen & Lasenby 2018); one state, h."""
    f, late = recurrent_activation(z.f), recurrent_activation(z.f - beta)
    return f * prev.h + (1 - late) * activation(z.g)

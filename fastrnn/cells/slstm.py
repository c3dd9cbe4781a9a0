"""sLSTM: a long short-term memory with an exponential input gate, a normaliser and a stabiliser (Beck et al. 2024).

With ``z = x @ W + h_prev @ U + b``, columns in the order i, f, c, o, and the states h, c, n, m::

    log_f = log(sigmoid(z_f))
    m     = max(log_f + m_prev, z_i)               (z_i in the first step, where n_prev is 0)
    i, f  = exp(z_i - m), exp(log_f + m_prev - m)
    c     = f * c_prev + i * act(z_c)
    n     = f * n_prev + i
    h     = sigmoid(z_o) * c / n

n is at least 1 after the first step. Each unit has its own memory; the paper's heads (a recurrent kernel of diagonal
blocks) are not implemented.

References
----------
Beck, M., Poeppel, K., Spanring, M., Auer, A., Prudnikova, O., Kopp, M., Klambauer, G., Brandstetter, J. & Hochreiter, S.
(2024). xLSTM: extended long short-term memory. NeurIPS 37. arXiv:2405.04517.
"""

from fastrnn.cells import equations, exp, log_sigmoid, maximum, minimum, sigmoid, tanh, where

__all__ = ["SLSTM"]


@equations("i f c o", "h c n m", start={"f": 1.0})
def SLSTM(z, prev, activation=tanh, recurrent_activation=sigmoid):
    """A long short-term memory with an exponential input gate (Beck et al. 2024); states h, c, n, m."""
    kept = log_sigmoid(z.f) + prev.m
    m = where(prev.n > 0, maximum(kept, z.i), z.i)
    i = exp(z.i - m)
    f = where(prev.n > 0, exp(minimum(kept - m, 0)), 0)
    c = f * prev.c + i * activation(z.c)
    n = f * prev.n + i
    return recurrent_activation(z.o) * c / n, c, n, m

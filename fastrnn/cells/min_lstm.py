"""minLSTM: a long short-term memory whose gates do not depend on the state and are normalised (Feng et al. 2024).

With ``z = x @ W + b``, columns in the order f, i, h (there is no recurrent product)::

    f, i = act_rec(z_f), act_rec(z_i)
    h    = (f * h_prev + i * act(z_h)) / (f + i)

References
----------
Feng, L., Tung, F., Ahmed, M. O., Bengio, Y. & Hajimirsadeghi, H. (2024). Were RNNs all we needed? arXiv:2410.01201.
"""

from fastrnn.cells import equations, linear, sigmoid

__all__ = ["MinLSTM"]

#: Least sum of the gates, because float32 sigmoids are zero below -104.
TINY = 1e-30


@equations("f i h", recurrent=False, start={"f": 1.0})
def MinLSTM(z, prev, activation=linear, recurrent_activation=sigmoid):
    """A long short-term memory whose normalised gates do not depend on the state (Feng et al. 2024); one state, h."""
    f, i = recurrent_activation(z.f), recurrent_activation(z.i)
    share = f / (f + i + TINY)
    return share * prev.h + (1 - share) * activation(z.h)

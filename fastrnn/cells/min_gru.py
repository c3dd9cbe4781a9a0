"""minGRU: a gated recurrent unit whose gates do not depend on the state (Feng et al. 2024).

With ``z = x @ W + b``, columns in the order z, h (there is no recurrent product)::

    g = act(z_h)
    h = (1 - act_rec(z_z)) * h_prev + act_rec(z_z) * g

References
----------
Feng, L., Tung, F., Ahmed, M. O., Bengio, Y. & Hajimirsadeghi, H. (2024). Were RNNs all we needed? arXiv:2410.01201.
"""

from fastrnn.cells import equations, linear, sigmoid

__all__ = ["MinGRU"]


@equations("z h", recurrent=False)
def MinGRU(z, prev, activation=linear, recurrent_activation=sigmoid):
    """A gated recurrent unit whose gates do not depend on the state (Feng et al. 2024); one state, h."""
    return prev.h + recurrent_activation(z.z) * (activation(z.h) - prev.h)

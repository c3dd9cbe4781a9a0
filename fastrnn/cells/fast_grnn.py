"""FastGRNN: a gated unit whose gate and candidate share their weights (Kusupati et al. 2018).

With ``z = x @ W + h_prev @ U + b`` of `units` columns, and for each unit a second bias p_gate and two numbers p_zeta and
p_nu::

    gate = act_rec(z + p_gate)
    g    = act(z)
    h    = (sigmoid(p_zeta) * (1 - gate) + sigmoid(p_nu)) * g + gate * h_prev

The rows of ``extra`` are p_gate, p_zeta and p_nu. The paper has one zeta and one nu for all units; here each unit has its
own. Weights are full matrices; the paper's low rank, sparsity and quantisation are not implemented.

References
----------
Kusupati, A., Singh, M., Bhatia, K., Kumar, A., Jain, P. & Varma, M. (2018). FastGRNN: a fast, accurate, stable and tiny
kilobyte sized gated recurrent neural network. NeurIPS 31. arXiv:1901.02358.
"""

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["FastGRNN"]


@equations("h", extra="gate zeta nu", start={"h": 1.0, "zeta": 1.0, "nu": -4.0})
def FastGRNN(z, prev, p, activation=tanh, recurrent_activation=sigmoid):
    """A gated unit whose gate and candidate share their weights (Kusupati et al. 2018); one state, h."""
    gate = recurrent_activation(z.h + p.gate)
    return (sigmoid(p.zeta) * (1 - gate) + sigmoid(p.nu)) * activation(z.h) + gate * prev.h

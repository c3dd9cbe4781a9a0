"""The independently recurrent network: each unit depends only on its own previous state (Li et al. 2018).

With one recurrent weight for each unit in ``extra``::

    h = act(x @ W + u * h_prev + b)

References
----------
Li, S., Li, W., Cook, C., Zhu, C. & Gao, Y. (2018). Independently recurrent neural network (IndRNN): building a longer and
deeper RNN. CVPR 2018, 5457-5466.
"""

from fastrnn.cells import equations, relu

__all__ = ["IndRNN"]


@equations("h", extra="u", recurrent=False)
def IndRNN(z, prev, p, activation=relu):
    """The independently recurrent network (Li et al. 2018); one state, h."""
    return activation(z.h + p.u * prev.h)

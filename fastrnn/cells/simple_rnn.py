"""The simple recurrent cell (Elman 1990): ``h = act(x @ W + h_prev @ U + b)``.

References
----------
Elman, J. L. (1990). Finding structure in time. Cognitive Science 14(2), 179-211.
"""

from fastrnn.cells import equations, tanh

__all__ = ["SimpleRNN"]


@equations("h")
def SimpleRNN(z, prev, activation=tanh):
    """The simple recurrent cell (Elman 1990); one state, h."""
    return activation(z.h)

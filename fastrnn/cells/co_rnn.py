"""coRNN: coupled oscillators with damping, driven by the input (Rusch & Mishra 2021).

With the states y (the output) and v (its velocity), and the columns of z in the order y, v::

    z_y = x @ W_y + y_prev @ U_y + b_y
    z_v = x @ W_v + v_prev @ U_v + b_v
    v   = v_prev + dt * (act(z_y + z_v) - gamma * y_prev - epsilon * v_prev)
    y   = y_prev + dt * v

The paper has one input kernel and one bias, which are the sums of the two here.

References
----------
Rusch, T. K. & Mishra, S. (2021). Coupled oscillatory recurrent neural network (coRNN): an accurate and (gradient) stable
architecture for learning long time dependencies. ICLR 2021. arXiv:2010.00951.
"""

from fastrnn.cells import equations, tanh

__all__ = ["CoRNN"]


@equations("y v", "y v", late="v")
def CoRNN(z, prev, activation=tanh, dt=0.05, gamma=1.0, epsilon=1.0):
    """Coupled oscillators with damping, driven by the input (Rusch & Mishra 2021); states y and its velocity v."""
    v = prev.v + dt * (activation(z.y + z.v(prev.v)) - gamma * prev.y - epsilon * prev.v)
    return prev.y + dt * v, v

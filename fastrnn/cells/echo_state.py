"""The leaky echo-state cell: a reservoir whose weights are not trained (Jaeger 2001, Jaeger et al. 2007).

With ``z = x @ W + h_prev @ U + b``::

    h = (1 - leak) * h_prev + leak * act(z)

The layer is not trainable by default. Its recurrent kernel is 0.9 times a random orthogonal matrix, so that all eigenvalues
have the absolute value 0.9; kernel and bias are uniform in -0.5 to 0.5. Only a read-out of its states is trained, for
example scikit-learn's ``Ridge``.

References
----------
Jaeger, H. (2001). The "echo state" approach to analysing and training recurrent neural networks. GMD report 148.

Jaeger, H., Lukosevicius, M., Popovici, D. & Siewert, U. (2007). Optimization and applications of echo state networks with
leaky-integrator neurons. Neural Networks 20(3), 335-352.
"""

from fastrnn.cells import equations, tanh

__all__ = ["EchoState"]


UNIFORM = {"class_name": "RandomUniform", "config": {"minval": -0.5, "maxval": 0.5}}


@equations(
    "h",
    layer_defaults={
        "trainable": False,
        "kernel_initializer": UNIFORM,
        "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 0.9}},
        "bias_initializer": UNIFORM,
    },
)
def EchoState(z, prev, activation=tanh, leak=0.3):
    """A leaky unit of a reservoir, whose weights are not trained (Jaeger 2001); one state, h."""
    return prev.h + leak * (activation(z.h) - prev.h)

"""Keras's activations: the functions, their derivatives, and their integer codes.

To add one, write the function and its derivative, and append a line to ``_ELEMENTWISE`` (at its end, as the position is the
code). :mod:`fastrnn.engine.kernels.vecmath` makes them available to kernels.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.engine.kernels.elementary import exp, expm1, log1p, normal_cdf, sigmoid, tanh
from fastrnn.engine.runtime.jit import inlined

__all__ = [
    "ACTIVATIONS",
    "GELU_APPROXIMATE",
    "LINEAR",
    "ROWWISE",
    "SIGMOID",
    "SLOPES",
    "TANH",
    "VALUES",
    "name_of",
    "resolve",
]

# Each takes a float32 or float64 and stays in that type, for which its constants go through `c = type(x)`: a bare
# 0.5 would make it float64. A slope also gets the value y. Comparisons are written so that NaN stays NaN. At a kink
# the slope is JAX's.


# A formula is a part of kernels; the order of its operations stays as written, for the digits that were counted on.
_formula = functools.partial(inlined, fastmath={"contract"})


@_formula
def _linear(x):
    return x


@_formula
def _linear_slope(x, y):
    return type(x)(1.0)


@_formula
def _tanh_slope(x, y):
    return type(x)(1.0) - y * y


@_formula
def _sigmoid_slope(x, y):
    return y * (type(x)(1.0) - y)


@_formula
def _relu(x):
    return type(x)(0.0) if x < type(x)(0.0) else x


@_formula
def _relu_slope(x, y):
    return type(x)(1.0) if x > type(x)(0.0) else type(x)(0.0)


@_formula
def _relu6(x):
    c = type(x)
    x = c(0.0) if x < c(0.0) else x
    return c(6.0) if x > c(6.0) else x


@_formula
def _relu6_slope(x, y):
    c = type(x)
    return c(1.0) if (x > c(0.0)) & (x < c(6.0)) else c(0.0)


@_formula
def _leaky_relu(x):
    c = type(x)
    return c(0.2) * x if x < c(0.0) else x


@_formula
def _leaky_relu_slope(x, y):
    c = type(x)
    return c(0.2) if x < c(0.0) else c(1.0)


@_formula
def _elu(x):
    c = type(x)
    y = expm1(c(0.0) if x > c(0.0) else x)
    return x if x > c(0.0) else y


@_formula
def _elu_slope(x, y):
    c = type(x)
    return c(1.0) if x > c(0.0) else y + c(1.0)


@_formula
def _selu(x):
    c = type(x)
    y = c(1.7580993408473766) * expm1(c(0.0) if x > c(0.0) else x)
    return c(1.0507009873554805) * x if x > c(0.0) else y


@_formula
def _selu_slope(x, y):
    c = type(x)
    return c(1.0507009873554805) if x > c(0.0) else y + c(1.7580993408473766)


@_formula
def _softplus(x):
    c = type(x)
    return (c(0.0) if x < c(0.0) else x) + log1p(exp(-abs(x)))


@_formula
def _softplus_slope(x, y):
    return sigmoid(x)


@_formula
def _log_sigmoid(x):
    return -_softplus(-x)


@_formula
def _log_sigmoid_slope(x, y):
    return sigmoid(-x)


@_formula
def _softsign(x):
    c = type(x)
    a = abs(x)
    return x / (c(1.0) + a) if a < c(np.inf) else _sign(x)


@_formula
def _sign(x):
    c = type(x)
    s = c(1.0) if x > c(0.0) else x
    return c(-1.0) if x < c(0.0) else s


@_formula
def _softsign_slope(x, y):
    c = type(x)
    r = c(1.0) / (c(1.0) + abs(x))
    return r * r


@_formula
def _soft_shrink(x):
    c = type(x)
    y = x - c(0.5) if x > c(0.5) else x - x
    return x + c(0.5) if x < c(-0.5) else y


@_formula
def _shrink_slope(x, y):
    c = type(x)
    return c(1.0) if abs(x) > c(0.5) else c(0.0)


@_formula
def _hard_shrink(x):
    c = type(x)
    return c(0.0) if abs(x) <= c(0.5) else x


@_formula
def _tanh_shrink(x):
    return x - tanh(x)


@_formula
def _tanh_shrink_slope(x, y):
    t = tanh(x)
    return t * t


@_formula
def _hard_tanh(x):
    c = type(x)
    x = c(-1.0) if x < c(-1.0) else x
    return c(1.0) if x > c(1.0) else x


@_formula
def _hard_tanh_slope(x, y):
    c = type(x)
    return c(1.0) if abs(x) < c(1.0) else c(0.0)


@_formula
def _hard_sigmoid(x):
    c = type(x)
    y = x * c(1 / 6) + c(0.5)
    y = c(0.0) if y < c(0.0) else y
    return c(1.0) if y > c(1.0) else y


@_formula
def _hard_sigmoid_slope(x, y):
    c = type(x)
    return c(1 / 6) if abs(x) < c(3.0) else c(0.0)


@_formula
def _hard_silu(x):
    c = type(x)
    low = c(-3.0) if x < c(-3.0) else x  # The limit at minus infinity is 0, not infinity times 0.
    return low * _hard_sigmoid(low)


@_formula
def _hard_silu_slope(x, y):
    c = type(x)
    inner = x * c(1 / 3) + c(0.5)
    high = c(1.0) if x >= c(3.0) else inner
    return c(0.0) if x <= c(-3.0) else high


@_formula
def _silu(x):
    c = type(x)
    low = c(-87.0) if x < c(-87.0) else x
    return low * sigmoid(low)


@_formula
def _silu_slope(x, y):
    s = sigmoid(x)
    return s + y * (type(x)(1.0) - s)


@_formula
def _mish(x):
    # tanh(softplus(x)) = n / (n + 2) with n = exp(x) (exp(x) + 2)
    c = type(x)
    high = c(40.0) if x > c(40.0) else x
    high = c(-87.0) if high < c(-87.0) else high
    e = exp(high)
    n = e * (e + c(2.0))
    return (c(-87.0) if x < c(-87.0) else x) * (n / (n + c(2.0)))


@_formula
def _mish_slope(x, y):
    c = type(x)
    high = c(40.0) if x > c(40.0) else x
    high = c(-87.0) if high < c(-87.0) else high
    e = exp(high)
    n = e * (e + c(2.0))
    t = n / (n + c(2.0))
    return t + high * (c(1.0) - t * t) * sigmoid(x)


@_formula
def _gelu(x):
    c = type(x)
    low = c(-40.0) if x < c(-40.0) else x
    return low * normal_cdf(low)


@_formula
def _gelu_slope(x, y):
    c = type(x)
    b = c(40.0) if x > c(40.0) else x
    b = c(-40.0) if b < c(-40.0) else b
    return normal_cdf(b) + b * (c(0.3989422804014327) * exp(c(-0.5) * b * b))


@_formula
def _gelu_approximate(x):
    # (1 + tanh(v)) / 2 is sigmoid(2 v), which has no cancellation where tanh is near -1.
    c = type(x)
    b = c(40.0) if x > c(40.0) else x
    b = c(-40.0) if b < c(-40.0) else b
    s = sigmoid(c(1.5957691216057308) * (b + c(0.044715) * b * b * b))
    return (c(-40.0) if x < c(-40.0) else x) * s


@_formula
def _gelu_approximate_slope(x, y):
    c = type(x)
    b = c(40.0) if x > c(40.0) else x
    b = c(-40.0) if b < c(-40.0) else b
    s = sigmoid(c(1.5957691216057308) * (b + c(0.044715) * b * b * b))
    return s + b * s * (c(1.0) - s) * c(1.5957691216057308) * (c(1.0) + c(3 * 0.044715) * b * b)


@_formula
def _exponential_slope(x, y):
    return y


@_formula
def _sparse_plus(x):
    c = type(x)
    low = c(-1.0) if x < c(-1.0) else x
    return c(0.25) * (low + c(1.0)) * (low + c(1.0)) if low < c(1.0) else low


@_formula
def _sparse_plus_slope(x, y):
    return _sparse_sigmoid(x)


@_formula
def _sparse_sigmoid(x):
    c = type(x)
    y = c(0.5) * (x + c(1.0))
    y = c(0.0) if y < c(0.0) else y
    return c(1.0) if y > c(1.0) else y


@_formula
def _sparse_sigmoid_slope(x, y):
    c = type(x)
    return c(0.5) if abs(x) < c(1.0) else c(0.0)


@_formula
def _squareplus(x):
    # (x + root) / 2; for negative x multiplied by the conjugate, to avoid the difference of two nearly equal numbers.
    c = type(x)
    a = abs(x)
    sum_ = a + np.sqrt(a * a + c(4.0))
    return c(2.0) / sum_ if x < c(0.0) else c(0.5) * sum_


@_formula
def _squareplus_slope(x, y):
    c = type(x)
    high = c(1e9) if x > c(1e9) else x
    high = c(-1e9) if high < c(-1e9) else high
    z = _squareplus(high)
    return z * z / (z * z + c(1.0))


_ELEMENTWISE: dict[str, tuple[Callable, Callable]] = {
    "linear": (_linear, _linear_slope),
    "tanh": (tanh, _tanh_slope),
    "sigmoid": (sigmoid, _sigmoid_slope),
    "relu": (_relu, _relu_slope),
    "relu6": (_relu6, _relu6_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "elu": (_elu, _elu_slope),
    "selu": (_selu, _selu_slope),
    "celu": (_elu, _elu_slope),
    "softplus": (_softplus, _softplus_slope),
    "softsign": (_softsign, _softsign_slope),
    "soft_shrink": (_soft_shrink, _shrink_slope),
    "hard_shrink": (_hard_shrink, _shrink_slope),
    "tanh_shrink": (_tanh_shrink, _tanh_shrink_slope),
    "hard_tanh": (_hard_tanh, _hard_tanh_slope),
    "hard_sigmoid": (_hard_sigmoid, _hard_sigmoid_slope),
    "hard_silu": (_hard_silu, _hard_silu_slope),
    "silu": (_silu, _silu_slope),
    "mish": (_mish, _mish_slope),
    "gelu": (_gelu, _gelu_slope),
    "gelu_approximate": (_gelu_approximate, _gelu_approximate_slope),
    "exponential": (exp, _exponential_slope),
    "log_sigmoid": (_log_sigmoid, _log_sigmoid_slope),
    "sparse_plus": (_sparse_plus, _sparse_plus_slope),
    "sparse_sigmoid": (_sparse_sigmoid, _sparse_sigmoid_slope),
    "squareplus": (_squareplus, _squareplus_slope),
}
_ROWWISE = ("softmax", "log_softmax", "sparsemax")

_NAMES = (*_ELEMENTWISE, *_ROWWISE)

#: Code of each activation by its Keras name. Codes may differ between versions: save names.
ACTIVATIONS: dict[str, int] = {name: code for code, name in enumerate(_NAMES)}
ACTIVATIONS["swish"] = ACTIVATIONS["silu"]
ACTIVATIONS["hard_swish"] = ACTIVATIONS["hard_silu"]

LINEAR, TANH, SIGMOID = ACTIVATIONS["linear"], ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"]
GELU_APPROXIMATE = ACTIVATIONS["gelu_approximate"]
#: Codes of activations that mix the elements of a row, which have a Jacobian instead of an elementwise derivative.
ROWWISE = frozenset(ACTIVATIONS[name] for name in _ROWWISE)

VALUES = [value for value, _ in _ELEMENTWISE.values()]
SLOPES = [slope for _, slope in _ELEMENTWISE.values()]


def name_of(code: int) -> str:
    """Return the Keras name of a code."""
    return _NAMES[code]


def resolve(activation: Any) -> int:
    """Return the code of an activation.

    Parameters
    ----------
    activation : str, int, None, or one of Keras's functions
        None is linear, as in Keras.

    Raises
    ------
    ValueError
        If there is no such activation; the message lists the known ones.
    """
    if type(activation) is str and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if activation is None:
        return LINEAR
    if isinstance(activation, (int, np.integer)) and not isinstance(activation, bool):
        if 0 <= activation < len(_NAMES):
            return int(activation)
        raise ValueError(f"activation={activation!r} is not a code: they go from 0 to {len(_NAMES) - 1}")
    name = activation
    if inspect.isfunction(activation) and activation.__module__.partition(".")[0] == "keras":
        name = activation.__name__
    if isinstance(name, str) and name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name == "glu":
        why = "it halves the number of features, which a recurrent layer or Dense can't follow"
    elif name == "threshold":
        why = "it needs a threshold and a value, which a name can't specify"
    elif callable(activation):
        why = "a function of your own has no gradient here"
    else:
        why = "there is none of this name"
    raise ValueError(f"activation={activation!r} can't be used: {why}. Choose from {sorted(ACTIVATIONS)}")

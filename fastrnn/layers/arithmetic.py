"""The engine's products and activations as layers other than the recurrent ones use them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.registry import choices

__all__ = ["activate", "activate_backward", "check_activation", "matmul"]


def matmul(a, b, out=None, *, bias=None, accumulate=False, transpose_a=False, transpose_b=False):
    """``out (+)= op(a) @ op(b) (+ bias)`` for matrices."""
    result = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    if bias is not None:
        result += bias
    if out is None:
        return result
    if accumulate:
        out += result
    else:
        out[...] = result
    return out


def _softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    return e


def _sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


_TABLE = {
    "linear": (lambda z: z, lambda z, y, dy: dy),
    "tanh": (np.tanh, lambda z, y, dy: dy * (1 - y * y)),
    "sigmoid": (_sigmoid, lambda z, y, dy: dy * y * (1 - y)),
    "relu": (lambda z: np.maximum(z, 0), lambda z, y, dy: dy * (y > 0)),
    "softmax": (_softmax, lambda z, y, dy: y * (dy - (dy * y).sum(-1, keepdims=True))),
}


def check_activation(activation: Any, name: str = "activation") -> str:
    """The name of an activation; None means linear."""
    if activation is None:
        return "linear"
    if not isinstance(activation, str) or activation not in _TABLE:
        raise ValueError(f"{name}={activation!r} is not an activation: {choices(activation, _TABLE)}")
    return activation


def activate(activation: str, z: np.ndarray) -> np.ndarray:
    """The activation of `z`, as a new array (or `z` itself where it is linear)."""
    return _TABLE[activation][0](z)


def activate_backward(activation: str, z: np.ndarray, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The gradient of `z`, given its activation `y` and the gradient of that."""
    return _TABLE[activation][1](z, y, dy)

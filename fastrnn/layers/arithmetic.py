"""The engine's products and activations as layers other than the recurrent ones use them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["activate", "activate_backward", "check_activation", "matmul"]


def matmul(*args: Any, **kwargs: Any) -> np.ndarray:
    """``out (+)= op(a) @ op(b) (+ bias)``: see `fastrnn.engine.matmul.matmul`, imported at first use."""
    from fastrnn.engine.matmul import matmul as product

    return product(*args, **kwargs)


def check_activation(activation: Any, name: str = "activation") -> str:
    """The name of an activation; None means linear."""
    from fastrnn.engine.vecmath import resolve

    if activation is None:
        return "linear"
    try:
        resolve(activation)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}={activation!r}: {error}") from None
    return activation if isinstance(activation, str) else activation.__name__


def activate(activation: str, z: np.ndarray) -> np.ndarray:
    """The activation of `z`, as a new array (or `z` itself where it is linear)."""
    from fastrnn.engine.vecmath import activate

    return z if activation == "linear" else activate(activation, z)


def activate_backward(activation: str, z: np.ndarray, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The gradient of `z`, given its activation `y` and the gradient of that."""
    from fastrnn.engine.vecmath import activate_backward

    return dy if activation == "linear" else activate_backward(activation, z, y, dy)

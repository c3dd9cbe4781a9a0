"""The functions for equations: with symbols they make nodes, with arrays they are NumPy's functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.engine.equations.operations import OPERATIONS
from fastrnn.engine.equations.trace import Node
from fastrnn.engine.kernels import vecmath
from fastrnn.engine.kernels.activations import ACTIVATIONS, ROWWISE

__all__ = ["FUNCTIONS", "Function"]


def _activate(name: str) -> Any:
    def apply(x: Any) -> Any:
        x = np.asarray(x)
        return vecmath.activate(name, x if x.dtype == np.float32 else x.astype(np.float64))

    return apply


#: The functions for arrays.
_ON_ARRAYS: dict[str, Any] = {
    "tanh": np.tanh,
    "sigmoid": vecmath.sigmoid,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "square": np.square,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "linear": lambda x: x,
    "exponential": np.exp,
    "relu": lambda x: np.maximum(x, 0),
}


class Function:
    """A function for equations, which takes symbols or arrays.

    Parameters
    ----------
    name : str
        One of :data:`FUNCTIONS`.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self._on_arrays = _ON_ARRAYS.get(name) or _activate(name)

    def __call__(self, *args: Any) -> Any:
        for a in args:
            if isinstance(a, Node):
                return a.graph.call(self.__name__, *args)
        return self._on_arrays(*args)

    def __repr__(self) -> str:
        return f"<function {self.__name__} of equations>"

    def __reduce__(self) -> Any:
        return _function, (self.__name__,)


def _function(name: str) -> Function:
    return FUNCTIONS[name]


#: All functions by name: the elementary functions, and the elementwise activations by Keras's names.
FUNCTIONS: dict[str, Function] = {
    name: Function(name)
    for name in (
        *_ON_ARRAYS,
        *(n for n, code in ACTIVATIONS.items() if code not in ROWWISE and n not in _ON_ARRAYS),
    )
    if name in OPERATIONS
}

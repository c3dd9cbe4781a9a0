"""Cells by their equations: one file each, and what a file of your own is written with.

A cell is a Python function of one time step, decorated with :func:`equations`; the functions here are those that it may use,
besides the operators and NumPy's functions of the same names.
"""

import functools
import importlib
import pkgutil
from typing import Any

from fastrnn.engine.equations import FUNCTIONS, EquationsCell, equations
from fastrnn.registry import snake_case

__all__ = [
    "EquationsCell",
    "equations",
    "exp",
    "expm1",
    "linear",
    "log",
    "log1p",
    "log_sigmoid",
    "maximum",
    "minimum",
    "registered",
    "relu",
    "sigmoid",
    "softplus",
    "sqrt",
    "tanh",
    "where",
]

exp, expm1, log, log1p, sqrt = (FUNCTIONS[name] for name in ("exp", "expm1", "log", "log1p", "sqrt"))
tanh, sigmoid, relu, linear = (FUNCTIONS[name] for name in ("tanh", "sigmoid", "relu", "linear"))
softplus, log_sigmoid = (FUNCTIONS[name] for name in ("softplus", "log_sigmoid"))
maximum, minimum, where = (FUNCTIONS[name] for name in ("maximum", "minimum", "where"))

#: Keys of cells whose names were chosen before there was a rule.
_KEYS = {"IndRNN": "indrnn"}


@functools.cache
def registered() -> dict[str, Any]:
    """Every cell of this folder by its key, such as ``"min_gru"``: what the files name in ``__all__``.

    Each of them has a layer of its name, and its key is a value of the estimators' parameter `cell`.
    """
    found = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for name in getattr(module, "__all__", ()):
            cls = getattr(module, name)
            if not (isinstance(cls, type) and issubclass(cls, EquationsCell)):
                raise TypeError(
                    f"{module.__name__}.__all__ has {name!r}, which is not a cell made by equations()"
                )
            found[_KEYS.get(name, snake_case(name))] = cls
    return found

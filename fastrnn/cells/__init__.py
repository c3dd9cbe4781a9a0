"""Cells by their equations: one file each, and what a file of your own is written with.

A cell is a Python function of one time step, decorated with :func:`equations`; the functions here are those that it may use,
besides the operators and NumPy's functions of the same names.
"""

from fastrnn.engine.equations import FUNCTIONS, EquationsCell, equations

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

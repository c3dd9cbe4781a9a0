"""Write a cell: its equations as a Python function of one time step; and the built-in cells, one file each.

A cell, in a script, a notebook or a module of your own::

    from fastrnn.cells import equations, sigmoid, tanh
    from fastrnn import RNNClassifier, layers
    from fastrnn.testing import check_cell

    @equations("f g", states="h c", extra="w", start={"f": 1.0})
    def Peeping(z, prev, p, activation=tanh, mix=0.5):
        f = sigmoid(z.f + p.w * prev.c)
        c = f * prev.c + (1 - f) * activation(z.g)
        return mix * activation(c) + (1 - mix) * prev.h, c

    check_cell(Peeping(n_units=5))
    layer = layers.RNN(Peeping(n_units=64, mix=0.8), return_sequences=True)
    model = RNNClassifier(cell=Peeping, units=64)

**What the decorator says.** ``"f g"`` names the columns of ``z = x @ W + h_prev @ U + b``: two gates, so `W` has ``2 *
n_units`` columns. `states` names the states, the output first (one, h, by default). `extra` names further parameters, one
number for each unit. `start` says where a gate's bias or a further parameter starts if that is not zero. `recurrent=False`
leaves the recurrent product out. A gate in `late` has a recurrent product of another operand, which the function gives:
``z.h(r * prev.h)`` is ``x @ W_h + b_h + (r * h_prev) @ U_h``.

**What the function is given.** Its parameters ask for it by name: `z` the pre-activations, `prev` the states before the
step, `p` the further parameters, and `u` the recurrent product, which is then kept apart from `z` and has a bias of its
own. A parameter whose default is a function of this module is an activation, which users of the cell choose
(``Peeping.using(activation="relu")``). One whose default is a number is a number of the cell (``Peeping(64, mix=0.8)``).

**What it may do.** All is about one unit: numbers, operators, the functions of this module, and NumPy's functions of the
same names. Branches are ``where(condition, a, b)``, and conditions are joined by ``& | ~``. There are no indices, no loops
over units, no matrix products: those are the engine's. Whatever can't be meant is an
:class:`~fastrnn.exceptions.EquationError` when the cell is defined; it shows the line and says what to write instead.

**What comes of it.** The function is run once, on symbols. The graph is differentiated, and loops over units are written
and compiled, as fast as those of the built-in cells, which are made the same way. The code is kept on disk, also for a cell
of a script: the second run compiles nothing. The layer takes masks, dropout, initial states, both directions, streams;
pickles, copies and files hold the cell, and worker processes get it. On NumPy arrays the same function computes all units
at once, and :func:`fastrnn.testing.check_cell` compares the two. ``examples/custom_cell.py`` is such a cell, checked, timed
and trained.

**A built-in cell** is such a function in a file of this folder, named in its ``__all__``: its layer, its name in the
estimators, its documentation and its tests come from that file.
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

#: Keys of cells that are not the snake case of their names.
_KEYS = {"IndRNN": "indrnn"}


@functools.cache
def registered() -> dict[str, Any]:
    """All cells in ``__all__`` of this folder's files, by their keys, such as ``"min_gru"``.

    Each cell has a layer of its name, and its key is a value of the estimators' parameter `cell`.
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

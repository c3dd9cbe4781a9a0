"""A simple time loop that runs a cell's function on NumPy arrays, as the reference for the kernels."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastrnn.engine.equations.functions import FUNCTIONS
from fastrnn.engine.kernels.activations import name_of
from fastrnn.engine.kernels.vecmath import activate

__all__ = ["run_on_arrays"]


def _columns(values: Any, names: tuple[str, ...]) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(names, values, strict=True)))


def _activation(cell: Any, parameter: str) -> Any:
    name = cell.choice[parameter]
    if name is None:
        name = name_of(getattr(cell, parameter))
    return FUNCTIONS[name] if name in FUNCTIONS else lambda x: activate(name, x)


def run_on_arrays(cell: Any, weights: Any, x: np.ndarray, states: Any) -> list[np.ndarray]:
    """Step a cell over sequences.

    Parameters
    ----------
    cell : cell made by `equations`
    weights : Weights
        Weights in the engine's form: kernel, recurrent kernel, bias, recurrent bias, further parameters.
    x : array of shape (n_batch, n_steps, n_inputs)
    states : sequence of arrays of shape (n_batch, n_units)

    Returns
    -------
    list of array
        Outputs ``(n_batch, n_steps, n_units)``, then the final states.
    """
    d, u = cell.definition, cell.n_units
    kernel, recurrent, bias, recurrent_bias, extra = weights
    n_gates = len(d.gates)
    own: dict[str, Any] = {p: _activation(cell, p) for p in d.activations}
    own |= {p: getattr(cell, p) for p in d.numbers}
    if d.extra:
        own["p"] = _columns(np.asarray(extra).reshape(len(d.extra), u), d.extra)
    states, outputs = list(states), []

    def product(left: np.ndarray, k: int) -> Any:
        return left @ recurrent[:, k * u : (k + 1) * u]

    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + (0 if bias is None else bias)
        gates: list[Any] = [z[:, k * u : (k + 1) * u] for k in range(n_gates)]
        if d.split:
            start = np.zeros(n_gates * u, x.dtype) if recurrent_bias is None else recurrent_bias
            own["u"] = _columns(
                [product(states[0], k) + start[k * u : (k + 1) * u] for k in range(n_gates)], d.gates
            )
        elif d.recurrent:
            for k, name in enumerate(d.gates):
                if name in d.late:
                    gates[k] = lambda left, k=k, given=gates[k]: given + product(left, k)
                else:
                    gates[k] = gates[k] + product(states[0], k)
        given = {"z": _columns(gates, d.gates), "prev": _columns(states, d.states), **own}
        new = cell.step(**{name: given[name] for name in inspect.signature(d.step).parameters})
        states = list(new) if isinstance(new, tuple) else [new]
        outputs.append(states[0])
    return [np.stack(outputs, axis=1), *states]

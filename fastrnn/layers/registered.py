"""Layers of cells that `fastrnn.cells` registers and that have no layer class in another module.

A cell's file defines all that its layer needs: the columns of weights, activations, numbers and initial biases.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from fastrnn import cells
from fastrnn.checks import flag, number
from fastrnn.layers.arithmetic import check_activation
from fastrnn.layers.base import Shape
from fastrnn.layers.cells import Cell
from fastrnn.layers.recurrent import RNN
from fastrnn.registry import made_once

__all__ = ["RegisteredCell", "layer_class", "layer_names"]


class RegisteredCell(Cell):
    """Base class of the cells; its subclasses differ in `kernel_type` and in their constructors' arguments."""

    def _set_own(self, given: dict[str, Any]) -> None:
        definition = self.kernel_type.definition
        for name in definition.activations:
            setattr(self, name, check_activation(given[name], name))
        for name in definition.numbers:
            setattr(self, name, float(number(given[name], name)))
        if definition.extra:
            self._set_extra(
                *(given[f"extra_{kind}"] for kind in ("initializer", "regularizer", "constraint"))
            )

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self._start_as_defined()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return (
            config
            if "activation" in self.kernel_type.definition.activations
            else _without(config, "activation")
        )


def _without(config: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != name}


def _constructor(kernel: Any) -> Any:
    definition = kernel.definition
    parameter, signature = inspect.Parameter, inspect.Signature
    positional = {"units": parameter.empty, **definition.activations, "use_bias": True}
    keywords: dict[str, Any] = dict(definition.numbers)
    if definition.extra:
        keywords |= {"extra_initializer": "zeros", "extra_regularizer": None, "extra_constraint": None}
    keywords |= definition.layer_defaults
    parameters = [parameter("self", parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=value) for name, value in positional.items()
    ]
    parameters += [parameter(name, parameter.KEYWORD_ONLY, default=value) for name, value in keywords.items()]
    bound_by = signature([*parameters, parameter("kwargs", parameter.VAR_KEYWORD)])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = bound_by.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        others = {**given.pop("kwargs"), **{name: given[name] for name in definition.layer_defaults}}
        self._set_own(given)
        activation = given.get("activation") if "activation" in definition.activations else None
        super(cell_class(kernel), self).__init__(
            given["units"], activation, flag(given["use_bias"], "use_bias"), **others
        )

    __init__.__signature__ = bound_by  # type: ignore[attr-defined]
    return __init__


def _documentation(kernel: Any) -> str:
    definition = kernel.definition
    n = len(definition.gates)
    parts = [kernel.__doc__ or kernel.__name__, ""]
    columns = f"{n} * units" if n > 1 else "units"
    weights = [f"``kernel (n_inputs, {columns})``"]
    weights += [f"``recurrent_kernel (units, {columns})``"] * definition.recurrent
    weights += [f"``bias (2, {columns})``" if definition.split else f"``bias ({columns},)``"]
    if definition.extra:
        weights.append(f"``extra ({len(definition.extra)}, units)``, rows {', '.join(definition.extra)}")
    order = f", columns in the order {', '.join(definition.gates)}" if n > 1 else ""
    parts += [f"Weights{order}: {', '.join(weights)}. The equations are in `{kernel.__module__}`.", ""]
    parts += ["Parameters", "----------", "units : int", "    Length of the state and of the output."]
    parts += [f"{name} : str or None, default={value!r}" for name, value in definition.activations.items()]
    parts += ["use_bias : bool, default=True"]
    parts += [f"{name} : float, default={value!r}" for name, value in definition.numbers.items()]
    if definition.extra:
        parts.append("extra_initializer, extra_regularizer, extra_constraint")
        parts.append("    Options of the further parameters.")
    parts += ["**kwargs", "    As for :class:`~fastrnn.layers.cells.Cell`."]
    if definition.layer_defaults:
        parts[-1] += f" Defaults that differ: {', '.join(definition.layer_defaults)}."
    return "\n".join(parts) + "\n"


@made_once
def cell_class(kernel: Any) -> Any:
    """The class of a cell, which computes one time step."""
    d = kernel.definition
    members = {
        "__init__": _constructor(kernel),
        "__doc__": _documentation(kernel),
        "__module__": __name__,
        "__qualname__": f"{kernel.__name__}Cell",
        "kernel_type": kernel,
        "_activations": tuple(d.activations),
    }
    return type(f"{kernel.__name__}Cell", (RegisteredCell,), members)


@made_once
def _layer(kernel: Any) -> Any:
    cell = cell_class(kernel)
    members = {
        "__doc__": f"A layer of {kernel.__name__} cells.",
        "__module__": __name__,
        "__qualname__": kernel.__name__,
        "cell_class": cell,
    }
    return type(kernel.__name__, (RNN,), members)


@functools.cache
def layer_names() -> dict[str, Any]:
    """Names of all classes that this module can make, and their cells."""
    found: dict[str, Any] = {}
    for kernel in cells.registered().values():
        found |= {kernel.__name__: kernel, f"{kernel.__name__}Cell": kernel}
    return found


def layer_class(name: str) -> Any:
    """The class of a layer or cell with this name; raises AttributeError if there is none."""
    kernel = layer_names().get(name)
    if kernel is None:
        raise AttributeError(name)
    return _layer(kernel) if name == kernel.__name__ else cell_class(kernel)


def __getattr__(name: str) -> Any:
    # Unpickling looks up the classes of layers in this module.
    if name.startswith("__"):
        raise AttributeError(name)
    return layer_class(name)

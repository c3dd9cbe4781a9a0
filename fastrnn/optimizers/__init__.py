"""Optimizers over a model's flat vectors."""

from __future__ import annotations

from typing import Any

from fastrnn.optimizers.algorithms import SGD, Adagrad, Adam, RMSprop
from fastrnn.optimizers.base import Optimizer
from fastrnn.registry import Registry
from fastrnn.update_plan import Plan, Table

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "Plan", "RMSprop", "Table", "get"]

_registry = Registry(
    "optimizer",
    [SGD, Adagrad, Adam, RMSprop],
    {"rmsprop": RMSprop},
    accepts=lambda o: isinstance(o, Optimizer),
)


def get(identifier: Any) -> Any:
    """Return the optimizer for `identifier`: a name (not case sensitive), a config or an object.

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> type(optimizers.get("adam")).__name__
    'Adam'
    """
    return _registry.get(identifier.lower() if isinstance(identifier, str) else identifier)

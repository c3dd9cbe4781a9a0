"""What a call that fails, or is interrupted, must leave as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["Snapshot", "attributes", "guard", "states"]

Undo = Callable[[], None]


class guard(contextlib.AbstractContextManager[Any]):  # noqa: N801 - used like a function
    """Put back what the block has changed if it fails.

    Parameters
    ----------
    *undo : functions without arguments
        Called one after the other. `attributes`, `states` and ``Snapshot(...).restore`` are such functions, made before
        the block begins.
    always : bool
        Call them after a block that succeeds too.
    """

    __slots__ = ("_always", "_undo")

    def __init__(self, *undo: Undo, always: bool = False) -> None:
        self._undo, self._always = undo, always

    def __exit__(self, kind: Any, *exc: object) -> None:
        if kind is not None or self._always:
            for undo in self._undo:
                undo()


def attributes(thing: Any, *names: str) -> Undo:
    """Remember attributes of an object, lists and dicts by a shallow copy; return what puts them back."""
    kept = {name: vars(thing)[name] for name in names}
    kept.update({name: value.copy() for name, value in kept.items() if isinstance(value, (list, dict))})
    return lambda: vars(thing).update(kept)


def states(layers: Iterable[Any]) -> list[Undo]:
    """Remember the states of stateful layers, and of layers inside them. A call replaces them, so nothing is copied."""
    stateful = [layer for layer in layers if layer.stateful]
    return [attributes(layer, "states") for layer in _with_states(stateful)] if stateful else []


def _with_states(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        if "states" in vars(layer):
            yield layer
        else:
            yield from _with_states(layer.inner_layers())


class Snapshot:
    """Copies of a model's weights and of its optimizer's state."""

    def __init__(self, model: Any) -> None:
        self.model, self.optimizer = model, model.optimizer
        self.params: np.ndarray = model.weight_vector.copy()
        self._state = self.optimizer.get_state()

    def renew(self) -> None:
        """Copy weights and optimizer again, into the same memory."""
        np.copyto(self.params, self.model.weight_vector)
        self._state = self.optimizer.get_state(self._state)

    def restore_weights(self) -> None:
        """Put the weights back."""
        self.model.params = self.params

    def restore(self) -> None:
        """Put weights and optimizer back."""
        self.restore_weights()
        self.optimizer.set_state(self._state)

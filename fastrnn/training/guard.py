"""Restoring objects after a call that failed or was interrupted."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.kernels.update import all_finite
from fastrnn.update_plan import Later

__all__ = ["Changes", "Undo", "attributes", "generator", "generators", "guard", "states"]

Undo = Callable[[], None]


class guard(contextlib.AbstractContextManager[Any]):  # noqa: N801 - used like a function
    """Call functions that restore objects if the block raises an exception.

    Parameters
    ----------
    *undo : functions without arguments
        Called one after the other. `attributes`, `states` and ``Changes(...).restore`` are such functions, made before
        the block begins.
    always : bool
        Whether to call them after a successful block too.
    """

    __slots__ = ("_always", "_undo")

    def __init__(self, *undo: Undo, always: bool = False) -> None:
        self._undo, self._always = undo, always

    def dismiss(self) -> None:
        """Call no function at the end, whatever happens in the rest of the block."""
        self._undo = ()

    def __exit__(self, kind: Any, *exc: object) -> None:
        if kind is not None or self._always:
            for undo in self._undo:
                undo()


def attributes(thing: Any, *names: str) -> Undo:
    """Keep attributes of an object, with shallow copies of lists and dicts; return a function that restores them."""
    kept = {name: vars(thing)[name] for name in names}
    kept.update({name: value.copy() for name, value in kept.items() if isinstance(value, (list, dict))})
    return lambda: vars(thing).update(kept)


def generator(rng: np.random.RandomState) -> Undo:
    """Copy the state of a generator of random numbers; return a function that restores it."""
    state = rng.get_state(legacy=False)
    return lambda: rng.set_state(state)


def generators(layers: Iterable[Any]) -> list[Undo]:
    """Copy the states of the random generators of layers and their children; return functions that restore them."""
    found: list[Undo] = []
    for layer in layers:
        rng = vars(layer).get("_rng_")
        if rng is not None:
            found.append(functools.partial(setattr, rng.bit_generator, "state", rng.bit_generator.state))
        found += generators(layer.inner_layers())
    return found


def states(layers: Iterable[Any]) -> list[Undo]:
    """Functions that restore the states of stateful layers, also inside other layers. States are replaced, not copied."""
    stateful = [layer for layer in layers if layer.stateful]
    return [attributes(layer, "states") for layer in _with_states(stateful)] if stateful else []


def _with_states(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        if "states" in vars(layer):
            yield layer
        else:
            yield from _with_states(layer.inner_layers())


class Changes:
    """Copies of the values that updates of a model change, made before each update, to undo the updates.

    Weights that are updated as a whole are copied with the optimizer's state before the first update. Of embedding tables
    only the rows that an update changes are copied, each once.

    Parameters
    ----------
    model : Model
        A compiled model. `before_update` must be called before each update. If the model gets another optimizer before the
        first update, that may share state with the present one, which is restored.
    delay : bool
        Whether the first update leaves out rows of tables that have no gradient but are moved by their moments, if that
        can't fail. The next update makes up for it, after a copy of them, or :meth:`complete`, without.
    """

    def __init__(self, model: Any, delay: bool = False) -> None:
        self.model = model
        self._delay = delay
        self._later: Later | None = None
        self._undo = attributes(model.optimizer, *vars(model.optimizer))
        self._plan: Any = None
        self._copies: list[_Copy] = []
        #: For each table, by the index at which it begins, booleans: True for rows that have been copied.
        self._copied: dict[int, np.ndarray] = {}

    def before_update(self) -> Later | None:
        """Copy the values that the next update changes, unless they were copied before; return what it is to leave out."""
        plan = self.model.plan
        if plan is not self._plan:
            self._begin(plan)
        waiting = set()
        if self._delay:
            self._delay = False
            optimizer, grads = self.model.optimizer, self.model.vectors()[1]
            waiting = {table.start for table in plan.tables if optimizer.may_wait(table, grads)}
        for table in plan.tables:
            self._copy_rows(table, table.rows() if table.start in waiting else None)
        self._later = Later(waiting, self._copy_tables) if waiting else None
        return self._later

    @property
    def delayed(self) -> bool:
        """Whether a part of the last update was left out."""
        return self._later is not None and bool(self._later.updates)

    def complete(self) -> None:
        """Make the rest of the last update, which can't be undone."""
        if self._later is not None:
            self._later.complete()
            self.model.weights_changed()

    def _copy_tables(self) -> None:
        for table in self._plan.tables:
            self._copy_rows(table)

    def _begin(self, plan: Any) -> None:
        """Copy the vectors that are updated as a whole; again if layers were frozen or unfrozen, which changes the plan."""
        self._plan, self._copied = plan, {}
        weights, optimizer = self.model.weight_vector, self.model.optimizer
        for start, stop in plan.runs:
            self._copies.append(_Copy(None, weights[start:stop].copy(), slice(start, stop)))
            for vector in optimizer.vectors(weights.size):
                self._copies.append(_Copy(vector, vector[start:stop].copy(), slice(start, stop)))
        for start in optimizer.decayed.keys() - {table.start for table in plan.tables}:
            last = optimizer.decayed[start]
            self._copies.append(_Copy(last, last.copy(), slice(None)))

    def _copy_rows(self, table: Any, rows: np.ndarray | None = None) -> None:
        """Copy the rows that the next update changes, or these."""
        optimizer = self.model.optimizer
        if rows is None:
            rows = optimizer.rows(table)
        copied = self._copied.get(table.start)
        if copied is None:
            copied = self._copied[table.start] = np.zeros(table.shape[0], bool)
        else:
            rows = rows[~copied[rows]]
        if not rows.size:
            return
        # Most rows: the whole table takes less time, and rows that were copied before are put back after it.
        index: Any = rows if 2 * len(rows) <= table.shape[0] else None
        weights = self.model.weight_vector
        for vector in (None, *optimizer.vectors(weights.size)):
            part = (weights if vector is None else vector)[table.start : table.stop]
            values = part.copy() if index is None else part.reshape(table.shape)[index]
            self._copies.append(_Copy(vector, values, slice(table.start, table.stop), index))
        last = optimizer.decayed.get(table.start)
        if last is not None:
            self._copies.append(
                _Copy(last, last[slice(None) if index is None else index].copy(), slice(None), index)
            )
        copied[slice(None) if index is None else index] = True

    def restore(self) -> None:
        """Restore weights and optimizer."""
        if self._later is not None:
            self._later.updates.clear()
        weights = self.model.weight_vector
        for copy in reversed(self._copies):
            target = (weights if copy.vector is None else copy.vector)[copy.part]
            if copy.rows is None:
                target[...] = copy.values
            else:
                target.reshape(-1, *copy.values.shape[1:])[copy.rows] = copy.values
        self._undo()
        self.model.weights_changed()

    def weights_are_finite(self) -> bool:
        """Whether all weights that were changed are finite now."""
        weights = self.model.weight_vector
        for copy in self._copies:
            if copy.vector is None:
                part = weights[copy.part]
                if copy.rows is not None:
                    part = part.reshape(-1, copy.values.shape[1])[copy.rows].ravel()
                if not all_finite(part):
                    return False
        return True


class _Copy(NamedTuple):
    """Values of a part of a vector, or of some rows of that part."""

    #: The vector; None for the model's weights.
    vector: np.ndarray | None
    values: np.ndarray
    part: slice
    rows: np.ndarray | None = None

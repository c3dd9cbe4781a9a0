"""The weights that an update changes, and the clipping of their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastrnn.engine.kernels import update

__all__ = ["Later", "Plan", "Table", "clip_gradients"]


def _not_marked(rows: np.ndarray) -> None:
    """For tables whose gradients are never those of several batches."""


class Table(NamedTuple):
    """A weight of which an update changes only some rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.optimizers import Table
    >>> Table(0, 12, (4, 3), lambda: np.array([1]), lambda rows: None).rows()
    array([1])
    """

    start: int
    stop: int
    shape: tuple[int, int]
    #: Returns the sorted indices of the rows whose gradient may differ from zero.
    rows: Callable[[], np.ndarray]
    #: Sets them.
    mark: Callable[[np.ndarray], None] = _not_marked


class Plan(NamedTuple):
    """The slices of the flat vectors that an optimizer updates.

    Examples
    --------
    >>> from fastrnn.optimizers import Plan
    >>> Plan([(0, 12), (12, 15)], [(0, 15)], []).runs
    [(0, 15)]
    """

    #: Start and stop of each weight that is updated as a whole.
    variables: list[tuple[int, int]]
    #: The same, with adjacent slices joined.
    runs: list[tuple[int, int]]
    tables: list[Table]


class Later:
    """Updates of the rows of tables that have no gradient, which only their moments move; they are made after the others.

    Parameters
    ----------
    starts : set of int
        Where the tables begin of which these rows are updated later.
    before : function
        Called before the updates are made, unless they are made by `complete`.
    """

    def __init__(self, starts: set[int], before: Callable[[], None]) -> None:
        self.starts, self._before = starts, before
        self.updates: list[Callable[[], None]] = []

    def settle(self) -> None:
        """Make the updates, because the weights are needed."""
        if self.updates:
            self._before()
            self.complete()

    def complete(self) -> None:
        """Make the updates."""
        for update_rows in self.updates:
            update_rows()
        self.updates.clear()


def clip_gradients(
    grads: np.ndarray,
    plan: Plan,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
    global_clipnorm: float | None = None,
) -> None:
    """Clip the gradients in place; parameters are those of :class:`~fastrnn.optimizers.Optimizer`."""
    # Only the rows of a table with a non-zero gradient are needed.
    parts = [(grads[start:stop], None) for start, stop in plan.variables]
    for table in plan.tables:
        whole, rows = grads[table.start : table.stop].reshape(table.shape), table.rows()
        parts.append((whole[rows].ravel(), (whole, rows)))  # type: ignore[arg-type]
    if global_clipnorm:
        norm = math.sqrt(sum(update.square_sum(g) for g, _ in parts))
        if norm > global_clipnorm:
            for g, _ in parts:
                update.scale(g, global_clipnorm / norm)
    for g, origin in parts:
        if clipnorm:
            norm = math.sqrt(update.square_sum(g))
            if norm > clipnorm:
                update.scale(g, clipnorm / norm)
        elif clipvalue:
            update.clip(g, clipvalue)
        if origin is not None:
            whole, rows = origin
            whole[rows] = g.reshape(-1, whole.shape[1])

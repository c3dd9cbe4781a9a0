"""States of series that are known by an id, whichever rows of whichever call they are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from fastrnn.training.row_states import States

__all__ = ["SeriesStates", "keep", "read_ids", "states_of"]

#: By id, least recently used first, for each stateful layer its states: arrays of shape (units,).
SeriesStates = dict[Any, list[list[np.ndarray]]]


def read_ids(series: Any, n_rows: int, stateful: bool, bound: int) -> list[Any]:
    """Validate the ids of the rows of a call; return them as Python's objects.

    Raises
    ------
    ValueError
        If they are not one id for each row, all different, or more than `bound`; or if the estimator carries no states.
    """
    if not stateful:
        raise ValueError(
            "series: states are carried from call to call with stateful=True only. Set it, or leave series out."
        )
    if isinstance(series, (str, bytes)) or not isinstance(series, Iterable):
        raise ValueError(
            f"series={series!r}: give one id for each row of X, such as [{series!r}] for a single row."
        )
    # Not through an array, which would make one type of all: 1 and "1" are two ids.
    ids = [name.item() if isinstance(name, np.generic) else name for name in series]
    if len(ids) != n_rows:
        raise ValueError(
            f"series has {len(ids)} ids, but X has {n_rows} rows: give one id for each, in their order."
        )
    for i, name in enumerate(ids):
        if not isinstance(name, Hashable) or name is None or name != name:  # NaN is not equal to itself
            raise ValueError(f"series[{i}] is {name!r}, which can't be an id: give a string or a number.")
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise ValueError(
            f"series holds {twice!r} twice: the rows of a call are computed side by side. Join its rows, or pass them in "
            "two calls."
        )
    if n_rows > bound:
        raise ValueError(
            f"X has {n_rows} rows, more than max_series={bound} states that are kept: raise max_series."
        )
    return ids


def states_of(kept: SeriesStates, ids: list[Any]) -> States | None:
    """The states that rows start from: those kept of their series, zeros for a series that is new; None if all are new."""
    known = next((kept[name] for name in ids if name in kept), None)
    if known is None:
        return None
    states = [[np.zeros((len(ids), *s.shape), s.dtype) for s in layer] for layer in known]
    for row, name in enumerate(ids):
        for layer, its_own in zip(states, kept.get(name, ()), strict=False):
            for array, state in zip(layer, its_own, strict=True):
                array[row] = state
    return states


def keep(kept: SeriesStates, ids: list[Any], after: States, bound: int) -> None:
    """Set the states of series, and forget the least recently used ones beyond `bound`."""
    for row, name in enumerate(ids):
        kept.pop(name, None)
        kept[name] = [[array[row].copy() for array in layer] for layer in after]
    while len(kept) > bound:
        del kept[next(iter(kept))]

"""Arrays of layers: their dtype, masks, states, and their order in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import integer

__all__ = [
    "RowLayout",
    "as_rows",
    "check_dtype",
    "check_mask",
    "check_not_empty",
    "check_positive_int",
    "restarted",
]


def check_positive_int(value: Any, name: str) -> int:
    """Return `value` as an int, or raise if it is not a positive integer."""
    result: int = integer(value, name)
    return result


def check_not_empty(layer: Any, shape: Sequence[int]) -> None:
    """Raise if `shape`, (batch, time, ...), has no sequence or no step."""
    if shape[0] == 0 or shape[1] == 0:
        raise ValueError(
            f"layer {layer.name!r} needs at least one sequence of one step, got shape {tuple(shape)}"
        )


def check_dtype(dtype: Any) -> np.dtype:
    """Return `dtype` as the dtype of weights and computation; None means float32."""
    try:
        result = np.dtype("float32" if dtype is None else dtype)
    except TypeError:
        result = np.dtype(object)
    if result not in (np.dtype("float32"), np.dtype("float64")):
        raise ValueError(f"dtype={dtype!r}: give 'float32' or 'float64'")
    return result


def check_mask(mask: Any, shape: Sequence[int | None], name: str = "mask") -> np.ndarray:
    """Return `mask` as a boolean array of shape ``shape[:2]``, (batch, time), or raise if it is not one."""
    mask = np.asarray(mask)
    expected = tuple(shape[:2])
    if mask.dtype != bool:
        raise TypeError(
            f"{name} has dtype {mask.dtype}: give booleans, True where a step counts (mask.astype(bool))"
        )
    if mask.shape != expected:
        raise ValueError(f"{name} has shape {mask.shape}: the input needs {expected}, (batch, time)")
    result: np.ndarray = mask
    return result


def restarted(states: Any, initial: Any, rows: Any) -> Any:
    """Return a copy of `states` in which the sequences in `rows` have the states of `initial`.

    Parameters
    ----------
    states, initial : (nested) list of arrays of shape (batch, size)
    rows : array-like of int or bool
        Sequences of the batch.
    """
    if isinstance(states, (list, tuple)):
        return [restarted(s, i, rows) for s, i in zip(states, initial, strict=True)]
    index, n = np.asarray(rows), len(states)
    if index.dtype == bool:
        if index.shape != (n,):
            raise ValueError(f"rows has shape {index.shape}: the states are those of {n} sequences")
    elif index.size and (index.dtype.kind not in "iu" or index.min() < -n or index.max() >= n):
        raise ValueError(f"rows={rows!r}: give integers from 0 to {n - 1}, or a boolean for each sequence")
    states = states.copy()
    if index.size:
        states[index] = initial[index]
    return states


class RowLayout:
    """The memory order of the rows of features of an array of shape ``(batch, ..., features)``.

    Recurrent layers return transposed views of time-major buffers, whose rows are in (time, batch) order. All arrays of a
    product must be read in the same order, which this object keeps.
    """

    __slots__ = ("lead", "time_major")

    def __init__(self, x: np.ndarray) -> None:
        self.lead = x.shape[:-1]
        self.time_major = x.ndim == 3 and not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Return `x` as a contiguous matrix of rows; it is copied only if its memory is in another order."""
        if x.ndim == 2:
            return x if x.flags.c_contiguous else np.ascontiguousarray(x)
        if self.time_major:
            x = x.swapaxes(0, 1)
        if not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        return x.reshape(-1, x.shape[-1])

    def back(self, rows: np.ndarray) -> np.ndarray:
        """Return a matrix of rows as an array of shape ``(batch, ..., features)``, without a copy."""
        if len(self.lead) == 1:
            return rows
        if self.time_major:
            batch, time = self.lead
            return rows.reshape(time, batch, rows.shape[-1]).swapaxes(0, 1)
        return rows.reshape(*self.lead, rows.shape[-1])


def as_rows(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return `x` as a contiguous matrix ``(rows, features)``, and the function that restores the shape of `x`."""
    layout = RowLayout(x)
    return layout.rows(x), layout.back

"""In which order the rows and steps of a batch are processed.

A batch is processed in *packed* order: row ``r`` of the sorted batch is the sequence with the ``r``-th most valid time
steps, and step ``s`` of a row is its ``s``-th valid step, wherever it lies in time. A masked step changes nothing but its
output, so leaving it out is exact for any boolean mask, and the work is in proportion to the number of valid steps. At step
``s`` the rows that still run are the first ``active[s]`` of the sorted rows. A dense batch is the case in which every row
runs to the end.

Kernels get a schedule as one vector of integers and read it as a :class:`Schedule`, whose arrays are parts of the vector.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.views import matrix, segment, spaced

__all__ = [
    "Schedule",
    "dense_schedule",
    "is_dense",
    "mask_extent",
    "masked_schedule",
    "row_bounds",
    "row_total",
    "unpacked",
]


class Schedule(NamedTuple):
    """The order of a batch.

    Attributes
    ----------
    starts : (n_steps + 1,) array
        How many rows all steps before step ``s`` have; the last is the number of rows of all steps.
    active : (n_steps + 1,) array
        How many of the sorted rows run at step ``s``; 0 after the last.
    order : (n_batch,) array
        The sequence of the batch that each sorted row is.
    times : (n_batch, n_steps) array
        The time of step ``s`` of a sorted row; all rows are the same memory, if the batch is dense.
    dense : bool
        Every sequence runs through all time steps.
    """

    starts: np.ndarray
    active: np.ndarray
    order: np.ndarray
    times: np.ndarray
    dense: bool


@inlined
def _places(n_batch, n_steps):
    """Where in a vector ``[starts | active | order | dense | times]`` all but the first part begin."""
    order = 2 * (n_steps + 1)
    return n_steps + 1, order, order + n_batch, order + n_batch + 1


def unpacked(vector, n_batch, n_steps):
    """The schedule in a vector."""
    active, order, flag, times = _places(n_batch, n_steps)
    rows, dense = vector[times:].reshape(-1, n_steps), bool(vector[flag])
    if dense:
        rows = np.broadcast_to(rows, (n_batch, n_steps))
    return Schedule(vector[:active], vector[active:order], vector[order:flag], rows, dense)


@body_of(unpacked)
def _unpacked(*kinds):
    def unpack(vector, n_batch, n_steps):
        active, order, flag, times = _places(n_batch, n_steps)
        return Schedule(
            segment(vector, 0, n_steps + 1),
            segment(vector, active, n_steps + 1),
            segment(vector, order, n_batch),
            spaced(matrix(vector, times, 1, n_steps), 0, 0 if vector[flag] else 1, n_batch, n_steps),
            vector[flag] != 0,
        )

    return unpack


# What one number of the vector says is read without taking the vector apart: that would take 1 us in Python.


def is_dense(vector: np.ndarray, n_batch: int, n_steps: int) -> bool:
    """Whether every sequence runs through all time steps."""
    return bool(vector[_places(n_batch, n_steps)[2]])


def row_total(vector: np.ndarray, n_steps: int) -> int:
    """Number of rows of all steps: the last of `starts`."""
    return int(vector[n_steps])


@functools.lru_cache(maxsize=256)
def dense_schedule(n_batch: int, n_steps: int) -> np.ndarray:
    """The vector of a batch without a mask."""
    starts = np.arange(n_steps + 1) * n_batch
    active = np.full(n_steps + 1, n_batch)
    active[-1] = 0
    return np.concatenate([starts, active, np.arange(n_batch), [1], np.arange(n_steps)]).astype(np.int64)


def masked_schedule(mask: np.ndarray, vector: np.ndarray | None = None) -> np.ndarray:
    """The vector of a boolean ``(n_batch, n_steps)`` mask in processing order, written to `vector` if it is given."""
    n_batch, n_steps = mask.shape
    _, _, dense, times = _places(n_batch, n_steps)
    if vector is None:
        vector = np.empty(times + n_batch * n_steps, np.int64)
    vector[dense] = 0
    _fill_schedule(mask if mask.flags.c_contiguous else mask.copy(), vector)
    return vector


def mask_extent(vector: np.ndarray, n_batch: int, n_steps: int) -> tuple[bool, bool]:
    """Whether every sequence has at least one step, and whether every sequence has all."""
    active = _places(n_batch, n_steps)[0]
    return bool(vector[active] == n_batch), bool(vector[active + n_steps - 1] == n_batch)


@jit(allocates=True)
def _fill_schedule(mask, vector):
    n_batch, n_steps = mask.shape
    starts, active, order, times, _ = unpacked(vector, n_batch, n_steps)
    # A sort by counting: first how many rows have each length, then how many have more.
    active[:] = 0
    lengths = np.zeros(n_batch, np.int64)
    for b in range(n_batch):
        for t in range(n_steps):
            lengths[b] += mask[b, t]
        active[lengths[b]] += 1
    longer = 0
    for length in range(n_steps, -1, -1):
        active[length], longer = longer, longer + active[length]
    place = active.copy()
    for b in range(n_batch):
        order[place[lengths[b]]] = b
        place[lengths[b]] += 1
    total = 0
    for s in range(n_steps + 1):
        starts[s] = total
        total += active[s]
    for r in range(n_batch):
        valid, masked, b = 0, lengths[order[r]], order[r]
        for t in range(n_steps):
            if mask[b, t]:
                times[r, valid] = t
                valid += 1
            else:
                times[r, masked] = t
                masked += 1


def row_bounds(vector: np.ndarray, n_batch: int, n_steps: int, n_threads: int) -> list[int]:
    """Cut the sorted rows into ranges, one a thread, of about the same number of steps each; fewer if one would be empty."""
    if is_dense(vector, n_batch, n_steps):
        return [k * n_batch // n_threads for k in range(n_threads + 1)]
    bounds = np.empty(n_threads + 1, np.int64)
    _fill_bounds(vector, n_batch, n_steps, bounds)
    return sorted({*bounds.tolist()})


@jit
def _fill_bounds(vector, n_batch, n_steps, bounds):
    schedule, n_threads = unpacked(vector, n_batch, n_steps), bounds.shape[0] - 1
    bounds[0], bounds[n_threads] = 0, n_batch  # rows without a valid step come last and cost nothing
    own, rest, length, k = 0, schedule.starts[n_steps], n_steps, 1
    for r in range(n_batch):
        while length > 0 and schedule.active[length - 1] <= r:
            length -= 1
        # A row is the next thread's if with it this one would have more steps than each of those after it without.
        if own > 0 and k < n_threads and (own + length) * (n_threads - k) > rest:
            bounds[k], k, own = r, k + 1, 0
        own, rest = own + length, rest - length
    while k < n_threads:
        bounds[k] = n_batch
        k += 1

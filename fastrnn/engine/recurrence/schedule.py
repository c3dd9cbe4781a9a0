"""The order in which the rows and steps of a batch are processed.

A batch is processed in *packed* order: row ``r`` of the sorted batch is the sequence with the ``r``-th largest number of
valid time steps, and step ``s`` of a row is its ``s``-th valid step, at any time. A masked step changes only its output, so
skipping it is exact for any boolean mask, and the work is proportional to the number of valid steps. The rows that have a
step ``s`` are the first ``active[s]`` of the sorted rows. In a dense batch all rows have all steps.

A schedule is passed to kernels as one vector of integers, which they read as a :class:`Schedule` of views of the vector.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from fastrnn.engine import tuning
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
        Total number of rows of all steps before step ``s``; the last element is that of all steps.
    active : (n_steps + 1,) array
        Number of sorted rows that have a step ``s``; the last element is 0.
    order : (n_batch,) array
        Index in the batch of each sorted row.
    times : (n_batch, n_steps) array
        The time of step ``s`` of a sorted row; in a dense batch all rows are the same memory.
    dense : bool
        Whether all sequences have all time steps.
    """

    starts: np.ndarray
    active: np.ndarray
    order: np.ndarray
    times: np.ndarray
    dense: bool


@inlined
def _places(n_batch, n_steps):
    """Starts of all parts but the first of a vector ``[starts | active | order | dense | times]``."""
    order = 2 * (n_steps + 1)
    return n_steps + 1, order, order + n_batch, order + n_batch + 1


def unpacked(vector, n_batch, n_steps):
    """The schedule as views of a vector."""
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
    """Whether all sequences have all time steps."""
    return bool(vector[_places(n_batch, n_steps)[2]])


def row_total(vector: np.ndarray, n_steps: int) -> int:
    """Number of rows of all steps: the last of `starts`."""
    return int(vector[n_steps])


@functools.lru_cache(maxsize=tuning.MAX_SCHEDULES)
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
    """Whether every sequence has at least one valid step, and whether every sequence has all steps."""
    active = _places(n_batch, n_steps)[0]
    return bool(vector[active] == n_batch), bool(vector[active + n_steps - 1] == n_batch)


@jit(allocates=True)
def _fill_schedule(mask, vector):
    n_batch, n_steps = mask.shape
    starts, active, order, times, _ = unpacked(vector, n_batch, n_steps)
    # Counting sort: first the number of rows of each length, then the number of longer rows.
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
    """Divide the sorted rows into one range for each thread, with about equal numbers of steps, and no empty ranges."""
    if is_dense(vector, n_batch, n_steps):
        return [k * n_batch // n_threads for k in range(n_threads + 1)]
    bounds = np.empty(n_threads + 1, np.int64)
    _fill_bounds(vector, n_batch, n_steps, bounds)
    return sorted({*bounds.tolist()})


@jit
def _fill_bounds(vector, n_batch, n_steps, bounds):
    schedule, n_threads = unpacked(vector, n_batch, n_steps), bounds.shape[0] - 1
    bounds[0], bounds[n_threads] = 0, n_batch  # rows without a valid step are last and need no work
    own, rest, length, k = 0, schedule.starts[n_steps], n_steps, 1
    for r in range(n_batch):
        while length > 0 and schedule.active[length - 1] <= r:
            length -= 1
        # The row starts the next range if with it this range would have more steps than the mean of the remaining ones.
        if own > 0 and k < n_threads and (own + length) * (n_threads - k) > rest:
            bounds[k], k, own = r, k + 1, 0
        own, rest = own + length, rest - length
    while k < n_threads:
        bounds[k] = n_batch
        k += 1

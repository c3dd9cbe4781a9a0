"""Equal samples as one sample with the sum of their weights.

A sample of weight 2 has to be trained on like a sample that is there twice, and one of weight 0 like one that is absent.
With batches of a fixed number of samples that does not hold by itself: the sample that is there twice is in two batches, or
takes two places in one. So equal samples are merged before batches are cut, and samples of weight 0 are left out; then both
descriptions of the data are the same arrays, and training is the same to the last bit, however the batches are cut.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from fastrnn.sequences import Ragged

__all__ = ["Merged", "merge_repeats"]


class Merged(NamedTuple):
    """Distinct samples."""

    samples: np.ndarray | None
    """Their places in the data, in the order of training; None: all of them, as they are."""
    rows: Any
    """The places of their rows: those of samples, or of time steps."""
    weight: np.ndarray | None
    """Weights of their rows; None if all are equal."""


def merge_repeats(
    x: np.ndarray | Ragged,
    targets: np.ndarray,
    weight: np.ndarray | None,
    per_step: bool,
    by_content: bool = False,
) -> Merged:
    """Merge samples that have equal sequences and equal targets, and leave samples of weight 0 out.

    The order is that of the data if all weights are equal after that, unless `by_content`. Otherwise it is one that depends
    on the contents of the samples only, as two descriptions of the same data may list them in different orders.

    Parameters
    ----------
    x : ndarray or Ragged
    targets, weight : ndarray
        One row for each sequence, or with `per_step` for each of its time steps; `weight` may be None.
    per_step : bool
    by_content : bool
        Whether the order depends on the contents in any case, as it must if weights of classes come on top.

    Raises
    ------
    ValueError
        If no weight is positive.
    """
    n = len(x)
    if not per_step:
        bounds = np.arange(n + 1)
    else:
        bounds = x.offsets if isinstance(x, Ragged) else np.arange(n + 1) * x.shape[1]
    counts = np.ones(n, bool)
    if weight is not None:
        counts = np.add.reduceat(weight != 0, bounds[:-1]) > 0
        if not counts.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
    edges = bounds.tolist()
    first: dict[bytes, int] = {}
    repeats: list[tuple[int, int]] = []
    for i in np.flatnonzero(counts).tolist():
        digest = hashlib.blake2b(x[i].tobytes(), digest_size=16)
        digest.update(targets[edges[i] : edges[i + 1]].tobytes())
        place = first.setdefault(digest.digest(), i)
        if place != i:
            repeats.append((place, i))
    if repeats:
        weight = np.ones(len(targets)) if weight is None else weight.copy()
        for place, i in repeats:
            weight[edges[place] : edges[place + 1]] += weight[edges[i] : edges[i + 1]]
    if not by_content and len(first) == n and (weight is None or np.ptp(weight) == 0):
        return Merged(None, slice(None), weight)
    samples = np.fromiter(first.values(), np.int64, len(first))
    rows = _rows_of(samples, bounds)
    if weight is not None and not by_content and np.ptp(weight[rows]) == 0:
        return Merged(samples, rows, None)
    samples = np.array([place for _, place in sorted(first.items())], np.int64)
    rows = _rows_of(samples, bounds)
    return Merged(samples, rows, None if weight is None else weight[rows])


def _rows_of(samples: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The rows from ``bounds[i]`` to ``bounds[i + 1]`` of each sample i."""
    lengths = bounds[samples + 1] - bounds[samples]
    ends = np.cumsum(lengths)
    return np.repeat(bounds[samples] - (ends - lengths), lengths) + np.arange(lengths.sum())

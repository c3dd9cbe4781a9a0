"""Batches of dask arrays, for training and prediction in one process on data larger than its memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn.checks import flag, integer
from fastrnn.extras import extra

__all__ = ["DaskBatches"]


class DaskBatches:
    """Batches of dask arrays, computed one block after the other.

    It is an iterable of batches for ``fit``, ``evaluate`` and ``predict`` of models, and can be used for any number of
    epochs. One block of samples is in memory at a time, so its size bounds the memory. Batches do not cross blocks: the last
    batch of each block may be smaller.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, ...)
        Its blocks along the first axis are kept, those along other axes are joined.
    y, sample_weight : dask.array.Array or array_like with n_samples entries, optional
    batch_size : int
    shuffle : bool
        Whether the blocks come in another order in each pass, and the samples of each block too.
    seed : int, optional
        Of the order.

    Raises
    ------
    ImportError
        If dask is not installed.
    TypeError
        If `X` is no dask array.
    ValueError
        If the lengths differ, or `sample_weight` is given without `y`.

    Examples
    --------
    A model is trained on batches, and an estimator on blocks, with ``partial_fit``:

    >>> import dask.array as da
    >>> from fastrnn import RNNClassifier, Sequential, layers
    >>> from fastrnn.distributed import DaskBatches
    >>> X = da.random.default_rng(0).normal(size=(100, 5, 2), chunks=(40, -1, -1))
    >>> batches = DaskBatches(X, X[:, -1, :1], batch_size=32, shuffle=True, seed=0)
    >>> len(batches)
    5
    >>> model = Sequential([layers.GRU(4), layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(batches, epochs=2, verbose=0)
    >>> classifier = RNNClassifier(random_state=0)
    >>> for X_part, y_part in DaskBatches(X, X[:, -1, 0] > 0, batch_size=1000):
    ...     classifier = classifier.partial_fit(X_part, y_part, classes=[False, True])
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
    ) -> None:
        array = extra("dask.array", "dask")
        if not isinstance(X, array.Array):
            raise TypeError(
                f"X is {type(X).__name__}: give a dask array, such as dask.array.from_array(X, chunks=(1000, -1, -1)); "
                "models take arrays in memory as they are"
            )
        if sample_weight is not None and y is None:
            raise ValueError("sample_weight: give y too")
        self.batch_size = integer(batch_size, "batch_size")
        self.shuffle = flag(shuffle, "shuffle")
        self._rng = np.random.default_rng(None if seed is None else integer(seed, "seed", 0))
        if math.isnan(len(X)):
            X = X.compute_chunk_sizes()
        self._parts = [X.rechunk(dict.fromkeys(range(1, X.ndim), -1))]
        for name, part in (("y", y), ("sample_weight", sample_weight)):
            if part is None:
                continue
            part = part if isinstance(part, array.Array) else array.asarray(np.asarray(part))
            if math.isnan(len(part)):
                part = part.compute_chunk_sizes()
            if len(part) != len(X):
                raise ValueError(f"X has {len(X)} samples, {name} has {len(part)}: the numbers must be equal")
            self._parts.append(part.rechunk({0: X.chunks[0], **dict.fromkeys(range(1, part.ndim), -1)}))
        self.sizes: tuple[int, ...] = X.chunks[0]

    def __len__(self) -> int:
        """The number of batches of a pass."""
        return sum(-(-size // self.batch_size) for size in self.sizes)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield ``(X,)``, ``(X, y)`` or ``(X, y, sample_weight)`` of each batch."""
        dask = extra("dask", "dask")
        n_blocks = len(self.sizes)
        for k in self._rng.permutation(n_blocks) if self.shuffle else range(n_blocks):
            block = dask.compute(*(part.blocks[int(k)] for part in self._parts))
            order = self._rng.permutation(self.sizes[k]) if self.shuffle else None
            for start in range(0, self.sizes[k], self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield tuple(part[rows if order is None else order[rows]] for part in block)

"""The gradients of global batches, computed by the workers of a dask cluster."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.distributed.workers import Workers
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.training.data import Batch
from fastrnn.training.step import HELP, Trainer

__all__ = ["Cluster", "ClusterTrainer", "Numbers", "update"]

# ---- on the workers


class _Gradients:
    """Gradients of the network for rows of a part of X.

    Each worker calls one for all steps of a fit.
    """

    def __init__(self, model: Any, X: Any) -> None:
        self.model, self.X = model, X
        # Memory of a new array is cleared by the system in each step, as dask's workers give it back at once.
        self._rows = X[:0]

    def __call__(
        self, weights: NDArray[Any], rows: NDArray[Any], rest: tuple[Any, Any], share: float
    ) -> tuple[float, NDArray[Any]]:
        """Loss and gradient of some rows, times their share of the global batch; `rest` are targets and weights."""
        model = self.model
        model.params = weights
        model.bind_weights()
        grads = model.vectors()[1]
        grads[:] = 0  # rows of embedding tables that the batch does not use are not written
        x = model.layers[0].as_input(self._taken(rows))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            loss = model.trainer.gradients(model, Batch(x, *rest))
        return share * loss, share * grads

    def _taken(self, rows: NDArray[Any]) -> NDArray[Any]:
        if len(rows) > len(self._rows):
            self._rows = np.empty((len(rows), *self.X.shape[1:]), self.X.dtype)
        # With mode="raise", NumPy would copy once more; all rows exist.
        return np.take(self.X, rows, axis=0, out=self._rows[: len(rows)], mode="clip")


# ---- in the calling process


class Cluster(Workers):
    """The parts of X on the workers, and the gradients of global batches.

    Parameters
    ----------
    client : distributed.Client
    X : dask.array.Array
        Divided anew into as many parts as there are workers.
    n_jobs : int
        Threads of a task.
    """

    def __init__(self, client: Any, X: Any, n_jobs: int) -> None:
        super().__init__(client, n_jobs)
        rows = -(-len(X) // len(self.workers))
        parts = X.rechunk({0: rows, **dict.fromkeys(range(1, X.ndim), -1)})
        self.bounds = np.cumsum([0, *parts.chunks[0]]).tolist()
        self.parts = client.persist(parts.to_delayed().ravel().tolist(), optimize_graph=True)
        self.parts = client.compute(self.parts)

    def training(self, model: Any) -> Any:
        """A context in which the workers compute gradients of the network."""
        return self.computing(model, _Gradients, self.parts)

    def gradient(self, weights: NDArray[Any], rows: NDArray[Any], batch: Batch) -> tuple[float, NDArray[Any]]:
        """Loss and gradient of a global batch of the samples `rows`."""
        places = np.searchsorted(self.bounds, rows, side="right") - 1
        arguments = {}
        for k in map(int, np.unique(places)):
            here = places == k
            rest = tuple(None if values is None else values[here] for values in (batch.y, batch.weight))
            share = float(np.mean(here))
            arguments[k] = (weights, rows[here] - self.bounds[k], rest, share)
        losses, grads = zip(*self.compute(arguments), strict=True)
        # In the order of the parts, so that the sum does not depend on which worker is ready first.
        return float(sum(losses)), np.sum(grads, axis=0)


class Numbers(NamedTuple):
    """Numbers of samples as short sequences, which the calling process trains on in place of X.

    They have X's features, and no two are equal. What is done to samples before training (to leave some out, to reorder
    them) is done to their numbers.
    """

    n_samples: int
    vocabulary_size: int | None

    def write(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Sequences for all samples of an X of this shape."""
        rows = np.arange(shape[0])
        if self.vocabulary_size is not None:
            base = self.vocabulary_size
            n_digits = max(math.ceil(math.log(max(shape[0], 2), max(base, 2))), 1) + 1
            return rows[:, None] // base ** np.arange(n_digits) % base
        found = np.zeros((shape[0], 2, shape[2]), dtype)
        for k, (size, digit) in enumerate(
            zip(self._sizes(), (rows % self.n_low, rows // self.n_low), strict=True)
        ):
            # Spread over -2 to 2, as inputs of another scale would be warned of; exact also in float32.
            found[:, k, 0] = 4 * digit / size - 2
        return found

    def read(self, x: NDArray[Any]) -> NDArray[Any]:
        """The numbers of the samples of a batch."""
        if self.vocabulary_size is not None:
            return x.astype(np.int64) @ self.vocabulary_size ** np.arange(x.shape[1])
        low, high = ((x[:, k, 0].astype(float) + 2) * size / 4 for k, size in enumerate(self._sizes()))
        return np.rint(low + self.n_low * high).astype(np.int64)

    @property
    def n_low(self) -> int:
        """Values of the first digit: a power of two, at most 2**22."""
        return min(1 << (self.n_samples - 1).bit_length(), 2**22)

    def _sizes(self) -> tuple[int, int]:
        return self.n_low, 1 << (-(-self.n_samples // self.n_low) - 1).bit_length()


def update(trainer: Trainer, model: Any, loss: float, gradient: NDArray[Any]) -> None:
    """Make one update from a loss and a gradient that the workers have computed."""
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the loss became {loss}; the weights were not changed. {HELP}.")
    weights, grads = model.vectors()
    grads[:] = gradient
    trainer._check_gradients(grads, model.plan)
    if trainer.before_update is not None:
        trainer.before_update()
    trainer.optimizer.apply(weights, grads, model.plan)
    model.constrain()
    model.weights_changed()


class ClusterTrainer(Trainer):
    """A trainer whose gradients come from a cluster."""

    def __init__(self, local: Trainer, cluster: Cluster, numbers: Numbers, width: int) -> None:
        self.__dict__.update(local.__dict__)
        self._cluster, self._numbers, self._width = cluster, numbers, width

    def _update(self, model: Any, batch: Batch) -> float:
        outputs = np.zeros((len(batch.y), self._width), model.weight_vector.dtype)
        self.objective.resolve(batch.y, outputs)
        rows = self._numbers.read(np.asarray(batch.x))
        loss, total = self._cluster.gradient(model.weight_vector.copy(), rows, batch)
        update(self, model, loss, total)
        self.objective.add(loss, batch.y, outputs, batch.weight, None)
        return loss

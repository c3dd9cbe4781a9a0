"""The gradients of global batches, computed by the workers of a dask cluster."""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.estimators.network import use_threads
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.extras import extra
from fastrnn.training.data import Batch
from fastrnn.training.step import HELP, Trainer

__all__ = ["Cluster", "ClusterTrainer", "Numbers", "Workers", "default_client", "own_model", "update"]

logger = logging.getLogger("fastrnn.distributed")

#: Seconds between two looks at which workers there are, and until training without any worker ends with an error.
LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
#: How often a step is computed again before its error is raised.
RETRIES = 5

_ADD_WORKERS = (
    "start some with cluster.scale(2), or with `dask worker ADDRESS` on each machine, and wait for them with "
    "client.wait_for_workers(1)"
)


# ---- on the workers

_copies = threading.local()


def own_model(token: str, model: Any, n_jobs: int) -> Any:
    """Return the copy of a fit's model for this thread, as dask hands one object to all tasks of a worker."""
    if vars(_copies).get("token") != token:
        _copies.token, _copies.model = token, copy.deepcopy(model)
        use_threads(_copies.model, n_jobs)
    return _copies.model


def _gradient(
    fixed: tuple[str, Any, int],
    weights: NDArray[Any],
    X: Any,
    rows: NDArray[Any],
    rest: tuple[Any, Any],
    share: float,
) -> tuple[float, NDArray[Any]]:
    """Loss and gradient of some rows of a part of X, times their share of the global batch.

    `fixed` is the same in all steps of a fit: its name, the model, and the number of threads. `rest` are targets and
    weights.
    """
    model = own_model(*fixed)
    model.params = weights
    model.bind_weights()
    grads = model.vectors()[1]
    grads[:] = 0  # rows of embedding tables that the batch does not use are not written
    x = model.layers[0].as_input(X[rows])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss = model.trainer.gradients(model, Batch(x, *rest))
    return share * loss, share * grads


# ---- in the calling process


def default_client(client: Any) -> Any:
    """`client`, or the one that was made last."""
    distributed = extra("distributed", "dask")
    if client is not None:
        return client
    try:
        return distributed.default_client()
    except ValueError:
        raise ValueError(
            "there is no dask client: make one, client = distributed.Client(address), or "
            "distributed.Client(distributed.LocalCluster()) on this machine"
        ) from None


class Workers:
    """The workers of a cluster, which compute parts of each step of a fit.

    Parameters
    ----------
    client : distributed.Client
    n_jobs : int
        Threads of a task.
    """

    def __init__(self, client: Any, n_jobs: int) -> None:
        self.client, self.n_jobs = client, n_jobs
        self.workers = self._now()
        if not self.workers:
            raise RuntimeError(f"the dask cluster {client.scheduler.address} has no workers: {_ADD_WORKERS}")
        self.fixed: Any = None
        self._looked = time.monotonic()

    def share_model(self, model: Any) -> None:
        """Send the network to all workers, where its weights are set in each step."""
        delayed = extra("dask", "dask").delayed
        token = f"fastrnn-{id(model)}-{time.monotonic_ns()}"
        # A task and not scattered data, which would be lost with their workers.
        self.fixed = self.client.compute(delayed(tuple, pure=False)((token, delayed(model), self.n_jobs)))

    def compute(self, function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
        """The results of ``function(fixed, *each)`` for each of `arguments`, in their order."""
        tasks = [
            self.client.submit(function, self.fixed, *each, pure=False, retries=RETRIES) for each in arguments
        ]
        self._wait(tasks)
        return self.client.gather(tasks)

    def _now(self) -> set[str]:
        return set(self.client.scheduler_info(n_workers=-1)["workers"])

    def _wait(self, tasks: list[Any]) -> None:
        """Wait for tasks; log which workers were lost, and raise if none is left for long."""
        wait, last = extra("distributed", "dask").wait, time.monotonic()
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self.look()
                self._looked = time.monotonic()
            if self.workers:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_SECONDS:
                raise RuntimeError(
                    f"the dask cluster lost all its workers: {_ADD_WORKERS}; the estimator is as it was before"
                )
            try:
                wait(tasks, timeout=LOOK_SECONDS)
            except TimeoutError:
                continue
            return

    def look(self) -> None:
        """Log which workers were lost or came since the last look."""
        now = self._now()
        for address in sorted(self.workers - now):
            logger.warning(
                "worker %s was lost; its sequences go to the other %d, and the step is computed again",
                address,
                len(now),
            )
        for address in sorted(now - self.workers):
            logger.info("worker %s has come", address)
        self.workers = now


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

    def gradient(self, weights: NDArray[Any], rows: NDArray[Any], batch: Batch) -> tuple[float, NDArray[Any]]:
        """Loss and gradient of a global batch of the samples `rows`."""
        places = np.searchsorted(self.bounds, rows, side="right") - 1
        arguments = []
        for k in np.unique(places):
            here = places == k
            rest = tuple(None if values is None else values[here] for values in (batch.y, batch.weight))
            share = float(np.mean(here))
            arguments.append((weights, self.parts[k], rows[here] - self.bounds[k], rest, share))
        losses, grads = zip(*self.compute(_gradient, arguments), strict=True)
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

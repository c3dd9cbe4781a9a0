r"""Training on several machines, with dask (extra ``dask``): each update is computed by all workers of a cluster together.

A global batch of B sequences is divided by where its sequences lie. Each worker computes the gradient of its share and sends
it to the process that calls `fit`. There the gradients are added up, one update is made, and the new weights are sent to all
workers with the next batch:

.. math:: g = \sum_k \frac{B_k}{B} g_k

where worker k has :math:`B_k` of the sequences, and :math:`g_k` is the gradient of their mean loss. The sum is the gradient
of one process with the same batch, up to rounding.

An update moves :math:`2 K P s` bytes through the calling process, for K workers, P weights and s bytes a number. With the
bandwidth w this takes :math:`2 K P s / w` seconds. The computation takes :math:`B c / K`, with c seconds for each sequence.
Both take equally long at a global batch of

.. math:: B = \frac{2 K^2 P s}{w c}

sequences, and larger batches use the workers better. :func:`communication` gives these figures.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import integer, number
from fastrnn.estimators import RNNClassifier, RNNRegressor
from fastrnn.estimators.network import use_threads
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.extras import extra
from fastrnn.optimizers import Plan
from fastrnn.training.data import Batch, Batches
from fastrnn.training.step import HELP, Trainer

__all__ = ["Communication", "DaskRNNClassifier", "DaskRNNRegressor", "communication"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at which workers there are, and until training without any worker ends with an error.
LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
#: How often a step is computed again before its error is raised.
RETRIES = 5

_ADD_WORKERS = (
    "start some with cluster.scale(2), or with `dask worker ADDRESS` on each machine, and wait for them with "
    "client.wait_for_workers(1)"
)


class Communication(NamedTuple):
    """What an update costs beside its computation: see :func:`communication`.

    Examples
    --------
    >>> from fastrnn.distributed import Communication
    >>> Communication(8_000_000, 0.064, 2000).seconds
    0.064
    """

    n_bytes: int
    """Weights to the workers, and gradients from them."""
    seconds: float
    """Time to move them."""
    break_even_batch: int
    """Sequences of a global batch whose computation takes as long."""


def communication(
    n_workers: int, n_weights: int, bandwidth: float, seconds_per_sequence: float
) -> Communication:
    """Compute what an update of several workers costs beside its computation.

    Parameters
    ----------
    n_workers : int
    n_weights : int
        Number of weights of the network, of 4 bytes each.
    bandwidth : float
        Bytes per second that the calling process can send and receive; 1.25e8 for 1 Gbit/s.
    seconds_per_sequence : float
        Time of one worker for the forward and backward pass of one sequence, in a large batch.

    Returns
    -------
    Communication

    Examples
    --------
    A network of 100,000 weights whose sequences take 100 us each, with 8 and with 1,000 workers and 10 Gbit/s:

    >>> from fastrnn.distributed import communication
    >>> communication(8, 100_000, 1.25e9, 1e-4)
    Communication(n_bytes=6400000, seconds=0.00512, break_even_batch=410)
    >>> communication(1000, 100_000, 1.25e9, 1e-4).break_even_batch
    6400000
    """
    n_workers, n_weights = integer(n_workers, "n_workers", 1), integer(n_weights, "n_weights", 1)
    number(bandwidth, "bandwidth", 0)
    number(seconds_per_sequence, "seconds_per_sequence", 0)
    if not bandwidth or not seconds_per_sequence:
        raise ValueError("bandwidth and seconds_per_sequence must be above 0")
    n_bytes = 2 * n_workers * n_weights * 4
    seconds = n_bytes / bandwidth
    # Rounded first, because a quotient such as 6400000.000000001 is not meant to count as one more sequence.
    return Communication(n_bytes, seconds, math.ceil(round(seconds * n_workers / seconds_per_sequence, 6)))


# ---- on the workers

_copies = threading.local()


def _own(token: str, model: Any, n_jobs: int) -> Any:
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
    model = _own(*fixed)
    model.params = weights
    model.bind_weights()
    grads = model.vectors()[1]
    grads[:] = 0  # rows of embedding tables that the batch does not use are not written
    x = model.layers[0].as_input(X[rows])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss = model.trainer.gradients(model, Batch(x, *rest))
    return share * loss, share * grads


# ---- in the calling process


class _Cluster:
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
        self.client, self.n_jobs = client, n_jobs
        self.workers = self._now()
        if not self.workers:
            raise RuntimeError(f"the dask cluster {client.scheduler.address} has no workers: {_ADD_WORKERS}")
        rows = -(-len(X) // len(self.workers))
        parts = X.rechunk({0: rows, **dict.fromkeys(range(1, X.ndim), -1)})
        self.bounds = np.cumsum([0, *parts.chunks[0]]).tolist()
        self.parts = client.persist(parts.to_delayed().ravel().tolist(), optimize_graph=True)
        self.parts = client.compute(self.parts)
        self.fixed: Any = None
        self._looked = time.monotonic()

    def share_model(self, model: Any) -> None:
        """Send the network to all workers, where its weights are set in each step."""
        delayed = extra("dask", "dask").delayed
        token = f"fastrnn-{id(model)}-{time.monotonic_ns()}"
        # A task and not scattered data, which would be lost with their workers.
        self.fixed = self.client.compute(delayed(tuple, pure=False)((token, delayed(model), self.n_jobs)))

    def gradient(self, weights: NDArray[Any], rows: NDArray[Any], batch: Batch) -> tuple[float, NDArray[Any]]:
        """Loss and gradient of a global batch of the samples `rows`."""
        places = np.searchsorted(self.bounds, rows, side="right") - 1
        tasks = []
        for k in np.unique(places):
            here = places == k
            rest = tuple(None if values is None else values[here] for values in (batch.y, batch.weight))
            share = float(np.mean(here))
            tasks.append(
                self.client.submit(
                    _gradient,
                    self.fixed,
                    weights,
                    self.parts[k],
                    rows[here] - self.bounds[k],
                    rest,
                    share,
                    pure=False,
                    retries=RETRIES,
                )
            )
        self._wait(tasks)
        losses, grads = zip(*self.client.gather(tasks), strict=True)
        # In the order of the parts, so that the sum does not depend on which worker is ready first.
        return float(sum(losses)), np.sum(grads, axis=0)

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


class _Numbers(NamedTuple):
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


class _ClusterTrainer(Trainer):
    """A trainer whose gradients come from a cluster."""

    def __init__(self, local: Trainer, cluster: _Cluster, numbers: _Numbers, width: int) -> None:
        self.__dict__.update(local.__dict__)
        self._cluster, self._numbers, self._width = cluster, numbers, width

    def _update(self, model: Any, batch: Batch) -> float:
        outputs = np.zeros((len(batch.y), self._width), model.weight_vector.dtype)
        self.objective.resolve(batch.y, outputs)
        rows = self._numbers.read(np.asarray(batch.x))
        loss, total = self._cluster.gradient(model.weight_vector.copy(), rows, batch)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss became {loss}; the weights were not changed. {HELP}.")
        weights, grads = model.vectors()
        grads[:] = total
        self._check_gradients(grads, model.plan)
        if self.before_update is not None:
            self.before_update()
        self.optimizer.apply(weights, grads, model.plan)
        model.constrain()
        model.weights_changed()
        self.objective.add(loss, batch.y, outputs, batch.weight, None)
        return loss


#: Parameters that training on a cluster can't follow, with the values that it accepts.
_ACCEPTED = {
    "return_sequences": (False,),
    "stateful": (False,),
    "early_stopping": (False,),
    "dropout": (0, 0.0),
    "recurrent_dropout": (0, 0.0),
    "truncated_bptt_steps": (None,),
}


class _OnCluster:
    """What both estimators add."""

    _cluster: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, client: Any = None) -> Any:
        """Train on sequences that are spread over the workers of a cluster.

        Parameters
        ----------
        X : dask.array.Array of shape (n_samples, n_timesteps, n_features)
            Or integer tokens (n_samples, n_timesteps) with `vocabulary_size`. It is divided by samples, one part for each
            worker, and kept there; dask writes to disk what exceeds a worker's memory.
        y : array-like or dask.array.Array of shape (n_samples,) or (n_samples, n_outputs)
            Read into the memory of this process.
        sample_weight : array-like or dask.array.Array of shape (n_samples,), optional
        client : distributed.Client, optional
            By default the client that was made last.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If dask is not installed.
        TypeError
            If X is no dask array.
        ValueError
            If there is no client, or a parameter can't be followed on a cluster.
        RuntimeError
            If the cluster has no workers, or has lost all of them for half a minute.
        """
        distributed, array = extra("distributed", "dask"), extra("dask.array", "dask")
        self._check(X, array)
        if client is None:
            try:
                client = distributed.default_client()
            except ValueError:
                raise ValueError(
                    "there is no dask client: make one, client = distributed.Client(address), or "
                    "distributed.Client(distributed.LocalCluster()) on this machine"
                ) from None
        y, sample_weight = (
            values.compute() if isinstance(values, array.Array) else values for values in (y, sample_weight)
        )
        if math.isnan(len(X)):
            X = X.compute_chunk_sizes()
        cluster = _Cluster(client, X, self.n_jobs or 1)  # type: ignore[attr-defined]
        self._cluster = cluster
        numbers = _Numbers(len(X), self.vocabulary_size)  # type: ignore[attr-defined]
        try:
            return super().fit(numbers.write(X.shape, self.dtype), y, sample_weight)  # type: ignore[attr-defined, misc]
        finally:
            vars(self).pop("_cluster", None)

    def _check(self, X: Any, array: Any) -> None:
        name = type(self).__name__
        if not isinstance(X, array.Array):
            raise TypeError(
                f"X is {type(X).__name__}: {name}.fit needs a dask array, such as "
                f"dask.array.from_array(X, chunks=(1000, -1, -1)); use {name.removeprefix('Dask')} for arrays in memory"
            )
        expected = 2 if self.vocabulary_size is not None else 3  # type: ignore[attr-defined]
        if X.ndim != expected:
            wanted = (
                "(n_samples, n_timesteps) of tokens"
                if expected == 2
                else "(n_samples, n_timesteps, n_features)"
            )
            raise ValueError(f"X has shape {X.shape}; a dask array of shape {wanted} is needed")
        for parameter, accepted in _ACCEPTED.items():
            value = vars(self)[parameter]
            if value not in accepted:
                raise ValueError(
                    f"{parameter}={value!r} can't be used on a cluster: set {parameter}={accepted[0]!r}, or train with "
                    f"{name.removeprefix('Dask')} in one process"
                )

    def _many_epochs(self, data: Batches, held_out: Any, scale: float) -> Any:
        me: Any = self
        model = me.model_
        cluster, local, plan = me._cluster, model.trainer, model.plan
        cluster.share_model(model)
        n_weights = len(model.weight_vector)
        # All rows of embedding tables are updated: those that a batch uses are known to the workers only.
        model.plan = Plan(plan.variables, [(0, n_weights)], [])
        numbers = _Numbers(cluster.bounds[-1], me.vocabulary_size)
        model.trainer = _ClusterTrainer(local, cluster, numbers, me._head()[0])
        try:
            return super()._many_epochs(data, held_out, scale)  # type: ignore[misc]
        finally:
            cluster.look()
            model.trainer, model.plan = local, plan

    def _lazily(self, method: str, X: Any, dtype: Any, n_columns: int | None) -> Any:
        """The answers for a dask array, block by block when they are computed."""
        whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        compute = getattr(self, method)
        if n_columns is None:
            return whole.map_blocks(compute, drop_axis=list(range(1, X.ndim)), dtype=dtype)
        return whole.map_blocks(
            compute, drop_axis=list(range(2, X.ndim)), chunks=(whole.chunks[0], (n_columns,)), dtype=dtype
        )


def _is_lazy(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] == "dask"


class DaskRNNClassifier(_OnCluster, RNNClassifier):  # type: ignore[misc]
    """:class:`~fastrnn.RNNClassifier` that trains on the workers of a dask cluster.

    Parameters and attributes are those of :class:`~fastrnn.RNNClassifier`. `n_jobs` is the number of threads of each
    worker's task, by default one, and `batch_size` that of the global batch, which all workers share. Weights are those of
    one process with the same `random_state` and `batch_size`, up to rounding; with weights of samples or classes the
    samples may come in another order. If workers are lost, the others take over their sequences, and the step is computed
    again; the logger ``fastrnn.distributed`` says so. Predictions for dask arrays are dask arrays.

    Stateful training, early stopping, dropout, truncated backpropagation and ``return_sequences=True`` are refused.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from fastrnn.distributed import DaskRNNClassifier
    >>> client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"))
    >>> X = da.random.default_rng(0).normal(size=(60, 5, 2), chunks=(20, -1, -1))
    >>> y = (X[:, 0, 0] > 0).astype(int)
    >>> model = DaskRNNClassifier(units=4, batch_size=30, max_iter=2, tol=None, random_state=0).fit(X, y)
    >>> model.predict(X)  # computed block by block on the cluster, when it is asked for
    dask.array<predict, shape=(60,), dtype=int64, chunksize=(20,), chunktype=numpy.ndarray>
    >>> client.shutdown()
    """

    def predict(self, X: Any, **options: Any) -> Any:
        """Predict labels, for a dask array lazily; otherwise as :meth:`fastrnn.RNNClassifier.predict`."""
        if _is_lazy(X):
            return self._lazily("predict", X, self.classes_.dtype, None)
        return super().predict(X, **options)

    def predict_proba(self, X: Any, **options: Any) -> Any:
        """Predict probabilities, for a dask array lazily; otherwise as :meth:`fastrnn.RNNClassifier.predict_proba`."""
        if _is_lazy(X):
            return self._lazily("predict_proba", X, np.dtype(self.dtype), len(self.classes_))
        return super().predict_proba(X, **options)


class DaskRNNRegressor(_OnCluster, RNNRegressor):  # type: ignore[misc]
    """:class:`~fastrnn.RNNRegressor` that trains on the workers of a dask cluster: see :class:`DaskRNNClassifier`.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from fastrnn.distributed import DaskRNNRegressor
    >>> client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"))
    >>> X = da.random.default_rng(0).normal(size=(60, 5, 2), chunks=(20, -1, -1))
    >>> model = DaskRNNRegressor(units=4, batch_size=30, max_iter=2, tol=None, random_state=0).fit(X, X[:, -1, 0])
    >>> model.predict(X).shape
    (60,)
    >>> client.shutdown()
    """

    def predict(self, X: Any, **options: Any) -> Any:
        """Predict, for a dask array lazily; otherwise as :meth:`fastrnn.RNNRegressor.predict`."""
        if not _is_lazy(X):
            return super().predict(X, **options)
        n_outputs = self._head()[0]
        columns = None if np.ndim(super().predict(np.zeros((1, *X.shape[1:]), X.dtype))) == 1 else n_outputs
        return self._lazily("predict", X, np.dtype(self.dtype), columns)

"""The estimators that train on a dask cluster."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn.distributed.cluster import Cluster, ClusterTrainer, Numbers
from fastrnn.distributed.workers import default_client
from fastrnn.estimators import RNNClassifier, RNNRegressor
from fastrnn.extras import extra
from fastrnn.optimizers import Plan
from fastrnn.training.data import Batches

__all__ = ["DaskRNNClassifier", "DaskRNNRegressor"]

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
        array = extra("dask.array", "dask")
        self._check(X, array)
        client = default_client(client)
        y, sample_weight = (
            values.compute() if isinstance(values, array.Array) else values for values in (y, sample_weight)
        )
        if math.isnan(len(X)):
            X = X.compute_chunk_sizes()
        cluster = Cluster(client, X, self.n_jobs or 1)  # type: ignore[attr-defined]
        self._cluster = cluster
        numbers = Numbers(len(X), self.vocabulary_size)  # type: ignore[attr-defined]
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
        n_weights = len(model.weight_vector)
        # All rows of embedding tables are updated: those that a batch uses are known to the workers only.
        model.plan = Plan(plan.variables, [(0, n_weights)], [])
        numbers = Numbers(cluster.bounds[-1], me.vocabulary_size)
        try:
            with cluster.training(model):
                model.trainer = ClusterTrainer(local, cluster, numbers, me._head()[0])
                return super()._many_epochs(data, held_out, scale)  # type: ignore[misc]
        finally:
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

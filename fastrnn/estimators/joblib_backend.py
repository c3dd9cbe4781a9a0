"""The backend "fastrnn" of joblib: fits of searches and of cross-validation are trained as `fit_many` trains its models."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import ThreadingBackend

from fastrnn.training.prepared import prepare_in_thread

__all__ = ["FastRNNBackend"]


class FastRNNBackend(ThreadingBackend):  # type: ignore[misc]
    """Threads of this process that prepare the training steps of small networks.

    Importing the estimators registers it by the name "fastrnn". With it, whatever scikit-learn runs with `n_jobs` trains its
    models side by side in one process, each with one thread, by the same code as :func:`fastrnn.fit_many`: no data are
    pickled and no processes are started. With ``n_jobs=1``, joblib uses no backend.

    Steps that can't be prepared, such as those of ragged sequences (see :func:`fastrnn.fit_many`), hold Python's lock
    between kernels. For them joblib's processes are faster where a search takes much longer than their start;
    ``python -m benchmarks.search`` shows both.

    Examples
    --------
    >>> import joblib
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastrnn import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(60, 10, 2))
    >>> model = RNNRegressor(cell="gru", units=8, max_iter=5, tol=None, random_state=0)
    >>> search = GridSearchCV(model, {"learning_rate_init": [0.001, 0.01]}, cv=3)
    >>> with joblib.parallel_config(backend="fastrnn", n_jobs=2):
    ...     search.fit(X, X[:, -1, 0])  # doctest: +ELLIPSIS
    GridSearchCV(...)
    >>> search.best_params_
    {'learning_rate_init': 0.01}
    """

    _pool: Any

    def _get_pool(self) -> Any:
        """The threads, made at the first call."""
        if self._pool is None:
            self._pool = ThreadPool(self._n_jobs, initializer=prepare_in_thread)
        return self._pool


register_parallel_backend("fastrnn", FastRNNBackend)

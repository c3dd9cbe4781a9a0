"""A progress bar for the searches and the cross-validation of scikit-learn."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from joblib import Parallel
from sklearn.model_selection import (
    BaseCrossValidator,
    BaseShuffleSplit,
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
    check_cv,
)

from fastrnn.checks import integer
from fastrnn.training.progress import new_bar

__all__ = ["search_progress"]


@contextlib.contextmanager
def search_progress(search: Any = None, total: int | None = None) -> Iterator[None]:
    """Show a progress bar of the fits that scikit-learn makes inside the ``with`` block.

    The bar counts the tasks of joblib: the fits of ``GridSearchCV``, of the other searches, and of ``cross_validate``, with
    any backend, also where they run in other processes or on a cluster. The last fit of a search, on all data, is not among
    them. scikit-learn's own ``verbose=`` prints a line for each fit instead.

    Parameters
    ----------
    search : GridSearchCV or RandomizedSearchCV, optional
        Tells how many fits there will be.
    total : int, optional
        The number of fits, where there is no `search` that tells. Without both, the bar counts without an end.

    Raises
    ------
    TypeError
        If `search` is of another class.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastrnn import RNNClassifier
    >>> from fastrnn.estimators import search_progress
    >>> X, y = np.random.default_rng(0).normal(size=(40, 5, 2)), np.arange(40) % 2
    >>> search = GridSearchCV(RNNClassifier(max_iter=1, tol=None, random_state=0), {"units": [2, 3]}, cv=2)
    >>> with search_progress(search):
    ...     model = search.fit(X, y)
    >>> len(model.cv_results_["params"])
    2

    Notes
    -----
    ``joblib.Parallel.__call__`` and ``print_progress`` are replaced while the block runs. What other threads run in parallel
    meanwhile is not counted, nor what a fit itself runs in parallel.
    """
    if search is not None and total is None:
        total = _number_of_fits(search)
    bar = new_bar(integer(total, "total", optional=True), "search", "fit")
    counter = _Counter(bar)
    call, print_progress = Parallel.__call__, Parallel.print_progress

    def counted_call(self: Any, iterable: Any) -> Any:
        if not counter.begin(self):
            return call(self, iterable)
        try:
            result = call(self, iterable)
            # joblib may return before the thread that counts the last tasks has run.
            counter.set(self.n_dispatched_tasks)
        finally:
            counter.end()
        return result

    def counted_progress(self: Any) -> None:
        if self is counter.running:
            counter.set(self.n_completed_tasks)
        print_progress(self)

    Parallel.__call__, Parallel.print_progress = counted_call, counted_progress
    try:
        yield
    finally:
        Parallel.__call__, Parallel.print_progress = call, print_progress
        bar.close()


class _Counter:
    """Shows the completed tasks of the outermost `Parallel` of this thread."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.running: Any = None
        self._thread, self._lock = threading.get_ident(), threading.Lock()
        self._before = 0

    def begin(self, parallel: Any) -> bool:
        """Count the tasks of `parallel` from now on, unless it is inside another one or of another thread."""
        if self.running is not None or threading.get_ident() != self._thread:
            return False
        self.running, self._before = parallel, self.bar.n
        return True

    def set(self, n_tasks: int) -> None:
        """Show `n_tasks` more than before `begin`."""
        with self._lock:  # joblib counts in a thread of its own
            self.bar.update(max(self._before + n_tasks - self.bar.n, 0))

    def end(self) -> None:
        """Count nothing from now on."""
        self.running = None


def _number_of_fits(search: Any) -> int | None:
    """The fits of a search; None if they depend on the data."""
    if isinstance(search, GridSearchCV):
        n_candidates = len(ParameterGrid(search.param_grid))
    elif isinstance(search, RandomizedSearchCV):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search itself warns where there are fewer than n_iter
            n_candidates = len(
                list(ParameterSampler(search.param_distributions, search.n_iter, random_state=0))
            )
    else:
        raise TypeError(
            f"search is {type(search).__name__}: give a GridSearchCV or a RandomizedSearchCV, or leave it out and give the "
            "number of fits as total="
        )
    if not isinstance(search.cv, (type(None), int, list, tuple, BaseCrossValidator, BaseShuffleSplit)):
        return None  # a generator, which would be used up
    try:
        return n_candidates * int(check_cv(search.cv).get_n_splits())
    except (TypeError, ValueError):
        return None  # splitters such as LeaveOneOut need the data

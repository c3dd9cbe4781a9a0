"""Training of many small models, side by side on the cores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from multiprocessing import TimeoutError
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_consistent_length

from fastrnn.checks import choice, flag
from fastrnn.engine.runtime import threads
from fastrnn.estimators.base import BaseRNN
from fastrnn.training.prepared import preparing
from fastrnn.training.progress import new_bar

__all__ = ["fit_many"]


class _Item(NamedTuple):
    """The arguments of one fit."""

    X: Any
    y: Any
    parameters: Mapping[str, Any]


def fit_many(
    estimator: Any,
    data: Iterable[Any],
    *,
    n_jobs: int | None = None,
    on_error: str = "raise",
    verbose: bool = False,
) -> list[Any]:
    """Train a clone of an estimator on each of many data sets, one model per thread at a time.

    The models share the process, so nothing is pickled and no process is started. Each model equals that of
    ``clone(estimator).fit(X, y)`` to rounding, and is bitwise the same for any number of threads.

    The kernels run without Python's global lock. The updates of small networks are moreover made by a loop in compiled code:
    for one recurrent layer of a built-in cell with ``return_sequences=False``, sequences of equal length, ``solver="adam"``,
    the default losses, no dropout and ``alpha=0``. Single fits do so from 8 batches an epoch on. Other networks are trained
    by the calls of a single fit.

    Parameters
    ----------
    estimator : estimator, or list of estimators
        Any estimator of scikit-learn; a recurrent one, or a pipeline that ends with one, gains most. A list has one
        estimator for each data set.
    data : iterable of tuple
        ``(X, y)`` or ``(X, y, fit_params)`` for each model; `fit_params` is a dict such as ``{"sample_weight": w}``.
    n_jobs : int, optional
        Number of models that are trained at the same time. None: the cores that are free to this process, or one inside a
        worker of joblib; -1: the cores that are free. Each model gets the threads that its own `n_jobs` says, by default
        one.
    on_error : {"raise", "return"}
        What is done if a fit fails: raise its error at once, or go on and put the error in the place of the model.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    list
        The fitted clones, in the order of `data`.

    Raises
    ------
    TypeError, ValueError
        If an argument or any of the data are invalid. The message begins with ``data[i]``, and no model is trained. Data
        of other estimators than `RNNClassifier` and `RNNRegressor` are checked for equal lengths only.
    Exception
        The error of the first fit that failed, with ``data[i]`` at the start of its message.
    KeyboardInterrupt
        At Ctrl-C. No other fit is begun; those that run come to their end in the background.

    Notes
    -----
    An error or interrupt that ends the call has the attribute `fitted`, a dict of the models that were complete, by their
    index: ``except KeyboardInterrupt as stop: models = stop.fitted``.

    Give the estimator an integer as `random_state`. With None, all models draw from the one global generator of NumPy, in an
    order that varies between calls.

    Searches and cross-validation of scikit-learn train their models in this way with a backend of joblib, see
    :class:`fastrnn.estimators.FastRNNBackend`::

        with joblib.parallel_config(backend="fastrnn", n_jobs=2):
            GridSearchCV(RNNRegressor(), grid).fit(X, y)

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor, fit_many
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(5, 40, 10, 3))  # five data sets of 40 sequences
    >>> data = [(x, x[:, -1, 0]) for x in X]
    >>> models = fit_many(RNNRegressor(units=8, max_iter=5, tol=None, random_state=0), data)
    >>> len(models), models[3].predict(X[3]).shape
    (5, (40,))
    """
    items = _items(data)
    estimators = _estimators(estimator, len(items))
    choice(on_error, "on_error", ("raise", "return"))
    flag(verbose, "verbose")
    n_threads = max(1, min(threads.resolve(n_jobs), len(items)))
    for i, (one, item) in enumerate(zip(estimators, items, strict=True)):
        try:
            _check(one, item)
        except Exception as error:
            _name(error, i)
            raise
    return _fit_all(estimators, items, n_threads, on_error == "return", verbose)


def _items(data: Iterable[Any]) -> list[_Item]:
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise TypeError(
            f"data={data!r}: give a list of tuples (X, y) or (X, y, fit_params), one for each model"
        )
    items = []
    for i, given in enumerate(data):
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
            raise TypeError(
                f"data[{i}] is a {type(given).__name__}{size}: give a tuple (X, y) or (X, y, fit_params)"
            )
        X, y, parameters = (*given, {})[:3]
        if not isinstance(parameters, Mapping):
            raise TypeError(
                f"data[{i}]: the third part is a {type(parameters).__name__}: give a dict of arguments of fit, such as "
                "{'sample_weight': weights}"
            )
        items.append(_Item(X, y, parameters))
    return items


def _estimators(given: Any, n: int) -> Sequence[Any]:
    """An estimator for each of `n` items."""
    if isinstance(given, (list, tuple)):
        if len(given) != n:
            raise ValueError(
                f"estimator is a list of {len(given)}, data has {n} items: the numbers must be equal"
            )
    else:
        given = [given] * n
    for i, one in enumerate(given):
        if not isinstance(one, BaseEstimator):
            name = f"estimator[{i}]" if isinstance(given, tuple) else "estimator"
            raise TypeError(f"{name}={one!r}: give an estimator, such as RNNRegressor()")
    result: Sequence[Any] = given
    return result


def _check(estimator: Any, item: _Item) -> None:
    """Raise what `fit` would raise for its arguments."""
    if isinstance(estimator, BaseRNN):
        estimator._read_training(item.X, item.y, **item.parameters)
    elif item.y is not None:
        check_consistent_length(item.X, item.y)


def _name(error: BaseException, index: int) -> None:
    """Say in an error's message to which data it belongs."""
    if error.args and isinstance(error.args[0], str):
        error.args = (f"data[{index}]: {error.args[0]}", *error.args[1:])
    else:
        error.add_note(f"data[{index}]")


def _fit_all(
    estimators: Sequence[Any], items: list[_Item], n_threads: int, keep_errors: bool, verbose: bool
) -> list[Any]:
    results: dict[int, Any] = {}
    config, stopped = sklearn.get_config(), False

    def fit(i: int) -> int:
        if stopped:
            return i
        item = items[i]
        try:
            # The settings of scikit-learn belong to a thread.
            with sklearn.config_context(**config), preparing():
                results[i] = clone(estimators[i]).fit(item.X, item.y, **item.parameters)
        except (
            BaseException
        ) as error:  # one that left the function would end the thread, and its result be waited for
            _name(error, i)
            results[i] = error
        return i

    # Also for one thread: in a worker thread, networks of any size get one thread each unless their own n_jobs says more.
    pool = ThreadPool(n_threads)
    try:
        with contextlib.closing(_shown(_as_they_end(pool, fit, len(items)), len(items), verbose)) as ended:
            for i in ended:
                result = results[i]
                if isinstance(result, BaseException) and not (keep_errors and isinstance(result, Exception)):
                    raise result
    except BaseException as error:
        stopped = True
        # A copy, because other threads may still add to the results.
        finished = {i: one for i, one in sorted(results.copy().items()) if not isinstance(one, BaseException)}
        error.fitted = finished  # type: ignore[attr-defined]
        raise
    finally:
        pool.terminate()
    return [results[i] for i in range(len(items))]


def _as_they_end(pool: ThreadPool, fit: Callable[[int], int], n: int) -> Iterator[int]:
    """Call `fit` for all numbers below `n`, and yield them as the calls end."""
    found = pool.imap_unordered(fit, range(n))
    for _ in range(n):
        while True:
            # With a timeout, because on Windows an endless wait blocks signals.
            with contextlib.suppress(TimeoutError):
                yield found.next(timeout=0.1)
                break


def _shown(ended: Iterable[int], n: int, verbose: bool) -> Generator[int, None, None]:
    """The numbers of the fits that ended, counted by a progress bar if `verbose`."""
    if not verbose:
        yield from ended
        return
    with new_bar(n, "fit_many", "model") as bar:
        for i in ended:
            yield i
            bar.update()

"""Compile the usual kernels ahead of their first use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.jit import DISABLED
from fastrnn.engine.runtime.linking import complete
from fastrnn.estimators.classifier import RNNClassifier
from fastrnn.estimators.network import CELLS, SOLVERS
from fastrnn.layers import Dense, Input
from fastrnn.models.sequential import Sequential
from fastrnn.registry import choices
from fastrnn.training.prepared import preparing
from fastrnn.training.progress import progress

__all__ = ["warmup"]

DTYPES = ("float32", "float64")

# Enough work for a second thread; and a small layer, which has its sequences as lanes of vectors.
_SHAPE, _UNITS, _SMALL, _CLASSES = (32, 16, 8), 64, 8, 3


def warmup(
    cells: str | Iterable[str] = ("lstm", "gru", "simple_rnn"),
    dtypes: Any = "float32",
    *,
    training: bool = True,
    parallel: bool | None = None,
    verbose: bool = True,
) -> None:
    """Compile the kernels that models with these cells call, and keep them on disk.

    Otherwise each kernel is compiled at its first call. Use this function where a delay of seconds does not matter, for
    example when a container image is built, or before requests are served. It compiles forward and backward passes over
    full and ragged batches, also of small layers, streams, and training with each of the solvers on numbers and on tokens.
    Activations other than tanh and sigmoid are compiled at their first call.

    Parameters
    ----------
    cells : str or iterable of str
        Names of cells, as in the estimators; by default ``"lstm"``, ``"gru"`` and ``"simple_rnn"``.
    dtypes : str, dtype, or iterable of them
        float32, float64 or both.
    training : bool
        Whether to compile the kernels of `fit` too; otherwise only those of `predict`.
    parallel : bool, optional
        Whether to compile the kernels for several threads too; by default if this process may use more than one.
    verbose : bool
        Whether to show a progress bar.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid; nothing is compiled then.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.warmup("simple_rnn", training=False, parallel=False, verbose=False)
    """
    names = _distinct("cells", cells, str)
    for name in names:
        if name not in CELLS:
            raise ValueError(f"cells={cells!r}: there is no {name!r}; {choices(name, CELLS)}")
    kinds = _distinct("dtypes", dtypes, _dtype)
    for option, value in (("training", training), ("verbose", verbose), ("parallel", parallel)):
        if not isinstance(value, (bool, np.bool_)) and not (option == "parallel" and value is None):
            raise TypeError(f"{option}={value!r}: give True or False")
    if DISABLED:
        return
    if parallel is None:
        parallel = threads.available() > 1
    jobs = [1, 2] if parallel and threads.resolve(2) > 1 else [1]

    work: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = []
    for kind, name, n_jobs in itertools.product(kinds, names, jobs):
        label = f"{name} {kind}" + (", parallel" if n_jobs > 1 else "")
        work.append((label, _train if training else _predict, (name, kind, n_jobs)))
    if training:
        for kind, solver in itertools.product(kinds, SOLVERS):
            work.append((f"{solver} {kind}", _solve, (solver, names[0], kind)))
    for _, run, arguments in progress(work, "compiling", "step", bool(verbose), lambda item: item[0]):
        run(*arguments)
        complete()


def _distinct(argument: str, value: Any, convert: Callable[[Any], Any]) -> list[Any]:
    """One value or several as a list without duplicates."""
    several = isinstance(value, Iterable) and not isinstance(value, (str, np.dtype))
    found = list(dict.fromkeys(convert(item) for item in (value if several else [value])))
    if not found:
        raise ValueError(f"{argument}={value!r} names nothing to compile")
    return found


def _dtype(value: Any) -> str:
    try:
        name = np.dtype(value).name
    except TypeError:
        name = str(value)
    if value is None or name not in DTYPES:
        raise ValueError(f"dtypes: {value!r} can't be used; {choices(name, DTYPES)}")
    result: str = name
    return result


def _numbers(dtype: str) -> np.ndarray:
    return np.linspace(-1, 1, np.prod(_SHAPE), dtype=dtype).reshape(_SHAPE)


def _classifier(cell: str, dtype: str, units: int = _UNITS, **options: Any) -> RNNClassifier:
    return RNNClassifier(cell=cell, units=units, dtype=dtype, max_iter=1, tol=None, random_state=0, **options)


def _train(cell: str, dtype: str, n_jobs: int) -> None:
    x = _numbers(dtype)
    y = np.arange(len(x)) % _CLASSES
    for labels, units in ((y, _UNITS), (y % 2, _UNITS), (y, _SMALL)):
        _classifier(cell, dtype, units, n_jobs=n_jobs).fit(x, labels).predict(x)
    if n_jobs == 1:
        # In a loop of updates, whose inputs may have another dtype than the network.
        with preparing():
            for values in map(x.astype, DTYPES):
                _classifier(cell, dtype, n_jobs=1).fit(values, y)
            _classifier(cell, dtype, _SMALL, n_jobs=1).fit(x, y)
    ragged = [row[: 1 + k % len(row)] for k, row in enumerate(x)]
    model = _classifier(cell, dtype, n_jobs=n_jobs).fit(ragged, y)
    model.predict(ragged)
    stream = model.model_.stream()
    stream.step(x[:1, 0])
    stream.reset()
    stream._answering((1,), np.dtype(np.intp))  # labels
    for answers in map(np.dtype, DTYPES):  # numbers; several numbers, and probabilities
        stream._answering((1,), answers)
        stream._answering((1, _CLASSES), answers)


def _predict(cell: str, dtype: str, n_jobs: int) -> None:
    from fastrnn import layers

    x = _numbers(dtype)
    for units in (_UNITS, _SMALL):
        recurrent = getattr(layers, CELLS[cell])(units, dtype=dtype)
        recurrent.n_threads = n_jobs
        head = Dense(_CLASSES, activation="softmax", dtype=dtype)
        model = Sequential([Input(x.shape[1:]), recurrent, head])
        model.predict(x, verbose=0)
        model.predict(x[:1], verbose=0)
        model.stream().step(x[:1, 0])


def _solve(solver: str, cell: str, dtype: str) -> None:
    x = _numbers(dtype)
    tokens = np.arange(x[..., 0].size).reshape(x.shape[:2]) % 10
    for data, options in ((x, {}), (tokens, {"vocabulary_size": 10, "embedding_dim": 4})):
        _classifier(cell, dtype, n_jobs=1, solver=solver, **options).fit(data, np.arange(len(x)) % _CLASSES)

"""Attributions of predictions to time steps, and a check by deleting steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from fastrnn.checks import integer
from fastrnn.inspection.network import Network, Recorder, open_network
from fastrnn.models.passes import backward, forward
from fastrnn.models.sequential import Sequential
from fastrnn.sequences import Ragged

__all__ = ["DeletionCurve", "attributions", "deletion_curve"]


class _Answer(NamedTuple):
    """The number to explain: an output, or the input of its sigmoid or softmax."""

    columns: NDArray[Any]
    signs: NDArray[Any]


def _scores(model: Sequential, x: Any, mask: Any, training: bool = False) -> tuple[NDArray[Any], Any, bool]:
    """The inputs of the last sigmoid or softmax, otherwise the outputs; caches; and whether they are the former."""
    last = model.layers[-1].output_activation
    logits_of = last if last in ("sigmoid", "softmax") else None
    model.reset_states()
    done = forward(model.layers, x, mask, training, logits_of)
    scores = done.y if done.logits is None else done.logits
    if scores.ndim != 2:
        raise ValueError(
            f"the model answers with shape {scores.shape}, one answer for each time step: attributions explain models with "
            "one answer for a sequence (return_sequences=False)"
        )
    return scores, done.caches, done.logits is not None


def _answer(network: Network, scores: NDArray[Any], target: Any) -> _Answer:
    n, width = scores.shape
    estimator = network.estimator
    binary = width == 1 and network.model.layers[-1].output_activation == "sigmoid"
    classes = estimator.classes_.tolist() if estimator is not None and is_classifier(estimator) else None
    if target is None:
        if binary:
            return _Answer(np.zeros(n, np.int64), np.where(scores[:, 0] > 0, 1, -1))
        softmax = network.model.layers[-1].output_activation == "softmax"
        columns = scores.argmax(axis=1) if softmax else np.zeros(n, np.int64)
        return _Answer(columns, np.ones(n, np.int64))
    if classes is not None:
        if target not in classes:
            raise ValueError(f"target={target!r} is none of the classes {classes}")
        place = classes.index(target)
    else:
        place = integer(target, "target", 0)
        if place >= (2 if binary else width):
            raise ValueError(f"target={target!r}: the model has {width} outputs")
    if binary:
        return _Answer(np.zeros(n, np.int64), np.full(n, 1 if place else -1))
    return _Answer(np.full(n, place), np.ones(n, np.int64))


def attributions(estimator: Any, X: Any, *, target: Any = None) -> list[NDArray[Any]]:
    """Compute the attribution of the answer (the predicted value) to each time step: gradient times input.

    The attribution of step t is the sum over the features of ``x_t * da/dx_t``, where a is the answer. To first order it is
    the decrease of the answer if the step is replaced by zeros. For tokens, x_t is the vector of the embedding.

    Parameters
    ----------
    estimator : fitted estimator, Pipeline, search or Sequential
        A network with one output for each sequence.
    X : array-like
        Sequences, in a form that the estimator takes.
    target : label or int, optional
        Class of a classifier, or number of an output. By default the predicted class, or the first output. For a class the
        answer is the input of the sigmoid or softmax (for two classes the log-odds).

    Returns
    -------
    list of ndarray of shape (n_timesteps_i,)
        Positive for steps that increase the answer.

    References
    ----------
    Shrikumar, A., Greenside, P. and Kundaje, A. (2017). Learning important features through propagating activation
    differences. ICML. (Gradient times input is one of the methods compared.)

    Examples
    --------
    The target depends only on step 3, which has the largest attributions.

    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> from fastrnn.inspection import attributions
    >>> X = np.random.default_rng(0).normal(size=(200, 6, 1))
    >>> model = RNNRegressor(units=8, learning_rate_init=0.01, max_iter=60, tol=None, random_state=0).fit(X, X[:, 3, 0])
    >>> int(np.abs(attributions(model, X)).mean(axis=0).argmax())
    3
    """
    network = open_network(estimator, X)
    model, n = network.model, len(network.data)
    recorder = Recorder(model.layers[0])
    found: list[NDArray[Any]] = []
    for rows in _cut(n):
        x, mask = network.batch(rows)
        scores, caches, from_logits = _scores(model, x, mask, training=True)
        answer = _answer(network, scores, target)
        d_scores = np.zeros_like(scores)
        d_scores[np.arange(len(scores)), answer.columns] = answer.signs
        backward(model.layers, d_scores, caches, from_logits, 0)
        if model.layers[0].takes_tokens:
            inputs, gradient = recorder.y, recorder.dy
        else:
            inputs, gradient = recorder.x, recorder.dx
        moved = (inputs.astype(np.float64) * gradient).sum(axis=2)
        found += list(moved) if mask is None else [a[m] for a, m in zip(moved, mask, strict=True)]
    return found


def _cut(n: int, size: int = 256) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


class DeletionCurve(NamedTuple):
    """The mean answer after deleting a fraction of the steps, in three orders.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.inspection import DeletionCurve
    >>> curve = DeletionCurve(np.array([0.0, 0.5]), np.array([0.9, 0.4]), np.array([0.9, 0.7]), np.array([0.9, 0.88]))
    >>> curve.most[1] < curve.random[1] < curve.least[1]  # the attributions name the steps that count
    np.True_
    """

    fractions: NDArray[Any]
    """(n_fractions,) fractions of the steps that are deleted."""
    most: NDArray[Any]
    """(n_fractions,) answers if the steps with the largest attributions are deleted first."""
    random: NDArray[Any]
    """(n_fractions,) answers if random steps are deleted."""
    least: NDArray[Any]
    """(n_fractions,) answers if the steps with attributions nearest to zero are deleted first."""


def deletion_curve(
    estimator: Any,
    X: Any,
    *,
    target: Any = None,
    fractions: ArrayLike = (0, 0.1, 0.2, 0.3, 0.4, 0.5),
    random_state: Any = None,
) -> DeletionCurve:
    """Check attributions by deleting steps: steps with large attributions should change the answer most.

    A deleted token is removed from its sequence. A deleted step of numbers is set to zero, which is the mean after a
    :class:`~fastrnn.StandardScaler3D`.

    Parameters
    ----------
    estimator : fitted estimator, Pipeline, search or Sequential
    X : array-like
        Sequences, in a form that the estimator takes.
    target : label or int, optional
        As in :func:`attributions`.
    fractions : array-like of float
        Fractions of the steps of a sequence, from 0 to below 1.
    random_state : int, RandomState or None
        Seed of the random order.

    Returns
    -------
    DeletionCurve

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> from fastrnn.inspection import deletion_curve
    >>> X = np.abs(np.random.default_rng(0).normal(size=(200, 6, 1)))
    >>> model = RNNRegressor(units=8, max_iter=20, tol=None, random_state=0).fit(X, X[:, 3, 0])
    >>> curve = deletion_curve(model, X, random_state=0)
    >>> bool(curve.most[2] < curve.random[2])
    True
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.ndim != 1 or not len(shares) or shares.min() < 0 or shares.max() >= 1:
        raise ValueError(f"fractions={fractions!r}: give fractions of the steps, from 0 to below 1")
    network = open_network(estimator, X)
    rng = check_random_state(random_state)
    values = attributions(estimator, X, target=target)
    orders = {
        "most": [np.argsort(-a, kind="stable") for a in values],
        "random": [rng.permutation(len(a)) for a in values],
        "least": [np.argsort(np.abs(a), kind="stable") for a in values],
    }
    sequences = list(network.data)
    answers = [
        _answer(network, _scores(network.model, *network.batch(r))[0], target) for r in _cut(len(values))
    ]
    columns, signs = (np.concatenate(part) for part in zip(*answers, strict=True))
    tokens = network.model.layers[0].takes_tokens
    curves = {}
    for name, order in orders.items():
        means = []
        for share in shares:
            kept = [
                _without(s, o[: _count(share, len(o))], tokens) for s, o in zip(sequences, order, strict=True)
            ]
            shown = network._replace(data=Ragged.from_list(kept))
            scores = np.concatenate([_scores(network.model, *shown.batch(r))[0] for r in _cut(len(kept))])
            means.append(np.mean(signs * scores[np.arange(len(scores)), columns], dtype=np.float64))
        curves[name] = np.array(means)
    return DeletionCurve(shares, curves["most"], curves["random"], curves["least"])


def _count(share: float, n_steps: int) -> int:
    """Number of deleted steps; at least one step is left."""
    return min(round(share * n_steps), n_steps - 1)


def _without(sequence: NDArray[Any], steps: NDArray[Any], tokens: bool) -> NDArray[Any]:
    if tokens:
        return np.delete(sequence, steps, axis=0)
    changed = np.array(sequence)
    changed[steps] = 0
    return changed

"""Scores and cross-validated predictions where there is an output for each time step.

scikit-learn's scorers expect one row of targets for each sample. They take time steps for outputs or classes of a sample,
and some of them then return a wrong number instead of an error.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
from sklearn import model_selection
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.metrics import get_scorer
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from fastrnn.estimators.response import row_weights
from fastrnn.sequences import Ragged, as_step_values
from fastrnn.sequences.columnar import read_columnar

__all__ = ["PerStepScorer", "cross_val_predict", "per_step", "refuse_scorers_of_rows"]

_FILL = {
    "predict_proba": lambda dtype: 0.0,
    "predict_log_proba": lambda dtype: np.finfo(dtype).min,
}


def per_step(scoring: Any) -> PerStepScorer:
    """Make a scorer for time steps from a scorer of scikit-learn.

    The scorer gets the targets and predictions of the valid time steps of all sequences as rows. It can be used wherever
    scikit-learn takes `scoring`: in ``GridSearchCV``, ``cross_val_score``, ``permutation_importance``.

    Parameters
    ----------
    scoring : str or scorer
        A name of :func:`sklearn.metrics.get_scorer_names`, or what :func:`sklearn.metrics.make_scorer` returns.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, sample_weight=None)``. Its weights may be those of sequences or of steps.

    Raises
    ------
    ValueError
        If there is no such scorer; when it is called, if `y` does not fit the predictions, or the estimator gives one output
        for a sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from fastrnn import RNNClassifier
    >>> from fastrnn.estimators import per_step
    >>> X = np.random.default_rng(0).normal(size=(60, 8, 1))
    >>> y = (X[..., 0] > 0).astype(int)
    >>> model = RNNClassifier(
    ...     units=8, return_sequences=True, learning_rate_init=0.02, max_iter=20, tol=None, random_state=0
    ... )
    >>> bool(cross_val_score(model, X, y, scoring=per_step("roc_auc"), cv=2).min() > 0.95)
    True
    """
    return PerStepScorer(scoring)


class PerStepScorer:
    """A scorer of time steps, made by :func:`per_step`."""

    def __init__(self, scoring: Any) -> None:
        if not callable(scoring):
            get_scorer(scoring)  # raises an error for an unknown name
        self.scoring: Any = scoring.scoring if isinstance(scoring, PerStepScorer) else scoring

    @property
    def scorer(self) -> Any:
        """The scorer of rows."""
        return self.scoring if callable(self.scoring) else get_scorer(self.scoring)

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> float:
        steps = _Steps(estimator)
        layout = steps.layout_of(X)
        if sample_weight is not None:
            params["sample_weight"] = row_weights(sample_weight, layout, True)
        result: float = self.scorer(steps, X, _typed(as_step_values(y, layout)), **params)
        return result

    def get_metadata_routing(self) -> MetadataRequest:
        """The scorer's own requests, see scikit-learn's guide to metadata routing."""
        return self.scorer.get_metadata_routing()

    def __repr__(self) -> str:
        return f"per_step({self.scoring!r})"


class _Steps(BaseEstimator):  # type: ignore[misc]
    """A fitted estimator that returns its predictions for time steps as rows."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self._answers: dict[str, tuple[Any, np.ndarray, Ragged]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "estimator":
            raise AttributeError(name)
        found = getattr(self.estimator, name)
        if name not in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            return found

        @functools.wraps(found)
        def rows(X: Any) -> np.ndarray:
            return self._answer(name, X)[0]

        return rows

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()

    def layout_of(self, X: Any) -> Ragged:
        """The layout of the steps of X that have predictions."""
        return self._answer("predict", X)[1]

    def _answer(self, method: str, X: Any) -> tuple[np.ndarray, Ragged]:
        # The scorer asks for the predictions from which the layout was computed.
        known = self._answers.get(method)
        if known is None or known[0] is not X:
            rows, layout = _as_rows(getattr(self.estimator, method)(X), method)
            if method == "predict" and is_classifier(self.estimator):
                # Padding has turned integers into floats, or text into objects.
                rows = rows.astype(np.asarray(self.estimator.classes_).dtype)
            known = self._answers[method] = (X, rows, layout)
        return known[1:]


def _as_rows(answers: Any, method: str) -> tuple[np.ndarray, Ragged]:
    """Predictions for time steps as rows without padding, and their layout."""
    answers = answers.values if isinstance(answers, Ragged) else answers
    ragged = answers.dtype == object and answers.ndim == 1
    if ragged and len(answers) and np.ndim(answers[0]) > 0:
        layout = Ragged.from_list(answers)
        return layout.values, layout
    if ragged or answers.ndim < 2 or (answers.ndim == 2 and method != "predict"):
        raise ValueError(
            f"{method}(X) gives one answer for each sequence, of shape {answers.shape}: per_step is for estimators with "
            "return_sequences=True. Use the scorer as it is."
        )
    real = _is_real(answers.reshape(*answers.shape[:2], -1)).any(axis=2)
    lengths = real.sum(axis=1)
    layout = Ragged(
        answers[real],
        np.concatenate([[0], np.cumsum(lengths)]),
        starts=real.argmax(axis=1),
        n_timesteps=answers.shape[1],
    )
    return layout.values, layout


def _is_real(answers: np.ndarray) -> np.ndarray:
    """True for predictions that are not padding, which is NaN, or None among text."""
    if answers.dtype == object:
        result: np.ndarray = np.not_equal(answers, np.array(None))
        return result
    return ~np.isnan(answers) if answers.dtype.kind == "f" else np.ones(answers.shape, bool)


def _typed(y: np.ndarray) -> np.ndarray:
    """Labels of steps: object arrays of text or numbers are converted to their dtype, a single column is flattened."""
    y = np.array(y.tolist()) if y.dtype == object else y
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def refuse_scorers_of_rows() -> None:
    """Raise an error if the caller is a function of scikit-learn that would take time steps for outputs of a sample.

    scikit-learn's scorers, displays and calibration call an estimator from one function, `cross_val_predict` from another.
    Their arguments do not show this, so the call stack is inspected.
    """
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name == "_get_response_values" and frame.f_globals["__name__"] == "sklearn.utils._response":
            if isinstance(frame.f_locals["estimator"], _Steps):
                return
            raise ValueError(
                "With return_sequences=True there is an answer for each time step, which scikit-learn's scorers would take "
                "for several outputs of a sample. Wrap the scorer: scoring=fastrnn.per_step('roc_auc') for 'roc_auc', "
                "per_step(scorer) for one of your own; or pass a function (estimator, X, y) that calls predict itself."
            )
        if (
            name == "_fit_and_predict"
            and frame.f_globals["__name__"] == "sklearn.model_selection._validation"
        ):
            if frame.f_locals["method"] == "predict":
                return
            raise ValueError(
                "sklearn.model_selection.cross_val_predict encodes the labels of each time step on their own and can't join "
                "probabilities of time steps: use fastrnn.estimators.cross_val_predict, which takes the same arguments."
            )
        frame = frame.f_back  # type: ignore[assignment]


class _Answers(BaseEstimator):  # type: ignore[misc]
    """An estimator whose `predict` calls another method."""

    def __init__(self, estimator: Any, method: str, classes: Any) -> None:
        self.estimator, self.method, self.classes = estimator, method, classes

    def fit(self, X: Any, y: Any, **params: Any) -> _Answers:
        self.estimator_ = clone(self.estimator).fit(X, y, **params)
        return self

    def predict(self, X: Any) -> Any:
        check_is_fitted(self)
        answers, known = getattr(self.estimator_, self.method)(X), self.estimator_.classes_
        if len(known) == len(self.classes):
            return answers
        columns = np.searchsorted(self.classes, known)

        def widened(part: np.ndarray) -> np.ndarray:
            fill = _FILL[self.method](part.dtype)  # type: ignore[no-untyped-call]
            out = np.full((*part.shape[:-1], len(self.classes)), fill, part.dtype)
            out[..., columns] = part
            # Padding stays padding.
            out[np.isnan(part).any(axis=-1)] = np.nan
            return out

        if answers.dtype != object:
            return widened(answers)
        for i, part in enumerate(answers):
            answers[i] = widened(part)
        return answers

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()


def cross_val_predict(estimator: Any, X: Any, y: Any, *, method: str = "predict", **options: Any) -> Any:
    """Cross-validated answers for sequences or time steps: :func:`sklearn.model_selection.cross_val_predict`.

    scikit-learn's function encodes labels before it trains, which is wrong for labels of time steps: it encodes each time
    step on its own, and can't encode ragged ones.

    Parameters
    ----------
    estimator : estimator
    X, y : array-like
        As `fit` takes them; ragged ones as a list or an object array.
    method : {"predict", "predict_proba", "predict_log_proba"}
    **options
        Further arguments of scikit-learn's function: `groups`, `cv`, `n_jobs`, `verbose`, `params`, `pre_dispatch`.

    Returns
    -------
    ndarray
        As `method` lays them out, with a column for each class of `y`; a class that a part of the samples lacks has the
        probability 0 where that part was trained on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNClassifier
    >>> from fastrnn.estimators import cross_val_predict
    >>> X = np.random.default_rng(0).normal(size=(20, 8, 1))
    >>> model = RNNClassifier(units=4, return_sequences=True, max_iter=2, tol=None, random_state=0)
    >>> cross_val_predict(model, X, X[..., 0] > 0, method="predict_proba", cv=2).shape
    (20, 8, 2)
    """
    if method not in ("predict", *_FILL):
        raise ValueError(f"method={method!r}: give one of {', '.join(map(repr, ('predict', *_FILL)))}")
    y = read_columnar(y, "y")
    first = next(iter(y))
    if method == "predict" or np.ndim(first) == 0:
        return model_selection.cross_val_predict(estimator, X, y, method=method, **options)
    labels = np.concatenate([np.ravel(part) for part in y])
    labels = _typed(labels[_is_real(labels)])
    answers = _Answers(estimator, method, np.unique(labels))
    return model_selection.cross_val_predict(answers, X, y, method="predict", **options)

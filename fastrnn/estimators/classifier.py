"""Recurrent networks that classify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight

from fastrnn.checks import number
from fastrnn.estimators.base import BaseRNN
from fastrnn.estimators.loss import of_classes
from fastrnn.estimators.parameters import with_shared_documentation
from fastrnn.estimators.response import read_labels, targets_of
from fastrnn.estimators.scoring import refuse_scorers_of_rows
from fastrnn.sequences import Ragged, Sequences, lay_out_steps

__all__ = ["RNNClassifier"]


@with_shared_documentation
@dataclass(kw_only=True, eq=False, repr=False)
class RNNClassifier(ClassifierMixin, BaseRNN):  # type: ignore[misc]
    """Recurrent network that classifies sequences, or each of their time steps.

    Recurrent layers and a dense layer with a softmax (a sigmoid for two classes), trained on the cross-entropy.

    Parameters
    ----------
    {parameters}
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by label; "balanced": inversely proportional to their frequencies.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    {attributes}

    Notes
    -----
    {notes}

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(length, 1)) for length in rng.integers(3, 9, size=100)]
    >>> y = np.array([x.sum() > 0 for x in X])
    >>> model = RNNClassifier(units=8, learning_rate_init=0.01, tol=None, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    class_weight: Any = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseRNN._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def _head(self) -> tuple[int, str | None, Any]:
        n, binary = len(self.classes_), len(self.classes_) == 2
        width, activation = (1, "sigmoid") if binary else (n, "softmax")
        if self.loss is not None:
            return width, activation, of_classes(self.loss, n)
        return width, activation, "binary_crossentropy" if binary else "sparse_categorical_crossentropy"

    def _read_targets(self, y: Any, X: np.ndarray | Ragged, known: bool, classes: Any) -> dict[str, Any]:
        labels = read_labels(y, X, self.return_sequences)
        if known:
            expected = self.classes_
            if classes is not None and not np.array_equal(np.unique(classes), expected):
                raise ValueError(
                    f"classes={classes!r} is not the same as on the last call, which was: {expected.tolist()!r}"
                )
        else:
            expected = np.unique(labels) if classes is None else np.unique(column_or_1d(classes))
        if len(expected) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes, got 1 class: {expected.tolist()[0]!r}."
            )
        targets = targets_of(labels, expected)
        return {"classes_": expected, "targets": self._encode(targets, len(expected))}

    def _encode(self, targets: np.ndarray, n_classes: int) -> np.ndarray:
        """Give the binary cross-entropy a column of zeros and ones."""
        return targets[:, None].astype(self.dtype) if n_classes == 2 else targets

    def _class_weights(
        self, targets: np.ndarray, weight: np.ndarray | None, found: dict[str, Any], incremental: bool
    ) -> Any:
        if self.class_weight is None:
            return None
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not see all samples. Pass "
                "the weights themselves: sklearn.utils.class_weight.compute_class_weight('balanced', ...)."
            )
        if isinstance(self.class_weight, dict):
            for label, weight in self.class_weight.items():
                number(weight, f"class_weight[{label!r}]", 0)
        classes, index = found["classes_"], targets.reshape(len(targets)).astype(np.int64)
        if self.class_weight == "balanced":
            # Weighted, so that a sample of weight 2 counts as two. Classes that are known from `classes`, or from empty
            # sequences, may not occur in y.
            shares = np.bincount(index, weights=weight)
            return shares.sum() / (np.count_nonzero(shares) * np.maximum(shares, np.finfo(float).tiny))[index]
        return compute_class_weight(self.class_weight, classes=classes, y=classes[index])[index]

    def _score_outputs(self, targets: np.ndarray, out: np.ndarray, weight: np.ndarray | None) -> float:
        guess = out[:, 0] > 0.5 if out.shape[1] == 1 else out.argmax(axis=1)
        return float(accuracy_score(targets.reshape(len(out)).astype(np.int64), guess, sample_weight=weight))

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *, series: Any = None
    ) -> Any:
        """Train for one epoch.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`; weights are not scaled.
        classes : array-like of shape (n_classes,), optional
            All labels of this and later calls. Required in the first call.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.

        Returns
        -------
        self
        """
        if classes is None and not self.__sklearn_is_fitted__():
            raise ValueError(
                "classes must be passed on the first call to partial_fit: all labels of this and later calls."
            )
        return self._fit(X, y, sample_weight, incremental=True, classes=classes, series=series)

    def _probabilities(
        self, X: Any, series: Any = None, advance: bool = False
    ) -> tuple[np.ndarray, Sequences]:
        out, sequences = self._outputs(X, series, advance)
        return (np.hstack([1 - out, out]) if out.shape[1] == 1 else out), sequences

    def _shape(self, rows: np.ndarray, sequences: Sequences) -> np.ndarray:
        if not self._architecture["return_sequences"]:
            return rows
        refuse_scorers_of_rows()
        return lay_out_steps(rows, sequences.data)

    def predict(self, X: Any, *, series: Any = None, advance: bool = False) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.
        advance : bool, default=False
            Let the states of the rows, or of `series`, go on. They are never written without it.

        Returns
        -------
        ndarray of shape (n_samples,), or as X with ``return_sequences=True``
        """
        rows, sequences = self._probabilities(X, series, advance)
        return self._shape(self.classes_[rows.argmax(axis=1)], sequences)

    def predict_proba(self, X: Any, *, series: Any = None, advance: bool = False) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.
        advance : bool, default=False
            Let the states of the rows, or of `series`, go on. They are never written without it.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            With ``return_sequences=True`` (n_samples, n_timesteps, n_classes), or an object array of arrays.
        """
        return self._shape(*self._probabilities(X, series, advance))

    def predict_log_proba(self, X: Any, *, series: Any = None, advance: bool = False) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.
        advance : bool, default=False
            Let the states of the rows, or of `series`, go on. They are never written without it.

        Returns
        -------
        ndarray
            float64, in the shape of :meth:`predict_proba`; finite even where a probability underflows to zero.
        """
        rows, sequences = self._probabilities(X, series, advance)
        return self._shape(np.log(np.maximum(rows, np.finfo(np.float64).tiny, dtype=np.float64)), sequences)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, over time steps with ``return_sequences=True``.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        float
        """
        rows, sequences = self._probabilities(X)
        labels, weight = self._rows_to_score(y, sample_weight, sequences.data)
        return float(accuracy_score(labels, self.classes_[rows.argmax(axis=1)], sample_weight=weight))

"""Predictions of fitted estimators sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import _check_feature_names

from fastrnn.checks import choice
from fastrnn.estimators import network
from fastrnn.sequences import Ragged

__all__ = ["EstimatorStream"]


class EstimatorStream:
    """Answers of a fitted estimator after each sample of one or several series; made by ``estimator.stream()``.

    After t samples of a series the answer is that of `predict` (or `predict_proba`) for these t samples, with
    ``return_sequences=True`` that for the last of them. A step takes as long after a million samples as after one: the
    states of the network are kept, the samples are not. Weights are copies: make another stream after training. Threads may
    share a stream; their steps are made one after the other.

    Parameters
    ----------
    estimator : RNNClassifier or RNNRegressor
        Fitted, reading forward only.
    n_series : int
        Number of series that advance together.
    method : {"predict", "predict_proba"}
        What a step returns.
    missing : {"raise", "skip"}
        How to handle samples with NaN or infinity: raise an error and keep the states, or skip the sample, so that the state
        of its series does not change.

    Attributes
    ----------
    n_series : int
    state : dict
        All data on which later answers depend, as arrays. It can be read, assigned, pickled, and saved by
        :func:`fastrnn.save`. A stream itself can be pickled too, with its estimator and its state.

    Raises
    ------
    ValueError
        If an option of the estimator does not allow single steps, or it has no such method.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(50, 20, 2))
    >>> model = RNNRegressor(units=8, max_iter=2, tol=None, random_state=0).fit(X, X[:, -1, 0])
    >>> stream = model.stream()
    >>> for sample in X[0]:
    ...     now = stream.step(sample)
    >>> bool(np.allclose(now, model.predict(X[:1]), rtol=1e-4))
    True
    """

    def __init__(
        self, estimator: Any, n_series: int = 1, method: str = "predict", missing: str = "raise"
    ) -> None:
        methods = ("predict", "predict_proba") if is_classifier(estimator) else ("predict",)
        self.method = choice(method, "method", methods)
        made = estimator._architecture
        for name, why in (
            ("bidirectional", "the backward direction reads each sequence from its end"),
            ("go_backwards", "each sequence is read from its end"),
        ):
            if made[name]:
                raise ValueError(
                    f"The estimator was fitted with {name}=True: {why}, so there is no answer after each sample. Fit one "
                    f"with {name}=False, or call predict for the samples so far."
                )
        self.estimator, self.missing = estimator, missing
        self._stream = estimator.model_.stream(n_series, missing)
        self.n_series = self._stream.batch_size
        self._tokens = made["vocabulary_size"] is not None
        self._first = self._answer_to_nothing() if not made["return_sequences"] else np.nan
        #: The labels of which a step gives the indices, if it does not return numbers.
        self._classes = estimator.classes_ if is_classifier(estimator) and method == "predict" else None
        # Each answer is an array of its own, made before another thread can make the next step.
        self._step = self._stream._answering(*self._kind_of_answers())
        self._n_dims = 1 if self._tokens else 2
        self.reset()
        states = estimator._states_for(self.n_series)
        if states is not None:
            self._stream.states = states

    def _answer_to_nothing(self) -> np.ndarray:
        """Outputs for a series without a sample yet."""
        dtype = np.int64 if self._tokens else self.estimator._architecture["dtype"]
        steps = np.zeros((0,) if self._tokens else (0, self._n_features), dtype)
        return network.outputs(self.estimator.model_, Ragged(steps, np.array([0, 0])), False)

    @property
    def _n_features(self) -> int:
        return 1 if self.estimator._table else int(self.estimator.n_features_in_)

    # ---- steps

    def step(self, x: Any, where: Any = None) -> np.ndarray:
        """Take the next sample of each series.

        Parameters
        ----------
        x : array_like of shape (n_series, n_features)
            For one series also (n_features,); for one variable, and for tokens, also (n_series,). A C-contiguous array of
            the estimator's dtype is fastest.
        where : array_like of bool of shape (n_series,), optional
            True for series that have a sample in this step. States and answers of the others do not change, and their rows
            of `x` are not read.

        Returns
        -------
        ndarray of shape (n_series,), (n_series, n_outputs) or (n_series, n_classes)
            The answers after these samples, as `predict` or `predict_proba` gives them. With ``return_sequences=True``
            those of series without a sample yet are NaN, or the first class.

        Raises
        ------
        TypeError, ValueError
            If `x` has the wrong shape or dtype, or NaN or infinity unless they are skipped. The stream is left as it was.
        """
        if x.__class__ is not np.ndarray or x.ndim != self._n_dims:
            x = self._as_rows(x)
        result: np.ndarray = self._step(x, where)
        return result if self._classes is None else self._classes[result]

    def run(self, x: Any) -> np.ndarray:
        """Take several samples of each series.

        Parameters
        ----------
        x : array_like of shape (n_series, n_steps, n_features), or (n_series, n_steps) for tokens

        Returns
        -------
        ndarray of shape (n_series, n_steps, ...)
            The answers after each sample.
        """
        x = np.asarray(x)
        if x.ndim < 2 or x.shape[0] != self.n_series or x.shape[1] == 0:
            raise ValueError(
                f"x has shape {x.shape}: give (n_series, n_steps, ...) with n_series={self.n_series} and at least one step"
            )
        before = self.state
        try:
            return np.stack([self.step(x[:, t]) for t in range(x.shape[1])], axis=1)
        except (TypeError, ValueError):
            self.state = before
            raise

    def _as_rows(self, x: Any) -> np.ndarray:
        """A sample of each series in two dimensions, or in one for tokens."""
        if not isinstance(x, (np.ndarray, list, tuple, float, int, np.generic)):
            _check_feature_names(self.estimator, x, reset=False)
        x = np.asarray(x)
        if self._tokens:
            result: np.ndarray = x.reshape(self.n_series) if x.size == self.n_series and x.ndim <= 2 else x
            return result
        shape = (self.n_series, self._n_features)
        ways: list[tuple[int, ...]] = [shape]
        if self.n_series == 1:
            ways.append(shape[1:])
        if self._n_features == 1:
            ways.append(shape[:1])
        if 1 == self.n_series == self._n_features:
            ways.append(())
        if x.shape not in ways:
            raise ValueError(
                f"x has shape {x.shape}: a sample of each series has shape "
                + " or ".join(str(way) for way in ways)
                + f", as the estimator was fitted to {self._n_features} feature(s) and n_series={self.n_series}"
            )
        result = x.reshape(shape)
        return result

    def _kind_of_answers(self) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of what the stream of the network gives: numbers, probabilities, or indices of classes."""
        n, output = self.n_series, self._stream.output
        if not is_classifier(self.estimator):
            return (n,) if self.estimator._y_is_flat else output.shape, self.estimator._y_dtype
        if self.method == "predict":
            return (n,), np.dtype(np.intp)
        return (n, max(2, output.shape[1])), output.dtype

    # ---- states

    @property
    def state(self) -> dict[str, Any]:
        """All data on which later answers depend: copies of the states, and the last outputs."""
        with self._stream._program.alone():
            return {"states": self._stream.states, "output": self._stream.output}

    @state.setter
    def state(self, value: Any) -> None:
        if not isinstance(value, dict) or sorted(value) != ["output", "states"]:
            raise ValueError("state: give what `state` of a stream like this one has returned")
        with self._stream._program.alone():
            before = self._stream.states
            self._stream.states = value["states"]
            try:
                self._stream.output = value["output"]
            except ValueError:
                self._stream.states = before
                raise

    def reset(self, rows: Any = None) -> EstimatorStream:
        """Reset the states of series.

        Parameters
        ----------
        rows : int, slice, sequence of int or mask of bool, optional
            The series to reset; by default all.

        Returns
        -------
        EstimatorStream
            The stream itself.
        """
        with self._stream._program.alone():
            self._stream.reset(rows)
            output = self._stream.output
            output[slice(None) if rows is None else rows] = self._first
            self._stream.output = output
        return self

    def __reduce__(self) -> Any:
        return _restored, (self.estimator, self.n_series, self.method, self.missing, self.state)

    def __repr__(self) -> str:
        return f"EstimatorStream({self.estimator!r}, n_series={self.n_series}, method={self.method!r})"


def _restored(
    estimator: Any, n_series: int, method: str, missing: str, state: dict[str, Any]
) -> EstimatorStream:
    stream = EstimatorStream(estimator, n_series, method, missing)
    stream.state = state
    return stream

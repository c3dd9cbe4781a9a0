"""What the transformers of sequences have in common: forms of X in and out, names of features, data frames."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._set_output import _get_output_config, _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from fastrnn.preprocessing.features import check_features
from fastrnn.sequences import Ragged, Sequences, as_object_array, read_sequences
from fastrnn.sequences.columnar import read_columnar
from fastrnn.sequences.containers import frames_of

__all__ = ["SequenceTransformer", "as_ragged", "begins_of", "positions_of", "with_forms"]

FORMS = """Accepts what the estimators accept: (n_samples, n_timesteps, n_features), padded with NaN or not; (n_samples,
    n_timesteps) for one variable; a list or an object array of (n_timesteps_i, n_features) arrays or data frames; Ragged;
    awkward arrays and pyarrow columns of lists, for which the result is Ragged. Otherwise the result has the form of the
    input. It has its floating dtype, and the result for each sequence is that for the sequence alone.
    ``set_output(transform="pandas")`` gives a data frame for a table, a list of data frames for a list, and an error for
    three dimensions."""


def with_forms(cls: type) -> type:
    """Fill the paragraph about accepted forms into the docstring of a class."""
    if cls.__doc__:  # there is none under python -OO
        cls.__doc__ = cls.__doc__.replace("{forms}", FORMS)
    return cls


def begins_of(data: Ragged) -> np.ndarray:
    """For each step, the row of `values` in which its sequence begins."""
    return np.repeat(data.offsets[:-1], data.lengths)


def positions_of(data: Ragged) -> np.ndarray:
    """For each step, its number in its sequence, counted from 0."""
    result: np.ndarray = np.arange(len(data.values)) - begins_of(data)
    return result


class _Transforming:
    """The methods that scikit-learn would wrap by itself if a transformer defined them.

    Its wrapper puts a result as a whole into a data frame, but a list of sequences becomes a list of data frames.
    """

    def transform(self, X: Any) -> Any:
        """Transform sequences.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.

        Returns
        -------
        ndarray, list or Ragged
            In the form of X, or with ``set_output`` data frames.
        """
        check_is_fitted(self)
        X = self._plain(X)  # type: ignore[attr-defined]
        sequences = self._read(X, reset=False)  # type: ignore[attr-defined]
        out = self._write(self._convert(as_ragged(sequences.data)), X, sequences.is_table)  # type: ignore[attr-defined]
        return self._in_frames(out, X)  # type: ignore[attr-defined]

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Call `fit`, then `transform` with the same sequences.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        y : None
            Ignored.

        Returns
        -------
        ndarray, list or Ragged
            In the form of X, or with ``set_output`` data frames.
        """
        X = self._plain(X)  # type: ignore[attr-defined]
        return self.fit(X, y).transform(X)  # type: ignore[attr-defined]


class SequenceTransformer(_Transforming, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the transformers of sequences.

    A subclass converts sequences in one form only, :class:`fastrnn.Ragged`: `_learn` computes what `fit` keeps, `_convert`
    transforms.
    """

    n_features_in_: int
    _table: bool
    #: Whether NaN that is no padding is a missing value, rather than an error.
    _takes_missing = False

    # ---- hooks of the subclasses

    def _check_arguments(self) -> None:
        """Raise if an argument of the constructor is not valid."""

    def _learn(self, data: Ragged) -> dict[str, Any]:
        """Return the fitted attributes."""
        return {}

    def _convert(self, data: Ragged) -> Ragged:
        """Transform sequences."""
        raise NotImplementedError

    def _channels_out(self, names: list[str]) -> list[str]:
        """Names of the channels of the result."""
        return names

    def _lengths_out(self, lengths: np.ndarray) -> np.ndarray:
        """Numbers of steps of the results."""
        return lengths

    def _numbers(self, X: Any) -> Any:
        """X as numbers, for a transformer that takes something else as well."""
        return X

    # ---- the rest

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the arguments, and compute what the transformation needs to know.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        y : None
            Ignored.

        Returns
        -------
        self
        """
        self._check_arguments()
        # On a copy, so that a failed call leaves this object as it was.
        fitted = copy.copy(self)
        sequences = fitted._read(X, reset=True)
        fitted.__dict__.update(fitted._learn(as_ragged(sequences.data)))
        self.__dict__ = fitted.__dict__
        return self

    def _plain(self, X: Any) -> Any:
        """X, or Ragged if it is of another library's ragged types."""
        return read_columnar(X, "X", missing=self._takes_missing)

    def _read(self, X: Any, reset: bool) -> Sequences:
        X = self._plain(X)
        sequences = read_sequences(self._numbers(X), missing=self._takes_missing)
        check_features(self, X, sequences, reset=reset)
        return sequences

    def _inverted(self, X: Any, invert: Callable[[Ragged], Ragged], n_features: int | None = None) -> Any:
        """Apply a function of Ragged to `X`, which has the features of `fit`, or `n_features` in each step."""
        check_is_fitted(self)
        X = self._plain(X)
        if n_features is None:
            sequences = self._read(X, reset=False)
        else:
            sequences = read_sequences(X)
            if sequences.n_features != n_features:
                raise ValueError(
                    f"X has {sequences.n_features} features in a step, but what {type(self).__name__} gave has {n_features}."
                )
        return self._write(invert(as_ragged(sequences.data)), X, sequences.is_table)

    def _moved(self, data: Ragged, values: np.ndarray, lengths: np.ndarray) -> Ragged:
        """A Ragged of sequences with other numbers of steps; padding stays on its side."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if data.starts is None or data.n_timesteps is None:
            return Ragged(values, offsets)
        width = max(int(self._lengths_out(np.array([data.n_timesteps]))[0]), int(lengths.max(initial=0)), 1)
        at_end = (data.starts + data.lengths == data.n_timesteps) & (data.starts > 0)
        room = width - lengths
        starts = np.where(at_end, room, np.minimum(data.starts, room))
        return Ragged(values, offsets, starts=starts, n_timesteps=width)

    def _write(self, result: Ragged, X: Any, is_table: bool) -> Any:
        """Convert a result to the form of X."""
        if isinstance(X, Ragged):
            return Ragged(result.values, result.offsets)
        # Data frames of equal lengths are read as one array.
        if result.n_timesteps is not None and frames_of(X) is None:
            out = result.restore(result.values)
            return out[:, :, 0] if is_table and out.shape[2] == 1 else out
        one = result.values.shape[1] == 1
        arrays = [a[:, 0] if one and np.ndim(x) == 1 else a for a, x in zip(result, X, strict=True)]
        return as_object_array(arrays) if isinstance(X, np.ndarray) else arrays

    def _in_frames(self, out: Any, X: Any) -> Any:
        """The result in the containers that were asked for with `set_output`."""
        wanted = _get_output_config("transform", self)["dense"]
        if wanted == "default":
            return out
        if isinstance(out, list):
            return [self._frame(item, x) for item, x in zip(out, X, strict=True)]
        if isinstance(out, np.ndarray) and out.ndim == 2:
            return self._frame(out, X)
        raise ValueError(
            f"set_output(transform={wanted!r}): the result of {type(self).__name__} has {out.ndim} dimensions, which a data "
            "frame does not have. Pass X as a list of arrays or data frames, one for each sequence, or use "
            "set_output(transform='default')."
        )

    def _frame(self, item: np.ndarray, x: Any) -> Any:
        table = item[:, None] if item.ndim == 1 else item
        return _wrap_data_with_container("transform", table, x if len(x) == len(item) else None, self)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features of the result.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the features of X; default: those of the data frames of `fit`, or x0, x1, ...

        Returns
        -------
        ndarray of str objects
            One for each feature of a step. For a table of one variable one for each column.
        """
        check_is_fitted(self)
        names = [str(name) for name in _check_feature_names_in(self, input_features)]
        if not self._table:
            return np.asarray(self._channels_out(names), dtype=object)
        out = self._channels_out(names[:1])
        if len(out) == 1:
            n_steps = int(self._lengths_out(np.array([len(names)]))[0])
            same = n_steps == len(names)
            out = (
                [self._channels_out([name])[0] for name in names]
                if same
                else [f"step{i}" for i in range(n_steps)]
            )
        return np.asarray(out, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return "n_features_in_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self._takes_missing
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def as_ragged(data: np.ndarray | Ragged) -> Ragged:
    """Validated sequences as Ragged of floating dtype; arrays without padding are not copied."""
    if not isinstance(data, Ragged):
        n, n_timesteps, n_features = data.shape
        offsets = np.arange(n + 1) * n_timesteps
        values = data.reshape(-1, n_features)
        data = Ragged(values, offsets, starts=np.zeros(n, np.int64), n_timesteps=n_timesteps)
    if data.values.dtype.kind != "f":
        data = data.with_values(data.values.astype(np.float64))
    return data

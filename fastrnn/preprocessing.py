"""Transformers of sequences for scikit-learn pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from .sequences import Ragged, Sequences, as_object_array, read_sequences

__all__ = ["StandardScaler3D"]


class StandardScaler3D(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Give each feature zero mean and unit variance over all samples and time steps.

    The transformed value is ``(x - mean) / scale``, with one mean and one scale for each feature. Padding is left out
    of both, and stays padding.

    Parameters
    ----------
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation. A constant feature is divided by 1.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64, or None
    var_ : ndarray of shape (n_features,), float64, or None
        Population variance (divided by the number of steps).
    scale_ : ndarray of shape (n_features,), float64, or None
    n_steps_seen_ : int
        Real time steps, over all calls of `partial_fit`.
    n_features_in_ : int
        Features of one step; for a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    Accepts what the estimators accept: (n_samples, n_timesteps, n_features), padded with NaN or not; (n_samples,
    n_timesteps) for one variable; a list or an object array of (n_timesteps_i, n_features) arrays. The result has
    the form and the floating dtype of the input.

    Mean and variance are kept by the update of Chan, Golub and LeVeque, which is stable whatever the mean's size.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import StandardScaler3D
    >>> X = [np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]])]
    >>> StandardScaler3D().fit(X).mean_
    array([3.])
    """

    mean_: np.ndarray | None
    var_: np.ndarray | None
    scale_: np.ndarray | None
    n_steps_seen_: int
    _mean: np.ndarray
    _var: np.ndarray

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self, X: Any, y: Any = None) -> StandardScaler3D:
        """Compute mean and variance of each feature.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        y : None
            Ignored.
        """
        return self._fit(X, reset=True)

    def partial_fit(self, X: Any, y: Any = None) -> StandardScaler3D:
        """Go on with further sequences, as if all had been given to `fit` at once."""
        return self._fit(X, reset="n_steps_seen_" not in vars(self))

    def _fit(self, X: Any, reset: bool) -> StandardScaler3D:
        sequences = read_sequences(X)
        check_features(self, X, sequences, reset=reset)
        data = sequences.data
        steps = data.values if isinstance(data, Ragged) else data.reshape(-1, data.shape[-1])
        count = len(steps)
        mean = steps.mean(axis=0, dtype=np.float64)
        var = np.zeros_like(mean)
        for block in np.array_split(steps, max(1, steps.size // 2**20)):  # no float64 copy of all the data
            var += ((block - mean) ** 2).sum(axis=0)
        var /= count
        if not reset:
            before, self.n_steps_seen_ = self.n_steps_seen_, self.n_steps_seen_ + count
            total, delta = self.n_steps_seen_, mean - self._mean
            mean = self._mean + delta * (count / total)
            var = (self._var * before + var * count) / total + delta**2 * (before * count / total**2)
        else:
            self.n_steps_seen_ = count
        self._mean, self._var = mean, var
        self.mean_ = mean if self.with_mean else None
        self.var_ = var if self.with_std else None
        # A variance that is no more than rounding of the mean belongs to a constant.
        constant = var <= np.maximum(0, (10 * np.finfo(np.float64).eps * np.abs(mean)) ** 2)
        self.scale_ = np.where(constant, 1.0, np.sqrt(var)) if self.with_std else None
        return self

    def transform(self, X: Any) -> Any:
        """Scale sequences.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.

        Returns
        -------
        ndarray, list of ndarray, or Ragged
            As X: a list for a list of arrays, an array otherwise.
        """
        return self._apply(X, lambda steps, mean, scale: (steps - mean) / scale)

    def inverse_transform(self, X: Any) -> Any:
        """Undo :meth:`transform`.

        Parameters
        ----------
        X : array-like
            Scaled sequences.

        Returns
        -------
        ndarray, list of ndarray, or Ragged
        """
        return self._apply(X, lambda steps, mean, scale: steps * scale + mean)

    def _apply(self, X: Any, formula: Any) -> Any:
        check_is_fitted(self)
        sequences = read_sequences(X)
        check_features(self, X, sequences, reset=False)
        data = sequences.data
        dtype = data.dtype if data.dtype.kind == "f" else np.dtype(np.float64)
        mean = np.asarray(0.0 if self.mean_ is None else self.mean_).astype(dtype)
        scale = np.asarray(1.0 if self.scale_ is None else self.scale_).astype(dtype)
        if not isinstance(data, Ragged):
            out = formula(data, mean, scale).astype(dtype, copy=False)
            return out[:, :, 0] if sequences.is_table else out
        scaled = data.with_values(formula(data.values, mean, scale).astype(dtype, copy=False))
        if isinstance(X, Ragged):
            return scaled
        if data.n_timesteps is not None:
            return data.restore(scaled.values)
        arrays = [a[:, 0] if np.ndim(x) == 1 else a for a, x in zip(scaled, X, strict=True)]
        return as_object_array(arrays) if isinstance(X, np.ndarray) else arrays

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def check_features(estimator: Any, X: Any, sequences: Sequences, reset: bool, tokens: bool = False) -> None:
    """Note the number of features of one step on `estimator` (`reset`), or hold X to what was noted.

    The columns of a two-dimensional table are the time steps of one variable. scikit-learn's contract is that their
    number stays what it was in `fit`; three dimensions and lists are free to change the number of time steps.
    """
    if reset:
        _check_feature_names(estimator, X, reset=True)
        estimator.n_features_in_ = sequences.n_columns
        estimator._table = sequences.is_table
        return
    _check_feature_names(estimator, X, reset=False)
    if tokens:
        return
    if estimator._table and sequences.is_table:
        expected, got = estimator.n_features_in_, sequences.n_columns
        hint = " To use sequences of another length pass three dimensions, X[:, :, None]."
    else:
        expected, got = (1 if estimator._table else estimator.n_features_in_), sequences.n_features
        hint = f" Each time step must have the variables it had in fit, {expected}."
        if sequences.is_table:
            hint += (
                " Two dimensions mean one variable; a single sequence (n_timesteps, n_features) is X[None]."
            )
    if expected != got:
        raise ValueError(
            f"X has {got} features, but {type(estimator).__name__} is expecting {expected} features as input.{hint}"
        )

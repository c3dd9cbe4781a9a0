"""Scalers of each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from fastrnn.checks import flag
from fastrnn.preprocessing.features import check_features
from fastrnn.sequences import Ragged, as_object_array, read_sequences

__all__ = ["StandardScaler3D"]


class StandardScaler3D(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Give each feature zero mean and unit variance over all samples and time steps.

    The transformed value is ``(x - mean) / scale``, with one mean and one scale for each feature. Padding is left out
    of both, and stays padding. The arithmetic is that of scikit-learn's `StandardScaler`, applied to the time steps of
    all sequences as rows.

    Parameters
    ----------
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation. A constant feature is divided by 1.

    Attributes
    ----------
    scaler_ : sklearn.preprocessing.StandardScaler
        Fitted to the time steps.
    mean_ : ndarray of shape (n_features,), float64, or None
        None if `with_mean` is False.
    var_ : ndarray of shape (n_features,), float64, or None
        Population variance (divided by the number of steps). None if `with_std` is False.
    scale_ : ndarray of shape (n_features,), float64, or None
        None if `with_std` is False.
    n_steps_seen_ : int
        Time steps without padding, over all calls of `partial_fit`.
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    Accepts what the estimators accept: (n_samples, n_timesteps, n_features), padded with NaN or not; (n_samples,
    n_timesteps) for one variable; a list or an object array of (n_timesteps_i, n_features) arrays. The result has
    the form and the floating dtype of the input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import StandardScaler3D
    >>> X = [np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]])]
    >>> StandardScaler3D().fit(X).mean_
    array([3.])
    """

    scaler_: StandardScaler
    mean_: np.ndarray | None
    var_: np.ndarray | None
    scale_: np.ndarray | None
    n_steps_seen_: int

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

        Returns
        -------
        StandardScaler3D
            The object itself.
        """
        return self._fit(X, reset=True)

    def partial_fit(self, X: Any, y: Any = None) -> StandardScaler3D:
        """Update mean and variance with further sequences, as if `fit` had been called with all sequences.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        y : None
            Ignored.

        Returns
        -------
        StandardScaler3D
            The object itself.
        """
        return self._fit(X, reset="scaler_" not in vars(self))

    def _fit(self, X: Any, reset: bool) -> StandardScaler3D:
        with_mean, with_std = flag(self.with_mean, "with_mean"), flag(self.with_std, "with_std")
        sequences = read_sequences(X)
        steps = _steps_of(sequences.data)
        if not len(steps):
            raise ValueError(
                "X holds no time step: all its sequences are empty, so there is nothing to measure."
            )
        check_features(self, X, sequences, reset=reset)
        scaler = StandardScaler(with_mean=with_mean, with_std=with_std) if reset else self.scaler_
        # In blocks of at most 8 MB, because StandardScaler copies its input to float64.
        for block in np.array_split(steps, max(1, steps.size // 2**20)):
            scaler.partial_fit(block)
        self.scaler_ = scaler
        self.mean_ = scaler.mean_ if with_mean else None
        self.var_, self.scale_ = scaler.var_, scaler.scale_
        self.n_steps_seen_ = int(scaler.n_samples_seen_)
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
        return self._apply(X, "transform")

    def inverse_transform(self, X: Any) -> Any:
        """Undo :meth:`transform`.

        Parameters
        ----------
        X : array-like
            Scaled sequences.

        Returns
        -------
        ndarray, list of ndarray, or Ragged
            As X.
        """
        return self._apply(X, "inverse_transform")

    def _apply(self, X: Any, method: str) -> Any:
        check_is_fitted(self)
        sequences = read_sequences(X)
        check_features(self, X, sequences, reset=False)
        data = sequences.data
        values = _steps_of(data)
        if len(values):  # StandardScaler takes no table without rows
            values = getattr(self.scaler_, method)(values)
        if not isinstance(data, Ragged):
            out = values.reshape(data.shape)
            return out[:, :, 0] if sequences.is_table else out
        scaled = data.with_values(values)
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


def _steps_of(data: Any) -> np.ndarray:
    """The time steps of all sequences without padding, of shape (n_steps, n_features)."""
    return data.values if isinstance(data, Ragged) else data.reshape(-1, data.shape[-1])

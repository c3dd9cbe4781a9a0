"""Transformers of sequences for scikit-learn pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from .checks import flag, integer, real_array
from .sequences import Ragged, Sequences, as_object_array, read_sequences
from .sequences.containers import frames_of

__all__ = ["StandardScaler3D", "sliding_windows"]


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


def check_features(estimator: Any, X: Any, sequences: Sequences, reset: bool, tokens: bool = False) -> None:
    """Set the number of features of one step on `estimator` if `reset`; otherwise compare X with it.

    The columns of a two-dimensional table are the time steps of one variable. scikit-learn requires that their number is
    the same as in `fit`. In three dimensions and in lists the number of time steps may change.
    """
    frame = frames_of(X)
    named = X if frame is None else frame
    if reset:
        _check_feature_names(estimator, named, reset=True)
        estimator.n_features_in_ = sequences.n_columns
        estimator._table = sequences.is_table
        return
    _check_feature_names(estimator, named, reset=False)
    if tokens:
        return
    if estimator._table and sequences.is_table:
        expected, got = estimator.n_features_in_, sequences.n_columns
        hint = " To use sequences of another length pass three dimensions, X[:, :, None]."
    else:
        expected, got = (1 if estimator._table else estimator.n_features_in_), sequences.n_features
        hint = f" Each time step must have as many variables as in fit, {expected}."
        if sequences.is_table:
            hint += (
                " Two dimensions mean one variable; a single sequence (n_timesteps, n_features) is X[None]."
            )
    if expected != got:
        raise ValueError(
            f"X has {got} features, but {type(estimator).__name__} is expecting {expected} features as input.{hint}"
        )


def sliding_windows(values: Any, width: int, step: int = 1) -> np.ndarray:
    """Cut a series into windows, without a copy.

    Window i holds the time steps ``i * step ... i * step + width - 1``; a shorter rest is left out. `fit` and `predict` of
    the estimators copy a batch at a time, so that windows take no more memory than the series.

    Parameters
    ----------
    values : array-like of shape (n_timesteps, n_features) or (n_timesteps,)
    width, step : int
        Time steps in a window, and between the starts of two windows.

    Returns
    -------
    ndarray of shape (n_windows, width, n_features)
        A read-only view of `values`, if these are an array.

    Raises
    ------
    ValueError
        If `width` or `step` is below 1, or the series is shorter than a window.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import sliding_windows
    >>> X = sliding_windows(np.arange(6.0), 4)
    >>> X.shape
    (3, 4, 1)
    >>> X[..., 0]
    array([[0., 1., 2., 3.],
           [1., 2., 3., 4.],
           [2., 3., 4., 5.]])
    """
    width, step = integer(width, "width"), integer(step, "step")
    series = real_array(values, name="values")
    if series.ndim not in (1, 2):
        raise ValueError(
            f"values has shape {series.shape}: give one series of shape (n_timesteps, n_features) or (n_timesteps,)"
        )
    series = series[:, None] if series.ndim == 1 else series
    if len(series) < width:
        raise ValueError(f"values has {len(series)} time steps, fewer than a window of width={width}")
    windows = np.lib.stride_tricks.sliding_window_view(series, width, axis=0)
    return windows[::step].swapaxes(1, 2)

"""The number and the names of features, compared between `fit` and later calls."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_feature_names

from fastrnn.sequences import Ragged, Sequences
from fastrnn.sequences.containers import frames_of

__all__ = ["check_features"]


def check_features(estimator: Any, X: Any, sequences: Sequences, reset: bool, tokens: bool = False) -> None:
    """Set the number of features of one step on `estimator` if `reset`; otherwise compare X with it.

    The columns of a two-dimensional table are the time steps of one variable. scikit-learn requires that their number is
    the same as in `fit`. In three dimensions and in lists the number of time steps may change.
    """
    frame = frames_of(X)
    named = X if frame is None else frame
    columns = sequences.data.columns if isinstance(sequences.data, Ragged) else None
    if reset:
        _check_feature_names(estimator, named, reset=True)
        if columns is not None:
            estimator.feature_names_in_ = np.array(columns, dtype=object)
        estimator.n_features_in_ = sequences.n_columns
        estimator._table = sequences.is_table
        return
    if columns is None:
        _check_feature_names(estimator, named, reset=False)
    else:
        _check_columns(estimator, columns)
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


def _check_columns(estimator: Any, columns: tuple[str, ...]) -> None:
    """Compare the names that a Ragged has with those of `fit`."""
    fitted = vars(estimator).get("feature_names_in_")
    name = type(estimator).__name__
    if fitted is None:
        warnings.warn(
            f"X has features with the names {list(columns)}, but {name} was fitted without names.",
            stacklevel=2,
        )
    elif list(fitted) != list(columns):
        raise ValueError(
            f"X has the features {list(columns)}, but {name} was fitted with {list(fitted)}: pass the same features in the "
            "same order."
        )

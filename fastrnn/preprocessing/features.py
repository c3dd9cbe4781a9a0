"""The number and the names of features, compared between `fit` and later calls."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import _check_feature_names

from fastrnn.sequences import Sequences
from fastrnn.sequences.containers import frames_of

__all__ = ["check_features"]


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

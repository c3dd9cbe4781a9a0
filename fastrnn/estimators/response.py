"""Targets and weights of the estimators, and their layout in batches.

A *row* is a sequence, or, with a target for each time step, a valid time step; padding has no rows.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from fastrnn.checks import refuse_masked
from fastrnn.sequences import Ragged, as_step_values
from fastrnn.sequences.columnar import read_columnar
from fastrnn.sequences.containers import refuse_other_values

__all__ = [
    "lay_out",
    "read_labels",
    "read_numbers",
    "row_weights",
    "rows_of",
    "scaled_weights",
    "targets_of",
    "with_steps",
]

X = np.ndarray | Ragged


def _refuse(values: Any, name: str) -> None:
    """Raise for what holds no values of sequences or time steps."""
    refuse_masked(values, name)
    refuse_other_values(values, name)
    if name == "y" and (isinstance(values, Real) or (isinstance(values, np.ndarray) and values.ndim == 0)):
        raise TypeError(f"y is {values!r}, a single value: pass a list with a value for each sequence.")


def _shape(y: Any) -> tuple[int, ...]:
    """The shape of values of sequences."""
    try:
        return np.asarray(y).shape
    except ValueError:  # no rectangular array
        raise ValueError(
            "y holds lists of unequal lengths: give one value for each sequence, or set return_sequences=True to learn one "
            "for each time step."
        ) from None


def read_labels(y: Any, x: X, per_step: bool) -> np.ndarray:
    """One label for each row.

    Raises
    ------
    ValueError
        If `y` does not fit `x`, or holds no labels.
    """
    _refuse(y, "y")
    if per_step:
        y = as_step_values(y, x)
        if y.ndim == 2 and y.shape[1] != 1:
            raise ValueError(
                f"y has {y.shape[1]} labels for each time step; one is what RNNClassifier can learn."
            )
        y = y.reshape(len(y))
    elif len(shape := _shape(y)) == 2 and shape[1] > 1:
        raise ValueError(
            f"y should be a 1d array, got an array of shape {shape}: several labels of a sequence are learnt by one "
            "network each, sklearn.multioutput.MultiOutputClassifier(RNNClassifier(...))."
        )
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f":
        labels = check_array(labels, ensure_2d=False, input_name="y")
    if not per_step:
        check_consistent_length(x, labels)
    check_classification_targets(labels)
    result: np.ndarray = labels
    return result


def targets_of(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The index of each label in the classes, int64."""
    present, index = np.unique(labels, return_inverse=True)
    places = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in present.tolist() if label not in places]
    if unknown:
        raise ValueError(
            f"y contains labels that are unknown, {unknown!r}; known classes are {classes.tolist()!r}. Name all "
            "classes in the first call of partial_fit, or call fit again."
        )
    return np.array([places[label] for label in present.tolist()], np.int64)[index]


def read_numbers(y: Any, x: X, per_step: bool) -> np.ndarray:
    """One number, or several, for each row: shape (n_rows,) or (n_rows, n_outputs)."""
    _refuse(y, "y")
    if per_step:
        y = as_step_values(y, x)
    else:
        _shape(y)
    try:
        y = check_array(y, ensure_2d=False, allow_nd=True, dtype="numeric", input_name="y")
    except (TypeError, ValueError):
        wrong = [value for value in np.asarray(y, object).flat if isinstance(value, (str, bytes))]
        if not wrong:
            raise
        raise ValueError(
            f"y holds {wrong[0]!r}, a text: RNNRegressor learns numbers. RNNClassifier learns labels."
        ) from None
    assert_all_finite(y, input_name="y")  # None in a column of pandas has become NaN
    if y.ndim not in (1, 2):
        raise ValueError(
            f"y has shape {y.shape}; give (n_samples,) or (n_samples, n_outputs), and for one value at each time step "
            "set return_sequences=True."
        )
    if not per_step:
        check_consistent_length(x, y)
    result: np.ndarray = y
    return result


def row_weights(sample_weight: Any, x: X, per_step: bool) -> np.ndarray:
    """One weight for each row, float64 and at least 0, from weights of samples or of time steps."""
    _refuse(sample_weight, "sample_weight")
    weight = _weights(sample_weight, x, per_step)
    if weight.size and weight.min() < 0:
        raise ValueError(
            f"Negative values in sample_weight (minimum {weight.min()}): weights must be at least 0."
        )
    return weight


def _weights(sample_weight: Any, x: X, per_step: bool) -> np.ndarray:
    if not per_step:
        result: np.ndarray = _check_sample_weight(sample_weight, x, dtype=np.float64)
        return result
    sample_weight = read_columnar(sample_weight, "sample_weight")
    if not isinstance(sample_weight, (Real, list, tuple, Ragged)):
        sample_weight = np.asarray(sample_weight)
    if not isinstance(sample_weight, Real) and np.ndim(next(iter(sample_weight))) > 0:
        rows = as_step_values(sample_weight, x, "sample_weight")
        result = check_array(rows, ensure_2d=False, dtype=np.float64, input_name="sample_weight").ravel()
        return result
    weight = _check_sample_weight(sample_weight, x, dtype=np.float64)
    return np.repeat(weight, x.lengths if isinstance(x, Ragged) else x.shape[1])


def scaled_weights(weight: np.ndarray) -> np.ndarray:
    """Weights with a mean of 1."""
    total = weight.sum()
    if not total > 0:
        raise ValueError("Sample weights must contain at least one non-zero number.")
    result: np.ndarray = weight * (len(weight) / total)
    return result


def with_steps(x: X, per_step: bool, in_place: bool) -> tuple[X, Any]:
    """The sequences for training, without empty ones.

    Parameters
    ----------
    x : ndarray or Ragged
    per_step : bool
        Whether rows are time steps, of which empty sequences have none.
    in_place : bool
        Keep empty sequences, because carried states belong to rows by position.

    Returns
    -------
    x : ndarray or Ragged
        Without empty sequences, unless `in_place`.
    rows : slice or ndarray of bool
        The rows that belong to these sequences.

    Raises
    ------
    ValueError
        If all sequences are empty.
    """
    if not isinstance(x, Ragged):
        return x, slice(None)
    filled = x.lengths > 0
    if not filled.any():
        raise ValueError(
            "X holds no time step: all its sequences are empty, so there is nothing to learn from."
        )
    if in_place or filled.all():
        return x, slice(None)
    return x.without_empty(), slice(None) if per_step else filled


def lay_out(rows: np.ndarray | None, x: X, per_step: bool) -> Any:
    """Convert rows to the form of `x`."""
    if rows is None or not per_step:
        return rows
    return x.with_values(rows) if isinstance(x, Ragged) else rows.reshape(*x.shape[:2], *rows.shape[1:])


def rows_of(values: Any, per_step: bool) -> Any:
    """The inverse of `lay_out`."""
    if isinstance(values, Ragged):
        return values.values
    return values.reshape(-1, *values.shape[2:]) if per_step and values is not None else values

"""Convert targets and weights of a batch to the form that losses and metrics take.

The loss has one value for each item: a sample, or a time step of a sample if the model has an output for each step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "align_targets",
    "as_predictions",
    "class_indices",
    "class_targets",
    "fill_missing",
    "item_factors",
    "item_weights",
    "loss_divisor",
    "missing_items",
    "one_hot_targets",
    "weighted_sum",
]


def as_predictions(y_pred: Any) -> np.ndarray:
    """`y_pred` as an array of float32 or float64; float16 is converted, because its squares overflow."""
    y_pred = np.asarray(y_pred)
    if y_pred.dtype == np.float16:
        result: np.ndarray = y_pred.astype(np.float32)
        return result
    result = y_pred if y_pred.dtype.kind == "f" else y_pred.astype(np.float64)
    return result


def align_targets(y_true: Any, y_pred: np.ndarray) -> np.ndarray:
    """`y_true` as an array of the shape and dtype of `y_pred`; a last axis of size 1 is added or removed if needed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.losses import align_targets
    >>> align_targets([1, 2], np.zeros((2, 1))).shape
    (2, 1)
    """
    y_true = np.asarray(y_true)
    if y_true.dtype != y_pred.dtype:
        if y_true.dtype.kind not in "biuf":
            raise TypeError(
                f"y has dtype {y_true.dtype}: give numbers (encode class labels as integers first)"
            )
        y_true = y_true.astype(y_pred.dtype)
    if y_true.shape == y_pred.shape:
        result: np.ndarray = y_true
        return result
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        y_true = y_true[..., None]
    elif y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y has shape {y_true.shape}, the predictions have {y_pred.shape}: they must be equal"
        )
    result = y_true
    return result


def item_weights(
    shape: tuple[int, ...], sample_weight: Any, mask: np.ndarray | None, dtype: Any
) -> np.ndarray | None:
    """Product of sample weights and mask for items of `shape`, or None if there is neither.

    The weight of a sample is used for all its time steps.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.losses import item_weights
    >>> item_weights((2, 2), [1.0, 3.0], np.array([[True, True], [True, False]]), "float64")
    array([[1., 1.],
           [3., 0.]])
    """
    weights = None
    for name, part in (("sample_weight", sample_weight), ("mask", mask)):
        if part is None:
            continue
        part = np.asarray(part)
        if part.ndim == len(shape) + 1 and part.shape[-1] == 1:
            part = part[..., 0]
        if part.ndim > len(shape) or part.shape != shape[: part.ndim]:
            raise ValueError(f"{name} has shape {part.shape}, the items that it weights have {shape}")
        if part.ndim < len(shape):
            part = part.reshape(part.shape + (1,) * (len(shape) - part.ndim))
        part = part.astype(dtype, copy=False)
        weights = part if weights is None else weights * part
    return weights


def loss_divisor(reduction: str, shape: tuple[int, ...], sample_weight: Any, mask: Any) -> float:
    """The number by which the sum of the items' weighted losses is divided.

    Parameters
    ----------
    reduction : str
        Reduction of the loss.
    shape : tuple of int
        Shape of the items: ``(batch, [time])``.
    sample_weight : array_like of shape (batch,) or (batch, time), optional
    mask : array of bool of shape (batch,) or (batch, time), optional
        True for items that count.
    """
    if reduction == "sum":
        return 1.0
    n = math.prod(shape)
    if mask is None and (sample_weight is None or reduction != "mean_with_sample_weight"):
        return float(n or 1)
    if reduction == "mean_with_sample_weight":
        weights: Any = item_weights(shape, sample_weight, mask, np.float64)
        return float(np.broadcast_to(weights, shape).sum())
    # The mean is over the items that count, independent of their weights.
    mask = np.asarray(mask)
    return float(n * np.count_nonzero(mask) / max(mask.size, 1))


def item_factors(reduction: str, shape: tuple[int, ...], dtype: Any, sample_weight: Any, mask: Any) -> Any:
    """The factors of the items' losses in their weighted sum: a number, or an array of `shape`.

    Parameters are those of :func:`loss_divisor`, and the dtype of the array.
    """
    divisor = loss_divisor(reduction, shape, sample_weight, mask)
    if sample_weight is None and mask is None:
        return 1.0 / divisor
    weights: Any = item_weights(shape, sample_weight, mask, dtype)
    if weights.shape != shape:
        weights = np.broadcast_to(weights, shape)
    return weights * dtype.type(1 / divisor) if divisor else np.zeros_like(weights)


def missing_items(y_true: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Mask of the items of `shape` that have a NaN target; None if there are no such items."""
    y_true = np.asarray(y_true)
    if y_true.dtype.kind != "f" or y_true.shape[: len(shape)] != shape:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        # Fast check: if the sum is not NaN, no element is NaN.
        if not np.isnan(np.add.reduce(y_true, axis=None)):
            return None
    missing = np.isnan(y_true).reshape(*shape, -1).any(axis=-1)
    return missing if missing.any() else None


def fill_missing(y_true: Any, shape: tuple[int, ...], sample_weight: Any, mask: Any) -> Any:
    """`y_true` with 0 in place of NaN where an item does not count: its weight is 0, or its mask False.

    Targets that do not count may be missing. They are replaced, because a NaN would make every sum NaN.
    """
    if sample_weight is None and mask is None:
        return y_true
    missing = missing_items(y_true, shape)
    if missing is None:
        return y_true
    missing &= np.broadcast_to(item_weights(shape, sample_weight, mask, np.float64) == 0, shape)
    filled = np.array(y_true)
    filled[missing] = np.nan_to_num(filled[missing], posinf=np.inf, neginf=-np.inf)
    return filled


def _check_several(y_pred: np.ndarray, loss: str) -> None:
    """Raise if there is only one output, whose softmax is always 1 and whose cross-entropy is always 0."""
    if y_pred.shape[-1] == 1:
        raise ValueError(
            f"{loss} needs an output for each class, the predictions have shape {y_pred.shape}: for two classes and one "
            "output use sigmoid and binary_crossentropy"
        )


def one_hot_targets(y_true: Any, y_pred: np.ndarray, loss: str) -> np.ndarray:
    """`y_true` as an array of the shape and dtype of `y_pred`, one number for each class; `loss` is named in messages."""
    _check_several(y_pred, loss)
    y_true = np.asarray(y_true)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y has shape {y_true.shape}, the predictions have {y_pred.shape}: {loss} takes one-hot targets; "
            f"for integer classes use sparse_{loss}"
        )
    result: np.ndarray = y_true.astype(y_pred.dtype, copy=False)
    return result


def class_indices(y_true: Any, y_pred: np.ndarray, loss: str) -> np.ndarray:
    """`y_true` as an array with one number for each item of `y_pred`; `loss` is named in messages."""
    y_true = np.asarray(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        other = loss.removeprefix("sparse_")
        hint = f"; for one-hot targets use {other}" if y_true.shape == y_pred.shape else ""
        raise ValueError(
            f"y has shape {y_true.shape}, the predictions have {y_pred.shape}: {loss} takes one integer "
            f"class for each item, shape {y_pred.shape[:-1]}{hint}"
        )
    result: np.ndarray = y_true
    return result


def class_targets(y_true: Any, y_pred: np.ndarray, loss: str, ignore_class: int | None = None) -> np.ndarray:
    """`y_true` as an array of integer classes, one for each item of `y_pred`.

    Parameters
    ----------
    y_true : array_like of shape (batch, [time,]) or (batch, [time,] 1)
    y_pred : ndarray of shape (batch, [time,] n_classes)
    loss : str
        Named in messages.
    ignore_class : int, optional
        A class that may be outside ``0 ... n_classes - 1``.

    Returns
    -------
    ndarray of intp, shape (batch, [time])
    """
    _check_several(y_pred, loss)
    y_true = class_indices(y_true, y_pred, loss)
    if y_true.dtype.kind not in "biuf":
        raise TypeError(f"y has dtype {y_true.dtype}: give classes as integers")
    if y_true.dtype.kind == "f":
        if np.isnan(y_true).any():
            raise ValueError("y holds NaN: give every item that counts a class")
        fractions = y_true[y_true != np.trunc(y_true)]
        if fractions.size:
            raise ValueError(f"y holds {fractions[0]}: classes are integers")
    y_true = y_true.astype(np.intp, copy=False)
    n_classes = y_pred.shape[-1]
    counted = y_true if ignore_class is None else y_true[y_true != ignore_class]
    # As unsigned integers, negative classes are large numbers, so one comparison finds all invalid classes.
    if counted.size and counted.view(np.uintp).max() >= n_classes:
        wrong = counted[(counted < 0) | (counted >= n_classes)][0]
        raise ValueError(
            f"y holds class {wrong}: with {n_classes} outputs, classes go from 0 to {n_classes - 1}"
        )
    result: np.ndarray = y_true
    return result


def weighted_sum(values: np.ndarray, factor: Any) -> float:
    """Return the sum of values times factor; values of factor 0 may be infinite or NaN."""
    if isinstance(factor, np.ndarray):
        total = float((values * factor).sum())
        return total if math.isfinite(total) else float(np.where(factor == 0, 0, values * factor).sum())
    result: float = float(np.add.reduce(values, axis=None)) * factor
    return result

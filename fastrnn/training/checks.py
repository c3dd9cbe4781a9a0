"""Checks of the arguments of `fit`, `evaluate` and `predict`, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.checks import as_array, choice, flag, integer, is_number, number, real_array
from fastrnn.sequences.ragged import Ragged
from fastrnn.targets import fill_missing, item_weights, missing_items

__all__ = [
    "check_class_weight",
    "check_data",
    "check_schedule_of_fit",
    "check_stateful",
    "check_targets",
    "check_verbose",
    "check_weights",
]


def check_verbose(verbose: Any) -> Any:
    """`verbose` as ``"auto"``, 0, 1 or 2; raises for other values."""
    if isinstance(verbose, (bool, np.bool_, np.integer)):
        verbose = int(verbose)
    return choice(verbose, "verbose", ("auto", 0, 1, 2))


def check_schedule_of_fit(
    epochs: Any,
    initial_epoch: Any,
    shuffle: Any,
    validation_split: Any,
    validation_freq: Any,
    **counts: Any,
) -> None:
    """Raise if an argument for the number of epochs and steps, the order or the validation of `fit` is invalid."""
    integer(epochs, "epochs", 0)
    integer(initial_epoch, "initial_epoch", 0)
    if shuffle != "batch":
        try:
            flag(shuffle, "shuffle")
        except ValueError:
            raise ValueError(f"shuffle={shuffle!r}: give True, False or 'batch'") from None
    number(validation_split, "validation_split", 0, 1, below=True)
    if (
        isinstance(validation_freq, Sequence)
        and not isinstance(validation_freq, str)
        and len(validation_freq)
    ):
        for k, epoch in enumerate(validation_freq):
            integer(epoch, f"validation_freq[{k}]")
    else:
        try:
            integer(validation_freq, "validation_freq")
        except ValueError as error:
            raise ValueError(f"{error}, or a list of them") from None
    for name, count in counts.items():
        integer(count, name, optional=True)


def check_class_weight(class_weight: Any, y: Any, sample_weight: Any) -> None:
    """Raise if `class_weight` is not a dict of classes and weights, or can't be used with the other arguments."""
    if class_weight is None:
        return
    if sample_weight is not None:
        raise ValueError("give either class_weight or sample_weight, not both")
    if y is None or isinstance(y, Ragged):
        raise ValueError("class_weight needs y as an array; give sample_weight instead")
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight={class_weight!r}: give a dict of class to weight")
    for label, weight in class_weight.items():
        if not is_number(label) or not float(label).is_integer():
            raise ValueError(f"class_weight names the class {label!r}: classes are integers")
        number(weight, f"class_weight[{label!r}]", 0)


def check_weights(sample_weight: Any) -> Any:
    """`sample_weight` as an array of finite numbers; a Ragged is returned unchanged."""
    if sample_weight is None or isinstance(sample_weight, Ragged):
        return sample_weight
    weights = real_array(sample_weight, name="sample_weight")
    if weights.ndim == 0:
        raise ValueError(
            f"sample_weight={sample_weight!r}: give one weight for each sample, or for each of its steps"
        )
    if not np.isfinite(weights).all():
        raise ValueError("sample_weight holds NaN or infinity: give finite numbers")
    return weights


def check_targets(
    loss: Any,
    y: Any,
    sample_weight: Any,
    output_shape: Sequence[int | None],
    dtype: Any,
    masked: bool = False,
) -> None:
    """Raise if targets and weights do not fit outputs of `output_shape`, which includes the batch axis.

    If layers mask steps (`masked`), targets may be NaN, because the mask is not known before the layers run.
    """
    if None in output_shape[1:] or isinstance(y, Ragged):
        return
    if masked and missing_items(y, np.shape(y)) is not None:
        y = np.nan_to_num(y)
    if isinstance(sample_weight, Ragged):
        sample_weight = None
    # One sample is enough to check shapes and dtypes; classes are checked in all samples.
    if not isinstance(loss, losses.SparseCategoricalCrossentropy):
        try:
            _check_rows(
                loss, y[:1], None if sample_weight is None else sample_weight[:1], output_shape, dtype
            )
        except (TypeError, ValueError):
            _check_rows(
                loss, y, sample_weight, output_shape, dtype
            )  # raise again, with the shapes of all samples
            raise
    else:
        _check_rows(loss, y, sample_weight, output_shape, dtype)
    if loss.target_range is not None and not masked:
        _check_range(loss, np.asarray(y), sample_weight)


def _check_range(loss: losses.Loss, y: np.ndarray, sample_weight: Any) -> None:
    """Raise if a target that counts is outside the range for which the loss is defined."""
    assert loss.target_range is not None
    low, high = loss.target_range
    if not (y.min() < low or y.max() > high):
        return
    wrong = (y < low) | (y > high)
    if sample_weight is not None:
        weight = np.asarray(sample_weight)
        if weight.ndim < y.ndim:
            weight = weight.reshape(weight.shape + (1,) * (y.ndim - weight.ndim))
        wrong &= weight != 0
    if wrong.any():
        raise ValueError(
            f"y holds {y[wrong][0]}, but {loss.name} takes targets from {low:g} to {high:g}: encode the classes as 0 and 1 "
            "(one-hot for several), or use a loss for such numbers"
        )


def _check_rows(
    loss: Any, y: Any, sample_weight: Any, output_shape: Sequence[int | None], dtype: Any
) -> None:
    shape: tuple[Any, ...] = (len(y), *output_shape[1:])
    outputs = np.broadcast_to(np.zeros((), dtype), shape)
    loss.targets(fill_missing(y, shape[:-1], sample_weight, None), outputs)
    if sample_weight is not None:
        item_weights(shape[:-1], sample_weight, None, dtype)


def check_stateful(layers: Sequence[Any], data: Any, shuffle: Any = False) -> None:
    """Raise if row i of each batch can't continue row i of the previous batch.

    Parameters
    ----------
    layers : sequence of Layer
    data : Batches
        An iterable of batches is not checked.
    shuffle : bool or "batch"
    """
    name = next((layer.name for layer in layers if layer.stateful), None)
    if name is None or data.stream:
        return
    if shuffle and data.n > 1:
        raise ValueError(
            f"shuffle={shuffle!r} mixes the rows of batches, but layer {name!r} is stateful: each row continues the "
            "same row of the previous batch. Give shuffle=False"
        )
    rest = data.n % data.batch_size
    if rest and data.n > data.batch_size:
        raise ValueError(
            f"{data.n} samples in batches of {data.batch_size} leave a last batch of {rest}, but layer {name!r} is "
            f"stateful, so all batches must have the same number of rows: give a batch_size that divides {data.n}"
        )


def check_data(model: Any, data: Any) -> None:
    """Raise the errors that the first of the batches `data` would raise in training or evaluation of `model`."""
    _, y, weight, *_ = data.first
    if y is None:
        raise ValueError("y is missing: training and evaluation need targets")
    shape = model.expected_output(data.shape)
    if shape is not None and isinstance(model.loss, losses.Loss):
        if not isinstance(y, Ragged):
            y = as_array(y, "y")
        masked = any(layer.mask_zero or layer.mask_value is not None for layer in model.layers)
        check_targets(model.loss, y, check_weights(weight), shape, model.layers[0].dtype, masked)

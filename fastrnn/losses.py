"""Losses and their gradients.

A loss computes one number for each item (a sample, or a time step of a sample) from targets and predictions of shape
``(batch, [time,] outputs)``, and averages these numbers with their weights. Cross-entropies that follow their matching
activation (sigmoid, softmax) are computed from the activation's input, which is exact where probabilities saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import choice, flag, integer, number
from fastrnn.engine import tuning
from fastrnn.engine.kernels.losses import squared_error_of_layout
from fastrnn.registry import Configurable, Registry
from fastrnn.targets import (
    align_targets,
    as_predictions,
    class_targets,
    fill_missing,
    item_factors,
    item_weights,
    loss_divisor,
    one_hot_targets,
    weighted_sum,
)

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "align_targets",
    "get",
    "item_weights",
]

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken.
EPSILON = 1e-7
_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight")


class Loss(Configurable):
    """Base class of losses.

    A subclass defines ``values(y_true, y_pred)``, one number for each item, and ``gradient(y_true, y_pred)``, the
    derivative of each number with respect to the predictions of its item. Both get arrays of shape ``(batch, [time,]
    outputs)`` and return arrays of shapes ``(batch, [time])`` and ``(batch, [time,] outputs)``.

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"}
        How the values of the items become one number: their mean (the first two), their sum, or their sum divided by
        the sum of the weights. Items that a mask leaves out do not count.
    name : str, optional
    dtype : optional
        An argument of Keras without effect: losses have the dtype of the predictions.
    """

    _config_names: tuple[str, ...] = ("reduction", "name")
    #: If the predictions come from this activation, the loss can be computed from the activation's input.
    logit_activation: str | None = None
    default_name = "loss"
    #: Smallest and largest valid target, which `fit` and `evaluate` check; None if any number is valid.
    target_range: tuple[float, float] | None = None
    #: Whether `values` and `gradient` accept NaN as the target of an item that does not count; otherwise it becomes 0.
    takes_missing = False
    #: Largest number of threads to use; None means all cores that this process may use.
    n_threads: int | None = None

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        self.reduction = choice(reduction, "reduction", _REDUCTIONS)
        self.name = name or self.default_name
        self.dtype = dtype

    # -- for subclasses

    def targets(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        """Return `y_true` in the form that `values` and `gradient` take."""
        return align_targets(y_true, y_pred)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss of each item."""
        raise NotImplementedError

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the derivative of each item's loss with respect to its predictions."""
        raise NotImplementedError

    def logit_values(self, y_true: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Return the loss of each item from its logits."""
        raise NotImplementedError

    def logit_gradient(self, y_true: np.ndarray, logits: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the derivative with respect to the logits; `y_pred` is the activation of `logits`."""
        raise NotImplementedError

    # -- for callers

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> float:
        """Return the loss of a batch."""
        return self.value(y_true, as_predictions(y_pred), sample_weight, mask)

    def value(
        self,
        y_true: Any,
        y_pred: np.ndarray,
        sample_weight: Any = None,
        mask: Any = None,
        logits: np.ndarray | None = None,
    ) -> float:
        """Return the loss, from `logits` if they are given."""
        y_true, factor = self._targets_and_factor(y_true, y_pred, sample_weight, mask)
        values = self.values(y_true, y_pred) if logits is None else self.logit_values(y_true, logits)
        return weighted_sum(values, factor)

    def value_and_grad(
        self,
        y_true: Any,
        y_pred: np.ndarray,
        sample_weight: Any = None,
        mask: Any = None,
        logits: np.ndarray | None = None,
    ) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, with respect to `logits` if they are given, else to `y_pred`."""
        y_true, factor = self._targets_and_factor(y_true, y_pred, sample_weight, mask)
        return self._weighted(y_true, y_pred, factor, logits)

    def _targets_and_factor(
        self, y_true: Any, y_pred: np.ndarray, sample_weight: Any, mask: Any
    ) -> tuple[np.ndarray, Any]:
        """Targets as `values` takes them, and the factors of the items' losses."""
        shape = y_pred.shape[:-1]
        if not self.takes_missing:
            y_true = fill_missing(y_true, shape, sample_weight, mask)
        y_true = self.targets(y_true, y_pred)
        mask = self._counted(y_true, mask)
        return y_true, item_factors(self.reduction, shape, y_pred.dtype, sample_weight, mask)

    def batch_weight(
        self, y_true: Any, y_pred: np.ndarray, sample_weight: Any = None, mask: Any = None
    ) -> float:
        """Return the weight of a batch's loss in a mean over batches.

        It is the number by which the sum over the items was divided, so that the mean does not depend on how the data
        are cut into batches. With ``reduction="sum"`` it is the number of samples.
        """
        if self.reduction == "sum":
            return float(len(y_pred))
        return loss_divisor(self.reduction, y_pred.shape[:-1], sample_weight, mask)

    def _weighted(
        self, y_true: np.ndarray, y_pred: np.ndarray, factor: Any, logits: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """Loss and gradient, the items multiplied by `factor`."""
        if logits is None:
            values, grad = self.values(y_true, y_pred), self.gradient(y_true, y_pred)
        else:
            values, grad = self.logit_values(y_true, logits), self.logit_gradient(y_true, logits, y_pred)
        grad *= factor[..., None] if isinstance(factor, np.ndarray) else grad.dtype.type(factor)
        if isinstance(factor, np.ndarray) and not np.isfinite(values).all():
            grad[factor == 0] = 0  # an item that does not count may be NaN
        return weighted_sum(values, factor), grad

    def _counted(self, y_true: np.ndarray, mask: Any) -> Any:
        """Which items count, by the mask and by the targets; None if all do."""
        return mask


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis. For a small batch it takes a third of the time of ``values.mean``."""
    if values.shape[-1] == 1:
        return values[..., 0]
    return np.add.reduce(values, axis=-1) * values.dtype.type(1 / values.shape[-1])


class MeanSquaredError(Loss):
    """Mean of ``(y_pred - y_true)**2`` over the outputs."""

    default_name = "mean_squared_error"
    # The kernel does not read such items, and NaN comes through the sums of NumPy without a warning.
    takes_missing = True

    def values(self, y_true: Any, y_pred: Any) -> Any:
        error = y_pred - y_true
        return np.einsum("...i,...i->...", error, error) * error.dtype.type(1 / error.shape[-1])

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        error = y_pred - y_true
        error *= error.dtype.type(2 / y_pred.shape[-1])
        return error

    def _weighted(self, y_true: Any, y_pred: Any, factor: Any, logits: Any) -> Any:
        if y_pred.size < tuning.MIN_LOSS_KERNEL or y_pred.ndim > 3 or y_pred.dtype.char not in "fd":
            return super()._weighted(y_true, y_pred, factor, logits)
        return squared_error_of_layout(y_true, y_pred, factor, self.n_threads)


class MeanAbsoluteError(Loss):
    """Mean of ``|y_pred - y_true|`` over the outputs."""

    default_name = "mean_absolute_error"

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return _mean(np.abs(y_pred - y_true))

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        return np.sign(y_pred - y_true) / y_pred.dtype.type(y_pred.shape[-1])


class Huber(Loss):
    """``0.5 * e**2`` if ``|e| <= delta``, else ``delta * (|e| - 0.5 * delta)``, with ``e = y_pred - y_true`` (Huber, 1964).

    Averaged over the outputs.

    Parameters
    ----------
    delta : float
    reduction, name, dtype
        As for :class:`Loss`.
    """

    default_name = "huber_loss"
    _config_names = ("delta", "reduction", "name")

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.delta = number(delta, "delta", 0, above=True)

    def values(self, y_true: Any, y_pred: Any) -> Any:
        error = np.abs(y_pred - y_true)
        inside = np.minimum(error, error.dtype.type(self.delta))
        return _mean(inside * (error - error.dtype.type(0.5) * inside))

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        error = np.clip(y_pred - y_true, -self.delta, self.delta)
        return error / y_pred.dtype.type(y_pred.shape[-1])


class _Crossentropy(Loss):
    _config_names = ("from_logits", "label_smoothing", "axis", "reduction", "name")
    target_range: tuple[float, float] | None = (0.0, 1.0)
    #: As `values` and `gradient`, from probabilities.
    probability_values: Callable[..., np.ndarray]
    probability_gradient: Callable[..., np.ndarray]

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        if axis != -1:
            raise NotImplementedError(f"axis={axis!r}: only the last axis (-1) is supported")
        self.from_logits = flag(from_logits, "from_logits")
        self.label_smoothing = number(label_smoothing, "label_smoothing", 0, 1)
        self.axis = axis
        if self.from_logits:
            # The predictions themselves are the logits.
            self.logit_activation = None

    def smoothed(self, y_true: np.ndarray, n_choices: int) -> np.ndarray:
        """Return ``y_true * (1 - label_smoothing) + label_smoothing / n_choices``."""
        if not self.label_smoothing:
            return y_true
        kind = y_true.dtype.type
        return y_true * kind(1 - self.label_smoothing) + kind(self.label_smoothing / n_choices)

    def values(self, y_true: Any, y_pred: Any) -> Any:
        if self.from_logits:
            return self.logit_values(y_true, y_pred)
        return self.probability_values(y_true, y_pred)

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        if self.from_logits:
            return self.logit_gradient(y_true, y_pred, self.probabilities(y_pred))
        return self.probability_gradient(y_true, y_pred)

    def probabilities(self, logits: Any) -> Any:
        """Return the sigmoid or softmax of `logits`."""
        # Imported here: it takes 0.2 s, and most models end with an activation.
        from scipy import special

        sigmoid = type(self).logit_activation == "sigmoid"
        return special.expit(logits) if sigmoid else special.softmax(logits, axis=-1)


# scipy.special.log_softmax gives the same numbers. For a batch of 32 rows of 10 classes it takes twice the time.
def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


class BinaryCrossentropy(_Crossentropy):
    """Mean of ``-y * log(p) - (1 - y) * log(1 - p)`` over the outputs, which are independent probabilities p.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits rather than probabilities.
    label_smoothing : float
        From 0 to 1. Targets become ``y * (1 - label_smoothing) + label_smoothing / 2``.
    axis : int
        Only -1, the last axis, is supported.
    reduction, name, dtype
        As for :class:`Loss`.
    """

    default_name = "binary_crossentropy"
    logit_activation = "sigmoid"

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        return self.smoothed(align_targets(y_true, y_pred), 2)

    def logit_values(self, y_true: Any, logits: Any) -> Any:
        values = np.log1p(np.exp(-np.abs(logits)))
        values += np.maximum(logits, 0)
        values -= logits * y_true
        return _mean(values)

    def logit_gradient(self, y_true: Any, logits: Any, y_pred: Any) -> Any:
        grad = y_pred - y_true
        if grad.shape[-1] > 1:
            grad *= grad.dtype.type(1 / grad.shape[-1])
        return grad

    def probability_values(self, y_true: Any, y_pred: Any) -> Any:
        p = np.clip(y_pred, EPSILON, 1 - EPSILON)
        return -_mean(y_true * np.log(p) + (1 - y_true) * np.log(1 - p))

    def probability_gradient(self, y_true: Any, y_pred: Any) -> Any:
        p = np.clip(y_pred, EPSILON, 1 - EPSILON)
        grad = (p - y_true) / (p * (1 - p) * p.dtype.type(p.shape[-1]))
        return np.where(p == y_pred, grad, p.dtype.type(0))


class CategoricalCrossentropy(_Crossentropy):
    """``-sum(y * log(p))`` over the classes; targets y are one-hot or probabilities, predictions p are normalized.

    Parameters
    ----------
    label_smoothing : float
        From 0 to 1. Targets become ``y * (1 - label_smoothing) + label_smoothing / n_classes``.
    from_logits, axis, reduction, name, dtype
        As for :class:`BinaryCrossentropy`.
    """

    default_name = "categorical_crossentropy"
    logit_activation = "softmax"

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        return self.smoothed(one_hot_targets(y_true, y_pred, self.default_name), y_pred.shape[-1])

    def logit_values(self, y_true: Any, logits: Any) -> Any:
        return -(y_true * _log_softmax(logits)).sum(axis=-1)

    def logit_gradient(self, y_true: Any, logits: Any, y_pred: Any) -> Any:
        return y_pred * y_true.sum(axis=-1, keepdims=True) - y_true

    def probability_values(self, y_true: Any, y_pred: Any) -> Any:
        p = np.clip(y_pred / y_pred.sum(axis=-1, keepdims=True), EPSILON, 1 - EPSILON)
        return -(y_true * np.log(p)).sum(axis=-1)

    def probability_gradient(self, y_true: Any, y_pred: Any) -> Any:
        total = y_pred.sum(axis=-1, keepdims=True)
        share = y_pred / total
        p = np.clip(share, EPSILON, 1 - EPSILON)
        grad = np.where(p == share, -y_true / p, p.dtype.type(0))
        return (grad - (grad * share).sum(axis=-1, keepdims=True)) / total


class SparseCategoricalCrossentropy(_Crossentropy):
    """``-log(p[y])`` for integer classes y; otherwise as :class:`CategoricalCrossentropy`.

    Parameters
    ----------
    ignore_class : int, optional
        Items of this class are left out.
    from_logits, axis, reduction, name, dtype
        As for :class:`BinaryCrossentropy`.
    """

    target_range = None  # integer classes
    default_name = "sparse_categorical_crossentropy"
    logit_activation = "softmax"
    _config_names = ("from_logits", "ignore_class", "axis", "reduction", "name")

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, 0.0, axis, reduction, name, dtype)
        # Any integer is allowed, also one that is not a class, such as -1.
        self.ignore_class = None if ignore_class is None else integer(ignore_class, "ignore_class", -(2**62))

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        return class_targets(y_true, y_pred, self.default_name, self.ignore_class)

    def _counted(self, y_true: Any, mask: Any) -> Any:
        if self.ignore_class is None:
            return mask
        counted = y_true != self.ignore_class
        return counted if mask is None else counted & mask

    def batch_weight(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Any:
        if self.ignore_class is not None:
            y_true = self.targets(fill_missing(y_true, y_pred.shape[:-1], sample_weight, mask), y_pred)
            mask = self._counted(y_true, mask)
        return super().batch_weight(y_true, y_pred, sample_weight, mask)

    def _at(self, y_true: Any, n_classes: Any) -> Any:
        """Index of each item's class in an array with a last axis of classes."""
        if self.ignore_class is not None:
            # The ignored class may be out of range; its items are masked, so any valid index will do.
            y_true = y_true % n_classes
        if y_true.ndim == 1:
            return np.arange(len(y_true)), y_true
        return (*np.ix_(*map(np.arange, y_true.shape)), y_true)

    def logit_values(self, y_true: Any, logits: Any) -> Any:
        shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
        return np.log(np.add.reduce(np.exp(shifted), axis=-1)) - shifted[self._at(y_true, logits.shape[-1])]

    def logit_gradient(self, y_true: Any, logits: Any, y_pred: Any) -> Any:
        grad = y_pred.copy(order="K")
        grad[self._at(y_true, logits.shape[-1])] -= 1
        return grad

    def _normalized(self, y_true: Any, y_pred: Any) -> Any:
        """Probabilities divided by their sum, and the indices of the items' classes."""
        total = y_pred.sum(axis=-1)
        at = self._at(y_true, y_pred.shape[-1])
        share = y_pred[at] / total
        return share, np.clip(share, EPSILON, 1 - EPSILON), total, at

    def probability_values(self, y_true: Any, y_pred: Any) -> Any:
        return -np.log(self._normalized(y_true, y_pred)[1])

    def probability_gradient(self, y_true: Any, y_pred: Any) -> Any:
        share, p, total, at = self._normalized(y_true, y_pred)
        slope = np.where(p == share, -1 / p, p.dtype.type(0)) / total
        grad = np.empty_like(y_pred)
        grad[...] = -(slope * share)[..., None]
        grad[at] += slope
        return grad


_registry = Registry(
    "loss",
    [
        BinaryCrossentropy,
        CategoricalCrossentropy,
        Huber,
        MeanAbsoluteError,
        MeanSquaredError,
        SparseCategoricalCrossentropy,
    ],
    {
        **dict.fromkeys(("bce", "BCE"), BinaryCrossentropy),
        **dict.fromkeys(("mae", "MAE"), MeanAbsoluteError),
        **dict.fromkeys(("mse", "MSE"), MeanSquaredError),
    },
    accepts=lambda loss: isinstance(loss, Loss),
)


def get(identifier: Any) -> Any:
    """Return the loss for `identifier`: a name, a config or an object."""
    if callable(identifier) and not isinstance(identifier, (type, Loss)):
        raise TypeError(
            f"loss={identifier!r} has no gradient: make a subclass of fastrnn.losses.Loss with values(y_true, y_pred) "
            "and gradient(y_true, y_pred)"
        )
    return _registry.get(identifier)

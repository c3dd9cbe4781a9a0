"""Cross-entropies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import flag, integer, number
from fastrnn.losses.base import Loss, mean_over_outputs
from fastrnn.targets import (
    align_targets,
    class_targets,
    fill_missing,
    one_hot_targets,
)

__all__ = ["EPSILON", "BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy"]

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken.
EPSILON = 1e-7


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
        result: np.ndarray = y_true * kind(1 - self.label_smoothing) + kind(self.label_smoothing / n_choices)
        return result

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
    result: np.ndarray = shifted
    return result


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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([[1.0], [0.0]]), np.array([[0.9], [0.2]])
    >>> round(losses.BinaryCrossentropy().value(y, p), 4)  # the mean of -log(0.9) and -log(0.8)
    0.1643
    """

    default_name = "binary_crossentropy"
    logit_activation = "sigmoid"

    def targets(self, y_true: Any, y_pred: Any) -> Any:
        return self.smoothed(align_targets(y_true, y_pred), 2)

    def logit_values(self, y_true: Any, logits: Any) -> Any:
        values = np.log1p(np.exp(-np.abs(logits)))
        values += np.maximum(logits, 0)
        values -= logits * y_true
        return mean_over_outputs(values)

    def logit_gradient(self, y_true: Any, logits: Any, y_pred: Any) -> Any:
        grad = y_pred - y_true
        if grad.shape[-1] > 1:
            grad *= grad.dtype.type(1 / grad.shape[-1])
        return grad

    def probability_values(self, y_true: Any, y_pred: Any) -> Any:
        p = np.clip(y_pred, EPSILON, 1 - EPSILON)
        return -mean_over_outputs(y_true * np.log(p) + (1 - y_true) * np.log(1 - p))

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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([[0.0, 1.0]]), np.array([[0.2, 0.8]])
    >>> round(losses.CategoricalCrossentropy().value(y, p), 4)  # -log(0.8)
    0.2231
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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([1]), np.array([[0.2, 0.8]])
    >>> round(losses.SparseCategoricalCrossentropy().value(y, p), 4)  # -log(0.8)
    0.2231
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

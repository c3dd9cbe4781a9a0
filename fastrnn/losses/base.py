"""The base class of losses, and losses of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import choice, number
from fastrnn.engine import tuning
from fastrnn.engine.kernels.losses import squared_error_of_layout
from fastrnn.registry import Configurable
from fastrnn.targets import (
    align_targets,
    as_predictions,
    fill_missing,
    item_factors,
    loss_divisor,
    weighted_sum,
)

__all__ = ["Huber", "Loss", "MeanAbsoluteError", "MeanSquaredError", "mean_over_outputs"]

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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.losses import Loss
    >>> class Quartic(Loss):
    ...     def values(self, y_true, y_pred):
    ...         return np.mean((y_pred - y_true) ** 4, axis=-1)
    ...
    ...     def gradient(self, y_true, y_pred):
    ...         return 4 * (y_pred - y_true) ** 3 / y_pred.shape[-1]
    >>> Quartic().value(np.array([[0.0]]), np.array([[2.0]]))
    16.0
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


def mean_over_outputs(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis. For a small batch it takes a third of the time of ``values.mean``."""
    if values.shape[-1] == 1:
        return values[..., 0]
    result: np.ndarray = np.add.reduce(values, axis=-1) * values.dtype.type(1 / values.shape[-1])
    return result


class MeanSquaredError(Loss):
    """Mean of ``(y_pred - y_true)**2`` over the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]])
    >>> round(losses.MeanSquaredError().value(y, p), 4)  # the mean of 0.25 and 4
    2.125
    """

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
        if type(self) is not MeanSquaredError:
            return super()._weighted(y_true, y_pred, factor, logits)  # with the methods of the subclass
        if y_pred.size < tuning.MIN_LOSS_KERNEL or y_pred.ndim > 3 or y_pred.dtype.char not in "fd":
            if isinstance(factor, np.ndarray):
                return super()._weighted(y_true, y_pred, factor, logits)
            # Half the calls of NumPy, which take all the time.
            error = y_pred - y_true
            share = factor / error.shape[-1]
            loss = share * float(np.vdot(error, error))
            error *= error.dtype.type(2 * share)
            return loss, error
        return squared_error_of_layout(y_true, y_pred, factor, self.n_threads)


class MeanAbsoluteError(Loss):
    """Mean of ``|y_pred - y_true|`` over the outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]])
    >>> round(losses.MeanAbsoluteError().value(y, p), 4)  # the mean of 0.5 and 2
    1.25
    """

    default_name = "mean_absolute_error"

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return mean_over_outputs(np.abs(y_pred - y_true))

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

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import losses
    >>> y, p = np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]])
    >>> round(losses.Huber(delta=1.0).value(y, p), 4)  # the mean of 0.125 and 1.5
    0.8125
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
        return mean_over_outputs(inside * (error - error.dtype.type(0.5) * inside))

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        error = np.clip(y_pred - y_true, -self.delta, self.delta)
        return error / y_pred.dtype.type(y_pred.shape[-1])

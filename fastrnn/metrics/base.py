"""The base classes of metrics, and means over items."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.checks import number
from fastrnn.registry import Configurable, snake_case
from fastrnn.targets import (
    align_targets,
    as_predictions,
    class_indices,
    fill_missing,
    item_weights,
    one_hot_targets,
)

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "Mean",
    "MeanAbsoluteError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "update",
]


class Metric(Configurable):
    """Base class of metrics.

    A subclass defines ``update_state(y_true, y_pred, sample_weight=None)``, ``result()`` and ``reset_state()``. If its
    `update_state` has a parameter `mask` too, it gets the mask, otherwise weights that are 0 where the mask is False.

    Parameters
    ----------
    name : str, optional
        Key in histories; by default the class name in snake case.
    dtype : optional
        An argument of Keras without effect: sums are kept in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.metrics import Metric
    >>> class Largest(Metric):
    ...     def reset_state(self):
    ...         self.largest = -np.inf
    ...
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.largest = max(self.largest, float(y_pred.max()))
    ...
    ...     def result(self):
    ...         return self.largest
    >>> metric = Largest()
    >>> metric.reset_state()
    >>> metric.update_state(np.zeros(2), np.array([1.0, 3.0]))
    >>> metric.result()
    3.0
    """

    _config_names: tuple[str, ...] = ("name",)
    #: Whether a larger ("max") or a smaller ("min") result is better, for callbacks with ``mode="auto"``. If it is None,
    #: they raise an error that asks for their `mode`.
    direction: str | None = None

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.dtype = dtype

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        y_true : array_like of shape (batch, [time,] outputs), or (batch, [time]) for integer classes
        y_pred : array_like of shape (batch, [time,] outputs)
        sample_weight : array_like of shape (batch,) or (batch, time), optional
        mask : array of bool of shape (batch,) or (batch, time), optional
            False where an item does not count.
        """
        raise NotImplementedError

    def check(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        """Raise if the shapes of targets and predictions do not fit each other.

        Called with the first batch, before training.
        """
        if y_true.shape == y_pred.shape[:-1] and y_pred.shape[-1] == 1:
            raise ValueError(
                f"metric {self.name!r}: y has shape {y_true.shape}, the predictions have {y_pred.shape}. NumPy would "
                "broadcast one against the other: give y a last axis of size 1, y[..., None]"
            )

    def result(self) -> float:
        """Return the metric of all batches since the last reset."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> float:
        self.check(np.asarray(y_true), np.asarray(y_pred))
        update(self, y_true, y_pred, sample_weight, mask)
        return self.result()


def update(metric: Metric, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
    """Add a batch to a metric, with the arguments that its `update_state` has.

    Parameters are those of :meth:`Metric.update_state`. Targets that do not count may be NaN; the metric gets 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.Accuracy()
    >>> mask = np.array([[True, False]])
    >>> metrics.update(metric, np.array([[[1], [2]]]), np.array([[[1], [0]]]), mask=mask)
    >>> metric.result()
    1.0
    """
    y_true, y_pred = np.asarray(y_true), as_predictions(y_pred)
    items = y_pred.shape[:-1]
    y_true = fill_missing(y_true, items, sample_weight, mask)
    if _takes_mask(type(metric).update_state):
        metric.update_state(y_true, y_pred, sample_weight, mask)
        return
    if mask is not None:
        sample_weight = item_weights(items, sample_weight, mask, np.float64)
    metric.update_state(y_true, y_pred, sample_weight)


@functools.lru_cache(maxsize=64)
def _takes_mask(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters
    return "mask" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class Mean(Metric):
    """Weighted mean of one number for each item, or one for the batch.

    An item is a sample, or a time step of a sample if there is an output for each step. All items have equal weights, so
    the mean does not depend on how the data are cut into batches. A subclass defines ``values(y_true, y_pred)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.metrics import Mean
    >>> class MeanOutput(Mean):
    ...     def values(self, y_true, y_pred):
    ...         return y_pred.mean(axis=-1)
    >>> metric = MeanOutput()
    >>> metric.update_state(np.zeros((2, 1)), np.array([[1.0], [2.0]]), sample_weight=[3, 1])
    >>> metric.result()
    1.25
    """

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.reset_state()

    def reset_state(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def add(self, values: Any, sample_weight: Any = None, mask: Any = None) -> None:
        """Add the values of a batch.

        Parameters
        ----------
        values : array_like of shape (batch, ...)
            A number for each item, or several.
        sample_weight : array_like of shape (batch,) or (batch, time), optional
        mask : array of bool of shape (batch,) or (batch, time), optional
            False where an item does not count. Its value may be NaN.
        """
        values = np.asarray(values)
        weights = item_weights(values.shape, sample_weight, mask, np.float64)
        if weights is None:
            self.total += float(
                np.count_nonzero(values)
                if values.dtype == bool
                else np.add.reduce(values, axis=None, dtype=np.float64)
            )
            self.count += values.size
            return
        weights = np.broadcast_to(weights, values.shape)
        total = float((values * weights).sum())
        self.total += total if math.isfinite(total) else float((values * weights)[weights != 0].sum())
        self.count += float(weights.sum())

    def values(self, y_true: Any, y_pred: np.ndarray) -> Any:
        """Return what is averaged: an array of shape (batch, ...), or one number for the batch."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        y_pred = as_predictions(y_pred)
        values = np.asarray(self.values(np.asarray(y_true), y_pred))
        if values.ndim == 0:
            values = np.broadcast_to(values, y_pred.shape[:-1])
        self.add(values, sample_weight, mask)

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0


class MeanMetricWrapper(Mean):
    """Mean of the values of a function.

    Parameters
    ----------
    fn : callable
        ``fn(y_true, y_pred, **kwargs)`` gets arrays of a batch and returns an array of shape (batch, ...), or one number,
        the batch's mean. A mask has no effect on one number, which includes padding.
    name, dtype : optional
        As for :class:`Metric`; the default name is that of `fn`.
    **kwargs
        Further arguments of `fn`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.metrics import MeanMetricWrapper
    >>> metric = MeanMetricWrapper(lambda y_true, y_pred: np.abs(y_pred - y_true).max(axis=-1), "largest")
    >>> metric.update_state(np.zeros((2, 2)), np.array([[1.0, 2.0], [4.0, 3.0]]))
    >>> metric.result()
    3.0
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self.fn, self.kwargs = fn, kwargs

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.fn(y_true, y_pred, **self.kwargs)
        return result


class _LibraryMean(Mean):
    """Base class of this module's means. They align the shapes of targets and predictions themselves."""

    def check(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        self.values(np.nan_to_num(y_true), y_pred)


class Accuracy(_LibraryMean):
    """Fraction of the predictions that equal their targets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.Accuracy()
    >>> metric.update_state(np.array([[1], [2], [3]]), np.array([[1], [2], [0]]))
    >>> round(metric.result(), 4)
    0.6667
    """

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        result: np.ndarray = align_targets(y_true, y_pred) == y_pred
        return result


class BinaryAccuracy(_LibraryMean):
    """Fraction of the outputs that are above `threshold` where the target is 1, and not where it is 0.

    Parameters
    ----------
    name, dtype
        As for :class:`Metric`.
    threshold : float

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.BinaryAccuracy(threshold=0.5)
    >>> metric.update_state(np.array([[1], [0]]), np.array([[0.7], [0.6]]))
    >>> round(metric.result(), 4)
    0.5
    """

    direction = "max"
    _config_names = ("name", "threshold")

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(name, dtype)
        self.threshold = number(threshold, "threshold")

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        result: np.ndarray = align_targets(y_true, y_pred) == (y_pred > self.threshold)
        return result


class CategoricalAccuracy(_LibraryMean):
    """Fraction of the items whose largest output is that of the one-hot target.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.CategoricalAccuracy()
    >>> metric.update_state(np.array([[0, 1], [1, 0]]), np.array([[0.2, 0.8], [0.4, 0.6]]))
    >>> round(metric.result(), 4)
    0.5
    """

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        result: np.ndarray = one_hot_targets(y_true, y_pred, "categorical_accuracy").argmax(
            axis=-1
        ) == y_pred.argmax(axis=-1)
        return result


class SparseCategoricalAccuracy(_LibraryMean):
    """Fraction of the items whose largest output is that of the integer target.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.SparseCategoricalAccuracy()
    >>> metric.update_state(np.array([1, 0]), np.array([[0.2, 0.8], [0.4, 0.6]]))
    >>> round(metric.result(), 4)
    0.5
    """

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        result: np.ndarray = class_indices(y_true, y_pred, "sparse_categorical_accuracy") == y_pred.argmax(
            axis=-1
        )
        return result


class _LossMetric(_LibraryMean):
    """The mean of a loss; further arguments are those of the loss."""

    direction = "min"
    _loss: type[losses.Loss]

    def __init__(self, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name, dtype)
        self.loss = self._loss(**kwargs)

    def get_config(self) -> dict[str, Any]:
        config = self.loss.get_config()
        del config["reduction"]
        return {**config, "name": self.name}

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return self.loss.values(self.loss.targets(y_true, y_pred), y_pred)


class MeanSquaredError(_LossMetric):
    """Mean of squared errors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.MeanSquaredError()
    >>> metric.update_state(np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]]))
    >>> round(metric.result(), 4)
    2.125
    """

    _loss = losses.MeanSquaredError


class MeanAbsoluteError(_LossMetric):
    """Mean of absolute errors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.MeanAbsoluteError()
    >>> metric.update_state(np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]]))
    >>> round(metric.result(), 4)
    1.25
    """

    _loss = losses.MeanAbsoluteError


class BinaryCrossentropy(_LossMetric):
    """Mean binary cross-entropy.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.BinaryCrossentropy()
    >>> metric.update_state(np.array([[1.0], [0.0]]), np.array([[0.9], [0.2]]))
    >>> round(metric.result(), 4)
    0.1643
    """

    _loss = losses.BinaryCrossentropy


class CategoricalCrossentropy(_LossMetric):
    """Mean categorical cross-entropy.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.CategoricalCrossentropy()
    >>> metric.update_state(np.array([[0.0, 1.0]]), np.array([[0.2, 0.8]]))
    >>> round(metric.result(), 4)
    0.2231
    """

    _loss = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(_LossMetric):
    """Mean categorical cross-entropy of integer targets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.SparseCategoricalCrossentropy()
    >>> metric.update_state(np.array([1]), np.array([[0.2, 0.8]]))
    >>> round(metric.result(), 4)
    0.2231
    """

    _loss = losses.SparseCategoricalCrossentropy


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean of squared errors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.RootMeanSquaredError()
    >>> metric.update_state(np.array([[0.0], [0.0]]), np.array([[3.0], [4.0]]))
    >>> round(metric.result(), 4)
    3.5355
    """

    def result(self) -> float:
        return float(np.sqrt(super().result()))

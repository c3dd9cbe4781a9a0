"""Metrics of training and evaluation, accumulated over batches."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.checks import choice, flag, integer, number
from fastrnn.curves import area_under_curve
from fastrnn.registry import Configurable, Registry, snake_case
from fastrnn.targets import (
    align_targets,
    as_predictions,
    class_indices,
    fill_missing,
    item_weights,
    one_hot_targets,
)

__all__ = [
    "AUC",
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
    "get",
    "resolve",
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
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self.fn, self.kwargs = fn, kwargs

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return self.fn(y_true, y_pred, **self.kwargs)


class _LibraryMean(Mean):
    """Base class of this module's means. They align the shapes of targets and predictions themselves."""

    def check(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        self.values(np.nan_to_num(y_true), y_pred)


class Accuracy(_LibraryMean):
    """Fraction of the predictions that equal their targets."""

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return align_targets(y_true, y_pred) == y_pred


class BinaryAccuracy(_LibraryMean):
    """Fraction of the outputs that are above `threshold` where the target is 1, and not where it is 0.

    Parameters
    ----------
    name, dtype
        As for :class:`Metric`.
    threshold : float
    """

    direction = "max"
    _config_names = ("name", "threshold")

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        super().__init__(name, dtype)
        self.threshold = number(threshold, "threshold")

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return align_targets(y_true, y_pred) == (y_pred > self.threshold)


class CategoricalAccuracy(_LibraryMean):
    """Fraction of the items whose largest output is that of the one-hot target."""

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return one_hot_targets(y_true, y_pred, "categorical_accuracy").argmax(axis=-1) == y_pred.argmax(
            axis=-1
        )


class SparseCategoricalAccuracy(_LibraryMean):
    """Fraction of the items whose largest output is that of the integer target."""

    direction = "max"

    def values(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return class_indices(y_true, y_pred, "sparse_categorical_accuracy") == y_pred.argmax(axis=-1)


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
    """Mean of squared errors."""

    _loss = losses.MeanSquaredError


class MeanAbsoluteError(_LossMetric):
    """Mean of absolute errors."""

    _loss = losses.MeanAbsoluteError


class BinaryCrossentropy(_LossMetric):
    """Mean binary cross-entropy."""

    _loss = losses.BinaryCrossentropy


class CategoricalCrossentropy(_LossMetric):
    """Mean categorical cross-entropy."""

    _loss = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(_LossMetric):
    """Mean categorical cross-entropy of integer targets."""

    _loss = losses.SparseCategoricalCrossentropy


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean of squared errors."""

    def result(self) -> float:
        return float(np.sqrt(super().result()))


class AUC(Metric):
    """Area under the ROC or precision-recall curve, from counts at a fixed number of thresholds.

    Parameters
    ----------
    num_thresholds : int
        Thresholds, spread evenly from 0 to 1.
    curve : {"ROC", "PR"}
    summation_method : {"interpolation", "minoring", "majoring"}
        How the area between two points of the curve is measured.
    name, dtype : optional
    thresholds : sequence of float, optional
        Between 0 and 1, in place of `num_thresholds`.
    multi_label : bool
        Whether to average the areas of the outputs; otherwise the values of all outputs form one curve.
    num_labels : int, optional
        Number of outputs, with `multi_label`.
    label_weights : sequence of float, optional
        Weights of the outputs.
    from_logits : bool
        Whether predictions are logits.
    """

    direction = "max"
    _config_names = (
        "num_thresholds",
        "curve",
        "summation_method",
        "name",
        "thresholds",
        "multi_label",
        "num_labels",
        "label_weights",
        "from_logits",
    )

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name or "auc", dtype)
        choice(curve, "curve", ("ROC", "PR"))
        choice(summation_method, "summation_method", ("interpolation", "minoring", "majoring"))
        if thresholds is not None:
            inner = np.sort(np.asarray(thresholds, float))
            if inner.size and (inner[0] < 0 or inner[-1] > 1):
                raise ValueError(f"thresholds={thresholds!r}: give numbers from 0 to 1")
            num_thresholds = len(inner) + 2
        else:
            num_thresholds = integer(num_thresholds, "num_thresholds", 2)
            inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        self.num_thresholds, self.curve, self.summation_method = num_thresholds, curve, summation_method
        self.thresholds = None if thresholds is None else [float(value) for value in thresholds]
        self.multi_label, self.from_logits = (
            flag(multi_label, "multi_label"),
            flag(from_logits, "from_logits"),
        )
        self.num_labels = integer(num_labels, "num_labels", optional=True)
        self.label_weights = None if label_weights is None else np.asarray(label_weights, float)
        # The first and last threshold are just outside [0, 1]: every prediction is above the first, none above the last.
        self._thresholds = np.concatenate([[-losses.EPSILON], inner, [1 + losses.EPSILON]])
        self.reset_state()

    def reset_state(self) -> None:
        #: Weights of positive and of negative items between each threshold and the next, for each output.
        self._positives: Any = 0.0
        self._negatives: Any = 0.0

    def check(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        align_targets(np.nan_to_num(y_true), y_pred)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        y_pred = as_predictions(y_pred)
        y_true = align_targets(y_true, y_pred) != 0
        weights = item_weights(y_pred.shape[:-1], sample_weight, mask, np.float64)
        weights = (
            np.ones(y_pred.shape) if weights is None else np.broadcast_to(weights[..., None], y_pred.shape)
        )
        if self.label_weights is not None and not self.multi_label:
            weights = weights * self.label_weights
        if self.from_logits:
            from scipy import special  # takes 0.2 s to import

            y_pred = special.expit(y_pred)
        n_outputs = y_pred.shape[-1] if self.multi_label else 1
        y_pred, y_true, weights = (a.reshape(-1, n_outputs) for a in (y_pred, y_true, weights))
        # A prediction belongs to the last threshold that it exceeds.
        inside = np.clip(y_pred, 0, 1)
        if self.thresholds is None:
            steps = y_pred.dtype.type(self.num_thresholds - 1)
            bins = np.maximum(np.ceil(inside * steps) - 1, 0).astype(np.intp)
        else:
            bins = np.searchsorted(self._thresholds, inside, side="left") - 1
        bins = bins + np.arange(n_outputs) * self.num_thresholds

        def count(weights: np.ndarray) -> np.ndarray:
            size = n_outputs * self.num_thresholds
            return np.bincount(bins.ravel(), weights.ravel(), size).reshape(n_outputs, -1).T

        self._positives = self._positives + count(weights * y_true)
        self._negatives = self._negatives + count(weights * ~y_true)

    def result(self) -> float:
        """Return the area, or the mean area of the outputs with `multi_label`.

        Outputs without a positive target (or, for ROC, without a negative one) have no curve: they are left out of the
        mean, and the result is NaN if there are no others.
        """
        if np.ndim(self._positives) == 0:
            return 0.0
        areas = area_under_curve(self._positives, self._negatives, self.curve, self.summation_method)
        weights = (
            np.ones(len(areas)) if self.label_weights is None or not self.multi_label else self.label_weights
        )
        known = ~np.isnan(areas)
        return float(np.average(areas[known], weights=weights[known])) if known.any() else math.nan


_registry = Registry(
    "metric",
    [
        AUC,
        Accuracy,
        BinaryAccuracy,
        BinaryCrossentropy,
        CategoricalAccuracy,
        CategoricalCrossentropy,
        MeanAbsoluteError,
        MeanSquaredError,
        RootMeanSquaredError,
        SparseCategoricalAccuracy,
        SparseCategoricalCrossentropy,
    ],
    {
        "acc": Accuracy,
        **dict.fromkeys(("bce", "BCE"), BinaryCrossentropy),
        **dict.fromkeys(("mae", "MAE"), MeanAbsoluteError),
        **dict.fromkeys(("mse", "MSE"), MeanSquaredError),
        "rmse": RootMeanSquaredError,
    },
)


def get(identifier: Any, argument: str = "metric") -> Any:
    """Return the metric for `identifier`: a name, a config, an object, or a function, whose values are averaged."""
    metric = _registry.get(identifier, argument)
    if metric is None or isinstance(metric, Metric):
        return metric
    return MeanMetricWrapper(metric)


def resolve(identifier: Any, y_true: np.ndarray, y_pred: np.ndarray) -> Any:
    """As :func:`get`; ``"accuracy"`` becomes the accuracy that fits the shapes of targets and predictions.

    A metric given as a string has this string as its name.
    """
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        y_true = np.asarray(y_true)
        if y_pred.shape[-1] == 1:
            return BinaryAccuracy(name=identifier)
        if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            return SparseCategoricalAccuracy(name=identifier)
        return CategoricalAccuracy(name=identifier)
    metric = get(identifier)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric

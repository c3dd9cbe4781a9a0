"""Metrics of training and evaluation, accumulated over batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.metrics.auc import AUC
from fastrnn.metrics.base import (
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    Mean,
    MeanAbsoluteError,
    MeanMetricWrapper,
    MeanSquaredError,
    Metric,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    update,
)
from fastrnn.registry import Registry

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
    """Return the metric for `identifier`: a name, a config, an object, or a function, whose values are averaged.

    Examples
    --------
    >>> from fastrnn import metrics
    >>> type(metrics.get("mae")).__name__
    'MeanAbsoluteError'
    """
    metric = _registry.get(identifier, argument)
    if metric is None or isinstance(metric, Metric):
        return metric
    return MeanMetricWrapper(metric)


def resolve(identifier: Any, y_true: np.ndarray, y_pred: np.ndarray) -> Any:
    """As :func:`get`; ``"accuracy"`` becomes the accuracy that fits the shapes of targets and predictions.

    A metric given as a string has this string as its name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> type(metrics.resolve("accuracy", np.array([0, 2]), np.zeros((2, 3)))).__name__
    'SparseCategoricalAccuracy'
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

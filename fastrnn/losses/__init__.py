"""Losses and their gradients.

A loss computes one number for each item (a sample, or a time step of a sample) from targets and predictions of shape
``(batch, [time,] outputs)``, and averages these numbers with their weights. Cross-entropies that follow their matching
activation (sigmoid, softmax) are computed from the activation's input, which is exact where probabilities saturate.
"""

from __future__ import annotations

from typing import Any

from fastrnn.losses.base import Huber, Loss, MeanAbsoluteError, MeanSquaredError
from fastrnn.losses.crossentropies import (
    EPSILON,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)
from fastrnn.registry import Registry
from fastrnn.targets import align_targets, item_weights

__all__ = [
    "EPSILON",
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
    """Return the loss for `identifier`: a name, a config or an object.

    Examples
    --------
    >>> from fastrnn import losses
    >>> type(losses.get("mse")).__name__
    'MeanSquaredError'
    """
    if callable(identifier) and not isinstance(identifier, (type, Loss)):
        raise TypeError(
            f"loss={identifier!r} has no gradient: make a subclass of fastrnn.losses.Loss with values(y_true, y_pred) "
            "and gradient(y_true, y_pred)"
        )
    return _registry.get(identifier)

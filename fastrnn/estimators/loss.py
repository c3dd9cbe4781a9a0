"""User-defined losses in the estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.losses import Loss

__all__ = ["OfClasses", "check_gradient", "of_classes"]

_STEP, _TOLERANCE = 1e-5, 1e-3


class OfClasses(Loss):
    """A loss of one-hot classes, for targets that are indices of classes.

    Parameters
    ----------
    loss : Loss
    """

    _config_names = ("loss",)

    def __init__(self, loss: Loss) -> None:
        super().__init__(reduction=loss.reduction, name=loss.name)
        self.loss = loss

    def targets(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        places = np.asarray(y_true, np.int64).reshape(y_pred.shape[:-1])
        one_hot = (places[..., None] == np.arange(y_pred.shape[-1])).astype(y_pred.dtype)
        return self.loss.targets(one_hot, y_pred)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self.loss.values(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self.loss.gradient(y_true, y_pred)


losses._registry.wrappers["OfClasses"] = OfClasses


def of_classes(given: Any, n_classes: int) -> Loss:
    """The given loss for the targets of a classifier: one output for two classes, otherwise one for each class."""
    loss = losses.get(given)
    if n_classes == 2 or isinstance(loss, losses.SparseCategoricalCrossentropy):
        result: Loss = loss
        return result
    return OfClasses(loss)


def check_gradient(given: Any, targets: np.ndarray, n_outputs: int) -> None:
    """Raise if the gradient of a loss differs from finite differences of its values, at a few targets.

    Parameters
    ----------
    given : str or Loss
    targets : ndarray of shape (n_rows,) or (n_rows, n_outputs)
    n_outputs : int
    """
    loss, targets = losses.get(given), targets[:4]
    # Between 0 and 1, because outputs may be probabilities, and not round numbers, where losses may have a kink.
    outputs = np.random.default_rng(0).uniform(0.13, 0.87, (len(targets), n_outputs))
    try:
        y = loss.targets(targets, outputs)
        gradient = np.asarray(loss.gradient(y, outputs), np.float64)
        numeric = np.empty_like(outputs)
        for k in range(n_outputs):
            step = np.where(np.arange(n_outputs) == k, _STEP, 0.0)
            high, low = (np.asarray(loss.values(y, outputs + s), np.float64) for s in (step, -step))
            if high.shape != (len(targets),):
                raise ValueError(f"values() gives shape {high.shape} for {len(targets)} items")
            numeric[:, k] = (high - low) / (2 * _STEP)
        if gradient.shape != outputs.shape:
            raise ValueError(f"gradient() gives shape {gradient.shape} for outputs of shape {outputs.shape}")
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"loss={given!r} can't be used for these targets: {error}") from error
    # Some items may be at a kink, where there is no derivative.
    close: Any = np.isclose(gradient, numeric, rtol=_TOLERANCE, atol=_TOLERANCE).all(axis=1)
    if 2 * close.sum() < len(close):
        raise ValueError(
            f"loss={given!r}: gradient(y_true, y_pred) is {gradient[~close][0]}, but values(y_true, y_pred) change by "
            f"{numeric[~close][0]} for each output: give the derivative of the values"
        )

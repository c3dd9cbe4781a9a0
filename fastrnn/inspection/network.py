"""A copy of a fitted network, for passes that do not change the original."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import MetaEstimatorMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from fastrnn.estimators.base import BaseRNN
from fastrnn.exceptions import NotBuiltError
from fastrnn.layers.base import Layer
from fastrnn.layers.cells import Cell
from fastrnn.layers.dropout import Dropout
from fastrnn.models.base import tree
from fastrnn.models.sequential import Sequential
from fastrnn.sequences import Ragged
from fastrnn.training.data import whole

__all__ = ["Network", "Recorder", "final_estimator", "open_network"]


class Network(NamedTuple):
    """A copy of a network, and validated data."""

    model: Sequential
    data: Any
    """Array, or Ragged."""
    y: Any
    estimator: BaseRNN | None

    def batch(self, rows: Any = slice(None)) -> tuple[Any, Any]:
        """Padded inputs of some samples, and the mask of valid steps (None if all are valid)."""
        x, mask = whole(self.data[rows])
        return self.model.as_input(x), mask


class Recorder:
    """Keeps inputs, outputs and gradients of a layer in a forward and a backward pass."""

    x: Any = None
    mask: Any = None
    y: Any = None
    dy: Any = None
    dx: Any = None

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._passes = layer.forward, layer.backward
        vars(layer).update(forward=self._forward, backward=self._backward)

    def _forward(self, x: Any, mask: Any = None, training: bool = False, **kwargs: Any) -> Any:
        self.x, self.mask = x, mask
        self.y, cache = self._passes[0](x, mask=mask, training=training, **kwargs)
        return self.y, cache

    def _backward(self, dy: Any, cache: Any, need_dx: bool = True) -> Any:
        self.dy = np.array(dy)
        dx = self._passes[1](dy, cache, True)
        self.dx = None if dx is None else np.array(dx)
        return dx

    def release(self) -> Layer:
        """Restore the layer's own methods."""
        for name in ("forward", "backward"):
            del vars(self.layer)[name]
        return self.layer


def final_estimator(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The final estimator of a pipeline or a search, and X after the previous steps."""
    if isinstance(estimator, MetaEstimatorMixin):
        check_is_fitted(estimator, "best_estimator_")
        return final_estimator(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        if X is not None:
            for _, step in estimator.steps[:-1]:
                X = X if step in (None, "passthrough") else step.transform(X)
        return final_estimator(estimator.steps[-1][1], X)
    return estimator, X


def open_network(estimator: Any, X: Any, y: Any = None) -> Network:
    estimator, X = final_estimator(estimator, X)
    given = None
    if isinstance(estimator, BaseRNN):
        check_is_fitted(estimator)
        given, model = estimator, estimator.model_
        if y is None:
            data = estimator._read(X).data
        else:
            held = estimator._read_held_out(X, y)
            data, y = held.x, held.y
    elif isinstance(estimator, Sequential):
        model = estimator
        if not model.built:
            raise NotBuiltError("the model has no weights yet: call fit, or build(input_shape), first")
        data = X if isinstance(X, Ragged) else model.as_input(X)
    else:
        raise TypeError(
            f"estimator is a {type(estimator).__name__}: give a fitted RNNClassifier or RNNRegressor, a Pipeline or a "
            "search that ends in one, or a Sequential"
        )
    model = model.copy()
    model.reset_states()
    for layer in tree(model.layers):
        layer.activity_regularizer = None
        if isinstance(layer, Dropout):
            layer.rate = 0.0
        elif isinstance(layer, Cell):
            layer.dropout = layer.recurrent_dropout = 0.0
    return Network(model, data, y, given)

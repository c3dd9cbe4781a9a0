"""The forward and the backward pass through a stack of layers, which all models use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.layers.arithmetic import activate
from fastrnn.layers.arrays import as_rows
from fastrnn.training.step import ForwardPass

__all__ = ["backward", "forward"]


def forward(
    layers: Sequence[Any],
    x: Any,
    mask: np.ndarray | None,
    training: bool,
    logit_activation: str | None = None,
    starts: Sequence[Any] | None = None,
) -> ForwardPass:
    """Compute the outputs of `layers` for `x`.

    Parameters
    ----------
    layers : sequence of Layer
    x : array
    mask : array of bool of shape (batch, time), optional
    training : bool
        Whether to apply dropout and keep caches.
    logit_activation : str, optional
        If the last layer has this activation, return its input too.
    starts : sequence, optional
        Initial states of the layers with `return_state`, first to last.

    Returns
    -------
    ForwardPass
        With caches only if `training`; `finals` has a list for each layer with `return_state`.
    """
    caches: list[Any] = []
    finals: list[Any] = []
    penalty = 0.0
    logits = None
    last = len(layers) - 1
    for i, layer in enumerate(layers):
        out_mask = layer.compute_mask(x, mask)
        if (
            i == last
            and logit_activation is not None
            and layer.output_activation == logit_activation
            and layer.activity_regularizer is None
        ):
            logits, cache = layer.forward_linear(x, mask, training)
            rows, back = as_rows(logits)
            y = back(activate(layer.output_activation, rows))
        elif layer.return_state:
            start = None if starts is None else starts[len(finals)]
            (y, *final), cache = layer.forward(x, mask, training, initial_state=start)
            finals.append(final)
        else:
            y, cache = layer.forward(x, mask, training)
        if layer.activity_regularizer is not None:
            penalty += layer.activity_regularizer(y) / len(y)
            cache = (cache, y)
        if training:
            caches.append(cache)
        x, mask = y, out_mask
    return ForwardPass(x, mask, logits, caches, penalty, finals)


def backward(
    layers: Sequence[Any],
    dy: np.ndarray | None,
    caches: list[Any],
    from_logits: bool,
    stop: int,
    d_finals: Sequence[Any] = (),
) -> list[Any]:
    """Compute the gradients of `layers`, from the last one down to number `stop`.

    Parameters
    ----------
    layers : sequence of Layer
    dy : array or None
        Gradient of the output, or of the input of the last activation if `from_logits`.
    caches : list
        Caches of `forward`; the list is emptied.
    from_logits : bool
    stop : int
    d_finals : sequence
        Gradients of the final states of the layers with `return_state`, each a list; None means zeros.

    Returns
    -------
    list
        Gradients of the initial states of the layers with `return_state` that were reached.
    """
    given = list(d_finals)
    d_starts: list[Any] = []
    for i in range(len(layers) - 1, stop - 1, -1):
        layer, cache = layers[i], caches[i]
        # Free the cache of a layer as soon as its gradient is computed.
        caches[i] = None
        if layer.activity_regularizer is not None:
            cache, y = cache
            gradient = layer.activity_regularizer.gradient(y)
            gradient = gradient / gradient.dtype.type(len(y))
            dy = gradient if dy is None else dy + gradient
        if from_logits:
            dy, from_logits = layer.backward_linear(dy, cache, i > stop), False
        elif layer.return_state:
            dy = layer.backward([dy, *given.pop()], cache, i > stop)
            d_starts.append(layer.d_initial_state)
        else:
            dy = layer.backward(dy, cache, i > stop)
    return d_starts[::-1]

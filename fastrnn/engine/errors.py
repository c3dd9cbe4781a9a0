"""Losses that are made where their gradients are: one pass over the predictions instead of five."""

from __future__ import annotations

from fastrnn.engine.jit import jit
from fastrnn.engine.views import fill, plane

__all__ = ["squared_error"]


@jit
def squared_error(y_true, y_pred, weights, grad):
    """Weighted sum of the mean squared errors of rows, and its gradient.

    Arrays ``(n, m, k)`` of ``n * m`` rows, the last axis contiguous; ``weights`` is ``(n, m)``, or ``(1, 1)`` for all.
    Rows of weight 0 are not looked at: those that a mask hides.
    """
    n, m, k = y_pred.shape
    share = y_pred.dtype.type(1 / k)
    everyone = weights.size == 1
    loss = 0.0
    for i in range(n):
        for j in range(m):
            true, pred, slope = plane(y_true, i, j, k), plane(y_pred, i, j, k), plane(grad, i, j, k)
            weight = weights[0, 0] if everyone else weights[i, j]
            if weight == 0:
                fill(slope, 0)
                continue
            weight *= share
            total = y_pred.dtype.type(0)
            for x in range(k):
                error = pred[x] - true[x]
                total += error * error
                slope[x] = (weight + weight) * error
            loss += weight * total
    return loss

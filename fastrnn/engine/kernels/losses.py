"""Losses that are made where their gradients are: one pass over the predictions instead of five."""

from __future__ import annotations

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.handover import ALONE, share
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.views import fill, plane

__all__ = ["squared_error"]


@jit(inner=True)
def _squared_errors(arguments, at, part):
    """The rows of one piece."""
    y_true, y_pred, weights, grad, sums = fetch(arguments, at)
    n, m, k = y_pred.shape
    share_of_one = y_pred.dtype.type(1 / k)
    everyone = weights.size == 1
    loss = 0.0
    for i in range(part * n // sums.shape[0], (part + 1) * n // sums.shape[0]):
        for j in range(m):
            true, pred, slope = plane(y_true, i, j, k), plane(y_pred, i, j, k), plane(grad, i, j, k)
            weight = weights[0, 0] if everyone else weights[i, j]
            if weight == 0:
                fill(slope, 0)
                continue
            weight *= share_of_one
            total = y_pred.dtype.type(0)
            for x in range(k):
                error = pred[x] - true[x]
                total += error * error
                slope[x] = (weight + weight) * error
            loss += weight * total
    sums[part] = loss


_part = address(_squared_errors)


@jit
def _all_parts(state, *args):
    share(state, _part(args), spill(args), args[4].shape[0])


def squared_error(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    weights: np.ndarray,
    grad: np.ndarray,
    n_threads: int | None = None,
) -> float:
    """Weighted sum of the mean squared errors of rows, and its gradient.

    Rows of weight 0 are not looked at: those that a mask hides.

    Parameters
    ----------
    y_true, y_pred : (n, m, k) array
        ``n * m`` rows, the last axis contiguous.
    weights : (n, m) array
        Or ``(1, 1)`` for all.
    grad : (n, m, k) array
        Filled with the gradient of `y_pred`.
    n_threads : int, optional
        At most so many; None: those that are free to this process. The result does not depend on it.
    """
    # The pieces depend on the size only, and so does the order in which they are summed.
    n_pieces = max(1, min(len(y_pred), y_pred.size // tuning.LOSS_PIECE))
    sums = np.empty(n_pieces)
    if n_pieces == 1:
        _all_parts(ALONE, y_true, y_pred, weights, grad, sums)
        return float(sums[0])
    with threads.parallel_region(min(threads.resolve(n_threads), n_pieces), light=True) as team:
        _all_parts(ALONE if team is None else team, y_true, y_pred, weights, grad, sums)
    return float(sums.sum())

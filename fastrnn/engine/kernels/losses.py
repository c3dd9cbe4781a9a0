"""Losses and their gradients, computed in one pass over the predictions instead of five."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.handover import ALONE, share
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.launch import LAUNCHING
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.memory import recycler
from fastrnn.engine.runtime.views import fill, plane

__all__ = ["n_loss_pieces", "squared_error", "squared_error_of_layout", "squared_error_piece"]


@jit(inner=True)
def _squared_errors(arguments, at, k):
    """Compute the loss and the gradient of one piece of the rows."""
    y_true, y_pred, weights, grad, sums = fetch(arguments, at)
    n, m, size = y_pred.shape
    one_of_mean = y_pred.dtype.type(1 / size)
    one_weight = weights.size == 1
    loss = 0.0
    for i in range(k * n // sums.shape[0], (k + 1) * n // sums.shape[0]):
        for j in range(m):
            true, pred, slope = plane(y_true, i, j, size), plane(y_pred, i, j, size), plane(grad, i, j, size)
            weight = weights[0, 0] if one_weight else weights[i, j]
            if weight == 0:
                fill(slope, 0)
                continue
            weight *= one_of_mean
            total = y_pred.dtype.type(0)
            for x in range(size):
                error = pred[x] - true[x]
                total += error * error
                slope[x] = (weight + weight) * error
            loss += weight * total
    sums[k] = loss


#: The kernel of a piece; arguments are those of `squared_error` and the sums of all pieces, which it writes.
squared_error_piece = address(_squared_errors)


@jit(entry=True)
def _all_pieces(state, *args):
    share(state, squared_error_piece(args), spill(args), args[4].shape[0])


def n_loss_pieces(y_pred: np.ndarray) -> int:
    """The number of pieces; it, and the order in which they are summed, depend only on the size."""
    return max(1, min(len(y_pred), y_pred.size // tuning.LOSS_PIECE))


def squared_error(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    weights: np.ndarray,
    grad: np.ndarray,
    n_threads: int | None = None,
) -> float:
    """Weighted sum of the mean squared errors of rows, and its gradient.

    Rows of weight 0, which a mask hides, are not read.

    Parameters
    ----------
    y_true, y_pred : (n, m, k) array
        ``n * m`` rows, the last axis contiguous.
    weights : (n, m) array
        Weights of the rows, or one weight ``(1, 1)`` for all rows.
    grad : (n, m, k) array
        Filled with the gradient of `y_pred`.
    n_threads : int, optional
        Largest number of threads; None: all free cores. The result does not depend on it.
    """
    n_pieces = n_loss_pieces(y_pred)
    sums = np.empty(n_pieces)
    if n_pieces == 1:
        with LAUNCHING:
            _all_pieces(ALONE, y_true, y_pred, weights, grad, sums)
        return float(sums[0])
    with threads.parallel_region(min(threads.resolve(n_threads), n_pieces), light=True) as team, LAUNCHING:
        _all_pieces(ALONE if team is None else team, y_true, y_pred, weights, grad, sums)
    return float(sums.sum())


def squared_error_of_layout(
    y_true: np.ndarray, y_pred: np.ndarray, factor: Any, n_threads: int | None = None
) -> tuple[float, np.ndarray]:
    """The weighted sum of the mean squared errors of rows, and its gradient, for predictions in any memory order.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (batch, [time,] outputs)
    factor : float or ndarray of shape (batch, [time])
        Factors of the items' errors.
    n_threads : int, optional
        As for :func:`squared_error`.

    Returns
    -------
    loss : float
    grad : ndarray of the shape of `y_pred`, in its memory order
    """
    true, pred, weights = y_true, y_pred, np.array(factor, y_pred.dtype, copy=None, ndmin=2)
    if pred.ndim < 3:
        true, pred = (a.reshape((1,) * (3 - a.ndim) + a.shape) for a in (true, pred))
    # Outputs of a recurrent layer are time-major in memory.
    time_major = not pred.flags.c_contiguous and pred.strides[1] > pred.strides[0]
    if time_major:
        true, pred, weights = true.swapaxes(0, 1), pred.swapaxes(0, 1), weights.swapaxes(0, 1)
    pred, weights = np.ascontiguousarray(pred), np.ascontiguousarray(weights)
    grad = recycler.take(pred.shape, pred.dtype)
    loss = squared_error(true, pred, weights, grad, n_threads)
    grad = grad.swapaxes(0, 1) if time_major else grad
    return loss, grad if y_pred.ndim == 3 else grad.reshape(y_pred.shape)

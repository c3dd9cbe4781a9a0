"""Optimizer updates over flat vectors, and the embedding table's look-up and scatter.

Every update is one pass over the vectors: parameters ``p``, gradients ``g`` and the optimizer's state are read and written
once. Scalars are Python floats and are cast to the vectors' dtype, so that float32 stays float32.

The ``*_rows`` kernels update only the given rows of a table. They are exact if the other rows would not change; the changes
of the other rows' state (RMSprop's decay) are applied when those rows are updated next.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastrnn.engine.runtime.jit import inlined, jit

__all__ = [
    "AdamTable",
    "RMSpropTable",
    "adagrad",
    "adagrad_rows",
    "adam",
    "adam_rows",
    "all_finite",
    "amsgrad",
    "clip",
    "gather",
    "is_finite",
    "mark_rows",
    "rmsprop",
    "rmsprop_rows",
    "scale",
    "scatter_add",
    "sgd",
    "sgd_momentum",
    "sgd_momentum_rows",
    "sgd_rows",
    "square_sum",
    "zero_rows",
]


@jit
def sgd(p, g, rate):
    """``p -= rate * g``."""
    rate = p.dtype.type(rate)
    for i in range(p.size):
        p[i] -= rate * g[i]


@jit
def sgd_momentum(p, g, m, rate, momentum, nesterov):
    """``m = momentum * m - rate * g``; the step is ``m``, or with Nesterov ``momentum * m - rate * g``."""
    rate = p.dtype.type(rate)
    momentum = p.dtype.type(momentum)
    if nesterov:
        for i in range(p.size):
            step = rate * g[i]
            m[i] = momentum * m[i] - step
            p[i] += momentum * m[i] - step
    else:
        for i in range(p.size):
            m[i] = momentum * m[i] - rate * g[i]
            p[i] += m[i]


@jit
def rmsprop(p, g, v, mean, m, rate, rho, momentum, epsilon):
    """RMSprop; centered if ``mean`` is not empty, with momentum if ``m`` is not empty."""
    one = p.dtype.type(1)
    rate = p.dtype.type(rate)
    new = p.dtype.type(1.0 - rho)
    rho = p.dtype.type(rho)
    momentum = p.dtype.type(momentum)
    epsilon = p.dtype.type(epsilon)
    if mean.size == 0 and m.size == 0:
        for i in range(p.size):
            v[i] = rho * v[i] + new * (g[i] * g[i])
            p[i] -= rate * g[i] * (one / np.sqrt(v[i] + epsilon))
        return
    for i in range(p.size):
        v[i] = rho * v[i] + new * (g[i] * g[i])
        spread = v[i] + epsilon
        if mean.size != 0:
            mean[i] = rho * mean[i] + new * g[i]
            spread -= mean[i] * mean[i]
        step = rate * g[i] / np.sqrt(spread)
        if m.size != 0:
            m[i] = momentum * m[i] + step
            step = m[i]
        p[i] -= step


@inlined
def _moments(g, m, v, i, new_1, new_2):
    """Update the running means of the gradient and of its square; `new_1` and `new_2` are the factors of new values."""
    m[i] += (g[i] - m[i]) * new_1
    v[i] += (g[i] * g[i] - v[i]) * new_2


@jit
def adam(p, g, m, v, rate, beta_1, beta_2, epsilon):
    """Adam with the bias correction already in ``rate``."""
    rate = p.dtype.type(rate)
    new_1 = p.dtype.type(1.0 - beta_1)
    new_2 = p.dtype.type(1.0 - beta_2)
    epsilon = p.dtype.type(epsilon)
    for i in range(p.size):
        _moments(g, m, v, i, new_1, new_2)
        p[i] -= m[i] * rate / (np.sqrt(v[i]) + epsilon)


@jit
def amsgrad(p, g, m, v, v_max, rate, beta_1, beta_2, epsilon):
    """:func:`adam` with the largest ``v`` so far."""
    rate = p.dtype.type(rate)
    new_1 = p.dtype.type(1.0 - beta_1)
    new_2 = p.dtype.type(1.0 - beta_2)
    epsilon = p.dtype.type(epsilon)
    for i in range(p.size):
        _moments(g, m, v, i, new_1, new_2)
        v_max[i] = max(v_max[i], v[i])
        p[i] -= m[i] * rate / (np.sqrt(v_max[i]) + epsilon)


@jit
def adagrad(p, g, total, rate, epsilon):
    """``total += g**2; p -= rate * g / sqrt(total + epsilon)``."""
    rate = p.dtype.type(rate)
    epsilon = p.dtype.type(epsilon)
    for i in range(p.size):
        total[i] += g[i] * g[i]
        p[i] -= rate * g[i] / np.sqrt(total[i] + epsilon)


@jit
def sgd_rows(p, g, rows, rate):
    """:func:`sgd` on some rows of a table."""
    rate = p.dtype.type(rate)
    for r in rows:
        to, change = p[r], g[r]
        for i in range(to.size):
            to[i] -= rate * change[i]


@jit
def adagrad_rows(p, g, total, rows, rate, epsilon):
    """:func:`adagrad` on some rows of a table."""
    rate = p.dtype.type(rate)
    epsilon = p.dtype.type(epsilon)
    for r in rows:
        to, change, sums = p[r], g[r], total[r]
        for i in range(to.size):
            sums[i] += change[i] * change[i]
            to[i] -= rate * change[i] / np.sqrt(sums[i] + epsilon)


@jit
def sgd_momentum_rows(p, g, m, rows, rate, momentum, nesterov):
    """:func:`sgd_momentum` on some rows of a table."""
    rate = p.dtype.type(rate)
    momentum = p.dtype.type(momentum)
    for r in rows:
        to, change, means = p[r], g[r], m[r]
        for i in range(to.size):
            step = rate * change[i]
            means[i] = momentum * means[i] - step
            to[i] += momentum * means[i] - step if nesterov else means[i]


class AdamTable(NamedTuple):
    """Adam's state for a table; ``v_max`` is empty without AMSGrad."""

    m: np.ndarray
    v: np.ndarray
    v_max: np.ndarray


@jit
def adam_rows(p, g, state, rows, rate, beta_1, beta_2, epsilon):
    """:func:`adam` or :func:`amsgrad` on some rows of a table; `state` is an `AdamTable`."""
    rate = p.dtype.type(rate)
    new_1 = p.dtype.type(1.0 - beta_1)
    new_2 = p.dtype.type(1.0 - beta_2)
    epsilon = p.dtype.type(epsilon)
    for r in rows:
        to, change, m, v = p[r], g[r], state.m[r], state.v[r]
        if state.v_max.size == 0:
            for i in range(to.size):
                _moments(change, m, v, i, new_1, new_2)
                to[i] -= m[i] * rate / (np.sqrt(v[i]) + epsilon)
        else:
            v_max = state.v_max[r]
            for i in range(to.size):
                _moments(change, m, v, i, new_1, new_2)
                v_max[i] = max(v_max[i], v[i])
                to[i] -= m[i] * rate / (np.sqrt(v_max[i]) + epsilon)


class RMSpropTable(NamedTuple):
    """RMSprop's state for a table: running means, and for each row the step of its last decay.

    ``mean`` is empty unless RMSprop is centered, ``m`` without momentum. ``last`` is empty where all means are decayed up
    to the step before.
    """

    v: np.ndarray
    mean: np.ndarray
    m: np.ndarray
    last: np.ndarray


@jit
def rmsprop_rows(p, g, state, rows, step, rate, rho, momentum, epsilon):
    """:func:`rmsprop` on some rows of a table, at step number ``step``; `state` is an `RMSpropTable`."""
    v, mean, m, last = state
    rate = p.dtype.type(rate)
    new = p.dtype.type(1.0 - rho)
    decay = p.dtype.type(rho)
    momentum = p.dtype.type(momentum)
    epsilon = p.dtype.type(epsilon)
    for r in rows:
        to, change, squares = p[r], g[r], v[r]
        if last.size != 0:
            decay = p.dtype.type(rho ** float(step - last[r]))
            last[r] = step
        if mean.size == 0 and m.size == 0:
            for i in range(to.size):
                squares[i] = decay * squares[i] + new * (change[i] * change[i])
                to[i] -= rate * change[i] / np.sqrt(squares[i] + epsilon)
            continue
        for i in range(to.size):
            squares[i] = decay * squares[i] + new * (change[i] * change[i])
            spread = squares[i] + epsilon
            if mean.size != 0:
                mean[r, i] = decay * mean[r, i] + new * change[i]
                spread -= mean[r, i] * mean[r, i]
            move = rate * change[i] / np.sqrt(spread)
            if m.size != 0:
                m[r, i] = momentum * m[r, i] + move
                move = m[r, i]
            to[i] -= move


@jit
def square_sum(g):
    """Sum of squares of a vector."""
    total = g.dtype.type(0)
    for i in range(g.size):
        total += g[i] * g[i]
    return float(total)


def all_finite(g: np.ndarray) -> bool:
    """Whether no element is NaN or infinite."""
    # The sum of squares is compiled anyway. It may be infinite though all elements are finite.
    return math.isfinite(square_sum(g)) or bool(np.isfinite(g).all())


@inlined
def is_finite(g):
    """For kernels: `all_finite`. The product of zero with NaN or infinity is not zero."""
    zero = g.dtype.type(0)
    total = zero
    for i in range(g.size):
        total += g[i] * zero
    return total == zero


@jit
def scale(g, factor):
    """``g *= factor``."""
    factor = g.dtype.type(factor)
    for i in range(g.size):
        g[i] *= factor


@jit
def clip(g, limit):
    """Limit every element of ``g`` to ``-limit .. limit``; NaN stays."""
    limit = g.dtype.type(limit)
    for i in range(g.size):
        value = g[i]
        value = limit if value > limit else value
        g[i] = -limit if value < -limit else value


@jit
def gather(table, tokens, out):
    """Copy row ``tokens[i]`` of ``table`` to ``out[i]``; return the first position out of range, or -1."""
    n = table.shape[0]
    for i in range(tokens.size):
        token = tokens[i]
        if token < 0 or token >= n:
            return i
        source, to = table[token], out[i]
        for j in range(to.size):
            to[j] = source[j]
    return -1


@jit(allocates=True)
def mark_rows(tokens, marks):
    """Sorted distinct tokens as int64. ``marks`` has one zero byte for each row, and is zero again afterwards."""
    count = 0
    low, high = marks.size, -1
    for i in range(tokens.size):
        token = tokens[i]
        count += 1 - marks[token]
        marks[token] = 1
        low, high = min(low, token), max(high, token)
    rows = np.empty(count, np.int64)
    at = 0
    for token in range(low, high + 1):
        if marks[token]:
            rows[at] = token
            at += 1
            marks[token] = 0
    return rows


@jit
def scatter_add(dy, tokens, grad):
    """Add ``dy[i]`` to row ``tokens[i]`` of ``grad``."""
    for i in range(tokens.size):
        source, to = dy[i], grad[tokens[i]]
        for j in range(to.size):
            to[j] += source[j]


@jit
def zero_rows(grad, rows):
    """Set some rows to zero."""
    for r in rows:
        grad[r] = 0

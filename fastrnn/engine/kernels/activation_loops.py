"""Loops of activations over rows: one for each activation and type, made of one function of a number.

A loop's code is a constant, so each is compiled by itself (see `vecmath`). On the stock path, which has no table of
addresses, there is one loop for all codes as well, which asks for the code at each number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from fastrnn.engine.kernels.activations import SLOPES, VALUES
from fastrnn.engine.kernels.elementary import exp, log
from fastrnn.engine.numba_private.services import STOCK
from fastrnn.engine.runtime.jit import body_of, inlined
from fastrnn.engine.runtime.views import copy

__all__ = ["BACKWARD", "FORWARD", "SLOPE", "loop"]

# What such a function does with its rows x, y, dy, dx:
FORWARD = 0  # y = f(x)
SLOPE = 1  # y = f(x), dx = f'(x)
BACKWARD = 2  # dx = dy * f'(x), or the Jacobian's product


def _value(code, x):
    return VALUES[code](x)


def _slope(code, x, y):
    return SLOPES[code](x, y)


# Arrays may be one and the same (y is x, dx is dy). Two views of one memory don't vectorise, so the second is filled
# first where it isn't the first, and then worked on in place through one view.


def _elementwise(code, mode, same, width, x, y, dy, dx):
    if mode == 2:
        if not same:
            copy(dy, dx)
        for i in range(dx.shape[0]):
            dx[i] *= _slope(code, x[i], y[i])
        return
    if not same:
        copy(x, y)
    if mode == 0:
        for i in range(y.shape[0]):
            y[i] = _value(code, y[i])
    else:
        for i in range(y.shape[0]):
            before = y[i]
            after = _value(code, before)
            y[i] = after
            dx[i] = _slope(code, before, after)


@inlined(fastmath={"contract"})
def _largest(x, start, width):
    m = x[start]
    for i in range(start, start + width):
        m = x[i] if x[i] > m else m
    return m


def _softmax(code, mode, same, width, x, y, dy, dx):
    if mode == 0 and not same:
        copy(x, y)
    if mode == 2 and not same:
        copy(dy, dx)
    for start in range(0, x.shape[0], width):
        total = y[start] * 0
        if mode == 0:
            m = _largest(x, start, width)
            row = y[start : start + width]
            for i in range(width):
                row[i] = exp(row[i] - m)
            total = row[0] * 0
            for i in range(width):
                total += row[i]
            for i in range(width):
                row[i] /= total
        else:
            row, d = y[start : start + width], dx[start : start + width]
            for i in range(width):
                total += d[i] * row[i]
            for i in range(width):
                d[i] = (d[i] - total) * row[i]


def _log_softmax(code, mode, same, width, x, y, dy, dx):
    if mode == 0 and not same:
        copy(x, y)
    if mode == 2 and not same:
        copy(dy, dx)
    for start in range(0, x.shape[0], width):
        total = y[start] * 0
        row, d = y[start : start + width], dx[start : start + width]
        if mode == 0:
            m = _largest(x, start, width)
            total = row[0] * 0
            for i in range(width):
                total += exp(row[i] - m)
            shift = m + log(total)
            for i in range(width):
                row[i] -= shift
        else:
            for i in range(width):
                total += d[i]
            for i in range(width):
                d[i] -= exp(row[i]) * total


def _sparsemax(code, mode, same, width, x, y, dy, dx):
    if mode == 0 and not same:
        copy(x, y)
    if mode == 2 and not same:
        copy(dy, dx)
    for start in range(0, x.shape[0], width):
        row, d = y[start : start + width], dx[start : start + width]
        if mode == 0:
            # The threshold rises as elements below it fall out, until none does.
            tau, count = -np.inf, -1
            while True:
                total, n = 0.0, 0
                for i in range(width):
                    if not row[i] <= tau:
                        total += row[i]
                        n += 1
                if n == count or n == 0:
                    break
                count = n
                tau = (total - 1.0) / n
            for i in range(width):
                v = row[i] - tau
                row[i] = 0.0 if v < 0.0 else v
        else:
            total, n = 0.0, 0
            for i in range(width):
                if row[i] > 0:
                    total += d[i]
                    n += 1
            mean = total / max(n, 1)
            for i in range(width):
                d[i] = d[i] - mean if row[i] > 0 else 0.0


_SOFTMAX, _LOG_SOFTMAX, _SPARSEMAX = range(len(VALUES), len(VALUES) + 3)
_LOOPS = [_elementwise] * len(VALUES) + [_softmax, _log_softmax, _sparsemax]


def loop(code, mode, same, width, x, y, dy, dx):
    """What `mode` says, for rows x, y, dy, dx; `width` numbers belong together, and `same` says which are one row."""
    _LOOPS[code](code, mode, same, width, x, y, dy, dx)


def _chain(functions: list[Callable], arguments: str) -> Callable:
    """A function that calls the one whose number is its first argument."""
    names = arguments.partition(", ")[2]
    lines = [f"def chain({arguments}):"]
    for k in range(len(functions)):
        lines += [f"    if code == {k}:", f"        return f{k}({names})"]
    lines.append(f"    return {names.partition(', ')[0]}")
    scope: dict[str, Any] = {f"f{k}": function for k, function in enumerate(functions)}
    exec("\n".join(lines), scope)
    return scope["chain"]


def _loop_by_code(code, mode, same, width, x, y, dy, dx):
    if code == _SOFTMAX:
        _softmax(code, mode, same, width, x, y, dy, dx)
    elif code == _LOG_SOFTMAX:
        _log_softmax(code, mode, same, width, x, y, dy, dx)
    elif code == _SPARSEMAX:
        _sparsemax(code, mode, same, width, x, y, dy, dx)
    else:
        _elementwise(code, mode, same, width, x, y, dy, dx)


if STOCK:
    # A code that is no constant is looked up for each number: there is no table of functions.
    for _function in (_elementwise, _softmax, _log_softmax, _sparsemax):
        inlined(_function)
    _any: dict[Callable, Callable] = {
        _value: _chain(VALUES, "code, x"),
        _slope: _chain(SLOPES, "code, x, y"),
        loop: _loop_by_code,
    }
else:
    _any = {}


@body_of(_value, literal=True, fastmath={"contract"})
def _pick_value(code, x):
    if isinstance(code, types.IntegerLiteral):
        body = VALUES[code.literal_value]
        return lambda code, x: body(x)
    return _any.get(_value)


@body_of(_slope, literal=True, fastmath={"contract"})
def _pick_slope(code, x, y):
    if isinstance(code, types.IntegerLiteral):
        body = SLOPES[code.literal_value]
        return lambda code, x, y: body(x, y)
    return _any.get(_slope)


@body_of(loop, literal=True)
def _pick_loop(code, mode, same, width, x, y, dy, dx):
    return _LOOPS[code.literal_value] if isinstance(code, types.IntegerLiteral) else _any.get(loop)

"""Keras's activations for rows in kernels, and for whole arrays in Python.

An activation is an integer code, so that it can be a field of a cell's NamedTuple. The loops of all activations are not
compiled into every kernel; kernels call them through a shared table of addresses. An entry of the table is compiled (or read
from the disk cache) before the first call that needs it: :func:`prepare_activations` does this for a cell. Kernels with
tanh and sigmoid compute them in their own loops and do not use the table.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine import tuning
from fastrnn.engine.kernels.activation_loops import BACKWARD, FORWARD, SLOPE, loop
from fastrnn.engine.kernels.activations import (
    ACTIVATIONS,
    GELU_APPROXIMATE,
    LINEAR,
    ROWWISE,
    SIGMOID,
    TANH,
    name_of,
    resolve,
)
from fastrnn.engine.kernels.elementary import erf, exp, expm1, log, log1p, normal_cdf, sigmoid, tanh
from fastrnn.engine.numba_private import services
from fastrnn.engine.numba_private.services import PLAIN, STOCK, add_symbol, array_field, array_value, cgutils
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import fail

__all__ = [
    "ACTIVATIONS",
    "GELU_APPROXIMATE",
    "LINEAR",
    "ROWWISE",
    "SIGMOID",
    "TANH",
    "activate",
    "activate_backward",
    "activate_backward_row",
    "activate_grad_row",
    "activate_row",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "name_of",
    "normal_cdf",
    "prepare",
    "prepare_activations",
    "resolve",
    "sigmoid",
    "tanh",
]

_intrinsic: Any = intrinsic

_INT = ir.IntType(64)
_N_ARGUMENTS = 9
_POINTERS = types.UniTuple(types.int64, 4)


@_intrinsic(prefer_literal=True)
def _row_at(typingctx, bits, address, n):
    """A view of `n` numbers of `bits` bits at an address."""
    if not isinstance(bits, types.IntegerLiteral):
        return None
    dtype = types.float32 if bits.literal_value == 32 else types.float64
    result = types.Array(dtype, 1, "C")

    def codegen(context, builder, signature, args):
        size = cgutils.intp_t(bits.literal_value // 8)
        count = builder.trunc(args[2], cgutils.intp_t) if cgutils.intp_t.width < 64 else args[2]
        data = builder.inttoptr(args[1], context.get_value_type(dtype).as_pointer())
        return array_value(context, builder, result, data, [count], [size], size)

    return result(bits, types.int64, types.int64), codegen


@jit
def _entry(code, bits, mode, n, width, x, y, dy, dx):
    same = dy == dx if mode == BACKWARD else x == y
    loop(
        code,
        mode,
        same,
        width,
        _row_at(bits, x, n),
        _row_at(bits, y, n),
        _row_at(bits, dy, n),
        _row_at(bits, dx, n),
    )


_SYMBOL = "fastrnn_activations"
_table = np.zeros(2 * 64, dtype=np.int64)

_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * (_N_ARGUMENTS + 2))
# Memory for the result and the exception of compiled functions; these have neither.
_nowhere = (ctypes.c_int64 * 4)()
_NOWHERE = ctypes.addressof(_nowhere)


@functools.cache
def _compiled(code: int, bits: int) -> Callable:
    """Compile one activation for one type, put its address into the table, and return it as a C function."""
    signature = (types.literal(code), types.literal(bits), *[types.int64] * (_N_ARGUMENTS - 2))
    address = services.dispatcher.address_of_code(_entry, signature)
    _table[code + (64 if bits == 64 else 0)] = address
    return _SIGNATURE(address)


if not PLAIN:
    add_symbol(_SYMBOL, _table.ctypes.data)


@functools.cache
def _whole_arrays(code: int) -> Callable:
    """A loop as Python calls it, where there are no calls by address."""

    def run(mode, same, width, x, y, dy, dx):
        loop(code, mode, same, width, x, y, dy, dx)

    return jit(run)


def prepare(activation: Any, dtype: Any = np.float32) -> int:
    """Compile an activation, so that kernels can call it, and return its code."""
    code = resolve(activation)
    if not PLAIN:
        _compiled(code, 8 * np.dtype(dtype).itemsize)
    return code


# typed, because NamedTuples of different classes are equal if their numbers are
@functools.lru_cache(maxsize=tuning.MAX_PLANS, typed=True)
def prepare_activations(cell: Any, dtype: Any) -> None:
    """Compile the activations of a cell, whose codes are its `activation_fields`.

    For a cell without this attribute, they are the fields whose names end in ``activation``.
    """
    named = [name for name in cell._fields if name.endswith("activation")]
    for name in getattr(cell, "activation_fields", named):
        prepare(getattr(cell, name), dtype)


def _run(
    code: int, mode: int, width: int, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray
) -> None:
    if x.size == 0:
        return
    if PLAIN:
        same = (dy is dx) if mode == BACKWARD else (x is y)
        with np.errstate(all="ignore"):
            _whole_arrays(code)(
                mode, same, width, x.reshape(-1), y.reshape(-1), dy.reshape(-1), dx.reshape(-1)
            )
        return
    bits = 8 * x.itemsize
    ax = x.ctypes.data
    ay = ax if y is x else y.ctypes.data
    ady = ay if dy is y else dy.ctypes.data
    adx = ady if dx is dy else dx.ctypes.data
    _compiled(code, bits)(_NOWHERE, _NOWHERE + 16, code, bits, mode, x.size, width, ax, ay, ady, adx)


# ----------------------------------------------------------------------------------------------------------------
# Functions for calls from Python, on arrays of any shape
# ----------------------------------------------------------------------------------------------------------------


def activate(activation: Any, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the activation of each element of `x`, or of each row along its last axis for softmax and similar ones.

    Parameters
    ----------
    activation : str or int
        A Keras name or a code.
    x : ndarray of float32 or float64
        Any shape.
    out : ndarray, optional
        C-contiguous, of the shape and type of `x`; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.
    """
    code = resolve(activation)
    x = _checked("x", x)
    if out is None:
        out = np.empty_like(x)
    else:
        _check_like("out", out, x)
    _run(code, FORWARD, x.shape[-1] if x.ndim else 1, x, out, out, out)
    return out


def activate_backward(activation: Any, x: np.ndarray, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Return the gradient of `x`, given the activation `y` of `x` and the gradient `dy` of `y`.

    Parameters
    ----------
    activation : str or int
        A Keras name or a code.
    x, y, dy : ndarray of float32 or float64
        Arrays of the same shape and type.

    Returns
    -------
    ndarray
        A new array.
    """
    code = resolve(activation)
    x, y, dy = _checked("x", x), _checked("y", y), _checked("dy", dy)
    for name, array in (("y", y), ("dy", dy)):
        if array.shape != x.shape or array.dtype != x.dtype:
            raise ValueError(
                f"{name} has shape {array.shape} and type {array.dtype}, x has {x.shape} and {x.dtype}: "
                "they must agree"
            )
    dx = np.empty_like(x)
    _run(code, BACKWARD, x.shape[-1] if x.ndim else 1, x, y, dy, dx)
    return dx


def _checked(name: str, x: Any) -> np.ndarray:
    if not isinstance(x, np.ndarray) or x.dtype.char not in "fd":
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(
            f"{name} must be an array of float32 or float64, got {kind}: convert it with np.asarray"
        )
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _check_like(name: str, out: Any, x: np.ndarray) -> None:
    if (
        not isinstance(out, np.ndarray)
        or out.shape != x.shape
        or out.dtype != x.dtype
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        raise ValueError(f"{name} must be a writeable C-contiguous {x.dtype} array of shape {x.shape}")


# ----------------------------------------------------------------------------------------------------------------
# Functions for kernels, on rows
# ----------------------------------------------------------------------------------------------------------------


def activate_row(code: int, x: np.ndarray) -> None:
    """Activate the contiguous row `x` in place."""
    _run(code, FORWARD, x.shape[0], x, x, x, x)


def activate_grad_row(code: int, x: np.ndarray, y: np.ndarray, dy: np.ndarray) -> None:
    """From pre-activations `x`, write activations `y` (may be `x`) and derivatives `dy`; not for ROWWISE codes."""
    _run(code, SLOPE, x.shape[0], x, y, dy, dy)


def activate_backward_row(code: int, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """From pre-activations `x`, activations `y` and their gradients `dy`, write gradients `dx` (may be `dy`)."""
    _run(code, BACKWARD, x.shape[0], x, y, dy, dx)


@_intrinsic
def _call_by_table(typingctx, code, mode, x, y, dy, dx):
    """Call the table's function for `code` and the type of `x`."""

    def codegen(context, builder, signature, args):
        wide = _INT
        bits = signature.args[2].dtype.bitwidth
        n = builder.extract_value(array_field(context, builder, x, args[2], "shape"), 0)
        n = builder.sext(n, wide) if n.type.width < 64 else n
        addresses = [
            builder.ptrtoint(array_field(context, builder, kind, array, "data"), wide)
            for kind, array in zip(signature.args[2:], args[2:], strict=True)
        ]
        module = builder.module
        table_type = ir.ArrayType(wide, _table.size)
        table = module.globals.get(_SYMBOL) or ir.GlobalVariable(module, table_type, _SYMBOL)
        index = builder.add(args[0], wide(64 if bits == 64 else 0))
        entry = builder.load(builder.gep(table, [wide(0), index]))
        kinds = (types.int64,) * _N_ARGUMENTS
        function_type = context.call_conv.get_function_type(types.none, kinds)
        function = builder.inttoptr(entry, function_type.as_pointer())
        values = [args[0], wide(bits), args[1], n, n, *addresses]
        # call_conv does not find the function type of a pointer, so the call is emitted here.
        result = cgutils.alloca_once(builder, function_type.args[0].pointee)
        exception = cgutils.alloca_once(builder, function_type.args[1].pointee)
        with builder.if_else(cgutils.is_not_null(builder, function), likely=True) as (full, empty):
            with full:
                builder.call(function, [result, exception, *values])
            with empty:
                fail(context, builder, "an activation (see fastrnn.engine.kernels.vecmath.prepare)")
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, x, y, dy, dx), codegen


@inlined
def _call_plainly(code, mode, x, y, dy, dx):
    """The same without a table. Rows that begin at one place are the same."""
    same = dy.ctypes.data == dx.ctypes.data if mode == BACKWARD else x.ctypes.data == y.ctypes.data
    loop(code, mode, same, x.shape[0], x, y, dy, dx)


_call: Any = _call_plainly if PLAIN else _call_by_table


def _check_row(*arrays: Any) -> bool:
    """Return whether all are contiguous rows of one float type."""
    first = arrays[0]
    return all(
        isinstance(a, types.Array) and a.ndim == 1 and (STOCK or a.layout == "C") and a.dtype == first.dtype
        for a in arrays
    ) and first.dtype in (types.float32, types.float64)


@body_of(activate_row)
def _activate_row(code, x):
    return (lambda code, x: _call(code, FORWARD, x, x, x, x)) if _check_row(x) else None


@body_of(activate_grad_row)
def _activate_grad_row(code, x, y, dy):
    return (lambda code, x, y, dy: _call(code, SLOPE, x, y, dy, dy)) if _check_row(x, y, dy) else None


@body_of(activate_backward_row)
def _activate_backward_row(code, x, y, dy, dx):
    body = lambda code, x, y, dy, dx: _call(code, BACKWARD, x, y, dy, dx)  # noqa: E731
    return body if _check_row(x, y, dy, dx) else None

"""Views of arrays in kernels: as slicing, but without reference counts and with less code to compile.

A view must not be used longer than its array; kernels make views of rows or blocks. Indices are not checked.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided

from fastrnn.engine.numba_private.services import PLAIN, array_field, array_value, cgutils
from fastrnn.engine.runtime.jit import body_of, inlined

__all__ = [
    "add",
    "block",
    "clear_row",
    "copy",
    "copy_bytes",
    "cube",
    "data_address",
    "fill",
    "matrix",
    "part",
    "plane",
    "plane_rows",
    "planes",
    "segment",
    "slab",
    "slab_columns",
    "smaller",
    "spaced",
    "stretch",
]


@inlined
def smaller(a, b):
    """The smaller of two integers; Numba's own `min` takes longer to compile at each use."""
    return a if a < b else b


@intrinsic
def data_address(typingctx, array):
    """Address of the first element of an array."""

    def codegen(context, builder, signature, args):
        data = array_field(context, builder, array, args[0], "data")
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), codegen


def _at(builder: Any, data: Any, offsets: list[tuple[Any, Any]]) -> Any:
    """The data pointer plus the sum of the indices times the byte strides."""
    total = None
    for index, stride in offsets:
        offset = builder.mul(index, stride)
        total = offset if total is None else builder.add(total, offset)
    return builder.bitcast(cgutils.pointer_add(builder, data, total), data.type)


def _view(n_arguments: int, n_dims: int, layout: str, build: Any) -> Any:
    """Make the codegen of one kind of view: `build(strides, arguments, builder) -> offsets, shape, strides`."""

    def typed(array: Any, *arguments: Any) -> Any:
        result = types.Array(array.dtype, n_dims, layout)
        signature = result(array, *([types.intp] * n_arguments))

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = array_field(context, builder, array, args[0], "data")
            strides = cgutils.unpack_tuple(builder, array_field(context, builder, array, args[0], "strides"))
            size = context.get_constant(
                types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype))
            )
            offsets, shape, steps = build(builder, strides, size, args[1:])
            return array_value(context, builder, result, _at(builder, data, offsets), shape, steps, size)

        return signature, codegen

    return typed


def _segment(builder, strides, size, args):
    start, n = args
    return [(start, size)], [n], [size]


def _part(builder, strides, size, args):
    i, j, n = args
    return [(i, strides[0]), (j, size)], [n], [size]


def _stretch(builder, strides, size, args):
    i, n = args
    return [(i, strides[0])], [n], [size]


def _plane(builder, strides, size, args):
    k, i, n = args
    return [(k, strides[0]), (i, strides[1])], [n], [size]


def _plane_rows(builder, strides, size, args):
    k, i, n, width = args
    return [(k, strides[0]), (i, strides[1])], [builder.mul(n, width)], [size]


def _matrix(builder, strides, size, args):
    start, n, width = args
    return [(start, size)], [n, width], [builder.mul(width, size), size]


def _cube(builder, strides, size, args):
    start, k, n, width = args
    step = builder.mul(width, size)
    return [(start, size)], [k, n, width], [builder.mul(n, step), step, size]


def _block(builder, strides, size, args):
    i, n, j, width = args
    return [(i, strides[0]), (j, strides[1])], [n, width], [strides[0], strides[1]]


def _planes(builder, strides, size, args):
    k, i, n, width = args
    return [(k, strides[0]), (i, strides[1])], [n, width], [strides[1], size]


def _slab(builder, strides, size, args):
    k, i, n, width = args
    return [(i, strides[1])], [k, n, width], strides


def _slab_columns(builder, strides, size, args):
    k, i, n, j, width = args
    return [(i, strides[1]), (j, size)], [k, n, width], strides


def _spaced(builder, strides, size, args):
    i, step, n, width = args
    return [(i, strides[0])], [n, width], [builder.mul(step, strides[0]), strides[1]]


if PLAIN:

    @inlined
    def spaced(a, i, step, n, width):
        """``a[i : i + n * step : step, :width]``."""
        return as_strided(a[i:], (n, width), (step * a.strides[0], a.strides[1]))

    @inlined
    def slab(a, k, i, n, width):
        """``a[:k, i : i + n, :width]``."""
        return a[:k, i : i + n, :width]

    @inlined
    def slab_columns(a, k, i, n, j, width):
        """``a[:k, i : i + n, j : j + width]``."""
        return a[:k, i : i + n, j : j + width]

    @inlined
    def segment(a, start, n):
        """``a[start : start + n]`` of a 1-D array."""
        return a[start : start + n]

    @inlined
    def part(a, i, j, n):
        """``a[i, j : j + n]``."""
        return a[i, j : j + n]

    @inlined
    def stretch(a, i, n):
        """The ``n`` elements from row i on of a matrix without gaps."""
        return a.reshape(-1)[i * a.shape[1] : i * a.shape[1] + n]

    @inlined
    def plane(a, k, i, n):
        """``a[k, i, :n]``."""
        return a[k, i, :n]

    @inlined
    def plane_rows(a, k, i, n, width):
        """The elements of the rows ``a[k, i : i + n]`` of an array without gaps, whose rows have ``width`` elements."""
        return a[k, i : i + n].reshape(-1)

    @inlined
    def matrix(a, start, n, width):
        """The 1-D array from ``start`` as an ``(n, width)`` matrix."""
        return a[start : start + n * width].reshape(n, width)

    @inlined
    def cube(a, start, k, n, width):
        """The 1-D array from ``start`` as a ``(k, n, width)`` array."""
        return a[start : start + k * n * width].reshape(k, n, width)

    @inlined
    def block(a, i, n, j, width):
        """``a[i : i + n, j : j + width]``."""
        return a[i : i + n, j : j + width]

    @inlined
    def planes(a, k, i, n, width):
        """``a[k, i : i + n, :width]``."""
        return a[k, i : i + n, :width]

else:

    @intrinsic
    def spaced(typingctx, a, i, step, n, width):
        """``a[i : i + n * step : step, :width]``."""
        return _view(4, 2, "A", _spaced)(a, i, step, n, width)

    @intrinsic
    def slab(typingctx, a, k, i, n, width):
        """``a[:k, i : i + n, :width]``."""
        return _view(4, 3, "A", _slab)(a, k, i, n, width)

    @intrinsic
    def slab_columns(typingctx, a, k, i, n, j, width):
        """``a[:k, i : i + n, j : j + width]``."""
        return _view(5, 3, "A", _slab_columns)(a, k, i, n, j, width)

    @intrinsic
    def segment(typingctx, a, start, n):
        """``a[start : start + n]`` of a 1-D array."""
        return _view(2, 1, "C", _segment)(a, start, n)

    @intrinsic
    def part(typingctx, a, i, j, n):
        """``a[i, j : j + n]``."""
        return _view(3, 1, "C", _part)(a, i, j, n)

    @intrinsic
    def stretch(typingctx, a, i, n):
        """The ``n`` elements from row i on of a matrix without gaps."""
        return _view(2, 1, "C", _stretch)(a, i, n)

    @intrinsic
    def plane(typingctx, a, k, i, n):
        """``a[k, i, :n]``."""
        return _view(3, 1, "C", _plane)(a, k, i, n)

    @intrinsic
    def plane_rows(typingctx, a, k, i, n, width):
        """The elements of the rows ``a[k, i : i + n]`` of an array without gaps, whose rows have ``width`` elements."""
        return _view(4, 1, "C", _plane_rows)(a, k, i, n, width)

    @intrinsic
    def matrix(typingctx, a, start, n, width):
        """The 1-D array from ``start`` as an ``(n, width)`` matrix."""
        return _view(3, 2, "C", _matrix)(a, start, n, width)

    @intrinsic
    def cube(typingctx, a, start, k, n, width):
        """The 1-D array from ``start`` as a ``(k, n, width)`` array."""
        return _view(4, 3, "C", _cube)(a, start, k, n, width)

    @intrinsic
    def block(typingctx, a, i, n, j, width):
        """``a[i : i + n, j : j + width]``."""
        return _view(4, 2, "A", _block)(a, i, n, j, width)

    @intrinsic
    def planes(typingctx, a, k, i, n, width):
        """``a[k, i : i + n, :width]``."""
        return _view(4, 2, "A", _planes)(a, k, i, n, width)


def copy(source, target):
    """``target[:] = source`` of two 1-D arrays of the same length, which are the same or do not overlap.

    Assigning to a slice would compile its error message, and code for strings, into every kernel.
    """
    for j in range(target.shape[0]):
        target[j] = source[j]


@intrinsic
def copy_bytes(typingctx, source, target, n):
    """Copy `n` bytes from an address to another one."""

    def codegen(context, builder, signature, args):
        source, target = (builder.inttoptr(a, cgutils.voidptr_t) for a in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


def _copy_memory(source, target):
    copy_bytes(data_address(source), data_address(target), target.shape[0] * target.itemsize)


@body_of(copy)
def _copy(source, target):
    whole = source.dtype == target.dtype and source.layout == target.layout == "C"
    # A loop would be made into vectors in each kernel again.
    return copy if PLAIN or not whole else _copy_memory


@inlined
def add(source, target):
    """``target += source`` of two 1-D arrays of the same length."""
    for j in range(target.shape[0]):
        target[j] += source[j]


def clear_row(target):
    """``target[:] = 0`` of a 1-D array of numbers."""
    for j in range(target.shape[0]):
        target[j] = 0


@intrinsic
def _clear_memory(typingctx, target):
    """Set the memory of an array without gaps to zero."""

    def codegen(context, builder, signature, args):
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(target.dtype)))
        shape = array_field(context, builder, target, args[0], "shape")
        data = array_field(context, builder, target, args[0], "data")
        cgutils.memset(builder, data, builder.mul(builder.extract_value(shape, 0), size), 0)
        return context.get_dummy_value()

    return types.void(target), codegen


@body_of(clear_row)
def _clear_row(target):
    return clear_row if PLAIN or target.layout != "C" else lambda target: _clear_memory(target)


@inlined
def fill(target, value):
    """``target[:] = value`` of a 1-D array."""
    for j in range(target.shape[0]):
        target[j] = value

"""Matrix products by the micro-kernel.

The micro-kernel (`micro_kernel`) computes all products of the library: ``C (+)= A @ B``, where ``A`` has any strides (its
elements are broadcast), and the rows of ``B`` and ``C`` are contiguous (they are loaded and stored as vectors).

Weights are *packed*: cut into panels of ``VECTORS * lanes`` columns, whose rows are stored without gaps and zero-padded to
whole vectors, so that the kernel reads memory sequentially. ``product_tn``, for weight gradients, packs one panel at a time,
because its right operand is used once.

The order of additions depends only on the shape, so results are the same on every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.engine.kernels.micro_kernel import (
    NARROW_ROWS,
    ROWS,
    VECTOR_BITS,
    VECTORS,
    WIDE_PANELS,
    WIDE_ROWS,
    Strided,
    copy_panel,
    lanes,
    lanes_of,
    tile,
    transpose_square,
    wide_tile,
)
from fastrnn.engine.numba_private.services import PLAIN, STOCK
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import linked
from fastrnn.engine.runtime.views import clear_row, copy, copy_bytes, data_address, part, segment, smaller
from fastrnn.engine.tuning import MAX_WIDE_BYTES, MIN_PACKED_ROWS

__all__ = ["matmul", "pack", "packed_size", "panel_size", "product", "product_tn", "unpack"]


_MAX_WIDE, _MIN_PACKED = MAX_WIDE_BYTES[VECTOR_BITS], MIN_PACKED_ROWS[VECTOR_BITS]


@linked
@jit(inner=True, few_passes=True)
def _gemm(zero, a, b, c, d, m, n, k):
    """``C (m, n) = D (m, n) + A (m, k) @ B (k, n)`` of Strided matrices, whose element type is that of `zero`.

    ``d.at == 0`` means zeros, ``d.at == c.at`` accumulates, ``d.row == 0`` starts all rows from the same row (a bias).

    The outer loop is over panels of B, the inner over row tiles, so a panel is read from L2 (or L3) once for all row tiles.
    ``b.row == 0`` means that B is packed, and the width of a panel is its columns rounded up to whole vectors.
    """
    n_lanes, size = lanes_of(zero), c.column
    width, first = VECTORS * n_lanes, 0
    if b.row == 0 and 0 < m <= WIDE_ROWS and k * n * size <= _MAX_WIDE:
        wide = WIDE_PANELS[m] * width
        while first + wide <= n:
            wide_tile(
                zero,
                m,
                a,
                Strided(b.at + first * k * size, width * size, size),
                Strided(c.at + first * size, c.row, size),
                Strided(d.at + first * size if d.at != 0 else 0, d.row, size),
                k,
            )
            first += wide
    for j in range(first, n, width):
        columns = smaller(width, n - j)
        vectors = (columns + n_lanes - 1) // n_lanes
        tail = columns - (vectors - 1) * n_lanes
        masked = 0 if columns == width or (VECTOR_BITS == 128 and tail == n_lanes) else 1
        if b.row == 0:
            panel = Strided(b.at + j * k * size, vectors * n_lanes * size, size)
        else:
            panel = Strided(b.at + j * size, b.row, size)
        shape = 2 * (vectors - 1) + masked
        i = 0
        while i < m:
            # A tile of few rows is limited by the loads of B, or its sums wait: two tiles share the last rows evenly.
            most = ROWS if vectors == VECTORS else NARROW_ROWS
            rows = smaller(most, m - i) if m - i <= most or m - i >= 2 * most else (m - i + 1) // 2
            tile(
                zero,
                (rows - 1) * 2 * VECTORS + shape,
                Strided(a.at + i * a.row, a.row, a.column),
                panel,
                Strided(c.at + i * c.row + j * size, c.row, size),
                Strided(d.at + i * d.row + j * size if d.at != 0 else 0, d.row, size),
                k,
                tail,
            )
            i += rows


def packed_size(k: int, n: int, dtype: Any) -> int:
    """Number of elements of a packed ``(k, n)`` matrix."""
    n_lanes = lanes(dtype)
    return k * (-(-n // n_lanes) * n_lanes)


@linked
@jit(few_passes=True)
def pack(b, out, first, n, transposed, share, n_shares):
    """Pack columns ``first ... first + n`` of the C-contiguous matrix `b`, or their transpose, into the 1-D `out`.

    `out` has ``packed_size(b.shape[0], n)`` elements, or ``packed_size(n, b.shape[0])`` for the transpose. Only the panels
    of one of `n_shares` equal shares are packed.
    """
    k, n_columns = (n, b.shape[0]) if transposed else (b.shape[0], n)
    n_lanes, size = lanes_of(out.dtype.type(0)), out.itemsize
    width = VECTORS * n_lanes
    n_panels = (n_columns + width - 1) // width
    for panel in range(share * n_panels // n_shares, (share + 1) * n_panels // n_shares):
        column, at = panel * width, panel * width * k
        columns = smaller(width, n_columns - column)
        padded = (columns + n_lanes - 1) // n_lanes * n_lanes
        if not transposed and not PLAIN and columns == width:
            source = data_address(b) + (first + column) * size
            copy_panel(out.dtype.type(0), source, b.strides[0], k, data_address(out) + at * size)
        elif not transposed:
            for i in range(k):
                copy(part(b, i, first + column, columns), segment(out, at + i * padded, columns))
                clear_row(segment(out, at + i * padded + columns, padded - columns))
        elif PLAIN:
            for i in range(k):
                for j in range(padded):
                    out[at + i * padded + j] = b[column + j, first + i] if j < columns else 0
        else:
            for i in range(0, k, n_lanes):
                for j in range(0, columns, n_lanes):
                    transpose_square(
                        out.dtype.type(0),
                        data_address(b) + (column + j) * b.strides[0] + (first + i) * size,
                        b.strides[0],
                        columns - j,
                        k - i,
                        data_address(out) + (at + i * padded + j) * size,
                        padded * size,
                    )


def panel_size(k: int, n: int, dtype: Any) -> int:
    """Number of elements of the widest panel of a packed ``(k, n)`` matrix."""
    return packed_size(k, min(n, VECTORS * lanes(dtype)), dtype)


@inlined
def _pack_panel(zero, b, k, n, panel):
    """Pack a panel: the first `n` columns of the Strided `b`, to the address `panel`."""
    n_lanes, size = lanes_of(zero), b.column
    if n == VECTORS * n_lanes:
        copy_panel(zero, b.at, b.row, k, panel)
    else:
        padded = (n + n_lanes - 1) // n_lanes * n_lanes
        for i in range(k):
            copy_bytes(b.at + i * b.row, panel + i * padded * size, n * size)


def unpack(packed: np.ndarray, k: int, n: int) -> np.ndarray:
    """The ``(k, n)`` matrix that was packed into ``packed`` (for tests and for running without a compiler)."""
    n_lanes = lanes(packed.dtype)
    width = VECTORS * n_lanes
    out = np.empty((k, n), packed.dtype)
    for j in range(0, n, width):
        columns = smaller(width, n - j)
        padded = -(-columns // n_lanes) * n_lanes
        out[:, j : j + columns] = packed[j * k : j * k + k * padded].reshape(k, padded)[:, :columns]
    return out


def product(a, packed, n, c, start):
    """``c[:, :n] = start + a @ B`` with B packed from ``(a.shape[1], n)``; the rows of ``c`` are contiguous.

    ``start`` is `c` itself to accumulate, a 2-D array of one row that is added to every row (a bias), or of no rows for
    zeros.
    """
    result = a @ unpack(packed, a.shape[1], n)
    c[:, :n] = result if start.shape[0] == 0 else start[:, :n] + result


def _product_in_loops(a, packed, n, c, start):
    """`product` by Numba's public means."""
    k, n_lanes = a.shape[1], lanes_of(packed.dtype.type(0))
    width = VECTORS * n_lanes
    for i in range(a.shape[0]):
        if start.shape[0] == 0:
            clear_row(part(c, i, 0, n))
        else:
            copy(part(start, i if start.shape[0] > 1 else 0, 0, n), part(c, i, 0, n))
        for j in range(0, n, width):
            columns = smaller(width, n - j)
            padded = (columns + n_lanes - 1) // n_lanes * n_lanes
            target = part(c, i, j, columns)
            for x in range(k):
                _add_multiple(a[i, x], segment(packed, j * k + x * padded, columns), target)


@inlined
def _add_multiple(factor, row, target):
    for j in range(target.shape[0]):
        target[j] += factor * row[j]


@body_of(product)
def _product(a, packed, n, c, start):
    if STOCK:
        return _product_in_loops

    def impl(a, packed, n, c, start):
        size = packed.itemsize
        _gemm(
            packed.dtype.type(0),
            Strided(data_address(a), a.strides[0], a.strides[1]),
            Strided(data_address(packed), 0, size),
            Strided(data_address(c), c.strides[0], size),
            Strided(
                data_address(start) if start.shape[0] > 0 else 0,
                start.strides[0] if start.shape[0] > 1 else 0,
                size,
            ),
            a.shape[0],
            n,
            a.shape[1],
        )

    return impl


def product_tn(a, b, c, accumulate, panel):
    """``c (+)= a.T @ b`` for ``a (k, m)`` and ``b (k, n)``: the weight gradient of a block of rows.

    `panel` is a 1-D array of at least :func:`panel_size` elements, into which the columns of `b` are packed for the rows of
    `c` that are enough to be worth it.
    """
    result = a.T @ b
    c[:] = c + result if accumulate else result


def _product_tn_in_loops(a, b, c, accumulate, panel):
    """`product_tn` by Numba's public means."""
    n = b.shape[1]
    for i in range(a.shape[1]):
        target = part(c, i, 0, n)
        if not accumulate:
            clear_row(target)
        for x in range(a.shape[0]):
            _add_multiple(a[x, i], part(b, x, 0, n), target)


@linked
@jit(inner=True)
def _gemm_tn(zero, a, b, c, accumulate, m, n, k, panel):
    """``C (m, n) (+)= A.T @ B`` of Strided matrices ``A (k, m)`` and ``B (k, n)``."""
    size = c.column
    left, packed, width = Strided(a.at, a.column, a.row), m >= _MIN_PACKED, VECTORS * lanes_of(zero)
    for j in range(0, n, width):
        columns = smaller(width, n - j)
        right = Strided(b.at + j * size, b.row, size)
        if packed:
            _pack_panel(zero, right, k, columns, panel)
            right = Strided(panel, 0, size)
        target = Strided(c.at + j * size, c.row, size)
        start = Strided(target.at if accumulate else 0, target.row, size)
        _gemm(zero, left, right, target, start, m, columns, k)


@body_of(product_tn)
def _product_tn(a, b, c, accumulate, panel):
    if STOCK:
        return _product_tn_in_loops

    def impl(a, b, c, accumulate, panel):
        size = b.itemsize
        _gemm_tn(
            b.dtype.type(0),
            Strided(data_address(a), a.strides[0], a.strides[1]),
            Strided(data_address(b), b.strides[0], size),
            Strided(data_address(c), c.strides[0], size),
            accumulate,
            a.shape[1],
            b.shape[1],
            a.shape[0],
            data_address(panel),
        )

    return impl


@inlined
def matmul_into(a, a_transposed, b, b_transposed, start, out, packed):
    """``out = start + op(a) @ op(b)`` for C-contiguous matrices; ``packed`` holds a transposed b."""
    size = a.itemsize
    m, n = out.shape
    k = a.shape[0] if a_transposed else a.shape[1]
    a_row, a_column = (size, a.strides[0]) if a_transposed else (a.strides[0], size)
    if b_transposed:
        pack(b, packed, 0, b.shape[1], True, 0, 1)
        b_at, b_row = data_address(packed), 0
    else:
        b_at, b_row = data_address(b), b.strides[0]
    _gemm(
        a.dtype.type(0),
        Strided(data_address(a), a_row, a_column),
        Strided(b_at, b_row, size),
        Strided(data_address(out), out.strides[0], size),
        Strided(
            data_address(start) if start.shape[0] > 0 else 0,
            start.strides[0] if start.shape[0] > 1 else 0,
            size,
        ),
        m,
        n,
        k,
    )


@jit
def _matmul(a, a_transposed, b, b_transposed, start, out, packed):
    matmul_into(a, a_transposed, b, b_transposed, start, out, packed)


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    accumulate: bool = False,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> np.ndarray:
    """``out (+)= op(a) @ op(b) (+ bias)`` for matrices of one float type, by the micro-kernel.

    Parameters
    ----------
    a, b : 2-D ndarray of float32 or float64
    out : 2-D ndarray, optional
        C-contiguous; may not overlap `a` or `b`.
    bias : 1-D ndarray, optional
        Added to every row; not together with `accumulate`.
    accumulate : bool
        Add to `out`.
    transpose_a, transpose_b : bool
        Use the transpose.

    Returns
    -------
    ndarray
        `out`, or a new array.
    """
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    m, k = a.shape[::-1] if transpose_a else a.shape
    k_b, n = b.shape[::-1] if transpose_b else b.shape
    if k != k_b or a.dtype != b.dtype:
        raise ValueError(f"a {a.shape} {a.dtype} and b {b.shape} {b.dtype} have no product")
    if out is None:
        out = np.empty((m, n), a.dtype)
    if accumulate:
        start = out
    elif bias is not None:
        start = np.ascontiguousarray(bias, a.dtype).reshape(1, n)
    else:
        start = np.empty((0, n), a.dtype)
    if PLAIN:
        product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
        out[...] = start + product if len(start) else product
    else:
        packed = np.empty(packed_size(k, n, a.dtype) if transpose_b else 0, a.dtype)
        _matmul(a, transpose_a, b, transpose_b, start, out, packed)
    return out

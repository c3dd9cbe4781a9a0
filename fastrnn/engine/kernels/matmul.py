"""The micro-kernel and the products built on it.

One register tile does every product of the library: ``C (+)= A @ B`` where ``A`` has any strides (each of its
elements is broadcast), and the rows of ``B`` and ``C`` are contiguous (they are loaded and stored as vectors).
A tile keeps ``ROWS x VECTORS`` accumulators in registers over the whole inner dimension, so that per step of it only
``VECTORS`` loads and ``ROWS`` broadcasts feed ``ROWS * VECTORS`` fused multiply-adds.

=============  =====================  ==================  ====================
host           vector (float32)       tile                accumulators
=============  =====================  ==================  ====================
AVX-512        16 lanes (512 bit)     4 rows x 4 vectors  16 of 32 registers
AVX2 + FMA     8 lanes (256 bit)      6 rows x 2 vectors  12 of 16 registers
anything else  4 lanes (128 bit)      4 rows x 2 vectors  8 of 16 registers
=============  =====================  ==================  ====================

Weights are *packed*: cut into panels of ``VECTORS * lanes`` columns, each stored row after row without gaps and
zero-padded to whole vectors, so that the kernel reads memory in one straight line. ``B`` may also be used as it lies
(``product_tn``, for weight gradients, whose right operand is used once).

Remainders are tiles of their own (fewer rows, fewer vectors, a lane mask on the last vector), so that odd sizes cost
what they compute. The order of additions depends on the shape only: the same result on every run.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastrnn.engine.runtime.jit import DISABLED, body_of, jit
from fastrnn.engine.runtime.linking import separate
from fastrnn.engine.runtime.views import copy, data_address, fill, part, segment

# --------------------------------------------------------------------------------------------------------------------
# The host's vectors


def _vector_bits() -> int:
    """Width of the vectors that the code generator will really have (it can be told to target another CPU)."""
    forced = os.environ.get("FASTRNN_VECTOR_BITS")
    if forced:
        return int(forced)
    if config.CPU_FEATURES is not None:
        features = {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    elif config.CPU_NAME == "generic":
        features = set()
    else:
        features = {name for name, on in binding.get_host_cpu_features().items() if on}
    if "avx512f" in features:
        return 512
    return 256 if {"avx2", "fma"} <= features else 128


VECTOR_BITS = _vector_bits()
ROWS, VECTORS = {512: (4, 4), 256: (6, 2), 128: (4, 2)}[VECTOR_BITS]


def lanes(dtype: Any) -> int:
    """Elements of ``dtype`` in one vector."""
    return VECTOR_BITS // (8 * np.dtype(dtype).itemsize)


_LANES_32 = VECTOR_BITS // 32
_LANES_64 = VECTOR_BITS // 64


# --------------------------------------------------------------------------------------------------------------------
# Intrinsics: what Numba's Python can't say


class _Emitter:
    """Emits the tile's LLVM code at the builder's position; all quantities in bytes, addresses as integers."""

    def __init__(self, builder: Any, scalar: Any, size: int) -> None:
        self.builder, self.scalar, self.size = builder, scalar, size
        self.lanes = VECTOR_BITS // (8 * size)
        self.vector = ir.VectorType(scalar, self.lanes)
        self.index = ir.VectorType(ir.IntType(32), self.lanes)
        self.bits = ir.VectorType(ir.IntType(1), self.lanes)
        self.word = ir.IntType(64)
        self.nothing = ir.Constant(self.vector, [0.0] * self.lanes)
        name = f"v{self.lanes}f{8 * size}"
        pointer, i32 = self.vector.as_pointer(), ir.IntType(32)

        def intrinsic_function(stem: str, result: Any, arguments: list) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), stem)

        # fmuladd, not fma: where the target has no fused instruction it becomes two, never a library call.
        self.fma = intrinsic_function(f"llvm.fmuladd.{name}", self.vector, [self.vector] * 3)
        self.masked_load = intrinsic_function(
            f"llvm.masked.load.{name}.p0", self.vector, [pointer, i32, self.bits, self.vector]
        )
        self.masked_store = intrinsic_function(
            f"llvm.masked.store.{name}.p0", ir.VoidType(), [self.vector, pointer, i32, self.bits]
        )

    def plus(self, base: Any, step: Any, times: int) -> Any:
        return self.builder.add(base, self.builder.mul(step, ir.Constant(self.word, times)))

    def splat(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(self.index, [0] * self.lanes))

    def mask(self, n_valid: Any) -> Any:
        lane = ir.Constant(self.index, list(range(self.lanes)))
        return self.builder.icmp_signed(
            "<", lane, self.splat(self.builder.trunc(n_valid, ir.IntType(32)), self.index)
        )

    def at(self, base: Any, column: int) -> Any:
        where = self.builder.add(base, ir.Constant(self.word, column * self.lanes * self.size))
        return self.builder.inttoptr(where, self.vector.as_pointer())

    def load(self, base: Any, column: int, mask: Any) -> Any:
        if mask is None:
            return self.builder.load(self.at(base, column), align=self.size)
        align = ir.Constant(ir.IntType(32), self.size)
        return self.builder.call(self.masked_load, [self.at(base, column), align, mask, self.nothing])

    def store(self, value: Any, base: Any, column: int, mask: Any) -> None:
        if mask is None:
            self.builder.store(value, self.at(base, column), align=self.size)
        else:
            align = ir.Constant(ir.IntType(32), self.size)
            self.builder.call(self.masked_store, [value, self.at(base, column), align, mask])

    def tile(self, rows: int, vectors: int, masked: bool, operands: Any, done: Any) -> None:
        """``rows x vectors`` of C; ``masked``: the last vector has ``tail`` lanes only. Ends with a jump to done."""
        builder = self.builder
        a, a_row, a_k, b, b_k, k, c, c_row, d, d_row, tail = operands
        mask = self.mask(tail) if masked else None
        masks = [None] * (vectors - 1) + [mask]
        cells = [(i, j) for i in range(rows) for j in range(vectors)]
        c_rows = [self.plus(c, c_row, i) for i in range(rows)]
        a_rows = [self.plus(a, a_row, i) for i in range(rows)]
        entry = builder.block
        read, start, loop, body, end = (
            builder.append_basic_block(name) for name in ("read", "start", "loop", "body", "end")
        )
        builder.cbranch(builder.icmp_signed("!=", d, ir.Constant(self.word, 0)), read, start)

        builder.position_at_end(read)
        before = [self.load(self.plus(d, d_row, i), j, masks[j]) for i, j in cells]
        builder.branch(start)

        builder.position_at_end(start)
        first = []
        for value in before:
            phi = builder.phi(self.vector)
            phi.add_incoming(self.nothing, entry)
            phi.add_incoming(value, read)
            first.append(phi)
        builder.branch(loop)

        builder.position_at_end(loop)
        left_steps, a_at, b_at = (builder.phi(self.word) for _ in range(3))
        sums = [builder.phi(self.vector) for _ in cells]
        for phi, value in zip(
            [left_steps, a_at, b_at, *sums], [k, ir.Constant(self.word, 0), b, *first], strict=True
        ):
            phi.add_incoming(value, start)
        builder.cbranch(builder.icmp_signed(">", left_steps, ir.Constant(self.word, 0)), body, end)

        builder.position_at_end(body)
        right = [self.load(b_at, j, masks[j]) for j in range(vectors)]
        new = []
        for i in range(rows):
            where = builder.inttoptr(builder.add(a_rows[i], a_at), self.scalar.as_pointer())
            left = self.splat(builder.load(where, align=self.size), self.vector)
            new += [builder.call(self.fma, [left, right[j], sums[i * vectors + j]]) for j in range(vectors)]
        after = [
            builder.sub(left_steps, ir.Constant(self.word, 1)),
            builder.add(a_at, a_k),
            builder.add(b_at, b_k),
            *new,
        ]
        for phi, value in zip([left_steps, a_at, b_at, *sums], after, strict=True):
            phi.add_incoming(value, body)
        builder.branch(loop)

        builder.position_at_end(end)
        for (i, j), value in zip(cells, sums, strict=True):
            self.store(value, c_rows[i], j, masks[j])
        builder.branch(done)


@intrinsic
def _tile(typingctx, zero, shape, a, a_row, a_k, b, b_k, k, c, c_row, d, d_row, tail):
    """One register tile; ``shape`` is ``(rows - 1) * 2 * VECTORS + 2 * (vectors - 1) + masked``.

    Addresses and strides in bytes, as integers; ``zero`` carries the dtype. Every shape is a case of one switch:
    the unmasked cases exist for full panels only, a narrower panel always takes the masked case.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        emit = _Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        done = builder.append_basic_block("done")
        cases = builder.switch(args[1], done)
        for rows in range(1, ROWS + 1):
            for vectors in range(1, VECTORS + 1):
                for masked in (0, 1):
                    if not masked and vectors < VECTORS and VECTOR_BITS > 128:
                        continue
                    block = builder.append_basic_block(f"tile{rows}x{vectors}")
                    number = (rows - 1) * 2 * VECTORS + 2 * (vectors - 1) + masked
                    cases.add_case(ir.Constant(emit.word, number), block)
                    builder.position_at_end(block)
                    emit.tile(rows, vectors, bool(masked), args[2:], done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    n = types.intp
    return types.void(zero, *([n] * 12)), codegen


@intrinsic
def _turn(typingctx, zero, a, a_row, n_rows, n_columns, b, b_row):
    """Transpose a square of as many rows as a vector has lanes; addresses and strides in bytes.

    Of `a` only ``n_rows`` rows and ``n_columns`` columns are read, the rest are zeros; only ``n_columns`` rows of `b` are
    written. With rows ``0 ... n - 1``, interleaving row i with row ``i + n / 2`` is a rotation of the bits of an
    element's number by one; after ``log2 n`` rounds the bits that were the row's have become the column's.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        _, a, a_row, n_rows, n_columns, b, b_row = args
        emit = _Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        n, none = emit.lanes, ir.Constant(emit.bits, None)
        columns, everything = emit.mask(n_columns), ir.Constant(emit.bits, [1] * n)
        rows = []
        for i in range(n):
            there = builder.icmp_signed("<", ir.Constant(emit.word, i), n_rows)
            rows.append(emit.load(emit.plus(a, a_row, i), 0, builder.select(there, columns, none)))
        halves = [
            ir.Constant(emit.index, [start + k // 2 + n * (k % 2) for k in range(n)]) for start in (0, n // 2)
        ]
        for _ in range(n.bit_length() - 1):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + n // 2], half)
                for i in range(n // 2)
                for half in halves
            ]
        for i, row in enumerate(rows):
            there = builder.icmp_signed("<", ir.Constant(emit.word, i), n_columns)
            emit.store(row, emit.plus(b, b_row, i), 0, builder.select(there, everything, none))
        return context.get_dummy_value()

    n = types.intp
    return types.void(zero, n, n, n, n, n, n), codegen


# --------------------------------------------------------------------------------------------------------------------
# One loop nest for every product


def _lanes_of(zero):
    """Lanes of a vector, as a constant to the compiler: dividing by a variable takes longer than a small tile."""
    return lanes(zero.dtype)


@body_of(_lanes_of)
def _lanes_of_kernel(zero):
    n_lanes = _LANES_32 if zero == types.float32 else _LANES_64
    return lambda zero: n_lanes


@separate
@jit(inner=True)
def _gemm(zero, size, a, a_row, a_k, b, b_k, b_panel, m, n, k, c, c_row, d, d_row):
    """``C (m, n) = D (m, n) + A (m, k) @ B (k, n)`` on addresses and byte strides.

    ``d == 0`` stands for zeros, ``d == c`` accumulates, ``d_row == 0`` starts every row from the same one (a bias).

    Panels of B outside, row tiles inside: a panel is read from L2 (or L3) once and serves every row tile. ``b_k == 0``
    says that B is packed, each panel as wide as its columns rounded up to whole vectors.
    """
    n_lanes = _lanes_of(zero)
    width = VECTORS * n_lanes
    for j in range(0, n, width):
        columns = min(width, n - j)
        vectors = (columns + n_lanes - 1) // n_lanes
        tail = columns - (vectors - 1) * n_lanes
        masked = 0 if columns == width or (VECTOR_BITS == 128 and tail == n_lanes) else 1
        if b_k == 0:
            b_row, panel = vectors * n_lanes * size, b + j * k * size
        else:
            b_row, panel = b_k, b + (j // width) * b_panel
        shape = 2 * (vectors - 1) + masked
        i = 0
        while i < m:
            # One row alone is bound by the loads of B: rather two tiles that share what is left.
            rows = ROWS - 1 if m - i == ROWS + 1 else min(ROWS, m - i)
            _tile(
                zero,
                (rows - 1) * 2 * VECTORS + shape,
                a + i * a_row,
                a_row,
                a_k,
                panel,
                b_row,
                k,
                c + i * c_row + j * size,
                c_row,
                d + i * d_row + j * size if d != 0 else 0,
                d_row,
                tail,
            )
            i += rows


def packed_size(k: int, n: int, dtype: Any) -> int:
    """Elements that a packed ``(k, n)`` matrix takes."""
    n_lanes = lanes(dtype)
    return k * (-(-n // n_lanes) * n_lanes)


@separate
@jit
def pack(b, out, first, n, turned, share, n_shares):
    """Pack columns ``first ... first + n`` of the C-contiguous matrix `b`, or their transpose, into the 1-D `out`.

    `out` has ``packed_size(b.shape[0], n)`` elements, or ``packed_size(n, b.shape[0])`` for the transpose. Of so many
    shares only one is packed.
    """
    k, n_columns = (n, b.shape[0]) if turned else (b.shape[0], n)
    n_lanes, size = _LANES_32 if out.itemsize == 4 else _LANES_64, out.itemsize
    width = VECTORS * n_lanes
    n_panels = (n_columns + width - 1) // width
    for panel in range(share * n_panels // n_shares, (share + 1) * n_panels // n_shares):
        column, at = panel * width, panel * width * k
        columns = min(width, n_columns - column)
        padded = (columns + n_lanes - 1) // n_lanes * n_lanes
        if not turned:
            for i in range(k):
                copy(part(b, i, first + column, columns), segment(out, at + i * padded, columns))
                fill(segment(out, at + i * padded + columns, padded - columns), 0)
        elif DISABLED:
            for i in range(k):
                for j in range(padded):
                    out[at + i * padded + j] = b[column + j, first + i] if j < columns else 0
        else:
            for i in range(0, k, n_lanes):
                for j in range(0, columns, n_lanes):
                    _turn(
                        out.dtype.type(0),
                        data_address(b) + (column + j) * b.strides[0] + (first + i) * size,
                        b.strides[0],
                        columns - j,
                        k - i,
                        data_address(out) + (at + i * padded + j) * size,
                        padded * size,
                    )


def unpack(packed: np.ndarray, k: int, n: int) -> np.ndarray:
    """The ``(k, n)`` matrix behind ``packed`` (for tests and for running without a compiler)."""
    n_lanes = lanes(packed.dtype)
    width = VECTORS * n_lanes
    out = np.empty((k, n), packed.dtype)
    for j in range(0, n, width):
        columns = min(width, n - j)
        padded = -(-columns // n_lanes) * n_lanes
        out[:, j : j + columns] = packed[j * k : j * k + k * padded].reshape(k, padded)[:, :columns]
    return out


def product(a, packed, n, c, start):
    """``c[:, :n] = start + a @ B`` with B packed from ``(a.shape[1], n)``; the rows of ``c`` are contiguous.

    ``start``: `c` itself to accumulate, a 2-D array of one row that every row starts from (a bias), or one with no
    rows for zeros.
    """
    result = a @ unpack(packed, a.shape[1], n)
    c[:, :n] = result if start.shape[0] == 0 else start[:, :n] + result


@body_of(product)
def _product(a, packed, n, c, start):
    def impl(a, packed, n, c, start):
        _gemm(
            packed.dtype.type(0),
            packed.itemsize,
            data_address(a),
            a.strides[0],
            a.strides[1],
            data_address(packed),
            0,
            0,
            a.shape[0],
            n,
            a.shape[1],
            data_address(c),
            c.strides[0],
            data_address(start) if start.shape[0] > 0 else 0,
            start.strides[0] if start.shape[0] > 1 else 0,
        )

    return impl


def product_tn(a, b, c, accumulate):
    """``c (+)= a.T @ b`` for ``a (k, m)`` and ``b (k, n)`` as they lie: the weight gradient of a block of rows."""
    result = a.T @ b
    c[:] = c + result if accumulate else result


@body_of(product_tn)
def _product_tn(a, b, c, accumulate):
    def impl(a, b, c, accumulate):
        size = b.itemsize
        n_lanes = _LANES_32 if size == 4 else _LANES_64
        _gemm(
            b.dtype.type(0),
            size,
            data_address(a),
            a.strides[1],
            a.strides[0],
            data_address(b),
            b.strides[0],
            VECTORS * n_lanes * size,
            a.shape[1],
            b.shape[1],
            a.shape[0],
            data_address(c),
            c.strides[0],
            data_address(c) if accumulate else 0,
            c.strides[0],
        )

    return impl


@jit
def _matmul(a, a_turned, b, b_turned, start, out, packed):
    """``out = start + op(a) @ op(b)`` for C-contiguous matrices; ``packed`` holds a transposed b."""
    size = a.itemsize
    width = VECTORS * (_LANES_32 if size == 4 else _LANES_64)
    m, n = out.shape
    k = a.shape[0] if a_turned else a.shape[1]
    a_row, a_k = (size, a.strides[0]) if a_turned else (a.strides[0], size)
    if b_turned:
        pack(b, packed, 0, b.shape[1], True, 0, 1)
        b_at, b_k = data_address(packed), 0
    else:
        b_at, b_k = data_address(b), b.strides[0]
    _gemm(
        a.dtype.type(0),
        size,
        data_address(a),
        a_row,
        a_k,
        b_at,
        b_k,
        width * size,
        m,
        n,
        k,
        data_address(out),
        out.strides[0],
        data_address(start) if start.shape[0] > 0 else 0,
        start.strides[0] if start.shape[0] > 1 else 0,
    )


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
    if DISABLED:
        product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
        out[...] = start + product if len(start) else product
    else:
        packed = np.empty(packed_size(k, n, a.dtype) if transpose_b else 0, a.dtype)
        _matmul(a, transpose_a, b, transpose_b, start, out, packed)
    return out

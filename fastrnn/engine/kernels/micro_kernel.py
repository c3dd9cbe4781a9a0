"""The micro-kernel: one register tile of a matrix product, written as LLVM instructions.

A tile is a few rows of C by a few vectors of its columns. It keeps ``ROWS x VECTORS`` accumulators in registers over the
whole inner dimension. Each step of the inner dimension has ``VECTORS`` loads, ``ROWS`` broadcasts and ``ROWS * VECTORS``
fused multiply-adds.

=============  =====================  ==================  ====================
host           vector (float32)       tile                accumulators
=============  =====================  ==================  ====================
AVX-512        16 lanes (512 bit)     6 rows x 4 vectors  24 of 32 registers
AVX2 + FMA     8 lanes (256 bit)      6 rows x 2 vectors  12 of 16 registers
AArch64        4 lanes (128 bit)      6 rows x 4 vectors  24 of 32 registers
anything else  4 lanes (128 bit)      4 rows x 2 vectors  8 of 16 registers
=============  =====================  ==================  ====================

Remainders have separate tiles (fewer rows, fewer vectors, a lane mask on the last vector), so that odd sizes need no
additional work. Tiles of so few rows that each accumulator waits for its previous multiply-add span several panels.
"""

from __future__ import annotations

import os
import platform
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from fastrnn.engine.numba_private.services import STOCK, cgutils, symbols
from fastrnn.engine.runtime.jit import body_of
from fastrnn.engine.tuning import MIN_SUMS, TILES, TileShape

__all__ = [
    "NARROW_ROWS",
    "ROWS",
    "VECTORS",
    "VECTOR_BITS",
    "WIDE_PANELS",
    "WIDE_ROWS",
    "Emitter",
    "Strided",
    "choose_tile",
    "copy_panel",
    "lanes",
    "lanes_of",
    "tile",
    "transpose_square",
    "transposed_rows",
    "wide_tile",
]


def choose_tile(machine: str, bits: int, forced: str | None = None) -> TileShape:
    """The tile for a processor.

    Parameters
    ----------
    machine : str
        Architecture as `platform.machine` names it.
    bits : int
        Width of the vectors that x86-64 code is generated for: 128, 256 or 512.
    forced : str, optional
        Value of the environment variable FASTRNN_VECTOR_BITS. The compiler divides vectors that are wider than the
        processor's, so that any width runs on any machine.

    Raises
    ------
    ValueError
        If `forced` is not one of the widths.
    """
    if forced and forced not in {"128", "256", "512"}:
        raise ValueError(f"FASTRNN_VECTOR_BITS must be 128, 256 or 512, or not be set; got {forced!r}")
    arm = _is_arm(machine)
    bits = int(forced) if forced else 128 if arm else bits
    return TILES.get(("aarch64" if arm else "x86-64", bits), TILES["x86-64", bits])


def _is_arm(machine: str) -> bool:
    return machine.lower() in {"aarch64", "arm64"}


def _target_bits() -> int:
    """Width of the vectors for which Numba generates code; its target may be another processor than the host."""
    if STOCK:  # where there are no tiles, it only says how weights are packed
        return 128
    host = {name for name, on in symbols.get_host_cpu_features().items() if on}
    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        return 512 if "avx512f" in host else 256 if {"avx2", "fma"} <= host else 128
    arm = _is_arm(platform.machine())
    if config.CPU_NAME not in {None, "generic", symbols.get_host_cpu_name()} and not symbols.knows_processor(
        config.CPU_NAME, arm
    ):
        raise ValueError(
            f"NUMBA_CPU_NAME={config.CPU_NAME!r} is not a processor that LLVM knows; use a name such as 'haswell' or "
            "'x86-64-v3', or unset the variable to generate code for this machine"
        )
    if arm:
        return 128
    # As in Numba: if only a processor's name is given, the features are those of the host.
    features = config.CPU_FEATURES
    if features is None:
        features = symbols.get_host_cpu_features().flatten()
    return symbols.x86_vector_bits(config.CPU_NAME or symbols.get_host_cpu_name(), features)


ROWS, VECTORS, VECTOR_BITS, NARROW_ROWS = choose_tile(
    platform.machine(), _target_bits(), os.environ.get("FASTRNN_VECTOR_BITS")
)


def lanes(dtype: Any) -> int:
    """Elements of ``dtype`` in one vector."""
    return VECTOR_BITS // (8 * np.dtype(dtype).itemsize)


_LANES_32 = VECTOR_BITS // 32
_LANES_64 = VECTOR_BITS // 64


def lanes_of(zero):
    """Lanes of a vector of `zero`'s type, as a constant for the compiler, because a division by a variable takes longer
    than a small tile.
    """
    return lanes(zero.dtype)


@body_of(lanes_of)
def _lanes_of(zero):
    n_lanes = _LANES_32 if zero == types.float32 else _LANES_64
    return lambda zero: n_lanes


#: Panels of a wide tile, by rows: as many as have `MIN_SUMS` accumulators. Tiles of more than `WIDE_ROWS` have one.
WIDE_PANELS = (1, *(MIN_SUMS // (rows * VECTORS) for rows in range(1, ROWS + 1)))
WIDE_ROWS = sum(panels > 1 for panels in WIDE_PANELS)


class Strided(NamedTuple):
    """A matrix in memory: the address of its first element, bytes from row to row and from column to column."""

    at: int
    row: int
    column: int


class Emitter:
    """Emits the tile's LLVM code at the builder's position; strides are in bytes, addresses are integers."""

    def __init__(self, builder: Any, scalar: Any, size: int, bits: int = VECTOR_BITS) -> None:
        self.builder, self.scalar, self.size = builder, scalar, size
        self.lanes = bits // (8 * size)
        self.vector = ir.VectorType(scalar, self.lanes)
        self.index = ir.VectorType(ir.IntType(32), self.lanes)
        self.bits = ir.VectorType(ir.IntType(1), self.lanes)
        self.word = ir.IntType(64)
        self.nothing = ir.Constant(self.vector, [0.0] * self.lanes)
        name = f"v{self.lanes}f{8 * size}"
        pointer, i32 = self.vector.as_pointer(), ir.IntType(32)

        def intrinsic_function(stem: str, result: Any, arguments: list) -> Any:
            return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), stem)

        # fmuladd, not fma: without a fused instruction it becomes two instructions, and not a library call.
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

    def tile(
        self, rows: int, vectors: int, masked: bool, operands: Any, done: Any, panel_vectors: int = 0
    ) -> None:
        """Emit a tile of ``rows x vectors`` of C and a jump to `done`; if ``masked``, the last vector has ``tail`` lanes.

        A tile of several packed panels of B has `panel_vectors` vectors of each.
        """
        builder = self.builder
        panel_vectors = panel_vectors or vectors
        (a, a_row, a_k), (b, b_k, _), (c, c_row, _), (d, d_row, _), k, tail = operands
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
        panels = [
            b_at,
            *(self.plus(b_at, builder.mul(k, b_k), p) for p in range(1, vectors // panel_vectors)),
        ]
        right = [self.load(panels[j // panel_vectors], j % panel_vectors, masks[j]) for j in range(vectors)]
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
def tile(typingctx, zero, shape, a, b, c, d, k, tail):
    """Compute one register tile ``C = D + A @ B``.

    Parameters
    ----------
    zero : float
        A number whose type is the dtype.
    shape : int
        ``(rows - 1) * 2 * VECTORS + 2 * (vectors - 1) + masked``. Every shape is a case of one switch. Unmasked cases exist
        only for full panels; a narrower panel always uses the masked case, and has tiles of at most `NARROW_ROWS`.
    a, b, c, d : Strided
        Rows of B, C and D are contiguous. ``d.at == 0`` means zeros.
    k : int
        The inner dimension.
    tail : int
        Number of lanes of the last vector, if it is masked.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        operands = [*(cgutils.unpack_tuple(builder, matrix) for matrix in args[2:6]), *args[6:]]
        done = builder.append_basic_block("done")
        cases = builder.switch(args[1], done)
        for rows in range(1, ROWS + 1):
            for vectors in range(1 if rows <= NARROW_ROWS else VECTORS, VECTORS + 1):
                for masked in (0, 1):
                    if not masked and vectors < VECTORS and VECTOR_BITS > 128:
                        continue
                    block = builder.append_basic_block(f"tile{rows}x{vectors}")
                    number = (rows - 1) * 2 * VECTORS + 2 * (vectors - 1) + masked
                    cases.add_case(ir.Constant(emit.word, number), block)
                    builder.position_at_end(block)
                    emit.tile(rows, vectors, bool(masked), operands, done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(zero, types.intp, a, b, c, d, types.intp, types.intp), codegen


@intrinsic
def wide_tile(typingctx, zero, rows, a, b, c, d, k):
    """As `tile`, for `WIDE_PANELS` packed panels of at most `WIDE_ROWS` rows."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        operands = [*(cgutils.unpack_tuple(builder, matrix) for matrix in args[2:6]), args[6], None]
        done = builder.append_basic_block("done")
        cases = builder.switch(args[1], done)
        for n_rows in range(1, WIDE_ROWS + 1):
            panels = WIDE_PANELS[n_rows]
            block = builder.append_basic_block(f"tile{n_rows}x{panels}panels")
            cases.add_case(ir.Constant(emit.word, n_rows), block)
            builder.position_at_end(block)
            emit.tile(n_rows, panels * VECTORS, False, operands, done, VECTORS)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(zero, types.intp, a, b, c, d, types.intp), codegen


@intrinsic
def copy_panel(typingctx, zero, a, a_row, n_rows, b):
    """Copy rows of ``VECTORS`` whole vectors, to be without gaps; addresses and strides are in bytes."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        _, a, a_row, n_rows, b = args
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        with cgutils.for_range(builder, n_rows) as loop:
            source = builder.add(a, builder.mul(loop.index, a_row))
            target = emit.plus(b, loop.index, VECTORS * emit.lanes * emit.size)
            for j in range(VECTORS):
                emit.store(emit.load(source, j, None), target, j, None)
        return context.get_dummy_value()

    return types.void(zero, types.intp, types.intp, types.intp, types.intp), codegen


def transposed_rows(emit: Emitter, rows: list) -> list:
    """Emit the transpose of a square of as many vectors as a vector has lanes.

    With rows ``0 ... n - 1``, interleaving row i with row ``i + n / 2`` rotates the bits of an element's number
    (row, column) by one; after ``log2 n`` rounds the bits of row and column are exchanged.
    """
    n = emit.lanes
    halves = [
        ir.Constant(emit.index, [start + k // 2 + n * (k % 2) for k in range(n)]) for start in (0, n // 2)
    ]
    for _ in range(n.bit_length() - 1):
        rows = [
            emit.builder.shuffle_vector(rows[i], rows[i + n // 2], half)
            for i in range(n // 2)
            for half in halves
        ]
    return rows


@intrinsic
def transpose_square(typingctx, zero, a, a_row, n_rows, n_columns, b, b_row):
    """Transpose a square matrix with as many rows as a vector has lanes; addresses and strides are in bytes.

    Only ``n_rows`` rows and ``n_columns`` columns of `a` are read, the others are zero; only ``n_columns`` rows of `b` are
    written.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        _, a, a_row, n_rows, n_columns, b, b_row = args
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        n, none = emit.lanes, ir.Constant(emit.bits, None)
        columns, everything = emit.mask(n_columns), ir.Constant(emit.bits, [1] * n)
        rows = []
        for i in range(n):
            there = builder.icmp_signed("<", ir.Constant(emit.word, i), n_rows)
            rows.append(emit.load(emit.plus(a, a_row, i), 0, builder.select(there, columns, none)))
        rows = transposed_rows(emit, rows)
        for i, row in enumerate(rows):
            there = builder.icmp_signed("<", ir.Constant(emit.word, i), n_columns)
            emit.store(row, emit.plus(b, b_row, i), 0, builder.select(there, everything, none))
        return context.get_dummy_value()

    n = types.intp
    return types.void(zero, n, n, n, n, n, n), codegen

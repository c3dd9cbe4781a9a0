"""Matrix products for small layers whose sequences are the lanes of vectors: each column of a matrix is a sequence.

In a row of a few units most lanes of a vector are empty, and every row has its own loops. If a row holds one unit of many
sequences instead, all lanes are filled, whatever the number of units. The left operand of a product is then the transpose of
the packed weights (see `packing`), of which a few numbers at a time are broadcast; the right operand has the sequences side
by side, and is its own panel. Sums are in the order of `matmul.product`, so the results are the same bits.

All matrices are given by addresses and by strides in bytes. Rows are whole vectors, so no tile is masked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.kernels.micro_kernel import (
    ROWS,
    VECTORS,
    Emitter,
    Strided,
    lanes_of,
    transposed_rows,
)
from fastrnn.engine.numba_private.services import cgutils
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import linked
from fastrnn.engine.runtime.views import smaller
from fastrnn.engine.tuning import LANE_DOT_ROWS, LANE_HEIGHTS, LANE_VECTORS

__all__ = [
    "Factor",
    "dot_columns",
    "dot_lanes",
    "emit_dots",
    "emit_tile",
    "from_lanes",
    "lane_product",
    "most_rows",
    "to_lanes",
]


def most_rows(registers: int) -> tuple[int, ...]:
    """The largest number of rows of a tile, by the number of vectors in a row; `registers` accumulators fit in registers."""
    return tuple(max(h for h in LANE_HEIGHTS if h * n <= registers) for n in range(max(LANE_VECTORS) + 1))


_MOST_ROWS = most_rows(ROWS * VECTORS)


def dot_columns(registers: int) -> int:
    """Columns of a tile of `dot_lanes`."""
    return most_rows(registers)[1] // LANE_DOT_ROWS


_DOT_COLUMNS = dot_columns(ROWS * VECTORS)


@inlined
def tile_height(n, most):
    """Rows of the next tile of `n` rows: the most, but rather 4 and 4 than 6 and 2."""
    if n >= most:
        return 4 if most == 6 and n == 8 else most
    rows = 8
    while rows > n or rows > most:
        rows //= 2
    return rows


class Factor(NamedTuple):
    """A product in a sum: the transpose of packed weights, times rows of lanes.

    Attributes
    ----------
    packed : int
        Address of the weights, packed from ``(k, n)``.
    right : int
        Address of `k` rows.
    k : int
        The inner dimension; 0 if there is no product.
    """

    packed: int
    right: int
    k: int


@intrinsic
def _tile(typingctx, zero, number, first, second, c, start, row):
    """A tile of ``number // 32`` vectors and ``number % 32`` rows, ``c = start + A1 @ B1 + A2 @ B2``.

    `first` and `second` are the addresses of A, bytes from column to column of A, address of B, and the inner dimension.
    """

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        factors = [cgutils.unpack_tuple(builder, factor) for factor in args[2:4]]
        done = builder.append_basic_block("done")
        cases = builder.switch(args[1], done)
        for vectors in LANE_VECTORS:
            for rows in LANE_HEIGHTS:
                if rows > _MOST_ROWS[vectors]:
                    continue
                block = builder.append_basic_block(f"lanes{rows}x{vectors}")
                cases.add_case(ir.Constant(emit.word, 32 * vectors + rows), block)
                builder.position_at_end(block)
                emit_tile(emit, rows, vectors, factors, *args[4:])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    n = types.intp
    return types.void(zero, n, first, second, n, n, n), codegen


def emit_tile(emit: Emitter, rows: int, vectors: int, factors: list, c: Any, start: Any, row: Any) -> None:
    """Emit a tile: its start, a loop over the inner dimensions of both products, and the stores."""
    builder, word = emit.builder, emit.word
    zero, one = (ir.Constant(word, n) for n in (0, 1))
    cells = [(i, j) for i in range(rows) for j in range(vectors)]
    entry = builder.block
    read, factor, step, ends, store = (
        builder.append_basic_block(name) for name in ("read", "factor", "step", "ends", "store")
    )
    builder.cbranch(builder.icmp_signed("!=", start, zero), read, factor)

    builder.position_at_end(read)
    before = [emit.load(emit.plus(start, row, i), j, None) for i, j in cells]
    builder.branch(factor)

    builder.position_at_end(factor)
    number = builder.phi(word)
    sums = [builder.phi(emit.vector) for _ in cells]
    for phi, value in zip([number, *sums], [zero, *[emit.nothing] * len(cells)], strict=True):
        phi.add_incoming(value, entry)
    for phi, value in zip([number, *sums], [zero, *before], strict=True):
        phi.add_incoming(value, read)
    second = builder.icmp_signed("!=", number, zero)
    a, a_step, b, k = (builder.select(second, two, one) for one, two in zip(*factors, strict=True))
    builder.cbranch(builder.icmp_signed(">", k, zero), step, ends)

    builder.position_at_end(step)
    left_steps, a_at, b_at = (builder.phi(word) for _ in range(3))
    inner = [builder.phi(emit.vector) for _ in cells]
    for phi, value in zip([left_steps, a_at, b_at, *inner], [k, a, b, *sums], strict=True):
        phi.add_incoming(value, factor)
    right = [emit.load(b_at, j, None) for j in range(vectors)]
    new = []
    for i in range(rows):
        where = builder.inttoptr(builder.add(a_at, word(i * emit.size)), emit.scalar.as_pointer())
        left = emit.splat(builder.load(where, align=emit.size), emit.vector)
        new += [builder.call(emit.fma, [left, right[j], inner[i * vectors + j]]) for j in range(vectors)]
    left_after = builder.sub(left_steps, one)
    after = [left_after, builder.add(a_at, a_step), builder.add(b_at, row), *new]
    for phi, value in zip([left_steps, a_at, b_at, *inner], after, strict=True):
        phi.add_incoming(value, step)
    builder.cbranch(builder.icmp_signed(">", left_after, zero), step, ends)

    builder.position_at_end(ends)
    reached = [builder.phi(emit.vector) for _ in cells]
    for phi, skipped, value in zip(reached, sums, new, strict=True):
        phi.add_incoming(skipped, factor)
        phi.add_incoming(value, step)
    for phi, value in zip([number, *sums], [builder.add(number, one), *reached], strict=True):
        phi.add_incoming(value, ends)
    builder.cbranch(builder.icmp_signed("==", number, zero), factor, store)

    builder.position_at_end(store)
    for (i, j), value in zip(cells, reached, strict=True):
        emit.store(value, emit.plus(c, row, i), j, None)


@linked
@jit(inner=True, few_passes=True)
def lane_product(zero, first, second, n, c, start, row, size):
    """``c = start + B1.T @ right1 + B2.T @ right2`` for two :class:`Factor`; all rows are `row` bytes, without gaps.

    Parameters
    ----------
    zero : float
        A number whose type is the dtype, of `size` bytes.
    n : int
        Rows of `c`.
    c, start : int
        Addresses; a `start` of 0 means zeros.
    """
    n_lanes = lanes_of(zero)
    panel, vectors = VECTORS * n_lanes, row // (n_lanes * size)
    most = _MOST_ROWS[vectors]
    for j in range(0, n, panel):
        columns = smaller(panel, n - j)
        padded = (columns + n_lanes - 1) // n_lanes * n_lanes * size
        i = 0
        while i < columns:
            rows = tile_height(columns - i, most)
            _tile(
                zero,
                32 * vectors + rows,
                (first.packed + (j * first.k + i) * size, padded, first.right, first.k),
                (second.packed + (j * second.k + i) * size, padded, second.right, second.k),
                c + (j + i) * row,
                start + (j + i) * row if start != 0 else 0,
                row,
            )
            i += rows


@intrinsic
def _dot_tile(typingctx, zero, number, a, b, c, n_steps, n_vectors, accumulate):
    """A tile of `dot_lanes` of ``number // 16`` rows and ``number % 16`` columns."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        matrices = [cgutils.unpack_tuple(builder, matrix) for matrix in args[2:5]]
        done = builder.append_basic_block("done")
        cases = builder.switch(args[1], done)
        for rows in (LANE_DOT_ROWS, 1):
            for columns in (_DOT_COLUMNS, 1):
                block = builder.append_basic_block(f"dots{rows}x{columns}")
                cases.add_case(ir.Constant(emit.word, 16 * rows + columns), block)
                builder.position_at_end(block)
                emit_dots(emit, rows, columns, matrices, args[5:])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    n = types.intp
    return types.void(zero, n, a, b, c, n, n, n), codegen


def emit_dots(emit: Emitter, rows: int, columns: int, matrices: list, counts: Any) -> None:
    """Emit the sums of one tile over all steps and vectors, then the sums of their lanes."""
    builder, word = emit.builder, emit.word
    (a, a_row, a_step), (b, b_row, b_step), (c, c_row, c_column) = matrices
    n_steps, n_vectors, accumulate = counts
    zero, one, vector = (ir.Constant(word, n) for n in (0, 1, emit.lanes * emit.size))
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    a_rows = [emit.plus(a, a_row, i) for i in range(rows)]
    b_rows = [emit.plus(b, b_row, j) for j in range(columns)]
    entry = builder.block
    step, each, after, end = (builder.append_basic_block(name) for name in ("step", "each", "after", "end"))
    builder.branch(step)

    builder.position_at_end(step)
    s, a_at, b_at = (builder.phi(word) for _ in range(3))
    sums = [builder.phi(emit.vector) for _ in cells]
    for phi, value in zip([s, a_at, b_at, *sums], [zero] * 3 + [emit.nothing] * len(cells), strict=True):
        phi.add_incoming(value, entry)
    builder.cbranch(builder.icmp_signed("<", s, n_steps), each, end)

    builder.position_at_end(each)
    v, at = builder.phi(word), builder.phi(word)
    inner = [builder.phi(emit.vector) for _ in cells]
    for phi, value in zip([v, at, *inner], [zero, zero, *sums], strict=True):
        phi.add_incoming(value, step)

    def loaded(base: Any, offset: Any) -> Any:
        return emit.load(builder.add(builder.add(base, offset), at), 0, None)

    left = [loaded(base, a_at) for base in a_rows]
    right = [loaded(base, b_at) for base in b_rows]
    new = [builder.call(emit.fma, [left[i], right[j], x]) for (i, j), x in zip(cells, inner, strict=True)]
    following = builder.add(v, one)
    for phi, value in zip([v, at, *inner], [following, builder.add(at, vector), *new], strict=True):
        phi.add_incoming(value, each)
    builder.cbranch(builder.icmp_signed("<", following, n_vectors), each, after)

    builder.position_at_end(after)
    ends = [builder.add(s, one), builder.add(a_at, a_step), builder.add(b_at, b_step), *new]
    for phi, value in zip([s, a_at, b_at, *sums], ends, strict=True):
        phi.add_incoming(value, after)
    builder.branch(step)

    builder.position_at_end(end)
    adding = builder.icmp_signed("!=", accumulate, zero)
    for (i, j), value in zip(cells, sums, strict=True):
        where = builder.inttoptr(emit.plus(emit.plus(c, c_row, i), c_column, j), emit.scalar.as_pointer())
        before = builder.select(adding, builder.load(where, align=emit.size), emit.scalar(0.0))
        builder.store(builder.fadd(before, _sum_of_lanes(emit, value)), where, align=emit.size)


def _sum_of_lanes(emit: Emitter, value: Any) -> Any:
    builder, n = emit.builder, emit.lanes
    undefined = ir.Constant(emit.vector, ir.Undefined)
    while n > 1:
        n //= 2
        half = ir.Constant(emit.index, [(i + n) % emit.lanes for i in range(emit.lanes)])
        value = builder.fadd(value, builder.shuffle_vector(value, undefined, half))
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@linked
@jit(inner=True, few_passes=True)
def dot_lanes(zero, a, m, b, n, c, n_steps, n_vectors, accumulate):
    """``c[i, j] (+)= sum(a[s, i] * b[s, j])`` over all steps and lanes: the weight gradient of a chunk of steps.

    Parameters
    ----------
    a, b : Strided
        Address, bytes of a row of lanes, bytes from step to step; `m` and `n` rows.
    c : Strided
        The result.
    """
    i = 0
    while i < m:
        rows = LANE_DOT_ROWS if m - i >= LANE_DOT_ROWS else 1
        j = 0
        while j < n:
            columns = _DOT_COLUMNS if n - j >= _DOT_COLUMNS else 1
            _dot_tile(
                zero,
                16 * rows + columns,
                Strided(a.at + i * a.row, a.row, a.column),
                Strided(b.at + j * b.row, b.row, b.column),
                Strided(c.at + i * c.row + j * c.column, c.row, c.column),
                n_steps,
                n_vectors,
                accumulate,
            )
            j += columns
        i += rows


def _emit_transpose(emit: Emitter, a: Any, a_row: Any, b: Any, b_row: Any, loads: list, stores: list) -> None:
    """Emit the transpose of a square: for each row of `a` its number and mask, and for each row of `b` the mask."""
    builder = emit.builder
    rows = [emit.load(builder.add(a, builder.mul(a_row, i)), 0, mask) for i, mask in loads]
    for i, (row, mask) in enumerate(zip(transposed_rows(emit, rows), stores, strict=True)):
        emit.store(row, emit.plus(b, b_row, i), 0, mask)


def _square(build: Any) -> Any:
    """The codegen of a transpose of at most as many rows and columns as a vector has lanes.

    ``build(emit, n_rows, n_columns, *others)`` gives the loads and stores of an incomplete square.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        _, a, a_row, n_rows, n_columns, b, b_row, *others = args
        emit = Emitter(builder, context.get_value_type(kind), 4 if kind == types.float32 else 8)
        n = ir.Constant(emit.word, emit.lanes)
        whole = builder.and_(builder.icmp_signed(">=", n_rows, n), builder.icmp_signed(">=", n_columns, n))
        with builder.if_else(whole) as (all_of_it, part_of_it):
            with all_of_it:
                loads = [(emit.word(i), None) for i in range(emit.lanes)]
                _emit_transpose(emit, a, a_row, b, b_row, loads, [None] * emit.lanes)
            with part_of_it:
                _emit_transpose(emit, a, a_row, b, b_row, *build(emit, n_rows, n_columns, *others))
        return context.get_dummy_value()

    return codegen


def _chosen(emit: Emitter, condition: Any, mask: Any) -> Any:
    return emit.builder.select(condition, mask, ir.Constant(emit.bits, None))


@intrinsic
def _transpose_in(typingctx, zero, a, a_row, n_rows, n_columns, b, b_row, repeat):
    """``b = a.T``; lanes from `n_rows` on are zero, or those of the last row of `a`."""

    def build(emit, n_rows, n_columns, repeat):
        builder, columns = emit.builder, emit.mask(n_columns)
        again, last = builder.icmp_signed("!=", repeat, emit.word(0)), builder.sub(n_rows, emit.word(1))
        everything = ir.Constant(emit.bits, [1] * emit.lanes)
        loads, stores = [], []
        for i in range(emit.lanes):
            there = builder.icmp_signed("<", emit.word(i), n_rows)
            row = builder.select(there, emit.word(i), last)
            loads.append((row, _chosen(emit, builder.or_(there, again), columns)))
            stores.append(_chosen(emit, builder.icmp_signed("<", emit.word(i), n_columns), everything))
        return loads, stores

    n = types.intp
    return types.void(zero, n, n, n, n, n, n, n), _square(build)


@intrinsic
def _transpose_out(typingctx, zero, a, a_row, n_rows, n_columns, b, b_row):
    """``b = a.T``; nothing but `n_rows` columns and `n_columns` rows of `b` is written."""

    def build(emit, n_rows, n_columns):
        builder, columns, lanes = emit.builder, emit.mask(n_columns), emit.mask(n_rows)
        loads, stores = [], []
        for i in range(emit.lanes):
            loads.append(
                (emit.word(i), _chosen(emit, builder.icmp_signed("<", emit.word(i), n_rows), columns))
            )
            stores.append(_chosen(emit, builder.icmp_signed("<", emit.word(i), n_columns), lanes))
        return loads, stores

    n = types.intp
    return types.void(zero, n, n, n, n, n, n), _square(build)


@linked
@jit(inner=True, few_passes=True)
def to_lanes(zero, source, n, n_columns, target, row, repeat):
    """Columns of `n` sequences become rows of lanes, of `row` bytes, at the address `target`; `source` is Strided.

    Lanes without a sequence are zero, or, if `repeat` is not 0, those of the last one, so that they hold numbers of the size
    of the others.
    """
    n_lanes, size = lanes_of(zero), source.column
    for r in range(0, row // size, n_lanes):
        first = smaller(r, n - 1)
        rows = n - first if first == r or repeat != 0 else 0
        for c in range(0, n_columns, n_lanes):
            _transpose_in(
                zero,
                source.at + first * source.row + c * size,
                source.row,
                rows,
                n_columns - c,
                target + c * row + r * size,
                row,
                repeat,
            )


@linked
@jit(inner=True, few_passes=True)
def from_lanes(zero, source, row, n_columns, target, n):
    """Rows of lanes at the address `source`, of `row` bytes, become the columns of `n` sequences of the Strided `target`."""
    n_lanes, size = lanes_of(zero), target.column
    for r in range(0, n, n_lanes):
        for c in range(0, n_columns, n_lanes):
            at = target.at + r * target.row + c * size
            _transpose_out(zero, source + c * row + r * size, row, n_columns - c, n - r, at, target.row)

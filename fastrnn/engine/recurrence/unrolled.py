"""Functions of the time loops that have a second, unrolled form for small layers.

In a time step of few units, choosing tiles, making views and calling functions takes more time than the arithmetic. The
class of an unrolled cell contains the number of units (see `EquationsCell.unrolled`). For such a cell the time loops are
compiled with constants in place of settings; they process one sequence, the recurrent product is straight-line code, and
the loops over units have a constant number of iterations. Where the units fill vectors, the body of a step computes the
recurrent product too, and pre-activations stay in registers. The order of additions is that of the other time loops, so
outputs are the same bits.

Each number of units is compiled separately, in two to three seconds. Therefore these kernels run only if a layer has
``unroll=True``, for single sequences, at most `tuning.MAX_UNROLLED_UNITS` units, and no dropout of the recurrent product.
Several sequences of a small layer are lanes of vectors, with `unroll` and without (see `lane_plans`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine import tuning
from fastrnn.engine.kernels.micro_kernel import VECTORS, Emitter
from fastrnn.engine.numba_private.services import STOCK
from fastrnn.engine.recurrence.contract import UnrollableCell
from fastrnn.engine.recurrence.rows import active_rows
from fastrnn.engine.recurrence.split_step import split_product
from fastrnn.engine.runtime.jit import body_of
from fastrnn.engine.runtime.views import data_address, fill, part, segment

__all__ = [
    "product_back",
    "product_forward",
    "product_weights",
    "running_rows",
    "sizes",
    "suited",
    "unrolled_if_small",
]


def unrolled_if_small(cell: Any) -> Any:
    """The unrolled cell, or the cell itself if it has no unrolled form or too many units, and on the stock path."""
    if STOCK:
        return cell
    small = isinstance(cell, UnrollableCell) and cell.n_units <= tuning.MAX_UNROLLED_UNITS  # type: ignore[attr-defined]
    return cell.unrolled() if small else cell


def suited(cell: Any, n_batch: int, recurrent_masks: bool = False) -> Any:
    """The cell itself; the looped form of an unrolled cell for several sequences or with dropout of the states."""
    if not isinstance(cell, UnrollableCell) or cell.units is None or (n_batch == 1 and not recurrent_masks):
        return cell
    return cell.looped()


def _units(cell: Any) -> Any:
    """The number of units in the type of a cell."""
    cls = cell.instance_class
    return cls.units if issubclass(cls, UnrollableCell) else None


def sizes(cell, settings):
    """Units, gates, states, whether the cell is split, whether it is recurrent, late gates; constants if unrolled."""
    return (
        settings["n_units"],
        settings["n_gates"],
        settings["n_states"],
        settings["split"],
        settings["recurrent"],
        settings["late"],
    )


@body_of(sizes)
def _sizes(cell, settings):
    units = _units(cell)
    if units is None:
        return sizes
    traits = cell.instance_class(units).traits()
    values = units, traits.n_gates, traits.n_states, int(traits.split), int(traits.recurrent), traits.late
    return lambda cell, settings: values


def running_rows(cell, schedule, s, r0, r1):
    """Number of the sorted rows ``r0 ... r1`` that run at step `s`; 1 for an unrolled cell."""
    return active_rows(schedule, s, r0, r1)


@body_of(running_rows)
def _running_rows(cell, *_):
    if _units(cell) is None:
        return running_rows
    return lambda cell, schedule, s, r0, r1: 1 if schedule.active[s] > r0 else 0


def product_forward(cell, team, n_slices, a, packed, n, c, start):
    """The recurrent product of a step: `split_product`, or straight-line code if the cell is unrolled."""
    split_product(team, n_slices, a, packed, n, c, start)


def product_back(cell, team, n_slices, a, packed, n, c, start):
    """As `product_forward`, for the gradient of the recurrent product's left operand."""
    split_product(team, n_slices, a, packed, n, c, start)


@body_of(product_forward)
def _product_forward(cell, team, n_slices, a, packed, n, c, start):
    if _units(cell) is None:
        return product_forward
    if cell.instance_class.computes_product(c.dtype.bitwidth):
        return lambda cell, team, n_slices, a, packed, n, c, start: None
    return _row_forward


def product_weights(cell, weights, settings):
    """The recurrent kernel and bias for a body that computes the product, or None."""
    return None


@body_of(product_weights)
def _product_weights(cell, weights, settings):
    units = _units(cell)
    if units is None or not cell.instance_class.computes_product(weights.dtype.bitwidth):
        return lambda cell, weights, settings: None
    width = units * cell.instance_class(units).traits().n_gates
    return lambda cell, weights, settings: (
        segment(weights, settings["recurrent_kernel"], settings["recurrent_size"]),
        segment(weights, settings["recurrent_bias"], width),
    )


@body_of(product_back)
def _product_back(cell, *_):
    return product_back if _units(cell) is None else _row_back


def _row_forward(cell, team, n_slices, a, packed, n, c, start):
    _forward_row(
        cell, c.dtype.type(0), data_address(a), data_address(packed), data_address(start), data_address(c)
    )


def _row_back(cell, team, n_slices, a, packed, n, c, start):
    if start.shape[0] == 0:
        fill(part(c, 0, 0, n), 0)
    at = data_address(c)
    _back_row(cell, c.dtype.type(0), data_address(a), data_address(packed), at, at)


def _group_width(cell: Any) -> int:
    """Columns of one recurrent product."""
    traits = cell.instance_class(_units(cell)).traits()
    return (1 if traits.late else traits.n_gates) * _units(cell)


@intrinsic
def _forward_row(typingctx, cell, zero, a, packed, start, c):
    """``c = start + a @ B`` for one row of units; addresses."""
    return _row_product(cell, zero, _units(cell), _group_width(cell), 1)


@intrinsic
def _back_row(typingctx, cell, zero, a, packed, start, c):
    """``c = start + a @ B`` for one row of gates' gradients; addresses.

    B has many rows and few columns, so each column has several sums, which are added at the end.
    """
    return _row_product(cell, zero, _group_width(cell), _units(cell), tuning.UNROLLED_COLUMN_SUMS)


def _row_product(cell: Any, zero: Any, k: int, n: int, n_sums: int) -> Any:
    def codegen(context, builder, signature, args):
        emit = Emitter(builder, context.get_value_type(zero), 4 if zero == types.float32 else 8)
        a, packed, start, c = args[2:]
        columns = _columns(emit, k, n)
        for group in range(0, len(columns), tuning.UNROLLED_SUMS):
            chosen = columns[group : group + tuning.UNROLLED_SUMS]
            _emit_columns(emit, k, chosen, (a, packed, start, c), n_sums)
        return context.get_dummy_value()

    return types.void(cell, zero, *[types.intp] * 4), codegen


def _columns(emit: Emitter, k: int, n: int) -> list[tuple[int, int, int, int]]:
    """The vectors of columns: the offset in the packed matrix, bytes to the next row, column and lanes of each.

    The lanes are 0 for a whole vector.
    """
    found = []
    width = VECTORS * emit.lanes
    for j in range(0, n, width):
        n_vectors = -(-min(width, n - j) // emit.lanes)
        for v in range(n_vectors):
            column = j + v * emit.lanes
            tail = n - column if n - column < emit.lanes else 0
            found.append(
                ((j * k + v * emit.lanes) * emit.size, n_vectors * emit.lanes * emit.size, column, tail)
            )
    return found


def _emit_columns(
    emit: Emitter, k: int, columns: list[tuple[int, int, int, int]], addresses: tuple, n_sums: int
) -> None:
    builder, word = emit.builder, emit.word
    a, packed, start, c = addresses
    masks = [emit.mask(ir.Constant(word, tail)) if tail else None for *_, tail in columns]

    def plus(address: Any, offset: int) -> Any:
        return builder.add(address, ir.Constant(word, offset))

    n_sums = max(1, min(n_sums, tuning.UNROLLED_SUMS // len(columns)))
    first = [
        emit.load(plus(start, col * emit.size), 0, m)
        for (_, _, col, _), m in zip(columns, masks, strict=True)
    ]
    sums = [first] + [[emit.nothing] * len(columns) for _ in range(1, n_sums)]
    for i in range(k):
        source = builder.inttoptr(plus(a, i * emit.size), emit.scalar.as_pointer())
        left = emit.splat(builder.load(source, align=emit.size), emit.vector)
        right = [emit.load(plus(packed, at + i * step), 0, None) for at, step, _, _ in columns]
        before = sums[i % n_sums]
        sums[i % n_sums] = [builder.call(emit.fma, [left, b, x]) for b, x in zip(right, before, strict=True)]
    total = sums[0]
    for other in sums[1:]:
        total = [builder.fadd(x, y) for x, y in zip(total, other, strict=True)]
    for value, (_, _, column, _), mask in zip(total, columns, masks, strict=True):
        emit.store(value, plus(c, column * emit.size), 0, mask)

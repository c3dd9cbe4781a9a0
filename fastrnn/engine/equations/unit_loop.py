"""A loop over the units of a row, for a body that maps numbers to numbers, with any number of inputs and outputs.

For an ordinary loop, LLVM checks at run time that no pair of rows overlaps, and does not vectorise it with more than about
eight pairs. This loop has metadata that declares its iterations independent: two rows are either the same or do not overlap.
It also sets the number of interleaved vectors. A tanh is a chain of about 17 dependent operations, so with one vector at a
time the execution units are idle; LLVM's own choice, by the number of registers, is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine import tuning
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS, VECTORS
from fastrnn.engine.numba_private.services import PLAIN, cgutils
from fastrnn.engine.runtime.jit import body_of

__all__ = ["for_each_unit", "suits_registers"]

_intrinsic: Any = intrinsic


def suits_registers(n_units: int, n_gates: int, bits: int) -> bool:
    """Whether `for_each_unit` should compute a cell's recurrent product too.

    Each gate's columns must be inside one panel of the packed matrix, or fill whole panels. With many sums at once, LLVM
    computes one after the other.
    """
    width, lanes = _panel_width(bits), max(1, VECTOR_BITS // bits)
    n_vectors = -(-n_units // lanes)
    most = tuning.PRODUCT_SUMS if n_vectors == 1 else tuning.PRODUCT_SUMS_OF_SEVERAL
    return n_gates * n_vectors <= most and (width % n_units == 0 or n_units % width == 0)


def _panel_width(bits: int) -> int:
    return VECTORS * max(1, VECTOR_BITS // bits)


class _Product(NamedTuple):
    """A gate's columns of the product of a row of states and a packed matrix; LLVM's values.

    Attributes
    ----------
    left : list
        The states.
    right : pointer
        The matrix.
    gate : int
        Number of the gate.
    width : int
        Number of columns of all gates.
    bits : int
        Width of the numbers.
    """

    left: list[Any]
    right: Any
    gate: Any
    width: Any
    bits: int


def _add_products(
    builder: Any, products: dict[int, _Product], starts: list[Any], panel: int, j: Any
) -> tuple[list[Any], list[Any]]:
    """The starts of unit `j` plus the products, in the order of additions of the micro-kernel, and the loads of weights.

    With gates wider than a panel, unit `j` is in panel number `panel` of each gate.
    """
    sums, loads, rows = list(starts), [], {}
    for i, product in products.items():
        kind, n_units, bits = j.type, len(product.left), product.bits
        size, lanes = _panel_width(bits), max(1, VECTOR_BITS // bits)
        # The compiler computes all of this.
        column = builder.add(builder.mul(product.gate, kind(n_units)), kind(panel * size))
        first = builder.and_(column, kind(-size))
        whole = builder.and_(builder.add(builder.sub(product.width, first), kind(lanes - 1)), kind(-lanes))
        stride = builder.select(builder.icmp_signed("<", whole, kind(size)), whole, kind(size))
        place = builder.add(builder.mul(first, kind(n_units)), builder.sub(column, first))
        rows[i] = builder.add(place, builder.sub(j, kind(panel * size))), stride
    for k in range(max((len(product.left) for product in products.values()), default=0)):
        for i, product in products.items():
            place, stride = rows[i]
            at = builder.add(place, builder.mul(stride, stride.type(k)))
            loads.append(builder.load(builder.gep(product.right, [at])))
            sums[i] = _fused(builder, product.left[k], loads[-1], sums[i])
    return sums, loads


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``; the instruction of the micro-kernel."""
    name = "f32" if isinstance(a.type, ir.FloatType) else "f64"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(a.type, [a.type] * 3), f"llvm.fmuladd.{name}"
    )
    return builder.call(function, [a, b, c])


class _Distinct(ir.MDValue):
    """A distinct metadata node, for access groups and loops; llvmlite would merge equal nodes."""

    def __init__(self, module: Any, operands: Any, itself: bool) -> None:
        super().__init__(module, operands, name=str(len(module.metadata)))
        self.itself = itself

    def descr(self, buf: Any) -> None:
        """Write the node; the first operand of a loop's node is the node itself."""
        operands = [op.get_reference() for op in ([self] if self.itself else []) + list(self.operands)]
        buf += ("distinct !{ " + ", ".join(operands) + " }", "\n")

    __eq__, __hash__ = object.__eq__, object.__hash__


def _for_each_unit(typingctx: Any, body: Any, at_once: Any, n: Any, outs: Any, ins: Any, numbers: Any) -> Any:
    if not isinstance(at_once, types.IntegerLiteral):
        return None
    interleave = at_once.literal_value
    rows = [a[0] if isinstance(a, types.BaseTuple) else a for a in ins]
    call = body.get_call_type(typingctx, (*(a.dtype for a in rows), *numbers), {})

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        module, function = builder.module, context.get_function(body, call)

        def pointers(kinds: Any, value: Any) -> list[Any]:
            arrays = zip(kinds, cgutils.unpack_tuple(builder, value, len(kinds)), strict=True)
            return [context.make_array(kind)(context, builder, array).data for kind, array in arrays]

        sources: list[Any] = []
        products: dict[int, _Product] = {}
        for kind, value in zip(ins, cgutils.unpack_tuple(builder, args[4], len(ins)), strict=True):
            if isinstance(kind, types.BaseTuple):
                *arrays, gate, width = cgutils.unpack_tuple(builder, value, len(kind))
                start, left, right = (
                    context.make_array(k)(context, builder, a).data
                    for k, a in zip(kind, arrays, strict=False)
                )
                states = [builder.load(builder.gep(left, [gate.type(k)])) for k in range(n.literal_value)]
                products[len(sources)] = _Product(states, right, gate, width, kind[0].dtype.bitwidth)
                sources.append(start)
            else:
                sources.append(context.make_array(kind)(context, builder, value).data)
        count, targets = args[2], pointers(outs, args[3])
        given = cgutils.unpack_tuple(builder, args[5], len(numbers))
        several = isinstance(call.return_type, types.BaseTuple)

        def loop(start: Any, end: Any, **hints: Any) -> None:
            """Emit a loop from start to end; LLVM may reorder its iterations."""
            group = _Distinct(module, (), itself=False)
            options = [["llvm.loop.parallel_accesses", group]]
            options += [[f"llvm.loop.{name.replace('_', '.')}", value] for name, value in hints.items()]
            loop_id = _Distinct(module, [module.add_metadata(option) for option in options], itself=True)
            before, head = builder.block, builder.append_basic_block("units")
            after = builder.append_basic_block("units.end")
            builder.cbranch(builder.icmp_signed("<", start, end), head, after)
            builder.position_at_end(head)
            j = builder.phi(count.type)
            j.add_incoming(start, before)
            loads = [builder.load(builder.gep(pointer, [j])) for pointer in sources]
            values, weights = _add_products(builder, products, loads, panel, j)
            result = function(builder, [*values, *given])
            results = cgutils.unpack_tuple(builder, result, len(outs)) if several else [result]
            stores = [builder.store(v, builder.gep(p, [j])) for p, v in zip(targets, results, strict=True)]
            for access in loads + stores + weights:
                access.set_metadata("llvm.access.group", group)
            following = builder.add(j, count.type(1), flags=["nsw"])
            j.add_incoming(following, builder.block)
            again = builder.cbranch(builder.icmp_signed("<", following, end), head, after)
            again.set_metadata("llvm.loop", loop_id)
            builder.position_at_end(after)

        number, yes = ir.IntType(32), ir.IntType(1)(1)
        lanes = max(1, VECTOR_BITS // outs[0].dtype.bitwidth)
        constant = isinstance(n, types.IntegerLiteral)
        if constant:
            # Fewer units than lanes: narrower vectors. What was stored is not forwarded to a masked load beyond it.
            lanes = min(lanes, 1 << max(1, n.literal_value).bit_length() - 1)

        def loops(start: Any, count: Any) -> None:
            """Emit the loops from a start, a multiple of the lanes, to the end."""
            if interleave == 0 or lanes == 1:
                loop(start, count)
                return
            width = {"vectorize_width": number(lanes)}
            if interleave > 1:
                end = builder.and_(count, count.type(-lanes * interleave))
                loop(start, end, interleave_count=number(interleave), **width)
                start = end
            if VECTOR_BITS < 512 or interleave == 1 or constant:
                # Masked loads and stores are slow without AVX-512; with it, the loop for the rest takes whole vectors too,
                # and a cell has fewer loops to compile.
                end = builder.and_(count, count.type(-lanes))
                loop(start, end, interleave_count=number(1), **width)
                start = end
            loop(start, count, interleave_count=number(1), vectorize_predicate_enable=yes, **width)

        panel = 0
        if products and n.literal_value > _panel_width(outs[0].dtype.bitwidth):
            step = _panel_width(outs[0].dtype.bitwidth)
            for panel in range(n.literal_value // step):
                loops(count.type(panel * step), count.type((panel + 1) * step))
        else:
            loops(count.type(0), count)
        return context.get_dummy_value()

    return types.void(body, at_once, n, outs, ins, numbers), codegen


def _in_python(n_outs: int, n_ins: int, n_numbers: int) -> Callable:
    """The loop as a Python function, for a given number of rows and numbers."""
    given = [f"ins[{k}][j]" for k in range(n_ins)] + [f"numbers[{k}]" for k in range(n_numbers)]
    stores = (
        ["outs[0][j] = values"] if n_outs == 1 else [f"outs[{k}][j] = values[{k}]" for k in range(n_outs)]
    )
    lines = ["def loop(body, at_once, n, outs, ins, numbers):", "    for j in range(n):"]
    lines += [f"        values = body({', '.join(given)})", *(f"        {store}" for store in stores)]
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    return scope["loop"]


if PLAIN:

    def for_each_unit(body, at_once, n, outs, ins, numbers):
        """``outs[:][j] = body(ins[:][j], *numbers)`` for all ``j < n``."""
        for j in range(n):
            results = body(*(row[j] for row in ins), *numbers)
            for out, value in zip(outs, results if isinstance(results, tuple) else (results,), strict=True):
                out[j] = value

    @body_of(for_each_unit, fastmath={"contract"})
    def _(body, at_once, n, outs, ins, numbers):
        return _in_python(len(outs), len(ins), len(numbers))

else:

    @_intrinsic(prefer_literal=True)
    def for_each_unit(typingctx, body, at_once, n, outs, ins, numbers):
        """``outs[:][j] = body(ins[:][j], *numbers)`` for all ``j < n``, `at_once` vectors at a time.

        Parameters
        ----------
        body : function
            An inlined function (see `runtime.jit.inlined`) that returns a number, or a tuple with a number for each output.
        at_once : int
            A constant: number of vectors that the main loop interleaves; 0: the compiler's choice.
        n : int
        outs, ins : tuple of 1-D arrays
            Rows of one type; two rows are the same or do not overlap. An input may be ``(start, left, right, gate, width)``:
            ``start`` plus columns ``gate * n ... (gate + 1) * n`` of the product of the row `left` of `n` numbers and the
            packed matrix `right` of `width` columns. `n` is a constant then, and fits the panels (see `suits_registers`).
        numbers : tuple of numbers
        """
        return _for_each_unit(typingctx, body, at_once, n, outs, ins, numbers)

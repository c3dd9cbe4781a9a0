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

    The units must fill vectors, or be a power of two below the length of one: then each vector is in one panel of the
    packed matrix.
    """
    lanes = _lanes(bits)
    vectors = n_units % lanes == 0 or (n_units < lanes and n_units & (n_units - 1) == 0)
    return vectors and n_units > 1 and n_gates * -(-n_units // lanes) <= tuning.PRODUCT_SUMS


def _lanes(bits: int) -> int:
    return max(1, VECTOR_BITS // bits)


def _panel_width(bits: int) -> int:
    return VECTORS * _lanes(bits)


class _Product(NamedTuple):
    """A gate's columns of the product of a row of states and a packed matrix; LLVM's values.

    Attributes
    ----------
    start, left, right : pointers
        What the product is added to, the states, and the matrix.
    gate : int
        Number of the gate.
    width : int
        Number of columns of all gates.
    """

    start: Any
    left: Any
    right: Any
    gate: Any
    width: Any


def _emit_products(builder: Any, products: list[_Product], n_units: int, bits: int) -> list[Any]:
    """Emit the products of all gates in the micro-kernel's order of additions; pointers to their sums.

    The sums are in memory only until LLVM has vectorised the loop that reads them: then it keeps them in registers.
    """
    scalar, word = products[0].start.type.pointee, products[0].gate.type
    lanes = min(n_units, _lanes(bits))
    vector, size = ir.VectorType(scalar, lanes), _panel_width(bits)
    name = f"llvm.fmuladd.v{lanes}f{bits}"
    fused = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    first, index = ir.IntType(32)(0), ir.VectorType(ir.IntType(32), lanes)
    undefined = ir.Constant(vector, ir.Undefined)

    def at(pointer: Any, place: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [place]), vector.as_pointer())

    def read(pointer: Any, place: Any) -> Any:
        return builder.load(at(pointer, place), align=bits // 8)

    memory, columns = [], []
    for product in products:
        sums = cgutils.alloca_once(builder, ir.ArrayType(scalar, n_units))
        memory.append(builder.gep(sums, [word(0), word(0)]))
        for unit in range(0, n_units, lanes):
            # The compiler computes all of this: the place of the vector in its panel, and the length of the panel's rows.
            column = builder.add(builder.mul(product.gate, word(n_units)), word(unit))
            panel = builder.and_(column, word(-size))
            whole = builder.add(builder.sub(product.width, panel), word(_lanes(bits) - 1))
            whole = builder.and_(whole, word(-_lanes(bits)))
            row = builder.select(builder.icmp_signed("<", whole, word(size)), whole, word(size))
            place = builder.add(builder.mul(panel, word(n_units)), builder.sub(column, panel))
            columns.append((product, memory[-1], word(unit), place, row))
    for group in range(0, len(columns), tuning.UNROLLED_SUMS):
        chosen = columns[group : group + tuning.UNROLLED_SUMS]
        sums = [read(product.start, unit) for product, _, unit, _, _ in chosen]
        for k in range(n_units):
            state = builder.load(builder.gep(products[0].left, [word(k)]))
            left = builder.shuffle_vector(
                builder.insert_element(undefined, state, first), undefined, ir.Constant(index, [0] * lanes)
            )
            for c, (product, _, _, place, row) in enumerate(chosen):
                right = read(product.right, builder.add(place, builder.mul(row, word(k))))
                sums[c] = builder.call(fused, [left, right, sums[c]])
            # Keeps the order of the loads: LLVM would compute one sum after the other, each waiting for itself.
            builder.fence("acq_rel", "singlethread")
        for value, (_, target, unit, _, _) in zip(sums, chosen, strict=True):
            builder.store(value, at(target, unit), align=bits // 8)
    return memory


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
                products[len(sources)] = _Product(start, left, right, gate, width)
                sources.append(None)
            else:
                sources.append(context.make_array(kind)(context, builder, value).data)
        if products:
            sums = _emit_products(builder, list(products.values()), n.literal_value, outs[0].dtype.bitwidth)
            for place, pointer in zip(products, sums, strict=True):
                sources[place] = pointer
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
            result = function(builder, [*loads, *given])
            results = cgutils.unpack_tuple(builder, result, len(outs)) if several else [result]
            stores = [builder.store(v, builder.gep(p, [j])) for p, v in zip(targets, results, strict=True)]
            for access in loads + stores:
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

        zero = count.type(0)
        width = {"vectorize_width": number(lanes)}
        if interleave == 0 or lanes == 1:
            loop(zero, count)
            return context.get_dummy_value()
        if constant and n.literal_value == lanes:
            # One vector; LLVM would rather unroll a short body to as many scalar ones.
            loop(zero, count, interleave_count=number(1), unroll_count=number(1), **width)
            return context.get_dummy_value()
        start = zero
        if interleave > 1:
            end = builder.and_(count, count.type(-lanes * interleave))
            loop(zero, end, interleave_count=number(interleave), **width)
            start = end
        if VECTOR_BITS < 512 or interleave == 1 or constant:
            # Masked loads and stores are slow without AVX-512; with it, the loop for the rest takes whole vectors too, and
            # a cell has fewer loops to compile.
            end = builder.and_(count, count.type(-lanes))
            loop(start, end, interleave_count=number(1), **width)
            start = end
        loop(start, count, interleave_count=number(1), vectorize_predicate_enable=yes, **width)
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
            packed matrix `right` of `width` columns. `n` is a constant then (see `suits_registers`).
        numbers : tuple of numbers
        """
        return _for_each_unit(typingctx, body, at_once, n, outs, ins, numbers)

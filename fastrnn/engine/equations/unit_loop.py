"""One loop over the units of a row, for a body that maps numbers to numbers: any number of inputs and outputs.

LLVM proves at run time that the rows of an ordinary loop don't overlap, pair by pair, and gives up from about eight pairs
on. This loop says itself that its turns are independent: two rows are either the same row or don't overlap. It also says
how many vectors to work on at once. A tanh is some 17 operations that wait for one another, so one vector at a time leaves
the pipes idle, and LLVM's own choice, by the number of registers, is one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.kernels.matmul import VECTOR_BITS
from fastrnn.engine.numba_private.emit import cgutils
from fastrnn.engine.runtime.jit import DISABLED

__all__ = ["for_each_unit"]

_intrinsic: Any = intrinsic


class _Distinct(ir.MDValue):
    """A metadata node unlike any other, as groups of accesses and loops need; llvmlite merges equal ones."""

    def __init__(self, module: Any, operands: Any, itself: bool) -> None:
        super().__init__(module, operands, name=str(len(module.metadata)))
        self.itself = itself

    def descr(self, buf: Any) -> None:
        """Write the node; a loop's first operand is the node itself."""
        operands = [op.get_reference() for op in ([self] if self.itself else []) + list(self.operands)]
        buf += ("distinct !{ " + ", ".join(operands) + " }", "\n")

    __eq__, __hash__ = object.__eq__, object.__hash__


def _for_each_unit(typingctx: Any, body: Any, at_once: Any, n: Any, outs: Any, ins: Any, numbers: Any) -> Any:
    if not isinstance(at_once, types.IntegerLiteral):
        return None
    interleave = at_once.literal_value
    call = body.get_call_type(typingctx, (*(a.dtype for a in ins), *numbers), {})

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        module, function = builder.module, context.get_function(body, call)

        def pointers(kinds: Any, value: Any) -> list[Any]:
            arrays = zip(kinds, cgutils.unpack_tuple(builder, value, len(kinds)), strict=True)
            return [context.make_array(kind)(context, builder, array).data for kind, array in arrays]

        count, targets, sources = args[2], pointers(outs, args[3]), pointers(ins, args[4])
        given = cgutils.unpack_tuple(builder, args[5], len(numbers))
        several = isinstance(call.return_type, types.BaseTuple)

        def loop(start: Any, end: Any, **hints: Any) -> None:
            """Turns from start to end, one after the other as it is written; LLVM may do them in any order."""
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
        if isinstance(n, types.IntegerLiteral):
            # Fewer units than lanes: narrower vectors. What was stored is not forwarded to a masked load beyond it.
            lanes = min(lanes, 1 << max(1, n.literal_value).bit_length() - 1)
        zero = count.type(0)
        if interleave == 0 or lanes == 1:
            loop(zero, count)
            return context.get_dummy_value()
        width = {"vectorize_width": number(lanes)}
        start = zero
        if interleave > 1:
            end = builder.and_(count, count.type(-lanes * interleave))
            loop(zero, end, interleave_count=number(interleave), **width)
            start = end
        end = builder.and_(count, count.type(-lanes))
        loop(start, end, interleave_count=number(1), **width)
        loop(end, count, interleave_count=number(1), vectorize_predicate_enable=yes, **width)
        return context.get_dummy_value()

    return types.void(body, at_once, n, outs, ins, numbers), codegen


if DISABLED:

    def for_each_unit(body, at_once, n, outs, ins, numbers):
        """``outs[:][j] = body(ins[:][j], *numbers)`` for all ``j < n``."""
        for j in range(n):
            results = body(*(row[j] for row in ins), *numbers)
            for out, value in zip(outs, results if isinstance(results, tuple) else (results,), strict=True):
                out[j] = value

else:

    @_intrinsic(prefer_literal=True)
    def for_each_unit(typingctx, body, at_once, n, outs, ins, numbers):
        """``outs[:][j] = body(ins[:][j], *numbers)`` for all ``j < n``, `at_once` vectors at a time.

        Parameters
        ----------
        body : function
            A part of kernels (see `engine.jit.inlined`); it returns a number, or a tuple of one for each output.
        at_once : int
            A constant: vectors that the main loop works on at once, 0 to leave it to the compiler.
        n : int
        outs, ins : tuple of 1-D arrays
            Rows of one type, the same or without overlap.
        numbers : tuple of numbers
        """
        return _for_each_unit(typingctx, body, at_once, n, outs, ins, numbers)

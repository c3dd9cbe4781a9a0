"""Functions compiled once on their own, which kernels reach through a symbol.

Numba copies everything a kernel calls into the kernel's own module and optimises it there again, once more for every
level of calls. That is right for small bodies and ruinous for big ones: the register tiles alone would cost every
kernel more than all the rest of it. A function decorated
with :func:`separate` is compiled and cached once per signature; its address is
given to LLVM's linker under a symbol, and kernels hold an external reference to that symbol. A kernel loaded from
disk has its references provided before it is linked (`jit._Cache` asks for that).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from fastrnn.engine import jit as _jit

__all__ = ["Arguments", "address", "address_of", "fetch", "separate", "spill"]


def _provider(dispatcher: Any) -> Callable[[tuple], str]:
    """Make a function's machine code known to the linker; what is returned gives the symbol for argument types."""
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
    symbols: dict[tuple, str] = {}

    def provide(arguments: tuple) -> str:
        """Compile (or load) for these argument types and make the symbol known; returns it."""
        if arguments not in symbols:
            dispatcher.compile(arguments)
            compiled = dispatcher.overloads[arguments]
            symbol = "fastrnn_" + hashlib.sha256(repr((name, arguments)).encode()).hexdigest()[:32]
            library = compiled.library
            binding.add_symbol(symbol, library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
            symbols[arguments] = symbol
            _jit.EXTERNAL_SYMBOLS[symbol] = (name, arguments)
        return symbols[arguments]

    _jit.EXTERNALS[name] = provide
    return provide


def separate(dispatcher: Any) -> Callable:
    """Make a function made by `jit` callable from other kernels without becoming a part of them.

    It must not raise: its status is not looked at.
    """
    if _jit.DISABLED:
        return dispatcher
    provide = _provider(dispatcher)

    def call(*args: Any) -> Any:
        return dispatcher(*args)

    @infer_global(call, typing_key=dispatcher.py_func)
    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            arguments = tuple(types.unliteral(a) for a in args)
            provide(arguments)
            return signature(dispatcher.overloads[arguments].signature.return_type, *arguments)

    @lower_builtin(dispatcher.py_func, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        symbol = provide(tuple(sig.args))
        kind: ir.FunctionType = context.call_conv.get_function_type(sig.return_type, sig.args)
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        _, result = context.call_conv.call_function(builder, function, sig.return_type, sig.args, args)
        return result

    call.dispatcher = dispatcher  # type: ignore[attr-defined]  # for calls from Python
    return call


# --------------------------------------------------------------------------------------------------------------------
# Functions called by address, with arguments of any types that lie in memory


class Arguments(types.Opaque):
    """Stands for a tuple of known types that lies somewhere: no data of its own, so all such calls look alike."""

    def __init__(self, kinds: types.BaseTuple) -> None:
        self.kinds = kinds
        super().__init__(f"Arguments({kinds})")


register_model(Arguments)(models.OpaqueModel)


@intrinsic
def spill(typingctx, arguments):
    """Put a tuple into the caller's frame; its address."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), ir.IntType(64))

    return types.intp(arguments), codegen


@intrinsic
def fetch(typingctx, arguments, at):
    """The tuple that `spill` put there."""

    def codegen(context, builder, signature, args):
        kinds = signature.return_type
        where = builder.inttoptr(args[1], context.get_value_type(kinds).as_pointer())
        value = builder.load(where)
        context.nrt.incref(builder, kinds, value)
        return value

    return arguments.kinds(arguments, types.intp), codegen


def _themselves(arguments: Any, at: int) -> Any:
    return arguments


if _jit.DISABLED:
    fetch = _themselves


def address(dispatcher: Any) -> Callable:
    """For kernels: a function that gives the address of a function ``(arguments, at, part)`` for a tuple of arguments.

    The function, made by `jit`, gets them back by ``fetch(arguments, at)``. It must not raise.
    """
    if _jit.DISABLED:
        return dispatcher
    provide = _provider(dispatcher)

    def symbol_for(kinds: Any) -> str:
        plain = types.BaseTuple.from_types(tuple(types.unliteral(kind) for kind in kinds))
        return provide((Arguments(plain), types.intp, types.intp))

    def address_in_kernel(arguments: tuple) -> int:
        raise NotImplementedError("for kernels; in Python, address_of() gives it")

    address_in_kernel.symbol_for = symbol_for  # type: ignore[attr-defined]

    @infer_global(address_in_kernel, typing_key=dispatcher.py_func)
    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            symbol_for(args[0])
            return signature(types.intp, *args)

    @lower_builtin(dispatcher.py_func, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind: ir.FunctionType = ir.FunctionType(ir.VoidType(), [])
        function = cgutils.get_or_insert_function(builder.module, kind, symbol_for(sig.args[0]))
        return builder.ptrtoint(function, ir.IntType(64))

    return address_in_kernel


def address_of(kernel: Any, kinds: tuple) -> int:
    """The address, for arguments of these types, of a function that `address` was given."""
    return binding.address_of_symbol(kernel.symbol_for(kinds))

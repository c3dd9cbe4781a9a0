"""Functions compiled once on their own, which kernels reach through a symbol.

Numba copies everything a kernel calls into the kernel's own module and optimises it there again, once more for every
level of calls. That is right for small bodies and ruinous for big ones: the register tiles alone would cost every
kernel more than all the rest of it. A function decorated
with :func:`separate` is compiled and cached once per signature; its address is
given to LLVM's linker under a symbol, and kernels hold an external reference to that symbol. A kernel loaded from
disk has its references provided before it is linked (`jit._Cache` asks for that). One decorated with
:func:`on_demand` is not even compiled until a kernel gets to the call: what only some networks need costs others nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import threading
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from fastrnn.engine.runtime import jit as _jit

__all__ = [
    "Arguments",
    "address",
    "address_of",
    "check",
    "complete",
    "fetch",
    "on_demand",
    "separate",
    "spill",
]


def _address(dispatcher: Any, arguments: tuple) -> int:
    """The address of the function for these argument types, compiled or loaded."""
    dispatcher.compile(arguments)
    compiled = dispatcher.overloads[arguments]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def _provider(dispatcher: Any, target: Callable[[Any, tuple], int] = _address) -> Callable[[tuple], str]:
    """Make a function's machine code known to the linker; what is returned gives the symbol for argument types.

    ``target(dispatcher, arguments)`` is the address that the symbol stands for.
    """
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
    symbols: dict[tuple, str] = {}

    def provide(arguments: tuple) -> str:
        """Make the symbol known for these argument types; returns it."""
        if arguments not in symbols:
            symbol = "fastrnn_" + hashlib.sha256(repr((name, arguments)).encode()).hexdigest()[:32]
            binding.add_symbol(symbol, target(dispatcher, arguments))
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
    return _linked(
        dispatcher,
        _provider(dispatcher),
        lambda arguments: dispatcher.overloads[arguments].signature.return_type,
    )


def on_demand(dispatcher: Any) -> Callable:
    """As :func:`separate`, for a function without a result: compiled when a kernel first gets to the call.

    Who calls such kernels from Python looks at :func:`check` afterwards.
    """
    if _jit.DISABLED:
        return dispatcher
    return _linked(dispatcher, _provider(dispatcher, _slot), lambda arguments: types.none, through_slot=True)


def complete() -> None:
    """Compile (or load) all that the kernels of this process would ask for on demand."""
    while _pending:
        next(iter(_pending.values()))()
        check()


def check() -> None:
    """Raise what kept a function that a kernel called from being compiled; the kernel went on without it."""
    if failures:
        raise RuntimeError("a kernel could not be compiled") from failures.pop()


def _linked(
    dispatcher: Any,
    provide: Callable[[tuple], str],
    result: Callable[[tuple], Any],
    through_slot: bool = False,
) -> Callable:
    """Let kernels call `dispatcher` by way of a symbol for each tuple of argument types.

    ``result(arguments)`` is the type of the result; the symbol is the function's, or that of a slot with its address.
    """

    def call(*args: Any) -> Any:
        if dispatcher.targetoptions.get("no_cpython_wrapper"):
            raise TypeError(f"{dispatcher.py_func.__name__}() is an inner function: only kernels can call it")
        return dispatcher(*args)

    @infer_global(call, typing_key=dispatcher.py_func)
    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            arguments = tuple(types.unliteral(a) for a in args)
            provide(arguments)
            return signature(result(arguments), *arguments)

    @lower_builtin(dispatcher.py_func, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind: ir.FunctionType = context.call_conv.get_function_type(sig.return_type, sig.args)
        symbol = provide(tuple(sig.args))
        if through_slot:
            function = _in_slot(builder, kind, symbol)
            with cgutils.if_likely(builder, cgutils.is_not_null(builder, function)):
                context.call_conv.call_function(builder, function, sig.return_type, sig.args, args)
            return context.get_dummy_value()
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        _, value = context.call_conv.call_function(builder, function, sig.return_type, sig.args, args)
        return value

    call.dispatcher = dispatcher  # type: ignore[attr-defined]  # for calls from Python
    return call


# --------------------------------------------------------------------------------------------------------------------
# Compiled on demand: the symbol stands for a slot that holds the address of the function, once there is one

#: The slots, kept for ever; and of those that are empty, how to fill them.
_slots: list[ctypes.c_void_p] = []
_pending: dict[int, Callable[[], None]] = {}
#: Why slots are still empty that should not be.
failures: list[BaseException] = []
_RESOLVER = "fastrnn_resolve"


def _slot(dispatcher: Any, arguments: tuple) -> int:
    pointer = ctypes.c_void_p()
    where = ctypes.addressof(pointer)

    def fill() -> None:
        try:
            pointer.value = _address(dispatcher, arguments)
        except BaseException as error:  # there is nobody to catch it: kernels lie between
            failures.append(error)
        else:
            _pending.pop(where, None)

    _slots.append(pointer)
    _pending[where] = fill
    return where


def _in_slot(builder: Any, kind: Any, symbol: str) -> Any:
    """The address in a slot, after a call of :func:`_resolve` where there is none."""
    module = builder.module
    slot = module.globals.get(symbol) or ir.GlobalVariable(module, kind.as_pointer(), symbol)
    with cgutils.if_unlikely(builder, cgutils.is_null(builder, builder.load(slot))):
        resolver = cgutils.get_or_insert_function(
            module, ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t]), _RESOLVER
        )
        builder.call(resolver, [builder.bitcast(slot, cgutils.voidptr_t)])
    return builder.load(slot)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _resolve(slot: int) -> None:
    """What a kernel calls that has come upon an empty slot."""
    fill = _pending.get(slot)
    if fill is None:  # another thread has been here
        return
    # On a thread of its own: an interrupt has to wait, because there is no way out of a kernel that can't go on.
    thread = threading.Thread(target=fill)
    thread.start()
    while thread.is_alive():
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()


if not _jit.DISABLED:
    binding.add_symbol(_RESOLVER, ctypes.cast(_resolve, ctypes.c_void_p).value or 0)


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
        if context.enable_nrt:
            context.nrt.incref(builder, kinds, value)
        return value

    return arguments.kinds(arguments, types.intp), codegen


def _itself(arguments: Any, at: int = 0) -> Any:
    return arguments


if _jit.DISABLED:
    spill = fetch = _itself


def address(dispatcher: Any) -> Callable:
    """For kernels: a function that gives the address of a function ``(arguments, at, part)`` for a tuple of arguments.

    The function, made by `jit`, gets them back by ``fetch(arguments, at)``. It must not raise.
    """
    if _jit.DISABLED:
        return lambda arguments: dispatcher
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

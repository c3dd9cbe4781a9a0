"""Functions that are compiled once separately, which kernels call through symbols.

Numba copies everything a kernel calls into the kernel's own module and optimises it there again, once more for every
level of calls. That is right for small bodies and ruinous for big ones: the register tiles alone would cost every
kernel more than all the rest of it. A function decorated
with :func:`linked` is compiled and cached once per signature; its address is
given to LLVM's linker under a symbol, and kernels hold an external reference to that symbol. A kernel loaded from
disk has its references provided before it is linked (`cache` asks for that).

One that is linked ``on_demand`` is compiled only when a call needs it: what only some networks use costs the
others nothing. Its symbol stands for a slot that holds its address. Which of these functions a call needs follows from
the call's options, so `launch` fills their slots before the kernel starts, in the thread that calls. Kernels never call
Python: one that came upon an empty slot would end there, which :func:`check` raises.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model

from fastrnn.engine.numba_private import services
from fastrnn.engine.numba_private.services import PLAIN, STOCK, add_symbol, address_of_symbol, cgutils
from fastrnn.engine.runtime import cache
from fastrnn.engine.runtime.interrupts import held
from fastrnn.engine.runtime.jit import body_of, inlined

__all__ = [
    "Arguments",
    "address",
    "address_of",
    "any_failed",
    "begin",
    "check",
    "complete",
    "fail",
    "failed",
    "fetch",
    "linked",
    "note_failure",
    "slots_of",
    "spill",
]


def _provider(dispatcher: Any, slot: Callable[[tuple], int] | None = None) -> Callable[[tuple], str]:
    """Make a function's machine code known to the linker; what is returned gives the symbol for argument types.

    The symbol stands for the code, or for the address ``slot(arguments)``.
    """
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
    symbols: dict[tuple, str] = {}

    def provide(arguments: tuple) -> str:
        """Register the symbol for these argument types, and return it."""
        if arguments not in symbols:
            symbol = (
                services.pipeline.SYMBOLS + hashlib.sha256(repr((name, arguments)).encode()).hexdigest()[:32]
            )
            if slot is None:
                services.dispatcher.give_address(
                    dispatcher,
                    arguments,
                    functools.partial(add_symbol, symbol),
                    functools.partial(symbols.pop, arguments, None),
                )
            else:
                add_symbol(symbol, slot(arguments))
            symbols[arguments] = symbol
            _names[_number(symbol)] = name
            cache.EXTERNAL_SYMBOLS[symbol] = (name, arguments)
        return symbols[arguments]

    cache.EXTERNALS[name] = provide
    return provide


def linked(dispatcher: Any = None, *, on_demand: bool = False) -> Any:
    """Make a function made by `jit` callable from other kernels without becoming a part of them.

    It should not raise: :func:`check` says that it did, in place of the exception.

    Parameters
    ----------
    dispatcher : dispatcher
        What `jit` has made of the function.
    on_demand : bool
        Compile it only when a call needs it (see `launch`); for functions without a result.
    """
    if dispatcher is None:
        return functools.partial(linked, on_demand=on_demand)
    if PLAIN:
        return services.stock.callable_in_kernels(dispatcher) if STOCK else dispatcher
    if not on_demand:
        return _linked(
            dispatcher,
            _provider(dispatcher),
            lambda arguments: dispatcher.overloads[arguments].signature.return_type,
        )
    slots = Slots(dispatcher)
    _every_slots.append(slots)
    call = _linked(
        dispatcher, _provider(dispatcher, slots.make), lambda arguments: types.none, through_slot=True
    )
    call.slots = slots  # type: ignore[attr-defined]
    return call


def _linked(
    dispatcher: Any,
    provide: Callable[[tuple], str],
    result: Callable[[tuple], Any],
    through_slot: bool = False,
) -> Callable:
    """Make `dispatcher` callable from kernels, through a symbol for each tuple of argument types.

    ``result(arguments)`` is the type of the result. The symbol is that of the function, or of a slot with its address.
    """

    def call(*args: Any) -> Any:
        if dispatcher.targetoptions.get("no_cpython_wrapper"):
            raise TypeError(f"{dispatcher.py_func.__name__}() is an inner function: only kernels can call it")
        return dispatcher(*args)

    @services.templates.infer_global(call, typing_key=dispatcher.py_func)
    class Template(services.templates.AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            arguments = tuple(types.unliteral(a) for a in args)
            provide(arguments)
            return services.templates.signature(result(arguments), *arguments)

    @lower_builtin(dispatcher.py_func, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind: ir.FunctionType = context.call_conv.get_function_type(sig.return_type, sig.args)
        symbol = provide(tuple(sig.args))
        if through_slot:
            module = builder.module
            slot = module.globals.get(symbol) or ir.GlobalVariable(module, kind.as_pointer(), symbol)
            function = builder.load(slot)
            with builder.if_else(cgutils.is_not_null(builder, function), likely=True) as (full, empty):
                with full:
                    status, _ = context.call_conv.call_function(
                        builder, function, sig.return_type, sig.args, args
                    )
                    note_failure(builder, status, _number(symbol))
                with empty:
                    fail(context, builder, dispatcher.py_func.__name__)
            return context.get_dummy_value()
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        status, value = context.call_conv.call_function(builder, function, sig.return_type, sig.args, args)
        note_failure(builder, status, _number(symbol))
        return value

    call.dispatcher = dispatcher  # type: ignore[attr-defined]  # for calls from Python
    return call


# --------------------------------------------------------------------------------------------------------------------
# Functions on demand: the symbol is that of a slot, which contains the address of the function once it is compiled


class Slots:
    """Memory for the addresses of a function on demand, one for each tuple of argument types."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        #: All slots, which are never freed, because code refers to them.
        self._all: list[ctypes.c_void_p] = []
        #: Empty slots, by the size in bytes of the numbers in the arguments.
        self.empty: dict[int, dict[tuple, ctypes.c_void_p]] = {4: {}, 8: {}}

    def make(self, arguments: tuple) -> int:
        """Make an empty slot for these argument types; return its address."""
        slot = ctypes.c_void_p()
        self._all.append(slot)
        self.empty[_item_size(arguments)][arguments] = slot
        return ctypes.addressof(slot)

    def fill(self, item_size: int) -> None:
        """Compile (or load) the function for numbers of this size, for all empty slots."""
        empty = self.empty[item_size]
        if not empty:
            return
        with held(), services.dispatcher.compiler_lock:
            for arguments in list(empty):
                empty[arguments].value = services.dispatcher.address_of_code(self._dispatcher, arguments)
                del empty[arguments]


_every_slots: list[Slots] = []


def _item_size(arguments: tuple) -> int:
    """Size in bytes of the elements of the first array of real numbers."""
    kinds = [a.dtype for a in arguments if isinstance(a, types.Array) and isinstance(a.dtype, types.Float)]
    return kinds[0].bitwidth // 8 if kinds else 8


def slots_of(*functions: Any) -> tuple[Slots, ...]:
    """The slots of functions that are linked on demand, for `launch`."""
    return () if PLAIN else tuple(function.slots for function in functions)


def complete() -> None:
    """Compile (or load) all functions on demand that the kernels of this process may call."""
    for slots in _every_slots:
        for item_size in slots.empty:
            slots.fill(item_size)


# A function that is called by its address can't pass an exception on to Python, so the status is stored here. It is never
# cleared, because simultaneous calls can't be distinguished, and none of them may return incomplete results.
_FAILED = "fastrnn_failed"
failed = (ctypes.c_int64 * 1)()
_names: dict[int, str] = {}


def _number(symbol: str) -> int:
    """The number that stands for a function in `failed`."""
    return int(symbol[-15:], 16) | 1


def fail(context: Any, builder: Any, what: str) -> None:
    """For intrinsics: emit code that ends the function with an exception, as `what` was not compiled before the call."""
    message = f"{what} was not compiled before the kernel was called"
    context.call_conv.return_user_exc(builder, RuntimeError, (message,))


def note_failure(builder: Any, status: Any, number: int) -> None:
    """For intrinsics: emit code that stores the number of a function that ended with an exception."""
    module, word = builder.module, ir.IntType(64)
    with cgutils.if_unlikely(builder, status.is_error):
        builder.store(word(number), module.globals.get(_FAILED) or ir.GlobalVariable(module, word, _FAILED))


def check() -> None:
    """Raise if a function that kernels call has ever ended with an exception in this process."""
    if failed[0]:
        name = _names.get(failed[0], "a part of a kernel")
        raise RuntimeError(
            f"{name} ended early in this process, because it needed code that was not compiled before the call: results "
            "are incomplete. This is an error in fastrnn, or in a cell that has the code of an activation in a field "
            "whose name does not end in 'activation'"
        )


@intrinsic
def any_failed(typingctx):
    """Whether a function that kernels call has ever ended with an exception in this process."""

    def codegen(context, builder, signature, args):
        module, word = builder.module, ir.IntType(64)
        at = module.globals.get(_FAILED) or ir.GlobalVariable(module, word, _FAILED)
        return builder.icmp_unsigned("!=", builder.load(at), word(0))

    return types.boolean(), codegen


if not PLAIN:
    add_symbol(_FAILED, ctypes.addressof(failed))


# --------------------------------------------------------------------------------------------------------------------
# Functions that are called by their addresses, with arguments of any types in memory


class Arguments(types.Opaque):
    """The type of a tuple in memory, without data, so that all such functions have the same machine signature."""

    def __init__(self, kinds: types.BaseTuple) -> None:
        self.kinds = kinds
        super().__init__(f"Arguments({kinds})")


register_model(Arguments)(models.OpaqueModel)


@intrinsic
def spill(typingctx, arguments):
    """Put a tuple into the caller's frame, and return its address."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), ir.IntType(64))

    return types.intp(arguments), codegen


@intrinsic
def fetch(typingctx, arguments, at):
    """The tuple that `spill` put at an address."""

    def codegen(context, builder, signature, args):
        kinds = signature.return_type
        where = builder.inttoptr(args[1], context.get_value_type(kinds).as_pointer())
        value = builder.load(where)
        if context.enable_nrt:
            context.nrt.incref(builder, kinds, value)
        return value

    return arguments.kinds(arguments, types.intp), codegen


if PLAIN:

    @inlined
    def spill(arguments):
        """The tuple itself."""
        return arguments

    @inlined
    def fetch(arguments, at):
        """The tuple itself."""
        return arguments


def address(dispatcher: Any) -> Callable:
    """For kernels: make a function that returns the address of ``dispatcher(arguments, at, part)`` for a tuple.

    `dispatcher` is a function of `jit`, which reads the tuple by ``fetch(arguments, at)``. It must not raise exceptions.
    """
    if PLAIN:
        return _plain_address(dispatcher)
    provide = _provider(dispatcher)

    def symbol_for(kinds: Any) -> str:
        plain = types.BaseTuple.from_types(tuple(types.unliteral(kind) for kind in kinds))
        return provide((Arguments(plain), types.intp, types.intp))

    def address_in_kernel(arguments: tuple) -> int:
        raise NotImplementedError("for kernels; in Python use address_of()")

    address_in_kernel.symbol_for = symbol_for  # type: ignore[attr-defined]

    @services.templates.infer_global(address_in_kernel, typing_key=dispatcher.py_func)
    class Template(services.templates.AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            symbol_for(args[0])
            return services.templates.signature(types.intp, *args)

    @lower_builtin(dispatcher.py_func, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind: ir.FunctionType = ir.FunctionType(ir.VoidType(), [])
        function = cgutils.get_or_insert_function(builder.module, kind, symbol_for(sig.args[0]))
        return builder.ptrtoint(function, ir.IntType(64))

    return address_in_kernel


def _plain_address(function: Any) -> Callable:
    """In Python, what gives the function itself; in kernels, what gives a record whose class stands for it."""

    def function_for(arguments: tuple) -> Any:
        return function

    if STOCK and isinstance(function, services.stock.Kernel):
        record = namedtuple("record", ["number"])
        _functions[record] = inlined(function.py_func)
        body_of(function_for)(lambda kinds: lambda arguments: record(0))
    return function_for


#: For each class of such a record, the function.
_functions: dict[type, Callable] = {}


def function_of(record: Any) -> Callable:
    """The function that the type of a record stands for, on the stock path."""
    return _functions[record.instance_class]


def begin(kernels: Sequence[tuple[Any, tuple]]) -> None:
    """Compile functions given to `address`, each for arguments of these types, at the same time."""
    with held(), services.dispatcher.together():
        for kernel, kinds in kernels:
            kernel.symbol_for(kinds)


def address_of(kernel: Any, kinds: tuple) -> int:
    """The address, for arguments of these types, of the function given to `address`."""
    with held(), services.dispatcher.compiler_lock:
        return address_of_symbol(kernel.symbol_for(kinds))

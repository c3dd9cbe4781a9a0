"""Less work before LLVM: repeated questions of Numba's compiler are answered once, and values stay out of memory.

Numba looks for new registrations at almost every call that it lowers, and for the type of the same sum of integers each
time. It also stores each variable that more than one block uses in memory, so that LLVM must split every load of a tuple
of arrays into its hundred numbers. ``python -m benchmarks.compare`` times first fits with and without a change here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir as llvm
from numba import types
from numba.core import callconv, cgutils, ir, postproc, targetconfig, transforms, utils
from numba.core.analysis import compute_cfg_from_blocks, compute_use_defs, must_use_alloca
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering
from numba.core.types.functions import BaseFunction

__all__ = ["InlinedLowering", "Lowering", "call_inlined", "fewer_questions"]


class _ValuesInRegisters(Lower):
    """Keeps a variable that is assigned once as a value, wherever it is used."""

    def _find_singly_assigned_variable(self) -> None:
        if self.flags.nrt or self.func_ir.func_id.is_generator:
            super()._find_singly_assigned_variable()
            return
        blocks = self.blocks
        known = compute_use_defs(blocks)
        assigned: dict[str, int] = {}
        several: set[str] = must_use_alloca(blocks)
        used: dict[str, set[int]] = {}
        for label, block in blocks.items():
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    name = statement.target.name
                    if name in assigned:
                        several.add(name)
                    assigned[name] = label
                elif isinstance(statement, ir.Del):
                    used.setdefault(statement.value, set()).add(label)
            for name in known.usemap[label]:
                used.setdefault(name, set()).add(label)
        # A value must exist where it is used: its block comes before on every path, and is lowered first.
        before = compute_cfg_from_blocks(blocks).dominators()
        self._singly_assigned_vars = {
            name
            for name, home in assigned.items()
            if name not in several
            and all(home <= label and home in before.get(label, ()) for label in used.get(name, ()))
        }
        self._blk_local_varmap: dict[str, Any] = {}


def _declared(context: Any, module: Any, fndesc: Any) -> Any:
    """A function that is inlined wherever it is called; its arguments are whole values, not their hundred numbers."""
    kind = context.call_conv.get_function_type(fndesc.restype, ())
    arguments = [context.get_value_type(argument) for argument in fndesc.argtypes]
    kind = llvm.FunctionType(kind.return_type, [*kind.args, *arguments])
    function = cgutils.get_or_insert_function(module, kind, fndesc.mangled_name)
    function.attributes.add("alwaysinline")
    return function


def call_inlined(context: Any, builder: Any, fndesc: Any, args: Any) -> Any:
    """Emit a call of a function that was lowered by `InlinedLowering`, and return its result."""
    if isinstance(fndesc.restype, types.Optional):
        raise TypeError(f"{fndesc.qualname}() must not return None on some ways only")
    function = _declared(context, builder.module, fndesc)
    result, raised = (cgutils.alloca_once(builder, function.args[k].type.pointee) for k in (0, 1))
    code = builder.call(function, [result, raised, *args])
    done = (builder.icmp_signed("!=", code, ok) for ok in (callconv.RETCODE_OK, callconv.RETCODE_NONE))
    with cgutils.if_unlikely(builder, builder.and_(*done)):
        builder.store(builder.load(raised), builder.function.args[1])
        builder.ret(code)
    return context.get_returned_value(builder, fndesc.restype, builder.load(result))


class _Inlined(_ValuesInRegisters):
    """Lowers a function for `call_inlined`."""

    def setup_function(self, fndesc: Any) -> None:
        """Begin the function."""
        self.function = _declared(self.context, self.module, fndesc)
        self.entry_block = self.function.append_basic_block("entry")
        self.builder = llvm.IRBuilder(self.entry_block)
        self.call_helper = self.call_conv.init_call_helper(self.builder)

    def extract_function_arguments(self) -> Any:
        """The values of the arguments."""
        self.fnargs = self.function.args[2:]
        return self.fnargs


@register_pass(mutates_CFG=True, analysis_only=False)
class InlinedLowering(NativeLowering):
    """`Lowering` of a function that is inlined wherever it is called."""

    _name = "fastrnn_inlined_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        """The class that lowers a function."""
        return _Inlined


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):
    """Numba's pass that writes LLVM's code, with fewer variables in memory."""

    _name = "fastrnn_native_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        """The class that lowers a function."""
        return _ValuesInRegisters


def _registrations(context: Any) -> int:
    """Number of all registrations that a context reads."""
    return sum(
        len(getattr(registry, name))
        for registry, loader in context._registries.items()
        for name in loader.registry_items
    )


class _Questions:
    """Answers of the contexts of the compiler, kept until something is registered."""

    def __init__(self) -> None:
        self.typing, self.target = cpu_target.typing_context, cpu_target.target_context
        self.active = False
        #: Number of registrations that each context knows.
        self.known = {self.typing: (-1, -1), self.target: (-1, -1)}
        #: Number of registrations of types for which the signatures hold.
        self._typed = -1
        # By the identities of the function and of the types, which are kept: Numba's types are equal only if they are the
        # same, and to hash the type of a tuple of arrays takes longer than the answer.
        self._signatures: dict[tuple[int, ...], tuple[Any, tuple, Any]] = {}
        self._sizes: dict[str, int] = {}

    def refreshed(self, context: Any) -> Callable[[], None]:
        """A context's `refresh`, which does nothing unless there are new registrations."""
        refresh = context.refresh

        def when_needed() -> None:
            registered = _registrations(self.typing), _registrations(self.target)
            if self.known[context] != registered:
                refresh()
                self.known[context] = _registrations(self.typing), _registrations(self.target)
                if self._typed != self.known[context][0]:
                    self._typed = self.known[context][0]
                    self._signatures.clear()

        return when_needed

    def resolve(self, func: Any, args: tuple, kws: dict) -> Any:
        """The signature of a call of a builtin."""
        ask = functools.partial(type(self.typing).resolve_function_type, self.typing)
        return ask(func, args, kws) if isinstance(func, types.Callable) else self.kept(ask, func, args, kws)

    def kept(self, ask: Callable, func: Any, args: tuple, kws: dict) -> Any:
        """The answer ``ask(func, args, kws)``, which is asked once."""
        if kws:
            return ask(func, args, kws)
        key = id(func), *map(id, args)
        if key in self._signatures:
            return self._signatures[key][2]
        found = ask(func, args, kws)
        if found is not None:
            self._signatures[key] = func, args, found
        return found

    def size(self, kind: Any) -> int:
        """The number of bytes of a type of LLVM, which takes a module to find."""
        name = str(kind)
        if name not in self._sizes:
            self._sizes[name] = type(self.target).get_abi_sizeof(self.target, kind)
        return self._sizes[name]


_questions = _Questions()

#: Classes of what an instruction holds besides variables.
_NO_VARIABLES = {str, int, float, bool, type(None), ir.Loc}


def _rec_list_vars(self: Any, value: Any) -> list[Any]:
    """The variables in a value that an instruction holds, as `ir.Inst._rec_list_vars` finds them."""
    if isinstance(value, ir.Var):
        return [value]
    if isinstance(value, ir.Inst):
        return value.list_vars()
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    found: list[Any] = []
    for item in value:
        if type(item) is ir.Var:
            found.append(item)
        elif type(item) not in _NO_VARIABLES:
            found += self._rec_list_vars(item)
    return found


def _flag_values(self: Any) -> dict[str, Any]:
    """The values of all compile flags, of which Numba makes a new table before each pass."""
    given = self._values
    return {name: given.get(name, option.default) for name, option in self.options.items()}


_get_call_type = BaseFunction.get_call_type


def _kept_call_type(self: Any, context: Any, args: tuple, kws: dict) -> Any:
    """The signature of a call of a function whose types are found by templates."""
    return _questions.kept(lambda func, args, kws: _get_call_type(func, context, args, kws), self, args, kws)


_process = postproc.PostProcessor.run


def _run_when_needed(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
    """Numba's pass over a function's blocks; where variables live is found when it is asked for, for the last time only."""
    func_ir = self.func_ir
    if emit_dels or extend_lifetimes or func_ir.is_generator:
        _process(self, emit_dels, extend_lifetimes)
        return
    func_ir.blocks = transforms.canonicalize_cfg(func_ir.blocks)
    func_ir.variable_lifetime = postproc.VariableLifetime(func_ir.blocks)
    func_ir.generator_info = None


#: What takes the place of parts of Numba's compiler meanwhile.
_REPLACED = (
    (BaseFunction, "get_call_type", _kept_call_type),
    (targetconfig.TargetConfig, "values", _flag_values),
    (ir.Inst, "_rec_list_vars", _rec_list_vars),
    (postproc.PostProcessor, "run", _run_when_needed),
    (utils, "pysignature", functools.cache(utils.pysignature)),
)


@contextlib.contextmanager
def fewer_questions() -> Iterator[None]:
    """Answer repeated questions from memory in this block; the compiler's lock is held."""
    if _questions.active:
        yield
        return
    typing, target = _questions.typing, _questions.target
    _questions.active = True
    # Attributes of the objects hide the methods of their classes.
    target.refresh, typing.refresh = _questions.refreshed(target), _questions.refreshed(typing)
    typing.resolve_function_type, target.get_abi_sizeof = _questions.resolve, _questions.size
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _REPLACED]
    for owner, name, new in _REPLACED:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
        del target.refresh, typing.refresh, typing.resolve_function_type, target.get_abi_sizeof
        _questions.active = False

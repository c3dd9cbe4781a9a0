"""Numba's compiler without the parts that kernels do not need; ``python -m benchmarks.start`` times a first call.

Numba optimises each function separately and again together with the functions that it calls; it also makes wrappers for
other callers, and counts references. Here code is optimised once, after all functions that a kernel calls are inlined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from llvmlite.binding import parse_assembly, parse_bitcode
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags
from numba.core.cpu import CPUTargetOptions
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering
from numba.extending import lower_builtin

from fastrnn.engine.numba_private import background
from fastrnn.engine.numba_private.dispatcher import compiler_lock
from fastrnn.engine.numba_private.front_end import InlinedLowering, Lowering, call_inlined, fewer_questions
from fastrnn.engine.numba_private.redirect import Redirect
from fastrnn.engine.numba_private.templates import AbstractTemplate, infer, infer_global, signature

__all__ = ["SYMBOLS", "FewPasses", "Pipeline", "body_of", "is_ours"]

#: Whether Numba's pass managers are supported here; older releases use two rounds of optimisation.
ONE_ROUND = numba.version_info.short >= (0, 62)

#: Passes for what no function of this package has, by name: releases differ in where they are.
_UNUSED_PASSES = {
    "AnnotateTypes",
    "DumpParforDiagnostics",
    "FindLiterallyCalls",
    "InlineClosureLikes",
    "InlineInlinables",
    "InlineOverloads",
    "LiteralUnroll",
    "MakeFunctionToJitFunction",
    "NopythonRewrites",
    "NoPythonSupportedFeatureValidation",
    "WithLifting",
}


def is_ours(fn: Callable) -> bool:
    """Whether a function belongs to this package, whose functions make no arrays."""
    return fn.__module__.partition(".")[0] == __name__.partition(".")[0]


@functools.cache
def _nothing() -> bytes:
    """A module without functions."""
    return parse_assembly("").as_bitcode()


#: How the symbols of functions begin that are compiled by themselves (see `runtime.linking`).
SYMBOLS = "fastrnn_"


class _Library(JITCodeLibrary):
    """The code of a kernel.

    If references are counted, Numba's two rounds are used, as the first removes most of the counting.

    Parameters
    ----------
    codegen : numba.core.codegen.JITCPUCodegen
    name : str
    counts : bool
        Whether references are counted.
    inner : bool
        Whether only kernels call the function. Its code is then made in a thread, see `background`.
    few_passes : bool
        See `background.passes_for`.
    """

    def __init__(
        self, codegen: Any, name: str, counts: bool, inner: bool = False, few_passes: bool = False
    ) -> None:
        super().__init__(codegen, name)
        self.counts = counts or not ONE_ROUND
        self._inner, self._few_passes = inner, few_passes
        self._environments: list[tuple[str, Any]] = []

    def add_linking_library(self, library: Any) -> None:
        self.counts |= isinstance(library, _Part) and library.counts
        super().add_linking_library(library)

    def _optimize_functions(self, ll_module: Any) -> None:
        if self.counts:
            super()._optimize_functions(ll_module)
        else:
            ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        if self.counts:
            super()._optimize_final_module()
        else:
            passes, builder = background.passes_for(self._codegen._tm, self._few_passes)
            passes.run(self._final_module, builder)

    def finalize(self) -> None:
        """Make the code, or let a thread make it."""
        if self.counts or not self._inner:
            super().finalize()
            return
        self._link_parts()
        bitcode = self._final_module.as_bitcode()
        self._translation = background.Translation(self._codegen, bitcode, self._few_passes)
        self._finalized = True
        background.begin(self)

    def serialize_using_object_code(self) -> tuple:
        """The code for the disk; of a function that no other one inlines, only the machine code."""
        if self.counts or not self._inner:
            return super().serialize_using_object_code()
        self._ensure_finalized()
        return self.name, "object", (self._get_compiled_object(), _nothing())

    def _link_parts(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)

    def complete(self) -> None:
        """Wait for the thread, and link the code."""
        bitcode, code = self._translation.wait()
        self._final_module: Any = parse_bitcode(bitcode)
        self._shared_module = None
        self._compiled_object = code  # which the engine takes instead of translating the module
        self._finalize_final_module()
        self._compiled, self._compiled_object = True, code
        for name, environment in self._environments:
            self._codegen.set_env(name, environment)

    def _finalize_final_module(self) -> None:
        if not background.pending(self) and any(
            function.is_declaration and function.name.startswith(SYMBOLS)
            for function in self._final_module.functions
        ):
            background.settle()  # the code may refer to what is being made
        super()._finalize_final_module()

    @property
    def codegen(self) -> Any:
        """What sets the environments of functions, which have no address before the code is linked."""
        return self if background.pending(self) else self._codegen

    def set_env(self, name: str, environment: Any) -> None:
        """Set an environment later."""
        self._environments.append((name, environment))


class _Part(_Library):
    """Code that is only linked into kernels, and is not optimised or compiled separately.

    It is called by `front_end.call_inlined` if it is `whole`.
    """

    def __init__(self, codegen: Any, name: str, counts: bool) -> None:
        super().__init__(codegen, name, counts)
        self.whole = not counts

    def finalize(self) -> None:
        self._link_parts()
        self._finalized = True


class Pipeline(Compiler):
    """The compiler of one function."""

    #: See `background.passes_for`.
    few_passes = False

    def __init__(
        self, typing: Any, target: Any, library: Any, arguments: Any, result: Any, flags: Any, names: Any
    ) -> None:
        if library is None:
            inner = flags.no_cpython_wrapper
            library = _Library(target.codegen(), "kernel", flags.nrt, inner, self.few_passes)
            library.enable_object_caching()
        super().__init__(typing, target, library, arguments, result, flags, names)

    def define_pipelines(self) -> list[Any]:
        """Return the passes; functions that make no arrays do not need passes for array expressions and closures."""
        managers = super().define_pipelines()
        if not self.state.flags.nrt:
            lowering = InlinedLowering if isinstance(self.state.library, _Part) else Lowering
            for manager in managers:
                manager.passes = [
                    (lowering, what) if kind is NativeLowering else (kind, what)
                    for kind, what in manager.passes
                    if kind.__name__ not in _UNUSED_PASSES
                ]
        return managers

    def compile_extra(self, func: Callable) -> Any:
        """Compile a function."""
        with fewer_questions():
            return super().compile_extra(func)


class FewPasses(Pipeline):
    """The compiler of a function that LLVM only simplifies."""

    few_passes = True


#: For each function that kernels know, a function that compiles it for argument types, or returns None.
_known: dict[Callable, Callable[[tuple], Any]] = {}


def body_of(fn: Callable, options: dict[str, Any], literal: bool = False) -> Callable[[Callable], Callable]:
    """Make `fn` callable from kernels; the decorated function maps its argument types to a body, or None if there is none.

    In place of a body it may return a `Redirect` to another function.

    The body is always inlined into every kernel that calls it. A separate function would exist twice in the process that
    compiles it, and which of the two runs, with which rounding, would depend on whether the kernel was loaded from disk.

    Parameters
    ----------
    fn : callable
        The function that kernels call, with positional arguments.
    options : dict
        Compile options.
    literal : bool
        Whether each constant has its own body.
    """

    def register(pick: Callable) -> Callable:
        parts: dict[tuple, Any] = {}

        def part_of(arguments: tuple) -> Any:
            """The code, and the number of first arguments that it does not take."""
            if arguments not in parts:
                body = pick(*arguments)
                if isinstance(body, Redirect):
                    part, first = _known[body.function](arguments[body.first :])
                    parts[arguments] = part, first + body.first
                else:
                    parts[arguments] = None if body is None else _compile(body, arguments, options), 0
            return parts[arguments]

        _known[fn] = part_of

        @infer
        class Template(AbstractTemplate):
            key = fn
            prefer_literal = literal

            def generic(self, args: tuple, kws: dict) -> Any:
                arguments = args if literal else tuple(types.unliteral(a) for a in args)
                part = None if kws else part_of(arguments)[0]
                return None if part is None else signature(part.signature.return_type, *arguments)

        infer_global(fn, types.Function(Template))

        @lower_builtin(fn, types.VarArg(types.Any))
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            part, first = parts[sig.args]
            context.active_code_library.add_linking_library(part.library)
            if part.library.whole:
                return call_inlined(context, builder, part.fndesc, args[first:])
            return context.call_internal(builder, part.fndesc, part.signature, args[first:])

        return pick

    return register


def _compile(body: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
    typing, target = cpu_target.typing_context, cpu_target.target_context
    flags = Flags()
    CPUTargetOptions.parse_as_flags(
        flags, {**options, "_nrt": not is_ours(body), "no_cpython_wrapper": True, "forceinline": True}
    )
    flags.no_compile = True
    with compiler_lock:
        part = _Part(target.codegen(), body.__qualname__, flags.nrt)
        return Pipeline(typing, target, part, arguments, None, flags, {}).compile_extra(body)

"""LLVM's work in threads of its own, while the compiler goes on with the next function.

Numba compiles one function after the other: type inference and lowering, which are Python, then LLVM, which is not. A
function that only kernels call is needed when the first kernel starts, and not before, so its LLVM code is optimised and
translated in a thread meanwhile. :func:`settle` waits for all of them and makes their code known to the linker. It is called
before any code is linked, and before the compiler's lock is released: whoever holds the lock finds no such thread at work,
so a fork, which takes the lock, does not either.

Each thread has an LLVM context and a target machine of its own, which is what LLVM asks for. llvmlite's lock would still let
only one thread at a time into LLVM, so the two long calls are made without it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import binding
from llvmlite.binding import ffi
from numba import config

__all__ = ["Translation", "after", "begin", "passes_for", "pending", "settle"]


def _unlocked(function: Any) -> Any:
    """A function of LLVM without llvmlite's lock."""
    try:
        return function._cfn
    except AttributeError:  # another llvmlite: the threads take turns
        return function


def passes_for(machine: Any, few: bool) -> tuple[Any, Any]:
    """The passes of LLVM that optimise a module for a machine, and their builder.

    Parameters
    ----------
    machine : llvmlite.binding.TargetMachine
    few : bool
        Whether only to inline, to keep values in registers, and to simplify instructions: loops stay as they are written.
    """
    from numba.core.llvm_bindings import create_pass_builder

    builder = create_pass_builder(
        machine,
        opt=config.OPT,  # type: ignore[attr-defined]
        loop_vectorize=config.LOOP_VECTORIZE,  # type: ignore[attr-defined]
        slp_vectorize=config.SLP_VECTORIZE,  # type: ignore[attr-defined]
    )
    if not few:
        return builder.getModulePassManager(), builder
    passes = binding.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    return passes, builder


class Translation:
    """The optimised code of a module, made in a thread.

    Parameters
    ----------
    codegen : numba.core.codegen.JITCPUCodegen
        Its options are those of the target machine.
    bitcode : bytes
        The module.
    few_passes : bool
        See `passes_for`.
    """

    def __init__(self, codegen: Any, bitcode: bytes, few_passes: bool = False) -> None:
        self._options: dict[str, Any] = {"opt": config.OPT}  # type: ignore[attr-defined]
        codegen._customize_tm_options(self._options)
        self._source, self._few_passes = bitcode, few_passes
        self._error: BaseException | None = None
        self._made = b"", b""
        self._thread = threading.Thread(target=self._run, name="fastrnn compiler", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            self._run()

    def _run(self) -> None:
        try:
            self._made = self._translate()
        except BaseException as error:  # for the thread that waits
            self._error = error

    def _translate(self) -> tuple[bytes, bytes]:
        module = binding.parse_bitcode(self._source, context=binding.create_context())
        machine = binding.Target.from_triple(module.triple).create_target_machine(**self._options)
        passes, builder = passes_for(machine, self._few_passes)
        _unlocked(ffi.lib.LLVMPY_RunNewModulePassManager)(passes, module, builder)
        module.verify()
        with ffi.OutputString() as message:
            memory = _unlocked(ffi.lib.LLVMPY_TargetMachineEmitToMemory)(machine, module, 1, message)
            if not memory:
                raise RuntimeError(str(message))
        try:
            code = ctypes.string_at(
                ffi.lib.LLVMPY_GetBufferStart(memory), ffi.lib.LLVMPY_GetBufferSize(memory)
            )
        finally:
            ffi.lib.LLVMPY_DisposeMemoryBuffer(memory)
        return module.as_bitcode(), code

    def wait(self) -> tuple[bytes, bytes]:
        """The optimised module, and the machine code."""
        while self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made


class _Waiting(NamedTuple):
    """What is to be done when the code of a library is linked, and what to take back if that fails."""

    acts: list[Callable[[], Any]]
    undos: list[Callable[[], Any]]


#: Libraries whose code is being made, callees before callers. The compiler's lock is held while there are any.
_pending: dict[Any, _Waiting] = {}


def begin(library: Any) -> None:
    """Note a library whose code is being made."""
    _pending[library] = _Waiting([], [])


def pending(library: Any) -> bool:
    """Whether the code of a library is still being made."""
    return library in _pending


def after(library: Any, act: Callable[[], Any], undo: Callable[[], Any] | None = None) -> None:
    """Call `act` when the code of a library is linked, which may be now; call `undo` if that fails later."""
    if library not in _pending:
        act()
        return
    _pending[library].acts.append(act)
    if undo is not None:
        _pending[library].undos.append(undo)


def settle() -> None:
    """Wait for all code that is being made, and link it."""
    while _pending:
        library = next(iter(_pending))
        try:
            library.complete()
            for act in _pending.pop(library).acts:
                act()
        except BaseException:
            # The others may call this one: all have to be compiled again.
            undos = [undo for waiting in _pending.values() for undo in waiting.undos]
            _pending.clear()
            for undo in undos:
                undo()
            raise

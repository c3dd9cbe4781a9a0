"""Compiled functions: what compiles them at a call, with a lock and without interrupts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

__all__ = ["Dispatcher", "address_of_code", "compiler_lock"]

#: The one lock of Numba's compiler; the thread that has it may take it again.
compiler_lock = global_compiler_lock

# A child that is forked while another thread compiles would get the lock taken, with nobody to release it, and what the
# compiler keeps half-changed: a fork waits for the compiler, and both sides go on with the lock free.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=compiler_lock.acquire,
        after_in_parent=compiler_lock.release,
        after_in_child=compiler_lock.release,
    )


class Dispatcher(CPUDispatcher):
    """A function that is compiled for each tuple of argument types at the first call with them.

    A call with new types goes from C code to :meth:`_compile_for_args`, and to the machine code when that returns.
    """

    #: Makes the context in which code is compiled or loaded.
    guard: Callable[[], Any] = contextlib.nullcontext
    #: Called after a call from Python has had code compiled, before that code runs.
    before_launch: Callable[[], None] = staticmethod(lambda: None)

    def compile(self, sig: Any) -> Any:
        """Compile or load the code for a tuple of argument types; it is kept in `overloads`."""
        # Numba itself takes its lock after it has registered listeners, which two threads must not do at once.
        with self.guard(), compiler_lock:
            return super().compile(sig)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        with self.guard(), compiler_lock:
            compiled = super()._compile_for_args(*args, **kws)
            self.before_launch()
        return compiled


def address_of_code(dispatcher: Any, arguments: tuple) -> int:
    """The address of the machine code for these argument types, compiled or loaded."""
    with dispatcher.guard(), compiler_lock:
        dispatcher.compile(arguments)
        compiled = dispatcher.overloads[arguments]
        return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)

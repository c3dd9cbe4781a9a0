"""The dispatcher, which compiles functions at their first calls, with a lock and without interrupts."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from fastrnn.engine import tuning
from fastrnn.engine.numba_private import background

__all__ = ["Dispatcher", "address_of_code", "compiler_lock", "entry_of", "give_address", "together"]

#: The reentrant lock of Numba's compiler.
compiler_lock = global_compiler_lock

# If the process forked while another thread compiles, the child would have a locked lock that no thread releases, and an
# inconsistent compiler. So a fork waits for the compiler, and the lock is free in parent and child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=compiler_lock.acquire,
        after_in_parent=compiler_lock.release,
        after_in_child=compiler_lock.release,
    )


@contextlib.contextmanager
def _garbage_left() -> Iterator[None]:
    """Collect garbage less often, because the compiler makes millions of objects and keeps them.

    Collection is not turned off, for the other threads of the process. The compiler's lock is held, so only one thread is in
    this block; a threshold that another thread sets in the meantime is kept.
    """
    before = gc.get_threshold()
    raised = (max(before[0], tuning.COLLECT_EVERY), *before[1:])
    if before[0] == 0 or raised == before:  # turned off by the user, or raised by an outer call
        yield
        return
    gc.set_threshold(*raised)
    try:
        yield
    finally:
        if gc.get_threshold() == raised:
            if gc.get_count()[0] > before[0] and gc.get_freeze_count() == 0:
                # The next new object would cause the compiler's objects to be looked through. Make them old ones instead.
                gc.freeze()
                gc.unfreeze()
            gc.set_threshold(*before)


#: Number of functions that are being compiled, each for the one before.
_depth = 0


@contextlib.contextmanager
def _settled() -> Iterator[None]:
    """Have all code linked at the end of the outermost of these blocks, which is inside the compiler's lock."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            background.settle()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Compile several functions in this block, whose code is linked at its end."""
    with compiler_lock, _garbage_left(), _settled():
        yield


class Dispatcher(CPUDispatcher):
    """A function that is compiled for each tuple of argument types at the first call with them.

    For a call with new types, Numba's C code calls :meth:`_compile_for_args`, and then the machine code.
    """

    #: Returns the context in which code is compiled or loaded.
    guard: Callable[[], Any] = contextlib.nullcontext
    #: Called after code is compiled for a call from Python, before the code runs.
    before_launch: Callable[[], None] = staticmethod(lambda: None)

    def compile(self, sig: Any) -> Any:
        """Compile or load the code for a tuple of argument types; it is kept in `overloads`."""
        # Numba takes its lock after registering listeners, which two threads must not do at the same time.
        with self.guard(), together():
            return super().compile(sig)

    def add_overload(self, result: Any) -> None:
        """Keep what was compiled, unless its code can't be made after all."""
        super().add_overload(result)
        forget = functools.partial(self.overloads.pop, tuple(result.signature.args), None)
        background.after(result.library, lambda: None, forget)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        with self.guard(), compiler_lock:
            compiled = super()._compile_for_args(*args, **kws)
            self.before_launch()
        return compiled


def address_of_code(dispatcher: Any, arguments: tuple) -> int:
    """The address of the machine code for these argument types, compiled or loaded."""
    addresses: list[int] = []
    with dispatcher.guard(), compiler_lock:
        give_address(dispatcher, arguments, addresses.append)
        background.settle()
    return addresses[0]


def give_address(
    dispatcher: Any, arguments: tuple, take: Callable[[int], Any], undo: Callable[[], Any] | None = None
) -> None:
    """Call `take` with the address of the code for these types, at the latest before other code is linked.

    If the code can't be made after all, `undo` is called. The caller holds the lock of the compiler.
    """
    dispatcher.compile(arguments)
    compiled = dispatcher.overloads[arguments]
    name = compiled.fndesc.llvm_func_name
    background.after(compiled.library, lambda: take(compiled.library.get_pointer_to_function(name)), undo)


def entry_of(dispatcher: Any, arguments: tuple) -> Callable:
    """The function of Python that runs the code for these types; a call does not look for the code by its arguments' types.

    The caller must give numbers and arrays of these types. Of an array only the size of its elements is checked: that it is
    an array of this number of dimensions must be known, and code that needs an array without gaps must check it.
    """
    dispatcher.compile(arguments)
    entry: Callable = dispatcher.overloads[arguments].entry_point
    return entry

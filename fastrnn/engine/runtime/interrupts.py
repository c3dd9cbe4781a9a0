"""Deferral of Ctrl-C while code is compiled, loaded or linked.

An exception inside Numba's compiler could leave its lock taken, its registries incomplete, or a ctypes callback of LLVM
without a result. Python runs signal handlers in the main thread, between any two instructions. In a block of :class:`held`,
signals are only recorded; their handlers run at the end of the block.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["held"]

#: Signals whose handlers may raise exceptions: Ctrl-C, time limits, requests to terminate.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK", "SIGINT")
    if hasattr(signal, name)
]
#: The current block of the main thread.
_current: held | None = None


class held(AbstractContextManager):  # noqa: N801 - used like a function
    """Context in which the main thread runs no signal handlers; has no effect in other threads.

    Nested blocks act as one. Handlers in C, and the default actions of signals, are not deferred.
    """

    __slots__ = ("_noted", "_owner", "_previous")

    def __init__(self) -> None:
        self._previous: dict[int, Callable[..., Any]] = {}
        self._noted: list[tuple[int, Any]] = []
        self._owner = 0

    def __enter__(self) -> held:
        global _current
        if _current is not None or threading.current_thread() is not threading.main_thread():
            return self
        previous, self._owner = self._previous, threading.get_ident()
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    previous[number] = handler
                    signal.signal(number, self._note)
        except ValueError:  # the main thread of a subinterpreter, which runs no handlers
            previous.clear()
        except BaseException:
            self._restore()
            raise
        if previous:
            _current = self
        return self

    def __exit__(self, *raised: object) -> None:
        global _current
        if self._previous:
            _current = None
            handlers = dict(self._previous)
            error = self._restore()
            for number, frame in self._noted:
                try:
                    handlers[number](number, frame)
                except BaseException as other:  # run all handlers, and raise the first exception
                    error = error or other
            if error is not None:
                raise error

    def _note(self, number: int, frame: Any) -> None:
        self._noted.append((number, frame))

    def _restore(self) -> BaseException | None:
        """Restore the handlers; return an exception that a handler raised before all were restored."""
        error = None
        while self._previous:
            try:
                for number in list(self._previous):
                    signal.signal(number, self._previous[number])
                    del self._previous[number]
            except BaseException as other:
                error = error or other
        return error


def _after_fork_in_child() -> None:
    """After a fork by another thread than the main one, end the block of the main thread, which the child does not have.

    What was noted there is left to the parent: other threads are not interrupted. Where the main thread itself has forked,
    it is still inside the block, and both processes run the handlers at its end.
    """
    global _current
    if _current is not None and _current._owner != threading.get_ident():
        left, _current = _current, None
        left._restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

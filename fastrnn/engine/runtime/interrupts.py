"""Ctrl-C waits while code is compiled, loaded or linked, and is raised afterwards.

An exception in the middle of Numba's compiler leaves its lock taken, its registries half filled, or a ctypes callback of
LLVM without a result. Python runs the handlers of signals in the main thread, between any two instructions. Inside a block
of :class:`held` they only take note there; what they were to do is done at the end of the block.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["held"]

#: Signals that users have handlers for which may raise: Ctrl-C, time limits, requests to end.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK", "SIGINT")
    if hasattr(signal, name)
]
#: The block that the main thread is in.
_current: held | None = None


class held(AbstractContextManager):  # noqa: N801 - used like a function
    """Context in which no handler of a signal is run in the main thread; in other threads it does nothing.

    Blocks inside each other are one. A handler written in C, and the default action of a signal, are not held back.
    """

    __slots__ = ("_noted", "_previous")

    def __init__(self) -> None:
        self._previous: dict[int, Callable[..., Any]] = {}
        self._noted: list[tuple[int, Any]] = []

    def __enter__(self) -> held:
        global _current
        if _current is not None or threading.current_thread() is not threading.main_thread():
            return self
        previous = self._previous
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    previous[number] = handler
                    signal.signal(number, self._note)
        except ValueError:  # the main thread of another interpreter: no handler is ever run here
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
                except BaseException as other:  # all of them are run; the first exception is raised
                    error = error or other
            if error is not None:
                raise error

    def _note(self, number: int, frame: Any) -> None:
        self._noted.append((number, frame))

    def _restore(self) -> BaseException | None:
        """Put the handlers back; an exception that one of them raises meanwhile is returned when all are back."""
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
    """Another thread than the main one has forked: nobody in the child will leave the block that the main thread was in."""
    global _current
    if _current is not None and threading.current_thread() is threading.main_thread():
        left, _current = _current, None
        left._restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

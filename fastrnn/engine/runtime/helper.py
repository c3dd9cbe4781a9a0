"""A thread that works for one call, which does not end before it.

`threading.Thread.join` is not enough: if Ctrl-C interrupts it, Python marks the thread as ended while it still runs, later
calls of `join` return at once, and the thread goes on to write to memory that the next call uses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastrnn.engine.runtime.interrupts import held

__all__ = ["Helper"]


class Helper:
    """A thread that runs `work` once.

    Parameters
    ----------
    work : callable
        Called without arguments.

    Attributes
    ----------
    result : object
        What `work` returned.
    error : BaseException or None
        What it raised.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        # The thread that pops the work, which is atomic, decides: this one runs it, the caller drops it.
        self._work = [work]
        self._ended: list[bool] = []
        self._wake = threading.Lock()
        self._wake.acquire()
        self._thread = threading.Thread(target=self._run, name="fastrnn call", daemon=True)

    def start(self) -> None:
        """Start the thread; RuntimeError if the system refuses it."""
        self._thread.start()

    def _run(self) -> None:
        try:
            work = self._work.pop()
        except IndexError:  # the call was interrupted before
            return
        try:
            self.result = work()
        except BaseException as error:  # for the thread that called
            self.error = error
        finally:
            self._ended.append(True)
            self._wake.release()

    def wait(self) -> None:
        """Wait for the end of the work; a signal's handler may raise meanwhile."""
        while not self._ended:
            self._wake.acquire(
                timeout=0.1
            )  # with a timeout, because on Windows an endless wait blocks signals

    def finish(self) -> None:
        """Leave the work out if it has not begun, otherwise wait for its end; signals are handled after that."""
        with held():
            try:
                self._work.pop()
            except IndexError:
                self.wait()

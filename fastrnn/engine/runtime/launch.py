"""The one way in which a kernel is launched from Python.

1. What this call needs and no call before it has needed is compiled or loaded: the functions linked on demand.
   Which ones follows from the call's options.
2. The kernel is called. At its first call with arguments of new types it is itself compiled or loaded. Only then are the
   slots known of the functions that it refers to, and they are filled before its code runs.
3. If it has the state of the team as an argument, it hands its pieces to other threads (`handover.share`);
   `threads.parallel_region` gives the state.
4. If a function that it called by an address has ended early, the call raises.

Passes over new arrays (`recurrence.run`), losses, and lists of calls whose arguments stay in memory (`recurrence.call_list`)
are launched alike: a list of calls is run by a kernel, too, and what its calls need is compiled when they are bound. A list
on one thread does step 4 without the context, which takes 0.2 us, a third of the time of a list of one step. Kernels that
call no function by its address, such as an optimizer's update, have nothing to prepare or to check: they are called as they
are.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from fastrnn.engine.numba_private import services
from fastrnn.engine.numba_private.services import PLAIN
from fastrnn.engine.runtime.linking import Slots, check, failed

__all__ = ["LAUNCHING", "launching"]


class _Announced(threading.local):
    """What the call that this thread is about to make needs: slots, and the size of their numbers."""

    slots: Sequence[Slots] = ()
    item_size = 8


_announced = _Announced()


def _fill_announced() -> None:
    """Fill the slots that the call needs whose kernel has just been compiled."""
    for slots in _announced.slots:
        slots.fill(_announced.item_size)


if not PLAIN:
    services.dispatcher.Dispatcher.before_launch = staticmethod(_fill_announced)


class launching:
    """The context in which Python calls a kernel: ``with launching(needed, item_size): kernel(...)``.

    Parameters
    ----------
    needed : sequence of Slots
        Of the functions linked on demand that the kernel will call with its arguments.
    item_size : int
        Size in bytes of the numbers that the kernel works on.

    Raises
    ------
    RuntimeError
        At the end, if a kernel came to a function that was not compiled, in this call or in one before it.
    """

    __slots__ = ("_item_size", "_needed")

    def __init__(self, needed: Sequence[Slots] = (), item_size: int = 4) -> None:
        self._needed, self._item_size = () if PLAIN else needed, item_size

    def __enter__(self) -> None:
        needed = self._needed
        if needed:
            item_size = self._item_size
            for slots in needed:
                if slots.empty[item_size]:
                    slots.fill(item_size)
            _announced.slots, _announced.item_size = needed, item_size

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._needed:
            _announced.slots = ()
        if failed[0] and kind is None:
            check()


#: For kernels that call nothing on demand, and whose calls were prepared before.
LAUNCHING = launching()

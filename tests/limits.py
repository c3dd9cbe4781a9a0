"""The time limit of child processes and of waits for threads.

It ends what hangs, and says nothing of speed: nothing takes a twentieth of it, also on a machine whose cores are shared by
many processes. The limit of a test (`timeout` in pyproject.toml) is longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["HANG_SECONDS", "eventually"]

HANG_SECONDS = 900.0


def eventually(holds: Callable[[], object], pause: float = 0.001) -> bool:
    """Ask every `pause` seconds whether a condition holds, until it does; False if it never does."""
    deadline = time.monotonic() + HANG_SECONDS / 3
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True

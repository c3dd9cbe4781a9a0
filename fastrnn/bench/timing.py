"""Blocks of timed calls, and the wait before each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.engine.runtime.threads import available

# Long compared with the clock's resolution and the cost of the loop, short compared with a time slice.
BLOCK_SECONDS = 2e-3
# The threads of OpenMP, ONNX Runtime and XLA spin for a while after the last call; the next contender waits until they
# sleep. ONNX Runtime's spin for more than 30 ms, and would take one of two cores from the next contender.
PAUSE_SECONDS = 0.06


def wait(seconds: float) -> None:
    """Wait with all cores busy.

    Cores of a virtual machine that wake up together may share one physical core for a while, at half their speed, which
    would slow down whichever contender is next. The control in `ratios` shows whether this happened.
    """
    end = time.perf_counter() + seconds

    def spin() -> None:
        numbers = np.ones(20_000)  # NumPy's loop over them releases the GIL for some microseconds
        while time.perf_counter() < end:
            np.sqrt(numbers, out=numbers)

    others = [threading.Thread(target=spin) for _ in range(available() - 1)]
    for other in others:
        other.start()
    spin()
    for other in others:
        other.join()


def seconds_of(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def calibrate(run: Callable[[], Any]) -> int:
    """Number of calls in a block; the first calls compile and warm up."""
    run()
    once = min(seconds_of(run, 1) for _ in range(2))
    return max(1, min(1000, math.ceil(BLOCK_SECONDS / max(once, 1e-9))))

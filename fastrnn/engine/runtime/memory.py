"""Memory for kernels: aligned to cache lines, and used again rather than given back."""

from __future__ import annotations

import functools
import itertools
import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.engine import tuning

__all__ = ["aligned", "nothing", "pool", "recycler"]

_LINE, _PAGE = 64, 4096
#: Where in its page a large block begins: places as far apart as a few of them can be.
_places = itertools.cycle(int(f"{k:04b}"[::-1], 2) * _PAGE // 16 for k in range(16))


def aligned(shape: int | tuple[int, ...], dtype: Any, zeros: bool = False) -> np.ndarray:
    """An array of arbitrary contents, or of zeros, that starts at a cache line.

    Vectors are as wide as a line: those that straddle two take twice as long to load, which halves the speed of
    products with one row.
    """
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    n_bytes = size * np.dtype(dtype).itemsize
    raw, start = _raw(n_bytes, np.zeros if zeros else np.empty)
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


@functools.cache
def nothing(dtype: Any, n_dims: int) -> np.ndarray:
    """An array without elements."""
    return np.empty((0,) * n_dims, dtype)


def _raw(n_bytes: int, make: Callable[..., np.ndarray] = np.empty) -> tuple[np.ndarray, int]:
    """Memory for so many bytes, and where they begin in it: at a cache line; large ones, each at another in its page.

    What lies a whole number of pages apart looks like one place to a core that asks whether a load has to wait for a
    store; and large blocks all come from the system at the same place in a page, which slows an update down that goes
    through several of them side by side.
    """
    if n_bytes < tuning.LARGE_BLOCK_BYTES:
        raw = make(n_bytes + _LINE, np.uint8)
        return raw, -raw.ctypes.data % _LINE
    # Zeros of the system take memory only where they are written to.
    raw = make(n_bytes + 2 * _PAGE, np.uint8)
    return raw, -raw.ctypes.data % _PAGE + next(_places)


class Pool(threading.local):
    """Memory that is used anew by every call on the same thread."""

    def __init__(self) -> None:
        self.buffers: dict[tuple, np.ndarray] = {}
        self.views: dict[tuple, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with arbitrary contents, valid until the next call with this name."""
        view = self.views.get((name, shape, dtype))
        if view is None:
            size = math.prod(shape)
            buffer = self.buffers.get((name, dtype))
            if buffer is None or buffer.size < size:
                buffer = self.buffers[name, dtype] = aligned(size, dtype)
                self.views.clear()
            if len(self.views) > 100:
                self.views.clear()
            view = self.views[name, shape, dtype] = buffer[:size].reshape(shape)
        return view


pool = Pool()


class Recycler(threading.local):
    """Large arrays whose memory is taken again once nobody looks at it any more.

    A training step allocates tens of megabytes and drops them; given back to the system each time, every page of them
    would cost a fault in the next step.
    """

    smallest = tuning.LARGE_BLOCK_BYTES
    most = tuning.MAX_RECYCLED_ARRAYS

    def __init__(self) -> None:
        #: Owners of memory, and where the first cache line begins in each.
        self.owners: list[np.ndarray] = []
        self.starts: list[int] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with arbitrary contents."""
        size = math.prod(shape) * dtype.itemsize
        if size < self.smallest:
            return np.empty(shape, dtype)
        for k in range(len(self.owners)):
            # Two: the list's own reference and the argument's. Every view of it counts as well.
            if size <= self.owners[k].size - 2 * _PAGE <= 2 * size and sys.getrefcount(self.owners[k]) == 2:
                break
        else:
            k, (owner, start) = len(self.owners), _raw(size)
            self.owners.append(owner)
            self.starts.append(start)
        result = np.ndarray(shape, dtype, self.owners[k], self.starts[k])
        if len(self.owners) > self.most:
            del self.owners[0], self.starts[0]  # those who still use it keep it alive
        return result


recycler = Recycler()

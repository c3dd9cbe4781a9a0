"""Memory for kernels, aligned to cache lines, and reused instead of freed."""

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
#: Offsets of large blocks in a page, far apart from each other.
_places = itertools.cycle(int(f"{k:04b}"[::-1], 2) * _PAGE // 16 for k in range(16))


def aligned(shape: int | tuple[int, ...], dtype: Any, zeros: bool = False) -> np.ndarray:
    """An array of arbitrary contents, or of zeros, that starts at a cache line.

    AVX-512 vectors are as wide as a cache line. Loading a vector that crosses two lines takes twice as long, which halves
    the speed of products with one row.
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
    """Allocate `n_bytes` bytes; return the memory and the offset of their first byte, at a cache line.

    Large blocks start at different offsets in a page. The system returns them at the same offset, and a core takes addresses
    at equal offsets for the same address when it checks whether a load must wait for a store. This slows down updates that
    read several blocks in parallel.
    """
    if n_bytes < tuning.LARGE_BLOCK_BYTES:
        raw = make(n_bytes + _LINE, np.uint8)
        return raw, -raw.ctypes.data % _LINE
    # Zeros of the system take memory only where they are written to.
    raw = make(n_bytes + 2 * _PAGE, np.uint8)
    return raw, -raw.ctypes.data % _PAGE + next(_places)


class Pool(threading.local):
    """Memory that is reused by every call on the same thread."""

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
            if len(self.views) > tuning.MAX_POOL_VIEWS:
                self.views.clear()
            view = self.views[name, shape, dtype] = buffer[:size].reshape(shape)
        return view


pool = Pool()


class Recycler(threading.local):
    """Large arrays whose memory is reused when no other object refers to it.

    A training step allocates and frees tens of megabytes. If the memory were returned to the system, the next step would
    have a page fault for each page.
    """

    smallest = tuning.LARGE_BLOCK_BYTES
    most = tuning.MAX_RECYCLED_ARRAYS

    def __init__(self) -> None:
        #: Owners of memory, and the offset of the first cache line in each.
        self.owners: list[np.ndarray] = []
        self.starts: list[int] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with arbitrary contents."""
        size = math.prod(shape) * dtype.itemsize
        if size < self.smallest:
            return np.empty(shape, dtype)
        for k in range(len(self.owners)):
            # The two references are the list's and the argument's, so there is no view of the array.
            if size <= self.owners[k].size - 2 * _PAGE <= 2 * size and sys.getrefcount(self.owners[k]) == 2:
                break
        else:
            k, (owner, start) = len(self.owners), _raw(size)
            self.owners.append(owner)
            self.starts.append(start)
        result = np.ndarray(shape, dtype, self.owners[k], self.starts[k])
        if len(self.owners) > self.most:
            del self.owners[0], self.starts[0]  # arrays that use the memory keep it alive
        return result


recycler = Recycler()

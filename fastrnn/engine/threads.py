"""How many threads to use, and when one is the only safe number.

:func:`resolve` turns an `n_jobs` argument into a number of threads. :func:`parallel_region` goes around each call of a
parallel kernel and says how many of them it may really have: one means that the serial kernel must be called, as in
a forked child the parallel one would end the process.
"""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import numbers
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.np.ufunc import parallel

__all__ = ["available", "in_worker", "parallel_region", "resolve", "workers_are_safe"]


_pool: Any = parallel


def resolve(n_jobs: int | None) -> int:
    """Return the number of threads that `n_jobs` asks for.

    Parameters
    ----------
    n_jobs : int or None
        None means all cores that are free to this process, or one inside a worker of joblib or multiprocessing;
        -1 means all cores that are free to this process wherever it runs; a positive number is taken as it is, up to
        the `NUMBA_NUM_THREADS` that Numba has started with.

    Returns
    -------
    int
        At least 1; exactly 1 where parallel kernels can't run, see :func:`workers_are_safe`.
    """
    n = _asked_for(n_jobs)
    return 1 if _forked and not workers_are_safe() else n


def _asked_for(n_jobs: int | None) -> int:
    if n_jobs is None:
        return 1 if in_worker() else available()
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral):
        raise TypeError(
            f"n_jobs={n_jobs!r} must be None (cores that are free), -1 (all cores), or a number of threads, "
            f"got {type(n_jobs).__name__}"
        )
    n = int(n_jobs)
    if n == -1:
        return available()
    if n < 1:
        raise ValueError(
            f"n_jobs={n} must be None (cores that are free), -1 (all cores), or a number of threads from 1 on"
        )
    return min(n, _limit())


def available() -> int:
    """Return the number of cores this process may use.

    The least of the CPU affinity, the quota of the control groups we are in, and `NUMBA_NUM_THREADS`.
    """
    return max(1, int(min(_affinity(), _quota(), _limit())))


def in_worker() -> bool:
    """Return whether this is a worker process or thread of joblib or multiprocessing.

    There the work is spread over the cores already, and more threads would only get in each other's way.
    """
    # A child has a parent whoever started it: Pool, ProcessPoolExecutor, or loky. Pools of threads have no such mark,
    # but multiprocessing's (which joblib uses) run threads of a class of their own.
    if multiprocessing.parent_process() is not None or multiprocessing.current_process().daemon:
        return True
    return type(threading.current_thread()).__module__ == "multiprocessing.dummy"


def workers_are_safe() -> bool:
    """Return whether this process may enter a parallel kernel at all.

    GNU OpenMP can't go on in a forked child: Numba ends the process there, or it waits forever for threads that exist
    in the parent only, be they Numba's or those of another library that shares the OpenMP runtime.
    """
    return not (_forked and _gnu_openmp())


def _limit() -> int:
    return 1 if config.DISABLE_JIT else int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _quota() -> float:
    """Return the CPUs that the control groups grant us, infinity where there is no limit."""
    return (
        _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
        if sys.platform == "linux"
        else math.inf
    )


def _cgroup_quota(membership: Path, root: Path) -> float:
    """Read the quota from version 2 (`cpu.max`) or version 1 (`cpu.cfs_quota_us`) of the control groups.

    A limit on any group above ours binds us as well. In a container our path may be one that only the host sees; then
    the root of what is mounted is our own group.
    """
    least = math.inf
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts = [root, root / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / controllers, root / "cpu"]
        else:
            continue
        for mount in mounts:
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                if mount in (folder, *folder.parents):
                    least = min(least, _group_quota(folder))
    return math.ceil(least) if math.isfinite(least) else least


def _group_quota(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        granted = float(quota) / float(period)  # "max" and -1 mean no limit
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return granted if granted > 0 else math.inf


# ----------------------------------------------------------------------------------------------------------------
# Regions
# ----------------------------------------------------------------------------------------------------------------

_forked = False
_region_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _forked, _region_lock
    _forked = True
    # Another thread may have held the lock, and it doesn't exist here.
    _region_lock = threading.RLock()
    _quota.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@functools.cache
def _gnu_openmp() -> bool:
    """Return whether Numba's threads are, or would be, GNU OpenMP's."""
    try:
        layer = numba.threading_layer()
    except ValueError:  # No parallel kernel has run yet.
        wanted = str(config.THREADING_LAYER).lower()  # type: ignore[attr-defined]
        if wanted in ("tbb", "workqueue", "forksafe", "safe"):
            return False
        layer = "omp"
    if layer != "omp":
        return False
    try:
        from numba.np.ufunc import omppool  # type: ignore[attr-defined]
    except ImportError:
        return False
    return getattr(omppool, "openmp_vendor", "GNU") == "GNU"


@functools.cache
def _needs_lock() -> bool:
    """Return whether the threading layer ends the process when two Python threads enter it at once."""
    return numba.threading_layer() not in ("omp", "tbb")


class parallel_region(contextlib.AbstractContextManager):  # noqa: N801 - used like a function
    """Context in which a parallel kernel may be called, with at most `n` threads.

    Entering it gives the number of threads to work with. Where that is 1, call the serial kernel.

    Parameters
    ----------
    n : int
        A number of threads from :func:`resolve`.

    Examples
    --------
    >>> with parallel_region(2) as n:  # doctest: +SKIP
    ...     kernel = forward_parallel if n > 1 else forward
    ...     kernel(x, out)
    """

    __slots__ = ("_before", "_lock", "_n")

    def __init__(self, n: int) -> None:
        self._n = n
        self._lock: Any = None
        self._before = 0

    def __enter__(self) -> int:
        n = self._n
        if n <= 1 or (_forked and not workers_are_safe()):
            return 1
        if not _pool._is_initialized:
            _pool._launch_threads()
        if _needs_lock():
            self._lock = _region_lock
            self._lock.acquire()
        # The number of threads belongs to the Python thread, so it is set here and not once for all. Numba's public
        # functions take two locks to see that the pool is up, which costs more than the rest of this class.
        before = _pool._get_num_threads()
        if n != before:
            n = min(n, _limit())
            _pool._set_num_threads(n)
            self._before = before
        return n

    def __exit__(self, *exc: object) -> None:
        if self._before:
            _pool._set_num_threads(self._before)
            self._before = 0
        if self._lock is not None:
            self._lock.release()
            self._lock = None

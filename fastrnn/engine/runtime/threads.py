"""The number of threads, and the team of threads of this process.

:func:`resolve` converts an `n_jobs` argument to a number of threads. :func:`parallel_region` is the context of each call of
a parallel kernel, and gives it the team with which it shares its work. The threads are not Numba's, because Numba's thread
pools end the process in a forked child or when two threads use them at the same time, wait for all threads at barriers, and
add a second of compile time to each kernel.

Idle threads wait actively for the next call and then sleep, because waking a thread takes longer than a small call. The
environment variable FASTRNN_SPIN_US sets for how many microseconds (see `tuning.SPIN_US`); with 0, they sleep soon after
each call.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import math
import multiprocessing
import numbers
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import config, types

from fastrnn.engine import tuning
from fastrnn.engine.numba_private.services import DISABLED, PLAIN, STOCK
from fastrnn.engine.runtime.cache import warn_once
from fastrnn.engine.runtime.handover import STOP, WAITED, new_state, serve
from fastrnn.engine.runtime.helper import Helper
from fastrnn.engine.runtime.interrupts import held

__all__ = ["available", "in_main", "in_worker", "parallel_region", "resolve", "run_interruptibly"]


def resolve(n_jobs: int | None) -> int:
    """Return the number of threads for `n_jobs`.

    Parameters
    ----------
    n_jobs : int or None
        None means all cores that are free to this process, or one inside a worker of joblib or multiprocessing;
        -1 means all cores that are free to this process wherever it runs; a positive number is taken as it is, up to
        the `NUMBA_NUM_THREADS` that Numba has started with. Beyond that a warning, once in a process, says what is used.

    Returns
    -------
    int
        At least 1.
    """
    if n_jobs is None:
        return 1 if in_worker() else available()
    if type(n_jobs) is not int and (isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral)):
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
    limit = _limit()
    if n > limit and not DISABLED:
        reason = (
            "kernels of the stock path run in one thread (see fastrnn.show_versions)"
            if STOCK
            else f"Numba has started with at most {limit}; set NUMBA_NUM_THREADS before Python starts to have more"
        )
        warn_once(
            "threads", f"n_jobs={n}: {limit} {'thread is' if limit == 1 else 'threads are'} used, {reason}"
        )
    return min(n, limit)


def available() -> int:
    """Return the number of cores that this process may use.

    It is the minimum of the CPU affinity, the quota of the process's control groups, and `NUMBA_NUM_THREADS`.
    """
    # Not joblib.cpu_count(), because this function is called before each kernel call: joblib reads files each time (78 us
    # instead of 1 us), considers only the quota of the root group, and ignores NUMBA_NUM_THREADS.
    return max(1, int(min(_affinity(), _quota(), _limit())))


def in_worker() -> bool:
    """Return whether this is a worker process or thread of joblib or multiprocessing.

    In a worker, the work is already distributed over the cores, and more threads would compete for them.
    """
    # Child processes of Pool, ProcessPoolExecutor and loky have a parent process. Threads of multiprocessing's ThreadPool,
    # which joblib uses, are recognised by their class.
    if multiprocessing.parent_process() is not None or multiprocessing.current_process().daemon:
        return True
    return type(threading.current_thread()).__module__ == "multiprocessing.dummy"


def _limit() -> int:
    return 1 if PLAIN else int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _quota() -> float:
    """Return the CPU quota of the control groups; infinity if there is no limit."""
    return (
        _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
        if sys.platform == "linux"
        else math.inf
    )


def _cgroup_quota(membership: Path, root: Path) -> float:
    """Read the quota from version 2 (`cpu.max`) or version 1 (`cpu.cfs_quota_us`) of the control groups.

    Limits of all parent groups apply too. In a container the path of the group may exist only on the host; then the root of
    the mounted hierarchy is the group of this process.
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


def _spin_us(given: str | None) -> float:
    """Microseconds for which idle threads wait actively: the value of FASTRNN_SPIN_US, or the default."""
    if not given:
        return tuning.SPIN_US
    try:
        found = float(given)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1e6:
        raise ValueError(
            f"FASTRNN_SPIN_US={given!r} must be a number of microseconds from 0 to 1e6, for which idle threads wait "
            f"actively before they sleep: unset it for {tuning.SPIN_US}, or use 0 where idle cores shall rest"
        )
    return max(found, tuning.LEAST_SPIN_US)


_SPIN_US = _spin_us(os.environ.get("FASTRNN_SPIN_US"))


def _spins(microseconds: float) -> int:
    """Number of checks for work that take this time."""
    state, took = new_state(), []
    for _ in range(3):
        start = time.perf_counter_ns()
        serve(state, tuning.TIMED_SPINS)
        took.append(time.perf_counter_ns() - start)
    return math.ceil(tuning.TIMED_SPINS * microseconds * 1000 / max(min(took), 1))


# ----------------------------------------------------------------------------------------------------------------
# The team
# ----------------------------------------------------------------------------------------------------------------


class _Worker:
    """A thread of the team, which sleeps if there was no work for a while.

    Linux may wake a thread on the core of the thread that waits for it, although another core is idle, and keep both there.
    So the thread is woken with that core excluded, and removes this restriction when it runs.

    Only the worker itself writes `asleep`, so the flag is right even if the thread that wakes it is interrupted.
    """

    def __init__(self, team: _Team) -> None:
        self.asleep = False
        #: How often the worker was woken.
        self.wakings = 0
        self._sleep = threading.Lock()
        self._sleep.acquire()
        self._team = team
        #: The cores on which it may run, while one of them is excluded.
        self._target: set[int] | None = None
        self.thread = threading.Thread(target=self._work, name="fastrnn", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        team = self._team
        while True:
            calls = team.calls
            if serve(team.state, team.spins):
                return
            # Set the flag before checking for new calls. A caller counts its call before reading the flag, so either the
            # worker sees the call or the caller sees the flag.
            self.asleep = True
            if team.calls == calls:
                self._sleep.acquire()
                self.wakings += 1
            self.asleep = False
            if self._target is not None:
                self.move(self._target)

    def move(self, cores: set[int]) -> None:
        """Restrict the thread to these cores."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self.thread.native_id or 0, cores)
        self._target = None

    def wake(self, core: int, moved_to: set[int] | None) -> None:
        """Wake the thread on another core than `core`; on the cores `moved_to` if the caller was moved to them."""
        if _current_core is not None and self.thread.native_id:
            with contextlib.suppress(OSError):
                # A remaining target is from an interrupted call; otherwise use the affinity that the user has set.
                cores = moved_to or self._target or os.sched_getaffinity(self.thread.native_id)
                self._target = cores
                os.sched_setaffinity(self.thread.native_id, cores - {core} or cores)
        with contextlib.suppress(RuntimeError):  # another thread has also woken it
            self._sleep.release()


class _Team:
    """The threads of this process for parallel kernels, which are started when they are first needed.

    If calls wait for the threads, because other processes use the cores, the team is not used for a while.

    Several Python threads may call kernels at the same time: each job of a kernel claims the team, or is computed by the
    calling thread alone (see `handover.share`). The team is not locked here, so an interrupt can't leave it locked.
    """

    def __init__(self) -> None:
        self.state = new_state()
        self.calls = 0
        #: Checks for work of a thread before it sleeps.
        self.spins = 0
        self._workers: list[_Worker] = []
        #: At most this many can be had: fewer than asked for where the system has refused a thread.
        self._most = sys.maxsize
        self._hiring = threading.Lock()
        #: The cores of the thread of the last call, and the time when they were read.
        self._cores: set[int] = set()
        self._asked = 0
        #: Whether the thread of the last call may use a single core.
        self._one_core = False
        self._rest = 0
        self._left = 0
        self._start = 0

    def call(self, n: int, light: bool = False) -> bool:
        """Wake n - 1 workers; return False if the team is not used now, or if the call is too light to wake it."""
        if self._left:
            self._left -= 1
            return False
        if self._one_core:
            if len(os.sched_getaffinity(0)) == 1:
                return False
            self._one_core = False
        if len(self._workers) < min(n - 1, self._most):
            self._start_workers(n - 1)
        before, self._start = self._start, time.perf_counter_ns()
        self.calls += 1  # before the flags are read, see _Worker._work
        asleep = [worker for worker in self._workers[: n - 1] if worker.asleep]
        if asleep and light and self._start - before > tuning.AWAKE_NS:
            return False
        if asleep or self._start - self._asked > tuning.AFFINITY_NS:
            return self._wake(asleep)
        return True

    def _wake(self, asleep: list[_Worker]) -> bool:
        """Wake workers; if the calling thread was moved to other cores, all workers are moved too.

        Return False, and wake none, if the calling thread may use a single core: each would wait for the other to be
        interrupted.
        """
        moved_to = None
        if _current_core is not None:
            cores = os.sched_getaffinity(0)
            self._one_core = len(cores) == 1
            if cores != self._cores:
                moved_to = cores
                for worker in self._workers:
                    if worker not in asleep or self._one_core:
                        worker.move(cores)
            if self._one_core:
                self._cores = cores
                return False
        for worker in asleep:
            worker.wake(_current_core() if _current_core else 0, moved_to)
        if moved_to is not None:
            self._cores = moved_to
        self._asked = self._start
        return True

    def done(self) -> None:
        """Record how long the call had to wait."""
        waited = self.state[WAITED]
        took = time.perf_counter_ns() - self._start
        if waited > tuning.LATE_NS and waited > tuning.LATE_FRACTION * took:
            self._rest = self._left = min(max(2 * self._rest, tuning.MIN_REST_CALLS), tuning.MAX_REST_CALLS)
        else:
            self._rest = 0

    def _start_workers(self, n: int) -> None:
        with held(), self._hiring:
            if not self._workers:
                serve.compile((numba.typeof(self.state), types.intp))  # here, not in the thread
                self.spins = _spins(_SPIN_US)
                atexit.register(self.dismiss)
                self._cores = os.sched_getaffinity(0) if _current_core is not None else set()
            while len(self._workers) < min(n, self._most):
                try:
                    self._workers.append(_Worker(self))
                except RuntimeError as error:
                    self._most = len(self._workers)
                    _warn_refused(error, self._most + 1)

    def dismiss(self) -> None:
        """Stop the workers before the interpreter ends."""
        self.state[STOP] = 1
        self.calls += 1  # before the flags are read: a worker that is about to sleep looks again
        for worker in self._workers:
            if worker.asleep:
                worker.wake(-1, None)
        for worker in self._workers:
            worker.thread.join(1.0)
        self._workers.clear()


def _warn_refused(error: Exception, used: int) -> None:
    used_now = "the calling thread alone is" if used == 1 else f"{used} threads are"
    warn_once(
        "refused",
        f"the system has refused a thread ({error}): {used_now} used from here on, and results are the same",
    )


def _current_core_function() -> Any:
    if sys.platform != "linux" or not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core = _current_core_function()
_team = _Team()


def _after_fork_in_child() -> None:
    global _team
    # A child process has none of the parent's threads.
    _team = _Team()
    _quota.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def in_main() -> bool:
    """Whether this is the main thread, in which Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


def run_interruptibly(work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `work` in a helper thread; on an interrupt, call `stop`, wait for the helper, and raise.

    While compiled code runs in the main thread, Python can't run signal handlers.
    """
    helper = Helper(work)
    try:
        try:
            helper.start()
        except RuntimeError as error:
            _warn_refused(error, 1)
            return work()
        helper.wait()
    except BaseException:
        stop()
        helper.finish()  # it uses memory of this call
        raise
    if helper.error is not None:
        raise helper.error


class parallel_region(contextlib.AbstractContextManager):  # noqa: N801 - used like a function
    """Context in which a parallel kernel may be called, with at most `n` threads.

    Its value is the state that the kernel shares with the team, or None if the kernel must run on this thread alone: if `n`
    is 1, if this thread may use a single core or its control group has the time of one, if other processes use the cores,
    or if the work is too small to wake the team. While the team works for another
    Python thread, a kernel's jobs are computed by the calling thread alone.

    Parameters
    ----------
    n : int
        A number of threads from :func:`resolve`.
    light : bool
        Whether to return None also if threads sleep, unless calls follow each other closely.

    Examples
    --------
    >>> with parallel_region(2) as state:  # doctest: +SKIP
    ...     forward_pass(ALONE if state is None else state, x, out)
    """

    __slots__ = ("_light", "_n", "_team")

    def __init__(self, n: int, light: bool = False) -> None:
        self._n, self._light = n, light
        self._team: _Team | None = None

    def __enter__(self) -> np.ndarray | None:
        team = _team
        # Within the processor time of one core, threads that wait for one another take time from those that work.
        if self._n <= 1 or _quota() <= 1 or not team.call(self._n, self._light):
            return None
        self._team = team
        return team.state

    def __exit__(self, *exc: object) -> None:
        if self._team is not None:
            self._team.done()
            self._team = None

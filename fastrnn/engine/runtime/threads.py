"""How many threads to use, and when one is the only safe number.

:func:`resolve` turns an `n_jobs` argument into a number of threads. :func:`parallel_region` goes around each call of a
parallel kernel and gives it the team that it may share its work with. The team's threads are our own: Numba's pools
end the process in a forked child or when two threads enter them at once, let everyone wait for the last at a barrier,
and cost a second of compile time per kernel.
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
from fastrnn.engine.runtime.handover import STOP, WAITED, new_state, serve
from fastrnn.engine.runtime.interrupts import held

__all__ = ["available", "in_main", "in_worker", "parallel_region", "resolve", "run_interruptibly"]


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
    return min(n, _limit())


def available() -> int:
    """Return the number of cores this process may use.

    The least of the CPU affinity, the quota of the control groups we are in, and `NUMBA_NUM_THREADS`.
    """
    # Not joblib.cpu_count(): this is asked before each kernel call, and joblib reads files each time (78 us against 1 us),
    # takes the quota of the root group only, and does not know NUMBA_NUM_THREADS.
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
# The team
# ----------------------------------------------------------------------------------------------------------------


class _Worker:
    """A thread that serves, and sleeps when there was nothing to do for a while.

    Linux may wake a thread on the very core of the one that waits for it, with another core idle, and leave both
    there. So it wakes barred from that core, and drops the bar once it runs.

    Only the worker itself writes `asleep`: whatever interrupts a thread that wakes it, the two agree.
    """

    def __init__(self, team: _Team) -> None:
        self.asleep = False
        #: How often it was woken.
        self.wakings = 0
        self._sleep = threading.Lock()
        self._sleep.acquire()
        self._team = team
        #: The cores that it may run on, while it is barred from one of them.
        self._target: set[int] | None = None
        self.thread = threading.Thread(target=self._work, name="fastrnn", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        team = self._team
        while True:
            calls = team.calls
            if serve(team.state, tuning.SPINS_BEFORE_SLEEP):
                return
            # First the flag, then the look: whoever calls counts first and looks at flags then, so one of us sees.
            self.asleep = True
            if team.calls == calls:
                self._sleep.acquire()
                self.wakings += 1
            self.asleep = False
            if self._target is not None:
                self.move(self._target)

    def move(self, cores: set[int]) -> None:
        """Let the thread run on these cores, and no others."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(self.thread.native_id or 0, cores)
        self._target = None

    def wake(self, core: int, moved_to: set[int] | None) -> None:
        """Wake the thread away from a core; onto other cores than before where the caller was moved to them."""
        if _current_core is not None and self.thread.native_id:
            with contextlib.suppress(OSError):
                # A target that is still there is from a call that was interrupted; else what the user has set counts.
                cores = moved_to or self._target or os.sched_getaffinity(self.thread.native_id)
                self._target = cores
                os.sched_setaffinity(self.thread.native_id, cores - {core} or cores)
        with contextlib.suppress(RuntimeError):  # another thread has woken it, too
            self._sleep.release()


class _Team:
    """The threads of this process that help with parallel kernels: started when first needed, gone in a fork's child.

    Where calls wait for them, because others want the same cores, the team rests for a while.

    Several Python threads may call at once: each job of a kernel claims the team for itself, or is done alone (see
    `handover.share`). So nothing here has to be given back, and an interrupt in the middle leaves nothing taken.
    """

    def __init__(self) -> None:
        self.state = new_state()
        self.calls = 0
        self._workers: list[_Worker] = []
        self._hiring = threading.Lock()
        #: The cores of the thread that called last, and when it was asked for them.
        self._cores: set[int] = set()
        self._asked = 0
        self._rest = 0
        self._left = 0
        self._start = 0

    def call(self, n: int, light: bool = False) -> bool:
        """Have n - 1 workers awake; False where the team rests, or sleeps and the call is too light to wake it."""
        if self._left:
            self._left -= 1
            return False
        if len(self._workers) < n - 1:
            self._hire(n - 1)
        before, self._start = self._start, time.perf_counter_ns()
        self.calls += 1  # first this, then the look at flags
        asleep = [worker for worker in self._workers[: n - 1] if worker.asleep]
        if asleep and light and self._start - before > tuning.AWAKE_NS:
            return False
        if asleep or self._start - self._asked > tuning.AFFINITY_NS:
            self._wake(asleep)
        return True

    def _wake(self, asleep: list[_Worker]) -> None:
        """Wake workers; all of them follow the calling thread if it was moved to other cores."""
        moved_to = None
        if _current_core is not None:
            cores = os.sched_getaffinity(0)
            if cores != self._cores:
                moved_to = cores
                for worker in self._workers:
                    if worker not in asleep:
                        worker.move(cores)
        for worker in asleep:
            worker.wake(_current_core() if _current_core else 0, moved_to)
        if moved_to is not None:
            self._cores = moved_to
        self._asked = self._start

    def done(self) -> None:
        """Take note of how long the call had to wait."""
        waited = self.state[WAITED]
        took = time.perf_counter_ns() - self._start
        if waited > tuning.LATE_NS and waited > tuning.LATE_FRACTION * took:
            self._rest = self._left = min(max(2 * self._rest, tuning.MIN_REST_CALLS), tuning.MAX_REST_CALLS)
        else:
            self._rest = 0

    def _hire(self, n: int) -> None:
        with held(), self._hiring:
            if not self._workers:
                serve.compile((numba.typeof(self.state), types.intp))  # here, not in the thread
                atexit.register(self.dismiss)
                self._cores = os.sched_getaffinity(0) if _current_core is not None else set()
            while len(self._workers) < n:
                self._workers.append(_Worker(self))

    def dismiss(self) -> None:
        """End the workers, before the interpreter ends."""
        self.state[STOP] = 1
        for worker in self._workers:
            if worker.asleep:
                worker.wake(-1, None)
        for worker in self._workers:
            worker.thread.join(1.0)
        self._workers.clear()


def _current_core_function() -> Any:
    if sys.platform != "linux" or not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core = _current_core_function()
_team = _Team()


def _after_fork_in_child() -> None:
    global _team
    # The threads stayed with the parent, and what they were doing there never ends here.
    _team = _Team()
    _quota.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def in_main() -> bool:
    """Whether this is the main thread, to which Python hands signals."""
    return threading.current_thread() is threading.main_thread()


def run_interruptibly(work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run `work` in a helper thread; on an interrupt, call `stop`, wait for the helper, and raise.

    Compiled code in the main thread would keep Python from running the handler of a signal.
    """
    errors: list[BaseException] = []

    def helper() -> None:
        try:
            work()
        except BaseException as error:  # raised below, in the thread that called
            errors.append(error)

    thread = threading.Thread(target=helper, name="fastrnn call", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)  # on Windows, only a wait that ends by itself lets signals through
    except BaseException:
        stop()
        with held():  # its memory is ours: it must not go on
            if thread.ident is not None:
                thread.join()
        raise
    if errors:
        raise errors[0]


class parallel_region(contextlib.AbstractContextManager):  # noqa: N801 - used like a function
    """Context in which a parallel kernel may be called, with at most `n` threads.

    Entering it gives the state that the kernel shares with the team, or None where it must be called alone:
    if `n` is 1, if the cores are busy with other processes, or if the team would have to be woken for a trifle. While the
    team works for another Python thread, a kernel's jobs are done alone, whatever the state.

    Parameters
    ----------
    n : int
        A number of threads from :func:`resolve`.
    light : bool
        Give None as well where threads sleep, unless calls follow one another closely.

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
        if self._n <= 1 or not team.call(self._n, self._light):
            return None
        self._team = team
        return team.state

    def __exit__(self, *exc: object) -> None:
        if self._team is not None:
            self._team.done()
            self._team = None

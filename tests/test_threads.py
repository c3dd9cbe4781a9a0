"""The team of threads: no order of calls of the parallel kernels ends the process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.threads import parallel_region
from tests.limits import HANG_SECONDS, eventually
from tests.team_scripts import needs_fork, needs_jit, needs_two, run


def region_of_two(team: threads._Team) -> object:
    """The state that a call gets which the team does not rest for."""
    team._left = 0
    with parallel_region(2) as state:
        return state


@needs_two
def test_region_gives_the_state_and_survives_exceptions() -> None:
    team = threads._team
    with parallel_region(1) as state:
        assert state is None
    assert region_of_two(team) is team.state
    with pytest.raises(KeyError), parallel_region(2):
        raise KeyError
    assert region_of_two(team) is team.state


ONE_AT_A_TIME = """
import ctypes
from fastrnn.engine.runtime.handover import OWNED
# Another thread has claimed the team: jobs are done alone, and what it has written for the team is left as it is.
work()
state = threads._team.state
state[OWNED] = 1
before = state.copy()
work()
changed = [int(i) for i in np.flatnonzero(state != before)]
state[OWNED] = 0
work()
print([i for i in changed if i < 24], int(state[OWNED]), bool((state != before)[0]))
"""


@needs_jit
def test_team_works_for_one_thread_at_a_time(tmp_path: Path) -> None:
    assert run(tmp_path, ONE_AT_A_TIME) == "[] 0 True"


WAKE = """
def wake():
    # Until a call has woken the thread, and it runs and has undone what the call did to wake it.
    def woken():
        before = worker.wakings
        assert eventually(lambda: worker.asleep)
        work()
        return eventually(lambda: worker._target is None) and worker.wakings > before
    assert eventually(woken)
"""

STORM = """
import random, signal
work()
class Limit(Exception): pass
def limit(*_): raise Limit
signal.signal(signal.SIGALRM, limit)
draw = random.Random(0)
hits = tries = 0
while tries < 3000 or hits <= 500:  # on a fast machine, calls end before most of the moments
    tries += 1
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 150e-6))
            for _ in range(20):
                with parallel_region(2):
                    pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Limit:
        hits += 1
    for worker in threads._team._workers:
        if draw.random() < 0.02:  # asleep, so that the next call wakes it
            worker.asleep or __import__("time").sleep(0.003)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
threads._team._left = 0
(worker,) = threads._team._workers
# The team still works, and calls still wake it.
took = sum(work() - 1 for _ in range(200))
for _ in range(20):
    wake()
print(hits > 500, took, os.sched_getaffinity(worker.thread.native_id) == os.sched_getaffinity(0))
"""


@needs_two
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the platform has no timers and affinities")
def test_team_survives_exceptions_at_any_moment_of_a_call(tmp_path: Path) -> None:
    assert run(tmp_path, WAKE + STORM) == "True 200 True"


AFFINITY = """
def alone():
    with parallel_region(2) as state:
        return state is None
def allowed():
    return sorted(os.sched_getaffinity(worker.thread.native_id))
cores = sorted(os.sched_getaffinity(0))
work()
(worker,) = threads._team._workers
os.sched_setaffinity(0, cores[:1])  # this thread: the team follows, and is not used, as it could only take turns
assert eventually(alone)
print(allowed() == cores[:1] and alone(), end=" ")
os.sched_setaffinity(0, cores)
# Without a pause, so that the thread need not sleep.
print(eventually(lambda: work() and allowed() == cores, 0), end=" ")
assert eventually(lambda: worker.asleep)
for thread in os.listdir("/proc/self/task"):  # all threads, as taskset --all-tasks does
    os.sched_setaffinity(int(thread), cores[-1:])
assert eventually(alone)
print(allowed() == cores[-1:], end=" ")
os.sched_setaffinity(0, cores)
wake()
assert allowed() == cores
assert eventually(lambda: worker.asleep)
os.sched_setaffinity(worker.thread.native_id, cores[:1])  # only that of the team
wake()
print(allowed() == cores[:1])
"""


@needs_two
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="there is one core only"
)
def test_workers_keep_the_affinity_that_is_set_later(tmp_path: Path) -> None:
    assert run(tmp_path, WAKE + AFFINITY) == "True True True True"


class Watched(threads._Worker):
    """A worker whose `sleeping` says that it sleeps until it is woken; `asleep` alone may be about to change."""

    @property
    def _sleep(self) -> Watched:
        return self

    @_sleep.setter
    def _sleep(self, lock: threading.Lock) -> None:
        self.lock, self.sleeping = lock, False

    def acquire(self) -> None:
        self.sleeping = self.lock.locked()
        self.lock.acquire()
        self.sleeping = False

    def release(self) -> None:
        self.lock.release()


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Iterator[threads._Team]:
    """A team of its own, whose one worker is a `Watched`."""
    monkeypatch.setattr(threads, "_Worker", Watched)
    made = threads._Team()
    assert made.call(2)
    yield made
    workers = list(made._workers)
    made.dismiss()
    assert eventually(lambda: not any(worker.thread.is_alive() for worker in workers))


def test_worker_that_is_about_to_sleep_is_dismissed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threads._Team()
    looking, dismissed = threading.Event(), threading.Event()

    def serve(state: np.ndarray, spins: int) -> bool:
        if state[threads.STOP]:
            return True
        looking.set()
        assert dismissed.wait(HANG_SECONDS)
        return False  # as if it had looked before

    monkeypatch.setattr(threads, "serve", serve)
    worker = threads._Worker(made)
    made._workers.append(worker)
    assert looking.wait(HANG_SECONDS)
    end = worker.thread.join
    # Joined after the flags are read.
    monkeypatch.setattr(worker.thread, "join", lambda timeout: (dismissed.set(), end(timeout)))
    made.dismiss()
    assert eventually(lambda: not worker.thread.is_alive())


@needs_two
def test_light_calls_wake_no_thread_unless_they_are_frequent(team: threads._Team) -> None:
    (worker,) = team._workers
    assert eventually(lambda: worker.sleeping)
    time.sleep(0.002)
    assert not team.call(2, light=True)
    assert worker.sleeping
    # The next one follows closely, unless the system has something else to do just then.
    assert eventually(lambda: team.call(2, light=True), 0)
    assert eventually(lambda: worker.sleeping)
    time.sleep(0.002)
    assert team.call(2)


@needs_two
def test_region_rests_while_calls_wait_for_the_team(team: threads._Team) -> None:
    rests = []
    for waited in (10**15, 10**15, 10**15, 0, 10**15):
        while not team.call(2):
            pass
        team.state[threads.WAITED] = waited
        team.done()
        rests.append(team._left)
    least = tuning.MIN_REST_CALLS
    assert rests == [least, 2 * least, 4 * least, 0, least]


@needs_two
def test_workers_sleep_and_wake(team: threads._Team) -> None:
    (worker,) = team._workers
    for _ in range(3):
        assert eventually(lambda: worker.sleeping)
        before = worker.wakings
        team.call(2)
        assert eventually(lambda: worker.wakings > before)  # noqa: B023 - called here and now


IDLE = """
import time
from fastrnn.engine.runtime.handover import new_state, serve

checks = []
def noted(state, spins):
    # What a thread of the team does between two calls: as many checks for work.
    checks.append(spins)
    return serve(state, spins)
noted.compile = serve.compile
threads.serve = noted
for _ in range(3):
    assert work() == 2
(worker,) = threads._team._workers
assert eventually(lambda: worker.asleep)
time.sleep(0.1)
before = len(checks)
assert eventually(lambda: worker.asleep)
time.sleep(0.1)
assert worker.asleep and len(checks) == before  # nothing wakes it
(spins,) = {number for number in checks if number != tuning.TIMED_SPINS}
def seconds(number):
    start = time.perf_counter()
    serve(new_state(), number)
    return time.perf_counter() - start
one = min(seconds(tuning.TIMED_SPINS) for _ in range(100)) / tuning.TIMED_SPINS
print(1e6 * one * spins)
"""


@needs_two
@pytest.mark.parametrize(
    ("given", "microseconds"), [("0", tuning.LEAST_SPIN_US), ("", tuning.SPIN_US), ("100000", 100_000)]
)
def test_idle_threads_wait_actively_for_the_time_that_is_set(
    tmp_path: Path, given: str, microseconds: float
) -> None:
    """The number of their checks, by the least time of a check; the engine measures that time less often."""
    found = float(run(tmp_path, IDLE, FASTRNN_SPIN_US=given))
    assert microseconds / 20 < found < 5 * microseconds


@pytest.mark.parametrize("given", ["-1", "2e6", "nan", "fast"])
def test_waiting_time_that_makes_no_sense_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=rf"FASTRNN_SPIN_US='{given}' must be a number of microseconds"):
        threads._spin_us(given)


@needs_jit
def test_region_costs_little() -> None:
    """A region takes about 2 us: a dozen calls of functions, none of which asks the system; more if it wakes a thread."""

    def calls_of_a_region() -> list[str]:
        found = []

        def note(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                found.append(frame.f_code.co_name)
            elif event == "c_call":
                found.append(f"{getattr(argument, '__module__', None)}.{argument.__name__}")

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            with parallel_region(2):
                pass
        finally:
            sys.setprofile(before)
        return found

    with parallel_region(2):
        pass
    assert max(len(calls_of_a_region()) for _ in range(2000)) <= 40

    def costs_little() -> bool:
        calls = calls_of_a_region()
        return len(calls) <= 12 and not any(name.startswith("posix.") for name in calls)

    assert eventually(costs_little, 0)  # as soon as the thread is awake


@needs_jit
def test_two_python_threads_at_once(tmp_path: Path) -> None:
    script = """
work()
def loop():
    mine = SimpleRNN(64, return_sequences=True)
    mine(x)
    mine.set_weights(layer.get_weights())
    for _ in range(300):
        np.testing.assert_array_equal(mine(x), serial)
pool = [threading.Thread(target=loop) for _ in range(4)]
[t.start() for t in pool]
[t.join() for t in pool]
print("done")
"""
    assert run(tmp_path, script) == "done"


@needs_jit
@needs_fork
@pytest.mark.parametrize("used", [True, False])
def test_forked_child_has_a_team_of_its_own(tmp_path: Path, used: bool) -> None:
    script = f"{used} and work()\nprint(in_child(work), in_child(lambda: resolve(2)), work(), resolve(2))"
    assert run(tmp_path, script) == "2 2 2 2"


@needs_jit
@needs_fork
def test_fork_while_another_thread_is_inside(tmp_path: Path) -> None:
    script = """
work()
inside, leave = threading.Event(), threading.Event()
def hold():
    with parallel_region(2):
        inside.set()
        leave.wait()
holder = threading.Thread(target=hold)
holder.start()
inside.wait()
print(in_child(work))
leave.set()
holder.join()
"""
    assert run(tmp_path, script) == "2"


OTHER_PLATFORM = """
import ctypes, sys, multiprocessing.connection, numba, fastrnn.engine.runtime.jit
libc = ctypes.CDLL(None)
yields = []
class Kernel32:
    # What the real one has, on top of what is here.
    @staticmethod
    def QueryPerformanceFrequency(to): to._obj.value = 10_000_000
    @ctypes.CFUNCTYPE(ctypes.c_int)
    def SwitchToThread():
        yields.append(1)
        return libc.sched_yield()
    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    def QueryPerformanceCounter(to):
        import time
        ctypes.c_int64.from_address(to).value = time.perf_counter_ns() // 100 + 4 * 10**15
        return 1
if {windows}:
    ctypes.WinDLL = lambda name: Kernel32
sys.platform, kept = {platform!r}, sys.platform
import fastrnn.engine.runtime.handover, fastrnn.engine.runtime.threads
sys.platform = kept
sys.path.insert(0, {folder!r})
"""

SLOW_PART = """
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.handover import load, share, store
from fastrnn.engine.runtime.linking import address, fetch, spill

@jit
def _part(arguments, at, k):
    started, x = fetch(arguments, at)
    store(started, k, 1)
    looks = 0
    while load(started, 1 - k) == 0 and looks < 4_000_000_000:  # until another thread has the other part
        looks += 1
    if k == 1:  # the team has this one; it takes longer than the caller spins
        for i in range(20_000_000):
            x[0] += load(started, 0)

part = address(_part)

@jit
def slow(state, started, x):
    args = (started, x)
    share(state, part(args), spill(args), 2)
"""

WAIT = """
print(work(), threads._current_core is None, end=" ")
from fastrnn.engine.runtime import handover
from slow import slow
longest = 0
tries = 30 if handover._POSIX or handover._KERNEL32 else 2
for _ in range(tries):  # until the team's thread takes the long part
    threads._team._left = 0
    with parallel_region(2) as state:
        slow(state, np.zeros(2, np.int64), np.ones(1))
        longest = max(longest, int(state[handover.WAITED]))
    if longest > 2_000_000:
        break
print(0 < longest < 20e9, bool(globals().get("yields")))
"""


@needs_two
@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", "2 False True False"),
        ("win32", "2 True True True"),  # yields by a function of kernel32, not of libc
        ("unheard of", "2 True False False"),
    ],
)
def test_waiting_offers_the_core_where_the_platform_can(tmp_path: Path, platform: str, expected: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW_PART)
    prelude = OTHER_PLATFORM.format(platform=platform, windows=platform == "win32", folder=str(tmp_path))
    assert run(tmp_path, WAIT, prelude, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == expected

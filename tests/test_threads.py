"""The team of threads: no order of calls of the parallel kernels ends the process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.threads import parallel_region
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


STORM = """
import random, signal
work()
class Limit(Exception): pass
def limit(*_): raise Limit
signal.signal(signal.SIGALRM, limit)
draw = random.Random(0)
hits = 0
for _ in range(3000):
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
import time
time.sleep(0.05)
(worker,) = threads._team._workers
took = 0
for _ in range(200):
    # The team still works: each thread that takes a part of a job writes to it.
    took += work() - 1
    deadline = time.monotonic() + 5
    while worker.asleep and time.monotonic() < deadline:
        time.sleep(0.0002)
assert not worker.asleep or took > 100
print(hits > 500, took > 100, len(os.sched_getaffinity(worker.thread.native_id)) == len(os.sched_getaffinity(0)))
"""


@needs_two
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the platform has no timers and affinities")
def test_team_survives_exceptions_at_any_moment_of_a_call(tmp_path: Path) -> None:
    assert run(tmp_path, STORM) == "True True True"


AFFINITY = """
import time
def fall_asleep():
    time.sleep(0.05)  # it may be about to wake
    deadline = time.monotonic() + 10
    while not worker.asleep and time.monotonic() < deadline:
        time.sleep(0.001)
def allowed():
    time.sleep(0.05)
    return sorted(os.sched_getaffinity(worker.thread.native_id))
cores = sorted(os.sched_getaffinity(0))
work()
(worker,) = threads._team._workers
fall_asleep()
os.sched_setaffinity(0, cores[:1])  # this thread: the team follows
work()
print(allowed() == cores[:1], end=" ")
os.sched_setaffinity(0, cores)
deadline = time.monotonic() + 0.2
while time.monotonic() < deadline:  # though its thread never sleeps
    work()
print(allowed() == cores, end=" ")
fall_asleep()
for thread in os.listdir("/proc/self/task"):  # all threads, as taskset --all-tasks does
    os.sched_setaffinity(int(thread), cores[-1:])
work()
print(allowed() == cores[-1:], end=" ")
os.sched_setaffinity(0, cores)
fall_asleep()
work()
fall_asleep()
os.sched_setaffinity(worker.thread.native_id, cores[:1])  # only that of the team
work()
print(allowed() == cores[:1])
"""


@needs_two
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="there is one core only"
)
def test_workers_keep_the_affinity_that_is_set_later(tmp_path: Path) -> None:
    assert run(tmp_path, AFFINITY) == "True True True True"


@needs_two
def test_light_calls_wake_no_thread_unless_they_are_frequent() -> None:
    team = threads._Team()
    try:
        assert team.call(2)
        (worker,) = team._workers

        def fall_asleep() -> None:
            deadline = time.monotonic() + 10
            while not worker.asleep and time.monotonic() < deadline:
                time.sleep(0.001)
            assert worker.asleep

        fall_asleep()
        time.sleep(0.002)
        assert not team.call(2, light=True)
        assert worker.asleep
        # The next one follows closely, unless the system has something else to do just then.
        assert any(team.call(2, light=True) for _ in range(100))
        fall_asleep()
        time.sleep(0.002)
        assert team.call(2)
    finally:
        team.dismiss()


@needs_two
def test_region_rests_while_calls_wait_for_the_team() -> None:
    team = threads._Team()
    team.call(2)
    try:
        rests = []
        for waited in (10**12, 10**12, 10**12, 0, 10**12):
            while not team.call(2):
                pass
            team.state[threads.WAITED] = waited
            team.done()
            rests.append(team._left)
    finally:
        team.dismiss()
    least = tuning.MIN_REST_CALLS
    assert rests == [least, 2 * least, 4 * least, 0, least]


@needs_two
def test_workers_sleep_and_wake() -> None:
    team = threads._Team()
    team.call(2)
    (worker,) = team._workers
    try:
        for _ in range(3):
            deadline = time.monotonic() + 20
            while not worker.asleep and time.monotonic() < deadline:
                time.sleep(0.001)
            assert worker.asleep
            before = worker.wakings
            team.call(2)
            while worker.wakings == before and time.monotonic() < deadline:
                time.sleep(0.001)
            assert worker.wakings > before
    finally:
        team.dismiss()
    assert not worker.thread.is_alive()


IDLE = """
import time
for _ in range(3):
    assert work() == 2
start = time.process_time()
time.sleep(0.5)
print(time.process_time() - start)
"""


@needs_two
@pytest.mark.parametrize(("given", "least", "most"), [("0", 0, 0.01), ("", 0, 0.02), ("100000", 0.02, 0.4)])
def test_idle_threads_wait_actively_for_the_time_that_is_set(
    tmp_path: Path, given: str, least: float, most: float
) -> None:
    """CPU seconds of the process in half a second after the last call."""
    assert least <= float(run(tmp_path, IDLE, FASTRNN_SPIN_US=given)) <= most


@pytest.mark.parametrize("given", ["-1", "2e6", "nan", "fast"])
def test_waiting_time_that_makes_no_sense_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=rf"FASTRNN_SPIN_US='{given}' must be a number of microseconds"):
        threads._spin_us(given)


@needs_jit
def test_region_costs_little() -> None:
    with parallel_region(2):
        pass
    n = 2000
    start = time.perf_counter()
    for _ in range(n):
        with parallel_region(2):
            pass
    assert (time.perf_counter() - start) / n < 20e-6  # About 2 us; the rest is for busy machines.


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
from fastrnn.engine.runtime.handover import _load, _store, share
from fastrnn.engine.runtime.linking import address, fetch, spill

@jit
def _part(arguments, at, k):
    started, x = fetch(arguments, at)
    _store(started, k, 1)
    looks = 0
    while _load(started, 1 - k) == 0 and looks < 4_000_000_000:  # until another thread has the other part
        looks += 1
    if k == 1:  # the team has this one; it takes longer than the caller spins
        for i in range(20_000_000):
            x[0] += _load(started, 0)

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

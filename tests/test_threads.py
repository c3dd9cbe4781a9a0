"""Number of threads; and no order of calls of the parallel kernels ends the process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import pytest

from fastrnn.engine import tuning
from fastrnn.engine.runtime import cache, threads
from fastrnn.engine.runtime.jit import DISABLED
from fastrnn.engine.runtime.threads import available, in_worker, parallel_region, resolve

ROOT = Path(__file__).resolve().parents[1]
needs_jit = pytest.mark.skipif(DISABLED, reason="there are no parallel kernels with NUMBA_DISABLE_JIT=1")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
needs_two = pytest.mark.skipif(DISABLED or numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")

KERNEL = """
import os, sys, threading
import numpy as np
from fastrnn.engine import tuning
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.threads import parallel_region, resolve
from fastrnn.layers import SimpleRNN

tuning.LATE_NS = float("inf")  # use the team even if the machine is busy
layer = SimpleRNN(64, return_sequences=True)
x = np.random.default_rng(0).standard_normal((64, 20, 64)).astype("float32")
layer.n_threads = 1
serial = layer(x)

def work(n=2):
    # 2 where the team took part in the call, 1 where it did not; the numbers are the same.
    layer.n_threads = n
    calls = threads._team.calls
    np.testing.assert_array_equal(layer(x), serial)
    return 1 + threads._team.calls - calls

def in_child(call):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 10 + call()
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFEXITED(status), status
    return os.WEXITSTATUS(status) - 10
"""


def run(tmp_path: Path, script: str, prelude: str = "", **extra: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(prelude + KERNEL + script)
    root = str(Path(threads.__file__).parents[3])
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    env |= {
        "PYTHONPATH": root,
        "NUMBA_CACHE_DIR": str(tmp_path.parent / "cache"),
        "NUMBA_NUM_THREADS": "2",
    } | extra
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_resolve_none_and_minus_one() -> None:
    assert resolve(-1) == available()
    assert 1 <= available() <= (os.cpu_count() or 1)
    assert resolve(None) == (1 if in_worker() else available())


@needs_jit
def test_resolve_takes_a_number_up_to_numbas_limit_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_warned", set())
    limit = numba.config.NUMBA_NUM_THREADS
    assert resolve(1) == 1
    assert resolve(limit) == limit
    with pytest.warns(
        RuntimeWarning, match=rf"n_jobs=10000: {limit} threads? (are|is) used, .*NUMBA_NUM_THREADS"
    ):
        assert resolve(10_000) == limit
    assert resolve(10_000) == limit  # a second warning would be an error here


TOO_MANY = """
import warnings
import numpy as np
from fastrnn import RNNClassifier
from fastrnn.engine.runtime import threads
{change}
X = np.random.default_rng(0).normal(size=(64, 20, 8)).astype("f")
y = np.arange(64) % 2
options = dict(units=64, max_iter=2, batch_size=64, tol=None, random_state=0)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    many = RNNClassifier(n_jobs={n_jobs}, **options).fit(X, y).predict_proba(X)
    for _ in range(3):
        again = RNNClassifier(n_jobs={n_jobs}, **options).fit(X, y).predict_proba(X)
one = RNNClassifier(n_jobs=1, **options).fit(X, y).predict_proba(X)
np.testing.assert_allclose(many, one, atol=1e-5)
np.testing.assert_allclose(again, one, atol=1e-5)
print(*(f"{{w.category.__name__}} {{w.message}}" for w in said), sep=chr(10))
"""

#: As where a limit of processes or a container refuses threads after the first few.
REFUSED = """
import threading
start, left = threading.Thread.start, [{left}]
def refuse(self):
    if self.name.startswith("fastrnn"):
        if left[0] == 0:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
    start(self)
threading.Thread.start = refuse
"""


def _warnings(change: str, n_jobs: int, **variables: str) -> list[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY.format(change=change, n_jobs=n_jobs)],
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@needs_jit
@pytest.mark.parametrize(("limit", "used"), [("1", "1 thread is"), ("2", "2 threads are")])
def test_more_threads_than_numba_has_are_one_warning_and_the_same_numbers(limit: str, used: str) -> None:
    (said,) = _warnings("", 64, NUMBA_NUM_THREADS=limit)
    assert said.startswith(f"RuntimeWarning n_jobs=64: {used} used, ")


@needs_jit
@pytest.mark.parametrize(("left", "used"), [(0, "the calling thread alone is"), (1, "2 threads are")])
def test_threads_that_the_system_refuses_are_one_warning_and_the_same_numbers(left: int, used: str) -> None:
    (said,) = _warnings(REFUSED.format(left=left), 4, NUMBA_NUM_THREADS="4")
    assert said.startswith(
        f"RuntimeWarning the system has refused a thread (can't start new thread): {used} used"
    )


def test_helper_that_the_system_refuses_leaves_the_work_to_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cache, "_warned", set())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[bool] = []
    with pytest.warns(RuntimeWarning, match="refused a thread"):
        threads.run_interruptibly(lambda: done.append(threads.in_main()), lambda: None)
    assert done == [True]


@pytest.mark.parametrize(
    ("n_jobs", "error"),
    [(0, ValueError), (-2, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_resolve_rejects(n_jobs: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"n_jobs={n_jobs!r} must be None .*-1 .*number of threads"):
        resolve(n_jobs)  # type: ignore[arg-type]


def test_affinity_counts(tmp_path: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the platform can't pin processes")
    script = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(resolve(None), resolve(2))"
    assert run(tmp_path, script) == "1 2"


def test_platform_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available() == 1


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_platform_without_cgroups(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    threads._quota.cache_clear()
    assert threads._quota() == math.inf
    threads._quota.cache_clear()


def test_numba_num_threads_is_respected(tmp_path: Path) -> None:
    assert run(tmp_path, "print(resolve(None), resolve(4))", NUMBA_NUM_THREADS="1") == "1 1"


def cgroup(tmp_path: Path, membership: str, files: dict[str, str]) -> float:
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    return threads._cgroup_quota(tmp_path / "membership", tmp_path / "cgroup")


V1 = "cpu,cpuacct"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "300000 100000"}, 1),
        ("0::/seen/by/the/host\n", {"cpu.max": "200000 100000"}, 2),
        (f"4:{V1}:/a\n", {f"{V1}/a/cpu.cfs_quota_us": "400000", f"{V1}/a/cpu.cfs_period_us": "100000"}, 4),
        (f"4:{V1}:/a\n", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/\n4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("nonsense", {}, math.inf),
    ],
)
def test_cgroup_quota(tmp_path: Path, membership: str, files: dict[str, str], expected: float) -> None:
    assert cgroup(tmp_path, membership, files) == expected


def test_cgroup_quota_without_proc(tmp_path: Path) -> None:
    assert threads._cgroup_quota(tmp_path / "none", tmp_path) == math.inf


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


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_workers_take_one_thread(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("joblib")
    script = f"""
import joblib
print(joblib.Parallel(n_jobs=2, backend={backend!r})(joblib.delayed(resolve)(None) for _ in range(4)))
"""
    assert run(tmp_path, script) == "[1, 1, 1, 1]"


def test_process_pool_takes_one_thread(tmp_path: Path) -> None:
    script = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(list(pool.map(resolve, [None] * 4)), pool.submit(work).result() in (1, 2))
"""
    assert run(tmp_path, script) == "[1, 1, 1, 1] True"

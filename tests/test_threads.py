"""How many threads, and that no way of entering the parallel kernels ends the process."""

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

from fastrnn.engine import threads
from fastrnn.engine.jit import DISABLED
from fastrnn.engine.threads import available, in_worker, parallel_region, resolve

needs_jit = pytest.mark.skipif(DISABLED, reason="there are no parallel kernels with NUMBA_DISABLE_JIT=1")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
needs_two = pytest.mark.skipif(DISABLED or numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")

KERNEL = """
import os, sys, threading
import numpy as np
from fastrnn.engine.jit import jit, prange
from fastrnn.engine.threads import parallel_region, resolve

@jit
def serial(x):
    for i in range(x.shape[0]):
        x[i] += 1

@jit(parallel=True)
def parallel(x):
    for i in prange(x.shape[0]):
        x[i] += 1

def work(n=2):
    x = np.zeros(64)
    with parallel_region(n) as got:
        (parallel if got > 1 else serial)(x)
    assert (x == 1).all()
    return got

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


def run(tmp_path: Path, script: str, **extra: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(KERNEL + script)
    root = str(Path(threads.__file__).parents[2])
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    env |= {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_NUM_THREADS": "2"} | extra
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_resolve_none_and_minus_one() -> None:
    assert resolve(-1) == available()
    assert 1 <= available() <= (os.cpu_count() or 1)
    assert resolve(None) == (1 if in_worker() else available())


def test_resolve_takes_a_number_up_to_numbas_limit() -> None:
    assert resolve(1) == 1
    assert resolve(10_000) == (1 if DISABLED else numba.config.NUMBA_NUM_THREADS)


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


@needs_two
def test_region_sets_and_restores_the_number() -> None:
    limit = numba.config.NUMBA_NUM_THREADS
    numba.set_num_threads(1)
    try:
        with parallel_region(2) as n:
            assert n == numba.get_num_threads() == 2
            with parallel_region(1) as inner:
                assert inner == 1
        assert numba.get_num_threads() == 1
        with pytest.raises(KeyError), parallel_region(2):
            raise KeyError
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(limit)


@needs_two
def test_region_in_another_thread_has_its_own_number() -> None:
    seen = []

    def enter() -> None:
        with parallel_region(2) as n:
            seen.append((n, numba.get_num_threads()))

    numba.set_num_threads(1)
    try:
        other = threading.Thread(target=enter)
        other.start()
        other.join()
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert seen == [(2, 2)]


def test_region_costs_little() -> None:
    with parallel_region(2):
        pass
    n = 2000
    start = time.perf_counter()
    for _ in range(n):
        with parallel_region(2):
            pass
    assert (time.perf_counter() - start) / n < 20e-6  # About 1 us; the rest is for busy machines.


LAYERS = ["omp", "workqueue"]


def require(layer: str) -> None:
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool")


@needs_jit
@pytest.mark.parametrize("layer", LAYERS)
def test_two_python_threads_at_once(tmp_path: Path, layer: str) -> None:
    require(layer)
    script = """
work()
def loop():
    for _ in range(300):
        assert work() == 2
pool = [threading.Thread(target=loop) for _ in range(4)]
[t.start() for t in pool]
[t.join() for t in pool]
print("done")
"""
    assert run(tmp_path, script, NUMBA_THREADING_LAYER=layer) == "done"


@needs_jit
@needs_fork
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("used", [True, False])
def test_forked_child_works(tmp_path: Path, layer: str, used: bool) -> None:
    require(layer)
    script = f"{used} and work()\nprint(in_child(work), in_child(lambda: resolve(2)), work(), resolve(2))"
    in_child = 1 if layer == "omp" and threads._gnu_openmp() else 2
    assert run(tmp_path, script, NUMBA_THREADING_LAYER=layer) == f"{in_child} {in_child} 2 2"


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
    assert run(tmp_path, script, NUMBA_THREADING_LAYER="workqueue") == "2"


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

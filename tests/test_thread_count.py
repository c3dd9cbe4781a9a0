"""The number of threads: what n_jobs, affinity, control groups, workers of joblib and the system allow."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest

from fastrnn.engine.runtime import cache, threads
from fastrnn.engine.runtime.threads import available, in_worker, resolve
from tests.limits import HANG_SECONDS
from tests.team_scripts import needs_jit, run

ROOT = Path(__file__).resolve().parents[1]


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
        timeout=HANG_SECONDS,
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


def test_team_is_not_used_within_the_time_of_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_quota", lambda: 1)
    with threads.parallel_region(2) as state:
        assert state is None

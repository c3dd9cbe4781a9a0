"""Side-by-side timing: contenders take turns in one process, so that slow phases of the machine affect all of them."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benchmarks.peers import Contender, thread_counts

# Long compared with the clock's resolution and the cost of the loop, short compared with a time slice.
BLOCK_SECONDS = 2e-3
# The threads of OpenMP, ONNX Runtime and XLA spin for a while after the last call; the next contender waits until they
# sleep. ONNX Runtime's spin for more than 30 ms, and would take one of two cores from the next contender.
PAUSE_SECONDS = 0.06


@numba.njit(nogil=True)
def _busy(turns):
    total = 0.0
    for i in range(turns):
        total += 1.0 / (total + i + 1.0)
    return total


def wait(seconds: float) -> None:
    """Wait with all cores busy.

    Cores of a virtual machine that wake up together may share one physical core for a while, at half their speed, which
    would slow down whichever contender is next. The control in `ratios` shows whether this happened.
    """
    end = time.perf_counter() + seconds

    def spin() -> None:
        while time.perf_counter() < end:
            _busy(10_000)

    others = [threading.Thread(target=spin) for _ in range(thread_counts()[-1] - 1)]
    for other in others:
        other.start()
    spin()
    for other in others:
        other.join()


def seconds_of(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def calibrate(run: Callable[[], Any]) -> int:
    """Number of calls in a block; the first calls compile and warm up."""
    run()
    once = min(seconds_of(run, 1) for _ in range(2))
    return max(1, min(1000, math.ceil(BLOCK_SECONDS / max(once, 1e-9))))


def time_side_by_side(
    contenders: Sequence[Contender],
    *,
    seconds: float = 2.0,
    least: int = 5,
    most: int = 60,
    pause: float = PAUSE_SECONDS,
) -> list[np.ndarray]:
    """Time per call of each contender, one value for each block.

    There are at least `least` and at most `most` rounds, and rounds end when the contenders have run for `seconds` on
    average. The order rotates by one place each round.
    """
    calls = []
    for contender in contenders:
        contender.prepare()
        calls.append(calibrate(contender.run))
    samples: list[list[float]] = [[] for _ in contenders]
    start, turn = time.perf_counter(), 0
    while turn < least or (turn < most and time.perf_counter() - start < seconds * len(contenders)):
        for i in range(len(contenders)):
            k = (i + turn) % len(contenders)
            wait(pause)
            contenders[k].prepare()
            contenders[k].run()  # wakes the library's own threads
            samples[k].append(seconds_of(contenders[k].run, calls[k]))
        turn += 1
    return [np.array(s) for s in samples]


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Properties that figures depend on: processor, versions, commit."""
    packages = (
        "fastrnn",
        "numpy",
        "numba",
        "llvmlite",
        "scikit-learn",
        "torch",
        "keras",
        "jax",
        "onnxruntime",
    )
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    vector = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "baseline"
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "vector": vector,
        "system": f"{platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commit": git.stdout.strip() or None,
        "versions": versions,
    }

"""Side-by-side timing: contenders take turns in one process, so that a slow minute of the machine hits all of them."""

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

# Long against the clock's grain and the cost of the loop, short against a time slice.
BLOCK_SECONDS = 2e-3
# The pools of OpenMP, ONNX Runtime and XLA spin for a while after the last call; they must not do it on the next
# contender's time. ONNX Runtime's go on for more than 30 ms: on two cores, that halves whoever comes next.
PAUSE_SECONDS = 0.06


@numba.njit(nogil=True)
def _busy(turns):
    total = 0.0
    for i in range(turns):
        total += 1.0 / (total + i + 1.0)
    return total


def wait(seconds: float) -> None:
    """Let time pass with all cores awake.

    Cores of a virtual machine that wake up together may find themselves on one physical core for a while, at half their
    speed, and whose turn it is then is chance. The control in `ratios` shows whether it happened.
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
    """How many calls make a block; the first ones compile and warm up."""
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
    """Time per call of each contender, one value a block.

    Rounds go on until each contender has had its `seconds` of work in the mean, but for at least `least` and at most
    `most` rounds. The order turns by one place each round.
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
    """What a figure depends on: processor, versions, commit."""
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

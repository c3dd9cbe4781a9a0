"""Side-by-side timing: contenders take turns in one process, so that slow phases of the machine affect all of them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.bench.peers import Contender
from fastrnn.bench.timing import PAUSE_SECONDS, calibrate, seconds_of, wait
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.info import cpu_name


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


def suffix() -> str:
    """What the names of results end in: the width of the vectors, if code is generated for another processor."""
    named = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("FASTRNN_VECTOR_BITS")
    return f"_{VECTOR_BITS}" if named else ""


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
        "openvino",
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
        "vector_bits": VECTOR_BITS,
        "system": f"{platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commit": git.stdout.strip() or None,
        "versions": versions,
    }

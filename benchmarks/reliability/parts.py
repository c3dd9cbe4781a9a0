"""Used by all parts: the record of a result, and a function that runs code in a process that may crash or hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn import Sequential, layers

ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    """A line of the table: figures by name, and whether the promise holds."""

    part: str
    promise: str
    figures: dict[str, Any]
    holds: bool


class Ended(NamedTuple):
    """How a process of `in_process` ended: its last line of JSON, and whether it crashed or hung."""

    found: dict[str, Any] | None
    crashed: bool
    hung: bool
    seconds: float
    errors: str


def in_process(
    module: str, *arguments: Any, seconds: float = 600, home: Path = ROOT, **environment: str
) -> Ended:
    """Run ``python -m module arguments`` with a time limit, from `home`; its last line is a JSON object."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=home,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=os.name != "nt",
    )
    try:
        out, err = process.communicate(timeout=seconds)
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    lines = [line for line in out.splitlines() if line.startswith("{")]
    found = json.loads(lines[-1]) if lines else None
    return Ended(found, not hung and process.returncode != 0, hung, time.perf_counter() - start, err[-2000:])


def small_model(cell: str = "gru", units: int = 4, dtype: str = "float32", seed: int = 0) -> Sequential:
    """A compiled model of one recurrent layer on 3 features."""
    recurrent = getattr(layers, {"gru": "GRU", "lstm": "LSTM", "simple_rnn": "SimpleRNN"}[cell])(
        units, dtype=dtype
    )
    model = Sequential([layers.Input((None, 3)), recurrent, layers.Dense(2, dtype=dtype)], seed=seed)
    model.compile("adam", "mse")
    return model


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def resident_mb() -> float:
    """Resident memory of this process in MB; NaN if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

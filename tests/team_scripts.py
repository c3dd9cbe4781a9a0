"""Scripts that run kernels with a team of threads, in processes of their own, and what they need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.jit import DISABLED
from tests.limits import HANG_SECONDS

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
from tests.limits import eventually

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
        [sys.executable, str(file)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

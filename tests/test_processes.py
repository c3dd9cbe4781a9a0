"""The whole library across processes: what one compiles the next only loads, and starting together is safe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastrnn.engine.runtime.jit import DISABLED
from tests.compiled import LISTEN
from tests.limits import HANG_SECONDS

pytestmark = pytest.mark.skipif(DISABLED, reason="nothing is compiled")
ROOT = Path(__file__).resolve().parents[1]

#: What is compiled for a first fit, then for sequences of unequal lengths, rare options, and steps whose passes are
#: prepared; and what makes C functions.
FIT = """
import ctypes
made, kept = [], ctypes.CFUNCTYPE
def listening(*kinds, **options):
    made.append(sys._getframe(1).f_globals["__name__"])
    return kept(*kinds, **options)
ctypes.CFUNCTYPE = listening
from fastrnn import RNNClassifier
X = np.random.default_rng(0).normal(size=(64, 20, 8)).astype("f")
options = dict(units=32, max_iter=2, batch_size=32, tol=None, random_state=0)
model = RNNClassifier(**options).fit(X, np.arange(64) % 2)
model.predict(X)
first = list(compiled)
p = model.predict_proba([x[: 2 + i % 4] for i, x in enumerate(X)])
options |= dict(units=17, n_jobs=1, recurrent_dropout=0.5, activation="mish")
q = RNNClassifier(**options).fit(X, np.arange(64) % 3).predict_proba(X)
from fastrnn import Sequential, layers
network = Sequential([layers.GRU(5), layers.Dense(2)], seed=0)
network.compile("sgd", "mse")
for _ in range(70):
    network.train_on_batch(X[:4], X[:4, 0, :2])
makers = sorted({name for name in made if name.startswith("fastrnn")})
digest = hashlib.sha256(p.tobytes() + q.tobytes() + network.params.tobytes()).hexdigest()
refreshed = "numba.np.arraymath" in sys.modules
print(json.dumps({"first": first, "compiled": compiled, "makers": makers, "refreshed": refreshed, "result": digest}))
"""

LAYER = """
from fastrnn.layers import SimpleRNN
from tests import naive
layer = SimpleRNN(7)
x = np.random.default_rng(0).normal(size=(5, 6, 3)).astype("f")
y = layer(x)
expected, _ = naive.recurrent("simple_rnn", x, layer.get_weights())
print(json.dumps({"compiled": compiled, "error": float(np.abs(y - expected).max())}))
"""


def start(cache: Path, script: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN + script],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> dict:
    out, error = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, error[-3000:]
    return json.loads(out.splitlines()[-1])


class First(NamedTuple):
    """What the first process has told, and the cache that it has filled."""

    said: dict[str, Any]
    cache: Path


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> First:
    cache = tmp_path_factory.mktemp("cache")
    return First(finish(start(cache, FIT)), cache)


def test_second_process_compiles_nothing_and_agrees_bit_for_bit(first):
    second = finish(start(first.cache, FIT))
    assert first.said["compiled"]  # the listener does listen
    assert second["compiled"] == []
    assert first.said["result"] == second["result"]
    # Loading a kernel needs no functions for the compiler, whose import is most of the time of a first fit.
    assert first.said["refreshed"]
    assert not second["refreshed"]


def test_first_fit_compiles_few_functions(first):
    """Each of them takes 0.05 to 0.5 s. There were 29 when the engine was made of fewer and longer functions."""
    names = first.said["first"]
    assert 10 < len(names) <= 29, names


def test_no_function_of_python_is_handed_to_kernels(first):
    """A type of C functions serves to call compiled code from Python (in vecmath); no callback is made of one."""
    assert first.said["makers"] in ([], ["fastrnn.engine.kernels.vecmath"])
    for path in (ROOT / "fastrnn").rglob("*.py"):
        text = path.read_text("utf-8")
        assert not re.search(r"@_?\w*(CFUNCTYPE|_SIGNATURE|cfunc)", text), path
        assert "_SIGNATURE(_" not in text, path


def test_four_processes_on_an_empty_cache_are_right(tmp_path):
    results = [finish(p) for p in [start(tmp_path, LAYER) for _ in range(4)]]
    assert max(r["error"] for r in results) < 1e-6
    last = finish(start(tmp_path, LAYER))
    assert last["compiled"] == []
    assert last["error"] < 1e-6


def test_numbers_are_the_same_without_a_compiler():
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/test_golden.py",
            "tests/test_matmul.py",
        ],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout


FORKS = """
import os, signal, threading, time
from fastrnn.engine.numba_private.dispatcher import compiler_lock

def compile_for_long():
    with compiler_lock:
        taken.set()
        time.sleep(0.5)  # the fork waits for the lock, so nothing can say that it has begun

for own in (False, True):  # the forking thread may hold the lock itself
    taken = threading.Event()
    compiler = threading.Thread(target=compile_for_long)
    if own:
        compiler_lock.acquire()
    else:
        compiler.start()
        taken.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(300)  # ends it if the lock is never free
        with compiler_lock:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if own:
        compiler_lock.release()
    else:
        compiler.join()
    with compiler_lock:
        print("free", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_child_forked_while_another_thread_compiles_can_compile():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["free 0", "free 0"], done.stderr

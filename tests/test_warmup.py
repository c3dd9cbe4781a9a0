"""warmup() compiles what later processes need, and checks its arguments first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn import warmup
from fastrnn.engine.runtime.jit import DISABLED
from tests.compiled import LISTEN
from tests.limits import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[1]

USE = """
from fastrnn import RNNClassifier
X = np.random.default_rng(0).normal(size=(40, 6, 3)).astype("f")
for n_classes, units in ((2, 17), (3, 17), (2, 8), (2, 40)):
    model = RNNClassifier(cell="simple_rnn", units=units, max_iter=2, tol=None, random_state=0)
    model.fit(X, np.arange(40) % n_classes)
    model.predict([x[: 2 + i % 4] for i, x in enumerate(X)])
    model.model_.stream().step(X[:1, 0])
    for method in ("predict", "predict_proba"):
        model.stream(method=method).step(X[:1, 0])
    for x in (X, X.astype("d")):  # fits of many batches
        model.set_params(batch_size=4).fit(x, np.arange(40) % n_classes)
print(json.dumps(compiled))
"""


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_later_process_compiles_nothing_after_warmup(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}

    def run(code):
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env=env,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=True,
        )

    said = run("import fastrnn; fastrnn.warmup('simple_rnn')")
    assert "compiling" in said.stderr  # the progress bar
    assert json.loads(run(LISTEN + USE).stdout) == []


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"cells": "gruu"}, ValueError, "cells='gruu'.*did you mean 'gru'"),
        ({"cells": []}, ValueError, "cells=.*nothing to compile"),
        ({"dtypes": "float16"}, ValueError, "float16.*float32"),
        ({"dtypes": None}, ValueError, "dtypes"),
        ({"training": 1}, TypeError, "training=1: give True or False"),
        ({"parallel": "yes"}, TypeError, "parallel='yes': give True or False"),
        ({"verbose": 2}, TypeError, "verbose=2: give True or False"),
    ],
)
def test_warmup_rejects(arguments, error, words):
    with pytest.raises(error, match=words):
        warmup(**arguments)

"""One new file in `fastrnn/cells` is a cell in all parts of the library: shown on a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn.engine.runtime.jit import DISABLED
from tests.limits import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[1]

CELL = '''"""A cell for this test: a gated unit with one further parameter for each unit.

References
----------
None: it is made up.
"""

from fastrnn.cells import equations, sigmoid, tanh

__all__ = ["OneFile"]


@equations("f g", extra="w", start={"f": 0.5, "w": 0.25})
def OneFile(z, prev, p, activation=tanh, recurrent_activation=sigmoid, mix=0.5):
    """A cell for this test; one state, h."""
    f = recurrent_activation(z.f + p.w * prev.h)
    return mix * f * prev.h + (1 - f) * activation(z.g)
'''

USE = """
import io
import numpy as np
import fastrnn
from fastrnn import RNNClassifier, RNNRegressor, layers, warmup
from sklearn.model_selection import GridSearchCV

assert fastrnn.__file__.startswith(PACKAGE), fastrnn.__file__
X, y = np.random.default_rng(0).normal(size=(40, 6, 3)).astype("f"), np.arange(40) % 2
made = RNNClassifier(cell="one_file", units=4, max_iter=2, tol=None, n_jobs=1)
made.fit(X, y)  # the workers of the search don't each compile it
search = GridSearchCV(
    made, {"cell": ["one_file", "simple_rnn"]}, cv=2,
    n_jobs=2, error_score="raise",
).fit(X, y)
assert "one_file" in RNNRegressor.__doc__ and "OneFile" in dir(layers)
layer = layers.OneFile(3, mix=0.75)
layer.build((None, None, 2))
assert (layer.get_weights()[2][:3] == 0.5).all() and (layer.get_weights()[3] == 0.25).all()
try:
    RNNClassifier(cell="one_fil").fit(X, y)
except ValueError as error:
    assert "one_file" in str(error)
else:
    raise AssertionError("no error")
warmup("one_file", training=False, parallel=False, verbose=False)
print("all of it works")
"""


@pytest.mark.skipif(DISABLED, reason="compiles")
def test_one_file_is_enough(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__", "*.nbc", "*.nbi")
    shutil.copytree(ROOT / "fastrnn", tmp_path / "fastrnn", ignore=ignore)
    (tmp_path / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        if not path.name.startswith("test_") or path.name == "test_registered_cells.py":
            shutil.copy(path, tmp_path / "tests" / path.name)
    (tmp_path / "fastrnn/cells/one_file.py").write_text(CELL, encoding="utf-8")
    (tmp_path / "use.py").write_text(f"PACKAGE = {str(tmp_path)!r}\n" + USE, encoding="utf-8")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    for command in (
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests", "-k", "one_file"],
        ["use.py"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert "13 passed" in done.stdout or "all of it works" in done.stdout

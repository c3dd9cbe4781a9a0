"""Functions that kernels reach through symbols: compiled once, some of them only when they are needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrnn.engine.recurrence import scan
from fastrnn.engine.runtime import linking
from fastrnn.engine.runtime.jit import DISABLED
from fastrnn.layers import LSTM
from tests.compiled import LISTEN

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(DISABLED, reason="nothing is compiled")

FIRST_USE = """
from fastrnn.layers import LSTM

rng = np.random.default_rng(0)
layer, x = LSTM(4, seed=0), rng.normal(size=(5, 6, 3)).astype("f")
mask = np.arange(6) < np.array([6, 4, 1, 0, 3])[:, None]
layer.return_sequences = True
dense = layer(x)
before = list(compiled)
masked = layer(x, mask=mask)
print(json.dumps([before, compiled[len(before):], np.abs(dense[0] - masked[0]).max().item()]))
"""


def test_rare_function_compiles_at_the_first_call_that_needs_it(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    for cached in (False, True):
        said = subprocess.run(
            [sys.executable, "-c", LISTEN + FIRST_USE],
            env=env,
            capture_output=True,
            text=True,
            timeout=280,
            check=True,
        )
        before, after, difference = json.loads(said.stdout)
        assert difference < 1e-6
        if cached:
            assert before == after == []
        else:
            assert "forward_rows" in before
            assert not {"_fill", "_masked_rows"} & set(before)
            assert "_fill" in after


def test_inner_function_tells_that_only_kernels_call_it():
    with pytest.raises(TypeError, match="_fill.*only kernels"):
        scan._fill(None, None, None, 0, 0)


def test_failed_compilation_is_raised_in_python(monkeypatch):
    layer = LSTM(3, seed=0)
    layer(np.zeros((2, 4, 2), np.float32))
    monkeypatch.setattr(linking, "failures", [MemoryError("no room for code")])
    with pytest.raises(RuntimeError, match="could not be compiled") as raised:
        layer(np.zeros((2, 4, 2), np.float32))
    assert isinstance(raised.value.__cause__, MemoryError)
    layer(np.zeros((2, 4, 2), np.float32))


def test_empty_slot_keeps_what_went_wrong(monkeypatch):
    monkeypatch.setattr(linking, "failures", [])

    def fails(dispatcher, arguments):
        raise MemoryError("no room for code")

    monkeypatch.setattr(linking, "_address", fails)
    where = linking._slot(None, ())
    try:
        linking._resolve(where)
        assert linking._slots[-1].value is None
        with pytest.raises(RuntimeError, match="could not be compiled"):
            linking.check()
    finally:
        linking._pending.pop(where, None)


def test_two_rounds_of_optimisation_give_the_same(tmp_path):
    """What an older Numba gets."""
    code = """
import sys
import numpy as np
from fastrnn.engine.runtime import compiling
compiling.ONE_ROUND = bool(int(sys.argv[1]))
from fastrnn import Sequential, layers, set_random_seed
set_random_seed(0)
model = Sequential([layers.Input((7, 3)), layers.GRU(5, dropout=0.2), layers.Dense(1)])
model.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(9, 7, 3)).astype("f")
model.fit(x, x[:, 0, :1], epochs=3, batch_size=4, verbose=0)
np.save(sys.argv[2], model.predict(x, verbose=0))
"""
    outputs = []
    for rounds in (0, 1):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / str(rounds))}
        path = tmp_path / f"{rounds}.npy"
        subprocess.run([sys.executable, "-c", code, str(rounds), str(path)], env=env, timeout=280, check=True)
        outputs.append(np.load(path))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)

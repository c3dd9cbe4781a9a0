"""Functions that kernels reach through symbols: compiled once, some of them only when they are needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrnn.engine.numba_private import services
from fastrnn.engine.recurrence import inference, rows
from fastrnn.engine.runtime.jit import DISABLED
from fastrnn.layers import LSTM
from tests.compiled import LISTEN
from tests.limits import HANG_SECONDS
from tests.scripts import run_script

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(DISABLED, reason="nothing is compiled")

FIRST_USE = """
from fastrnn.layers import LSTM

rng = np.random.default_rng(0)
layer, x = LSTM(30, seed=0), rng.normal(size=(5, 6, 3)).astype("f")
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
            timeout=HANG_SECONDS,
            check=True,
        )
        before, after, difference = json.loads(said.stdout)
        assert difference < 1e-6
        if cached:
            assert before == after == []
        else:
            assert "forward_rows" in before
            assert not {"hide_outputs", "mask_rows"} & set(before)
            assert "hide_outputs" in after


def test_inner_function_tells_that_only_kernels_call_it():
    with pytest.raises(TypeError, match="hide_outputs.*only kernels"):
        rows.hide_outputs(None, None, 0, 0)


def test_failed_compilation_is_raised_before_the_launch_and_the_next_call_is_right(monkeypatch, rng):
    layer, x = LSTM(30, seed=0, dtype="float64"), rng.normal(size=(3, 4, 2))
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
    last = layer(x)
    slots = rows._gather_ragged.slots
    waiting = dict(slots.empty[8])
    kept = [slot for slot in slots._all if slot not in waiting.values()]
    values = [slot.value for slot in kept]
    # As in a process that has not needed it yet.
    slots.empty[8].update({("as", "if", k): slot for k, slot in enumerate(kept)})
    launches = []

    def fails(dispatcher, arguments):
        raise MemoryError("no room for code")

    monkeypatch.setattr(services.dispatcher, "address_of_code", fails)
    monkeypatch.setattr(inference, "Program", launches.append)
    try:
        with pytest.raises(MemoryError, match="no room"):
            layer(x, mask=mask)
        assert launches == []
    finally:
        monkeypatch.undo()
        slots.empty[8] = waiting
        for slot, value in zip(kept, values, strict=True):
            slot.value = value
    np.testing.assert_allclose(layer(x, mask=mask)[0], last[0], rtol=1e-12)


EMPTY = """
import threading
import numpy as np
from fastrnn.engine.recurrence import inference
from fastrnn.engine.runtime import linking
from fastrnn.layers import LSTM

inference.needed_forward = lambda *options: ()  # as if the engine had forgotten what a call needs
layer, x = LSTM(30, seed=0, return_sequences=True), np.ones((5, 6, 3), np.float32)
mask = np.arange(6) < np.array([6, 4, 1, 0, 3])[:, None]
layer(x)
raised = []
def attempt(**options):
    try:
        layer(x, **options)
    except RuntimeError as error:
        raised.append(str(error))
attempt(mask=mask)
thread = threading.Thread(target=attempt)  # it may have run at the same time
thread.start()
thread.join()
assert len(raised) == 2 and all("before the call" in text for text in raised), raised
"""


def test_empty_slot_is_an_error_in_every_thread():
    done = run_script(EMPTY)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_rounds_of_optimisation_give_the_same(tmp_path):
    """What an older Numba gets."""
    code = """
import sys
import numpy as np
from fastrnn.engine.numba_private import pipeline
pipeline.ONE_ROUND = bool(int(sys.argv[1]))
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
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        if rounds != services.pipeline.ONE_ROUND:  # the other has its code in the usual cache
            env["NUMBA_CACHE_DIR"] = str(tmp_path)
        path = tmp_path / f"{rounds}.npy"
        subprocess.run(
            [sys.executable, "-c", code, str(rounds), str(path)], env=env, timeout=HANG_SECONDS, check=True
        )
        outputs.append(np.load(path))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)

"""Every cell of `fastrnn.cells`, found by the registry: its layer against its own function on NumPy arrays, and gradients.

A new file in `fastrnn/cells` is tested here without another line.
"""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

from fastrnn import RNNClassifier, Sequential, cells, layers
from fastrnn.engine.equations.oracle import run_on_arrays
from fastrnn.registry import made_once
from fastrnn.testing import check_cell
from tests.limits import HANG_SECONDS

CELLS = cells.registered()
N_BATCH, N_STEPS, N_INPUTS, UNITS = 4, 6, 3, 5


def made(key: str, **options):
    """A layer of random weights."""
    layer = getattr(layers, CELLS[key].__name__)(UNITS, return_sequences=True, return_state=True, **options)
    layer.build((None, None, N_INPUTS))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    return layer


def expected(layer, x, states):
    return run_on_arrays(layer.cell.kernel_cell(), layer.cell.kernel_weights(), x, states)


def starts(key: str, rng, dtype):
    return [np.abs(rng.normal(size=(N_BATCH, UNITS))).astype(dtype) for _ in CELLS[key].definition.states]


OPTIONS = {
    "usual": {},
    "no_bias": {"use_bias": False},
    "activations": {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "softmax": {"activation": "softmax"},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("key", CELLS)
def test_layer_matches_its_equations_on_numpy(key, kind, dtype, rng):
    chosen = {
        k: v for k, v in OPTIONS[kind].items() if k == "use_bias" or k in CELLS[key].definition.activations
    }
    layer = made(key, dtype=dtype, **chosen)
    x, states = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)).astype(dtype), starts(key, rng, dtype)
    rtol = 3e-5 if dtype == "float32" else 1e-12
    for training in (False, True):
        results = layer.forward(x, training=training, initial_state=states)[0]
        for got, want in zip(results, expected(layer, x, states), strict=True):
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("key", CELLS)
def test_mask_leaves_padded_steps_out(key, rng):
    layer = made(key, dtype="float64")
    x, states = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)), starts(key, rng, "float64")
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0]], bool)
    out, *final = layer(x, mask=mask, initial_state=states)
    for b, valid in enumerate(mask[:3]):
        want, *last = expected(layer, x[b : b + 1, valid], [s[b : b + 1] for s in states])
        np.testing.assert_allclose(out[b, valid], want[0], rtol=1e-12, atol=1e-12)
        for a, c in zip(final, last, strict=True):
            np.testing.assert_allclose(a[b], c[0], rtol=1e-12, atol=1e-12)
    for a, c in zip(final, states, strict=True):
        np.testing.assert_array_equal(a[3], c[3])


@pytest.mark.parametrize("key", CELLS)
def test_gradients_match_finite_differences(key):
    check_cell(getattr(layers, f"{CELLS[key].__name__}Cell")(3), n_inputs=2)


@pytest.mark.parametrize("key", CELLS)
def test_layer_in_a_model(key, rng):
    """Both directions, config, pickle, and a stream that equals the whole sequence."""
    name = CELLS[key].__name__
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)).astype("f")
    model = Sequential(
        [
            layers.Bidirectional(getattr(layers, name)(4, return_sequences=True)),
            getattr(layers, name)(3),
            layers.Dense(1),
        ],
        seed=0,
    )
    model.compile("adam", "mse")
    history = model.fit(x, x[:, :, :1].sum(axis=1), epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    y = model.predict(x, verbose=0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x, verbose=0), y)
    again = Sequential.from_config(model.get_config())
    again.build((None, None, N_INPUTS))
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), y)
    one_way = Sequential([layers.Input((None, N_INPUTS)), getattr(layers, name)(5), layers.Dense(2)], seed=0)
    stream = one_way.stream(batch_size=N_BATCH)
    for t in range(N_STEPS):
        step = stream.step(x[:, t])
    np.testing.assert_allclose(step, one_way.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("key", CELLS)
def test_estimator_takes_the_key_and_the_class(key, rng):
    x, y = rng.normal(size=(30, 5, 2)).astype("f"), np.arange(30) % 2
    for cell in (key, CELLS[key]):
        estimator = RNNClassifier(cell=cell, units=4, max_iter=2, tol=None, random_state=0, n_jobs=1)
        assert clone(estimator).get_params()["cell"] == cell
        fitted = estimator.fit(x, y)
        p = fitted.predict_proba(x)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), p)
        assert p.shape == (30, 2)
    assert f'"{key}"' in RNNClassifier.__doc__


@pytest.mark.parametrize("key", CELLS)
def test_file_names_its_paper_and_documents_its_layer(key):
    cell = CELLS[key]
    module = __import__(cell.__module__, fromlist=["x"])
    assert "References\n----------\n" in module.__doc__
    layer = getattr(layers, cell.__name__)
    for name in (*cell.definition.activations, *cell.definition.numbers):
        assert name in layer.__doc__


def test_class_that_two_threads_ask_for_is_one_class():
    """Of two classes of one name, pickle refuses one."""
    both = threading.Barrier(2, timeout=HANG_SECONDS)

    @made_once
    def make(name):
        both.wait()  # each thread makes one
        return type(name, (), {})

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(make, "A") for _ in range(2))
        assert first.result() is second.result() is make("A")
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(make, ["B", "C"]))) == 2

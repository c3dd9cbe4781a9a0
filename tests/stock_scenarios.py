"""What the stock path computes like the usual one: ``python -m tests.stock_scenarios FILE NAME...`` keeps the numbers."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from fastrnn import RNNClassifier, Sequential, cells, layers, optimizers, set_random_seed
from fastrnn.engine.kernels import vecmath
from fastrnn.engine.kernels.activations import ACTIVATIONS

CELLS = tuple(cells.registered())

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 7, 3)).astype("f")
Y = np.arange(12) % 2
T = rng.normal(size=(12, 2)).astype("f")
MASK = np.arange(7) < rng.integers(1, 8, size=12)[:, None]
RAGGED = [row[: 1 + k % 7] for k, row in enumerate(X)]

Numbers = dict[str, np.ndarray]


def _classifier(**options) -> RNNClassifier:
    return RNNClassifier(units=5, max_iter=2, batch_size=6, tol=None, random_state=0, **options)


def _weights(model) -> Numbers:
    return {f"weight{k}": w for k, w in enumerate(model.get_weights())}


def cell(name: str) -> Numbers:
    """Fit and predict."""
    model = _classifier(cell=name).fit(X, Y)
    return {"probabilities": model.predict_proba(X), **_weights(model.model_)}


def ragged() -> Numbers:
    """Sequences of any lengths, and dropout of both kinds."""
    model = _classifier(cell="gru", dropout=0.2, recurrent_dropout=0.3).fit(RAGGED, Y)
    return {"probabilities": model.predict_proba(RAGGED), **_weights(model.model_)}


def masks() -> Numbers:
    """A mask with holes, in both directions, all outputs; float64."""
    holes = rng.random((12, 7)) < 0.6
    layer = layers.Bidirectional(layers.GRU(4, seed=0, return_sequences=True, dtype="float64"))
    return {"holes": layer(X.astype("d"), mask=holes), "ends": layer(X.astype("d"), mask=MASK)}


def streaming() -> Numbers:
    """Single steps."""
    set_random_seed(0)
    model = Sequential(
        [layers.Input((None, 3)), layers.GRU(5, seed=0), layers.Dense(2, activation="softmax")]
    )
    stream = model.stream(12)
    unrolled = layers.GRU(4, seed=0, unroll=True)(X[:1])
    return {"unrolled": unrolled} | {
        f"step{t}": stream.step(np.ascontiguousarray(X[:, t])).copy() for t in range(7)
    }


def rules() -> Numbers:
    """Optimizers, losses, an embedding, a layer for each of several activations."""
    found = {}
    tokens = np.random.default_rng(1).integers(0, 9, size=(12, 7))
    for rule in ("SGD", "Adam", "RMSprop", "Adagrad"):
        set_random_seed(0)
        model = Sequential([layers.Embedding(9, 3), layers.SimpleRNN(4), layers.Dense(2)])
        model.compile(optimizer=getattr(optimizers, rule)(0.01, clipnorm=0.5), loss="mse")
        model.fit(tokens, T, epochs=2, batch_size=5, verbose=0, shuffle=False)
        found |= {f"{rule} {k}": w for k, w in _weights(model).items()}
    return found


def activations() -> Numbers:
    """Each activation and its gradient; those that are known by their codes in a cell."""
    x = np.linspace(-6, 6, 48).reshape(6, 8)
    found = {}
    for name in ACTIVATIONS:
        found[name] = vecmath.activate(name, x)
        found[name + "'"] = vecmath.activate_backward(name, x, found[name], np.ones_like(x))
    layer = layers.LSTM(5, seed=0, activation="softsign", recurrent_activation="hard_sigmoid")
    found["layer"] = layer(X)
    return found


def threads() -> Numbers:
    """More threads than the stock path has, and what is said of them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 20, 8)).astype("f"), np.arange(64) % 2

    def probabilities(n_jobs: int) -> np.ndarray:
        options = {"units": 64, "max_iter": 2, "batch_size": 64, "tol": None, "random_state": 0}
        return RNNClassifier(cell="simple_rnn", n_jobs=n_jobs, **options).fit(x, y).predict_proba(x)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        many = [probabilities(2) for _ in range(4)]
    return {
        "first": many[0],
        "last": many[-1],
        "one thread": probabilities(1),
        "warnings": np.array([f"{w.category.__name__} {w.message}" for w in said]),
    }


SCENARIOS: dict[str, Callable[[], Numbers]] = {
    **{name: lambda name=name: cell(name) for name in CELLS},
    "ragged": ragged,
    "masks": masks,
    "streaming": streaming,
    "rules": rules,
    "activations": activations,
    "threads": threads,
}


def main(path: str, *names: str) -> None:
    """Run scenarios, and write their numbers to a file."""
    found = {}
    for name in names or SCENARIOS:
        start = time.perf_counter()
        found |= {f"{name}: {key}": value for key, value in SCENARIOS[name]().items()}
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    np.savez(path, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

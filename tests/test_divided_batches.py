"""Ragged batches that would be mostly padding are computed in parts: the same update, memory by valid steps."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from fastrnn import RNNClassifier, Sequential, layers
from fastrnn.engine import tuning
from fastrnn.sequences import Ragged
from fastrnn.training.data import Batches, like_lengths

LENGTHS = [3, 60, 4, 2, 55, 5, 3, 1]


def sequences(rng, n_features=2, dtype="float64"):
    return Ragged.from_list([rng.normal(size=(n, n_features)).astype(dtype) for n in LENGTHS])


def trained(model, data, divided, monkeypatch, **fit):
    """Weights, losses and metrics after two epochs."""
    monkeypatch.setattr(tuning, "MAX_UNDIVIDED_STEPS", 1 if divided else 1 << 30)
    start = [w.copy() for w in model.get_weights()]
    history = model.fit(*data, epochs=2, batch_size=8, shuffle=False, verbose=0, **fit).history
    end = model.get_weights()
    model.set_weights(start)
    return end, history


D = {"dtype": "float64"}
NETWORKS = {
    "last": lambda: [layers.GRU(4, **D), layers.Dense(1, kernel_regularizer="l2", **D)],
    "every": lambda: [layers.LSTM(4, return_sequences=True, **D), layers.Dense(1, **D)],
    "both": lambda: [layers.Bidirectional(layers.LSTM(3, **D), **D), layers.Dense(1, **D)],
    "tokens": lambda: [layers.Embedding(30, 3, **D), layers.GRU(4, **D), layers.Dense(1, **D)],
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_batch_in_parts_gives_the_update_of_the_padded_batch(kind, weighted, monkeypatch):
    rng = np.random.default_rng(0)
    x = sequences(rng)
    y = rng.normal(size=(len(LENGTHS), 1))
    if kind == "every":
        y = Ragged.from_list([rng.normal(size=(n, 1)) for n in LENGTHS])
    if kind == "tokens":
        x = Ragged.from_list([rng.integers(1, 30, n) for n in LENGTHS])
    weight = rng.uniform(0.5, 2, len(LENGTHS)) if weighted else None
    found = []
    for divided in (False, True):
        model = Sequential(NETWORKS[kind]())
        model.build((None, None) if kind == "tokens" else (None, None, 2))
        values = np.random.default_rng(1)
        model.set_weights([values.normal(size=w.shape) * 0.3 for w in model.get_weights()])
        model.compile("adam", "mse", metrics=["mae"])
        found.append(trained(model, (x, y), divided, monkeypatch, sample_weight=weight))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11)
    for key in found[0][1]:
        np.testing.assert_allclose(found[1][1][key], found[0][1][key], rtol=1e-9)


def test_parts_are_those_of_similar_lengths_and_hold_each_sample_once(monkeypatch):
    monkeypatch.setattr(tuning, "MAX_UNDIVIDED_STEPS", 1)
    x = sequences(np.random.default_rng(0))
    (batch,) = Batches(x, np.arange(8), batch_size=8).epoch(divide=True)
    rows = [part.rows.tolist() for part in batch.parts]
    assert sorted(np.concatenate(rows).tolist()) == list(range(8))
    assert [1, 4] in rows
    for part in batch.parts:
        assert part.x.shape[0] * part.x.shape[1] <= 2 * sum(LENGTHS[i] for i in part.rows)
        np.testing.assert_array_equal(part.y, part.rows)


def test_usual_batches_are_not_divided():
    x = sequences(np.random.default_rng(0))
    (batch,) = Batches(x, np.arange(8), batch_size=8).epoch(divide=True)
    assert batch.parts == ()
    assert len(like_lengths(np.array([200] * 16 + [50] * 16), 32)) == 1


@pytest.mark.parametrize("batch_size", [32, 256])
def test_fit_takes_memory_in_proportion_to_the_valid_steps(batch_size):
    """255 sequences of 10 steps and one that is long; padded together, a batch of 256 takes 256 times the memory."""
    rng = np.random.default_rng(0)
    y = np.arange(256) % 2
    model = RNNClassifier(units=8, max_iter=1, tol=None, random_state=0, batch_size=batch_size)
    taken = {}
    for n in (20_000, 60_000):
        x = [rng.normal(size=(10, 4)).astype("f") for _ in range(255)] + [rng.normal(size=(n, 4)).astype("f")]
        model.fit(x, y)
        tracemalloc.start()
        model.fit(x, y)
        taken[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Saved gates and states, inputs and masks of a step: (4 + 2) * 8 + 4 numbers and their copies.
    assert (taken[60_000] - taken[20_000]) / 40_000 < 4 * ((4 + 2) * 8 + 4) * 2


def test_ragged_batches_of_a_fit_are_divided_by_length_and_drawn_from_all_lengths(monkeypatch):
    """The lengths of a batch say nothing of its place in the epoch, nor those of a sequence of its place."""
    monkeypatch.setattr(tuning, "MAX_UNDIVIDED_STEPS", 1)
    n, size, epochs = 48, 8, 40
    lengths = np.repeat([1, 2, 3, 5, 20, 60], 8)
    rng = np.random.default_rng(0)
    epochs_of: list[list] = []
    plain = Batches.epoch

    def noted(self, *arguments, **options):
        epochs_of.append([])
        for batch in plain(self, *arguments, **options):
            epochs_of[-1].append(batch)
            yield batch

    monkeypatch.setattr(Batches, "epoch", noted)
    made = RNNClassifier(units=2, max_iter=epochs, batch_size=size, tol=None, random_state=0)
    made.fit([rng.normal(size=(k, 1)) for k in lengths], np.arange(n) % 2)
    orders = np.array([np.concatenate([batch.rows for batch in batches]) for batches in epochs_of])

    assert orders.shape == (epochs, n)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(n), (epochs, 1)))
    assert len(np.unique(orders, axis=0)) == epochs
    divided = 0
    for batch in (batch for batches in epochs_of for batch in batches):
        if batch.parts:
            divided += 1
            spans = sorted((lengths[part.rows].min(), lengths[part.rows].max()) for part in batch.parts)
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
            assert sorted(np.concatenate([part.rows for part in batch.parts])) == sorted(batch.rows)
    assert divided > epochs

    places = np.argsort(orders, axis=1)  # of each sequence in each epoch
    by_length = places.reshape(epochs, 6, 8)
    # Without a relation, a mean of 8 * 40 places is within 4 standard errors of the middle.
    error = n / np.sqrt(12) / np.sqrt(8 * epochs)
    assert np.abs(by_length.mean(axis=(0, 2)) - (n - 1) / 2).max() < 4 * error
    # Each length comes in each batch of the epoch, and each batch has several lengths.
    assert all(len(np.unique(by_length[:, k] // size)) == n // size for k in range(6))
    assert min(len(np.unique(lengths[batch.rows])) for batches in epochs_of for batch in batches) > 1
    # Two sequences of one batch have equal lengths as often as any two have.
    together = (places[:, :, None] // size == places[:, None, :] // size) & ~np.eye(n, dtype=bool)
    alike = together & (lengths[:, None] == lengths[None, :])
    assert abs(alike.sum() / together.sum() - 7 / 47) < 0.03

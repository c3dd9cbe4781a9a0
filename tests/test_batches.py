"""Batches of which row i continues row i, and stateful training on them."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.batches import stateful_batches


@pytest.mark.parametrize("keep_rest", [False, True])
@pytest.mark.parametrize(
    ("shape", "batch_size"), [((23,), 3), ((23, 2), None), ((4, 11, 2), None), ((6, 11, 2), 2)], ids=str
)
def test_rows_continue_rows(shape, batch_size, keep_rest, rng):
    x = rng.normal(size=shape)
    y = rng.normal(size=(*shape[: max(1, len(shape) - 1)], 3))
    batches = stateful_batches(x, y, n_steps=4, batch_size=batch_size, keep_rest=keep_rest)
    found = list(batches)
    assert len(found) == len(batches)
    n_series = shape[0] if len(shape) == 3 else 1
    rows = batch_size or n_series
    length = shape[1] if len(shape) == 3 else shape[0] // rows
    used = length if keep_rest else length // 4 * 4
    per_group = len(found) // batches.n_groups
    for k, whole in enumerate((x, y)):
        pieces = []
        for g in range(batches.n_groups):
            group = found[g * per_group : (g + 1) * per_group]
            assert all(len(b[k]) == rows for b in group)
            pieces.append(np.concatenate([b[k] for b in group], axis=1))
        joined = np.concatenate(pieces)
        expected = (
            whole if len(shape) == 3 else whole[: rows * length].reshape(rows, length, *whole.shape[1:])
        )
        expected = expected[:, :used]
        np.testing.assert_array_equal(joined, expected.reshape(joined.shape))


def test_last_targets_and_weights(rng):
    x, y, w = rng.normal(size=(12, 2)), rng.normal(size=12), rng.random(12)
    batches = stateful_batches(x, y, n_steps=3, batch_size=2, sample_weight=w, return_sequences=False)
    (_, y0, w0), (_, y1, _) = batches
    np.testing.assert_array_equal([y0, y1], [y[[2, 8]], y[[5, 11]]])
    np.testing.assert_array_equal(w0, w[[2, 8]])
    assert [len(b) for b in stateful_batches(x, n_steps=3)] == [1, 1, 1, 1]


def stateful_model():
    model = Sequential(
        [
            layers.GRU(4, stateful=True, return_sequences=True, dtype="float64"),
            layers.Dense(1, dtype="float64"),
        ],
        seed=0,
    )
    model.compile("sgd", "mse")
    return model


def test_fit_resets_states_where_series_start(rng):
    x, y = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 1))
    model, by_hand = stateful_model(), stateful_model()
    batches = stateful_batches(x, y, n_steps=3, batch_size=2)
    model.fit(batches, epochs=2, verbose=0)
    for _ in range(2):
        for g in (0, 2):
            by_hand.reset_states()
            for t in (0, 3):
                by_hand.train_on_batch(x[g : g + 2, t : t + 3], y[g : g + 2, t : t + 3])
    np.testing.assert_array_equal(model.params, by_hand.params)
    loss = model.evaluate(batches, verbose=0)
    by_hand.reset_states()
    whole = np.concatenate([by_hand(x[:2])])
    by_hand.reset_states()
    whole = np.concatenate([whole, by_hand(x[2:])])
    assert loss == pytest.approx(((whole - y) ** 2).mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 0}, "n_steps=0: give a positive integer"),
        ({"batch_size": -1}, "batch_size=-1: give a positive integer"),
        ({"n_steps": 13}, "n_steps=13 is more than the 12 steps of a row"),
        ({"x": np.zeros((3, 4, 2)), "batch_size": 2}, "batch_size=2 does not divide the 3 series"),
        (
            {"y": np.zeros(5)},
            r"y has shape \(5,\): it needs one entry for each time step of x, \(12,\) first",
        ),
        ({"sample_weight": np.zeros(12)}, "sample_weight is given without y"),
        ({"x": np.zeros((1, 2, 3, 4))}, "x has shape"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        stateful_batches(**{"x": np.zeros((12, 2)), "n_steps": 3, **arguments})

"""States of stateful layers: of some sequences they can be reset while the others go on."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers

F64 = {"dtype": "float64"}


class Counter:
    """Counts steps from 10."""

    state_size = 2

    def get_initial_state(self, batch_size):
        return [np.full((batch_size, 2), 10.0)]

    def call(self, x_t, states):
        return states[0] + 1, [states[0] + 1]


LAYERS = {
    "lstm": lambda: layers.LSTM(3, stateful=True, **F64),
    "rnn-of-cell": lambda: layers.RNN(layers.GRUCell(3, **F64), stateful=True),
    "stack": lambda: layers.RNN(
        [
            layers.LSTMCell(3, **F64),
            layers.DropoutWrapper(layers.GRUCell(4, **F64)),
            layers.LSTMCell(2, **F64),
        ],
        stateful=True,
    ),
    "user-cell": lambda: layers.RNN(Counter(), stateful=True, **F64),
    "bidirectional": lambda: layers.Bidirectional(layers.LSTM(3, stateful=True, **F64)),
    "janet": lambda: layers.JANET(3, stateful=True, **F64),
}


@pytest.mark.parametrize("rows", [[1], [0, -1], np.array([2]), [False, True, True, False], []], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_reset_state_of_some_rows(kind, rows, rng):
    """Rows that are reset give what a fresh layer gives, the others what they would have given."""
    x = rng.normal(size=(4, 5, 2))
    layer = LAYERS[kind]()
    layer(x)
    before = layer.states
    layer.reset_state(rows)
    mixed = layer(x)
    layer.reset_state()
    fresh = layer(x)
    went_on = layer(x)
    chosen = np.zeros(4, bool)
    chosen[rows] = True
    assert np.abs(fresh - went_on).max() > 1e-3
    np.testing.assert_array_equal(mixed, np.where(chosen[:, None], fresh, went_on))
    assert before is not None


def test_reset_state_leaves_arrays_that_were_handed_out(rng):
    layer = layers.GRU(3, stateful=True)
    layer(rng.normal(size=(2, 3, 1)))
    handed_out = layer.states[0]
    copy = handed_out.copy()
    layer.reset_state([0])
    np.testing.assert_array_equal(handed_out, copy)


def test_reset_states_of_a_model_reaches_every_layer(rng):
    x = rng.normal(size=(3, 4, 2))
    model = Sequential(
        [
            layers.LSTM(3, stateful=True, return_sequences=True, **F64),
            layers.Dropout(0.1, **F64),
            layers.RNN(layers.GRUCell(3, **F64), stateful=True),
            layers.Dense(1, **F64),
        ],
        seed=0,
    )
    fresh, went_on = model(x), model(x)
    model.reset_states()
    model(x)
    model.reset_states(rows=[2])
    np.testing.assert_array_equal(model(x), np.where(np.arange(3)[:, None] == 2, fresh, went_on))
    model.reset_states()
    model.reset_states(rows=[7])  # nothing is held, so there is nothing to reset
    assert model(x[:1]).shape == (1, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([4], r"rows=\[4\]: give integers from 0 to 3"),
        ([-5], r"rows=\[-5\]: give integers from 0 to 3"),
        ([0.5], r"rows=\[0.5\]: give integers"),
        ([True, False], r"rows has shape \(2,\): the states are those of 4 sequences"),
    ],
)
def test_rows_that_are_not_there_are_refused(rows, message, rng):
    model = Sequential([layers.LSTM(3, stateful=True, return_sequences=True), layers.GRU(2, stateful=True)])
    model(rng.normal(size=(4, 3, 2)))
    states = [layer.states for layer in model.layers]
    with pytest.raises(ValueError, match=message):
        model.reset_states(rows)
    assert all(layer.states is s for layer, s in zip(model.layers, states, strict=True))

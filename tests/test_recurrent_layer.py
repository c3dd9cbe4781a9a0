"""The recurrent layer around every kind of cell: streams, prepared inference, copies, files, and arguments of the cell."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastrnn
from fastrnn import Sequential, layers
from fastrnn.cells import equations, sigmoid, tanh
from tests.layer_cases import mask_of
from tests.test_rnn import Elman, TwoStates

N_BATCH, N_STEPS, N_INPUTS = 4, 6, 3


@equations("f g", extra="w")
def Own(z, prev, p, activation=tanh, mix=0.5):
    """A user's cell."""
    f = sigmoid(z.f + p.w * prev.h)
    return mix * f * prev.h + (1 - f) * activation(z.g)


COMPILED = {
    "built_in": lambda: layers.LSTMCell(5),
    "equations": lambda: Own(5, mix=0.75),
    "equations_with_options": lambda: layers.KernelCell(Own(5), kernel_regularizer="l2", dropout=0.2),
    "stack": lambda: [layers.LSTMCell(5), Own(4)],
    "dropout": lambda: layers.DropoutWrapper(layers.GRUCell(5), 0.5, 0.5),
}
IN_PYTHON = {
    "object": lambda: Elman(N_INPUTS, 5),
    "object_in_a_stack": lambda: [layers.GRUCell(4), Elman(4, 5), layers.LSTMCell(2)],
    "object_with_a_start": TwoStates,
}
CELLS = COMPILED | IN_PYTHON


def built(kind, rng, **options):
    layer = layers.RNN(CELLS[kind](), **options)
    layer.build((None, None, N_INPUTS))
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    return layer


def inputs(rng):
    return rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS)).astype("f")


@pytest.mark.parametrize("kind", CELLS)
def test_stream_matches_whole_sequence(kind, rng):
    model = Sequential(
        [layers.Input((None, N_INPUTS)), layers.Activation("tanh"), built(kind, rng), layers.Dense(2)], seed=0
    )
    x = inputs(rng)
    whole, stream = model.predict(x, verbose=0), model.stream(N_BATCH)
    start = stream.states
    for t in range(N_STEPS):
        step = stream.step(x[:, t])
    np.testing.assert_allclose(step, whole, rtol=1e-5, atol=1e-6)
    middle = model.stream(N_BATCH)
    middle.run(x[:, :3])
    kept = middle.states
    middle.run(x[:, 3:])
    middle.states = kept
    np.testing.assert_array_equal(middle.run(x[:, 3:])[:, -1], step)
    stream.reset([1])
    stream.reset()
    for a, b in zip(stream.states, start, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(stream.run(x)[:, -1], step)


def test_stream_of_an_object_that_fails_keeps_its_states(rng):
    layer = built("object", rng)
    stream = Sequential([layers.Input((None, N_INPUTS)), layer]).stream()
    x = inputs(rng)[:1]
    stream.run(x)
    before = stream.states
    call, layer.cell.cell.call = layer.cell.cell.call, lambda x, states: (x, states)
    with pytest.raises(ValueError, match="call returned an output and states of shapes"):
        stream.step(x[:, 0])
    layer.cell.cell.call = call
    np.testing.assert_array_equal(stream.states[0][0], before[0][0])


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"go_backwards": True}], ids=str)
@pytest.mark.parametrize("kind", COMPILED)
def test_repeated_inference_is_prepared(kind, options, rng, monkeypatch):
    layer = built(kind, rng, **options)
    x, mask = inputs(rng), mask_of("full", "trailing", "holes", "none")
    with_states = layers.RNN(layer.cell, return_state=True, **options)
    expected = [with_states(x)[0], with_states(x, mask=mask)[0]]

    def unprepared(*arguments):
        raise AssertionError("the pass was not prepared")

    monkeypatch.setattr(layer.cell, "forward_sequence", unprepared)
    np.testing.assert_allclose(layer(x), expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer(x, mask=mask), expected[1], rtol=1e-6, atol=1e-6)


def test_prepared_inference_follows_the_weights_of_an_inner_cell(rng):
    layer = built("stack", rng)
    x = inputs(rng)
    before = layer(x)
    layer.cell.cells[1].set_weights([2 * w for w in layer.cell.cells[1].get_weights()])
    fresh = built("stack", rng)
    fresh.set_weights(layer.get_weights())
    assert not np.array_equal(layer(x), before)
    np.testing.assert_array_equal(layer(x), fresh(x))


@pytest.mark.parametrize("kind", CELLS)
def test_copies_give_the_same_outputs(kind, rng):
    layer = built(kind, rng, return_sequences=True, go_backwards=True)
    x = inputs(rng)
    y = layer(x)
    by_config = layers.deserialize({"class_name": "RNN", "config": layer.get_config()})
    by_config.build((None, None, N_INPUTS))
    by_config.set_weights(layer.get_weights())
    for again in (by_config, pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        np.testing.assert_array_equal(again(x), y)
        again.set_weights([0 * w for w in again.get_weights()])
        np.testing.assert_array_equal(layer(x), y)


@pytest.mark.parametrize("kind", COMPILED)
def test_saved_model_is_read_again(kind, rng, tmp_path):
    model = Sequential([layers.Input((None, N_INPUTS)), built(kind, rng), layers.Dense(1)], seed=0)
    model.compile("adam", "mse")
    x = inputs(rng)
    model.fit(x, x[:, 0, :1], epochs=1, verbose=0)
    model.save(tmp_path / "m.fastrnn")
    again = fastrnn.load(tmp_path / "m.fastrnn", custom_objects={"Own": Own})
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    for one in (model, again):
        one.fit(x, x[:, 0, :1], epochs=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(again.params, model.params)


def test_layer_of_a_cell_draws_what_the_named_layer_draws(rng):
    x = inputs(rng)
    models = [
        Sequential([layers.Input((None, N_INPUTS)), layer, layers.Dense(1)], seed=4)
        for layer in (layers.GRU(5, dropout=0.3), layers.RNN(layers.GRUCell(5, dropout=0.3)))
    ]
    for model in models:
        model.compile("adam", "mse")
        model.fit(x, x[:, 0, :1], epochs=2, verbose=0)
    np.testing.assert_array_equal(models[0].params, models[1].params)


def test_named_layer_takes_the_arguments_of_its_cell():
    layer = layers.LSTM(
        4, "relu", recurrent_activation="hard_sigmoid", dropout=0.1, stateful=True, name="here"
    )
    assert isinstance(layer, layers.RNN)
    assert isinstance(layer.cell, layers.LSTMCell)
    assert (layer.units, layer.activation, layer.cell.recurrent_activation) == (4, "relu", "hard_sigmoid")
    layer.dropout = 0.2
    assert layer.cell.dropout == 0.2
    assert layer.get_config()["dropout"] == 0.2
    assert layer.stateful
    assert layer.name == "here"
    parameters = inspect.signature(layers.LSTM).parameters
    assert list(parameters)[:4] == ["units", "activation", "recurrent_activation", "use_bias"]
    assert parameters["return_sequences"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "cell" not in parameters
    with pytest.raises(TypeError, match=r"LSTM\(\) got an unknown argument 'return_sequence': did you mean"):
        layers.LSTM(4, return_sequence=True)
    frozen = layers.LSTM(4, trainable=False)
    assert not frozen.trainable
    frozen.trainable = True
    assert frozen.cell.trainable


def test_layer_of_one_s_own_with_an_argument_more(rng):
    class Scaled(layers.LSTM):
        def __init__(self, units, scale=2.0, **kwargs):
            super().__init__(units, **kwargs)
            self.scale = scale

        def forward(self, x, mask=None, training=False, initial_state=None):
            return super().forward(self.scale * x, mask, training, initial_state)

    x, plain, layer = inputs(rng), layers.LSTM(3, seed=1), Scaled(3, 0.5, seed=1)
    np.testing.assert_array_equal(layer(x), plain(0.5 * x))
    config = layer.get_config()
    assert config["scale"] == 0.5
    assert Scaled.from_config(config).units == 3


def test_directions_around_a_cell_run_as_one_program(rng):
    x = inputs(rng)
    both = layers.Bidirectional(layers.RNN(layers.LSTMCell(4)))
    named = layers.Bidirectional(layers.LSTM(4))
    for layer in (both, named):
        layer.build((None, None, N_INPUTS))
    named.set_weights(both.get_weights())
    np.testing.assert_array_equal(both(x), named(x))
    assert both._ready[1] is not None

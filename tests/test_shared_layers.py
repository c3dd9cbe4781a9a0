"""A layer in several models: they share its weights."""

import copy
import pickle

import numpy as np
import pytest

from fastrnn import EncoderDecoder, Sequential, layers, load
from fastrnn.callbacks import LambdaCallback
from fastrnn.optimizers import SGD


@pytest.fixture
def data(rng):
    x = rng.normal(size=(24, 6, 3)).astype("float32")
    return x, x[:, :, 0].sum(axis=1, keepdims=True)


@pytest.fixture
def tokens(rng):
    x = rng.integers(0, 9, (24, 6))
    return x, (x[:, :1] / 9).astype("float32")


def body(kind):
    return {
        "lstm": lambda: [layers.LSTM(5)],
        "wrapped": lambda: [layers.Bidirectional(layers.GRU(5))],
        "rnn": lambda: [layers.RNN(layers.LSTMCell(5))],
        "table": lambda: [layers.Embedding(9, 4), layers.GRU(5)],
    }[kind]()


def model(shared, optimizer="adam", seed=0):
    made = Sequential([*shared, layers.Dense(1)], seed=seed)
    made.compile(optimizer, "mse")
    return made


KINDS = ["lstm", "wrapped", "rnn", "table"]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("kind", KINDS)
def test_looking_at_features_does_not_change_training(kind, optimizer, data, tokens):
    x, y = tokens if kind == "table" else data
    looked_into, alone = (model(body(kind), optimizer) for _ in range(2))
    for made in (looked_into, alone):
        made.fit(x, y, epochs=2, verbose=0)
    features = Sequential(looked_into.layers[:-1])
    by_hand = looked_into.layers[-1](features.predict(x, verbose=0))
    np.testing.assert_allclose(by_hand, looked_into.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    before = looked_into.params.copy()
    look = LambdaCallback(on_train_batch_end=lambda batch, logs: features.predict(x[:2], verbose=0))
    histories = [
        made.fit(x, y, epochs=3, verbose=0, callbacks=[look] if made is looked_into else [])
        for made in (looked_into, alone)
    ]
    np.testing.assert_array_equal(looked_into.params, alone.params)
    assert histories[0].history == histories[1].history
    assert not np.array_equal(looked_into.params, before)
    np.testing.assert_array_equal(features.get_weights()[0], looked_into.get_weights()[0])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_models_train_a_shared_layer_in_turn(kind, optimizer, data, tokens):
    """As if the weights were carried by hand between two models that share nothing."""
    x, y = tokens if kind == "table" else data
    first = model(body(kind), optimizer)
    first.predict(x, verbose=0)
    second = model(first.layers[:-1], optimizer, seed=1)
    second.predict(x, verbose=0)
    apart = [model(body(kind), optimizer) for _ in range(2)]
    for ours, theirs in zip((first, second), apart, strict=True):
        theirs.predict(x, verbose=0)
        theirs.set_weights(ours.get_weights())
    for turn in range(6):
        k = turn % 2
        ours, theirs, other = (first, second)[k], apart[k], apart[1 - k]
        theirs.set_weights([*other.get_weights()[:-2], *theirs.get_weights()[-2:]])
        assert ours.train_on_batch(x, y) == theirs.train_on_batch(x, y)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_inner_layer_of_a_wrapper_in_another_model(data):
    x, y = data
    wrapped = model([layers.Bidirectional(layers.GRU(4))], SGD(0.1))
    wrapped.fit(x, y, verbose=0)
    plain = model([wrapped.layers[0].forward_layer], SGD(0.1))
    plain.fit(x, y, verbose=0)
    np.testing.assert_array_equal(wrapped.get_weights()[0], plain.get_weights()[0])
    before = plain.get_weights()[0]
    wrapped.fit(x, y, verbose=0)
    assert not np.array_equal(plain.get_weights()[0], before)
    np.testing.assert_array_equal(wrapped.get_weights()[0], plain.get_weights()[0])


def test_model_of_the_same_layers_can_take_over(data):
    x, y = data
    first = model(body("lstm"))
    first.fit(x, y, verbose=0)
    second = Sequential(first.layers)
    second.compile("adam", "mse")
    before = first.predict(x, verbose=0)
    second.fit(x, y, verbose=0)
    assert not np.array_equal(first.predict(x, verbose=0), before)
    np.testing.assert_array_equal(first.predict(x, verbose=0), second.predict(x, verbose=0))


def test_failed_training_puts_a_shared_layer_back(data):
    x, y = data
    first = model(body("lstm"))
    first.fit(x, y, verbose=0)
    second = model(first.layers[:-1], SGD(1e30), seed=1)
    before = first.predict(x, verbose=0)
    with pytest.raises(FloatingPointError):
        second.fit(x, y, epochs=9, verbose=0)
    np.testing.assert_array_equal(first.predict(x, verbose=0), before)


@pytest.mark.parametrize("way", ["copy", "pickle", "save"])
def test_copies_have_weights_of_their_own(way, data, tmp_path):
    x, y = data
    first = model(body("lstm"))
    first.fit(x, y, verbose=0)
    features = Sequential(first.layers[:-1])
    features.predict(x, verbose=0)
    if way == "save":
        first.save(tmp_path / "model")
        again = load(tmp_path / "model")
    else:
        again = copy.deepcopy(first) if way == "copy" else pickle.loads(pickle.dumps(first))
    before = features.predict(x, verbose=0)
    again.fit(x, y, verbose=0)
    first.fit(x, y, verbose=0)
    np.testing.assert_array_equal(again.params, first.params)
    assert not np.array_equal(features.predict(x, verbose=0), before)


def test_seed_of_a_shared_layer_stays(data):
    """Dropout masks of a model don't depend on whether another model uses its layers."""
    x, y = data
    made = [model([layers.LSTM(5, dropout=0.3)]) for _ in range(2)]
    Sequential(made[0].layers[:1], seed=7).predict(x, verbose=0)
    for one in made:
        one.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(made[0].params, made[1].params)


def test_encoder_decoder_refuses_a_layer_of_another_model(data):
    x, y = data
    first = model(body("lstm"))
    first.fit(x, y, verbose=0)
    before = first.predict(x, verbose=0)
    with pytest.raises(ValueError, match=r"encoder: layer 'lstm' is in another model already.*deepcopy"):
        EncoderDecoder([first.layers[0]], [layers.LSTM(5), layers.Dense(1)])
    np.testing.assert_array_equal(first.predict(x, verbose=0), before)
    EncoderDecoder([copy.deepcopy(first.layers[0])], [layers.LSTM(5), layers.Dense(1)])


WRAPPERS = {
    "time-distributed": lambda inner: (layers.TimeDistributed(inner), inner),
    "bidirectional": lambda inner: (
        made := layers.Bidirectional(inner, merge_mode="sum"),
        made.forward_layer,
    ),
    "nested": lambda inner: (layers.TimeDistributed(layers.TimeDistributed(inner)), inner),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_of_a_wrapper_are_those_of_its_child_that_was_trained_elsewhere(wrapper, rng):
    inner = layers.GRU(2, return_sequences=True) if wrapper == "bidirectional" else layers.Dense(2)
    outer, child = WRAPPERS[wrapper](inner)
    n_axes = 4 if wrapper == "nested" else 3
    theirs = Sequential([outer], seed=0)
    theirs.build((None, 5, 4, 3)[-n_axes:] if n_axes == 4 else (None, 4, 3))
    theirs.compile("sgd", "mse")
    own = Sequential([child], seed=0)
    own.compile("sgd", "mse")
    x = rng.normal(size=(6, 4, 3))
    own.fit(x, own.predict(x) + 1, epochs=3, verbose=0)
    for found, expected in zip(outer.get_weights(), child.get_weights(), strict=False):
        np.testing.assert_array_equal(found, expected)
    # What is set through the wrapper reaches the child.
    outer.set_weights([np.full_like(w, 0.25) for w in outer.get_weights()])
    assert all((w == 0.25).all() for w in child.get_weights())
    assert all((w == 0.25).all() for w in own.get_weights())
    assert all((w == 0.25).all() for w in theirs.get_weights())

"""Truncated backpropagation through time: pieces of a batch, each with gradients of its own."""

from __future__ import annotations

import gc
import threading
import tracemalloc

import numpy as np
import pytest

from fastrnn import Ragged, RNNClassifier, RNNRegressor, Sequential, layers
from fastrnn.callbacks import LambdaCallback
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.optimizers import SGD
from tests import naive
from tests.layer_cases import finite_difference

CELLS = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
F64 = {"dtype": "float64"}


def network(cell="LSTM", units=(4,), optimizer="sgd", loss="mse", dtype="float64", head=None, **options):
    recurrent = getattr(layers, cell)
    stack = [recurrent(u, return_sequences=True, dtype=dtype, **options) for u in units]
    model = Sequential([*stack, head or layers.Dense(2, dtype=dtype)], seed=0)
    model.compile(optimizer, loss)
    return model


@pytest.fixture
def data(rng):
    x = rng.normal(size=(6, 11, 3))
    return x, np.stack([x.sum(-1), x.cumsum(axis=1)[..., 0]], axis=-1)


def ragged(data, lengths=(11, 3, 7, 1, 8, 5)):
    return tuple(Ragged.from_list([a[i, :n] for i, n in enumerate(lengths)]) for a in data)


@pytest.mark.parametrize("form", ["dense", "ragged"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("cell", CELLS.values())
@pytest.mark.parametrize("n_steps", [11, 100])
def test_pieces_as_long_as_the_sequences_change_nothing(cell, optimizer, form, n_steps, data):
    given = data if form == "dense" else ragged(data)
    models = [network(cell, (4, 3), optimizer, dtype="float32", dropout=0.2) for _ in range(2)]
    histories = [
        model.fit(*given, batch_size=4, epochs=3, verbose=0, truncated_bptt_steps=n).history
        for model, n in zip(models, (None, n_steps), strict=True)
    ]
    np.testing.assert_array_equal(models[0].params, models[1].params)
    assert histories[0] == histories[1]


def naive_loss(cell, weights, x, y, mask, starts, n_layers):
    """Loss of a piece and the states that its layers end with; the states that it starts from are plain numbers."""
    ends = []
    for k in range(n_layers):
        part = weights[3 * k : 3 * k + 3]
        x, states = naive.recurrent(
            cell, x, part, initial_state=starts[k], mask=mask, return_sequences=True, activation="tanh"
        )
        ends.append(states)
    return naive.loss("mse", y, naive.dense(x, weights[-2:]), mask=mask), ends


def naive_gradients(cell, weights, *arguments):
    return [finite_difference(lambda: naive_loss(cell, weights, *arguments)[0], w) for w in weights]


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_matches_an_oracle_that_stops_it_at_borders(cell, n_layers, masked, data, rng):
    """Weights after one batch, against finite differences of each piece's loss with its initial states held still."""
    x, y = data
    mask = np.arange(11) < np.array([11, 3, 7, 4, 8, 5])[:, None] if masked else None
    n_steps, rate = 4, 0.1
    model = network(CELLS[cell], (3,) * n_layers, SGD(rate))
    model.build(x.shape)
    weights = [rng.normal(size=w.shape) * 0.6 for w in model.get_weights()]
    model.set_weights(weights)
    model.train_step(x, y, None, mask, n_steps)
    starts = [None] * n_layers
    for at in range(0, 11, n_steps):
        piece = (slice(None), slice(at, at + n_steps))
        arguments = (x[piece], y[piece], None if mask is None else mask[piece], starts, n_layers)
        gradients = naive_gradients(cell, weights, *arguments)
        starts = naive_loss(cell, weights, *arguments)[1]
        weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", ["dense", "ragged", "weights"])
def test_loss_and_metrics_are_those_of_whole_sequences(form, data, rng):
    """With weights that stand still the pieces add up: states are carried, and each step counts once."""
    given = ragged(data) if form == "ragged" else data
    more = {"sample_weight": rng.random((6, 11))} if form == "weights" else {}
    model = network("GRU", (4, 3), SGD(0.0))
    model.compile(SGD(0.0), "mse", metrics=["mae"])
    found = model.fit(*given, batch_size=6, verbose=0, truncated_bptt_steps=4, **more).history
    whole = model.evaluate(*given, batch_size=6, verbose=0, return_dict=True, **more)
    assert found["loss"][0] == pytest.approx(whole["loss"], rel=1e-12)
    assert found["mae"][0] == pytest.approx(whole["mae"], rel=1e-12)


def test_one_update_a_piece_and_one_call_a_batch(data):
    model, seen = network(), []
    callback = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(*data, batch_size=3, epochs=2, verbose=0, truncated_bptt_steps=4, callbacks=[callback])
    assert model.optimizer.iterations == 2 * 2 * 3
    assert seen == [0, 1, 0, 1]


def test_each_batch_starts_from_zero_and_leaves_no_state(data):
    model, by_hand = network(), network(stateful=True)
    for m in (model, by_hand):
        m.build(data[0].shape)
    model.fit(*data, batch_size=3, shuffle=False, verbose=0, truncated_bptt_steps=5)
    for i in (0, 3):
        by_hand.reset_states()
        for t in (0, 5, 10):
            by_hand.train_on_batch(data[0][i : i + 3, t : t + 5], data[1][i : i + 3, t : t + 5])
    np.testing.assert_array_equal(model.params, by_hand.params)
    assert model.layers[0].states is None
    assert model.layers[0].stateful is False


def test_stateful_layers_go_on_from_the_batch_before(data):
    x, y = data
    model, by_hand = network(stateful=True), network(stateful=True)
    halves = [(x[:, :6], y[:, :6]), (x[:, 6:], y[:, 6:])]
    model.fit(halves, verbose=0, truncated_bptt_steps=3)
    for a, b in ((0, 3), (3, 6), (6, 9), (9, 11)):
        by_hand.train_on_batch(x[:, a:b], y[:, a:b])
    np.testing.assert_array_equal(model.params, by_hand.params)
    np.testing.assert_array_equal(model.layers[0].states[0], by_hand.layers[0].states[0])


def test_a_user_cell_starts_from_its_own_state(data):
    class Leaky:
        state_size = 3

        def get_initial_state(self, batch_size):
            return [np.full((batch_size, 3), 2.0)]

        def call(self, x_t, states):
            h = 0.5 * states[0] + x_t
            return h, [h]

        def backward(self, d_out, d_states, x_t, states):
            d = d_out + d_states[0]
            return d, [0.5 * d]

    model = Sequential([layers.RNN(Leaky(), return_sequences=True, **F64), layers.Dense(2, **F64)], seed=0)
    model.compile(SGD(0.0), "mse")
    found = model.fit(*data, batch_size=6, verbose=0, truncated_bptt_steps=4).history["loss"][0]
    assert found == pytest.approx(model.evaluate(*data, batch_size=6, verbose=0))


@pytest.mark.parametrize("mask_zero", [False, True])
def test_tokens_and_pieces_without_a_step_that_counts(mask_zero, rng):
    x = rng.integers(1, 9, (4, 12))
    x[:, 5:] = 0
    stack = [
        layers.Embedding(9, 3, mask_zero=mask_zero, **F64),
        layers.Dropout(0.1, noise_shape=(None, 1, None), **F64),
        layers.GRU(4, return_sequences=True, **F64),
        layers.TimeDistributed(layers.Dense(9, activation="softmax", **F64)),
    ]
    model = Sequential(stack, seed=0)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, x, verbose=0, truncated_bptt_steps=3)
    assert model.optimizer.iterations == (2 if mask_zero else 4)


def peak_of_a_batch(n_steps):
    """Bytes that training on one batch of 512 steps takes at most, in a thread whose memory pools are empty.

    The arrays take 3 to 30 MB, against which objects of Python, whose number depends on the moment, are nothing.
    """
    x = np.zeros((32, 512, 4), np.float32)
    y = np.zeros((32, 512, 1), np.float32)
    found = []

    def work():
        model = network("LSTM", (64,), dtype="float32", head=layers.Dense(1))
        model.layers[0].n_threads = 1
        model.fit(x[:, :2], y[:, :2], verbose=0)
        gc.collect()
        tracemalloc.start()
        try:
            model.fit(x, y, verbose=0, truncated_bptt_steps=n_steps)
            found.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_memory_falls_with_the_length_of_pieces():
    for n_steps in (512, 16):
        peak_of_a_batch(n_steps)  # what is compiled now takes no memory later
    whole, quarter, small = (peak_of_a_batch(n) for n in (512, 128, 16))
    assert quarter < 0.4 * whole
    assert small < 0.4 * quarter


def test_a_batch_that_fails_leaves_layers_as_they_were(data):
    x, y = data
    model = network()
    model.fit(x, y, verbose=0)
    bad = y.copy()
    bad[:, 7] = np.nan
    before = model.params.copy()
    with pytest.raises(NonFiniteLossError):
        model.fit(x, bad, verbose=0, truncated_bptt_steps=4)
    np.testing.assert_array_equal(model.params, before)
    assert model.layers[0].stateful is False
    assert model.layers[0].states is None


def recurrent(**options):
    return layers.LSTM(3, **{"return_sequences": True, **options})


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ([recurrent(), layers.LSTM(3)], "layer 'lstm_1' .LSTM. gives one output for a sequence.*return_seq"),
        ([recurrent(go_backwards=True)], "layer 'lstm' .LSTM. has go_backwards=True"),
        ([layers.Bidirectional(recurrent())], "layer 'bidirectional'.*also reads backwards"),
        ([recurrent(), layers.Flatten()], "layer 'flatten'.*does not keep the time axis"),
        ([layers.Dropout(0.5, noise_shape=(None, 11, 1)), recurrent()], "noise_shape=.None, 11, 1."),
    ],
    ids=["last-output", "go_backwards", "bidirectional", "flatten", "noise_shape"],
)
def test_models_that_need_whole_sequences_are_refused(stack, message, data):
    model = Sequential([*stack, layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=f"truncated_bptt_steps=4: .*{message}"):
        model.fit(*data, verbose=0, truncated_bptt_steps=4)
    assert not model.built


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truncated_bptt_steps": 0}, "truncated_bptt_steps=0: give a positive integer"),
        ({"truncated_bptt_steps": 2.5}, "truncated_bptt_steps=2.5: give a positive integer"),
        ({"y": np.zeros((6, 2))}, r"y has shape \(6, 2\), the predictions have \(6, 11, 2\)"),
        ({"sample_weight": np.ones((6, 1))}, r"sample_weight has shape \(6, 1\), the items .* \(6, 11\)"),
    ],
    ids=["zero", "fraction", "y", "weights"],
)
def test_bad_arguments_are_named(change, message, data):
    model = network()
    with pytest.raises(ValueError, match=message):
        model.fit(**{"x": data[0], "y": data[1], "truncated_bptt_steps": 4, "verbose": 0, **change})


# -- estimators


def regressor(**arguments):
    defaults = {"units": (4, 3), "return_sequences": True, "random_state": 0, "dtype": "float64", "tol": None}
    # The model, and pieces given one by one, are compared in the units of y.
    defaults["normalize_y"] = False
    return RNNRegressor(**{**defaults, "max_iter": 3, **arguments})


@pytest.mark.parametrize("form", ["dense", "ragged"])
def test_estimator_with_long_pieces_changes_nothing(form, data):
    X, y = data if form == "dense" else ragged(data)
    y = y if form == "dense" else list(y)
    plain, cut = regressor(batch_size=4).fit(X, y), regressor(batch_size=4, truncated_bptt_steps=11).fit(X, y)
    np.testing.assert_array_equal(plain.model_.params, cut.model_.params)
    assert plain.loss_curve_ == cut.loss_curve_


def test_estimator_trains_as_the_model_does(data):
    X, y = data
    found = regressor(truncated_bptt_steps=4, shuffle=False, clipnorm=None, solver="sgd").fit(X, y)
    model = regressor(max_iter=1, shuffle=False, learning_rate_init=1e-300).fit(X, y).model_
    model.set_weights(regressor(max_iter=1, learning_rate_init=1e-300).fit(X, y).model_.get_weights())
    model.compile(SGD(0.001, momentum=0.9, nesterov=True), "mse")
    losses = model.fit(X, y, epochs=3, shuffle=False, verbose=0, truncated_bptt_steps=4).history["loss"]
    np.testing.assert_array_equal(found.model_.params, model.params)
    np.testing.assert_allclose(found.loss_curve_, losses, rtol=1e-12)


def test_estimator_goes_on_from_call_to_call_when_stateful(data):
    X, y = data
    whole = regressor(stateful=True, truncated_bptt_steps=3).partial_fit(X[:, :9], y[:, :9])
    split = regressor(stateful=True)
    for t in (0, 3, 6):
        split.partial_fit(X[:, t : t + 3], y[:, t : t + 3])
    np.testing.assert_array_equal(whole.model_.params, split.model_.params)
    np.testing.assert_array_equal(whole.states_[1][0], split.states_[1][0])


def test_classifier_learns_from_pieces(rng):
    X = rng.normal(size=(40, 60, 1))
    mean = np.zeros((40, 60))
    for t in range(60):
        mean[:, t] = 0.8 * mean[:, t - 1] + X[:, t, 0]
    y = (mean > 0).astype(int)
    model = RNNClassifier(
        cell="gru",
        units=8,
        return_sequences=True,
        truncated_bptt_steps=10,
        learning_rate_init=0.02,
        max_iter=15,
        tol=None,
        random_state=0,
    ).fit(X, y)
    assert 0.4 < y.mean() < 0.6
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"return_sequences": False}, "truncated_bptt_steps=4 needs targets for every step"),
        ({"bidirectional": True}, "truncated_bptt_steps=4 can't be used with bidirectional=True"),
        ({"truncated_bptt_steps": 0}, "'truncated_bptt_steps' parameter of RNNRegressor must be an int"),
    ],
)
def test_estimator_refuses_what_cannot_be_cut(arguments, message, data):
    X, y = data
    model = regressor(**{"truncated_bptt_steps": 4, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(X, y if model.return_sequences else y[:, -1])
    assert not hasattr(model, "model_")

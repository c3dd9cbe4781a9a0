"""RNN around cells of the library, stacks of them, cells with dropout around them, and a user's own objects."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastrnn import Sequential, layers, optimizers
from tests import keras_oracle, naive
from tests.layer_cases import (
    KINDS,
    LAYER_NAMES,
    assert_all_close,
    finite_difference,
    gradients,
    gradients_of,
    make_layer,
    mask_of,
    run,
)

N_BATCH, N_STEPS, N_INPUTS, UNITS = 4, 6, 3, 4
MASK = mask_of("full", "holes", "leading", "none")


class Elman:
    """A user's cell as it is in the documentation: plain NumPy, a dict of weights, and a backward pass."""

    def __init__(self, n_inputs, units, seed=0):
        rng = np.random.default_rng(seed)
        self.state_size = units
        self.weights = {
            "kernel": rng.normal(size=(n_inputs, units)) * 0.5,
            "recurrent_kernel": rng.normal(size=(units, units)) * 0.5,
            "bias": rng.normal(size=units) * 0.5,
        }

    def call(self, x_t, states):
        w = self.weights
        h = np.tanh(x_t @ w["kernel"] + states[0] @ w["recurrent_kernel"] + w["bias"])
        return h, [h]

    def backward(self, d_out, d_states, x_t, states):
        w, g = self.weights, self.grads
        h, _ = self.call(x_t, states)
        dz = (d_out + d_states[0]) * (1 - h * h)
        g["kernel"] += x_t.T @ dz
        g["recurrent_kernel"] += states[0].T @ dz
        g["bias"] += dz.sum(axis=0)
        return dz @ w["kernel"].T, [dz @ w["recurrent_kernel"].T]


class MinimalCell(layers.Layer):
    """The cell of Keras's documentation, with a backward pass."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="uniform", name="kernel", regularizer="l2"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units), initializer="uniform", name="recurrent_kernel"
        )

    def call(self, inputs, states):
        output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
        return output, [output]

    def backward(self, d_out, d_states, x_t, states):
        d = d_out + d_states[0]
        self.grads["kernel"] += x_t.T @ d
        self.grads["recurrent_kernel"] += states[0].T @ d
        return d @ self.kernel.T, [d @ self.recurrent_kernel.T]


class TwoStates:
    """Two states of different sizes, an output of a third, initial states of its own."""

    state_size = (2, 3)
    output_size = 5

    def get_initial_state(self, batch_size):
        return [np.full((batch_size, 2), 0.5), np.full((batch_size, 3), -0.5)]

    def call(self, x_t, states):
        a, b = states
        a2 = np.tanh(a + x_t[:, :2])
        b2 = 0.5 * b + x_t * a2[:, :1]
        return np.concatenate([a2, b2], axis=1), [a2, b2]

    def backward(self, d_out, d_states, x_t, states):
        a, b = states
        a2 = np.tanh(a + x_t[:, :2])
        db2 = d_out[:, 2:] + d_states[1]
        da2 = d_out[:, :2] + d_states[0]
        da2[:, 0] += (db2 * x_t).sum(axis=1)
        da = da2 * (1 - a2 * a2)
        dx = db2 * a2[:, :1]
        dx[:, :2] += da
        return dx, [da, 0.5 * db2]


def cell_of(cell, **options):
    return getattr(layers, LAYER_NAMES[cell] + "Cell")(UNITS, dtype="float64", **options)


def inputs(rng):
    return rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS))


def check_gradients(layer, x, mask=None, initial=None, flat_initial=(), rng=None, tolerance=1e-7):
    results, cache = run(layer, x, mask, initial, training=True)
    inference, _ = run(layer, x, mask, initial)
    results, inference = _flat(results), _flat(inference)
    assert_all_close(results, inference, rtol=1e-12, atol=1e-12)
    d_flat = [rng.normal(size=r.shape) for r in results]
    template = run(layer, x, mask, initial)[0]
    d_results = _unflat(template, list(d_flat))
    dx, grads = gradients(layer, d_results, cache)
    d_initial = _flat(layer.d_initial_state) if flat_initial else []

    def value():
        layer.weights_changed()
        return sum((r * d).sum() for r, d in zip(_flat(run(layer, x, mask, initial)[0]), d_flat, strict=True))

    arrays = [x, *flat_initial, *layer._weights.values()]
    expected = [finite_difference(value, a) for a in arrays]
    assert_all_close([dx, *d_initial, *grads], expected, rtol=tolerance, atol=tolerance)


def _flat(value):
    return [a for v in value for a in _flat(v)] if isinstance(value, (list, tuple)) else [value]


def _unflat(template, flat):
    if isinstance(template, (list, tuple)):
        return [_unflat(t, flat) for t in template]
    return flat.pop(0)


# ------------------------------------------------------------------------------------ the library's cells


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"zero_output_for_mask": True, "return_sequences": True, "unroll": True},
    ],
)
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_rnn_of_a_cell_is_the_layer(cell, form, options, rng):
    x = inputs(rng)
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng, **form)
    layer = make_layer(cell, UNITS, weights, N_INPUTS, **form, **options)
    wrapped = layers.RNN(cell_of(cell, **form), **options)
    wrapped.build((None, None, N_INPUTS))
    wrapped.set_weights(weights)
    initial = [rng.normal(size=(N_BATCH, UNITS)) for _ in range(naive.N_STATES[cell])]
    for mask in (None, MASK):
        ours = gradients_of(wrapped, x, mask=mask, initial_state=initial)
        theirs = gradients_of(layer, x, mask=mask, initial_state=initial)
        for a, b in zip(
            [*ours[0], ours[1], *ours[2], *wrapped.d_initial_state],
            [*theirs[0], theirs[1], *theirs[2], *layer.d_initial_state],
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_rnn_of_a_cell_in_a_model_trains_as_the_layer(rng):
    x, y = inputs(rng), rng.normal(size=(N_BATCH, 1))
    vectors = []
    for make in (
        lambda: layers.LSTM(UNITS, kernel_regularizer="l2", kernel_constraint="non_neg"),
        lambda: layers.RNN(layers.LSTMCell(UNITS, kernel_regularizer="l2", kernel_constraint="non_neg")),
    ):
        model = Sequential([make(), layers.Dense(1)], seed=0)
        model.compile("adam", "mse")
        model.build((None, None, N_INPUTS))
        weights = [np.random.default_rng(0).normal(size=w.shape) for w in model.get_weights()]
        model.set_weights(weights)
        model.fit(x, y, epochs=3, verbose=0, shuffle=False)
        model.predict(x, verbose=0)
        vectors.append([*model.params, *model.predict(x, verbose=0).ravel()])
    np.testing.assert_array_equal(*vectors)


def test_stateful_rnn_goes_on(rng):
    x = inputs(rng)
    whole = layers.RNN(
        [layers.LSTMCell(3, dtype="float64"), layers.GRUCell(2, dtype="float64")], stateful=True
    )
    expected = whole(x)
    whole.reset_state()
    whole(x[:, :2])
    np.testing.assert_allclose(whole(x[:, 2:]), expected, rtol=1e-12)
    assert [np.shape(s) for s in _flat(whole.states)] == [(N_BATCH, 3)] * 2 + [(N_BATCH, 2)]
    with pytest.raises(ValueError, match="holds the states of 4 sequences, got a batch of 2"):
        whole(x[:2])


# ------------------------------------------------------------------------------------ stacks


@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True}, {"go_backwards": True, "return_sequences": True}]
)
@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
def test_stack_matches_stepping_the_cells(options, with_mask, rng):
    x, mask = inputs(rng), MASK if with_mask else None
    cells = [cell_of("lstm"), cell_of("gru"), Elman(UNITS, 2)]
    layer = layers.RNN(cells, return_state=True, dtype="float64", **options)
    y, *states = layer(x, mask=mask)
    stack, state = layer.cell, layer.cell.get_initial_state(N_BATCH)
    last, outputs = np.zeros((N_BATCH, 2)), []
    for t in range(N_STEPS)[:: -1 if layer.go_backwards else 1]:
        valid = np.ones((N_BATCH, 1), bool) if mask is None else mask[:, t, None]
        out, new = stack(x[:, t], state)
        last = np.where(valid, out, last)
        state = _unflat(new, [np.where(valid, a, b) for a, b in zip(_flat(new), _flat(state), strict=True)])
        outputs.append(last)
    expected = np.stack(outputs, axis=1) if layer.return_sequences else last
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    assert_all_close(_flat(states), _flat(state), rtol=1e-11, atol=1e-12)
    # As Keras lays them out: a list where a cell has several states.
    assert [np.ndim(s) for s in states] == [3, 2, 2]


@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True, "return_state": True}, {"go_backwards": True}]
)
def test_stack_gradient_matches_finite_difference(options, with_mask, rng):
    cells = [
        cell_of("lstm", bias_initializer="normal"),
        layers.StackedRNNCells([cell_of("gru"), Elman(UNITS, 2)], dtype="float64"),
    ]
    layer = layers.RNN(cells, **options)
    layer.build((None, None, N_INPUTS))
    initial = [
        [rng.normal(size=(N_BATCH, UNITS)) for _ in range(2)],
        [rng.normal(size=(N_BATCH, n)) for n in (UNITS, 2)],
    ]
    check_gradients(layer, inputs(rng), MASK if with_mask else None, initial, _flat(initial), rng)


def test_stack_matches_keras(rng):
    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    x = inputs(rng)
    ours = layers.RNN([cell_of("lstm"), cell_of("gru")], return_sequences=True, return_state=True)
    ours.build((None, None, N_INPUTS))
    weights = [rng.normal(size=w.shape) * 0.4 for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs = keras.layers.RNN(
        [keras.layers.LSTMCell(UNITS, dtype="float64"), keras.layers.GRUCell(UNITS, dtype="float64")],
        return_sequences=True,
        return_state=True,
        dtype="float64",
    )
    keras_oracle.with_weights(theirs, weights, N_INPUTS)
    found = keras_oracle.to_numpy(theirs(keras_oracle.tensor(x)))
    assert_all_close(_flat(ours(x)), _flat(found), rtol=1e-9, atol=1e-10)
    assert ours.compute_output_shape((None, 5, 3)) == [
        (None, 5, 4),
        [(None, 4), (None, 4)],
        (None, 4),
    ]


# ------------------------------------------------------------------------------------ dropout around a cell


def test_dropout_wrapper_acts_between_layers_not_along_time(rng):
    """With factors taken from the wrapper, the layer is the plain one on dropped inputs, its output dropped."""
    x = np.abs(inputs(rng)) + 1
    cell = layers.DropoutWrapper(cell_of("lstm"), input_keep_prob=0.5, output_keep_prob=0.8)
    layer = layers.RNN(cell, return_sequences=True, return_state=True)
    plain = layers.RNN(cell.cell, return_sequences=True, return_state=True)
    assert_all_close(layer(x), plain(x))
    (y, h, c), caches = run(layer, x, training=True)
    before, after = caches[0], caches[2]
    assert set(np.unique(before)) == {0.0, 2.0}
    assert set(np.unique(after)) == {0.0, 1.25}
    # New factors at every step.
    assert (before[:, 0] != before[:, 1]).any()
    out, h_plain, c_plain = plain(x * before)
    assert_all_close([y, h, c], [out * after, h_plain, c_plain])
    dy = rng.normal(size=y.shape)
    dx, grads = gradients(layer, [dy, None, None], caches)
    _, dx_plain, grads_plain = gradients_of(plain, x * before, [dy * after, None, None])
    assert_all_close([dx, *grads], [dx_plain * before, *grads_plain])


def test_dropout_wrapper_stepped_by_hand(rng):
    cell = layers.DropoutWrapper(layers.GRUCell(50), output_keep_prob=0.5, seed=1)
    x, states = rng.normal(size=(2, 3)), cell.get_initial_state(2)
    out, new = cell(x, states)
    np.testing.assert_array_equal(out, new[0])
    out, new = cell(x, states, training=True)
    assert 20 < (out == 0).sum() < 80
    assert (new[0] != 0).all()


def test_dropout_wrapper_in_a_stack_trains(rng):
    x, y = rng.normal(size=(32, 5, 3)), rng.normal(size=(32, 1))
    cells = [layers.DropoutWrapper(layers.LSTMCell(8), 0.9, 0.9) for _ in range(2)]
    model = Sequential([layers.RNN(cells), layers.Dense(1)], seed=0)
    model.compile("adam", "mse")
    loss = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert loss[-1] < loss[0]


# ------------------------------------------------------------------------------------ a user's own cell


@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"zero_output_for_mask": True},
        {"zero_output_for_mask": True, "return_sequences": True},
    ],
)
def test_own_cell_equals_the_library(options, with_mask, rng):
    x, mask = inputs(rng), MASK if with_mask else None
    own = Elman(N_INPUTS, UNITS)
    layer = layers.RNN(own, dtype="float64", **options)
    layer.build((None, None, N_INPUTS))
    reference = make_layer("simple_rnn", UNITS, list(own.weights.values()), N_INPUTS, **options)
    initial = [rng.normal(size=(N_BATCH, UNITS))]
    ours = gradients_of(layer, x, mask=mask, initial_state=initial)
    theirs = gradients_of(reference, x, mask=mask, initial_state=initial)
    assert_all_close(
        [*ours[0], ours[1], *ours[2], *layer.d_initial_state],
        [*theirs[0], theirs[1], *theirs[2], *reference.d_initial_state],
        rtol=1e-10,
        atol=1e-11,
    )


def test_own_cell_with_two_states(rng):
    x = inputs(rng)
    layer = layers.RNN(TwoStates(), return_sequences=True, return_state=True, dtype="float64")
    layer.build((None, None, N_INPUTS))
    y, a, b = layer(x)
    assert (y.shape, a.shape, b.shape) == ((N_BATCH, N_STEPS, 5), (N_BATCH, 2), (N_BATCH, 3))
    np.testing.assert_allclose(y[:, 0, :2], np.tanh(0.5 + x[:, 0, :2]))
    assert layer.compute_output_shape((None, 6, 3)) == [(None, 6, 5), (None, 2), (None, 3)]
    initial = [rng.normal(size=(N_BATCH, 2)), rng.normal(size=(N_BATCH, 3))]
    check_gradients(layer, x, MASK, initial, initial, rng)


@pytest.mark.parametrize(
    "make", [lambda: Elman(N_INPUTS, 8), lambda: MinimalCell(8)], ids=["object", "layer"]
)
def test_own_cell_trains_in_a_model(make, rng):
    x = rng.normal(size=(64, 5, N_INPUTS))
    y = x.sum(axis=(1, 2))[:, None]
    own = make()
    model = Sequential([layers.RNN(own), layers.Dense(1)], seed=0)
    model.compile(optimizers.Adam(0.02), "mse")
    loss = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert loss[-1] < loss[0] / 2
    assert np.shares_memory(own.weights["kernel"], model.params)
    if isinstance(own, layers.Layer):
        assert np.shares_memory(own.kernel, model.params)
        assert model.layers[0]._regularizers
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    again.fit(x, y, epochs=1, verbose=0, shuffle=False)
    model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    np.testing.assert_array_equal(again.params, model.params)
    assert not np.shares_memory(again.layers[0].cell.cell.weights["kernel"], model.params)


def test_own_cell_in_both_directions(rng):
    x = inputs(rng)
    layer = layers.Bidirectional(layers.RNN(Elman(N_INPUTS, UNITS), return_sequences=True, dtype="float64"))
    layer.build((None, None, N_INPUTS))
    weights = list(Elman(N_INPUTS, UNITS).weights.values())
    expected, _ = naive.bidirectional("simple_rnn", x, weights, weights, return_sequences=True, mask=MASK)
    np.testing.assert_allclose(layer(x, mask=MASK), expected, rtol=1e-11, atol=1e-12)
    stack = layers.Bidirectional(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]))
    assert stack(x).shape == (N_BATCH, 4)


def test_own_cell_without_backward_predicts_only(rng):
    class Forward:
        state_size = 3

        def call(self, x_t, states, training=False):
            return x_t + states[0], [x_t + states[0]]

    x = inputs(rng)
    layer = layers.RNN(Forward(), dtype="float64")
    np.testing.assert_allclose(layer(x), x.sum(axis=1))
    with pytest.raises(ValueError, match="has no backward method, so it can't be trained"):
        layer(x, training=True)


class _NoSize:
    def call(self, x_t, states):
        return x_t, states


class _NoCall:
    state_size = 3


class _BadSize(_NoSize):
    state_size = "3"


class _WrongOutput(_NoSize):
    state_size = 2


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (_NoSize(), "has no state_size: a cell has state_size"),
        (_NoCall(), "has no call method"),
        (_BadSize(), "state_size='3': give a positive integer"),
        (_NoSize, "is a class: give an instance"),
        ([], "give a list of at least one cell"),
        (layers.GRUCell(2, activity_regularizer="l2"), "has an activity_regularizer.* give it to RNN"),
        ([layers.LSTMCell(2), _NoSize()], r"cells\[1\]=.* has no state_size"),
    ],
)
def test_errors_of_cells(cell, message):
    with pytest.raises(ValueError, match=message):
        layers.RNN(cell)


def test_errors_of_calls(rng):
    x = inputs(rng)
    with pytest.raises(ValueError, match=r"call returned an output and states of shapes"):
        layers.RNN(_WrongOutput())(x)
    with pytest.raises(ValueError, match="initial_state has 1 arrays"):
        layers.RNN(layers.LSTMCell(2))(x, initial_state=[np.zeros((4, 2))])
    with pytest.raises(ValueError, match=r"initial_state\[0\] has shape \(4, 3\): the batch needs \(4, 2\)"):
        layers.RNN(Elman(3, 2))(x, initial_state=[np.zeros((4, 3))])
    with pytest.raises(ValueError, match="initial_state has 1 entries, there are 2 cells"):
        layers.RNN([layers.GRUCell(2), layers.GRUCell(2)])(x, initial_state=[np.zeros((4, 2))])
    with pytest.raises(ValueError, match="input_keep_prob=0: give a number above 0"):
        layers.DropoutWrapper(layers.GRUCell(2), input_keep_prob=0)
    one = layers.GRUCell(2)
    with pytest.raises(ValueError, match=r"cells\[1\] is in the list already"):
        layers.RNN([one, one])


def test_config_round_trip(rng):
    x = inputs(rng)
    layer = layers.RNN(
        [layers.DropoutWrapper(layers.LSTMCell(3, activation="relu"), 0.5), layers.GRUCell(2)],
        go_backwards=True,
    )
    again = layers.deserialize({"class_name": "RNN", "config": layer.get_config()})
    assert again.get_config() == layer.get_config()
    assert again.go_backwards
    assert again(x).shape == layer(x).shape
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), layer(x))

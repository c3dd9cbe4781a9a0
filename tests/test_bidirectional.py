"""Both directions: values, states, masks, gradients, weights, configuration, errors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.engine import tuning
from tests import keras_oracle, naive
from tests.layer_cases import (
    KINDS,
    LAYER_NAMES,
    assert_all_close,
    finite_difference,
    gradients,
    gradients_of,
    mask_of,
    run,
)

N_BATCH, N_STEPS, N_INPUTS, UNITS = 8, 6, 3, 4
MASK = mask_of("full", "trailing", "leading", "holes", "both_ends", "first_only", "last_only", "none")
MODES = ["concat", "sum", "mul", "ave", None]


def pattern(cell, dtype="float64", **options):
    return getattr(layers, LAYER_NAMES[cell])(UNITS, dtype=dtype, **options)


def both_weights(cell, rng, **form):
    return [naive.random_weights(cell, N_INPUTS, UNITS, rng, **form) for _ in range(2)]


def flat(result):
    return list(result) if isinstance(result, list) else [result]


@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_forward_matches_naive(cell, form, mode, sequences, with_mask, rng):
    mask = MASK if with_mask else None
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS))
    weights = both_weights(cell, rng, **form)
    initial = [rng.normal(size=(N_BATCH, UNITS)) for _ in range(2 * naive.N_STATES[cell])]
    layer = layers.Bidirectional(
        pattern(cell, return_sequences=sequences, return_state=True, **form), merge_mode=mode
    )
    layer.build((None, None, N_INPUTS))
    layer.set_weights(weights[0] + weights[1])
    expected, states = naive.bidirectional(
        cell,
        x,
        *weights,
        merge_mode=mode,
        initial_state=initial,
        return_sequences=sequences,
        mask=mask,
        **form,
    )
    for training in (False, True):
        results, _ = run(layer, x, mask, initial, training)
        assert_all_close(results, [*flat(expected), *states], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cell", "form"), KINDS[1:3])
def test_gradient_matches_finite_difference(cell, form, mode, sequences, rng):
    mask = mask_of("full", "holes", "leading")
    x = rng.normal(size=(3, N_STEPS, N_INPUTS))
    weights = both_weights(cell, rng, **form)
    initial = [rng.normal(size=(3, UNITS)) for _ in range(2 * naive.N_STATES[cell])]
    layer = layers.Bidirectional(
        pattern(cell, return_sequences=sequences, return_state=True, **form), merge_mode=mode
    )
    layer.build((None, None, N_INPUTS))
    layer.set_weights(weights[0] + weights[1])
    results, cache = run(layer, x, mask, initial, training=True)
    d_results = [rng.normal(size=r.shape) for r in results]
    dx, d_weights = gradients(layer, d_results, cache)
    d_initial = layer.d_initial_state

    def value():
        layer.weights_changed()
        results, _ = run(layer, x, mask, initial)
        return sum((r * d).sum() for r, d in zip(results, d_results, strict=True))

    arrays = [x, *initial, *layer._weights.values()]
    assert_all_close(
        [dx, *d_initial, *d_weights], [finite_difference(value, a) for a in arrays], rtol=1e-6, atol=1e-7
    )


def test_own_backward_layer(rng):
    """Another activation, another size, and go_backwards=True of its own."""
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS))
    weights = both_weights("lstm", rng)
    layer = layers.Bidirectional(
        pattern("lstm", return_sequences=True),
        backward_layer=pattern("lstm", return_sequences=True, activation="relu", go_backwards=True),
    )
    layer.build((None, None, N_INPUTS))
    layer.set_weights(weights[0] + weights[1])
    expected, _ = naive.bidirectional(
        "lstm",
        x,
        *weights,
        return_sequences=True,
        mask=MASK,
        backward_options={"activation": "relu"},
    )
    np.testing.assert_allclose(layer(x, mask=MASK), expected, rtol=1e-10, atol=1e-11)
    layer = layers.Bidirectional(layers.LSTM(3), backward_layer=layers.GRU(5, go_backwards=True))
    assert layer.compute_output_shape((None, None, 2)) == (None, 8)
    assert layer(x).shape == (N_BATCH, 8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
def test_matches_keras(mode, with_mask, rng):
    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    x = rng.normal(size=(N_BATCH, N_STEPS, N_INPUTS))
    mask = MASK if with_mask else None
    options = {"return_sequences": True, "return_state": True}
    ours = layers.Bidirectional(pattern("lstm", **options), merge_mode=mode)
    ours.build((None, None, N_INPUTS))
    weights = [rng.normal(size=w.shape) * 0.4 for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs = keras.layers.Bidirectional(
        keras.layers.LSTM(UNITS, dtype="float64", **options), merge_mode=mode, dtype="float64"
    )
    keras_oracle.with_weights(theirs, weights, N_INPUTS)
    results, cache = run(ours, x, mask, training=True)
    d_results = [rng.normal(size=r.shape) for r in results]
    dx, grads = gradients(ours, d_results, cache)
    found = keras_oracle.forward_and_gradients(theirs, x, d_results, mask=mask)
    assert_all_close(results, found[0], rtol=1e-9, atol=1e-10)
    assert_all_close([dx, *grads], [found[1], *found[3]], rtol=1e-8, atol=1e-9)


def test_side_by_side_matches_one_after_the_other(rng, monkeypatch):
    from fastrnn.layers import bidirectional

    x = rng.normal(size=(1, 30, N_INPUTS))
    layer = layers.Bidirectional(pattern("gru", return_sequences=True))
    layer(x)
    results, dx, grads = gradients_of(layer, x)
    monkeypatch.setattr(tuning, "MIN_DIRECTION_WORK", 0)
    monkeypatch.setattr(bidirectional.threads, "resolve", lambda n: 2)
    again = gradients_of(layer, x)
    for a, b in zip([*results, dx, *grads], [*again[0], again[1], *again[2]], strict=True):
        np.testing.assert_array_equal(a, b)

    def fail(*args, **kwargs):
        raise RuntimeError("from the other thread")

    monkeypatch.setattr(layer.backward_layer, "forward", fail)
    with pytest.raises(RuntimeError, match="from the other thread"):
        layer(x, training=True)
    # Where the steps of each direction are shared by all threads, there are none to spare.
    monkeypatch.setattr(bidirectional, "slice_count", lambda *args: 2)
    monkeypatch.setattr(bidirectional, "Helper", None)
    with pytest.raises(RuntimeError, match="from the other thread"):
        layer(x, training=True)


def test_stateful_goes_on(rng):
    x = rng.normal(size=(2, 6, N_INPUTS)).astype(np.float32)
    layer = layers.Bidirectional(layers.LSTM(UNITS, stateful=True))
    layer(x[:, :3])
    states = layer.states
    assert len(states) == 4
    out = layer(x[:, 3:])
    layer.reset_state()
    assert layer.states is None
    np.testing.assert_array_equal(layer(x[:, 3:], initial_state=states), out)


def test_dropout_acts_in_training_only(rng):
    x = rng.normal(size=(4, 5, N_INPUTS)).astype(np.float32)
    layer = layers.Bidirectional(layers.GRU(UNITS, dropout=0.5, recurrent_dropout=0.3))
    np.testing.assert_array_equal(layer(x), layer(x))
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))


def make_model(**options):
    inner = layers.LSTM(UNITS, return_sequences=True, kernel_regularizer="l2", bias_constraint="non_neg")
    return Sequential(
        [
            layers.Bidirectional(inner, **options),
            layers.Bidirectional(layers.GRU(3), merge_mode="sum"),
            layers.Dense(1),
        ],
        seed=3,
    )


def test_in_a_model(rng):
    x, y = rng.normal(size=(16, 5, N_INPUTS)), rng.normal(size=(16, 1))
    model = make_model()
    model.compile("adam", "mse")
    model.build((None, None, N_INPUTS))
    model.reset_states()
    names = [f"{d}/{w}" for d in ("forward", "backward") for w in ("kernel", "recurrent_kernel", "bias")]
    assert list(model.layers[0]._weights) == names
    before = model.params.copy()
    history = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    # Every weight moved, and the children see the model's vector.
    assert (model.params != before).mean() > 0.9
    child = model.layers[0].backward_layer
    assert np.shares_memory(child._weights["kernel"], model.params)
    assert (child._weights["bias"] >= 0).all()
    assert model.count_params() == 2 * 4 * UNITS * (N_INPUTS + UNITS + 1) + 2 * 3 * 3 * (8 + 3 + 2) + 3 + 1


def test_regularization_and_activity_of_both_directions(rng):
    x, y = rng.normal(size=(4, 5, N_INPUTS)), rng.normal(size=(4, 2 * UNITS))

    def loss(inner_penalty, outer_penalty, kernel_penalty):
        inner = layers.LSTM(
            UNITS, activity_regularizer=inner_penalty, kernel_regularizer=kernel_penalty, dtype="float64"
        )
        model = Sequential([layers.Bidirectional(inner, activity_regularizer=outer_penalty)], seed=0)
        model.compile("sgd", "mse")
        value = model.compute_gradients(x, y)
        return value, model.grads.copy(), model

    plain, _, model = loss(None, None, None)
    inside, inside_gradient, _ = loss("l2", None, None)
    outside, outside_gradient, _ = loss(None, "l2", None)
    # Concatenated, the two are the same.
    assert inside > plain
    np.testing.assert_allclose([inside, *inside_gradient], [outside, *outside_gradient], rtol=1e-12)
    kernels = [model.layers[0]._weights[f"{d}/kernel"] for d in ("forward", "backward")]
    assert loss(None, None, "l2")[0] == pytest.approx(plain + 0.01 * sum((k**2).sum() for k in kernels))


def test_copies_go_on_alike(rng):
    x, y = rng.normal(size=(16, 5, N_INPUTS)), rng.normal(size=(16, 1))
    model = make_model()
    model.compile("adam", "mse")
    model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    twin = pickle.loads(pickle.dumps(model))
    for m in (model, twin):
        m.fit(x, y, epochs=1, verbose=0, shuffle=False)
    np.testing.assert_array_equal(twin.params, model.params)
    np.testing.assert_array_equal(twin.predict(x, verbose=0), model.predict(x, verbose=0))
    child = twin.layers[0].forward_layer
    assert np.shares_memory(child._weights["kernel"], twin.params)


def test_predict_sees_new_weights(rng):
    """Inference keeps packed weights; they must not outlive a change."""
    x = rng.normal(size=(2, 4, N_INPUTS))
    model = make_model()
    before = model(x)
    model.set_weights([w * 0.5 for w in model.get_weights()])
    after = model(x)
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(model.copy()(x), after)


def test_config_round_trip():
    layer = layers.Bidirectional(
        layers.LSTM(5, activation="relu", return_sequences=True, name="inner"),
        merge_mode="ave",
        backward_layer=layers.LSTM(5, return_sequences=True, go_backwards=True),
        name="both",
    )
    again = layers.deserialize({"class_name": "Bidirectional", "config": layer.get_config()})
    assert again.get_config() == layer.get_config()
    assert again.forward_layer.name == "forward_inner"
    assert (again.forward_layer.activation, again.backward_layer.activation) == ("relu", "tanh")
    model = make_model()
    assert Sequential.from_config(model.get_config()).get_config() == model.get_config()


def test_weights_argument_and_trainable(rng):
    weights = [w for part in both_weights("gru", rng) for w in part]
    layer = layers.Bidirectional(layers.GRU(UNITS), weights=weights)
    layer.build((None, None, N_INPUTS))
    assert_all_close(layer.get_weights(), [w.astype(np.float32) for w in weights])
    layer.trainable = False
    assert not layer.backward_layer.trainable
    assert not layers.Bidirectional(layers.GRU(UNITS, trainable=False)).trainable


def test_one_direction_can_be_frozen(rng):
    x, y = rng.normal(size=(8, 5, N_INPUTS)), rng.normal(size=(8, 2 * UNITS))
    backward = layers.LSTM(UNITS, go_backwards=True, trainable=False, kernel_regularizer="l2")
    model = Sequential([layers.Bidirectional(layers.LSTM(UNITS), backward_layer=backward)], seed=0)
    model.compile("adam", "mse")
    model.build(x.shape)
    before = model.get_weights()
    model.fit(x, y, epochs=2, verbose=0)
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [False] * 3 + [True] * 3


def test_threads_reach_the_children():
    layer = layers.Bidirectional(layers.GRU(UNITS))
    layer.n_threads = 1
    assert layer.forward_layer.n_threads == layer.backward_layer.n_threads == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "lstm"}, "layer='lstm': Bidirectional needs a recurrent layer"),
        ({"layer": layers.Dense(3)}, "Bidirectional needs a recurrent layer"),
        ({"backward_layer": 3}, "backward_layer=3: Bidirectional needs a recurrent layer"),
        ({"merge_mode": "add"}, "merge_mode='add': give 'sum', 'mul', 'ave', 'concat' or None"),
        ({"backward_layer": layers.LSTM(3)}, "same go_backwards=False"),
        (
            {"backward_layer": layers.LSTM(3, go_backwards=True, return_sequences=True)},
            "layer has return_sequences=False, backward_layer has return_sequences=True",
        ),
        ({"dtype": "float64"}, "has dtype float64, its forward has float32"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.Bidirectional(**{"layer": layers.LSTM(3), **arguments})


def test_errors_of_calls(rng):
    x = np.zeros((2, 4, 3), np.float32)
    with pytest.raises(ValueError, match="initial_state has 3 arrays"):
        layers.Bidirectional(layers.LSTM(3))(x, initial_state=[np.zeros((2, 3))] * 3)
    with pytest.raises(ValueError, match="merge_mode='sum' needs outputs of one size"):
        layers.Bidirectional(
            layers.LSTM(3), backward_layer=layers.LSTM(4, go_backwards=True), merge_mode="sum"
        )(x)
    with pytest.raises(ValueError, match="merge_mode=None, which gives two outputs"):
        Sequential([layers.Bidirectional(layers.LSTM(3), merge_mode=None)])
    with pytest.raises(TypeError, match="unknown argument 'merge'"):
        layers.Bidirectional(layers.LSTM(3), merge="sum")

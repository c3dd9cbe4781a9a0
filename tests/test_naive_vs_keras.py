"""The oracle compared with Keras, so that other tests can use the oracle alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests import keras_oracle, naive

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
try:
    keras = keras_oracle.load()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

CELLS = ("simple_rnn", "lstm", "gru")
B, T, F, H = 3, 5, 4, 6


def problem(cell, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(B, T, F))
    initial = [rng.normal(size=(B, H)) for _ in range(naive.N_STATES[cell])]
    return rng, x, initial, naive.random_weights(cell, F, H, rng, **kwargs)


def assert_same(actual, expected, rtol=1e-11, atol=1e-12):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", sorted(naive.ACTIVATIONS))
def test_activation_matches_keras(name):
    x = np.concatenate([np.linspace(-8, 8, 161), [-0.5, 0.5, 1.0, -1.0, 3.0, -3.0, 6.0]]).reshape(2, -1)
    expected = keras_oracle.to_numpy(keras.activations.get(name)(keras_oracle.tensor(x)))
    np.testing.assert_allclose(naive.activate(name, x), expected, rtol=1e-12, atol=1e-14)


def test_every_activation_of_keras_is_known():
    from keras.src.activations import ALL_OBJECTS_DICT

    # threshold needs arguments, glu halves the last axis: neither fits a cell. sparsemax fits none in practice.
    assert set(ALL_OBJECTS_DICT) - {"threshold", "glu", "sparsemax"} == set(naive.ACTIVATIONS)


OPTIONS = [
    {},
    {"use_bias": False},
    {"go_backwards": True},
    {"return_sequences": False},
    {"activation": "relu"},
    {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    {"activation": "softmax"},
    {"activation": None},
    {"reset_after": False},
    {"reset_after": False, "use_bias": False},
    {"reset_after": False, "activation": "softplus", "recurrent_activation": "hard_sigmoid"},
    {"initial": True},
    {"initial": True, "go_backwards": True, "reset_after": False},
    {"mask": True},
    {"mask": True, "initial": True},
    {"mask": True, "initial": True, "go_backwards": True},
    {"mask": True, "initial": True, "return_sequences": False},
    {"mask": True, "zero_output_for_mask": True},
    {"mask": True, "initial": True, "zero_output_for_mask": True, "return_sequences": False},
    {"mask": True, "initial": True, "zero_output_for_mask": True, "go_backwards": True},
]
MASK = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


def applies(cell, options):
    return ("reset_after" not in options or cell == "gru") and (
        "recurrent_activation" not in options or cell != "simple_rnn"
    )


@pytest.mark.parametrize(("cell", "options"), [c for c in itertools.product(CELLS, OPTIONS) if applies(*c)])
def test_layer_matches_keras(cell, options):
    options = {"return_sequences": True, **options}
    with_initial, with_mask = options.pop("initial", False), options.pop("mask", False)
    kinds = {k: v for k, v in options.items() if k in ("use_bias", "reset_after")}
    rng, x, initial, weights = problem(cell, **kinds)
    case = {"mask": MASK if with_mask else None, "initial_state": initial if with_initial else None}
    for unroll in (False, True):
        flags = {k: options.get(k, False) for k in ("zero_output_for_mask", "go_backwards")}
        if keras_oracle.masked_loop_differs(unroll=unroll, **flags, **case):
            continue
        layer = keras_oracle.make_layer(
            cell, H, weights, F, "float64", return_state=True, unroll=unroll, **options
        )
        y, states = naive.recurrent(
            cell, x, weights, **case, **{k: v for k, v in options.items() if k != "use_bias"}
        )
        assert_same([y, *states], keras_oracle.forward(layer, x, **case))


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)], ids=str)
@pytest.mark.parametrize(
    ("cell", "reset_after"), [("simple_rnn", True), ("lstm", True), ("gru", True), ("gru", False)]
)
def test_dropout_with_given_masks_matches_keras(cell, reset_after, rates):
    rng, x, initial, weights = problem(cell, reset_after=reset_after)
    # Separate masks per gate as soon as there is recurrent dropout; SimpleRNN has one gate.
    n = naive.N_GATES[cell] if rates[1] and cell != "simple_rnn" else None

    def draw(shape, rate):
        if not rate:
            return None
        masks = [(rng.random(shape) >= rate) / (1 - rate) for _ in range(n or 1)]
        return masks if n else masks[0]

    x_masks, h_masks = draw((B, F), rates[0]), draw((B, H), rates[1])
    extra = {"reset_after": reset_after} if cell == "gru" else {}
    layer = keras_oracle.make_layer(
        cell,
        H,
        weights,
        F,
        "float64",
        dropout=rates[0],
        recurrent_dropout=rates[1],
        return_sequences=True,
        return_state=True,
        **extra,
    )
    keras_oracle.set_dropout_masks(layer, x_masks, h_masks)
    expected = keras_oracle.forward(layer, x, initial_state=initial, training=True)
    y, states = naive.recurrent(
        cell,
        x,
        weights,
        initial_state=initial,
        return_sequences=True,
        x_masks=x_masks,
        h_masks=h_masks,
        **extra,
    )
    assert_same([y, *states], expected)
    plain, _ = naive.recurrent(cell, x, weights, initial_state=initial, return_sequences=True, **extra)
    assert np.abs(plain - y).max() > 1e-3


@pytest.mark.parametrize("with_mask", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize("mode", ["sum", "mul", "concat", "ave", None])
@pytest.mark.parametrize("cell", CELLS)
def test_bidirectional_matches_keras(cell, mode, sequences, with_mask):
    rng, x, initial, forward = problem(cell)
    backward = naive.random_weights(cell, F, H, rng)
    unroll = with_mask and not sequences and keras_oracle.backend() == "jax"
    inner = getattr(keras.layers, keras_oracle.LAYER_NAMES[cell])(
        H, return_sequences=sequences, return_state=True, dtype="float64", unroll=unroll
    )
    layer = keras.layers.Bidirectional(inner, merge_mode=mode, dtype="float64")
    keras_oracle.with_weights(layer, forward + backward, F)
    states = [*initial, *(s[::-1].copy() for s in initial)]
    mask = MASK if with_mask else None
    y, out = naive.bidirectional(
        cell,
        x,
        forward,
        backward,
        merge_mode=mode,
        initial_state=states,
        return_sequences=sequences,
        mask=mask,
    )
    expected = keras_oracle.forward(layer, x, mask=mask, initial_state=states)
    assert_same([*(y if mode is None else [y]), *out], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_calls_match_keras(cell):
    rng, x, initial, weights = problem(cell)
    layer = keras_oracle.make_layer(
        cell, H, weights, F, "float64", n_batch=B, stateful=True, return_state=True
    )
    states = None
    for given in (None, None, initial, None):
        y, states = naive.recurrent(cell, x, weights, initial_state=given or states)
        assert_same([y, *states], keras_oracle.forward(layer, x, initial_state=given))


@pytest.mark.parametrize("name", sorted(naive.LOSSES))
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_matches_keras(name, weighted):
    rng = np.random.default_rng(1)
    p = naive.softmax(rng.normal(size=(4, 3, 5)))
    t = rng.integers(0, 5, (4, 3)) if name.startswith("sparse") else naive.softmax(rng.normal(size=(4, 3, 5)))
    w = rng.random((4, 3)) if weighted else None
    mask = rng.random((4, 3)) < 0.7
    classes = {
        "mse": "MeanSquaredError",
        "mae": "MeanAbsoluteError",
        "huber": "Huber",
        "binary_crossentropy": "BinaryCrossentropy",
        "categorical_crossentropy": "CategoricalCrossentropy",
        "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    }
    loss = getattr(keras.losses, classes[name])(dtype="float64")
    expected = loss(t, keras_oracle.tensor(p), sample_weight=w)
    np.testing.assert_allclose(naive.loss(name, t, p, w), keras_oracle.to_numpy(expected), rtol=1e-12)
    masked = keras_oracle.tensor(p)
    keras.src.backend.set_keras_mask(masked, keras_oracle.tensor(mask))
    expected = loss(t, masked, sample_weight=w)
    np.testing.assert_allclose(naive.loss(name, t, p, w, mask), keras_oracle.to_numpy(expected), rtol=1e-12)


OPTIMIZERS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.5}),
    ("sgd", {"momentum": 0.5, "nesterov": True}),
    ("rmsprop", {}),
    ("rmsprop", {"momentum": 0.25, "centered": True, "epsilon": 2.0**-10}),
    ("adam", {}),
    ("adam", {"amsgrad": True, "beta_2": 0.75}),
    ("adagrad", {}),
]
CLIPS = [{}, {"clipnorm": 0.5}, {"clipvalue": 0.25}, {"global_clipnorm": 0.5}]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_optimizer_matches_keras(name, options, clip):
    rng = np.random.default_rng(2)
    params = [rng.normal(size=(3, 4)), rng.normal(size=(4,))]
    variables = [keras.Variable(p, dtype="float64") for p in params]
    classes = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adagrad": "Adagrad"}
    theirs = getattr(keras.optimizers, classes[name])(learning_rate=0.01, **options, **clip)
    ours = naive.OPTIMIZERS[name](learning_rate=0.01, **options)
    for _ in range(5):
        grads = [rng.normal(size=p.shape) for p in params]
        theirs.apply([keras_oracle.tensor(g) for g in grads], variables)
        params = ours.step(params, naive.clip_gradients(grads, **clip))
    assert_same(params, [keras_oracle.to_numpy(v.value) for v in variables], rtol=1e-10)

"""Layers without a memory: values, gradients, layouts, masks, configurations, bad input."""

import pickle

import numpy as np
import pytest

from fastrnn import layers
from fastrnn.layers.arrays import RowLayout, as_rows

F64 = {"dtype": "float64"}
LAYERS = {
    "dense": (lambda: layers.Dense(3, **F64), (4, 5)),
    "dense-tanh": (lambda: layers.Dense(3, activation="tanh", **F64), (4, 5)),
    "dense-relu": (lambda: layers.Dense(3, activation="relu", **F64), (4, 5)),
    "dense-softmax": (lambda: layers.Dense(3, activation="softmax", **F64), (4, 5)),
    "dense-steps": (lambda: layers.Dense(3, activation="sigmoid", **F64), (4, 6, 5)),
    "dense-no-bias": (lambda: layers.Dense(3, use_bias=False, **F64), (4, 6, 5)),
    "activation": (lambda: layers.Activation("sigmoid", **F64), (4, 6, 5)),
    "activation-softmax": (lambda: layers.Activation("softmax", **F64), (4, 6, 5)),
    "activity": (lambda: layers.ActivityRegularization(l2=0.1, **F64), (4, 5)),
    "flatten": (lambda: layers.Flatten(**F64), (4, 6, 5)),
    "flatten-first": (lambda: layers.Flatten("channels_first", **F64), (4, 6, 5)),
    "repeat": (lambda: layers.RepeatVector(3, **F64), (4, 5)),
    "masking": (lambda: layers.Masking(0.0, **F64), (4, 6, 5)),
    "masking-value": (lambda: layers.Masking(2.0, **F64), (4, 6, 5)),
    "dropout": (lambda: layers.Dropout(0.4, **F64), (4, 6, 5)),
}


def numeric(f, array, step=1e-6):
    grad = np.empty_like(array)
    for i in np.ndindex(*array.shape):
        value = array[i]
        array[i] = value + step
        high = f()
        array[i] = value - step
        low = f()
        array[i] = value
        grad[i] = (high - low) / (2 * step)
    return grad


def time_major(x):
    """The same values, laid out as recurrent layers return them."""
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if x.ndim == 3 else x


@pytest.mark.parametrize("layout", ["batch-major", "time-major"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_gradient_matches_finite_difference(name, layout, rng):
    make, shape = LAYERS[name]
    layer = make()
    layer.ensure_built((None, *shape[1:]))
    for w in layer._weights.values():
        w[...] = rng.normal(size=w.shape)
    x = rng.normal(size=shape)
    if layout == "time-major":
        x = time_major(x)
    layer.set_seed(3)
    y, cache = layer.forward(x, training=True)
    assert y.shape == tuple(layer.compute_output_shape(shape))
    dy = rng.normal(size=y.shape)

    def scalar():
        layer.set_seed(3)
        return float((layer.forward(x, training=True)[0] * dy).sum())

    for g in layer._grads.values():
        g[...] = np.nan  # overwritten, not added to
    dx = layer.backward(dy, cache)
    np.testing.assert_allclose(dx, numeric(scalar, x), atol=1e-7)
    for key, w in layer._weights.items():
        np.testing.assert_allclose(layer._grads[key], numeric(scalar, w), atol=1e-7, err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_by_hand(dtype, rng):
    layer = layers.Dense(2, activation="tanh", dtype=dtype)
    x = rng.normal(size=(3, 4, 5))
    y = layer(x)
    kernel, bias = layer.get_weights()
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.tanh(x @ kernel + bias), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(time_major(x)), y, rtol=1e-5, atol=1e-6)
    assert layer.count_params() == 12


def test_row_layout_reads_without_copy(rng):
    x = rng.normal(size=(3, 4, 5))
    for array in (x, time_major(x)):
        rows, back = as_rows(array)
        assert np.shares_memory(rows, array)
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(back(rows), array)
    layout = RowLayout(time_major(x))
    np.testing.assert_array_equal(layout.rows(x), layout.rows(time_major(x)))


# -- embedding


def embedding(**options):
    layer = layers.Embedding(10, 3, dtype="float64", **options)
    layer.ensure_built((None, None))
    return layer


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float32])
def test_embedding_looks_up_rows(dtype, rng):
    layer = embedding()
    tokens = rng.integers(0, 10, (4, 6))
    np.testing.assert_array_equal(layer(tokens.astype(dtype)), layer.get_weights()[0][tokens])
    assert np.abs(layer.get_weights()[0]).max() <= 0.05


def test_embedding_gradient_and_touched_rows(rng):
    layer = embedding()
    for tokens in (np.array([[1, 2, 2], [7, 1, 2]]), np.array([[0, 9, 0], [3, 3, 3]])):
        _, cache = layer.forward(tokens)
        dy = rng.normal(size=(2, 3, 3))
        assert layer.backward(dy, cache) is None
        expected = np.zeros((10, 3))
        np.add.at(expected, tokens, dy)
        # Rows of the call before are zero again.
        np.testing.assert_allclose(layer._grads["embeddings"], expected)
        np.testing.assert_array_equal(layer.touched_rows(), np.unique(tokens))


def test_embedding_regularizer_reaches_all_rows(rng):
    layer = embedding(embeddings_regularizer="l2")
    w = layer.get_weights()[0]
    for _ in range(2):
        _, cache = layer.forward(np.array([[1, 2]]))
        layer.backward(np.ones((1, 2, 3)), cache)
        layer.add_regularization_gradient()
        expected = 0.02 * w
        expected[[1, 2]] += 1
        np.testing.assert_allclose(layer._grads["embeddings"], expected)
    assert layer.sparse_tables == ()


def test_embedding_mask():
    tokens = np.array([[1, 0, 2]])
    assert embedding().compute_mask(tokens) is None
    np.testing.assert_array_equal(embedding(mask_zero=True).compute_mask(tokens), [[True, False, True]])
    given = np.array([[True, True, False]])
    both = embedding(mask_zero=True).compute_mask(tokens, given)
    np.testing.assert_array_equal(both, [[True, False, False]])


def test_embedding_given_weights():
    table = np.arange(30.0).reshape(10, 3)
    for given in (table, [table]):
        np.testing.assert_array_equal(layers.Embedding(10, 3, weights=given)([[2]]), table[[[2]]])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 10]], r"token 10 is out of range, input_dim=10 takes tokens from 0 to 9"),
        ([[-1, 0]], r"token -1 is out of range"),
        ([[0.5, 1.0]], "fractions"),
        ([["a", "b"]], "integer tokens"),
    ],
)
def test_embedding_bad_tokens(tokens, message):
    with pytest.raises((ValueError, TypeError), match=message):
        embedding()(np.array(tokens))


# -- masking, dropout, input


def test_masking(rng):
    x = rng.normal(size=(2, 3, 2))
    x[0, 1] = x[1, 2] = 5.0
    x[1, 0, 0] = 5.0
    layer = layers.Masking(5.0, dtype="float64")
    mask = layer.compute_mask(x)
    np.testing.assert_array_equal(mask, [[True, False, True], [True, True, False]])
    np.testing.assert_array_equal(layer(x), x * mask[..., None])


def test_flatten_ends_the_mask():
    with pytest.warns(UserWarning, match="get no mask"):
        assert layers.Flatten().compute_mask(np.ones((2, 3, 1)), np.ones((2, 3), bool)) is None


def test_dropout_keeps_the_mean(rng):
    layer = layers.Dropout(0.25, seed=1)
    x = np.ones((100, 50, 4), np.float32)
    y = layer(x, training=True)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(layer(x), x)
    per_feature = layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)(x, training=True)
    assert (per_feature == per_feature[:, :1]).all()
    assert not layers.Dropout(1.0)(x, training=True).any()


def test_dropout_same_numbers_whatever_the_layout(rng):
    """Same seed, same layout: same result; and the layout of the input is kept."""
    x = time_major(rng.normal(size=(3, 4, 2)))
    a, b = (layers.Dropout(0.5, seed=7, dtype="float64")(x, training=True) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.swapaxes(0, 1).flags.c_contiguous


def test_input_states_shapes():
    assert layers.Input((None, 3)).batch_shape == (None, None, 3)
    assert layers.Input(batch_shape=(4, 5)).batch_shape == (4, 5)
    with pytest.raises(ValueError, match="Input needs shape"):
        layers.Input()
    with pytest.raises(NotImplementedError, match="sparse=True"):
        layers.Input((3,), sparse=True)


# -- configuration and bad arguments

CONFIGURED = [
    layers.Dense(3, activation="tanh", kernel_regularizer="l2", bias_constraint="non_neg", name="d"),
    layers.Dense(3, kernel_initializer="he_normal", use_bias=False, dtype="float64", trainable=False),
    layers.Embedding(7, 2, mask_zero=True, embeddings_initializer="ones"),
    layers.Dropout(0.3, noise_shape=(None, 1, 4), seed=2),
    layers.Activation("relu"),
    layers.ActivityRegularization(l1=0.2),
    layers.Flatten(),
    layers.RepeatVector(4),
    layers.Masking(-1.0),
    layers.Input((None, 4), batch_size=3),
]


@pytest.mark.parametrize("layer", CONFIGURED, ids=lambda layer: layer.name)
def test_config_round_trip(layer):
    import json

    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)


def test_pickle_keeps_weights(rng):
    layer = layers.Dense(3, activation="tanh")
    x = rng.normal(size=(2, 4))
    y = layer(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), y)


def test_weights_in_and_out(rng):
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="has no weights yet"):
        layer.set_weights([])
    layer.build((None, 3))
    version = layer.weights_version
    layer.set_weights([np.ones((3, 2)), np.zeros(2)])
    assert layer.weights_version > version
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[3, 3]])
    with pytest.raises(ValueError, match=r"takes weights of shapes \[\(3, 2\), \(2,\)\], got"):
        layer.set_weights([np.ones((2, 3)), np.zeros(2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(0), "units=0: give a positive integer"),
        (lambda: layers.Dense(2.5), "units=2.5"),
        (lambda: layers.Dense(3, unit=2), r"Dense\(\) got an unknown argument 'unit': did you mean 'units'"),
        (lambda: layers.Dense(3, activation="tahn"), "activation='tahn'.*did you mean 'tanh'"),
        (lambda: layers.Dense(3, dtype="int8"), "dtype='int8': give 'float32' or 'float64'"),
        (lambda: layers.Dense(3, kernel_initializer="x"), "kernel_initializer='x'"),
        (lambda: layers.Dense(3, kernel_regularizer="x"), "kernel_regularizer='x'"),
        (lambda: layers.Dense(3, bias_constraint="x"), "bias_constraint='x'"),
        (lambda: layers.Dense(3, lora_rank=2), "lora_rank=2 is not supported"),
        (lambda: layers.Embedding(-1, 3), "input_dim=-1"),
        (lambda: layers.Embedding(3, True), "output_dim=True"),
        (lambda: layers.Dropout(1.5), "rate=1.5: give a number from 0 to 1"),
        (lambda: layers.Dropout(0.5, noise_shape="a"), "noise_shape='a'"),
        (lambda: layers.RepeatVector(0), "n=0"),
        (lambda: layers.Flatten("first"), "data_format='first'"),
        (lambda: layers.RepeatVector(2)(np.ones((2, 3, 4))), "takes inputs with 2 axes"),
        (lambda: layers.Masking()(np.ones((2, 3))), "takes inputs with 3 axes"),
        (lambda: layers.get_class("Lstm"), "class_name='Lstm' is not a layer: did you mean 'LSTM'"),
        (
            lambda: layers.Masking()(np.ones((2, 3, 1)), mask=np.ones((2, 3))),
            "mask has dtype float64: give booleans",
        ),
        (
            lambda: layers.Masking()(np.ones((2, 3, 1)), mask=np.ones((2, 4), bool)),
            r"mask has shape \(2, 4\): the input needs \(2, 3\)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        make()


def test_other_feature_count_after_building(rng):
    layer = layers.Dense(2)
    layer(np.ones((2, 3)))
    with pytest.raises(ValueError, match="was built for 3 features, got 4"):
        layer(np.ones((2, 4)))


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ["Dense", "Embedding", "Dropout", "Masking", "RepeatVector", "Flatten", "Activation"]
)
def test_arguments_are_those_of_keras(name):
    import inspect

    from tests import keras_oracle

    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    theirs = inspect.signature(getattr(keras.layers, name).__init__).parameters
    mine = inspect.signature(getattr(layers, name).__init__).parameters
    assert list(mine) == list(theirs)
    for key, parameter in theirs.items():
        assert mine[key].default == parameter.default, key


class Doubled(layers.Layer):
    """A user's own layer without a configuration."""

    def forward(self, x, mask=None, training=False):
        return 2 * x, None

    def backward(self, dy, cache, need_dx=True):
        return 2 * dy


PLAIN = {
    "stateful": False,
    "return_sequences": None,
    "return_state": False,
    "go_backwards": False,
    "n_threads": None,
    "has_states": False,
    "reads_both_ways": False,
    "merge_mode": "",
    "mask_zero": False,
    "noise_shape": None,
    "sparse_tables": (),
    "mask_value": None,
    "state_size": None,
}
DECLARED = {
    "own": (lambda: Doubled(), {}),
    "dense": (lambda: layers.Dense(2), {}),
    "masking": (lambda: layers.Masking(3), {"mask_value": 3}),
    "dropout": (lambda: layers.Dropout(0.5, (None, 1, 2)), {"noise_shape": (None, 1, 2)}),
    "embedding": (
        lambda: layers.Embedding(3, 2, mask_zero=True),
        {"mask_zero": True, "sparse_tables": ("embeddings",)},
    ),
    "lstm": (
        lambda: layers.LSTM(2, stateful=True),
        {"has_states": True, "return_sequences": False, "stateful": True, "state_size": [2, 2]},
    ),
    "rnn": (
        lambda: layers.RNN(layers.GRUCell(2), return_sequences=True),
        {"has_states": True, "return_sequences": True, "state_size": 2},
    ),
    "bidirectional": (
        lambda: layers.Bidirectional(layers.GRU(2), None),
        {"has_states": True, "return_sequences": False, "reads_both_ways": True, "merge_mode": None},
    ),
    "time-distributed": (lambda: layers.TimeDistributed(layers.Dense(2)), {}),
}


@pytest.mark.parametrize("name", DECLARED)
def test_layer_says_what_it_is(name):
    make, own = DECLARED[name]
    layer = make()
    assert {key: getattr(layer, key) for key in PLAIN} == {**PLAIN, **own}
    layer.reset_state()
    inner = {"lstm": 1, "rnn": 1, "bidirectional": 2, "time-distributed": 1}.get(name, 0)
    assert len(layer.inner_layers()) == inner
    assert all(isinstance(child, layers.Layer) for child in layer.inner_layers())


@pytest.mark.parametrize(
    ("make", "by_step", "in_pieces"),
    [
        (lambda: Doubled(), "", ""),
        (lambda: layers.Dense(2), "", ""),
        (lambda: layers.GRU(2), "", "gives one output for a sequence"),
        (lambda: layers.GRU(2, return_sequences=True), "", ""),
        (lambda: layers.GRU(2, return_sequences=True, return_state=True), "", "passes its last states"),
        (lambda: layers.GRU(2, go_backwards=True), "reads backwards", "has go_backwards=True"),
        (lambda: layers.Bidirectional(layers.GRU(2)), "reads backwards", "also reads backwards"),
        (lambda: layers.Masking(), "masks steps", ""),
        (lambda: layers.Dropout(0.5, (None, 4, 1)), "", "has noise_shape"),
        (lambda: layers.Flatten(), "does not keep", "does not keep the time axis"),
    ],
)
def test_layer_says_why_it_can_not_be_cut(make, by_step, in_pieces):
    layer = make()
    layer.ensure_built((None, None, 5)) if not isinstance(layer, layers.Dropout) else None
    for reason, expected in (
        (layer.why_not_by_step(), by_step),
        (layer.why_not_in_pieces((None, 9, 5)), in_pieces),
    ):
        assert reason.startswith(expected)
        assert bool(reason) is bool(expected)

"""TimeDistributed, and what a model sees of layers inside layers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastrnn import Sequential, layers
from tests.layer_cases import assert_all_close, finite_difference, gradients, run


def time_major(x):
    return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


@pytest.mark.parametrize("arrange", [np.ascontiguousarray, time_major], ids=["batch_major", "time_major"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(4, activation="tanh", dtype="float64"), (3, 5, 2)),
        (lambda: layers.Flatten(dtype="float64"), (3, 5, 2, 4)),
        (lambda: layers.LSTM(4, dtype="float64"), (3, 5, 6, 2)),
        (lambda: layers.Bidirectional(layers.GRU(2, dtype="float64")), (3, 5, 6, 2)),
        (lambda: layers.TimeDistributed(layers.Dense(3, dtype="float64")), (2, 3, 4, 5)),
    ],
    ids=["dense", "flatten", "lstm", "bidirectional", "nested"],
)
def test_time_distributed_is_the_layer_at_each_step(make, shape, arrange, rng):
    x = arrange(rng.normal(size=shape))
    layer = layers.TimeDistributed(make())
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *layer(x).shape[1:])
    expected = np.stack([layer.layer(np.ascontiguousarray(x[:, t])) for t in range(shape[1])], axis=1)
    (y,), cache = run(layer, x, training=True)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    d = arrange(rng.normal(size=y.shape))
    dx, grads = gradients(layer, [d], cache)

    def value():
        layer.weights_changed()
        return (run(layer, x)[0][0] * d).sum()

    copy = np.array(x)

    def value_of_copy():
        return (run(layer, arrange(copy))[0][0] * d).sum()

    assert_all_close(
        [dx, *grads],
        [
            finite_difference(value_of_copy, copy),
            *(finite_difference(value, w) for w in layer._weights.values()),
        ],
        rtol=1e-7,
        atol=1e-8,
    )


def test_time_distributed_in_a_model_equals_dense(rng):
    x, y = rng.normal(size=(16, 5, 3)), rng.integers(0, 4, (16, 5))
    models = []
    for wrap in (layers.TimeDistributed, lambda layer: layer):
        dense = layers.Dense(4, activation="softmax", kernel_regularizer="l2")
        model = Sequential([layers.GRU(6, return_sequences=True), wrap(dense)], seed=1)
        model.compile("adam", "sparse_categorical_crossentropy")
        model.build((None, None, 3))
        if models:
            model.set_weights(models[0][1])
        models.append((model, model.get_weights()))
    fitted = [model.fit(x, y, epochs=3, verbose=0, shuffle=False).history["loss"] for model, _ in models]
    np.testing.assert_allclose(fitted[0], fitted[1], rtol=1e-6)
    np.testing.assert_allclose(models[0][0].params, models[1][0].params, rtol=1e-5, atol=1e-6)


def test_time_distributed_embedding_takes_tokens(rng):
    tokens = rng.integers(0, 10, (3, 4, 5))
    layer = layers.TimeDistributed(layers.Embedding(10, 2))
    assert layer(tokens).shape == (3, 4, 5, 2)


def test_activity_penalty_is_per_sample(rng):
    x, y = rng.normal(size=(4, 5, 3)), rng.normal(size=(4, 5, 2))
    results = []
    for inner in (True, False):
        penalty = {"activity_regularizer": "l2"}
        layer = layers.TimeDistributed(
            layers.Dense(2, dtype="float64", **(penalty if inner else {})), **({} if inner else penalty)
        )
        model = Sequential([layer], seed=0)
        model.compile("sgd", "mse")
        results.append([model.compute_gradients(x, y), *model.grads])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


def test_config_pickle_and_threads(rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    layer = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(3), merge_mode="sum"), name="each")
    y = layer(x)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), y)
    again = layers.deserialize({"class_name": "TimeDistributed", "config": layer.get_config()})
    assert again.get_config() == layer.get_config()
    assert [w.shape for w in layer.get_weights()] == [w.shape for w in layer.layer.get_weights()]
    layer.n_threads = 1
    assert layer.layer.forward_layer.n_threads == 1
    again.build((None, 3, 4, 5))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), y)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("dense", "layer='dense': TimeDistributed needs a layer"),
        (layers.LSTM(3, return_state=True), "return_state and stateful have no meaning"),
    ],
)
def test_errors_name_the_argument(layer, message):
    with pytest.raises(ValueError, match=message):
        layers.TimeDistributed(layer)


def test_error_of_shape():
    with pytest.raises(ValueError, match=r"at least 3 axes, got shape \(None, 3\)"):
        layers.TimeDistributed(layers.Dense(2))(np.zeros((2, 3)))

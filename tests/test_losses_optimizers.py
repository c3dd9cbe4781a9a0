"""Losses and optimizers against the naive oracle; their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers, losses, optimizers
from tests import naive
from tests.layer_cases import assert_all_close, finite_difference

LOSSES = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "huber": "Huber",
    "binary_crossentropy": "BinaryCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}
LINKS = {"binary_crossentropy": naive.sigmoid}


def problem(name, rng, shape=(4, 3, 5)):
    logits = rng.normal(size=shape)
    if name.startswith("sparse"):
        target = rng.integers(0, shape[-1], shape[:-1])
    elif name == "categorical_crossentropy":
        target = naive.softmax(rng.normal(size=shape))
    else:
        target = rng.random(shape)
    return target, logits, LINKS.get(name, naive.softmax)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("weights", [None, "sample", "step"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_match_naive(name, weights, masked, rng):
    target, logits, link = problem(name, rng)
    weight = {None: None, "sample": rng.random(4), "step": rng.random((4, 3))}[weights]
    mask = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]], bool) if masked else None
    loss = getattr(losses, LOSSES[name])()
    predicted = link(logits)
    value, grad = loss.value_and_grad(target, predicted, weight, mask)
    np.testing.assert_allclose(value, naive.loss(name, target, predicted, weight, mask), rtol=1e-12)
    np.testing.assert_allclose(loss(target, predicted, weight, mask), value, rtol=1e-14)
    expected = finite_difference(lambda: naive.loss(name, target, predicted, weight, mask), predicted)
    np.testing.assert_allclose(grad, expected, rtol=1e-7, atol=1e-10)
    if "crossentropy" in name:
        value, grad = loss.value_and_grad(target, predicted, weight, mask, logits=logits)
        np.testing.assert_allclose(value, naive.loss(name, target, predicted, weight, mask), rtol=1e-12)
        expected = finite_difference(lambda: naive.loss(name, target, link(logits), weight, mask), logits)
        np.testing.assert_allclose(grad, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in LOSSES if "crossentropy" in n])
def test_crossentropy_of_extreme_logits_is_exact(name, rng):
    """A confident mistake costs its logit and keeps its gradient, where probabilities would be cut off."""
    logits = np.array([[500.0, -500.0]], np.float32)
    loss = getattr(losses, LOSSES[name])()
    if name == "binary_crossentropy":
        target, cost, slope = np.array([[0.0, 1.0]]), 500.0, [[0.5, -0.5]]
    else:
        target = np.array([1]) if name.startswith("sparse") else np.array([[0.0, 1.0]])
        cost, slope = 1000.0, [[1.0, -1.0]]
    predicted = np.array([[1.0, 0.0]], np.float32)
    value, grad = loss.value_and_grad(target, predicted, logits=logits)
    np.testing.assert_allclose(value, cost)
    np.testing.assert_allclose(grad, slope)


OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.5, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"rho": 0.7, "momentum": 0.3}),
    ("RMSprop", {"centered": True, "epsilon": 1e-4}),
    ("Adam", {}),
    ("Adam", {"beta_1": 0.5, "beta_2": 0.7, "amsgrad": True}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5}),
]
CLIPS = [{}, {"clipnorm": 0.02}, {"clipvalue": 0.003}, {"global_clipnorm": 0.02}]


def dense_gradients(weights, x, target):
    """Of the mean squared error of one linear layer."""
    error = x @ weights[0] + weights[1] - target
    return [2 * x.T @ error / error.size, 2 * error.sum(axis=0) / error.size]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_update_matches_naive(name, options, clip, rng):
    x, target = rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    model = Sequential([layers.Dense(3, dtype="float64")])
    model.build((None, 4))
    weights = [rng.normal(size=(4, 3)), rng.normal(size=3)]
    model.set_weights(weights)
    model.compile(getattr(optimizers, name)(learning_rate=0.05, **options, **clip), "mse")
    oracle = naive.OPTIMIZERS[name.lower()](learning_rate=0.05, **options)
    for _ in range(6):
        model.train_on_batch(x, target)
        grads = naive.clip_gradients(dense_gradients(weights, x, target), **clip)
        weights = oracle.step(weights, grads)
    assert_all_close(model.get_weights(), weights, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_embedding_update_is_that_of_the_whole_table(name, options, clip, rng):
    """Rows that a batch does not touch move too where momentum carries them on; decayed averages catch up."""
    table, dense = rng.normal(size=(9, 2)), [rng.normal(size=(6, 1)), rng.normal(size=1)]
    model = Sequential(
        [
            layers.Embedding(9, 2, dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.Dense(1, dtype="float64"),
        ]
    )
    model.build((None, 3))
    model.set_weights([table, *dense])
    model.compile(getattr(optimizers, name)(learning_rate=0.05, **options, **clip), "mse")
    oracle = naive.OPTIMIZERS[name.lower()](learning_rate=0.05, **options)
    weights = [table, *dense]
    for _ in range(8):
        tokens = rng.integers(0, 9, (2, 3))
        target = rng.normal(size=(2, 1))
        model.train_on_batch(tokens, target)
        x = weights[0][tokens].reshape(2, 6)
        d_dense = dense_gradients(weights[1:], x, target)
        error = x @ weights[1] + weights[2] - target
        d_rows = (2 * error @ weights[1].T / error.size).reshape(2, 3, 2)
        d_table = np.zeros_like(weights[0])
        np.add.at(d_table, tokens, d_rows)
        weights = oracle.step(weights, naive.clip_gradients([d_table, *d_dense], **clip))
    assert_all_close(model.get_weights(), weights, rtol=1e-10, atol=1e-12)


def test_batch_losses_are_those_of_the_batch(rng):
    """As in Keras 3.15, each call starts its means anew."""
    model = Sequential([layers.Dense(1, dtype="float64")])
    model.compile("sgd", "mse")
    x, target = rng.normal(size=(6, 4)), rng.normal(size=(6, 1))
    for _ in range(3):
        expected = naive.loss("mse", target, model.predict_on_batch(x))
        np.testing.assert_allclose(model.test_on_batch(x, target), expected, rtol=1e-12)
        np.testing.assert_allclose(model.train_on_batch(x, target), expected, rtol=1e-12)

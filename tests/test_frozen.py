"""Frozen weights stay as they are, to the last bit, wherever in a model they are and whatever the optimizer does."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, constraints, layers, optimizers

PENALISED = {"kernel_regularizer": "l2", "kernel_constraint": constraints.MaxNorm(0.3)}


def half_frozen_bidirectional():
    backward = layers.LSTM(3, go_backwards=True, return_sequences=True, trainable=False, **PENALISED)
    return layers.Bidirectional(layers.LSTM(3, return_sequences=True), backward_layer=backward)


def stack(frozen):
    cells = [layers.LSTMCell(3, **PENALISED), layers.GRUCell(4), layers.DropoutWrapper(layers.GRUCell(3))]
    for k in frozen:
        cells[k].trainable = False
    return layers.RNN(cells, return_sequences=True)


#: Wrappers, and which of their weights are frozen.
WRAPPERS = {
    "bidirectional": (half_frozen_bidirectional, [False] * 3 + [True] * 3),
    "stack-first": (lambda: stack([0]), [True] * 3 + [False] * 6),
    "stack-last": (lambda: stack([2]), [False] * 6 + [True] * 3),
    "rnn": (lambda: layers.RNN(layers.GRUCell(3, trainable=False), return_sequences=True), [True] * 3),
    "time-distributed": (
        lambda: layers.TimeDistributed(layers.Dense(3, trainable=False, **PENALISED)),
        [True] * 2,
    ),
    "nested": (
        lambda: layers.Bidirectional(stack([1])),
        ([False] * 3 + [True] * 3 + [False] * 3) * 2,
    ),
    "whole": (
        lambda: layers.Bidirectional(layers.GRU(3, return_sequences=True), trainable=False),
        [True] * 6,
    ),
}
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
    "rmsprop": lambda: optimizers.RMSprop(weight_decay=0.1, momentum=0.5),
    "adam": lambda: optimizers.Adam(0.01, weight_decay=0.1, global_clipnorm=0.1),
    "adagrad": lambda: optimizers.Adagrad(0.1, weight_decay=0.1, clipnorm=0.1),
}


def network(wrapper, optimizer="sgd"):
    model = Sequential(
        [layers.GRU(2, return_sequences=True), wrapper, layers.Flatten(), layers.Dense(1)], seed=0
    )
    model.compile(optimizer, "mse")
    model.build((None, 5, 2))
    return model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", WRAPPERS)
def test_frozen_child_is_untouched(kind, optimizer, rng):
    make, frozen = WRAPPERS[kind]
    model = network(make(), OPTIMIZERS[optimizer]())
    wrapper = model.layers[1]
    before = wrapper.get_weights()
    model.fit(rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 1)), batch_size=4, epochs=2, verbose=0)
    assert [np.array_equal(a, b) for a, b in zip(before, wrapper.get_weights(), strict=True)] == frozen
    trained = sum(w.size for w, f in zip(before, frozen, strict=True) if not f)
    rest = sum(model.layers[k].count_params() for k in (0, 3))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert f" Trainable params: {trained + rest:,} " in lines[0]
    assert f" Non-trainable params: {wrapper.count_params() - trained:,} " in lines[0]


def test_frozen_child_stays_out_of_the_clipped_norm(rng):
    """The other weights get the step that they get where the frozen part has no weights at all."""
    x, y = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 1))
    frozen = layers.Dense(2, trainable=False, use_bias=False, kernel_initializer="identity")
    models = [
        network(layers.TimeDistributed(frozen)),
        network(layers.TimeDistributed(layers.Activation("linear"))),
    ]
    weights = models[1].get_weights()
    for model in models:
        model.compile(optimizers.SGD(0.1, global_clipnorm=1e-3), "mse")
        model.layers[0].set_weights(weights[:3])
        model.layers[3].set_weights(weights[3:])
        model.train_on_batch(x, y)
    for k in (0, 3):
        for a, b in zip(models[0].layers[k].get_weights(), models[1].layers[k].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("wrapped", [False, True])
def test_penalty_of_frozen_weights_does_not_count(wrapped, rng):
    dense = layers.Dense(3, kernel_regularizer="l2", trainable=False)
    model = network(layers.TimeDistributed(dense) if wrapped else dense)
    x, y = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 1))
    error = float(np.mean((model.predict(x) - y) ** 2))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(error, rel=1e-6)
    dense.trainable = True
    model.plan_updates()
    assert model.evaluate(x, y, verbose=0) > error + 1e-4


def test_a_child_can_be_thawed(rng):
    x, y = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 1))
    model = network(half_frozen_bidirectional())
    wrapper = model.layers[1]
    wrapper.trainable = True
    model.compile("sgd", "mse")
    before = wrapper.get_weights()
    model.fit(x, y, verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before, wrapper.get_weights(), strict=True))
    wrapper.trainable = False
    wrapper.forward_layer.trainable = True  # the wrapper's `trainable` applies to all its children
    model.compile("sgd", "mse")
    before = wrapper.get_weights()
    model.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, wrapper.get_weights(), strict=True))


def test_layer_frozen_without_compiling_again_stays(rng):
    """Also layers inside others, unfreezing, and freezing between the batches of one fit."""
    x, y = rng.normal(size=(8, 5, 3)), rng.normal(size=(8, 1))
    inner = layers.GRU(4, return_sequences=True)
    model = Sequential([layers.Bidirectional(inner), layers.LSTM(4), layers.Dense(1)], seed=0)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)

    def moved():
        before = [layer.get_weights() for layer in model.layers]
        model.train_on_batch(x, y)
        after = [layer.get_weights() for layer in model.layers]
        return [
            any(not np.array_equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]

    assert moved() == [True, True, True]
    model.layers[1].trainable = False
    assert moved() == [True, False, True]
    model.layers[0].forward_layer.trainable = False
    model.layers[0].backward_layer.trainable = False
    assert moved() == [False, False, True]
    model.layers[1].trainable = True
    assert moved() == [False, True, True]
    model.trainable = False
    assert moved() == [False, False, False]


def test_embedding_that_was_frozen_for_a_while_goes_on_where_it_stood():
    """Rows that catch up on updates must not count those that were made while the table was frozen."""
    x, other, y = np.array([[1, 2, 3]]), np.array([[4, 5, 6]]), np.ones((1, 1))

    def trained(**options):
        embedding = layers.Embedding(10, 3, dtype="float64")
        stack = [embedding, layers.GRU(2, dtype="float64"), layers.Dense(1, dtype="float64")]
        model = Sequential(stack, seed=0)
        model.compile(optimizers.RMSprop(0.05, **options), "mse")
        for trainable, batches in ((True, [x] * 3), (False, [x] * 5), (True, [other, x])):
            embedding.trainable = trainable
            for batch in batches:
                model.train_on_batch(batch, y)
        return embedding.get_weights()[0], model.optimizer.updates_rows

    # A decay too small to change a number makes the optimizer update all rows at each step.
    (rows, lazy), (whole, not_lazy) = trained(), trained(weight_decay=1e-300)
    assert (lazy, not_lazy) == (True, False)
    np.testing.assert_allclose(rows, whole, rtol=0, atol=1e-12)

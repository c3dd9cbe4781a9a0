"""Training passes whose arguments are kept between steps: the numbers are bitwise those of passes that find all anew."""

import pickle

import numpy as np
import pytest

from fastrnn import NonFiniteLossError, Sequential, layers, losses
from fastrnn.engine.recurrence.training_pass import TrainingPass
from fastrnn.metrics import Metric


def network(*made, loss="mse", optimizer="adam", n_inputs=3):
    model = Sequential(list(made), seed=5)
    model.build((None, None, n_inputs))
    model.compile(optimizer, loss)
    return model


def stack(**options):
    return network(
        layers.LSTM(4, return_sequences=True, **options),
        layers.GRU(5, **options),
        layers.Dense(2, **options),
    )


CASES = {
    "lstm": lambda: network(layers.LSTM(6, return_sequences=True), optimizer="sgd"),
    "gru": lambda: network(layers.GRU(5), layers.Dense(2)),
    "gru-one-bias": lambda: network(layers.GRU(5, reset_after=False), layers.Dense(2)),
    "no-bias": lambda: network(layers.LSTM(5, use_bias=False), layers.Dense(2, use_bias=False)),
    "simple_rnn": lambda: network(
        layers.SimpleRNN(17, go_backwards=True), layers.Dense(2), optimizer="rmsprop"
    ),
    "peephole": lambda: network(layers.PeepholeLSTM(5), layers.Dense(2)),
    "indrnn": lambda: network(layers.IndRNN(5), layers.Dense(2)),
    "janet": lambda: network(layers.JANET(5, return_sequences=True), layers.Dense(2, activation="tanh")),
    "stack": stack,
    "stack-float64": lambda: stack(dtype="float64"),
    "bidirectional": lambda: network(
        layers.Bidirectional(layers.GRU(4, return_sequences=True)), layers.Dense(2)
    ),
    "stacked-cells": lambda: network(layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]), layers.Dense(2)),
    "stateful": lambda: network(layers.LSTM(4, stateful=True), layers.Dense(2)),
    "unrolled": lambda: network(layers.LSTM(4, unroll=True), layers.Dense(2)),
    "penalties": lambda: network(
        layers.GRU(4, kernel_regularizer="l2", recurrent_constraint="non_neg", activity_regularizer="l1"),
        layers.Dense(2),
    ),
    "one-thread": lambda: one_thread(stack()),
    "softmax": lambda: network(
        layers.GRU(4), layers.Dense(3, activation="softmax"), loss="categorical_crossentropy"
    ),
}


def one_thread(model):
    for layer in model.layers:
        layer.n_threads = 1
    return model


def batch(model, rng, n=4, steps=7):
    x = rng.normal(size=(n, steps, 3)).astype(model.layers[0].dtype)
    shape = model.predict_on_batch(x[:, :1]).shape if not model.layers[0].stateful else (n, 2)
    y = rng.random(size=(*shape[:1], *((steps,) if len(shape) == 3 else ()), shape[-1]))
    return x, y.astype(x.dtype)


def both(make, act, monkeypatch):
    """The results of `act` for a model with kept arguments, and for one without; and how often they were used."""
    used, forward = [], TrainingPass.forward
    monkeypatch.setattr(TrainingPass, "forward", lambda *a: (used.append(0), forward(*a))[1])
    kept = act(make())
    n = len(used)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingPass, "suits", staticmethod(lambda *a: False))
        anew = act(make())
    assert len(used) == n
    return kept, anew, n


def assert_equal(kept, anew):
    assert len(kept) == len(anew)
    for a, b in zip(kept, anew, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_prepared_passes_have_bitwise_the_same_numbers(name, monkeypatch):
    def act(model):
        rng, found = np.random.default_rng(0), []
        for n, steps in ((4, 7), (4, 7), (1, 7), (4, 2), (4, 7)):
            if model.layers[0].stateful:
                n = 4
            x, y = batch(model, rng, n, steps)
            found += [model.train_on_batch(x, y), model.params.copy(), model.grads.copy()]
        return found

    kept, anew, n = both(CASES[name], act, monkeypatch)
    assert n >= 5
    assert_equal(kept, anew)


def test_prepared_passes_follow_what_changes_between_steps(monkeypatch):
    def dropout(model):
        model.layers[1].cell.dropout = 0.4
        model.layers[1].set_seed(3)

    def no_dropout(model):
        model.layers[1].cell.dropout = 0.0

    def freeze(model):
        model.layers[0].trainable = False

    def thaw(model):
        model.layers[0].trainable = True

    def weights(model):
        model.layers[0].set_weights([w * 0.5 for w in model.layers[0].get_weights()])

    def share(model):
        # Another model takes the layer's weights into its own vector, and then this one takes them back.
        other = network(model.layers[0], optimizer="sgd")
        other.train_on_batch(np.ones((2, 3, 3), "f4"), np.ones((2, 3, 4), "f4"))

    def backwards(model):
        model.layers[1].go_backwards = not model.layers[1].go_backwards

    def threads(model):
        model.layers[0].n_threads = 1

    def compiled(model):
        model.compile("sgd", "mae")

    def transposed(model):
        x = np.ones((7, 4, 3), "f4").transpose(1, 0, 2)
        model.train_on_batch(x, np.ones((4, 2), "f4"))
        model.train_on_batch(np.ones((4, 14, 3), "f4")[:, ::2], np.ones((4, 2), "f4"))

    def penalty(model):
        model.layers[1].activity_regularizer = layers.GRU(2, activity_regularizer="l2").activity_regularizer

    def act(model):
        rng, found = np.random.default_rng(0), []
        for change in (
            weights, dropout, no_dropout, freeze, thaw, share, backwards, threads, penalty, transposed, compiled,
        ):  # fmt: skip
            change(model)
            for _ in range(2):
                found += [model.train_on_batch(*batch(model, rng)), model.params.copy()]
        return found

    kept, anew, n = both(stack, act, monkeypatch)
    assert n > 30
    assert_equal(kept, anew)
    assert len({float(p.sum()) for p in kept[1::2]}) == len(kept) // 2  # each step changed the weights


def test_outputs_of_a_step_stay_as_they_are():
    outputs = []

    class Keeps(Metric):
        def reset_state(self):
            pass

        def update_state(self, y_true, y_pred, sample_weight=None):
            outputs.append((y_pred, np.array(y_pred)))

        def result(self):
            return 0.0

    model = network(layers.LSTM(4, return_sequences=True))
    model.compile("sgd", "mse", metrics=[Keeps("keeps")])
    x = np.random.default_rng(0).normal(size=(16, 5, 3)).astype("f4")
    model.fit(x, np.ones((16, 5, 4), "f4"), batch_size=4, verbose=0)
    assert len(outputs) == 4
    for later, then in outputs:
        np.testing.assert_array_equal(later, then)


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError, NonFiniteLossError])
def test_steps_after_a_failed_one_are_as_if_it_had_not_been(error, monkeypatch):
    class Fails(losses.MeanSquaredError):
        fails = False

        def values(self, y_true, y_pred):
            if self.fails and error is not NonFiniteLossError:
                raise error("in the middle of a step")
            return super().values(y_true, y_pred) * (np.inf if self.fails else 1)

    def act(model, fail=True):
        rng, found = np.random.default_rng(0), []
        loss = Fails()
        model.compile("adam", loss)
        x, y = batch(model, rng)
        for i in range(4):
            loss.fails = fail and i == 2
            if loss.fails:
                before = model.params.copy()
                with pytest.raises(error):
                    model.train_on_batch(x, y)
                np.testing.assert_array_equal(model.params, before)
            loss.fails = False
            found += [model.train_on_batch(x, y), model.params.copy()]
        return found

    kept, anew, _ = both(stack, act, monkeypatch)
    assert_equal(kept, anew)
    assert_equal(kept, act(stack(), fail=False))


def test_copies_and_pickles_train_on_alike():
    model = stack()
    x, y = batch(model, np.random.default_rng(0))
    model.train_on_batch(x, y)
    copies = [model.copy(), pickle.loads(pickle.dumps(model))]
    expected = [model.train_on_batch(x, y) for _ in range(3)]
    for copy in copies:
        assert [copy.train_on_batch(x, y) for _ in range(3)] == expected
        np.testing.assert_array_equal(copy.params, model.params)


def test_cells_forget_shapes_if_there_are_many():
    model = network(layers.LSTM(2), layers.Dense(2))
    for steps in range(1, 80):
        model.train_on_batch(np.ones((2, steps, 3), "f4"), np.ones((2, 2), "f4"))
    assert len(model.layers[0].cell._training) <= 32

"""Training steps that are prepared, alone and a whole epoch at a time: they compute what the usual steps compute."""

import warnings

import numpy as np
import pytest

from fastrnn import (
    NonFiniteLossError,
    RNNClassifier,
    RNNRegressor,
    Sequential,
    callbacks,
    layers,
    set_random_seed,
)
from fastrnn.engine import tuning
from fastrnn.engine.runtime.jit import PLAIN
from fastrnn.optimizers import Adam
from fastrnn.schedules import ExponentialDecay
from fastrnn.training import prepared
from fastrnn.training.prepared_epoch import PreparedEpochs
from fastrnn.training.step import Trainer

pytestmark = pytest.mark.skipif(PLAIN, reason="steps are prepared on the private path only")


@pytest.fixture
def used(monkeypatch):
    """What was prepared: "epoch" for each epoch, "step" for each step by itself. Any fit is large enough to prepare it."""
    monkeypatch.setattr(tuning, "MIN_PREPARED_BATCHES", 1)
    found = []
    run, step = PreparedEpochs.run, Trainer._prepared_update

    def noted_run(self, *args):
        done = run(self, *args)
        found.extend(["epoch"] * done)
        return done

    monkeypatch.setattr(PreparedEpochs, "run", noted_run)
    monkeypatch.setattr(Trainer, "_prepared_update", lambda *a: (found.append("step"), step(*a))[1])
    return found


def unprepared(monkeypatch):
    monkeypatch.setattr(tuning, "MIN_PREPARED_BATCHES", 10**9)


def data(rng, n=30, n_outputs=1):
    x = rng.normal(size=(n, 6, 2)).astype(np.float32)
    return x, np.stack([x[:, -1, 0] - k * x[:, 0, 1] for k in range(n_outputs)], axis=1)


def network(kind="mse", *, units=4, cell=layers.GRU, dtype="float32", n_outputs=1, optimizer=None, **options):
    activation = {"mse": None, "binary_crossentropy": "sigmoid"}.get(kind, "softmax")
    model = Sequential(
        [
            cell(units, dtype=dtype, **options),
            layers.Dense(n_outputs, activation=activation, dtype=dtype),
        ]
    )
    model.compile(Adam(0.01, clipnorm=0.1) if optimizer is None else optimizer, kind)
    return model


def fitted(make, x, y, **options):
    """The model and its losses after a fit whose first weights and order of samples are always the same."""
    set_random_seed(3)
    model = make()
    model.build((None, *x.shape[1:]))
    history = model.fit(x, y, **{"epochs": 3, "batch_size": 8, "verbose": 0} | options)
    return model, history.history["loss"]


CASES = {
    "regression": ({}, {}),
    "two-outputs-of-lstm": ({"n_outputs": 2, "cell": layers.LSTM}, {}),
    "labels-of-two": ({"kind": "binary_crossentropy"}, {}),
    "classes": ({"kind": "sparse_categorical_crossentropy", "n_outputs": 3}, {}),
    "backwards-float64": ({"go_backwards": True, "dtype": "float64", "cell": layers.SimpleRNN}, {}),
    "whole-batches": ({}, {"batch_size": 10}),
    "one-batch": ({}, {"batch_size": 64}),
    "in-order": ({}, {"shuffle": False}),
    "shuffled-batches": ({}, {"shuffle": "batch"}),
    "weights": ({}, {"sample_weight": np.linspace(0.1, 2, 30)}),
    "inputs-of-another-dtype": ({"dtype": "float64"}, {"x": "float32"}),
    "held-out": ({}, {"validation_split": 0.2}),
    "schedule": ({"optimizer": ExponentialDecay(0.05, 2, 0.5)}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_prepared_epochs_equal_usual_ones(name, rng, used, monkeypatch):
    options, fit = CASES[name]
    options = dict(options)
    dtype, kind = options.get("dtype", "float32"), options.get("kind", "mse")
    x, y = data(rng, n_outputs=options.get("n_outputs", 1))
    fit = dict(fit)
    x = x.astype(fit.pop("x", dtype))
    if kind == "binary_crossentropy":
        y = y > 0
    elif kind != "mse":
        y = np.digitize(y[:, 0], [-1, 1])
    schedule = options.pop("optimizer", None)

    def make():
        return network(**options, optimizer=None if schedule is None else Adam(schedule))

    model, losses = fitted(make, x, y, **fit)
    assert used == ["epoch"] * 3
    unprepared(monkeypatch)
    usual, expected = fitted(make, x, y, **fit)
    assert used == ["epoch"] * 3
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    np.testing.assert_allclose(model.params, usual.params, rtol=30 * tolerance, atol=3 * tolerance)
    assert model.optimizer.iterations == usual.optimizer.iterations
    for mine, other in zip(model.optimizer._state.values(), usual.optimizer._state.values(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e3 * tolerance, atol=tolerance)


def test_epoch_with_a_callback_for_batches_has_the_same_weights(rng, used):
    x, y = data(rng)
    seen = []
    follow = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"]))
    )
    model, losses = fitted(network, x, y)
    followed, others = fitted(network, x, y, callbacks=[follow])
    assert used == ["epoch"] * 3 + ["step"] * 12
    np.testing.assert_array_equal(followed.params, model.params)
    np.testing.assert_allclose(others, losses, rtol=1e-12)
    assert [batch for batch, _ in seen] == [0, 1, 2, 3] * 3
    assert [loss for batch, loss in seen if batch == 3] == others


def test_number_of_updates_in_a_call_does_not_change_weights(rng, used, monkeypatch):
    x, y = data(rng, 50)
    model, losses = fitted(network, x, y)
    for work in (1, 2 * 8 * 6 * 12 * 6):  # one update, and two
        monkeypatch.setattr(tuning, "MAX_UPDATES_WORK", work)
        other, others = fitted(network, x, y)
        np.testing.assert_array_equal(other.params, model.params)
        assert others == losses
    assert used == ["epoch"] * 9


def test_repeated_samples_are_taken_by_their_places(rng, used, monkeypatch):
    x, y = data(rng, 20)
    x, y = np.repeat(x, 2, axis=0), np.repeat(y[:, 0], 2)
    estimator = RNNRegressor(units=4, max_iter=3, tol=None, random_state=0)
    model = estimator.fit(x, y)
    assert used == ["epoch"] * 3
    unprepared(monkeypatch)
    usual = RNNRegressor(units=4, max_iter=3, tol=None, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.loss_curve_, usual.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(model.predict(x), usual.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [0, 2, 3, 4])
def test_loss_that_is_not_finite_ends_an_epoch_at_its_batch(batch, rng, used, monkeypatch):
    x, y = data(rng, 36)  # batches of 8, the last of 4
    x[8 * batch + 1, 2, 1] = np.inf
    found = []
    for _ in range(2):
        model = network()
        model.build((None, 6, 2))
        before = model.params.copy()
        stops = []
        ends = callbacks.LambdaCallback()
        ends.on_non_finite_loss = stops.append
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=[ends])
        assert stops == [batch]
        np.testing.assert_array_equal(model.params, before)
        assert model.optimizer.iterations == 0
        with pytest.raises(NonFiniteLossError) as error:
            model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        found.append(str(error.value))
        unprepared(monkeypatch)
    assert found[0] == found[1]


def test_failure_in_a_later_epoch_restores_the_weights_of_a_usual_failure(rng, used, monkeypatch):
    x, y = data(rng)

    class Spoil(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.good = x.copy()
                x[:, 0, 0] = np.nan

        def on_train_end(self, logs=None):
            x[...] = self.good

    models = []
    for _ in range(2):
        set_random_seed(3)
        models.append(network())
        with pytest.raises(NonFiniteLossError, match="in epoch 3"):
            models[-1].fit(x, y, epochs=5, batch_size=8, verbose=0, callbacks=[Spoil()])
        unprepared(monkeypatch)
    assert used == ["epoch"] * 2
    model, usual = models
    np.testing.assert_allclose(model.params, usual.params, rtol=1e-4, atol=1e-5)
    assert model.optimizer.iterations == usual.optimizer.iterations


def test_changes_between_epochs_are_followed(rng, used, monkeypatch):
    x, y = data(rng)

    class Change(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = 0.1
            elif epoch == 2:
                self.model.layers[0].trainable = False
            elif epoch == 3:
                self.model.layers[0].trainable = True
            elif epoch == 4:
                self.model.set_weights([0.5 * w for w in self.model.get_weights()])

    model, losses = fitted(network, x, y, epochs=6, callbacks=[Change()])
    assert used == ["epoch"] * 5  # not the one with the frozen layer
    unprepared(monkeypatch)
    usual, expected = fitted(network, x, y, epochs=6, callbacks=[Change()])
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(model.params, usual.params, rtol=1e-3, atol=1e-4)


def test_function_as_learning_rate_is_called_once_for_an_update(rng, used):
    x, y = data(rng)
    calls = []

    def rate():
        calls.append(0)
        return 0.01

    fitted(lambda: network(optimizer=Adam(rate)), x, y)
    assert used == ["step"] * 12
    assert len(calls) == 12


@pytest.mark.parametrize(
    ("y", "error"),
    [
        (np.full((30, 1), 7), "7"),
        (np.full((30, 1), -1), "-1"),
        (np.zeros((30, 2), int), "shape"),
    ],
)
def test_targets_that_the_usual_step_refuses_are_refused(y, error, rng, used):
    x, _ = data(rng)
    model = network("sparse_categorical_crossentropy", n_outputs=3)
    with pytest.raises(ValueError, match=error):
        model.fit(x, y, epochs=3, batch_size=8, verbose=0)
    assert not used


def test_missing_targets_without_weight_are_left_to_the_usual_step(rng, used, monkeypatch):
    x, y = data(rng, 32)
    y[::5] = np.nan
    weight = np.ones(32)
    weight[::5] = 0
    model, losses = fitted(network, x, y, sample_weight=weight, shuffle=False)
    assert not used
    unprepared(monkeypatch)
    usual, expected = fitted(network, x, y, sample_weight=weight, shuffle=False)
    assert losses == expected
    np.testing.assert_array_equal(model.params, usual.params)
    assert np.isfinite(model.params).all()


def test_batches_without_weight_are_left_to_the_usual_step(rng, used):
    x, y = data(rng)
    fitted(network, x, y, sample_weight=np.r_[np.zeros(8), np.ones(22)], shuffle=False)
    assert used == ["step"] * 9


def test_large_batches_and_large_outputs_are_not_prepared(rng, used, monkeypatch):
    x, y = data(rng, 32)
    monkeypatch.setattr(tuning, "MAX_PREPARED_HEAD", 8 * 4 - 1)
    fitted(network, x, y)
    monkeypatch.setattr(tuning, "MAX_PREPARED_HEAD", 8 * 4)
    monkeypatch.setattr(tuning, "MAX_PREPARED_BYTES", 8 * 6 * (2 + 5 * 4) * 4 - 1)
    fitted(network, x, y)
    assert not used
    monkeypatch.setattr(tuning, "MAX_PREPARED_BYTES", 8 * 6 * (2 + 5 * 4) * 4)
    fitted(network, x, y)
    assert used == ["epoch"] * 3


def test_fits_of_few_batches_are_not_prepared(rng, used, monkeypatch):
    x, y = data(rng)
    monkeypatch.setattr(tuning, "MIN_PREPARED_BATCHES", 5)
    fitted(network, x, y)  # 4 batches
    assert not used
    model, _ = fitted(network, x, y, steps_per_epoch=5)  # whose batches are those of several passes
    assert used == ["step"] * 15
    model.train_on_batch(x, y)
    assert used == ["step"] * 15
    fitted(network, x, y, batch_size=6)
    assert used == ["step"] * 15 + ["epoch"] * 3
    with prepared.preparing():
        fitted(network, x, y)
    assert used == ["step"] * 15 + ["epoch"] * 6


def test_a_thread_keeps_the_steps_of_few_models(rng, used):
    x, y = data(rng)
    models = [fitted(network, x, y)[0] for _ in range(prepared._KEPT_MODELS + 2)]
    kept = prepared._steps.by_model
    assert len(kept) == prepared._KEPT_MODELS
    assert models[-1] in kept
    assert models[0] not in kept
    assert all(len(steps) <= prepared._KEPT_SHAPES for steps in kept.values())


def test_setting_of_the_optimizer_may_change_while_there_was_no_update(rng, used):
    x, y = data(rng)
    x[0] = np.nan
    model = network()
    with pytest.raises(NonFiniteLossError):
        model.fit(x, y, verbose=0, shuffle=False)
    model.optimizer.amsgrad = True
    x[0] = 0
    model.fit(x, y, verbose=0)
    assert len(model.optimizer._state) == 3
    with pytest.raises(ValueError, match="can't be changed"):
        model.optimizer.amsgrad = False


def test_classifier_on_real_labels_learns_as_usual(rng, used, monkeypatch):
    x, y = data(rng, 60)
    labels = np.where(y[:, 0] > 0, "up", "down")

    def fit():
        return RNNClassifier(
            units=5, cell="lstm", max_iter=20, learning_rate_init=0.05, tol=None, random_state=0
        ).fit(x, labels)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit()
    assert used == ["epoch"] * 20
    unprepared(monkeypatch)
    usual = fit()
    np.testing.assert_allclose(model.predict_proba(x), usual.predict_proba(x), atol=1e-4)
    assert model.score(x, labels) > 0.9

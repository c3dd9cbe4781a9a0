"""Options given as NumPy scalars, as grid searches and quantiles give them, mean what Python's numbers mean.

A NumPy float64 is no weak operand: it turns float32 arrays into float64 ones, and comparisons with it are made in
float64. So every option that is a number is turned into Python's when an object is made.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastrnn import (
    RNNClassifier,
    RNNRegressor,
    Sequential,
    callbacks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 5, 3)).astype("float32")
Y = X.sum((1, 2))[:, None].astype("float32")
W = RNG.normal(size=(3, 3)).astype("float32")
P = RNG.uniform(0.05, 0.95, (8, 1)).astype("float32")
T = (P > 0.4).astype("float32")
MASKED = np.full((2, 4, 3), 0.1, "float32")
MASKED[:, 2:] = np.float32(-0.3)


def of_loss(loss, y=T, p=P):
    value, grad = loss.value_and_grad(y, p)
    return [np.asarray(value), grad]


def of_metric(metric):
    return [np.asarray(metric(T, P))]


def initial(initializer):
    return [initializer((3, 3), "float32", np.random.default_rng(0))]


def rates(schedule):
    return [np.array([schedule(step) for step in (0, 1, 3, 7, 50)])]


def fitted(optimizer, f=float, i=int):
    model = Sequential(
        [
            layers.Input((i(5), i(3))),
            layers.Masking(f(-0.3)),
            layers.LSTM(i(4), dropout=f(0.1), recurrent_dropout=f(0.1), seed=i(3)),
            layers.Dropout(f(0.2), seed=i(1)),
            layers.Dense(i(1), kernel_regularizer=regularizers.L2(f(0.1))),
        ],
        seed=i(0),
    )
    model.compile(optimizer, "mse", loss_weights=f(2.0))
    model.fit(
        X,
        Y,
        epochs=i(2),
        batch_size=i(4),
        verbose=i(0),
        validation_split=f(0.25),
        validation_freq=i(1),
        steps_per_epoch=i(1),
    )
    assert {type(v) for values in model.history.history.values() for v in values} == {float}
    return [model.predict(X, batch_size=i(3))]


def streamed(f):
    model = Sequential([layers.Input((None, 3)), layers.Masking(f(-0.3)), layers.GRU(2)], seed=0)
    model.build((None, None, 3))
    return [model.stream(1).run(MASKED[:1])]


def estimated(cls, y, f, i):
    model = cls(
        units=i(4),
        batch_size=i(4),
        max_iter=i(9),
        alpha=f(0.01),
        dropout=f(0.1),
        recurrent_dropout=f(0.1),
        learning_rate_init=f(0.01),
        clipnorm=f(1.0),
        early_stopping=True,
        validation_fraction=f(0.25),
        n_iter_no_change=i(1),
        tol=f(10.0),
        random_state=i(0),
    )
    return [model.fit(X, y).predict(X)]


def after_epochs(callback, monitored, learning_rate=0.1):
    """The learning rate after epochs with these monitored values, and whether training was stopped."""
    model = Sequential([layers.Dense(1)])
    model.compile(optimizers.SGD(learning_rate), "mse")
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(monitored):
        callback.on_epoch_end(epoch, {"loss": value})
    return [np.array([model.optimizer.learning_rate, model.stop_training])]


CASES = {
    "Masking": lambda f, i: [layers.Masking(f(-0.3)).compute_mask(MASKED)],
    "Masking in a stream": lambda f, i: streamed(f),
    "Dropout": lambda f, i: [
        layers.Dropout(f(0.5), noise_shape=(None, i(1), i(3)), seed=i(0))(X, training=True)
    ],
    "DropoutWrapper": lambda f, i: [
        layers.RNN(layers.DropoutWrapper(layers.GRUCell(i(2), seed=i(1)), f(0.5), f(0.9), seed=i(0)))(
            X, training=True
        )
    ],
    "RepeatVector": lambda f, i: [layers.RepeatVector(i(3))(X[:, 0])],
    "JANET beta": lambda f, i: [layers.JANET(i(4), beta=f(0.5), seed=i(0))(X)],
    "JANET t_max": lambda f, i: [layers.JANET(i(4), t_max=f(5), seed=i(0))(X)],
    "Embedding": lambda f, i: [layers.Embedding(i(4), i(2), initializers.Constant(f(0.1)))(np.array([[3]]))],
    "Huber": lambda f, i: of_loss(losses.Huber(f(0.35)), Y, 3 * P),
    "BinaryCrossentropy": lambda f, i: of_loss(losses.BinaryCrossentropy(label_smoothing=f(0.1))),
    "SparseCategoricalCrossentropy": lambda f, i: of_loss(
        losses.SparseCategoricalCrossentropy(ignore_class=i(1)), T, np.concatenate([P, 1 - P], 1)
    ),
    "BinaryAccuracy": lambda f, i: of_metric(metrics.BinaryAccuracy(threshold=f(P[0, 0]))),
    "AUC": lambda f, i: of_metric(metrics.AUC(num_thresholds=i(20))),
    "AUC thresholds": lambda f, i: of_metric(metrics.AUC(thresholds=[f(P[0, 0]), f(0.5)])),
    "Constant": lambda f, i: initial(initializers.Constant(f(0.2))),
    "Identity": lambda f, i: initial(initializers.Identity(f(2.0))),
    "RandomNormal": lambda f, i: initial(initializers.RandomNormal(f(0.1), f(0.2), i(0))),
    "TruncatedNormal": lambda f, i: initial(initializers.TruncatedNormal(f(0.1), f(0.2), i(0))),
    "RandomUniform": lambda f, i: initial(initializers.RandomUniform(f(0.1), f(0.2), i(0))),
    "VarianceScaling": lambda f, i: initial(
        initializers.VarianceScaling(f(2.0), seed=i(0), input_axes=i(0), output_axes=[i(1)])
    ),
    "Orthogonal": lambda f, i: initial(initializers.Orthogonal(f(2.0), i(0))),
    "MaxNorm": lambda f, i: [constraints.MaxNorm(f(0.5), i(0))(W)],
    "MinMaxNorm": lambda f, i: [constraints.MinMaxNorm(f(0.1), f(0.5), f(0.5), [i(0), i(1)])(W)],
    "UnitNorm": lambda f, i: [constraints.UnitNorm(i(1))(W)],
    "L1L2": lambda f, i: [regularizers.L1L2(f(0.1), f(0.2)).gradient(W)],
    "OrthogonalRegularizer": lambda f, i: [regularizers.OrthogonalRegularizer(f(0.1)).gradient(W)],
    "ActivityRegularization": lambda f, i: [
        np.array(layers.ActivityRegularization(f(0.1), f(0.2)).activity_regularizer(W))
    ],
    "ExponentialDecay": lambda f, i: rates(schedules.ExponentialDecay(f(0.1), i(5), f(0.9))),
    "InverseTimeDecay": lambda f, i: rates(schedules.InverseTimeDecay(f(0.1), i(5), f(0.9))),
    "PiecewiseConstantDecay": lambda f, i: rates(
        schedules.PiecewiseConstantDecay([i(1), i(5)], [f(0.1), f(0.2), f(0.3)])
    ),
    "PolynomialDecay": lambda f, i: rates(schedules.PolynomialDecay(f(0.1), i(5), f(0.01), f(2.0))),
    "CosineDecay": lambda f, i: rates(
        schedules.CosineDecay(f(0.1), i(5), f(0.1), warmup_target=f(0.2), warmup_steps=i(2))
    ),
    "CosineDecayRestarts": lambda f, i: rates(
        schedules.CosineDecayRestarts(f(0.1), i(5), f(2.0), f(0.9), f(0.1))
    ),
    "Adam": lambda f, i: fitted(
        optimizers.Adam(f(0.1), f(0.8), f(0.9), f(1e-3), weight_decay=f(0.1), clipnorm=f(0.5)), f, i
    ),
    "SGD": lambda f, i: fitted(optimizers.SGD(f(0.01), f(0.9), clipvalue=f(0.1)), f, i),
    "RMSprop": lambda f, i: fitted(
        optimizers.RMSprop(f(0.01), f(0.8), f(0.5), f(1e-3), global_clipnorm=f(0.5)), f, i
    ),
    "Adagrad": lambda f, i: fitted(optimizers.Adagrad(f(0.01), f(0.2), f(1e-3)), f, i),
    "RNNRegressor": lambda f, i: estimated(RNNRegressor, Y[:, 0], f, i),
    "RNNClassifier": lambda f, i: estimated(RNNClassifier, T[:, 0], f, i),
    "EarlyStopping": lambda f, i: after_epochs(
        callbacks.EarlyStopping("loss", f(0.1), i(2), baseline=f(3.0), start_from_epoch=i(1)),
        [3.0, 2.0, 1.95, 1.94],
    ),
    "ReduceLROnPlateau": lambda f, i: after_epochs(
        callbacks.ReduceLROnPlateau("loss", f(0.5), i(1), min_delta=f(0.1), cooldown=i(1), min_lr=f(0.01)),
        [3.0, 2.0, 1.95, 1.94, 1.93],
    ),
    "ModelCheckpoint": lambda f, i: [
        np.array([callbacks.ModelCheckpoint("a", save_freq=i(2), initial_value_threshold=f(0.5)).save_freq])
    ],
}


@pytest.mark.parametrize("name", CASES)
def test_numpy_scalar_options_compute_what_python_numbers_compute(name):
    expected, got = CASES[name](float, int), CASES[name](np.float64, np.int64)
    for a, b in zip(expected, got, strict=True):
        assert b.dtype == a.dtype
        np.testing.assert_array_equal(b, a)


CONFIGS = {
    "ActivityRegularization": lambda: layers.ActivityRegularization(np.float32(0.5), np.float32(0.1)),
    "Input": lambda: layers.Input((np.int64(5), np.int64(3)), batch_size=np.int64(2)),
    "Dropout": lambda: layers.Dropout(np.float32(0.5), (None, np.int64(1), np.int64(3)), np.int64(1)),
    "LSTM": lambda: layers.LSTM(np.int64(3), dropout=np.float32(0.1), seed=np.int64(1)),
    "MaxNorm": lambda: constraints.MaxNorm(np.float32(2), np.int64(0)),
    "VarianceScaling": lambda: initializers.VarianceScaling(np.float32(2), input_axes=np.int64(0)),
    "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay([np.int64(3)], [np.float32(0.1), 0.2]),
    "Huber": lambda: losses.Huber(np.float32(1.5)),
    "AUC": lambda: metrics.AUC(np.int64(20), thresholds=np.array([0.2, 0.5]), num_labels=np.int64(2)),
    "Adam": lambda: optimizers.Adam(np.float32(0.1), clipnorm=np.float32(0.5), weight_decay=np.float32(0.1)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_of_numpy_scalar_options_is_plain_data(name):
    json.dumps(CONFIGS[name]().get_config())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.BinaryAccuracy(threshold="a"), "threshold='a'"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds=1"),
        (lambda: metrics.AUC(num_thresholds=20.5), r"num_thresholds=20\.5"),
        (lambda: metrics.AUC(curve="roc"), "curve='roc'"),
        (lambda: initializers.VarianceScaling(input_axes=0.5), r"input_axes=0\.5"),
        (lambda: callbacks.ModelCheckpoint("a", save_freq=0), "save_freq=0"),
    ],
)
def test_option_that_is_no_such_number_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

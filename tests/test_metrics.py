"""Metrics and losses over batches: what counts, what they are called with, and what callbacks read of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastrnn import EncoderDecoder, Sequential, callbacks, layers, losses, metrics
from fastrnn.sequences import Ragged

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4, 2)).astype("float32")
Y = RNG.normal(size=(6, 4, 1)).astype("float32")
CLASSES = RNG.integers(0, 3, size=(6, 4)).astype("float32")
#: The last two steps of the first sequence don't count: Masking finds them, or their weights are 0.
PADDED = X.copy()
PADDED[0, 2:] = 9
WEIGHTS = np.ones((6, 4), "float32")
WEIGHTS[0, 2:] = 0


def network(n_outputs, activation, loss, **options):
    model = Sequential(
        [
            layers.Input((4, 2)),
            layers.Masking(9.0),
            layers.GRU(3, return_sequences=True),
            layers.Dense(n_outputs, activation),
        ],
        seed=0,
    )
    model.compile("sgd", loss, **options)
    return model


def uneven():
    """Four sequences of 1 step that are all classified wrong, four of 100 that are all right."""
    x = Ragged.from_list([np.ones((n, 1), "float32") for n in (1,) * 4 + (100,) * 4])
    y = Ragged.from_list([np.full(n, int(n > 1)) for n in (1,) * 4 + (100,) * 4])
    model = Sequential([layers.Input((None, 1)), layers.Dense(2, "softmax")], seed=0)
    model.build((None, None, 1))
    model.layers[0].set_weights([np.zeros((1, 2)), np.array([0.0, 3.0])])
    return model, x, y


WRONG, RIGHT = np.log(1 + np.exp(3)), np.log(1 + np.exp(-3))


# ------------------------------------------------------------------------------- the same however batches are cut


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8])
def test_loss_and_metrics_of_ragged_data_do_not_depend_on_batches(batch_size):
    model, x, y = uneven()
    names = ["accuracy", "sparse_categorical_crossentropy"]
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=names)
    loss, accuracy, crossentropy = model.evaluate(x, y, batch_size=batch_size)
    assert accuracy == pytest.approx(400 / 404)
    assert loss == pytest.approx((4 * WRONG + 400 * RIGHT) / 404, rel=1e-6)
    assert crossentropy == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8])
def test_weighted_loss_and_metrics_of_ragged_data_do_not_depend_on_batches(batch_size):
    model, x, y = uneven()
    weights = np.arange(8.0)
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    loss, accuracy = model.evaluate(x, y, sample_weight=weights, batch_size=batch_size)
    assert accuracy == pytest.approx(100 * weights[4:].sum() / (100 * weights[4:].sum() + weights[:4].sum()))
    assert loss == pytest.approx(
        (weights[:4].sum() * WRONG + 100 * weights[4:].sum() * RIGHT) / 404, rel=1e-6
    )


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
def test_loss_with_ignored_classes_does_not_depend_on_batches(batch_size, reduction):
    model, x, _ = uneven()
    y = Ragged.from_list([np.r_[np.full(n - n // 2, int(n > 1)), np.full(n // 2, -1)] for n in x.lengths])
    model.compile("sgd", losses.SparseCategoricalCrossentropy(ignore_class=-1, reduction=reduction))
    expected = (4 * WRONG + 4 * 50 * RIGHT) / (4 + 4 * 50)
    assert model.evaluate(x, y, batch_size=batch_size) == pytest.approx(expected, rel=1e-6)


def test_history_of_ragged_data_does_not_depend_on_batches():
    """What EarlyStopping watches: the epoch's loss and metrics, of training data and of validation data."""
    histories = []
    for batch_size in (3, 8):
        model, x, y = uneven()
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.optimizer.learning_rate = 0.0
        histories.append(
            model.fit(
                x,
                y,
                batch_size=batch_size,
                validation_data=(x, y),
                validation_batch_size=batch_size,
                verbose=0,
            ).history
        )
    assert histories[0].keys() == histories[1].keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for key, expected in histories[1].items():
        np.testing.assert_allclose(histories[0][key], expected, rtol=1e-6)
    assert histories[0]["val_accuracy"] == pytest.approx([400 / 404])


def test_truncated_pieces_count_as_the_whole_batch_does():
    results = []
    for n_steps in (None, 3):
        model = network(1, None, "mse", metrics=["mae"])
        model.optimizer.learning_rate = 0.0
        history = model.fit(
            PADDED, Y, batch_size=4, truncated_bptt_steps=n_steps, shuffle=False, verbose=0
        ).history
        results.append([history["loss"][0], history["mae"][0]])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


# ------------------------------------------------------------------------------- targets that don't count


CASES = {
    "mse": (1, None, "mse", Y, ["mae", "mse", "rmse"]),
    "mae": (1, None, "mae", Y, ["mae"]),
    "huber": (1, None, losses.Huber(), Y, ["mae"]),
    "binary": (1, "sigmoid", "bce", (Y > 0).astype("float32"), ["accuracy", "bce", metrics.AUC()]),
    "categorical": (
        3,
        "softmax",
        "categorical_crossentropy",
        np.eye(3, dtype="float32")[CLASSES.astype(int)],
        ["accuracy", "categorical_crossentropy", metrics.AUC()],
    ),
    "sparse": (
        3,
        "softmax",
        "sparse_categorical_crossentropy",
        CLASSES,
        ["accuracy", "sparse_categorical_crossentropy"],
    ),
}


def with_missing(y):
    y = y.copy()
    y[0, 2:] = np.nan
    return y


@pytest.mark.parametrize("case", CASES)
def test_missing_targets_of_masked_steps_change_nothing(case):
    n, activation, loss, y, names = CASES[case]
    model = network(n, activation, loss, metrics=names)
    expected = model.evaluate(PADDED, y)
    assert np.isfinite(expected).all()
    assert model.evaluate(PADDED, with_missing(y)) == expected
    assert np.isfinite(model.fit(PADDED, with_missing(y), verbose=0).history["loss"]).all()


@pytest.mark.parametrize("case", CASES)
def test_missing_targets_of_weight_zero_change_nothing(case):
    n, activation, loss, y, names = CASES[case]
    model = network(n, activation, loss, weighted_metrics=names)
    expected = model.evaluate(X, y, sample_weight=WEIGHTS)
    assert np.isfinite(expected).all()
    assert model.evaluate(X, with_missing(y), sample_weight=WEIGHTS) == expected
    model.fit(X, with_missing(y), sample_weight=WEIGHTS, verbose=0)


def test_metric_without_weights_leaves_out_missing_targets_of_weight_zero():
    """It takes no account of weights, so that targets of weight 0 count, as far as they are known."""
    model = network(1, None, "mse", metrics=["mae"])
    error = np.abs(model(X) - Y)[..., 0]
    assert model.evaluate(X, Y, sample_weight=WEIGHTS)[1] == pytest.approx(error.mean())
    known = error[WEIGHTS > 0].mean()
    assert model.evaluate(X, with_missing(Y), sample_weight=WEIGHTS)[1] == pytest.approx(known)


def test_metric_called_directly_takes_missing_targets_of_weight_zero():
    y, p = np.array([[1.0], [np.nan], [3.0]]), np.array([[1.5], [2.0], [2.0]])
    assert metrics.MeanAbsoluteError()(y, p, sample_weight=[1, 0, 1]) == pytest.approx(0.75)
    assert metrics.MeanAbsoluteError()(y, p, mask=np.array([True, False, True])) == pytest.approx(0.75)


def test_missing_class_that_counts_is_refused_before_training():
    model = network(3, "softmax", "sparse_categorical_crossentropy")
    y = CLASSES.copy()
    y[5, 3] = np.nan
    before = model.get_weights()
    unmasked = Sequential([layers.Input((4, 2)), layers.Dense(3, "softmax")])
    unmasked.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="y holds NaN"):
        unmasked.fit(X, y, batch_size=2, verbose=0)
    assert unmasked.optimizer.iterations == 0
    with pytest.raises(ValueError, match="y holds NaN"):
        model.evaluate(X, y, sample_weight=WEIGHTS)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------- metrics of a user's own


def mean_error(y_true, y_pred):
    return float(np.abs(y_true - y_pred).mean())


def error_of_each(y_true, y_pred):
    return np.abs(y_true - y_pred).mean(axis=-1)


class KerasLike(metrics.Metric):
    """A metric with the signature that Keras documents."""

    def __init__(self, name="keras_like"):
        super().__init__(name)
        self.reset_state()

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = np.abs(y_true - y_pred)[..., 0]
        weights = np.ones(error.shape) if sample_weight is None else np.asarray(sample_weight, float)
        weights = np.broadcast_to(
            weights.reshape(weights.shape + (1,) * (error.ndim - weights.ndim)), error.shape
        )
        self.total += float((error * weights).sum())
        self.count += float(weights.sum())

    def result(self):
        return np.float64(self.total / self.count)

    def reset_state(self):
        self.total = self.count = 0.0


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_metric_function_of_one_number_is_averaged_over_samples(batch_size):
    """A batch's mean counts by the size of the batch, so that a smaller last batch does not weigh more."""
    model = network(1, None, "mse", metrics=[mean_error, error_of_each])
    expected = np.abs(model(X) - Y).mean()
    _, one, each = model.evaluate(X, Y, batch_size=batch_size)
    assert one == pytest.approx(expected, rel=1e-6)
    assert each == pytest.approx(expected, rel=1e-6)


def test_metric_function_of_one_number_works_with_weights_and_masks():
    model = network(1, None, "mse", metrics=[mean_error], weighted_metrics=[mean_error])
    expected = np.abs(model(PADDED) - Y).mean()
    assert model.evaluate(PADDED, Y, sample_weight=WEIGHTS)[1:] == pytest.approx([expected] * 2, rel=1e-6)


@pytest.mark.parametrize("batch_size", [2, 6])
def test_metric_class_with_keras_signature_gets_masks_as_weights(batch_size):
    model = network(1, None, "mse", metrics=[KerasLike(), "mae"], weighted_metrics=[KerasLike("weighted")])
    error = np.abs(model(X) - Y)[..., 0]
    _, own, mae, weighted = model.evaluate(X, Y, sample_weight=WEIGHTS, batch_size=batch_size)
    assert (own, mae) == pytest.approx((error.mean(), error.mean()))
    assert weighted == pytest.approx(error[WEIGHTS > 0].mean())
    masked = np.abs(model(PADDED) - Y)[..., 0][WEIGHTS > 0].mean()
    assert model.evaluate(PADDED, Y, batch_size=batch_size)[1:3] == pytest.approx([masked, masked])
    assert KerasLike()(Y, Y + 1, mask=WEIGHTS > 0) == pytest.approx(1.0)


def test_logs_are_floats():
    model = network(1, None, "mse", metrics=[KerasLike(), mean_error, "mae", metrics.AUC()])
    history = model.fit(PADDED, (Y > 0) * 1.0, verbose=0).history
    assert {type(value) for values in history.values() for value in values} == {float}


# ------------------------------------------------------------------------------- what callbacks watch


class Scripted(metrics.Metric):
    """A metric whose results are given."""

    def __init__(self, values, name="scripted", direction=None):
        super().__init__(name)
        self._values = iter(values)
        self.direction = direction

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def reset_state(self):
        pass

    def result(self):
        return next(self._values)


WATCHERS = {
    "EarlyStopping": lambda **o: callbacks.EarlyStopping("scripted", restore_best_weights=True, **o),
    "ReduceLROnPlateau": lambda **o: callbacks.ReduceLROnPlateau("scripted", **o),
    "ModelCheckpoint": lambda **o: callbacks.ModelCheckpoint("unused", "scripted", save_best_only=True, **o),
}


@pytest.mark.parametrize("name", WATCHERS)
@pytest.mark.parametrize("monitored", ["function", "class"])
def test_auto_mode_asks_for_the_direction_of_a_custom_metric(name, monitored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def scripted(y_true, y_pred):
        return np.abs(y_true - y_pred)

    model = network(1, None, "mse", metrics=[scripted if monitored == "function" else Scripted([0.5])])
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=rf"{name}: mode='auto' .*'scripted'.* give mode='max' or mode='min'"
    ):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[WATCHERS[name]()])
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "direction", "best"),
    [({"mode": "max"}, None, 1), ({"mode": "min"}, None, 2), ({}, "max", 1), ({}, "min", 2)],
)
def test_early_stopping_restores_the_best_epoch_of_a_custom_metric(options, direction, best):
    metric = Scripted([0.86, 0.92, 0.8, 0.9], direction=direction)
    stopping = callbacks.EarlyStopping("scripted", patience=9, restore_best_weights=True, **options)
    weights = []
    keep = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.params.copy()))
    model = network(1, None, "mse", metrics=[metric])
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[keep, stopping])
    assert stopping.best_epoch == best
    np.testing.assert_array_equal(model.params, weights[best])


@pytest.mark.parametrize(
    ("metric", "name", "larger"),
    [
        ("accuracy", "accuracy", True),
        ("acc", "val_acc", True),
        (metrics.BinaryAccuracy(name="own"), "val_own", True),
        (metrics.AUC(), "auc", True),
        ("mae", "val_mae", False),
        ("rmse", "rmse", False),
        ("bce", "bce", False),
        ("mae", "val_loss", False),
    ],
)
def test_auto_mode_finds_the_direction_of_the_librarys_metrics(metric, name, larger):
    stopping = callbacks.EarlyStopping(name, patience=5)
    model = network(1, "sigmoid", "bce", metrics=[metric])
    model.fit(X, (Y > 0) * 1.0, epochs=2, verbose=0, validation_split=0.5, callbacks=[stopping])
    assert stopping._larger_is_better is larger


def test_auto_mode_asks_for_the_direction_of_what_a_callback_writes():
    writes = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(f1=0.5))
    model = network(1, None, "mse")
    with pytest.raises(ValueError, match="'f1' is better: give mode='max'"):
        model.fit(X, Y, verbose=0, callbacks=[writes, callbacks.EarlyStopping("f1")])
    model.fit(X, Y, verbose=0, callbacks=[writes, callbacks.EarlyStopping("f1", mode="max")])


def test_encoder_decoder_callbacks_know_directions_too():
    model = EncoderDecoder([layers.GRU(3)], [layers.GRU(3), layers.Dense(2)], seed=0)
    model.compile("sgd", "mse", metrics=[error_of_each])
    with pytest.raises(ValueError, match="give mode='max' or mode='min'"):
        model.fit(X, X[:, :2], verbose=0, callbacks=[callbacks.EarlyStopping("error_of_each")])


# ------------------------------------------------------------------------------- what callbacks write


@pytest.mark.parametrize("kind", ["sequential", "encoder-decoder"])
def test_history_holds_what_callbacks_write_into_logs(kind):
    def write(epoch, logs):
        logs["own"] = epoch * 10.0

    chosen = [
        callbacks.LambdaCallback(on_epoch_end=write),
        callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
    ]
    if kind == "sequential":
        model, y = network(1, None, "mse"), Y
    else:
        model, y = EncoderDecoder([layers.GRU(3)], [layers.GRU(3), layers.Dense(2)], seed=0), X[:, :2]
        model.compile("sgd", "mse")
    history = model.fit(X, y, epochs=3, verbose=0, callbacks=chosen).history
    assert history["own"] == [0.0, 10.0, 20.0]
    assert history["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_history_holds_the_rate_of_each_epoch_with_reduce_on_plateau():
    metric = Scripted([1.0, 2.0, 3.0, 0.5])
    model = network(1, None, "mse", metrics=[metric])
    model.optimizer.learning_rate = 0.1
    reduce = callbacks.ReduceLROnPlateau("scripted", factor=0.5, patience=1, mode="min")
    history = model.fit(X, Y, epochs=4, verbose=0, callbacks=[reduce]).history
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.05, 0.025])


# ------------------------------------------------------------------------------- shapes that don't belong together


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])


@pytest.mark.parametrize("y", [np.array([0, 1, 2]), np.array([[0], [1], [2]])])
def test_categorical_accuracy_refuses_integer_classes(y):
    """The argmax of class numbers would be compared: 1/3 where all are right."""
    with pytest.raises(ValueError, match="takes one-hot targets; .* use sparse_categorical_accuracy"):
        metrics.CategoricalAccuracy()(y, PROBABILITIES)
    assert metrics.SparseCategoricalAccuracy()(y, PROBABILITIES) == 1.0


def test_sparse_categorical_accuracy_refuses_one_hot_targets():
    with pytest.raises(ValueError, match="for one-hot targets use categorical_accuracy"):
        metrics.SparseCategoricalAccuracy()(np.eye(3), PROBABILITIES)
    assert metrics.CategoricalAccuracy()(np.eye(3), PROBABILITIES) == 1.0


@pytest.mark.parametrize("own", [mean_error, error_of_each, KerasLike()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("weighted", [False, True])
def test_own_metric_refuses_targets_that_broadcast(own, weighted):
    """y of shape (6, 4) and outputs of (6, 4, 1) would make (6, 4, 4) of it: an error of all pairs."""
    model = network(1, None, "mse", **{"weighted_metrics" if weighted else "metrics": [own]})
    before = model.params.copy()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"y has shape \(4, 4\), the predictions have \(4, 4, 1\)"):
            model.fit(X, Y[..., 0], batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.params, before)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("metric", "y"),
    [
        ("categorical_accuracy", CLASSES),
        (metrics.AUC(), CLASSES),
        ("sparse_categorical_accuracy", np.eye(3)[CLASSES.astype(int)]),
        ("mae", CLASSES),
    ],
)
def test_metric_that_does_not_fit_the_targets_is_refused_before_an_update(metric, y):
    loss = "sparse_categorical_crossentropy" if y.ndim == 2 else "categorical_crossentropy"
    model = network(3, "softmax", loss, metrics=[metric])
    before = model.params.copy()
    with pytest.raises(ValueError, match="y has shape"):
        model.fit(X, y, verbose=0)
    np.testing.assert_array_equal(model.params, before)


def test_metric_object_is_refused_twice():
    metric = metrics.MeanAbsoluteError()
    with pytest.raises(ValueError, match="'mean_absolute_error' is given twice"):
        network(1, None, "mse", metrics=[metric], weighted_metrics=[metric])
    model = network(1, None, "mse", metrics=["mae"], weighted_metrics=["mae"])
    weights = np.arange(6.0)
    error = np.abs(model(X) - Y)[..., 0]
    _, plain, weighted = model.evaluate(X, Y, sample_weight=weights)
    assert plain == pytest.approx(error.mean())
    assert weighted == pytest.approx(np.average(error.mean(1), weights=weights))


# ------------------------------------------------------------------------------- areas that are not defined


@pytest.mark.parametrize(
    ("curve", "y", "expected"),
    [("ROC", 1, np.nan), ("ROC", 0, np.nan), ("PR", 0, np.nan)],
)
@pytest.mark.parametrize("method", ["interpolation", "minoring", "majoring"])
def test_auc_of_one_class_is_not_zero(curve, y, expected, method):
    metric = metrics.AUC(curve=curve, summation_method=method)
    assert metric(np.full((3, 1), y), np.array([[1.0], [0.5], [0.3]])) == pytest.approx(expected, nan_ok=True)


def test_auc_of_labels_leaves_out_those_of_one_class():
    y = np.array([[0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 1, 0]])
    p = np.random.default_rng(0).random((4, 3))
    each = [metrics.AUC()(y[:, [k]], p[:, [k]]) for k in range(3)]
    assert np.isnan(each[1])
    assert metrics.AUC(multi_label=True)(y, p) == pytest.approx((each[0] + each[2]) / 2)
    weighted = metrics.AUC(multi_label=True, label_weights=[1.0, 5.0, 3.0])(y, p)
    assert weighted == pytest.approx((each[0] + 3 * each[2]) / 4)


def test_early_stopping_passes_over_epochs_without_an_area():
    metric = Scripted([np.nan, 0.5, np.nan, np.nan, np.nan], direction="max")
    stopping = callbacks.EarlyStopping("scripted", patience=2, restore_best_weights=True)
    network(1, None, "mse", metrics=[metric]).fit(X, Y, epochs=5, verbose=0, callbacks=[stopping])
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (0.5, 1, 3)


# ------------------------------------------------------------------------------- classes that are none


def test_fractional_classes_are_refused_before_training():
    """They would be cut off to integers: 0.5 and 1.5 to 0 and 1."""
    model = network(3, "softmax", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"y holds 0\.5: classes are integers"):
        model.fit(X, np.where(CLASSES == 0, 0.5, CLASSES), verbose=0)
    assert model.optimizer.iterations == 0
    whole = model.evaluate(X, CLASSES.astype(np.int8))
    assert model.evaluate(X, CLASSES.astype(np.float64)) == whole


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_softmax_crossentropy_of_one_output_is_refused(loss, activation):
    """It would be 0 from the first epoch on, and nothing would be learnt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = network(1, activation, loss)
    with pytest.raises(ValueError, match="needs an output for each class.*sigmoid and binary_crossentropy"):
        model.fit(X, (Y > 0) * 1.0, verbose=0)


def test_dense_warns_of_the_softmax_of_one_output():
    with pytest.warns(UserWarning, match="softmax of one output is always 1"):
        layers.Dense(1, activation="softmax")

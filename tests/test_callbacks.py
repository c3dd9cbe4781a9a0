"""Callbacks: when they are called, what they do to training."""

import csv
import math

import numpy as np
import pytest

from fastrnn import Sequential, callbacks, layers
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.model import load_model


@pytest.fixture
def xy(rng):
    x = rng.normal(size=(20, 3))
    return x, x @ np.array([[1.0], [2.0], [-1.0]])


def make(rate=0.05):
    model = Sequential([layers.Input((3,)), layers.Dense(1, dtype="float64")], seed=0)
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = rate
    return model


class Recorder(callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *args: self.calls.append((name, *args[:-1]))
        return super().__getattribute__(name)


def test_order_of_hooks(xy):
    order = []

    class Mine(callbacks.Callback):
        def on_train_begin(self, logs=None):
            order.append("train")

        def on_train_end(self, logs=None):
            order.append("end")

        def on_epoch_begin(self, epoch, logs=None):
            order.append(f"epoch {epoch}")

        def on_epoch_end(self, epoch, logs=None):
            order.append(f"epoch end {sorted(logs)}")

        def on_train_batch_begin(self, batch, logs=None):
            order.append(f"batch {batch}")

        def on_batch_end(self, batch, logs=None):  # the other name
            assert math.isfinite(logs["loss"])
            order.append(f"batch end {batch}")

        def on_test_begin(self, logs=None):
            order.append("test")

        def on_test_batch_end(self, batch, logs=None):
            order.append(f"test batch {batch}")

        def on_test_end(self, logs=None):
            order.append("test end")

    mine = Mine()
    model = make()
    model.fit(*xy, batch_size=8, epochs=1, validation_split=0.4, callbacks=[mine], verbose=0)
    assert order == [
        "train",
        "epoch 0",
        "batch 0",
        "batch end 0",
        "batch 1",
        "batch end 1",
        "test",
        "test batch 0",
        "test end",
        "epoch end ['loss', 'val_loss']",
        "end",
    ]
    assert mine.model is model
    assert mine.params == {"verbose": 0, "epochs": 1, "steps": 2, "do_validation": True}


def test_predict_and_evaluate_hooks(xy):
    seen = []
    mine = callbacks.LambdaCallback(
        on_predict_batch_end=lambda b, logs: seen.append(("predict", b)),
        on_test_batch_begin=lambda b, logs: seen.append(("test", b)),
    )
    model = make()
    model.predict(xy[0], batch_size=10, callbacks=[mine])
    model.evaluate(*xy, batch_size=20, callbacks=[mine])
    assert seen == [("predict", 0), ("predict", 1), ("test", 0)]
    with pytest.raises(TypeError, match="unknown hook 'on_lunch'"):
        callbacks.LambdaCallback(on_lunch=print)
    with pytest.raises(TypeError, match="callbacks holds 3"):
        model.fit(*xy, callbacks=[3], verbose=0)


class Script(callbacks.Callback):
    """Puts given values into the logs, as if training had produced them."""

    def __init__(self, values, key="val_loss"):
        super().__init__()
        self.values, self.key = values, key

    def on_epoch_end(self, epoch, logs=None):
        logs[self.key] = self.values[epoch]


def test_early_stopping_restores_the_best(xy):
    values = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 1.0]
    weights = []
    keep = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: weights.append(keep.model.params.copy()))
    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    model = make()
    history = model.fit(*xy, epochs=7, callbacks=[Script(values), keep, stop], verbose=0)
    assert len(history.epoch) == 5
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (4, 2, 3.0)
    np.testing.assert_array_equal(model.params, weights[2])


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"patience": 0}, 4),
        ({"patience": 3}, 6),
        ({"patience": 1, "min_delta": 2.0}, 2),
        ({"patience": 1, "start_from_epoch": 3}, 6),
        ({"patience": 2, "baseline": 1.0}, 4),
        ({"patience": 1, "mode": "max"}, 2),
    ],
)
def test_early_stopping_options(xy, options, epochs):
    values = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.0]
    history = make().fit(
        *xy, epochs=6, callbacks=[Script(values), callbacks.EarlyStopping(**options)], verbose=0
    )
    assert len(history.epoch) == epochs


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 0},
        {"patience": 3},
        {"patience": 1, "min_delta": 2.0},
        {"patience": 1, "start_from_epoch": 3},
        {"patience": 2, "baseline": 1.0},
        {"patience": 1, "mode": "max"},
    ],
)
def test_early_stopping_stops_where_keras_stops(options):
    from tests import keras_oracle

    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))

    class Model:
        stop_training = False
        optimizer = None
        compiled = True
        params = np.zeros(1)

        def get_weights(self):
            return []

    for seed in range(30):
        values = np.random.default_rng(seed).normal(size=12).cumsum()
        stopped = []
        for library in (keras.callbacks, callbacks):
            callback, model = library.EarlyStopping(**options), Model()
            callback.set_model(model)
            callback.on_train_begin()
            for epoch, value in enumerate(values):
                callback.on_epoch_end(epoch, {"val_loss": value})
                if model.stop_training:
                    break
            stopped.append(epoch)
        assert stopped[0] == stopped[1]


def test_monitor_that_is_missing_warns(xy):
    with pytest.warns(UserWarning, match="monitor='val_loss' is not among"):
        make().fit(*xy, callbacks=[callbacks.EarlyStopping()], verbose=0)


def test_accuracy_is_better_when_larger():
    model = make()
    model.compile("sgd", "mse", metrics=["accuracy"])
    better = {}
    for monitor in ("val_accuracy", "val_loss"):
        callback = callbacks.EarlyStopping(monitor)
        callback.set_model(model)
        callback.on_train_begin()
        better[monitor] = callback._better
    assert better["val_accuracy"](0.9, 0.8)
    assert not better["val_accuracy"](0.7, 0.8)
    assert better["val_loss"](0.7, 0.8)


def test_reduce_on_plateau(xy):
    model = make(1e-3)
    values = [3.0, 3.0, 3.0, 3.0, 3.0, 1.0]
    reduce = callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_lr=3e-4)
    history = model.fit(*xy, epochs=6, callbacks=[Script(values), reduce], verbose=0)
    assert model.optimizer.learning_rate == 3e-4
    assert history.history["loss"]
    with pytest.raises(ValueError, match="factor=1.0"):
        callbacks.ReduceLROnPlateau(factor=1.0)


def test_learning_rate_scheduler(xy):
    model = make(0.1)
    rates = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: rates.append(model.optimizer.learning_rate))
    for schedule in (lambda epoch, rate: rate / 2, lambda epoch: 0.01 * (epoch + 1)):
        model.fit(*xy, epochs=2, callbacks=[callbacks.LearningRateScheduler(schedule), watch], verbose=0)
    np.testing.assert_allclose(rates, [0.05, 0.025, 0.01, 0.02])


def test_checkpoint(xy, tmp_path):
    values = [3.0, 4.0, 2.0]
    model = make()
    whole = callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.fastrnn", save_best_only=True)
    weights = callbacks.ModelCheckpoint(tmp_path / "sub" / "w.fastrnn", save_weights_only=True)
    each = callbacks.ModelCheckpoint(tmp_path / "batch.fastrnn", save_freq=2)
    model.fit(*xy, epochs=3, callbacks=[Script(values), whole, weights, each], verbose=0)
    assert sorted(p.name for p in tmp_path.glob("*.fastrnn")) == [
        "01-3.0.fastrnn",
        "03-2.0.fastrnn",
        "batch.fastrnn",
    ]
    again = load_model(tmp_path / "03-2.0.fastrnn")
    np.testing.assert_array_equal(again.params, model.params)
    fresh = make()
    fresh.load_weights(tmp_path / "sub" / "w.fastrnn")
    np.testing.assert_array_equal(fresh.params, model.params)
    with pytest.raises(KeyError, match="nonsense"):
        make().fit(*xy, callbacks=[callbacks.ModelCheckpoint("{nonsense}.fastrnn")], verbose=0)


def test_csv_logger(xy, tmp_path):
    path = tmp_path / "log.csv"
    make().fit(*xy, epochs=2, callbacks=[callbacks.CSVLogger(path)], validation_split=0.2, verbose=0)
    make().fit(
        *xy, epochs=1, callbacks=[callbacks.CSVLogger(path, append=True)], validation_split=0.2, verbose=0
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    assert float(rows[0]["loss"]) > 0
    assert set(rows[0]) == {"epoch", "loss", "val_loss"}


def rows_of(path):
    with path.open() as file:
        return list(csv.reader(file))


def test_csv_logger_appends_under_the_columns_of_the_file(xy, tmp_path):
    """Another run may have other metrics: its numbers must not come under the wrong names."""
    path = tmp_path / "log.csv"
    model = make()
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(*xy, epochs=1, callbacks=[callbacks.CSVLogger(path)], verbose=0)
    assert rows_of(path)[0] == ["epoch", "loss", "mae"]
    model.compile("sgd", "mse", metrics=["mse", "mae"])
    with pytest.warns(UserWarning, match=r"has no columns for \['mse'\]"):
        model.fit(
            *xy, epochs=2, initial_epoch=1, callbacks=[callbacks.CSVLogger(path, append=True)], verbose=0
        )
    loss, mse, mae = model.history.history.values()
    assert loss == pytest.approx(mse)
    assert [float(value) for value in rows_of(path)[2]] == pytest.approx([1, loss[0], mae[0]])
    model.compile("sgd", "mse")
    model.fit(*xy, epochs=3, initial_epoch=2, callbacks=[callbacks.CSVLogger(path, append=True)], verbose=0)
    assert rows_of(path)[3][2] == "NA"
    assert {len(row) for row in rows_of(path)} == {3}


def test_csv_logger_refuses_to_append_to_another_file(xy, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="its first column is 'a'"):
        make().fit(*xy, callbacks=[callbacks.CSVLogger(path, append=True)], verbose=0)
    assert path.read_text() == "a,b\n1,2\n"


def test_csv_logger_has_columns_of_validation_only_where_there_is_validation(xy, tmp_path):
    path = tmp_path / "log.csv"
    rate = callbacks.LearningRateScheduler(lambda epoch: 0.05)
    chosen = [rate, callbacks.CSVLogger(path)]
    make().fit(*xy, epochs=2, callbacks=chosen, verbose=0)
    assert rows_of(path)[0] == ["epoch", "learning_rate", "loss"]
    make().fit(*xy, epochs=2, callbacks=chosen, validation_split=0.2, validation_freq=2, verbose=0)
    header, first, second = rows_of(path)
    assert header == ["epoch", "learning_rate", "loss", "val_loss"]
    assert first[3] == "NA"
    assert float(second[3]) > 0


def test_non_finite_loss(xy):
    """Training stops with an error that helps, or quietly with TerminateOnNaN; the weights stay good."""
    x, y = xy
    model = make(1e200)
    start = model.params.copy()
    with pytest.raises(NonFiniteLossError, match="lower learning_rate"):
        model.fit(x, y, epochs=50, verbose=0)
    assert np.isfinite(model.params).all()
    np.testing.assert_array_equal(model.params, start)
    quiet = make(1e200)
    quiet.fit(x, y, epochs=50, callbacks=[callbacks.TerminateOnNaN()], verbose=0)
    np.testing.assert_array_equal(quiet.params, start)
    quiet.optimizer.learning_rate = 0.1
    history = quiet.fit(x, y, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_interrupt_leaves_the_model_usable(xy):
    def stop(batch, logs):
        if batch == 1:
            raise KeyboardInterrupt

    ended = []
    mine = callbacks.LambdaCallback(on_train_batch_end=stop, on_train_end=lambda logs: ended.append(1))
    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*xy, batch_size=4, callbacks=[mine], verbose=1)
    assert ended == [1]
    before = model.evaluate(*xy)
    model.fit(*xy, epochs=20, verbose=0)
    assert model.evaluate(*xy) < before


def test_progress_lines(xy, capsys):
    make().fit(*xy, epochs=2, verbose=2, validation_split=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2 - ")
    assert "val_loss=" in lines[1]


def test_progress_bar(xy, capsys):
    make().fit(*xy, batch_size=2, epochs=2, verbose=1)
    text = capsys.readouterr().err
    assert "Epoch 2/2: 100%" in text
    assert "loss=" in text
    make().fit(*xy, verbose=0)
    out = capsys.readouterr()
    assert out.out == out.err == ""

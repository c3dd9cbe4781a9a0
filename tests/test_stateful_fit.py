"""`fit` of stateful models: validation, the order of samples, the last batch."""

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.callbacks import LambdaCallback
from fastrnn.sequences import stateful_batches

LAYERS = {
    "lstm": lambda: layers.LSTM(4, stateful=True),
    "rnn": lambda: layers.RNN(layers.GRUCell(4), stateful=True),
    "bidirectional": lambda: layers.Bidirectional(layers.GRU(4, stateful=True)),
}


def model(kind="lstm"):
    made = Sequential([LAYERS[kind](), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    return made


@pytest.fixture
def data(rng):
    x = rng.normal(size=(12, 5, 2)).astype("float32")
    return x, x[:, :, 0].sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_validation_does_not_change_what_is_trained(kind, data):
    x, y = data
    with_validation, without = model(kind), model(kind)
    options = {"epochs": 3, "batch_size": 4, "shuffle": False, "verbose": 0}
    with_validation.fit(x, y, validation_data=(x[:6], y[:6]), validation_batch_size=3, **options)
    without.fit(x, y, **options)
    np.testing.assert_array_equal(with_validation.params, without.params)


@pytest.mark.parametrize("kind", LAYERS)
def test_validation_starts_from_initial_states(kind, data):
    x, y = data
    made = model(kind)
    history = made.fit(x, y, batch_size=4, shuffle=False, verbose=0, validation_data=(x[:4], y[:4]))
    made.reset_states()
    assert history.history["val_loss"][0] == pytest.approx(
        made.evaluate(x[:4], y[:4], batch_size=4), rel=1e-6
    )


def test_states_after_fit_are_those_of_training(data):
    x, y = data
    seen = []
    keep = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(made.layers[0].states[0].copy()))
    made = model()
    made.fit(x, y, batch_size=4, shuffle=False, verbose=0, validation_data=(x, y), callbacks=[keep])
    np.testing.assert_array_equal(made.layers[0].states[0], seen[-1])


@pytest.mark.parametrize("shuffle", [{}, {"shuffle": True}, {"shuffle": "batch"}], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_shuffled_samples_are_refused(kind, shuffle, data):
    made = model(kind)
    with pytest.raises(ValueError, match=r"shuffle=.* is stateful.*Give shuffle=False"):
        made.fit(*data, verbose=0, **shuffle)
    assert not made.built


@pytest.mark.parametrize("way", ["fit", "validation", "evaluate", "predict"])
@pytest.mark.parametrize("kind", LAYERS)
def test_last_batch_of_another_size_is_refused_before_any_work(kind, way, data):
    x, y = data
    made = model(kind)
    made.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    before, states = made.params.copy(), made.layers[0].states
    calls = {
        "fit": lambda: made.fit(x, y, batch_size=5, shuffle=False, verbose=0),
        "validation": lambda: made.fit(
            x, y, batch_size=4, shuffle=False, verbose=0, validation_data=(x[:7], y[:7])
        ),
        "evaluate": lambda: made.evaluate(x, y, batch_size=5),
        "predict": lambda: made.predict(x, batch_size=5),
    }
    with pytest.raises(ValueError, match=r"leave a last batch of [23], but layer .* is stateful.*divides"):
        calls[way]()
    np.testing.assert_array_equal(made.params, before)
    np.testing.assert_equal(made.layers[0].states, states)


def test_batches_of_long_series_need_no_argument(rng):
    series = rng.normal(size=(2, 40, 1))
    batches = stateful_batches(series[:, :-1], series[:, 1:], n_steps=8)
    made = Sequential([layers.LSTM(4, stateful=True, return_sequences=True), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    history = made.fit(batches, epochs=2, verbose=0, validation_data=batches)
    assert len(history.history["val_loss"]) == 2

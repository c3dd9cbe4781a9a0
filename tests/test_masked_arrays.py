"""NumPy's masked arrays: the numbers under a mask are never taken for data."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, Sequential, layers
from fastrnn.forecasting import RNNForecaster, coverage, make_windows, mase
from fastrnn.sequences import Ragged, as_sequences

X = np.random.default_rng(0).normal(size=(8, 4, 2)).astype("float32")
Y = X.sum((1, 2))
MASKED_X = np.ma.array(X, mask=np.zeros(X.shape, bool))
MASKED_X[6, 3, 1] = np.ma.masked
MASKED_Y = np.ma.array(Y, mask=[0] * 7 + [1])
SERIES = 5 + np.sin(np.arange(30.0))
MASKED_SERIES = np.ma.array(SERIES, mask=np.arange(30) == 7)
TOKENS = np.ma.array([[1, 2, 3], [3, 2, 1]], mask=[[0, 0, 0], [0, 0, 1]])


def model():
    made = Sequential([layers.Input((4, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
    made.compile("sgd", "mse")
    return made


def forecaster():
    return RNNForecaster(2, units=2, max_iter=1)


CALLS = {
    "fit x": lambda: model().fit(MASKED_X, Y[:, None], batch_size=4, verbose=0),
    "fit y": lambda: model().fit(X, MASKED_Y[:, None], batch_size=4, verbose=0),
    "fit weights": lambda: model().fit(X, Y[:, None], sample_weight=MASKED_Y, verbose=0),
    "validation": lambda: model().fit(X, Y[:, None], validation_data=(MASKED_X, Y[:, None]), verbose=0),
    "train_on_batch": lambda: model().train_on_batch(MASKED_X, Y[:, None]),
    "predict": lambda: model().predict(MASKED_X),
    "layer": lambda: layers.LSTM(3)(MASKED_X),
    "tokens": lambda: layers.Embedding(4, 2)(TOKENS),
    "stream": lambda: model().stream(8).step(MASKED_X[:, 3]),
    "stream run": lambda: model().stream(8).run(MASKED_X),
    "regressor x": lambda: RNNRegressor(units=2, max_iter=1, tol=None).fit(MASKED_X, Y),
    "regressor y": lambda: RNNRegressor(units=2, max_iter=1, tol=None).fit(X, MASKED_Y),
    "regressor list": lambda: RNNRegressor(units=2, max_iter=1, tol=None).fit(list(MASKED_X), Y),
    "regressor weights": lambda: RNNRegressor(units=2, max_iter=1, tol=None).fit(X, Y, MASKED_Y),
    "regressor steps": lambda: RNNRegressor(units=2, max_iter=1, tol=None, return_sequences=True).fit(
        X, MASKED_X[..., 1]
    ),
    "classifier y": lambda: RNNClassifier(units=2, max_iter=1, tol=None).fit(X, MASKED_Y > 0),
    "as_sequences": lambda: as_sequences(MASKED_X),
    "forecaster y": lambda: forecaster().fit(MASKED_SERIES),
    "forecaster list": lambda: forecaster().fit([SERIES, MASKED_SERIES]),
    "forecaster matrix": lambda: forecaster().fit(MASKED_SERIES[:, None]),
    "forecaster update": lambda: forecaster().fit(SERIES).update(MASKED_SERIES),
    "forecaster backtest": lambda: forecaster().fit(SERIES).backtest(MASKED_SERIES),
    "forecaster x": lambda: forecaster().fit(SERIES, MASKED_SERIES[:, None]),
    "forecaster x of each": lambda: forecaster().fit([SERIES], [MASKED_SERIES[:, None]]),
    "forecaster static": lambda: forecaster().fit([SERIES] * 30, static=MASKED_SERIES),
    "windows": lambda: make_windows(MASKED_SERIES, 3),
    "mase": lambda: mase(MASKED_SERIES, SERIES, SERIES),
    "coverage": lambda: coverage(SERIES, MASKED_SERIES, SERIES),
    "Ragged": lambda: Ragged.from_list(list(MASKED_X)),
}


@pytest.mark.parametrize("call", CALLS)
def test_masked_values_are_refused(call):
    with pytest.raises(ValueError, match=r"is a masked array with 1 masked values.*\.filled\("):
        CALLS[call]()


def test_masked_array_without_masked_values_is_an_array():
    plain = np.ma.array(X, mask=False)
    np.testing.assert_array_equal(model().predict(plain), model().predict(X))


def test_filled_steps_are_masked_by_a_masking_layer():
    """The remedy that the message names, for whole steps."""
    steps = np.ma.array(X, mask=np.zeros(X.shape, bool))
    steps[:, 2:] = np.ma.masked
    network = Sequential([layers.Input((None, 2)), layers.Masking(-9.0), layers.GRU(3)], seed=0)
    np.testing.assert_allclose(network.predict(steps.filled(-9)), network.predict(X[:, :2]), atol=1e-6)

"""Reading a model for prediction, where the classes that it was trained with are not at hand."""

import numpy as np
import pytest

from fastrnn import EncoderDecoder, RNNRegressor, Sequential, layers, load
from fastrnn.exceptions import ModelFileError, NotCompiledError
from fastrnn.losses import Loss
from fastrnn.model import load_model


class Quartic(Loss):
    def values(self, y_true, y_pred):
        return ((y_pred - y_true) ** 4).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        return 4 * (y_pred - y_true) ** 3 / y_pred.shape[-1]


class OwnDense(layers.Dense):
    pass


@pytest.fixture
def x(rng):
    return rng.normal(size=(6, 5, 2)).astype("float32")


def row_of_layers(last=layers.Dense):
    return Sequential([layers.LSTM(4, return_sequences=True), last(1)], seed=0)


def encoder_decoder():
    return EncoderDecoder([layers.LSTM(4)], [layers.LSTM(4), layers.Dense(1)], seed=0)


def load_compiled(path, compile=True):
    return load(path, compiled=compile)


@pytest.mark.parametrize("read", [load_compiled, load_model])
@pytest.mark.parametrize("made", [row_of_layers, encoder_decoder])
def test_model_is_read_without_its_own_loss(made, read, x, tmp_path):
    model = made()
    model.compile("adam", Quartic())
    model.fit(x, x[:, :, :1], verbose=0)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="Quartic"):
        read(tmp_path / "model")
    again = read(tmp_path / "model", compile=False)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    with pytest.raises(NotCompiledError):
        again.evaluate(x, x[:, :, :1])
    again.compile("adam", "mse")
    again.fit(x, x[:, :, :1], verbose=0)


def test_layer_of_ones_own_is_still_needed(x, tmp_path):
    model = row_of_layers(OwnDense)
    model.compile("adam", Quartic())
    model.fit(x, x[:, :, :1], verbose=0)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="OwnDense"):
        load(tmp_path / "model", compiled=False)
    again = load(tmp_path / "model", {"OwnDense": OwnDense}, compiled=False)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_compile_false_is_for_models(x, tmp_path):
    RNNRegressor(units=2, max_iter=1, tol=None).fit(x, x[:, 0, 0]).save(tmp_path / "estimator")
    with pytest.raises(ModelFileError, match="models only"):
        load(tmp_path / "estimator", compiled=False)
    with pytest.raises(ValueError, match="compiled='no': give True or False"):
        load(tmp_path / "estimator", compiled="no")

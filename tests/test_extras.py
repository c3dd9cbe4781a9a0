"""A library of an extra that is not installed: the error says how to install it."""

import sys

import numpy as np
import pytest

from fastrnn import Sequential, datasets, interop, layers
from fastrnn.distributed import DaskRNNClassifier
from fastrnn.forecasting import BacktestDisplay, RNNForecaster

X = np.zeros((4, 3, 2), np.float32)


def model():
    return Sequential([layers.Input((None, 2)), layers.GRU(3), layers.Dense(1)])


def backtest():
    series = np.sin(np.arange(40.0))
    forecaster = RNNForecaster(horizon=2, cell="simple_rnn", units=2, max_iter=1, random_state=0)
    return forecaster.fit(series[:30]).backtest(series, start=30)


CASES = {
    "data": ("pooch", lambda folder: datasets.fetch_imdb(folder=folder)),
    "dask": ("dask.array", lambda folder: DaskRNNClassifier(max_iter=1).fit(X, [0, 1, 0, 1])),
    "frames": ("pandas", lambda folder: backtest().to_frame()),
    "keras": ("keras", lambda folder: interop.to_keras(model())),
    "onnx": ("onnx", lambda folder: interop.to_onnx(model())),
    "plot": ("matplotlib.pyplot", lambda folder: BacktestDisplay.from_backtest(backtest())),
    "torch": ("torch", lambda folder: interop.to_torch(model())),
}


@pytest.mark.parametrize("extra", CASES)
def test_missing_library_names_its_extra(extra, tmp_path, monkeypatch):
    library, call = CASES[extra]
    for name in {library, library.partition(".")[0]}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'pip install "fastrnn\[{extra}\]"'):
        call(tmp_path)

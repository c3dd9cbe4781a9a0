"""Progress bars and lines: levels of verbose, terminals, logs, worker processes."""

import io
import sys

import numpy as np
import pytest

from fastrnn import RNNClassifier, Sequential, layers
from fastrnn.forecasting import RNNForecaster
from fastrnn.training import progress as module
from fastrnn.training.progress import progress

X = np.random.default_rng(0).standard_normal((8, 4, 2)).astype(np.float32)
Y = np.arange(8) % 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


def classifier(verbose):
    RNNClassifier(cell="simple_rnn", units=3, max_iter=3, tol=None, verbose=verbose, random_state=0).fit(X, Y)


def forecaster(verbose):
    series = np.sin(np.arange(40.0))
    RNNForecaster(horizon=2, cell="simple_rnn", units=3, max_iter=3, verbose=verbose, random_state=0).fit(
        series
    )


@pytest.mark.parametrize("fit", [classifier, forecaster])
def test_verbose_levels_are_silence_a_bar_and_lines(fit, capsys):
    fit(0)
    assert tuple(capsys.readouterr()) == ("", "")
    fit(True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "loss=" in err
    fit(2)
    out, err = capsys.readouterr()
    assert [line[:9] for line in out.splitlines()] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert all("loss=" in line for line in out.splitlines())
    assert err == ""


def test_verbose_of_a_model_counts_the_batches_of_each_epoch(capsys):
    model = Sequential([layers.SimpleRNN(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, 0, :1], batch_size=4, epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Epoch 1/2: 100%" in err
    assert "2/2" in err


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "file"])
def test_progress_is_written_seldom_in_files(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(module, "REFRESH", 0.0)
    assert list(progress(range(50), "count", "number", True, str)) == list(range(50))
    text = sys.stderr.getvalue()
    assert "50/50" in text
    shown = text.count("count:")
    assert shown >= 50 if stream is Terminal else shown < 5


def test_progress_is_silent_in_worker_processes(capfd):
    from joblib import Parallel, delayed

    Parallel(n_jobs=2)(delayed(classifier)(1) for _ in range(2))
    assert "3/3" not in capfd.readouterr().err
    list(progress(range(2), "count", "number", shown=False))
    assert capfd.readouterr().err == ""

"""Progress bars and lines: levels of verbose, terminals, logs, worker processes."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastrnn import NonFiniteLossError, Ragged, RNNClassifier, RNNRegressor, Sequential, fit_many, layers
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


def test_bar_of_a_backtest_counts_its_refits(capsys):
    series = np.sin(np.arange(40.0))
    for verbose, shown in ((0, ""), (1, "backtest: 100%")):
        forecaster = RNNForecaster(
            horizon=2, cell="simple_rnn", units=3, max_iter=1, verbose=verbose, random_state=0
        )
        forecaster.fit(series[:30])
        capsys.readouterr()
        forecaster.backtest(series, start=30, refit=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert shown in err
        assert bool(err) == bool(verbose)


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


def model_of_batches():
    model = Sequential([layers.SimpleRNN(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.build((None, 4, 2))
    return model


def test_verbose_of_predict_and_evaluate_is_silence_a_bar_and_a_line(capsys):
    model, y = model_of_batches(), X[:, 0, :1]
    calls = {
        "predict": lambda verbose: model.predict(X, batch_size=3, verbose=verbose),
        "evaluate": lambda verbose: model.evaluate(X, y, batch_size=3, verbose=verbose),
    }
    for title, call in calls.items():
        for silent in (0, "auto"):
            call(silent)
            assert tuple(capsys.readouterr()) == ("", "")
        call(1)
        out, err = capsys.readouterr()
        assert out == ""
        assert f"{title}: 100%" in err
        assert "3/3" in err
        assert ("loss=" in err) == (title == "evaluate")
        call(2)
        out, err = capsys.readouterr()
        assert err == ""
        assert out.startswith(f"{title} - ")
        assert out.count("\n") == 1
        assert ("loss=" in out) == (title == "evaluate")


def test_bar_of_predict_counts_the_batches_that_are_computed(capsys):
    model = model_of_batches()
    model.predict(X, batch_size=2, steps=3, verbose=1)
    assert "3/3" in capsys.readouterr().err
    model.predict(((X[i : i + 2],) for i in (0, 2)), verbose=1)  # the number of batches is not known
    err = capsys.readouterr().err
    assert "predict: 2batch" in err
    # Ragged batches are of similar lengths, so there can be more than samples / batch_size.
    ragged = Ragged.from_list([*3 * [np.ones((1, 2))], np.ones((100_000, 2))])
    model.predict(ragged, batch_size=4, verbose=1)
    assert "2/2" in capsys.readouterr().err


def test_bar_of_predict_is_closed_after_an_error(monkeypatch):
    closed = []
    monkeypatch.setattr(module, "new_bar", lambda *_: SimpleNamespace(close=lambda: closed.append(True)))

    def batches():
        yield (X,)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        model_of_batches().predict(batches(), verbose=1)
    assert closed == [True]


def test_validation_in_fit_shows_no_bar_of_its_own(capsys):
    model, y = model_of_batches(), X[:, 0, :1]
    model.fit(X, y, validation_data=(X, y), verbose=1)
    err = capsys.readouterr().err
    assert "evaluate" not in err
    assert "Epoch 1/1: 100%" in err
    assert "val_loss=" in err


def many(verbose, n=40):
    model = RNNClassifier(cell="simple_rnn", units=2, max_iter=1, tol=None, random_state=0)
    return fit_many(model, n * [(X, Y)], verbose=verbose)


def test_bar_of_fit_many_is_written_seldom_in_files(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    many(True)
    assert "40/40" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().count("fit_many:") < 5


def test_bar_of_fit_many_is_silent_in_worker_processes_and_without_verbose(capfd):
    from joblib import Parallel, delayed

    Parallel(n_jobs=2)(delayed(many)(True, 3) for _ in range(2))
    many(False, 3)
    assert "fit_many" not in capfd.readouterr().err


def test_bar_of_fit_many_is_closed_after_an_error(monkeypatch):
    events = []

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            events.append("closed")

        def update(self):
            events.append("one")

    monkeypatch.setattr("fastrnn.estimators.many.new_bar", lambda *_: Bar())
    model = RNNRegressor(
        cell="simple_rnn", units=2, solver="sgd", learning_rate_init=1e30, max_iter=9, tol=None
    )
    with pytest.raises(NonFiniteLossError) as caught:
        fit_many(model, 2 * [(X, X[:, 0, 0])], n_jobs=1, verbose=True)
    assert events == ["closed"]
    assert caught.value.fitted == {}

import sys

import numpy as np
import pytest

from fastrnn.plotting import plot_forecast, plot_learning_curves


@pytest.fixture
def pyplot(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


CURVES = {
    "loss": [3.0, 2.0, 1.0],
    "accuracy": [0.1, 0.5, 0.6],
    "val_loss": [3.0, 2.5, 2.6],
    "val_accuracy": [0, 0.4, 0.5],
}


def test_learning_curves_of_a_history(pyplot, tmp_path):
    class History:
        history = CURVES

    axes = plot_learning_curves(History(), title="IMDB")
    assert [ax.get_ylabel() for ax in axes] == ["loss", "accuracy"]
    assert [line.get_label() for line in axes[0].lines] == ["training", "validation"]
    np.testing.assert_array_equal(axes[0].lines[1].get_ydata(), CURVES["val_loss"])
    np.testing.assert_array_equal(axes[0].lines[0].get_xdata(), [1, 2, 3])
    assert axes[0].get_title() == "IMDB"
    axes[0].figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_learning_curves_count_whole_epochs(pyplot):
    (ax,) = plot_learning_curves({"loss": [2.0, 1.0]})
    ax.figure.canvas.draw()
    assert all(tick == int(tick) for tick in ax.get_xticks())


def test_learning_curves_of_an_estimator_on_given_axes(pyplot):
    class Fitted:
        loss_curve_ = [2.0, 1.0]
        validation_scores_ = [0.5, 0.7]

    _, places = pyplot.subplots(1, 2)
    axes = plot_learning_curves(Fitted(), axes=places)
    assert axes[1] is places[1]
    assert [ax.get_ylabel() for ax in axes] == ["loss", "score"]
    Fitted.validation_scores_ = None
    assert len(plot_learning_curves(Fitted())) == 1


def test_learning_curves_reject(pyplot):
    with pytest.raises(ValueError, match="no learning curves in a int"):
        plot_learning_curves(3)
    with pytest.raises(ValueError, match="no epoch"):
        plot_learning_curves({})
    with pytest.raises(ValueError, match="axes has 1 places for 2"):
        plot_learning_curves(CURVES, axes=pyplot.subplots()[1])


def test_forecast_stands_at_the_end_of_the_truth(pyplot):
    months = np.arange("2000-01", "2002-01", dtype="datetime64[M]")
    truth = np.arange(24.0)
    ax = plot_forecast(truth, {"naive": truth[-12:] - 12, "short": [1.0]}, time=months, ylabel="y", title="t")
    seen, naive, short, _ = ax.lines
    np.testing.assert_array_equal(seen.get_ydata(), truth)
    assert naive.get_xdata()[0] == np.datetime64("2001-01")
    assert short.get_xdata()[-1] == naive.get_xdata()[-1]
    assert (ax.get_ylabel(), ax.get_title()) == ("y", "t")


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((np.zeros((3, 2)), {}), {}, "truth has shape"),
        ((np.zeros(3), {"a": np.zeros(4)}), {}, r"forecasts\['a'\] has shape \(4,\)"),
        ((np.zeros(3), {}), {"time": np.arange(2)}, "time has shape"),
    ],
)
def test_forecast_rejects(pyplot, args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        plot_forecast(*args, **kwargs)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"fastrnn\[plot\]"):
        plot_forecast([1.0, 2.0], {})

import inspect
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import fastrnn.forecasting
import fastrnn.plotting
from fastrnn import RNNClassifier, Sequential, StandardScaler3D, layers
from fastrnn.inspection import DeletionCurve
from fastrnn.plotting import (
    AttributionDisplay,
    GradientFlowDisplay,
    HiddenStateDisplay,
    LossCurveDisplay,
    plot_forecast,
    plot_learning_curves,
)
from fastrnn.plotting.common import COLOURS, LINES, MARKERS


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


def test_forecast_is_drawn_at_the_end_of_the_truth(pyplot):
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
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    for draw in (
        lambda: plot_forecast([1.0, 2.0], {}),
        lambda: LossCurveDisplay.from_history({"loss": [1.0]}),
        lambda: HiddenStateDisplay.from_predictions(np.zeros((3, 2))),
        lambda: GradientFlowDisplay.from_predictions({"gru": [np.ones(3)]}),
        lambda: AttributionDisplay.from_predictions(np.zeros(3)),
    ):
        with pytest.raises(ImportError, match=r'pip install "fastrnn\[plot\]"'):
            draw()


def test_loss_curve_display_of_estimators_pipelines_and_models(pyplot):
    X = np.random.default_rng(0).normal(size=(30, 4, 1))
    y = np.arange(30) % 2
    model = RNNClassifier(units=2, max_iter=3, tol=None, early_stopping=True, random_state=0)
    pipe = make_pipeline(StandardScaler3D(), model).fit(X, y)
    display = LossCurveDisplay.from_estimator(pipe)
    assert display.curves == {"loss": pipe[-1].loss_curve_, "val_score": pipe[-1].validation_scores_}
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "score"]
    search = GridSearchCV(pipe, {"rnnclassifier__units": [2]}, cv=2).fit(X, y)
    assert len(LossCurveDisplay.from_estimator(search).curves["loss"]) == 3
    network = Sequential([layers.Input((None, 1)), layers.GRU(2), layers.Dense(1)])
    network.compile("sgd", "mse")
    history = network.fit(X, y, epochs=2, verbose=0)
    assert LossCurveDisplay.from_estimator(network).curves == history.history
    with pytest.raises(ValueError, match="call fit"):
        LossCurveDisplay.from_estimator(RNNClassifier())


def test_displays_of_an_estimator_that_is_not_fitted_say_so(pyplot):
    X = np.zeros((3, 4, 1))
    for draw in (HiddenStateDisplay.from_estimator, AttributionDisplay.from_estimator):
        with pytest.raises(NotFittedError, match="Call 'fit'"):
            draw(RNNClassifier(), X)
    with pytest.raises(NotFittedError, match="Call 'fit'"):
        GradientFlowDisplay.from_estimator(RNNClassifier(), X, [0, 1, 0])
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("display", [*fastrnn.plotting.__all__, "ForecastDisplay", "BacktestDisplay"])
def test_displays_do_not_print_what_they_draw(display):
    """The last line of a notebook's cell is printed beside the picture."""
    made = getattr(fastrnn.plotting, display, None) or getattr(fastrnn.forecasting, display)
    if inspect.isclass(made):
        assert made.__repr__ is object.__repr__


def test_gradient_flow_display_counts_back_from_the_last_step(pyplot):
    norms = {"gru": [np.array([0.25, 0.5, 1.0]), np.array([1.0, 2.0])], "lstm": [np.array([1.0, 4.0])]}
    display = GradientFlowDisplay.from_predictions(norms)
    np.testing.assert_allclose(display.lines_[0].get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(display.lines_[0].get_ydata(), [1, 0.5, 0.25])
    assert [line.get_label() for line in display.lines_] == ["gru", "lstm"]
    assert len({(line.get_color(), line.get_linestyle()) for line in display.lines_}) == 2
    assert display.ax_.get_yscale() == "log"
    absolute = GradientFlowDisplay.from_predictions(norms, relative=False, ax=pyplot.subplots()[1])
    np.testing.assert_allclose(absolute.lines_[0].get_ydata(), [1.5, 0.75, 0.25])
    with pytest.raises(ValueError, match="no layer"):
        GradientFlowDisplay.from_predictions({})


def test_gradient_flow_display_leaves_a_vanished_gradient_out(pyplot):
    display = GradientFlowDisplay.from_predictions({"a": [np.array([0.0, 1e-300, 1.0])]})
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), [0, 1])


def test_hidden_state_display_shows_units_and_labels(pyplot):
    time = np.linspace(0, 6, 40)
    states = np.stack([np.sin(time), 0.01 * time, np.sin(time) + 0.01, -np.sin(time)], axis=1)
    stamps = np.arange("2000-01", "2003-05", dtype="datetime64[M]")
    display = HiddenStateDisplay.from_predictions(states, labels=stamps, title="t")
    place = {int(unit): i for i, unit in enumerate(display.units_)}
    assert abs(place[0] - place[2]) == 1  # alike, so beside each other
    assert {place[3], place[0], place[2], place[1]} == {0, 1, 2, 3}
    shown = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert shown[0] == "2000-01"
    assert len(shown) <= 24
    assert display.ax_.images[0].get_array().shape == (4, 40)
    np.testing.assert_array_equal(display.ax_.images[0].get_array()[place[1]], states[:, 1])
    chosen = HiddenStateDisplay.from_predictions(states, units=[3, 1])
    np.testing.assert_array_equal(chosen.units_, [3, 1])
    many = HiddenStateDisplay.from_predictions(np.random.default_rng(0).normal(size=(9, 50)))
    assert len(many.units_) == 32
    for bad, message in (
        ({"states": states[0]}, "states has shape"),
        ({"states": states, "labels": ["a"]}, "labels has 1 entries, the sequence 40 steps"),
        ({"states": states, "units": [4]}, "units"),
    ):
        with pytest.raises(ValueError, match=message):
            HiddenStateDisplay.from_predictions(**bad)


def test_attribution_display_labels_the_steps_that_count(pyplot):
    values = np.zeros(200)
    values[[20, 22, 150]] = 3, 2, -4
    words = [f"w{i}" for i in range(200)]
    curve = DeletionCurve(np.array([0, 0.5]), np.array([2.0, 0]), np.array([2.0, 1]), np.array([2.0, 2]))
    display = AttributionDisplay.from_predictions(values, labels=words, deletion=curve)
    bars, check = display.axes_
    shown = [text.get_text() for text in bars.get_xticklabels()]
    assert {"w20", "w150"} <= set(shown)
    assert "w22" not in shown  # would lie on w20
    assert [line.get_label() for line in check.lines] == ["most attributed", "at random", "least attributed"]
    np.testing.assert_array_equal(check.lines[0].get_ydata(), curve.most)
    heights = [patch.get_height() for patch in bars.patches]
    assert sorted(heights)[0] == -4
    assert len(AttributionDisplay.from_predictions(values).axes_) == 1
    with pytest.raises(ValueError, match="attributions has shape"):
        AttributionDisplay.from_predictions(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="axes has 1 places for 2 pictures"):
        display.plot(axes=pyplot.subplots()[1])


def test_attribution_display_checks_the_sample_before_it_draws(pyplot):
    X = np.random.default_rng(0).normal(size=(8, 4, 1))
    model = RNNClassifier(units=2, max_iter=1, tol=None).fit(X, np.arange(8) % 2)
    with pytest.raises(ValueError, match="sample=8: X holds 8 sequences"):
        AttributionDisplay.from_estimator(model, X, sample=8)
    with pytest.raises(ValueError, match="sample=8: X holds 8 sequences"):
        HiddenStateDisplay.from_estimator(model, X, sample=8)
    display = AttributionDisplay.from_estimator(model, X, sample=-1, check=False)
    assert display.deletion is None
    assert display.figure_ is display.axes_[0].figure


def test_colours_of_pictures_differ_for_the_colour_blind_and_in_grey():
    """Neighbours of the palette by the simulation of Machado et al. (2009), severity 1, and by luminance."""
    colors = pytest.importorskip("matplotlib.colors", reason="the extra 'plot' is not installed")
    deutan = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    protan = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
    rgb = np.array([colors.to_rgb(c) for c in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for simulated in (linear, linear @ deutan.T, linear @ protan.T):
        apart = np.linalg.norm(simulated[1:3] - simulated[:2], axis=1)
        assert apart.min() > 0.1
    # In grey, lines differ in line style and marker if not in lightness.
    assert len({str(line) for line in LINES[:4]}) == 4
    assert len(set(MARKERS)) == len(COLOURS)

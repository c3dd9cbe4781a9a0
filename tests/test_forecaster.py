import pickle
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning

from fastrnn.forecasting import ConformalIntervals, RNNForecaster, mase, naive_scale, seasonal_naive
from fastrnn.forecasting.series import Series
from fastrnn.forecasting.targets import SeriesHistory


def wave(n=120, period=12, seed=0, level=10.0):
    rng = np.random.default_rng(seed)
    return level + 3 * np.sin(np.arange(n) * 2 * np.pi / period) + rng.normal(scale=0.3, size=n)


def forecaster(horizon=6, **kwargs):
    return RNNForecaster(
        horizon, **{"season_length": 12, "units": 8, "max_iter": 3, "random_state": 0, **kwargs}
    )


def series_state(f):
    return [f.predict(), *(a for layer in f._states for a in layer), f.model_.params.copy()]


def test_forecaster_beats_seasonal_naive_on_a_noisy_wave():
    y = wave(400)
    f = RNNForecaster(12, season_length=12, random_state=0).fit(y[:-48])
    metrics = f.backtest(y, start=-48).metrics()
    assert metrics["mase"] < 0.85 * metrics["naive_mase"]


@pytest.mark.parametrize("kind", ["array", "matrix", "list"])
def test_predict_returns_the_kind_of_fit(kind):
    if kind == "array":
        assert forecaster().fit(wave()).predict().shape == (6,)
        assert forecaster().fit(wave()).predict(2).shape == (2,)
    elif kind == "matrix":
        y = np.stack([wave(seed=i) for i in range(3)], axis=1)
        assert forecaster().fit(y).predict(4).shape == (4, 3)
    else:
        out = forecaster().fit([wave(100 + 20 * i, seed=i) for i in range(3)]).predict()
        assert [part.shape for part in out] == [(6,)] * 3


def test_series_of_any_lengths_are_forecast_as_alone():
    y = [wave(100, seed=1), wave(61, seed=2), wave(140, seed=3, level=50)]
    f = forecaster().fit(y)
    together = f.predict()
    for values, forecast in zip(y, together, strict=True):
        alone = f.backtest([*y[:1], values], start=None, horizon=1)  # runs the network over the whole series
        assert alone.n_origins == 2
        single = pickle.loads(pickle.dumps(f))
        history = SeriesHistory(f._plan.targets)
        history.extend(values)
        single._series = [Series(0, None, history)]
        single._settle()
        raw = single._outputs.reshape(1, 6, 1)
        np.testing.assert_allclose(single._values(single._head.point(raw), 6)[0], forecast, rtol=1e-5)


def test_update_then_predict_matches_a_backtest_over_the_whole_series():
    y = wave(150)
    f = forecaster().fit(y[:100])
    for stop in (101, 105, 130):
        f.update(y[len(f._series[0].history) : stop])
        whole = f.backtest(np.concatenate([y[:stop], np.zeros(6) + 1]), start=stop).series[0]
        np.testing.assert_allclose(f.predict(), whole.forecast[0], rtol=1e-5)


def test_update_does_not_change_weights():
    f = forecaster().fit(wave())
    before = f.model_.params.copy()
    f.update(wave(5))
    np.testing.assert_array_equal(f.model_.params, before)


@pytest.mark.parametrize(
    "options",
    [
        {"quantiles": (0.1, 0.5, 0.9)},
        {"distribution": "student_t", "lags": (3, 12)},
        {"distribution": "negative_binomial"},
        {"target": "linear", "logarithm": False},
        {"target": "smooth", "cell": "lstm", "units": (6, 4)},
    ],
    ids=["quantiles", "student_t-lags", "counts", "linear", "smooth-stacked"],
)
@pytest.mark.parametrize("n_series", [1, 2, 24])
def test_future_does_not_change_earlier_forecasts_of_a_backtest(n_series, options):
    y = [np.round(wave(150 - i % 3, seed=i)) for i in range(n_series)]
    other = [v.copy() for v in y]
    for v in other:
        v[130:] = np.round(np.exp(np.arange(len(v) - 130)))
    f = forecaster(**options).fit([v[:100] for v in y])
    for one, two in zip(*(f.backtest(v, start=100).series for v in (y, other)), strict=True):
        before = one.origins < 130
        assert before.sum() == 31
        np.testing.assert_array_equal(one.forecast[before], two.forecast[before])
        if one.quantiles is not None:
            np.testing.assert_array_equal(one.quantiles[before], two.quantiles[before])
        assert (one.forecast[~before] != two.forecast[~before]).any()


def test_update_runs_the_network_over_new_steps_only(monkeypatch):
    from fastrnn.forecasting import network

    seen = []
    advance = network.advance

    def counted(model, features, *rest):
        seen.append([len(part) for part in features])
        return advance(model, features, *rest)

    y = [wave(100), wave(80, seed=1)]
    f = forecaster().fit(y)
    monkeypatch.setattr(network, "advance", counted)
    f.predict()
    f.update([wave(3), wave(1)]).predict()
    f.update([wave(1), wave(1)]).predict()
    assert seen == [[3, 1], [1, 1]]


def test_linear_target_is_fitted_in_fit_and_goes_on(tmp_path):
    import fastrnn

    rng = np.random.default_rng(0)
    y = np.zeros(600)
    for t in range(7, 600):
        y[t] = 0.5 * y[t - 1] + 0.5 * y[t - 7] + rng.normal()
    options = {"season_length": 7, "max_iter": 20}
    f = forecaster(target="linear", **options).fit(y[:500])
    assert f._series[0].history.choice(499).kind == "linear"
    assert f._plan.targets.linear.window == 24
    f.save(tmp_path / "f")
    again = fastrnn.load(tmp_path / "f")
    for each in (f, again):
        each.update(y[500:501]).update(y[501:510])
    np.testing.assert_array_equal(again.predict(), f.predict())
    whole = f.backtest(y[:516], start=510).series[0]
    np.testing.assert_allclose(f.predict(), whole.forecast[0], rtol=1e-5)
    linear = f.backtest(y, start=510).metrics()["mae"]
    assert linear < 0.95 * forecaster(**options).fit(y[:500]).backtest(y, start=510).metrics()["mae"]


def test_linear_target_of_a_short_series_does_without():
    f = forecaster(target="linear").fit(wave(28))
    assert f._plan.targets.linear is None
    np.testing.assert_allclose(f.predict(), forecaster().fit(wave(28)).predict())


def test_backtest_origins_truth_and_naive():
    y = wave(150)
    f = forecaster().fit(y[:100])
    result = f.backtest(y, start=100, step=7, horizon=4).series[0]
    np.testing.assert_array_equal(result.origins, np.arange(99, 146, 7))
    for origin, truth, naive in zip(result.origins, result.truth, result.naive, strict=True):
        np.testing.assert_array_equal(truth, y[origin + 1 : origin + 5])
        np.testing.assert_allclose(naive, seasonal_naive(y[: origin + 1], 4, 12), rtol=1e-12)
    for start in (-50, 2 / 3):
        np.testing.assert_array_equal(
            f.backtest(y, start=start, step=7, horizon=4).series[0].origins, result.origins
        )


def test_backtest_metrics_match_the_functions():
    y = wave(150)
    y[125] = np.nan
    f = forecaster().fit(y[:120])
    backtest = f.backtest(y, start=120)
    s = backtest.series[0]
    known = ~np.isnan(s.truth)
    metrics = backtest.metrics()
    assert metrics["mase"] == pytest.approx(mase(s.truth[known], s.forecast[known], y[:120], 12))
    assert metrics["naive_mae"] == pytest.approx(np.mean(np.abs(s.truth - s.naive)[known]))
    assert backtest.by_horizon().shape == (6,)
    np.testing.assert_allclose(np.nanmean(backtest.by_origin()[0]), metrics["mase"], rtol=0.05)


def test_backtest_with_refit_matches_a_fit_at_each_origin():
    y = wave(90)
    f = forecaster(max_iter=1).fit(y[:80])
    result = f.backtest(y, start=80, step=4, refit=True).series[0]
    for origin, forecast in zip(result.origins, result.forecast, strict=True):
        again = clone(f).fit(y[: origin + 1])
        np.testing.assert_allclose(forecast, again.predict(), rtol=1e-6)


def test_score_is_the_negative_mase_of_forecasts_of_what_follows():
    y = wave(130)
    f = forecaster().fit(y[:110])
    expected = mase(y[110:116], f.predict(), y[:110], 12)
    assert f.score(y[110:116]) == pytest.approx(-expected)
    before = f.predict()
    f.score(y[110:130])
    np.testing.assert_array_equal(f.predict(), before)
    np.testing.assert_equal(len(f._series[0].history), 110)


def test_score_of_more_than_the_horizon_goes_on_with_the_truth():
    y = wave(130)
    f = forecaster().fit(y[:110])
    expected = []
    g = pickle.loads(pickle.dumps(f))
    for start in (110, 116, 122, 128):
        truth = y[start : start + 6]
        expected.append(np.abs(g.predict()[: len(truth)] - truth))
        g.update(truth)
    scale = np.mean(np.abs(y[12:110] - y[:98]))
    assert f.score(y[110:130]) == pytest.approx(-np.concatenate(expected).mean() / scale)


def test_partial_fit_trains_on_new_steps_and_keeps_the_old_object_on_error():
    y = wave(130)
    f = forecaster().fit(y[:110])
    before = series_state(f)
    with pytest.raises(ValueError, match="infinite at step"):
        f.partial_fit(np.array([1.0, np.inf]))
    for a, b in zip(series_state(f), before, strict=True):
        np.testing.assert_array_equal(a, b)
    f.partial_fit(y[110:])
    assert len(f._series[0].history) == 130
    assert (f.model_.params != before[-1]).any()
    assert len(f.loss_curve_) == 4
    first = forecaster().partial_fit(y)
    assert first.n_iter_ == 1
    assert first.max_iter == 3


def test_missing_steps_are_marked_and_never_learnt():
    y = wave(120)
    y[[20, 50, 51, 52, 119]] = np.nan
    f = forecaster().fit(y)
    assert np.isfinite(f.predict()).all()
    column = 0  # the flag that says whether the step is known
    np.testing.assert_array_equal(f._plan.raw(f._series[0], 0, 120)[:, column], ~np.isnan(y))


def test_same_random_state_gives_bitwise_the_same():
    a, b = (forecaster().fit(wave()).predict() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert (forecaster(random_state=1).fit(wave()).predict() != a).any()


def test_clone_pickle_and_params():
    f = forecaster(units=(8, 4), cell="lstm")
    assert clone(f).get_params() == f.get_params()
    assert f.get_params()["horizon"] == 6
    f.fit(wave())
    other = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(other.predict(), f.predict())
    other.update(wave(3))
    f.update(wave(3))
    np.testing.assert_array_equal(other.predict(), f.predict())


def test_search_over_parameters_with_time_series_splits():
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

    search = GridSearchCV(forecaster(max_iter=1), {"units": [4, 8]}, cv=TimeSeriesSplit(2, test_size=6))
    search.fit(wave())
    assert search.best_params_["units"] in (4, 8)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_failed_fit_leaves_the_forecaster_as_it_was():
    f = forecaster().fit(wave())
    before = series_state(f)
    with pytest.raises(ValueError, match="horizon=6 is not shorter"):
        f.fit(wave(5))
    for a, b in zip(series_state(f), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_long_series_are_cut_and_every_origin_is_trained_once():
    from fastrnn.forecasting.network import spans_of

    spans = spans_of([1000, 30], batch_size=4, piece=50)
    counted = [np.zeros(1000, int), np.zeros(30, int)]
    for s in spans:
        counted[s.series][s.first_origin : s.stop] += 1
        assert s.first_origin - s.start == min(50, s.first_origin)
    assert all((c == 1).all() for c in counted)
    assert len(spans) > 2
    f = forecaster(batch_size=4, truncated_bptt_steps=50).fit(wave(1000))
    assert np.isfinite(f.predict()).all()


def test_early_stopping_holds_the_last_steps_back():
    y = wave(200)
    f = forecaster(early_stopping=True, n_iter_no_change=2, max_iter=40).fit(y)
    assert len(f.validation_curve_) == f.n_iter_ <= 40
    other = y.copy()
    other[-15:] += 2  # held back: the 20 last steps
    g = forecaster(early_stopping=True, n_iter_no_change=100, max_iter=3).fit(other)
    h = forecaster(early_stopping=True, n_iter_no_change=100, max_iter=3).fit(y)
    assert g.validation_curve_ != h.validation_curve_


@pytest.mark.parametrize(
    ("y", "expected"), [(np.full(40, 7.0), 7.0), (np.zeros(40), 0.0)], ids=["constant", "zeros"]
)
def test_constant_series_is_forecast_as_it_is_and_warned_of(y, expected):
    with pytest.warns(UserWarning, match="series 0 is constant; the forecast is near that value"):
        f = forecaster().fit(y)
    np.testing.assert_allclose(f.predict(), expected, atol=1e-4)


def test_short_and_missing_series_have_a_defined_forecast_and_a_warning():
    y = [wave(100), np.array([5.0]), np.full(50, np.nan), wave(100, level=30)]
    with pytest.warns(UserWarning, match="known value") as record:
        f = forecaster().fit(y)
    missing, short = (str(warning.message) for warning in record)
    assert missing.startswith("series 2 has no known value; the forecast is the median")
    assert short.startswith("series 1 has no more known values than horizon=6; the forecast starts from")
    out = f.predict()
    assert all(np.isfinite(part).all() for part in out)
    np.testing.assert_allclose(out[1], 5.0, rtol=0.3)
    np.testing.assert_allclose(out[2], np.median([y[0][-1], 5.0, y[3][-1]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f.update([np.array([1.0])] * 4)


def test_warnings_of_many_series_are_one_of_each_kind():
    y = [wave(40), *[np.full(40, float(i)) for i in range(7)], *[np.full(40, np.nan)] * 2]
    with pytest.warns(UserWarning, match="^series ") as record:
        forecaster().fit(y)
    messages = [str(warning.message) for warning in record]
    assert [m.split(";")[0] for m in messages] == [
        "series 8, 9 have no known value",
        "series 1, 2, 3, 4, 5 and 2 more are constant",
    ]


@pytest.mark.filterwarnings("ignore:series 1 has no known value", "ignore:series 2, 3 are constant")
@pytest.mark.parametrize("distribution", ["normal", "student_t", "poisson", "negative_binomial"])
def test_missing_series_has_defined_quantiles_intervals_and_samples(distribution):
    y = [np.round(wave(100)), np.full(50, np.nan), np.full(60, 7.0), np.zeros(60)]
    f = forecaster(distribution=distribution).fit(y)
    backtest = f.backtest(y[:1] * 2, start=60)
    answers = [
        f.predict(),
        f.predict_quantiles((0.05, 0.95)),
        f.predict_interval(0.9),
        f.sample(9, random_state=0),
        *(f.predict_interval(conformal=ConformalIntervals(c).fit(backtest)) for c in (0.8, 0.7)),
    ]
    for answer in answers:
        assert all(np.isfinite(part).all() for part in answer)
    lower, upper = f.predict_interval(0.9)[1].T
    assert (lower <= upper).all()


def test_missing_steps_are_not_scored():
    y = wave(100)
    f = forecaster().fit(y)
    late = y[:12] + 1
    late[[2, 7]] = np.nan
    ahead = np.concatenate([f.predict(), pickle.loads(pickle.dumps(f)).update(late[:6]).predict()])
    known = ~np.isnan(late)
    expected = np.abs(late - ahead)[known].mean() / naive_scale(y, 12)
    np.testing.assert_allclose(f.score(late), -expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:series 0 is constant")
@pytest.mark.parametrize(
    ("y", "later"), [(np.full(60, 7.0), np.full(6, 8.0)), (wave(60), np.full(6, np.nan))]
)
def test_score_that_is_undefined_warns(y, later):
    f = forecaster().fit(y)
    with pytest.warns(UndefinedMetricWarning, match="the score is NaN: no series has"):
        assert np.isnan(f.score(later))


def test_unfitted_forecaster_says_so():
    with pytest.raises(NotFittedError):
        forecaster().predict()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"horizon": 0}, "'horizon' parameter .* range \\[1, inf\\)"),
        ({"horizon": 2.5}, "'horizon' parameter"),
        ({"quantiles": (0.5, 0.1)}, "ascending order"),
        ({"quantiles": (0.5, 1.1)}, "between 0 and 1"),
        ({"quantiles": (0.5,), "distribution": "normal"}, "give one of the two"),
        ({"units": (4, 0)}, "units="),
        ({"cell": "transformer"}, "'cell' parameter"),
        ({"season_length": 500}, "season_length=500 is not shorter"),
        ({"horizon": 120}, "horizon=120 is not shorter"),
        ({"logarithm": True, "distribution": "poisson"}, "can't be used with"),
        ({"past_covariates": ("a",)}, "X was not given"),
        ({"calendar": True}, "needs stamps"),
    ],
)
def test_fit_rejects_bad_parameters(kwargs, message):
    with pytest.raises(ValueError, match=message):
        forecaster(**kwargs).fit(wave())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([]), "shape"),
        (np.zeros((4, 4, 4)), "shape"),
        ([wave(), np.array(["a", "b"])], "series 1 has dtype"),
        ([wave(), np.zeros((3, 2))], "series 1 has shape"),
        (np.full(50, np.nan), "all series are missing"),
        (np.array([1.0, np.inf] * 20), "series 0 is infinite at step 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:series 0 has no known value")
def test_fit_rejects_bad_series(y, message):
    with pytest.raises(ValueError, match=message):
        forecaster().fit(y)


@pytest.mark.parametrize("horizon", [0, 7, 2.0, True])
def test_predict_rejects_other_horizons(horizon):
    with pytest.raises(ValueError, match="horizon="):
        forecaster().fit(wave()).predict(horizon)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 0}, "start=0 is step 0"),
        ({"start": 118}, "start=118"),
        ({"start": 1.5}, "fraction"),
        ({"start": True}, "start=True"),
        ({"step": 0}, "step=0"),
        ({"horizon": 9}, "horizon=9"),
    ],
)
def test_backtest_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        forecaster().fit(wave()).backtest(wave(), **arguments)


def test_logarithm_refuses_values_that_have_none():
    f = forecaster().fit(wave())
    assert f.log_
    with pytest.raises(ValueError, match=r"series 0 is -1\.0 at step 121, .*logarithm=False"):
        f.update([np.array([3.0, -1.0])])
    assert len(f._series[0].history) == 120
    assert not forecaster().fit(wave() - 10).log_
    with pytest.raises(ValueError, match="logarithm=False"):
        forecaster(logarithm=True).fit(wave() - 10)


@pytest.mark.needs_data
def test_forecaster_of_airline_passengers_with_defaults(data_dir):
    table = np.genfromtxt(data_dir / "series" / "airline.csv", delimiter=",", skip_header=1, usecols=1)
    f = RNNForecaster(24, season_length=12, random_state=0).fit(table[:-24])
    assert mase(table[-24:], f.predict(), table[:-24], 12) < 0.6


def test_partial_fit_learns_a_change_of_the_series():
    y = np.concatenate([wave(200), wave(200, period=6)])
    f = forecaster(max_iter=20, dropout=0.0).fit(y[:200])
    g = pickle.loads(pickle.dumps(f)).update(y[200:300])
    before = g.backtest(y, start=300).metrics()["mae"]
    for start in range(200, 300, 20):
        f.partial_fit(y[start : start + 20])
    assert f.backtest(y, start=300).metrics()["mae"] < before


def test_backtest_frame_without_pandas_names_the_extra(monkeypatch):
    result = forecaster(max_iter=1).fit(wave()).backtest(wave(), start=-20)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "fastrnn\[frames\]"'):
        result.to_frame()

import numpy as np
import pytest

from fastrnn.forecasting import RNNForecaster
from fastrnn.forecasting.covariates import CovariatePlan, StaticEncoder

pd = pytest.importorskip("pandas")


def data(n=400, seed=0):
    """A series that follows a covariate, which is known ahead, at once."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 30 + 3 * np.sin(np.arange(n) * 2 * np.pi / 12) + 4 * x + 0.3 * rng.normal(size=n)
    return y, x[:, None]


def forecaster(horizon=6, **kwargs):
    return RNNForecaster(
        horizon, **{"season_length": 12, "units": 8, "max_iter": 20, "random_state": 0, **kwargs}
    )


def test_covariate_known_ahead_lowers_the_error():
    y, x = data()
    with_x = forecaster().fit(y[:300], x[:300]).backtest(y, x, start=300).metrics()
    without = forecaster().fit(y[:300]).backtest(y, start=300).metrics()
    assert with_x["mase"] < 0.35 * without["mase"]


def test_predict_with_the_covariates_of_the_future_matches_the_backtest():
    y, x = data()
    f = forecaster().fit(y[:300], x[:300])
    expected = f.backtest(y[:306], x[:306], start=300).series[0].forecast[0]
    np.testing.assert_allclose(f.predict(X=x[300:306]), expected, rtol=1e-5)
    f.update(y[300:310], x[300:310])
    expected = f.backtest(y[:316], x[:316], start=310).series[0].forecast[0]
    np.testing.assert_allclose(f.predict(X=x[310:316]), expected, rtol=1e-5)


def test_covariates_that_reach_ahead_in_fit_need_not_be_given_again():
    y, x = data()
    ahead = forecaster().fit(y[:300], x[:306])
    np.testing.assert_allclose(ahead.predict(), ahead.predict(X=x[300:306]), rtol=1e-6)


def test_past_covariates_are_not_read_ahead():
    y, x = data()
    x = np.column_stack([x, np.arange(400.0)])
    f = forecaster(past_covariates=(0, 1)).fit(y[:300], x[:300])
    one = f.backtest(y, x, start=300).series[0].forecast
    other = x.copy()
    other[350:] = 77.0
    two = f.backtest(y, other, start=300).series[0].forecast
    np.testing.assert_array_equal(one[:51], two[:51])
    assert (one[51:] != two[51:]).any()
    assert f.predict().shape == (6,)


def test_future_does_not_change_earlier_forecasts_with_covariates():
    y, x = data()
    f = forecaster().fit(y[:300], x[:300])
    changed, x2 = y.copy(), x.copy()
    changed[350:] = 1.0
    x2[356:] = -9.0  # known ahead: the last of these forecasts looks at the 6 steps from 350 on
    one = f.backtest(y, x, start=300).series[0]
    two = f.backtest(changed, x2, start=300).series[0]
    before = one.origins < 350
    np.testing.assert_array_equal(one.forecast[before], two.forecast[before])


def test_covariates_of_frames_follow_stamps():
    y, x = data()
    index = pd.date_range("2000-01-01", periods=400, freq="D")
    frame = pd.DataFrame({"temperature": x[:, 0]}, index=index)
    series = pd.Series(y, index=index)
    f = forecaster().fit(series[:300], frame)
    g = forecaster().fit(y[:300], x)
    np.testing.assert_allclose(f.predict().to_numpy(), g.predict(), rtol=1e-6)
    shifted = forecaster().fit(series[50:300], frame)
    # The scaling of X sees the rows before the series too, so numbers are near but not the same.
    expected = forecaster().fit(y[50:300], x[50:]).predict()
    np.testing.assert_allclose(shifted.predict().to_numpy(), expected, rtol=1e-3)


def test_covariates_of_long_frames_belong_to_their_series():
    parts = []
    for i in range(2):
        y, x = data(seed=i)
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": f"s{i}",
                    "ds": pd.date_range("2000", periods=400, freq="D"),
                    "y": y,
                    "x": x[:, 0],
                }
            )
        )
    whole = pd.concat(parts)
    known = whole[whole["ds"] < "2000-11-01"]
    f = forecaster().fit(known[["unique_id", "ds", "y"]], whole.drop(columns="y"))
    out = f.predict()
    truth = whole.merge(out, on=["unique_id", "ds"], suffixes=("", "_forecast"))
    assert len(truth) == 12
    assert np.abs(truth["y"] - truth["y_forecast"]).mean() < 1.5


def test_static_numbers_and_categories_tell_series_apart():
    rng = np.random.default_rng(0)
    up = np.arange(24) % 2 == 1
    # Changes are twice as large as their mean, so that the past alone says little about the direction.
    y = [100 + np.cumsum(rng.normal(0.5 if u else -0.5, 1, size=60)) for u in up]
    static = {i: {"trend": "up" if u else "down", "size": 2.0 * u} for i, u in enumerate(up)}
    f = forecaster(season_length=1, max_iter=60, learning_rate_init=0.01).fit(y, static=static)
    assert f._encoder.categories == {"trend": ["down", "up"]}
    changes = []
    for table in (static, {i: static[i ^ 1] for i in static}):  # their own, and those of a neighbour
        backtest = f.backtest(y, static=table, start=20)
        changes.append([np.mean(s.forecast[:, -1] - s.truth[:, 0]) for s in backtest.series])
    own, other = np.array(changes)
    np.testing.assert_array_equal(own > 0, up)
    np.testing.assert_array_equal(other > 0, ~up)


def test_unseen_category_is_named():
    y = [data(100, i)[0] for i in range(2)]
    f = forecaster(max_iter=1).fit(y, static={0: {"kind": "a"}, 1: {"kind": "b"}})
    with pytest.raises(ValueError, match="series 1 has kind='c', a category that was not seen in fit"):
        f.backtest(y, static={0: {"kind": "a"}, 1: {"kind": "c"}})


def test_static_frames_and_arrays_are_read_alike():
    encoder = StaticEncoder().fit({"a": {"n": 1.0, "k": "x"}, "b": {"n": 3.0, "k": "y"}})
    np.testing.assert_allclose(encoder.transform("a", {"n": 1.0, "k": "x"}), [-1, 1, 0])
    y = pd.DataFrame(
        {"a": data(100)[0], "b": data(100, 1)[0]}, index=pd.date_range("2000", periods=100, freq="D")
    )
    table = pd.DataFrame({"size": [1.0, 5.0]}, index=["a", "b"])
    f = forecaster(max_iter=1).fit(y, static=table)
    np.testing.assert_allclose([s.static[0] for s in f._series], [-1, 1])
    with pytest.raises(ValueError, match="no row for the series 'b'"):
        f.fit(y, static=table[:1])


def test_calendar_features_are_of_the_local_clock():
    from fastrnn.forecasting.axes import StampAxis
    from fastrnn.forecasting.covariates import calendar_features

    index = pd.date_range("2000-01-03", periods=24, freq="h", tz="Europe/Berlin")  # a Monday
    out = calendar_features(StampAxis(index[0], index.freq), 0, 24)
    np.testing.assert_allclose(out[6, :2], [1, 0], atol=1e-12)  # six o'clock
    np.testing.assert_array_equal(out[:, 4:], np.eye(7)[[0] * 24])


def test_calendar_learns_a_weekly_pattern_that_has_no_season_named():
    index = pd.date_range("2000-01-01", periods=600, freq="D")
    y = pd.Series(
        10 + 5.0 * (index.day_of_week == 6) + np.random.default_rng(0).normal(size=600) * 0.1, index=index
    )
    kwargs = {"season_length": 1, "max_iter": 150, "dropout": 0.0}
    with_calendar = forecaster(calendar=True, **kwargs).fit(y[:500]).backtest(y, start=500).metrics()
    assert with_calendar["mae"] < 0.4


def test_lags_are_values_beside_the_last():
    y = np.arange(1.0, 101.0)
    f = forecaster(lags=(3, 7), max_iter=1, logarithm=False, season_length=1).fit(y)
    history = f._series[0].history
    scale = history.scale(np.arange(100))
    expected = np.outer(1 / scale[50:60], [-3, -7])
    np.testing.assert_allclose(history.lagged((3, 7), 50, 60), expected, rtol=1e-6)
    np.testing.assert_allclose(f._plan.raw(f._series[0], 50, 60)[:, -2:], expected, rtol=1e-6)


def test_lag_beyond_the_references_lowers_the_error():
    rng = np.random.default_rng(0)
    y = np.empty(900)
    y[:37] = rng.normal(size=37)
    for t in range(37, 900):
        y[t] = 0.95 * y[t - 37] + 0.3 * rng.normal()
    options = {"season_length": 1, "max_iter": 40, "dropout": 0.0}
    with_lags, without = (
        forecaster(3, lags=lags, **options).fit(y[:700]).backtest(y, start=700).metrics()["mae"]
        for lags in ((34, 35, 36), None)
    )
    assert with_lags < 0.85 * without


def test_windows_of_known_covariates_are_those_of_the_horizon():
    plan = CovariatePlan(["a", "b"], [False, True], 3).fit([np.array([[0.0, 5.0], [2.0, 9.0], [4.0, 1.0]])])
    x = np.arange(20.0).reshape(10, 2)
    out = plan.features(x, 2, 5)
    z = (x - plan.mean) / plan.spread
    for row, t in zip(out, range(2, 5), strict=True):
        np.testing.assert_allclose(row, [*z[t], *z[t + 1 : t + 4, 0], *z[t + 1 : t + 4, 0] ** 2])
    np.testing.assert_array_equal(plan.features(x, 8, 10)[1, 2:], 0)  # beyond what is known


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: f.predict(), "X is missing: the covariates .* 6 steps ahead"),
        (
            lambda f, x: f.predict(X=x[:4]),
            "reaches 4 steps into the future, to step 123; the horizon takes 6",
        ),
        (lambda f, x: f.update(np.ones(5)), "X is missing"),
        (lambda f, x: f.update(np.ones(5) * 20, x[:3]), "X of series 0 ends before its new steps"),
        (lambda f, x: f.fit(data(120)[0], x[:100]), "X of series 0 ends at step 99, before the series"),
        (lambda f, x: f.predict(X=np.where(x == x[1], np.inf, x)), "infinite at step 1, column 0"),
        (lambda f, x: f.predict(X=x.astype(str)), "give numbers"),
        (lambda f, x: f.backtest(data(120)[0]), "X is missing"),
    ],
)
def test_bad_covariates_are_refused(call, message):
    y, x = data(120)
    f = forecaster(max_iter=1).fit(y, x)
    before = f.predict(X=x[:6])
    with pytest.raises(ValueError, match=message):
        call(f, x)
    np.testing.assert_array_equal(f.predict(X=x[:6]), before)


@pytest.mark.parametrize("quantiles", [None, (0.1, 0.5, 0.9)], ids=["point", "quantiles"])
def test_backtest_with_refit_takes_covariates_and_static(quantiles):
    y, x = zip(*(data(n, seed=i) for i, n in enumerate((110, 131))), strict=True)
    x = [np.column_stack([part, np.arange(len(part)) % 5]) for part in x]
    static = {0: {"kind": "a", "size": 1.0}, 1: {"kind": "b", "size": 3.0}}
    f = forecaster(max_iter=1, past_covariates=(1,), quantiles=quantiles)
    f.fit([part[:90] for part in y], [part[:90] for part in x], static)
    before = f.model_.params.copy()
    # The last fifth of each series, every third step: the shorter series has one origin less.
    backtest = f.backtest(list(y), list(x), static, start=0.8, step=3, refit=True)
    assert [len(s.origins) for s in backtest.series] == [6, 7]
    for turn in (0, 2):
        ends = [int(s.origins[turn]) + 1 for s in backtest.series]
        again = forecaster(max_iter=1, past_covariates=(1,), quantiles=quantiles)
        known = [part[: end + 6].copy() for part, end in zip(x, ends, strict=True)]
        for part, end in zip(known, ends, strict=True):
            part[end:, 1] = np.nan
        again.fit([part[:end] for part, end in zip(y, ends, strict=True)], known, static)
        for s, expected in zip(backtest.series, again.predict(), strict=True):
            found = s.forecast[turn] if quantiles is None else s.quantiles[turn]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    alone = forecaster(max_iter=1, past_covariates=(1,), quantiles=quantiles)
    end = int(backtest.series[1].origins[6]) + 1
    last = x[1][: end + 6].copy()
    last[end:, 1] = np.nan
    alone.fit([y[1][:end]], [last], {0: static[1]})
    found = backtest.series[1].forecast[6] if quantiles is None else backtest.series[1].quantiles[6]
    np.testing.assert_allclose(found, alone.predict()[0], rtol=1e-6)
    np.testing.assert_array_equal(f.model_.params, before)


def test_backtest_with_refit_of_frames_keeps_names_and_the_calendar():
    index = pd.date_range("2000-01-01", periods=120, freq="D")
    y, x = data(120)
    series = pd.Series(y, index=index, name="load")
    X = pd.DataFrame({"warm": x[:, 0], "seen": np.arange(120.0)}, index=index)
    options = {"max_iter": 1, "past_covariates": ("seen",), "calendar": True}
    f = forecaster(**options).fit(series[:90], X)
    result = f.backtest(series, X, start="2000-04-10", step=7, refit=True).series[0]
    again = forecaster(**options)
    end = int(result.origins[1]) + 1
    known = X[: end + 6].copy()
    known.iloc[end:, 1] = np.nan
    np.testing.assert_allclose(
        again.fit(series[:end], known).predict().to_numpy(), result.forecast[1], rtol=1e-6
    )


def test_covariates_of_the_future_do_not_reach_a_refit():
    y, x = data(120)
    x = np.column_stack([x, np.arange(120.0)])
    f = forecaster(max_iter=1, past_covariates=(1,)).fit(y[:90], x[:90])
    one = f.backtest(y, x, start=100, step=10, refit=True).series[0].forecast
    changed, other = y.copy(), x.copy()
    changed[100:] = 7.0
    other[106:], other[100:, 1] = 99.0, -99.0
    two = f.backtest(changed, other, start=100, step=10, refit=True).series[0].forecast
    np.testing.assert_array_equal(one[0], two[0])
    assert (one[1] != two[1]).any()


def test_covariates_not_in_fit_are_refused_later():
    y, x = data(120)
    f = forecaster(max_iter=1).fit(y)
    for call in (lambda: f.predict(X=x), lambda: f.update(y[:3], x[:3]), lambda: f.backtest(y, x)):
        with pytest.raises(ValueError, match="fitted without covariates"):
            call()


def test_covariate_columns_of_text_and_missing_ones_are_named():
    index = pd.date_range("2000", periods=120, freq="D")
    y = pd.Series(data(120)[0], index=index)
    with pytest.raises(ValueError, match="the column 'a' of X has dtype .*get_dummies"):
        forecaster().fit(y, pd.DataFrame({"a": ["x"] * 120}, index=index))
    f = forecaster(max_iter=1).fit(y, pd.DataFrame({"a": data(120)[1][:, 0]}, index=index))
    with pytest.raises(ValueError, match="X has no column 'a'"):
        f.predict(X=pd.DataFrame({"b": np.ones(6)}, index=pd.date_range("2000-04-30", periods=6, freq="D")))


def test_displays_draw_what_the_backtest_holds():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    from fastrnn.forecasting import BacktestDisplay, ForecastDisplay

    y = data(200)[0]
    index = pd.period_range("2000-01", periods=200, freq="M")
    f = forecaster(max_iter=1, quantiles=(0.1, 0.5, 0.9)).fit(pd.Series(y[:150], index=index[:150]))
    backtest = f.backtest(pd.Series(y, index=index), start=150)
    display = ForecastDisplay.from_backtest(backtest, y)
    lines = {line.get_label(): line.get_ydata() for line in display.axes_[0].lines}
    np.testing.assert_array_equal(lines["forecast"], backtest.series[0].forecast[-1])
    np.testing.assert_array_equal(lines["seasonal naive"], backtest.series[0].naive[-1])
    np.testing.assert_array_equal(lines["history"], y[170:194])
    assert display.axes_[0].get_xlabel() == ""
    two = BacktestDisplay.from_backtest(backtest)
    np.testing.assert_allclose(two.axes_[0].lines[0].get_ydata(), backtest.by_horizon())
    many = forecaster(max_iter=1).fit([y, y[:150]]).backtest([y, y[:150]])
    numbered = ForecastDisplay.from_backtest(many, [y, y[:150]])
    assert [(a.get_title(), a.get_xlabel()) for a in numbered.axes_] == [
        ("series 0", "step"),
        ("series 1", "step"),
    ]
    BacktestDisplay.from_backtest(many)
    with pytest.raises(ValueError, match="series 'z' is not in the backtest"):
        ForecastDisplay.from_backtest(backtest, y, series=["z"])
    pyplot.close("all")


@pytest.mark.parametrize("kind", ["series", "wide", "long", "polars"])
def test_forecast_display_takes_the_kind_of_the_backtest(kind):
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    from fastrnn.forecasting import ForecastDisplay

    first, second = data(120)[0], data(120, seed=1)[0]
    index = pd.date_range("2000-01-01", periods=120, freq="D")
    wide = pd.DataFrame({"a": first, "b": second}, index=index)
    y = wide
    if kind == "series":
        y = wide["b"]
    elif kind != "wide":
        y = wide.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    if kind == "polars":
        y = pytest.importorskip("polars").DataFrame({name: y[name].to_list() for name in y.columns})
    backtest = forecaster(max_iter=1).fit(y).backtest(y)
    display = ForecastDisplay.from_backtest(backtest, y, series=["b"], n_history=8)
    (axes,) = display.axes_
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), second[-14:-6])
    assert axes.get_title() == "b"
    head = y.head(60) if kind in ("series", "wide") else y[:60]
    with pytest.raises(ValueError, match="up to 2000-02-29|y holds 1 series, the backtest 2"):
        ForecastDisplay.from_backtest(backtest, head)
    pyplot.close("all")


def test_saved_forecaster_goes_on_like_the_one_in_memory(tmp_path):
    import fastrnn

    y, x = data(200)
    index = pd.date_range("2000-01-01", periods=206, freq="D")
    frame = pd.DataFrame({"x": x[:, 0]}, index=index[:200])
    f = forecaster(max_iter=2, quantiles=(0.1, 0.5, 0.9), calendar=True)
    f.fit(pd.Series(y[:150], index=index[:150]), frame[:150])
    f.save(tmp_path / "forecaster.fastrnn")
    g = fastrnn.load(tmp_path / "forecaster.fastrnn")
    for each in (f, g):
        each.update(pd.Series(y[150:160], index=index[150:160]), frame[150:160])
    pd.testing.assert_frame_equal(g.predict(X=frame[160:166]), f.predict(X=frame[160:166]))
    # One that is not fitted is saved with its parameters, as the other estimators are.
    forecaster(max_iter=3).save(tmp_path / "other")
    assert fastrnn.load(tmp_path / "other").get_params() == forecaster(max_iter=3).get_params()

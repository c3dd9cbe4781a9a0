"""Bad input of a forecaster: an error names series, stamp and remedy, and nothing is changed."""

import sys

import numpy as np
import pytest

from fastrnn.forecasting import RNNForecaster
from fastrnn.forecasting.axes import StampAxis

pd = pytest.importorskip("pandas")

N = 72


def wave(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return 10 + 3 * np.sin(np.arange(n) * np.pi / 12) + rng.normal(scale=0.3, size=n)


def forecaster(horizon=6, **kwargs):
    return RNNForecaster(horizon, **{"units": 4, "max_iter": 1, "random_state": 0, **kwargs})


def hours(start="2001-03-22", n=N, freq="h", tz=None):
    index = pd.date_range(start, periods=n, freq=freq, tz=tz)
    return pd.Series(wave(n), index=index, name="load")


def snapshot(f):
    """Everything that a failed call could change, by value and by identity."""
    values = [f._outputs.copy(), f.model_.params.copy()]
    values += [a.copy() for layer in f._states for a in layer]
    values += [s.history.values() for s in f._series]
    values += [s.x for s in f._series if s.x is not None]
    return values, {key: id(value) for key, value in vars(f).items()}


def check_refused(f, call, message, error=ValueError):
    before, attributes = snapshot(f)
    with pytest.raises(error, match=message):
        call()
    after, now = snapshot(f)
    assert now == attributes
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


METHODS = {
    "fit": lambda f, y: f.fit(y),
    "backtest": lambda f, y: f.backtest(y),
    "update": lambda f, y: f.update(y),
    "partial_fit": lambda f, y: f.partial_fit(y),
    "score": lambda f, y: f.score(y),
}


def later(n=N, **kwargs):
    """Hours that follow those of the forecaster that these tests fit."""
    return hours("2001-03-25", n, **kwargs)


def unsorted():
    return later().iloc[[*range(20), 21, 20, *range(22, N)]]


def doubled():
    return pd.concat([later()[:30], later()[29:]])


def off_the_grid():
    y = later()
    y.index = [*y.index[:40], y.index[40] + pd.Timedelta("7min"), *y.index[41:]]
    return y


def infinite():
    y = later()
    y.iloc[5] = np.inf
    return y


def negative():
    y = later()
    y.iloc[5] = -2.0
    return y


def hour_missing(zone="Europe/Berlin", day="2001-03-25"):
    """Local time without its zone: the hour by which clocks were put forward is not there."""
    y = hours(day, N, tz=zone)
    return y.tz_localize(None)


def hour_doubled():
    return hours("2001-10-27", N, tz="Europe/Berlin").tz_localize(None)


BAD = {
    "unsorted": (unsorted, r"'load' is not sorted: the stamp 2001-03-25 20:00:00 .* after .*sort_index"),
    "doubled": (doubled, r"'load' has the stamp 2001-03-26 05:00:00 more than once; aggregate"),
    "off the grid": (
        off_the_grid,
        r"no frequency fits its 72 stamps|2001-03-26 16:07:00 is not on .*resample",
    ),
    "infinite": (infinite, r"'load' is infinite at 2001-03-25 05:00:00; replace the value, or make it NaN"),
    "hour missing": (
        hour_missing,
        r"'load' has no stamp 2001-03-25 02:00:00, where the clocks of Europe/Berlin were put forward.*tz_localize.*NaN",
    ),
    "hour doubled": (
        hour_doubled,
        r"'load' has the stamp 2001-10-28 02:00:00 more than once.*ambiguous='infer'.*UTC",
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", BAD)
def test_bad_stamps_are_refused_and_nothing_changes(case, method):
    make, message = BAD[case]
    f = forecaster().fit(hours())
    check_refused(f, lambda: METHODS[method](f, make()), message)


@pytest.mark.parametrize("method", ["update", "partial_fit", "score", "backtest"])
def test_negative_values_are_refused_where_logarithms_are_taken(method):
    f = forecaster().fit(hours())
    assert f.log_
    message = (
        r"'load' is -2\.0 at 2001-03-25 05:00:00, and the forecaster takes logarithms; set logarithm=False"
    )
    check_refused(f, lambda: METHODS[method](f, negative()), message)
    check_refused(f, lambda: forecaster(logarithm=True).fit(negative()), message)


@pytest.mark.parametrize("value", [-1.0, 1.5])
@pytest.mark.parametrize("distribution", ["poisson", "negative_binomial"])
def test_what_is_no_count_is_refused_by_distributions_of_counts(distribution, value):
    counts = hours().round()
    f = forecaster(distribution=distribution).fit(counts)
    bad = later().round()
    bad.iloc[3] = value
    message = rf"'load' is {value} at 2001-03-25 03:00:00, and a distribution of counts takes whole numbers from 0 on"
    for method in METHODS.values():
        check_refused(f, lambda method=method: method(f, bad), message)


@pytest.mark.parametrize(
    ("zone", "day", "stamp"),
    [
        ("Europe/London", "2001-03-24", "2001-03-25 01:00:00"),
        ("Europe/Vienna", "2001-03-24", "2001-03-25 02:00:00"),
        ("Europe/Athens", "2001-03-24", "2001-03-25 03:00:00"),
        ("America/Chicago", "2020-03-07", "2020-03-08 02:00:00"),
        ("America/New_York", "2001-03-31", "2001-04-01 02:00:00"),
        ("Australia/Melbourne", "2020-10-03", "2020-10-04 02:00:00"),
        ("Pacific/Auckland", "2020-09-26", "2020-09-27 02:00:00"),
        ("America/Sao_Paulo", "2018-11-03", "2018-11-04 00:00:00"),
    ],
)
@pytest.mark.parametrize("freq", ["h", "30min", "15min"])
def test_an_hour_skipped_by_clocks_is_named(zone, day, stamp, freq):
    y = hours(day, 200, freq, tz=zone).tz_localize(None)
    f = forecaster().fit(hours())
    check_refused(f, lambda: f.fit(y), f"has no stamp {stamp}, where the clocks of")


def test_an_hour_skipped_between_fit_and_update_is_named():
    y = hours("2001-03-24", N, tz="Europe/Berlin").tz_localize(None)
    known = y[:"2001-03-25 01:00"]
    f = forecaster().fit(known)
    check_refused(
        f, lambda: f.update(y[len(known) :]), r"'load' has no stamp 2001-03-25 02:00:00, where the clocks"
    )


def test_an_hour_skipped_in_covariates_is_named():
    y = hours()
    X = pd.DataFrame({"x": wave(N + 72)}, index=hours(n=N + 72).index)
    f = forecaster().fit(y, X)
    bad = X.drop(pd.Timestamp("2001-03-25 02:00"))
    check_refused(
        f,
        lambda: f.predict(X=bad),
        r"series 'load' \(in X\) has no stamp 2001-03-25 02:00:00, where the clocks",
    )


@pytest.mark.parametrize("kind", ["long", "wide", "periods"])
def test_an_hour_skipped_is_named_in_every_kind_of_input(kind):
    y = hour_missing()
    if kind == "long":
        bad = pd.DataFrame({"unique_id": "load", "ds": y.index, "y": y.to_numpy()})
    elif kind == "wide":
        bad = pd.DataFrame({"load": y, "other": y})
    else:
        bad = y.set_axis(pd.PeriodIndex(y.index, freq="h"))
    with pytest.raises(ValueError, match=r"'load' has no stamp 2001-03-25 02:00:00, where the clocks"):
        forecaster().fit(bad)


def test_an_hour_skipped_by_clocks_is_named_in_a_polars_frame():
    pl = pytest.importorskip("polars")
    y = hour_missing()
    bad = pl.DataFrame({"unique_id": ["load"] * N, "ds": y.index.to_numpy(), "y": y.to_numpy()})
    with pytest.raises(ValueError, match=r"'load' has no stamp 2001-03-25 02:00:00, where the clocks"):
        forecaster().fit(bad)


def test_a_missing_hour_is_a_missing_step_where_it_is_given_or_no_clock_skipped_it():
    y = hour_missing()
    told = y.asfreq("h")
    f = forecaster().fit(told)
    assert len(f._series[0].history) == N + 1
    assert np.isnan(f._series[0].history.values()).sum() == 1
    elsewhere = later().drop(pd.Timestamp("2001-03-25 11:00"))
    assert np.isnan(forecaster().fit(elsewhere)._series[0].history.values()).sum() == 1
    two = later().drop([pd.Timestamp("2001-03-25 02:00"), pd.Timestamp("2001-03-25 03:00")])
    assert np.isnan(forecaster().fit(two)._series[0].history.values()).sum() == 2
    utc = later(tz="UTC").drop(pd.Timestamp("2001-03-25 02:00", tz="UTC"))
    assert np.isnan(forecaster().fit(utc)._series[0].history.values()).sum() == 1


@pytest.mark.parametrize("start", ["2001-03-24", "2001-10-27"])
@pytest.mark.parametrize("freq", ["h", "30min"])
def test_stamps_with_their_zone_go_through_a_change_of_clocks(start, freq):
    whole = hours(start, N + 6, freq, tz="Europe/Berlin")
    y = pd.Series(whole.to_numpy()[:N], index=pd.DatetimeIndex(whole.index[:N], freq=None))
    f = forecaster().fit(y[: N // 2])
    f.update(y[N // 2 :])
    assert len(f._series[0].history) == N
    pd.testing.assert_index_equal(f.predict().index, whole.index[N:], exact="equiv", check_names=False)


def test_stamps_of_another_zone_are_the_same_moments():
    y = hours(tz="Europe/Berlin")
    f, g = forecaster().fit(y[:60]), forecaster().fit(y[:60])
    pd.testing.assert_series_equal(f.update(y[60:]).predict(), g.update(y[60:].tz_convert("UTC")).predict())
    days = pd.Series(wave(), index=pd.date_range("2001-03-01", periods=N, freq="D", tz="Europe/Berlin"))
    f = forecaster().fit(days[:60])
    assert len(f.update(days[60:].tz_convert("UTC"))._series[0].history) == N
    noon = pd.Series([1.0], index=[days.index[-1] + pd.Timedelta("36h")])
    check_refused(f, lambda: f.update(noon.tz_convert("UTC")), "is not on the grid")
    check_refused(f, lambda: f.update(days[-3:].tz_localize(None)), "has no time zone, unlike .*tz_localize")


def test_stamps_of_several_zones_are_refused():
    y = hours(tz="Europe/Berlin")
    index = pd.Index([*y.index[:40], *y.index[40:].tz_convert("UTC")], dtype=object)
    with pytest.raises(
        ValueError, match=r"'load' has stamps of several time zones \(Europe/Berlin, UTC\); .*utc=True"
    ):
        forecaster().fit(y.set_axis(index))


def test_saved_forecaster_keeps_its_time_zone(tmp_path):
    import fastrnn

    y = hours("2001-03-24", N, tz="Europe/Berlin")
    f = forecaster(30).fit(y[:10].reindex(y.index[:40]).fillna(5.0))
    f.save(tmp_path / "f")
    again = fastrnn.load(tmp_path / "f")
    pd.testing.assert_series_equal(again.predict(), f.predict())
    assert str(again.predict().index.tz) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("kind", "start", "step"),
    [
        ("Date", "2001-03-01", "1d"),
        ("naive", "2001-03-01", "1h"),
        ("Europe/Berlin", "2001-03-24", "1h"),
        ("Europe/Berlin", "2001-03-01", "1d"),
    ],
)
def test_polars_stamps_come_back_in_their_type(kind, start, step):
    pl = pytest.importorskip("polars")
    first = pd.Timestamp(start).to_pydatetime()
    end = first + pd.Timedelta(days=120)
    times = pl.datetime_range(
        first, end, step, time_zone=None if kind in ("Date", "naive") else kind, eager=True
    )
    times = (times.cast(pl.Date) if kind == "Date" else times)[: N + 6]
    y = pl.DataFrame({"unique_id": ["a"] * N, "ds": times[:N], "y": wave()})
    f = forecaster().fit(y[:60])
    f.update(y[60:])
    out = f.predict()
    assert out["ds"].dtype == times.dtype
    assert out["ds"].to_list() == times[N:].to_list()


OTHER = {
    "fewer rows of X than the horizon": (
        lambda f, X: f.predict(X=X[N : N + 4]),
        r"X of series 'load' reaches 4 steps into the future, to 2001-03-25 03:00:00; the horizon takes 6",
    ),
    "no X": (
        lambda f, X: f.predict(),
        r"X is missing: the covariates \['x'\] must be known for the 6 steps ahead",
    ),
    "X of another frequency": (
        lambda f, X: f.predict(X=X[N:].shift(freq="30min")),
        r"series 'load' \(in X\): the stamp 2001-03-25 00:30:00 is not on the grid of frequency 'h'",
    ),
    "unsorted X": (
        lambda f, X: f.predict(X=X[N:].iloc[::-1]),
        r"series 'load' \(in X\) is not sorted: the stamp .*sort_index",
    ),
    "infinite X": (
        lambda f, X: f.predict(X=X[N:].replace(X.iloc[N + 2, 0], -np.inf)),
        r"X of series 'load' is infinite at step 2, column 0; make it finite or NaN",
    ),
    "X without the column": (
        lambda f, X: f.predict(X=X[N:].rename(columns={"x": "z"})),
        r"X has no column 'x', which it had in fit",
    ),
    "a horizon of 0": (lambda f, X: f.predict(0, X[N:]), r"horizon=0: give an integer from 1 to 6"),
    "a backtest of horizon 0": (
        lambda f, X: f.backtest(hours(), X, horizon=0),
        r"horizon=0: give an integer from 1 to 6",
    ),
    "a longer horizon": (lambda f, X: f.predict(7, X[N:]), r"horizon=7: .* for more, fit with a longer one"),
    "an update without X": (
        lambda f, X: f.update(later(3)),
        r"X is missing: the forecaster was fitted with .*'x'",
    ),
    "an update whose X ends before": (
        lambda f, X: f.update(later(9), X[N : N + 4]),
        r"X of series 'load' ends before its new steps; give a row for each",
    ),
    "an update that was known": (
        lambda f, X: f.update(hours()[-2:], X),
        r"'load': the new steps start at 2001-03-24 22:00:00, but those up to 2001-03-24 23:00:00 are known",
    ),
    "another series": (
        lambda f, X: f.update(later(3).rename("other"), X),
        r"series 'other', which was not in fit",
    ),
    "another frequency": (
        lambda f, X: f.update(later(3, freq="90min"), X),
        r"'load': the stamp 2001-03-25 01:30:00 is not on the grid of frequency 'h'.*resample",
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_bad_calls_are_refused_and_nothing_changes(case):
    call, message = OTHER[case]
    X = pd.DataFrame({"x": wave(N + 30, seed=1)}, index=hours(n=N + 30).index)
    f = forecaster().fit(hours(), X[:N])
    check_refused(f, lambda: call(f, X), message)


@pytest.mark.parametrize(
    ("horizon", "message"),
    [
        (0, r"'horizon' parameter .* range \[1, inf\)\. Got 0"),
        (True, "horizon=True: give a positive integer"),
    ],
)
def test_a_horizon_of_0_is_refused_by_fit(horizon, message):
    f = forecaster().fit(hours())
    f.horizon = horizon
    check_refused(f, lambda: f.fit(hours()), message)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"freq": "hourlyy"}, r"freq='hourlyy' is not a frequency of pandas; give one such as 'h'"),
        ({"freq": "D"}, r"'load': the stamp 2001-03-22 01:00:00 is not on the grid of frequency 'D'"),
        ({"season_length": N}, r"season_length=72 is not shorter than the longest series, which has 72"),
        ({"horizon": N}, r"horizon=72 is not shorter than the longest series, which has 72"),
        ({"lags": (24, N)}, r"lags=\(24, 72\): a lag must be shorter than the longest series, .* 72"),
    ],
)
def test_frequencies_and_lengths_that_do_not_fit_are_refused(parameters, message):
    f = forecaster().fit(hours())
    f.set_params(**parameters)
    check_refused(f, lambda: f.fit(hours()), message)


def test_a_frequency_of_integer_stamps_is_an_integer():
    y = pd.Series(wave(), index=np.arange(0, 2 * N, 2), name="load")
    assert len(forecaster(freq=1).fit(y)._series[0].history) == 2 * N - 1
    with pytest.raises(ValueError, match=r"freq='h': the stamps of series 'load' are integers"):
        forecaster(freq="h").fit(y)


def test_a_long_frame_of_stamps_with_and_without_a_zone_is_refused():
    parts = [
        pd.DataFrame({"unique_id": name, "ds": hours(tz=zone).index, "y": wave()})
        for name, zone in (("a", None), ("b", "UTC"))
    ]
    f = forecaster().fit(parts[0])
    for method in METHODS.values():
        check_refused(
            f,
            lambda method=method: method(f, pd.concat(parts)),
            r"the column 'ds' has stamps of several time zones \(None, UTC\); .*tz_localize",
        )


def test_lazy_frames_of_polars_are_refused():
    pl = pytest.importorskip("polars")
    y = pl.DataFrame({"unique_id": ["a"] * N, "ds": hours().index.to_numpy(), "y": wave()})
    X = y.rename({"y": "x"})
    static = pl.DataFrame({"unique_id": ["a"], "size": [1.0]})
    f = forecaster().fit(y, X, static)
    for name, call in {
        "y": lambda: f.fit(y.lazy(), X, static),
        "X": lambda: f.fit(y, X.lazy(), static),
        "static": lambda: f.fit(y, X, static.lazy()),
    }.items():
        check_refused(f, call, rf"{name} is a LazyFrame of polars: call its collect\(\) first", TypeError)


def test_periods_of_another_frequency_are_refused():
    y = pd.Series(wave(), index=pd.period_range("2001-01", periods=N, freq="M"), name="load")
    f = forecaster().fit(y)
    quarters = pd.Series([1.0], index=pd.period_range("2007Q1", periods=1, freq="Q"), name="load")
    check_refused(
        f, lambda: f.update(quarters), r"'load' has the frequency Q-DEC, expected was M: resample it"
    )


def test_categories_not_seen_in_fit_are_refused():
    frame = pd.concat(
        [pd.DataFrame({"unique_id": n, "ds": hours().index, "y": wave(seed=i)}) for i, n in enumerate("ab")]
    )
    kinds = {"a": {"kind": "home"}, "b": {"kind": "shop"}}
    f = forecaster().fit(frame, static=kinds)
    new = frame[frame["unique_id"] == "a"].assign(unique_id="c")
    message = (
        r"series 'c' has kind='farm', a category that was not seen in fit \(seen: 'home', 'shop'\); map it"
    )
    for method in (f.update, f.partial_fit, f.backtest):
        check_refused(f, lambda method=method: method(new, static={"c": {"kind": "farm"}}), message)


def test_static_columns_that_do_not_fit_are_refused():
    frame = pd.concat(
        [pd.DataFrame({"unique_id": n, "ds": hours().index, "y": wave(seed=i)}) for i, n in enumerate("ab")]
    )
    good = {"a": {"kind": "home", "size": 1.0}, "b": {"kind": "shop", "size": 2.0}}
    f = forecaster().fit(frame, static=good)
    for row, message in (
        (
            {"kind": "shop"},
            r"static of series 'b' has no column 'size'; give the same columns of each series",
        ),
        (
            {"kind": "shop", "size": np.inf},
            r"series 'b' has size=inf in static, .*finite number|'size' holds",
        ),
        (
            {"kind": "shop", "size": "big"},
            r"series 'b' has size='big' in static, where fit had numbers",
        ),
    ):
        bad = good | {"b": row}
        check_refused(f, lambda bad=bad: f.backtest(frame, static=bad), message)
        if "big" not in row.values():  # in fit, such a column is one of categories
            check_refused(f, lambda bad=bad: f.fit(frame, static=bad), message)


def test_static_columns_not_in_fit_are_refused_later():
    frame = pd.DataFrame({"unique_id": "a", "ds": hours().index, "y": wave()})
    f = forecaster().fit(frame)
    after = frame.assign(ds=later().index)
    for method in (f.update, f.partial_fit, f.backtest):
        check_refused(
            f,
            lambda method=method: method(after, static={"a": {"size": 1.0}}),
            "static is given, but the forecaster was fitted without static columns",
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda f, axis: f.backtest(wave(), start=pd.Timestamp("2001-03-24")).to_frame(),
        lambda f, axis: axis.index(0, 3),
        lambda f, axis: axis.positions(["2001-03-24"], "'load'"),
        lambda f, axis: f.fit(hours()),
        lambda f, axis: f.update(later(2)),
        lambda f, axis: f.predict(),
    ],
    ids=["backtest", "index", "positions", "fit", "update", "predict"],
)
def test_without_pandas_the_error_names_the_extra(call, monkeypatch):
    f = forecaster().fit(hours())
    axis = StampAxis(pd.Timestamp("2001-03-24"), pd.offsets.Hour())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'needs pandas, .*pip install "fastrnn\[frames\]"'):
        call(f, axis)


def test_without_polars_the_error_names_the_extra(monkeypatch):
    pl = pytest.importorskip("polars")
    y = hours()
    f = forecaster().fit(pl.DataFrame({"unique_id": ["a"] * N, "ds": y.index.to_numpy(), "y": y.to_numpy()}))
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r'needs polars, .*pip install "fastrnn\[frames\]"'):
        f.predict()


def test_a_file_with_stamps_names_the_extra_where_pandas_is_missing(tmp_path, monkeypatch):
    import fastrnn

    forecaster().fit(hours()).save(tmp_path / "f")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(fastrnn.ModelFileError, match=r'pip install "fastrnn\[frames\]"'):
        fastrnn.load(tmp_path / "f")


@pytest.mark.parametrize("parsed", [False, True], ids=["text", "stamps"])
def test_frame_of_a_csv_with_its_stamps_in_a_column_says_what_to_write(parsed):
    days = pd.date_range("2024-01-01", periods=N)
    frame = pd.DataFrame({"date": days if parsed else days.astype(str), "sales": wave()})
    with pytest.raises(
        ValueError,
        match=r"column 'date' of y has no numbers but '2024-01-01.*y\.set_index\('date'\).*id_col=, time_col=, target_col=",
    ):
        forecaster().fit(frame)
    found = forecaster().fit(frame.assign(date=days).set_index("date")).predict()
    assert found.index[0] == days[-1] + pd.Timedelta(days=1)

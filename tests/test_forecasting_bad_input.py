"""Bad input of a forecaster: an error names series, stamp and remedy, and nothing is changed."""

import sys

import numpy as np
import pytest

from fastrnn.forecasting.axes import StampAxis
from tests.forecasting_cases import (
    METHODS,
    N,
    check_refused,
    forecaster,
    hour_doubled,
    hour_missing,
    hours,
    later,
    wave,
)

pd = pytest.importorskip("pandas")


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
    for freq in (0, -2, True):
        with pytest.raises(
            ValueError, match=f"freq={freq!r}.* 'load' are integers; give the positive integer"
        ):
            forecaster(freq=freq).fit(y)


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


def test_long_frames_without_an_id_or_a_series_are_refused():
    y = pd.DataFrame({"unique_id": "a", "ds": hours().index, "y": wave()})
    X = y.rename(columns={"y": "x"})
    f = forecaster().fit(y, X)
    missing = r"column 'unique_id' is missing in row 5 .*pass the id, or drop the row"
    check_refused(f, lambda: f.fit(y.assign(unique_id=["a"] * 5 + [None] + ["a"] * (N - 6)), X), missing)
    check_refused(f, lambda: f.fit(y, X.assign(unique_id=["a"] * 5 + [None] + ["a"] * (N - 6))), missing)
    for other in (X.assign(unique_id="b"), X[:0]):
        check_refused(f, lambda other=other: f.fit(y, other), "X has no rows for the series 'a'")


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

import numpy as np
import pytest

from fastrnn.forecasting import RNNForecaster
from tests.forecasting_cases import check_refused

pd = pytest.importorskip("pandas")


def wave(n=60, seed=0, period=12):
    rng = np.random.default_rng(seed)
    return 10 + 3 * np.sin(np.arange(n) * 2 * np.pi / period) + rng.normal(scale=0.3, size=n)


def forecaster(horizon=6, **kwargs):
    return RNNForecaster(horizon, **{"units": 4, "max_iter": 1, "random_state": 0, **kwargs})


def months(n=60, start="2000-01"):
    return pd.date_range(start, periods=n, freq="MS", name="month")


def long_frame(lengths=(60, 70), start="2000-01-01", freq="D"):
    parts = [
        pd.DataFrame(
            {"unique_id": f"s{i}", "ds": pd.date_range(start, periods=n, freq=freq), "y": wave(n, seed=i)}
        )
        for i, n in enumerate(lengths)
    ]
    return pd.concat(parts, ignore_index=True)


INDEXES = {
    "months": months(),
    "month ends": pd.date_range("2000-01", periods=60, freq="ME"),
    "quarters": pd.date_range("2000-01", periods=60, freq="QS"),
    "weeks": pd.date_range("2000-01-03", periods=60, freq="W-MON"),
    "days": pd.date_range("2000-01", periods=60, freq="D"),
    "business days": pd.date_range("2000-01-03", periods=60, freq="B"),
    "hours": pd.date_range("2000-01", periods=60, freq="h"),
    "half hours": pd.date_range("2000-01", periods=60, freq="30min"),
    "hours of a zone": pd.date_range("2000-03-25", periods=60, freq="h", tz="Europe/Berlin"),
    "days of a zone": pd.date_range("2000-03-01", periods=60, freq="D", tz="Europe/Berlin"),
    "month periods": pd.period_range("2000-01", periods=60, freq="M"),
    "day periods": pd.period_range("2000-01", periods=60, freq="D"),
    "range": pd.RangeIndex(5, 65),
    "range of steps": pd.RangeIndex(0, 600, 10),
}


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("freq", ["kept", "dropped"])
def test_series_comes_back_with_the_index_of_the_future(kind, freq):
    index = INDEXES[kind]
    whole = index.append(index[:0])
    if isinstance(index, pd.RangeIndex):
        step = index.step
        expected = pd.RangeIndex(index.stop, index.stop + 6 * step, step)
    elif isinstance(index, pd.PeriodIndex):
        expected = pd.period_range(index[-1] + 1, periods=6, freq=index.freq)
    else:
        expected = pd.date_range(index[-1], periods=7, freq=index.freq)[1:]
        whole = pd.DatetimeIndex(index, freq=None) if freq == "dropped" else index
    y = pd.Series(wave(), index=whole, name="demand")
    out = forecaster().fit(y).predict()
    assert isinstance(out, pd.Series)
    assert out.name == "demand"
    pd.testing.assert_index_equal(out.index, expected, exact="equiv", check_names=False)


@pytest.mark.parametrize(
    ("kind", "season"),
    [
        ("months", 12),
        ("quarters", 4),
        ("days", 7),
        ("hours", 24),
        ("half hours", 48),
        ("month periods", 12),
        ("range", 1),
    ],
)
def test_season_follows_from_the_frequency(kind, season):
    y = pd.Series(wave(), index=INDEXES[kind][:60])
    # A season that does not fit twice into the series is left out.
    assert forecaster().fit(y).seasons_[0] == (season if season <= 30 else 1)


def test_series_and_array_give_the_same_numbers():
    y = wave()
    frame = forecaster(season_length=12).fit(pd.Series(y, index=months())).predict()
    np.testing.assert_array_equal(frame.to_numpy(), forecaster(season_length=12).fit(y).predict())


@pytest.mark.parametrize("kind", ["months", "month periods", "range of steps", "hours of a zone"])
def test_wide_frame_comes_back_wide(kind):
    index = INDEXES[kind]
    y = pd.DataFrame({"a": wave(seed=1), ("b", 2): wave(seed=2)}, index=index)
    f = forecaster().fit(y[:57])
    pd.testing.assert_index_equal(f.predict(3).index, index[57:], exact="equiv", check_names=False)
    assert list(f.update(y[57:]).predict().columns) == ["a", ("b", 2)]
    assert (f.predict().index > index[-1]).all()


def test_long_frame_comes_back_long_with_named_columns():
    y = long_frame().rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"})
    y = y.sample(frac=1, random_state=0).sort_values("day", kind="stable")  # series interleaved
    f = forecaster(id_col="shop", time_col="day", target_col="sales").fit(y)
    out = f.predict()
    assert list(out.columns) == ["shop", "day", "sales"]
    assert len(out) == 12
    for name, n in (("s0", 60), ("s1", 70)):
        part = out[out["shop"] == name]
        assert list(part["day"]) == list(pd.date_range("2000-01-01", periods=n + 6, freq="D")[n:])


def test_long_frame_of_integers():
    y = pd.DataFrame({"unique_id": 1, "ds": np.arange(10, 70), "y": wave()})
    assert list(forecaster().fit(y).predict()["ds"]) == [70, 71, 72, 73, 74, 75]


def test_polars_frame_comes_back_as_polars():
    pl = pytest.importorskip("polars")
    y = long_frame()
    f = forecaster().fit(pl.DataFrame({c: y[c].to_numpy() for c in y.columns}))
    out = f.predict()
    assert isinstance(out, pl.DataFrame)
    assert out.columns == ["unique_id", "ds", "y"]
    np.testing.assert_array_equal(out["y"].to_numpy(), forecaster().fit(y).predict()["y"].to_numpy())
    assert out["ds"][0].date() == pd.Timestamp("2000-03-01").date()


def test_gaps_are_missing_steps():
    y = pd.Series(wave(), index=pd.date_range("2000-01-01", periods=60, freq="D"))
    gaps = y.drop(y.index[[10, 11, 30]])
    filled = y.copy()
    filled.iloc[[10, 11, 30]] = np.nan
    a, b = forecaster().fit(gaps), forecaster().fit(filled)
    pd.testing.assert_series_equal(a.predict(), b.predict(), check_freq=False)
    assert len(a._series[0].history) == 60


def test_gaps_of_months_are_missing_steps():
    y = pd.Series(wave(), index=months()).drop(months()[[5, 17]])
    f = forecaster().fit(y)
    assert len(f._series[0].history) == 60
    assert f.predict().index[0] == pd.Timestamp("2005-01-01")


def test_update_follows_by_stamp_and_a_gap_is_missing_steps():
    y = pd.Series(wave(70), index=pd.date_range("2000-01-01", periods=70, freq="D"))
    f = forecaster().fit(y[:60])
    f.update(y[63:65])
    assert len(f._series[0].history) == 65
    assert np.isnan(f._series[0].history.values(60, 63)).all()
    assert f.predict().index[0] == y.index[65]
    with pytest.raises(ValueError, match=r"new steps start at 2000-03-05.*, but those up to 2000-03-05"):
        f.update(y[64:66])


def test_update_of_some_series_of_a_long_frame_and_of_a_new_one():
    y = long_frame((60, 70))
    f = forecaster().fit(y)
    before = f.predict()
    new = pd.DataFrame({"unique_id": "s0", "ds": [pd.Timestamp("2000-03-01")], "y": [11.0]})
    f.update(new)
    after = f.predict()
    assert after["ds"][0] == pd.Timestamp("2000-03-02")
    np.testing.assert_array_equal(after["y"][6:], before["y"][6:])
    third = long_frame((0, 0, 40))
    f.update(third)
    assert list(f.predict()["unique_id"].unique()) == ["s0", "s1", "s2"]
    whole = f.backtest(
        pd.concat([third, third.tail(1).assign(ds=pd.date_range("2000-02-10", periods=1))]), horizon=1
    )
    np.testing.assert_allclose(f.predict()["y"].to_numpy()[12], whole.series[0].forecast[0, 0], rtol=1e-5)


def test_backtest_from_a_stamp_and_its_frame():
    y = pd.Series(wave(80), index=pd.date_range("2000-01-01", periods=80, freq="D"), name="y")
    f = forecaster().fit(y[:60])
    backtest = f.backtest(y, start="2000-03-01", step=2)
    frame = backtest.to_frame()
    assert frame["cutoff"].iloc[0] == pd.Timestamp("2000-02-29")
    assert frame["ds"].iloc[0] == pd.Timestamp("2000-03-01")
    np.testing.assert_array_equal(frame["y"], y.loc[frame["ds"]].to_numpy())
    periods = pd.Series(y.to_numpy(), index=pd.period_range("2000-01-01", periods=80, freq="D"))
    again = forecaster().fit(periods[:60]).backtest(periods, start="2000-03-01", step=2)
    np.testing.assert_array_equal(again.series[0].origins, backtest.series[0].origins)


def test_quantiles_of_frames_have_columns():
    f = forecaster(quantiles=(0.1, 0.5, 0.9))
    assert list(f.fit(pd.Series(wave(), index=months())).predict().columns) == ["q0.1", "q0.5", "q0.9"]
    assert list(f.fit(long_frame()).predict().columns) == ["unique_id", "ds", "q0.1", "q0.5", "q0.9"]
    wide = pd.DataFrame({"a": wave(), "b": wave(seed=1)}, index=months())
    assert f.fit(wide).predict()["b"].columns.tolist() == ["q0.1", "q0.5", "q0.9"]


def days(n=60):
    return pd.Series(wave(n), index=pd.date_range("2000-01-01", periods=n, freq="D"), name="load")


def unsorted():
    y = days()
    return y.iloc[[*range(20), 21, 20, *range(22, 60)]]


def doubled():
    return pd.concat([days()[:30], days()[29:]])


def mixed():
    y = days()
    return pd.concat([y[:30], pd.Series([1.0], index=[pd.Timestamp("2000-01-30 07:30")]), y[30:]])


def other_frequency():
    return pd.concat([long_frame((60,)), long_frame((0, 60), freq="h")], ignore_index=True)


def clock_put_back():
    index = pd.date_range("2000-10-28", periods=60, freq="h", tz="Europe/Berlin").tz_localize(None)
    return pd.Series(wave(), index=index)


BAD = {
    "unsorted": (unsorted, r"'load' is not sorted: the stamp 2000-01-21 .* after 2000-01-22 .*sort_index"),
    "doubled": (doubled, r"'load' has the stamp 2000-01-30 .* more than once; aggregate"),
    "mixed": (mixed, r"no frequency fits its 61 stamps.*pass freq="),
    "other frequency": (
        other_frequency,
        r"series 's1' has the frequency <Hour>, series 's0' has <(Day|1 \* Days?)",
    ),
    "clock put back": (clock_put_back, r"the stamp 2000-10-29 02:00:00 more than once.*UTC"),
    "no frequency": (
        lambda: pd.Series(
            wave(5), index=pd.Timestamp("2000") + pd.to_timedelta([0, 7, 31, 73, 99], "min"), name="load"
        ),
        r"'load': no frequency fits its 5 stamps, which start at 2000-01-01 .*pass freq=, .*resample",
    ),
    "a single stamp": (
        lambda: pd.Series([1.0], index=[pd.Timestamp("2000-01-01")], name="load"),
        r"'load' has the single stamp 2000-01-01 .*, which has no frequency; pass freq=",
    ),
    "text": (lambda: pd.Series(wave(3), index=["a", "b", "c"]), "index of dtype .*DatetimeIndex"),
    "missing stamp": (
        lambda: pd.Series(wave(3), index=pd.DatetimeIndex(["2000", None, "2002"])),
        "stamp of row 1 is missing",
    ),
    "infinite": (
        lambda: days().where(days().index != "2000-01-05", np.inf),
        r"'load' is infinite at 2000-01-05",
    ),
    "no target": (lambda: long_frame().rename(columns={"y": "z"}), "none is 'y'.*target_col"),
    "twice the column": (
        lambda: pd.DataFrame(np.ones((9, 2)), index=months(9), columns=["a", "a"]),
        "column 'a' more than once",
    ),
    "text values": (lambda: pd.Series(["a"] * 9, index=months(9)), "not numbers|dtype"),
    "mixed steps": (
        lambda: pd.Series(wave(8), index=[0, 10, 20, 30, 33, 40, 50, 60]),
        "has steps of 1 and of 10",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_fit_rejects(case):
    make, message = BAD[case]
    f = forecaster().fit(days())
    check_refused(f, lambda: f.fit(make()), message)


def test_update_rejects_a_stamp_off_the_grid_and_another_zone():
    f = forecaster().fit(days())
    with pytest.raises(ValueError, match=r"2000-03-01 07:00:00 is not on the grid"):
        f.update(pd.Series([1.0], index=[pd.Timestamp("2000-03-01 07:00")], name="load"))
    with pytest.raises(ValueError, match="time zone, unlike"):
        f.update(pd.Series([1.0], index=[pd.Timestamp("2000-03-01", tz="UTC")], name="load"))
    with pytest.raises(ValueError, match="'other', which was not in fit"):
        f.update(pd.Series([1.0], index=[pd.Timestamp("2000-03-01")], name="other"))
    assert len(f._series[0].history) == 60


def test_a_zone_goes_through_a_clock_put_forward_without_a_gap():
    zoned = pd.date_range("2000-03-25", periods=60, freq="h", tz="Europe/Berlin")
    aware = forecaster().fit(pd.Series(wave(), index=zoned))
    assert len(aware._series[0].history) == 60
    assert not np.isnan(aware._series[0].history.values()).any()


def test_freq_says_what_stamps_cannot():
    y = days(20).iloc[[0, 3, 9, 12, 19]]
    f = forecaster(2, freq="D").fit(y)
    assert len(f._series[0].history) == 20
    assert f.predict().index[0] == pd.Timestamp("2000-01-21")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sktime_adapter_passes_the_checks_of_sktime():
    checks = pytest.importorskip("sktime.utils.estimator_checks")
    from fastrnn.forecasting.sktime import SktimeForecaster

    results = checks.check_estimator(SktimeForecaster, raise_exceptions=False, verbose=False)
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}

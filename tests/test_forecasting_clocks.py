"""Time zones and clocks that are put forward or back: local stamps are refused or kept, never shifted."""

import numpy as np
import pytest

from tests.forecasting_cases import N, check_refused, forecaster, hour_missing, hours, later, wave

pd = pytest.importorskip("pandas")


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

import math

import numpy as np
import pytest

from fastrnn.forecasting import ConformalIntervals, RNNForecaster, coverage, pinball
from fastrnn.forecasting.backtest import Backtest, BacktestSeries


def noise(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    return 20 + 3 * np.sin(np.arange(n) * 2 * np.pi / 12) + rng.normal(size=n)


def counts(n=600, seed=0):
    return np.random.default_rng(seed).negative_binomial(2, 0.4, size=n).astype(float)


def forecaster(horizon=4, **kwargs):
    return RNNForecaster(
        horizon, **{"season_length": 12, "units": 8, "random_state": 0, "dropout": 0.2, **kwargs}
    )


@pytest.mark.parametrize(
    "kwargs", [{"quantiles": (0.1, 0.5, 0.9)}, {"distribution": "normal"}, {"distribution": "student_t"}]
)
@pytest.mark.parametrize("logarithm", [True, False])
def test_quantiles_cover_what_they_say(kwargs, logarithm):
    y = noise()
    f = forecaster(logarithm=logarithm, learning_rate_init=0.01, max_iter=120, **kwargs).fit(y[:900])
    backtest = f.backtest(y, start=900)
    metrics = backtest.metrics()
    assert 0.7 < metrics["coverage"] < 0.9
    s = backtest.series[0]
    assert (np.diff(s.quantiles, axis=-1) >= 0).all()
    expected = np.mean([pinball(s.truth, s.quantiles[..., i], q) for i, q in enumerate((0.1, 0.5, 0.9))])
    assert metrics["pinball"] == pytest.approx(expected)
    assert metrics["coverage"] == pytest.approx(coverage(s.truth, s.quantiles[..., 0], s.quantiles[..., 2]))
    assert metrics["width"] == pytest.approx(np.mean(s.quantiles[..., 2] - s.quantiles[..., 0]))


@pytest.mark.parametrize("distribution", ["poisson", "negative_binomial"])
def test_counts_have_whole_quantiles_and_the_right_mean(distribution):
    y = counts()
    y[:30] = 0
    f = forecaster(distribution=distribution, max_iter=60, learning_rate_init=0.01).fit(y)
    assert not f.log_
    out = f.predict_quantiles((0.1, 0.5, 0.9))
    paths = f.sample(50, random_state=0)[0]
    for values in (out, paths):
        np.testing.assert_allclose(values, np.rint(values), atol=1e-9)
        assert (values >= 0).all()
    forecasts = f.backtest(y, start=300).series[0].forecast
    np.testing.assert_allclose(forecasts.mean(), y[300:].mean(), rtol=0.15)


def test_counts_of_another_spread_have_wider_intervals_by_the_negative_binomial():
    y = counts()
    widths = []
    for distribution in ("poisson", "negative_binomial"):
        f = forecaster(distribution=distribution, max_iter=60, learning_rate_init=0.01).fit(y[:500])
        widths.append(f.backtest(y, start=500).metrics()["width"])
    assert widths[1] > 1.2 * widths[0]


@pytest.mark.filterwarnings("ignore:series 1 is constant")
def test_intermittent_series_of_zeros_has_a_forecast_of_zero():
    f = forecaster(distribution="poisson", max_iter=40, learning_rate_init=0.02).fit(
        [counts(200), np.zeros(200)]
    )
    first, second = f.predict()
    assert (first > 1).all()
    assert np.isfinite(second).all()
    assert (second >= 0).all()


@pytest.mark.parametrize(("value", "message"), [(-1.0, r"is -1\.0 at step 3"), (1.5, r"is 1\.5 at step 3")])
def test_counts_must_be_whole_and_not_negative(value, message):
    y = counts(100)
    y[3] = value
    with pytest.raises(ValueError, match=message + ".*whole numbers"):
        forecaster(distribution="poisson").fit(y)


def test_sample_paths_have_the_quantiles_of_the_distribution_and_are_correlated():
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=800))  # a random walk: errors of neighbouring steps go together
    f = forecaster(
        distribution="normal", target="last", season_length=1, max_iter=60, learning_rate_init=0.01
    )
    f.fit(y)
    paths = f.sample(4000, random_state=0)[0]
    assert paths.shape == (4000, 4)
    quantiles = f.predict_quantiles((0.1, 0.5, 0.9))
    spread = quantiles[:, 2] - quantiles[:, 0]
    sampled = np.quantile(paths, (0.1, 0.5, 0.9), axis=0).T
    assert (np.abs(sampled - quantiles) < 0.08 * spread[:, None]).all()
    correlation = np.corrcoef(paths.T)
    assert correlation[2, 3] > 0.6
    np.testing.assert_array_equal(paths, f.sample(4000, random_state=0)[0])
    assert (f.sample(10, 2, random_state=1)[0][:, 0] != f.sample(10, 2, random_state=0)[0][:, 0]).all()
    assert f.sample(10, 2)[0].shape == (10, 2)


def test_quantiles_of_the_distribution_and_intervals_agree():
    f = forecaster(distribution="normal", max_iter=2).fit(noise(200))
    np.testing.assert_array_equal(f.predict_interval(0.8), f.predict_quantiles((0.1, 0.9)))
    q = forecaster(quantiles=(0.1, 0.5, 0.9), max_iter=2).fit(noise(200))
    np.testing.assert_array_equal(q.predict_interval(0.8), q.predict()[:, [0, 2]])


def test_conformal_intervals_cover_what_they_say_for_any_head():
    y = noise(2000)
    f = forecaster(max_iter=20).fit(y[:800])
    intervals = ConformalIntervals(0.8).fit(f.backtest(y[:1400], start=800))
    report = intervals.report(f.backtest(y, start=1400))
    assert 0.75 < report["coverage"] < 0.85
    f.update(y[800:1400])
    bounds = f.predict_interval(conformal=intervals)
    assert bounds.shape == (4, 2)
    np.testing.assert_allclose(bounds.mean(axis=1), f.predict(), rtol=1e-6)
    again = f.backtest(np.r_[y[:1400], np.ones(4)], start=1400).series[0]
    expected = intervals.apply(again.forecast, again.forecast, again.spread)
    np.testing.assert_allclose(bounds.T, np.array(expected)[:, 0], rtol=1e-4)


def test_conformal_width_is_the_order_statistic():
    errors = np.arange(1.0, 10.0)[:, None]  # 9 errors: the 8th smallest covers 80%
    series = BacktestSeries(0, None, np.arange(9), errors, np.zeros((9, 1)), errors, np.ones(9), 1.0)
    intervals = ConformalIntervals(0.8).fit(Backtest([series], 1))
    assert intervals.widths_ == [8.0]
    with pytest.raises(ValueError, match=r"9 errors at a step ahead; coverage=0\.95 needs at least 19"):
        ConformalIntervals(0.95).fit(Backtest([series], 1))


@pytest.mark.parametrize("head", [{"quantiles": (0.1, 0.5, 0.9)}, {"distribution": "normal"}])
def test_conformal_intervals_widen_quantiles_of_the_same_coverage(head):
    y = noise(1200)
    f = forecaster(max_iter=4, **head).fit(y[:200])
    calibration = f.backtest(y[:700], start=200)
    intervals = ConformalIntervals(0.8).fit(calibration)
    assert intervals.levels_ == (0.1, 0.9)
    s = calibration.series[0]
    outside = np.maximum(s.quantiles[..., 0] - s.truth, s.truth - s.quantiles[..., 2]) / s.spread[:, None]
    rank = math.ceil(0.8 * (len(outside) + 1))
    np.testing.assert_array_equal(intervals.widths_, np.sort(outside, axis=0)[rank - 1])
    assert 0.75 < intervals.report(f.backtest(y, start=700))["coverage"] < 0.85
    f.update(y[200:700])
    quantiles = f.predict_quantiles((0.1, 0.9))
    bounds = f.predict_interval(conformal=intervals)
    more = (bounds - quantiles) / [-1, 1]
    np.testing.assert_allclose(more[:, 0], more[:, 1], rtol=1e-6, atol=1e-9)
    assert ConformalIntervals(0.9).fit(calibration).levels_ is None


def test_conformal_bounds_do_not_cross():
    s = BacktestSeries(0, None, np.arange(9), np.zeros((9, 1)), *[np.zeros((9, 1))] * 2, np.ones(9), 1.0)
    s.quantiles = np.tile([-5.0, 5.0], (9, 1, 1))
    intervals = ConformalIntervals(0.8).fit(Backtest([s], 1, (0.1, 0.9)))
    assert intervals.widths_ == [-5.0]
    lower, upper = intervals.apply(np.array([[1.0]]), np.array([[3.0]]), np.ones(1))
    assert lower == upper == 2.0
    with pytest.raises(
        ValueError, match=r"widen the quantiles \(0\.1, 0\.9\); the backtest has .* \(0\.5,\)"
    ):
        intervals.report(Backtest([s], 1, (0.5,)))


@pytest.mark.parametrize("value", [0, 1, "80%", True])
def test_conformal_rejects_other_coverages(value):
    with pytest.raises(ValueError, match="coverage="):
        ConformalIntervals(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.predict_quantiles((0.5,)), "neither quantiles nor a distribution"),
        (lambda f: f.sample(), "needs distribution="),
        (lambda f: f.predict_interval(1.5), "coverage="),
        (lambda f: f.predict_quantiles((0.9, 0.1)), "levels="),
    ],
)
def test_uncertainty_rejects(call, message):
    f = forecaster(max_iter=1).fit(noise(100))
    with pytest.raises(ValueError, match=message):
        call(f)


def test_levels_that_were_not_trained_are_named():
    f = forecaster(max_iter=1, quantiles=(0.1, 0.5, 0.9)).fit(noise(100))
    with pytest.raises(ValueError, match=r"levels=\[0\.025\] are not"):
        f.predict_quantiles((0.025, 0.5))

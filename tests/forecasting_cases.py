"""Small forecasters, hourly series, and a check that a refused call has changed nothing."""

import numpy as np
import pytest

from fastrnn.forecasting import RNNForecaster

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


def hour_missing(zone="Europe/Berlin", day="2001-03-25"):
    """Local time without its zone: the hour by which clocks were put forward is not there."""
    y = hours(day, N, tz=zone)
    return y.tz_localize(None)


def hour_doubled():
    return hours("2001-10-27", N, tz="Europe/Berlin").tz_localize(None)

"""Fitted forecasters come back from files with their series, time axes and states."""

import numpy as np
import pytest

import fastrnn
from fastrnn import ModelFileError
from fastrnn.forecasting import RNNForecaster
from tests.saved_files import rewrite

OPTIONS = {"horizon": 4, "units": 4, "max_iter": 2, "random_state": 0}


def values(n=60, n_series=2):
    return np.random.default_rng(0).normal(size=(n, n_series)).cumsum(axis=0)


def frame(pandas, n=60, start="2020-01-01"):
    dates = pandas.date_range(start, periods=n, freq="D")
    table = {"unique_id": np.repeat(["a", "b"], n), "ds": np.tile(dates, 2), "y": values(n).T.ravel()}
    return pandas.DataFrame(table)


@pytest.mark.parametrize(
    "more",
    [{}, {"quantiles": [0.1, 0.5, 0.9]}, {"distribution": "student_t"}, {"lags": [1, 7]}],
    ids=lambda m: "".join(m) or "plain",
)
def test_forecaster_of_arrays_comes_back(more, tmp_path):
    model = RNNForecaster(**OPTIONS, **more).fit(values())
    model.save(tmp_path / "f")
    again = fastrnn.load(tmp_path / "f")
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.predict(), model.predict())
    later = values(3)
    np.testing.assert_array_equal(again.update(later).predict(), model.update(later).predict())


@pytest.mark.parametrize("kind", ["long", "periods"])
def test_forecaster_of_pandas_comes_back_and_goes_on(kind, tmp_path):
    pandas = pytest.importorskip("pandas")
    if kind == "periods":
        whole = pandas.Series(values(64)[:, 0], index=pandas.period_range("2010-01", periods=64, freq="M"))
        known, later = whole[:60], whole[60:]
    else:
        known = frame(pandas)
        later = frame(pandas, 2, "2020-03-01")
    model = RNNForecaster(**OPTIONS).fit(known)
    fastrnn.save(model, tmp_path / "f")
    again = fastrnn.load(tmp_path / "f")
    assert again.predict().equals(model.predict())
    assert again.update(later).predict().equals(model.update(later).predict())


@pytest.mark.parametrize(
    "change",
    [
        {"module": "os", "class": "system"},
        {"module": "forecaster", "class": "RNNForecaster"},
        {"class": "np"},
        {"module": "../x"},
    ],
    ids=str,
)
def test_records_of_unknown_classes_are_refused(change, tmp_path):
    fastrnn.save(RNNForecaster(**OPTIONS).fit(values()), tmp_path / "f")

    def harm(content):
        fitted = content["value"]["fitted"]
        record = next(v for v in fitted.values() if isinstance(v, dict) and v.get("$") == "record")
        record.update(change)

    rewrite(tmp_path / "f", harm)
    with pytest.raises(ModelFileError, match="record"):
        fastrnn.load(tmp_path / "f")

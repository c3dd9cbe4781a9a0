import numpy as np
import pytest

from fastrnn.forecasting import make_windows, mase, seasonal_naive, smape


def test_make_windows_of_one_variable():
    X, y = make_windows(np.arange(6), n_past=3, n_ahead=2)
    np.testing.assert_array_equal(X[:, :, 0], [[0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(y, [[3, 4], [4, 5]])
    assert X.shape == (2, 3, 1)
    assert X.dtype == np.float64


@pytest.mark.parametrize("n_ahead", [1, 3])
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("target", [None, 1, -1, [0, 2]])
def test_make_windows_matches_a_loop(n_ahead, gap, stride, target):
    series = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    X, y = make_windows(series, 5, n_ahead, target=target, stride=stride, gap=gap)
    columns = [0, 1, 2] if target is None else np.atleast_1d(target)
    starts = range(0, 30 - 5 - gap - n_ahead + 1, stride)
    assert len(X) == len(y) == len(starts)
    for i, start in enumerate(starts):
        np.testing.assert_array_equal(X[i], series[start : start + 5])
        future = series[start + 5 + gap : start + 5 + gap + n_ahead, columns]
        np.testing.assert_array_equal(y[i], future[:, 0] if len(columns) == 1 else future)
    assert X.dtype == y.dtype == np.float32


def test_make_windows_takes_no_memory_for_the_past():
    series = np.zeros((1000, 2))
    X, _ = make_windows(series, 100)
    assert np.shares_memory(X, series)
    assert not X.flags.writeable


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_past": 0}, "n_past=0"),
        ({"n_past": 2, "n_ahead": 0}, "n_ahead=0"),
        ({"n_past": 2, "stride": 0}, "stride=0"),
        ({"n_past": 2, "gap": -1}, "gap=-1"),
        ({"n_past": 10}, "has 10 steps, a window takes .* = 11"),
        ({"n_past": 2, "target": 1}, "target=1"),
    ],
)
def test_make_windows_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_windows(np.arange(10.0), **kwargs)


@pytest.mark.parametrize("series", [np.zeros((2, 3, 4)), np.array(["a", "b"])], ids=["3-D", "text"])
def test_make_windows_rejects_what_is_no_series(series):
    with pytest.raises(ValueError, match="series has"):
        make_windows(series, 1)


def test_seasonal_naive_repeats_the_last_season():
    np.testing.assert_array_equal(seasonal_naive([1, 2, 3, 4, 5], 7, period=3), [3, 4, 5, 3, 4, 5, 3])
    np.testing.assert_array_equal(seasonal_naive([1, 2, 3], 2), [3, 3])
    assert seasonal_naive(np.zeros((8, 2)), 5, period=4).shape == (5, 2)
    with pytest.raises(ValueError, match="less than one season"):
        seasonal_naive([1, 2], 1, period=3)


def test_mase_of_the_naive_forecast_inside_the_training_data_is_1():
    train = np.array([1.0, 4.0, 2.0, 8.0, 3.0])
    assert mase(train[1:], train[:-1], train) == pytest.approx(1.0)
    assert mase(train[2:], train[:-2], train, period=2) == pytest.approx(1.0)


def test_smape_bounds():
    assert smape([1, 2], [1, 2]) == 0
    assert smape([1, 0], [0, 0]) == pytest.approx(100)  # one term of 200, one of 0
    assert smape([100], [50]) == pytest.approx(100 * 2 * 50 / 150)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smape([1, 2], [1]), "y_true has shape"),
        (lambda: smape([], []), "empty"),
        (lambda: mase([1], [1], [1, 2], period=2), "period=2"),
        (lambda: mase([1], [1], [3, 3, 3]), "repeats itself"),
    ],
)
def test_errors_reject_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

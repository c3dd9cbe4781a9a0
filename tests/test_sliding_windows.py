"""Sliding windows: views that the estimators take without copying them."""

import tracemalloc

import numpy as np
import pytest

from fastrnn import RNNRegressor
from fastrnn.preprocessing import sliding_windows


@pytest.mark.parametrize(("width", "step"), [(1, 1), (3, 1), (3, 2), (4, 5), (10, 1)])
@pytest.mark.parametrize("n_features", [None, 1, 3])
def test_windows_are_those_of_a_loop(width, step, n_features, rng):
    series = rng.normal(size=10 if n_features is None else (10, n_features))
    flat = series.reshape(10, -1)
    expected = [flat[i : i + width] for i in range(0, 10 - width + 1, step)]
    got = sliding_windows(series, width, step)
    np.testing.assert_array_equal(got, expected)
    assert np.shares_memory(got, series)
    assert not got.flags.writeable


def test_lists_are_read():
    np.testing.assert_array_equal(sliding_windows([1, 2, 3], 2), [[[1], [2]], [[2], [3]]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(5), 6), "values has 5 time steps, fewer than a window of width=6"),
        ((np.zeros(5), 0), "width"),
        ((np.zeros(5), 2, 0), "step"),
        ((np.zeros((2, 2, 2)), 2), r"values has shape \(2, 2, 2\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sliding_windows(*arguments)


def test_fit_and_predict_do_not_copy_windows(rng):
    series = rng.normal(size=(6000, 2))
    X = sliding_windows(series, 200)  # 18 MB as an array
    y = rng.normal(size=len(X))
    model = RNNRegressor(cell="gru", units=2, max_iter=1, tol=None, random_state=0, batch_size=512, n_jobs=1)
    model.fit(X[:600], y[:600]).predict(X[:600])
    tracemalloc.start()
    model.fit(X, y)
    in_fit = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    model.predict(X)
    in_predict = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert X.nbytes > 18e6
    assert in_fit < 0.6 * X.nbytes
    assert in_predict < 0.6 * X.nbytes


def test_windows_give_what_their_copies_give(rng):
    X, y = sliding_windows(rng.normal(size=(60, 2)), 7), rng.normal(size=54)
    models = [
        RNNRegressor(units=3, max_iter=2, tol=None, random_state=0).fit(given, y) for given in (X, X.copy())
    ]
    np.testing.assert_array_equal(models[0].predict(X), models[1].predict(X.copy()))

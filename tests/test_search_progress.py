"""The progress bar of searches: how many fits it counts, with which backends, and what it leaves behind."""

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneOut,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_validate,
)

from fastrnn import RNNClassifier
from fastrnn.estimators import search_progress

X = np.random.default_rng(0).standard_normal((12, 4, 2)).astype(np.float32)
Y = np.arange(12) % 2
MODEL = RNNClassifier(cell="simple_rnn", units=2, max_iter=1, tol=None, random_state=0)
GRID = {"units": [2, 3], "batch_size": [4, 12]}


@pytest.mark.parametrize(
    "options",
    [
        {"n_jobs": 1},
        {"n_jobs": 2},
        {"n_jobs": 2, "backend": "threading"},
        {"n_jobs": 2, "backend": "fastrnn"},
    ],
    ids=str,
)
def test_bar_counts_the_fits_of_a_search(options, capsys):
    search = GridSearchCV(MODEL, GRID, cv=3)
    with search_progress(search), joblib.parallel_config(**options):
        search.fit(X, Y)
    err = capsys.readouterr().err
    assert "search: 100%" in err
    assert "12/12" in err


def test_bar_counts_other_fits_of_scikit_learn_with_or_without_total(capsys):
    with search_progress():
        cross_validate(MODEL, X, Y, cv=2)
        cross_validate(MODEL, X, Y, cv=3)
    assert "search: 5fit" in capsys.readouterr().err
    with search_progress(total=2):
        cross_validate(MODEL, X, Y, cv=2)
    assert "2/2" in capsys.readouterr().err


class Nested(ClassifierMixin, BaseEstimator):
    """An estimator that itself runs tasks in parallel."""

    def fit(self, X, y):
        Parallel(n_jobs=1)(delayed(abs)(k) for k in range(5))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), int)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bar_leaves_out_what_fits_run_in_parallel_themselves(n_jobs, capsys):
    with search_progress(), joblib.parallel_config("threading", n_jobs=n_jobs):
        cross_validate(Nested(), X, Y, cv=2)
    assert "search: 2fit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("search", "shown"),
    [
        (RandomizedSearchCV(MODEL, {"units": [2, 3, 4, 5]}, n_iter=3, cv=2), "/6 "),
        (GridSearchCV(MODEL, [{"units": [2]}, {"units": [3, 4]}]), "/15 "),
        (GridSearchCV(MODEL, GRID, cv=ShuffleSplit(7)), "/28 "),
        (GridSearchCV(MODEL, GRID, cv=[([0, 1], [2, 3])]), "/4 "),
        (GridSearchCV(MODEL, GRID, cv=LeaveOneOut()), " 0fit"),
    ],
)
def test_total_is_that_of_the_search_where_it_does_not_depend_on_the_data(search, shown, capsys):
    with search_progress(search):
        pass
    assert shown in capsys.readouterr().err


def test_total_leaves_splits_of_a_generator_to_the_search(capsys):
    search = GridSearchCV(MODEL, {"units": [2]}, cv=((np.arange(8), np.arange(8, 12)) for _ in range(2)))
    with search_progress(search):
        search.fit(X, Y)
    assert "search: 2fit" in capsys.readouterr().err


def test_bar_is_closed_and_joblib_restored_after_an_error(capsys):
    methods = Parallel.__call__, Parallel.print_progress
    with pytest.raises(ValueError, match="units"), search_progress(total=9):
        cross_validate(RNNClassifier(units=-1), X, Y, cv=2, error_score="raise")
    assert (Parallel.__call__, Parallel.print_progress) == methods
    assert capsys.readouterr().err.endswith("\n")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"search": MODEL}, TypeError, "search is RNNClassifier: give a GridSearchCV"),
        ({"total": 0}, ValueError, "total=0: give a positive integer or None"),
    ],
)
def test_search_progress_refuses_what_tells_no_number_of_fits(options, error, words):
    with pytest.raises(error, match=words), search_progress(**options):
        pass

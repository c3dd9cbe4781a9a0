"""Life among scikit-learn's own estimators, with sequences in three dimensions and ragged ones."""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, VotingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr

from fastrnn import RNNClassifier, RNNRegressor, StandardScaler3D
from fastrnn.sequences import as_object_array

MADE = {"cell": "gru", "units": 4, "max_iter": 12, "tol": None, "random_state": 0, "learning_rate_init": 0.03}
FORMS = ["dense", "ragged"]


@pytest.fixture(params=FORMS)
def data(request, rng):
    X = rng.normal(size=(60, 5, 2))
    y = np.where(X[:, -1, 0] > 0, "up", "down")
    if request.param == "ragged":
        X = as_object_array([x[5 - n :] for x, n in zip(X, rng.integers(2, 6, 60), strict=True)])
    return X, y


def classifier(**options):
    return RNNClassifier(**{**MADE, **options})


def test_voting(data):
    X, y = data
    votes = VotingClassifier(
        [("a", classifier()), ("b", classifier(cell="lstm", random_state=1))], voting="soft"
    )
    votes.fit(X, y)
    mean = np.mean([model.predict_proba(X) for model in votes.estimators_], axis=0)
    np.testing.assert_allclose(votes.predict_proba(X), mean)
    assert (votes.predict(X) == y).mean() > 0.8
    target = (y == "up") * 100.0
    both = VotingRegressor([("a", RNNRegressor(**MADE)), ("b", RNNRegressor(**MADE, n_jobs=1))]).fit(
        X, target
    )
    np.testing.assert_allclose(
        both.predict(X), np.mean([model.predict(X) for model in both.estimators_], axis=0)
    )


def test_calibration(data):
    X, y = data
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, y)
    assert (calibrated.predict(X) == y).mean() > 0.8
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_halving_search_and_splits_in_time(data):
    X, y = data
    search = HalvingGridSearchCV(
        classifier(), {"units": [2, 4]}, cv=2, random_state=0, min_resources=20, factor=2
    ).fit(X, y)
    assert search.best_params_["units"] in (2, 4)
    scores = cross_val_score(classifier(), X, y, cv=TimeSeriesSplit(3))
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert learning_curve(classifier(max_iter=1), X, y, train_sizes=[10, 20], cv=2)[1].shape == (2, 2)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_searches_score_alike_in_every_backend(backend, data):
    X, y = data
    grid = {"units": [2, 4], "learning_rate_init": [0.01, 0.03]}
    alone = GridSearchCV(classifier(n_jobs=1, max_iter=3), grid, cv=2).fit(X, y)
    with joblib.parallel_backend(backend, n_jobs=2):
        together = GridSearchCV(classifier(max_iter=3), grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_probabilities_of_sequences_in_cross_validation(data):
    X, y = data
    assert cross_val_predict(classifier(), X, y, cv=3, method="predict_proba").shape == (60, 2)


def test_bagging_and_one_against_the_rest_on_tables(rng):
    X = rng.normal(size=(60, 5))
    y = np.digitize(X[:, -1], [-0.5, 0.5])
    assert BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(X, y).score(X, y) > 0.6
    labels = np.c_[X[:, -1] > 0, X[:, -2] > 0].astype(int)
    several = OneVsRestClassifier(classifier(max_iter=25)).fit(X, labels)
    assert (several.predict(X) == labels).mean() > 0.8


def test_representations():
    pipeline = make_pipeline(StandardScaler3D(), classifier(units=(8, 4)))
    html = estimator_html_repr(pipeline)
    assert "RNNClassifier" in html
    assert "StandardScaler3D" in html
    assert repr(clone(classifier())) == repr(classifier())

"""scikit-learn's tools around the estimators: importances, self-training, labels, routing, processes, old pickles."""

import os
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.semi_supervised import SelfTrainingClassifier

from fastrnn import RNNClassifier, RNNRegressor, StandardScaler3D
from fastrnn.engine.runtime import threads
from fastrnn.sequences import as_object_array
from tests.golden.make_pickles import PICKLE

MADE = {"cell": "gru", "units": 4, "max_iter": 12, "tol": None, "random_state": 0, "learning_rate_init": 0.03}


@pytest.fixture(params=["dense", "ragged"])
def data(request, rng):
    X = rng.normal(size=(60, 5, 2))
    y = np.where(X[:, -1, 0] > 0, "up", "down")
    if request.param == "ragged":
        X = as_object_array([x[5 - n :] for x, n in zip(X, rng.integers(2, 6, 60), strict=True)])
    return X, y


def in_steps(X):
    return X.reshape(len(X), -1, 2)


def test_permutation_importance_finds_the_step_that_counts(rng):
    X = rng.normal(size=(80, 5))
    y = np.where(X[:, -1] > 0, "up", "down")
    model = RNNClassifier(**MADE).fit(X, y)
    found = permutation_importance(model, X, y, n_repeats=3, random_state=0).importances_mean
    assert found.argmax() == 4
    # Of several variables: scikit-learn's function takes two dimensions, so a step of the pipeline makes three of them.
    wide = rng.normal(size=(80, 10))
    y = np.where(wide[:, 8] > 0, "up", "down")
    pipeline = make_pipeline(FunctionTransformer(in_steps), RNNClassifier(**MADE)).fit(wide, y)
    found = permutation_importance(pipeline, wide, y, n_repeats=3, random_state=0).importances_mean
    assert found.argmax() == 8


def test_self_training_uses_samples_without_labels(rng):
    X = rng.normal(size=(80, 10))
    y = (X[:, 8] > 0).astype(int)
    known = np.where(np.arange(80) % 4 == 0, y, -1)
    pipeline = make_pipeline(FunctionTransformer(in_steps), RNNClassifier(**{**MADE, "max_iter": 30}))
    trained = SelfTrainingClassifier(pipeline, threshold=0.8, max_iter=2).fit(X, known)
    assert (trained.labeled_iter_ > 0).sum() > 10
    assert trained.score(X, y) > 0.75


def test_several_labels_and_several_outputs(data, rng):
    X, y = data
    last = np.array([x[-1] for x in X])
    labels = np.c_[last[:, 0] > 0, last[:, 1] > 0].astype(int)
    several = MultiOutputClassifier(RNNClassifier(**MADE)).fit(X, labels)
    assert (several.predict(X) == labels).mean() > 0.8
    assert [p.shape for p in several.predict_proba(X)] == [(60, 2), (60, 2)]
    both = RNNRegressor(**{**MADE, "max_iter": 40}).fit(X, last * [1, 1000])
    assert both.predict(X).shape == (60, 2)
    assert both.score(X, last * [1, 1000]) > 0.6
    one_each = MultiOutputRegressor(RNNRegressor(**MADE)).fit(X, last)
    alone = RNNRegressor(**MADE).fit(X, last[:, 1])
    np.testing.assert_array_equal(one_each.predict(X)[:, 1], alone.predict(X))


def test_classifier_chains_on_tables(rng):
    X = rng.normal(size=(60, 5))
    labels = np.c_[X[:, -1] > 0, X[:, -1] + X[:, -2] > 0].astype(int)
    chain = ClassifierChain(RNNClassifier(**MADE), order=[0, 1]).fit(X, labels)
    assert (chain.predict(X) == labels).mean() > 0.75


def test_metadata_is_routed(data, rng):
    X, y = data
    weight = rng.integers(0, 3, 60).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        network = (
            RNNClassifier(**MADE).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        pipeline = make_pipeline(StandardScaler3D(), network)
        pipeline.fit(X, y, sample_weight=weight)
        got = cross_validate(
            pipeline, X, y, params={"sample_weight": weight, "groups": np.arange(60) % 3}, cv=GroupKFold(3)
        )["test_score"]
        search = GridSearchCV(pipeline, {"rnnclassifier__units": [4]}, cv=3).fit(X, y, sample_weight=weight)
        stateful = RNNRegressor(**MADE, stateful=True)
        stateful.set_partial_fit_request(series=True).set_predict_request(series=True, advance=True)
        requests = stateful.get_metadata_routing()
        assert requests.predict.requests == {"series": True, "advance": True}
        assert requests.partial_fit.requests["series"] is True
        unasked = make_pipeline(StandardScaler3D(), RNNClassifier(**MADE))
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            unasked.fit(X, y, sample_weight=weight)
    scaled = StandardScaler3D().fit_transform(X)
    alone = RNNClassifier(**MADE).fit(scaled, y, sample_weight=weight)
    np.testing.assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(scaled))
    assert np.isfinite(search.best_score_)
    splits = GroupKFold(3).split(X, y, np.arange(60) % 3)
    for score, (train, test) in zip(got, splits, strict=True):
        by_hand = make_pipeline(StandardScaler3D(), RNNClassifier(**MADE))
        by_hand.fit(X[train], y[train], rnnclassifier__sample_weight=weight[train])
        assert score == pytest.approx(by_hand.score(X[test], y[test], sample_weight=weight[test]))


def fit_and_count(seed):
    """Accuracy of a fit; in this process: the threads of kernels before and after, and what a fit would use."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 20, 2))
    y = X[:, -1, 0] > 0
    model = RNNClassifier(**{**MADE, "random_state": seed, "units": 32}).fit(X, y)
    return model.score(X, y), threads.resolve(None), len(threads._team._workers), os.getpid()


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_workers_of_joblib_fit_with_one_thread_each(backend):
    expected = [fit_and_count(seed)[0] for seed in range(3)]
    here = len(threads._team._workers)
    with joblib.parallel_backend(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(fit_and_count)(seed) for seed in range(3))
    assert [score for score, *_ in found] == expected
    assert [n for _, n, *_ in found] == [1, 1, 1]
    for _, _, workers, process in found:
        # A worker process has started no thread of its own; a worker thread none besides those that were here.
        assert workers == (here if process == os.getpid() else 0)
    assert (backend == "threading") == (found[0][3] == os.getpid())


def test_pickles_of_version_1_load_and_answer_as_before():
    with warnings.catch_warnings():
        # The pipeline and the scalers inside are scikit-learn's, which warns of its other versions.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        old = pickle.loads(PICKLE.read_bytes())
    X, y, answers, estimators = (old[key] for key in ("X", "y", "answers", "estimators"))
    np.testing.assert_allclose(estimators["classifier"].predict_proba(X), answers["classifier"], rtol=1e-9)
    np.testing.assert_allclose(estimators["regressor"].predict(X), answers["regressor"], rtol=1e-9)
    stateful = estimators["stateful"]
    np.testing.assert_allclose(stateful.predict(X, series=list("abcdef")), answers["stateful"], rtol=1e-9)
    assert list(stateful.series_states_) == list("abcdef")
    # And they can be used further.
    stateful.partial_fit(X, y, series=list("abcdef"))
    assert estimators["regressor"].partial_fit(X, y).n_iter_ == 3
    assert clone(estimators["classifier"]).fit(X, np.where(y > 0, "up", "down")).classes_.tolist() == [
        "down",
        "up",
    ]
    assert np.isfinite(cross_val_score(clone(estimators["regressor"]), X, y, cv=2)).all()

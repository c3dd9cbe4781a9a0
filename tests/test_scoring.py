"""Scorers of scikit-learn on answers for time steps: the number of the flattened steps, or an error with the remedy."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
from sklearn import model_selection
from sklearn.metrics import (
    accuracy_score,
    get_scorer,
    get_scorer_names,
    make_scorer,
    mean_absolute_error,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline

import fastrnn
from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.estimators import cross_val_predict, per_step
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.sequences import Ragged, as_object_array

MADE = {
    "cell": "gru",
    "units": 6,
    "max_iter": 8,
    "tol": None,
    "random_state": 0,
    "return_sequences": True,
    "learning_rate_init": 0.02,
}
FORMS = ["dense", "padded", "list", "object", "Ragged"]
KINDS = ["two classes", "three classes", "text", "numbers"]


class Flat:
    """An estimator of flattened steps for scorers: an oracle without per_step."""

    def __init__(self, model, answers):
        self.model, self.answers = model, answers
        if hasattr(model, "classes_"):
            self.classes_ = model.classes_

    def __sklearn_tags__(self):
        return self.model.__sklearn_tags__()

    def predict(self, X):
        return self.answers["predict"]

    def __getattr__(self, name):
        if name not in ("predict_proba", "predict_log_proba") or name not in self.answers:
            raise AttributeError(name)

        def method(X):
            return self.answers[name]

        method.__name__ = name
        return method


def data(kind, form, rng):
    x = rng.normal(size=(40, 6, 2))
    y = {
        "two classes": (x[..., 0] > 0).astype(int),
        "three classes": (x[..., 0] > 0).astype(int) + (x[..., 1] > 0.5),
        "text": np.where(x[..., 0] > 0, "up", "down"),
        "numbers": 3 + x[..., 0].cumsum(axis=1),
    }[kind]
    lengths = np.full(40, 6) if form == "dense" else rng.integers(1, 7, 40)
    steps = np.concatenate([t[:n] for t, n in zip(y, lengths, strict=True)])
    if form == "dense":
        return x, y, steps
    xs, ys = ([a[:n] for a, n in zip(v, lengths, strict=True)] for v in (x, y))
    if form == "padded":
        x[np.arange(6) >= lengths[:, None]] = np.nan
        return x, y, steps
    wrap = {"list": list, "object": as_object_array, "Ragged": Ragged.from_list}[form]
    return wrap(xs), as_object_array(ys) if form != "list" else ys, steps


def fitted(kind, x, y):
    return (RNNRegressor if kind == "numbers" else RNNClassifier)(**MADE).fit(x, y)


def flattened(model, x):
    """Answers step by step, each sequence on its own."""
    names = ["predict", "predict_proba", "predict_log_proba"][: 3 if hasattr(model, "classes_") else 1]
    rows = [row[~np.isnan(row).any(axis=1)] for row in x]
    return {name: np.concatenate([getattr(model, name)(row[None])[0] for row in rows]) for name in names}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # of scorers about rare classes, small numbers and the like
def test_every_scorer_of_scikit_learn_gives_the_number_of_the_flattened_steps(kind, form, rng):
    x, y, steps = data(kind, form, rng)
    model = fitted(kind, x, y)
    flat = Flat(model, flattened(model, x))
    for name in get_scorer_names():
        try:
            expected = get_scorer(name)(flat, x, steps)
        except (ValueError, TypeError, AttributeError):
            with pytest.raises((ValueError, TypeError, AttributeError)):
                per_step(name)(model, x, y)
        else:
            np.testing.assert_allclose(
                per_step(name)(model, x, y), expected, rtol=1e-4, atol=1e-6, err_msg=name
            )
        # On its own it never gives a number.
        error = (ValueError, AttributeError) if kind == "numbers" else ValueError
        with pytest.raises(error, match=r"fastrnn\.per_step|none of the following attributes|pos_label=1"):
            get_scorer(name)(model, x, y)


def test_the_area_under_the_curve_is_right_where_a_number_came_out_silently():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 8, 1))
    y = (x[..., 0] > 0).astype(int)
    model = RNNClassifier(**{**MADE, "max_iter": 40}).fit(x, y)
    got = per_step("roc_auc")(model, x, y)
    assert got == roc_auc_score(y.ravel(), model.predict_proba(x)[..., 1].ravel())
    assert got > 0.99
    with pytest.raises(ValueError, match=r"per_step\('roc_auc'\)"):
        cross_val_score(model, x, y, scoring="roc_auc", cv=2, error_score="raise")


@pytest.mark.parametrize("form", ["dense", "object"])
def test_grid_search_in_a_pipeline_with_several_scorers(form, rng):
    x, y, _ = data("two classes", form, rng)
    pipeline = make_pipeline(StandardScaler3D(), RNNClassifier(**{**MADE, "max_iter": 2}))
    scoring = {"auc": per_step("roc_auc"), "loss": per_step("neg_log_loss"), "own": None}
    scoring["own"] = per_step(make_scorer(accuracy_score))
    grid = {"rnnclassifier__units": [2, 6]}
    search = GridSearchCV(pipeline, grid, scoring=scoring, refit="auc", cv=3).fit(x, y)
    for train, test in KFold(3).split(x):
        model = search.estimator.set_params(**search.best_params_).fit(x[train], y[train])
        rows = np.concatenate(list(model.predict(x[test])))
        by_hand = accuracy_score(np.concatenate(list(y[test])), rows)
        found = [search.cv_results_[f"split{k}_test_own"][search.best_index_] for k in range(3)]
        assert by_hand in found
    assert np.isfinite(search.cv_results_["mean_test_loss"]).all()
    with pytest.raises(ValueError, match=r"fastrnn\.per_step"):
        GridSearchCV(pipeline, grid, scoring="accuracy", cv=3, error_score="raise").fit(x, y)


def test_weights_of_sequences_and_of_steps(rng):
    x, y, steps = data("numbers", "object", rng)
    model = fitted("numbers", x, y)
    rows, lengths = np.concatenate(list(model.predict(x))), [len(t) for t in y]
    scorer = per_step("neg_mean_absolute_error")
    by_sequence = rng.uniform(size=40)
    by_step = as_object_array([rng.uniform(size=n) for n in lengths])
    for weight, flat in (
        (by_sequence, np.repeat(by_sequence, lengths)),
        (by_step, np.concatenate(list(by_step))),
    ):
        expected = -mean_absolute_error(steps, rows, sample_weight=flat)
        assert scorer(model, x, y, sample_weight=weight) == pytest.approx(expected, rel=1e-6)


def test_weights_are_routed(rng):
    x, y, _ = data("numbers", "dense", rng)
    weight = rng.uniform(size=40)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("neg_mean_absolute_error").set_score_request(sample_weight=True)
        model = RNNRegressor(**MADE).set_fit_request(sample_weight=False)
        found = cross_validate(
            model, x, y, scoring=per_step(scorer), params={"sample_weight": weight}, cv=KFold(2)
        )["test_score"]
    for score, (train, test) in zip(found, KFold(2).split(x), strict=True):
        error = np.abs(RNNRegressor(**MADE).fit(x[train], y[train]).predict(x[test]) - y[test]).mean(axis=1)
        assert score == pytest.approx(-np.average(error, weights=weight[test]), rel=1e-5)


def test_a_function_of_ones_own_may_take_the_answers_as_they_are(rng):
    x, y, _ = data("numbers", "dense", rng)

    def at_the_end(model, x, y):
        return -np.abs(model.predict(x)[:, -1] - y[:, -1]).mean()

    assert (cross_val_score(RNNRegressor(**MADE), x, y, scoring=at_the_end, cv=2) < 0).all()


def test_outputs_for_sequences_are_scored_as_ever(rng):
    x, y, _ = data("two classes", "dense", rng)
    model = RNNClassifier(**{**MADE, "return_sequences": False}).fit(x, y[:, -1])
    assert get_scorer("roc_auc")(model, x, y[:, -1]) == roc_auc_score(y[:, -1], model.predict_proba(x)[:, 1])
    with pytest.raises(ValueError, match="one answer for each sequence"):
        per_step("roc_auc")(model, x, y[:, -1])


def test_per_step_can_be_copied_and_read():
    scorer = pickle.loads(pickle.dumps(fastrnn.per_step("roc_auc")))
    assert repr(scorer) == "per_step('roc_auc')"
    assert per_step(scorer).scoring == "roc_auc"
    with pytest.raises(ValueError, match="no_such"):
        per_step("no_such")


# ---- cross_val_predict


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("form", ["dense", "padded", "list", "object"])
@pytest.mark.parametrize("kind", ["two classes", "text"])
def test_cross_val_predict_gives_the_answers_of_the_other_folds(kind, form, method, rng):
    x, y, _ = data(kind, form, rng)
    model = RNNClassifier(**{**MADE, "max_iter": 2})
    found = cross_val_predict(model, x, y, method=method, cv=KFold(3))

    def of(values, index):
        return [values[i] for i in index] if isinstance(values, list) else values[index]

    for train, test in KFold(3).split(np.zeros(40)):
        expected = getattr(model.fit(of(x, train), of(y, train)), method)(of(x, test))
        for got, wanted in zip(found[test], expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_cross_val_predict_has_a_column_for_classes_that_a_fold_lacks(rng):
    x = rng.normal(size=(12, 5, 1))
    y = np.where(x[..., 0] > 0, "b", "c").astype("<U1")
    y[0, 0] = "a"
    model = RNNClassifier(**{**MADE, "max_iter": 2})
    for xs, ys in ((x, y), (as_object_array(x), as_object_array(y))):
        found = cross_val_predict(model, xs, ys, method="predict_proba", cv=KFold(3))
        assert found[0].shape == (5, 3)
        assert (found[0][:, 0] == 0).all()  # its part of the samples was not trained on
        assert (found[-1][:, 0] > 0).all()
        np.testing.assert_allclose(np.array(list(found)).sum(axis=-1), 1, rtol=1e-5)


def test_cross_val_predict_for_sequences_is_that_of_scikit_learn(rng):
    x, y, _ = data("text", "dense", rng)
    model = RNNClassifier(**{**MADE, "return_sequences": False, "max_iter": 2})
    for method in ("predict", "predict_proba"):
        np.testing.assert_array_equal(
            cross_val_predict(model, x, y[:, -1], method=method, cv=3),
            model_selection.cross_val_predict(model, x, y[:, -1], method=method, cv=3),
        )


def test_cross_val_predict_of_scikit_learn_names_ours(rng):
    x, y, _ = data("two classes", "dense", rng)
    with pytest.raises(ValueError, match=r"use fastrnn\.estimators\.cross_val_predict"):
        model_selection.cross_val_predict(RNNClassifier(**MADE), x, y, method="predict_proba", cv=2)
    assert model_selection.cross_val_predict(RNNClassifier(**MADE), x, y, cv=2).shape == y.shape
    with pytest.raises(ValueError, match="method='nothing'"):
        cross_val_predict(RNNClassifier(**MADE), x, y, method="nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RNNClassifier(**MADE).fit(x, y).predict_proba(x)

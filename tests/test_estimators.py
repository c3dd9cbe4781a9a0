"""RNNClassifier and RNNRegressor: every form of X and y, training, and life inside scikit-learn."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from fastrnn.estimators import RNNClassifier, RNNRegressor
from fastrnn.optimizers import Adam
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.sequences import Ragged, as_object_array

QUICK = {"units": 6, "max_iter": 3, "tol": None, "random_state": 0}
LEARN = {"units": 12, "learning_rate_init": 0.01, "tol": None, "random_state": 0}
CELLS = ["simple_rnn", "lstm", "gru"]


def classifier(**arguments):
    return RNNClassifier(**{**QUICK, **arguments})


def regressor(**arguments):
    return RNNRegressor(**{**QUICK, **arguments})


@pytest.fixture
def dense():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5, 2))
    return X, np.where(X.sum((1, 2)) > 0, "up", "down")


@pytest.fixture
def ragged():
    rng = np.random.default_rng(1)
    X = [rng.normal(size=(length, 2)) for length in rng.integers(1, 7, size=40)]
    return X, np.array([0 if x[:, 0].sum() > 0.5 else 1 if x[:, 1].sum() > 0 else 2 for x in X])


def pad(arrays, at_end=True):
    longest = max(map(len, arrays))
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for row, a in zip(out, arrays, strict=True):
        row[slice(None, len(a)) if at_end else slice(longest - len(a), None)] = a
    return out


# ---- what it learns


@pytest.mark.parametrize("cell", CELLS)
def test_classifier_learns_two_classes(dense, cell):
    X, y = dense
    model = RNNClassifier(cell=cell, max_iter=60, **LEARN).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.classes_.tolist() == ["down", "up"]
    assert model.predict(X).dtype == y.dtype
    assert model.predict_proba(X).shape == (40, 2)
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


@pytest.mark.parametrize("cell", CELLS)
def test_classifier_learns_ragged_sequences(ragged, cell):
    X, y = ragged
    model = RNNClassifier(cell=cell, max_iter=80, **LEARN).fit(X, y)
    assert model.score(X, y) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_classifier_learns_tokens():
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 20, size=length) for length in rng.integers(2, 8, size=80)]
    y = np.array([int((x < 5).any()) for x in X])
    model = RNNClassifier(max_iter=60, vocabulary_size=20, embedding_dim=8, **LEARN).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.model_.layers[0].get_weights()[0].shape == (20, 8)


def test_classifier_learns_single_steps(ragged):
    X, _ = ragged
    y = [np.where(np.cumsum(x[:, 0]) > 0, "high", "low") for x in X]
    model = RNNClassifier(max_iter=80, return_sequences=True, **LEARN).fit(X, y)
    assert model.score(X, y) > 0.9
    predicted = model.predict(X)
    assert predicted.dtype == object
    assert [p.shape for p in predicted] == [(len(x),) for x in X]
    hits = np.concatenate([p == t for p, t in zip(predicted, y, strict=True)])
    assert model.score(X, y) == pytest.approx(hits.mean())


@pytest.mark.parametrize("n_outputs", [None, 1, 3])
def test_regressor_learns(n_outputs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4, 2)) / 2
    y = X.sum((1, 2)) if n_outputs is None else X.sum(1) @ rng.normal(size=(2, n_outputs)) / 2
    model = RNNRegressor(max_iter=80, **LEARN).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.predict(X).dtype == y.dtype
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("n_outputs", [None, 1, 2])
def test_regressor_learns_single_steps(n_outputs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 6, 2)) / 3
    y = X.cumsum(axis=1)
    y = y[..., 0] if n_outputs is None else y[..., :n_outputs]
    model = RNNRegressor(max_iter=80, return_sequences=True, **LEARN).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"bidirectional": True, "merge_mode": "sum", "units": (5, 4)},
        {"units": (6, 5), "go_backwards": True},
        {"units": [6, 5, 4], "cell": "gru"},
        {"dropout": 0.2, "recurrent_dropout": 0.1},
        {"dropout": 0.2, "return_sequences": True},
        {"unroll": True},
        {"solver": "sgd"},
        {"solver": "rmsprop", "clipnorm": None},
        {"solver": "adagrad", "alpha": 0.1},
        {"solver": Adam(0.01, global_clipnorm=1.0)},
        {"dtype": "float64", "cell": "simple_rnn", "activation": "relu"},
        {"cell": "gru", "recurrent_activation": "hard_sigmoid"},
        {"shuffle": False, "batch_size": 7},
        {"n_jobs": 1},
        {"n_jobs": -1},
    ],
    ids=str,
)
def test_options_train(dense, options):
    X, y = dense
    if options.get("return_sequences"):
        y = np.repeat(y[:, None], X.shape[1], axis=1)
    model = classifier(**{"learning_rate_init": 0.01, "max_iter": 8, **options}).fit(X, y)
    assert model.n_iter_ == 8
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.predict_proba(X).dtype == options.get("dtype", "float32")


def test_solver_object_is_not_touched(dense):
    solver = Adam(0.5)
    classifier(solver=solver).fit(*dense)
    assert solver.iterations == 0
    assert solver.learning_rate == 0.5


def test_go_backwards_reads_from_the_end(dense):
    X, y = dense
    forward = classifier().fit(X[:, ::-1], y).predict_proba(X[:, ::-1])
    np.testing.assert_allclose(classifier(go_backwards=True).fit(X, y).predict_proba(X), forward, rtol=1e-5)


def test_alpha_shrinks_kernels(dense):
    X, y = dense
    free, held = (classifier(max_iter=20, alpha=a, learning_rate_init=0.01).fit(X, y) for a in (0.0, 30.0))
    kernels = [sum((w**2).sum() for w in m.model_.get_weights() if w.ndim == 2) for m in (free, held)]
    assert kernels[1] < 0.5 * kernels[0]


# ---- forms of X give the same


def test_forms_of_ragged_input_are_equal(ragged):
    X, y = ragged
    reference = classifier().fit(X, y).predict_proba(X)
    forms = [as_object_array(X), Ragged.from_list(X), tuple(X), pad(X), pad(X, at_end=False)]
    forms.append([x.tolist() for x in X])
    for form in forms:
        model = classifier().fit(form, y)
        np.testing.assert_array_equal(model.predict_proba(form), reference)


def test_forms_of_one_variable_are_equal():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 6)), np.arange(20) % 2
    reference = classifier().fit(X, y).predict_proba(X)
    for form in (X[:, :, None], list(X), X.tolist(), X.astype(object)):
        np.testing.assert_array_equal(classifier().fit(form, y).predict_proba(form), reference)


def test_forms_of_tokens_are_equal():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 9, size=(20, 6)), np.arange(20) % 2
    model = classifier(vocabulary_size=9)
    reference = clone(model).fit(X, y).predict_proba(X)
    for form in (X.astype(float), X.tolist(), list(X), X.astype(np.int32)):
        np.testing.assert_array_equal(clone(model).fit(form, y).predict_proba(form), reference)


def test_step_targets_in_all_forms(ragged):
    X, _ = ragged
    y = [(x[:, 0] > 0).astype(int) for x in X]
    model = classifier(return_sequences=True)
    reference = clone(model).fit(X, y).predict_proba(X)
    for targets in (as_object_array(y), [t.tolist() for t in y], [t[:, None] for t in y]):
        got = clone(model).fit(X, targets).predict_proba(X)
        for a, b in zip(got, reference, strict=True):
            np.testing.assert_array_equal(a, b)
    X_padded, y_padded = pad(X), pad(y)
    y_padded[np.isnan(y_padded)] = -1  # not looked at, so no third class
    fitted = clone(model).fit(X_padded, y_padded)
    assert fitted.classes_.tolist() == [0, 1]
    out = fitted.predict_proba(X_padded)
    assert out.shape == (40, X_padded.shape[1], 2)
    np.testing.assert_array_equal(np.isnan(out[..., 0]), np.isnan(X_padded[..., 0]))
    np.testing.assert_array_equal(out[~np.isnan(out[..., 0])], np.concatenate(list(reference)))
    labels = fitted.predict(X_padded)
    np.testing.assert_array_equal(np.isnan(labels), np.isnan(X_padded[..., 0]))
    assert fitted.score(X_padded, y_padded) == pytest.approx(fitted.score(X, y))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("return_sequences", [False, True])
def test_single_samples_equal_the_batch(ragged, cell, return_sequences):
    X, y = ragged
    if return_sequences:
        y = [np.full(len(x), label) for x, label in zip(X, y, strict=True)]
    model = classifier(cell=cell, return_sequences=return_sequences).fit(X, y)
    batch = model.predict_proba(X)
    for x, expected in zip(X, batch, strict=True):
        np.testing.assert_array_equal(model.predict_proba([x])[0], expected)
        np.testing.assert_array_equal(model.predict_proba(x[None])[0], expected)


def test_log_probabilities(dense):
    X, y = dense
    model = classifier().fit(X, y)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)), rtol=1e-5)
    model.model_.set_weights([w * 1e4 for w in model.model_.get_weights()])
    assert np.isfinite(model.predict_log_proba(X)).all()


def test_lengths_are_free_in_three_dimensions(dense):
    X, y = dense
    model = classifier().fit(X, y)
    assert model.n_features_in_ == 2
    assert model.predict(np.zeros((3, 11, 2))).shape == (3,)
    table = classifier().fit(X[:, :, 0], y)
    assert table.n_features_in_ == 5
    assert table.predict(np.zeros((3, 11, 1))).shape == (3,)


# ---- training


@pytest.mark.parametrize("cell", CELLS)
def test_same_seed_gives_bitwise_the_same(ragged, cell):
    X, y = ragged
    a, b = (classifier(cell=cell, dropout=0.2, random_state=3).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(a.model_.params, b.model_.params)
    assert a.loss_curve_ == b.loss_curve_
    assert not np.array_equal(classifier(cell=cell, random_state=4).fit(X, y).model_.params, b.model_.params)


def test_fit_starts_anew(dense):
    model = classifier().fit(*dense)
    before = model.model_.params.copy()
    np.testing.assert_array_equal(model.fit(*dense).model_.params, before)
    assert model.n_iter_ == 3


def test_random_state_object_is_used(dense):
    a, b = (classifier(random_state=np.random.RandomState(5)).fit(*dense) for _ in range(2))
    np.testing.assert_array_equal(a.model_.params, b.model_.params)


def test_warm_start_goes_on(dense):
    X, y = dense
    model = classifier(warm_start=True).fit(X, y)
    first = model.loss_curve_[0]
    model.fit(X, y)
    assert model.n_iter_ == 6
    assert model.loss_curve_[3] < first
    with pytest.raises(ValueError, match=r"units=7, but the network was made with units=6"):
        model.set_params(units=7).fit(X, y)


def test_stops_when_the_loss_no_longer_improves(dense):
    X, y = dense
    model = classifier(max_iter=500, tol=0.5, n_iter_no_change=2).fit(X, y)
    assert model.n_iter_ <= 5
    assert model.best_loss_ == min(model.loss_curve_)
    assert model.validation_scores_ is None


def test_warns_when_max_iter_ends_training(dense):
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3\) reached.*tol=None"):
        classifier(tol=1e-4).fit(*dense)


@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_early_stopping_puts_the_best_weights_back(dense, kind):
    X, y = dense
    if kind is RNNRegressor:
        y = X.sum((1, 2)) / 4
    X, y = np.tile(X, (3, 1, 1)), np.tile(y, 3)
    model = kind(
        early_stopping=True, validation_fraction=0.2, max_iter=300, n_iter_no_change=3,
        **{**LEARN, "tol": 1e-4},
    ).fit(X, y)  # fmt: skip
    assert model.n_iter_ < 300
    assert len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.best_loss_ is None
    # The weights are those of the best epoch: training exactly so long gives them again.
    n = int(np.argmax(model.validation_scores_)) + 1
    shorter = clone(model).set_params(max_iter=n, tol=None).fit(X, y)
    np.testing.assert_array_equal(shorter.model_.params, model.model_.params)


def test_early_stopping_needs_enough_samples(dense):
    X, y = dense
    with pytest.raises(ValueError, match="validation set is too small, 1 sample"):
        regressor(early_stopping=True).fit(X[:6], np.arange(6.0))


def test_sample_weights_act_like_repetition(dense):
    X, y = dense
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))
    options = {"dtype": "float64", "batch_size": 1000, "shuffle": False}
    weighted = classifier(**options).fit(X, y, weights)
    repeated = classifier(**options).fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-6)


def test_weights_of_steps(ragged):
    X, _ = ragged
    y = [(x[:, 0] > 0).astype(int) for x in X]
    whole = np.arange(1.0, 41.0)
    steps = [np.full(len(x), w) for x, w in zip(X, whole, strict=True)]
    model = classifier(return_sequences=True)
    a, b = clone(model).fit(X, y, whole), clone(model).fit(X, y, steps)
    np.testing.assert_array_equal(a.model_.params, b.model_.params)
    assert a.score(X, y, whole) == pytest.approx(a.score(X, y, steps))
    assert a.score(X, y, whole) != a.score(X, y)


def test_class_weights_act_like_sample_weights(dense):
    X, y = dense
    by_class = classifier(class_weight={"up": 3.0, "down": 1.0}).fit(X, y)
    by_sample = classifier().fit(X, y, np.where(y == "up", 3.0, 1.0))
    np.testing.assert_array_equal(by_class.model_.params, by_sample.model_.params)
    keep = (y == "up") | (np.arange(len(y)) % 3 == 0)
    X, y = X[keep], y[keep]
    counts = {label: (y == label).sum() for label in ("up", "down")}
    balanced = classifier(class_weight="balanced").fit(X, y)
    by_hand = classifier(class_weight={k: len(y) / 2 / n for k, n in counts.items()}).fit(X, y)
    np.testing.assert_allclose(balanced.model_.params, by_hand.model_.params, rtol=1e-5)


def test_verbose_shows_a_bar(dense, capsys):
    classifier(verbose=True).fit(*dense)
    shown = capsys.readouterr().err
    assert "RNNClassifier" in shown
    assert "3/3" in shown
    assert "loss" in shown
    classifier(verbose=False).fit(*dense)
    assert capsys.readouterr() == ("", "")


# ---- partial_fit


def test_partial_fit_is_one_pass(dense):
    X, y = dense
    options = {"shuffle": False}
    whole = classifier(max_iter=3, **options).fit(X, y)
    parts = classifier(**options)
    for _ in range(3):
        parts.partial_fit(X, y, classes=["up", "down"])
    np.testing.assert_array_equal(parts.model_.params, whole.model_.params)
    assert parts.n_iter_ == 3
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_)


@pytest.mark.parametrize("solver", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("tokens", [False, True])
def test_partial_fit_goes_on_after_unpickling(solver, tokens):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, size=(40, 5)) if tokens else rng.normal(size=(40, 5, 2))
    y = np.arange(40) % 3
    model = classifier(solver=solver, vocabulary_size=9 if tokens else None, dropout=0.1)
    model.partial_fit(X, y, classes=[0, 1, 2])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    before = again.model_.params.copy()
    for _ in range(2):
        model.partial_fit(X, y)
        again.partial_fit(X, y)
    assert not np.array_equal(again.model_.params, before)
    np.testing.assert_array_equal(again.model_.params, model.model_.params)


def test_partial_fit_takes_classes_that_come_later(dense):
    X, y = dense
    model = classifier()
    model.partial_fit(X[y == "up"], y[y == "up"], classes=["up", "down"])
    model.partial_fit(X[y == "down"], y[y == "down"])
    assert model.classes_.tolist() == ["down", "up"]


def test_partial_fit_follows_a_new_learning_rate(dense):
    model = classifier().fit(*dense)
    before = model.model_.params.copy()
    model.set_params(learning_rate_init=1e-12).partial_fit(*dense)
    np.testing.assert_allclose(model.model_.params, before, atol=1e-8)


def test_partial_fit_follows_a_new_solver(dense):
    model = classifier().fit(*dense).set_params(solver="sgd").partial_fit(*dense)
    assert type(model.model_.optimizer).__name__ == "SGD"
    optimizer = model.model_.optimizer
    assert model.partial_fit(*dense).model_.optimizer is optimizer
    own = classifier(solver=Adam(0.01)).fit(*dense)
    optimizer = own.model_.optimizer
    assert own.partial_fit(*dense).model_.optimizer is optimizer


# ---- inside scikit-learn


def test_in_a_pipeline_and_a_grid_search(ragged):
    X, y = ragged
    pipeline = make_pipeline(StandardScaler3D(), classifier())
    search = GridSearchCV(pipeline, {"rnnclassifier__units": [3, 4]}, cv=2, n_jobs=2)
    for form in (X, as_object_array(X), pad(X)):
        search.fit(form, y)
        assert search.predict(form).shape == (40,)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(cross_val_score(pipeline, X, y, cv=2)).all()


def test_search_with_targets_for_steps(ragged):
    X, _ = ragged
    y = [(x[:, 0] > 0).astype(int) for x in X]
    for cv in (2, KFold(2)):
        for X_form, y_form in ((X, y), (as_object_array(X), as_object_array(y))):
            search = GridSearchCV(classifier(return_sequences=True), {"units": [3, 4]}, cv=cv)
            search.fit(X_form, y_form)
            assert np.isfinite(search.best_score_)
    predicted = cross_val_predict(classifier(return_sequences=True), X, y, cv=KFold(2))
    assert [len(p) for p in predicted] == [len(x) for x in X]


def test_ragged_object_in_a_search(ragged):
    X, y = ragged
    assert np.isfinite(cross_val_score(classifier(), Ragged.from_list(X), y, cv=2)).all()


def test_with_transformed_targets():
    X = np.random.default_rng(0).normal(size=(30, 4, 1))
    model = TransformedTargetRegressor(regressor(), func=np.log1p, inverse_func=np.expm1)
    assert model.fit(X, np.abs(X).sum((1, 2))).predict(X).shape == (30,)


def test_clone_and_joblib(dense, tmp_path):
    X, y = dense
    model = classifier(units=(3, 4), class_weight="balanced").fit(X, y)
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "model_")
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_one_thread_equals_all_in_workers(dense):
    """What workers of a search compute doesn't depend on how many of them there are."""
    X, y = dense
    fits = joblib.Parallel(n_jobs=2)(joblib.delayed(classifier(n_jobs=1).fit)(X, y) for _ in range(2))
    here = classifier(n_jobs=1).fit(X, y)
    for model in fits:
        np.testing.assert_array_equal(model.model_.params, here.model_.params)


def test_threads_reach_the_layers(dense):
    model = classifier(n_jobs=1).fit(*dense)
    assert model.model_.layers[0].n_threads == 1
    model.set_params(n_jobs=None).predict(dense[0])
    assert model.model_.layers[0].n_threads is None


def test_threads_change_nothing_but_rounding(dense):
    X, y = dense
    one, all_ = (classifier(n_jobs=n, dtype="float64").fit(X, y).predict_proba(X) for n in (1, -1))
    np.testing.assert_allclose(one, all_, rtol=1e-5)


def test_defaults_are_documented():
    for kind in (RNNClassifier, RNNRegressor):
        assert "{" not in kind.__doc__.replace('{"', "")
        for name in kind().get_params():
            assert f"    {name} : " in kind.__doc__


def test_no_warnings_in_ordinary_use(dense):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier().fit(*dense).predict(dense[0])

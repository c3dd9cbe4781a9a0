"""What scikit-learn's checks ask for, in three dimensions, padded with NaN, and with sequences of unequal length."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils.estimator_checks import _NotAnArray

from fastrnn import Ragged, RNNClassifier, RNNRegressor
from fastrnn.sequences import as_object_array

MADE = {"cell": "gru", "units": 3, "max_iter": 2, "tol": None, "random_state": 0, "batch_size": 8}
KINDS = {
    "classifier": RNNClassifier(**MADE),
    "regressor": RNNRegressor(**MADE),
    "steps": RNNClassifier(**MADE, return_sequences=True),
}
FORMS = ["dense", "padded", "list", "objects", "ragged"]


def sequences(form, n=30, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5, 2))
    lengths = rng.integers(1, 6, n)
    if form == "padded":
        X[np.arange(5) >= lengths[:, None]] = np.nan
    if form in ("dense", "padded"):
        return X
    arrays = [x[:k] for x, k in zip(X, lengths, strict=True)]
    return {"list": list, "objects": as_object_array, "ragged": Ragged.from_list}[form](arrays)


def targets(estimator, X):
    if estimator.return_sequences:
        steps = [np.where(x[:, 0] > 0, "up", "down") for x in X]
        return np.stack(steps) if isinstance(X, np.ndarray) and X.dtype != object else steps
    sums = np.array([np.nansum(x) for x in X])
    return np.where(sums > 0, "up", "down") if isinstance(estimator, RNNClassifier) else sums


def take(values, index):
    return [values[i] for i in index] if isinstance(values, list) else values[index]


def answers(fitted, X):
    method = "predict_proba" if isinstance(fitted, RNNClassifier) else "predict"
    return [np.asarray(a) for a in getattr(fitted, method)(X)]


def assert_same(a, b, tolerance=0.0):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=[(kind, form) for kind in KINDS for form in FORMS], ids="-".join)
def fitted(request):
    """A fitted estimator, its X and y; not to be changed."""
    kind, form = request.param
    X = sequences(form)
    y = targets(KINDS[kind], X)
    return clone(KINDS[kind]).fit(X, y), X, y


def test_fit_returns_self_sets_nothing_before_and_changes_no_parameter(fitted):
    model, X, y = fitted
    new = clone(model)
    before = dict(vars(new))
    assert new.fit(X, y) is new
    assert {name: vars(new)[name] for name in before} == before
    assert all(name.endswith("_") or name.startswith("_") for name in set(vars(new)) - set(before))


def test_fit_is_idempotent(fitted):
    model, X, y = fitted
    new = clone(model)
    for _ in range(2):
        assert_same(answers(new.fit(X, y), X), answers(model, X))


def test_predictions_leave_the_estimator_as_it_was(fitted):
    model, X, y = fitted
    before = pickle.dumps(model)
    answers(model, X)
    model.predict(X)
    model.score(X, y)
    assert pickle.dumps(model) == before


def test_predictions_do_not_depend_on_the_other_samples(fitted):
    model, X, _ = fitted
    whole = answers(model, X)
    assert_same([answers(model, take(X, [i]))[0] for i in range(8)], whole[:8])
    order = np.random.default_rng(1).permutation(30)
    assert_same(answers(model, take(X, order)), [whole[i] for i in order])


def test_pickles_and_clones(fitted):
    model, X, _ = fitted
    assert_same(answers(pickle.loads(pickle.dumps(model)), X), answers(model, X))
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_input_is_not_written_to(fitted):
    model, X, y = fitted
    before = pickle.dumps((X, y))
    clone(model).fit(X, y)
    assert pickle.dumps((X, y)) == before
    if isinstance(X, np.ndarray) and X.dtype != object:
        locked = X.copy()
        locked.setflags(write=False)
        assert_same(answers(clone(model).fit(locked, y), locked), answers(model, X))
    elif isinstance(X, list):
        locked = [x.copy() for x in X]
        for x in locked:
            x.setflags(write=False)
        assert_same(answers(clone(model).fit(locked, y), locked), answers(model, X))


def test_order_in_memory_and_containers_do_not_matter(fitted):
    model, X, y = fitted
    if isinstance(X, np.ndarray) and X.dtype != object:
        others = [np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], _NotAnArray(X), X.tolist()]
    elif isinstance(X, list):
        others = [[np.asfortranarray(x) for x in X], tuple(X), [_NotAnArray(x) for x in X]]
    else:
        others = [list(X)]
    for other in others:
        assert_same(answers(model, other), answers(model, X))
        assert_same(answers(clone(model).fit(other, y), X), answers(model, X))


def test_weights_of_one_are_no_weights(fitted):
    model, X, y = fitted
    for ones in (np.ones(30), [1] * 30, _NotAnArray(np.ones(30))):
        assert_same(answers(clone(model).fit(X, y, sample_weight=ones), X), answers(model, X))
    pd = pytest.importorskip("pandas", reason="needs pandas")
    assert_same(answers(clone(model).fit(X, y, sample_weight=pd.Series(np.ones(30))), X), answers(model, X))
    with pytest.raises(ValueError):
        clone(model).fit(X, y, sample_weight=np.ones(29))
    with pytest.raises(ValueError):
        clone(model).fit(X, y, sample_weight=np.ones((30, 2, 2)))


def test_features_are_counted(fitted):
    model, X, y = fitted
    assert model.n_features_in_ == 2
    more = [np.concatenate([x, x[:, :1]], axis=1) for x in X]
    more = np.stack(more) if isinstance(X, np.ndarray) and X.dtype != object else more
    with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 2 features"):
        model.predict(more)
    fresh = clone(model).fit(more, y)
    assert fresh.n_features_in_ == 3
    assert fresh.fit(X, y).n_features_in_ == 2


def test_integers_and_small_floats_are_taken(fitted):
    model, X, y = fitted
    for dtype in (np.float32, np.float16, np.int64, np.int8):
        arrays = [np.rint(3 * np.nan_to_num(x)).astype(dtype) for x in X]
        exact = [a.astype(np.float64) for a in arrays]
        assert_same(answers(model, arrays), answers(model, exact))
    assert_same(
        answers(clone(model).fit(arrays, _steps(y)), exact),
        answers(clone(model).fit(exact, _steps(y)), exact),
    )


def _steps(y):
    return list(y) if isinstance(y, np.ndarray) and y.ndim == 2 else y


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad, fitted):
    model, X, y = fitted
    arrays = [x[~np.isnan(x[:, 0])].copy() for x in X]
    arrays[3][0, 1] = bad
    before = pickle.dumps(model)
    for call in (lambda: model.fit(arrays, _steps(y)), lambda: model.predict(arrays)):
        with pytest.raises(
            ValueError,
            match=r"X contains (NaN at sample 3, step 0, feature 1.*SequenceImputer|inf.* at sample 3, step 0, feature 1)",
        ):
            call()
        assert pickle.dumps(model) == before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "0 sample"),
        (np.zeros((0, 5, 2)), "0 sample"),
        (np.zeros((30, 5, 0)), r"0 feature\(s\)"),
        ([np.zeros((3, 0))] * 30, r"0 feature\(s\)"),
        (np.zeros((30, 5, 2, 1)), "4 dimensions"),
        ([np.zeros((3, 2, 1))] * 30, r"X\[0\] has shape \(3, 2, 1\)"),
        (np.zeros((30, 5, 2), complex), "Complex data not supported"),
        ([np.zeros((3, 2), complex)] * 30, "Complex data not supported"),
        (sparse.csr_matrix((30, 5)), "sparse"),
        ([np.array([["a", "b"]])] * 30, r"X\[0\] must hold numbers"),
        (None, "got None for X"),
    ],
)
def test_what_is_no_sequences_is_refused(bad, message, fitted):
    model, _, y = fitted
    before = pickle.dumps(model)
    for call in (lambda: model.fit(bad, y), lambda: model.predict(bad)):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
        assert pickle.dumps(model) == before


def test_numbers_of_samples_must_agree(fitted):
    model, X, y = fitted
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(model).fit(take(X, np.arange(29)), y)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        clone(model).fit(X, None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", "c"]),
        np.array([-3, 0, 7]),
        np.array(["x", 1.5, "y"], object),
        np.array([1.0, 2, 5]),
    ],
)
def test_labels_come_back_as_they_were(labels, form):
    X = sequences(form)
    y = labels[np.arange(30) % 3]
    if labels.dtype == object:
        y = np.array([str(label) for label in y], object)
    model = RNNClassifier(**MADE).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    found = model.predict(X)
    assert set(found) <= set(y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found, model.classes_[proba.argmax(axis=1)])
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba), rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_targets_of_wrong_shape_are_told_of(form):
    X = sequences(form)
    y = np.arange(30) % 2
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        RNNClassifier(**MADE).fit(X, y[:, None])
    with pytest.raises(ValueError, match=r"several labels .*MultiOutputClassifier"):
        RNNClassifier(**MADE).fit(X, np.c_[y, 1 - y])
    with pytest.raises(ValueError, match="at least 2 classes, got 1 class"):
        RNNClassifier(**MADE).fit(X, np.zeros(30, int))
    with pytest.raises(ValueError, match="NaN"):
        RNNRegressor(**MADE).fit(X, np.where(y, np.nan, 1.0))
    assert RNNRegressor(**MADE).fit(X, np.c_[y, y, 1 - y]).predict(X).shape == (30, 3)
    one = RNNRegressor(**MADE).fit(take(X, [0]), [2.0]).predict(take(X, [0]))
    assert one.shape == (1,)

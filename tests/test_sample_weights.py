"""A sample of weight 2 is one that is there twice, one of weight 0 is absent, whatever the batches are."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor, StandardScaler3D
from fastrnn.estimators.repeats import merge_repeats
from fastrnn.preprocessing import sliding_windows
from fastrnn.sequences import Ragged, as_object_array

MADE = {"cell": "gru", "units": 4, "max_iter": 4, "tol": None, "random_state": 0, "batch_size": 5}
FORMS = ["dense", "ragged", "padded"]


@pytest.fixture(params=FORMS)
def data(request, rng):
    """X, labels, weights from 0 to 3."""
    X = rng.normal(size=(23, 6, 2))
    y = np.where(X[:, -1, 0] > 0, "up", "down")
    weight = rng.integers(0, 4, 23).astype(float)
    lengths = rng.integers(2, 7, 23)
    if request.param == "ragged":
        X = as_object_array([x[:n] for x, n in zip(X, lengths, strict=True)])
    elif request.param == "padded":
        X[np.arange(6) >= lengths[:, None]] = np.nan
    return X, y, weight


def repeated(values, weight):
    return values[np.repeat(np.arange(len(values)), weight.astype(int))]


def answers(model, X):
    return model.predict_proba(X) if isinstance(model, RNNClassifier) else model.predict(X)


@pytest.mark.parametrize(
    "options", [{}, {"solver": "sgd"}, {"alpha": 0.1, "dropout": 0.3}, {"batch_size": 50}]
)
@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_integer_weights_are_repeated_samples(kind, options, data, rng):
    X, labels, weight = data
    y = labels if kind is RNNClassifier else (labels == "up") * 100.0 + rng.normal(size=23)
    weighted = kind(**{**MADE, **options}).fit(X, y, sample_weight=weight)
    expected = answers(weighted, X)
    X_twice, y_twice = repeated(X, weight), repeated(y, weight)
    order = rng.permutation(len(y_twice))
    for index in (np.arange(len(order)), order):
        again = kind(**{**MADE, **options}).fit(X_twice[index], y_twice[index])
        np.testing.assert_array_equal(answers(again, X), expected)
        assert again.loss_curve_ == weighted.loss_curve_
    # Weights are relative.
    again = kind(**{**MADE, **options}).fit(X, y, sample_weight=weight * 1024)
    np.testing.assert_array_equal(answers(again, X), expected)


def test_absent_samples_have_weight_zero(data):
    X, y, _ = data
    kept = np.arange(23) % 4 > 0
    alone = RNNClassifier(**MADE).fit(X[kept], y[kept])
    weighted = RNNClassifier(**MADE).fit(X, y, sample_weight=kept * 2.5)
    np.testing.assert_array_equal(weighted.predict_proba(X), alone.predict_proba(X))


def test_balanced_classes_count_weights(data):
    X, y, weight = data
    weighted = RNNClassifier(**MADE, class_weight="balanced").fit(X, y, sample_weight=weight)
    again = RNNClassifier(**MADE, class_weight="balanced").fit(repeated(X, weight), repeated(y, weight))
    np.testing.assert_array_equal(weighted.predict_proba(X), again.predict_proba(X))


def test_validation_samples_are_chosen_alike(data):
    X, y, weight = data
    for splitter in (0.3, ShuffleSplit(1, test_size=0.3, random_state=0)):
        options = {**MADE, "early_stopping": True, "validation_fraction": splitter}
        weighted = RNNClassifier(**options).fit(X, y, sample_weight=weight)
        again = RNNClassifier(**options).fit(repeated(X, weight), repeated(y, weight))
        assert weighted.validation_scores_ == again.validation_scores_
        np.testing.assert_array_equal(weighted.predict_proba(X), again.predict_proba(X))


@pytest.mark.parametrize("weights", ["of sequences", "of steps"])
def test_weights_of_steps_are_repeated_sequences(weights, data):
    X, _, weight = data
    y = as_object_array([np.nan_to_num(x[:, 0]) for x in X])
    model = RNNRegressor(**MADE, return_sequences=True)
    given = (
        weight
        if weights == "of sequences"
        else as_object_array([np.full(len(x), w) for x, w in zip(X, weight, strict=True)])
    )
    if isinstance(X, np.ndarray) and X.dtype != object:
        y = np.stack(y)
        given = given if weights == "of sequences" else np.stack(given)
    first = model.fit(X, y, sample_weight=given).predict(X)
    second = model.fit(repeated(X, weight), repeated(y, weight)).predict(X)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_order_is_kept_without_shuffling_and_without_unequal_weights(rng):
    X, y = rng.normal(size=(12, 3, 1)), rng.normal(size=12)
    plain = RNNRegressor(**MADE).fit(X, y)
    ones = RNNRegressor(**MADE).fit(X, y, sample_weight=np.full(12, 3.0))
    np.testing.assert_array_equal(ones.predict(X), plain.predict(X))
    in_order = RNNRegressor(**MADE, shuffle=False)
    weight = np.array([1.0, 2.0] * 6)
    assert (
        in_order.fit(X, y, sample_weight=weight).loss_ != in_order.fit(X[::-1], y[::-1], weight[::-1]).loss_
    )


def test_windows_are_weighted_without_a_copy(rng):
    windows = sliding_windows(rng.normal(size=(300, 2)), 40)
    y, weight = rng.normal(size=len(windows)), rng.integers(0, 3, len(windows)).astype(float)
    viewed = RNNRegressor(**MADE).fit(windows, y, sample_weight=weight)
    copied = RNNRegressor(**MADE).fit(windows.copy(), y, sample_weight=weight)
    np.testing.assert_array_equal(viewed.predict(windows), copied.predict(windows))


def test_merging_finds_what_a_loop_finds():
    X = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 2.0])[:, None, None]
    y = np.array([0, 0, 0, 0, 1, 0])[:, None]
    weight = np.array([1.0, 0.5, 2.0, 0.0, 1.5, 0.25])
    merged = merge_repeats(X, y, weight, False)
    found = {(X[i, 0, 0], y[i, 0]): w for i, w in zip(merged.samples, merged.weight, strict=True)}
    assert found == {(1.0, 0): 3.0, (2.0, 0): 0.75, (1.0, 1): 1.5}
    np.testing.assert_array_equal(merged.rows, merged.samples)
    steps = Ragged.from_list([np.ones((2, 1)), np.zeros((3, 1)), np.ones((2, 1))])
    rows = merge_repeats(steps, np.zeros((7, 1)), np.array([1.0, 2, 0, 0, 0, 5, 5]), True)
    assert rows.samples.tolist() == [0]
    assert (rows.rows.tolist(), rows.weight.tolist()) == ([0, 1], [6.0, 7.0])
    assert merge_repeats(X[:2], y[:2], None, False).samples is None
    # Equal sequences of other targets, or of other lengths with the same numbers, are different samples.
    other = Ragged.from_list([np.zeros((2, 1)), np.zeros((3, 1))])
    assert merge_repeats(other, np.zeros((2, 1)), None, False).samples is None


def test_weights_pass_through_pipelines_and_searches(data):
    X, y, weight = data
    pipeline = make_pipeline(StandardScaler3D(), RNNClassifier(**MADE))
    pipeline.fit(X, y, rnnclassifier__sample_weight=weight)
    scaled = StandardScaler3D().fit_transform(X)
    alone = RNNClassifier(**MADE).fit(scaled, y, sample_weight=weight)
    np.testing.assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(scaled))
    search = GridSearchCV(pipeline, {"rnnclassifier__units": [2, 4]}, cv=2, error_score="raise")
    search.fit(X, y, rnnclassifier__sample_weight=weight + 1)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_impossible_weights_are_refused(kind, data):
    X, _, _ = data
    y = np.arange(23) % 2
    with pytest.raises(ValueError, match=r"Negative values in sample_weight \(minimum -1.0\)"):
        kind(**MADE).fit(X, y, sample_weight=np.r_[-1.0, np.ones(22)])
    with pytest.raises(ValueError, match="at least one non-zero number"):
        kind(**MADE).fit(X, y, sample_weight=np.zeros(23))

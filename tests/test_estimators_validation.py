"""Early stopping of the estimators: which samples it validates on."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.estimators.validation import split
from fastrnn.preprocessing import StandardScaler3D


def regressor(**options):
    return RNNRegressor(
        **{"units": 4, "max_iter": 3, "tol": None, "random_state": 0, "early_stopping": True, **options}
    )


def classifier(**options):
    return RNNClassifier(
        **{"units": 4, "max_iter": 3, "tol": None, "random_state": 0, "early_stopping": True, **options}
    )


@pytest.fixture
def series(rng):
    """Windows of a series whose level moves, so that the future differs from the past."""
    values = np.cumsum(rng.normal(size=130)) / 5
    windows = np.lib.stride_tricks.sliding_window_view(values, 11)
    return windows[:, :10, None].copy(), windows[:, 10].copy()


def best_score(model, x, y):
    return r2_score(y, model.predict(x))


def test_early_stopping_without_shuffle_validates_on_the_last_samples(series):
    x, y = series
    model = regressor(shuffle=False, validation_fraction=0.25).fit(x, y)
    at = len(x) - 30
    assert model.best_validation_score_ == pytest.approx(best_score(model, x[at:], y[at:]), rel=1e-5)
    by_hand = regressor(shuffle=False).fit(x[:at], y[:at], validation_data=(x[at:], y[at:]))
    np.testing.assert_array_equal(model.model_.params, by_hand.model_.params)


def test_early_stopping_does_not_train_on_the_last_samples(series):
    """What the future holds must not change the weights."""
    x, y = series
    changed = y.copy()
    changed[-30:] = -changed[-30:] + 3
    fits = [regressor(shuffle=False, validation_fraction=0.25, max_iter=1).fit(x, t) for t in (y, changed)]
    np.testing.assert_array_equal(fits[0].model_.params, fits[1].model_.params)
    assert fits[0].best_validation_score_ != fits[1].best_validation_score_


def test_fraction_of_a_classifier_without_shuffle_is_the_last_samples(series):
    x, y = series
    labels = (y > np.median(y)).astype(int)
    model = classifier(shuffle=False, validation_fraction=0.2).fit(x, labels)
    at = len(x) - 24
    assert model.best_validation_score_ == accuracy_score(labels[at:], model.predict(x[at:]))


def test_fraction_with_steps_and_ragged_is_the_last_sequences(rng):
    x = [rng.normal(size=(n, 1)) for n in rng.integers(2, 7, 20)]
    y = [s[:, 0] * 2 for s in x]
    model = regressor(shuffle=False, validation_fraction=0.25, return_sequences=True).fit(x, y)
    found = np.concatenate(list(model.predict(x[15:])))
    assert model.best_validation_score_ == pytest.approx(r2_score(np.concatenate(y[15:]), found), rel=1e-5)


@pytest.mark.parametrize(
    "splitter", [TimeSeriesSplit(4), KFold(5), PredefinedSplit(np.repeat([-1, 0], [80, 40]))], ids=type
)
def test_splitter_gives_its_last_split(splitter, series):
    x, y = series
    model = regressor(validation_fraction=splitter).fit(x, y)
    rest, part = list(splitter.split(x[:, :, 0], y))[-1]
    by_hand = regressor().fit(x[rest], y[rest], validation_data=(x[part], y[part]))
    np.testing.assert_array_equal(model.model_.params, by_hand.model_.params)
    assert model.best_validation_score_ == pytest.approx(best_score(model, x[part], y[part]), rel=1e-5)


def test_stratified_splitter_gets_the_classes(series):
    x, y = series
    labels = np.where(y > np.quantile(y, 0.8), "high", "low")
    splitter = StratifiedKFold(4)
    model = classifier(validation_fraction=splitter).fit(x, labels)
    _, part = list(splitter.split(x[:, :, 0], labels))[-1]
    assert model.best_validation_score_ == accuracy_score(labels[part], model.predict(x[part]))


def test_validation_data_with_weights_scores_with_them(series):
    x, y = series
    weight = np.arange(1.0, 31.0)
    model = regressor().fit(x[:90], y[:90], validation_data=(x[90:], y[90:], weight))
    found = r2_score(y[90:], model.predict(x[90:]), sample_weight=weight)
    assert model.best_validation_score_ == pytest.approx(found, rel=1e-4)


def test_validation_data_through_a_pipeline(series):
    x, y = series
    scaler = StandardScaler3D().fit(x[:90])
    pipeline = make_pipeline(StandardScaler3D(), regressor())
    pipeline.fit(x[:90], y[:90], rnnregressor__validation_data=(scaler.transform(x[90:]), y[90:]))
    assert len(pipeline[-1].validation_scores_) == 3


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"early_stopping": False}, lambda x, y: (x, y), "only used with early_stopping=True"),
        ({}, lambda x, y: x, r"give a tuple \(X, y\)"),
        ({}, lambda x, y: (x, y, None, None), r"give a tuple \(X, y\)"),
        ({}, lambda x, y: (x, y[:-1]), "inconsistent numbers of samples"),
        ({}, lambda x, y: (np.concatenate([x, x], axis=2), y), "features"),
        ({"validation_fraction": "0.1"}, lambda x, y: None, "validation_fraction"),
        ({"validation_fraction": KFold(200)}, lambda x, y: None, "n_splits"),
        ({"validation_fraction": 0.999, "shuffle": False}, lambda x, y: None, "none to train on"),
    ],
)  # fmt: skip
def test_validation_data_that_does_not_fit_is_refused(options, data, message, series):
    x, y = series
    model = regressor(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, validation_data=data(x, y))
    assert not hasattr(model, "model_")


def test_validation_data_with_an_unknown_label_is_refused(series):
    x, y = series
    labels = np.arange(len(y)) % 2
    with pytest.raises(ValueError, match="unknown, \\[7\\]"):
        classifier().fit(x, labels, validation_data=(x, np.where(labels, 7, 0)))


@pytest.mark.parametrize("lone", ["zz", "a"])
def test_early_stopping_trains_on_a_sample_that_is_the_only_one_of_its_class(lone, rng):
    """It can't be divided, and a network that never saw a class can't be judged on it."""
    X, y = rng.normal(size=(21, 4, 2)), np.array([*["k"] * 10, *["m"] * 10, lone])
    seen = []
    made = RNNClassifier(
        units=3, max_iter=2, tol=None, early_stopping=True, validation_fraction=0.3, random_state=0
    )
    for seed in range(5):
        part, rest = split(
            made,
            21,
            np.searchsorted([lone, "k", "m"] if lone == "a" else ["k", "m", lone], y),
            np.random.RandomState(seed),
        )
        assert 20 in rest
        assert sorted([*part, *rest]) == list(range(21))
        seen.append(np.unique(y[part], return_counts=True)[1].tolist())
    assert seen == [[3, 3]] * 5
    made.fit(X, y)
    assert made.classes_.tolist() == sorted({lone, "k", "m"})


def test_early_stopping_needs_samples_that_can_be_held_back(rng):
    with pytest.raises(ValueError, match="validation set is too small"):
        RNNClassifier(units=3, early_stopping=True).fit(rng.normal(size=(2, 4, 2)), ["a", "b"])

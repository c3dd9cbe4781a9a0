"""Losses of the user's own in the estimators."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastrnn import RNNClassifier, RNNRegressor, load, losses
from fastrnn.losses import CategoricalCrossentropy, Huber, Loss


class Asymmetric(Loss):
    """Half of the squared error, `factor` times it where the prediction is too low."""

    _config_names = ("factor",)

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def _weight(self, y_true, y_pred):
        return np.where(y_pred < y_true, self.factor, 1.0).astype(y_pred.dtype)

    def values(self, y_true, y_pred):
        return (self._weight(y_true, y_pred) * (y_pred - y_true) ** 2 / 2).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        return self._weight(y_true, y_pred) * (y_pred - y_true) / y_pred.shape[-1]


class Wrong(Asymmetric):
    def gradient(self, y_true, y_pred):
        return -super().gradient(y_true, y_pred)


class Brier(Loss):
    """Squared distance of the probabilities from the one-hot classes."""

    def values(self, y_true, y_pred):
        return ((y_pred - y_true) ** 2).sum(axis=-1)

    def gradient(self, y_true, y_pred):
        return 2 * (y_pred - y_true)


@pytest.fixture
def data(rng):
    x = rng.normal(size=(60, 5, 2))
    return x, x[:, -1, 0] + rng.normal(size=60)


def regressor(**options):
    return RNNRegressor(**{"units": 4, "max_iter": 20, "tol": None, "random_state": 0, **options})


def classifier(**options):
    return RNNClassifier(
        **{"units": 8, "max_iter": 60, "tol": None, "random_state": 0, "learning_rate_init": 0.02, **options}
    )


def test_regressor_minimises_a_loss_of_the_users_own(data):
    x, y = data
    options = {"max_iter": 40, "learning_rate_init": 0.02}
    even, high = (regressor(loss=Asymmetric(f), **options).fit(x, y).predict(x) for f in (1.0, 9.0))
    assert np.mean(even < y) == pytest.approx(0.5, abs=0.15)
    assert np.mean(high < y) < np.mean(even < y) - 0.1
    assert np.mean(high - y) > np.mean(even - y) + 0.1


def test_loss_like_the_default_gives_the_same_network(data):
    named, default = regressor(loss="mse").fit(*data), regressor().fit(*data)
    np.testing.assert_array_equal(named.model_.params, default.model_.params)


def test_huber_differs_from_the_default(data):
    x, y = data
    model = regressor(loss=Huber(0.1)).fit(x, y)
    assert not np.array_equal(model.model_.params, regressor().fit(x, y).model_.params)


# With two classes there is one output, which the categorical cross-entropy does not take.
@pytest.mark.parametrize(
    ("loss", "n_classes"),
    [
        (Brier(), 2),
        (Brier(), 3),
        ("categorical_crossentropy", 3),
        (CategoricalCrossentropy(label_smoothing=0.1), 3),
    ],
    ids=["brier-2", "brier-3", "categorical", "smoothed"],
)
def test_classifier_gives_one_hot_classes(loss, n_classes, data):
    x, _ = data
    labels = np.array(["a", "b", "c"])[np.digitize(x[:, -1, 0], [0.0] if n_classes == 2 else [-0.5, 0.5])]
    model = classifier(loss=loss).fit(x, labels)
    assert model.score(x, labels) > 0.8
    early = classifier(loss=loss, early_stopping=True, max_iter=3).fit(x, labels)
    assert len(early.validation_scores_) == 3


def test_classifier_with_the_default_named_is_the_default(data):
    x, y = data
    labels = np.digitize(y, [-0.5, 0.5])
    named = classifier(loss="sparse_categorical_crossentropy", max_iter=3).fit(x, labels)
    np.testing.assert_array_equal(named.model_.params, classifier(max_iter=3).fit(x, labels).model_.params)


def test_steps_and_ragged(rng):
    x = [rng.normal(size=(n, 2)) for n in rng.integers(1, 6, 20)]
    y = [(s[:, 0] > 0).astype(int) + (s[:, 0] > 1) for s in x]
    y[0][0] = 2
    classifier(loss=Brier(), return_sequences=True, max_iter=2).fit(x, y).predict(x)
    regressor(loss=Asymmetric(3.0), return_sequences=True, max_iter=2).fit(x, y).predict(x)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (Wrong(), ValueError, r"gradient\(y_true, y_pred\) is .* give the derivative"),
        (Loss(), ValueError, "can't be used for these targets"),
        ("nothing", ValueError, "nothing"),
        (lambda y, p: p, ValueError, "'loss' parameter"),
        ("sparse_categorical_crossentropy", ValueError, "can't be used for these targets"),
    ],
)
def test_loss_that_can_not_be_used_is_refused(loss, error, message, data):
    model = regressor(loss=loss)
    with pytest.raises(error, match=message):
        model.fit(*data)
    assert not hasattr(model, "model_")


def test_partial_fit_follows_another_loss(data):
    x, y = data
    one, other = regressor().partial_fit(x, y), regressor().partial_fit(x, y)
    other.set_params(loss=Asymmetric(9.0))
    for model in (one, other):
        model.partial_fit(x, y)
    assert not np.array_equal(one.model_.params, other.model_.params)


def test_clone_and_search_over_losses(data):
    x, y = data
    assert clone(regressor(loss=Asymmetric(2.0))).loss.factor == 2.0
    search = GridSearchCV(regressor(max_iter=2), {"loss": [None, "mae", Asymmetric(2.0)]}, cv=2).fit(x, y)
    assert len(search.cv_results_["params"]) == 3


class Brier(losses.Loss):
    """Squared distance of probabilities and one-hot classes."""

    def targets(self, y_true, y_pred):
        return np.asarray(y_true, y_pred.dtype)

    def values(self, y_true, y_pred):
        return ((y_true - y_pred) ** 2).sum(axis=-1)

    def gradient(self, y_true, y_pred):
        return 2 * (y_pred - y_true)


@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy", losses.Huber(0.5), Brier()], ids=str)
def test_classifier_with_a_loss_of_one_hot_classes_is_saved(loss, tmp_path, rng):
    X, y = rng.normal(size=(12, 4, 2)), np.array(list("abc") * 4)
    made = RNNClassifier(units=3, loss=loss, max_iter=2, tol=None, random_state=0).fit(X, y)
    made.save(tmp_path / "made")
    read = load(tmp_path / "made", custom_objects={"Brier": Brier})
    np.testing.assert_array_equal(read.predict_proba(X), made.predict_proba(X))
    for either in (made, read):
        either.partial_fit(X, y)
    np.testing.assert_array_equal(read.model_.params, made.model_.params)
    assert read.loss_curve_ == made.loss_curve_


def test_the_loss_around_a_classifier_s_own_is_no_name_for_users():
    with pytest.raises(ValueError, match="OfClasses") as caught:
        losses.get("OfClasses")
    assert "known are" in str(caught.value)
    assert "OfClasses" not in str(caught.value).split("known are")[1]

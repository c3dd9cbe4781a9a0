"""Half precision in data: values mean what they mean in single precision, and messages name the right place."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, Sequential, layers, losses, metrics
from fastrnn.sequences import Ragged, as_sequences

X = np.random.default_rng(0).normal(size=(40, 5, 2)).astype("float16")
Y = np.array([0, 300, -300, 100] * 10, "float16")


def regressor(**options):
    return RNNRegressor(units=4, max_iter=3, tol=None, random_state=0, **options)


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"return_sequences": True}])
def test_regressor_on_float16_targets_equals_float32(options):
    y = np.repeat(Y[:, None], 5, 1) if "return_sequences" in options else Y
    half = regressor(**options).fit(X, y)
    single = regressor(**options).fit(X.astype("float32"), y.astype("float32"))
    predicted = half.predict(X)
    assert predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted, single.predict(X.astype("float32")))
    assert half.score(X, y) == single.score(X, y.astype("float32"))
    assert np.isfinite(half.score(X, y))
    np.testing.assert_array_equal(half.loss_curve_, single.loss_curve_)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int8", "float64")],
)
def test_regressor_predicts_in_the_precision_of_its_targets(dtype, expected):
    assert regressor().fit(X, (Y / 3).astype(dtype)).predict(X).dtype == expected


def test_score_of_large_float32_targets_is_finite():
    """Their squares don't fit into float32."""
    y = (Y.astype("float32") * 1e20).astype("float32")
    model = regressor().fit(X, Y.astype("float32"))
    assert model.score(X, y) == pytest.approx(model.score(X, y.astype("float64")))


def test_classifier_on_float16_equals_float32():
    labels = (Y > 0).astype("float16")
    half = RNNClassifier(units=4, max_iter=2, tol=None, random_state=0).fit(X, labels)
    single = RNNClassifier(units=4, max_iter=2, tol=None, random_state=0).fit(X.astype("float32"), labels)
    np.testing.assert_array_equal(half.predict_proba(X), single.predict_proba(X.astype("float32")))


def test_model_on_float16_equals_float32():
    results = []
    for dtype in ("float16", "float32"):
        model = Sequential([layers.Input((5, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
        model.compile("sgd", "mse", metrics=["mae", "mse"])
        model.optimizer.learning_rate = 1e-6
        x, y = X.astype(dtype), Y[:, None].astype(dtype)
        model.fit(x, y, verbose=0)
        results.append(model.evaluate(x, y))
    assert results[0] == results[1]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("form", ["array", "list", "Ragged"])
def test_infinity_in_float16_is_located(value, form):
    x = X.copy()
    x[3, 2, 1] = value
    given = {"array": x, "list": list(x), "Ragged": Ragged.from_list(x)}[form]
    message = r"X contains inf \(infinity\) at sample 3, step 2, feature 1"
    for dtype in (None, "float32", "float64"):
        with pytest.raises(ValueError, match=message):
            as_sequences(given, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        regressor().fit(given, Y)


def test_nan_in_float16_is_located():
    table = X[..., 0].copy()
    table[3, 2] = np.nan
    with pytest.raises(ValueError, match="X contains NaN at sample 3, step 2"):
        regressor().fit(table, Y)


@pytest.mark.parametrize(
    "measure",
    [
        losses.MeanSquaredError(),
        losses.MeanAbsoluteError(),
        losses.Huber(),
        metrics.MeanSquaredError(),
        metrics.RootMeanSquaredError(),
        metrics.MeanAbsoluteError(),
    ],
)
def test_loss_or_metric_of_float16_predictions_equals_float32(measure):
    y, p = Y[:, None], np.zeros((40, 1), "float16")
    found = measure(y, p)
    if isinstance(measure, metrics.Metric):
        measure.reset_state()
    assert found == measure(y.astype("float32"), p.astype("float32"))
    assert np.isfinite(found)

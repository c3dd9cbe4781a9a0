"""What a user's type checker makes of fastrnn: `.ci/run release` gives this to ``mypy --strict`` where a wheel is installed.

Lines that must be errors are marked: with ``--strict`` a mark that is not needed is an error itself. (Of the
estimators a wrong name is no error: scikit-learn, which their base class is from, has no type hints.)
"""

from typing import Any, assert_type

import numpy as np

from fastrnn import RNNClassifier, RNNRegressor, Sequential, layers, load
from fastrnn.datasets import Series, load_airline
from fastrnn.forecasting import RNNForecaster
from fastrnn.inspection import DeletionCurve, deletion_curve
from fastrnn.plotting import LossCurveDisplay

classifier = RNNClassifier(cell="gru", units=16, random_state=0)
X: Any = np.zeros((10, 5, 1))
assert_type(classifier.score(X, [0, 1] * 5), float)
assert_type(RNNRegressor().n_jobs, int | None)

model = Sequential([layers.Input((None, 1)), layers.GRU(4), layers.Dense(1)])
assert_type(model.count_params(), int)
model.fit(X, X[:, 0], epochs="3")  # type: ignore[arg-type]
model.save("model.fastrnn")
again: Sequential = load("model.fastrnn")

assert_type(load_airline(), Series)
forecaster = RNNForecaster(horizon=12)
model.fits(X)  # type: ignore[attr-defined]
assert_type(deletion_curve(classifier, X), DeletionCurve)
assert_type(LossCurveDisplay.from_estimator(classifier), LossCurveDisplay)

"""scikit-learn's own checks of estimators, none of them expected to fail.

Its tables of numbers are taken as sequences of one variable, a column for each step.
"""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastrnn.estimators import RNNClassifier, RNNRegressor

# Some checks use numbers around 100, and the default 200 epochs are few for some of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:X is far from unit scale"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

#: Small batches, so that checks of weights are not answered by one batch for all samples.
BATCHES = {
    "cell": "gru",
    "units": 12,
    "tol": None,
    "learning_rate_init": 0.02,
    "max_iter": 40,
    "batch_size": 5,
}


@parametrize_with_checks([RNNClassifier(), RNNRegressor()])
def test_checks_with_default_parameters(estimator, check):
    check(estimator)


@parametrize_with_checks([RNNClassifier(**BATCHES), RNNRegressor(**BATCHES)])
def test_checks_in_small_batches(estimator, check):
    check(estimator)

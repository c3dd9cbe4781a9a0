"""scikit-learn's own checks of estimators.

Its tables of numbers are taken as sequences of one variable, a column for each step. The estimators here are small
and make few epochs, so that all of it takes seconds.
"""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastrnn.estimators import RNNClassifier, RNNRegressor

# Some checks use numbers around 100.
pytestmark = pytest.mark.filterwarnings("ignore:X is far from unit scale")

SMALL = {"cell": "gru", "units": 12, "tol": None}
# With one batch for all samples everything holds.
ONE_BATCH = {**SMALL, "batch_size": 1000, "dtype": "float64", "learning_rate_init": 0.03, "max_iter": 60}
# With the usual small batches, one check can't pass.
BATCHES = {**SMALL, "learning_rate_init": 0.02, "max_iter": 40}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "repeated samples make other batches than weighted ones"
}


@parametrize_with_checks([RNNClassifier(**ONE_BATCH), RNNRegressor(**ONE_BATCH)])
def test_checks_in_one_batch(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [RNNClassifier(**BATCHES), RNNRegressor(**BATCHES)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_checks_in_batches(estimator, check):
    check(estimator)

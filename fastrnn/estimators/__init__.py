"""Recurrent networks as scikit-learn estimators.

The classifier and the regressor check and encode their input, build a `Sequential` model, and train it with `training`.
This package is called by users, and by the modules above it (forecasting, warmup).
"""

from fastrnn.estimators.classifier import RNNClassifier
from fastrnn.estimators.joblib_backend import FastRNNBackend  # registered with joblib
from fastrnn.estimators.many import fit_many
from fastrnn.estimators.regressor import RNNRegressor
from fastrnn.estimators.scoring import cross_val_predict, per_step
from fastrnn.estimators.search_bar import search_progress

__all__ = [
    "FastRNNBackend",
    "RNNClassifier",
    "RNNRegressor",
    "cross_val_predict",
    "fit_many",
    "per_step",
    "search_progress",
]

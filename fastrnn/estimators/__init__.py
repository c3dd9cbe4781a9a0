"""Recurrent networks as scikit-learn estimators.

The classifier and the regressor check and encode what users give, build a `Sequential` model and let `training` run it.
Only users, and modules above (forecasting, warmup), call this package.
"""

from fastrnn.estimators.classifier import RNNClassifier
from fastrnn.estimators.regressor import RNNRegressor
from fastrnn.estimators.scoring import cross_val_predict, per_step

__all__ = ["RNNClassifier", "RNNRegressor", "cross_val_predict", "per_step"]

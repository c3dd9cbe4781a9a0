"""The area under a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn import losses
from fastrnn.checks import choice, flag, integer
from fastrnn.curves import area_under_curve
from fastrnn.metrics.base import Metric
from fastrnn.targets import (
    align_targets,
    as_predictions,
    item_weights,
)

__all__ = ["AUC"]


class AUC(Metric):
    """Area under the ROC or precision-recall curve, from counts at a fixed number of thresholds.

    Parameters
    ----------
    num_thresholds : int
        Thresholds, spread evenly from 0 to 1.
    curve : {"ROC", "PR"}
    summation_method : {"interpolation", "minoring", "majoring"}
        How the area between two points of the curve is measured.
    name, dtype : optional
    thresholds : sequence of float, optional
        Between 0 and 1, in place of `num_thresholds`.
    multi_label : bool
        Whether to average the areas of the outputs; otherwise the values of all outputs form one curve.
    num_labels : int, optional
        Number of outputs, with `multi_label`.
    label_weights : sequence of float, optional
        Weights of the outputs.
    from_logits : bool
        Whether predictions are logits.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import metrics
    >>> metric = metrics.AUC()
    >>> metric.update_state(np.array([[0], [0], [1], [1]]), np.array([[0.1], [0.4], [0.35], [0.8]]))
    >>> round(metric.result(), 4)
    0.75
    """

    direction = "max"
    _config_names = (
        "num_thresholds",
        "curve",
        "summation_method",
        "name",
        "thresholds",
        "multi_label",
        "num_labels",
        "label_weights",
        "from_logits",
    )

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name or "auc", dtype)
        choice(curve, "curve", ("ROC", "PR"))
        choice(summation_method, "summation_method", ("interpolation", "minoring", "majoring"))
        if thresholds is not None:
            inner = np.sort(np.asarray(thresholds, float))
            if inner.size and (inner[0] < 0 or inner[-1] > 1):
                raise ValueError(f"thresholds={thresholds!r}: give numbers from 0 to 1")
            num_thresholds = len(inner) + 2
        else:
            num_thresholds = integer(num_thresholds, "num_thresholds", 2)
            inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        self.num_thresholds, self.curve, self.summation_method = num_thresholds, curve, summation_method
        self.thresholds = None if thresholds is None else [float(value) for value in thresholds]
        self.multi_label, self.from_logits = (
            flag(multi_label, "multi_label"),
            flag(from_logits, "from_logits"),
        )
        self.num_labels = integer(num_labels, "num_labels", optional=True)
        self.label_weights = None if label_weights is None else np.asarray(label_weights, float)
        # The first and last threshold are just outside [0, 1]: every prediction is above the first, none above the last.
        self._thresholds = np.concatenate([[-losses.EPSILON], inner, [1 + losses.EPSILON]])
        self.reset_state()

    def reset_state(self) -> None:
        #: Weights of positive and of negative items between each threshold and the next, for each output.
        self._positives: Any = 0.0
        self._negatives: Any = 0.0

    def check(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        align_targets(np.nan_to_num(y_true), y_pred)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> None:
        y_pred = as_predictions(y_pred)
        y_true = align_targets(y_true, y_pred) != 0
        weights = item_weights(y_pred.shape[:-1], sample_weight, mask, np.float64)
        weights = (
            np.ones(y_pred.shape) if weights is None else np.broadcast_to(weights[..., None], y_pred.shape)
        )
        if self.label_weights is not None and not self.multi_label:
            weights = weights * self.label_weights
        if self.from_logits:
            from scipy import special  # takes 0.2 s to import

            y_pred = special.expit(y_pred)
        n_outputs = y_pred.shape[-1] if self.multi_label else 1
        y_pred, y_true, weights = (a.reshape(-1, n_outputs) for a in (y_pred, y_true, weights))
        # A prediction belongs to the last threshold that it exceeds.
        inside = np.clip(y_pred, 0, 1)
        if self.thresholds is None:
            steps = y_pred.dtype.type(self.num_thresholds - 1)
            bins = np.maximum(np.ceil(inside * steps) - 1, 0).astype(np.intp)
        else:
            bins = np.searchsorted(self._thresholds, inside, side="left") - 1
        bins = bins + np.arange(n_outputs) * self.num_thresholds

        def count(weights: np.ndarray) -> np.ndarray:
            size = n_outputs * self.num_thresholds
            return np.bincount(bins.ravel(), weights.ravel(), size).reshape(n_outputs, -1).T

        self._positives = self._positives + count(weights * y_true)
        self._negatives = self._negatives + count(weights * ~y_true)

    def result(self) -> float:
        """Return the area, or the mean area of the outputs with `multi_label`.

        Outputs without a positive target (or, for ROC, without a negative one) have no curve: they are left out of the
        mean, and the result is NaN if there are no others.
        """
        if np.ndim(self._positives) == 0:
            return 0.0
        areas = area_under_curve(self._positives, self._negatives, self.curve, self.summation_method)
        weights = (
            np.ones(len(areas)) if self.label_weights is None or not self.multi_label else self.label_weights
        )
        known = ~np.isnan(areas)
        return float(np.average(areas[known], weights=weights[known])) if known.any() else math.nan

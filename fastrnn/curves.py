"""Areas under ROC and precision-recall curves, from counts at thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["area_under_curve"]


def area_under_curve(positives: np.ndarray, negatives: np.ndarray, curve: str, method: str) -> np.ndarray:
    """Areas under the curves of several outputs.

    Parameters
    ----------
    positives, negatives : ndarray of shape (n_thresholds, n_outputs)
        Weights of the positive and of the negative items between each threshold and the next.
    curve : {"ROC", "PR"}
    method : {"interpolation", "minoring", "majoring"}
        How the area between two points of the curve is measured.

    Returns
    -------
    ndarray of shape (n_outputs,)
        NaN where there is no curve: no positive item, or for ROC no negative one.

    References
    ----------
    Davis & Goadrich (2006), The relationship between precision-recall and ROC curves, ICML.
    """
    tp = np.cumsum(positives[::-1], axis=0)[::-1]
    fp = np.cumsum(negatives[::-1], axis=0)[::-1]
    n_positives, n_negatives = positives.sum(0), negatives.sum(0)
    recall = _ratio(tp, n_positives)
    if curve == "PR" and method == "interpolation":
        area = _interpolated_pr(tp, fp, n_positives)
    else:
        x, y = (_ratio(fp, n_negatives), recall) if curve == "ROC" else (recall, _ratio(tp, tp + fp))
        height = {
            "interpolation": (y[:-1] + y[1:]) / 2,
            "minoring": np.minimum(y[:-1], y[1:]),
            "majoring": np.maximum(y[:-1], y[1:]),
        }[method]
        area = ((x[:-1] - x[1:]) * height).sum(axis=0)
    undefined = n_positives == 0
    if curve == "ROC":
        undefined |= n_negatives == 0
    return np.where(undefined, np.nan, area)


def _interpolated_pr(tp: np.ndarray, fp: np.ndarray, n_positives: np.ndarray) -> np.ndarray:
    """The integral of precision over recall, with true and false positives linear between two thresholds."""
    p = tp + fp
    slope = _ratio(tp[:-1] - tp[1:], p[:-1] - p[1:])
    intercept = tp[1:] - slope * p[1:]
    both = (p[:-1] > 0) & (p[1:] > 0)
    growth = np.where(both, _ratio(p[:-1], p[1:]), 1.0)
    parts = slope * (tp[:-1] - tp[1:] + intercept * np.log(growth))
    result: np.ndarray = _ratio(parts, np.broadcast_to(n_positives, parts.shape)).sum(axis=0)
    return result


def _ratio(a: Any, b: Any) -> np.ndarray:
    """``a / b``, 0 where `b` is 0."""
    b = np.broadcast_to(b, np.shape(a))
    result: np.ndarray = np.divide(a, b, out=np.zeros(np.shape(a)), where=b != 0)
    return result

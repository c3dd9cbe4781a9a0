"""One new step of a series, by numbers instead of arrays: it is what `update` and `predict` wait for.

The results are those of :class:`fastrnn.forecasting.targets.SeriesHistory` for many steps, to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_FEATURE", "LEAST_SCALE", "NEWEST", "append_one", "features_of_one"]

#: Lower limit of a scale, as a fraction of the mean absolute one-step change: an exactly periodic series has no errors.
LEAST_SCALE = 0.01
#: Features are clipped to this number of scales.
LARGEST_FEATURE = 20.0
#: Weight of the newest season in the mean over seasons.
NEWEST = 0.3


def append_one(h: Any, s: float) -> None:
    """Append a value that is not missing to a history, in which there is room for it."""
    t = h.n
    h._s[t] = s
    h._filled[:, t] = s
    h._level_sum[t] = (h._level_sum.item(t - 1) if t else 0.0) + s
    h.n = t + 1
    for r, (kind, lag) in enumerate(h.plan.references):
        if kind == "drift":
            change = s - h._filled.item(h._lag_row[lag], t - lag) if t >= lag else 0.0
            total = (h._growth_sum.item(r, t - 1) if t else 0.0) + (0.0 if math.isnan(change) else change)
            h._growth_sum[r, t] = total
            h._growth[r, t] = total / (t - lag + 1) if t >= 2 * lag - 1 else math.nan
        elif kind == "smooth":
            before = h._smooth.item(r, t - lag) if t >= lag else math.nan
            h._smooth[r, t] = s if math.isnan(before) else before + NEWEST * (s - before)
        elif kind == "linear":
            ahead = h.plan.linear(h._filled[0, : t + 1], np.array([t]))[0]
            for i, k in enumerate(h._probes):
                h._linear[i, t] = ahead[k - 1]
    _judge(h, t, s)


def _base(h: Any, r: int, origin: int, probe: int, ahead: int) -> float:
    """Reference r for the step `ahead` of an origin, the probe of that number; NaN where it can't be told."""
    kind, lag = h.plan.references[r]
    if kind == "last":
        return float(h._filled.item(0, origin))
    if kind == "linear":
        return float(h._linear.item(probe, origin))
    seasons = -(-ahead // lag)
    at = origin + ahead - seasons * lag
    if at < 0:
        return math.nan
    base = h._smooth.item(r, at) if kind == "smooth" else h._filled.item(h._lag_row[lag], at)
    return float(base + seasons * h._growth.item(r, origin) if kind == "drift" else base)


def _judge(h: Any, t: int, s: float) -> None:
    """Add the errors of the references at a step, choose one of them, and set the scale."""
    plan, n_refs = h.plan, len(h.plan.references)
    sums, counts = h._sums.tolist(), h._counts.tolist()
    for r in range(n_refs):
        error, n = 0.0, 0.0
        for i, k in enumerate(h._probes):
            if t >= k:
                distance = abs(s - _base(h, r, t - k, i, k))
                if distance == distance:
                    error += distance
                    n += 1.0
        sums[r] += error
        counts[r] += n
    change = abs(s - h._filled.item(0, t - 1)) if t else math.nan
    if change == change:
        sums[n_refs] += change
        counts[n_refs] += 1.0
    sums[n_refs + 1] += abs(s)
    counts[n_refs + 1] += 1.0
    h._sums, h._counts = np.array(sums), np.array(counts)
    means = [total / max(n, 1.0) for total, n in zip(sums, counts, strict=True)]
    usable = [n >= least for n, least in zip(counts, h._least, strict=False)]
    choice, error = 0, math.inf
    for r in range(n_refs):
        if usable[r] and means[r] < error:
            choice, error = r, means[r]
    change, size = means[n_refs], means[n_refs + 1]
    if plan.zero_based:
        scale = size if size > 0 else 1.0
    else:
        scale = max(error if error < math.inf else 0.0, LEAST_SCALE * change)
        scale = scale if scale > 0 else 1e-6 * size if size > 0 else 1.0
    h._choice[t], h._scale[t] = choice, scale
    h._trusted[t] = counts[-1] >= 2 if plan.zero_based else counts[0] >= 2 * len(h._probes)
    if plan.compare:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.log(np.array(means[:n_refs]) / scale)
        h._ratios[:, t] = np.where(usable & np.isfinite(ratios), np.clip(ratios, -5.0, 5.0), 0.0)


def features_of_one(h: Any, t: int) -> NDArray[Any]:
    """Features of one step: float32 of shape (1, n_features)."""
    plan, filled = h.plan, h._filled
    s, scale = h._s.item(t), h._scale.item(t)
    columns = [float(s == s)]
    for row, lag in enumerate(h._lags):
        columns.append((s - filled.item(row, t - lag)) / scale if t >= lag else math.nan)
        if lag > 1:
            columns.append(_above_mean(h, lag, t) / scale)
    if plan.compare:
        columns += [_above_mean(h, 0, t) / scale, float(np.log(h._scale[t : t + 1])[0])]
        columns += h._ratios[:, t].tolist()
        choice = h._choice.item(t)
        columns += [float(choice == r) for r in range(len(plan.references))]
        columns += [
            h._growth.item(r, t) / scale for r, ref in enumerate(plan.references) if ref.kind == "drift"
        ]
    parts, before = [np.array(columns)], filled[0, t]
    for r in plan.seasonal:
        n_ahead = min(plan.horizon, plan.references[r].lag)
        after = h._base(r, np.array([t]), h._ahead)
        parts.append(((after - before) / scale)[:n_ahead])
        before = after
    out = np.concatenate(parts)
    out[out != out] = 0.0
    result: NDArray[Any] = np.minimum(np.maximum(out, -LARGEST_FEATURE), LARGEST_FEATURE).astype(np.float32)[
        None
    ]
    return result


def _above_mean(h: Any, lag: int, t: int) -> float:
    """Last value minus the mean of the last `lag` steps, of all if 0; NaN where it can't be told."""
    level, sums = h._filled.item(0, t), h._level_sum
    if not lag:
        return float(level - sums.item(t) / (t + 1)) if t >= lag else math.nan
    return float(level - (sums.item(t) - sums.item(t - lag)) / lag) if t >= lag else math.nan

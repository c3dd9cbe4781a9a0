r"""Relative targets: the network learns the difference between the future of a series and a simple forecast.

At every origin t a *reference* forecast :math:`b_{t,k}` is subtracted from the value k steps ahead, and the difference is
divided by a scale :math:`\sigma_t`:

.. math:: z_{t,k} = (s_{t+k} - b_{t,k}) / \sigma_t, \qquad s = y \text{ or } \log y

References are the last value; the value one season before, for each season; a mean over the same step of earlier
seasons, with weights that decrease by a factor of 0.7 from season to season; the value one season before plus the mean
growth over one season; and the linear forecast of :mod:`fastrnn.forecasting.linear`, which is fitted first. At each origin,
the reference with the smallest mean absolute error up to the origin is used, and this error is the scale. Both depend only
on the past; the inverse is :math:`y = s^{-1}(b_{t,k} + \sigma_t z_{t,k})`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.forecasting.references import Reference, TargetPlan, references_for
from fastrnn.forecasting.single_step import LARGEST_FEATURE, LEAST_SCALE, NEWEST, append_one, features_of_one

__all__ = ["Reference", "SeriesHistory", "TargetPlan", "references_for"]

#: Number of steps with known errors that a seasonal reference needs before it may be chosen.
_STEPS_TO_TRUST = 24


class SeriesHistory:
    """A series, its references, their errors and the scales, extended step by step.

    Everything at step t is computed from the steps up to t, in the order of time. The results are bitwise independent of
    how the steps are divided into calls.

    Parameters
    ----------
    plan : TargetPlan
    """

    def __init__(self, plan: TargetPlan) -> None:
        self.plan = plan
        self.n = 0
        n_refs, n_lags = len(plan.references), len(plan.lags)
        self._capacity = 0
        self._s = np.empty(0)
        # For each lag: values with gaps filled by the value one lag before; running sums; growth over one season.
        self._filled = np.empty((n_lags, 0))
        self._growth_sum = np.empty((n_refs, 0))
        self._growth = np.empty((n_refs, 0))
        self._smooth = np.empty((n_refs, 0))
        self._level_sum = np.empty(0)
        self._ratios = np.empty((n_refs, 0))
        # The linear forecast at the probes, by its origin.
        self._linear = np.empty((len(plan.probes) if plan.linear else 0, 0))
        self._choice = np.empty(0, np.int64)
        self._scale = np.empty(0)
        self._trusted = np.empty(0, bool)
        # Sums and counts of the references' errors, of one-step changes, and of sizes.
        self._sums, self._counts = np.zeros(n_refs + 2), np.zeros(n_refs + 2)
        self._lag_row = {lag: i for i, lag in enumerate(plan.lags)}
        self._ahead = np.arange(1, plan.horizon + 1)
        self._probes, self._lags = plan.probes, plan.lags
        # Number of errors that each reference needs before it may be chosen.
        self._least = [
            1 if r.kind == "last" else min(r.lag, _STEPS_TO_TRUST) * len(self._probes)
            for r in plan.references
        ]

    _GROWING = (
        "_s",
        "_filled",
        "_growth_sum",
        "_growth",
        "_smooth",
        "_level_sum",
        "_ratios",
        "_linear",
        "_choice",
        "_scale",
        "_trusted",
    )

    def __len__(self) -> int:
        return self.n

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in self._GROWING:
            state[name] = state[name][..., : self.n].copy()
        state["_capacity"] = self.n
        return state

    def copy(self) -> SeriesHistory:
        """Return an independent copy."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__getstate__())
        new._sums, new._counts = self._sums.copy(), self._counts.copy()
        return new

    def _reserve(self, n: int) -> None:
        if n <= self._capacity:
            return
        self._capacity = max(n, 2 * self._capacity)
        for name in self._GROWING:
            old = getattr(self, name)
            new = np.empty((*old.shape[:-1], self._capacity), old.dtype)
            new[..., : self.n] = old[..., : self.n]
            setattr(self, name, new)

    # -- new steps

    def extend(self, y: NDArray[Any], effect: NDArray[Any] | None = None) -> None:
        """Append values; NaN is a missing step.

        Parameters
        ----------
        y : ndarray of float64, shape (n_new,)
            Positive if the plan takes logarithms.
        effect : ndarray of shape (n_new,), optional
            Effect of covariates, which is subtracted from s.
        """
        start, stop = self.n, self.n + len(y)
        self._reserve(stop)
        s = np.log(y) if self.plan.log else y
        s = s if effect is None else s - effect
        if len(s) == 1 and s[0] == s[0]:
            append_one(self, s.item(0))
            return
        self._s[start:stop] = s
        self.n = stop
        self._fill(start, stop)
        last = self._filled[0]
        self._level_sum[start:stop] = _running(
            self._level_sum[start - 1] if start else 0.0, _zero_for_nan(last[start:stop])
        )
        for r, reference in enumerate(self.plan.references):
            if reference.kind == "drift":
                self._grow(r, reference.lag, start, stop)
            elif reference.kind == "smooth":
                self._average(r, reference.lag, start, stop)
        if self.plan.linear:
            ahead = self.plan.linear(self._filled[0, :stop], np.arange(start, stop))
            self._linear[:, start:stop] = ahead[:, np.subtract(self._probes, 1)].T
        self._judge(start, stop)

    def _fill(self, start: int, stop: int) -> None:
        """Fill each gap with the last known value at a multiple of the lag before it."""
        missing = np.isnan(self._s[start:stop])
        self._filled[:, start:stop] = self._s[start:stop]
        if not missing.any():
            return
        for row, lag in enumerate(self._lags):
            filled = self._filled[row]
            if lag == 1:
                at = np.where(missing, -1, np.arange(start, stop))
                at = np.maximum.accumulate(at)
                before = filled[start - 1] if start else np.nan
                filled[start:stop] = np.where(at < 0, before, self._s[np.maximum(at, 0)])
                continue
            for a in range(start, stop, lag):
                b = min(a + lag, stop)
                first = max(a - lag, 0)  # start of the values one lag before
                part = filled[a:b]
                skip = first - (a - lag)
                gap = np.isnan(part[skip:])
                part[skip:][gap] = filled[first : b - lag][gap] if b > lag else np.nan

    def _grow(self, r: int, lag: int, start: int, stop: int) -> None:
        """Compute the mean change over one season, averaged over all steps up to each step."""
        filled = self._filled[self._lag_row[lag]]
        change = np.zeros(stop - start)
        first = max(start, lag)
        if stop > first:
            change[first - start :] = _zero_for_nan(filled[first:stop] - filled[first - lag : stop - lag])
        sums = self._growth_sum[r]
        sums[start:stop] = _running(sums[start - 1] if start else 0.0, change)
        growth = self._growth[r]
        growth[start:stop] = np.nan
        first = max(start, 2 * lag - 1)
        if stop > first:
            growth[first:stop] = sums[first:stop] / (np.arange(first, stop) - lag + 1)

    def _average(self, r: int, lag: int, start: int, stop: int) -> None:
        """Compute the exponentially weighted mean over the same step of all past seasons, without missing steps."""
        smooth = self._smooth[r]
        for a in range(start, stop, lag):
            b = min(a + lag, stop)
            new, part = self._s[a:b], smooth[a:b]
            part[...] = new
            first = max(a - lag, 0)
            skip = first - (a - lag)
            if b > a + skip:
                before = smooth[first : b - lag]
                mean = before + NEWEST * (new[skip:] - before)
                part[skip:] = np.where(np.isnan(mean), np.where(np.isnan(before), new[skip:], before), mean)

    def _judge(self, start: int, stop: int) -> None:
        """Sum up the errors of the references, choose one for each origin, and set its scale."""
        plan, s = self.plan, self._s
        n_refs, n_new = len(plan.references), stop - start
        steps = np.arange(start, stop)
        errors, counts = np.zeros((n_refs + 2, n_new)), np.zeros((n_refs + 2, n_new))
        for r in range(n_refs):
            for i, k in enumerate(self._probes):
                first = max(start, k)
                if first >= stop:
                    continue
                if plan.references[r].kind == "linear":
                    base = self._linear[i, first - k : stop - k]
                else:
                    base = self._base(r, steps[first - start :] - k, k)
                error = np.abs(s[first:stop] - base)
                known = ~np.isnan(error)
                errors[r, first - start :] += np.where(known, error, 0.0)
                counts[r, first - start :] += known
        first = max(start, 1)
        if stop > first:
            change = np.abs(s[first:stop] - self._filled[0, first - 1 : stop - 1])
            known = ~np.isnan(change)
            errors[n_refs, first - start :] = np.where(known, change, 0.0)
            counts[n_refs, first - start :] = known
        size = np.abs(s[start:stop])
        known = ~np.isnan(size)
        errors[n_refs + 1], counts[n_refs + 1] = np.where(known, size, 0.0), known
        errors[:, 0] += self._sums
        counts[:, 0] += self._counts
        sums, counts = np.cumsum(errors, axis=1), np.cumsum(counts, axis=1)
        self._sums, self._counts = sums[:, -1].copy(), counts[:, -1].copy()
        means = sums / np.maximum(counts, 1)
        self._choose(means, counts, start, stop)

    def _choose(self, means: NDArray[Any], counts: NDArray[Any], start: int, stop: int) -> None:
        plan = self.plan
        n_refs = len(plan.references)
        usable = counts[:n_refs] >= np.array(self._least)[:, None]
        candidates = np.where(usable, means[:n_refs], np.inf)
        choice = candidates.argmin(axis=0)
        change, size = means[n_refs], means[n_refs + 1]
        if plan.zero_based:
            scale = np.where(size > 0, size, 1.0)
        else:
            error = candidates[choice, np.arange(stop - start)]
            error = np.where(np.isfinite(error), error, 0.0)
            scale = np.maximum(error, LEAST_SCALE * change)
            scale = np.where(scale > 0, scale, np.where(size > 0, 1e-6 * size, 1.0))
        self._choice[start:stop] = choice
        self._scale[start:stop] = scale
        self._trusted[start:stop] = (
            counts[0] >= 2 * len(self._probes) if not plan.zero_based else counts[-1] >= 2
        )
        if not plan.compare:
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.log(means[:n_refs] / scale)
        self._ratios[:, start:stop] = np.where(usable & np.isfinite(ratios), np.clip(ratios, -5.0, 5.0), 0.0)

    def _base(self, r: int, origins: NDArray[Any], ahead: NDArray[Any] | int) -> NDArray[Any]:
        """Reference r for the steps `ahead` of `origins`, which are broadcast; NaN where it is undefined."""
        kind, lag = self.plan.references[r]
        if kind == "last":
            result: NDArray[Any] = self._filled[0][origins] + np.zeros(np.shape(ahead))
            return result
        if kind == "linear":
            assert self.plan.linear is not None
            return self.plan.linear(self._filled[0, : self.n], origins.ravel())
        seasons = -(-ahead // lag)
        at = origins + (ahead - seasons * lag)
        values = self._smooth[r] if kind == "smooth" else self._filled[self._lag_row[lag]]
        base = np.where(at >= 0, values[np.maximum(at, 0)], np.nan)
        return base + seasons * self._growth[r][origins] if kind == "drift" else base

    # -- features, targets and outputs

    def base(self, origins: NDArray[Any]) -> NDArray[Any]:
        """Return the chosen references, of shape (n_origins, horizon); NaN only before the first value."""
        if self.plan.zero_based:
            return np.zeros((len(origins), self.plan.horizon))
        choice = self._choice[origins]
        last = self._filled[0][origins][:, None]
        if len(origins) == 1:
            base = self._base(choice.item(0), origins[:, None], self._ahead)
            return np.where(np.isnan(base), last, base)
        out = np.repeat(last, self.plan.horizon, axis=1)
        for r in np.unique(choice):
            rows = choice == r
            base = self._base(r, origins[rows][:, None], self._ahead)
            out[rows] = np.where(np.isnan(base), last[rows], base)
        return out

    def scale(self, origins: NDArray[Any]) -> NDArray[Any]:
        """Return the scales, of shape (n_origins,), in units of s."""
        result: NDArray[Any] = self._scale[origins]
        return result

    def choice(self, origin: int) -> Reference:
        """Return the reference that is used at an origin."""
        result: Reference = self.plan.references[self._choice[origin]]
        return result

    def targets(self, start: int, stop: int) -> NDArray[Any]:
        """Return z for the origins from `start` to `stop`: float32 of shape (n, horizon).

        NaN where the value is missing or not known yet, and at the first origins, which have no scale.
        """
        horizon = self.plan.horizon
        ahead = np.full(stop - start + horizon - 1, np.nan)
        known = self._s[start + 1 : min(stop + horizon, self.n)]
        ahead[: len(known)] = known
        future = np.lib.stride_tricks.sliding_window_view(ahead, horizon)
        origins = np.arange(start, stop)
        z = (future - self.base(origins)) / self._scale[start:stop, None]
        z[~self._trusted[start:stop]] = np.nan
        result: NDArray[Any] = z.astype(np.float32)
        return result

    def features(self, start: int, stop: int) -> NDArray[Any]:
        """Return the features at the steps from `start` to `stop`: float32 (n, n_features).

        They are the changes over each lag, whether the step is known, the level relative to the last seasons, and the
        differences of the seasonal references' forecasts. With `compare` also nearly constant properties of the series: its
        scale, its long-run mean, its growth, and the error of each reference.
        """
        plan = self.plan
        if stop == start + 1:
            return features_of_one(self, start)
        origins = np.arange(start, stop)
        scale = self._scale[start:stop]
        columns = [~np.isnan(self._s[start:stop])]
        for row, lag in enumerate(self._lags):
            columns.append(self._change(row, lag, start, stop) / scale)
            if lag > 1:
                columns.append(self._above_mean(lag, start, stop) / scale)
        if plan.compare:
            columns += [self._above_mean(0, start, stop) / scale, np.log(scale), *self._ratios[:, start:stop]]
            columns += [self._choice[start:stop] == r for r in range(len(plan.references))]
            columns += [
                self._growth[r][start:stop] / scale
                for r, ref in enumerate(plan.references)
                if ref.kind == "drift"
            ]
        parts = [np.stack(columns, axis=1)]
        before = self._base(0, origins[:, None], self._ahead)
        for r in plan.seasonal:
            # After one season, the reference's forecast repeats.
            n_ahead = min(plan.horizon, plan.references[r].lag)
            after = self._base(r, origins[:, None], self._ahead)
            parts.append((after - before)[:, :n_ahead] / scale[:, None])
            before = after
        out = np.concatenate(parts, axis=1)
        out[np.isnan(out)] = 0.0
        return np.clip(out, -LARGEST_FEATURE, LARGEST_FEATURE, out=out).astype(np.float32)

    def _change(self, row: int, lag: int, start: int, stop: int) -> NDArray[Any]:
        """Change of s within `lag` steps; NaN where it is unknown."""
        out = np.full(stop - start, np.nan)
        first = max(start, lag)
        if stop > first:
            out[first - start :] = self._s[first:stop] - self._filled[row, first - lag : stop - lag]
        return out

    def _above_mean(self, lag: int, start: int, stop: int) -> NDArray[Any]:
        """Last value minus the mean of the last `lag` steps (all steps if 0); NaN where it is unknown."""
        out = np.full(stop - start, np.nan)
        first = max(start, lag)
        if stop > first:
            level, sums = self._filled[0], self._level_sum
            total = sums[first:stop] - sums[first - lag : stop - lag] if lag else sums[first:stop]
            out[first - start :] = level[first:stop] - total / (lag or np.arange(first, stop) + 1)
        return out

    def lagged(self, lags: tuple[int, ...], start: int, stop: int) -> NDArray[Any]:
        """Return earlier values minus the last value, in units of the scale: float32 (n, n_lags)."""
        out = np.zeros((stop - start, len(lags)))
        level = self._filled[0]
        for i, lag in enumerate(lags):
            first = max(start, lag)
            if stop > first:
                difference = level[first - lag : stop - lag] - level[first:stop]
                out[first - start :, i] = difference / self._scale[first:stop]
        out[np.isnan(out)] = 0.0
        return np.clip(out, -LARGEST_FEATURE, LARGEST_FEATURE).astype(np.float32)

    def invert(
        self, origins: NDArray[Any], z: NDArray[Any], effect: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Convert z of shape (n_origins, horizon) or (n_origins, horizon, n_outputs) to values of y.

        `effect` is the effect of covariates at the steps ahead, of shape (n_origins, horizon).
        """
        base, scale = self.base(origins), self._scale[origins][:, None]
        if effect is not None:
            base = base + effect
        if z.ndim == 3:
            base, scale = base[..., None], scale[..., None]
        s = base + scale * z.astype(np.float64)
        result: NDArray[Any] = np.exp(s) if self.plan.log else s
        return result

    def naive(self, origins: NDArray[Any], lag: int, effect: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the seasonal naive forecasts in units of y, of shape (n_origins, horizon).

        `effect` is the effect of covariates at all steps, if it was subtracted.
        """
        seasons = -(-self._ahead // lag)
        at = np.maximum(origins[:, None] + (self._ahead - seasons * lag), 0)
        s = self._filled[self._lag_row[lag]][at]
        last = self._filled[0][origins][:, None]
        if effect is not None:
            s, last = s + effect[at], last + effect[origins][:, None]
        early = origins[:, None] + (self._ahead - seasons * lag) < 0
        s = np.where(early | np.isnan(s), last, s)
        result: NDArray[Any] = np.exp(s) if self.plan.log else s
        return result

    def values(
        self, start: int = 0, stop: int | None = None, effect: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return y, NaN where it is missing; `effect` as for `naive`."""
        stop = self.n if stop is None else stop
        s = self._s[start:stop] if effect is None else self._s[start:stop] + effect[start:stop]
        return np.exp(s) if self.plan.log else s.copy()

    @property
    def last_value(self) -> float:
        """Last known value of y; NaN if there is none."""
        if not self.n:
            return math.nan
        s = float(self._filled[0, self.n - 1])
        return math.exp(s) if self.plan.log else s


def _zero_for_nan(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isnan(values), 0.0, values)


def _running(before: float, new: NDArray[Any]) -> NDArray[Any]:
    """Cumulative sums that start from `before`, added in the order of time."""
    return np.cumsum(np.concatenate(([before], new)))[1:]

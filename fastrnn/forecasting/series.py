"""A series of a forecaster: its history, its covariates, and the features for the network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.forecasting.covariates import CovariatePlan, calendar_features
from fastrnn.forecasting.frames import Axis, Panel
from fastrnn.forecasting.targets import SeriesHistory, TargetPlan

__all__ = ["FeaturePlan", "Series", "check_values", "warn_of_little_data"]


@dataclass
class Series:
    """A series and its covariates.

    Attributes
    ----------
    name : object
    axis : Axis
    history : SeriesHistory
    x : ndarray of shape (n_known, n_columns) or None
        Covariates from the first step on; may include future steps.
    static : ndarray or None
    behind : int
        Number of last steps that the network's states do not include yet, because their future covariates are not known.
    effect : ndarray of shape (n_known,) or None
        Effect of the covariates, which is subtracted from the history.
    """

    name: Any
    axis: Axis
    history: SeriesHistory
    x: NDArray[Any] | None = None
    static: NDArray[Any] | None = None
    behind: int = 0
    effect: NDArray[Any] | None = None

    def copy(self) -> Series:
        """Return a copy with an independent history."""
        return replace(self, history=self.history.copy())

    def extend(self, values: NDArray[Any]) -> None:
        """Append values to the history."""
        n = len(self.history)
        self.history.extend(values, None if self.effect is None else self.effect[n : n + len(values)])

    def invert(self, origins: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
        """Convert outputs z (n_origins, horizon, ...) to values; steps after the end of X get its last effect."""
        effect = None
        if self.effect is not None:
            steps = origins[:, None] + np.arange(1, self.history.plan.horizon + 1)
            effect = self.effect[np.minimum(steps, len(self.effect) - 1)]
        return self.history.invert(origins, z, effect)

    def values(self) -> NDArray[Any]:
        """All values, NaN where they are missing."""
        return self.history.values(effect=self.effect)

    def lay_covariates(self, row: tuple[int, NDArray[Any]], known: int) -> NDArray[Any]:
        """Covariates with new rows at a position, both in `row`; only steps from `known` on may be set."""
        start, rows = row
        stop = start + len(rows)
        before = np.full((0, rows.shape[1]), np.nan) if self.x is None else self.x[:known]
        out = np.full((max(stop, len(before)), rows.shape[1]), np.nan)
        out[: len(before)] = before
        first = max(start, 0)
        out[first:stop] = rows[first - start :]
        return out


class FeaturePlan(NamedTuple):
    """How the features of a step are computed and scaled.

    Attributes
    ----------
    targets : TargetPlan
    lags : tuple of int
        Lags of earlier values in the features, in addition to those of the plan.
    covariates : CovariatePlan or None
    calendar : bool
    n_static : int
    mean, spread : ndarray of float32
        Scaling of the features; empty before `fit`.
    """

    targets: TargetPlan
    lags: tuple[int, ...]
    covariates: CovariatePlan | None
    calendar: bool
    n_static: int
    mean: NDArray[Any]
    spread: NDArray[Any]

    def raw(self, series: Series, start: int, stop: int) -> NDArray[Any]:
        """Features of the steps from `start` to `stop` before scaling."""
        parts = [series.history.features(start, stop)]
        if self.lags:
            parts.append(series.history.lagged(self.lags, start, stop))
        if self.covariates is not None:
            assert series.x is not None
            parts.append(self.covariates.features(series.x, start, stop))
        if self.calendar:
            parts.append(calendar_features(series.axis, start, stop))
        if series.static is not None:
            parts.append(np.broadcast_to(series.static, (stop - start, len(series.static))))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1, dtype=np.float32)

    def scaled(self, series: Series, start: int, stop: int) -> NDArray[Any]:
        """Scaled features, the inputs of the network."""
        out = self.raw(series, start, stop)
        out -= self.mean
        out *= self.spread
        return out

    def fit(self, features: list[NDArray[Any]]) -> FeaturePlan:
        """Compute mean and inverse spread of each feature."""
        n = sum(map(len, features))
        mean = sum(f.sum(axis=0, dtype=np.float64) for f in features) / n
        square = sum(((f - mean.astype(np.float32)) ** 2).sum(axis=0, dtype=np.float64) for f in features) / n
        spread = np.sqrt(square)
        inverse = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 1.0)
        return self._replace(mean=mean.astype(np.float32), spread=inverse.astype(np.float32))


def check_values(values: NDArray[Any], start: int, axis: Axis, name: Any, log: bool, counts: bool) -> None:
    """Raise if a value has no logarithm, or is not a count, where that is needed.

    Raises
    ------
    ValueError
    """
    if log and (values <= 0).any():
        at = int(np.argmax(values <= 0))
        raise ValueError(
            f"series {name!r} is {values[at]} at {axis.name(start + at)}, and the forecaster takes logarithms; set "
            "logarithm=False, or make it NaN to mark a missing step"
        )
    if counts:
        known = np.where(np.isnan(values), 0, values)
        wrong = (known < 0) | (known != np.rint(known))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(
                f"series {name!r} is {values[at]} at {axis.name(start + at)}, and a distribution of counts takes whole "
                "numbers from 0 on; use distribution='normal' or 'student_t'"
            )


def warn_of_little_data(panel: Panel, horizon: int) -> None:
    """Warn of series without a known value, of series not longer than the horizon, and of constant ones.

    Each kind is one warning that names the first five series.
    """
    missing, short, constant = [], [], []
    for name, values in zip(panel.names, panel.values, strict=True):
        known = values[~np.isnan(values)]
        if not len(known):
            missing.append(name)
        elif len(known) <= horizon:
            short.append(name)
        elif known.min() == known.max():
            constant.append(name)
    for names, verb, what in (
        (
            missing,
            ("has", "have"),
            "no known value; the forecast is the median of the last values of the other series",
        ),
        (
            short,
            ("has", "have"),
            f"no more known values than horizon={horizon}; the forecast starts from the last one, and what follows it "
            "was learned from other series",
        ),
        (
            constant,
            ("is", "are"),
            "constant; the forecast is near that value, and errors relative to the naive forecast are undefined",
        ),
    ):
        if names:
            first = ", ".join(repr(name) for name in names[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            warnings.warn(f"series {first}{more} {verb[len(names) > 1]} {what}", stacklevel=4)

r"""The linear effect of covariates known ahead, which is subtracted from a series before targets are made relative.

The effect is a piecewise linear function of each column and of its mean over the last season,

.. math:: e_t = \sum_j \beta_j \varphi_j(x_t),

and ridge regression estimates β from the changes of the series over its longest season,
:math:`s_t - s_{t-m} \approx e_t - e_{t-m}`. The references then forecast :math:`s_t - e_t`, and the effect at future
steps is added to the forecast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from fastrnn.forecasting.covariates import CovariatePlan
from fastrnn.forecasting.frames import Panel

__all__ = ["CovariateEffect", "fit_effect", "values_without_effect"]

#: Quantiles of a column at the knots of its piecewise linear function.
_KNOTS = (0.1, 0.3, 0.5, 0.7, 0.9)


class CovariateEffect:
    """Effect of the columns of X that are known ahead.

    Parameters
    ----------
    plan : CovariatePlan
        Fitted.
    season : int
        Steps over which columns are averaged.
    lag : int
        Steps over which changes are computed.
    """

    def __init__(self, plan: CovariatePlan, season: int, lag: int) -> None:
        self.plan, self.season, self.lag = plan, season, lag
        self.columns = [i for i, past in enumerate(plan.past) if not past]
        self.knots: dict[int, NDArray[Any]] = {}
        self.weights = np.zeros(0)

    def _basis(self, x: NDArray[Any]) -> NDArray[Any]:
        """Functions of the columns at each step, of shape (n_steps, n_functions)."""
        z = np.nan_to_num((x - self.plan.mean) / self.plan.spread)
        parts = []
        for i in self.columns:
            column = z[:, i]
            if i not in self.plan.squared:
                parts.append(column)
                continue
            sums = np.cumsum(np.concatenate(([0.0], column)))
            n = np.arange(1, len(column) + 1)
            begin = np.maximum(n - self.season, 0)
            mean = (sums[n] - sums[begin]) / (n - begin)
            for values in (column, mean) if self.season > 1 else (column,):
                parts += [values, *(np.maximum(values - knot, 0.0) for knot in self.knots[i])]
        return np.stack(parts, axis=1)

    def fit(self, series: list[NDArray[Any]], x: list[NDArray[Any]]) -> CovariateEffect:
        """Learn the weights from series s, NaN where missing, and their covariates."""
        rows = np.concatenate(x)
        for i in self.plan.squared:
            column = (rows[:, i] - self.plan.mean[i]) / self.plan.spread[i]
            self.knots[i] = np.unique(np.nanquantile(column, _KNOTS))
        changes, functions = [], []
        for s, table in zip(series, x, strict=True):
            if len(s) <= self.lag:
                continue
            basis = self._basis(table)[: len(s)]
            change = s[self.lag :] - s[: -self.lag]
            known = ~np.isnan(change)
            if known.any():
                size = np.mean(np.abs(change[known])) or 1.0
                changes.append(change[known] / size)
                functions.append((basis[self.lag :] - basis[: -self.lag])[known] / size)
        if not changes:
            self.weights = np.zeros(self._basis(rows[:1]).shape[1])
            return self
        design = np.concatenate(functions)
        spread = np.sqrt((design**2).mean(axis=0))
        spread[spread == 0] = 1.0
        ridge = Ridge(alpha=1e-3 * len(design), fit_intercept=False).fit(
            design / spread, np.concatenate(changes)
        )
        self.weights = ridge.coef_ / spread
        return self

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Effect at each step of x, of shape (n_steps,)."""
        return self._basis(x) @ self.weights


def fit_effect(
    plan: CovariatePlan,
    panel: Panel,
    rows: list[tuple[int, NDArray[Any]]],
    seasons: tuple[int, ...],
    log: bool,
) -> CovariateEffect:
    """Learn the effect from the values of a panel, and from its covariates as `read_covariates` returns them."""
    series = values_without_effect(None, panel, None, log)
    return CovariateEffect(plan, seasons[0], max(seasons)).fit(series, _laid_out(panel, rows))


def values_without_effect(
    effect: CovariateEffect | None, panel: Panel, rows: list[tuple[int, NDArray[Any]]] | None, log: bool
) -> list[NDArray[Any]]:
    """Values of a panel, as logarithms if `log`, less the effect; NaN where they are missing."""
    series = [np.log(np.where(v > 0, v, np.nan)) if log else v for v in panel.values]
    if effect is None or rows is None:
        return series
    tables = _laid_out(panel, rows)
    return [s - effect(x) for s, x in zip(series, tables, strict=True)]


def _laid_out(panel: Panel, rows: list[tuple[int, NDArray[Any]]]) -> list[NDArray[Any]]:
    """Covariates of each step of each series, NaN where there is no row."""
    tables = []
    for values, (start, row) in zip(panel.values, rows, strict=True):
        table = np.full((len(values), row.shape[1]), np.nan)
        part = row[max(-start, 0) :][: len(values) - max(start, 0)]
        table[max(start, 0) : max(start, 0) + len(part)] = part
        tables.append(table)
    return tables

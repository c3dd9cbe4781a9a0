"""Quantiles, intervals and sample paths of a forecaster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastrnn.forecasting.intervals import ConformalIntervals
from fastrnn.forecasting.series import Series

__all__ = ["Uncertainty"]


class Uncertainty:
    """The methods of a forecaster for quantiles, intervals and samples.

    Attributes are set by `fit` of the forecaster.
    """

    quantiles: Any
    distribution: str | None
    target_col: str
    log_: bool
    model_: Any
    _head: Any
    _plan: Any
    _series: list[Series]
    _raw: Any
    _write: Any
    _correlation: NDArray[Any] | None
    _fallback: float

    def predict_quantiles(
        self, levels: Sequence[float] = (0.1, 0.5, 0.9), horizon: int | None = None, X: Any = None
    ) -> Any:
        """Forecast quantiles of the distribution, or some of the forecaster's `quantiles`.

        Parameters
        ----------
        levels : sequence of float
            Numbers between 0 and 1 in ascending order.
        horizon, X
            As in `predict`.

        Returns
        -------
        object
            As `predict` returns quantiles.
        """
        check_is_fitted(self)
        levels = tuple(float(q) for q in levels)
        if not levels or not all(0 < q < 1 for q in levels) or list(levels) != sorted(set(levels)):
            raise ValueError(f"levels={levels!r}: give ascending numbers between 0 and 1")
        raw, horizon, all_series = self._raw(horizon, X)
        return self._write(
            self._quantiles_of(raw, levels, self._scales()), horizon, [f"q{q:g}" for q in levels], all_series
        )

    def _at_end(self, series: Series, z: NDArray[Any]) -> NDArray[Any]:
        """Convert outputs z at the last step of a series, (n, horizon, ...), to values.

        A series without a known value gets the median of the other series.
        """
        values = series.invert(np.full(len(z), len(series.history) - 1), z)
        return values if np.isfinite(series.history.last_value) else np.full_like(values, self._fallback)

    def _scales(self) -> NDArray[Any]:
        """Scale of each series at its last step, of shape (n_series, 1)."""
        return np.array([[float(s.history.scale(np.array([len(s.history) - 1]))[0])] for s in self._series])

    def _quantiles_of(
        self, raw: NDArray[Any], levels: tuple[float, ...], scale: NDArray[Any]
    ) -> NDArray[Any]:
        """Quantiles z of outputs (n, horizon, n_outputs): (n, horizon, n_levels)."""
        if self._head.has_distribution:
            return np.stack([self._head.ppf(q, raw, scale) for q in levels], axis=-1)
        if self.quantiles is None:
            raise ValueError(
                "the forecaster has neither quantiles nor a distribution; set one of them, or use ConformalIntervals of a "
                "backtest"
            )
        have = [float(q) for q in self.quantiles]
        missing = [q for q in levels if not np.isclose(q, have).any()]
        if missing:
            raise ValueError(
                f"levels={missing} are not among the forecaster's quantiles={tuple(have)}; set them there"
            )
        at = [int(np.argmin(np.abs(np.subtract(have, q)))) for q in levels]
        result: NDArray[Any] = self._head.quantiles_of(raw)[..., at]
        return result

    def predict_interval(
        self,
        coverage: float = 0.8,
        horizon: int | None = None,
        X: Any = None,
        conformal: ConformalIntervals | None = None,
    ) -> Any:
        """Forecast intervals.

        Parameters
        ----------
        coverage : float
            Fraction that the intervals should cover: any for a distribution; for quantiles, the difference of two levels
            that are symmetric about 0.5.
        horizon, X
            As in `predict`.
        conformal : ConformalIntervals, optional
            Use the widths and the coverage of these intervals.

        Returns
        -------
        object
            As the quantiles of `predict`, with the columns "lower" and "upper".
        """
        check_is_fitted(self)
        raw, horizon, all_series = self._raw(horizon, X)
        if conformal is not None:
            # Widths are in units of y, so the bounds are computed from forecasts in these units.
            n = len(self._series)
            points = self._head.point(raw)
            levels = conformal.levels_
            z = points[..., None] if levels is None else self._quantiles_of(raw, levels, self._scales())
            bounds = []
            for series, row, ends in zip(all_series, points, z, strict=True):
                at = np.array([len(series.history) - 1])
                spread = spread_of(series, at, self._at_end(series, row[None]), self.log_)
                base = self._at_end(series, ends[None])[:, :horizon]
                lower, upper = conformal.apply(base[..., 0], base[..., -1], spread)
                bounds.append(np.stack([lower[0], upper[0]], axis=-1))
            return self._write(np.zeros((n, 1, 2)), horizon, ["lower", "upper"], all_series, bounds)
        if isinstance(coverage, bool) or not 0 < coverage < 1:
            raise ValueError(f"coverage={coverage!r}: give a number between 0 and 1")
        levels = ((1 - coverage) / 2, (1 + coverage) / 2)
        return self._write(
            self._quantiles_of(raw, levels, self._scales()), horizon, ["lower", "upper"], all_series
        )

    def sample(
        self, n_samples: int = 100, horizon: int | None = None, X: Any = None, random_state: Any = None
    ) -> list[NDArray[Any]]:
        """Draw sample paths from the distribution.

        The steps of a path are correlated as the residuals of the fit: ranks are drawn from a Gaussian copula with the
        correlation matrix that was estimated in `fit`.

        Parameters
        ----------
        n_samples : int
        horizon, X
            As in `predict`.
        random_state : int, RandomState or None

        Returns
        -------
        list of ndarray of shape (n_samples, horizon)
            The paths of each series.
        """
        check_is_fitted(self)
        if not self._head.has_distribution:
            raise ValueError("sample() needs distribution=, such as 'normal' or 'negative_binomial'")
        if isinstance(n_samples, bool) or not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r}: give a positive integer")
        raw, horizon, all_series = self._raw(horizon, X)
        rng = check_random_state(random_state)
        factor = np.linalg.cholesky(self._rank_correlation())
        scales, out = self._scales(), []
        for series, row, scale in zip(all_series, raw, scales, strict=True):
            ranks = stats.norm.cdf(rng.normal(size=(n_samples, len(row))) @ factor.T)
            z = self._head.ppf(ranks, row[None], scale)
            out.append(self._at_end(series, z)[:, :horizon])
        return out

    def _rank_correlation(self) -> NDArray[Any]:
        """Correlation of the normal scores of the residuals at the steps ahead, (horizon, horizon)."""
        if self._correlation is not None:
            return self._correlation
        scores = []
        for series in self._series[:: max(len(self._series) // 50, 1)]:
            n = len(series.history)
            start = max(n - 2000, 0)
            x = self._plan.scaled(series, 0, n)
            raw = self.model_.predict(x[None], verbose=0)[0, start:]
            raw = raw.reshape(len(raw), self._head.horizon, self._head.n_outputs)
            z = series.history.targets(start, n).astype(np.float64)
            scale = series.history.scale(np.arange(start, n))[:, None]
            known = ~np.isnan(z).any(axis=1)
            ranks = self._head.cdf(z[known], raw[known], scale[known])
            scores.append(stats.norm.ppf(np.clip(ranks, 0.001, 0.999)))
        rows = np.concatenate(scores)
        horizon = self._head.horizon
        correlation = np.eye(horizon)
        if len(rows) > 2:
            rows -= rows.mean(axis=0)
            size = np.sqrt((rows**2).mean(axis=0))
            rows /= np.where(size > 0, size, 1.0)
            # Shrink the matrix towards the identity, so that it has a Cholesky factor even with few rows.
            weight = len(rows) / (len(rows) + horizon)
            correlation = weight * (rows.T @ rows) / len(rows)
            np.fill_diagonal(correlation, 1.0)
        self._correlation = correlation
        return correlation


def spread_of(series: Series, origins: NDArray[Any], point: NDArray[Any], log: bool) -> NDArray[Any]:
    """Scale of the targets at given origins, in units of y."""
    spread = series.history.scale(origins)
    return spread * np.abs(point).mean(axis=1) if log else spread

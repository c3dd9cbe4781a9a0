r"""Split conformal intervals from a backtest, for any forecaster.

With the errors of n forecasts of steps outside the training data, divided by the scales of the forecasts' targets, the
interval

.. math:: \hat y \pm q\,\sigma, \qquad q = \text{the } \lceil (n + 1) c \rceil \text{-th smallest of } |y - \hat y| / \sigma

covers the truth with probability of at least c, if future errors are exchangeable with those of the backtest. Each step
ahead has its own q.

If the backtest holds the quantiles l and u at the levels :math:`(1 \mp c) / 2`, q is computed from
:math:`\max(l - y, y - u) / \sigma` and the interval is :math:`[l - q\,\sigma, u + q\,\sigma]`: the widths differ from
origin to origin as the quantiles do. Here q is negative if the quantiles cover too much.

References
----------
Lei, J., G'Sell, M., Rinaldo, A., Tibshirani, R. J. and Wasserman, L. (2018). Distribution-free predictive inference for
regression. Journal of the American Statistical Association 113, 1094-1111.

Romano, Y., Patterson, E. and Candès, E. J. (2019). Conformalized quantile regression. NeurIPS.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.forecasting.metrics import coverage, interval_width

if TYPE_CHECKING:
    from fastrnn.forecasting.backtest import Backtest, BacktestSeries

__all__ = ["ConformalIntervals"]


class ConformalIntervals:
    """Intervals whose widths are estimated from the errors of a backtest.

    Parameters
    ----------
    coverage : float
        Fraction of the true values that the intervals should cover.

    Attributes
    ----------
    widths_ : ndarray of shape (horizon,)
        q at each step ahead, in units of the scale.
    levels_ : tuple of float or None
        Levels of the quantiles that are widened by q; None if the intervals are around the forecast.
    n_errors_ : int
        Smallest number of errors at a step ahead.

    Notes
    -----
    The steps of the backtest need not be lost for training: fit the forecaster again to all known steps, and keep the
    widths. The coverage is then no longer guaranteed, since these are the errors of the first fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import ConformalIntervals, RNNForecaster
    >>> y = 10 + np.sin(np.arange(300) * 2 * np.pi / 12) + np.random.default_rng(0).normal(size=300) / 5
    >>> forecaster = RNNForecaster(6, season_length=12, max_iter=2, random_state=0).fit(y[:200])
    >>> intervals = ConformalIntervals(0.8).fit(forecaster.backtest(y[:250], start=200))
    >>> report = intervals.report(forecaster.backtest(y, start=250))
    >>> bool(0.6 < report["coverage"] < 1)
    True
    """

    def __init__(self, coverage: float = 0.8) -> None:
        if isinstance(coverage, bool) or not isinstance(coverage, (int, float)) or not 0 < coverage < 1:
            raise ValueError(f"coverage={coverage!r}: give a number between 0 and 1")
        self.coverage = float(coverage)

    def fit(self, backtest: Backtest) -> ConformalIntervals:
        """Estimate the widths from the errors of a backtest on steps outside the training data.

        Raises
        ------
        ValueError
            If there are too few errors for the coverage.
        """
        self.levels_ = self._levels_of(backtest.levels)
        errors = np.concatenate([self._errors(s, backtest.levels) for s in backtest.series])
        widths, counts = [], []
        for column in errors.T:
            known = np.sort(column[~np.isnan(column)])
            rank = math.ceil((len(known) + 1) * self.coverage)
            if rank > len(known):
                raise ValueError(
                    f"the backtest has {len(known)} errors at a step ahead; coverage={self.coverage} needs at least "
                    f"{math.ceil(self.coverage / (1 - self.coverage))}: start it earlier, or make the coverage smaller"
                )
            widths.append(known[rank - 1])
            counts.append(len(known))
        self.widths_, self.n_errors_ = np.array(widths), min(counts)
        return self

    def _levels_of(self, levels: tuple[float, ...]) -> tuple[float, float] | None:
        """The levels of a backtest between which the truth should lie with the probability of the coverage."""
        pair = [
            q for want in (1 - self.coverage, 1 + self.coverage) for q in levels if math.isclose(q, want / 2)
        ]
        return (pair[0], pair[1]) if len(pair) == 2 else None

    def _base(self, s: BacktestSeries, levels: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Bounds before they are widened, each of shape (n_origins, horizon)."""
        if self.levels_ is None:
            return s.forecast, s.forecast
        if self._levels_of(levels) is None or s.quantiles is None:
            raise ValueError(
                f"the intervals widen the quantiles {self.levels_}; the backtest has those of the levels {levels}"
            )
        lower, upper = (s.quantiles[..., levels.index(q)] for q in self._levels_of(levels) or ())
        return lower, upper

    def _errors(self, s: BacktestSeries, levels: tuple[float, ...]) -> NDArray[Any]:
        """How far the truth is outside the bounds, in units of the scale; negative inside."""
        lower, upper = self._base(s, levels)
        result: NDArray[Any] = np.maximum(lower - s.truth, s.truth - upper) / s.spread[:, None]
        return result

    def apply(
        self, lower: NDArray[Any], upper: NDArray[Any], spread: Any
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Widen bounds.

        Parameters
        ----------
        lower, upper : ndarray of shape (..., horizon)
            The quantiles of `levels_`; both are the forecast if there are none.
        spread : ndarray of shape (...)
            Scales.

        Returns
        -------
        lower, upper : ndarray of shape (..., horizon)
        """
        horizon = lower.shape[-1]
        if horizon > len(self.widths_):
            raise ValueError(f"the forecast has {horizon} steps, the backtest had {len(self.widths_)}")
        half = np.asarray(spread)[..., None] * self.widths_[:horizon]
        # A negative width may not move one bound beyond the other.
        half = np.maximum(half, (lower - upper) / 2)
        return lower - half, upper + half

    def report(self, backtest: Backtest) -> dict[str, float]:
        """Return the coverage and the mean width of the intervals on another backtest."""
        truth, lower, upper = [], [], []
        for s in backtest.series:
            low, high = self.apply(*self._base(s, backtest.levels), s.spread)
            known = ~np.isnan(s.truth)
            truth.append(s.truth[known])
            lower.append(low[known])
            upper.append(high[known])
        bounds = np.concatenate(lower), np.concatenate(upper)
        return {"coverage": coverage(np.concatenate(truth), *bounds), "width": interval_width(*bounds)}

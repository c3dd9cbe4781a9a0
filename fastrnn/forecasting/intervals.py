r"""Split conformal intervals from a backtest, for any forecaster.

With the errors of n forecasts of steps outside the training data, divided by the scales of the forecasts' targets, the
interval

.. math:: \hat y \pm q\,\sigma, \qquad q = \text{the } \lceil (n + 1) c \rceil \text{-th smallest of } |y - \hat y| / \sigma

covers the truth with probability of at least c, if future errors are exchangeable with those of the backtest. Each step
ahead has its own q.

References
----------
Lei, J., G'Sell, M., Rinaldo, A., Tibshirani, R. J. and Wasserman, L. (2018). Distribution-free predictive inference for
regression. Journal of the American Statistical Association 113, 1094-1111.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.forecasting.metrics import coverage, interval_width

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
        Half widths at each step ahead, in units of the scale.
    n_errors_ : int
        Smallest number of errors at a step ahead.

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

    def fit(self, backtest: Any) -> ConformalIntervals:
        """Estimate the widths from the errors of a backtest on steps outside the training data.

        Raises
        ------
        ValueError
            If there are too few errors for the coverage.
        """
        errors = np.concatenate([np.abs(s.truth - s.forecast) / s.spread[:, None] for s in backtest.series])
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

    def apply(self, forecast: NDArray[Any], spread: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return lower and upper bounds for forecasts of shape (..., horizon) with the scales `spread` of shape (...)."""
        horizon = forecast.shape[-1]
        if horizon > len(self.widths_):
            raise ValueError(f"the forecast has {horizon} steps, the backtest had {len(self.widths_)}")
        half = np.asarray(spread)[..., None] * self.widths_[:horizon]
        return forecast - half, forecast + half

    def report(self, backtest: Any) -> dict[str, float]:
        """Return the coverage and the mean width of the intervals on another backtest."""
        truth, lower, upper = [], [], []
        for s in backtest.series:
            low, high = self.apply(s.forecast, s.spread)
            known = ~np.isnan(s.truth)
            truth.append(s.truth[known])
            lower.append(low[known])
            upper.append(high[known])
        bounds = np.concatenate(lower), np.concatenate(upper)
        return {"coverage": coverage(np.concatenate(truth), *bounds), "width": interval_width(*bounds)}

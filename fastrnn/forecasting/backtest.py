"""Forecasts from many origins of a series, and their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from fastrnn.extras import extra
from fastrnn.forecasting.covariates import CovariateRows, read_covariates, read_static
from fastrnn.forecasting.frames import Panel, subset
from fastrnn.forecasting.metrics import naive_scale
from fastrnn.forecasting.uncertainty import spread_of
from fastrnn.sequences import Ragged
from fastrnn.training.progress import progress

__all__ = ["Backtest", "BacktestSeries", "backtest"]


@dataclass(repr=False)
class BacktestSeries:
    """Forecasts of one series from its origins.

    Attributes
    ----------
    name : object
    axis : Axis
    origins : ndarray of int, shape (n_origins,)
        The last known step of each forecast.
    truth, forecast, naive : ndarray of shape (n_origins, horizon)
        NaN in `truth` is a missing step; `naive` is the seasonal naive forecast. Both forecasts are NaN at origins before
        the first known value, which no metric counts.
    spread : ndarray of shape (n_origins,)
        Scale of the relative targets, in units of y: the typical size of errors.
    scale : float
        Mean absolute error of the seasonal naive forecast on the steps before the first forecast.
    quantiles : ndarray of shape (n_origins, horizon, n_levels), optional
    """

    name: Any
    axis: Any
    origins: NDArray[Any]
    truth: NDArray[Any]
    forecast: NDArray[Any]
    naive: NDArray[Any]
    spread: NDArray[Any]
    scale: float
    quantiles: NDArray[Any] | None = None


@dataclass(repr=False)
class Backtest:
    """Forecasts of all series from all origins.

    Attributes
    ----------
    series : list of BacktestSeries
    horizon : int
    levels : tuple of float
        Levels of the quantiles; empty if there are none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import RNNForecaster
    >>> series = np.sin(np.arange(80.0))
    >>> forecaster = RNNForecaster(horizon=4, cell="gru", units=4, season_length=6, max_iter=2, random_state=0)
    >>> backtest = forecaster.fit(series[:60]).backtest(series, start=60)
    >>> backtest
    Backtest(1 series, 17 origins, horizon=4)
    >>> backtest.horizon, len(backtest.series)
    (4, 1)
    """

    series: list[BacktestSeries]
    horizon: int
    levels: tuple[float, ...] = ()
    target_col: str = "y"
    id_col: str = "unique_id"
    time_col: str = "ds"

    @property
    def n_origins(self) -> int:
        """Number of forecasts of all series."""
        return sum(len(s.origins) for s in self.series)

    def __repr__(self) -> str:
        return f"Backtest({len(self.series)} series, {self.n_origins} origins, horizon={self.horizon})"

    def _scaled(self, which: str) -> list[NDArray[Any]]:
        return [np.abs(s.truth - getattr(s, which)) / s.scale for s in self.series]

    def metrics(self) -> dict[str, float]:
        """Return errors of the forecasts and, with the prefix ``naive_``, of the seasonal naive ones.

        Returns
        -------
        dict
            "mae", "rmse", "smape" (percent), "mase" and "rmsse", means over the series; with quantiles also "pinball",
            and "coverage" and "width" of the outermost quantiles. Missing steps are left out. Scaled errors leave out series
            whose seasonal naive forecast has no error on the steps before the first forecast.
        """
        out: dict[str, float] = {}
        for prefix, which in (("", "forecast"), ("naive_", "naive")):
            rows = [_errors(s, getattr(s, which)) for s in self.series]
            for key in rows[0]:
                out[prefix + key] = _mean_known([row[key] for row in rows])
        if self.levels:
            out["pinball"] = _mean_known([_pinball(s, self.levels) for s in self.series])
            if len(self.levels) > 1:
                inside = [_inside(s.truth, s.quantiles[..., 0], s.quantiles[..., -1]) for s in self.series]  # type: ignore[index]
                out["coverage"] = _mean_known([float(v) for part in inside for v in part])
                out["width"] = _mean_known(
                    [float(np.mean(s.quantiles[..., -1] - s.quantiles[..., 0])) for s in self.series]  # type: ignore[index]
                )
        return out

    def by_horizon(self, which: str = "forecast") -> NDArray[Any]:
        """Return the mean absolute scaled error at each step ahead; `which` is "forecast" or "naive"."""
        return _nanmean(np.concatenate(self._scaled(which)), axis=0)

    def by_origin(self, which: str = "forecast") -> list[NDArray[Any]]:
        """Return the mean absolute scaled error of each origin, an array for each series."""
        return [_nanmean(part, axis=1) for part in self._scaled(which)]

    def to_frame(self) -> Any:
        """Return a long pandas frame: id, cutoff, time, truth, forecast, naive, and quantiles."""
        pd = extra("pandas", "frames")
        parts = []
        for s in self.series:
            n = len(s.origins)
            if not n:
                continue
            stamps = s.axis.stamps(0, int(s.origins.max()) + 1 + self.horizon)
            steps = s.origins[:, None] + 1 + np.arange(self.horizon)
            data = {
                self.id_col: s.name,
                "cutoff": stamps[np.repeat(s.origins, self.horizon)],
                self.time_col: stamps[steps.ravel()],
                self.target_col: s.truth.ravel(),
                "forecast": s.forecast.ravel(),
                "naive": s.naive.ravel(),
            }
            for i, level in enumerate(self.levels):
                data[f"q{level:g}"] = s.quantiles[..., i].ravel()  # type: ignore[index]
            parts.append(pd.DataFrame(data))
        return pd.concat(parts, ignore_index=True)


def _errors(s: BacktestSeries, forecast: NDArray[Any]) -> dict[str, float]:
    error = s.truth - forecast
    known = ~np.isnan(error)
    if not known.any():
        return dict.fromkeys(("mae", "rmse", "smape", "mase", "rmsse"), math.nan)
    size = np.abs(s.truth) + np.abs(forecast)
    error, size = error[known], size[known]
    mae, rmse = float(np.mean(np.abs(error))), float(np.sqrt(np.mean(error**2)))
    smape = float(200 * np.mean(np.abs(error) / np.where(size == 0, 1, size)))
    return {"mae": mae, "rmse": rmse, "smape": smape, "mase": mae / s.scale, "rmsse": rmse / s.scale}


def _pinball(s: BacktestSeries, levels: tuple[float, ...]) -> float:
    error = s.truth[..., None] - s.quantiles
    q = np.asarray(levels)
    return float(_mean_known(np.maximum(q * error, (q - 1) * error).ravel()))


def _inside(truth: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any]) -> NDArray[Any]:
    """Flat array: 1.0 where the truth is between the bounds, 0.0 outside, NaN where it is missing."""
    inside = ((truth >= lower) & (truth <= upper)).astype(float)
    return np.where(np.isnan(truth), np.nan, inside).ravel()


def _mean_known(values: Any) -> float:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _nanmean(values: NDArray[Any], axis: int) -> NDArray[Any]:
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=axis)
    count = known.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _first_step(start: Any, n: int, series: Any, horizon: int) -> int:
    """Position of the first step that is forecast."""
    if start is None:
        first = n - horizon
    elif isinstance(start, (bool, np.bool_)):
        raise ValueError(f"start={start!r}: give a number of steps, a fraction, or a stamp")
    elif isinstance(start, (int, np.integer)):
        first = int(start) if start >= 0 else n + int(start)
    elif isinstance(start, float):
        if not 0 < start < 1:
            raise ValueError(f"start={start!r}: a fraction lies between 0 and 1")
        first = math.ceil(start * n)
    else:
        pd = extra("pandas", "frames")

        stamp = start
        if series.axis.__class__.__name__ == "StampAxis":
            kind = pd.Period if series.axis.periods else pd.Timestamp
            stamp = kind(start, freq=series.axis.frequency) if series.axis.periods else kind(start)
            if not series.axis.periods and stamp.tz is None and series.axis.first.tz is not None:
                stamp = stamp.tz_localize(series.axis.first.tz)
        first = int(series.axis.positions(pd.Index([stamp]), repr(series.name))[0])
    if not 1 <= first <= n - horizon:
        raise ValueError(
            f"series {series.name!r}: start={start!r} is step {first} of {n}, but forecasts of {horizon} steps need at "
            f"least 1 step before it and {horizon} from it on"
        )
    return first


def backtest(
    forecaster: Any, y: Any, X: Any, static: Any, *, start: Any, step: int, horizon: int | None, refit: bool
) -> Backtest:
    """See :meth:`RNNForecaster.backtest`."""
    horizon = forecaster._check_horizon(horizon)
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
        raise ValueError(f"step={step!r}: give a positive integer")
    panel = forecaster._read(y)
    all_series = forecaster._make_series(panel, X, static)
    origins = []
    for series in all_series:
        first = _first_step(start, len(series.history), series, horizon)
        origins.append(np.arange(first - 1, len(series.history) - horizon, step))
    levels = tuple(float(q) for q in forecaster.quantiles or ())
    if not levels and forecaster._head.has_distribution:
        levels = (0.1, 0.5, 0.9)
    if refit:
        outputs = _refitted(forecaster, panel, X, static, origins, horizon, levels)
    else:
        outputs = _in_one_pass(forecaster, all_series, origins, levels)
    season = forecaster.seasons_[0]
    results = []
    for series, at, values, (point, quantiles) in zip(
        all_series, origins, panel.values, outputs, strict=True
    ):
        steps = at[:, None] + 1 + np.arange(horizon)
        results.append(
            BacktestSeries(
                name=series.name,
                axis=series.axis,
                origins=at,
                truth=values[steps],
                forecast=point[:, :horizon],
                naive=series.history.naive(at, season, series.effect)[:, :horizon],
                spread=spread_of(series, at, point, forecaster.log_),
                scale=naive_scale(values[: at[0] + 1], season),
                quantiles=None if quantiles is None else quantiles[:, :horizon],
            )
        )
    return Backtest(results, horizon, levels, forecaster.target_col, forecaster.id_col, forecaster.time_col)


def _in_one_pass(
    forecaster: Any, all_series: list[Any], origins: list[NDArray[Any]], levels: tuple[float, ...]
) -> list[Any]:
    head, out = forecaster._head, []
    for begin in range(0, len(all_series), 64):
        group = all_series[begin : begin + 64]
        ends = [int(at[-1]) + 1 for at in origins[begin : begin + 64]]
        features = [forecaster._plan.scaled(s, 0, end) for s, end in zip(group, ends, strict=True)]
        # A single series is passed as an array; several are padded batch by batch.
        x: Any = features[0][None] if len(group) == 1 else Ragged.from_list(features, dtype=forecaster.dtype)
        outputs = forecaster.model_.predict(x, verbose=0)
        for series, at, rows in zip(group, origins[begin : begin + 64], outputs, strict=True):
            raw = rows[at].reshape(len(at), head.horizon, head.n_outputs)
            point = series.invert(at, head.point(raw))
            quantiles = None
            if levels:
                scale = series.history.scale(at)[:, None]
                quantiles = series.invert(at, forecaster._quantiles_of(raw, levels, scale))
            out.append((point, quantiles))
    return out


def _refitted(
    forecaster: Any,
    panel: Panel,
    X: Any,
    static: Any,
    origins: list[NDArray[Any]],
    horizon: int,
    levels: tuple[float, ...],
) -> list[Any]:
    """Fit a clone on the steps up to each origin, the first of all series first, and forecast from there."""
    plan, rows, table = forecaster._plan.covariates, None, None
    if plan is not None:
        rows = read_covariates(X, panel, plan.names)[1]
    if forecaster._encoder is not None:
        table = read_static(static, panel.names, panel.columns)
    points: list[list[NDArray[Any]]] = [[] for _ in origins]
    quantiles: list[list[NDArray[Any]]] = [[] for _ in origins]
    turns = range(max(map(len, origins)))
    for turn in progress(turns, "backtest", "refit", bool(forecaster.verbose)):
        chosen = [i for i, at in enumerate(origins) if turn < len(at)]
        ends = [int(origins[i][turn]) + 1 for i in chosen]
        part = subset(panel, chosen)
        part.values = [values[:end] for values, end in zip(part.values, ends, strict=True)]
        known = None
        if rows is not None:
            cut = [
                _known_at(rows[i], end, plan, forecaster._head.horizon)
                for i, end in zip(chosen, ends, strict=True)
            ]
            known = CovariateRows(plan.names, cut)
        again = clone(forecaster).set_params(season_length=forecaster.seasons_, verbose=False)
        again._fit_panel(part, known, table)
        raw, *_ = again._raw(None, None)
        for i, values in zip(chosen, again._values(again._head.point(raw), horizon), strict=True):
            points[i].append(values)
        if levels:
            z = again._quantiles_of(raw, levels, again._scales())
            for i, values in zip(chosen, again._values(z, horizon), strict=True):
                quantiles[i].append(values)
    return [(np.array(p), np.array(q) if q else None) for p, q in zip(points, quantiles, strict=True)]


def _known_at(row: tuple[int, NDArray[Any]], end: int, plan: Any, horizon: int) -> tuple[int, NDArray[Any]]:
    """Covariates as they are known at the last step before `end`: those of the past end there."""
    start, table = row
    table = table[: max(end + horizon - start, 0)].copy()
    table[max(end - start, 0) :, plan.past] = np.nan
    return start, table

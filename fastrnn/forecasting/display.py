"""Pictures of forecasts and of backtests; they need matplotlib, the extra ``plot``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.extras import extra
from fastrnn.forecasting.axes import RangeAxis
from fastrnn.forecasting.backtest import Backtest, BacktestSeries
from fastrnn.forecasting.frames import Columns, read_panel
from fastrnn.plotting.common import COLOURS

__all__ = ["BacktestDisplay", "ForecastDisplay"]


def _subplots(n: int, width: float, height: float, n_columns: int) -> Any:
    n_columns = min(n, n_columns)
    n_rows = math.ceil(n / n_columns)
    figure, axes = extra("matplotlib.pyplot", "plot").subplots(
        n_rows, n_columns, figsize=(width * n_columns, height * n_rows), layout="constrained", squeeze=False
    )
    for unused in axes.ravel()[n:]:
        unused.set_visible(False)
    return figure, axes.ravel()[:n]


@dataclass(repr=False)
class ForecastDisplay:
    """History, truth, forecast and seasonal naive forecast of some series, from the last origin of a backtest.

    Make it with :meth:`from_backtest`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One for each series.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import RNNForecaster
    >>> series = np.sin(np.arange(80.0))
    >>> forecaster = RNNForecaster(horizon=4, cell="gru", units=4, season_length=6, max_iter=2, random_state=0)
    >>> backtest = forecaster.fit(series[:60]).backtest(series, start=60)

    >>> from fastrnn.forecasting import ForecastDisplay
    >>> len(ForecastDisplay.from_backtest(backtest, series).axes_)
    1
    """

    backtest: Backtest
    history: list[NDArray[Any]]
    figure_: Any = None
    axes_: Any = None

    @classmethod
    def from_backtest(
        cls,
        backtest: Backtest,
        y: Any,
        *,
        series: Any = None,
        origin: int = -1,
        n_history: int | None = None,
    ) -> ForecastDisplay:
        """Draw.

        Parameters
        ----------
        backtest : Backtest
        y : array, list of arrays, pandas Series or DataFrame, or polars DataFrame
            The series, as they were given to the backtest; arrays are taken from the first step on.
        series : list, optional
            Names of the series to draw; by default the first four.
        origin : int, default=-1
            Index of the origin.
        n_history : int, optional
            Steps before the origin; by default four horizons.
        """
        values = _histories(backtest, y)
        names = [s.name for s in backtest.series]
        wanted = names[:4] if series is None else list(series)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"series {missing[0]!r} is not in the backtest")
        display = cls(backtest, values)
        display.figure_, display.axes_ = _subplots(len(wanted), 6.4, 3.2, 2)
        for axes, name in zip(display.axes_, wanted, strict=True):
            at = names.index(name)
            display._draw(axes, backtest.series[at], values[at], origin, n_history or 4 * backtest.horizon)
        handles, labels = display.axes_[0].get_legend_handles_labels()
        # Above the panels, since a legend inside would hide the history.
        display.figure_.legend(
            handles, labels, fontsize="small", loc="outside upper center", ncols=len(labels)
        )
        return display

    def _draw(self, axes: Any, s: BacktestSeries, values: NDArray[Any], origin: int, n_history: int) -> None:
        if not -len(s.origins) <= origin < len(s.origins):
            raise ValueError(f"origin={origin} is out of range: there are {len(s.origins)} origins")
        last = int(s.origins[origin])
        first, stop = max(last + 1 - n_history, 0), last + 1 + self.backtest.horizon
        stamps = s.axis.stamps(first, stop)
        stamps = _as_times(stamps)
        past, future = stamps[: last + 1 - first], stamps[last + 1 - first :]
        axes.plot(past, values[first : last + 1], color="0.3", label="history")
        axes.plot(future, s.truth[origin], color="0.3", linestyle=":", label="truth")
        axes.plot(
            future, s.naive[origin], color=COLOURS[1], linestyle="--", linewidth=1, label="seasonal naive"
        )
        axes.plot(future, s.forecast[origin], color=COLOURS[0], label="forecast")
        if s.quantiles is not None and s.quantiles.shape[-1] > 1:
            lower, upper = s.quantiles[origin][:, 0], s.quantiles[origin][:, -1]
            levels = self.backtest.levels
            label = f"{100 * (levels[-1] - levels[0]):.0f}% interval"
            axes.fill_between(future, lower, upper, color=COLOURS[0], alpha=0.2, linewidth=0, label=label)
        # Series of arrays are numbered, so a number is the name that they were not given.
        axes.set_title(f"series {s.name}" if isinstance(s.name, (int, np.integer)) else str(s.name))
        if isinstance(s.axis, RangeAxis):
            axes.set_xlabel("step")
        axes.tick_params(axis="x", labelrotation=30)


def _histories(backtest: Backtest, y: Any) -> list[NDArray[Any]]:
    """The values of each series of a backtest, on its axis."""
    columns = Columns(backtest.id_col, backtest.time_col, backtest.target_col)
    panel = read_panel(y, columns=columns, known={s.name: s.axis for s in backtest.series})
    if len(panel.values) != len(backtest.series):
        raise ValueError(f"y holds {len(panel.values)} series, the backtest {len(backtest.series)}")
    # Arrays have no names: their series are those of the backtest in the same order.
    named = panel.kind not in ("array", "matrix", "list")
    parts = zip(
        panel.names if named else [s.name for s in backtest.series], panel.starts, panel.values, strict=True
    )
    values = {name: np.concatenate([np.full(start, np.nan), part]) for name, start, part in parts}
    for s in backtest.series:
        if s.name not in values:
            raise ValueError(f"series {s.name!r} of the backtest is not in y")
        if len(s.origins) and len(values[s.name]) <= s.origins[-1]:
            raise ValueError(
                f"y holds series {s.name!r} up to {s.axis.name(len(values[s.name]) - 1)}, but the last origin is "
                f"{s.axis.name(int(s.origins[-1]))}; pass what the backtest was given"
            )
    return [values[s.name] for s in backtest.series]


@dataclass(repr=False)
class BacktestDisplay:
    """Scaled errors by step ahead and by origin, of the forecasts and of the seasonal naive forecasts.

    Make it with :meth:`from_backtest`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of two matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import RNNForecaster
    >>> series = np.sin(np.arange(80.0))
    >>> forecaster = RNNForecaster(horizon=4, cell="gru", units=4, season_length=6, max_iter=2, random_state=0)
    >>> backtest = forecaster.fit(series[:60]).backtest(series, start=60)

    >>> from fastrnn.forecasting import BacktestDisplay
    >>> len(BacktestDisplay.from_backtest(backtest).axes_)
    2
    """

    backtest: Backtest
    figure_: Any = None
    axes_: Any = None

    @classmethod
    def from_backtest(cls, backtest: Backtest) -> BacktestDisplay:
        """Draw.

        Parameters
        ----------
        backtest : Backtest
        """
        display = cls(backtest)
        display.figure_, (left, right) = _subplots(2, 5.6, 3.6, 2)
        display.axes_ = np.array([left, right])
        ahead = np.arange(1, backtest.horizon + 1)
        for which, label, color, style in (
            ("forecast", "forecast", COLOURS[0], "-"),
            ("naive", "seasonal naive", COLOURS[1], "--"),
        ):
            marker = "o" if backtest.horizon == 1 else None
            left.plot(
                ahead, backtest.by_horizon(which), color=color, linestyle=style, marker=marker, label=label
            )
            origins = [part.mean() for part in backtest.by_origin(which)]
            if len(backtest.series) == 1:
                s = backtest.series[0]
                stamps = s.axis.stamps(0, int(s.origins[-1]) + 1)
                stamps = _as_times(stamps)
                right.plot(
                    stamps[s.origins], backtest.by_origin(which)[0], color=color, linestyle=style, label=label
                )
            else:
                right.plot(np.sort(origins), color=color, linestyle=style, label=label)
        left.set(xlabel="steps ahead", ylabel="mean absolute scaled error")
        right.set(xlabel="origin" if len(backtest.series) == 1 else "series, sorted by its error")
        right.tick_params(axis="x", labelrotation=30)
        left.legend()
        for axes in (left, right):
            axes.set_ylim(bottom=0)
        return display


def _as_times(stamps: Any) -> Any:
    """Convert stamps for matplotlib; periods are drawn at their starts."""
    return stamps.to_timestamp() if hasattr(stamps, "to_timestamp") else stamps

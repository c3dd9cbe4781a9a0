"""Inputs of a forecaster other than the series: past and future covariates, static covariates, the calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import refuse_masked
from fastrnn.extras import extra
from fastrnn.forecasting.axes import StampAxis, check_order
from fastrnn.forecasting.frames import Columns, Panel, refuse_lazy, rows_of_series, stamps_of

__all__ = ["CovariatePlan", "CovariateRows", "StaticEncoder", "calendar_features", "read_covariates"]

_DAY = 86_400_000_000_000


def calendar_features(axis: Any, start: int, stop: int) -> NDArray[Any]:
    """Return sine and cosine of the time of day and of the year, and the day of the week: (n_steps, 11).

    Features that the frequency does not resolve, such as the time of day for days, are constant.
    """
    if not isinstance(axis, StampAxis):
        raise ValueError(
            "calendar=True needs stamps: give y with a DatetimeIndex or PeriodIndex, or a long frame with dates"
        )
    pd = extra("pandas", "frames")

    index = axis.index(start, stop)
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    local = index.tz_localize(None) if index.tz is not None else index
    day = 2 * np.pi * ((local.as_unit("ns").asi8 % _DAY) / _DAY)
    year = 2 * np.pi * (local.day_of_year.to_numpy() - 1) / 366
    week = local.day_of_week.to_numpy()[:, None] == np.arange(7)
    return np.column_stack([np.sin(day), np.cos(day), np.sin(year), np.cos(year), week])


@dataclass
class CovariatePlan:
    """The columns of X, their scaling, and the features made of them.

    The features of columns known ahead are their values at all steps of the horizon, and squares of the values.

    Attributes
    ----------
    names : list
        Names of the columns of X.
    past : list of bool
        Whether a column is known for the past only.
    horizon : int
    mean, spread : ndarray of shape (n_columns,)
    squared : list of int
        Columns known ahead that have more than two values.
    """

    names: list[Any]
    past: list[bool]
    horizon: int
    mean: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    spread: NDArray[Any] = field(default_factory=lambda: np.ones(0))
    squared: list[int] = field(default_factory=list)

    @property
    def n_ahead(self) -> int:
        """Number of future steps in the features."""
        return 0 if all(self.past) else self.horizon

    def fit(self, columns: Sequence[NDArray[Any]]) -> CovariatePlan:
        """Learn mean and spread of each column."""
        rows = np.concatenate(columns)
        count = np.maximum((~np.isnan(rows)).sum(axis=0), 1)
        self.mean = np.nansum(rows, axis=0) / count
        spread = np.sqrt(np.nansum((rows - self.mean) ** 2, axis=0) / count)
        self.spread = np.where(spread > 0, spread, 1.0)
        self.squared = [
            i
            for i, past in enumerate(self.past)
            if not past and len(np.unique(rows[~np.isnan(rows[:, i]), i])) > 2
        ]
        return self

    def features(self, x: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        """Features of the steps from `start` to `stop`.

        Unknown values are zero, the mean of the scaled columns.
        """
        n = stop - start
        table = np.zeros((n + self.n_ahead, x.shape[1]))
        part = (x[start : stop + self.n_ahead] - self.mean) / self.spread
        table[: len(part)] = np.nan_to_num(part)
        parts = [table[:n]]
        known = [i for i, past in enumerate(self.past) if not past]
        if known:
            rows = np.concatenate([table[1:, known], table[1:, self.squared] ** 2], axis=1)
            ahead = np.lib.stride_tricks.sliding_window_view(rows, self.horizon, axis=0)
            parts.append(ahead.reshape(n, -1))
        return np.concatenate(parts, axis=1)


class CovariateRows(NamedTuple):
    """Covariates that were read before, for each series of a panel: what `read_covariates` returns."""

    names: list[Any]
    rows: list[tuple[int, NDArray[Any]]]


#: Types of static columns that are numbers; all others are categories.
_NUMBERS = (int, float, np.integer, np.floating)


class StaticEncoder:
    """Converts static numbers and categories to features: scaled numbers and one-hot categories."""

    def fit(self, table: Mapping[Any, Mapping[Any, Any]]) -> StaticEncoder:
        """Learn from ``{series: {column: value}}``."""
        rows = list(table.values())
        self.columns = list(rows[0])
        self.categories: dict[Any, list[Any]] = {}
        self.scales: dict[Any, tuple[float, float]] = {}
        for column in self.columns:
            lacking = [name for name, row in table.items() if column not in row]
            if lacking:
                raise _column_missing(lacking[0], column, self.columns)
            values = [row[column] for row in rows]
            if all(isinstance(v, _NUMBERS) for v in values):
                numbers = np.asarray(values, np.float64)
                if not np.isfinite(numbers).all():
                    raise ValueError(f"the static column {column!r} holds NaN or infinity; fill it first")
                self.scales[column] = (float(numbers.mean()), float(numbers.std()) or 1.0)
            else:
                self.categories[column] = sorted(set(values), key=str)
        return self

    def transform(self, name: Any, row: Mapping[Any, Any]) -> NDArray[Any]:
        """Features of one series."""
        out: list[float] = []
        for column in self.columns:
            if column not in row:
                raise _column_missing(name, column, self.columns)
            value = row[column]
            if column in self.scales:
                if not isinstance(value, _NUMBERS) or not np.isfinite(value):
                    raise ValueError(
                        f"series {name!r} has {column}={value!r} in static, where fit had numbers; give a finite number"
                    )
                mean, spread = self.scales[column]
                out.append((float(value) - mean) / spread)
            else:
                known = self.categories[column]
                if value not in known:
                    raise ValueError(
                        f"series {name!r} has {column}={value!r}, a category that was not seen in fit (seen: "
                        f"{', '.join(map(repr, known[:8]))}); map it to one of these, or fit again with it"
                    )
                out += [float(value == k) for k in known]
        return np.asarray(out)


def _column_missing(name: Any, column: Any, columns: list[Any]) -> ValueError:
    return ValueError(
        f"static of series {name!r} has no column {column!r}; give the same columns of each series: {columns}"
    )


def read_static(static: Any, names: Sequence[Any], columns: Columns) -> dict[Any, dict[Any, Any]]:
    """Return ``{series: {column: value}}`` from a frame with the ids as index or column, a dict, or an array."""
    refuse_lazy(static, "static")
    if type(static).__module__.startswith("polars"):
        static = {row.pop(columns.id): row for row in static.to_dicts()}
    elif type(static).__module__.startswith("pandas"):
        frame = static.set_index(columns.id) if columns.id in static.columns else static
        static = frame.to_dict(orient="index")
    elif not isinstance(static, Mapping):
        refuse_masked(static, "static")
        array = np.asarray(static)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or len(array) != len(names):
            raise ValueError(
                f"static has shape {array.shape}; it needs a row for each of {len(names)} series"
            )
        static = {name: dict(enumerate(row.tolist())) for name, row in zip(names, array, strict=True)}
    for name in names:
        if name not in static:
            raise ValueError(f"static has no row for the series {name!r}; give one for each series")
    return {name: dict(static[name]) for name in names}


def read_covariates(
    X: Any, panel: Panel, wanted: list[Any] | None = None
) -> tuple[list[Any], list[tuple[int, NDArray[Any]]]]:
    """Read the covariates of each series of a panel.

    Parameters
    ----------
    X : array, list of arrays, frame, or CovariateRows
        The first row of arrays (n_steps, n_columns) belongs to the first step of the panel; frames are aligned by their
        stamps. One for all series, a list, or a long frame with the ids.
    panel : Panel
    wanted : list, optional
        Required columns.

    Returns
    -------
    names : list
        Names of the columns.
    rows : list of (start, ndarray of shape (n_steps, n_columns))
        `start` is the position of the first row on the axis of the series.
    """
    if isinstance(X, CovariateRows):
        return X.names, X.rows
    module = type(X).__module__.split(".")[0]
    columns = panel.columns
    if module == "polars":
        pd = extra("pandas", "frames")
        refuse_lazy(X, "X")
        X = pd.DataFrame({c: stamps_of(X[c]) if c == columns.time else X[c].to_numpy() for c in X.columns})
        module = "pandas"
    if module != "pandas":
        parts = list(X) if isinstance(X, (list, tuple)) else [X] * len(panel.names)
        if len(parts) != len(panel.names):
            raise ValueError(
                f"X holds {len(parts)} arrays, y has {len(panel.names)} series; give one for each"
            )
        rows = [
            (start, _table(part, name))
            for part, name, start in zip(parts, panel.names, panel.starts, strict=True)
        ]
        names: list[Any] = list(range(rows[0][1].shape[1]))
        for name, (_, table) in zip(panel.names, rows, strict=True):
            if table.shape[1] != len(names):
                raise ValueError(
                    f"X of series {name!r} has {table.shape[1]} columns, that of the first has {len(names)}"
                )
        return _checked(names, rows, wanted)
    if X.__class__.__name__ == "Series":
        X = X.to_frame()
    if columns.time in X.columns and columns.id in X.columns:
        groups = rows_of_series(X[columns.id], columns)
        names = [c for c in X.columns if c not in (columns.id, columns.time, columns.target)]
        rows = []
        for name, axis in zip(panel.names, panel.axes, strict=True):
            if name not in groups:
                raise ValueError(f"X has no rows for the series {name!r}")
            part = X.iloc[groups[name]]
            rows.append(_on_axis(part[columns.time], part[names], axis, name))
        return _checked(names, rows, wanted)
    names = list(X.columns)
    shared: dict[Any, tuple[int, NDArray[Any]]] = {}
    rows = []
    for name, axis in zip(panel.names, panel.axes, strict=True):
        if id(axis) not in shared:
            shared[id(axis)] = _on_axis(X.index, X, axis, name)
        rows.append(shared[id(axis)])
    return _checked(names, rows, wanted)


def _table(part: Any, name: Any) -> NDArray[Any]:
    refuse_masked(part, f"X of series {name!r}")
    array = np.asarray(part)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"X of series {name!r} has shape {array.shape} and dtype {array.dtype}; give numbers, (n_steps, n_columns)"
        )
    array = array.astype(np.float64)
    if np.isinf(array).any():
        at = np.argwhere(np.isinf(array))[0]
        raise ValueError(
            f"X of series {name!r} is infinite at step {at[0]}, column {at[1]}; make it finite or NaN"
        )
    return array


def _on_axis(stamps: Any, frame: Any, axis: Any, name: Any) -> tuple[int, NDArray[Any]]:
    pd = extra("pandas", "frames")

    for column in frame.columns:
        if frame[column].dtype.kind not in "fiub":
            raise ValueError(
                f"the column {column!r} of X has dtype {frame[column].dtype}; encode it as numbers "
                "(pandas.get_dummies), or give what is constant for a series as static="
            )
    index = pd.Index(stamps)
    check_order(index, f"{name!r} (in X)")
    positions = axis.positions(index, f"{name!r} (in X)")
    axis.check_clock(positions, f"{name!r} (in X)")
    start = int(positions[0])
    table = np.full((int(positions[-1]) - start + 1, frame.shape[1]), np.nan)
    table[positions - start] = _table(frame.to_numpy(np.float64), name)
    return start, table


def _checked(names: list[Any], rows: list[Any], wanted: list[Any] | None) -> tuple[list[Any], list[Any]]:
    if wanted is None or names == wanted:
        return names, rows
    missing = [c for c in wanted if c not in names]
    if missing:
        raise ValueError(f"X has no column {missing[0]!r}, which it had in fit; give the columns {wanted}")
    order = [names.index(c) for c in wanted]
    return list(wanted), [(start, table[:, order]) for start, table in rows]

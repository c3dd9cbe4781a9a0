"""Reading series from arrays, lists, pandas and polars, and writing forecasts in the same form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import refuse_masked
from fastrnn.extras import extra
from fastrnn.forecasting.axes import RangeAxis, StampAxis, check_order, check_zones, read_axis
from fastrnn.sequences.long_frames import refuse_missing

__all__ = ["Columns", "Panel", "read_panel", "rows_of_series", "stamps_of", "subset", "write_panel"]

Axis = RangeAxis | StampAxis


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a long frame."""

    id: str = "unique_id"
    time: str = "ds"
    target: str = "y"


@dataclass
class Panel:
    """Series as arrays, and what is needed to write forecasts in the form of the input.

    Attributes
    ----------
    kind : {"array", "matrix", "list", "series", "wide", "long", "polars"}
    names : list
        Names of the series.
    values : list of ndarray of float64
        Values on the regular grid; NaN where a step is missing.
    axes : list of Axis
    starts : list of int
        Position of the first value on its axis: 0 for a new axis.
    time_type : tuple of str, optional
        For a polars frame: type, unit and time zone of its stamps.
    """

    kind: str
    names: list[Any]
    values: list[NDArray[Any]]
    axes: list[Axis]
    columns: Columns = field(default_factory=Columns)
    starts: list[int] = field(default_factory=list)
    time_type: tuple[str, str | None, str | None] | None = None

    def __post_init__(self) -> None:
        if not self.starts:
            self.starts = [0] * len(self.values)


def subset(panel: Panel, rows: list[int]) -> Panel:
    """Some series of a panel."""

    def pick(items: list[Any]) -> list[Any]:
        return [items[i] for i in rows]

    return replace(
        panel,
        names=pick(panel.names),
        values=pick(panel.values),
        axes=pick(panel.axes),
        starts=pick(panel.starts),
    )


def _module(y: Any) -> str:
    return type(y).__module__.split(".")[0]


def _numbers(values: Any, series: str) -> NDArray[Any]:
    refuse_masked(values, f"series {series}")
    array = np.asarray(values)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"series {series} has objects that are not numbers, such as {array.ravel()[0]!r}"
            ) from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"series {series} has dtype {array.dtype}; pass numbers")
    return array.astype(np.float64)


def _check_finite(values: NDArray[Any], axis: Axis, start: int, series: str) -> None:
    if np.isinf(values).any():
        at = int(np.argmax(np.isinf(values)))
        raise ValueError(
            f"series {series} is infinite at {axis.name(start + at)}; replace the value, or make it NaN to mark a missing "
            "step"
        )


def read_panel(
    y: Any, *, freq: Any = None, columns: Columns | None = None, known: dict[Any, Axis] | None = None
) -> Panel:
    """Read series.

    Parameters
    ----------
    y : array, list of arrays, pandas Series or DataFrame (wide or long), or polars DataFrame (long)
    freq : str, optional
    columns : Columns
        Names of the columns of a long frame, which is a frame that has columns of id and time.
    known : dict of name to axis, optional
        Axes of known series; their new stamps must be on them.

    Returns
    -------
    Panel
    """
    columns, known = columns or Columns(), known or {}
    module = _module(y)
    if module == "polars":
        return _read_polars(y, freq, columns, known)
    if module == "pandas":
        pd = extra("pandas", "frames")

        if isinstance(y, pd.Series):
            name = y.name if y.name is not None else 0
            return _of_index("series", [name], y.index, [y.to_numpy()], freq, columns, known)
        if isinstance(y, pd.DataFrame):
            if columns.id in y.columns and columns.time in y.columns:
                _check_columns(list(y.columns), columns)
                return _of_long(
                    "long", y[columns.id], y[columns.time], y[columns.target], freq, columns, known
                )
            if not y.columns.is_unique:
                twice = y.columns[y.columns.duplicated()][0]
                raise ValueError(f"y has the column {twice!r} more than once; each column is one series")
            values = [y[name].to_numpy() for name in y.columns]
            for name, part in zip(y.columns, values, strict=True):
                if part.dtype.kind not in "fiub" and part.size and isinstance(part[0], (str, np.datetime64)):
                    raise ValueError(
                        f"column {name!r} of y has no numbers but {str(part[0])!r}: a wide frame has its stamps as index, "
                        f"y.set_index({name!r}), and a series in each column; a long frame has the columns {columns.id!r}, "
                        f"{columns.time!r} and {columns.target!r}: name others with id_col=, time_col=, target_col="
                    )
            return _of_index("wide", list(y.columns), y.index, values, freq, columns, known)
        raise TypeError(f"y is a {type(y).__name__}: pass a Series or a DataFrame")
    if isinstance(y, (list, tuple)) and y and not np.isscalar(y[0]) and y[0] is not None:
        values = [_one_dimensional(item, i) for i, item in enumerate(y)]
        return _plain("list", values, known)
    refuse_masked(y, "y")
    array = np.asarray(y)
    if array.ndim == 1 and array.size:
        return _plain("array", [_numbers(array, "0")], known)
    if array.ndim == 2 and array.size:
        matrix = _numbers(array, "y")
        return _plain("matrix", [np.ascontiguousarray(matrix[:, i]) for i in range(matrix.shape[1])], known)
    raise ValueError(
        f"y has shape {array.shape}: pass a series (n_steps,), several of equal length (n_steps, n_series), a list of "
        "arrays, or a pandas or polars object"
    )


def _one_dimensional(item: Any, i: int) -> NDArray[Any]:
    values = _numbers(item, str(i))
    if values.shape == (0,):
        raise ValueError(f"series {i} is empty: there is nothing to forecast from, leave it out")
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"series {i} has shape {values.shape}: each array of a list is one series, (n_steps,)"
        )
    return values


def _plain(kind: str, values: list[NDArray[Any]], known: dict[Any, Axis]) -> Panel:
    axes: list[Axis] = [known.get(i, RangeAxis()) for i in range(len(values))]
    for i, part in enumerate(values):
        _check_finite(part, axes[i], 0, str(i))
    return Panel(kind, list(range(len(values))), values, axes)


def _of_index(
    kind: str,
    names: list[Any],
    index: Any,
    values: list[Any],
    freq: Any,
    columns: Columns,
    known: dict[Any, Axis],
) -> Panel:
    if not len(index) or not names:
        raise ValueError("y is empty; there is nothing to forecast")
    panel = Panel(kind, names, [], [], columns)
    fresh: Axis | None = None
    for name, part in zip(names, values, strict=True):
        axis = known.get(name)
        if axis is None and known:
            raise ValueError(
                f"y has the series {name!r}, which was not in fit ({list(known)[:5]}); new ones take a long frame"
            )
        if axis is None:
            fresh = axis = fresh or read_axis(index, freq, repr(name))
        _add(panel, axis, index, part, repr(name))
    return panel


def _add(panel: Panel, axis: Axis, index: Any, values: Any, name: str) -> None:
    """Lay values on the grid of an axis and append the series to the panel."""
    check_order(index, name)
    positions = axis.positions(index, name)
    axis.check_clock(positions, name)
    start = int(positions[0])
    numbers = _numbers(values, name)
    if int(positions[-1]) - start + 1 == len(numbers):
        grid = numbers
    else:
        grid = np.full(int(positions[-1]) - start + 1, np.nan)
        grid[positions - start] = numbers
    _check_finite(grid, axis, start, name)
    panel.values.append(grid)
    panel.axes.append(axis)
    panel.starts.append(start)


def _check_columns(have: list[Any], columns: Columns) -> None:
    if columns.target not in have:
        raise ValueError(
            f"the long frame has the columns {have}, but none is {columns.target!r}; name it with target_col="
        )


def _of_long(
    kind: str, ids: Any, times: Any, target: Any, freq: Any, columns: Columns, known: dict[Any, Axis]
) -> Panel:
    pd = extra("pandas", "frames")

    if not len(ids):
        raise ValueError("y is empty; there is nothing to forecast")
    groups = rows_of_series(ids, columns)
    index = pd.Index(times)
    check_zones(index, f"the column {columns.time!r}")
    values = np.asarray(target)
    panel = Panel(kind, list(groups), [], [], columns)
    for name, rows in groups.items():
        part = index[rows]
        axis = known.get(name)
        if axis is None:
            axis = _shared(panel, part, freq, repr(name))
        _add(panel, axis, part, values[rows], repr(name))
    _check_one_frequency(panel)
    return panel


def rows_of_series(ids: Any, columns: Columns) -> dict[Any, NDArray[Any]]:
    """Rows of each series of a long frame, in the order in which the series begin."""
    codes, names = extra("pandas", "frames").factorize(np.asarray(ids))
    refuse_missing(codes, columns.id, "pass the id, or drop the row")
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return {name: order[bounds[i] : bounds[i + 1]] for i, name in enumerate(names)}


def _shared(panel: Panel, index: Any, freq: Any, name: str) -> Axis:
    """The axis of the previous series if the stamps fit it, otherwise a new axis."""
    if len(index) == 1 and panel.axes and freq is None:
        before = panel.axes[-1]
        if isinstance(before, RangeAxis):
            return RangeAxis(int(index[0]), before.frequency)
        return StampAxis(index[0], before.frequency, before.index_name)
    return read_axis(index, freq, name)


def _check_one_frequency(panel: Panel) -> None:
    first = panel.axes[0].frequency
    for name, axis in zip(panel.names, panel.axes, strict=True):
        if axis.frequency != first:
            raise ValueError(
                f"series {name!r} has the frequency {axis.frequency}, series {panel.names[0]!r} has {first}: one network "
                "forecasts series of one frequency; fit a forecaster for each"
            )


def _read_polars(y: Any, freq: Any, columns: Columns, known: dict[Any, Axis]) -> Panel:
    pl = extra("polars", "frames")

    refuse_lazy(y, "y")
    if isinstance(y, pl.Series):
        return _plain("array", [_numbers(y.to_numpy(), "0")], known)
    missing = [c for c in (columns.id, columns.time, columns.target) if c not in y.columns]
    if missing:
        raise ValueError(
            f"the polars frame has no column {missing[0]!r}; a polars frame is long, with the columns {columns.id!r}, "
            f"{columns.time!r} and {columns.target!r}: name others with id_col=, time_col=, target_col="
        )
    times = y[columns.time]
    panel = _of_long(
        "polars",
        y[columns.id].to_numpy(),
        stamps_of(times),
        y[columns.target].to_numpy(),
        freq,
        columns,
        known,
    )
    kind = times.dtype
    clock = isinstance(kind, pl.Datetime)
    panel.time_type = (
        type(kind).__name__ if clock else str(kind),
        kind.time_unit if clock else None,
        kind.time_zone if clock else None,
    )
    return panel


def refuse_lazy(frame: Any, name: str) -> None:
    """Raise if a polars frame is lazy."""
    if type(frame).__name__ == "LazyFrame":
        raise TypeError(f"{name} is a LazyFrame of polars: call its collect() first")


def stamps_of(times: Any) -> Any:
    """Stamps of a polars column as a pandas index with their time zone, or as an array of integers."""
    pd, pl = extra("pandas", "frames"), extra("polars", "frames")
    values = times.to_numpy()
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(times.dtype.time_zone)
    return values


def _polars_stamps(stamps: Any, time_type: tuple[str, str | None, str | None] | None) -> Any:
    """Convert stamps to a polars column of a type."""
    pl = extra("polars", "frames")
    name, unit, zone = time_type or ("Datetime", "ns", None)
    if not isinstance(stamps, np.ndarray):
        stamps = (stamps.tz_convert("UTC").tz_localize(None) if zone else stamps).as_unit("ns")
    column = pl.Series(np.asarray(stamps))
    if name != "Datetime":
        return column.cast(getattr(pl, name))
    if zone:
        column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return column.cast(pl.Datetime(unit, zone))


# -- writing


def write_panel(panel: Panel, ends: list[int], forecasts: list[NDArray[Any]], labels: list[str]) -> Any:
    """Convert forecasts to the form of the input.

    Parameters
    ----------
    panel : Panel
    ends : list of int
        For each series the position of the first forecast on its axis.
    forecasts : list of ndarray of shape (horizon,) or (horizon, n_labels)
    labels : list of str
        Names of the last axis; frames use them as columns.

    Returns
    -------
    object
        An array (horizon, ...), a list of them, a Series, or a frame; with several labels a Series becomes a frame, and a
        wide frame has columns of two levels (series, label).
    """
    kind = panel.kind
    if kind == "array":
        return forecasts[0]
    if kind == "matrix":
        return np.stack(forecasts, axis=1)
    if kind == "list":
        return forecasts
    if kind in ("series", "wide"):
        return _write_indexed(panel, ends, forecasts, labels)
    names: list[Any] = []
    stamps: list[Any] = []
    for name, axis, end, part in zip(panel.names, panel.axes, ends, forecasts, strict=True):
        names += [name] * len(part)
        stamps.append(axis.stamps(end, end + len(part)))
    table = np.concatenate(forecasts).reshape(len(names), -1)
    columns = panel.columns
    data: dict[str, Any] = {columns.id: names, columns.time: _joined(stamps)}
    data.update({label: table[:, i] for i, label in enumerate(labels)})
    if kind == "polars":
        pl = extra("polars", "frames")

        data[columns.time] = _polars_stamps(data[columns.time], panel.time_type)
        return pl.DataFrame(data)
    pd = extra("pandas", "frames")

    return pd.DataFrame(data)


def _joined(stamps: list[Any]) -> Any:
    if isinstance(stamps[0], np.ndarray):
        return np.concatenate(stamps)
    return stamps[0].append(stamps[1:])


def _write_indexed(panel: Panel, ends: list[int], forecasts: list[NDArray[Any]], labels: list[str]) -> Any:
    pd = extra("pandas", "frames")

    index = panel.axes[0].index(ends[0], ends[0] + len(forecasts[0]))
    if panel.kind == "series":
        name = panel.names[0] if panel.names[0] != 0 else None
        if forecasts[0].ndim == 1:
            return pd.Series(forecasts[0], index=index, name=name)
        return pd.DataFrame(forecasts[0], index=index, columns=labels)
    if forecasts[0].ndim == 1:
        return pd.DataFrame(
            dict(zip(panel.names, forecasts, strict=True)), index=index, columns=pd.Index(panel.names)
        )
    columns = pd.MultiIndex.from_product([panel.names, labels])
    return pd.DataFrame(np.concatenate(forecasts, axis=1), index=index, columns=columns)

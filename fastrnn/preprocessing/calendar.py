"""Features of the calendar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import choice, integer, loaded
from fastrnn.preprocessing.base import SequenceTransformer, with_forms
from fastrnn.sequences import Ragged, as_object_array
from fastrnn.sequences.containers import column_names

__all__ = ["CalendarFeatures"]

#: Microseconds.
_SECOND, _HOUR, _DAY = 1_000_000, 3_600_000_000, 86_400_000_000
_WEEK = 7 * _DAY
#: 1970-01-01 was a Thursday.
_MONDAY = 3 * _DAY
#: Above it float32 does not hold seconds.
_EXACT_IN_FLOAT32 = 2.0**24
#: The years that NumPy's microseconds hold.
_LATEST = 9e12


def _part_of(unit: str) -> Callable[[np.ndarray], np.ndarray]:
    """The position in a month or a year."""

    def position(t: np.ndarray) -> np.ndarray:
        stamp = t.astype("datetime64[us]")
        whole = stamp.astype(f"datetime64[{unit}]")
        begin, end = (edge.astype("datetime64[us]").astype(np.int64) for edge in (whole, whole + 1))
        return np.asarray((t - begin) / (end - begin))

    return position


_CYCLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hour": lambda t: t % _HOUR / _HOUR,
    "day": lambda t: t % _DAY / _DAY,
    "week": lambda t: (t + _MONDAY) % _WEEK / _WEEK,
    "month": _part_of("M"),
    "year": _part_of("Y"),
}


@with_forms
class CalendarFeatures(SequenceTransformer):
    """Replace the feature that holds times by positions in the day, the week, the month or the year.

    Parameters
    ----------
    time : int or str, default=0
        The feature that holds times: its position, or its name in data frames. It comes out; the other features stay
        before the new ones.
    cycles : tuple of {"hour", "day", "week", "month", "year"}, default=("day",)
        The cycles in which the position of a time becomes a feature. Weeks begin on Monday.
    encoding : {"fraction", "circle"}, default="fraction"
        "fraction": the part of the cycle that has passed, in [0, 1). "circle": sine and cosine of it, so that the end of a
        cycle is next to its beginning.

    Attributes
    ----------
    time_ : int
        Position of the feature that holds times.
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms}

    Times are seconds since 1970-01-01 in float64, or ``datetime64`` in an array or a column of a data frame. They are read
    as they are: for local days convert to local time first. Of a column with a time zone the local time is read.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import CalendarFeatures
    >>> times = np.array(["2024-01-01T06:00", "2024-01-03T12:00"], "datetime64[s]")
    >>> calendar = CalendarFeatures(cycles=("day", "week")).fit([times])
    >>> calendar.transform([times])[0].round(3)
    array([[0.25 , 0.036],
           [0.5  , 0.357]])
    >>> calendar.get_feature_names_out()
    array(['x0_day', 'x0_week'], dtype=object)
    """

    time_: int

    def __init__(
        self, *, time: int | str = 0, cycles: tuple[str, ...] = ("day",), encoding: str = "fraction"
    ) -> None:
        self.time = time
        self.cycles = cycles
        self.encoding = encoding

    def _check_arguments(self) -> None:
        if not isinstance(self.time, str):
            integer(self.time, "time", 0)
        given = self.cycles
        if not isinstance(given, (tuple, list)) or not given or len(set(given)) < len(given):
            raise ValueError(f"cycles={given!r}: give a tuple of different names, such as ('day', 'week')")
        for name in given:
            choice(name, "cycles", _CYCLES)
        choice(self.encoding, "encoding", ("fraction", "circle"))

    def _numbers(self, X: Any) -> Any:
        return _with_seconds(X)

    def _learn(self, data: Ragged) -> dict[str, Any]:
        n = data.values.shape[1]
        place = self.time
        if isinstance(place, str):
            names = list(vars(self).get("feature_names_in_", []))
            if place not in names:
                raise ValueError(
                    f"time={place!r}: "
                    + (
                        f"X has columns {names}."
                        if names
                        else "X has no column names; give the position of the feature."
                    )
                )
            place = 0 if self._table else names.index(place)
        if place >= n:
            raise ValueError(f"time={self.time!r}: X has {n} features in a step, counted from 0.")
        _microseconds(data, place)
        return {"time_": int(place)}

    def _convert(self, data: Ragged) -> Ragged:
        t = _microseconds(data, self.time_)
        parts = [np.delete(data.values, self.time_, axis=1)]
        for cycle in self.cycles:
            position = _CYCLES[cycle](t)
            if self.encoding == "fraction":
                parts.append(position[:, None])
            else:
                parts.append(np.stack([np.sin(2 * np.pi * position), np.cos(2 * np.pi * position)], axis=1))
        return data.with_values(np.concatenate([part.astype(data.values.dtype) for part in parts], axis=1))

    def _channels_out(self, names: list[str]) -> list[str]:
        time = names[0] if self._table else names[self.time_]
        others = [] if self._table else [name for i, name in enumerate(names) if i != self.time_]
        ends = [""] if self.encoding == "fraction" else ["_sin", "_cos"]
        return others + [f"{time}_{cycle}{end}" for cycle in self.cycles for end in ends]


def _microseconds(data: Ragged, place: int) -> np.ndarray:
    """Times as int64."""
    seconds = data.values[:, place]
    most = float(np.abs(seconds).max(initial=0))
    if data.values.dtype.itemsize < 8 and most > _EXACT_IN_FLOAT32:
        raise ValueError(
            f"X holds the time {most:.0f} in {data.values.dtype}, which holds seconds up to 2**24 only: pass float64, or "
            "datetime64."
        )
    if most > _LATEST:
        raise ValueError(
            f"X holds the time {most:g}, which is no year of the calendar: times are seconds since 1970-01-01."
        )
    return np.rint(seconds.astype(np.float64) * _SECOND).astype(np.int64)


def _with_seconds(X: Any) -> Any:
    """X with seconds in place of ``datetime64``."""
    columns = column_names(X)
    if columns is not None:
        return np.column_stack([_with_seconds(_column(X, name)) for name in columns])
    if isinstance(X, np.ndarray) and X.dtype.kind == "M":
        if np.isnat(X).any():
            raise ValueError("X holds NaT, a time that is missing: fill it, or leave these steps out.")
        return X.astype("datetime64[us]").astype(np.int64) / _SECOND
    if isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1):
        items = [
            _with_seconds(item)
            if isinstance(item, (list, tuple, np.ndarray)) or column_names(item) is not None
            else item
            for item in X
        ]
        return items if isinstance(X, (list, tuple)) else as_object_array(items)
    return X


def _column(frame: Any, name: Any) -> np.ndarray:
    """The values of a column, local times where it has a time zone."""
    column = frame[name]
    pd = loaded("pandas", "DataFrame")
    if pd is not None and isinstance(frame, pd.DataFrame):
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_localize(None)
    elif str(column.dtype).startswith("Datetime"):  # polars
        column = column.dt.replace_time_zone(None)
    return np.asarray(column.to_numpy())

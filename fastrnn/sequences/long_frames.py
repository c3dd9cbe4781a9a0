"""Sequences from a data frame with a row for each time step of each series."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import loaded
from fastrnn.sequences.containers import column_names
from fastrnn.sequences.ragged import Ragged

__all__ = ["from_long_frame", "refuse_missing"]


def from_long_frame(
    frame: Any, *, series: str, time: str, channels: Sequence[str] | str | None = None
) -> tuple[Ragged, np.ndarray]:
    """Read the sequences of a long data frame, which has a row for each time step of each series.

    Rows may be in any order. The times give the order of the steps of a series; their distances are not used.

    Parameters
    ----------
    frame : DataFrame of pandas or polars
    series : str
        Column of the series' ids.
    time : str
        Column of times: numbers, dates or stamps.
    channels : sequence of str, or str, optional
        Columns of the features, in this order; by default all other columns. The name of one column gives sequences of shape
        (n_timesteps,), such as tokens, targets of time steps (also text), or their weights.

    Returns
    -------
    sequences : Ragged
        Values of shape (n_rows, n_channels) or (n_rows,). Missing numbers are NaN, which
        :class:`fastrnn.preprocessing.SequenceImputer` fills. Names of channels are kept: an estimator refuses other ones,
        or the same in another order, than it was fitted with.
    ids : ndarray of shape (n_series,)
        The id of each sequence, sorted: the order of ``frame.groupby(series)``.

    Raises
    ------
    TypeError
        If `frame` is no data frame.
    ValueError
        If a column is missing or occurs twice, an id or a time is missing, times are text, a series has two rows of one
        time, a channel holds no numbers, or there are no rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from fastrnn import from_long_frame
    >>> frame = pd.DataFrame(
    ...     {"pump": ["b", "a", "a"], "hour": [0, 1, 0], "load": [7.0, 2.0, 1.0], "label": ["on", "off", "on"]}
    ... )
    >>> X, ids = from_long_frame(frame, series="pump", time="hour", channels=["load"])
    >>> ids.tolist(), [x.ravel().tolist() for x in X]
    (['a', 'b'], [[1.0, 2.0], [7.0]])
    >>> y, _ = from_long_frame(frame, series="pump", time="hour", channels="label")
    >>> [steps.tolist() for steps in y]
    [['on', 'off'], ['on']]
    """
    names = column_names(frame)
    if names is None:
        hint = ": call its collect()" if type(frame).__name__ == "LazyFrame" else ""
        raise TypeError(
            f"frame is a {type(frame).__name__}, but a DataFrame of pandas or polars is expected{hint}"
        )
    wanted = _wanted(frame, names, series, time, channels)
    if not len(frame):
        raise ValueError("frame has no rows: give at least one time step of one series")
    which, ids = _ranks(frame, series)
    refuse_missing(which, series, "pass the id, or drop the row")
    _refuse_text(frame, time)
    when, _ = _ranks(frame, time)
    refuse_missing(when, time, "drop the row, or fill the time")
    order = np.lexsort((when, which))
    which, when = which[order], when[order]
    twice = (which[1:] == which[:-1]) & (when[1:] == when[:-1])
    if twice.any():
        at = int(np.argmax(twice))
        stamp = _values(frame, time)[order[at]]
        raise ValueError(
            f"the series {ids[which[at]]!r} has more than one row of {time} = {stamp}, rows {order[at]} and "
            f"{order[at + 1]}: keep one of them, or join them, such as by the mean of each {series!r} and {time!r}"
        )
    offsets = np.searchsorted(which, np.arange(len(ids) + 1))
    if isinstance(wanted, str):
        return Ragged(_steps(frame, wanted)[order], offsets), ids
    numbers = [_numbers(frame, name) for name in wanted]
    return Ragged(np.stack(numbers, axis=1)[order], offsets, columns=[str(name) for name in wanted]), ids


def _wanted(
    frame: Any, names: list[Any], series: str, time: str, channels: Sequence[str] | str | None
) -> list[str] | str:
    """The columns of channels, or the one of them."""
    wanted: list[str] | str
    if channels is None:
        wanted = [name for name in names if name not in (series, time)]
        if not wanted:
            raise ValueError(
                f"frame has no other columns than series={series!r} and time={time!r}: add a channel"
            )
    else:
        wanted = channels if isinstance(channels, str) else list(channels)
        if not wanted:
            raise ValueError("channels is empty: name at least one column")
    asked = {"series": [series], "time": [time], "channels": [wanted] if isinstance(wanted, str) else wanted}
    for argument, columns in asked.items():
        for name in columns:
            if names.count(name) != 1:
                where = "more than one column" if name in names else "no column"
                raise ValueError(
                    f"{argument}: frame has {where} {name!r}; its columns are {names}{_index_hint(frame, name)}"
                )
    if series == time:
        raise ValueError(f"series and time are both {series!r}: name two columns")
    given = asked["channels"]
    for name in given:
        if name in (series, time):
            raise ValueError(
                f"channels contains {name!r}, the column of ids or times: leave it out, or copy the column"
            )
    if len(set(given)) < len(given):
        raise ValueError(f"channels={given} contains a column twice")
    return wanted


def _is_pandas(frame: Any) -> bool:
    pd = loaded("pandas", "DataFrame")
    return pd is not None and isinstance(frame, pd.DataFrame)


def _index_hint(frame: Any, name: str) -> str:
    named = _is_pandas(frame) and name in frame.index.names
    return f". {name!r} is a level of the index: pass frame.reset_index()" if named else ""


def _ranks(frame: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """For each row the place of its value among the sorted values, -1 if it is missing; and these values."""
    column = frame[name]
    if _is_pandas(frame):
        try:
            codes, values = sys.modules["pandas"].factorize(column, sort=True)
        except TypeError as error:
            raise ValueError(
                f"column {name!r} has values of several types, which have no order ({error})"
            ) from None
        return codes, np.asarray(values)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return column.rank("dense").fill_null(0).to_numpy().astype(
        np.int64
    ) - 1, column.drop_nulls().unique().sort().to_numpy()


def refuse_missing(ranks: np.ndarray, name: str, remedy: str) -> None:
    """Raise if a value of a column is missing, which has a negative rank."""
    if (ranks < 0).any():
        raise ValueError(
            f"column {name!r} is missing in row {int(np.argmax(ranks < 0))} (NaN, NaT or null): {remedy}"
        )


def _refuse_text(frame: Any, name: str) -> None:
    values = _values(frame, name)
    text = values.dtype.kind in "UST" or (values.dtype == object and any(isinstance(v, str) for v in values))
    if text:
        to_time = (
            f"pandas.to_datetime(frame[{name!r}])"
            if _is_pandas(frame)
            else f"frame[{name!r}].str.to_datetime()"
        )
        raise ValueError(
            f"column {name!r} of times holds text, such as {values[0]!r}, which is sorted by its letters: convert "
            f"it, {to_time}"
        )


def _values(frame: Any, name: str) -> np.ndarray:
    return np.asarray(frame[name].to_numpy())


def _steps(frame: Any, name: str) -> np.ndarray:
    """A single column: numbers as they are, and text, which must be complete."""
    if _is_numeric(frame, name):
        return _numbers(frame, name)
    refuse_missing(_ranks(frame, name)[0], name, "fill the value, or drop the row")
    values = _values(frame, name)
    text = values.dtype == object and all(isinstance(value, str) for value in values)
    return values.astype(str) if text else values


def _is_numeric(frame: Any, name: str) -> bool:
    kind = frame[name].dtype
    if _is_pandas(frame):
        types = sys.modules["pandas"].api.types
        return bool(types.is_numeric_dtype(kind)) and not types.is_complex_dtype(kind)
    return bool(kind.is_numeric() or kind == sys.modules["polars"].Boolean)


def _numbers(frame: Any, name: str) -> np.ndarray:
    """A column as numbers; missing ones are NaN."""
    column = frame[name]
    if _is_numeric(frame, name):
        if _is_pandas(frame):
            return np.asarray(
                column.to_numpy(np.float64, na_value=np.nan) if column.hasnans else column.to_numpy()
            )
        exact = column.null_count() == 0 and not column.dtype.is_decimal()
        return np.asarray((column if exact else column.cast(sys.modules["polars"].Float64)).to_numpy())
    values = _values(frame, name)
    try:
        # Objects may be numbers; text and times that look like numbers are none.
        if values.dtype != object or any(isinstance(value, str) for value in values):
            raise TypeError
        return values.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"column {name!r} holds {column.dtype}, such as {values[0]!r}, no numbers: leave it out of channels, or "
            "encode it"
        ) from None

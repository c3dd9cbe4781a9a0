"""Readers of files with many sequences: ``.ts`` and ``.arff`` of the archives, long tables as CSV and parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn.extras import extra
from fastrnn.sequences import Ragged, from_long_frame

__all__ = ["LongTable", "read_arff", "read_long", "read_ts"]

_Path = str | os.PathLike[str]


def _existing(path: _Path) -> Path:
    found = Path(path).expanduser()
    if not found.is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    return found


# ------------------------------------------------------------------------------- .ts


def _head(file: TextIO, path: _Path) -> tuple[dict[str, str], int]:
    """The words of the head with what follows them, and the number of the line ``@data``."""
    head: dict[str, str] = {}
    for number, line in enumerate(file, start=1):
        word, _, rest = line.strip().partition(" ")
        if word.lower() == "@data":
            return head, number
        if word.startswith("@"):
            head[word.lower()] = rest.strip().lower()
    raise ValueError(f"{os.fspath(path)} has no @data line; is it a .ts file?")


def read_ts(path: _Path, dtype: DTypeLike = np.float32) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    r"""Read a ``.ts`` file of the archives of time series classification and regression.

    The sequences may have any lengths; ``?`` is a missing value and becomes NaN.

    Parameters
    ----------
    path : path
        The file. After a head of lines that start with ``#`` or ``@``, each line is one case: its channels,
        separated by ``:``, and its label (``@classLabel true ...``) or number (``@targetLabel true``).
    dtype : dtype
        Type of the values.

    Returns
    -------
    X : list of ndarray of shape (n_timesteps_i, n_channels)
    y : ndarray
        Labels as text, or targets as float64.

    Raises
    ------
    ValueError
        If the file has no ``@data``, has time stamps, has neither labels nor targets, or a line does not fit its
        head. The message names the line.

    References
    ----------
    Middlehurst, M., Schaefer, P. and Bagnall, A. (2024). Bake off redux: a review and experimental evaluation of
    recent time series classification algorithms. Data Mining and Knowledge Discovery 38.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastrnn.datasets import read_ts
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.ts"
    >>> _ = path.write_text("@timestamps false\n@targetlabel true\n@data\n1,2,3:4,5,6:0.5\n7,8:9,?:1.5\n")
    >>> X, y = read_ts(path)
    >>> [x.shape for x in X], y
    ([(3, 2), (2, 2)], array([0.5, 1.5]))
    """
    X: list[NDArray[Any]] = []
    y: list[str] = []
    with open(_existing(path), encoding="utf-8") as file:
        head, first = _head(file, path)
        numbers = head.get("@targetlabel", "").startswith("true")
        if head.get("@timestamps") == "true":
            raise ValueError(
                f"{os.fspath(path)} has time stamps (@timestamps true), which read_ts cannot read"
            )
        if not numbers and not head.get("@classlabel", "").startswith("true"):
            raise ValueError(
                f"{os.fspath(path)} has no class labels and no targets (@classlabel or @targetlabel true), "
                "which read_ts needs"
            )
        for number, line in enumerate(file, start=first + 1):
            if not line.strip() or line.startswith("#"):
                continue
            where = f"{os.fspath(path)}, line {number}"
            *channels, label = line.strip().split(":")
            if not channels:
                raise ValueError(f"{where}: a case has channels and a label, separated by ':'")
            X.append(_case(channels, dtype, where))
            y.append(label.strip())
            if numbers:
                _number(label, where)
    return X, np.array(y, dtype=np.float64 if numbers else str)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: the target {text!r} is no number") from None


def _case(channels: Sequence[str], dtype: DTypeLike, where: str) -> NDArray[Any]:
    try:
        steps = [
            np.array([value.replace("?", "nan") for value in c.split(",")], dtype=dtype) for c in channels
        ]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if len({len(s) for s in steps}) != 1:
        raise ValueError(
            f"{where}: the channels have {[len(s) for s in steps]} steps, they must have the same number"
        )
    return np.stack(steps, axis=1)


# ------------------------------------------------------------------------------- .arff


def read_arff(path: _Path, dtype: DTypeLike = np.float32) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    r"""Read an ``.arff`` file of the UCR/UEA archive.

    Parameters
    ----------
    path : path
        Of one channel: an attribute for each step, and the class last. Of several channels: one relational
        attribute, whose value is quoted text with a line (``\n``) for each channel, and the class.
    dtype : dtype
        Type of the values.

    Returns
    -------
    X : list of ndarray of shape (n_timesteps_i, n_channels)
        Missing steps (``?``) at the end of a sequence are padding and left out; elsewhere they are NaN.
    y : ndarray
        Labels as text; float64 if the last attribute is numeric or real.

    Raises
    ------
    ValueError
        If the file has no ``@data``, or a line does not fit its head. The message names the line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastrnn.datasets import read_arff
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.arff"
    >>> head = "@relation r\n@attribute t0 numeric\n@attribute t1 numeric\n@attribute class {a,b}\n@data\n"
    >>> _ = path.write_text(head + "1,2,a\n3,?,b\n")
    >>> X, y = read_arff(path)
    >>> [x.shape for x in X], y.tolist()
    ([(2, 1), (1, 1)], ['a', 'b'])
    """
    attributes: list[str] = []
    inside = relational = False
    X: list[NDArray[Any]] = []
    y: list[str] = []
    with open(_existing(path), encoding="utf-8") as file:
        lines = enumerate(file, start=1)
        for _, line in lines:
            word = line.strip().lower()
            if word.startswith("@data"):
                break
            if word.startswith("@end"):
                inside = False
            elif word.startswith("@attribute"):
                if not inside:
                    attributes.append(word)
                if word.endswith("relational"):
                    inside = relational = True
        else:
            raise ValueError(f"{os.fspath(path)} has no @data line; is it an .arff file?")
        if len(attributes) < 2:
            raise ValueError(
                f"{os.fspath(path)} has {len(attributes)} attributes; needed are values and a class"
            )
        for number, text in _rows(lines):
            where = f"{os.fspath(path)}, line {number}"
            values, _, label = text.rpartition(",")
            if relational:
                channels = values.strip().strip("'\"").replace("\\n", "\n").split("\n")
            else:
                channels = [values]
                if values.count(",") + 2 != len(attributes):
                    raise ValueError(
                        f"{where}: {values.count(',') + 2} values for {len(attributes)} attributes"
                    )
            X.append(_without_padding(_case(channels, dtype, where)))
            y.append(label.strip().strip("'\""))
    numbers = attributes[-1].split()[-1] in ("numeric", "real", "integer")
    if numbers:
        for label in y:
            _number(label, os.fspath(path))
    return X, np.array(y, dtype=np.float64 if numbers else str)


def _rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        text = line.strip()
        if text and not text.startswith("%"):
            yield number, text


def _without_padding(x: NDArray[Any]) -> NDArray[Any]:
    """Without the steps at the end in which all channels are missing; one step is always left."""
    real = np.flatnonzero(~np.isnan(x).all(axis=1))
    return x[: real[-1] + 1] if len(real) else x[:1]


# ------------------------------------------------------------------------------- long tables


class LongTable(NamedTuple):
    r"""Sequences of a long table, sorted by their names.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastrnn.datasets import read_long
    >>> path = pathlib.Path(tempfile.mkdtemp(), "long.csv")
    >>> _ = path.write_text("unique_id,ds,v\na,1,0.5\na,2,0.6\nb,1,7\n")
    >>> table = read_long(path)
    >>> [x.shape for x in table.X], table.columns
    ([(2, 1), (1, 1)], ('v',))
    """

    X: list[NDArray[Any]]
    """Arrays of shape (n_timesteps_i, n_columns)."""
    y: NDArray[Any] | None
    """(n_sequences,) labels or targets, if there is a column of them."""
    names: NDArray[Any]
    """(n_sequences,) values of the column `id_col`."""
    columns: tuple[str, ...]
    """Names of the columns in `X`."""


def read_long(
    path: _Path,
    *,
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str | None = None,
    columns: Sequence[str] | None = None,
    dtype: DTypeLike = np.float32,
) -> LongTable:
    r"""Read a long table, one row for each time step of each sequence, from a CSV or parquet file.

    Needs polars, of the extra ``frames``.

    Parameters
    ----------
    path : path
        A file that ends in ``.csv``, ``.csv.gz``, ``.parquet`` or ``.pq``.
    id_col, time_col : str
        Columns that say which sequence a row belongs to, and its order in it.
    target_col : str, optional
        Column with the label or target of a sequence, the same in all its rows.
    columns : sequence of str, optional
        Columns to read as values; by default all others.
    dtype : dtype
        Type of the values; missing ones become NaN.

    Returns
    -------
    LongTable

    Raises
    ------
    ValueError
        If a column is missing or holds no numbers, two rows have the same sequence and time, or the rows of a
        sequence have several targets.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastrnn.datasets import read_long
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "long.csv"
    >>> _ = path.write_text("unique_id,ds,load,kind\nb,2,4.0,x\nb,1,3.0,x\na,1,5.0,y\n")
    >>> table = read_long(path, target_col="kind")
    >>> [x.ravel().tolist() for x in table.X], table.y.tolist(), table.names.tolist()
    ([[5.0], [3.0, 4.0]], ['y', 'x'], ['a', 'b'])
    """
    pl = extra("polars", "frames")
    found = _existing(path)
    name = found.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        frame = pl.read_csv(found, try_parse_dates=True)
    elif name.endswith((".parquet", ".pq")):
        frame = pl.read_parquet(found)
    else:
        raise ValueError(f"{os.fspath(path)!r} ends in neither .csv, .csv.gz, .parquet nor .pq")
    given = [id_col, time_col, *([] if target_col is None else [target_col])]
    wanted = [c for c in frame.columns if c not in given] if columns is None else list(columns)
    if not wanted:
        raise ValueError(f"{os.fspath(path)} has no column of values besides {given}")

    def read(channels: list[str] | str) -> tuple[Ragged, NDArray[Any]]:
        try:
            return from_long_frame(frame, series=id_col, time=time_col, channels=channels)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None

    steps, names = read(wanted)
    y = None
    if target_col is not None:
        targets, _ = read(target_col)
        several = [i for i, of_steps in enumerate(targets) if (of_steps != of_steps[0]).any()]
        if several:
            raise ValueError(
                f"sequence {names[several[0]]!r} of {os.fspath(path)} has several values of {target_col!r}: a sequence has "
                "one"
            )
        y = targets.values[targets.offsets[:-1]]
    X = list(steps.with_values(steps.values.astype(dtype)))
    return LongTable(X, y, names, tuple(wanted))

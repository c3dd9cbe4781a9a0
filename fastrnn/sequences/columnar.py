"""Ragged sequences from awkward arrays and from list columns of pyarrow and polars, by their own buffers.

These libraries are not imported here: objects of a library can only come from a process that has imported it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import loaded
from fastrnn.sequences.ragged import Ragged

__all__ = ["read_columnar"]


def read_columnar(X: Any, name: str, *, missing: bool = False) -> Any:
    """Convert an awkward array or a column of lists (pyarrow, polars) to Ragged; return anything else as it is.

    Parameters
    ----------
    X : object
        Converted are awkward arrays of type ``n * var * float`` and ``n * var * n_features * float``, where the features may
        be declared ``var`` or are the fields of records; pyarrow arrays and chunked arrays of lists of numbers, of lists of
        lists, of any of Arrow's list types, and of lists of structs; series of lists of polars; and lists of such items, one
        for each sequence. An awkward array without ``var`` becomes an ndarray.
    name : str
        Name of X in messages.
    missing : bool
        Whether a missing number becomes NaN; otherwise it is an error.

    Returns
    -------
    Ragged, ndarray or object

    Raises
    ------
    ValueError
        If a sequence, a step or, without `missing`, a number is missing; if steps differ in their number of features.
    TypeError
        For steps of a type without numbers, and for tables that hold a list column.
    """
    if isinstance(X, (np.ndarray, Ragged)):
        return X
    first = X[0] if isinstance(X, (list, tuple)) and len(X) else None
    pl = loaded("polars", "Series")
    if pl is not None and isinstance(X, pl.Series) and isinstance(X.dtype, (pl.List, pl.Array)):
        X = X.to_arrow()  # by pyarrow, which polars imports
    ak, pa = loaded("awkward", "Array"), loaded("pyarrow", "ListScalar")
    if ak is not None:
        if isinstance(X, ak.Array):
            return _of_awkward(ak, X, name, missing)
        if isinstance(first, ak.Array) and all(isinstance(item, ak.Array) and item.ndim < 3 for item in X):
            lengths = np.array([len(item) for item in X])
            joined = ak.concatenate(list(X))
            return _laid_out(_awkward_steps(ak, joined, lengths, name, missing), lengths, joined.fields)
    if pa is not None:
        if isinstance(X, (pa.Table, pa.RecordBatch)):
            _refuse_list_columns(pa, X, name)
        elif isinstance(X, (pa.Array, pa.ChunkedArray)):
            return _of_arrow(pa, X, name, missing)
        elif isinstance(first, (pa.Array, pa.ListScalar)) and all(
            isinstance(item, (pa.Array, pa.ListScalar)) and item.type == first.type for item in X
        ):
            items = [item.values if isinstance(item, pa.ListScalar) else item for item in X]
            _refuse_missing(np.array([item is None for item in items]), name)
            lengths = np.array([len(item) for item in items])
            return _arrow_ragged(pa, pa.concat_arrays(items), lengths, name, missing)
    return X


def _laid_out(steps: np.ndarray, lengths: np.ndarray, columns: list[str] | None = None) -> Ragged:
    return Ragged(steps, np.concatenate([[0], np.cumsum(lengths)]), columns=columns or None)


def _of_fields(parts: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The fields of records as features."""
    for field, values in parts.items():
        if values.ndim != 1:
            raise TypeError(
                f"{name} has records whose field {field!r} is no number: pass records of numbers only."
            )
    return np.stack(list(parts.values()), axis=1)


def _place(step: int, lengths: np.ndarray, name: str) -> str:
    """The sequence and the step of a row of all steps, for messages."""
    ends = np.cumsum(lengths)
    i = int(np.searchsorted(ends, step, side="right"))
    return f"{name}[{i}], step {step - int(ends[i] - lengths[i])},"


def _refuse_missing(absent: np.ndarray, name: str) -> None:
    """Raise if a sequence is missing."""
    if absent.any():
        raise ValueError(
            f"{name}[{int(np.argmax(absent))}] is missing (null): leave the sequence out, or pass an empty list for a "
            "sequence without steps."
        )


def _refuse_missing_step(absent: np.ndarray, lengths: np.ndarray, name: str) -> None:
    if absent.any():
        place = _place(int(np.argmax(absent)), lengths, name)
        raise ValueError(f"{place} is missing (null): leave the step out, or give a list of its features.")


def _width(widths: np.ndarray, lengths: np.ndarray, name: str) -> int:
    """The number of features of a step, from those of all steps."""
    if len(widths) == 0:
        return 1
    other = widths != widths[0]
    if other.any():
        at = int(np.argmax(other))
        raise ValueError(
            f"{_place(at, lengths, name)} has {widths[at]} features, but the first step has {widths[0]}: all steps "
            "must have the same number of features."
        )
    return int(widths[0])


def _numbers(
    values: np.ndarray, absent: np.ndarray, lengths: np.ndarray, name: str, missing: bool
) -> np.ndarray:
    """Values in which missing ones become NaN with `missing`, and are an error otherwise."""
    if not absent.any():
        return values
    if missing and values.dtype.kind in "fiub":
        return np.where(absent, np.nan, values.astype(np.result_type(values.dtype, np.float32)))
    place = _place(int(np.argmax(absent.reshape(len(absent), -1).any(axis=1))), lengths, name)
    raise ValueError(
        f"{place} has a missing value (null): fill it first, for example by fastrnn.preprocessing.SequenceImputer, which "
        "reads it as NaN."
    )


# ---- awkward


def _of_awkward(ak: Any, X: Any, name: str, missing: bool) -> Any:
    if X.ndim not in (2, 3):
        return X
    _refuse_missing(_absent(ak, X), name)
    if X.layout.purelist_isregular and not X.fields:
        values = ak.to_numpy(X)
        lengths = np.full(len(values), values.shape[1])
        rows = values.reshape(-1, *values.shape[2:])
        return _masked_numbers(rows, lengths, name, missing).reshape(values.shape)
    lengths = ak.to_numpy(ak.num(X, axis=1))
    steps = _awkward_steps(ak, ak.flatten(X, axis=1), lengths, name, missing)
    return _laid_out(steps, lengths, X.fields)


def _absent(ak: Any, X: Any) -> np.ndarray:
    return np.asarray(ak.is_none(X[X.fields[0]] if X.fields else X))


def _awkward_steps(ak: Any, steps: Any, lengths: np.ndarray, name: str, missing: bool) -> np.ndarray:
    """The steps of all sequences, a row for each."""
    if steps.fields:
        parts = {field: _awkward_steps(ak, steps[field], lengths, name, missing) for field in steps.fields}
        return _of_fields(parts, name)
    try:
        if steps.ndim == 1:
            return _masked_numbers(ak.to_numpy(steps), lengths, name, missing)
        _refuse_missing_step(_absent(ak, steps), lengths, name)
        width = _width(ak.to_numpy(ak.num(steps, axis=1)), lengths, name)
        values = ak.to_numpy(ak.flatten(steps, axis=1)).reshape(len(steps), width)
    except TypeError as error:  # of a union
        raise TypeError(
            f"{name} is an awkward array of steps of type {steps.type.content}: give numbers ({str(error).split('.')[0]})."
        ) from None
    return _masked_numbers(values, lengths, name, missing)


def _masked_numbers(values: np.ndarray, lengths: np.ndarray, name: str, missing: bool) -> np.ndarray:
    return _numbers(np.ma.getdata(values), np.ma.getmaskarray(values), lengths, name, missing)


# ---- pyarrow


def _is_list(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _refuse_list_columns(pa: Any, X: Any, name: str) -> None:
    for field in X.schema:
        if _is_list(pa, field.type):
            raise TypeError(
                f"{name} is a pyarrow {type(X).__name__}, whose column {field.name!r} holds lists: pass the column, "
                f"{name}.column({field.name!r})."
            )


def _of_arrow(pa: Any, X: Any, name: str, missing: bool) -> Any:
    if not _is_list(pa, X.type):
        return X
    column = X.combine_chunks() if isinstance(X, pa.ChunkedArray) else X
    _refuse_missing(_nulls(column), name)
    lengths = _numpy(column.value_lengths()).astype(np.int64)
    return _arrow_ragged(pa, column.flatten(), lengths, name, missing)


def _arrow_ragged(pa: Any, steps: Any, lengths: np.ndarray, name: str, missing: bool) -> Ragged:
    fields = [field.name for field in steps.type] if pa.types.is_struct(steps.type) else None
    return _laid_out(_arrow_steps(pa, steps, lengths, name, missing), lengths, fields)


def _arrow_steps(pa: Any, steps: Any, lengths: np.ndarray, name: str, missing: bool) -> np.ndarray:
    """The steps of all sequences, a row for each."""
    width: int | None = None
    if pa.types.is_struct(steps.type):
        parts = zip(steps.type, steps.flatten(), strict=True)
        columns = {field.name: _arrow_steps(pa, part, lengths, name, missing) for field, part in parts}
        return _of_fields(columns, name)
    if _is_list(pa, steps.type):
        _refuse_missing_step(_nulls(steps), lengths, name)
        width = _width(_numpy(steps.value_lengths()), lengths, name)
        steps = steps.flatten()
    kind = steps.type
    if pa.types.is_nested(kind) or pa.types.is_decimal(kind):
        raise TypeError(f"{name} is a pyarrow column of steps of type {kind}: cast it to lists of numbers.")
    absent, values = _nulls(steps), _numpy(steps) if len(steps) else np.zeros(0)
    if values.dtype.kind == "O" and not absent.any():
        values = values.astype(str)
    if width is not None:
        shape = (-1, width) if width else (int(lengths.sum()), 0)
        values, absent = values.reshape(shape), absent.reshape(shape)
    return _numbers(values, absent, lengths, name, missing)


def _numpy(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _nulls(column: Any) -> np.ndarray:
    return _numpy(column.is_null()) if column.null_count else np.zeros(len(column), bool)

"""What is no collection of sequences, and what columns data frames have: messages name the argument and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from fastrnn.checks import loaded

__all__ = [
    "column_names",
    "frames_of",
    "numbers_of_objects",
    "refuse_item",
    "refuse_other_containers",
    "refuse_other_values",
]


def _refuse_containers(values: Any, name: str, items: str, wanted: str) -> None:
    """Raise for what is no array or list; `items` is what it should hold, `wanted` what to pass instead of a set."""
    kind = type(values).__name__
    if isinstance(values, np.matrix):
        raise TypeError(f"{name} is an np.matrix, which is always two-dimensional: pass np.asarray({name}).")
    if isinstance(values, Set):
        raise TypeError(f"{name} is a {kind}, which has no order: pass {wanted}.")
    if isinstance(values, Mapping):
        raise TypeError(f"{name} is a {kind}: pass its {items}, such as list({name}.values()).")
    if isinstance(values, Iterator):
        raise TypeError(f"{name} is a {kind}, which can be read only once: pass list({name}).")


def refuse_other_values(values: Any, name: str) -> None:
    """Raise for what is no array or list of a value for each sequence or time step."""
    wanted = "a list with a value for each sequence"
    _refuse_containers(values, name, "values as a list", wanted)
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} is {values!r}, a single text: pass {wanted}.")
    if isinstance(values, (list, tuple)) or (
        isinstance(values, np.ndarray) and values.dtype == object and values.ndim
    ):
        for place, value in enumerate(values):
            if value is None:
                raise ValueError(f"{name}[{place}] is None: give a value, or leave this sample out.")


def refuse_other_containers(X: Any, name: str) -> None:
    """Raise for what only looks like an array or a list of sequences."""
    _refuse_containers(X, name, "sequences as a list of arrays", "a list of arrays, one for each sequence")
    if not isinstance(X, Iterable) and not isinstance(X, (np.ndarray, np.generic)):
        if isinstance(X, (int, float, complex)):
            raise ValueError(
                f"{name} is {X!r}, a single number: pass shape (n_samples, n_timesteps, n_features), such as "
                f"np.array([[[{X!r}]]]) for one sequence of one step, or a list of arrays."
            )
        if not has_array(X):
            raise TypeError(
                f"{name} is a {type(X).__name__} object, which is no array: pass an array of shape (n_samples, n_timesteps, "
                "n_features) or a list of arrays."
            )


def has_array(X: Any) -> bool:
    """Whether an object says how it becomes an array."""
    return any(
        "__array__" in vars(cls) or "__array_interface__" in vars(cls) for cls in type(X).__mro__
    ) or isinstance(X, memoryview)


def refuse_item(item: Any, place: str) -> None:
    """Raise for an entry of a list of sequences that is no sequence."""
    if item is None or isinstance(item, (str, bytes, Set, Mapping, Iterator)):
        what = "None" if item is None else f"a {type(item).__name__}"
        raise ValueError(
            f"{place} is {what}, which can't be read as one sequence of numbers: pass an array of shape (n_timesteps, "
            "n_features) or (n_timesteps,)."
        )


def numbers_of_objects(X: np.ndarray, name: str, is_frame: bool = False) -> np.ndarray:
    """The numbers in an object array, float64; `is_frame` says that it was a data frame.

    Raises
    ------
    TypeError, ValueError
        That name the first cell that is no number.
    """
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        for place, value in np.ndenumerate(X):
            try:
                np.asarray(value, np.float64).reshape(())
            except (TypeError, ValueError):
                where = ", ".join(map(str, place))
                if is_frame:
                    raise type(error)(
                        f"{name}[{where}] is {_short(value)}, which is no number. A data frame is a table of one variable "
                        "with a column for each time step; one with a row for each time step of each series is read by "
                        f"fastrnn.from_long_frame(...) ({error})."
                    ) from None
                raise type(error)(
                    f"{name}[{where}] is {_short(value)}, which is no number. Sequences of several variables are an array "
                    "of shape (n_samples, n_timesteps, n_features), or a list of arrays of shape (n_timesteps, n_features); "
                    f"text is converted to integer tokens first ({error})."
                ) from None
        raise


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"


def column_names(item: Any) -> list[Any] | None:
    """Names of the columns of a pandas or polars data frame; None for anything else."""
    for library in ("pandas", "polars"):
        module = loaded(library, "DataFrame")
        if module is not None and isinstance(item, module.DataFrame):
            return list(item.columns)
    return None


def frames_of(X: Any, name: str = "X") -> Any:
    """The first of a list of data frames, whose columns are those of all; None if X is no list of data frames.

    Raises
    ------
    ValueError
        If one of them has other columns, or the same in another order.
    """
    if not isinstance(X, (list, tuple)) and not (
        isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    ):
        return None
    if len(X) == 0:
        return None
    first = column_names(X[0])
    if first is None:
        return None
    for i, item in enumerate(X):
        columns = column_names(item)
        if columns != first:
            found = "no data frame" if columns is None else f"a data frame with columns {columns}"
            raise ValueError(
                f"{name}[{i}] is {found}, but {name}[0] has columns {first}: all sequences must have the same columns "
                f"in the same order, such as [frame[{first}] for frame in {name}]."
            )
    return X[0]

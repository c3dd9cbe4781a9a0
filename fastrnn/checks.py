"""Checks of arguments: each function returns the checked value, or raises an error that names argument and value.

A wrong value and a wrong type are both a ValueError, since many arguments take values of several types.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "as_array",
    "as_shape",
    "choice",
    "flag",
    "integer",
    "is_number",
    "loaded",
    "number",
    "real_array",
    "refuse_masked",
]


def is_number(value: Any) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def loaded(library: str, name: str) -> Any:
    """A library that this process has imported, or None: objects of its classes can't come from anywhere else.

    While another thread imports it, it is in `sys.modules` without its classes; `name` is one that is used.
    """
    module = sys.modules.get(library)
    return module if module is not None and name in vars(module) else None


def _span(low: float | None, high: float | None, above: bool, below: bool) -> str:
    if low is None and high is None:
        return "finite number"
    if high is None:
        if low == 0:
            return "positive number" if above else "non-negative number"
        return f"number above {low}" if above else f"number of at least {low}"
    if low is None:
        return f"number below {high}" if below else f"number of at most {high}"
    if above:
        return f"number above {low} {'and below' if below else 'up to'} {high}"
    return f"number from {low} to {'below ' if below else ''}{high}"


def number(
    value: Any,
    name: str,
    low: float | None = None,
    high: float | None = None,
    *,
    above: bool = False,
    below: bool = False,
    optional: bool = False,
) -> Any:
    """Return `value` as a Python number, or raise if it is not a finite number from `low` to `high`.

    Parameters
    ----------
    value : object
    name : str
        The argument's name, for messages.
    low, high : float, optional
        Bounds; None means no bound.
    above, below : bool
        Whether `low`, or `high`, is excluded.
    optional : bool
        Whether None is accepted.
    """
    if optional and value is None:
        return value
    good = is_number(value) and math.isfinite(value)
    if good and low is not None:
        good = value > low if above else value >= low
    if good and high is not None:
        good = value < high if below else value <= high
    if not good:
        words = _span(low, high, above, below)
        if is_number(value) and not math.isfinite(value) and not words.startswith("finite"):
            words = f"finite, {words}" if words.startswith(("non", "pos")) else f"finite {words}"
        raise ValueError(f"{name}={value!r}: give a {words}{' or None' if optional else ''}")
    # A NumPy scalar is turned into Python's number: as an operand it would make float32 arrays float64.
    return value.item() if isinstance(value, np.generic) else value


def integer(value: Any, name: str, low: int = 1, *, optional: bool = False) -> Any:
    """Return `value` as an int, or raise if it is not an integer of at least `low`; `optional` accepts None too."""
    if optional and value is None:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        kinds = {1: "a positive integer", 0: "a non-negative integer"}
        words = kinds.get(low, f"an integer of at least {low}")
        raise ValueError(f"{name}={value!r}: give {words}{' or None' if optional else ''}")
    return int(value)


def flag(value: Any, name: str) -> bool:
    """Return `value` as a bool, or raise if it is not True, False, 0 or 1.

    Other values are rejected, because Python treats e.g. ``"no"`` as true.
    """
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name}={value!r}: give True or False")


def choice(value: Any, name: str, known: Iterable[Any]) -> Any:
    """Return `value`, or raise if it is not one of `known`."""
    known = list(known)
    if not any(value is k or (type(value) is type(k) and value == k) for k in known):
        *first, last = (repr(k) if isinstance(k, str) else str(k) for k in known)
        raise ValueError(f"{name}={value!r}: give {', '.join(first)} or {last}")
    return value


def as_shape(value: Any, name: str) -> tuple[int | None, ...]:
    """Return `value` as a tuple of sizes, None for an open size, or raise if it is not one."""
    if isinstance(value, (tuple, list)) and all(
        size is None or (isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 0)
        for size in value
    ):
        return tuple(None if size is None else int(size) for size in value)
    raise ValueError(
        f"{name}={value!r}: give a tuple of sizes, None where one is open, such as (None, None, 3)"
    )


def refuse_masked(value: Any, name: str) -> None:
    """Raise if `value` is a NumPy masked array with masked values, because np.asarray would ignore the mask."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        n_masked = np.count_nonzero(np.ma.getmaskarray(value))
        raise ValueError(
            f"{name} is a masked array with {n_masked} masked values, which would be taken for numbers: "
            f"replace them by {name}.filled(...), for whole steps by the value of a Masking layer"
        )


def as_array(value: Any, name: str = "x") -> np.ndarray:
    """Return `value` as an array, or raise if it holds arrays of unequal shapes, or masked values."""
    refuse_masked(value, name)
    try:
        return np.asarray(value)
    except ValueError as error:
        # NumPy's words, and those of an awkward array.
        if "inhomogeneous" not in str(error) and "not regular" not in str(error):
            raise
        raise ValueError(
            f"{name} holds sequences of unequal shapes: pad them and pass a mask of the valid steps, or give a "
            "model fastrnn.sequences.Ragged.from_list(...)"
        ) from None


def real_array(value: Any, dtype: Any = None, name: str = "x") -> np.ndarray:
    """Return `value` as an array of real numbers, converted to `dtype` if it is given, or raise."""
    array = as_array(value, name)
    if array.dtype.kind not in "biuf":
        what = "is None" if value is None else f"has dtype {array.dtype}"
        raise TypeError(f"{name} {what}: give real numbers")
    return array if dtype is None else array.astype(dtype, copy=False)

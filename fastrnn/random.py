"""Sources of random numbers: one seed for everything, or one for each model."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["check_seed", "new_generator", "new_seed", "set_random_seed"]

_global = np.random.SeedSequence()


def set_random_seed(seed: int | None) -> None:
    """Set the global seed, from which all objects made later without a seed get theirs.

    Parameters
    ----------
    seed : int or None
        None takes a seed from the operating system.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.set_random_seed(0)
    """
    global _global
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
        raise ValueError(f"seed={seed!r}: give a non-negative integer or None")
    _global = np.random.SeedSequence(None if seed is None else int(seed))


def check_seed(seed: Any) -> Any:
    """Return `seed`, or raise if it is not a non-negative integer, a list of them, a seed sequence, or None.

    Examples
    --------
    >>> from fastrnn.random import check_seed
    >>> check_seed(3)
    3
    """
    try:
        if isinstance(seed, bool):
            raise TypeError
        if seed is not None and not isinstance(seed, np.random.SeedSequence):
            np.random.SeedSequence(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed={seed!r}: give a non-negative integer or None") from None
    return int(seed) if isinstance(seed, np.integer) else seed


def new_seed(seed: int | np.random.SeedSequence | None = None) -> np.random.SeedSequence:
    """Return a seed sequence made from `seed`; None makes it from the global seed.

    Examples
    --------
    >>> from fastrnn.random import new_seed
    >>> new_seed(7).entropy
    7
    """
    if isinstance(seed, np.random.SeedSequence):
        return seed
    check_seed(seed)
    return _global.spawn(1)[0] if seed is None else np.random.SeedSequence(seed)


def new_generator(seed: int | np.random.SeedSequence | None = None) -> np.random.Generator:
    """Return a generator seeded with `seed`; None seeds it from the global seed.

    Examples
    --------
    >>> from fastrnn.random import new_generator
    >>> int(new_generator(0).integers(1000))
    724
    """
    return np.random.Generator(np.random.SFC64(new_seed(seed)))


def uniform(rng: np.random.Generator, low: float, high: float, shape: Any, dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    drawn = rng.random(shape, dtype=dtype)
    drawn *= dtype.type(high - low)
    drawn += dtype.type(low)
    result: np.ndarray = drawn
    return result


def truncated_normal(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Standard normal numbers, drawn again where they exceed two standard deviations."""
    values = rng.standard_normal(shape)
    outside = np.abs(values) > 2
    while outside.any():
        values[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(values) > 2
    result: np.ndarray = values
    return result

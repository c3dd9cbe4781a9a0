"""Projections applied to weights after each update."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import is_number, number
from fastrnn.registry import Configurable, Registry

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "unit_norm",
]

_EPSILON = 1e-7


class Constraint(Configurable):
    """Base class: a subclass defines ``__call__(w) -> ndarray``, which returns the nearest allowed weights.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.constraints import Constraint
    >>> class AtMostOne(Constraint):
    ...     def __call__(self, w):
    ...         return np.minimum(w, 1)
    >>> AtMostOne()(np.array([0.5, 3.0]))
    array([0.5, 1. ])
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return w


def _axis(value: Any) -> Any:
    """Return `value` as an int or a list of them, or raise if it is neither."""
    several = value if isinstance(value, (list, tuple)) else [value]
    if not several or not all(is_number(a) and float(a).is_integer() for a in several):
        raise ValueError(f"axis={value!r}: give an integer, or a list of integers")
    axes = [int(axis) for axis in several]
    return axes if several is value else axes[0]


def _norms(w: np.ndarray, axis: Any) -> np.ndarray:
    axis = tuple(axis) if isinstance(axis, list) else axis
    result: np.ndarray = np.sqrt(np.square(w).sum(axis=axis, keepdims=True))
    return result


class MaxNorm(Constraint):
    """Scales weights so that their norm along `axis` is at most `max_value` (Srivastava et al., 2014).

    ``w * clip(norm(w), 0, max_value) / norm(w)``

    Parameters
    ----------
    max_value : float
    axis : int or list of int

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import constraints
    >>> constraints.MaxNorm(1.0)(np.array([[3.0], [4.0]])).round(3).tolist()
    [[0.6], [0.8]]
    """

    _config_names = ("max_value", "axis")

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value, self.axis = number(max_value, "max_value", 0), _axis(axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = _norms(w, self.axis)
        result: np.ndarray = w * (np.clip(norms, 0, self.max_value) / (_EPSILON + norms))
        return result


class NonNeg(Constraint):
    """Sets negative weights to zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import constraints
    >>> constraints.NonNeg()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.maximum(w, 0)
        return result


class UnitNorm(Constraint):
    """Scales weights so that their norm along `axis` is 1: ``w / norm(w)``.

    Parameters
    ----------
    axis : int or list of int

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import constraints
    >>> constraints.UnitNorm()(np.array([[3.0], [4.0]])).round(3).tolist()
    [[0.6], [0.8]]
    """

    _config_names = ("axis",)

    def __init__(self, axis: Any = 0) -> None:
        self.axis = _axis(axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return w / (_EPSILON + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Scales weights so that their norm along `axis` moves towards the range from `min_value` to `max_value`.

    The new norm is ``rate * clip(norm(w), min_value, max_value) + (1 - rate) * norm(w)``.

    Parameters
    ----------
    min_value, max_value : float
    rate : float
        Fraction of the distance to the range that one update covers, from 0 to 1.
    axis : int or list of int

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import constraints
    >>> constraints.MinMaxNorm(1.0, 2.0)(np.array([[0.3], [0.4]])).round(3).tolist()
    [[0.6], [0.8]]
    """

    _config_names = ("min_value", "max_value", "rate", "axis")

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        self.min_value = number(min_value, "min_value", 0)
        self.max_value = number(max_value, "max_value", min_value)
        self.rate, self.axis = number(rate, "rate", 0, 1), _axis(axis)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        norms = _norms(w, self.axis)
        desired = self.rate * np.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        result: np.ndarray = w * (desired / (_EPSILON + norms))
        return result


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

_registry = Registry(
    "constraint",
    [MaxNorm, MinMaxNorm, NonNeg, UnitNorm],
    {"nonneg": NonNeg, "maxnorm": MaxNorm, "unitnorm": UnitNorm, "minmaxnorm": MinMaxNorm},
)


def get(identifier: Any, argument: str = "constraint") -> Any:
    """Return the constraint for `identifier`: a name, a config, or a callable.

    Examples
    --------
    >>> from fastrnn import constraints
    >>> type(constraints.get("non_neg")).__name__
    'NonNeg'
    """
    return _registry.get(identifier, argument)

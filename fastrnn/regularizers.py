"""Penalties on weights and outputs, each with its gradient.

A regularizer ``r`` computes the penalty ``r(x)`` and its derivative ``r.gradient(x)``. An object of your own needs both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import choice, number
from fastrnn.registry import Configurable, Registry

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
]


class Regularizer(Configurable):
    """Base class: a subclass defines ``__call__(x) -> float`` and ``gradient(x) -> ndarray`` of the shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.regularizers import Regularizer
    >>> class Squares(Regularizer):
    ...     def __call__(self, x):
    ...         return float((x**2).sum())
    ...
    ...     def gradient(self, x):
    ...         return 2 * x
    >>> Squares()(np.array([1.0, 2.0]))
    5.0
    """

    def __call__(self, x: np.ndarray) -> float:
        raise NotImplementedError

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative of the penalty with respect to `x`, in its shape and dtype."""
        raise NotImplementedError


class L1L2(Regularizer):
    """``l1 * sum(|x|) + l2 * sum(x**2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import regularizers
    >>> float(np.round(regularizers.L1L2(0.1, 0.1)(np.array([1.0, -2.0])), 3))
    0.8
    """

    _config_names: tuple[str, ...] = ("l1", "l2")

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = float(number(0.0 if l1 is None else l1, "l1", 0))
        self.l2 = float(number(0.0 if l2 is None else l2, "l2", 0))

    def __call__(self, x: np.ndarray) -> float:
        penalty = 0.0
        if self.l1:
            penalty += self.l1 * float(np.abs(x).sum())
        if self.l2:
            penalty += self.l2 * float(np.square(x).sum())
        return penalty

    def gradient(self, x: np.ndarray) -> np.ndarray:
        result = (2 * self.l2) * x
        if self.l1:
            result += self.l1 * np.sign(x)
        return result


class L1(L1L2):
    """``l1 * sum(|x|)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import regularizers
    >>> round(float(regularizers.L1(0.1)(np.array([1.0, -2.0]))), 3)
    0.3
    """

    _config_names = ("l1",)

    def __init__(self, l1: float | None = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)


class L2(L1L2):
    """``l2 * sum(x**2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import regularizers
    >>> round(float(regularizers.L2(0.1)(np.array([1.0, -2.0]))), 3)
    0.5
    """

    _config_names = ("l2",)

    def __init__(self, l2: float | None = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Return an :class:`L1L2`; here both factors are 0.01 by default.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import regularizers
    >>> round(float(regularizers.l1_l2(0.1, 0.1)(np.array([1.0, -2.0]))), 3)
    0.8
    """
    return L1L2(l1, l2)


class OrthogonalRegularizer(Regularizer):
    """``factor * mean(|cos(w_i, w_j)|)`` over all pairs of different rows, or columns, of a matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import regularizers
    >>> round(float(regularizers.OrthogonalRegularizer(0.1)(np.eye(2))), 6)
    0.0
    """

    _config_names = ("factor", "mode")

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = float(number(factor, "factor", 0))
        self.mode = choice(mode, "mode", ("rows", "columns"))

    def _parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        if x.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer takes a matrix, got shape {x.shape}")
        rows = x if self.mode == "rows" else x.T
        norms = np.sqrt(np.maximum(np.square(rows).sum(1, keepdims=True), 1e-12)).astype(x.dtype)
        unit = rows / norms
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, 0)
        n = len(rows)
        return unit, norms, cosines, self.factor * 0.5 / (n * (n - 1) / 2) if n > 1 else 0.0

    def __call__(self, x: np.ndarray) -> float:
        _, _, cosines, scale = self._parts(x)
        return scale * float(np.abs(cosines).sum())

    def gradient(self, x: np.ndarray) -> np.ndarray:
        unit, norms, cosines, scale = self._parts(x)
        # The sum contains each pair twice, so the derivative with respect to a unit row has a factor of two.
        d_unit = (2 * scale) * (np.sign(cosines) @ unit)
        d_rows = (d_unit - unit * (d_unit * unit).sum(1, keepdims=True)) / norms
        return np.ascontiguousarray(d_rows if self.mode == "rows" else d_rows.T, dtype=x.dtype)


l1, l2, orthogonal_regularizer = L1, L2, OrthogonalRegularizer


def _has_gradient(value: Any) -> bool:
    return callable(value) and hasattr(value, "gradient")


_registry = Registry(
    "regularizer",
    [L1, L2, L1L2, OrthogonalRegularizer],
    {"l1": L1, "l2": L2, "l1l2": L1L2, "l1_l2": L1L2, "orthogonal": OrthogonalRegularizer},
    accepts=_has_gradient,
)


def get(identifier: Any, argument: str = "regularizer") -> Any:
    """Return the regularizer for `identifier`: a name, a config or an object with a gradient.

    The names ``l1``, ``l2`` and ``l1_l2`` give factors of 0.01; ``L1L2`` is the class, whose factors are 0 by default.

    Examples
    --------
    >>> from fastrnn import regularizers
    >>> type(regularizers.get("l2")).__name__
    'L2'
    """
    if isinstance(identifier, str) and identifier == "l1_l2":
        return l1_l2()
    if callable(identifier) and not isinstance(identifier, type) and not _has_gradient(identifier):
        raise TypeError(
            f"{argument}={identifier!r} has no gradient(x) method: training needs the derivative of the penalty; "
            "give an object with __call__(x) and gradient(x)"
        )
    return _registry.get(identifier, argument)

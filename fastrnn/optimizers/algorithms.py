"""The algorithms, with the arithmetic of Keras 3.15.1."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from fastrnn.checks import flag, number
from fastrnn.engine.kernels import update
from fastrnn.engine.recurrence.training import AdamNumbers
from fastrnn.optimizers.base import Optimizer, Setting
from fastrnn.registry import choices
from fastrnn.update_plan import Table

__all__ = ["SGD", "Adagrad", "Adam", "RMSprop"]

_NONE = np.empty(0, np.int64)


def _fraction(value: Any, name: str) -> float:
    return float(number(value, name, 0, 1))


def _not_negative(value: Any, name: str) -> float:
    return float(number(value, name, 0))


class SGD(Optimizer):
    """Gradient descent: ``p -= learning_rate * g``, with optional momentum.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
    momentum : float
        From 0 to 1. ``m = momentum * m - learning_rate * g; p += m``.
    nesterov : bool
        Nesterov's momentum: ``p += momentum * m - learning_rate * g``.
    lazy : bool
        Update only the rows of embedding tables that a batch uses. Weights and moments of the other rows stay as they are,
        which is faster with large tables but not the same: by default the moments of a row shrink and move it
        in every update.
    **kwargs
        As for :class:`Optimizer`.

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> float(optimizers.SGD(learning_rate=0.01, clipnorm=1.0).learning_rate)
    0.01
    """

    _config_names = ("momentum", "nesterov", "lazy")
    momentum: Any = Setting(_fraction)
    nesterov: Any = Setting(flag)
    lazy: Any = Setting(flag, fixed=True)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        lazy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.momentum, self.nesterov, self.lazy = momentum, nesterov, lazy

    @property
    def _slots(self) -> tuple[tuple[str, float], ...]:
        return (("momentum", 0.0),) if self.momentum else ()

    @property
    def _moves_on(self) -> bool:
        return bool(self.momentum) and not self.lazy

    def may_wait(self, table: Table, grads: np.ndarray) -> bool:
        # The schedule may be a function that must not be called twice for an update.
        if not self._moves_on or self._schedule is not None or self._size != grads.size:
            return False
        bound = self._bounds.get(table.start)
        if bound is None:
            m = self._table("momentum", table)
            bound = _largest(m)
        bound = self.momentum * bound + self._rate * _largest(_rows_of(grads, table))
        self._bounds[table.start] = bound
        return bound < _largest_safe_step(grads.dtype)

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        if self.momentum:
            m = self._part("momentum", start, stop)
            update.sgd_momentum(p, g, m, rate, self.momentum, self.nesterov)
        else:
            update.sgd(p, g, rate)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        if self.momentum:
            m = self._table("momentum", table)
            update.sgd_momentum_rows(p, g, m, rows, rate, self.momentum, self.nesterov)
        else:
            update.sgd_rows(p, g, rows, rate)


class RMSprop(Optimizer):
    """Divides the gradient by the root of a running mean of its square (Tieleman & Hinton, 2012).

    ``v = rho * v + (1 - rho) * g**2; p -= learning_rate * g / sqrt(v + epsilon)``

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
    rho : float
        Factor of the running mean, from 0 to 1.
    momentum : float
    epsilon : float
        Added under the root.
    centered : bool
        Subtract the square of the gradient's running mean from `v`.
    lazy : bool
        Update only the rows of embedding tables that a batch uses. Weights and moments of the other rows stay as they are,
        which is faster with large tables but not the same: by default the moments of a row shrink in every update, and
        with momentum move it.
    **kwargs
        As for :class:`Optimizer`.

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> float(optimizers.RMSprop(learning_rate=0.01, clipnorm=1.0).learning_rate)
    0.01
    """

    _config_names = ("rho", "momentum", "epsilon", "centered", "lazy")
    rho: Any = Setting(_fraction)
    momentum: Any = Setting(_fraction)
    epsilon: Any = Setting(_not_negative)
    centered: Any = Setting(flag, fixed=True)
    lazy: Any = Setting(flag, fixed=True)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        lazy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.rho, self.momentum, self.epsilon = rho, momentum, epsilon
        self.centered, self.lazy = centered, lazy

    @property
    def _slots(self) -> tuple[tuple[str, float], ...]:
        wanted = {"velocity": True, "momentum": bool(self.momentum), "average": self.centered}
        return tuple((name, 0.0) for name, is_wanted in wanted.items() if is_wanted)

    @property
    def updates_rows(self) -> bool:
        return super().updates_rows and (self.lazy or not self._moves_on or self.epsilon > 0)

    @property
    def _moves_on(self) -> bool:
        return bool(self.momentum) and not self.lazy

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        v, mean, m = (self._part(name, start, stop) for name in ("velocity", "average", "momentum"))
        update.rmsprop(p, g, v, mean, m, rate, self.rho, self.momentum, self.epsilon)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        if self.lazy:
            last = _NONE
        elif self._moves_on:
            # Without momentum until now: all rows that have moments are updated, and decayed as far as they were not.
            last = self._last.pop(table.start, _NONE)
        else:
            if table.start not in self._last:
                self._last[table.start] = np.full(table.shape[0], self.iterations, np.int64)
            last = self._last[table.start]
        v, mean, m = (self._table(name, table) for name in ("velocity", "average", "momentum"))
        state = update.RMSpropTable(v, mean, m, last)
        update.rmsprop_rows(
            p, g, state, rows, self.iterations + 1, rate, self.rho, self.momentum, self.epsilon
        )

    def _catch_up(self, start: int, stop: int, last: np.ndarray) -> None:
        lag = self.iterations - last
        rows = np.flatnonzero(lag)
        for name in ("velocity", "average"):
            part = self._part(name, start, stop)
            if part.size:
                decay = np.power(self.rho, lag[rows]).astype(part.dtype)
                part.reshape(len(last), -1)[rows] *= decay[:, None]


class Adam(Optimizer):
    """Divides a running mean of the gradient by the root of a running mean of its square (Kingma & Ba, 2015).

    ``m += (g - m) * (1 - beta_1); v += (g**2 - v) * (1 - beta_2)`` and
    ``p -= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)`` at update `t`.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
    beta_1, beta_2 : float
        Factors of the running means, from 0 to 1.
    epsilon : float
    amsgrad : bool
        Divide by the root of the largest `v` so far (Reddi et al., 2018).
    lazy : bool
        Update only the rows of embedding tables that a batch uses. Weights and moments of the other rows stay as they are,
        which is faster with large tables but not the same: by default the moments of a row shrink and move it
        in every update.
        The number of updates `t` counts all of them. TensorFlow Addons calls this LazyAdam, PyTorch SparseAdam.
    **kwargs
        As for :class:`Optimizer`.

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> float(optimizers.Adam(learning_rate=0.01, clipnorm=1.0).learning_rate)
    0.01
    """

    _config_names = ("beta_1", "beta_2", "epsilon", "amsgrad", "lazy")
    beta_1: Any = Setting(_fraction)
    beta_2: Any = Setting(_fraction)
    epsilon: Any = Setting(_not_negative)
    amsgrad: Any = Setting(flag, fixed=True)
    lazy: Any = Setting(flag, fixed=True)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        lazy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.amsgrad, self.lazy = amsgrad, lazy

    @property
    def _slots(self) -> tuple[tuple[str, float], ...]:
        slots = (("momentum", 0.0), ("velocity", 0.0))
        return (*slots, ("velocity_hat", 0.0)) if self.amsgrad else slots

    @property
    def updates_rows(self) -> bool:
        # Without epsilon, a row that never had a gradient is 0 / 0.
        return super().updates_rows and (self.lazy or self.epsilon > 0)

    @property
    def _moves_on(self) -> bool:
        return not self.lazy

    def _begin(self, rate: float) -> None:
        # In the dtype of the parameters, as in Keras: 1 - 0.999**t loses digits in float32.
        kind = self._dtype.type
        step = kind(self.iterations + 1)
        power_1, power_2 = kind(self.beta_1) ** step, kind(self.beta_2) ** step
        self._step_size = float(kind(rate) * np.sqrt(kind(1) - power_2) / (kind(1) - power_1))

    def next_numbers(self, dtype: Any, n_updates: int = 1) -> list[AdamNumbers]:
        """The numbers of the next updates, for kernels that make them themselves."""
        self._dtype = np.dtype(dtype)
        found, iterations = [], self.iterations
        try:
            for self.iterations in range(iterations, iterations + n_updates):
                self._begin(self.learning_rate)
                found.append(
                    AdamNumbers(self._step_size, self.beta_1, self.beta_2, self.epsilon, self.clipnorm or 0.0)
                )
        finally:
            self.iterations = iterations
        return found

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        kernel = update.amsgrad if self.amsgrad else update.adam
        slots = (self._part(name, start, stop) for name in self._state)
        kernel(p, g, *slots, self._step_size, self.beta_1, self.beta_2, self.epsilon)

    def may_wait(self, table: Table, grads: np.ndarray) -> bool:
        # The schedule may be a function that must not be called twice for an update.
        if self.lazy or self._schedule is not None or self.beta_1 == 1 or self._size != grads.size:
            return False
        bound = self._bounds.get(table.start)
        if bound is None:
            m, *squares = (self._table(name, table) for name, _ in self._slots)
            bound = max(_largest(m), *(math.sqrt(np.max(v)) for v in squares))
        bound = self._bounds[table.start] = max(bound, _largest(_rows_of(grads, table)))
        # Means of gradients are at most as large as the largest gradient, means of squares as its square.
        step = self._rate / (1 - self.beta_1) * bound / self.epsilon
        return bound * bound < np.finfo(grads.dtype).max / 4 and step < _largest_safe_step(grads.dtype)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        # The step size is that of the last update, also for rows that are updated later.
        state = update.AdamTable(
            *(self._table(name, table) for name in ("momentum", "velocity", "velocity_hat"))
        )
        update.adam_rows(p, g, state, rows, self._step_size, self.beta_1, self.beta_2, self.epsilon)


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of its squares so far (Duchi et al., 2011).

    ``v += g**2; p -= learning_rate * g / sqrt(v + epsilon)``

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
    initial_accumulator_value : float
        Initial value of the sums.
    epsilon : float
        Added under the root.
    **kwargs
        As for :class:`Optimizer`.

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> float(optimizers.Adagrad(learning_rate=0.01, clipnorm=1.0).learning_rate)
    0.01
    """

    _config_names = ("initial_accumulator_value", "epsilon")
    initial_accumulator_value: Any = Setting(_not_negative, fixed=True)
    epsilon: Any = Setting(_not_negative)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    @property
    def _slots(self) -> tuple[tuple[str, float], ...]:
        return (("accumulator", self.initial_accumulator_value),)

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        update.adagrad(p, g, self._part("accumulator", start, stop), rate, self.epsilon)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        update.adagrad_rows(p, g, self._table("accumulator", table), rows, rate, self.epsilon)


def _rows_of(grads: np.ndarray, table: Table) -> np.ndarray:
    """The rows of a table's gradient that may differ from zero."""
    return grads[table.start : table.stop].reshape(table.shape)[table.rows()]


def _largest(values: np.ndarray) -> float:
    """The largest magnitude, without a copy of the values; 0 of none."""
    return max(float(np.max(values)), -float(np.min(values))) if values.size else 0.0


def _largest_safe_step(dtype: Any) -> float:
    """A quarter of the distance between the largest numbers: such a step makes none of them infinite."""
    limit = np.finfo(dtype)
    return float(limit.max * limit.eps / 8)


def _known(optimizer: Optimizer, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for the base class, or raise an error that names the first unknown one."""
    known = [name for name in inspect.signature(Optimizer.__init__).parameters if name != "self"]
    for key in kwargs:
        if key not in known:
            own = [name for name in inspect.signature(type(optimizer).__init__).parameters if name != "self"]
            names = {*known, *own} - {"kwargs"}
            raise TypeError(
                f"{type(optimizer).__name__}() got an unknown argument {key!r}: {choices(key, names)}"
            )
    return kwargs

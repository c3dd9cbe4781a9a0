"""The algorithms, with the arithmetic of Keras 3.15.1."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from fastrnn.checks import flag, number
from fastrnn.engine.kernels import update
from fastrnn.optimizers.base import Optimizer
from fastrnn.registry import choices

__all__ = ["SGD", "Adagrad", "Adam", "RMSprop"]


class SGD(Optimizer):
    """Gradient descent: ``p -= learning_rate * g``, with optional momentum.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
    momentum : float
        From 0 to 1. ``m = momentum * m - learning_rate * g; p += m``.
    nesterov : bool
        Nesterov's momentum: ``p += momentum * m - learning_rate * g``.
    **kwargs
        As for :class:`Optimizer`.
    """

    _config_names = ("momentum", "nesterov")

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.momentum = _fraction(momentum, "momentum")
        self.nesterov = flag(nesterov, "nesterov")
        if self.momentum:
            self._slots = (("momentum", 0.0),)

    @property
    def lazy(self) -> bool:
        return super().lazy and not self.momentum

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        if self.momentum:
            m = self._part("momentum", start, stop)
            update.sgd_momentum(p, g, m, rate, self.momentum, self.nesterov)
        else:
            update.sgd(p, g, rate)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Any, rate: float) -> None:
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
    **kwargs
        As for :class:`Optimizer`.
    """

    _config_names = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.rho = _fraction(rho, "rho")
        self.momentum = _fraction(momentum, "momentum")
        self.epsilon = float(number(epsilon, "epsilon", 0))
        self.centered = flag(centered, "centered")
        slots = [("velocity", 0.0)]
        if self.momentum:
            slots.append(("momentum", 0.0))
        if self.centered:
            slots.append(("average", 0.0))
        self._slots = tuple(slots)

    @property
    def lazy(self) -> bool:
        return super().lazy and not self.momentum

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        v, mean, m = (self._part(name, start, stop) for name in ("velocity", "average", "momentum"))
        update.rmsprop(p, g, v, mean, m, rate, self.rho, self.momentum, self.epsilon)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Any, rate: float) -> None:
        start, stop, shape, _ = table
        if start not in self._last:
            self._last[start] = np.full(shape[0], self.iterations, np.int64)
        v = self._part("velocity", start, stop).reshape(shape)
        mean = self._part("average", start, stop)
        mean = mean.reshape(shape if mean.size else (0, 0))
        step = self.iterations + 1
        state = update.TableState(v, mean, self._last[start])
        update.rmsprop_rows(p, g, state, rows, step, rate, self.rho, self.epsilon)


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
    **kwargs
        As for :class:`Optimizer`.
    """

    _config_names = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.beta_1 = _fraction(beta_1, "beta_1")
        self.beta_2 = _fraction(beta_2, "beta_2")
        self.epsilon = float(number(epsilon, "epsilon", 0))
        self.amsgrad = flag(amsgrad, "amsgrad")
        slots = (("momentum", 0.0), ("velocity", 0.0))
        self._slots = (*slots, ("velocity_hat", 0.0)) if self.amsgrad else slots

    @property
    def lazy(self) -> bool:
        # After a row's first gradient, the running mean changes the row in every update.
        return False

    def _begin(self, rate: float) -> None:
        # In the dtype of the parameters, as in Keras: 1 - 0.999**t loses digits in float32.
        kind = self._dtype.type
        step = kind(self.iterations + 1)
        power_1, power_2 = kind(self.beta_1) ** step, kind(self.beta_2) ** step
        self._step_size = float(kind(rate) * np.sqrt(kind(1) - power_2) / (kind(1) - power_1))

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        kernel = update.amsgrad if self.amsgrad else update.adam
        slots = (self._part(name, start, stop) for name, _ in self._slots)
        kernel(p, g, *slots, self._step_size, self.beta_1, self.beta_2, self.epsilon)


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
    """

    _config_names = ("initial_accumulator_value", "epsilon")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **_known(self, kwargs))
        self.initial_accumulator_value = float(
            number(initial_accumulator_value, "initial_accumulator_value", 0)
        )
        self.epsilon = float(number(epsilon, "epsilon", 0))
        self._slots = (("accumulator", self.initial_accumulator_value),)

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        update.adagrad(p, g, self._part("accumulator", start, stop), rate, self.epsilon)

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Any, rate: float) -> None:
        total = self._part("accumulator", table.start, table.stop).reshape(table.shape)
        update.adagrad_rows(p, g, total, rows, rate, self.epsilon)


def _fraction(value: Any, name: str) -> float:
    return float(number(value, name, 0, 1))


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

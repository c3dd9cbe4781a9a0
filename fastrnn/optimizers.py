"""Optimizers over a model's flat vectors, with the arithmetic of Keras 3.15.1.

An optimizer holds its state (moments, number of updates) but no reference to parameters, which are passed to each update.
So a model and its optimizer can be copied and pickled.
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import schedules
from fastrnn.checks import flag, is_number, number
from fastrnn.engine.kernels import update
from fastrnn.engine.runtime.memory import aligned
from fastrnn.registry import Configurable, Registry, choices, serialize
from fastrnn.update_plan import Plan, Table, clip_gradients

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "Plan", "RMSprop", "Table", "get"]


class Optimizer(Configurable):
    """Base class of optimizers.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        A schedule or function is called with the number of updates made so far.
    weight_decay : float, optional
        Each update first multiplies all weights by ``1 - weight_decay * learning_rate``.
    clipnorm : float, optional
        Limit of the norm of each weight's gradient.
    clipvalue : float, optional
        Limit of each element of the gradient.
    global_clipnorm : float, optional
        Limit of the norm of all gradients together.
    use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps
        Arguments of Keras; only their defaults are supported.
    name : str, optional
    """

    #: Names of the state vectors, with their initial values.
    _slots: tuple[tuple[str, float], ...] = ()
    #: The schedule or function of the learning rate; None if it is a number.
    _schedule: Any = None
    _base_names = ("learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "name")

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> None:
        for key, value in (
            ("use_ema", use_ema),
            ("ema_overwrite_frequency", ema_overwrite_frequency),
            ("loss_scale_factor", loss_scale_factor),
            ("gradient_accumulation_steps", gradient_accumulation_steps),
        ):
            if value:
                raise NotImplementedError(
                    f"{type(self).__name__}: {key}={value!r} is not supported, leave it out"
                )
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        if sum(value is not None for value in clips.values()) > 1:
            raise ValueError(
                "give only one of clipnorm, clipvalue and global_clipnorm, got "
                + ", ".join(f"{k}={v!r}" for k, v in clips.items() if v is not None)
            )
        self.weight_decay = number(weight_decay, "weight_decay", 0, optional=True)
        self.clipnorm, self.clipvalue, self.global_clipnorm = (
            number(value, key, 0, optional=True) for key, value in clips.items()
        )
        if name is not None and not isinstance(name, str):
            raise ValueError(f"name={name!r}: give a string or None")
        self.name = name or type(self).__name__.lower()
        self.learning_rate = learning_rate
        #: Number of updates made.
        self.iterations = 0
        self._state: dict[str, np.ndarray] = {}
        self._last: dict[int, np.ndarray] = {}
        self._size = -1
        self._model: weakref.ref[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy does not belong to a model.
        return {**self.__dict__, "_model": None}

    def claim(self, model: Any) -> None:
        """Make this the optimizer of `model`, unless another model uses it.

        The state belongs to the weights of one model, so it is reset if the optimizer had another model before.

        Raises
        ------
        ValueError
            If another model was compiled with this object and still uses it.
        """
        other = None if self._model is None else self._model()
        if other is not None and other is not model and other.optimizer is self:
            raise ValueError(
                f"optimizer={self.name!r} is in use by the model {other.name!r}: its moments belong to that model's "
                "weights. Give each model an optimizer of its own, type(optimizer).from_config(optimizer.get_config())"
            )
        if self._model is not None and other is not model:
            self.iterations, self._size, self._state, self._last = 0, -1, {}, {}
        self._model = weakref.ref(model)

    # -- learning rate

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        if self._schedule is None:
            return self._rate
        rate = self._schedule(self.iterations) if self._schedule_takes_step else self._schedule()
        if not is_number(rate) or not 0 <= rate < math.inf:
            raise ValueError(
                f"learning_rate={self._schedule!r} gave {rate!r} for update {self.iterations}: "
                "it must give a finite, non-negative number"
            )
        return float(rate)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, dict):
            value = schedules.get(value, "learning_rate")
        if callable(value):
            takes_step = isinstance(value, schedules.LearningRateSchedule) or _takes_step(value)
            self._schedule = value
            self._schedule_takes_step = takes_step
            return
        if not is_number(value):
            raise ValueError(
                f"learning_rate={value!r}: give a number, a schedule, or a function of the step number"
            )
        number(value, "learning_rate", 0)
        if isinstance(self._schedule, schedules.LearningRateSchedule):
            raise TypeError(
                "the learning rate follows a schedule, so it can't be set; "
                "make the optimizer with a number to set it later"
            )
        self._schedule = None
        self._rate = float(value)

    def get_config(self) -> dict[str, Any]:
        config = {key: getattr(self, key) for key in (*self._base_names, *self._config_names)}
        if self._schedule is not None:
            config["learning_rate"] = serialize(self._schedule)
        return config

    # -- state

    @property
    def lazy(self) -> bool:
        """Whether updating only the rows that have a gradient is exact."""
        return not self.weight_decay

    def build(self, size: int, dtype: Any) -> None:
        """Make the state for a vector of `size` parameters."""
        self._size = size
        self._last = {}
        self._state = {name: aligned(size, dtype) for name, _ in self._slots}
        for name, value in self._slots:
            self._state[name].fill(value)

    def get_state(self, memory: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a copy of the state.

        Parameters
        ----------
        memory : dict, optional
            The result of an earlier call, whose arrays are overwritten if they have the right sizes.
        """
        old = {} if memory is None or memory["size"] != self._size else memory["vectors"]
        for name, vector in self._state.items():
            if name in old:
                np.copyto(old[name], vector)
        return {
            "iterations": self.iterations,
            "size": self._size,
            "vectors": {k: old[k] if k in old else v.copy() for k, v in self._state.items()},
            "last": {k: v.copy() for k, v in self._last.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Set the state to what :meth:`get_state` returned."""
        self.iterations, self._size = state["iterations"], state["size"]
        self._state = {k: aligned(v.shape, v.dtype) for k, v in state["vectors"].items()}
        for name, vector in state["vectors"].items():
            self._state[name][...] = vector
        self._last = {k: v.copy() for k, v in state["last"].items()}

    def _part(self, name: str, start: int, stop: int) -> np.ndarray:
        vector = self._state.get(name)
        if vector is None:
            return _empty[self._dtype]
        return vector if stop - start == vector.size else vector[start:stop]

    def go_on_from(self, other: Optimizer) -> None:
        """Copy the state of `other` if it has the same moments, to continue training with the settings of this object."""
        if type(self) is type(other) and self._slots == other._slots:
            self.iterations, self._size = other.iterations, other._size
            self._state, self._last = other._state, other._last

    # -- updates

    def apply(self, params: np.ndarray, grads: np.ndarray, plan: Plan) -> None:
        """Update `params` in place; clipping changes `grads`."""
        if self._size != params.size:
            self.build(params.size, params.dtype)
        self._dtype = params.dtype
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            clip_gradients(grads, plan, self.clipnorm, self.clipvalue, self.global_clipnorm)
        rate = self.learning_rate
        self._begin(rate)
        for start, stop in plan.runs:
            p, g = params[start:stop], grads[start:stop]
            if self.weight_decay:
                p -= p * p.dtype.type(self.weight_decay * rate)
            self._update(p, g, start, stop, rate)
        for table in plan.tables:
            rows = table.rows()
            p = params[table.start : table.stop].reshape(table.shape)
            g = grads[table.start : table.stop].reshape(table.shape)
            self._update_rows(p, g, rows, table, rate)
        # A frozen table is not updated now, so its rows must not catch up on this update later.
        if len(self._last) > len(plan.tables):
            for start in self._last.keys() - {table.start for table in plan.tables}:
                self._last[start] += 1
        self.iterations += 1

    def _begin(self, rate: float) -> None:
        """Compute the numbers that all slices of one update share."""

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        raise NotImplementedError

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        raise NotImplementedError


_empty = {np.dtype(d): np.empty(0, d) for d in ("float32", "float64")}


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


def _takes_step(function: Callable[..., Any]) -> bool:
    """Whether a function takes the number of updates as its argument, rather than none."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    for arguments in ((0,), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    raise ValueError(f"learning_rate={function!r}: give a function of the step number, or without arguments")


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


_registry = Registry(
    "optimizer",
    [SGD, Adagrad, Adam, RMSprop],
    {"rmsprop": RMSprop},
    accepts=lambda o: isinstance(o, Optimizer),
)


def get(identifier: Any) -> Any:
    """Return the optimizer for `identifier`: a name (not case sensitive), a config or an object."""
    return _registry.get(identifier.lower() if isinstance(identifier, str) else identifier)

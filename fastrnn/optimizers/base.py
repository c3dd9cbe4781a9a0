"""The base class of optimizers: learning rate, state, and which parts of a model's flat vectors are updated.

An optimizer holds its state (moments, number of updates) but no reference to parameters, which are passed to each update.
So a model and its optimizer can be copied and pickled.
"""

from __future__ import annotations

import functools
import inspect
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import schedules
from fastrnn.checks import is_number, number
from fastrnn.engine.runtime.memory import aligned
from fastrnn.registry import Configurable, serialize
from fastrnn.update_plan import Later, Plan, Table, clip_gradients

__all__ = ["Optimizer"]


class Setting:
    """An attribute of an optimizer that is checked whenever it is set, in the constructor and later.

    Parameters
    ----------
    check : function
        Called with value and name; returns the value to keep, or raises.
    fixed : bool
        Whether it decides which moments there are, and so can't be changed once there are any.
    """

    # Without __get__, reading finds the value in the object itself, which takes no longer than for other attributes.

    def __init__(self, check: Callable[[Any, str], Any], fixed: bool = False) -> None:
        self.check, self.fixed = check, fixed

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        value = self.check(value, self.name)
        optimizer._check_setting(self.name, value, self.fixed)
        vars(optimizer)[self.name] = value


def not_negative_or_none(value: Any, name: str) -> float | None:
    return number(value, name, 0, optional=True)


class Optimizer(Configurable):
    """Base class of optimizers.

    Settings may be changed between updates, as attributes, and the next update follows them. Those that decide which moments
    there are (`lazy`, `amsgrad`, `centered`, `initial_accumulator_value`) are fixed from the first update on.

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

    Examples
    --------
    >>> from fastrnn import optimizers
    >>> adam = optimizers.get("adam")
    >>> isinstance(adam, optimizers.Optimizer), float(adam.learning_rate)
    (True, 0.001)
    """

    #: Whether rows of tables that a batch does not use are left as they are, though moments would move them.
    lazy: Any = False
    weight_decay: Any = Setting(not_negative_or_none)
    clipnorm: Any = Setting(not_negative_or_none)
    clipvalue: Any = Setting(not_negative_or_none)
    global_clipnorm: Any = Setting(not_negative_or_none)
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
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        if name is not None and not isinstance(name, str):
            raise ValueError(f"name={name!r}: give a string or None")
        self.name = name or type(self).__name__.lower()
        self.learning_rate = learning_rate
        #: Number of updates made.
        self.iterations = 0
        self._state: dict[str, np.ndarray] = {}
        #: For each table that is updated in rows, by where it begins: the update up to which each row is decayed.
        self._last: dict[int, np.ndarray] = {}
        #: By the same key, which rows have ever had a gradient; made anew from the state where it is missing.
        self._used: dict[int, np.ndarray] = {}
        #: By the same key, a bound of all gradients of a table so far; made anew from the state where it is missing.
        self._bounds: dict[int, float] = {}
        self._size = -1
        self._model: weakref.ref[Any] | None = None

    def _check_setting(self, name: str, value: Any, fixed: bool) -> None:
        """Raise if a setting does not suit the others, or can't be changed any more."""
        kept = vars(self)
        if name in _CLIPS and value is not None:
            clips = {key: value if key == name else kept.get(key) for key in _CLIPS}
            if sum(clip is not None for clip in clips.values()) > 1:
                raise ValueError(
                    "give only one of clipnorm, clipvalue and global_clipnorm, got "
                    + ", ".join(f"{k}={v!r}" for k, v in clips.items() if v is not None)
                )
        both = {"lazy": kept.get("lazy"), "weight_decay": kept.get("weight_decay"), name: value}
        if both["lazy"] and both["weight_decay"]:
            raise ValueError(
                f"lazy=True leaves rows that a batch does not use as they are, but weight_decay={both['weight_decay']} "
                "shrinks all rows in every update: give only one of them"
            )
        if fixed and kept.get("_size", -1) >= 0 and kept["iterations"] and kept[name] != value:
            kind = type(self).__name__
            raise ValueError(
                f"{name}={value!r}: it can't be changed after the first update, because the moments were made for "
                f"{name}={kept[name]!r}. Compile the model with a new optimizer, "
                f"{kind}.from_config({{**optimizer.get_config(), {name!r}: {value!r}}})"
            )

    @property
    def _slots(self) -> tuple[tuple[str, float], ...]:
        """Names of the state vectors, with their initial values."""
        return ()

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
            self.iterations, self._size = 0, -1
            self._state, self._last, self._used, self._bounds = {}, {}, {}, {}
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
    def updates_rows(self) -> bool:
        """Whether tables are updated in some of their rows only: the others would not move."""
        return not self.weight_decay

    @property
    def _moves_on(self) -> bool:
        """Whether a row that has had a gradient moves in every update after that."""
        return False

    def build(self, size: int, dtype: Any) -> None:
        """Make the state for a vector of `size` parameters."""
        self._size = size
        self._last, self._used, self._bounds, self._state = {}, {}, {}, {}
        self._follow_slots(dtype)

    def _follow_slots(self, dtype: Any) -> None:
        """Make the state vectors that the settings need and that are missing; drop those that they don't need."""
        state = {}
        for name, value in self._slots:
            if name in self._state:
                state[name] = self._state[name]
                continue
            state[name] = aligned(self._size, dtype, zeros=not value)
            if value:
                state[name].fill(value)
        self._state = state

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
        self._last, self._used, self._bounds = {k: v.copy() for k, v in state["last"].items()}, {}, {}

    def vectors(self, size: int) -> list[np.ndarray]:
        """The state vectors for `size` parameters, which are updated in place; none before the first update."""
        return list(self._state.values()) if self._size == size else []

    @property
    def decayed(self) -> dict[int, np.ndarray]:
        """For tables, by where they begin: the update up to which each row is decayed. Changed in place by updates."""
        return self._last

    def _part(self, name: str, start: int, stop: int) -> np.ndarray:
        vector = self._state.get(name)
        if vector is None:
            return _empty[self._dtype]
        return vector if stop - start == vector.size else vector[start:stop]

    def go_on_from(self, other: Optimizer) -> None:
        """Copy the state of `other` if it has the same moments, to continue training with the settings of this object."""
        if type(self) is type(other) and self._slots == other._slots:
            self.iterations, self._size = other.iterations, other._size
            self._state, self._last = other._state, {} if self.lazy else other._last
            self._used, self._bounds = {}, {}

    # -- updates

    def apply(self, params: np.ndarray, grads: np.ndarray, plan: Plan, later: Later | None = None) -> None:
        """Update `params` in place; clipping changes `grads`.

        Parameters
        ----------
        params, grads : ndarray
            Flat vectors.
        plan : Plan
        later : Later, optional
            Takes the updates that are to be made later, before the next call. For its tables `may_wait` is True.
        """
        if self._size != params.size:
            self.build(params.size, params.dtype)
        elif len(self._state) != len(self._slots):
            self._follow_slots(params.dtype)
        self._dtype = params.dtype
        if self._last or self._used:
            self._leave_tables(plan)
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            clip_gradients(grads, plan, self.clipnorm, self.clipvalue, self.global_clipnorm)
        rate = self.learning_rate
        self._begin(rate)
        for start, stop in plan.runs:
            p, g = params, grads
            if stop - start < params.size:
                p, g = params[start:stop], grads[start:stop]
            if self.weight_decay:
                p -= p * p.dtype.type(self.weight_decay * rate)
            self._update(p, g, start, stop, rate)
        for table in plan.tables:
            p = params[table.start : table.stop].reshape(table.shape)
            g = grads[table.start : table.stop].reshape(table.shape)
            if later is not None and table.start in later.starts:
                rows = table.rows()
                others = self._ever_used(table, rows).copy()
                others[rows] = False
                moved = np.flatnonzero(others)
                later.updates.append(functools.partial(self._update_rows, p, g, moved, table, rate))
            else:
                rows = self.rows(table)
                self._bounds.pop(table.start, None)
            self._update_rows(p, g, rows, table, rate)
        self.iterations += 1

    def _leave_tables(self, plan: Plan) -> None:
        """Prepare for an update that does not treat all former tables as tables."""
        for start in (self._last.keys() | self._used.keys()).difference(t.start for t in plan.tables):
            stop = dict(plan.variables).get(start)
            if stop is None:
                # A frozen table is not updated now, so its rows must not catch up on this update later.
                if start in self._last:
                    self._last[start] += 1
                continue
            # Updated as a whole from now on, in all rows.
            self._used.pop(start, None)
            if start in self._last:
                self._catch_up(start, stop, self._last.pop(start))

    def _catch_up(self, start: int, stop: int, last: np.ndarray) -> None:
        """Change the state of a table's rows as the updates did that left them out; `last` is as in `decayed`."""

    def rows(self, table: Table) -> np.ndarray:
        """The rows of a table that the next update changes, sorted.

        These are the rows that have a gradient and, where moments move them on, those that ever had one. Moments of the
        others are zero.
        """
        rows = table.rows()
        return np.flatnonzero(self._ever_used(table, rows)) if self._moves_on else rows

    def _ever_used(self, table: Table, rows: np.ndarray) -> np.ndarray:
        """For each row of a table, whether it has ever had a gradient, as `rows` have now."""
        used = self._used.get(table.start)
        if used is None:
            used = np.zeros(table.shape[0], bool)
            for vector in self._state.values():
                used |= vector[table.start : table.stop].reshape(table.shape).any(axis=1)
            self._used[table.start] = used
        used[rows] = True
        return used

    def may_wait(self, table: Table, grads: np.ndarray) -> bool:
        """Whether the rows of a table without a gradient may be updated after the others, because that can't fail.

        It can't if no number becomes infinite, whatever the weights are.
        """
        return False

    def _table(self, name: str, table: Table) -> np.ndarray:
        """The part of a state vector that belongs to a table, in its shape; empty if there is no such vector."""
        part = self._part(name, table.start, table.stop)
        return part.reshape(table.shape if part.size else (0, 0))

    def _begin(self, rate: float) -> None:
        """Compute the numbers that all slices of one update share."""

    def _update(self, p: np.ndarray, g: np.ndarray, start: int, stop: int, rate: float) -> None:
        raise NotImplementedError

    def _update_rows(self, p: np.ndarray, g: np.ndarray, rows: np.ndarray, table: Table, rate: float) -> None:
        raise NotImplementedError


_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
_empty = {np.dtype(d): np.empty(0, d) for d in ("float32", "float64")}


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

"""Learning rates that depend on the number of updates made so far, for an optimizer's ``learning_rate``."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from fastrnn.checks import flag, integer, number
from fastrnn.registry import Configurable, Registry

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "get",
]


class LearningRateSchedule(Configurable):
    """Base class: a subclass defines ``__call__(step) -> float``, the rate of update number `step`, counted from 0.

    Examples
    --------
    >>> from fastrnn.schedules import LearningRateSchedule
    >>> class Halving(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5**step
    >>> Halving()(2)
    0.025
    """

    def __call__(self, step: int) -> float:
        raise NotImplementedError


def _progress(step: float, decay_steps: float, staircase: bool) -> float:
    part = step / decay_steps
    return math.floor(part) if staircase else part


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate**(step / decay_steps)``; with `staircase` the exponent is rounded down.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.05, 0.0268]
    """

    _config_names = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = number(initial_learning_rate, "initial_learning_rate", 0)
        self.decay_steps = number(decay_steps, "decay_steps", 0, above=True)
        # A negative rate would give negative, or even complex, learning rates.
        self.decay_rate = number(decay_rate, "decay_rate", 0)
        self.staircase, self.name = flag(staircase, "staircase"), name

    def __call__(self, step: int) -> float:
        power = _progress(step, self.decay_steps, self.staircase)
        result: float = self.initial_learning_rate * self.decay_rate**power
        return result


class InverseTimeDecay(ExponentialDecay):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.InverseTimeDecay(0.1, decay_steps=10, decay_rate=1.0)
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.05, 0.0345]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: int) -> float:
        part = _progress(step, self.decay_steps, self.staircase)
        result: float = self.initial_learning_rate / (1 + self.decay_rate * part)
        return result


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and including step ``boundaries[i]``, the last value after all of them.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.1, 0.01]
    """

    _config_names = ("boundaries", "values", "name")

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        for key, given in (("boundaries", boundaries), ("values", values)):
            if not isinstance(given, (list, tuple)):
                raise ValueError(f"{key}={given!r}: give a list of numbers")
        boundaries = [number(value, f"boundaries[{k}]") for k, value in enumerate(boundaries)]
        values = [number(value, f"values[{k}]", 0) for k, value in enumerate(values)]
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"values={values!r}: give one more value than boundaries ({len(boundaries)}), got {len(values)}"
            )
        if boundaries != sorted(boundaries):
            raise ValueError(f"boundaries={boundaries!r}: give them in ascending order")
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect_left(self.boundaries, step)]


class PolynomialDecay(LearningRateSchedule):
    """``(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps)**power + end_learning_rate``.

    After `decay_steps` the rate stays at `end_learning_rate`. With `cycle`, `decay_steps` is replaced by its smallest
    multiple that is at least `step`.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.PolynomialDecay(0.1, decay_steps=20, end_learning_rate=0.0)
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.05, 0.005]
    """

    _config_names = (
        "initial_learning_rate",
        "decay_steps",
        "end_learning_rate",
        "power",
        "cycle",
        "name",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = number(initial_learning_rate, "initial_learning_rate", 0)
        self.decay_steps = number(decay_steps, "decay_steps", 0, above=True)
        self.end_learning_rate = number(end_learning_rate, "end_learning_rate", 0)
        self.power, self.cycle, self.name = number(power, "power", 0), flag(cycle, "cycle"), name

    def __call__(self, step: int) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(1, math.ceil(step / steps))
        part = min(step / steps, 1.0)
        span = self.initial_learning_rate - self.end_learning_rate
        result: float = span * (1 - part) ** self.power + self.end_learning_rate
        return result


class CosineDecay(LearningRateSchedule):
    """``initial_learning_rate * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)``.

    The rate is constant after `decay_steps`.

    With `warmup_target`, the rate first rises linearly from `initial_learning_rate` to `warmup_target`, within
    `warmup_steps`, and the cosine starts from `warmup_target`.

    References
    ----------
    Loshchilov & Hutter (2017), SGDR: stochastic gradient descent with warm restarts, ICLR.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.CosineDecay(0.1, decay_steps=20)
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.05, 0.0006]
    """

    _config_names = (
        "initial_learning_rate",
        "decay_steps",
        "alpha",
        "name",
        "warmup_target",
        "warmup_steps",
    )

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = number(initial_learning_rate, "initial_learning_rate", 0)
        self.decay_steps = number(decay_steps, "decay_steps", 0, above=True)
        self.alpha, self.name = number(alpha, "alpha", 0), name
        self.warmup_target = number(warmup_target, "warmup_target", 0, optional=True)
        self.warmup_steps = integer(warmup_steps, "warmup_steps", 0)
        if warmup_steps and warmup_target is None:
            raise ValueError(
                f"warmup_steps={warmup_steps!r} needs warmup_target, the rate that the warm-up ends with"
            )

    def __call__(self, step: int) -> float:
        start = self.initial_learning_rate
        if self.warmup_target is not None:
            if step <= self.warmup_steps:
                result: float = start + (self.warmup_target - start) * (step / max(self.warmup_steps, 1))
                return result
            start, step = self.warmup_target, step - self.warmup_steps
        part = min(step / self.decay_steps, 1.0)
        result = start * ((1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * part)) + self.alpha)
        return result


class CosineDecayRestarts(LearningRateSchedule):
    """A sequence of cosine decays, each `t_mul` times as long as the previous one, with `m_mul` times its initial rate.

    Examples
    --------
    >>> from fastrnn import schedules
    >>> rate = schedules.CosineDecayRestarts(0.1, first_decay_steps=20)
    >>> [round(float(rate(step)), 4) for step in (0, 10, 19)]
    [0.1, 0.05, 0.0006]
    """

    _config_names = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha", "name")

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate = number(initial_learning_rate, "initial_learning_rate", 0)
        self.first_decay_steps = number(first_decay_steps, "first_decay_steps", 0, above=True)
        # With t_mul below 1, the decays would shrink to zero steps.
        self.t_mul, self.m_mul = number(t_mul, "t_mul", 1), number(m_mul, "m_mul", 0)
        self.alpha, self.name = number(alpha, "alpha", 0), name

    def __call__(self, step: int) -> float:
        part, restarts = step / self.first_decay_steps, 0.0
        if self.t_mul == 1:
            restarts = math.floor(part)
            part -= restarts
        else:
            restarts = math.floor(math.log(1 - part * (1 - self.t_mul)) / math.log(self.t_mul))
            part = (part - (1 - self.t_mul**restarts) / (1 - self.t_mul)) / self.t_mul**restarts
        cosine = 0.5 * self.m_mul**restarts * (1 + math.cos(math.pi * part))
        result: float = self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)
        return result


_registry = Registry(
    "learning-rate schedule",
    [
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
    ],
)
get = _registry.get

"""The decorator `equations`, which makes a NamedTuple class for the engine's kernels from a Python function."""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from fastrnn.checks import number
from fastrnn.engine.equations.derive import Derived, derive
from fastrnn.engine.equations.functions import FUNCTIONS
from fastrnn.engine.equations.loops import Schedule, backward_text, forward_text
from fastrnn.engine.equations.operations import KERNEL_NAMES
from fastrnn.engine.equations.schedules import Schedules, schedules
from fastrnn.engine.equations.trace import GIVEN, Definition, trace
from fastrnn.engine.equations.unit_loop import for_each_unit, suits_registers
from fastrnn.engine.kernels.activations import ACTIVATIONS, ROWWISE, name_of, resolve
from fastrnn.engine.kernels.vecmath import activate_backward_row, activate_row
from fastrnn.engine.numba_private.services import PLAIN
from fastrnn.engine.recurrence.contract import (
    Traits,
    UnrollableCell,
    step_backward,
    step_forward,
    unit_range,
)
from fastrnn.engine.runtime import jit, views
from fastrnn.registry import choices

__all__ = ["EquationsCell", "equations"]

#: functools.cache with classes as keys, which type checkers consider unhashable.
_cached: Any = functools.cache

_TEXTS = {"step_forward": "forward", "step_backward": "backward"}


class EquationsCell(UnrollableCell):
    """Base class of all classes that :func:`equations` makes.

    Attributes
    ----------
    definition : Definition
        The user's definition; ``definition.step`` is the function.
    choice : dict of str to str or None
        The name of each activation by parameter; None if the tuple has a field with the activation's code.
    activation_fields : tuple of str
        Names of these fields.

    Examples
    --------
    >>> from fastrnn.cells import EquationsCell, equations, tanh
    >>> @equations("g")
    ... def Plain(z, prev, p):
    ...     return tanh(z.g)
    >>> issubclass(Plain, EquationsCell), Plain.definition.gates
    (True, ('g',))
    """

    __slots__ = ()
    definition: Definition
    choice: dict[str, str | None]
    activation_fields: tuple[str, ...]
    base: Any

    def traits(self) -> Traits:
        """The parts of the cell."""
        return _traits(type(self))

    @classmethod
    def step(cls, *args: Any, **kwargs: Any) -> Any:
        """The user's function; with NumPy arrays it computes one time step for all units."""
        return cls.definition.step(*args, **kwargs)

    @classmethod
    def variant(cls, choice: Mapping[str, str | None]) -> Any:
        """The class for other activations.

        Parameters
        ----------
        choice : mapping of str to str or None
            Names of activations by parameter. None makes it a field of the tuple with the activation's code: one class is
            then used for all activations, which are computed row by row.
        """
        return _variant(cls.base, tuple(choice.items()))

    def unrolled(self) -> Any:
        """The same cell, of a class that holds the number of units: loops over them have a constant number of turns."""
        values: Any = self
        return _unrolled(type(self.looped()), values.n_units)(*values)

    def looped(self) -> Any:
        """The same cell, of the class that serves any number of units."""
        values: Any = self
        return self if self.units is None else self.base.variant(self.choice)(*values)

    @classmethod
    def computes_product(cls, bits: int) -> bool:
        """Whether the body of a step forward computes the recurrent product of float32 or float64 (`bits`) too."""
        if PLAIN or cls.units is None or None in cls.choice.values():
            return False
        traits = _traits(cls)
        return traits.recurrent and not traits.late and suits_registers(cls.units, traits.n_gates, bits)

    @classmethod
    def using(cls, **names: str) -> Any:
        """The class with these activations compiled into its loops.

        Parameters
        ----------
        **names : str
            Keras's names of activations, by parameter of the step; other parameters keep their defaults.
        """
        usual = cls.definition.activations
        for parameter, name in names.items():
            if parameter not in usual:
                raise TypeError(
                    f"{parameter}={name!r} is not an activation of {cls.__name__}: {choices(parameter, usual)}"
                )
            if resolve(name) in ROWWISE:
                raise ValueError(
                    f"{parameter}={name!r} mixes the units of a row: give it to {cls.__name__}.with_activations"
                )
        chosen = {p: name_of(resolve(names.get(p, usual[p]))) for p in usual}
        return cls.base if chosen == usual else cls.variant(chosen)

    @classmethod
    def with_activations(cls, n_units: int, activations: Mapping[str, Any], **numbers: float) -> Any:
        """A cell with any activations, of the class with the default activations or of the class for all activations.

        Parameters
        ----------
        n_units : int
        activations : mapping of str to str, int or None
            By parameter of the step, as :func:`fastrnn.engine.kernels.activations.resolve` takes them.
        **numbers : float
        """
        usual = cls.definition.activations
        codes = {p: resolve(activations.get(p, usual[p])) for p in usual}
        if codes == {p: ACTIVATIONS[name] for p, name in usual.items()}:
            return cls.base(n_units, **numbers)
        return cls.variant(dict.fromkeys(usual))(n_units, **codes, **numbers)

    @classmethod
    def generated_body(cls, stub: str, bits: int) -> Callable:
        """The body of `step_forward` or `step_backward` for float32 or float64 (`bits`)."""
        return _bodies(cls, bits)[_TEXTS[stub]]

    @classmethod
    def source_digest(cls) -> str:
        """A digest of all generated sources of the class."""
        return hashlib.sha256("".join(_text(cls, bits) for bits in (32, 64)).encode()).hexdigest()

    @classmethod
    def source(cls, bits: int = 32) -> str:
        """The generated source for float32 or float64 (`bits`)."""
        return _text(cls, bits)

    def __reduce__(self) -> Any:
        values: Any = self
        return _rebuilt, (type(self).base, type(self).choice, tuple(values))


def _rebuilt(base: Any, choice: dict[str, str | None], values: tuple) -> Any:
    cls = base if choice == base.choice else base.variant(choice)
    return cls(*values)


class _With:
    """The class for all activations, whose fields have the activations' codes."""

    def __get__(self, instance: Any, cls: Any) -> Any:
        return cls.variant(dict.fromkeys(cls.definition.activations))


@_cached
def _variant(base: Any, choice: tuple) -> Any:
    chosen = dict(choice)
    if chosen == base.choice:
        return base
    if None in chosen.values():
        suffix, path = "With", "With"
    else:
        suffix = path = "_".join(["", *chosen.values()])
    return _made(
        base.definition, chosen, base.__name__ + suffix, f"{base.__qualname__}.{path}", base.__module__, base
    )


@_cached
def _unrolled(cls: Any, n_units: int) -> Any:
    name = f"{cls.__name__}_{n_units}"
    path = f"{cls.__qualname__}.{n_units}"
    return _made(cls.definition, cls.choice, name, path, cls.__module__, cls.base, n_units)


def _made(
    definition: Definition,
    choice: dict[str, str | None],
    name: str,
    qualname: str,
    module: str,
    base: Any = None,
    units: int | None = None,
) -> Any:
    """The NamedTuple class of a definition for one choice of activations."""
    codes = {p: ACTIVATIONS[definition.activations[p]] for p, kind in choice.items() if kind is None}
    fields = {**codes, **definition.numbers}
    parent = namedtuple(name, ["n_units", *fields], defaults=fields.values(), module=module)  # type: ignore[misc]
    members: dict[str, Any] = {
        "__slots__": (),
        "__module__": module,
        "__qualname__": qualname,
        "__doc__": definition.step.__doc__,
        "definition": definition,
        "choice": choice,
        "activation_fields": tuple(codes),
        "units": units,
    }
    if base is None and definition.activations:
        members["With"] = _With()
    cls: Any = type(name, (EquationsCell, parent), members)
    cls.base = cls if base is None else base
    return cls


@_cached
def _derived(cls: Any) -> Derived:
    return derive(cls.definition, cls.choice)


@_cached
def _traits(cls: Any) -> Traits:
    return _derived(cls).traits


@_cached
def _text(cls: Any, bits: int) -> str:
    derived = _derived(cls)
    return written(derived, schedules(bits, derived.rowwise), cls.units, cls.computes_product(bits))


def written(derived: Derived, chosen: Schedules, units: int | None = None, with_product: bool = False) -> str:
    """The text of both bodies, with loops cut as chosen; for one number of units, if it is given."""
    narrow, wide = chosen.narrow, chosen.wide
    if with_product:
        narrow = wide = Schedule()  # all in one loop, whose values stay in registers
    elif units is not None:
        narrow = wide = wide if units >= chosen.least_wide else narrow
    forward = forward_text(derived, narrow, wide, chosen.least_wide, units, with_product)
    return forward + "\n" + backward_text(derived, chosen.backward, units)


@_cached
def _bodies(cls: Any, bits: int) -> dict[str, Callable]:
    """Both bodies, compiled by Python; they are parts of kernels."""
    return bodies_of(_text(cls, bits), f"equations of {cls.__name__}, float{bits}")


def bodies_of(text: str, label: str) -> dict[str, Callable]:
    """What :func:`written` wrote, compiled by Python."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    # Tracebacks and Numba's messages look lines up by this name.
    file = f"<{label}, {digest}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    scope: dict[str, Any] = {
        **KERNEL_NAMES,
        **{name: getattr(views, name) for name in ("fill", "part", "plane", "segment")},
        "for_each_unit": for_each_unit,
        "unit_range": unit_range,
        "activate_row": activate_row,
        "activate_backward_row": activate_backward_row,
        "__name__": __name__,
    }
    exec(compile(text, file, "exec"), scope)
    for name, value in list(scope.items()):
        if name.startswith(("forward_", "backward_")):
            jit.inlined(value)
    return {name: scope[name] for name in _TEXTS.values()}


def _names(value: Any, argument: str) -> tuple[str, ...]:
    names = tuple(value.split()) if isinstance(value, str) else tuple(value)
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise ValueError(
                f"{argument}={value!r}: {name!r} can't be a name, give words with spaces between them"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{argument}={value!r} has a name twice")
    return names


def equations(
    gates: str,
    states: str = "h",
    *,
    extra: str = "",
    late: str = "",
    recurrent: bool = True,
    start: Mapping[str, float] | None = None,
    layer_defaults: Mapping[str, Any] | None = None,
) -> Callable[[Callable], Any]:
    """Make a cell from the decorated function, which computes one time step of one unit.

    The function is run once on symbols. The engine differentiates the result, chooses the values to keep for the backward
    pass, and generates and compiles the loops. With NumPy arrays the same function computes all units at once.

    Parameters
    ----------
    gates : str
        Names of the columns of ``z = x @ W + h_prev @ U + b``, in the order of the weights' columns.
    states : str
        Names of the states, the output first.
    extra : str
        Names of further parameters, each one number for each unit.
    late : str
        The last gates, if the left operand of their recurrent product is not ``h_prev``: the function calls them,
        ``z.g(r * prev.h)``.
    recurrent : bool
        Whether there is a recurrent product.
    start : mapping of str to float, optional
        Initial values of biases of gates and of further parameters, by name; zero by default.
    layer_defaults : mapping of str to object, optional
        Arguments of the cell's layer whose defaults differ from those of other layers, such as ``trainable``.

    Returns
    -------
    decorator
        Makes a NamedTuple class with the field ``n_units`` and one field for each number.

    Raises
    ------
    EquationError
        If the function can't be traced. The message shows the line and says what to write instead.

    Notes
    -----
    The function's parameters have these meanings:

    - ``z``: pre-activations, ``z.i`` is gate ``i``;
    - ``u``: the recurrent product, with its own bias; if the function has this parameter, ``z`` does not include it;
    - ``prev``: states of the previous step;
    - ``p``: further parameters, those of `extra`;
    - a parameter whose default is a function of :mod:`fastrnn.cells`: an activation, which users can choose;
    - a parameter whose default is a number: a field of the class.

    It returns the new states, in the order of `states`. Branches are written as ``where(condition, a, b)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.cells import equations, sigmoid, tanh
    >>> from fastrnn.layers import RNN
    >>> @equations("f g")
    ... def Minimal(z, prev, activation=tanh, recurrent_activation=sigmoid):
    ...     f = recurrent_activation(z.f)
    ...     return f * prev.h + (1 - f) * activation(z.g)
    >>> RNN(Minimal(8))(np.ones((4, 5, 2))).shape
    (4, 8)
    """
    names = {
        k: _names(v, k) for k, v in (("gates", gates), ("states", states), ("extra", extra), ("late", late))
    }
    for argument in ("gates", "states"):
        if not names[argument]:
            raise ValueError(f"{argument}={locals()[argument]!r}: give at least one name")
    n_late = len(names["late"])
    if n_late and names["gates"][-n_late:] != names["late"]:
        raise ValueError(f"late={late!r}: give the last of gates={gates!r}, in their order")
    if n_late and not recurrent:
        raise ValueError(f"late={late!r} names recurrent products, and there are none with recurrent=False")
    starts = {name: float(number(value, f"start[{name!r}]")) for name, value in (start or {}).items()}
    for name in starts:
        if (name in names["gates"]) == (name in names["extra"]):
            raise ValueError(f"start[{name!r}] must name one gate or one further parameter, and not both")

    def decorate(step: Callable) -> Any:
        if not inspect.isfunction(step):
            raise TypeError(f"equations() decorates a function, got {step!r}")
        activations: dict[str, str] = {}
        numbers: dict[str, float] = {}
        for name, parameter in inspect.signature(step).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(
                    f"{step.__name__}: parameter *{name} has no meaning, name each activation and number"
                )
            if name in GIVEN:
                continue
            default = parameter.default
            known = getattr(default, "__name__", None) if callable(default) else None
            if known in FUNCTIONS and known in ACTIVATIONS:
                activations[name] = known
            elif isinstance(default, (int, float)) and not isinstance(default, bool):
                numbers[name] = float(number(default, name))
            elif default is parameter.empty:
                raise TypeError(
                    f"{step.__name__}: parameter {name!r} is none of {', '.join(GIVEN)}, so it needs a default: a function "
                    "of fastrnn.cells for an activation, or a number"
                )
            else:
                raise TypeError(
                    f"{step.__name__}: parameter {name}={default!r} is neither a function of fastrnn.cells nor a number"
                )
        if "n_units" in numbers or "n_units" in activations:
            raise TypeError(
                f"{step.__name__}: n_units is reserved for the engine, equations are those of one unit"
            )
        definition = Definition(
            step,
            **names,
            recurrent=recurrent,
            activations=activations,
            numbers=numbers,
            start=starts,
            layer_defaults=dict(layer_defaults or {}),
        )
        if definition.split and not recurrent:
            raise ValueError(
                f"{step.__name__} takes u, the recurrent product, and there is none with recurrent=False"
            )
        trace(definition, dict(activations))  # raise errors here and not at the first call
        return _made(definition, dict(activations), step.__name__, step.__qualname__, step.__module__)

    return decorate


assert set(_TEXTS) == {step_forward.__name__, step_backward.__name__}

"""Trace a cell's step by running it once on symbols, to a graph in which equal expressions are one node.

The step is a Python function of the numbers of one unit. Code that can't be traced (a branch on a value, a loop over units,
an unknown function) raises an :class:`~fastrnn.exceptions.EquationError` that shows the line.
"""

from __future__ import annotations

import functools
import inspect
import linecache
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.equations.operations import OPERATIONS, UFUNCS
from fastrnn.exceptions import EquationError
from fastrnn.registry import choices

__all__ = ["Definition", "Graph", "Node", "Traced", "located", "ordered", "parents", "trace"]

#: Folders whose code does not belong to the user.
_FOREIGN = {Path(__file__).parent, Path(np.__file__).parent}

#: Parameters of a step that are not activations or numbers.
GIVEN = ("z", "u", "prev", "p")


class Graph:
    """All expressions of one cell. Equal expressions are the same object, so that nothing is computed twice."""

    def __init__(self) -> None:
        self.nodes: dict[tuple, Node] = {}
        self.zero, self.one = self.constant(0.0), self.constant(1.0)

    def node(self, op: str, *args: Any) -> Node:
        """The expression of this operation on these arguments, without simplification."""
        key = (op, *args)
        if key not in self.nodes:
            self.nodes[key] = Node(self, op, args)
        return self.nodes[key]

    def constant(self, value: Any) -> Node:
        """A node for a number; a node is returned unchanged."""
        if isinstance(value, Node):
            return value
        if isinstance(value, (bool, int, float, np.number, np.bool_)):
            return self.node("const", float(value))
        if isinstance(value, np.ndarray) and value.ndim:
            raise EquationError(
                f"an array of shape {value.shape} is used in the equations, which are those of one unit: declare a "
                "parameter of each unit by extra= and read it from p"
            )
        if isinstance(value, np.ndarray):
            return self.node("const", float(value))
        raise EquationError(f"{value!r} is not a number: use numbers and the arguments of the step")

    def call(self, name: str, *args: Any) -> Node:
        """An operation on nodes and numbers, simplified if possible."""
        nodes = [self.constant(a) for a in args]
        simplified = OPERATIONS[name].simplify(self, *nodes)
        return self.node(name, *nodes) if simplified is None else simplified


def _binary(name: str) -> tuple[Callable, Callable]:
    def left(self: Node, other: Any) -> Any:
        return self.graph.call(name, self, other)

    def right(self: Node, other: Any) -> Any:
        return self.graph.call(name, other, self)

    return left, right


def _refused(message: str) -> Callable:
    def refuse(self: Node, *args: Any) -> Any:
        raise EquationError(message)

    return refuse


_SCALAR = (
    "a number of the equations is passed to a function that is not known here: use functions of fastrnn.cells "
    "(tanh, sigmoid, exp, log, sqrt, maximum, where, ...) or the NumPy functions of these names"
)
_ELEMENT = (
    "the equations are those of one unit, which has no elements: leave out the index or the loop over units"
)
_BRANCH = (
    "a step is traced once for all numbers, so it can't branch on a value: write where(condition, a, b) instead "
    "of if, maximum(a, b) and minimum(a, b) instead of max and min, and & | ~ instead of and, or, not"
)
_PRODUCT = "the engine computes products with matrices: z already contains x @ W + h_prev @ U + b"


class Node:
    """A number of a step: an operation on other nodes, or an argument (an operation without nodes)."""

    __slots__ = ("args", "graph", "op")

    def __init__(self, graph: Graph, op: str, args: tuple) -> None:
        self.graph, self.op, self.args = graph, op, args

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(str, self.args))})"

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        name = UFUNCS.get(ufunc.__name__)
        if ufunc.__name__ == "matmul":
            raise EquationError(_PRODUCT)
        if name is None or method != "__call__" or kwargs:
            raise EquationError(
                f"numpy.{ufunc.__name__} is not known to the equations: {choices(ufunc.__name__, UFUNCS)}"
            )
        return self.graph.call(name, *args)

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        if function is np.where and len(args) == 3:
            return self.graph.call("where", *args)
        if function is np.clip and len(args) == 3 and not kwargs:
            return self.graph.call("minimum", self.graph.call("maximum", args[0], args[1]), args[2])
        raise EquationError(
            f"numpy.{function.__name__} is not known to the equations, which are those of one unit"
        )

    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("sub")
    __mul__, __rmul__ = _binary("mul")
    __truediv__, __rtruediv__ = _binary("div")
    __lt__, _ = _binary("lt")
    __le__, _ = _binary("le")
    __gt__, _ = _binary("gt")
    __ge__, _ = _binary("ge")
    __and__, __rand__ = _binary("and")
    __or__, __ror__ = _binary("or")
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __neg__(self) -> Any:
        return self.graph.call("neg", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.graph.call("abs", self)

    def __invert__(self) -> Any:
        return self.graph.call("not", self)

    def __pow__(self, power: Any) -> Any:
        if power == 0.5:
            return self.graph.call("sqrt", self)
        if not isinstance(power, int) or not 1 <= power <= 8:
            raise EquationError(
                f"power {power!r}: only integer powers from 1 to 8 and 0.5 are known, otherwise use exp and log"
            )
        result = self
        for _ in range(power - 1):
            result = result * self
        return result

    __bool__ = _refused(_BRANCH)
    __float__ = __int__ = __index__ = __complex__ = _refused(_SCALAR)
    __iter__ = __len__ = __getitem__ = __setitem__ = _refused(_ELEMENT)
    __matmul__ = __rmatmul__ = _refused(_PRODUCT)
    __call__ = _refused(
        "a number of the equations is called as a function: only activations, and gates in late=, can be called"
    )


def parents(node: Node) -> list[Node]:
    """The nodes that are arguments of a node."""
    return [a for a in node.args if isinstance(a, Node)]


def ordered(roots: Iterable[Node], known: Any = ()) -> list[Node]:
    """All nodes from which the roots are computed, arguments first; the arguments of `known` nodes are left out."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for a in () if node in known else parents(node):
                visit(a)
            found[node] = None

    for root in roots:
        visit(root)
    return list(found)


class Definition(NamedTuple):
    """The user's definition of a cell.

    Attributes
    ----------
    step : function
        The equations of one time step.
    gates, states, extra, late : tuple of str
        Names of the columns of ``z``, of the states (the output first), of further parameters, and of the gates whose
        recurrent product has a left operand other than ``h_prev``.
    recurrent : bool
        Whether there is a recurrent product.
    activations : dict of str to str
        Parameters of the step that are activations, with their defaults.
    numbers : dict of str to float
        Parameters of the step that are numbers, with their defaults.
    start : dict of str to float
        Initial values of gates' biases and of further parameters that are not zero.
    layer_defaults : dict of str to object
        Arguments of the cell's layer whose defaults differ from those of other layers.
    """

    step: Callable
    gates: tuple[str, ...]
    states: tuple[str, ...]
    extra: tuple[str, ...]
    late: tuple[str, ...]
    recurrent: bool
    activations: dict[str, str]
    numbers: dict[str, float]
    start: dict[str, float]
    layer_defaults: dict[str, Any]

    @property
    def split(self) -> bool:
        """Whether the recurrent product is separate from ``z``."""
        return _has_recurrent_product(self.step)


@functools.cache
def _has_recurrent_product(step: Callable) -> bool:
    """Whether a step takes the recurrent product; cached, because each training step calls this."""
    return "u" in inspect.signature(step).parameters


class Traced(NamedTuple):
    """A step as a graph: its new states, and the left operands of its late products by gate."""

    graph: Graph
    new: list[Node]
    left: dict[str, Node]


class _Names:
    """The arguments ``z``, ``u``, ``prev`` and ``p`` of a step, whose attributes are nodes."""

    def __init__(self, kind: str, what: str, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._kind, self._what, self._names = kind, what, list(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = choices(name, self._names) if self._names else "none is declared"
        raise EquationError(f"{self._kind}.{name}: {name!r} is not declared as {self._what}, {known}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            raise EquationError(f"{self._kind}.{name} is set: a step returns its new states instead")


def trace(definition: Definition, choice: dict[str, str | None]) -> Traced:
    """Run the step on symbols.

    Parameters
    ----------
    definition : Definition
    choice : dict of str to str or None
        The names of activations by parameter; None for an activation whose code is known only when the kernel runs.
    """
    graph = Graph()
    left: dict[str, Node] = {}

    def gate(name: str) -> Any:
        if name not in definition.late:
            return graph.node("z", name)

        def product(operand: Any) -> Node:
            if left.setdefault(name, graph.constant(operand)) is not operand:
                raise EquationError(
                    f"z.{name} is called with two left operands: a gate has one recurrent product"
                )
            return graph.node("z", name)

        return product

    def activation(name: str) -> Callable:
        kind = choice[name]
        if kind is not None:
            return lambda x: graph.call(kind, x)
        return lambda x: graph.node("act", name, graph.constant(x))

    given: dict[str, Any] = {
        "z": _Names("z", "a gate", {g: gate(g) for g in definition.gates}),
        "u": _Names("u", "a gate", {g: graph.node("u", g) for g in definition.gates}),
        "prev": _Names("prev", "a state", {s: graph.node("prev", s) for s in definition.states}),
        "p": _Names(
            "p", "a further parameter (extra=)", {e: graph.node("extra", e) for e in definition.extra}
        ),
    }
    for name in inspect.signature(definition.step).parameters:
        if name in definition.activations:
            given[name] = activation(name)
        elif name not in given:
            given[name] = graph.node("number", name)
    with located(definition.step):
        parameters = inspect.signature(definition.step).parameters
        new = definition.step(**{name: given[name] for name in parameters})
        traced = Traced(graph, _new_states(definition, graph, new), left)
        _check_used(definition, traced)
    return traced


def _new_states(definition: Definition, graph: Graph, new: Any) -> list[Node]:
    states = definition.states
    returned = list(new) if isinstance(new, (tuple, list)) else [new]
    if len(returned) != len(states) or any(value is None for value in returned):
        got = "nothing" if new is None else f"{len(returned)} value{'s' * (len(returned) != 1)}"
        raise EquationError(
            f"the step returns {got}, {len(states)} "
            f"{'states are' if len(states) > 1 else 'state is'} declared: return {', '.join('new ' + s for s in states)}"
        )
    for value in returned:
        if isinstance(value, _Names) or (callable(value) and not isinstance(value, Node)):
            raise EquationError(f"the step returns {value!r}, which is not a number")
    return [graph.constant(value) for value in returned]


def _check_used(definition: Definition, traced: Traced) -> None:
    found = ordered([*traced.new, *traced.left.values()])
    for kind, names, what in (("z", definition.gates, "gate"), ("extra", definition.extra, "parameter")):
        for name in names:
            used = (
                (traced.graph.node(k, name) for k in ("z", "u"))
                if kind == "z"
                else [traced.graph.node(kind, name)]
            )
            if not any(node in found for node in used):
                raise EquationError(
                    f"{what} {name!r} is declared, but the returned states do not depend on it"
                )
    for name in definition.late:
        if name not in traced.left:
            raise EquationError(
                f"gate {name!r} is declared late=: call it with the left operand of its product, z.{name}(...)"
            )
    late = {traced.graph.node("z", name) for name in definition.late}
    if len(set(traced.left.values())) > 1:
        raise EquationError(
            f"late gates {', '.join(definition.late)} have different left operands, but must share one"
        )
    for name, operand in traced.left.items():
        if late & set(ordered([operand])):
            raise EquationError(
                f"the left operand of z.{name} depends on a late gate, but late products are computed together"
            )


class located:
    """Add the line of the user's function to an :class:`EquationError` that is raised in the block."""

    def __init__(self, step: Callable) -> None:
        self.step = step

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or (isinstance(error, EquationError) and error.line is not None):
            return
        frames: Sequence[tuple[str, int]] = _frames(trace)
        code = self.step.__code__
        file, line = frames[-1] if frames else (code.co_filename, code.co_firstlineno)
        shown = linecache.getline(file, line).strip()
        where = f"{Path(file).name}, line {line}, in the equations of {self.step.__name__}"
        if isinstance(error, EquationError):
            message = str(error)
        elif isinstance(error, (TypeError, AttributeError, ValueError)) and frames:
            message = f"{type(error).__name__}: {error}. {_SCALAR}"
        else:
            return
        raise EquationError(f"{where}:\n    {shown}\n{message}", line=line) from (
            None if isinstance(error, EquationError) else error
        )


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    """Files and lines of the user's code in a traceback, outermost first."""
    found = []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _FOREIGN & set(Path(file).parents):
            found.append((file, trace.tb_lineno))
        trace = trace.tb_next
    return found

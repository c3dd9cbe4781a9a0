"""The operations of equations: their simplification, source text in kernels, and derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastrnn.engine.kernels.activations import ACTIVATIONS, SLOPES, VALUES, name_of
from fastrnn.engine.kernels.elementary import exp, expm1, log, log1p, sigmoid, tanh

__all__ = ["COSTLY", "KERNEL_NAMES", "OPERATIONS", "UFUNCS", "Operation"]


class Operation(NamedTuple):
    """One operation of a graph.

    Attributes
    ----------
    text : str
        Format string of the operation in a kernel, with a field for each argument.
    slopes : callable or None
        ``slopes(graph, g, y, *args)`` returns the gradient of each argument, or None for an argument without gradient, from
        the gradient `g` of the result `y`. None if no argument has a gradient.
    simplify : callable
        ``simplify(graph, *args)`` returns an equal simpler node, or None.
    """

    text: str
    slopes: Callable | None
    simplify: Callable


def _keep(graph: Any, *args: Any) -> None:
    return None


def _folded(compute: Callable, rule: Callable = _keep) -> Callable:
    """Simplify by `rule`, and compute expressions of constants."""

    def simplify(graph: Any, *args: Any) -> Any:
        if all(a.op == "const" for a in args):
            return graph.constant(compute(*(a.args[0] for a in args)))
        return rule(graph, *args)

    return simplify


def _add(graph: Any, a: Any, b: Any) -> Any:
    if a is graph.zero:
        return b
    if b is graph.zero:
        return a
    return graph.call("sub", a, b.args[0]) if b.op == "neg" else None


def _sub(graph: Any, a: Any, b: Any) -> Any:
    if b is graph.zero:
        return a
    return graph.call("neg", b) if a is graph.zero else None


def _mul(graph: Any, a: Any, b: Any) -> Any:
    if a is graph.zero or b is graph.zero:
        return graph.zero
    if a is graph.one:
        return b
    return a if b is graph.one else None


def _div(graph: Any, a: Any, b: Any) -> Any:
    if a is graph.zero:
        return graph.zero
    return a if b is graph.one else None


def _neg(graph: Any, a: Any) -> Any:
    return a.args[0] if a.op == "neg" else None


def _where(graph: Any, c: Any, a: Any, b: Any) -> Any:
    if a is b:
        return a
    return (a if c.args[0] else b) if c.op == "const" else None


def _maximum(sign: str) -> Callable:
    """The maximum (or minimum) of two numbers; NaN if one is NaN."""
    opposite = {"gt": "lt", "lt": "gt"}[sign]

    def simplify(graph: Any, a: Any, b: Any) -> Any:
        if a.op == "const":
            a, b = b, a
        if b.op == "const":  # comparisons with NaN are false, so a is returned
            return graph.call("where", graph.call(opposite, a, b), b, a)
        other = graph.call("where", graph.call(opposite, a, b), b, graph.call("add", a, b))
        equal = graph.call("where", graph.call({"gt": "ge", "lt": "le"}[sign], a, b), a, other)
        return equal

    return simplify


def _add_slopes(graph: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, g


def _sub_slopes(graph: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    return g, graph.call("neg", g)


def _mul_slopes(graph: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    return graph.call("mul", g, b), graph.call("mul", g, a)


def _div_slopes(graph: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    d = graph.call("div", g, b)
    return d, graph.call("neg", graph.call("mul", d, y))


def _where_slopes(graph: Any, g: Any, y: Any, c: Any, a: Any, b: Any) -> Any:
    return None, graph.call("where", c, g, graph.zero), graph.call("where", c, graph.zero, g)


def _tanh_slopes(graph: Any, g: Any, y: Any, a: Any) -> Any:
    return (graph.call("mul", g, graph.call("sub", graph.one, graph.call("mul", y, y))),)


def _sigmoid_slopes(graph: Any, g: Any, y: Any, a: Any) -> Any:
    return (graph.call("mul", graph.call("mul", g, y), graph.call("sub", graph.one, y)),)


OPERATIONS: dict[str, Operation] = {
    "add": Operation("({} + {})", _add_slopes, _folded(lambda a, b: a + b, _add)),
    "sub": Operation("({} - {})", _sub_slopes, _folded(lambda a, b: a - b, _sub)),
    "mul": Operation("({} * {})", _mul_slopes, _folded(lambda a, b: a * b, _mul)),
    "div": Operation("({} / {})", _div_slopes, _div),
    "neg": Operation("(-{})", lambda G, g, y, a: (G.call("neg", g),), _folded(lambda a: -a, _neg)),
    "abs": Operation("", None, lambda G, a: G.call("where", G.call("lt", a, G.zero), G.call("neg", a), a)),
    "square": Operation("", None, lambda G, a: G.call("mul", a, a)),
    "maximum": Operation("", None, _maximum("gt")),
    "minimum": Operation("", None, _maximum("lt")),
    "where": Operation("({1} if {0} else {2})", _where_slopes, _where),
    **{
        name: Operation(f"({{}} {sign} {{}})", None, _keep)
        for name, sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("and", "&"), ("or", "|"))
    },
    "not": Operation("(not {})", None, _keep),
    "tanh": Operation("tanh({})", _tanh_slopes, _keep),
    "sigmoid": Operation("sigmoid({})", _sigmoid_slopes, _keep),
    "exp": Operation("exp({})", lambda G, g, y, a: (G.call("mul", g, y),), _keep),
    "expm1": Operation("expm1({})", lambda G, g, y, a: (G.call("mul", g, G.call("add", y, 1)),), _keep),
    "log": Operation("log({})", lambda G, g, y, a: (G.call("div", g, a),), _keep),
    "log1p": Operation("log1p({})", lambda G, g, y, a: (G.call("div", g, G.call("add", a, 1)),), _keep),
    "sqrt": Operation("sqrt({})", lambda G, g, y, a: (G.call("div", G.call("mul", g, 0.5), y),), _keep),
    "linear": Operation("", None, lambda G, a: a),
    "exponential": Operation("", None, lambda G, a: G.call("exp", a)),
}

#: The functions for the names in kernels' source.
KERNEL_NAMES: dict[str, Any] = {f.__name__: f for f in (tanh, sigmoid, exp, expm1, log, log1p)}


def _slopes_of(name: str) -> Callable:
    return lambda G, g, y, a: (G.call("mul", g, G.node("slope_" + name, a, y)),)


def _add_activations() -> None:
    """Add the other elementwise activations, with their derivatives as functions of x and y."""
    import math

    KERNEL_NAMES["sqrt"] = math.sqrt
    for code, (value, slope) in enumerate(zip(VALUES, SLOPES, strict=True)):
        name = name_of(code)
        if name not in OPERATIONS:
            OPERATIONS[name] = Operation(f"value_{name}({{}})", _slopes_of(name), _keep)
            OPERATIONS["slope_" + name] = Operation(f"slope_{name}({{}}, {{}})", None, _keep)
            KERNEL_NAMES["value_" + name], KERNEL_NAMES["slope_" + name] = value, slope


_add_activations()
for _alias in set(ACTIVATIONS) - set(OPERATIONS):
    if ACTIVATIONS[_alias] < len(VALUES):
        OPERATIONS[_alias] = OPERATIONS[name_of(ACTIVATIONS[_alias])]

#: Functions that take much longer than a product, whose values are saved for the backward pass.
COSTLY = {"tanh", "sigmoid", "exp", "expm1", "log", "log1p", "sqrt"} | {
    name for name, operation in OPERATIONS.items() if operation.text.startswith("value_")
}

#: NumPy's functions that equations may use, by NumPy's names.
UFUNCS = {
    **{
        name: name
        for name in ("tanh", "exp", "expm1", "log", "log1p", "sqrt", "square", "maximum", "minimum")
    },
    "negative": "neg",
    "positive": "linear",
    "absolute": "abs",
    "fabs": "abs",
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "invert": "not",
}

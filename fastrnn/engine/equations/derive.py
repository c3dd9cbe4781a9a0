"""Derivatives of a step, and the choice of values that the forward pass saves for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fastrnn.engine.equations.operations import COSTLY, OPERATIONS
from fastrnn.engine.equations.trace import Definition, Node, Traced, ordered, parents, trace
from fastrnn.engine.recurrence.contract import Traits

__all__ = ["Derived", "derive", "differentiate"]

#: Operations whose values the backward pass has without saving them.
_AT_HAND = {"prev", "extra", "number", "ds", "left", "const"}


def differentiate(seeds: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The gradient of every node, from the gradients of some.

    Parameters
    ----------
    seeds : pairs of nodes
        A node, and its gradient from outside the step.
    """
    seeds = list(seeds)
    grads: dict[Node, Node] = {}

    def reach(node: Node, g: Node) -> None:
        grads[node] = g if node not in grads else g.graph.call("add", grads[node], g)

    for node, g in seeds:
        reach(node, g)
    for node in reversed(ordered(node for node, _ in seeds)):
        graph = node.graph
        upstream = grads.get(node, graph.zero)
        if upstream is graph.zero:
            continue
        slopes = OPERATIONS[node.op].slopes if node.op in OPERATIONS else None
        if node.op == "act":  # an activation given by its code: an operation on a whole row
            reach(node.args[1], graph.node("back", node.args[0], node.args[1], node, upstream))
        elif slopes is not None:
            for a, d in zip(node.args, slopes(graph, upstream, node, *node.args), strict=True):
                if d is not None:
                    reach(a, d)
    return grads


class Derived(NamedTuple):
    """A step with its gradients and the nodes that are saved.

    Attributes
    ----------
    definition : Definition
    traced : Traced
    gradients : dict of (str, str) to Node
        By kind ("z", "u", "prev", "extra") and name.
    saved : list of Node
    rowwise : bool
        Whether activations are given by their codes and computed row by row.
    """

    definition: Definition
    traced: Traced
    gradients: dict[tuple[str, str], Node]
    saved: list[Node]
    rowwise: bool

    @property
    def traits(self) -> Traits:
        """The traits of the cell for the engine."""
        d = self.definition
        return Traits(
            n_gates=len(d.gates),
            n_states=len(d.states),
            n_saved=len(self.saved),
            split=d.split,
            recurrent=d.recurrent,
            late=len(d.late),
            operand=self.saved.index(next(iter(self.traced.left.values()))) if d.late else 0,
            n_extra=len(d.extra),
            by_units=not self.rowwise,
        )


def derive(definition: Definition, choice: dict[str, str | None]) -> Derived:
    """Trace and differentiate a step for one choice of activations, and decide what is saved."""
    traced = trace(definition, choice)
    graph = traced.graph
    # The engine computes the gradient of a late operand, in the backward pass through the late products.
    seeds = [(new, graph.node("ds", name)) for new, name in zip(traced.new, definition.states, strict=True)]
    grads = differentiate(seeds + [(left, graph.node("left")) for left in traced.left.values()])
    kinds = [("z", definition.gates), ("prev", definition.states), ("extra", definition.extra)]
    kinds += [("u", definition.gates)] * definition.split
    wanted = {
        (kind, name): grads.get(graph.node(kind, name), graph.zero) for kind, names in kinds for name in names
    }
    return Derived(definition, traced, wanted, _saved(traced, wanted.values()), None in choice.values())


def _saved(traced: Traced, wanted: Iterable[Node]) -> list[Node]:
    """The nodes that must be saved for the backward pass.

    These are the values of costly functions, and the arguments of activations that are given by their codes. Nodes that
    follow from states, parameters and saved nodes by arithmetic are computed again, and so are functions of parameters.
    """
    saved: dict[Node, None] = dict.fromkeys(traced.left.values())
    new = set(traced.new)

    def follows(node: Node) -> bool:
        if node in new or node in saved or node.op in _AT_HAND:
            return True
        return bool(node.args) and node.op not in ("z", "u") and all(map(follows, parents(node)))

    def need(node: Node) -> None:
        if node in new or node in saved or node.op in _AT_HAND:
            return
        if node.op in ("act", "back"):
            if not follows(node.args[1]):
                saved[node.args[1]] = None
            for a in parents(node)[1:]:
                need(a)
        elif node.op in ("z", "u") or (node.op in COSTLY and not follows(node)):
            saved[node] = None
        else:
            for a in parents(node):
                need(a)

    def made_of_others(node: Node) -> bool:
        if node in saved or node in new or node.op in _AT_HAND:
            return True
        plain = bool(node.args) and node.op not in COSTLY and node.op not in ("z", "u", "act", "back")
        return plain and all(map(made_of_others, parents(node)))

    for root in wanted:
        need(root)
    for node in [n for n in saved if n not in traced.left.values()]:
        del saved[node]
        if not made_of_others(node):
            saved[node] = None
    # In the order of computation, including nodes that only gradients use (an argument of a derivative).
    order = {node: k for k, node in enumerate(ordered([*traced.left.values(), *traced.new]))}
    return sorted(saved, key=order.__getitem__)

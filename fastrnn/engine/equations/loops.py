"""Generate the source of a differentiated step: two functions with loops over the units of each row.

The source is compiled as the bodies of `step_forward` and `step_backward` (see `recurrence.contract`), and has their
parameters.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fastrnn.engine.equations.derive import Derived
from fastrnn.engine.equations.operations import COSTLY, OPERATIONS
from fastrnn.engine.equations.trace import Node, ordered, parents
from fastrnn.engine.recurrence.contract import step_backward, step_forward

__all__ = ["ALL", "Schedule", "backward_text", "forward_text"]

#: Expressions for the k-th row of each kind, in iteration `r` of the loop over rows.
_ROWS = {
    "z": "part(step.z, r, {} * u + first, n)",
    "u": "part(step.hu, r, {} * u + first, n)",
    "prev": "plane(step.previous, {}, r, n)",
    "new": "plane(step.states, {}, r, n)",
    "extra": "segment(step.extra, {} * u + first, n)",
    "saved": "part(step.saved, r, {} * u + first, n)",
    "ds": "plane(step.ds, {}, r, n)",
    "dz": "part(step.dz, r, {} * u + first, n)",
    "du": "part(step.du, r, {} * u + first, n)",
    "dextra": "segment(step.d_extra, {} * u + first, n)",
    "scratch": "part(step.scratch, {}, 0, n)",
    "operand": "part(step.operand, r, 0, n)",
    "left": "part(step.d_operand, r, 0, n)",
}
#: In place of "z" or "u", if the loops compute the recurrent product: where it begins, its operands, the gate, all columns.
_PRODUCTS = {
    "z": "(part(step.z, 0, {0} * u, n), plane(step.previous, 0, 0, n), step.weights[0], {0}, {1} * u)",
    "u": "(segment(step.weights[1], {0} * u, n), plane(step.previous, 0, 0, n), step.weights[0], {0}, {1} * u)",
}
#: Rows of gradients that are added to or overwritten, so their values can't be read again.
_ACCUMULATED = ("ds", "dextra")


#: More functions than a step has: no loop is cut.
ALL = 99


class Schedule(NamedTuple):
    """How a body is divided into loops.

    Attributes
    ----------
    functions : int
        Largest number of costly functions in a loop.
    outputs : int
        Largest number of rows that a loop writes.
    at_once : int
        Vectors that a loop with costly functions works on at once; 0 leaves it to the compiler.
    plain_at_once : int
        The same for a loop without.
    """

    functions: int = ALL
    outputs: int = ALL
    at_once: int = 2
    plain_at_once: int = 1


class _Writer:
    """Collects the source of one body: rows, loops over them, calls on whole rows."""

    def __init__(self, array: str, loop_names: str, n_scratch: int, rows_needed: dict[str, str]) -> None:
        self.array, self.loop_names, self.scratch_limit = array, loop_names, n_scratch
        self.n_rows = "step.z.shape[0]" if loop_names == "forward" else "step.dz.shape[0]"
        self.rows: dict[str, str] = rows_needed
        self.lines: list[str] = []
        self.loops: list[str] = []
        self.n_scratch = 0
        self.schedule = Schedule()

    def row(self, kind: str, k: int = 0) -> str:
        name = f"{kind}{k}"
        self.rows[name] = _ROWS[kind].format(k)
        return name

    def scratch(self) -> str:
        if self.n_scratch == self.scratch_limit:
            raise NotImplementedError(
                f"these equations need more than {self.scratch_limit} rows of scratch memory: use fewer activations"
            )
        self.n_scratch += 1
        return self.row("scratch", self.n_scratch - 1)

    def loop(self, stores: list[tuple[str, Node]], have: dict[Node, str]) -> None:
        """Add a loop that writes rows, from the nodes that rows contain already."""
        text: dict[Node, str] = {}
        lines: list[str] = []
        ins: list[str] = []
        numbers: list[str] = []
        uses = _uses([node for _, node in stores], have)

        def write(node: Node) -> str:
            if node in text:
                return text[node]
            if node in have:
                ins.append(have[node])
                text[node] = f"x{len(ins) - 1}"
            elif node.op in ("const", "number"):
                value = repr(node.args[0]) if node.op == "const" else f"cell.{node.args[0]}"
                numbers.append(f"{self.array}.dtype.type({value})")
                text[node] = f"k{len(numbers) - 1}"
            else:
                value = OPERATIONS[node.op].text.format(*(write(a) for a in parents(node)))
                text[node] = value
                if uses[node] > 1:
                    lines.append(f"v{len(lines)} = {value}")
                    text[node] = f"v{len(lines) - 1}"
            return text[node]

        results = [write(node) for _, node in stores]
        name = f"{self.loop_names}_{len(self.loops)}"
        given = [f"x{i}" for i in range(len(ins))] + [f"k{i}" for i in range(len(numbers))]
        body = [*lines, "return " + ", ".join(results)]
        self.loops.append("\n".join([f"def {name}({', '.join(given)}):", *_indented(body), ""]))
        targets = _tuple(row for row, _ in stores)
        costly = any(node.op in COSTLY and node not in have for node in text)
        at_once = self.schedule.at_once if costly else self.schedule.plain_at_once
        self.lines.append(f"for_each_unit({name}, {at_once}, n, {targets}, {_tuple(ins)}, {_tuple(numbers)})")

    def write(self, stores: list[tuple[str, Node]], have: dict[Node, str]) -> None:
        """Add loops and calls that write rows, by the schedule, and add their nodes to `have`."""
        self._write_calls(stores, have)
        group: list[tuple[str, Node]] = []
        zeros: list[str] = []  # written last, because the rows may be read before
        for row, node in stores:
            if have.get(node) == row:
                continue
            if node is node.graph.zero:
                zeros.append(f"fill({row}, 0)")
                continue
            together = ordered([n for _, n in [*group, (row, node)]], have)
            costly = sum(n.op in COSTLY and n not in have for n in together)
            if group and (costly > self.schedule.functions or len(group) >= self.schedule.outputs):
                self._flush(group, have)
                group = []
            group.append((row, node))
        if group:
            self._flush(group, have)
        self.lines += zeros

    def _flush(self, group: list[tuple[str, Node]], have: dict[Node, str]) -> None:
        self.loop(group, have)
        have.update({node: row for row, node in group if not row.startswith(_ACCUMULATED)})

    def _write_calls(self, stores: list[tuple[str, Node]], have: dict[Node, str]) -> None:
        """Add calls on whole rows for activations that are given by their codes, and for their gradients."""
        targets = {node: row for row, node in stores if not row.startswith(_ACCUMULATED)}
        for node in ordered([node for _, node in stores], have):
            if node in have or node.op not in ("act", "back"):
                continue
            row, x = targets.get(node) or self.scratch(), node.args[1]
            if node.op == "act":
                if x in targets and x not in have:
                    self._flush([(targets[x], x)], have)
                self.loop([(row, x)], have)
                self.lines.append(f"activate_row(cell.{node.args[0]}, {row})")
            else:
                if x not in have:
                    have[x] = self.scratch()
                    self.loop([(have[x], x)], {k: v for k, v in have.items() if k is not x})
                self.loop([(row, node.args[3])], have)
                at, value = have[x], have[node.args[2]]
                self.lines.append(f"activate_backward_row(cell.{node.args[0]}, {at}, {value}, {row}, {row})")
            have[node] = row


def _uses(roots: list[Node], have: dict[Node, str]) -> dict[Node, int]:
    """How often each node is read, between the roots and the nodes that rows contain."""
    uses: dict[Node, int] = {}

    def visit(node: Node) -> None:
        uses[node] = uses.get(node, 0) + 1
        if uses[node] == 1 and node not in have:
            for a in parents(node):
                visit(a)

    for root in roots:
        visit(root)
    return uses


def _tuple(items: Iterable[str]) -> str:
    return "(" + "".join(f"{item}, " for item in items) + ")"


def _indented(lines: Iterable[str], n: int = 1) -> list[str]:
    return ["    " * n + line for line in lines]


def _given(derived: Derived, w: _Writer, **kinds: Iterable[str]) -> dict[Node, str]:
    """The rows of given nodes."""
    graph = derived.traced.graph
    return {graph.node(kind, n): w.row(kind, k) for kind, names in kinds.items() for k, n in enumerate(names)}


def _per_unit(derived: Derived, roots: Iterable[Node], have: dict[Node, str]) -> list[Node]:
    """Costly nodes that depend only on parameters, and are computed once for all rows."""

    def constant(node: Node) -> bool:
        return node.op in ("extra", "const", "number") or (
            node.op not in ("z", "u", "prev", "ds", "left")
            and bool(parents(node))
            and all(map(constant, parents(node)))
        )

    nodes = ordered(roots, have)
    found = [n for n in nodes if n.op in COSTLY and constant(n)]
    inner = {a for n in found for a in ordered([n]) if a is not n}
    return [n for n in found if n not in inner]


def _assembled(
    name: str, stub: Callable, w: _Writer, once: list[str], blocks: dict[str, list[str]], units: int | None
) -> str:
    """The text of a body: what is computed once, and for each condition on the width a loop over rows of its own."""
    if once:
        # Rows that don't depend on r.
        once = [*_places(w, once), *once]
    head = [
        f"def {name}{inspect.signature(stub)}:",
        *_indented(
            ["u = cell.n_units", "first, n = unit_range(cell, step)"]
            if units is None
            else [f"u = {units}", "first = 0", f"n = {units}"]
        ),
        *_indented(once),
    ]
    for condition, lines in blocks.items():
        loop = [f"for r in range({w.n_rows}):", *_indented([*_places(w, lines), *lines])]
        head += _indented([condition, *_indented(loop)] if condition else loop)
    return "\n".join([*w.loops, *head, ""])


def _places(w: _Writer, lines: list[str]) -> list[str]:
    """Lines that say where the rows are that are used."""
    used = {word for line in lines for word in re.findall(r"\w+", line)}
    return [f"{row} = {where}" for row, where in w.rows.items() if row in used]


def _scratch_rows(derived: Derived) -> int:
    return len(derived.definition.gates) + 4


def forward_text(
    derived: Derived,
    narrow: Schedule,
    wide: Schedule,
    least_wide: int,
    units: int | None = None,
    with_product: bool = False,
) -> str:
    """Source of the body of `step_forward`.

    Parameters
    ----------
    derived : Derived
    narrow, wide : Schedule
        For rows of fewer units than `least_wide`, and for the others.
    least_wide : int
    units : int, optional
        For this number of units only.
    with_product : bool
        Whether the loops compute the recurrent product (see `unit_loop`).
    """
    definition, traced = derived.definition, derived.traced
    w = _Writer("step.z", "forward", _scratch_rows(derived), {})
    late = {traced.graph.node("z", name) for name in definition.late}
    given = _given(derived, w, z=definition.gates, prev=definition.states, extra=definition.extra)
    if definition.split:
        given |= _given(derived, w, u=definition.gates)
    if with_product:
        kind, n_gates = "u" if definition.split else "z", len(definition.gates)
        w.rows |= {f"{kind}{k}": _PRODUCTS[kind].format(k, n_gates) for k in range(n_gates)}
    roots = [*traced.left.values(), *traced.new]
    once: list[str] = []
    if not derived.rowwise:
        once = _written_once(derived, w, roots, given)
    n_once = w.n_scratch

    def variant(phase: int, schedule: Schedule, keep: bool) -> list[str]:
        w.lines, w.n_scratch, w.schedule = [], n_once, schedule
        have = dict(given)
        last = phase == bool(late)
        stores = [(w.row("new", k), node) for k, node in enumerate(traced.new)] if last else [
            (w.row("operand"), node) for node in traced.left.values()
        ]  # fmt: skip
        first: list[tuple[str, Node]] = []
        if keep:
            rows = [(w.row("saved", k), node) for k, node in enumerate(derived.saved)]
            early = (
                [pair for pair in rows if bool(late & set(ordered([pair[1]]))) != bool(phase)] if late else []
            )
            first = [pair for pair in rows if pair not in early]
            if phase:
                have.update({node: row for row, node in early})
            else:
                early = []
        elif schedule.functions < ALL:
            costly = [n for n in ordered([n for _, n in stores], have) if n.op in COSTLY and n not in have]
            inner = [n for n in costly if not any(m in costly for m in ordered(parents(n), have))]
            first = [(w.scratch(), n) for n in inner[: w.scratch_limit - w.n_scratch]]
        # Outputs in the same loops as the saved values that they need, so that each value is computed once.
        w.write([*first, *stores], have)
        return w.lines

    def block(phase: int, schedule: Schedule) -> list[str]:
        kept = variant(phase, schedule, keep=True)
        # There are no rows of `saved` where nothing is saved.
        saved = {row: w.rows.pop(row) for row in list(w.rows) if row.startswith("saved")}
        words = {word for line in kept for word in re.findall(r"\w+", line)}
        rows = [f"{row} = {place}" for row, place in saved.items() if row in words]
        if not late and n_once + len(rows) <= w.scratch_limit:
            # The same loops, which take less time to compile than two sets: scratch memory is in place of `saved`.
            places = [_ROWS["scratch"].format(n_once + k) for k in range(len(rows))]
            spare = [f"{row.split(' = ')[0]} = {place}" for row, place in zip(rows, places, strict=True)]
            return ["if step.save:", *_indented(rows), "else:", *_indented(spare), *kept] if rows else kept
        return [
            "if step.save:",
            *_indented(rows + kept),
            "else:",
            *_indented(variant(phase, schedule, keep=False)),
        ]

    def phases(schedule: Schedule) -> list[str]:
        lines: list[str] = []
        for phase in range(1 + bool(late)):
            inner = block(phase, schedule)
            lines += [f"{'el' * phase}if phase == {phase}:", *_indented(inner)] if late else inner
        return lines

    if narrow == wide:
        blocks = {"": phases(wide)}
    else:
        blocks = {f"if u >= {least_wide}:": phases(wide), "else:": phases(narrow)}
    return _assembled("forward", step_forward, w, once, blocks, units)


def _written_once(derived: Derived, w: _Writer, roots: Iterable[Node], have: dict[Node, str]) -> list[str]:
    """The lines before the loop over rows; their nodes are added to `have`."""
    found = _per_unit(derived, roots, have)[: w.scratch_limit]
    if not found:
        return []
    w.lines, w.schedule = [], Schedule()
    w.write([(w.scratch(), node) for node in found], have)
    return w.lines


def backward_text(derived: Derived, schedule: Schedule, units: int | None = None) -> str:
    """Source of the body of `step_backward`."""
    definition, traced, gradients = derived.definition, derived.traced, derived.gradients
    graph = traced.graph
    w = _Writer("step.ds", "backward", _scratch_rows(derived), {})
    given = _given(derived, w, prev=definition.states, extra=definition.extra)
    given |= {graph.node("ds", s): w.row("ds", k) for k, s in enumerate(definition.states)}
    given |= {node: w.row("new", k) for k, node in enumerate(traced.new)}
    given |= {node: w.row("saved", k) for k, node in enumerate(derived.saved)}
    sums = {graph.node("dextra", e): w.row("dextra", k) for k, e in enumerate(definition.extra)}
    if definition.late:
        given[graph.node("left")] = w.row("left")
    once: list[str] = []
    if not derived.rowwise:
        once = _written_once(derived, w, gradients.values(), given)
    n_once = w.n_scratch
    lines: list[str] = []
    for phase in range(1 + bool(definition.late)):
        w.lines, w.n_scratch, w.schedule = [], n_once, schedule
        have = given | sums
        # Phase 1 is first and writes only the gradients of the late gates.
        chosen = [g for g in definition.gates if not definition.late or (g in definition.late) == bool(phase)]
        stores = [(w.row("dz", definition.gates.index(g)), gradients["z", g]) for g in chosen]
        if phase == 0:
            if definition.split:
                stores += [(w.row("du", k), gradients["u", g]) for k, g in enumerate(definition.gates)]
            for k, e in enumerate(definition.extra):
                total = graph.call("add", graph.node("dextra", e), gradients["extra", e])
                stores.append((w.row("dextra", k), total))
            last = [(w.row("ds", k), gradients["prev", s]) for k, s in enumerate(definition.states)]
            if schedule.outputs < ALL or schedule.functions < ALL:
                w.write(stores, have)
                stores, w.schedule = [], schedule._replace(outputs=ALL, functions=ALL)
            # One loop writes all gradients of the states, since each may be made of all of them.
            stores += last
        w.write(stores, have)
        lines += [f"{'el' * phase}if phase == {phase}:", *_indented(w.lines)] if definition.late else w.lines
    return _assembled("backward", step_backward, w, once, {"": lines}, units)

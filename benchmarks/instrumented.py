"""A copy of the package in which compiled code counts what it spends its time on (see `laps`).

Functions of the time loops get laps around the calls that `RULES` names. The copy is in a folder of its own, with its own
compiled files; the package itself has no counters.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.laps import HANDOVER, INPUTS, LOOP, PACKING, POINTWISE, RECURRENT, ROWS, UPDATE, WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
#: Where `laps` is in the copy.
LAPS = "fastrnn/engine/runtime/laps.py"


@dataclass(frozen=True)
class Rule:
    """The laps of one function.

    Parameters
    ----------
    calls : dict of str to int
        The part that calls of a function belong to. A loop whose named calls all belong to one part is timed as a whole.
    from_python : bool
        Whether Python calls the function: the time before it is Python's.
    piece : bool
        Whether threads take it as a piece of a job: the time before it is that of the hand-over.
    last : int or "announced", optional
        What the time up to the end belongs to, after the calls; without it there is no lap at the end.
    """

    calls: Mapping[str, int] = field(default_factory=dict)
    from_python: bool = False
    piece: bool = False
    last: int | str | None = None


def _piece(last: int | str) -> Rule:
    return Rule(piece=True, last=last)


def _kernel(last: int) -> Rule:
    return Rule(from_python=True, last=last)


#: Rules by file of the engine and function.
RULES: dict[str, dict[str, Rule]] = {
    "recurrence/forward.py": {
        "_input_products": Rule({"split_product": INPUTS, "gather_inputs": ROWS}),
        "forward_rows": Rule(
            {
                "product_forward": RECURRENT,
                "split_forward": POINTWISE,
                "move": ROWS,
                "copy": ROWS,
                "mask_rows": ROWS,
                "hide_outputs": ROWS,
            },
            piece=True,
            last=LOOP,
        ),
        "forward_pass": _kernel(HANDOVER),
        "split_forward_pass": _kernel(HANDOVER),
    },
    "recurrence/backward.py": {
        "backward_rows": Rule(
            {
                "product_back": RECURRENT,
                "split_backward": POINTWISE,
                "move": ROWS,
                "add": ROWS,
                "add_output_gradients": ROWS,
                "mask_rows": ROWS,
                "add_rows": ROWS,
                "clear": ROWS,
            },
            piece=True,
            last=LOOP,
        ),
        "_input_gradients": Rule({"split_product": INPUTS, "scatter_input_gradients": ROWS}),
        "_add_weight_gradients": Rule(
            {
                "split_product_tn": WEIGHTS,
                "add": WEIGHTS,
                "gather_inputs": ROWS,
                "_gather_operands": ROWS,
            }
        ),
        "backward_pass": _kernel(HANDOVER),
        "split_backward_pass": _kernel(HANDOVER),
    },
    "recurrence/lane_forward.py": {
        "_forward_lanes": Rule(
            {
                "spread": ROWS,
                "to_lanes": ROWS,
                "take_inputs": ROWS,
                "lane_product": RECURRENT,
                "step_forward": POINTWISE,
                "_give_outputs": ROWS,
                "from_lanes": ROWS,
            },
            piece=True,
            last=LOOP,
        ),
        "lane_forward_pass": _kernel(HANDOVER),
    },
    "recurrence/lane_backward.py": {
        "_backward_lanes": Rule(
            {
                "clear": ROWS,
                "spread": ROWS,
                "to_lanes": ROWS,
                "take_inputs": ROWS,
                "_take_output_gradients": ROWS,
                "add": ROWS,
                "step_backward": POINTWISE,
                "lane_product": RECURRENT,
                "_add_weight_gradients": WEIGHTS,
                "_give_input_gradients": ROWS,
                "_sum_lanes": WEIGHTS,
                "from_lanes": ROWS,
            },
            piece=True,
            last=LOOP,
        ),
        "lane_backward_pass": _kernel(HANDOVER),
    },
    "recurrence/rows.py": {"_sum_columns": _piece(WEIGHTS)},
    "recurrence/split_step.py": {
        "_product_slice": _piece("announced"),
        "_product_tn_slice": _piece(WEIGHTS),
        "_forward_slice": _piece(POINTWISE),
        "_backward_slice": _piece(POINTWISE),
    },
    "recurrence/by_units.py": {
        "_forward_units": Rule(
            {
                "next_turn": HANDOVER,
                "_input_columns": INPUTS,
                "gather_inputs": ROWS,
                "_recurrent_products": RECURRENT,
                "step_forward": POINTWISE,
                "copy": ROWS,
                "hide_outputs": ROWS,
            },
            piece=True,
            last=LOOP,
        ),
        "units_forward_pass": _kernel(HANDOVER),
    },
    "recurrence/call_list.py": {"_run": _kernel(HANDOVER), "_run_out": _kernel(HANDOVER)},
    "kernels/packing.py": {"_pack_slice": _piece(PACKING), "pack_rows": _kernel(PACKING)},
    "kernels/losses.py": {"_squared_errors": _piece(UPDATE), "_all_pieces": _kernel(UPDATE)},
    "kernels/update.py": {"sgd": _kernel(UPDATE), "square_sum": _kernel(UPDATE)},
    # Only jobs of several threads come to the end of this function.
    "runtime/handover.py": {"_share": Rule(last=HANDOVER)},
}

#: Calls of these are divided between threads: what they are part of is announced to the threads that compute the pieces.
_DIVIDED = {"split_product", "product_forward", "product_back"}
_ROW = "lap_row"


def _statement(text: str) -> ast.stmt:
    return ast.parse(text).body[0]


def _lap(part: int | str) -> ast.stmt:
    return _statement(f"lap({_ROW}, {'announced()' if part == 'announced' else part})")


class _Laps:
    """Inserts the laps of one function."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.seen = rule, set[str]()

    def named(self, node: ast.AST) -> list[str]:
        """The calls in a statement that the rule names."""
        calls = [
            n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        return [name for name in calls if name in self.rule.calls]

    def body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements with laps around those that belong to one part."""
        done: list[ast.stmt] = []
        lapped = False  # whether the last statement is a lap
        for statement in statements:
            names = self.named(statement)
            parts = {self.rule.calls[name] for name in names}
            if not names:
                done.append(statement)
                lapped = False
            elif isinstance(statement, ast.If) or (
                len(parts) > 1 and isinstance(statement, (ast.For, ast.While))
            ):
                statement.body = self.body(statement.body)
                statement.orelse = self.body(statement.orelse)
                done.append(statement)
                lapped = False
            else:
                if len(parts) > 1:
                    raise ValueError(f"several parts in one statement: {ast.unparse(statement)}")
                (part,) = parts
                self.seen.update(names)
                if not lapped:
                    done.append(_lap(LOOP))
                if _DIVIDED.intersection(names):
                    done.append(_statement(f"announce({_ROW}, {part})"))
                done += [statement, _lap(part)]
                lapped = True
        return done

    def function(self, node: ast.FunctionDef) -> None:
        rule, start = self.rule, 1 if ast.get_docstring(node) else 0
        head, body = node.body[:start], node.body[start:]
        tail: list[ast.stmt] = []
        if isinstance(body[-1], ast.Return) and body[-1].value is not None:
            tail = [_statement(f"lap_result = {ast.unparse(body.pop().value)}")]  # type: ignore[arg-type]
        row = _statement(f"{_ROW} = {'enter()' if rule.from_python else 'own_row()'}")
        last = [] if rule.last is None else [_lap(rule.last)]
        first = [row]
        if rule.piece:
            first.append(_lap(HANDOVER))
        elif not rule.calls and not rule.from_python:
            first, last = [], [row, *last]
        result = [_statement("return lap_result")] if tail else []
        node.body = [*head, *first, *self.body(body), *tail, *last, *result]


def with_laps(source: str, rules: Mapping[str, Rule], where: str) -> str:
    """The source with the laps of `rules`.

    Raises
    ------
    ValueError
        If the source lacks a function or a call that `rules` name: the rules then have to follow the engine.
    """
    tree = ast.parse(source)
    found = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in rules
    }
    for name, rule in rules.items():
        if name not in found:
            raise ValueError(f"{where} has no function {name}: correct RULES of benchmarks/instrumented.py")
        laps = _Laps(rule)
        laps.function(found[name])
        missing = set(rule.calls) - laps.seen
        if missing:
            raise ValueError(
                f"{name} of {where} does not call {sorted(missing)}: correct RULES of benchmarks/instrumented.py"
            )
    docstring = 1 if ast.get_docstring(tree) else 0
    # After the docstring and `from __future__ import annotations`.
    place = next(
        (
            i + 1
            for i, n in enumerate(tree.body)
            if isinstance(n, ast.ImportFrom) and n.module == "__future__"
        ),
        docstring,
    )
    names = "announce, announced, enter, lap, own_row"
    tree.body.insert(place, _statement(f"from fastrnn.engine.runtime.laps import {names}"))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def copy_with_laps(folder: Path) -> None:
    """Copy the package and the benchmarks to a folder, with laps in the engine."""
    for name in ("fastrnn", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for file, rules in RULES.items():
        path = folder / "fastrnn" / "engine" / file
        path.write_text(with_laps(path.read_text("utf-8"), rules, file), "utf-8")
    shutil.copy(ROOT / "benchmarks" / "laps.py", folder / LAPS)

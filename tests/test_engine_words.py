"""What the docstrings of the engine say: the steps from a function to a call, three ways for kernels to call functions."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from fastrnn import engine
from fastrnn.engine import runtime
from fastrnn.engine.runtime import jit, linking

ENGINE = Path(engine.__file__).parent
FILES = sorted(ENGINE.rglob("*.py"))
#: By way, what makes a function callable from a kernel.
WAYS = {
    "inlined": {"inlined", "body_of", "stub", "implements"},
    "linked": {"linked"},
    "by address": {"address", "spill", "fetch"},
}


def _imported(path: Path, module: str) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == module]
    return {alias.name for node in froms for alias in node.names}


def test_numba_gets_functions_in_one_place_for_each_way():
    """Everywhere else, only intrinsics and types of our own come from numba.extending."""
    found = {str(p.relative_to(ENGINE)): _imported(p, "numba.extending") - {"intrinsic"} for p in FILES}
    assert {name: names for name, names in found.items() if names} == {
        "numba_private/pipeline.py": {"lower_builtin"},
        "numba_private/stock.py": {"overload"},
        "runtime/linking.py": {"lower_builtin", "models", "register_model"},
    }


def test_kernels_call_functions_in_the_three_ways_of_the_docstring_only():
    doc = runtime.__doc__
    assert doc is not None
    for way, names in WAYS.items():
        (text,) = re.findall(rf"(?ms)^{way} .*?(?=^\S|\Z)", doc.partition("==\n")[2])
        for name in names - {"implements"}:
            assert re.search(rf"\b{name}\b", text), (way, name)
    others = {"jit", "register_sources", "FASTMATH", "OPTIONS", "DISABLED", "PLAIN", "STOCK"}  # no ways
    used = {name for p in FILES for name in _imported(p, "fastrnn.engine.runtime.jit")}
    assert used - others == WAYS["inlined"] - {"implements"}
    makes = {n for n in linking.__all__ if n in set().union(*WAYS.values())}
    assert makes == WAYS["linked"] | WAYS["by address"]
    assert {n for n in jit.__all__ if n not in others} == WAYS["inlined"]


def test_docstring_of_the_engine_is_short_and_names_what_is_there():
    doc = engine.__doc__
    assert doc is not None
    assert len(doc.splitlines()) <= 40
    named = re.findall(r"`((?:runtime|numba_private|kernels|recurrence|equations)(?:\.\w+)*)`", doc)
    assert len(named) > 12
    for name in named:
        room, *rest = name.split(".")
        module = importlib.import_module(".".join(["fastrnn.engine", room, *rest[:1]]))
        for attribute in rest[1:]:
            assert hasattr(module, attribute), name


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("compile", "runtime/jit.py"),
        ("optimise", "numba_private/pipeline.py"),
        ("link", "runtime/linking.py"),
        ("keep", "runtime/cache.py"),
        ("choose", "numba_private/services.py"),
        ("plan", "recurrence/plans.py"),
        ("run", "recurrence/run.py"),
        ("hand over", "runtime/handover.py"),
        ("interrupt", "runtime/interrupts.py"),
        ("memory", "runtime/memory.py"),
    ],
)
def test_each_step_has_one_file_of_its_name(step, file):
    assert (ENGINE / file).is_file()
    assert f"`{file.removesuffix('.py').replace('/', '.')}" in (engine.__doc__ or ""), step

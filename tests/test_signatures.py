"""How many arguments functions take by position, how long modules are, and how often objects are asked what they are.

Counted from the syntax trees.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastrnn"
MOST_ARGUMENTS, MOST_LINES, MOST_PROBES = 9, 500, 60

#: Public functions whose arguments are Keras's, which gives them by position.
KERAS = {
    "AUC.__init__",
    "Dense.__init__",
    "Embedding.__init__",
    "Model.fit",
    "Optimizer.__init__",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def functions(tree, prefix=""):
    """All functions of a module, as (qualified name, node)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def n_positional(function):
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def long_signatures():
    """Qualified name and number of arguments of each function with more than MOST_ARGUMENTS by position."""
    found = {}
    for path in FILES:
        for name, node in functions(ast.parse(path.read_text("utf-8"))):
            if n_positional(node) > MOST_ARGUMENTS:
                found[name] = (n_positional(node), name_of(path))
    return found


def test_functions_take_few_arguments_by_position():
    others = {name: found for name, found in long_signatures().items() if name not in KERAS}
    assert others == {}, "group what belongs together in a record"


def test_list_of_long_signatures_holds_no_more_than_there_are():
    assert set(long_signatures()) >= KERAS


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


PLATFORM = ("os", "sys", "signal", "errno", "fcntl", "ctypes", "ctypes.CDLL(None)")


def probes(path):
    """Lines that ask an object what it is: hasattr, and getattr with a default.

    ``getattr(thing, name)`` is not among them, it takes an attribute that must be there; nor are questions to modules of
    the standard library, which differ between systems. `interop` is left out: it reads objects of other libraries.
    """
    if name_of(path).startswith("interop/"):
        return []
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    return [
        f"{name_of(path)}:{call.lineno} {ast.unparse(call)}"
        for call in calls
        if isinstance(call.func, ast.Name)
        and (call.func.id == "hasattr" or (call.func.id == "getattr" and len(call.args) == 3))
        and ast.unparse(call.args[0]) not in PLATFORM
    ]


def test_objects_are_rarely_asked_what_they_are():
    found = [probe for path in FILES for probe in probes(path)]
    print(f"{len(found)} probes")
    assert len(found) <= MOST_PROBES, "\n".join(found)

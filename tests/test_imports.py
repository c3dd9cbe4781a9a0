"""The directions of imports inside the package, read from the syntax trees.

Rooms are ranked; a module imports only from rooms of a lower rank, or its own. Leaves (initializers, losses
and the like) need nothing above the cells, so that layers and training can both use them.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastrnn"

# Lowest first. A name that ends in a dot is a folder.
RANKS: list[tuple[str, ...]] = [
    ("checks", "exceptions", "_version", "registry"),
    ("engine.",),
    ("cells.",),
    # Leaf modules: arithmetic on arrays that knows neither layers nor models.
    (
        "initializers",
        "regularizers",
        "constraints",
        "activations",
        "random",
        "schedules",
        "losses",
        "metrics",
        "optimizers",
        "batches",
        "sequences",
    ),
    ("layers.",),
    ("streaming",),
    ("callbacks", "history"),
    ("model", "training", "seq2seq"),
    ("estimators", "preprocessing"),
]
# Everything else (text, forecasting, plotting, datasets, interop) stands above the estimators.
LATER = len(RANKS)

NUMBA_ROOMS = ("engine.", "cells.")
# What only reads or writes data needs no estimator, so it pays no price for scikit-learn.
SKLEARN_FREE = ("text", "datasets", "plotting")


def module_name(path: Path) -> str:
    """Dotted name inside the package: 'engine.matmul', 'layers.' for a folder's __init__, '' for the face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]) + "." if len(parts) > 1 else ""
    return ".".join(parts)


def in_room(name: str, room: str) -> bool:
    if room.endswith("."):
        return name == room[:-1] or name.startswith(room)
    return name == room or name.startswith((room + ".", "_" + room))


def rank(name: str) -> int:
    for i, rooms in enumerate(RANKS):
        if any(in_room(name, room) for room in rooms):
            return i
    return LATER


def imported_names(path: Path, tree: ast.AST) -> list[tuple[int, str]]:
    """Absolute dotted names of everything imported in the file, at module level or in a function."""
    package = ["fastrnn", *path.relative_to(PACKAGE).parent.parts]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found += [(node.lineno, f"{stem}.{alias.name}") for alias in node.names]
    return found


def internal_target(name: str) -> str | None:
    """The module that an imported dotted name means, '' for the package's face, None if it is foreign."""
    parts = name.split(".")
    if parts[0] != "fastrnn":
        return None
    parts = parts[1:]
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists():
            return ".".join(parts)
        if path.is_dir():
            return ".".join(parts) + "."
        parts = parts[:-1]
    return ""


FILES = sorted(PACKAGE.rglob("*.py"))


def parse(path: Path) -> list[tuple[int, str]]:
    return imported_names(path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))


def in_type_checking(path: Path) -> set[int]:
    """Lines under `if TYPE_CHECKING:`; they import nothing when the program runs."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                lines.update(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    return lines


def complaints(path: Path) -> list[str]:
    name = module_name(path)
    if name == "":  # the public face imports what it shows
        return []
    mine, typing_only = rank(name), in_type_checking(path)
    found = []
    for line, imported in parse(path):
        if line in typing_only:
            continue
        target = internal_target(imported)
        where = f"fastrnn/{path.relative_to(PACKAGE)}:{line} imports {imported}"
        if target == "":
            found.append(f"{where}: import from the module that defines it, not from the package's face")
        elif target is not None and rank(target) > mine:
            found.append(f"{where}: {target!r} stands above {name!r}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert complaints(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_of_numba_stay_in_engine_and_cells(path):
    name = module_name(path)
    uses = [(line, i) for line, i in parse(path) if i.split(".")[0] in ("numba", "llvmlite")]
    assert not uses or any(in_room(name, room) for room in NUMBA_ROOMS), uses


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_of_sklearn_stay_in_the_estimators_and_above(path):
    name = module_name(path)
    uses = [(line, i) for line, i in parse(path) if i.split(".")[0] == "sklearn"]
    allowed = rank(name) >= rank("estimators") and not any(in_room(name, room) for room in SKLEARN_FREE)
    assert not uses or allowed, uses


def test_imports_checker_sees_a_wrong_direction(tmp_path, monkeypatch):
    """Caught: a layer that imports the model, at the top or in a function, or the package itself."""
    package = tmp_path / "fastrnn"
    for folder in ("engine", "layers"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("from .layers.base import x\n")
    bad = package / "layers" / "base.py"
    bad.write_text(
        "from ..engine import y\nfrom .. import model\nfrom fastrnn import z\n"
        "def f():\n    from fastrnn.model import x\n"
    )
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert len(complaints(bad)) == 3
    assert complaints(package / "model.py") == []

"""The directions of imports inside the package, read from the syntax trees.

The floors are declared in pyproject.toml, under [tool.fastrnn]. A module imports only from floors below its own, or from
its own entry.
"""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastrnn"

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["fastrnn"]
FLOORS: list[list[str]] = DECLARED["floors"]
ROOMS = [room for floor in FLOORS for room in floor]
ENGINE: list[list[str]] = DECLARED["engine"]


def module_name(path: Path) -> str:
    """Dotted name inside the package: 'layers.core', 'layers.' for a folder's __init__, '' for the face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]) + "." if len(parts) > 1 else ""
    return ".".join(parts)


def room_of(name: str) -> str:
    """The entry of the declaration that a module belongs to."""
    return name.split(".")[0]


def floor_of(name: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if room_of(name) in floor)


def engine_room_of(name: str) -> str | None:
    """The entry of the engine's own declaration that a module belongs to; None outside and for its face."""
    parts = name.split(".")
    return parts[1] or None if parts[0] == "engine" and len(parts) > 1 else None


def engine_floor_of(room: str) -> int:
    return next(i for i, floor in enumerate(ENGINE) if room in floor)


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
    mine, typing_only = floor_of(name), in_type_checking(path)
    found = []
    for line, imported in parse(path):
        if line in typing_only:
            continue
        target = internal_target(imported)
        where = f"fastrnn/{path.relative_to(PACKAGE)}:{line} imports {imported}"
        if target == "":
            found.append(f"{where}: import from the module that defines it, not from the package's face")
        elif target is not None and room_of(target) != room_of(name) and floor_of(target) >= mine:
            found.append(f"{where}: {room_of(target)!r} does not stand below {room_of(name)!r}")
        elif target is not None and room_of(target) == room_of(name) == "engine":
            inner, theirs = engine_room_of(name), engine_room_of(target)
            if inner == theirs:
                continue
            if inner is None or theirs is None or engine_floor_of(theirs) >= engine_floor_of(inner):
                found.append(f"{where}: engine.{theirs} does not stand below engine.{inner}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert complaints(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
@pytest.mark.parametrize(
    ("library", "packages"), [("numba", ("numba", "llvmlite")), ("sklearn", ("sklearn",))]
)
def test_imports_of_a_library_stay_in_allowed_modules(path, library, packages):
    name = module_name(path)
    uses = [(line, i) for line, i in parse(path) if i.split(".")[0] in packages]
    assert not uses or room_of(name) in DECLARED[library], uses


def test_imports_declaration_names_each_module_once_and_no_other():
    stems = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert sorted(ROOMS) == sorted(stems - {"__init__"})
    assert {*DECLARED["numba"], *DECLARED["sklearn"]} <= set(ROOMS)
    assert not [room for room in ROOMS if room.startswith("_")]
    inner = {p.parent.name for p in PACKAGE.glob("engine/*/__init__.py")}
    inner |= {p.stem for p in PACKAGE.glob("engine/*.py")} - {"__init__"}
    assert sorted(room for floor in ENGINE for room in floor) == sorted(inner)


def test_imports_declaration_is_the_list_in_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    shown = re.search(r"<!-- floors -->\n```\n(.+?)\n```", text, re.DOTALL).group(1)
    # Names first; two spaces or more before what they are.
    assert [re.split(r"  +", line)[0].split() for line in shown.splitlines()] == FLOORS


def test_imports_declaration_names_tests_of_compiled_code_that_exist():
    named = DECLARED["compiled_tests"]
    assert [name for name in named if not (ROOT / name).is_file()] == []
    assert sorted(set(named)) == named


def imports_between(folder: Path) -> dict[str, set[str]]:
    """Of each module of a flat folder of scripts, the modules of the same folder that it imports anywhere."""
    found = {}
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        parts = [name.split(".") for name in names]
        found[path.stem] = {part[1] for part in parts if part[0] == folder.name and len(part) > 1}
        found[path.stem] &= {other.stem for other in folder.glob("*.py")}
    return found


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_imports_of_scripts_have_no_cycle(folder):
    graphlib.TopologicalSorter(imports_between(ROOT / folder)).prepare()  # raises CycleError


def test_imports_of_scripts_checker_finds_a_cycle(tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "report.py").write_text("def write():\n    from benchmarks.drawing import draw\n")
    (folder / "drawing.py").write_text("from benchmarks import report\n")
    assert imports_between(folder) == {"report": {"drawing"}, "drawing": {"report"}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(imports_between(folder)).prepare()


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
    for room in ("kernels", "runtime"):
        (package / "engine" / room).mkdir()
        (package / "engine" / room / "__init__.py").write_text("")
    (package / "engine/kernels/matmul.py").write_text("from fastrnn.engine.runtime import jit\n")
    (package / "engine/runtime/jit.py").write_text("from fastrnn.engine.kernels import matmul\n")
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert len(complaints(bad)) == 3
    assert complaints(package / "engine/kernels/matmul.py") == []
    assert len(complaints(package / "engine/runtime/jit.py")) == 1
    assert complaints(package / "model.py") == []


def test_private_names_of_numba_stay_in_numba_private():
    """What is public: numba itself, numba.types, numba.extending, llvmlite.ir (see engine/numba_private)."""
    public = re.compile(
        r"numba(\.(types|extending|config|typeof|njit|jit|__version__)(\..*)?)?|llvmlite(\.ir(\..*)?)?"
    )
    wall = PACKAGE / "engine" / "numba_private"
    private = {
        path: [
            name
            for _, name in parse(path)
            if name.split(".")[0] in ("numba", "llvmlite") and not public.fullmatch(name)
        ]
        for path in FILES
    }
    assert any(private[path] for path in FILES if path.parent == wall)
    assert {str(path): names for path, names in private.items() if names and path.parent != wall} == {}


def test_modules_are_typed_but_for_those_that_are_named():
    """What pyproject.toml says of types: a new module is typed throughout."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["overrides"]
    typed = next(o["module"] for o in overrides if o.get("disallow_untyped_defs"))
    rooms = {name.removeprefix("fastrnn.").removesuffix(".*") for name in typed} - {"fastrnn"}
    assert set(ROOMS) - rooms == {"engine", "cells"}
    assert rooms <= set(ROOMS)


FACES = [
    path for path in FILES if path.name == "__init__.py" and "def __getattr__" in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", FACES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_that_are_imported_late_are_known_to_type_checkers(path):
    tree = ast.parse(path.read_text("utf-8"))
    tables = ("_NAMES", "_MODULES", "_HOMES", "_LATER")
    late: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in tables:
            value = ast.literal_eval(node.value)
            groups = value.values() if isinstance(value, dict) else ()
            nested = any(isinstance(group, tuple) for group in groups)
            late |= {name for group in groups for name in group} if nested else set(value)
    shown = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert late
    assert shown == late


def test_the_engine_gets_what_is_private_by_services_only():
    """So that the stock path can leave it out."""
    wall = "fastrnn.engine.numba_private"
    inside = PACKAGE / "engine" / "numba_private"
    others = {
        str(path): names
        for path in FILES
        if path.parent != inside
        and (
            names := [
                name
                for _, name in parse(path)
                if name.startswith(wall) and not name.startswith(f"{wall}.services") and name != wall
            ]
        )
    }
    assert others == {}

"""Numbers by which the engine decides are in `tuning`, with their units; what else is a number has a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from fastrnn import engine
from fastrnn.engine import tuning

ENGINE = Path(engine.__file__).parent
#: Numbers in capitals that are no choice between faster and slower, by module.
OTHERS = {
    "equations/functions.py": {"_ON_ARRAYS": "functions of a cell on arrays"},
    "equations/loops.py": {"ALL": "stands for no limit"},
    "equations/operations.py": {"OPERATIONS": "derivatives"},
    "kernels/activation_loops.py": {"FORWARD SLOPE BACKWARD _SOFTMAX _LOG_SOFTMAX _SPARSEMAX": "codes"},
    "kernels/micro_kernel.py": {
        "_LANES_32 _LANES_64": "elements of a vector",
        "WIDE_PANELS WIDE_ROWS": "from MIN_SUMS and the sizes of a tile",
    },
    "kernels/vecmath.py": {"_INT _N_ARGUMENTS _POINTERS _SIGNATURE": "types and their number"},
    "numba_private/pipeline.py": {"ONE_ROUND": "a version of Numba"},
    "numba_private/services.py": {"FIRST_UNTRIED": "a version of Numba"},
    "recurrence/both_directions.py": {"_CONCAT _SUM _AVE _MUL": "codes"},
    "recurrence/call_list.py": {"_BLOCK_BYTES": "a capacity: arguments must fit"},
    "recurrence/guarded.py": {
        "LENGTH OWNED ROWS COLUMNS LIMIT WORDS BY_ENTRY BY_HOLDER": "the memory's layout",
        "_BODIES": "kinds of numbers",
    },
    "recurrence/training.py": {"SQUARED BINARY SOFTMAX": "codes"},
    "recurrence/plans.py": {"_NO_SCHEDULE": "an empty array"},
    "runtime/cache.py": {"_ENGINE": "a path", "_DAY": "seconds"},
    "runtime/denormals.py": {"_FLUSH": "bits of a register of the processor"},
    "runtime/handover.py": {
        "WORD DONE JOB STOP WAITED OWNED FREQUENCY _MASK _ARRAY ALONE": "the state's layout"
    },
    "runtime/turns.py": {"_WORDS _LEFT _BEGUN _DONE _THERE": "the layout of the words"},
    "runtime/memory.py": {"_LINE _PAGE": "sizes of the processor's cache lines and of the system's pages"},
}
#: Coefficients of polynomials, and limits of their arguments, which decide on the accuracy.
ACCURACY = {"kernels/elementary.py"}


def has_number(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and type(n.value) in (int, float) for n in ast.walk(node))


def numbers(source: str) -> set[str]:
    """Names in capitals that a module gives a number, and arguments `maxsize` of caches that are written as numbers."""
    tree = ast.parse(source)
    found = set()
    for node in tree.body:
        if (
            isinstance(node, (ast.Assign, ast.AnnAssign))
            and node.value is not None
            and has_number(node.value)
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            found.update(name for name in names if name.isupper())
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "maxsize" and has_number(node.value):
            found.add(f"maxsize={ast.unparse(node.value)}")
    return found


def test_constants_are_found_where_they_are():
    text = "A: int = 1 << 4\n_B, _C = 2, 'c'\nd = 3\nE = 'e'\n@lru_cache(maxsize=9)\ndef f(g=4): H = 5\n"
    assert numbers(text) == {"A", "_B", "_C", "maxsize=9"}


def test_engine_has_no_tuning_constants_elsewhere():
    found = {}
    for path in ENGINE.rglob("*.py"):
        name = path.relative_to(ENGINE).as_posix()
        if name != "tuning.py" and name not in ACCURACY and (names := numbers(path.read_text("utf-8"))):
            found[name] = names
    assert found == {name: set(" ".join(reasons).split()) for name, reasons in OTHERS.items()}


def test_every_tuning_constant_has_its_unit_and_origin():
    """A comment before it begins with the unit; what was not measured as the module says has another origin."""
    source = Path(tuning.__file__).read_text("utf-8")
    assert "All were measured" in source
    lines = source.splitlines()
    constants = 0
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign):
            continue
        constants += 1
        at = node.lineno - 2
        while lines[at].startswith("#:"):
            at -= 1
        comment = " ".join(line.removeprefix("#:").strip() for line in lines[at + 1 : node.lineno - 1])
        assert re.match(r"[A-Z][\w-]+( of| and|, and)?[\w ]*\. ", comment), (
            f"{ast.unparse(node.targets[0])}: {comment or 'no comment'}"
        )
    assert constants > 30


def test_every_tuning_constant_is_read():
    names = {
        n.id
        for node in ast.parse(Path(tuning.__file__).read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for n in ast.walk(target)
        if isinstance(n, ast.Name)
    }
    texts = [p.read_text("utf-8") for p in ENGINE.parent.rglob("*.py") if p != Path(tuning.__file__)]
    unread = {name for name in names if not any(re.search(rf"\b{name}\b", text) for text in texts)}
    assert unread == set()

"""A package with the same folders as ours, one driver and one cell: for tests of the cache in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fastrnn.engine.runtime import jit as jit_module
from tests.limits import HANG_SECONDS

DRIVER = """
from pkg.engine.runtime.jit import jit, stub

@stub
def step(cell, x, i):
    "What one element gives."

@jit
def total(cell, x):
    s = x[0] * 0
    for i in range(x.shape[0]):
        s += step(cell, x, i)
    return s

@jit(allocates=True)
def each(cell, x):
    y = x.copy()
    for i in range(x.shape[0]):
        y[i] = step(cell, x, i)
    return y
"""

CELL = """
from typing import NamedTuple
from pkg.engine.driver import step
from pkg.engine.runtime.jit import implements

class ScaleCell(NamedTuple):
    factor: float

@implements(step, ScaleCell)
def scale(cell, x, i):
    return cell.factor * x[i]
"""

MAIN = """
import sys
import numpy as np
from pkg.cells.scale import ScaleCell
from pkg.engine.driver import each, total

x = np.arange(4, dtype=sys.argv[1] if len(sys.argv) > 1 else "float64")
out = [float(total(ScaleCell(2.0), x)), float(each(ScaleCell(2.0), x).sum())]
hits = [sum(f.stats.cache_hits.values()) for f in (total, each) if hasattr(f, "stats")]
print(out, hits)
"""


def make(tmp_path: Path) -> Path:
    """Write the package and `main.py`, which runs it, to a folder."""
    for folder in ("pkg", "pkg/engine", "pkg/engine/numba_private", "pkg/engine/runtime", "pkg/cells"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    ours = Path(jit_module.__file__).parents[1]
    for path in [
        ours / "tuning.py",
        *(ours / "numba_private").glob("*.py"),
        *(ours / "runtime").glob("*.py"),
    ]:
        if path.parent.name == "numba_private" or path.stem in ("jit", "cache", "interrupts", "tuning"):
            text = path.read_text("utf-8").replace("fastrnn.engine", "pkg.engine")
            (tmp_path / "pkg" / path.relative_to(ours.parent)).write_text(text, "utf-8")
    (tmp_path / "pkg/engine/driver.py").write_text(DRIVER)
    (tmp_path / "pkg/cells/scale.py").write_text(CELL)
    (tmp_path / "main.py").write_text(MAIN)
    return tmp_path


def environment(package: Path, **extra: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "FASTRNN_"))}
    return env | {"NUMBA_CACHE_DIR": str(package / "cache"), "PYTHONDONTWRITEBYTECODE": "1"} | extra


def run(package: Path, *args: str, **extra: str) -> tuple[str, str]:
    command = [sys.executable, "-W", "always", "main.py", *args]
    done = subprocess.run(
        command,
        cwd=package,
        env=environment(package, **extra),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr

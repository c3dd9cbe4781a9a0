"""The disk cache and the stubs: what a second process, another source file, or no disk at all leads to."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastrnn.engine.numba_private import pipeline
from fastrnn.engine.numba_private.services import Redirect
from fastrnn.engine.runtime.jit import DISABLED, body_of, implements, jit, register_sources, stub
from tests.limits import HANG_SECONDS
from tests.small_package import CELL, MAIN, environment, run

needs_jit = pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")


@needs_jit
def test_second_process_compiles_nothing(package: Path) -> None:
    assert run(package)[0] == "[12.0, 12.0] [0, 0]"
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"
    assert run(package, "float32")[0] == "[12.0, 12.0] [0, 0]"
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"


@needs_jit
def test_changed_cell_file_recompiles(package: Path) -> None:
    run(package)
    cell = package / "pkg/cells/scale.py"
    cell.write_text(CELL.replace("cell.factor * x[i]", "cell.factor * x[i] + 1"))
    assert run(package)[0] == "[16.0, 16.0] [0, 0]"
    assert run(package)[0] == "[16.0, 16.0] [1, 1]"


@needs_jit
def test_changed_file_in_a_folder_of_the_engine_recompiles(package: Path) -> None:
    inner = package / "pkg/engine/kernels"
    inner.mkdir()
    (inner / "__init__.py").write_text("")
    run(package)
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"
    (inner / "more.py").write_text("factor = 2\n")
    assert run(package)[0] == "[12.0, 12.0] [0, 0]"


@needs_jit
def test_changed_cell_file_outside_the_package_recompiles(package: Path) -> None:
    (package / "theirs.py").write_text(CELL)
    (package / "main.py").write_text(MAIN.replace("pkg.cells.scale", "theirs"))
    run(package)
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"
    (package / "theirs.py").write_text(CELL.replace("cell.factor * x[i]", "cell.factor * x[i] + 1"))
    assert run(package)[0] == "[16.0, 16.0] [0, 0]"


@needs_jit
def test_environment_that_changes_code_recompiles(package: Path) -> None:
    run(package)
    assert run(package, FASTRNN_VECTOR_BITS="128")[0] == "[12.0, 12.0] [0, 0]"
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"


@needs_jit
def test_corrupt_cache_file_recompiles(package: Path) -> None:
    run(package)
    files = list((package / "cache").rglob("*.nbc"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert run(package)[0] == "[12.0, 12.0] [0, 0]"
    assert run(package)[0] == "[12.0, 12.0] [1, 1]"


@needs_jit
def test_files_of_old_sources_are_removed(package: Path) -> None:
    run(package)
    old = list((package / "cache").rglob("*.nbc"))
    for file in old:
        os.utime(file, (1e9, 1e9))
    (package / "pkg/cells/scale.py").write_text(CELL + "\n# changed\n")
    run(package)
    assert not any(file.exists() for file in old)
    assert len(list((package / "cache").rglob("*.nbc"))) == 2


@needs_jit
def test_unwritable_cache_works_with_one_warning(package: Path) -> None:
    blocker = package / "file"
    blocker.touch()  # A file where a folder is wanted stops root too, who may write anywhere.
    for folder in ("pkg/engine", "pkg/engine/runtime", "pkg/cells"):
        (package / folder / "__pycache__").touch()
    home = {"HOME": str(blocker), "XDG_CACHE_HOME": str(blocker), "LOCALAPPDATA": str(blocker)}
    out, err = run(package, NUMBA_CACHE_DIR=str(blocker), **home)
    assert out == "[12.0, 12.0] [0, 0]"
    assert err.count("can't be kept on disk") == 1
    assert "NUMBA_CACHE_DIR" in err


@needs_jit
def test_eight_processes_on_an_empty_cache(package: Path) -> None:
    kinds = ["float32", "float64", "int64", "int32"] * 2
    running = [
        subprocess.Popen(
            [sys.executable, "main.py", kind],
            cwd=package,
            env=environment(package),
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    outs = [process.communicate(timeout=HANG_SECONDS)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 8
    assert all(out.startswith("[12.0, 12.0]") for out in outs)
    for kind in kinds[:4]:
        assert run(package, kind)[0] == "[12.0, 12.0] [1, 1]"


def test_runs_without_jit(package: Path) -> None:
    assert run(package, NUMBA_DISABLE_JIT="1")[0] == "[12.0, 12.0] []"


class JitTestScale(NamedTuple):
    factor: float


class JitTestShift(NamedTuple):
    shift: float
    times: int


class JitTestOther(NamedTuple):
    value: float


@stub
def put(cell: NamedTuple, x: np.ndarray, i: int) -> float:
    """The new value of element i."""


@implements(put, JitTestScale)
def put_scale(cell, x, i):
    return cell.factor * x[i]


@implements(put, JitTestShift)
def put_shift(cell, x, i):
    return x[i] + cell.times * cell.shift


@jit
def put_all(cell, x):
    out = 0.0
    for i in range(x.shape[0]):
        out += put(cell, x, i)
    return out


@pytest.mark.parametrize(("cell", "expected"), [(JitTestScale(2.0), 12.0), (JitTestShift(1.5, 2), 18.0)])
def test_cell_type_picks_the_body(cell: NamedTuple, expected: float) -> None:
    x = np.arange(4.0)
    assert put_all(cell, x) == expected
    assert sum(put(cell, x, i) for i in range(4)) == expected


def put_with(note, cell, x, i):
    """`put`, which has no use for a note."""
    return put(cell, x, i)


@body_of(put_with)
def _put_with(note, cell, *kinds):
    return Redirect(put, 1)


def put_noted(first, second, cell, x, i):
    """Likewise, of two notes."""
    return put_with(second, cell, x, i)


@body_of(put_noted)
def _put_noted(*kinds):
    return Redirect(put_with, 1)


@jit
def put_all_noted(cell, x):
    out = 0.0
    for i in range(x.shape[0]):
        out += put_noted(7, None, cell, x, i) + put_with(1.5, cell, x, i)
    return out


def test_a_body_may_pass_calls_on() -> None:
    x = np.arange(4.0)
    assert put_all_noted(JitTestScale(2.0), x) == 24.0
    assert put_all_noted(JitTestShift(1.5, 2), x) == 36.0
    with pytest.raises(Exception, match="JitTestOther"):
        put_all_noted(JitTestOther(1.0), x)


def test_missing_body_names_the_cell() -> None:
    with pytest.raises(NotImplementedError, match=r"put has no body for JitTestOther.*@implements"):
        put(JitTestOther(1.0), np.zeros(1), 0)
    with pytest.raises(Exception, match="JitTestOther"):
        put_all(JitTestOther(1.0), np.zeros(1))


@pytest.mark.parametrize("fastmath", [True, False])
def test_nan_stays_nan(fastmath: bool) -> None:
    def worst(x):
        best = -np.inf
        for i in range(x.shape[0]):
            if x[i] != x[i]:
                return x[i]
            best = max(best, x[i])
        return best

    compiled = jit(worst, fastmath=fastmath)
    assert np.isnan(compiled(np.array([1.0, np.nan, 2.0])))
    assert compiled(np.array([1.0, 3.0, 2.0])) == 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: implements(len, JitTestScale), "made by engine.runtime.jit.stub"),
        (lambda: implements(put, dict), "NamedTuple class"),
        (lambda: register_sources("no/such/file.py"), "no/such/file.py"),
    ],
)
def test_bad_arguments_say_so(call, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@needs_jit
def test_division_by_zero_is_as_in_numpy() -> None:
    def divide(x, y):
        return x / y

    assert jit(divide)(1.0, 0.0) == np.inf


@needs_jit
def test_garbage_is_collected_while_code_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads need it; a setting of the user is kept."""
    seen = []
    original = pipeline.Compiler.compile_extra

    def compile_extra(self, func):
        seen.append((gc.isenabled(), gc.get_threshold()[0]))
        return original(self, func)

    monkeypatch.setattr(pipeline.Compiler, "compile_extra", compile_extra)
    before = gc.get_threshold()

    @jit(allocates=True)
    def twice(x):
        return 2 * x

    assert twice(3) == 6
    assert seen
    assert all(enabled and 0 < threshold < 10**6 for enabled, threshold in seen)
    assert gc.get_threshold() == before

    def changed(self, func):
        gc.set_threshold(901, 9, 9)
        return original(self, func)

    monkeypatch.setattr(pipeline.Compiler, "compile_extra", changed)
    try:
        assert twice(3.0) == 6.0
        assert gc.get_threshold() == (901, 9, 9)
    finally:
        gc.set_threshold(*before)


@needs_jit
def test_compiling_leaves_nothing_to_look_through_and_frozen_objects_frozen() -> None:
    """What the compiler has made is in the oldest generation; objects that the user has frozen stay so."""

    @jit(allocates=True)
    def twice(x):
        return 2 * x

    young = []
    gc.callbacks.append(lambda phase, _: young.append(len(gc.get_objects(0))) if phase == "start" else None)
    try:
        twice(3)
        made = [[] for _ in range(gc.get_threshold()[0] + 1000)]  # causes a collection, of these alone
    finally:
        gc.callbacks.pop()
    assert young
    assert max(young) <= len(made) + 1000
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        twice(3.0)
        assert gc.get_freeze_count() > frozen / 2  # some have died
    finally:
        gc.unfreeze()

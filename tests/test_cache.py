"""The files of compiled functions: damaged, foreign or unwritable ones lead to one warning and the right numbers."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from fastrnn.engine.runtime import cache
from fastrnn.engine.runtime.jit import DISABLED
from tests.small_package import CELL, MAIN, run

needs_jit = pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the platform has no owners and modes")

FRESH, LOADED = "[12.0, 12.0] [0, 0]", "[12.0, 12.0] [1, 1]"


def files_of(package: Path) -> list[Path]:
    found = sorted((package / "cache").rglob("*.nbc"))
    assert len(found) == 2
    return found


@needs_jit
@pytest.mark.parametrize("place", [5, 30, 0.5, -1])
def test_flipped_bit_leads_to_one_warning_and_a_new_file(package: Path, place: float) -> None:
    run(package)
    good = [file.read_bytes() for file in files_of(package)]
    for file in files_of(package):
        data = bytearray(file.read_bytes())
        data[int(place * len(data)) if 0 < place < 1 else int(place)] ^= 1 << 3
        file.write_bytes(data)
    out, err = run(package)
    assert out == FRESH
    assert err.count("is damaged") == 1
    assert "compiled again" in err
    assert run(package) == (LOADED, "")
    assert [len(file.read_bytes()) > 1000 for file in files_of(package)] == [True, True]
    assert all(
        file.read_bytes()[:19] == data[:19] for file, data in zip(files_of(package), good, strict=True)
    )


def test_every_flipped_bit_of_a_small_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_warned", {"damaged"})
    path = tmp_path / "file.nbc"
    cache._write(path, b"content")
    assert cache._read(path) == b"content"
    good = path.read_bytes()
    for k in range(8 * len(good)):
        bad = bytearray(good)
        bad[k // 8] ^= 1 << (k % 8)
        path.write_bytes(bad)
        assert cache._read(path) is None, k
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert cache._read(path) is None, length


READ_ONLY = """
import errno, os, sys
sys.dont_write_bytecode = True
def refuse(call, position=0):
    def refused(*args, **options):
        if "cache" in str(args[position]):
            raise OSError(errno.EROFS, "Read-only file system", str(args[position]))
        return call(*args, **options)
    return refused
os.utime, os.replace, os.unlink, os.mkdir = map(refuse, (os.utime, os.replace, os.unlink, os.mkdir))
open_ = os.open
def open_existing(path, flags, *rest, **options):
    return (refuse(open_) if flags & os.O_CREAT else open_)(path, flags, *rest, **options)
os.open = open_existing
"""


@needs_jit
def test_complete_cache_on_a_read_only_file_system_is_used(package: Path) -> None:
    run(package)
    for file in files_of(package):
        os.utime(file, (1e9, 1e9))  # one that would be marked as in use
    main = package / "main.py"
    main.write_text(READ_ONLY + main.read_text())
    assert run(package) == (LOADED, "")
    # Where something is missing, it is compiled, and kept where it can be.
    files_of(package)[0].unlink()
    out, err = run(package)
    assert out.startswith("[12.0, 12.0]")
    assert out != LOADED
    assert err.count("can't be kept on disk") == 1


@needs_jit
@needs_owners
def test_folder_that_others_may_write_to_is_not_used(package: Path) -> None:
    run(package)
    folder = files_of(package)[0].parent
    modes = [path.stat().st_mode & 0o777 for path in files_of(package)]
    assert [mode & 0o022 for mode in modes] == [0, 0]
    folder.chmod(0o777)
    out, err = run(package)
    assert out == FRESH
    assert err.count("are not used, because others may write to it (mode 777)") == 1
    assert [path.stat().st_mode & 0o777 for path in files_of(package)] == modes
    folder.chmod(0o755)
    assert run(package) == (LOADED, "")


@needs_jit
@needs_owners
def test_folder_of_the_user_serves_where_the_one_beside_the_source_does_not(package: Path) -> None:
    home = {"HOME": str(package / "home"), "XDG_CACHE_HOME": str(package / "home"), "NUMBA_CACHE_DIR": ""}
    beside = package / "pkg/engine/__pycache__"
    beside.mkdir()
    beside.chmod(0o777)
    out, err = run(package, **home)
    assert out == FRESH
    assert err.count("__pycache__ are not used, because others may write to it") == 1
    assert list(beside.glob("*.nbc")) == []
    assert run(package, **home)[0] == LOADED
    beside.chmod(0o755)
    assert run(package, **home) == (LOADED, "")  # still from the other folder
    shutil.rmtree(package / "home")
    assert run(package, **home) == (FRESH, "")
    assert len(list(beside.glob("*.nbc"))) == 2
    assert run(package, **home) == (LOADED, "")


@needs_jit
def test_named_folder_alone_is_used(package: Path) -> None:
    """An empty one means that everything is compiled, whatever lies elsewhere."""
    home = {"HOME": str(package / "home"), "XDG_CACHE_HOME": str(package / "home")}
    assert run(package, NUMBA_CACHE_DIR="", **home)[0] == FRESH
    assert run(package, **home) == (FRESH, "")


@needs_jit
@needs_owners
def test_file_of_another_user_is_not_used(package: Path) -> None:
    run(package)
    file = files_of(package)[0]
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        main = package / "main.py"
        main.write_text(f"import os\nos.geteuid = lambda: {os.geteuid() + 1}\n" + main.read_text())
    out, err = run(package, HOME=str(package / "home"), XDG_CACHE_HOME=str(package / "home"))
    assert out.startswith("[12.0, 12.0]")
    assert out != LOADED
    assert err.count("it belongs to another user") == 1


@needs_owners
def test_which_owners_and_modes_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(mode: int, uid: int | None = None) -> os.stat_result:
        own = os.stat(tmp_path)
        return os.stat_result(
            (stat.S_IFDIR | mode, 0, 0, 1, own.st_uid if uid is None else uid, own.st_gid, *own[6:10])
        )

    monkeypatch.setattr(cache, "_private_group", lambda gid: False)
    assert cache.distrusted(status(0o755)) == ""
    assert cache.distrusted(status(0o700, 0)) == ""
    assert "mode 775" in cache.distrusted(status(0o775))
    assert "mode 757" in cache.distrusted(status(0o757))
    assert "another user (number 12345)" in cache.distrusted(status(0o755, 12345))
    monkeypatch.setattr(cache, "_private_group", lambda gid: True)
    assert cache.distrusted(status(0o775)) == ""
    assert cache.distrusted(status(0o777)) != ""
    monkeypatch.delattr(os, "geteuid")  # Windows
    assert cache.distrusted(status(0o777, 12345)) == ""


@needs_jit
@needs_owners
def test_files_are_private_to_write_whatever_the_umask(package: Path) -> None:
    main = package / "main.py"
    main.write_text("import os\nos.umask(0)\n" + main.read_text())
    run(package)
    for path in [*files_of(package), files_of(package)[0].parent]:
        assert path.stat().st_mode & 0o022 == 0
    assert run(package) == (LOADED, "")


@needs_jit
def test_folder_that_cannot_be_listed_is_no_error(package: Path) -> None:
    main = package / "main.py"
    refuse = "import os\ndef scandir(*args): raise PermissionError(13, 'Permission denied')\nos.scandir = scandir\n"
    main.write_text(main.read_text().replace("x = np", refuse + "x = np"))
    assert run(package) == (FRESH, "")
    assert run(package) == (LOADED, "")


@needs_jit
def test_error_in_a_function_that_cached_code_refers_to_is_not_hidden(package: Path) -> None:
    """Loaded code may cause other functions to be compiled; their errors do not cause the caller to be compiled again."""
    run(package)
    main = package / "main.py"
    fails = (
        "import pkg.engine.runtime.cache as c\n"
        "def rebuilt(*args): raise MemoryError('no room for code')\n"
        "c.storage.rebuilt = rebuilt\ntry:\n    total(ScaleCell(2.0), np.arange(4.0))\n"
        "except MemoryError as error:\n    print(error)\nraise SystemExit\n"
    )
    main.write_text(main.read_text().replace("x = np", fails + "x = np"))
    assert run(package)[0] == "no room for code"


@needs_jit
def test_file_of_a_class_that_has_moved_is_compiled_again(package: Path) -> None:
    (package / "theirs.py").write_text(CELL)
    (package / "main.py").write_text(MAIN.replace("pkg.cells.scale", "theirs"))
    run(package)
    theirs = files_of(package)
    (package / "theirs.py").rename(package / "moved.py")
    (package / "main.py").write_text(MAIN.replace("pkg.cells.scale", "moved"))
    run(package)
    new = [file for file in (package / "cache").rglob("*.nbc") if file not in theirs]
    assert len(new) == 2
    for old, file in zip(theirs, sorted(new), strict=True):
        file.write_bytes(old.read_bytes())  # valid, but of a class that does not exist
    assert run(package) == (FRESH, "")


def test_user_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache._user_folder() == tmp_path / "fastrnn"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache._user_folder().parts[-3:] == ("Library", "Caches", "fastrnn")

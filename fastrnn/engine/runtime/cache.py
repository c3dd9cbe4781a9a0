"""Compiled functions on disk: one file for each function and tuple of argument types, which later processes load.

The name of a file contains a digest of everything that its code depends on: the source files of the engine and of the cells,
the compile options, the versions of Numba and llvmlite, the CPU, the argument types. Files are created by an atomic rename,
so processes can compile the same function at the same time. A file begins with a checksum, which is verified before its
contents are used; a function whose file is damaged is compiled again, and the file is replaced.

If the environment variable ``NUMBA_CACHE_DIR`` is set, the files are only in this folder. Otherwise a file is searched in
the ``__pycache__`` beside the source file, then in a folder of the user; a new file is written to the first of these that is
writable. A complete cache can be used on a read-only file system. Loading a file executes it, so folders and files that are
writable by other users, or belong to another user except the superuser, are not used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import io
import os
import pickle
import re
import stat
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba

from fastrnn.engine.numba_private.services import background, storage

__all__ = ["EXTERNALS", "EXTERNAL_SYMBOLS", "Cache", "cell_sources", "extra_sources", "sources_digest"]

#: Separately compiled functions (see `linking`): name -> function that provides the symbol for a tuple of argument types.
EXTERNALS: dict[str, Callable[[tuple], str]] = {}
#: Their symbols: symbol -> (name, argument types).
EXTERNAL_SYMBOLS: dict[str, tuple[str, tuple]] = {}

#: The files of the bodies of each cell class, and further files on which code depends.
cell_sources: dict[type, set[str]] = {}
extra_sources: set[str] = set()

_ENGINE = Path(__file__).resolve().parents[1]
_SOURCE_FOLDERS = (_ENGINE, _ENGINE.parent / "cells")

_HEAD = b"fastrnn compiled 1\n"
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_DAY = 86400.0


# --------------------------------------------------------------------------------------------------------------------
# Digests of everything that code depends on


@functools.cache
def sources_digest() -> str:
    """A digest of all source files of the engine and of the cells."""
    # Including subfolders: if a file were left out, its code would not be compiled again after a change.
    return _digest_files(path for folder in _SOURCE_FOLDERS for path in sorted(folder.rglob("*.py")))


def _digest_files(files: Iterable[str | os.PathLike]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.path.basename(path).encode() + b"\0")
        try:
            digest.update(Path(path).read_bytes())
        except OSError:  # a frozen application has no sources, which can't change
            digest.update(b"?")
    return digest.hexdigest()


def _cell_classes(types: Iterable[Any]) -> Iterator[type]:
    for type_ in types:
        for inner in ("kinds", "types"):  # of `Arguments`, and of tuples
            yield from _cell_classes(getattr(type_, inner, ()))
        cls = getattr(type_, "instance_class", None)
        if cls is not None:
            yield cls


def _class_key(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


class _Unpickler(pickle.Unpickler):
    """Unpickle the data of a signature, with the cell classes of this process.

    Cell classes of a script or a notebook would otherwise be unpickled as other classes, which have no bodies.
    """

    def __init__(self, content: Any, signature: Any) -> None:
        super().__init__(io.BytesIO(content))
        self._classes = {_class_key(cls): cls for cls in _cell_classes(signature)}

    def persistent_load(self, pid: Any) -> Any:
        return self._classes[pid]


def _source_stamp(function: Callable) -> str | None:
    """A digest of the function's own source; None if there is no source."""
    path = inspect.getfile(function)
    if os.path.exists(path):
        return _digest_files([path])
    if getattr(sys, "frozen", False):
        return _digest_files([sys.executable])
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()  # entered in a notebook
    except OSError:
        return None


# --------------------------------------------------------------------------------------------------------------------
# Folders and files


def _user_folder() -> Path:
    """The operating system's folder for caches of the user."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "fastrnn" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastrnn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastrnn"


def _folders(function: Callable) -> list[Path]:
    """Folders for the files of a function, in the order in which they are tried."""
    return _folders_of(os.path.abspath(inspect.getfile(function)))


def _folders_of(path: str) -> list[Path]:
    """Folders for the compiled functions of a source file."""
    folder = os.path.dirname(path)
    name = os.path.basename(folder) + "_" + hashlib.sha256(folder.encode()).hexdigest()[:40]
    if not os.path.exists(path):
        name = "interactive"  # the path differs between sessions
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR) / name]
    found = []
    if os.path.exists(path):
        found.append(Path(folder) / "__pycache__")
    with contextlib.suppress(RuntimeError):  # the user has no home folder
        found.append(_user_folder() / name)
    return found


def _private_group(gid: int) -> bool:
    """Whether this user is the only member of a group, as in the private groups of many systems."""
    try:
        import grp
        import pwd

        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except (ImportError, KeyError):
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def distrusted(status: os.stat_result) -> str:
    """The reason why a folder or file with this status must not be used; empty if there is none."""
    if not hasattr(os, "geteuid"):  # on Windows, access lists protect the folders of users by default
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user (number {status.st_uid})"
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _private_group(status.st_gid)):
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


_warned: set[str] = set()


def warn_once(kind: str, message: str) -> None:
    """Warn if no warning of this kind was issued before."""
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _warn_distrusted(path: Path | str, reason: str) -> None:
    warn_once(
        "distrusted",
        f"compiled kernels in {path} are not used, because {reason}: they are loaded from elsewhere, or compiled again. "
        "Change its owner or mode, or set NUMBA_CACHE_DIR to a folder of your own.",
    )


def _usable(folder: Path) -> bool:
    """Whether a folder exists and is trusted."""
    try:
        reason = distrusted(os.stat(folder))
    except OSError:
        return False
    if reason:
        _warn_distrusted(folder, reason)
    return not reason


def _read(path: Path) -> bytes | None:
    """The content of a file after its checksum; None if there is no usable file."""
    try:
        with open(path, "rb") as file:
            reason = distrusted(os.fstat(file.fileno()))
            if reason:
                _warn_distrusted(path, reason)
                return None
            data = file.read()
    except OSError:
        return None
    begin = len(_HEAD) + _CHECKSUM_BYTES
    content = memoryview(data)[begin:]
    if data[:begin] != _HEAD + hashlib.sha256(content).digest():
        warn_once(
            "damaged",
            f"the compiled kernel in {path} is damaged: it is compiled again, and the file is replaced.",
        )
        return None
    with contextlib.suppress(OSError):
        if time.time() - os.path.getmtime(path) > _DAY / 2:
            os.utime(path)  # mark the file as used, because _prune() removes old files
    return data[begin:]


def _write(path: Path, content: bytes) -> None:
    """Write a file with its checksum atomically."""
    os.makedirs(path.parent, mode=0o755, exist_ok=True)
    if not _usable(path.parent):
        raise PermissionError(f"{path.parent} is not trusted")
    temporary = f"{path}.tmp.{uuid.uuid4().hex[:16]}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        with open(handle, "wb") as file:
            file.write(_HEAD + hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


# --------------------------------------------------------------------------------------------------------------------


class Cache:
    """The files of one function, with the interface that Numba's dispatchers use."""

    def __init__(self, function: Callable) -> None:
        self._function = function
        source = _source_stamp(function)
        self._folders = _folders(function) if source else []
        self._stamp = repr((numba.__version__, llvmlite.__version__, source))
        module = os.path.splitext(os.path.basename(inspect.getfile(function)))[0]
        name = f"{module}.{function.__qualname__}".replace("<", "").replace(">", "")
        self._base = f"{name}-{function.__code__.co_firstlineno}.py{sys.version_info[0]}{sys.version_info[1]}"

    @property
    def cache_path(self) -> str:
        """The first of the folders."""
        return str(self._folders[0]) if self._folders else ""

    def _name(self, signature: Any, codegen: Any) -> str:
        sources = {s for cls in _cell_classes(signature) for s in cell_sources.get(cls, ())} | extra_sources
        outside = [s for s in sources if not any(map(Path(s).resolve().is_relative_to, _SOURCE_FOLDERS))]
        classes = _cell_classes(signature)
        texts = sorted({cls.source_digest() for cls in classes if hasattr(cls, "source_digest")})
        code = storage.code_key(self._function, signature, codegen)
        key = repr((self._stamp, code, _digest_files(sorted(outside)), texts))
        return f"{self._base}.{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled function for a tuple of argument types, or None if it has to be compiled."""
        name = self._name(signature, context.codegen())
        for folder in self._folders:
            content = _read(folder / name) if _usable(folder) else None
            if content is None:
                continue
            try:
                symbols, names, data = _Unpickler(content, signature).load()
            except (ImportError, AttributeError, KeyError):  # the file names classes that were moved
                continue
            if all(external in EXTERNALS for external, _ in symbols):
                for external, arguments in symbols:
                    EXTERNALS[external](arguments)
                background.settle()  # the code may refer to functions that are being compiled
                storage.make_known(context, names)
                return storage.rebuilt(context, data)
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function, in the first folder that can be written to, once its code is complete."""
        background.after(result.library, functools.partial(self._save, signature, result))

    def _save(self, signature: Any, result: Any) -> None:
        if not storage.cachable(result):
            return
        declared = storage.declared_names(result)
        externals = [EXTERNAL_SYMBOLS[name] for name in declared if name in EXTERNAL_SYMBOLS]
        others = [name for name in declared if name not in EXTERNAL_SYMBOLS]
        classes = {cls: _class_key(cls) for cls in _cell_classes(signature)}
        content = storage.dumps((externals, others, storage.reduced(result)), classes)
        name = self._name(signature, result.codegen)
        problem: Any = "they have no source file"
        for folder in self._folders:
            try:
                _write(folder / name, content)
            except OSError as error:
                # On Windows a file that another process reads can't be replaced, but then it exists already.
                if os.name == "nt" and os.path.exists(folder / name):
                    return
                problem = error
            else:
                self._prune(folder)
                return
        warn_once(
            "unwritable",
            f"compiled kernels can't be kept on disk, so every new process compiles them again ({problem}). "
            "Set NUMBA_CACHE_DIR to a writable folder to change that.",
        )

    def _prune(self, folder: Path) -> None:
        """Remove this function's files of other sources that were not used for a day."""
        stem, _, rest = self._base.rpartition("_")
        digest = rest.partition("-")[0]
        pattern = re.compile(re.escape(stem) + r"_(?!" + digest + r")[0-9a-f]{12}-\d+\.py.*\.nbc")
        with contextlib.suppress(OSError):  # a folder that can't be listed
            for entry in os.scandir(folder):
                if pattern.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        if time.time() - entry.stat().st_mtime > _DAY:
                            os.unlink(entry.path)


def kernel_files() -> list[Path]:
    """Files of compiled kernels of this package, in all folders of the cache."""
    sources = [path for folder in _SOURCE_FOLDERS for path in folder.rglob("*.py")]
    folders = {folder for path in sources for folder in _folders_of(str(path))}
    return sorted(file for folder in folders for file in folder.glob("*.nbc"))

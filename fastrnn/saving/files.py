"""Atomic writing of files: the file always has either the old or the new content.

The new content is written to a temporary file in the same folder, which is flushed to the disk and renamed to the target;
then the folder is flushed. If the process is killed, the old file is unchanged, and a temporary file may be left, which the
next save in that folder removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from fastrnn.exceptions import ModelFileError

try:
    import fcntl
except ImportError:  # Windows, where open files can't be removed, so no lock is needed
    fcntl = None  # type: ignore[assignment]

__all__ = ["PREFIX", "read_whole", "write_whole"]

#: Prefix of temporary files. Their names do not contain the target's, which may have the greatest possible length.
PREFIX = ".fastrnn-"
_SUFFIX = ".tmp"

_HINTS = {
    errno.ENOSPC: "the disk is full: make room, or save elsewhere",
    errno.EDQUOT if hasattr(errno, "EDQUOT") else -1: "your quota is used up: make room, or save elsewhere",
    errno.EFBIG: "the file is larger than this process may write: raise the limit, or save elsewhere",
    errno.EROFS: "the file system is read-only: save elsewhere",
    errno.EACCES: "this process may not write there: change the permissions, or save elsewhere",
    errno.EPERM: "this process may not write there: change the permissions, or save elsewhere",
    errno.ENOENT: "the folder does not exist: create it first",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ENAMETOOLONG: "the name is too long for the file system: use a shorter one",
}


def _path(path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path={path!r}: give a path, as a string or a pathlib.Path")
    text: str = os.fspath(path)
    if not text or "\0" in text:
        raise ModelFileError(f"path={text!r} is not the name of a file: give a file name")
    return text


def _check_target(path: str) -> int | None:
    """Raise if `path` can't be replaced by a file; return the permissions of the existing file, if any."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"{path!r} is a folder: give the name of a file in it")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"{path!r} is not a regular file, so it can't be replaced: give another name")
    # os.access allows root everything, but a read-only mode must protect the file from root too.
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise ModelFileError(
            f"{path!r} is read-only and was left unchanged: allow writing to it, or give another name"
        )
    return stat.S_IMODE(mode)


def _create(folder: str) -> tuple[str, int]:
    """Create a locked file in `folder`; return its name and descriptor."""
    while True:
        name = os.path.join(folder, f"{PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
        flags = (
            os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        )
        descriptor = os.open(name, flags, 0o666)
        if fcntl is None:
            return name, descriptor
        # The lock shows other processes that this file is in use. If one removed it before the lock, create another.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return name, descriptor
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)


def _remove_leftovers(folder: str) -> None:
    """Remove temporary files of killed processes, which are not locked."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(PREFIX) and entry.name.endswith(_SUFFIX)):
                continue
            with contextlib.suppress(OSError):
                if fcntl is None:
                    os.unlink(entry.path)
                    continue
                descriptor = os.open(entry.path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)
                finally:
                    os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Wait until the written data are on the disk."""
    if fcntl is not None and hasattr(fcntl, "F_FULLFSYNC"):
        # On macOS, fsync does not flush the drive's own cache.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _flush_folder(folder: str) -> None:
    if os.name == "nt":
        return
    # The file is already in place; ignore errors of file systems that can't flush folders.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, ModelFileError):
            raise
        hint = _HINTS.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
        raise ModelFileError(f"{path!r} can't be {what}: {hint}") from error


def write_whole(path: Any, parts: Iterable[Any]) -> None:
    """Write a file completely, or leave the existing file unchanged.

    Parameters
    ----------
    path : str or path
    parts : iterable of bytes-like objects
        The content.

    Raises
    ------
    ModelFileError
        If the file can't be written. The old file is kept, and no temporary file is left.
    """
    name = _path(path)
    with _explained(name, "written"):
        target = os.path.realpath(name)  # write to the target of a link
        permissions = _check_target(target)
        folder = os.path.dirname(target)
        _remove_leftovers(folder)
        temporary, descriptor = _create(folder)
        try:
            try:
                if permissions is not None and hasattr(os, "fchmod"):
                    os.fchmod(descriptor, permissions)
                for part in parts:
                    rest = memoryview(part).cast("B")
                    while len(rest):
                        rest = rest[os.write(descriptor, rest[: 1 << 30]) :]
                _flush(descriptor)
                if os.name != "nt":
                    os.replace(temporary, target)
            finally:
                os.close(descriptor)
            if os.name == "nt":  # Windows renames closed files only
                os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(folder)


def read_whole(path: Any) -> tuple[str, bytes]:
    """The name and the content of a file; raises `ModelFileError` if it does not exist or is not a regular file."""
    name = _path(path)
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        raise ModelFileError(f"{name!r} can't be read: {os.strerror(error.errno or 0)}") from error
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"{name!r} is a folder: give the name of a file")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"{name!r} is not a regular file: give a file of save()")
    with _explained(name, "read"), open(name, "rb") as file:
        return name, file.read()

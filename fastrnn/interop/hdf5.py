"""Reading of HDF5 files in a process of its own, so that a damaged file can't crash the caller's.

HDF5's library may crash, hang or allocate without bound on damaged files. A child process reads the file with limits of time
and memory, and returns names and arrays. It takes about .2 s to start. Where none can be started (in a frozen program, or
where the system forbids it), the file is read directly.
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn.exceptions import ModelFileError
from fastrnn.extras import extra
from fastrnn.interop import hdf5_child

__all__ = ["Group", "read_hdf5"]

_SCRIPT = Path(hdf5_child.__file__)
#: Time limit: seconds for any file, and for each byte; and seconds of CPU time for any file, where the system limits that.
_SECONDS, _SECONDS_PER_BYTE, _CPU_SECONDS = 60.0, 2e-7, 10
#: Memory limit of the child beyond what the interpreter takes: bytes for any file, and for each byte. Only Linux has one.
_MEMORY, _MEMORY_PER_BYTE = 1 << 28, 8


class Group(NamedTuple):
    """A group: its attributes, and its items, which are groups, arrays, or texts that say why one was not read."""

    name: str
    attributes: dict[str, Any]
    items: dict[str, Any]

    def find(self, *names: Any) -> Any:
        """The group or array at a path of names.

        Raises
        ------
        KeyError
            If there is none.
        ModelFileError
            If it may not be read, like links and values in other files.
        """
        found: Any = self
        for step in "/".join(map(str, names)).split("/"):
            if not isinstance(found, Group) or step not in found.items:
                raise KeyError(f"{self.name} has no {'/'.join(map(str, names))!r}")
            found = found.items[step]
            if isinstance(found, str):
                raise ModelFileError(found)
        return found


def _group(name: str, tree: Any, arrays: list[np.ndarray]) -> Group:
    items: dict[str, Any] = {}
    for key, value in tree["items"].items():
        if isinstance(value, list):
            items[key] = arrays[value[0]]
        else:
            items[key] = value if isinstance(value, str) else _group(f"{name}/{key}", value, arrays)
    return Group(name or "the file", tree["attributes"], items)


def _stated(tree: Any) -> list[tuple[int, np.dtype[Any], list[int]]]:
    """Number, dtype and shape of all arrays of a tree."""
    found = []
    for value in tree["items"].values():
        if isinstance(value, list):
            found.append((value[0], np.dtype(value[1]), value[2]))
        elif not isinstance(value, str):
            found += _stated(value)
    return found


def _run_child(path: str, member: str, size: int) -> bytes | None:
    """What the child wrote after it was ready; None if no child can be started."""
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    # The child imports from the same folders. Nothing is imported before they are set, so no file of the working folder is.
    folders = [folder for folder in sys.path if isinstance(folder, str)]
    code = (
        f"import sys; sys.path[:] = {folders!r}; import runpy; "
        f"runpy.run_path({str(_SCRIPT)!r}, run_name='__main__')"
    )
    limits = [_MEMORY + _MEMORY_PER_BYTE * size, _CPU_SECONDS + math.ceil(_SECONDS_PER_BYTE * size)]
    # One thread starts fastest. HDF5 can load filters from libraries, which a file must not cause.
    environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, path, member, *map(str, [size, *limits])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            timeout=_SECONDS + _SECONDS_PER_BYTE * size,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelFileError(
            f"HDF5's library took more than {error.timeout:.0f} s to read it and was stopped, so the file is damaged"
        ) from None
    except OSError:
        return None
    if not done.stdout.startswith(hdf5_child.READY):
        return None
    if done.returncode:
        raise ModelFileError(
            f"HDF5's library crashed on it, or took too long (in a process of its own, exit code {done.returncode}), so the "
            "file is damaged"
        )
    return done.stdout[len(hdf5_child.READY) :]


def read_hdf5(path: str, member: str = "", size: int | None = None) -> Group:
    """Read the weights and their names from a file of Keras.

    Parameters
    ----------
    path : str
        An HDF5 file, or an archive.
    member : str
        Name of the HDF5 file in the archive.
    size : int, optional
        Most bytes of values; by default the size of the file.

    Raises
    ------
    ModelFileError
        If the file can't be read, or not within the limits of time and memory.
    """
    size = os.path.getsize(path) if size is None else size
    written = _run_child(path, member, size)
    if written is None:
        tree, arrays = hdf5_child.read(extra("h5py", "keras"), path, member, size)
        return _group("", tree, arrays)
    (length,) = struct.unpack_from("<Q", written)
    found = json.loads(written[8 : 8 + length])
    if "error" in found:
        raise ModelFileError(
            f"it can't be read as a file of Keras ({found['error']}): give a file of Keras's model.save or "
            "model.save_weights"
        )
    tree, arrays, at = found["root"], [], 8 + length
    for _, dtype, shape in sorted(_stated(tree), key=lambda stated: stated[0]):
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(written, dtype, count, at).reshape(shape))
        at += count * dtype.itemsize
    return _group("", tree, arrays)

"""What reads an HDF5 file: run as a script in a process of its own, which may crash on a damaged file.

As a script it must start fast, so nothing of this package is imported, and h5py only by `read`.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import zipfile
from io import BytesIO
from typing import Any

import numpy as np

__all__ = ["READY", "read"]

#: What the script writes first, when it has imported all that it needs.
READY = b"fastrnn reads HDF5\n"
#: The attributes that Keras's files have their description in.
_ATTRIBUTES = ("model_config", "layer_names", "weight_names")
#: Groups inside groups. Keras's files have at most a dozen.
_MAX_DEPTH = 64


def _text(value: Any) -> Any:
    """A string, or a list of strings, from the value of an attribute."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    return [_text(v) for v in value]


class _Reader:
    """Reads groups and datasets, whose values must not exceed the size of the file."""

    def __init__(self, h5py: Any, size: int) -> None:
        self.h5py, self.left = h5py, size
        self.arrays: list[np.ndarray] = []
        self.seen: set[Any] = set()

    def group(self, group: Any, names: Any = None, depth: int = 0) -> dict[str, Any]:
        """Attributes and items of a group, of all or of these names; what can't be read is a text that says why."""
        self.seen.add(self.h5py.h5o.get_info(group.id).addr)
        attributes = {k: _text(group.attrs[k]) for k in _ATTRIBUTES if k in group.attrs}
        items: dict[str, Any] = {}
        for name in group if names is None else names:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(link, self.h5py.HardLink):
                items[name] = f"{where} is a link, which is not followed"
                continue
            item = group[name]
            if not isinstance(item, self.h5py.Group):
                items[name] = self.dataset(item, where)
                continue
            # A file may link a group from several places, also from inside itself.
            if self.h5py.h5o.get_info(item.id).addr in self.seen or depth == _MAX_DEPTH:
                items[name] = f"{where} is a second link to a group, which is not followed"
                continue
            items[name] = self.group(item, depth=depth + 1)
        return {"attributes": attributes, "items": items}

    def dataset(self, dataset: Any, where: str) -> Any:
        """The number, dtype and shape of a dataset's array, or a text that says why it isn't read."""
        if not isinstance(dataset, self.h5py.Dataset):
            return f"{where} is not a dataset"
        if dataset.external or dataset.is_virtual:
            return f"the dataset {where} has its values in another file, which is not read"
        # Compressed datasets and those that were never written may state any size.
        shape = dataset.shape
        n_bytes = self.left + 1 if shape is None else math.prod(shape) * dataset.dtype.itemsize
        if dataset.dtype.kind not in "fiu" or n_bytes > self.left:
            return f"the dataset {where} of shape {shape} is more than the file can contain"
        self.left -= n_bytes
        self.arrays.append(np.ascontiguousarray(dataset[()]))
        return [len(self.arrays) - 1, dataset.dtype.str, list(shape)]


def read(h5py: Any, path: str, member: str, size: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The tree of a file, or of a member of an archive, and the arrays that it refers to by number.

    Only the parts of the file that have the weights of layers are read.
    """
    source: Any = path
    if member:
        with zipfile.ZipFile(path) as archive:
            source = BytesIO(archive.read(member))
    reader = _Reader(h5py, size)
    with h5py.File(source, "r") as file:
        if "model_config" in file.attrs:
            names: Any = ["model_weights"]
        elif "layer_names" in file.attrs:
            names = None
        else:
            names = ["layers" if "layers" in file else "_layer_checkpoint_dependencies"]
        return reader.group(file, names and [n for n in names if n in file]), reader.arrays


def _limit(extra: int, seconds: int) -> None:
    """Let this process take `extra` bytes and `seconds` of CPU time, where the system can limit that.

    No core is written if it crashes.
    """
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        with open("/proc/self/statm", encoding="ascii") as file:
            n_bytes = int(file.read().split()[0]) * resource.getpagesize() + extra
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [n_bytes, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    except (ImportError, OSError, ValueError):
        return


def main(path: str, member: str, size: int, memory: int, seconds: int) -> None:
    """Write the tree as JSON with its length before it, then the arrays' bytes."""
    import h5py

    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    _limit(memory, seconds)
    try:
        tree, arrays = read(h5py, path, member, size)
        text = json.dumps({"root": tree}).encode()
    except Exception as error:  # any, as the caller raises it as an error of this package
        text, arrays = json.dumps({"error": f"{type(error).__name__}: {error}"}).encode(), []
    out.write(struct.pack("<Q", len(text)) + text)
    for array in arrays:
        out.write(array.reshape(-1).view(np.uint8).data)
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))

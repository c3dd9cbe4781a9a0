"""The file format: safetensors, with a checksum over the whole file.

A file is eight bytes with the length of the header (little-endian), the header in JSON, and the tensors' bytes. The header
gives each tensor's dtype, shape and position; ``__metadata__`` holds strings. Reading it runs no code.

The format is read and written here with NumPy, because saving must work without optional packages, and the library
`safetensors` would replace only about a hundred lines. The tests compare reading and writing with that library.

Metadata of our files: ``format`` ("fastrnn"), ``format_version``, ``fastrnn_version``, ``content`` (JSON) and
``checksum``, the SHA-256 of the whole file with zeros in place of the checksum's 64 digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn.exceptions import ModelFileError
from fastrnn.saving.files import read_whole, write_whole

__all__ = ["FORMAT", "FORMAT_VERSION", "Container", "read", "write"]

FORMAT = "fastrnn"
#: Increased by 1 when new files can't be read by earlier versions.
FORMAT_VERSION = 1

_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_NAMES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}
#: Limit of the library `safetensors`, too: a longer header is rejected before it is read.
_MAX_HEADER = 100_000_000
_BLANK = "0" * 64
_KEY = b'"checksum":"'

#: First bytes of other file formats, and what messages say about them.
_OTHERS = (
    (
        b"\x80",
        "is a pickle, as earlier versions wrote them. load() does not read pickles, because that runs code in the file. If "
        "you trust the file, read it with pickle.load in the version that wrote it, and copy the weights: "
        "new_model.set_weights(old_model.get_weights()), then new_model.save(path)",
    ),
    (
        b"PK\x03\x04",
        "is a zip archive. Weights that earlier versions wrote as .npz: file = numpy.load(path), then "
        "model.set_weights([file[f'arr_{i}'] for i in range(len(file.files))]). A .keras file: "
        "fastrnn.interop.from_keras(path). A file of torch.save: fastrnn.interop.from_torch",
    ),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file: read models of Keras with fastrnn.interop.from_keras(path)"),
    (b"\x08", "may be an ONNX file: read it with fastrnn.interop.from_onnx(path)"),
)


class Container(NamedTuple):
    """The contents of a file."""

    path: str
    content: Any
    tensors: dict[str, np.ndarray]
    #: The version of fastrnn that wrote it.
    version: str
    #: Number of bytes of the file, which limits the memory for its weights.
    size: int


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def write(path: Any, content: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a file.

    Parameters
    ----------
    path : str or path
    content : object
        Plain data for JSON.
    tensors : mapping of str to ndarray
        Arrays of booleans, integers or floating-point numbers.

    Raises
    ------
    ModelFileError
        If the file can't be written; an existing file is kept.
    """
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "fastrnn_version": sys.modules["fastrnn"].__version__,
            "checksum": _BLANK,
            "content": _dump(content),
        }
    }
    # In order of decreasing element size, so that each tensor starts at a multiple of its element size.
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    arrays, at = [], 0
    for name in order:
        array = tensors[name]
        code = _NAMES[array.dtype.newbyteorder("=")]
        array = np.asarray(array, dtype=_DTYPES[code], order="C")
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        arrays.append(array)
    text = _dump(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [a.reshape(-1).view(np.uint8).data for a in arrays if a.size]
    digest = hashlib.sha256(struct.pack("<Q", len(text)) + text)
    for part in parts:
        digest.update(part)
    text = text.replace(_KEY + _BLANK.encode(), _KEY + digest.hexdigest().encode(), 1)
    write_whole(path, [struct.pack("<Q", len(text)), text, *parts])


def read(path: Any) -> Container:
    """Read a file and check its header, checksum and tensors.

    Raises
    ------
    ModelFileError
        If the file was not written by this package, is of a later version, damaged or truncated. Sizes are compared with
        the file's size before memory is allocated.
    """
    name, data = read_whole(path)
    header, start = _header(name, data)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{name!r} is a safetensors file of another program: it has tensors, but no description of a model. Read it "
            "with safetensors.numpy.load_file and give its arrays to model.set_weights"
        )
    _check_version(name, metadata)
    _check_sum(name, data, metadata)
    tensors = _tensors(name, header, memoryview(data)[start:])
    try:
        content = json.loads(metadata["content"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(name, f"its content can't be read ({type(error).__name__})") from error
    return Container(name, content, tensors, str(metadata.get("fastrnn_version")), len(data))


def _damaged(name: str, what: str) -> ModelFileError:
    return ModelFileError(f"{name!r} is damaged: {what}. Use a backup, or save the model again")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _header(name: str, data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and the position of the first tensor."""
    if not data:
        raise ModelFileError(f"{name!r} is empty: the process that wrote it was stopped. Use a backup")
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else -1
    if not 2 <= length <= min(_MAX_HEADER, len(data) - 8) or data[8:9] != b"{":
        for start, hint in _OTHERS:
            if data.startswith(start):
                raise ModelFileError(f"{name!r} {hint}")
        if data[8:9] == b"{":
            raise _damaged(name, f"it was truncated to {len(data)} bytes, less than the size of its header")
        raise ModelFileError(
            f"{name!r} is a file of another program, or its first bytes are damaged: give a file of save()"
        )
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its header can't be read ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(name, "its header is not a table")
    return header, 8 + length


def _check_version(name: str, metadata: Mapping[str, Any]) -> None:
    version, writer = metadata.get("format_version"), metadata.get("fastrnn_version")
    if not (isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 10):
        raise _damaged(name, f"format_version={version!r} is not a number")
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{name!r} was written by fastrnn {writer} in version {version} of the format, and this version reads up to "
            f"{FORMAT_VERSION}: update fastrnn"
        )
    if int(version) < 1:
        raise _damaged(name, f"format_version={version!r} does not exist")


def _check_sum(name: str, data: bytes, metadata: Mapping[str, Any]) -> None:
    stated = metadata.get("checksum")
    if not isinstance(stated, str) or len(stated) != 64:
        raise _damaged(name, "its checksum is missing")
    at = data.find(_KEY + stated.encode()) + len(_KEY)
    if at < len(_KEY):
        raise _damaged(name, "its checksum has an unknown form")
    digest = hashlib.sha256(memoryview(data)[:at])
    digest.update(_BLANK.encode())
    digest.update(memoryview(data)[at + 64 :])
    if digest.hexdigest() != stated:
        raise _damaged(name, "its checksum does not match (bytes are missing or were changed)")


def _tensors(name: str, header: Mapping[str, Any], data: memoryview) -> dict[str, np.ndarray]:
    found, at = {}, 0
    try:
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        for key, entry in entries:
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            start, stop = entry["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (*shape, start, stop)) or len(shape) > 32:
                raise ValueError(f"{key!r} has an invalid shape or position")
            if start != at or stop > len(data) or math.prod(shape) * dtype.itemsize != stop - start:
                raise ValueError(f"{key!r} has a position or size that does not fit its shape")
            array = np.frombuffer(data[start:stop], dtype).reshape(shape)
            if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
                raise ValueError(f"{key!r} has values that are not booleans")
            found[key] = array.astype(dtype.newbyteorder("="))
            at = stop
        if at != len(data):
            raise ValueError("there are bytes after the last tensor")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, str(error)) from error
    return found

"""(a) Damaged files and arrays: load, load_weights, from_keras, from_onnx and from_torch.

A reader runs in a separate process, ``python -m benchmarks.reliability.mutations READER COUNT SEED``, so that a crash can be
counted. A mutated input may be refused with an error of this package, or be read. If the format has a checksum, or needs
none, the outputs must be those of the input before its mutation.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from benchmarks.reliability.parts import Result, in_process, numbers, resident_mb, small_model
from fastrnn import ConversionError, ModelFileError, interop

#: Fraction of all mutated inputs for each reader. The formats of Keras and ONNX have no checksum of their weights. Files of
#: Keras are fewer, as each is read in a process of its own, which takes .1 to .3 s.
SHARES = {
    "load": 0.49,
    "load_signed": 0.1,
    "weights": 0.312,
    "keras": 0.01,
    "keras_h5": 0.004,
    "keras_weights": 0.004,
    "onnx": 0.03,
    "torch": 0.05,
}
EDGES = (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
#: Readers of Keras's files, which run in several shorter processes.
KERAS = ("keras", "keras_h5", "keras_weights")
CHECKED = ("load", "weights", "keras")
CHECKED_PROMISE = "mutated inputs: only our errors, no crash, hang or silent change"
UNCHECKED_PROMISE = (
    "mutated inputs: only our errors, no crash or hang; a change may be read, as there is no checksum"
)
#: Most additional memory, for inputs of some kilobytes.
MAX_MB = 200.0
OURS = (ModelFileError, ConversionError)


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """A copy with some bytes changed, cut, repeated or moved."""
    data, kind = bytearray(raw), int(rng.integers(8))
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 64))
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at : at + n] = rng.bytes(n)
    elif kind == 2:
        data = data[:at]
    elif kind == 3:
        data += rng.bytes(n)
    elif kind == 4:
        del data[at : at + n]
    elif kind == 5:
        data[at:at] = data[at : at + n]
    elif kind == 6:
        edge = int(rng.choice(np.array(EDGES, np.uint64)))
        place = 0 if rng.random() < 0.3 else at
        data[place : place + 8] = struct.pack("<Q", edge)
    else:
        for spot in rng.integers(len(data), size=8):
            data[int(spot)] = int(rng.integers(256))
    return bytes(data)


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**9,
    2**70,
    1.5,
    "x",
    "GRU",
    "os.system",
    [],
    {},
    [[]],
    {"$": "code"},
    {"$": "same", "number": 3},
]


def resigned(raw: bytes, rng: np.random.Generator) -> bytes:
    """A copy with another value somewhere in its description, and the checksum of the changed content."""
    (length,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header["__metadata__"]
    content = json.loads(metadata["content"]) if rng.random() < 0.8 else None
    change_somewhere(header if content is None else content, rng)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        if content is not None:
            metadata["content"] = json.dumps(content)
        metadata["checksum"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    whole = struct.pack("<Q", len(text)) + text + body
    return whole.replace(
        b'"checksum":"' + b"0" * 64, b'"checksum":"' + hashlib.sha256(whole).hexdigest().encode()
    )


def change_somewhere(value: Any, rng: np.random.Generator) -> None:
    """Replace one value inside `value`, at any depth."""
    places: list[tuple[Any, Any]] = []

    def collect(part: Any) -> None:
        for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
            places.append((part, key))
            if isinstance(inner, (dict, list)):
                collect(inner)

    collect(value)
    part, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.1:
        del part[key]
    else:
        part[key] = VALUES[int(rng.integers(len(VALUES)))]


def mutated_arrays(state: dict[str, np.ndarray], rng: np.random.Generator) -> dict[Any, Any]:
    """A state dict with another shape, dtype, value or name somewhere."""
    table: dict[Any, Any] = dict(state)
    name = list(table)[int(rng.integers(len(table)))]
    kind = int(rng.integers(7))
    if kind == 0:
        del table[name]
    elif kind == 1:
        table[name + "x"] = table.pop(name)
    elif kind == 2:
        table[name] = np.zeros(tuple(rng.integers(0, 6, int(rng.integers(4)))), "float32")
    elif kind == 3:
        table[name] = table[name].astype(
            ["float64", "int32", "complex64", "object", "U3", "bool"][int(rng.integers(6))]
        )
    elif kind == 4:
        table[name] = [None, 3, "x", [], [[1.0]]][int(rng.integers(5))]
    elif kind == 5:
        table[int(rng.integers(9))] = table.pop(name)
    else:
        table[f"{name}.weight"] = table[name]
    return table


def reader(kind: str, folder: Path) -> tuple[bytes, Callable[[bytes], Any]]:
    """The bytes that are mutated, and a function that reads such bytes and returns outputs."""
    model, x = small_model(), numbers(2, 4, 3)
    path = folder / {
        "keras": "m.keras",
        "keras_h5": "m.h5",
        "keras_weights": "m.weights.h5",
        "onnx": "m.onnx",
    }.get(kind, "m")
    other = small_model(seed=1)
    if kind in ("load", "load_signed"):
        model.fit(x, numbers(2, 2), verbose=0)
        model.save(path)
    elif kind == "weights":
        model.save_weights(path)
    elif kind == "onnx":
        interop.to_onnx(model, path)
    else:
        theirs = interop.to_keras(model)
        theirs.save_weights(path) if kind == "keras_weights" else theirs.save(path)

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        if kind in ("load", "load_signed"):
            return fastrnn.load(path)
        if kind == "weights":
            other.load_weights(path)
            return other
        if kind == "keras_weights":
            return interop.from_keras(path, other)
        return interop.from_onnx(path) if kind == "onnx" else interop.from_keras(path)

    return path.read_bytes(), read


def outputs(found: Any, x: np.ndarray) -> Any:
    """Outputs of a model for any kind of input; errors are ignored, as only crashes count here."""
    try:
        return found(x)
    except Exception:
        return None


def work(kind: str, count: int, seed: int) -> dict[str, Any]:
    """Read `count` mutated inputs and count the outcomes."""
    rng, counts, x = np.random.default_rng(seed), Counter[str](), numbers(2, 4, 3)
    others: Counter[str] = Counter()
    slowest = 0.0
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() and os.access(shm, os.W_OK) else None) as name:
        if kind == "torch":
            import torch

            module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
            state = {k: v.numpy() for k, v in torch.nn.GRU(3, 2).state_dict().items()}
            state |= {f"head.{k}": v.numpy() for k, v in module[0].state_dict().items()}
            raw, read = b"", lambda data: None
        else:
            raw, read = reader(kind, Path(name))
            expected = outputs(read(raw), x)
        before = resident_mb()

        def found_so_far() -> dict[str, Any]:
            return {
                **counts,
                "most MB": round(resident_mb() - before, 1),
                "slowest s": round(slowest, 2),
                "examples": dict(others.most_common(5)),
            }

        for k in range(count):
            counts["inputs"] += 1
            if k % 500 == 0:  # if the process crashes later, the last line is read
                print(json.dumps(found_so_far()), flush=True)
            table = mutated_arrays(state, rng) if kind == "torch" else None
            data = (
                b""
                if table is not None
                else resigned(raw, rng)
                if kind == "load_signed"
                else damaged(raw, rng)
            )
            start = time.perf_counter()
            try:
                found = interop.from_torch(table) if table is not None else read(data)
            except OURS as error:
                counts["refused"] += 1
                if kind in KERAS:
                    counts["crashes of HDF5, contained"] += "HDF5's library crashed" in str(error)
            except Exception as error:
                counts["other errors"] += 1
                others[f"{type(error).__name__}: {str(error)[:80]}"] += 1
            else:
                got = outputs(found, x)
                if data == raw and table is None:
                    counts["unchanged"] += 1
                elif (
                    kind not in ("torch", "load_signed") and got is not None and np.array_equal(got, expected)
                ):
                    counts["read, the same outputs"] += 1
                else:
                    counts["read, other outputs"] += 1
            slowest = max(slowest, time.perf_counter() - start)
        return found_so_far()


def run(total: int, seed: int = 0) -> list[Result]:
    """Run all readers, each with its fraction of `total`."""
    results = []
    for k, (kind, share) in enumerate(SHARES.items()):
        left, batch = max(1, round(total * share)), 0
        sums: Counter[str] = Counter()
        most_mb = slowest = 0.0
        examples: dict[str, int] = {}
        while left > 0:
            n = min(left, 2_000 if kind in KERAS else 50_000)
            ended = in_process(
                "benchmarks.reliability.mutations",
                kind,
                n,
                seed + 1000 * k + batch,
                seconds=120 + (1.0 if kind in KERAS else 0.05) * n,
                KERAS_BACKEND="torch",
            )
            left, batch = left - n, batch + 1
            sums["crashes"] += ended.crashed
            sums["hangs"] += ended.hung
            if ended.crashed:
                examples[f"process ended: {ended.errors[-200:]}"] = 1
            for key, value in (ended.found or {}).items():
                if key == "most MB":
                    most_mb = max(most_mb, value)
                elif key == "slowest s":
                    slowest = max(slowest, value)
                elif key == "examples":
                    examples |= value
                else:
                    sums[key] += value
        figures = {**sums, "most MB": most_mb, "slowest s": slowest}
        if examples:
            figures["examples"] = examples
        silent = (
            sums["read, other outputs"] + sums["read, the same outputs"] if kind in ("load", "weights") else 0
        )
        silent += sums["read, other outputs"] if kind in CHECKED else 0
        holds = (
            not (sums["crashes"] or sums["hangs"] or sums["other errors"] or silent) and not most_mb > MAX_MB
        )
        results.append(
            Result(
                f"a {kind}",
                CHECKED_PROMISE if kind in CHECKED else UNCHECKED_PROMISE,
                figures,
                holds,
            )
        )
    return results


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

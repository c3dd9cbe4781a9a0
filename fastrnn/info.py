"""Versions, processor, threads, and the cache of compiled kernels, for reports of figures and faults."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe", "show_versions"]

_DEPENDENCIES = ("numpy", "numba", "llvmlite", "scikit-learn", "scipy", "tqdm")
_OPTIONAL = (
    "matplotlib",
    "pandas",
    "polars",
    "pooch",
    "keras",
    "torch",
    "jax",
    "onnx",
    "onnxruntime",
    "openvino",
    "h5py",
    "safetensors",
)
#: LLVM's names of the processor features that determine the speed of kernels.
_FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")
#: What `engine.numba_private.services` has chosen.
_COMPILERS = {
    "private": "enabled",
    "stock": "enabled, by Numba's public functions only (the stock path), in one thread and without files",
    "disabled": "disabled",
}
_VARIABLES = ("FASTRNN_", "NUMBA_", "KERAS_BACKEND", "OMP_NUM_THREADS")


def show_versions() -> None:
    """Print versions, processor, threads, and the cache of compiled kernels, for reports of faults.

    Imports the engine, but compiles nothing. ``fastrnn info`` prints the same.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.show_versions()
    versions
      fastrnn ...
      ...
    """
    found = describe()
    width = max(len(name) for section in found.values() for name in section)
    for i, (title, section) in enumerate(found.items()):
        print(f"\n{title}" if i else title)
        for name, value in section.items():
            print(f"  {name:<{width}}  {value}")


def describe() -> dict[str, dict[str, Any]]:
    """Return what :func:`show_versions` prints.

    Returns
    -------
    dict of str to dict
        The sections "versions", "processor", "threads" and "compiled kernels", and "environment" if a relevant variable is
        set.

    Examples
    --------
    >>> from fastrnn.info import describe
    >>> isinstance(describe(), dict)
    True
    """
    found = {
        "versions": _versions(),
        "processor": _processor(),
        "threads": _threads(),
        "compiled kernels": _kernels(),
    }
    environment = {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)}
    return {**found, "environment": environment} if environment else found


def _versions() -> dict[str, Any]:
    # Not importlib.metadata, because the imported package may not be the installed one.
    found = {"fastrnn": importlib.import_module("fastrnn").__version__, "python": platform.python_version()}
    for name in (*_DEPENDENCIES, *_OPTIONAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in _DEPENDENCIES:
                found[name] = "not installed"
    return found


def cpu_name() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _processor() -> dict[str, Any]:
    from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
    from fastrnn.engine.numba_private.services import STOCK, symbols

    unknown = "not asked for on the stock path"
    features = {} if STOCK else symbols.get_host_cpu_features()
    present = {feature for feature, has in features.items() if has}
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "name": cpu_name(),
        "name in LLVM": unknown if STOCK else symbols.get_host_cpu_name(),
        "features": unknown if STOCK else " ".join(name for name in _FEATURES if name in present),
        "vector width, bits": VECTOR_BITS,
    }


def _threads() -> dict[str, Any]:
    from fastrnn.engine.runtime import threads

    return {
        "cores of the machine": os.cpu_count(),
        "used by default": threads.resolve(None),
        "used with n_jobs=-1": threads.available(),
        "in a worker process": threads.in_worker(),
    }


def _kernels() -> dict[str, Any]:
    from fastrnn.engine.numba_private.services import PATH
    from fastrnn.engine.runtime.cache import kernel_files

    files = kernel_files()
    return {
        "compiler": _COMPILERS[PATH],
        "files": len(files),
        "size, bytes": sum(file.stat().st_size for file in files),
        "folders": " ".join(sorted({str(file.parent) for file in files})),
    }

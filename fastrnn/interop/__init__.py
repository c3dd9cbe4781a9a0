"""Models to and from other libraries: Keras, PyTorch and ONNX, and to plain C.

Each function converts layers and weights, compares the outputs of both models on random input before it returns, and raises
`ConversionError` for layers or options that the other library lacks. Options that only training uses (dropout, penalties,
constraints, the optimizer) are converted if the other library has them.

The other libraries are optional, and are imported when a function needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from fastrnn.interop.c import to_c as to_c
    from fastrnn.interop.keras import from_keras as from_keras
    from fastrnn.interop.keras import to_keras as to_keras
    from fastrnn.interop.onnx import to_onnx as to_onnx
    from fastrnn.interop.onnx_reader import from_onnx as from_onnx
    from fastrnn.interop.torch import from_torch as from_torch
    from fastrnn.interop.torch_writer import to_torch as to_torch

_HOMES = {
    "from_keras": "keras",
    "from_onnx": "onnx_reader",
    "from_torch": "torch",
    "to_c": "c",
    "to_keras": "keras",
    "to_onnx": "onnx",
    "to_torch": "torch_writer",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

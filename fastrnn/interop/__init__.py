"""Models to and from other libraries: Keras, PyTorch and ONNX, and to plain C.

Each function converts weights and what is computed from them, compares both sides on random input before it returns, and
raises `ConversionError` for what the other side lacks. What only training uses (dropout, penalties, constraints, the
optimizer) is carried over where the other side has it.

The other libraries are extras, imported when a function needs them.
"""

from __future__ import annotations

import importlib
from typing import Any

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

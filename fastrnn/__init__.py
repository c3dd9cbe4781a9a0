"""Recurrent neural networks on the CPU, compiled by Numba.

Three doors lead to one engine: the scikit-learn estimators :class:`RNNClassifier` and :class:`RNNRegressor`; Keras's
:class:`Sequential` with :mod:`fastrnn.layers`; and the kernels in :mod:`fastrnn.engine` and :mod:`fastrnn.cells`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Names are imported at first use, so that `import fastrnn` costs neither the compiler's start nor scikit-learn's.
_NAMES = {
    "ConversionError": "exceptions",
    "EncoderDecoder": "models",
    "Input": "layers",
    "ModelFileError": "exceptions",
    "NonFiniteLossError": "exceptions",
    "RNNClassifier": "estimators",
    "RNNRegressor": "estimators",
    "Ragged": "sequences",
    "Sequential": "models",
    "StandardScaler3D": "preprocessing",
    "load": "saving",
    "load_model": "models",
    "per_step": "estimators",
    "save": "saving",
    "set_random_seed": "random",
    "show_versions": "info",
    "stateful_batches": "sequences",
    "warmup": "estimators.warmup",
}
_MODULES = (
    "batches",
    "callbacks",
    "cells",
    "constraints",
    "datasets",
    "engine",
    "estimators",
    "exceptions",
    "forecasting",
    "info",
    "initializers",
    "inspection",
    "interop",
    "layers",
    "losses",
    "metrics",
    "model",
    "models",
    "optimizers",
    "plotting",
    "preprocessing",
    "random",
    "regularizers",
    "schedules",
    "saving",
    "seq2seq",
    "sequences",
    "testing",
    "text",
)

__all__ = ["__version__", *sorted(_NAMES), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Recurrent neural networks on the CPU, compiled by Numba.

There are three interfaces: the scikit-learn estimators :class:`RNNClassifier` and :class:`RNNRegressor`; Keras's
:class:`Sequential` with :mod:`fastrnn.layers`; and the kernels in :mod:`fastrnn.engine` and :mod:`fastrnn.cells`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from fastrnn import batches as batches
    from fastrnn import callbacks as callbacks
    from fastrnn import cells as cells
    from fastrnn import constraints as constraints
    from fastrnn import datasets as datasets
    from fastrnn import distributed as distributed
    from fastrnn import engine as engine
    from fastrnn import estimators as estimators
    from fastrnn import exceptions as exceptions
    from fastrnn import forecasting as forecasting
    from fastrnn import info as info
    from fastrnn import initializers as initializers
    from fastrnn import inspection as inspection
    from fastrnn import interop as interop
    from fastrnn import layers as layers
    from fastrnn import losses as losses
    from fastrnn import metrics as metrics
    from fastrnn import model as model
    from fastrnn import models as models
    from fastrnn import optimizers as optimizers
    from fastrnn import plotting as plotting
    from fastrnn import preprocessing as preprocessing
    from fastrnn import random as random
    from fastrnn import regularizers as regularizers
    from fastrnn import saving as saving
    from fastrnn import schedules as schedules
    from fastrnn import seq2seq as seq2seq
    from fastrnn import sequences as sequences
    from fastrnn import testing as testing
    from fastrnn import text as text
    from fastrnn.estimators import RNNClassifier as RNNClassifier
    from fastrnn.estimators import RNNRegressor as RNNRegressor
    from fastrnn.estimators import fit_many as fit_many
    from fastrnn.estimators import per_step as per_step
    from fastrnn.estimators.warmup import warmup as warmup
    from fastrnn.exceptions import ConversionError as ConversionError
    from fastrnn.exceptions import ModelFileError as ModelFileError
    from fastrnn.exceptions import NonFiniteLossError as NonFiniteLossError
    from fastrnn.info import show_versions as show_versions
    from fastrnn.layers import Input as Input
    from fastrnn.models import EncoderDecoder as EncoderDecoder
    from fastrnn.models import Sequential as Sequential
    from fastrnn.models import load_model as load_model
    from fastrnn.preprocessing import StandardScaler3D as StandardScaler3D
    from fastrnn.random import set_random_seed as set_random_seed
    from fastrnn.saving import load as load
    from fastrnn.saving import save as save
    from fastrnn.sequences import Ragged as Ragged
    from fastrnn.sequences import from_long_frame as from_long_frame
    from fastrnn.sequences import stateful_batches as stateful_batches

__version__ = "0.1.0"

# Names are imported at first use, so that `import fastrnn` imports neither Numba nor scikit-learn.
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
    "fit_many": "estimators",
    "from_long_frame": "sequences",
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
    "distributed",
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

"""Layers, with the names, arguments and defaults of Keras 3.15.1."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from fastrnn.layers.base import Layer as Layer
    from fastrnn.layers.bidirectional import Bidirectional as Bidirectional
    from fastrnn.layers.core import Activation as Activation
    from fastrnn.layers.core import ActivityRegularization as ActivityRegularization
    from fastrnn.layers.core import Dense as Dense
    from fastrnn.layers.core import Flatten as Flatten
    from fastrnn.layers.core import Input as Input
    from fastrnn.layers.core import InputLayer as InputLayer
    from fastrnn.layers.core import Masking as Masking
    from fastrnn.layers.core import RepeatVector as RepeatVector
    from fastrnn.layers.dropout import Dropout as Dropout
    from fastrnn.layers.embedding import Embedding as Embedding
    from fastrnn.layers.named_cells import GRUCell as GRUCell
    from fastrnn.layers.named_cells import IndRNNCell as IndRNNCell
    from fastrnn.layers.named_cells import JANETCell as JANETCell
    from fastrnn.layers.named_cells import KernelCell as KernelCell
    from fastrnn.layers.named_cells import LSTMCell as LSTMCell
    from fastrnn.layers.named_cells import PeepholeLSTMCell as PeepholeLSTMCell
    from fastrnn.layers.named_cells import SimpleRNNCell as SimpleRNNCell
    from fastrnn.layers.python_cell import CustomCell as CustomCell
    from fastrnn.layers.recurrent import GRU as GRU
    from fastrnn.layers.recurrent import JANET as JANET
    from fastrnn.layers.recurrent import LSTM as LSTM
    from fastrnn.layers.recurrent import RNN as RNN
    from fastrnn.layers.recurrent import IndRNN as IndRNN
    from fastrnn.layers.recurrent import PeepholeLSTM as PeepholeLSTM
    from fastrnn.layers.recurrent import SimpleRNN as SimpleRNN
    from fastrnn.layers.stacked import DropoutWrapper as DropoutWrapper
    from fastrnn.layers.stacked import StackedRNNCells as StackedRNNCells
    from fastrnn.layers.wrappers import TimeDistributed as TimeDistributed
    from fastrnn.layers.wrappers import Wrapper as Wrapper

# Modules of the public names, imported at first use, because the recurrent layers import the compiler.
_HOMES = {
    "base": ("Layer",),
    "bidirectional": ("Bidirectional",),
    "core": (
        "Activation",
        "ActivityRegularization",
        "Dense",
        "Flatten",
        "Input",
        "InputLayer",
        "Masking",
        "RepeatVector",
    ),
    "dropout": ("Dropout",),
    "embedding": ("Embedding",),
    "named_cells": (
        "GRUCell",
        "IndRNNCell",
        "JANETCell",
        "KernelCell",
        "LSTMCell",
        "PeepholeLSTMCell",
        "SimpleRNNCell",
    ),
    "python_cell": ("CustomCell",),
    "recurrent": ("GRU", "IndRNN", "JANET", "LSTM", "PeepholeLSTM", "RNN", "SimpleRNN"),
    "stacked": ("DropoutWrapper", "StackedRNNCells"),
    "wrappers": ("TimeDistributed", "Wrapper"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "deserialize", "get_class"])


def __getattr__(name: str) -> Any:
    if name not in _HOME and (name.startswith("_") or name not in _registered()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'registered')}"), name)
    globals()[name] = value
    return value


def _registered() -> Any:
    """Names of the layers that are made from registered cells."""
    from fastrnn.layers.registered import layer_names

    return layer_names()


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_registered()})


def get_class(name: str) -> Any:
    """Return the layer class with this name.

    Examples
    --------
    >>> from fastrnn import layers
    >>> layers.get_class("GRU").__name__
    'GRU'
    """
    from fastrnn.registry import choices, custom_object

    custom = custom_object(name)
    if custom is not None:
        return custom
    if name not in _HOME and name not in _registered():
        raise ValueError(f"class_name={name!r} is not a layer: {choices(name, [*_HOME, *_registered()])}")
    return __getattr__(name)


def deserialize(config: dict[str, Any]) -> Any:
    """Make a layer from ``{"class_name": ..., "config": ...}``.

    Examples
    --------
    >>> from fastrnn import layers
    >>> layers.deserialize({"class_name": "Dense", "config": {"units": 3}}).units
    3
    """
    return get_class(config["class_name"]).from_config(config["config"])

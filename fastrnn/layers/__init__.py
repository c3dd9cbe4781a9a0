"""Layers, with the names, arguments and defaults of Keras 3.15.1."""

from __future__ import annotations

import importlib
from typing import Any

# Where each public name lives. Modules are imported at first use: the recurrent ones bring the compiler along.
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
    """Names of the layers that are made of the cells' files."""
    from fastrnn.layers.registered import layer_names

    return layer_names()


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_registered()})


def get_class(name: str) -> Any:
    """Return the layer class called `name`."""
    from fastrnn.registry import choices, custom_object

    custom = custom_object(name)
    if custom is not None:
        return custom
    if name not in _HOME and name not in _registered():
        raise ValueError(f"class_name={name!r} is not a layer: {choices(name, [*_HOME, *_registered()])}")
    return __getattr__(name)


def deserialize(config: dict[str, Any]) -> Any:
    """Make a layer from ``{"class_name": ..., "config": ...}``."""
    return get_class(config["class_name"]).from_config(config["config"])

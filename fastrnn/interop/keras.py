"""Conversion from Keras 3 (models, ``.keras``, ``.h5`` and ``.weights.h5`` files) and to Keras.

The layers of this package have Keras's arguments, weights and orders of gates, so configurations are used unchanged after a
check that everything has a counterpart. Files are read with h5py in a process of its own: Keras is not imported, no code in
them is run, and a damaged file can't crash the caller.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError, ModelFileError
from fastrnn.initializers import zeros_within
from fastrnn.interop.common import compare, example_input, extra, sequential_of
from fastrnn.interop.hdf5 import Group, read_hdf5
from fastrnn.layers.wrappers import Wrapper
from fastrnn.models import Model, Sequential

__all__ = ["from_keras", "to_keras"]

#: Layers that Keras has under the same names and with the same arguments.
_LAYERS = (
    "Activation",
    "ActivityRegularization",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRU",
    "GRUCell",
    "InputLayer",
    "LSTM",
    "LSTMCell",
    "Masking",
    "RNN",
    "RepeatVector",
    "SimpleRNN",
    "SimpleRNNCell",
    "StackedRNNCells",
    "TimeDistributed",
)
#: Largest uncompressed size of a part of a .keras archive.
_LARGEST = 1 << 34
#: The member of a .keras archive that has the weights.
_WEIGHTS = "model.weights.h5"


# -- from Keras


def _plain(value: Any) -> Any:
    """A part of Keras's configuration in the form that the constructors of this package take."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "DTypePolicy":
            return value["config"]["name"]
        if value.get("class_name") == "__tuple__":
            return tuple(_plain(v) for v in value["items"])
        if "class_name" in value and "config" in value:
            if value["class_name"] == "function":
                return value["config"]
            if value["class_name"] in _LAYERS:
                return _layer_config(value)
            return {"class_name": value["class_name"], "config": _plain(value["config"])}
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _layer_config(entry: Any) -> dict[str, Any]:
    """The configuration of a layer from Keras's; raises ConversionError if the layer or an option has no counterpart."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ConversionError(f"{str(entry)[:80]!r} is not a description of a layer")
    name, config = str(entry.get("class_name")), entry["config"]
    if name not in _LAYERS:
        raise ConversionError(
            f"layer {config.get('name')!r} ({name}) has no counterpart here; known are {', '.join(_LAYERS)}"
        )
    known = set(layers.get_class(name)._arguments()) | {"batch_shape", "dtype", "name"}
    kept = {}
    for key, value in config.items():
        # batch_input_shape belongs to the input layer, or in files of Keras 2 to the first layer.
        if key in known:
            kept[key] = _plain(value)
        elif key not in (
            "batch_input_shape",
            "build_config",
            "registered_name",
            "zero_output_for_mask",
            "time_major",
            "implementation",
            "input_length",
        ) and value not in (None, False, [], {}):
            raise ConversionError(
                f"layer {config.get('name')!r} ({name}) has {key}={value!r}, which is not known here"
            )
    return {"class_name": name, "config": kept}


def _chain(config: Mapping[str, Any]) -> list[Any]:
    """The layers' entries of a Sequential model, or of a functional one that is a stack of layers."""
    kind, inner = config.get("class_name"), config.get("config")
    if kind not in ("Sequential", "Functional", "Model") or not isinstance(inner, Mapping):
        raise ConversionError(
            f"the model is of the class {kind!r}: supported are Sequential, and Functional as a stack of layers"
        )
    entries = inner.get("layers")
    if not isinstance(entries, list) or not entries:
        raise ConversionError("the model has no layers")
    if kind == "Sequential":
        return entries
    before = None
    for entry in entries:
        inbound = re.findall(r"keras_history['\"]: \[['\"]([^'\"]+)['\"]", str(entry.get("inbound_nodes")))
        if inbound != ([] if before is None else [before]):
            raise ConversionError(
                f"layer {entry.get('name')!r} does not take only the output of the previous layer: a functional model must "
                "be a stack of layers"
            )
        before = entry.get("config", {}).get("name")
    return entries


def _model_of(config: Mapping[str, Any], weights_size: int) -> Sequential:
    """The model that Keras's configuration describes, with weights of zero."""
    entries = _chain(config)
    try:
        with zeros_within(weights_size):
            made = [layers.deserialize(_layer_config(entry)) for entry in entries]
            model = Sequential(made, name=_name(config["config"].get("name")))
            shape = config.get("build_config", {}).get("input_shape") or config["config"].get(
                "build_input_shape"
            )
            if shape is None and isinstance(entries[0], Mapping):
                shape = entries[0]["config"].get("batch_input_shape")
            if not model.built and shape is not None:
                model.build(_plain(shape))
    except ConversionError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError, RecursionError) as error:
        raise ConversionError(f"the model can't be made here: {error}") from error
    if not model.built:
        raise ConversionError("the model has no weights: build it in Keras before it is saved")
    return model


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _set(model: Sequential, weights: list[np.ndarray], what: str) -> None:
    try:
        model.set_weights(weights)
    except (ValueError, TypeError) as error:
        raise ConversionError(f"{what}: the weights do not fit the layers: {error}") from error


def from_keras(source: Any, model: Sequential | None = None, *, verbose: bool = False) -> Sequential:
    """Make a model from a Keras model or file.

    Parameters
    ----------
    source : keras.Model, or path
        A model that is a stack of layers, or a file: ``.keras`` or ``.h5`` with the whole model, ``.weights.h5`` with
        only the weights.
    model : Sequential, optional
        For a file of weights: the model whose weights are set.
    verbose : bool
        Whether to print the largest difference of the outputs. For a file, Keras reads its weights too, if it is installed,
        into layers that are made here: no code of the file is run.

    Returns
    -------
    Sequential
        Not compiled; for a file of weights, `model` itself.

    Raises
    ------
    ConversionError
        If a layer or an option has no counterpart, or if the outputs of both models differ on random input.
    ModelFileError
        If the file is damaged, or not a file of Keras.

    Notes
    -----
    A process of its own reads HDF5, so that a file on which HDF5's library crashes or hangs raises an error here. It takes
    at most 10 s of CPU time and 60 s in all (both plus .2 s for each MB of the file), and on Linux
    256 MB plus 8 times the size of the file. With ``verbose=True`` Keras reads the file in this process, once it was read
    without an error.

    Examples
    --------
    >>> import keras
    >>> from fastrnn.interop import from_keras
    >>> model = keras.Sequential([keras.layers.Input((None, 3)), keras.layers.GRU(4)])
    >>> from_keras(model).layers[0].units
    4
    """
    if not isinstance(source, (str, os.PathLike)):
        return _from_live(source, verbose)
    name = os.fspath(source)
    try:
        result = _from_archive(name) if zipfile.is_zipfile(name) else _from_hdf5(name, model)
    except (ConversionError, ModelFileError) as error:
        raise type(error)(f"{name!r}: {error}") from error
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        RecursionError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ModelFileError(
            f"{name!r} can't be read as a file of Keras ({type(error).__name__}: {error}): give a file of Keras's "
            "model.save or model.save_weights"
        ) from error
    if verbose:
        _compare_with_file(result, name)
    return result


def _compare_with_file(model: Sequential, name: str) -> None:
    """Compare outputs with those of Keras, which reads the weights of the file itself, if it is installed.

    Keras gets the layers from here and only the weights from the file, so that it runs no code of the file.
    """
    if importlib.util.find_spec("keras") is None:
        print(
            f"from_keras: {model.count_params()} weights from {name}; Keras is not installed, so that no output was compared"
        )
        return
    twin = to_keras(model)
    try:
        twin.load_weights(name)
    except (ValueError, KeyError, OSError) as error:
        raise ConversionError(f"{name!r}: Keras can't read the weights of the file: {error}") from error
    x = example_input(model)
    compare(model(x), _as_array(twin(x)), "from_keras", x.shape, verbose=True)


def _from_live(source: Any, verbose: bool) -> Sequential:
    needed = ("get_config", "get_weights", "predict")
    if isinstance(source, Model) or not all(callable(getattr(source, name, None)) for name in needed):
        raise ConversionError(f"source={source!r}: give a Keras model, or the path of a file")
    config = {"class_name": _base_class(source), "config": source.get_config()}
    if hasattr(source, "input_shape"):
        config["build_config"] = {"input_shape": source.input_shape}
    weights = [np.asarray(w) for w in source.get_weights()]
    model = _model_of(config, sum(w.nbytes for w in weights))
    _set(model, weights, "from_keras")
    x = example_input(model)
    compare(model(x), _as_array(source(x)), "from_keras", x.shape, verbose)
    return model


def _as_array(output: Any) -> Any:
    """An output of Keras on any backend, as what NumPy takes."""
    return output.detach().cpu().numpy() if hasattr(output, "detach") else output


def _base_class(source: Any) -> str:
    names = [cls.__name__ for cls in type(source).__mro__]
    return next((name for name in names if name in ("Sequential", "Functional")), names[0])


def _from_archive(path: str) -> Sequential:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        for needed in ("config.json", _WEIGHTS):
            if needed not in members:
                raise ModelFileError(f"it has no {needed}: give a .keras file of model.save")
            if members[needed].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ModelFileError(f"its {needed} is compressed in a way that Keras does not use")
        # A damaged archive may state any size, so limit it by _LARGEST and by the best compression ratio.
        if sum(info.file_size for info in members.values()) > min(_LARGEST, 1100 * os.path.getsize(path)):
            raise ModelFileError("its uncompressed size is too large for an archive of this size")
        config = json.loads(archive.read("config.json"))
        size = len(archive.read(_WEIGHTS))  # checks its checksum before another process is started
    if not isinstance(config, dict):
        raise ConversionError("config.json does not describe a model")
    model = _model_of(config, size)
    _set(model, _weights_by_layer(read_hdf5(path, _WEIGHTS, size), model), _WEIGHTS)
    return model


def _from_hdf5(path: str, model: Sequential | None) -> Sequential:
    file = read_hdf5(path)
    if "model_config" in file.attributes:
        found = _model_of(json.loads(file.attributes["model_config"]), os.path.getsize(path))
        _set(found, _legacy_weights(file.find("model_weights")), "model_weights")
        return found
    if model is None:
        raise ConversionError(
            "it has only weights: pass the model that they belong to, from_keras(path, model)"
        )
    network = sequential_of(model, "from_keras")
    legacy = "layer_names" in file.attributes
    _set(network, _legacy_weights(file) if legacy else _weights_by_layer(file, network), "weights")
    return network


def _legacy_weights(group: Group) -> list[np.ndarray]:
    """Weights of the older layout: lists of names in the order of layers and of weights."""
    found = []
    for layer in group.attributes["layer_names"]:
        part = group.find(layer)
        found += [part.find(weight) for weight in part.attributes["weight_names"]]
    return found


def _weights_by_layer(file: Group, model: Sequential) -> list[np.ndarray]:
    """Weights of the layout of Keras 3: ``layers/<class>[_n]/[cell/]vars/<k>``."""
    found = []
    root = file.find("layers" if "layers" in file.items else "_layer_checkpoint_dependencies")
    stated = [] if model._input_layer is None else [model._input_layer]
    for layer, name in _numbered([*stated, *model.layers]):
        if layer._weights:
            found += _variables(root.find(name), layer)
    return found


def _numbered(items: list[Any]) -> list[tuple[Any, str]]:
    """Keras's names of the items of a list in a file: their classes in snake case, with numbers after the first one."""
    counts: dict[str, int] = {}
    named = []
    for item in items:
        name = re.sub(r"\W+", "", type(item).__name__)
        name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
        name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
        n = counts[name] = counts.get(name, -1) + 1
        named.append((item, f"{name}_{n}" if n else name))
    return named


def _variables(group: Group, layer: Any) -> list[np.ndarray]:
    if isinstance(layer, layers.StackedRNNCells):
        return [
            a for cell, name in _numbered(layer.cells) for a in _variables(group.find("cells", name), cell)
        ]
    if isinstance(layer, layers.Bidirectional):
        parts = {"forward_layer": layer.forward_layer, "backward_layer": layer.backward_layer}
        return [a for name, part in parts.items() for a in _variables(group.find(name), part)]
    if isinstance(layer, layers.TimeDistributed):
        return _variables(group.find("layer"), layer.layer)
    if isinstance(layer, layers.RNN):
        return _variables(group.find("cell"), layer.cell)
    if layer.has_states and not isinstance(layer, Wrapper) and "cell" in group.items:
        group = group.find("cell")
    return [group.find("vars", k) for k in range(len(layer._weights))]


# -- to Keras


def to_keras(model: Any, *, verbose: bool = False) -> Any:
    """Make a Keras model, with the same layers, options, names and weights.

    Parameters
    ----------
    model : Sequential or fitted estimator
    verbose : bool
        Whether to print the largest difference of the outputs.

    Returns
    -------
    keras.Sequential
        Not compiled; on the backend that is set in Keras.

    Raises
    ------
    ConversionError
        If Keras lacks a layer; the message names it.

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.interop import to_keras
    >>> model = Sequential([layers.Input((None, 3)), layers.GRU(4)])
    >>> to_keras(model).count_params() == model.count_params()
    True
    """
    network = sequential_of(model, "to_keras")
    keras = extra("keras", "keras")
    stated = keras.layers.InputLayer(
        batch_shape=network._shapes[0], dtype="int32" if network.layers[0].takes_tokens else None
    )
    result = keras.Sequential(
        [stated, *(_to_layer(keras, layer) for layer in network.layers)], name=network.name
    )
    result.set_weights(network.get_weights())
    x = example_input(network)
    theirs = keras.ops.convert_to_numpy(result(x))
    compare(network(x), theirs, "to_keras", x.shape, verbose)
    return result


def _to_layer(keras: Any, layer: Any) -> Any:
    """The Keras layer for a layer of this package."""
    name = type(layer).__name__
    if name not in _LAYERS or type(layer) is not layers.get_class(name):
        raise ConversionError(
            f"layer {layer.name!r} ({name}) has no counterpart in Keras; supported are {', '.join(_LAYERS)}"
        )
    cls = getattr(keras.layers, name)
    known = _constructor_arguments(cls)
    config = {}
    for key, value in layer.get_config().items():
        if key in known:
            config[key] = value
        elif value not in (None, True, False, ()) and key not in ("input_shape", "use_cudnn"):
            raise ConversionError(f"layer {layer.name!r} ({name}) has {key}={value!r}, which Keras lacks")
    for key in ("layer", "backward_layer", "cell"):
        if config.get(key) is not None:
            config[key] = _to_layer(keras, getattr(layer, key))
    if "cells" in config:
        config["cells"] = [_to_layer(keras, cell) for cell in layer.cells]
    return cls(**{k: _initializer(keras, k, v) for k, v in config.items()})


def _initializer(keras: Any, key: str, value: Any) -> Any:
    """Convert configurations of initializers, penalties and constraints to objects, which all versions of Keras take."""
    for ending in ("initializer", "regularizer", "constraint"):
        if key.endswith(ending) and isinstance(value, Mapping):
            try:
                return getattr(keras, f"{ending}s").get(dict(value))
            except ValueError as error:
                raise ConversionError(f"{key}={value['class_name']} is not in Keras: {error}") from error
    return value


def _constructor_arguments(cls: Any) -> set[str]:
    names = {"name", "dtype", "trainable", "activity_regularizer", "autocast"}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            names |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return names - {"self", "args", "kwargs"}

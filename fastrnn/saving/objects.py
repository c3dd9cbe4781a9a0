"""How models, layers, optimizers, losses, metrics, cells, estimators and tokenizers are written and read.

An object is written as its constructor's arguments (`get_config`, `get_params`) and its fitted state. Reading calls the
constructor, which checks the arguments, and sets the state after comparing sizes.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn import cells, constraints, initializers, losses, metrics, optimizers, regularizers, schedules
from fastrnn.callbacks import History
from fastrnn.engine.equations import FUNCTIONS
from fastrnn.engine.kernels.vecmath import name_of, resolve
from fastrnn.layers import deserialize
from fastrnn.layers.base import Layer
from fastrnn.layers.named_cells import is_kernel_class
from fastrnn.layers.python_cell import CustomCell
from fastrnn.layers.recurrent import RNN
from fastrnn.layers.wrappers import Wrapper
from fastrnn.registry import Configurable, custom_object, serialize
from fastrnn.saving.codec import Decoder, Encoder, Kind, by_name, custom_name, register

__all__ = ["is_model"]

#: Modules of the classes that a file may name; a module is imported when a file names its class.
_MODELS = {"Sequential": "fastrnn.models", "EncoderDecoder": "fastrnn.models"}
_ESTIMATORS = {
    "RNNClassifier": "fastrnn.estimators",
    "RNNRegressor": "fastrnn.estimators",
    "RNNForecaster": "fastrnn.forecasting",
    **dict.fromkeys(
        ("DaskRNNClassifier", "DaskRNNForecaster", "DaskRNNRegressor"),
        "fastrnn.distributed",
    ),
    **dict.fromkeys(
        (
            "CalendarFeatures",
            "LagFeatures",
            "RobustScaler3D",
            "SequenceDifferencer",
            "SequenceImputer",
            "SequencePadder",
            "SequenceResampler",
            "StandardScaler3D",
        ),
        "fastrnn.preprocessing",
    ),
    "Tokenizer": "fastrnn.text",
    "Pipeline": "sklearn.pipeline",
    "FeatureUnion": "sklearn.pipeline",
    "TransformedTargetRegressor": "sklearn.compose",
    **dict.fromkeys(
        (
            "MaxAbsScaler",
            "MinMaxScaler",
            "PowerTransformer",
            "QuantileTransformer",
            "RobustScaler",
            "StandardScaler",
        ),
        "sklearn.preprocessing",
    ),
}


def _find(table: dict[str, str], name: Any, what: str) -> Any:
    home = by_name(table, name, what)
    return getattr(importlib.import_module(home), name) if isinstance(home, str) else home


def _layer_tree(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """A layer and all layers inside it, outer ones first, with strings that describe their positions."""
    yield path, layer
    inside = list(layer._seeded()) if isinstance(layer, Wrapper) else []
    if isinstance(layer, CustomCell) and isinstance(layer.cell, Layer):
        inside.append(layer.cell)
    for i, child in enumerate(inside):
        yield from _layer_tree(child, f"{path}.{i}")


# -- layers, losses, metrics, optimizers, cells


def _note_custom(layer: Layer, encoder: Encoder) -> None:
    for _, part in _layer_tree(layer):
        encoder.need(part)
        arguments = vars(part.cell) if isinstance(part, RNN) else vars(part)
        for value in arguments.values():
            if isinstance(value, Configurable) or (callable(value) and hasattr(value, "__name__")):
                encoder.need(value)


def _encode_layer(value: Layer, encoder: Encoder, path: str) -> dict[str, Any]:
    _note_custom(value, encoder)
    result: dict[str, Any] = encoder(serialize(value), path)
    return result


def _encode_configurable(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    config = value.get_config()
    try:
        inspect.signature(type(value)).bind(**config)
    except TypeError as error:
        raise TypeError(
            f"{path}: {value!r} can't be written to a file, as it can't be made from its configuration ({error})"
        ) from None
    encoder.need(value)
    return {"class_name": type(value).__name__, "config": encoder(config, path)}


def _encode_optimizer(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    schedule = value._schedule
    if schedule is not None:
        encoder.need(schedule)
    data = _encode_configurable(value, encoder, path)
    if schedule is not None and not isinstance(schedule, schedules.LearningRateSchedule):
        data["config"]["learning_rate"] = encoder(schedule, f"{path}/learning_rate")
    return {**data, "state": encoder(value.get_state(), f"{path}/state")}


def _decode_optimizer(data: dict[str, Any], decoder: Decoder) -> Any:
    optimizer = optimizers.get({"class_name": str(data["class_name"]), "config": decoder(data["config"])})
    if not isinstance(optimizer, optimizers.Optimizer):
        raise TypeError(f"{data['class_name']!r} is not an optimizer")
    state = decoder(data["state"])
    vectors, size = state["vectors"], state["size"]
    expected = [name for name, _ in optimizer._slots] if size >= 0 else []
    if sorted(vectors) != sorted(expected) or any(np.shape(v) != (size,) for v in vectors.values()):
        raise ValueError("the optimizer's state does not have the vectors of its class")
    if type(state["iterations"]) is not int or state["iterations"] < 0:
        raise ValueError("the optimizer's number of updates is not a non-negative integer")
    optimizer.set_state(state)
    return optimizer


def _is_kernel(value: Any) -> bool:
    return is_kernel_class(value if isinstance(value, type) else type(value))


_CODES = ("activation", "recurrent_activation")


def _encode_kernel(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    # Write names of activations, because the engine's codes may change.
    codes = getattr(value, "activation_fields", _CODES)
    fields = {k: name_of(v) if k in codes else v for k, v in value._asdict().items()}
    return {**_encode_kernel_class(type(value), encoder, path), "fields": encoder(fields, path)}


def _encode_kernel_class(value: type, encoder: Encoder, path: str) -> dict[str, Any]:
    base = getattr(value, "base", value)
    encoder.need(base)
    names = {"class": base.__name__, "module": base.__module__.rpartition(".")[2]}
    return names if value is base else {**names, "activations": encoder(value.choice, path)}  # type: ignore[attr-defined]


def _decode_kernel_class(data: dict[str, Any], decoder: Decoder) -> Any:
    name, module = data["class"], data["module"]
    found = custom_object(name)
    if found is None and module in {m.name for m in pkgutil.iter_modules(cells.__path__)}:
        found = getattr(importlib.import_module(f"fastrnn.cells.{module}"), name, None)
    if not (_is_kernel(found) and isinstance(found, type)):
        raise ValueError(f"it has the cell {name!r}, which this version does not know")
    if "activations" not in data:
        return found
    choice, usual = decoder(data["activations"]), getattr(found, "choice", {})
    if sorted(choice) != sorted(usual) or not all(v is None or v in FUNCTIONS for v in choice.values()):
        raise ValueError(
            f"it has the cell {name!r} with activations {choice}, which this version does not know"
        )
    return found.variant({parameter: choice[parameter] for parameter in usual})  # type: ignore[attr-defined]


def _decode_kernel(data: dict[str, Any], decoder: Decoder) -> Any:
    cls = _decode_kernel_class(data, decoder)
    fields = {k: resolve(v) if k in _CODES else v for k, v in decoder(data["fields"]).items()}
    kernel = cls(**fields)
    if not all(isinstance(v, (int, float)) for v in kernel):
        raise TypeError("a cell has fields that are not numbers")
    return kernel


# -- models


def is_model(value: Any) -> bool:
    """Whether an object is a model."""
    return getattr(type(value), "is_network", False)


def _encode_model(model: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    encoder.need(model)
    for layer in model.layers:
        _note_custom(layer, encoder)
    weights = []
    for i, layer in enumerate(model.layers if model.built else ()):
        for name, value in layer._weights.items():
            weights.append(encoder.tensor(value, f"{path}/weights/{i}/{layer.name}/{name}"))
    parts = {
        f"{i}{place}": {
            "trainable": part._own_trainable if isinstance(part, Wrapper) else part.trainable,
            "generator": encoder(part._rng_, f"{path}/layers/{i}{place}/generator"),
            "states": encoder(part.states, f"{path}/layers/{i}{place}/states"),
        }
        for i, layer in enumerate(model.layers)
        for place, part in _layer_tree(layer)
    }
    history = model.history
    return {
        "class": type(model).__name__,
        "config": encoder(model.get_config(), f"{path}/config"),
        "trainable": model.trainable,
        "input_shape": encoder(tuple(model._shapes[0]), path) if model.built else None,
        "guessed": model._guessed,
        "n_steps": model.n_steps,
        "seed": encoder(model._seed, f"{path}/seed"),
        "generator": encoder(model._rng, f"{path}/generator"),
        "weights": weights,
        "layers": parts,
        "compile": encoder(model.get_compile_config(), f"{path}/compile"),
        "history": None
        if history is None
        else encoder({"epoch": history.epoch, "history": history.history}, f"{path}/history"),
    }


def _decode_model(data: dict[str, Any], decoder: Decoder) -> Any:
    cls = _find(_MODELS, data["class"], "the model")
    model = cls.from_config(decoder(data["config"]))
    model.trainable = bool(data["trainable"])
    if data["input_shape"] is not None:
        shape = decoder(data["input_shape"])
        model.build(shape)
        _set_weights(model, [decoder.tensor(name) for name in data["weights"]])
    elif data["weights"]:
        raise ValueError("a model without an input shape has weights")
    model._guessed = bool(data["guessed"])
    if data["n_steps"] is not None:
        model.n_steps = int(data["n_steps"])
    parts = {
        f"{i}{place}": part for i, layer in enumerate(model.layers) for place, part in _layer_tree(layer)
    }
    if parts.keys() != data["layers"].keys():
        raise ValueError("the saved states do not fit the layers")
    for place, part in parts.items():
        _set_part(part, data["layers"][place], decoder)
    model._seed, model._rng = decoder(data["seed"]), decoder(data["generator"])
    if not isinstance(model._seed, np.random.SeedSequence) or not isinstance(model._rng, np.random.Generator):
        raise TypeError("the model's random number generator is invalid")
    arguments = decoder(data["compile"])
    if arguments:
        model.compile(**arguments)
        _check_optimizer(model)
    if data["history"] is not None:
        model.history = History()
        kept = decoder(data["history"])
        model.history.epoch, model.history.history = list(kept["epoch"]), dict(kept["history"])
    return model


def _set_weights(model: Any, weights: list[np.ndarray]) -> None:
    """Set the weights; unlike ``model.set_weights``, raise for weights of another dtype."""
    if any(array.dtype != model.layers[0].dtype for array in weights):
        raise ValueError(f"the weights are not all of dtype {model.layers[0].dtype}")
    model.set_weights(weights)


def _set_part(part: Layer, data: dict[str, Any], decoder: Decoder) -> None:
    part.trainable = bool(data["trainable"])
    generator, states = decoder(data["generator"]), decoder(data["states"])
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise TypeError("a layer's random number generator is invalid")
    part._rng_ = generator
    if states is not None and not isinstance(type(part).states, property):
        part.states = states  # a wrapper has no states but those of its layers


def _check_optimizer(model: Any) -> None:
    """Raise if the optimizer's state does not fit the model's weights, because kernels do not check its sizes."""
    state = model.optimizer.get_state()
    if state["size"] < 0:
        return
    rows = {table.start: table.shape[0] for table in model.plan.tables} if model.built else {}
    if not model.built or state["size"] != model.params.size:
        raise ValueError("the optimizer's state has another size than the weights")
    if any(v.dtype != model.params.dtype for v in state["vectors"].values()):
        raise ValueError("the optimizer's state has another dtype than the weights")
    for start, last in state["last"].items():
        if last.dtype != np.int64 or last.shape != (rows.get(start, -1),):
            raise ValueError("the optimizer's state has rows that the weights do not have")


# -- estimators, scalers, tokenizers


def _arguments(value: Any) -> dict[str, Any]:
    """The constructor's arguments of an estimator, or of another object that keeps them as attributes."""
    if hasattr(value, "get_params"):
        result: dict[str, Any] = value.get_params(deep=False)
        return result
    return {name: getattr(value, name) for name in inspect.signature(type(value)).parameters}


def _is_estimator(value: Any) -> bool:
    if isinstance(value, type):
        return False
    if type(value).__name__ in _ESTIMATORS and custom_name(value) is None:
        return True
    return hasattr(value, "get_params") and custom_name(value) is not None


def _encode_estimator(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    encoder.need(type(value))
    params = _arguments(value)
    # Attributes that are not pickled, such as a stream, are not saved either.
    fitted = {k: v for k, v in value.__getstate__().items() if k not in params and k != "_sklearn_version"}
    return {
        "class": type(value).__name__,
        "params": encoder(params, path),
        "fitted": encoder(fitted, path),
    }


def _decode_estimator(data: dict[str, Any], decoder: Decoder) -> Any:
    cls = _find(_ESTIMATORS, data["class"], "the estimator")
    params, fitted = decoder(data["params"]), decoder(data["fitted"])
    value = cls(**params)
    names = set(_arguments(value)) | {name for name in dir(cls) if callable(getattr(cls, name, None))}
    for name, item in fitted.items():
        if not str(name).isidentifier() or name in names or name.startswith("__"):
            raise ValueError(f"{cls.__name__} has no attribute {name!r}")
        setattr(value, name, item)
    return value


def _by_config(tag: str, base: type, get: Any) -> Kind:
    """A kind of objects that are made from their configurations."""

    def decode(data: dict[str, Any], decoder: Decoder) -> Any:
        return get({"class_name": str(data["class_name"]), "config": decoder(data["config"])})

    return Kind(tag, lambda v: isinstance(v, base), _encode_configurable, decode, shared=True)


def _decode_layer(data: dict[str, Any], decoder: Decoder) -> Any:
    return deserialize({"class_name": data["class_name"], "config": decoder(data["config"])})


register(
    Kind("model", is_model, _encode_model, _decode_model, shared=True),
    Kind("layer", lambda v: isinstance(v, Layer) and custom_name(v) is None, _encode_layer, _decode_layer),
    Kind(
        "optimizer",
        lambda v: isinstance(v, optimizers.Optimizer),
        _encode_optimizer,
        _decode_optimizer,
        shared=True,
    ),
    _by_config("loss", losses.Loss, losses.get),
    _by_config("metric", metrics.Metric, metrics.get),
    _by_config("schedule", schedules.LearningRateSchedule, schedules.get),
    _by_config("initializer", initializers.Initializer, initializers.get),
    _by_config("regularizer", regularizers.Regularizer, regularizers.get),
    _by_config("constraint", constraints.Constraint, constraints.get),
    Kind("cell", lambda v: _is_kernel(v) and not isinstance(v, type), _encode_kernel, _decode_kernel),
    Kind(
        "cell_class",
        lambda v: _is_kernel(v) and isinstance(v, type),
        _encode_kernel_class,
        _decode_kernel_class,
    ),
    Kind("estimator", _is_estimator, _encode_estimator, _decode_estimator, shared=True),
)

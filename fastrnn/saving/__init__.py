"""Saving of models, estimators, scalers and tokenizers in files that contain data and no code.

`save` and `load` are the public functions; ``model.save(path)`` and ``estimator.save(path)`` call them. `files` writes a
file completely or not at all, `container` is the file format, `codec` converts Python values to plain data, and `objects`
defines what is written for each of the library's objects.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from fastrnn.checks import flag
from fastrnn.exceptions import ModelFileError
from fastrnn.initializers import zeros_within
from fastrnn.registry import with_custom_objects
from fastrnn.saving import container, objects, records  # noqa: F401 - the last two register kinds of values
from fastrnn.saving.codec import Decoder, Encoder

__all__ = ["load", "load_weights", "save", "save_weights"]

_Path = str | os.PathLike[str]


def save(value: Any, path: _Path) -> None:
    """Write a model, an estimator, a scaler, a tokenizer, or a dict, list or `Pipeline` of these to a file.

    The file is a safetensors file with everything that is needed to continue training: configuration, weights, the
    optimizer's state, random number generators, class labels, the epochs so far. It is written completely or not at all:
    after an error, or if the process is killed, an existing file is left unchanged.

    Parameters
    ----------
    value : object
    path : str or path
        Any extension is allowed; usual are ``.fastrnn`` and ``.safetensors``.

    Raises
    ------
    TypeError
        If `value` contains something that can't be saved, such as a lambda, or an object without ``get_config()``.
    ModelFileError
        If the file can't be written.

    Examples
    --------
    >>> import numpy as np, os, tempfile, fastrnn
    >>> model = fastrnn.Sequential([fastrnn.Input((None, 3)), fastrnn.layers.GRU(4)], seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.fastrnn")
    >>> fastrnn.save(model, path)
    >>> x = np.ones((1, 5, 3), "float32")
    >>> bool((fastrnn.load(path)(x) == model(x)).all())
    True
    """
    encoder = Encoder()
    value = encoder(value, "object")
    content = {"value": value, "custom_objects": sorted(encoder.custom)}
    container.write(path, content, encoder.tensors)


def load(path: _Path, custom_objects: Mapping[str, Any] | None = None, compiled: bool = True) -> Any:
    """Read a file of :func:`save`. Nothing in the file is run as code.

    Parameters
    ----------
    path : str or path
    custom_objects : mapping of str to class or function, optional
        User-defined classes and functions that the file names: layers, cells, losses, metrics, learning rates.
    compiled : bool
        Whether to read optimizer, loss and metrics of a model. If False, the model can predict, and classes of losses,
        metrics and learning rates need not be passed; call its ``compile`` before training.

    Returns
    -------
    object
        The object in the state in which it was saved. Continued training gives the same numbers as uninterrupted training:
        ``model.fit(x, y, epochs=n, initial_epoch=model.history.epoch[-1] + 1)``.

    Raises
    ------
    ModelFileError
        If the file was not written by :func:`save`, is damaged, is of a later version, or names classes that are not
        passed.

    Examples
    --------
    >>> import fastrnn
    >>> model = fastrnn.Sequential([fastrnn.layers.Input((None, 3)), fastrnn.layers.GRU(4)])
    >>> fastrnn.save(model, "model.fastrnn")
    >>> fastrnn.load("model.fastrnn").count_params() == model.count_params()
    True
    """
    file = container.read(path)
    if not flag(compiled, "compiled"):
        content = file.content.get("value") if isinstance(file.content, dict) else None
        if not isinstance(content, dict) or "compile" not in content:
            raise ModelFileError(f"{file.path!r} does not contain a model: compiled=False is for models only")
        content["compile"] = None
    with _reading(file, custom_objects, all_named=compiled) as decoder:
        value = decoder(file.content["value"])
        if compiled and decoder.tensors:
            raise ValueError(f"its tensors {sorted(decoder.tensors)[:3]} are not used")
    return value


@contextlib.contextmanager
def _reading(
    file: container.Container, custom_objects: Mapping[str, Any] | None, all_named: bool = True
) -> Iterator[Decoder]:
    """A decoder for a file's content; errors in the content are raised as an error that names the file."""
    given = dict(custom_objects or {})
    try:
        missing = [name for name in file.content["custom_objects"] if name not in given]
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"{file.path!r} does not contain a saved object: was it written by save_weights?"
        ) from error
    if missing and all_named:
        raise ModelFileError(
            f"{file.path!r} names user-defined classes or functions: pass custom_objects={{"
            + ", ".join(f"{name!r}: {name}" for name in map(str, missing))
            + "}"
        )
    try:
        with with_custom_objects(given), zeros_within(file.size):
            yield Decoder(dict(file.tensors))
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"{file.path!r} (written by fastrnn {file.version}) does not describe what can be built here: "
            f"{type(error).__name__}: {error}"
        ) from error


def save_weights(model: Any, path: _Path) -> None:
    """Write only the weights of a model, in their order, with the layers' names.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.saving import load_weights, save_weights
    >>> one, other = (Sequential([layers.Input((2,)), layers.Dense(1)]) for _ in range(2))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weights.fastrnn")
    >>> save_weights(one, path)
    >>> load_weights(other, path)
    >>> bool(np.array_equal(one.get_weights()[0], other.get_weights()[0]))
    True
    """
    tensors = {}
    for i, layer in enumerate(model.layers):
        for name, value in layer._weights.items():
            tensors[f"weights/{i}/{layer.name}/{name}"] = value
    container.write(path, {"weights": list(tensors)}, tensors)


def load_weights(model: Any, path: _Path) -> None:
    """Set the weights of a model from a file of :func:`save_weights`, or of a saved model.

    Raises
    ------
    ModelFileError
        If number, shapes or dtypes of the file's weights differ from the model's; the model is unchanged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.saving import load_weights, save_weights
    >>> one, other = (Sequential([layers.Input((2,)), layers.Dense(1)]) for _ in range(2))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weights.fastrnn")
    >>> save_weights(one, path)
    >>> load_weights(other, path)
    >>> bool(np.array_equal(one.get_weights()[0], other.get_weights()[0]))
    True
    """
    file = container.read(path)
    names = file.content.get("weights") if isinstance(file.content, dict) else None
    if names is None and isinstance(file.content, dict) and isinstance(file.content.get("value"), dict):
        names = file.content["value"].get("weights")
    if not isinstance(names, list) or not all(name in file.tensors for name in names):
        raise ModelFileError(
            f"{file.path!r} has no weights of a model: give a file of save_weights or of model.save"
        )
    try:
        weights = [file.tensors[name] for name in names]
        dtype = model.layers[0].dtype if model.layers else None
        if any(array.dtype != dtype for array in weights):
            raise ValueError(f"the weights are not all of dtype {dtype}")
        model.set_weights(weights)
    except ValueError as error:
        raise ModelFileError(f"{file.path!r} has the weights of another model: {error}") from error

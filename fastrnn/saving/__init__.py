"""Files of models, estimators, scalers and tokenizers, which hold data and no code.

`save` and `load` are the public functions; ``model.save(path)`` and ``estimator.save(path)`` call them. `files` writes a
file whole or not at all, `container` is the file format, `codec` turns Python values into plain data, and `objects` says
what there is to write of each of the library's objects.
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
from fastrnn.saving import container, objects, records  # noqa: F401 - the last two make kinds of values known
from fastrnn.saving.codec import Decoder, Encoder

__all__ = ["load", "load_weights", "save", "save_weights"]

_Path = str | os.PathLike


def save(value: Any, path: _Path) -> None:
    """Write a model, an estimator, a scaler, a tokenizer, or a dict, list or `Pipeline` of these to a file.

    The file is a safetensors file with everything that is needed to go on: configuration, weights, the optimizer's state,
    random number generators, class labels, the epochs so far. It is written whole or not at all: if anything fails, and
    also if the process is killed, a file that was there before is kept.

    Parameters
    ----------
    value : object
    path : str or path
        The extension is of your choice; ``.fastrnn`` or ``.safetensors`` say what it is.

    Raises
    ------
    TypeError
        If `value` holds something that a file can't hold, such as a lambda, or an object without ``get_config()``.
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
    """Read what :func:`save` wrote. Nothing in the file is run as code.

    Parameters
    ----------
    path : str or path
    custom_objects : mapping of str to class or function, optional
        Classes and functions of your own that the file names: layers, cells, losses, metrics, learning rates.
    compiled : bool
        Read optimizer, loss and metrics of a model too. Without, the model predicts, and classes of losses, metrics and
        learning rates need not be passed; call its ``compile`` before you train it.

    Returns
    -------
    object
        As it was when it was saved. Training goes on from there with the numbers that it would have had otherwise:
        ``model.fit(x, y, epochs=n, initial_epoch=model.history.epoch[-1] + 1)``.

    Raises
    ------
    ModelFileError
        If the file is no such file, was damaged, is of a later version, or names classes that are not passed.
    """
    file = container.read(path)
    if not flag(compiled, "compiled"):
        content = file.content.get("value") if isinstance(file.content, dict) else None
        if not isinstance(content, dict) or "compile" not in content:
            raise ModelFileError(f"{file.path!r} holds no model: compiled=False is for models only")
        content["compile"] = None
    with _reading(file, custom_objects, all_named=compiled) as decoder:
        value = decoder(file.content["value"])
        if compiled and decoder.tensors:
            raise ValueError(f"nothing needs its tensors {sorted(decoder.tensors)[:3]}")
    return value


@contextlib.contextmanager
def _reading(
    file: container.Container, custom_objects: Mapping[str, Any] | None, all_named: bool = True
) -> Iterator[Decoder]:
    """A decoder for a file's content; whatever is wrong with the content becomes an error that names the file."""
    given = dict(custom_objects or {})
    try:
        missing = [name for name in file.content["custom_objects"] if name not in given]
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"{file.path!r} holds no saved object: was it written by save_weights?"
        ) from error
    if missing and all_named:
        raise ModelFileError(
            f"{file.path!r} needs classes or functions of yours: pass custom_objects={{"
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
    """Write the weights of a model alone, in their order, with the layers' names."""
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
        If the file's weights are of other shapes or dtypes, or not as many; the model is as it was.
    """
    file = container.read(path)
    names = file.content.get("weights") if isinstance(file.content, dict) else None
    if names is None and isinstance(file.content, dict) and isinstance(file.content.get("value"), dict):
        names = file.content["value"].get("weights")
    if not isinstance(names, list) or not all(name in file.tensors for name in names):
        raise ModelFileError(
            f"{file.path!r} holds no weights of a model: give a file of save_weights or of model.save"
        )
    try:
        weights = [file.tensors[name] for name in names]
        dtype = model.layers[0].dtype if model.layers else None
        if any(array.dtype != dtype for array in weights):
            raise ValueError(f"the weights are not all of dtype {dtype}")
        model.set_weights(weights)
    except ValueError as error:
        raise ModelFileError(f"{file.path!r} has the weights of another model: {error}") from error

"""Checks of the layers, arguments and targets of an encoder-decoder."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.layers.base import Layer
from fastrnn.layers.core import InputLayer
from fastrnn.models.decoder_layers import state_sizes

__all__ = ["Outputs", "check_end", "check_parts", "check_start", "read_targets"]


class Outputs(NamedTuple):
    """The outputs of a decoder at each step."""

    #: Number of classes or of numbers.
    n: int
    #: Whether the outputs are probabilities of classes; otherwise they are numbers, which are the next inputs.
    classes: bool


def check_parts(reading: list[Any], writing: list[Any]) -> None:
    """Raise if the layers of encoder and decoder do not fit together."""
    for name, side in (("encoder", reading), ("decoder", writing)):
        if not side:
            raise ValueError(f"{name} has no layers: give at least one recurrent layer")
        for layer in side:
            if not isinstance(layer, Layer) or isinstance(layer, InputLayer):
                raise TypeError(
                    f"{name} holds {layer!r}: give layers of fastrnn.layers, Input only as the encoder's first"
                )
            if layer.binding is not None and layer.has_states:
                raise ValueError(
                    f"{name}: layer {layer.name!r} is in another model already, and an encoder-decoder changes what its "
                    "recurrent layers return: give it a layer of its own, such as copy.deepcopy(layer)"
                )
            if layer.stateful:
                raise ValueError(
                    f"{name}: layer {layer.name!r} is stateful, but each output sequence starts from its own input: "
                    "leave stateful out"
                )
            if layer.merge_mode is None:
                raise ValueError(f"{name}: layer {layer.name!r} has merge_mode=None: merge its outputs")
    if not reading[-1].has_states:
        raise ValueError(
            f"encoder ends with {reading[-1]!r}: it must end with a recurrent layer, as only states are used"
        )
    for layer in writing:
        wrong = layer.why_not_by_step()
        if wrong:
            raise ValueError(f"decoder: layer {layer.name!r} ({type(layer).__name__}) {wrong}")
    sizes = [[state_sizes(layer) for layer in side if layer.has_states] for side in (reading, writing)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"encoder has recurrent layers with states of sizes {sizes[0]}, decoder {sizes[1]}: they must be equal, as "
            "each layer of the decoder starts from the states of one layer of the encoder"
        )


def check_start(start: Any, reader: Any, writer: Any, outputs: Outputs) -> Any:
    """`start` as a token, numbers, "last" or None; raises if it does not fit the first layers and the outputs."""
    n = outputs.n
    if outputs.classes:
        if n < 2:
            raise ValueError(f"decoder has {n} output, classes need one each: end with Dense(n_classes)")
        known = n if writer.input_dim is None else writer.input_dim
        if start is None and not writer.takes_tokens:
            return None
        if not _is_integer(start) or not 0 <= start < known:
            raise ValueError(
                f"start={start!r}: the decoder reads tokens, give its first input, from 0 to {known - 1} "
                + (
                    "(an extra start token needs an Embedding with one more row)"
                    if writer.takes_tokens
                    else "or None for zeros"
                )
            )
        return int(start)
    if isinstance(start, str):
        if start != "last":
            raise ValueError(f"start={start!r}: give numbers, 'last' or None")
        if reader.takes_tokens:
            raise ValueError("start='last' needs numbers for inputs, but the encoder reads tokens")
        return start
    values = np.zeros(n) if start is None else np.asarray(start)
    if values.dtype.kind not in "iuf" or values.shape not in ((), (n,)) or not np.isfinite(values).all():
        raise ValueError(f"start={start!r}: give a number, {n} numbers (one for each output), 'last' or None")
    return np.broadcast_to(values, (n,)).astype(float)


def check_end(end: Any, outputs: Outputs) -> int | None:
    """`end` as a token, or None; raises if it is not one of the outputs' classes."""
    if end is None:
        return None
    if not outputs.classes:
        raise ValueError(f"end={end!r} is a token, but the outputs are numbers: leave it out")
    if not _is_integer(end) or not 0 <= end < outputs.n:
        raise ValueError(f"end={end!r}: give one of the decoder's classes, 0 to {outputs.n - 1}")
    return int(end)


def read_targets(
    y: Any, n_batch: int, outputs: Outputs, end: int | None, dtype: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Targets as tokens or numbers of `dtype`, and the mask of steps that count (None if all do)."""
    y, n = np.asarray(y), outputs.n
    if y.dtype.kind not in "biuf":
        raise TypeError(f"y has dtype {y.dtype}: give {'integer tokens' if outputs.classes else 'numbers'}")
    shape = y.shape
    if outputs.classes:
        wanted = f"({n_batch}, time) or one-hot ({n_batch}, time, {n})"
        if y.ndim == 3:
            y = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
        right = y.ndim == 2 and (len(shape) == 2 or shape[-1] in (1, n))
    else:
        wanted = f"({n_batch}, time, {n})"
        if y.ndim == 2 and n == 1:
            y = y[..., None]
        right = y.ndim == 3 and y.shape[-1] == n
    if not right or len(y) != n_batch or y.shape[1] == 0:
        raise ValueError(f"y has shape {shape}: the model takes targets {wanted}")
    if not outputs.classes:
        return y.astype(dtype), None
    tokens = y.astype(np.int64)
    if y.dtype.kind == "f" and not np.array_equal(tokens, y):
        raise ValueError("y holds fractions or NaN: give integer tokens")
    if tokens.min() < 0 or tokens.max() >= n:
        wrong = tokens.min() if tokens.min() < 0 else tokens.max()
        raise ValueError(f"y holds token {wrong}: the decoder's classes are 0 to {n - 1}")
    mask = None
    if end is not None:
        ends = tokens == end
        mask = np.asarray(ends.cumsum(axis=1) - ends == 0)
        mask = None if mask.all() else mask
    return tokens, mask


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

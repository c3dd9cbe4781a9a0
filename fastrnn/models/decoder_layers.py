"""The states and outputs of the layers of an encoder-decoder."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "join_states",
    "n_outputs",
    "output_shape",
    "part_states",
    "set_returns",
    "state_sizes",
]


def state_sizes(layer: Any) -> list[Any]:
    """Sizes of a layer's final states."""
    if layer.reads_both_ways:
        sizes = [state_sizes(child) for child in (layer.forward_layer, layer.backward_layer)]
        if any(isinstance(size, list) for side in sizes for size in side) or len(sizes[0]) != len(sizes[1]):
            raise ValueError(
                f"encoder: layer {layer.name!r} has directions with states {sizes[0]} and {sizes[1]}, which can't be "
                "joined: give each direction one cell of the same kind"
            )
        return [a + b for a, b in zip(*sizes, strict=True)]
    size = layer.state_size
    return list(size) if isinstance(size, (list, tuple)) else [size]


def set_returns(layer: Any, sequences: bool) -> None:
    """Make a layer return its states, and the outputs of all steps or of the last one."""
    layer.return_sequences, layer.return_state = sequences, True
    if layer.reads_both_ways:
        for child in (layer.forward_layer, layer.backward_layer):
            child.return_sequences, child.return_state = sequences, True
            child.zero_output_for_mask = sequences


def join_states(layer: Any, states: list[Any]) -> list[Any]:
    """Final states of an encoder's layer, with the states of both directions concatenated, as the decoder takes them."""
    if not layer.reads_both_ways:
        return states
    half = len(states) // 2
    return [np.concatenate(pair, axis=1) for pair in zip(states[:half], states[half:], strict=True)]


def part_states(layer: Any, d_states: list[Any]) -> list[Any]:
    """The inverse of `join_states`, for gradients."""
    if not layer.reads_both_ways:
        return d_states
    widths = state_sizes(layer.forward_layer)
    pairs = list(zip(d_states, widths, strict=True))
    return [*(d[:, :width] for d, width in pairs), *(d[:, width:] for d, width in pairs)]


def output_shape(layer: Any, shape: Any) -> Any:
    """Shape of a layer's output, without the shapes of its states."""
    shape = layer.compute_output_shape(shape)
    return shape[0] if isinstance(shape, list) else shape


def n_outputs(decoder: list[Any]) -> int:
    """Number of outputs of the decoder, which is independent of its inputs."""
    shape: Any = (None, None) if decoder[0].takes_tokens else (None, None, 1)
    for layer in decoder:
        found = output_shape(layer, shape)
        # The layers do not yet return sequences, so add the time axis.
        shape = (None, None, found[-1]) if layer.has_states else found
    result: int = shape[-1]
    return result

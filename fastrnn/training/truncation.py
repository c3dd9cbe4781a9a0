"""Truncated backpropagation through time: which models take a sequence piece by piece, and how batches are cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.layers.arrays import check_positive_int
from fastrnn.layers.bidirectional import Bidirectional

__all__ = ["Piece", "carried_states", "check_pieces", "cut"]

_WHY = "truncated_bptt_steps={}: layer {!r} ({}) {}"


class Piece(NamedTuple):
    """A part of a batch along time."""

    x: np.ndarray
    y: np.ndarray
    weight: Any
    mask: np.ndarray | None
    #: Its share of the batch's steps that count, by which its loss counts.
    share: float
    #: Its share of all steps of the batch, by which metrics, which sum over valid steps themselves, count.
    span: float


def check_pieces(layers: Sequence[Any], input_shape: Sequence[int | None], n_steps: Any) -> int:
    """`n_steps` as an int, if `layers` compute the same from pieces of that length as from whole sequences.

    That is so when recurrent layers read forwards and give every step's output, and all other layers treat each step
    by itself.
    """
    n_steps = check_positive_int(n_steps, "truncated_bptt_steps")
    # Any length would do: what is asked is whether the axis of time comes through.
    shape = (None, n_steps + 1, *input_shape[2:])
    for layer in layers:
        wrong = None
        if isinstance(layer, Bidirectional):
            wrong = "reads backwards too, which takes the whole sequence: leave one of the two out"
        elif getattr(layer, "go_backwards", False):
            wrong = "has go_backwards=True, but pieces come in the order of time: leave one of the two out"
        elif getattr(layer, "return_state", False):
            wrong = "hands its last states on to other layers, so it needs whole sequences"
        elif not getattr(layer, "return_sequences", True):
            wrong = (
                "gives one output for a sequence, but each piece needs targets of its own: set "
                "return_sequences=True and give targets for every step, or leave truncated_bptt_steps out"
            )
        elif (getattr(layer, "noise_shape", None) or (None, None))[1] not in (None, 1):
            wrong = f"has noise_shape={layer.noise_shape!r}, of one length: put None or 1 for the time axis"
        else:
            shape = layer.compute_output_shape(shape)
            if len(shape) < 3 or shape[1] != n_steps + 1:
                wrong = "does not keep the time steps apart, so it needs whole sequences"
        if wrong is not None:
            raise ValueError(_WHY.format(n_steps, layer.name, type(layer).__name__, wrong))
    return n_steps


def _per_step(part: Any, name: str, lead: tuple[int, ...]) -> Any:
    """`part` as an array with an entry for each step."""
    part = np.asarray(part)
    if part.shape[:2] != lead:
        raise ValueError(
            f"{name} has shape {part.shape}: with truncated_bptt_steps it needs an entry for each step of x, "
            f"{lead} first"
        )
    return part


def cut(x: Any, y: Any, weight: Any, mask: Any, n_steps: int) -> Iterator[Piece]:
    """Cut a batch along time into pieces of `n_steps`; those in which no step counts are left out.

    Parameters
    ----------
    x, y : array of shape (n_batch, n_time, ...)
    weight : array of shape (n_batch,) or (n_batch, n_time), optional
    mask : array of bool of shape (n_batch, n_time), optional
    n_steps : int
    """
    if y is None:
        raise ValueError("y is missing: training needs targets")
    lead = x.shape[:2]
    y = _per_step(y, "y", lead)
    if weight is not None and np.ndim(weight) > 1:
        weight = _per_step(weight, "sample_weight", lead)
    if mask is not None:
        mask = _per_step(mask, "mask", lead)
    for start in range(0, lead[1], n_steps):
        piece = slice(start, min(start + n_steps, lead[1]))
        here = None if mask is None else mask[:, piece]
        if here is not None:
            if not here.any():
                continue
            here = None if here.all() else here
        weights = weight[:, piece] if np.ndim(weight) > 1 else weight
        span = (piece.stop - start) / lead[1]
        share = span if mask is None else float(mask[:, piece].sum() / mask.sum())
        yield Piece(x[:, piece], y[:, piece], weights, here, share, span)


@contextlib.contextmanager
def carried_states(layers: Sequence[Any]) -> Iterator[None]:
    """Let recurrent layers go on from call to call inside the block, from zero (or their cell's own initial states).

    Layers that are stateful anyway go on from the states that they have, and keep those that they end with.
    """
    borrowed = [layer for layer in layers if getattr(layer, "stateful", True) is False]
    for layer in borrowed:
        layer.stateful, layer.states = True, None
    try:
        yield
    finally:
        for layer in borrowed:
            layer.stateful, layer.states = False, None

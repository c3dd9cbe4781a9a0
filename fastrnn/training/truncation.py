"""Truncated backpropagation through time: checks of models, and cutting of batches into pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import integer
from fastrnn.training.data import Batch
from fastrnn.training.guard import attributes, guard

__all__ = ["Piece", "carried_states", "check_pieces", "cut"]

_WHY = "truncated_bptt_steps={}: layer {!r} ({}) {}"


class Piece(NamedTuple):
    """Some time steps of a batch, or all of them."""

    batch: Batch
    #: Fraction of the batch's valid steps in this piece, the weight of its loss.
    share: float = 1.0
    #: Whether the piece is the whole batch.
    whole: bool = True


def check_pieces(layers: Sequence[Any], input_shape: Sequence[int | None], n_steps: Any) -> int:
    """`n_steps` as an int; raises if `layers` can't compute sequences in pieces of this length.

    Recurrent layers must read forwards and return the outputs of all steps, and all other layers must treat each step
    separately.
    """
    n_steps = integer(n_steps, "truncated_bptt_steps")
    # The length is arbitrary: the check is whether the layers keep the time axis.
    shape = (None, n_steps + 1, *input_shape[2:])
    for layer in layers:
        wrong = layer.why_not_in_pieces(shape)
        if wrong:
            raise ValueError(_WHY.format(n_steps, layer.name, type(layer).__name__, wrong))
        shape = layer.compute_output_shape(shape)
    result: int = n_steps
    return result


def _per_step(array: Any, name: str, lead: tuple[int, ...]) -> Any:
    """Check that `array` has an entry for each step, and return it."""
    array = np.asarray(array)
    if array.shape[:2] != lead:
        raise ValueError(
            f"{name} has shape {array.shape}: with truncated_bptt_steps it needs an entry for each step of x, "
            f"{lead} first"
        )
    return array


def cut(batch: Batch, n_steps: int) -> Iterator[Piece]:
    """Cut a batch along time into pieces of `n_steps`; those in which no step counts are left out.

    Parameters
    ----------
    batch : Batch
        `x` and `y` of shape (n_batch, n_time, ...), weights of shape (n_batch,) or (n_batch, n_time).
    n_steps : int
    """
    x, y, weight, mask = batch[:4]
    if y is None:
        raise ValueError("y is missing: training needs targets")
    lead = x.shape[:2]
    y = _per_step(y, "y", lead)
    if weight is not None and np.ndim(weight) > 1:
        weight = _per_step(weight, "sample_weight", lead)
    if mask is not None:
        mask = _per_step(mask, "mask", lead)
    for start in range(0, lead[1], n_steps):
        steps = slice(start, min(start + n_steps, lead[1]))
        here = None if mask is None else mask[:, steps]
        if here is not None:
            if not here.any():
                continue
            here = None if here.all() else here
        weights = weight[:, steps] if np.ndim(weight) > 1 else weight
        n_steps_here = steps.stop - start
        share = n_steps_here / lead[1] if mask is None else float(mask[:, steps].sum() / mask.sum())
        yield Piece(Batch(x[:, steps], y[:, steps], weights, here), share, whole=False)


@contextlib.contextmanager
def carried_states(layers: Sequence[Any]) -> Iterator[None]:
    """Within the block, recurrent layers keep their states between calls, starting from their initial states.

    Stateful layers start from their current states, and keep the final states after the block.
    """
    borrowed = [layer for layer in layers if layer.has_states and not layer.stateful]
    with guard(*(attributes(layer, "stateful", "states") for layer in borrowed), always=True):
        for layer in borrowed:
            layer.stateful, layer.states = True, None
        yield

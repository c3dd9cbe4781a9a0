"""Weights as the kernels read them: all in one row of memory, matrices in panels.

Where several threads run a pass, each packs a row of its own as long as that fits its cache: what one core writes and
another reads goes from cache to cache line by line, and a row that both read would have to be taken from all of them
before it is written anew. A larger row they pack together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.matmul import pack
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.views import part

__all__ = ["Weights", "copies", "pack_rows", "pieces_of"]


class Weights(NamedTuple):
    """A cell's arrays: kernel ``(n_inputs, n_gates * n_units)``, recurrent kernel, bias, recurrent bias, extra."""

    kernel: np.ndarray
    recurrent: np.ndarray | None = None
    bias: np.ndarray | None = None
    recurrent_bias: np.ndarray | None = None
    extra: np.ndarray | None = None


def copies(size: int, dtype: Any, n_threads: int) -> int:
    """How many rows of `size` elements so many threads need."""
    return n_threads if size * np.dtype(dtype).itemsize <= tuning.OWN_WEIGHTS_BYTES else 1


def pieces_of(weights: Weights) -> tuple[np.ndarray, ...]:
    """The weights as :func:`pack_rows` takes them: all of them matrices, zeros for a missing bias."""
    kernel, recurrent, bias, recurrent_bias, extra = weights
    kernel = np.ascontiguousarray(kernel)
    missing = np.zeros((1, kernel.shape[1]), kernel.dtype)
    return (
        kernel,
        missing if recurrent is None else np.ascontiguousarray(recurrent),
        missing if bias is None else bias.reshape(1, -1),
        missing if recurrent_bias is None else recurrent_bias.reshape(1, -1),
        missing if extra is None else extra.reshape(1, -1),
    )


@jit(inner=True)
def _pack_row(arguments, at, k):
    pieces, layout, rows, n_shares = fetch(arguments, at)
    row, share = k // n_shares, k % n_shares
    for i in range(5):
        weights, start, end, groups, turned = (
            pieces[i],
            layout[i],
            layout[i + 1],
            layout[6 + i],
            layout[11 + i],
        )
        if start == end:
            continue
        # Equal groups of columns one after the other.
        step, size = weights.shape[1] // groups, (end - start) // groups
        for g in range(groups):
            target = part(rows, row, start + g * size, size)
            pack(weights, target, g * step, step, turned != 0, share, n_shares)


_pack_part = address(_pack_row)


@jit
def pack_rows(state, *args):
    """Pack weights into each of several rows, by the team that shares `state`.

    Arguments: the five matrices that :func:`pieces_of` gives; a layout, that is where each begins, and the end, then
    the numbers of their column groups, then whether it is their transposes that are packed; the rows; in how many
    shares each is packed. A piece without length is left out.
    """
    share(state, _pack_part(args), spill(args), args[2].shape[0] * args[3])

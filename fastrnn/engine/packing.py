"""Weights as the kernels read them: all in one row of memory, matrices in panels.

Where several threads run a pass, each packs a row of its own as long as that fits its cache: what one core writes and
another reads goes from cache to cache line by line, and a row that both read would have to be taken from all of them
before it is written anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.handover import share
from fastrnn.engine.jit import inlined, jit
from fastrnn.engine.linking import address, fetch, separate, spill
from fastrnn.engine.matmul import pack
from fastrnn.engine.views import copy, fill, part, segment

__all__ = ["Weights", "copies", "pack_parallel", "pack_row", "pieces_of"]

#: Rows up to this size are packed by each thread for itself.
_OWN_BYTES = 512 * 1024


class Weights(NamedTuple):
    """A cell's arrays: kernel ``(n_inputs, n_gates * n_units)``, recurrent kernel, bias, recurrent bias, extra."""

    kernel: np.ndarray
    recurrent: np.ndarray | None = None
    bias: np.ndarray | None = None
    recurrent_bias: np.ndarray | None = None
    extra: np.ndarray | None = None


def copies(size: int, dtype: Any, n_threads: int) -> int:
    """How many rows of `size` elements so many threads need."""
    return n_threads if size * np.dtype(dtype).itemsize <= _OWN_BYTES else 1


def pieces_of(weights: Weights) -> tuple[np.ndarray, ...]:
    """The weights as :func:`pack_row` takes them; what is missing is empty."""
    empty = weights.kernel[:0]
    kernel, recurrent = (np.ascontiguousarray(empty if m is None else m) for m in weights[:2])
    return (kernel, recurrent, *((empty if v is None else v).ravel() for v in weights[2:]))


@inlined
def _pack_groups(weights, groups, turned, out):
    """Pack equal groups of columns one after the other, or the transpose of each."""
    step, size = weights.shape[1] // groups, out.shape[0] // groups
    for g in range(groups):
        pack(weights, segment(out, g * size, size), g * step, step, turned)


@inlined
def _pack_vector(vector, out):
    if vector.shape[0] > 0:
        copy(vector, out)
    else:
        fill(out, 0)


@separate
@jit
def pack_row(kernel, recurrent, bias, recurrent_bias, extra, layout, rows, k):
    """Pack weights into ``rows[k]``.

    `layout` is where kernel, recurrent kernel, bias, recurrent bias and extra begin, and the end; then the numbers of
    column groups of kernel and recurrent kernel, and whether it is the transposes that are packed. A part without
    length is left out.
    """
    row = part(rows, k, 0, layout[5])
    if layout[0] < layout[1]:
        _pack_groups(kernel, layout[6], layout[8] != 0, segment(row, layout[0], layout[1] - layout[0]))
    if layout[1] < layout[2]:
        _pack_groups(recurrent, layout[7], layout[8] != 0, segment(row, layout[1], layout[2] - layout[1]))
    _pack_vector(bias, segment(row, layout[2], layout[3] - layout[2]))
    _pack_vector(recurrent_bias, segment(row, layout[3], layout[4] - layout[3]))
    _pack_vector(extra, segment(row, layout[4], layout[5] - layout[4]))


@jit(inner=True)
def _pack_piece(arguments, at, k):
    pack_row(*fetch(arguments, at), k)


_pack_part = address(_pack_piece)


@jit
def pack_parallel(state, *args):
    """All rows, by the team that shares `state`; arguments as of :func:`pack_row`."""
    share(state, _pack_part(args), spill(args), args[6].shape[0])

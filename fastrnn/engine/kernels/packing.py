"""Packed weights for the kernels: all weights in one row of memory, with matrices in panels.

If several threads run a pass, each packs its own row if that fits its cache, because cache lines that one core has written
and another reads are transferred one by one, and a shared row must leave both caches before it is written again. A larger
row is packed by all threads together.
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

__all__ = ["PackedRows", "Weights", "matrices_of", "pack_piece", "pack_rows", "packed_rows"]


class Weights(NamedTuple):
    """A cell's arrays: kernel ``(n_inputs, n_gates * n_units)``, recurrent kernel, bias, recurrent bias, extra."""

    kernel: np.ndarray
    recurrent: np.ndarray | None = None
    bias: np.ndarray | None = None
    recurrent_bias: np.ndarray | None = None
    extra: np.ndarray | None = None


class PackedRows(NamedTuple):
    """The rows that the threads of a pass read: layout, shape, and number of slices in which each is packed."""

    layout: np.ndarray
    shape: tuple[int, int]
    n_slices: int


def packed_rows(layout: np.ndarray, size: int, dtype: Any, n_owners: int, n_threads: int) -> PackedRows:
    """Number of rows of `size` elements: one for each of `n_owners` if it fits a thread's cache, otherwise one for all."""
    n = n_owners if size * np.dtype(dtype).itemsize <= tuning.OWN_WEIGHTS_BYTES else 1
    return PackedRows(layout, (n, size), n_threads if n == 1 else 1)


def matrices_of(weights: Weights) -> tuple[np.ndarray, ...]:
    """The weights in the form that :func:`pack_rows` takes: all as matrices, with zeros for a missing bias."""
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


@jit(inner=True, few_passes=True)
def _pack_slice(arguments, at, k):
    """Pack slice ``k % n_slices`` of the panels into row ``k // n_slices``."""
    matrices, layout, rows, n_slices = fetch(arguments, at)
    for i in range(5):
        matrix, start, end, groups, transposed = (
            matrices[i],
            layout[i, 0],
            layout[i, 1],
            layout[i, 2],
            layout[i, 3],
        )
        if start == end:
            continue
        # Pack equal groups of columns in turn.
        columns, size = matrix.shape[1] // groups, (end - start) // groups
        for g in range(groups):
            target = part(rows, k // n_slices, start + g * size, size)
            pack(matrix, target, g * columns, columns, transposed != 0, k % n_slices, n_slices)


pack_piece = address(_pack_slice)


@jit(entry=True, few_passes=True)
def pack_rows(state, *args):
    """Pack weights into each of several rows, with the team that shares `state`.

    The arguments are the five matrices of :func:`matrices_of`; a layout ``(5, 4)`` with the start and the end of each matrix
    in a row, its number of column groups, and whether its transpose is packed; the rows; and the number of slices into which
    the packing of a row is divided. A matrix of length 0 is left out.
    """
    share(state, pack_piece(args), spill(args), args[2].shape[0] * args[3])

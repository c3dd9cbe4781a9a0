"""Where weights lie in a packed row: groups of columns, and the starts of matrices.

Each group of columns is packed by itself. The gates are groups if that costs nothing, so that a thread which computes some
units of a layer finds their columns of every gate in whole panels.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.matmul import packed_size
from fastrnn.engine.kernels.micro_kernel import VECTORS, lanes
from fastrnn.engine.recurrence.contract import traits

__all__ = [
    "Packing",
    "column_groups",
    "gates_apart",
    "layout_of",
    "mask_groups",
    "packing",
    "placed",
    "slices_are_even",
]


def placed(start: str, sizes: dict[str, int], align: int = 1) -> tuple[dict[str, int], int]:
    """Starts of consecutive arrays of these sizes, at multiples of `align`, and their total size."""
    places, at = {}, 0
    for name, size in sizes.items():
        places[start + name] = at
        at += -(-size // align) * align
    return places, at


class Packing(NamedTuple):
    """The layout of weights in a packed row.

    Attributes
    ----------
    layout : array
        The layout for `packing.pack_rows`.
    size : int
        Length of the row.
    settings : dict
        The layout as fields of `SETTINGS`.
    """

    layout: np.ndarray
    size: int
    settings: dict[str, int]


def layout_of(sizes: list[int], input_groups: int, groups: int, transposed: bool) -> Packing:
    """The layout of kernel, recurrent kernel, biases and `extra` of these sizes, in sequence."""
    names = "kernel", "recurrent_kernel", "bias", "recurrent_bias", "extra"
    places, size = placed("", dict(zip(names, sizes, strict=True)))
    group_sizes = dict(kernel_size=sizes[0] // input_groups, recurrent_size=sizes[1] // groups)
    starts = [*places.values(), size]
    columns = starts[:-1], starts[1:], (input_groups, groups, 1, 1, 1), (transposed, transposed, 0, 0, 0)
    return Packing(np.array(columns, np.int64).T.copy(), size, {**places, **group_sizes})


def gates_apart(cell: Any, dtype: Any) -> bool:
    """Whether each gate is packed by itself: the cell must be able to compute some units, and no tiles may be lost."""
    parts, n = traits(cell), cell.n_units
    if not parts.by_units or not parts.recurrent or parts.late or n < tuning.MIN_APART_UNITS:
        return False
    return parts.n_gates * _vectors(n, dtype) <= tuning.MAX_APART_RATIO * _vectors(parts.n_gates * n, dtype)


def _vectors(n_columns: int, dtype: Any) -> int:
    """Vectors of packed columns; a single one in the last panel takes as long as two."""
    panels, rest = divmod(n_columns, VECTORS * lanes(dtype))
    vectors = -(-rest // lanes(dtype))
    return panels * VECTORS + (2 if vectors == 1 else vectors)


def slices_are_even(n_units: int, n_slices: int, dtype: Any) -> bool:
    """Whether slices of units, which are whole panels, have about the same size."""
    panels = -(-n_units // (VECTORS * lanes(dtype)))
    return -(-panels // n_slices) * n_slices <= tuning.MAX_SLICE_RATIO * panels


def column_groups(cell: Any, input_masks: int, recurrent_masks: bool, dtype: Any) -> tuple[int, int]:
    """Number of column groups of the input product and of the recurrent product in the forward pass."""
    if gates_apart(cell, dtype):
        n_gates = traits(cell).n_gates
        return n_gates, n_gates
    return mask_groups(cell, input_masks, recurrent_masks)


def mask_groups(cell: Any, input_masks: int, recurrent_masks: bool) -> tuple[int, int]:
    """Number of column groups that differ in the left operand of their products."""
    parts = traits(cell)
    return max(1, input_masks), parts.n_gates if recurrent_masks or parts.late else 1


# typed, because NamedTuples of different classes are equal if their numbers are
@functools.lru_cache(maxsize=tuning.MAX_PLANS, typed=True)
def packing(cell: Any, n_inputs: int, input_masks: int, recurrent_masks: bool, dtype: Any) -> Packing:
    """The layout of packed weights for the forward kernels."""
    parts = traits(cell)
    n, width = cell.n_units, parts.n_gates * cell.n_units
    input_groups, groups = column_groups(cell, input_masks, recurrent_masks, dtype)
    sizes = [
        input_groups * packed_size(n_inputs, width // input_groups, dtype),
        parts.recurrent * groups * packed_size(n, width // groups, dtype),
        packed_size(1, width, dtype),
        packed_size(1, width, dtype),
        packed_size(1, parts.n_extra * n, dtype),
    ]
    return layout_of(sizes, input_groups, groups, False)

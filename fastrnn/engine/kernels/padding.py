"""Padding of sequences of different lengths."""

from __future__ import annotations

from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.views import copy, fill, part, plane

__all__ = ["pad"]


@jit
def pad(values, begins, lengths, out, mask):
    """``out[s, r] = values[begins[r] + s]``, zeros from ``lengths[r]`` on; `out` is ``(longest, n_rows, n_features)``.

    ``mask (n_rows, longest)`` is True at the values and False at the padding.
    """
    n = values.shape[1]
    for r in range(out.shape[1]):
        for s in range(lengths[r]):
            copy(part(values, begins[r] + s, 0, n), plane(out, s, r, n))
            mask[r, s] = True
        for s in range(lengths[r], out.shape[0]):
            fill(plane(out, s, r, n), 0)
            mask[r, s] = False

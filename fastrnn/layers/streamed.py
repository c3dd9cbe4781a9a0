"""What a layer gives a stream, which runs one time step at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Streamed"]


class Streamed(NamedTuple):
    """One time step of a layer, as `streaming` runs it."""

    #: Kernels with their arguments, in the order in which they run.
    parts: tuple
    #: Where the output of the step is written, ``(batch, units)``.
    output: np.ndarray
    #: States before and after the step, one array ``(n_states, batch, units)`` for each cell.
    states: tuple[np.ndarray, ...] = ()

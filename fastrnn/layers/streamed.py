"""The result of `Layer.streamed`, from which a stream is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["PythonStep", "Streamed"]


class PythonStep(NamedTuple):
    """A step that is computed in Python, between compiled ones."""

    #: Takes an input and returns `output`.
    run: Callable[[np.ndarray], np.ndarray]
    #: Where its input lies if a compiled step comes before it, and where it writes its output.
    input: np.ndarray
    output: np.ndarray


class Streamed(NamedTuple):
    """One time step of a layer, as `streaming` runs it."""

    #: Kernels with their arguments in the order in which they run; a PythonStep where a cell is stepped in Python.
    parts: tuple[Any, ...]
    #: Array of the step's output, ``(batch, units)``.
    output: np.ndarray
    #: States before and after the step, for each cell its arrays ``(batch, units)``. They hold what a sequence starts from.
    states: tuple[Sequence[np.ndarray], ...] = ()

"""What is measured: networks of one recurrent layer, their weights in Keras's layout, and how many operations they need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GATES = {"simple_rnn": 1, "gru": 3, "lstm": 4}
CELLS = tuple(GATES)
KINDS = ("inference", "training")


@dataclass(frozen=True)
class Size:
    """Batch, time steps, inputs, units."""

    batch: int
    steps: int
    inputs: int
    units: int

    def __str__(self) -> str:
        return f"B{self.batch}xT{self.steps}xI{self.inputs}xH{self.units}"


# From one step of one sequence to a network that fills the caches.
SIZES = (
    Size(1, 1, 32, 32),
    Size(1, 100, 32, 32),
    Size(10, 500, 32, 32),
    Size(32, 100, 32, 32),
    Size(32, 100, 64, 128),
    Size(64, 50, 128, 256),
    Size(128, 50, 256, 512),
)
# Sizes that nobody tunes for.
ODD_SIZES = (
    Size(1, 1000, 1, 8),
    Size(3, 17, 1, 7),
    Size(5, 29, 12, 50),
    Size(33, 50, 13, 33),
    Size(16, 20, 8, 100),
    Size(256, 10, 300, 100),
    Size(100, 60, 5, 200),
)


@dataclass(frozen=True)
class Case:
    """One network and one way to use it; the whole sequence of outputs is returned."""

    cell: str
    size: Size
    kind: str = "inference"
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.cell}-{self.kind}-{self.size}-{self.dtype}"

    @property
    def flop(self) -> int:
        """Floating-point operations of the products alone; the backward pass needs twice those of the forward pass."""
        s = self.size
        forward = 2 * GATES[self.cell] * s.units * (s.inputs + s.units) * s.batch * s.steps
        return forward * (3 if self.kind == "training" else 1)

    @property
    def bytes(self) -> int:
        """What must cross the memory bus at least: inputs and weights once, outputs once; all of them again and the
        saved gates twice in training.
        """
        s, gates = self.size, GATES[self.cell]
        weights = gates * s.units * (s.inputs + s.units)
        rows = s.batch * s.steps
        count = weights + rows * (s.inputs + s.units)
        if self.kind == "training":
            count = 2 * count + 2 * rows * gates * s.units
        return count * np.dtype(self.dtype).itemsize

    def weights(self) -> list[NDArray]:
        """Kernel, recurrent kernel and bias in Keras's layout: LSTM i f c o; GRU z r h with two rows of bias."""
        s, gates = self.size, GATES[self.cell]
        rng = np.random.default_rng(0)
        limit = 1 / np.sqrt(s.units)
        bias = (2, gates * s.units) if self.cell == "gru" else (gates * s.units,)
        shapes = ((s.inputs, gates * s.units), (s.units, gates * s.units), bias)
        return [rng.uniform(-limit, limit, shape).astype(self.dtype) for shape in shapes]

    def data(self) -> tuple[NDArray, NDArray]:
        """Inputs (B, T, I) and targets (B, T, H)."""
        s = self.size
        rng = np.random.default_rng(1)
        x = rng.standard_normal((s.batch, s.steps, s.inputs)).astype(self.dtype)
        return x, rng.standard_normal((s.batch, s.steps, s.units)).astype(self.dtype)

"""The networks that are measured: weights in Keras's layout, data, and numbers of operations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GATES = {"simple_rnn": 1, "gru": 3, "lstm": 4}
CELLS = tuple(GATES)
KINDS = ("inference", "training")
#: One layer on full sequences; a bidirectional layer; two layers; a mask with a fifth of the steps missing at random;
#: sequences with lengths uniform in 1..T, padded at the end.
VARIANTS = ("plain", "bidirectional", "stacked", "masked", "ragged")
VALID_FRACTION = 0.8


@dataclass(frozen=True)
class Size:
    """Batch, time steps, inputs, units."""

    batch: int
    steps: int
    inputs: int
    units: int

    def __str__(self) -> str:
        return f"B{self.batch}xT{self.steps}xI{self.inputs}xH{self.units}"


# From a single step of one sequence to a network that fills the caches.
SIZES = (
    Size(1, 1, 32, 32),
    Size(1, 100, 32, 32),
    Size(10, 500, 32, 32),
    Size(32, 100, 32, 32),
    Size(32, 100, 64, 128),
    Size(64, 50, 128, 256),
    Size(128, 50, 256, 512),
)
# Sizes that no code is tuned for.
ODD_SIZES = (
    Size(1, 1000, 1, 8),
    Size(3, 17, 1, 7),
    Size(5, 29, 12, 50),
    Size(33, 50, 13, 33),
    Size(16, 20, 8, 100),
    Size(256, 10, 300, 100),
    Size(100, 60, 5, 200),
    Size(77, 1, 50, 129),
    Size(9, 40, 77, 511),
    Size(1, 50, 64, 512),
)
# Sizes at which a peer was close or ahead with vectors of 256 bits.
CLOSE_SIZES = (Size(3, 200, 1, 50), Size(33, 80, 300, 72), Size(128, 20, 9, 200))


@dataclass(frozen=True)
class Case:
    """A network, and whether it is used for inference or training; the outputs of all steps are returned."""

    cell: str
    size: Size
    kind: str = "inference"
    dtype: str = "float32"
    variant: str = "plain"

    def __str__(self) -> str:
        tail = "" if self.variant == "plain" else f"-{self.variant}"
        return f"{self.cell}-{self.kind}-{self.size}-{self.dtype}{tail}"

    @property
    def inputs_of(self) -> tuple[int, ...]:
        """Numbers of inputs of the layers, or of the two directions."""
        s = self.size
        return {"bidirectional": (s.inputs, s.inputs), "stacked": (s.inputs, s.units)}.get(
            self.variant, (s.inputs,)
        )

    @property
    def outputs(self) -> int:
        """Number of output features; both directions are concatenated."""
        return self.size.units * (2 if self.variant == "bidirectional" else 1)

    @property
    def rows(self) -> int:
        """Number of valid steps of all sequences."""
        valid = self.valid()
        return self.size.batch * self.size.steps if valid is None else int(valid.sum())

    @property
    def flop(self) -> int:
        """Floating-point operations of the matrix products; the backward pass has twice as many as the forward pass."""
        h = self.size.units
        forward = sum(2 * GATES[self.cell] * h * (inputs + h) for inputs in self.inputs_of) * self.rows
        return forward * (3 if self.kind == "training" else 1)

    @property
    def bytes(self) -> int:
        """The least number of bytes that are read and written: inputs, weights and outputs once; in training all of
        them once more, and the saved gates twice.
        """
        h, gates, rows = self.size.units, GATES[self.cell], self.rows
        weights = sum(gates * h * (inputs + h) for inputs in self.inputs_of)
        count = weights + rows * (self.size.inputs + self.outputs)
        if self.kind == "training":
            count = 2 * count + 2 * rows * gates * h * len(self.inputs_of)
        return count * np.dtype(self.dtype).itemsize

    def weights(self, layer: int = 0) -> list[NDArray[Any]]:
        """Kernel, recurrent kernel and bias in Keras's layout: LSTM i f c o; GRU z r h with two rows of bias.

        `layer` is an index of `inputs_of`: 1 is the second layer, or the direction that reads backwards.
        """
        h, gates, inputs = self.size.units, GATES[self.cell], self.inputs_of[layer]
        rng = np.random.default_rng(layer)
        limit = 1 / np.sqrt(h)
        bias = (2, gates * h) if self.cell == "gru" else (gates * h,)
        shapes = ((inputs, gates * h), (h, gates * h), bias)
        return [rng.uniform(-limit, limit, shape).astype(self.dtype) for shape in shapes]

    def lengths(self) -> NDArray[Any] | None:
        """Lengths of ragged sequences, the longest of T steps; None for other variants."""
        if self.variant != "ragged":
            return None
        s = self.size
        rng = np.random.default_rng(2)
        lengths = rng.integers(1, s.steps + 1, s.batch)
        lengths[rng.integers(s.batch)] = s.steps
        return lengths

    def valid(self) -> NDArray[Any] | None:
        """The mask (B, T), True at valid steps, or None if all are valid. The first step is always valid."""
        s, lengths = self.size, self.lengths()
        if lengths is not None:
            return np.arange(s.steps) < lengths[:, None]
        if self.variant != "masked":
            return None
        mask = np.random.default_rng(3).random((s.batch, s.steps)) < VALID_FRACTION
        mask[:, 0] = True
        return mask

    def data(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs (B, T, I), zero at masked steps, and targets (B, T, outputs)."""
        s, valid = self.size, self.valid()
        rng = np.random.default_rng(1)
        x = rng.standard_normal((s.batch, s.steps, s.inputs)).astype(self.dtype)
        if valid is not None:
            x[~valid] = 0
        return x, rng.standard_normal((s.batch, s.steps, self.outputs)).astype(self.dtype)


_NAME = re.compile(
    rf"({'|'.join(CELLS)})-({'|'.join(KINDS)})-B(\d+)xT(\d+)xI(\d+)xH(\d+)(?:-(float32|float64))?(?:-({'|'.join(VARIANTS)}))?"
)


def case_named(name: str) -> Case:
    """The case whose `str` is `name`; "float32" and "plain" may be left out.

    Raises
    ------
    ValueError
        If it is no name of a case.

    Examples
    --------
    >>> case_named("lstm-inference-B1xT100xI32xH32").size.units
    32
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r} is no name of a case: write it as lstm-inference-B1xT100xI32xH32, with one of the cells "
            f"{', '.join(CELLS)} and one of {', '.join(KINDS)}"
        )
    cell, kind, *numbers, dtype, variant = found.groups()
    size = Size(*map(int, numbers))
    if min(numbers_of := (size.batch, size.steps, size.inputs, size.units)) < 1:
        raise ValueError(f"{name!r}: batch, steps, inputs and units must be at least 1, got {numbers_of}")
    return Case(cell, size, kind, dtype or "float32", variant or "plain")

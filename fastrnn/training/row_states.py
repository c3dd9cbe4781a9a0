"""States of all sequences of a call, as layers have only the states of one batch."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["RowStates", "States"]

#: The states of each stateful layer for all sequences: arrays of shape (n_sequences, ...).
States = list[list[np.ndarray]]


class RowStates:
    """States of the stateful layers of a model, one row for each sequence of a call.

    The layers have states only while a batch is computed. Between calls, the network can be used with any batch size, and
    is pickled without states.

    Parameters
    ----------
    layers : list of Layer
        Layers of a model; only stateful ones are used.
    before : States, optional
        Initial states of the sequences; zeros by default.
    n_rows : int, optional
        Number of sequences; without it their last states are not kept.
    """

    def __init__(self, layers: list[Any], before: States | None = None, n_rows: int | None = None) -> None:
        self.layers = [layer for layer in layers if layer.stateful]
        self.before, self.n_rows = before, n_rows
        #: Final states of the sequences that were computed.
        self.after: States = []

    def enter(self, rows: np.ndarray | slice) -> None:
        """Set the layers' states to those of these rows."""
        for i, layer in enumerate(self.layers):
            layer.states = None if self.before is None else [s[rows].copy() for s in self.before[i]]

    def leave(self, rows: np.ndarray | slice) -> None:
        """Store the layers' states for these rows, and clear the layers' states."""
        for i, layer in enumerate(self.layers):
            if self.n_rows is not None:
                if len(self.after) == i:
                    self.after.append([np.zeros((self.n_rows, *s.shape[1:]), s.dtype) for s in layer.states])
                for all_rows, batch in zip(self.after[i], layer.states, strict=True):
                    all_rows[rows] = batch
            layer.states = None

    def clear(self) -> None:
        """Clear the layers' states."""
        for layer in self.layers:
            layer.states = None

"""States that a call keeps for each of its sequences, while layers hold those of one batch only."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["RowStates", "States"]

#: For each stateful layer its states over all sequences: arrays of shape (n_sequences, ...).
States = list[list[np.ndarray]]


class RowStates:
    """States of the stateful layers of a model, one row for each sequence of a call.

    The layers hold states while a batch runs only. So a network can be used with any batch size in between, and is
    pickled without them.

    Parameters
    ----------
    layers : list of Layer
        Of a model; those that are stateful take part.
    before : States, optional
        Where each sequence starts from; zeros by default.
    n_rows : int, optional
        Number of sequences; without it their last states are not kept.
    """

    def __init__(self, layers: list[Any], before: States | None = None, n_rows: int | None = None) -> None:
        self.layers = [layer for layer in layers if layer.stateful]
        self.before, self.n_rows = before, n_rows
        #: Where the sequences that were computed have ended.
        self.after: States = []

    def enter(self, rows: np.ndarray | slice) -> None:
        """Let the layers start from the states of these rows."""
        for i, layer in enumerate(self.layers):
            layer.states = None if self.before is None else [s[rows].copy() for s in self.before[i]]

    def leave(self, rows: np.ndarray | slice) -> None:
        """Take the states of these rows from the layers, which are left without states."""
        for i, layer in enumerate(self.layers):
            if self.n_rows is not None:
                if len(self.after) == i:
                    self.after.append([np.zeros((self.n_rows, *s.shape[1:]), s.dtype) for s in layer.states])
                for all_rows, batch in zip(self.after[i], layer.states, strict=True):
                    all_rows[rows] = batch
            layer.states = None

    def clear(self) -> None:
        """Leave the layers without states."""
        for layer in self.layers:
            layer.states = None

"""The networks of benchmarks.search in PyTorch, and a data set that skorch's loader reads in whole batches."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence

N_CLASSES = 9


class Network(torch.nn.Module):
    """A recurrent layer and a dense one on its last output; the last channel of the input is the length."""

    def __init__(self, cell: str = "gru", units: int = 64, packed: bool = False, channels: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
        self.layer, self.dense = kind(channels, units), torch.nn.Linear(units, N_CLASSES)
        self.packed, self.channels = packed, channels

    def forward(self, x: Any) -> Any:
        lengths = x[:, 0, self.channels].long()
        steps = x[:, : int(lengths.max()), : self.channels].transpose(0, 1)  # time first, its native layout
        if self.packed:
            _, last = self.layer(pack_padded_sequence(steps, lengths, enforce_sorted=False))
            return self.dense((last[0] if isinstance(last, tuple) else last)[0])
        return self.dense(self.layer(steps)[0][lengths - 1, torch.arange(len(x))])


class WholeBatches(torch.utils.data.Dataset):
    """Tensors of which a batch is one index operation; skorch's own data set reads sample by sample."""

    def __init__(self, X: Any, y: Any = None, length: int | None = None) -> None:
        self.X = torch.as_tensor(X)
        self.y = torch.zeros(len(X), dtype=torch.int64) if y is None else torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: Any) -> tuple[Any, Any]:
        return self.X[i], self.y[i]

    def __getitems__(self, index: list[int]) -> tuple[Any, Any]:
        return self[torch.tensor(index)]


def unchanged(batch: Any) -> Any:
    return batch

"""Batches of long series for stateful training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["StatefulBatches", "stateful_batches"]


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value <= 0:
        raise ValueError(f"{name}={value!r}: give a positive integer")
    return int(value)


def stateful_batches(
    x: Any,
    y: Any = None,
    *,
    n_steps: int,
    batch_size: int | None = None,
    sample_weight: Any = None,
    return_sequences: bool = True,
    keep_rest: bool = False,
    model: Any = None,
) -> StatefulBatches:
    """Cut long series into batches so that row i of a batch continues row i of the batch before.

    A stateful model that is fitted on them learns from series of any length with gradients through `n_steps` steps
    (truncated backpropagation through time). Its states start from zero wherever a series starts: at each epoch, and
    where one group of series follows another.

    Parameters
    ----------
    x : array of shape (n_time,), (n_time, n_features) or (n_series, n_time, n_features)
        One long series is cut into `batch_size` pieces of equal length, which become the rows. Of several series,
        `batch_size` at a time are the rows.
    y : array, optional
        Targets of every time step: the first axes are those of `x` but for the features.
    n_steps : int
        Length of a batch in time.
    batch_size : int, optional
        Number of rows; default: 1 for one series, all of several series.
    sample_weight : array, optional
        Weights of every time step, laid out as `y`.
    return_sequences : bool
        Whether the model has an output for every step; otherwise targets are those of each batch's last step.
    keep_rest : bool
        Give a last, shorter batch of the steps that are left over, rather than leave them out.
    model : Sequential, optional
        The model whose states are reset; ``fit`` and ``evaluate`` say so themselves.

    Returns
    -------
    StatefulBatches
        To be gone through any number of times, as ``model.fit(batches, epochs=10)`` does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.batches import stateful_batches
    >>> series = np.arange(12.0)
    >>> for x, y in stateful_batches(series[:-1], series[1:], n_steps=2, batch_size=2):
    ...     print(x[..., 0].tolist(), y.tolist())
    [[0.0, 1.0], [5.0, 6.0]] [[1.0, 2.0], [6.0, 7.0]]
    [[2.0, 3.0], [7.0, 8.0]] [[3.0, 4.0], [8.0, 9.0]]
    """
    return StatefulBatches(x, y, sample_weight, n_steps, batch_size, return_sequences, keep_rest, model)


class StatefulBatches:
    """What :func:`stateful_batches` returns: an iterable of tuples ``(x, y)`` or ``(x, y, sample_weight)``."""

    def __init__(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        n_steps: int,
        batch_size: int | None,
        return_sequences: bool,
        keep_rest: bool,
        model: Any,
    ) -> None:
        x = np.asarray(x)
        if x.dtype == object:
            raise ValueError(
                "x holds series of unequal lengths: cut them to one length, or train one after the other"
            )
        if x.ndim not in (1, 2, 3):
            raise ValueError(
                f"x has shape {x.shape}: give (n_time,), (n_time, n_features) or (n_series, n_time, n_features)"
            )
        several = x.ndim == 3
        lead = x.shape[:2] if several else x.shape[:1]
        self.n_steps = _positive(n_steps, "n_steps")
        if batch_size is None:
            batch_size = len(x) if several else 1
        self.batch_size = _positive(batch_size, "batch_size")
        self.return_sequences, self.keep_rest = bool(return_sequences), bool(keep_rest)
        if several and len(x) % self.batch_size:
            raise ValueError(
                f"batch_size={batch_size!r} does not divide the {len(x)} series: a stateful model needs batches of one size"
            )
        length = x.shape[1] if several else len(x) // self.batch_size
        if length < (1 if keep_rest else self.n_steps):
            raise ValueError(
                f"n_steps={n_steps!r} is more than the {length} steps of a row: give fewer, a smaller batch_size, or a "
                "longer series"
            )
        self._length = length
        self._parts: list[np.ndarray] = []
        for name, part in (
            ("x", x[..., None] if x.ndim == 1 else x),
            ("y", y),
            ("sample_weight", sample_weight),
        ):
            if part is None:
                if name == "y" and sample_weight is not None:
                    raise ValueError("sample_weight is given without y")
                continue
            part = np.asarray(part)
            if part.shape[: len(lead)] != lead:
                raise ValueError(
                    f"{name} has shape {part.shape}: it needs one entry for each time step of x, {lead} first"
                )
            if not several:
                part = part[: self.batch_size * length].reshape(self.batch_size, length, *part.shape[1:])
            self._parts.append(part)
        self.model = model

    def attach(self, model: Any) -> None:
        """Let `model` be the one whose states are reset."""
        self.model = model

    @property
    def n_groups(self) -> int:
        """How many times states start from zero in an epoch."""
        return len(self._parts[0]) // self.batch_size

    def __len__(self) -> int:
        n, rest = divmod(self._length, self.n_steps)
        return self.n_groups * (n + (rest > 0 and self.keep_rest))

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        per_group = len(self) // self.n_groups
        for group in range(self.n_groups):
            if self.model is not None:
                self.model.reset_states()
            rows = slice(group * self.batch_size, (group + 1) * self.batch_size)
            for k in range(per_group):
                x, *rest = (part[rows, k * self.n_steps : (k + 1) * self.n_steps] for part in self._parts)
                if not self.return_sequences:
                    rest = [part[:, -1] for part in rest]
                yield (x, *rest)

"""Batches of long series for stateful training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import integer
from fastrnn.sequences.columnar import read_columnar
from fastrnn.sequences.ragged import Ragged

__all__ = ["StatefulBatches", "stateful_batches"]


def stateful_batches(
    x: Any,
    y: Any = None,
    *,
    n_steps: int,
    batch_size: int | None = None,
    sample_weight: Any = None,
    return_sequences: bool = True,
    keep_rest: bool | None = None,
    tokens: bool = False,
    model: Any = None,
) -> StatefulBatches:
    """Cut long series into batches so that row i of a batch continues row i of the previous batch.

    A stateful model can be fitted to them: it keeps its states over whole series, with gradients through `n_steps` steps
    (truncated backpropagation through time). The states of a row are set to zero where a series starts, that is at the
    start of an epoch and where one series follows another in the row; the other rows keep their states.

    Series may have different lengths. Each is assigned to the first free row; where it ends, the next series begins with
    the next batch. Rows with fewer steps than the others are padded at the end and masked; so are rows without a series.

    Parameters
    ----------
    x : array of shape (n_time,), (n_time, n_features) or (n_series, n_time, n_features), list of arrays, or Ragged
        One long series is cut into `batch_size` pieces of equal length, which become the rows. Several series of unequal
        length are a list (or a Ragged) of arrays of shape (n_time_i, n_features) or (n_time_i,), or an awkward array or a
        pyarrow column of lists.
    y : array_like, optional
        Targets of every time step, with the time axes of `x`: ``(n_time,)`` or ``(n_time, n_outputs)`` for one series,
        ``(n_series, n_time, ...)`` for several, a list for a list.
    n_steps : int
        Length of a batch in time.
    batch_size : int, optional
        Number of rows; default: 1 for one series, all of several series.
    sample_weight : array_like, optional
        Weights of every time step, laid out as `y`.
    return_sequences : bool
        Whether the model has an output for every step; otherwise the targets are those of each row's last step.
    keep_rest : bool, optional
        Whether to keep the last steps of a series if they are fewer than `n_steps`. By default they are kept if the series
        have unequal lengths.
    tokens : bool
        Whether `x` holds integers for an Embedding: ``(n_time,)``, ``(n_series, n_time)`` or a list of ``(n_time_i,)``.
        Tokens have no axis of features.
    model : Sequential, optional
        The model whose states are reset; ``fit``, ``evaluate`` and ``predict`` set it themselves.

    Returns
    -------
    StatefulBatches
        An iterable that can be iterated repeatedly, as in ``model.fit(batches, epochs=10)``.

    Raises
    ------
    ValueError
        If the parts don't fit together, or a series is too short.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import stateful_batches
    >>> series = np.arange(12.0)
    >>> for x, y in stateful_batches(series[:-1], series[1:], n_steps=2, batch_size=2):
    ...     print(x[..., 0].tolist(), y.tolist())
    [[0.0, 1.0], [5.0, 6.0]] [[1.0, 2.0], [6.0, 7.0]]
    [[2.0, 3.0], [7.0, 8.0]] [[3.0, 4.0], [8.0, 9.0]]

    Three series in two rows: the third begins where the first has ended, and only the states of that row are reset.

    >>> batches = stateful_batches([series[:3], series[:6], series[:4]], n_steps=2, batch_size=2)
    >>> [np.shape(x) for (x,) in batches], batches.starts.tolist()
    ([(2, 2, 1), (2, None, 1), (2, 2, 1), (2, None, 1)], [[True, True], [False, False], [True, False], [False, False]])
    """
    x, y, sample_weight = (
        read_columnar(part, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
    )
    return StatefulBatches(
        x, y, sample_weight, n_steps, batch_size, return_sequences, keep_rest, tokens, model
    )


class StatefulBatches:
    """An iterable of tuples ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``; see :func:`stateful_batches`.

    Each item is an array if all rows have the same number of steps, otherwise a :class:`~fastrnn.sequences.Ragged` with
    one sequence for each row, which may be empty. Models take both.

    Attributes
    ----------
    starts : ndarray of bool, shape (n_batches, batch_size)
        True where a row begins a series in a batch: its states must be zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import stateful_batches
    >>> batches = stateful_batches(np.arange(12.0).reshape(2, 6, 1), n_steps=3)
    >>> [x.shape for (x,) in batches], batches.starts[:, 0].tolist()
    ([(2, 3, 1), (2, 3, 1)], [True, False])
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        n_steps: int,
        batch_size: int | None,
        return_sequences: bool,
        keep_rest: bool | None,
        tokens: bool,
        model: Any,
    ) -> None:
        self.n_steps = integer(n_steps, "n_steps")
        batch_size = integer(batch_size, "batch_size", optional=True)
        self.return_sequences = bool(return_sequences)
        if y is None and sample_weight is not None:
            raise ValueError("sample_weight is given without y")
        several = _holds_several(x, 1 if tokens else 2)
        n_rows = None if several else batch_size or 1
        series = _split(x, "x", n_rows)
        if not tokens:
            series = [s[:, None] if s.ndim == 1 else s for s in series]
        if len({s.shape[1:] for s in series}) > 1 or series[0].ndim > (1 if tokens else 2):
            raise ValueError(
                f"x holds series of shapes {sorted({s.shape for s in series})}: give each the same features, "
                + ("(n_time,) tokens" if tokens else "(n_time, n_features) or (n_time,)")
            )
        self.batch_size = batch_size or (len(series) if several else 1)
        lengths = [len(s) for s in series]
        self.keep_rest = len(set(lengths)) > 1 if keep_rest is None else bool(keep_rest)
        shortest = min(range(len(lengths)), key=lengths.__getitem__)
        if lengths[shortest] < (1 if self.keep_rest else self.n_steps):
            row = f"series {shortest}" if several else "a row"
            raise ValueError(
                f"n_steps={n_steps!r} is more than the {lengths[shortest]} steps of {row}: give fewer, a smaller "
                "batch_size, or keep_rest=True, which pads series that have a step at all"
            )
        self._parts = [series]
        for name, part in (("y", y), ("sample_weight", sample_weight)):
            if part is not None:
                values = _split(part, name, n_rows)
                if [len(v) for v in values] != lengths or len(part) != len(x):
                    raise ValueError(
                        f"{name} {_shape(part)}: it needs one entry for each time step of x, which {_shape(x)}"
                    )
                self._parts.append(values)
        used = [n if self.keep_rest else n // self.n_steps * self.n_steps for n in lengths]
        self._schedule = _schedule(used, self.batch_size, self.n_steps)
        self.starts = np.array([[at == 0 and n > 0 for _, at, n in batch] for batch in self._schedule])
        self.model = model

    def attach(self, model: Any) -> None:
        """Set the model whose states are reset."""
        self.model = model

    def __len__(self) -> int:
        return len(self._schedule)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for k, batch in enumerate(self._schedule):
            if self.model is not None:
                if k == 0:
                    self.model.reset_states()
                elif self.starts[k].any():
                    self.model.reset_states(np.flatnonzero(self.starts[k]))
            x, *rest = ([part[i][at : at + n] for i, at, n in batch] for part in self._parts)
            yield (_joined(x), *map(_joined if self.return_sequences else _last, rest))


def _joined(rows: list[np.ndarray]) -> Any:
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else Ragged.from_list(rows)


def _last(rows: list[np.ndarray]) -> np.ndarray:
    # A row without steps is masked, so its target may be any value.
    filler = next(row[-1] for row in rows if len(row))
    return np.stack([row[-1] if len(row) else filler for row in rows])


def _holds_several(x: Any, ndim: int) -> bool:
    """Whether `x` is several series rather than one of at most `ndim` axes."""
    if isinstance(x, Ragged):
        return True
    if isinstance(x, (list, tuple)) and any(isinstance(s, np.ndarray) and s.ndim for s in x):
        return True
    try:
        x = np.asarray(x)
    except ValueError:  # lists of unequal length
        return True
    if x.dtype != object and not 1 <= x.ndim <= ndim + 1:
        raise ValueError(
            f"x has shape {x.shape}: give (n_time,), (n_time, n_features), (n_series, n_time, n_features) or a list of "
            "series; with tokens=True (n_time,) or (n_series, n_time) or a list"
        )
    result: bool = x.dtype == object or x.ndim == ndim + 1
    return result


def _split(part: Any, name: str, n_rows: int | None) -> list[np.ndarray]:
    """Series as a list of arrays; one series is cut into `n_rows`."""
    if n_rows is None:
        series = [np.asarray(s) for s in part]
        if not series:
            raise ValueError(f"{name} holds no series")
        if any(s.ndim == 0 or s.dtype == object for s in series):
            raise ValueError(
                f"{name} {_shape(part)}: give an array for each series, with time as the first axis"
            )
        return series
    part = np.asarray(part)
    if part.ndim == 0:
        raise ValueError(f"{name}={part!r}: give an array with time as the first axis")
    length = len(part) // n_rows
    return list(part[: n_rows * length].reshape(n_rows, length, *part.shape[1:]))


def _shape(part: Any) -> str:
    """Describe the shape of `x`, `y` or weights, for a message."""
    if isinstance(part, (np.ndarray, Ragged)) and part.dtype != object:
        return f"has shape {part.shape}"
    lengths = [str(np.shape(s)[0]) if np.ndim(s) else "no" for s in part]
    more = [] if len(lengths) <= 8 else [f"... {lengths[-1]}"]
    return f"holds {len(lengths)} series of {', '.join(lengths[:8] + more)} steps"


def _schedule(lengths: Sequence[int], batch_size: int, n_steps: int) -> list[list[tuple[int, int, int]]]:
    """For each batch and row: number of the series, first step, and number of steps (0 if no series is left)."""
    waiting = list(range(len(lengths)))[::-1]
    rows: list[tuple[int, int] | None] = [None] * batch_size
    schedule: list[list[tuple[int, int, int]]] = []
    while True:
        rows = [(waiting.pop(), 0) if row is None and waiting else row for row in rows]
        if not any(rows):
            return schedule
        batch = []
        for r, row in enumerate(rows):
            i, at = row or (0, 0)
            n = min(n_steps, lengths[i] - at) if row else 0
            batch.append((i, at, n))
            if row:
                rows[r] = (i, at + n) if at + n < lengths[i] else None
        schedule.append(batch)

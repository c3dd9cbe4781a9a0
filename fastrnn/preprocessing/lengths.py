"""Transformers that change the number of time steps: padding and truncating, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import choice, integer, number
from fastrnn.preprocessing.base import SequenceTransformer, positions_of, with_forms
from fastrnn.sequences import Ragged

__all__ = ["SequencePadder", "SequenceResampler"]


@with_forms
class SequencePadder(SequenceTransformer):
    """Pad and truncate sequences to one number of steps.

    Parameters
    ----------
    n_timesteps : int or None, default=None
        Steps of each result. None: those of the longest sequence in `fit`.
    padding : {"post", "pre"}, default="post"
        Whether to pad at the end or at the beginning.
    truncating : {"post", "pre"}, default="post"
        Whether to cut steps off at the end or at the beginning.
    value : float, default=nan
        What is padded with. The estimators leave out steps of NaN at the end or at the beginning; any other number
        is data to them.

    Attributes
    ----------
    n_timesteps_ : int
        Steps of each result.
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    Accepts what the estimators accept, see :class:`StandardScaler3D`; the result is an array (n_samples, ``n_timesteps_``,
    n_features), for a table without NaN a table. `inverse_transform` takes padding off again and gives a list; it exists
    for ``value=nan``. Steps that were cut off do not come back.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import SequencePadder
    >>> SequencePadder().fit_transform([np.array([1.0, 2.0, 3.0]), np.array([4.0])])[..., 0]
    array([[ 1.,  2.,  3.],
           [ 4., nan, nan]])
    """

    n_timesteps_: int

    def __init__(
        self,
        *,
        n_timesteps: int | None = None,
        padding: str = "post",
        truncating: str = "post",
        value: float = np.nan,
    ) -> None:
        self.n_timesteps = n_timesteps
        self.padding = padding
        self.truncating = truncating
        self.value = value

    def _check_arguments(self) -> None:
        integer(self.n_timesteps, "n_timesteps", optional=True)
        choice(self.padding, "padding", ("post", "pre"))
        choice(self.truncating, "truncating", ("post", "pre"))
        if not (isinstance(self.value, (float, np.floating)) and np.isnan(self.value)):
            number(self.value, "value")

    def _learn(self, data: Ragged) -> dict[str, Any]:
        longest = max(int(data.lengths.max()), 1)
        return {"n_timesteps_": longest if self.n_timesteps is None else int(self.n_timesteps)}

    def _lengths_out(self, lengths: np.ndarray) -> np.ndarray:
        return np.full(len(lengths), self.n_timesteps_)

    def _convert(self, data: Ragged) -> Ragged:
        width = self.n_timesteps_
        lengths = np.minimum(data.lengths, width)
        position = positions_of(data)
        if self.truncating == "pre":
            position = position - np.repeat(data.lengths - lengths, data.lengths)
        values = data.values[(position >= 0) & (position < width)]
        starts = width - lengths if self.padding == "pre" else np.zeros_like(lengths)
        return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]), starts=starts, n_timesteps=width)

    def _write(self, result: Ragged, X: Any, is_table: bool) -> Any:
        out = result.restore(result.values)
        mask = result.padded_mask()
        if not np.isnan(self.value):
            out[~mask] = self.value
        elif not mask.all():
            return out
        return out[:, :, 0] if is_table else out

    def inverse_transform(self, X: Any) -> list[np.ndarray]:
        """Take the padding off.

        Parameters
        ----------
        X : array-like
            Padded sequences.

        Returns
        -------
        list of ndarray
            An array of shape (n_timesteps_i, n_features) for each sequence.

        Raises
        ------
        ValueError
            If `value` is not NaN, as it can't be told from data then.
        """
        if not np.isnan(self.value):
            raise ValueError(
                f"value={self.value!r}: padding by a number can't be told from data. Use value=nan."
            )
        found: list[np.ndarray] = []
        self._inverted(X, lambda data: _noted(data, found))
        return found


def _noted(data: Ragged, found: list[np.ndarray]) -> Ragged:
    found.extend(data)
    return data


@with_forms
class SequenceResampler(SequenceTransformer):
    """Give sequences another number of steps over the same time.

    Parameters
    ----------
    n_timesteps : int or None, default=None
        Steps of each result. None: `rate` times those of the sequence.
    rate : float, default=1.0
        Steps of the result for each step of a sequence; the number is rounded, and at least 1. Used without `n_timesteps`.
    method : {"linear", "previous", "mean"}, default="linear"
        "linear": values between steps, by linear interpolation, from the first step to the last. "previous": the last
        step at or before these times. "mean": the mean of each of equally long pieces of whole steps, which is what fewer
        steps of a noisy signal need; with more steps than before, steps are repeated.

    Attributes
    ----------
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms} An empty sequence stays empty.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import SequenceResampler
    >>> SequenceResampler(n_timesteps=3).fit_transform([np.array([0.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])])
    [array([0., 2., 4.]), array([1., 3., 5.])]
    """

    def __init__(self, *, n_timesteps: int | None = None, rate: float = 1.0, method: str = "linear") -> None:
        self.n_timesteps = n_timesteps
        self.rate = rate
        self.method = method

    def _check_arguments(self) -> None:
        integer(self.n_timesteps, "n_timesteps", optional=True)
        number(self.rate, "rate", 0, above=True)
        choice(self.method, "method", ("linear", "previous", "mean"))

    def _lengths_out(self, lengths: np.ndarray) -> np.ndarray:
        wanted = np.maximum(np.rint(lengths * self.rate), 1).astype(np.int64)
        if self.n_timesteps is not None:
            wanted = np.full(len(lengths), int(self.n_timesteps))
        return np.where(lengths > 0, wanted, 0)

    def _convert(self, data: Ragged) -> Ragged:
        before, after = data.lengths, self._lengths_out(data.lengths)
        offsets = np.concatenate([[0], np.cumsum(after)])
        result = Ragged(np.empty(offsets[-1]), offsets)
        # For each step of the results: its number, the steps and the first row of its sequence, the steps of the result.
        step, n, m = positions_of(result), np.repeat(before, after), np.repeat(after, after)
        begin = np.repeat(data.offsets[:-1], after)
        if self.method == "mean":
            first, end = step * n // m, (step + 1) * n // m
            if len(first):
                sums = np.add.reduceat(data.values, begin + first, axis=0)
                # reduceat ends a piece where the next begins, and repeats a step if that is no later.
                sums /= np.maximum(end - first, 1)[:, None].astype(sums.dtype)
            else:
                sums = data.values
            return self._moved(data, sums, after)
        # A single step stands for the middle.
        where = np.where(m > 1, step * (n - 1) / np.maximum(m - 1, 1), (n - 1) / 2)
        left = np.floor(where + 1e-9).astype(np.int64)
        values = data.values[begin + left]
        if self.method == "linear":
            share = np.maximum(where - left, 0)[:, None].astype(values.dtype)
            right = data.values[begin + np.minimum(left + 1, np.maximum(n - 1, 0))]
            values = values + share * (right - values)
        return self._moved(data, values, after)

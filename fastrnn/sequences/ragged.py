"""Sequences of unequal length in one block of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import as_array
from fastrnn.engine.kernels.padding import pad


def as_object_array(sequences: Iterable[Any]) -> np.ndarray:
    """Put sequences into a one-dimensional object array, which scikit-learn's tools index without reading its items.

    ``np.array(list_of_arrays, dtype=object)`` makes a three-dimensional array if all lengths are equal; this function
    always makes one of shape ``(n_samples,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import as_object_array
    >>> as_object_array([np.ones((2, 3)), np.ones((2, 3))]).shape
    (2,)
    """
    items = list(sequences)
    out = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        out[i] = item
    return out


def join_steps(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenate the steps of sequences; those without steps don't change the dtype, nor ``[]`` the shape of a step."""
    dtypes = {array.dtype for array in arrays if array.size}
    known = [array for array in arrays if array.size or array.ndim > 1] or arrays
    return np.concatenate(known, dtype=np.result_type(*dtypes) if dtypes else None, casting="unsafe")


class Ragged:
    """Sequences of unequal length in one block of memory.

    Parameters
    ----------
    values : ndarray of shape (total_timesteps, n_features) or (total_timesteps,)
        The steps of all sequences, one sequence after the other; one dimension for tokens and labels.
    offsets : ndarray of int64, shape (n_samples + 1,)
        Sequence i is ``values[offsets[i]:offsets[i + 1]]``.
    starts : ndarray of int64, shape (n_samples,), optional
        If the sequences were cut from a padded array: the step of the array at which each sequence begins.
    n_timesteps : int, optional
        The number of steps of the padded array.
    columns : sequence of str, optional
        Names of the features, which estimators and transformers compare with those of `fit`.

    Notes
    -----
    Holds ``sum(lengths)`` steps; a padded array of the same data holds ``n_samples * max(lengths)``.
    An integer index gives one sequence; a slice, an integer array or a mask gives another Ragged.
    ``np.asarray`` makes an object array of the sequences.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Ragged
    >>> x = Ragged.from_list([np.ones((2, 3)), np.ones((4, 3))])
    >>> x.shape, x.lengths.tolist(), x[1].shape
    ((2, None, 3), [2, 4], (4, 3))
    """

    columns: tuple[str, ...] | None = None

    def __init__(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        *,
        starts: np.ndarray | None = None,
        n_timesteps: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        values, offsets = np.asarray(values), np.asarray(offsets, dtype=np.int64)
        if offsets.ndim != 1 or offsets.size == 0 or offsets[0] != 0 or offsets[-1] != len(values):
            raise ValueError(
                f"offsets must rise from 0 to len(values) = {len(values)} in one dimension, got an array of "
                f"shape {offsets.shape}"
            )
        if np.any(np.diff(offsets) < 0):
            raise ValueError("offsets must not decrease")
        self.values = values
        self.offsets = offsets
        self.starts = starts
        self.n_timesteps = n_timesteps
        if columns is not None:
            self.columns = tuple(columns)
            if values.ndim != 2 or len(self.columns) != values.shape[1]:
                raise ValueError(
                    f"columns has {len(self.columns)} names, but values has shape {values.shape}: give one for each "
                    "feature"
                )

    @classmethod
    def from_list(cls, sequences: Iterable[Any], dtype: Any = None) -> Ragged:
        """Join a list of arrays of shape (n_timesteps_i, n_features) or (n_timesteps_i,); some may be empty."""
        arrays = [as_array(sequence, f"sequences[{i}]") for i, sequence in enumerate(sequences)]
        offsets = np.zeros(len(arrays) + 1, np.int64)
        np.cumsum([len(a) for a in arrays], out=offsets[1:])
        values = join_steps(arrays) if arrays else np.zeros((0, 1))
        return cls(values if dtype is None else values.astype(dtype, copy=False), offsets)

    def without_empty(self) -> Ragged:
        """Return the sequences that have steps, with the same `values`."""
        filled = self.lengths > 0
        offsets = np.concatenate([[0], self.offsets[1:][filled]])
        starts = None if self.starts is None else self.starts[filled]
        return self._derived(self.values, offsets, starts)

    def _derived(self, values: np.ndarray, offsets: np.ndarray, starts: np.ndarray | None) -> Ragged:
        columns = self.columns if values.shape[1:] == self.values.shape[1:] else None
        return Ragged(values, offsets, starts=starts, n_timesteps=self.n_timesteps, columns=columns)

    @property
    def lengths(self) -> np.ndarray:
        """Number of steps of each sequence, int64."""
        return np.diff(self.offsets)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """``(n_samples, None, n_features)``, or ``(n_samples, None)`` for tokens."""
        return (len(self), None, *self.values.shape[1:])

    @property
    def ndim(self) -> int:
        return self.values.ndim + 1

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        lengths = self.lengths
        span = f"{lengths.min()} to {lengths.max()} steps" if len(self) else "empty"
        return f"Ragged({len(self)} sequences, {span}, values {self.values.shape} {self.values.dtype})"

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.values[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """An object array of the sequences, as scikit-learn's splitters ask for it."""
        if dtype is not None and np.dtype(dtype) != object:
            raise ValueError(
                f"sequences of unequal length are no array of {np.dtype(dtype)}: use their `values`, or `take` to pad them"
            )
        return as_object_array(self)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, (int, np.integer)):
            i = range(len(self))[key]
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        index = np.arange(len(self))[key]
        steps, offsets = self.steps_of(index)
        starts = None if self.starts is None else self.starts[index]
        return self._derived(self.values[steps], offsets, starts)

    def steps_of(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of `values` that belong to the sequences in `index`, and their new offsets."""
        lengths = self.lengths[index]
        offsets = np.zeros(len(index) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        shift = np.repeat(self.offsets[index] - offsets[:-1], lengths)
        return shift + np.arange(offsets[-1]), offsets

    def take(self, index: Any, dtype: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Pad the sequences in `index` to the longest of them, zeros at the end.

        Parameters
        ----------
        index : array-like of int or slice
        dtype : dtype, optional
            Type of the result; by default that of `values`.

        Returns
        -------
        x : ndarray of shape (n_index, max_length, n_features) or (n_index, max_length)
            Indexed (batch, time), but time-major in memory, the order in which the layers read it.
        mask : ndarray of bool, shape (n_index, max_length)
            True at valid steps.
        """
        if not isinstance(index, np.ndarray) or index.dtype == bool:
            index = np.arange(len(self))[index]
        begins = self.offsets[index]
        lengths = self.offsets[index + 1] - begins
        # If all are empty, return one masked step: layers need a step, and output their initial states.
        longest = max(int(lengths.max()), 1) if len(index) else 0
        values, dtype = self.values, np.dtype(dtype or self.values.dtype)
        shape = (longest, len(index), *values.shape[1:])
        if values.dtype == dtype and dtype in (np.float32, np.float64) and values.ndim == 2:
            buffer, mask = np.empty(shape, dtype), np.empty((len(index), longest), bool)
            pad(values if values.flags.c_contiguous else values.copy(), begins, lengths, buffer, mask)
        else:
            mask = np.arange(longest) < lengths[:, None]
            buffer = np.zeros(shape, dtype)
            for row, (begin, length) in enumerate(zip(begins.tolist(), lengths.tolist(), strict=True)):
                buffer[:length, row] = values[begin : begin + length]
        return buffer.swapaxes(0, 1), mask

    def with_values(self, values: np.ndarray) -> Ragged:
        """Return a Ragged with these values and the lengths and layout of this one."""
        return self._derived(values, self.offsets, self.starts)

    def padded_mask(self) -> np.ndarray:
        """Mask (n_samples, n_timesteps), True at the valid steps of the padded array from which this was made."""
        if self.starts is None or self.n_timesteps is None:
            raise ValueError("these sequences came from a list, not from a padded array")
        step = np.arange(self.n_timesteps)
        result: np.ndarray = (step >= self.starts[:, None]) & (step < (self.starts + self.lengths)[:, None])
        return result

    def restore(self, values: np.ndarray) -> np.ndarray:
        """Return `values`, one row for each step, in the layout of the input.

        A padded input gives an array of shape (n_samples, n_timesteps, ...), where padding holds NaN (None in
        an array of text, so an object array); a list gives an object array of n_samples arrays.
        """
        if self.n_timesteps is None:
            return as_object_array(self.with_values(values))
        mask = self.padded_mask()
        if mask.all():
            return values.reshape(*mask.shape, *values.shape[1:])
        fill: Any = np.nan
        if values.dtype.kind in "biu":
            values = values.astype(np.float64)
        elif values.dtype.kind not in "fc":
            values, fill = values.astype(object), None
        out = np.full((*mask.shape, *values.shape[1:]), fill, values.dtype)
        out[mask] = values
        return out

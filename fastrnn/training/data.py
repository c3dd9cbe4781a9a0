"""Data cut into batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import as_array, integer, real_array
from fastrnn.engine import tuning
from fastrnn.sequences.columnar import read_columnar
from fastrnn.sequences.ragged import Ragged
from fastrnn.training.checks import check_weights

__all__ = ["Batch", "Batches", "class_weights", "is_stream", "restarting", "training_data", "whole"]


class Batch(NamedTuple):
    """A batch of samples."""

    x: Any
    y: Any = None
    weight: Any = None
    #: Mask of the valid time steps; None if all are valid.
    mask: np.ndarray | None = None
    #: Indices of the samples in the data, or a slice; None if they are not known.
    rows: Any = None
    #: The batch in parts of similar lengths, whose gradients are added; the fields before `rows` are None then.
    parts: tuple[Batch, ...] = ()

    @property
    def pieces(self) -> tuple[Batch, ...]:
        """The parts, or the batch itself."""
        return self.parts or (self,)


def class_weights(y: Any, class_weight: Mapping[int, float], output_shape: Sequence[Any]) -> np.ndarray:
    """Weights of samples (or time steps) from weights of their classes.

    Parameters
    ----------
    y : array_like
        Classes, one for each sample or time step of the outputs, with or without a last axis of length 1; or one-hot.
    class_weight : mapping
        Weights by class; other classes have the weight 1.
    output_shape : tuple
        Shape of the outputs with the batch axis, to distinguish classes of time steps from one-hot classes.

    Raises
    ------
    ValueError
        If `class_weight` names a class that the outputs don't have.
    """
    y, n_classes = np.asarray(y), max(output_shape[-1] or 0, 2)
    for label in class_weight:
        if output_shape[-1] is not None and not 0 <= label < n_classes:
            raise ValueError(
                f"class_weight names the class {label!r}: the outputs have classes 0 to {n_classes - 1}"
            )
    if y.ndim == len(output_shape):
        y = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
    with np.errstate(invalid="ignore"):  # a target that is missing is NaN
        classes = np.rint(y).astype(np.int64)
    weights = np.ones(classes.shape, np.float32)
    for label, weight in class_weight.items():
        weights[classes == int(label)] = weight
    return weights


class Batches:
    """Cuts data into batches, without copying all data.

    Parameters
    ----------
    x : ndarray, Ragged, awkward array or pyarrow column of lists, or iterable of batches
        An iterable gives tuples ``(x, y)`` or ``(x, y, sample_weight)`` of arrays or Ragged, and is iterated again in
        each epoch.
    y, sample_weight : array_like, optional
    batch_size : int
    start, stop : int, optional
        Use only these samples.
    places : array of int, optional
        The samples of `x` that are used, in this order; `y` and `sample_weight` have an entry for each of them.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        start: int = 0,
        stop: int | None = None,
        *,
        places: np.ndarray | None = None,
    ) -> None:
        x, y, sample_weight = (
            read_columnar(part, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))
        )
        self.places = places
        self.stream = y is None and not isinstance(x, np.ndarray) and is_stream(x)
        self.x, self.y, self.sample_weight = x, y, sample_weight
        #: Mask of the valid time steps, if `x` is an array; None if all are valid.
        self.mask: np.ndarray | None = None
        if self.stream:
            for name, value in (("batch_size", batch_size), ("sample_weight", sample_weight)):
                if value is not None:
                    raise ValueError(f"{name}={value!r}: leave it out where x is an iterable of batches")
            self.n = -1
            self._first: Any = next(iter(x), None)
            if self._first is None:
                raise ValueError("x gave no batches")
            if not isinstance(self._first, (tuple, list)) or not 1 <= len(self._first) <= 3:
                raise TypeError(
                    f"x gives {type(self._first).__name__} objects: an iterable of batches gives tuples (x, y) or "
                    "(x, y, sample_weight)"
                )
            if iter(x) is x:
                # Put back the first batch, which was taken from the generator.
                self.x = itertools.chain([self._first], x)
            return
        if not isinstance(x, Ragged):
            if y is not None and not isinstance(x, (list, tuple)) and is_stream(x):
                raise ValueError(
                    "y: leave it out where x is an iterable of batches, which gives targets itself"
                )
            _check_one_input(x, y)
            self.x = x = real_array(x)
        if x.ndim < 2:
            raise ValueError(f"x has shape {tuple(x.shape)}: give (batch, ...), at least two axes")
        if batch_size is None:
            batch_size = 32
        self.batch_size = integer(batch_size, "batch_size")
        n = len(x) if places is None else len(places)
        for name, part in (("y", y), ("sample_weight", check_weights(sample_weight))):
            if part is None:
                continue
            if not isinstance(part, Ragged):
                part = as_array(part, name)
                if part.ndim == 0:
                    raise ValueError(
                        f"{name} is {part.item()!r}: give an array with an entry for each sample"
                    )
                setattr(self, name, part)
            if len(part) != n:
                raise ValueError(f"x has {n} samples, {name} has {len(part)}: the numbers must be equal")
        self.start, self.stop = start, n if stop is None else stop
        self.n = self.stop - self.start
        if self.n == 0:
            raise ValueError("x holds no samples")

    @property
    def n_batches(self) -> int | None:
        """Number of batches; None if it is not known."""
        if self.stream:
            return len(self.x) if isinstance(self.x, Sized) else None
        result: int | None = -(-self.n // self.batch_size)
        return result

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the input, with None for the batch axis."""
        if self.stream:
            x = self._first[0]
            return (None, *(x.shape if isinstance(x, Ragged) else np.shape(x))[1:])
        return (None, *self.x.shape[1:])

    def epoch(
        self,
        rng: np.random.Generator | np.random.RandomState | None = None,
        shuffle: bool | str = False,
        order: list[np.ndarray] | None = None,
        divide: bool = False,
    ) -> Iterator[Batch]:
        """Yield the batches of one pass.

        Parameters
        ----------
        rng : Generator or RandomState, optional
        shuffle : bool or "batch"
            With `rng`: whether all samples are shuffled, or those of each batch.
        order : list of array of int, optional
            Indices of the samples of each batch, without shuffling.
        divide : bool
            Whether batches of a Ragged are given in parts if most of a padded batch were padding.
        """
        if self.stream:
            for given in self.x:
                x, y, weight = (*given, None, None)[:3]
                x, mask = whole(x)
                yield Batch(np.asarray(x), whole(y)[0], whole(weight)[0], mask)
            return
        divide = divide and isinstance(self.x, Ragged)
        for rows in order if order is not None else self._rows(rng, shuffle):
            if divide:
                index = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
                places = index if self.places is None else self.places[index]
                groups = like_lengths(self.x.lengths[places], len(index))
                if len(groups) > 1:
                    parts = (self._batch(index[np.sort(group)]) for group in groups)
                    yield Batch(None, rows=rows, parts=tuple(parts))
                    continue
            yield self._batch(rows)

    def _batch(self, rows: slice | np.ndarray) -> Batch:
        x, mask = _take(self.x, rows if self.places is None else self.places[rows])
        mask = mask if self.mask is None else self.mask[rows]
        return Batch(x, _take(self.y, rows)[0], _take(self.sample_weight, rows)[0], mask, rows)

    def order(self, rng: Any, shuffle: bool | str) -> np.ndarray | None:
        """The samples in the order of an epoch; None if they are not shuffled."""
        if not shuffle or rng is None:
            return None
        if shuffle == "batch":
            whole: np.ndarray = np.arange(self.start, self.stop)
            for i in range(0, self.n, self.batch_size):
                rng.shuffle(whole[i : i + self.batch_size])
            return whole
        whole = rng.permutation(self.n)
        if self.start:
            whole += self.start
        return whole

    def _rows(self, rng: Any, shuffle: bool | str) -> Iterator[slice | np.ndarray]:
        """The samples of each batch."""
        whole = self.order(rng, shuffle)
        for i in range(0, self.n, self.batch_size):
            end = min(i + self.batch_size, self.n)
            yield slice(self.start + i, self.start + end) if whole is None else whole[i:end]

    def split(self, fraction: float) -> tuple[Batches, Batches]:
        """The first samples, and the last `fraction` of them."""
        if not 0 < fraction < 1:
            raise ValueError(f"validation_split={fraction!r}: give a number between 0 and 1")
        if self.stream:
            raise ValueError(
                "validation_split needs arrays: give validation_data with an iterable of batches"
            )
        at = math.floor(self.n * (1 - fraction))
        if at in (0, self.n):
            raise ValueError(f"validation_split={fraction!r} of {self.n} samples leaves one part empty")
        parts = (self.x, self.y, self.sample_weight, self.batch_size)
        return Batches(*parts, 0, at), Batches(*parts, at, self.n)

    def subset(self, index: np.ndarray) -> Batches:
        """Copy some samples to a new object."""
        y, weight = (None if part is None else part[index] for part in (self.y, self.sample_weight))
        x = self.x[index if self.places is None else self.places[index]]
        return Batches(x, y, weight, self.batch_size)

    def set_class_weights(self, class_weight: Mapping[int, float], output_shape: Sequence[Any]) -> None:
        """Weight the samples, or their time steps, by their classes; see `class_weights`."""
        self.sample_weight = class_weights(self.y, class_weight, output_shape)

    @property
    def first(self) -> Batch:
        """All data, or the first batch of a stream, for checks before any work."""
        if self.stream:
            x, y, weight = (*self._first, None, None)[:3]
            return Batch(x, y, weight)
        return Batch(self.x, self.y, self.sample_weight)


def like_lengths(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut sequences into batches of similar lengths, so that padding does not double the memory of large batches.

    Parameters
    ----------
    lengths : array of int of shape (n_samples,)
    batch_size : int
        Largest number of sequences in a batch.

    Returns
    -------
    list of array of int
        Indices of the sequences of each batch, shorter sequences first.
    """
    order = np.argsort(lengths, kind="stable")
    batches = []
    for i in range(0, len(order), batch_size):
        chunk = order[i : i + batch_size]
        steps = lengths[chunk]
        if len(chunk) * int(steps[-1]) <= max(2 * int(steps.sum()), tuning.MAX_UNDIVIDED_STEPS):
            batches.append(chunk)
            continue
        begin, real = 0, 0
        for k, length in enumerate(steps.tolist()):
            if k > begin and (k - begin + 1) * length > max(2 * (real + length), tuning.MAX_UNDIVIDED_STEPS):
                batches.append(chunk[begin:k])
                begin, real = k, 0
            real += length
        batches.append(chunk[begin:])
    return batches


def _check_one_input(x: Any, y: Any) -> None:
    """Raise if `x` is a list of arrays for a model with several inputs."""
    if not isinstance(x, (list, tuple)) or not all(isinstance(part, np.ndarray) for part in x):
        return
    axes = {part.ndim for part in x}
    if y is None or isinstance(y, Ragged):
        several = axes == {3}
    else:
        n = len(as_array(y, "y"))
        several = len(x) != n and min(axes, default=0) > 1 and {len(part) for part in x} == {n}
    if several:
        raise ValueError(
            f"x is a list of {len(x)} arrays, but a model has one input: join features of the same time steps by "
            "np.concatenate(x, axis=-1). Models do not take covariates of future steps; "
            "fastrnn.forecasting.RNNForecaster does"
        )


def is_stream(x: Any) -> bool:
    if isinstance(x, Ragged) or hasattr(x, "__array__"):
        return False
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and isinstance(x[0], tuple)
    return isinstance(x, Iterable)


def _take(part: Any, index: Any) -> tuple[Any, np.ndarray | None]:
    """Some samples of an array or a Ragged, and the mask of valid steps (None if all are valid)."""
    if part is None:
        return None, None
    if not isinstance(part, np.ndarray):
        values, mask = part.take(index)
        return values, None if mask.all() else mask
    # `take` is faster, but would first copy the whole of a view such as sliding windows.
    by_index = isinstance(index, slice) or not part.flags.c_contiguous
    return (part[index] if by_index else part.take(index, axis=0)), None


def whole(part: Any) -> tuple[Any, np.ndarray | None]:
    """All samples of a Ragged, padded, and the mask of valid steps; other data are returned unchanged."""
    return _take(part, slice(None)) if isinstance(part, Ragged) else (part, None)


def training_data(
    x: Any,
    y: Any,
    batch_size: int | None,
    validation_split: float,
    validation_data: Any,
    sample_weight: Any,
    validation_batch_size: int | None,
) -> tuple[Batches, Batches | None]:
    """Make the training data and, if there are any, the validation data from the arguments of `fit`."""
    data = Batches(x, y, sample_weight, batch_size)
    validation = None
    if validation_data is not None:
        if is_stream(validation_data) or not isinstance(validation_data, (tuple, list)):
            validation = Batches(validation_data)
        elif len(validation_data) in (2, 3):
            size = validation_batch_size or (None if data.stream else data.batch_size)
            xv, yv, weights = (*validation_data, None)[:3]
            validation = Batches(xv, yv, weights, size)
        else:
            raise ValueError(
                f"validation_data has {len(validation_data)} parts: give (x, y) or (x, y, sample_weight)"
            )
    elif validation_split:
        data, validation = data.split(validation_split)
        validation.batch_size = validation_batch_size or validation.batch_size
    return data, validation


def restarting(
    data: Batches, rng: np.random.Generator | np.random.RandomState, shuffle: bool | str
) -> Iterator[Batch]:
    """Repeat the batches endlessly, for epochs of a fixed number of steps."""
    while True:
        empty = True
        for batch in data.epoch(rng, shuffle):
            empty = False
            yield batch
        if empty:
            return

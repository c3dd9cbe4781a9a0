"""Differences and lags."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from fastrnn.checks import choice, integer
from fastrnn.preprocessing.base import SequenceTransformer, begins_of, positions_of, with_forms
from fastrnn.sequences import Ragged

__all__ = ["LagFeatures", "SequenceDifferencer"]


@with_forms
class SequenceDifferencer(SequenceTransformer):
    """Replace each step by its difference from an earlier one, ``x[t] - x[t - lag]``.

    Parameters
    ----------
    lag : int, default=1
        Distance in steps; 12 for the change within a year of monthly data.
    first : {"zero", "keep", "drop"}, default="zero"
        What the first `lag` steps of a sequence become, which have no earlier one: zero, their values as they are, which
        `inverse_transform` needs, or nothing, so that a sequence is shorter (a sequence of at most `lag` steps is empty).

    Attributes
    ----------
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms}

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import SequenceDifferencer
    >>> X = [np.array([5.0, 6.0, 8.0]), np.array([1.0])]
    >>> differencer = SequenceDifferencer(first="keep").fit(X)
    >>> differencer.transform(X)
    [array([5., 1., 2.]), array([1.])]
    >>> differencer.inverse_transform(differencer.transform(X))
    [array([5., 6., 8.]), array([1.])]
    """

    def __init__(self, *, lag: int = 1, first: str = "zero") -> None:
        self.lag = lag
        self.first = first

    def _check_arguments(self) -> None:
        integer(self.lag, "lag")
        choice(self.first, "first", ("zero", "keep", "drop"))

    def _lengths_out(self, lengths: np.ndarray) -> np.ndarray:
        return np.maximum(lengths - self.lag, 0) if self.first == "drop" else lengths

    def _convert(self, data: Ragged) -> Ragged:
        has_earlier = positions_of(data) >= self.lag
        row = np.flatnonzero(has_earlier)
        change = data.values[row] - data.values[row - self.lag]
        if self.first == "drop":
            return self._moved(data, change, self._lengths_out(data.lengths))
        values = data.values.copy() if self.first == "keep" else np.zeros_like(data.values)
        values[row] = change
        return data.with_values(values)

    def inverse_transform(self, X: Any) -> Any:
        """Sum the differences up again.

        Parameters
        ----------
        X : array-like
            Sequences of differences.

        Returns
        -------
        ndarray, list or Ragged
            In the form of X.

        Raises
        ------
        ValueError
            Unless ``first="keep"``, as the values at the beginning are not known then.
        """
        if self.first != "keep":
            raise ValueError(
                f"first={self.first!r}: sums need the first values of each sequence. Set first='keep'."
            )
        return self._inverted(X, self._summed)

    def _summed(self, data: Ragged) -> Ragged:
        values = np.empty_like(data.values)
        for begin, end in zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True):
            for first in range(begin, min(begin + int(self.lag), end)):
                np.cumsum(data.values[first : end : self.lag], axis=0, out=values[first : end : self.lag])
        return data.with_values(values)


@with_forms
class LagFeatures(SequenceTransformer):
    """Give each step the values of earlier steps as features, ``x[t - lag]`` for each lag.

    Parameters
    ----------
    lags : tuple of int, default=(1,)
        Distances in steps; 0 is the step itself. The features of the result are those of X at the first lag, then at the
        next.
    first : {"repeat", "zero", "drop"}, default="repeat"
        What stands for values before a sequence begins: its first value, zero, or nothing, so that a sequence is shorter by
        the largest lag.

    Attributes
    ----------
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms} With several lags the result for a table has three dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import LagFeatures
    >>> lags = LagFeatures(lags=(0, 2)).fit([np.array([[5.0], [6.0], [7.0], [8.0]])])
    >>> lags.transform([np.array([[1.0], [2.0], [3.0]])])[0]
    array([[1., 1.],
           [2., 1.],
           [3., 1.]])
    >>> lags.get_feature_names_out()
    array(['x0', 'x0_lag2'], dtype=object)
    """

    def __init__(self, *, lags: tuple[int, ...] = (1,), first: str = "repeat") -> None:
        self.lags = lags
        self.first = first

    def _check_arguments(self) -> None:
        given = self.lags
        if not isinstance(given, (tuple, list, np.ndarray)) or not len(given):
            raise ValueError(f"lags={given!r}: give a tuple of integers, such as (0, 1, 7)")
        for lag in given:
            if isinstance(lag, bool) or not isinstance(lag, Integral) or lag < 0:
                raise ValueError(
                    f"lags={given!r}: {lag!r} is no number of earlier steps. Give integers of at least 0; later steps are "
                    "not known when a step is predicted."
                )
        if len(set(given)) < len(given):
            raise ValueError(f"lags={given!r}: give each lag once")
        choice(self.first, "first", ("repeat", "zero", "drop"))

    def _lengths_out(self, lengths: np.ndarray) -> np.ndarray:
        return np.maximum(lengths - max(self.lags), 0) if self.first == "drop" else lengths

    def _convert(self, data: Ragged) -> Ragged:
        row, begin, position = np.arange(len(data.values)), begins_of(data), positions_of(data)
        parts = []
        for lag in self.lags:
            part = data.values[np.maximum(row - lag, begin)]
            if self.first == "zero":
                part[position < lag] = 0
            parts.append(part)
        values = np.concatenate(parts, axis=1)
        if self.first != "drop":
            return data.with_values(values)
        return self._moved(data, values[position >= max(self.lags)], self._lengths_out(data.lengths))

    def _channels_out(self, names: list[str]) -> list[str]:
        return [f"{name}_lag{lag}" if lag else name for lag in self.lags for name in names]

"""Missing values inside sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.utils.validation import check_is_fitted

from fastrnn.checks import choice, flag, number
from fastrnn.preprocessing.base import SequenceTransformer, begins_of, with_forms
from fastrnn.sequences import Ragged

__all__ = ["SequenceImputer"]


@with_forms
class SequenceImputer(SequenceTransformer):
    """Fill missing values (NaN) inside sequences, and flag them.

    Parameters
    ----------
    strategy : {"linear", "previous", "mean", "median", "constant"}, default="linear"
        "linear": by linear interpolation in time between the known values of the feature before and after; at the ends
        the nearest known value. This looks ahead: use "previous" where a prediction must not know later steps. "previous":
        the last known value; `statistics_` before the first. "mean", "median", "constant": `statistics_`.
    fill_value : float, default=0.0
        The value for "constant".
    add_indicator : bool, default=False
        Add one feature for each feature of X: 1 where a value was missing, 0 elsewhere.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features,)
        Mean, median or constant of each feature over all time steps of `fit`, by scikit-learn's `SimpleImputer`; the mean
        for "linear" and "previous". It stands where a sequence knows no value of a feature. 0 for a feature without any
        value in `fit`.
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms}

    Any NaN in a list of arrays, or in a table, is a missing value. In three dimensions steps at the end or at the beginning
    in which all features are NaN are padding, as for the estimators; pass a list where such steps are missing.

    With ``add_indicator=True`` the result for a table has three dimensions, and `inverse_transform` puts NaN back.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import SequenceImputer
    >>> x = np.array([[1.0], [np.nan], [np.nan], [4.0]])
    >>> SequenceImputer(add_indicator=True).fit_transform([x])[0]
    array([[1., 0.],
           [2., 1.],
           [3., 1.],
           [4., 0.]])
    """

    statistics_: np.ndarray
    _takes_missing = True

    def __init__(
        self, *, strategy: str = "linear", fill_value: float = 0.0, add_indicator: bool = False
    ) -> None:
        self.strategy = strategy
        self.fill_value = fill_value
        self.add_indicator = add_indicator

    def _check_arguments(self) -> None:
        choice(self.strategy, "strategy", ("linear", "previous", "mean", "median", "constant"))
        number(self.fill_value, "fill_value")
        flag(self.add_indicator, "add_indicator")

    def _learn(self, data: Ragged) -> dict[str, Any]:
        if self.strategy == "constant":
            return {"statistics_": np.full(data.values.shape[1], float(self.fill_value))}
        if not len(data.values):
            raise ValueError(
                "X holds no time step: all its sequences are empty, so there is nothing to measure."
            )
        strategy = "median" if self.strategy == "median" else "mean"
        imputer = SimpleImputer(strategy=strategy, keep_empty_features=True).fit(
            data.values.astype(np.float64)
        )
        return {"statistics_": imputer.statistics_}

    def _convert(self, data: Ragged) -> Ragged:
        missing = np.isnan(data.values)
        values = data.values
        if missing.any():
            values = np.where(missing, self.statistics_.astype(values.dtype), values)
            if self.strategy in ("linear", "previous"):
                self._fill_in_time(data, missing, values)
        if self.add_indicator:
            values = np.concatenate([values, missing.astype(values.dtype)], axis=1)
        return data.with_values(values)

    def _fill_in_time(self, data: Ragged, missing: np.ndarray, values: np.ndarray) -> None:
        """Write what known values say into `values`, where one is missing."""
        step, begin = np.arange(len(missing))[:, None], begins_of(data)[:, None]
        last = np.maximum.accumulate(np.where(missing, -1, step), axis=0)
        row, feature = np.nonzero(missing & (last >= begin))
        values[row, feature] = data.values[last[row, feature], feature]
        if self.strategy == "previous":
            return
        end = begin + np.repeat(data.lengths, data.lengths)[:, None]
        following = np.where(missing, len(missing), step)[::-1]
        following = np.minimum.accumulate(following, axis=0)[::-1]
        row, feature = np.nonzero(missing & (last < begin) & (following < end))
        values[row, feature] = data.values[following[row, feature], feature]
        row, feature = np.nonzero(missing & (last >= begin) & (following < end))
        a, b = last[row, feature], following[row, feature]
        share = ((row - a) / (b - a)).astype(values.dtype)
        values[row, feature] = (1 - share) * data.values[a, feature] + share * data.values[b, feature]

    def _channels_out(self, names: list[str]) -> list[str]:
        return names + [f"{name}_missing" for name in names] if self.add_indicator else names

    def inverse_transform(self, X: Any) -> Any:
        """Set flagged values to NaN and leave the flags out.

        Parameters
        ----------
        X : array-like
            Transformed sequences, not a table.

        Returns
        -------
        ndarray, list or Ragged
            In the form of X.

        Raises
        ------
        ValueError
            With ``add_indicator=False``, as filled values can't be told from known ones then.
        """
        if not self.add_indicator:
            raise ValueError(
                "add_indicator=False: filled values can't be told from known ones. Set add_indicator=True."
            )
        check_is_fitted(self)
        n = 1 if self._table else self.n_features_in_

        def invert(data: Ragged) -> Ragged:
            flagged = data.values[:, n:] > 0.5
            return data.with_values(np.where(flagged, data.values.dtype.type(np.nan), data.values[:, :n]))

        return self._inverted(X, invert, 2 * n)

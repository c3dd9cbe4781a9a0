"""Scalers of each feature, through scikit-learn's own on the time steps of all sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import RobustScaler, StandardScaler

from fastrnn.checks import flag, number
from fastrnn.preprocessing.base import SequenceTransformer, as_ragged, with_forms
from fastrnn.sequences import Ragged

__all__ = ["RobustScaler3D", "StandardScaler3D"]


class _Scaler3D(SequenceTransformer):
    """A scaler of scikit-learn, applied to the time steps of all sequences as rows."""

    scaler_: Any

    def _convert(self, data: Ragged) -> Ragged:
        return data.with_values(_applied(self.scaler_.transform, data.values))

    def inverse_transform(self, X: Any) -> Any:
        """Undo :meth:`transform`.

        Parameters
        ----------
        X : array-like
            Scaled sequences.

        Returns
        -------
        ndarray, list of ndarray, or Ragged
            As X.
        """
        return self._inverted(X, self._unscaled)

    def _unscaled(self, data: Ragged) -> Ragged:
        return data.with_values(_applied(self.scaler_.inverse_transform, data.values))


def _applied(method: Any, values: np.ndarray) -> Any:
    return method(values) if len(values) else values  # scikit-learn takes no table without rows


def _check_steps(data: Ragged) -> None:
    if not len(data.values):
        raise ValueError("X holds no time step: all its sequences are empty, so there is nothing to measure.")


@with_forms
class StandardScaler3D(_Scaler3D):
    """Give each feature zero mean and unit variance over all samples and time steps.

    The transformed value is ``(x - mean) / scale``, with one mean and one scale for each feature. Padding is left out
    of both, and stays padding. The arithmetic is that of scikit-learn's `StandardScaler`, applied to the time steps of
    all sequences as rows.

    Parameters
    ----------
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation. A constant feature is divided by 1.

    Attributes
    ----------
    scaler_ : sklearn.preprocessing.StandardScaler
        Fitted to the time steps.
    mean_ : ndarray of shape (n_features,), float64, or None
        None if `with_mean` is False.
    var_ : ndarray of shape (n_features,), float64, or None
        Population variance (divided by the number of steps). None if `with_std` is False.
    scale_ : ndarray of shape (n_features,), float64, or None
        None if `with_std` is False.
    n_steps_seen_ : int
        Time steps without padding, over all calls of `partial_fit`.
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms}

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import StandardScaler3D
    >>> X = [np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [5.0]])]
    >>> StandardScaler3D().fit(X).mean_
    array([3.])
    """

    mean_: np.ndarray | None
    var_: np.ndarray | None
    scale_: np.ndarray | None
    n_steps_seen_: int

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def _check_arguments(self) -> None:
        flag(self.with_mean, "with_mean")
        flag(self.with_std, "with_std")

    def _learn(self, data: Ragged) -> dict[str, Any]:
        return self._measured(
            StandardScaler(with_mean=bool(self.with_mean), with_std=bool(self.with_std)), data
        )

    def partial_fit(self, X: Any, y: Any = None) -> StandardScaler3D:
        """Update mean and variance with further sequences, as if `fit` had been called with all sequences.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        y : None
            Ignored.

        Returns
        -------
        StandardScaler3D
            The object itself.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X)
        self._check_arguments()
        data = as_ragged(self._read(X, reset=False).data)
        self.__dict__.update(self._measured(self.scaler_, data))
        return self

    def _measured(self, scaler: StandardScaler, data: Ragged) -> dict[str, Any]:
        """The fitted attributes after the time steps of `data`, which `scaler` learns."""
        _check_steps(data)
        # In blocks of at most 8 MB, because StandardScaler copies its input to float64.
        for block in np.array_split(data.values, max(1, data.values.size // 2**20)):
            scaler.partial_fit(block)
        return {
            "scaler_": scaler,
            "mean_": scaler.mean_ if self.with_mean else None,
            "var_": scaler.var_,
            "scale_": scaler.scale_,
            "n_steps_seen_": int(scaler.n_samples_seen_),
        }


@with_forms
class RobustScaler3D(_Scaler3D):
    """Give each feature the median 0 and a range of quantiles of 1, which outliers hardly change.

    The transformed value is ``(x - center) / scale``, with one median and one range of quantiles for each feature, over all
    samples and time steps. The arithmetic is that of scikit-learn's `RobustScaler`, applied to the time steps of all
    sequences as rows. Padding does not count, and stays padding.

    Parameters
    ----------
    with_centering : bool, default=True
        Subtract the median.
    with_scaling : bool, default=True
        Divide by the range of quantiles.
    quantile_range : tuple of float (low, high), default=(25.0, 75.0)
        The quantiles, in percent.
    unit_variance : bool, default=False
        Scale so that normally distributed features have the variance 1.

    Attributes
    ----------
    scaler_ : sklearn.preprocessing.RobustScaler
        Fitted to the time steps.
    center_ : ndarray of shape (n_features,), float64, or None
    scale_ : ndarray of shape (n_features,), float64, or None
    n_features_in_ : int
        Features of one step. For a two-dimensional X, which holds one variable, its number of columns.

    Notes
    -----
    {forms}

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.preprocessing import RobustScaler3D
    >>> X = [np.array([[1.0], [2.0]]), np.array([[3.0], [4.0], [1000.0]])]
    >>> RobustScaler3D().fit_transform(X)[1].ravel()
    array([  0. ,   0.5, 498.5])
    """

    center_: np.ndarray | None
    scale_: np.ndarray | None

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        unit_variance: bool = False,
    ) -> None:
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range
        self.unit_variance = unit_variance

    def _check_arguments(self) -> None:
        for name in ("with_centering", "with_scaling", "unit_variance"):
            flag(getattr(self, name), name)
        if not isinstance(self.quantile_range, (tuple, list)) or len(self.quantile_range) != 2:
            raise ValueError(
                f"quantile_range={self.quantile_range!r}: give (low, high) in percent, such as (25, 75)"
            )
        low, high = (number(value, "quantile_range", 0, 100) for value in self.quantile_range)
        if low >= high:
            raise ValueError(f"quantile_range={self.quantile_range!r}: give the lower quantile first")

    def _learn(self, data: Ragged) -> dict[str, Any]:
        _check_steps(data)
        scaler = RobustScaler(**self.get_params()).fit(data.values)
        return {"scaler_": scaler, "center_": scaler.center_, "scale_": scaler.scale_}

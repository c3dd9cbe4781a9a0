"""The scales of inputs, targets and losses in the estimators.

A regressor trains on targets with zero mean and unit variance. Outside of training, mean and standard deviation are included
in the weights of the last layer, so that predictions, streams and exported models are in the units of y.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from fastrnn import losses
from fastrnn.losses import Loss
from fastrnn.sequences import Ragged
from fastrnn.sequences.columnar import read_columnar
from fastrnn.targets import align_targets
from fastrnn.training.objective import Objective

__all__ = [
    "InUnitsOfTargets",
    "fit_scaler",
    "loss_scale",
    "scaled",
    "to_standard_units",
    "to_units_of_targets",
    "training_objective",
    "warn_of_input",
]

#: A channel is far from unit scale if its root mean square exceeds LARGE, or its standard deviation is below SMALL.
LARGE, SMALL = 10.0, 0.25
#: Numbers that are looked at in one go.
_BLOCK = 1 << 16
#: If the mean is more than this number of standard deviations from zero, rounding errors exceed 1% of a deviation.
_OFFSET = {"float32": 0.01 * 2**24, "float64": 0.01 * 2**53}


class InUnitsOfTargets(Loss):
    """A loss in the units of y, for standardised outputs and targets.

    ``loss(y_true * scale + mean, y_pred * scale + mean) / unit``

    Parameters
    ----------
    loss : Loss
    mean, scale : ndarray of shape (n_outputs,)
    unit : float
        Scale of the loss, so that its gradients are of order one.
    """

    _config_names = ("loss", "mean", "scale", "unit")

    def __init__(self, loss: Loss, mean: np.ndarray, scale: np.ndarray, unit: float) -> None:
        super().__init__(reduction=loss.reduction, name=loss.name)
        self.loss, self.mean, self.scale, self.unit = loss, mean, scale, unit

    def _in_units(self, values: np.ndarray) -> np.ndarray:
        # In float64, because float32 would lose the differences from a large mean.
        result: np.ndarray = values * self.scale + self.mean
        return result

    def targets(self, y_true: Any, y_pred: np.ndarray) -> np.ndarray:
        return self.loss.targets(self._in_units(align_targets(y_true, y_pred)), self._in_units(y_pred))

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        values = self.loss.values(y_true, self._in_units(y_pred))
        return (np.asarray(values, np.float64) / self.unit).astype(y_pred.dtype)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        gradient = self.loss.gradient(y_true, self._in_units(y_pred))
        return (gradient * (self.scale / self.unit)).astype(y_pred.dtype)


def fit_scaler(
    targets: np.ndarray, weight: np.ndarray | None, before: StandardScaler | None, dtype: str
) -> StandardScaler:
    """Weighted mean and standard deviation of each output over all targets so far.

    Parameters
    ----------
    targets : ndarray of shape (n_rows, n_outputs)
    weight : ndarray of shape (n_rows,), optional
    before : StandardScaler, optional
        Scaler of the targets of earlier calls; it is not changed.
    dtype : str
        Dtype of the network, for a warning if it can't resolve the differences of the targets.

    Raises
    ------
    ValueError
        If mean or standard deviation overflow.
    """
    if weight is not None and not weight.any():
        weight = None if before is None else np.zeros(len(targets))
    with np.errstate(over="ignore", invalid="ignore"):
        if before is None:
            scaler = StandardScaler().fit(targets, sample_weight=weight)
        else:
            scaler = _continued(before, targets, weight)
    mean, spread = scaler.mean_, scaler.scale_
    with np.errstate(over="ignore", invalid="ignore"):
        representable = np.isfinite(mean.astype(dtype)).all() and np.isfinite(spread.astype(dtype)).all()
    if not representable:
        raise ValueError(f"y contains values too large for dtype={dtype!r}; scale it.")
    offset = np.where(_varies(scaler), np.abs(mean) / spread, 0.0)
    worst = int(offset.argmax())
    if offset[worst] > _OFFSET[dtype]:
        which = f"y[:, {worst}]" if len(mean) > 1 else "y"
        warnings.warn(
            f"{which} varies by {spread[worst]:.3g} around {mean[worst]:.8g}, which is too little for dtype={dtype!r} "
            f"to tell its values apart. Subtract a constant from y"
            + (", or set dtype='float64'." if dtype == "float32" else "."),
            stacklevel=5,
        )
    return scaler


def _continued(before: StandardScaler, targets: np.ndarray, weight: np.ndarray | None) -> StandardScaler:
    """The result of ``StandardScaler.partial_fit``, whose checks take longer than an update of a small network.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1.
    """
    scaler = copy.copy(before)
    n_old, n_new = float(before.n_samples_seen_), float(len(targets) if weight is None else weight.sum())
    if n_new == 0:
        return scaler
    mean = np.average(targets, axis=0, weights=weight)
    variance = np.average((targets - mean) ** 2, axis=0, weights=weight)
    total, shift = n_old + n_new, mean - before.mean_
    scaler.mean_ = before.mean_ + shift * (n_new / total)
    scaler.var_ = (n_old * before.var_ + n_new * variance + shift**2 * (n_old * n_new / total)) / total
    # As in scikit-learn: a variance within rounding errors is zero.
    eps = np.finfo(np.float64).eps
    none = scaler.var_ <= total * eps * scaler.var_ + (total * scaler.mean_ * eps) ** 2
    scaler.scale_ = np.where(none, 1.0, np.sqrt(scaler.var_))
    scaler.n_samples_seen_ = total
    return scaler


def _varies(scaler: StandardScaler) -> np.ndarray:
    """Mask of the outputs with a non-zero variance; StandardScaler divides the others by 1."""
    result: np.ndarray = np.isclose(scaler.scale_, np.sqrt(scaler.var_), rtol=1e-6, atol=0)
    return result


def scaled(targets: np.ndarray, scaler: StandardScaler, dtype: str) -> np.ndarray:
    """Targets with zero mean and unit variance."""
    result: np.ndarray = ((targets - scaler.mean_) / scaler.scale_).astype(dtype)
    return result


def to_standard_units(layer: Any, before: StandardScaler | None, scaler: StandardScaler) -> None:
    """Change a dense layer with outputs in the units of y so that it computes the same outputs in standard units.

    Outputs with zero variance in `before` keep their standardised values.
    """
    kernel, bias = layer.get_weights()
    mean, divisor = np.zeros_like(scaler.mean_), scaler.scale_
    if before is not None:
        mean, divisor = before.mean_, np.where(_varies(before), scaler.scale_, 1.0)
    offset = (bias - mean) / divisor + (mean - scaler.mean_) / scaler.scale_
    layer.set_weights([_rounded(kernel / divisor, kernel), _rounded(offset, bias)])


def to_units_of_targets(layer: Any, scaler: StandardScaler) -> None:
    """The inverse of `to_standard_units`."""
    kernel, bias = layer.get_weights()
    weights = [kernel * scaler.scale_, bias * scaler.scale_ + scaler.mean_]
    layer.set_weights([_rounded(new, old) for new, old in zip(weights, (kernel, bias), strict=True)])


def _rounded(value: np.ndarray, like: np.ndarray) -> np.ndarray:
    return value.astype(like.dtype)


def training_objective(
    given: Any, scaler: StandardScaler, targets: np.ndarray, weight: np.ndarray | None
) -> Objective:
    """The objective for standardised targets, which reports the loss in the units of y.

    Squared and absolute errors are those of the standardised outputs, so that all outputs have equal weights. Any other
    loss is computed in the units of y, because it may have parameters in these units.

    Parameters
    ----------
    given : str or Loss
    scaler : StandardScaler
    targets : ndarray of shape (n_rows, n_outputs)
        Targets in the units of y.
    weight : ndarray of shape (n_rows,), optional
    """
    loss, spread = losses.get(given), scaler.scale_
    if type(loss) is losses.MeanSquaredError:
        objective, unit = Objective(loss), float(np.mean(spread**2))
    elif type(loss) is losses.MeanAbsoluteError:
        objective, unit = Objective(loss), float(np.mean(spread))
    else:
        unit = loss_scale(loss, targets, weight)
        objective = Objective(InUnitsOfTargets(loss, scaler.mean_, spread, unit))
    objective.unit = unit
    return objective


def loss_scale(given: Any, targets: np.ndarray, weight: np.ndarray | None) -> float:
    """Scale of a loss: its change if the outputs move from the mean of the targets by half a standard deviation.

    It is the sum over the outputs of half the standard deviation times the root mean square of the gradient; for the
    squared error it is the mean variance.
    """
    loss, targets = losses.get(given), np.asarray(targets, np.float64)
    if weight is not None and not weight.any():
        return 1.0
    with np.errstate(all="ignore"):
        mean = np.average(targets, axis=0, weights=weight)
        spread = np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=weight))
        outputs = np.broadcast_to(mean, targets.shape).copy()
        gradient = np.asarray(loss.gradient(loss.targets(targets, outputs), outputs), np.float64)
        size = float(np.sqrt(np.average(gradient**2, axis=0, weights=weight)) @ spread / 2)
    return size if math.isfinite(size) and size > 0 else 1.0


def _blocks(X: np.ndarray | Ragged) -> Iterator[np.ndarray]:
    """Time steps, some at a time: a copy of all would double the memory, and more for views such as sliding windows."""
    if isinstance(X, Ragged):
        n = max(1, _BLOCK // max(1, X.values.shape[1]))
        yield from (X.values[i : i + n] for i in range(0, len(X.values), n))
        return
    n = max(1, _BLOCK // max(1, X.shape[1] * X.shape[2]))
    yield from (X[i : i + n].reshape(-1, X.shape[2]) for i in range(0, len(X), n))


def _are_integers(X: Any) -> bool:
    """Whether X is a collection of sequences of integers, as `Tokenizer` gives it."""
    X = read_columnar(X, "X")
    if isinstance(X, Ragged):
        some = X.values
    elif isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object):
        some = next((item for item in X if isinstance(item, np.ndarray) and item.size), np.zeros(0))
    else:
        return False
    return some.ndim == 1 and some.dtype.kind in "iu"


def _whole(X: np.ndarray | Ragged, low: np.ndarray, n_features: int) -> bool:
    """Whether X may be tokens: whole numbers of one variable, from 0 on."""
    return n_features == 1 and low[0] >= 0 and all(np.all(steps == np.rint(steps)) for steps in _blocks(X))


def warn_of_input(given: Any, X: np.ndarray | Ragged, names: Any, stacklevel: int) -> None:
    """Warn about the channel that is farthest from unit scale, if there is one outside the limits, and of tokens.

    Parameters
    ----------
    given : array-like
        As the user passed it.
    X : ndarray of shape (n_samples, n_timesteps, n_features), or Ragged
    names : array-like of str, optional
        Names of the channels.
    stacklevel : int
    """
    if _are_integers(given):
        warnings.warn(
            "X holds sequences of integers, which are read as values of one variable. If they are tokens, set "
            "vocabulary_size; if not, pass floats.",
            stacklevel=stacklevel,
        )
        return
    low: Any = 0.0
    high: Any = 0.0
    mean: Any = 0.0
    square: Any = 0.0
    n_steps = 0
    for steps in _blocks(X):
        # In float64: squares of small and of large numbers leave the range of float32.
        steps = steps.astype(np.float64)
        low = np.minimum(low, steps.min(axis=0)) if n_steps else steps.min(axis=0)
        high = np.maximum(high, steps.max(axis=0)) if n_steps else steps.max(axis=0)
        mean = mean + steps.sum(axis=0)
        with np.errstate(over="ignore"):
            square = square + np.einsum("ij,ij->j", steps, steps)
        n_steps += len(steps)
    if not n_steps:
        return
    mean, rms = mean / n_steps, np.sqrt(square / n_steps)
    extent = high - low
    with np.errstate(divide="ignore"):
        distance = np.maximum(rms / LARGE, np.where(extent > 0, SMALL / extent, 0.0))
    worst = int(distance.argmax())
    if not distance[worst] > 1:
        return
    if _whole(X, low, len(mean)):
        warnings.warn(
            f"X is far from unit scale: whole numbers from {low[0]:.0f} to {high[0]:.0f}, one for each time step, are read "
            "as values of one variable. If they are tokens, set vocabulary_size; if not, standardise X first: "
            "make_pipeline(StandardScaler3D(), estimator), from fastrnn.preprocessing.",
            stacklevel=stacklevel,
        )
        return
    which = f"channel {worst}" if names is None else f"channel {names[worst]!r}"
    warnings.warn(
        f"X is far from unit scale, most of all {which if len(mean) > 1 else 'its values'}: from {low[worst]:.6g} to "
        f"{high[worst]:.6g} with a mean of {mean[worst]:.6g}. A recurrent network learns little from such numbers. "
        "Standardise X first: make_pipeline(StandardScaler3D(), estimator), from fastrnn.preprocessing.",
        stacklevel=stacklevel,
    )

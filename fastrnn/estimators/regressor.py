"""Recurrent networks that predict numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from fastrnn.estimators import scale
from fastrnn.estimators.base import BaseRNN
from fastrnn.estimators.parameters import with_shared_documentation
from fastrnn.estimators.response import lay_out, read_numbers, rows_of
from fastrnn.estimators.scoring import refuse_scorers_of_rows
from fastrnn.sequences import Ragged, Sequences, lay_out_steps
from fastrnn.training.data import Batches
from fastrnn.training.objective import Objective

__all__ = ["RNNRegressor"]


@with_shared_documentation
@dataclass(kw_only=True, eq=False, repr=False)
class RNNRegressor(RegressorMixin, BaseRNN):  # type: ignore[misc]
    """Recurrent network that predicts numbers for sequences, or for each of their time steps.

    Recurrent layers and a linear dense layer, trained on the mean squared error.

    Parameters
    ----------
    {parameters}
    normalize_y : bool, default=True
        Whether to train on targets with zero mean and unit variance. Predictions, scores, losses and `model_` are in the
        units of y. `partial_fit` updates mean and variance with its targets.

    Attributes
    ----------
    n_outputs_ : int
    y_scaler_ : sklearn.preprocessing.StandardScaler or None
        Mean and standard deviation of the targets, weighted by the sample weights; None with ``normalize_y=False``.
    {attributes}

    Notes
    -----
    {notes}

    With ``normalize_y=True`` the squared and the absolute error are those of standardised outputs, so that several outputs
    have equal weights; `loss_` is their mean times the mean variance (mean standard deviation), which for one output is the
    error in the units of y. Any other loss is computed in the units of y. Where the outputs are one quantity at several
    times, they should not have equal weights: divide them by one number, and give ``normalize_y=False``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> wave = np.sin(np.arange(300) / 5)
    >>> X, y = np.lib.stride_tricks.sliding_window_view(wave[:-1], 20), wave[20:]
    >>> model = RNNRegressor(units=16, learning_rate_init=0.01, max_iter=50, tol=None, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.99)
    True
    """

    normalize_y: bool = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseRNN._parameter_constraints,
        "normalize_y": ["boolean"],
    }

    def _head(self) -> tuple[int, str | None, Any]:
        return self.n_outputs_, None, "mse" if self.loss is None else self.loss

    def _read_targets(self, y: Any, X: np.ndarray | Ragged, known: bool, classes: Any) -> dict[str, Any]:
        y = read_numbers(y, X, self.return_sequences)
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if known and n_outputs != self.n_outputs_:
            raise ValueError(f"y has {n_outputs} outputs, but the network was made for {self.n_outputs_}.")
        # Predictions have the dtype of y, or float32 for float16, in which squared errors overflow.
        dtype = {"e": np.dtype(np.float32), "f": np.dtype(np.float32)}.get(y.dtype.char, np.dtype(np.float64))
        rows = y.reshape(len(y), n_outputs)
        with np.errstate(over="ignore"):
            if not np.isfinite(rows.astype(self.dtype, copy=False)).all():
                raise ValueError(f"y contains values too large for dtype={self.dtype!r}; scale it.")
        # float64 until they are standardised, to keep all digits.
        rows = rows.astype(np.float64 if self.normalize_y else self.dtype, copy=False)
        return {"n_outputs_": n_outputs, "_y_is_flat": y.ndim == 1, "_y_dtype": dtype, "targets": rows}

    def _class_weights(
        self, targets: np.ndarray, weight: np.ndarray | None, found: dict[str, Any], incremental: bool
    ) -> Any:
        return None

    def _begin_training(
        self, data: Batches, held_out: Batches | None, known: bool, incremental: bool
    ) -> float:
        before = vars(self).get("y_scaler_") if known else None
        loss, per_step = self._head()[2], self.return_sequences
        targets, weight = (rows_of(values, per_step) for values in (data.y, data.sample_weight))
        if isinstance(data.x, Ragged) and not per_step and not data.x.lengths.all():
            counted = data.x.lengths > 0  # empty sequences are left out of training
            targets, weight = targets[counted], None if weight is None else weight[counted]
        if not self.normalize_y:
            self.y_scaler_ = None
            return 1.0 if incremental else scale.loss_scale(loss, targets, weight)
        scaler = scale.fit_scaler(targets, weight, before if incremental else None, self.dtype)
        if known:
            scale.to_standard_units(self.model_.layers[-1], before, scaler)
        objective = scale.training_objective(loss, scaler, targets, weight)
        self.y_scaler_, self.model_.trainer.objective = scaler, objective
        for part in (data, held_out):
            if part is not None:
                rows = scale.scaled(rows_of(part.y, per_step), scaler, self.dtype)
                part.y = lay_out(rows, part.x, per_step)
        return objective.unit

    def _end_training(self) -> None:
        if self.y_scaler_ is not None:
            scale.to_units_of_targets(self.model_.layers[-1], self.y_scaler_)
            self.model_.trainer.objective = Objective(self._head()[2])

    def _score_outputs(self, targets: np.ndarray, out: np.ndarray, weight: np.ndarray | None) -> float:
        return _r2(targets, out, weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, series: Any = None) -> Any:
        """Train for one epoch.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`; weights are not scaled.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True, series=series)

    def _rows(self, X: Any, series: Any = None, advance: bool = False) -> tuple[np.ndarray, Sequences]:
        rows, sequences = self._outputs(X, series, advance)
        rows = rows.astype(self._y_dtype, copy=False)
        return (rows[:, 0] if self._y_is_flat else rows), sequences

    def predict(self, X: Any, *, series: Any = None, advance: bool = False) -> np.ndarray:
        """Predict numbers.

        Parameters
        ----------
        X : array-like
            Sequences, see the class.
        series : array-like of ids of shape (n_samples,), optional
            Which series each row belongs to, with ``stateful=True``: see Notes.
        advance : bool, default=False
            Let the states of the rows, or of `series`, go on. They are never written without it.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs), as y had in `fit`
            With ``return_sequences=True`` in the form of X. float32 if y was float32 or float16 in `fit`, else float64.
        """
        rows, sequences = self._rows(X, series, advance)
        if not self._architecture["return_sequences"]:
            return rows
        refuse_scorers_of_rows()
        return lay_out_steps(rows, sequences.data)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination, over time steps with ``return_sequences=True``.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        float
        """
        rows, sequences = self._rows(X)
        truth, weight = self._rows_to_score(y, sample_weight, sequences.data)
        return _r2(truth, rows, weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _r2(truth: Any, rows: np.ndarray, weight: np.ndarray | None) -> float:
    # In float64: squares of large float16 and float32 numbers would overflow.
    return float(r2_score(np.asarray(truth, np.float64), np.asarray(rows, np.float64), sample_weight=weight))

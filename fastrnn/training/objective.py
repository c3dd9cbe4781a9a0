"""What training minimises and what it reports: the loss, the metrics, and their running means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn import losses, metrics
from fastrnn.checks import is_number, number
from fastrnn.exceptions import NotCompiledError

__all__ = ["Objective", "by_position"]


class Objective:
    """Loss and metrics of a model with their means since `reset`.

    Parameters
    ----------
    loss : str, Loss or None
        ``"crossentropy"`` takes the kind that the first targets and outputs call for.
    loss_weight : float, optional
        Factor of the loss.
    metric_names, weighted_names : str, Metric or list of them, optional
        The latter take sample weights into account.
    """

    def __init__(
        self, loss: Any = None, loss_weight: Any = None, metric_names: Any = None, weighted_names: Any = None
    ) -> None:
        if not (isinstance(loss, str) and loss.lower() in ("crossentropy", "ce")):
            loss = losses.get(loss)
        if loss_weight is not None and not is_number(loss_weight):
            raise TypeError(f"loss_weights={loss_weight!r}: give a number, the model has one output")
        loss_weight = number(loss_weight, "loss_weights", optional=True)
        names = {"metrics": _as_list(metric_names), "weighted_metrics": _as_list(weighted_names)}
        for argument, given in names.items():
            for name in given:
                _check_metric(name, argument)
        self.loss, self.loss_weight = loss, loss_weight
        self._metric_names = (names["metrics"], names["weighted_metrics"])
        #: Objects for `_metric_names`, once the first targets have shown what a name such as "accuracy" means.
        self._metrics: list[Any] | None = None
        self._weighted: list[Any] = []
        self.reset()

    def need_loss(self, what: str) -> None:
        """Raise if there is no loss, naming the method that needs one."""
        if self.loss is None:
            raise NotCompiledError(f"{what}() needs a loss: give compile() one, such as loss='mse'")

    @property
    def config(self) -> dict[str, Any]:
        """What was given for it, by the names of the arguments of ``Model.compile``."""
        given, weighted = self._metric_names
        return {
            "loss": self.loss,
            "loss_weights": self.loss_weight,
            "metrics": given,
            "weighted_metrics": weighted,
        }

    @property
    def names(self) -> list[str]:
        """Names of loss and metrics, in the order of `logs`."""
        return ["loss", *(metric.name for metric in self._all())]

    @property
    def logit_activation(self) -> str | None:
        """The activation that the loss can take together with itself, if any."""
        return self.loss.logit_activation if isinstance(self.loss, losses.Loss) else None

    def reset(self) -> None:
        """Forget the running means."""
        self._total = self._count = 0.0
        for metric in self._all():
            metric.reset_state()

    def _all(self) -> list[Any]:
        return [*(self._metrics or ()), *self._weighted]

    def resolve(self, y: Any, y_pred: np.ndarray) -> None:
        """Choose the kinds of loss and metrics that fit the first targets and outputs."""
        if self._metrics is not None:
            return
        if isinstance(self.loss, str):
            y = np.asarray(y)
            if y_pred.shape[-1] == 1:
                name = "binary_crossentropy"
            elif y.ndim < y_pred.ndim or y.shape[-1] == 1:
                name = "sparse_categorical_crossentropy"
            else:
                name = "categorical_crossentropy"
            self.loss = losses.get(name)
        self._metrics, self._weighted = (
            [metrics.resolve(m, y, y_pred) for m in names] for names in self._metric_names
        )
        seen: set[str] = {"loss"}
        for metric in self._all():
            name, number = metric.name, 0
            while metric.name in seen:
                number += 1
                metric.name = f"{name}_{number}"
            seen.add(metric.name)

    def add_loss(self, loss: float, n_samples: float) -> None:
        """Add the loss of a batch to its mean over samples."""
        self._total += loss * n_samples
        self._count += n_samples

    def add_outputs(self, y: Any, y_pred: np.ndarray, weight: Any, mask: Any, span: float = 1.0) -> None:
        """Add outputs to the means of the metrics.

        Parameters
        ----------
        span : float
            Fraction of the batch's time steps that these outputs have; metrics sum over valid steps themselves.
        """
        plain = None
        if span != 1.0:
            plain = np.full(len(y_pred), span)
            weight = plain if weight is None else np.asarray(weight) * span
        for metric in self._metrics:  # type: ignore[union-attr]
            metric.update_state(y, y_pred, plain, mask)
        for metric in self._weighted:
            metric.update_state(y, y_pred, weight, mask)

    def logs(self) -> dict[str, float]:
        """Return the means of loss and metrics by name."""
        logs = {"loss": self._total / self._count if self._count else 0.0}
        for metric in self._all():
            logs[metric.name] = metric.result()
        return logs


def by_position(logs: dict[str, float]) -> Any:
    """Loss and metrics as Keras returns them: one number, or a list in the order of the names."""
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _as_list(given: Any) -> Sequence[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _check_metric(name: Any, argument: str) -> None:
    if name is None:
        raise TypeError(f"{argument} holds None: give names or objects")
    if not (isinstance(name, str) and name.lower() in ("accuracy", "acc")):
        metrics.get(name, argument)

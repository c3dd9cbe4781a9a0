"""The objective of training: the loss, the metrics, and their running means."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import losses, metrics
from fastrnn.checks import is_number, number
from fastrnn.exceptions import NotCompiledError
from fastrnn.targets import fill_missing, item_weights, missing_items

__all__ = ["Objective", "by_position"]


class Objective:
    """Loss and metrics of a model with their means since `reset`.

    Parameters
    ----------
    loss : str, Loss or None
        ``"crossentropy"`` chooses the kind that fits the first targets and outputs.
    loss_weight : float, optional
        Factor of the loss.
    metric_names, weighted_names : str, Metric or list of them, optional
        `weighted_names` take sample weights into account.
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
                _as_metric(name, argument)
        given = [name for group in names.values() for name in group if isinstance(name, metrics.Metric)]
        for k, metric in enumerate(given):
            if any(metric is other for other in given[:k]):
                raise ValueError(f"metric {metric.name!r} is given twice: it would mix both, use two objects")
        self.loss, self.loss_weight = loss, loss_weight
        #: Factor of the loss in `logs`, if training computes the loss in other units than those of the user.
        self.unit = 1.0
        self._metric_names = (names["metrics"], names["weighted_metrics"])
        #: Objects for `_metric_names`, made with the first targets, which determine the kind of accuracy.
        self._metrics: list[Any] | None = None
        self._weighted: list[Any] = []
        self._all: list[Any] = []
        self.reset()

    def need_loss(self, what: str) -> None:
        """Raise if there is no loss, naming the method that needs one."""
        if self.loss is None:
            raise NotCompiledError(f"{what}() needs a loss: give compile() one, such as loss='mse'")

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of ``Model.compile`` for this object, by name."""
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
        return ["loss", *(metric.name for metric in self._all)]

    @property
    def is_loss_alone(self) -> bool:
        """Whether there are no metrics beside the loss, and its kind is chosen."""
        return self._metrics is not None and not self._all

    @property
    def logit_activation(self) -> str | None:
        """The activation from whose inputs the loss can be computed, if any."""
        return self.loss.logit_activation if isinstance(self.loss, losses.Loss) else None

    @property
    def is_mean(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its parts, weighted by their items."""
        return not (isinstance(self.loss, losses.Loss) and self.loss.reduction == "sum")

    def reset(self) -> None:
        """Reset the running means."""
        self._total = self._count = 0.0
        for metric in self._all:
            metric.reset_state()

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
        plain, weighted = ([metrics.resolve(m, y, y_pred) for m in names] for names in self._metric_names)
        seen: set[str] = {"loss"}
        for metric in (*plain, *weighted):
            metric.check(np.asarray(y), y_pred)
            name, number = metric.name, 0
            while metric.name in seen:
                number += 1
                metric.name = f"{name}_{number}"
            seen.add(metric.name)
        self._metrics, self._weighted, self._all = plain, weighted, [*plain, *weighted]

    def add(self, loss: float, y: Any, y_pred: np.ndarray, weight: Any, mask: Any) -> None:
        """Add the loss and the outputs of a batch to the running means.

        All items have equal weights, so that the means do not depend on how the data are cut into batches.
        """
        n = self.loss.batch_weight(y, y_pred, weight, mask)
        self._total += loss * n
        self._count += n
        counts = mask
        if weight is not None and self._metrics:
            # Metrics without weights leave out missing targets, which have weight 0.
            items = y_pred.shape[:-1]
            missing = missing_items(fill_missing(y, items, None, mask), items)
            if missing is not None:
                missing &= np.broadcast_to(item_weights(items, weight, None, np.float64) == 0, items)
                counts = ~missing if mask is None else ~missing & item_weights(items, None, mask, bool)
        for metric in self._metrics:  # type: ignore[union-attr]
            metrics.update(metric, y, y_pred, None, counts)
        for metric in self._weighted:
            metrics.update(metric, y, y_pred, weight, mask)

    def _named(self, name: str) -> list[Any]:
        """Metrics of this name; before the first batch, those for the names given to `compile`."""
        given, weighted = self._metric_names
        known = map(_as_metric, [*given, *weighted]) if self._metrics is None else self._all
        return [metric for metric in known if metric.name == name]

    def has_metric(self, name: str) -> bool:
        """Return whether there is a metric of this name."""
        return bool(self._named(name))

    def direction(self, name: str) -> str | None:
        """Return whether a larger ("max") or a smaller ("min") value of the metric `name` is better.

        None if there is no such metric, or if it has no direction.
        """
        return next((metric.direction for metric in self._named(name)), None)

    def logs(self) -> dict[str, float]:
        """Return the means of loss and metrics by name."""
        logs = {"loss": self.unit * self._total / self._count if self._count else 0.0}
        for metric in self._all:
            logs[metric.name] = float(metric.result())
        return logs


def by_position(logs: dict[str, float]) -> Any:
    """Loss and metrics as Keras returns them: one number, or a list in the order of the names."""
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _as_metric(given: Any, argument: str = "metrics") -> Any:
    """The metric for `given`. The kind of "accuracy" is chosen when the targets are known."""
    if given is None:
        raise TypeError(f"{argument} holds None: give names or objects")
    if isinstance(given, str) and given.lower() in ("accuracy", "acc"):
        return metrics.Accuracy(given)
    metric = metrics.get(given, argument)
    if isinstance(given, str):
        metric.name = given
    return metric

"""What one batch does to a model: loss, gradient, update, metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import losses, metrics, optimizers
from fastrnn.checks import as_array, flag, is_number, number
from fastrnn.engine.kernels.update import all_finite
from fastrnn.exceptions import NonFiniteLossError, NotCompiledError
from fastrnn.layers.arrays import check_mask
from fastrnn.training.callback import History
from fastrnn.training.checks import check_class_weight, check_weights, states_kept_on_error
from fastrnn.training.data import class_weights, is_ragged, whole
from fastrnn.training.truncation import Piece, carried_states, cut

__all__ = ["HELP", "Steps", "by_position"]

HELP = "What usually helps: a lower learning_rate, clipnorm=1.0 on the optimizer, scaled inputs and targets, float64"


class Steps:
    """Compiling a model, and what is done with single batches.

    The model gives `run`, `back`, `params`, `grads` and `plan`.
    """

    optimizer: Any = None
    loss: Any = None
    stop_training = False
    history: History | None = None

    # Given by the model.
    layers: list[Any]
    params: np.ndarray
    grads: np.ndarray
    plan: optimizers.Plan
    _rng: np.random.Generator

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: float | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Set optimizer, loss and metrics.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
            ``"crossentropy"`` takes the kind that targets and outputs call for.
        loss_weights : float, optional
            Factor of the loss.
        metrics, weighted_metrics : list of str or Metric, optional
            The latter take sample weights into account.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Of Keras; without effect.
        """
        if optimizer is None:
            raise ValueError("optimizer=None: give a name, such as 'adam', or an object")
        optimizer = optimizers.get(optimizer)
        if not (isinstance(loss, str) and loss.lower() in ("crossentropy", "ce")):
            loss = losses.get(loss)
        if loss_weights is not None and not is_number(loss_weights):
            raise TypeError(f"loss_weights={loss_weights!r}: give a number, the model has one output")
        loss_weights = number(loss_weights, "loss_weights", optional=True)
        names = {"metrics": _as_list(metrics), "weighted_metrics": _as_list(weighted_metrics)}
        for argument, given in names.items():
            for name in given:
                _check_metric(name, argument)
        self.optimizer, self.loss, self._loss_weight = optimizer, loss, loss_weights
        self._metric_names = (names["metrics"], names["weighted_metrics"])
        self._metrics: list[Any] | None = None
        self._weighted: list[Any] = []
        self.stop_training = False
        self.plan_updates()
        self.reset_metrics()

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of :meth:`compile` that have an effect, as they are now; empty before it was called."""
        if self.optimizer is None:
            return {}
        given, weighted = self._metric_names
        return {
            "optimizer": self.optimizer,
            "loss": self.loss,
            "loss_weights": self._loss_weight,
            "metrics": given,
            "weighted_metrics": weighted,
        }

    def plan_updates(self) -> None:
        """Work out which weights the optimizer updates, and how."""
        raise NotImplementedError

    def run(self, x: Any, mask: Any, training: bool, want_logits: bool, y: Any = None) -> Any:
        """Compute ``y, mask, logits, caches, penalty``; given by the model.

        `y` are the targets, if they are known, for models that look at those of the steps before.
        """
        raise NotImplementedError

    def back(self, dy: np.ndarray, caches: list[Any], from_logits: bool) -> None:
        """Compute the gradients; given by the model."""
        raise NotImplementedError

    def weights_changed(self) -> None:
        """Tell all layers that their weights have other values now; given by the model."""
        raise NotImplementedError

    def _ensure_ready(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights if that is still to do; given by the model."""
        raise NotImplementedError

    def _need(self, what: str) -> None:
        if self.optimizer is None:
            raise NotCompiledError(f"{what}() needs a loss: call compile(optimizer=..., loss=...) first")
        if self.loss is None:
            raise NotCompiledError(f"{what}() needs a loss: give compile() one, such as loss='mse'")

    # -- metrics

    def reset_metrics(self) -> None:
        """Forget the running means of loss and metrics."""
        self._loss_total = self._loss_count = 0.0
        for metric in self._all_metrics():
            metric.reset_state()

    def _all_metrics(self) -> list[Any]:
        return [*(self._metrics or ()), *self._weighted]

    @property
    def metrics_names(self) -> list[str]:
        """Names of loss and metrics, in the order of what :meth:`evaluate` returns."""
        return ["loss", *(m.name for m in self._all_metrics())]

    def _resolve(self, y: Any, y_pred: np.ndarray) -> None:
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
        for metric in self._all_metrics():
            name, number = metric.name, 0
            while metric.name in seen:
                number += 1
                metric.name = f"{name}_{number}"
            seen.add(metric.name)

    def _account(
        self, loss: float, y: Any, y_pred: np.ndarray, weight: Any, mask: Any, piece: Piece | None = None
    ) -> None:
        n, plain = float(len(y_pred)), None
        if piece is not None:
            n *= piece.share
            plain = np.full(len(y_pred), piece.span)
            weight = plain if weight is None else np.asarray(weight) * piece.span
        self._loss_total += loss * n
        self._loss_count += n
        for metric in self._metrics:  # type: ignore[union-attr]
            metric.update_state(y, y_pred, plain, mask)
        for metric in self._weighted:
            metric.update_state(y, y_pred, weight, mask)

    def _logs(self) -> dict[str, float]:
        logs = {"loss": self._loss_total / self._loss_count if self._loss_count else 0.0}
        for metric in self._all_metrics():
            logs[metric.name] = metric.result()
        return logs

    # -- steps

    def _loss_of(
        self, x: Any, mask: Any, y: Any, weight: Any, training: bool
    ) -> tuple[float, np.ndarray, Any, Any, Any, bool]:
        """One pass forward: loss, outputs, mask, gradient, caches, and whether the gradient is that of logits."""
        if y is None:
            raise ValueError("y is missing: training and evaluation need targets")
        want = isinstance(self.loss, losses.Loss) and self.loss.logit_activation is not None
        given = mask
        y_pred, mask, logits, caches, penalty = self.run(x, given, training, want, y)
        if self._metrics is None:
            self._resolve(y, y_pred)
        if given is not None and mask is None and not given[:, 0].all() and not np.any(given, axis=1).all():
            # A sequence without a step has no output to judge.
            mask = np.any(given, axis=1)
        if logits is not None and self.loss.logit_activation != self._last_activation:
            logits = None
        if training:
            self.loss.n_threads = self._most_threads
            loss, grad = self.loss.value_and_grad(y, y_pred, weight, mask, logits)
        else:
            loss, grad = self.loss.value(y, y_pred, weight, mask, logits), None
        if self._loss_weight is not None:
            loss *= self._loss_weight
            if grad is not None:
                grad *= grad.dtype.type(self._loss_weight)
        return loss + penalty, y_pred, mask, grad, caches, logits is not None

    @property
    def _most_threads(self) -> int | None:
        """Threads that the rest of a step may use: no more than any layer."""
        counts = [getattr(layer, "n_threads", None) for layer in self.layers]
        return min((n for n in counts if n is not None), default=None)

    @property
    def _last_activation(self) -> str | None:
        return self.layers[-1].output_activation

    def compute_gradients(self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None) -> float:
        """Write the gradient of the loss of one batch into ``grads`` and return the loss."""
        self._need("compute_gradients")
        batch = self._batch_of(x, y, sample_weight, mask)
        with states_kept_on_error(self.layers):
            loss, _, _, grad, caches, from_logits = self._loss_of(*batch, True)
        self.back(grad, caches, from_logits)
        return loss

    def train_step(
        self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None, n_steps: int | None = None
    ) -> float:
        """Make one update from a batch and return its loss; metrics are accounted for.

        Parameters
        ----------
        x, y, sample_weight, mask
            As the layers and the loss take them.
        n_steps : int, optional
            Truncate backpropagation through time: make one update from each piece of so many steps, in the order of
            time, each starting from the states that the piece before ended with. The loss is then the mean over the
            pieces. The model must take it, see `fit`.

        Raises
        ------
        NonFiniteLossError
            If loss or gradient are not finite. Weights and states are those before the call, or before the piece.
        """
        if n_steps is None or x.shape[1] <= n_steps:
            return self._step(x, y, sample_weight, mask)
        total = 0.0
        with carried_states(self.layers):
            for piece in cut(x, y, sample_weight, mask, n_steps):
                total += piece.share * self._step(*piece[:4], piece)
        return total

    def _step(self, x: Any, y: Any, sample_weight: Any, mask: Any, piece: Piece | None = None) -> float:
        """One update from a batch, or from the arrays of a piece of one; if it fails, states are what they were."""
        with states_kept_on_error(self.layers):
            return self._update(x, y, sample_weight, mask, piece)

    # Numbers that overflow are found and told of below; NumPy's warnings would only come on top.
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _update(self, x: Any, y: Any, sample_weight: Any, mask: Any, piece: Piece | None) -> float:
        loss, y_pred, out_mask, grad, caches, from_logits = self._loss_of(x, mask, y, sample_weight, True)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss became {loss}; the weights were left as they were. {HELP}.")
        if piece is not None and out_mask is not None and not out_mask.any():
            # A layer masked all of it: moments of the optimizer must not move the weights for nothing.
            return loss
        self.back(grad, caches, from_logits)
        plan = self.plan
        for start, stop in plan.runs:
            self._check_gradient(self.grads[start:stop])
        for table in plan.tables:
            grads = self.grads[table.start : table.stop].reshape(table.shape)
            self._check_gradient(grads[table.rows()].ravel())
        self.optimizer.apply(self.params, self.grads, plan)
        self.constrain()
        self.weights_changed()
        self._account(loss, y, y_pred, sample_weight, out_mask, piece)
        return loss

    def constrain(self) -> None:
        """Project the weights onto what their constraints allow; given by the model."""
        raise NotImplementedError

    @staticmethod
    def _check_gradient(grads: np.ndarray) -> None:
        if not all_finite(grads):
            raise NonFiniteLossError(
                f"a gradient became NaN or infinite; the weights were left as they were. {HELP}."
            )

    def _input(self, x: Any) -> Any:
        x = self.layers[0].as_input(x) if self.layers else np.asarray(x)
        self._ensure_ready((None, *x.shape[1:]))
        return x

    def _batch_of(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
        """``x, mask, y, sample_weight`` of a single batch as arrays; of a Ragged the mask is its own, unless given."""
        x, real = whole(x)
        y = None if y is None else as_array(whole(y)[0], "y")
        sample_weight = check_weights(whole(sample_weight)[0])
        x = self._input(x)
        if mask is not None:
            mask = check_mask(mask, x.shape)
            real = None if mask.all() else mask  # one that hides nothing is none
        return x, real, y, sample_weight

    def snapshot(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Return copies of the weights and of the optimizer's state, for :meth:`restore`."""
        return self.params.copy(), self.optimizer.get_state()

    def restore(self, kept: tuple[np.ndarray, dict[str, Any]]) -> None:
        """Put back what :meth:`snapshot` returned."""
        self.params[...] = kept[0]
        self.optimizer.set_state(kept[1])
        self.weights_changed()

    def check_weights(self) -> None:
        """Raise `NonFiniteLossError` if a weight is not finite, which the loss shows at the next batch only."""
        if not all_finite(self.params):
            raise NonFiniteLossError("a weight became NaN or infinite")

    def _expect(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
        """Raise what inputs of `shape` would raise; return the outputs' shape if the model can tell it beforehand."""
        return None

    def _need_layers(self) -> None:
        if not self.layers:
            raise ValueError("the model has no layers: add some first")

    # -- single batches

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
        mask: Any = None,
    ) -> Any:
        """Make one update from a batch.

        Returns
        -------
        float, list of float, or dict
            Loss and metrics of this batch, as :meth:`evaluate` returns them.
        """
        self._need("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError("give either class_weight or sample_weight, not both")
            check_class_weight(class_weight)
            if y is None or is_ragged(y):
                raise ValueError("class_weight needs y as an array; give sample_weight instead")
            sample_weight = class_weights(y, class_weight)
        return_dict = flag(return_dict, "return_dict")
        x, mask, y, sample_weight = self._batch_of(x, y, sample_weight, mask)
        self.reset_metrics()
        self.train_step(x, y, sample_weight, mask)
        logs = self._logs()
        return logs if return_dict else by_position(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, mask: Any = None
    ) -> Any:
        """Compute loss and metrics of a batch; returns as :meth:`train_on_batch`."""
        self._need("test_on_batch")
        return_dict = flag(return_dict, "return_dict")
        x, mask, y, sample_weight = self._batch_of(x, y, sample_weight, mask)
        self.reset_metrics()
        with states_kept_on_error(self.layers):
            loss, y_pred, out_mask, *_ = self._loss_of(x, mask, y, sample_weight, False)
        self._account(loss, y, y_pred, sample_weight, out_mask)
        logs = self._logs()
        return logs if return_dict else by_position(logs)

    def predict_on_batch(self, x: Any, mask: Any = None) -> np.ndarray:
        """Compute the outputs for a batch."""
        self._need_layers()
        x, mask, *_ = self._batch_of(x, None, None, mask)
        return self.run(x, mask, False, False)[0]


def by_position(logs: dict[str, float]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _check_metric(name: Any, argument: str) -> None:
    if name is None:
        raise TypeError(f"{argument} holds None: give names or objects")
    if not (isinstance(name, str) and name.lower() in ("accuracy", "acc")):
        metrics.get(name, argument)

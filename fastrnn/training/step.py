"""One batch: its loss, the gradient, the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrnn import optimizers
from fastrnn.engine.kernels.update import all_finite
from fastrnn.exceptions import NonFiniteLossError, NotCompiledError
from fastrnn.training.callback import History
from fastrnn.training.data import Batch
from fastrnn.training.guard import Changes, guard, states
from fastrnn.training.objective import Objective
from fastrnn.training.prepared import PreparedStep, prepared_step
from fastrnn.training.prepared_pass import PreparedPass, PreparedPasses
from fastrnn.training.truncation import carried_states, cut
from fastrnn.update_plan import Later

__all__ = ["HELP", "ForwardPass", "Trainable", "Trainer"]

HELP = "What usually helps: a lower learning_rate, clipnorm=1.0 on the optimizer, scaled inputs and targets, float64"

_BAD_GRADIENT = f"a gradient became NaN or infinite; the weights were not changed. {HELP}."


class ForwardPass(NamedTuple):
    """The result of a model's forward pass for a batch.

    `logits` is the input of the last activation, if it was requested and exists; `caches` has what the backward pass needs;
    `penalty` is the sum of the regularizers; `finals` are the last states of layers that return them.
    """

    y: Any
    mask: np.ndarray | None
    logits: np.ndarray | None
    caches: Any
    penalty: float
    finals: list[Any]


class Trainable(Protocol):
    """The interface of a model that a trainer uses."""

    layers: list[Any]
    plan: optimizers.Plan

    @property
    def weight_vector(self) -> np.ndarray:
        """All weights, as one vector that may be written to."""

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """All weights, as one vector that may be written to, and their gradients, as another."""

    @property
    def n_threads(self) -> int | None:
        """Largest number of threads that all layers allow."""

    def run(self, batch: Batch, training: bool, logits_of: str | None) -> ForwardPass:
        """Compute the outputs; if `logits_of` is the last activation, return its input too."""

    def back(self, dy: np.ndarray, caches: Any, from_logits: bool) -> None:
        """Write the gradients of all weights into `grads`."""

    def refresh_plan(self) -> None:
        """Plan the updates again if a layer was frozen or unfrozen."""

    def bind_weights(self) -> None:
        """Make sure that the layers' weights and gradients are views of this model's vectors."""

    def constrain(self) -> None:
        """Project the weights onto what their constraints allow."""

    def weights_changed(self) -> None:
        """Notify all layers that their weights have changed."""


class _Judged(NamedTuple):
    """A forward pass with its loss and, in training, the gradient of the outputs or logits."""

    loss: float
    y: np.ndarray
    mask: np.ndarray | None
    grad: Any
    caches: Any
    from_logits: bool


def _nothing_counts(batch: Batch, mask: np.ndarray | None) -> bool:
    """Whether every item of a batch is masked or has weight 0."""
    # To count is faster than any(): 0.5 us instead of 2 for a small mask.
    return (batch.weight is not None and not np.any(batch.weight)) or (
        mask is not None and not np.count_nonzero(mask)
    )


class _Sum:
    """Loss and gradients of a batch that is computed in parts: the mean of theirs, weighted by their items."""

    def __init__(self, model: Trainable) -> None:
        self.model = model
        self.loss = self.items = 0.0
        self.total = np.zeros_like(model.vectors()[1])
        self.rows: list[set[int]] = [set() for _ in model.plan.tables]

    def add(self, loss: float, items: float) -> None:
        """Add the loss of a part, and the gradients that the backward pass has written."""
        grads, plan = self.model.vectors()[1], self.model.plan
        factor = grads.dtype.type(items)
        self.loss += items * loss
        self.items += items
        for start, stop in plan.runs:
            self.total[start:stop] += factor * grads[start:stop]
        for table, known in zip(plan.tables, self.rows, strict=True):
            rows = table.rows()
            total, grad = (v[table.start : table.stop].reshape(table.shape) for v in (self.total, grads))
            total[rows] += factor * grad[rows]
            known.update(rows.tolist())

    def finish(self) -> float:
        """Write the mean of the gradients where those of one batch would be; return the mean loss."""
        grads, plan = self.model.vectors()[1], self.model.plan
        factor = grads.dtype.type(1 / self.items)
        for start, stop in plan.runs:
            np.multiply(self.total[start:stop], factor, out=grads[start:stop])
        for table, known in zip(plan.tables, self.rows, strict=True):
            rows = np.array(sorted(known), np.intp)
            total, grad = (v[table.start : table.stop].reshape(table.shape) for v in (self.total, grads))
            grad[rows] = total[rows] * factor
            table.mark(rows)
        return self.loss / self.items


def _check_loss(loss: float) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the loss became {loss}; the weights were not changed. {HELP}.")


class Trainer:
    """Optimizer, loss and metrics of a model; computes updates from batches.

    Attributes
    ----------
    optimizer : Optimizer or None
    objective : Objective
        Loss and metrics.
    stop_training : bool
        Set by callbacks to end training after the current batch.
    history : History or None
        History of the last `fit`.
    """

    #: What the last update has left out. On the class, because pickles of trainers do not hold it.
    later: Later | None = None
    #: Whether training steps are prepared where that is possible; only during a `fit`.
    prepares = False

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.objective = Objective()
        self.stop_training = False
        #: Called before each update, when the weights have proved to give a finite loss and gradient; may return what the
        #: update is to leave out.
        self.before_update: Callable[[], Later | None] | None = None
        self.history: History | None = None
        self._passes = PreparedPasses()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_passes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._passes = PreparedPasses()

    def need(self, what: str) -> None:
        """Raise if there is no optimizer or no loss for the method `what`."""
        if self.optimizer is None:
            raise NotCompiledError(f"{what}() needs a loss: call compile(optimizer=..., loss=...) first")
        self.objective.need_loss(what)

    def judge(self, model: Trainable, batch: Batch, training: bool) -> _Judged:
        """Compute outputs and loss, and in training the gradient of the outputs."""
        if batch.y is None:
            raise ValueError("y is missing: training and evaluation need targets")
        objective, given = self.objective, batch.mask
        if training:
            model.refresh_plan()
        y, mask, logits, caches, penalty, _ = model.run(batch, training, objective.logit_activation)
        objective.resolve(batch.y, y)
        if given is not None and mask is None and not given[:, 0].all() and not np.any(given, axis=1).all():
            # The output for an empty sequence has no loss.
            mask = np.any(given, axis=1)
        loss_of = objective.loss
        if logits is not None and objective.logit_activation != model.layers[-1].output_activation:
            logits = None
        grad = None
        if training:
            loss_of.n_threads = model.n_threads
            loss, grad = loss_of.value_and_grad(batch.y, y, batch.weight, mask, logits)
        else:
            loss = loss_of.value(batch.y, y, batch.weight, mask, logits)
        if objective.loss_weight is not None:
            loss *= objective.loss_weight
            if grad is not None:
                grad *= grad.dtype.type(objective.loss_weight)
        return _Judged(loss + penalty, y, mask, grad, caches, logits is not None)

    def gradients(self, model: Trainable, batch: Batch) -> float:
        """Write the gradient of the loss of a batch into ``model.grads``; return the loss."""
        with guard(*states(model.layers)):
            judged = self.judge(model, batch, training=True)
        model.back(judged.grad, judged.caches, judged.from_logits)
        return judged.loss

    def train(self, model: Trainable, batch: Batch, n_steps: int | None = None) -> float:
        """Make one update from a batch, or one from each piece of `n_steps` time steps; return the loss.

        Raises
        ------
        NonFiniteLossError
            If loss or gradient is not finite. Weights and states are restored to those before the update.
        """
        model.bind_weights()
        if n_steps is None or batch.parts or batch.x.shape[1] <= n_steps:
            return self._update(model, batch)
        total = 0.0
        with carried_states(model.layers):
            for piece in cut(batch, n_steps):
                total += piece.share * self._update(model, piece.batch)
        return total

    def _prepared(self, model: Trainable, batch: Batch) -> float | None:
        """Make one update by compiled calls that were prepared; return the loss, or None where there are none."""
        step = prepared_step(model, batch) if self.prepares else None
        if step is not None:
            return self._prepared_update(model, batch, step)
        passes = self._passes.find(model, batch)
        return None if passes is None else self._pass_update(model, batch, passes)

    # Numbers that overflow are found and told of below; NumPy's warnings would only come on top.
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _update(self, model: Trainable, batch: Batch) -> float:
        """Make one update from a batch or a piece of one; return the loss."""
        if self.later is not None:
            self.later.settle()
            self.later = None
        found = self._prepared(model, batch)
        if found is not None:
            return found
        judgements: Sequence[tuple[Batch, _Judged]] = ()
        with guard(*states(model.layers)):
            if batch.parts:
                loss, judgements = self._sum_of_parts(model, batch.parts)
            else:
                judged = self.judge(model, batch, training=True)
                loss = judged.loss
                _check_loss(loss)
                if not _nothing_counts(batch, judged.mask):
                    model.back(judged.grad, judged.caches, judged.from_logits)
                    judgements = ((batch, judged),)
            if not judgements:
                # Skip the update: the gradient is zero, but the optimizer's moments would change the weights.
                return loss
            weights, grads = model.vectors()
            self._check_gradients(grads, model.plan)
            if self.before_update is not None:
                self.later = self.before_update()
            self.optimizer.apply(weights, grads, model.plan, self.later)
            model.constrain()
            model.weights_changed()
            for piece, judged in judgements:
                self.objective.add(judged.loss, piece.y, judged.y, piece.weight, judged.mask)
        return loss

    def _pass_update(self, model: Trainable, batch: Batch, passes: PreparedPass) -> float:
        """As `_update`, by prepared passes: the weights are bitwise the same."""
        objective, y = self.objective, passes.network.y
        loss = passes.squared_error(batch, objective.loss_weight)
        if loss is None:
            y, loss, counts = self._pass_gradients(batch, passes)
            if not counts:
                return loss
        else:
            _check_loss(loss)
            objective.resolve(batch.y, y)
        if not all_finite(passes.grads):
            raise NonFiniteLossError(_BAD_GRADIENT)
        if self.before_update is not None:
            self.before_update()
        self.optimizer.apply(*model.vectors(), model.plan)
        model.weights_changed()
        objective.add(loss, batch.y, y, batch.weight, None)
        return loss

    def _pass_gradients(self, batch: Batch, passes: PreparedPass) -> tuple[np.ndarray, float, bool]:
        """Compute outputs, loss and, if any item has a weight, the gradients; return outputs, loss and whether one has."""
        objective = self.objective
        y, logits = passes.forward(batch)
        objective.resolve(batch.y, y)
        loss, grad = objective.loss.value_and_grad(batch.y, y, batch.weight, None, logits)
        if objective.loss_weight is not None:
            loss *= objective.loss_weight
            grad *= grad.dtype.type(objective.loss_weight)
        _check_loss(loss)
        counts = not _nothing_counts(batch, None)
        if counts:
            passes.backward(grad)
        return y, loss, counts

    def _prepared_update(self, model: Trainable, batch: Batch, step: PreparedStep) -> float:
        """As `_update`, by compiled calls that were prepared."""
        loss, finite = step.gradient(batch)
        self.check_step(loss, finite)
        if self.before_update is not None:
            self.before_update()
        step.update(self.optimizer)
        model.weights_changed()
        self.objective.add(loss, batch.y, step.program.y, batch.weight, None)
        return loss

    def _sum_of_parts(
        self, model: Trainable, parts: Sequence[Batch]
    ) -> tuple[float, list[tuple[Batch, _Judged]]]:
        """Write the gradient of a batch that is given in parts; return its loss, and the parts that count."""
        model.refresh_plan()
        sums, found, loss = _Sum(model), [], 0.0
        for part in parts:
            judged = self.judge(model, part, training=True)
            loss = judged.loss
            _check_loss(loss)
            if _nothing_counts(part, judged.mask):
                continue
            model.back(judged.grad, judged.caches, judged.from_logits)
            sums.add(loss, self.objective.loss.batch_weight(part.y, judged.y, part.weight, judged.mask))
            # What the backward pass needed can be large.
            found.append((part, judged._replace(grad=None, caches=None)))
        return (sums.finish() if found else loss), found

    @staticmethod
    def check_step(loss: float, finite_gradients: bool) -> None:
        """Raise `NonFiniteLossError` if a loss or gradients are not finite."""
        _check_loss(loss)
        if not finite_gradients:
            raise NonFiniteLossError(_BAD_GRADIENT)

    @staticmethod
    def _check_gradients(grads: np.ndarray, plan: optimizers.Plan) -> None:
        finite = True
        for start, stop in plan.runs:
            finite = finite and all_finite(grads if stop - start == grads.size else grads[start:stop])
        for table in plan.tables:
            rows = grads[table.start : table.stop].reshape(table.shape)[table.rows()]
            finite = finite and all_finite(rows.ravel())
        if not finite:
            raise NonFiniteLossError(_BAD_GRADIENT)

    def test(self, model: Trainable, batch: Batch) -> None:
        """Add loss and metrics of a batch to the running means."""
        for piece in batch.pieces:
            judged = self.judge(model, piece, training=False)
            self.objective.add(judged.loss, piece.y, judged.y, piece.weight, judged.mask)

    def check_weights(self, model: Trainable, changes: Changes | None = None) -> None:
        """Raise `NonFiniteLossError` if a weight is not finite, which the loss shows at the next batch only.

        With `changes`, only what they hold is looked at.
        """
        if not (all_finite(model.weight_vector) if changes is None else changes.weights_are_finite()):
            raise NonFiniteLossError("a weight became NaN or infinite")

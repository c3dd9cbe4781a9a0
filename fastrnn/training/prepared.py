"""Training steps of small networks that are prepared once and run as two calls of compiled code.

Within `preparing`, `Trainer` uses them in this thread where they are possible: for one recurrent layer of the engine and a
dense layer, the squared error or a cross-entropy, Adam, and batches without a mask. Other steps are computed as ever. The
numbers are the same to rounding.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastrnn import losses
from fastrnn.engine.recurrence.training import BINARY, SOFTMAX, SQUARED, Head, TrainingProgram, is_small
from fastrnn.layers.bidirectional import Bidirectional
from fastrnn.layers.cells import Cell
from fastrnn.layers.core import Dense
from fastrnn.layers.recurrent import RNN
from fastrnn.optimizers import Adam
from fastrnn.targets import item_factors
from fastrnn.training.data import Batch

__all__ = ["PreparedStep", "prepare_in_thread", "prepared_step", "preparing"]


class _Steps(threading.local):
    """The steps that this thread has prepared, by model and shape of the inputs; None where that is not done."""

    by_model: weakref.WeakKeyDictionary[Any, dict[Any, PreparedStep | None]] | None = None


_steps = _Steps()


def prepare_in_thread() -> None:
    """From now on, this thread prepares the training steps of small networks."""
    _steps.by_model = weakref.WeakKeyDictionary()


@contextmanager
def preparing() -> Iterator[None]:
    """Within the block, this thread prepares the training steps of small networks."""
    before, _steps.by_model = _steps.by_model, weakref.WeakKeyDictionary()
    try:
        yield
    finally:
        _steps.by_model = before


class _Made(NamedTuple):
    """What a program refers to; another object in the place of one makes it invalid."""

    params: np.ndarray
    optimizer: Any
    state: tuple[Any, ...]
    plan: Any
    loss: Any
    layers: tuple[Any, ...]
    #: Settings of the optimizer that a prepared update does not follow: all None.
    settings: tuple[Any, ...]


class PreparedStep:
    """A prepared training step of a model.

    Parameters
    ----------
    program : TrainingProgram
    made : _Made
    """

    def __init__(self, program: TrainingProgram, kind: int, made: _Made) -> None:
        self.program, self.kind, self.made = program, kind, made

    def fits(self, model: Any) -> bool:
        """Whether the model still has the arrays and objects that the step was made for."""
        return all(a is b for a, b in zip(_flat(self.made), _flat(_made(model)), strict=True))

    def gradient(self, batch: Batch) -> tuple[float, bool]:
        """Compute the gradient of a batch; return the loss, and whether the gradient is finite."""
        program = self.program
        np.copyto(program.x, batch.x)
        if self.kind == SOFTMAX:
            program.y.fill(0)
            program.y[np.arange(len(batch.y)), np.asarray(batch.y).reshape(-1)] = 1
        else:
            np.copyto(program.y, np.reshape(batch.y, program.y.shape))
        program.factors[...] = item_factors(
            self.made.loss.reduction, program.factors.shape, program.x.dtype, batch.weight, None
        )
        return program.gradient()

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradient."""
        self.program.numbers[:] = optimizer.next_numbers(self.made.params.dtype)
        self.program.update()
        optimizer.iterations += 1


def _flat(made: _Made) -> list[Any]:
    return [made.params, made.optimizer, *made.state, made.plan, made.loss, *made.layers, *made.settings]


def _made(model: Any) -> _Made:
    params = model.vectors()[0]
    optimizer = model.optimizer
    return _Made(
        params,
        optimizer,
        tuple(optimizer.vectors(params.size)),
        model.plan,
        model.trainer.objective.loss,
        tuple(model.layers),
        (optimizer.weight_decay, optimizer.clipvalue, optimizer.global_clipnorm),
    )


def prepared_step(model: Any, batch: Batch) -> PreparedStep | None:
    """The prepared step for a batch; None outside of `preparing`, and where the step must be computed as ever."""
    if (
        _steps.by_model is None
        or batch.mask is not None
        or batch.parts
        or not model.trainer.objective.is_loss_alone
    ):
        return None
    if batch.weight is not None and not np.any(batch.weight):
        return None
    model.refresh_plan()
    of_model = _steps.by_model.setdefault(model, {})
    key = batch.x.shape
    step = of_model.get(key)
    if step is not None and step.fits(model):
        return step
    if key in of_model and step is None:
        return None
    of_model[key] = _prepare(model, batch)
    return of_model[key]


def _prepare(model: Any, batch: Batch) -> PreparedStep | None:
    kind = _kind(model, batch)
    if kind is None:
        return None
    recurrent, dense = model.layers
    cell = recurrent.cell.kernel_cell(recurrent.unroll)
    if not is_small(cell, batch.x.shape, model.n_threads):
        return None
    params, grads = model.vectors()
    optimizer = model.optimizer
    if not optimizer.vectors(params.size):
        return None  # made by the first update
    head = Head(
        kind, dense._weights["kernel"], dense._weights["bias"], dense._grads["kernel"], dense._grads["bias"]
    )
    ends = [stop for _, stop in model.plan.variables]
    made = _made(model)
    program = TrainingProgram(
        cell,
        recurrent.cell.kernel_weights(),
        head,
        batch.x.shape,
        recurrent.go_backwards,
        (params, grads, *made.state),
        ends,
    )
    return PreparedStep(program, kind, made)


def _kind(model: Any, batch: Batch) -> int | None:
    """The kind of the loss, if model and batch are of the kind that can be prepared."""
    layers, trainer, optimizer = model.layers, model.trainer, model.optimizer
    if len(layers) != 2 or type(optimizer) is not Adam or type(layers[1]) is not Dense:
        return None
    recurrent, dense = layers
    if not isinstance(recurrent, RNN) or isinstance(recurrent, Bidirectional):
        return None
    cell, plan = recurrent.cell, model.plan
    plain = (
        isinstance(cell, Cell)
        and list(cell._weights) == ["kernel", "recurrent_kernel", "bias"]
        and not (cell.dropout or cell.recurrent_dropout or cell.makes_initial_state or cell._traits.n_extra)
        and not (recurrent.return_sequences or recurrent.stateful or recurrent.return_state)
        and not any(layer.activity_regularizer for layer in layers)
        and list(dense._weights) == ["kernel", "bias"]
        and not (model._regularized or model._constrained or plan.tables)
        and plan.runs == [(0, model.vectors()[0].size)]
        and not (
            optimizer.amsgrad or optimizer.weight_decay or optimizer.clipvalue or optimizer.global_clipnorm
        )
        and trainer.objective.loss_weight is None
        and batch.x.ndim == 3
        and batch.x.dtype == cell.dtype == dense.dtype
        and (batch.weight is None or np.ndim(batch.weight) == 1)
    )
    if not plain:
        return None
    return _kind_of_loss(trainer.objective.loss, dense, batch.y)


def _kind_of_loss(loss: Any, dense: Dense, y: Any) -> int | None:
    y = np.asarray(y)
    if np.isnan(y).any() if y.dtype.kind == "f" else y.dtype.kind not in "biu":
        return None
    if type(loss) is losses.MeanSquaredError and dense.activation == "linear":
        return SQUARED
    if type(loss) is losses.BinaryCrossentropy and dense.activation == "sigmoid":
        return None if loss.from_logits or loss.label_smoothing else BINARY
    if type(loss) is losses.SparseCategoricalCrossentropy and dense.activation == "softmax":
        inside = y.dtype.kind in "iu" and y.min() >= 0 and y.max() < dense.units
        return SOFTMAX if inside and not loss.from_logits and loss.ignore_class is None else None
    return None

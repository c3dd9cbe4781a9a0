"""Training steps of small networks that are prepared once and run as two calls of compiled code.

They are used in fits of many models, and in those with many batches, where they are possible: for one recurrent layer of the
engine and a dense layer, the squared error or a cross-entropy, Adam, and batches without a mask that one thread computes.
Other steps are computed call by call. The numbers are the same to rounding.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastrnn import losses
from fastrnn.engine import tuning
from fastrnn.engine.recurrence.training import (
    BINARY,
    SOFTMAX,
    SQUARED,
    Head,
    TrainingProgram,
    is_small,
    training_numbers,
)
from fastrnn.layers.bidirectional import Bidirectional
from fastrnn.layers.cells import Cell
from fastrnn.layers.core import Dense
from fastrnn.layers.recurrent import RNN
from fastrnn.optimizers import Adam
from fastrnn.targets import item_factors
from fastrnn.training.data import Batch

__all__ = ["PreparedStep", "pays", "prepare_in_thread", "prepared_step", "preparing"]

#: Shapes for which it is kept whether steps of a model can be prepared, and models for which a thread keeps them.
_KEPT_SHAPES, _KEPT_MODELS = 4, 4


class _Made(NamedTuple):
    """What a program refers to; another object in the place of one makes it invalid."""

    params: np.ndarray
    optimizer: Any
    plan: Any
    objective: Any
    layers: tuple[Any, ...]
    #: The optimizer's moments, and settings that a prepared step does not follow: None or 0.
    state: tuple[Any, ...]


class PreparedStep:
    """A prepared training step of a model.

    Parameters
    ----------
    program : TrainingProgram
    kind : int
        Its loss.
    made : _Made
    """

    def __init__(self, program: TrainingProgram, kind: int, made: _Made) -> None:
        self.program, self.kind, self.made = program, kind, made

    def fits(self, model: Any) -> bool:
        """Whether the model still has the arrays and objects that the step was made for."""
        return _fits(self.made, model)

    def targets(self, y: Any) -> np.ndarray | None:
        """The targets of samples as a program takes them, as rows; None if the usual step must compute or refuse them.

        With classes as targets the column of their numbers.
        """
        return _targets(self.kind, y, self.program.y.shape[1], self.program.y.dtype)

    def factors(self, n: int, weight: Any) -> Any:
        """The factors of the losses of a batch of `n` samples."""
        return item_factors(self.made.objective.loss.reduction, (n,), self.program.y.dtype, weight, None)

    def gradient(self, batch: Batch) -> tuple[float, bool]:
        """Compute the gradient of a batch; return the loss, and whether the gradient is finite."""
        program = self.program
        np.copyto(program.x, batch.x)
        targets = self.targets(batch.y)
        assert targets is not None  # seen by `prepared_step`
        if self.kind == SOFTMAX:
            program.y.fill(0)
            program.y[np.arange(len(targets)), targets[:, 0].astype(np.intp)] = 1
        else:
            np.copyto(program.y, targets)
        program.factors[...] = self.factors(len(targets), batch.weight)
        return program.gradient()

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradient."""
        (self.program.numbers[:],) = optimizer.next_numbers(self.made.params.dtype)
        self.program.update()
        optimizer.iterations += 1


def _same(a: Any, b: Any) -> bool:
    return a is b


def _fits(made: _Made, model: Any) -> bool:
    """Whether a model still has the arrays and objects."""
    now = _made(model)
    return (
        made.params is now.params
        and made.optimizer is now.optimizer
        and made.plan == now.plan  # it is made anew when any layer anywhere is frozen
        and made.objective is now.objective
        and len(made.layers) == len(now.layers)
        and all(map(_same, made.layers, now.layers))
        and len(made.state) == len(now.state)
        and all(map(_same, made.state, now.state))
    )


class _Known(NamedTuple):
    """A step, or None where it can't be prepared, and what it depends on."""

    made: _Made
    step: PreparedStep | None


class _Steps(threading.local):
    """What this thread has prepared, by model and shape of the inputs. Two threads can't use the same memory at a time."""

    #: Whether steps are prepared however few there are.
    always = False

    def __init__(self) -> None:
        self.by_model: weakref.WeakKeyDictionary[Any, dict[Any, _Known]] = weakref.WeakKeyDictionary()


_steps = _Steps()


def prepare_in_thread() -> None:
    """From now on, this thread prepares the training steps of small networks however few there are."""
    _steps.always = True


@contextmanager
def preparing() -> Iterator[None]:
    """Within the block, this thread prepares the training steps of small networks however few there are."""
    before, _steps.always = _steps.always, True
    try:
        yield
    finally:
        _steps.always = before


def pays(n_batches: int | None) -> bool:
    """Whether training prepares its steps if an epoch has this number of batches (None: unknown)."""
    return _steps.always or (n_batches or 0) >= tuning.MIN_PREPARED_BATCHES


def _made(model: Any) -> _Made:
    params, optimizer = model.vectors()[0], model.optimizer
    settings = optimizer.weight_decay, optimizer.clipvalue, optimizer.global_clipnorm
    amsgrad = vars(optimizer).get("amsgrad")  # of Adam
    return _Made(
        params,
        optimizer,
        model.plan,
        model.trainer.objective,
        tuple(model.layers),
        (*optimizer.vectors(params.size), *settings, amsgrad),
    )


def prepared_step(model: Any, batch: Batch) -> PreparedStep | None:
    """The prepared step for a batch, or None where the step must be computed call by call."""
    if batch.mask is not None or batch.parts or batch.y is None:
        return None
    if batch.weight is not None and not np.all(batch.weight):
        return None  # what has no weight may be NaN
    of_model = _steps.by_model.get(model)
    if of_model is None:
        _drop_first(_steps.by_model, _KEPT_MODELS)
        of_model = _steps.by_model[model] = {}
    key = np.shape(batch.x)
    model.refresh_plan()
    known = of_model.get(key)
    if known is None or not _fits(known.made, model):
        if not _is_suited_batch(batch):
            return None
        _drop_first(of_model, _KEPT_SHAPES)
        step = _prepare(model, batch)
        known = of_model[key] = _Known(_made(model), step)
    step = known.step
    suited = step is not None and _is_suited_batch(batch) and step.targets(batch.y) is not None
    return step if suited else None


def _drop_first(kept: MutableMapping[Any, Any], most: int) -> None:
    """Make room for one more, if as many as `most` are kept."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)), None)


def _is_suited_batch(batch: Batch) -> bool:
    return (
        isinstance(batch.x, np.ndarray)
        and batch.x.ndim == 3
        and (batch.weight is None or np.shape(batch.weight) == (len(batch.x),))
    )


def _prepare(model: Any, batch: Batch) -> PreparedStep | None:
    kind = _kind(model, batch)
    if kind is None:
        return None
    recurrent, dense = model.layers
    cell = recurrent.cell.kernel_cell(recurrent.unroll)
    params, grads = model.vectors()
    head_work = len(batch.x) * dense._weights["kernel"].size
    n_bytes = batch.x[..., 0].size * training_numbers(cell, batch.x.shape[2]) * params.itemsize
    if (
        head_work > tuning.MAX_PREPARED_HEAD
        or n_bytes > tuning.MAX_PREPARED_BYTES
        or not is_small(cell, batch.x.shape, model.n_threads)
    ):
        return None
    optimizer = model.optimizer
    if not optimizer.vectors(params.size):
        optimizer.build(params.size, params.dtype)
    head = Head(
        kind, dense._weights["kernel"], dense._weights["bias"], dense._grads["kernel"], dense._grads["bias"]
    )
    ends = [stop for _, stop in model.plan.variables]
    program = TrainingProgram(
        cell,
        recurrent.cell.kernel_weights(),
        head,
        batch.x.shape,
        recurrent.go_backwards,
        (params, grads, *optimizer.vectors(params.size)),
        ends,
    )
    return PreparedStep(program, kind, _made(model))


def _kind(model: Any, batch: Batch) -> int | None:
    """The kind of the loss, if model and batch are of the kind that can be prepared."""
    layers, trainer, optimizer = model.layers, model.trainer, model.optimizer
    if len(layers) != 2 or type(optimizer) is not Adam or type(layers[1]) is not Dense:
        return None
    recurrent, dense = layers
    if not isinstance(recurrent, RNN) or isinstance(recurrent, Bidirectional):
        return None
    cell, plan, objective = recurrent.cell, model.plan, trainer.objective
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
        and objective.loss_weight is None
        and batch.x.dtype == cell.dtype == dense.dtype
        and batch.x.shape[2] == len(cell._weights["kernel"])
    )
    if not plain:
        return None
    kind = _kind_of_loss(objective.loss, dense)
    if kind is None or _targets(kind, batch.y, dense.units, dense.dtype) is None:
        return None
    objective.resolve(batch.y, np.empty((len(batch.x), dense.units), dense.dtype))
    return kind if objective.is_loss_alone else None


def _kind_of_loss(loss: Any, dense: Dense) -> int | None:
    if type(loss) is losses.MeanSquaredError and dense.activation == "linear":
        return SQUARED
    if type(loss) is losses.BinaryCrossentropy and dense.activation == "sigmoid":
        return None if loss.from_logits or loss.label_smoothing else BINARY
    if type(loss) is losses.SparseCategoricalCrossentropy and dense.activation == "softmax":
        return None if loss.from_logits or loss.ignore_class is not None else SOFTMAX
    return None


def _targets(kind: int, y: Any, n_outputs: int, dtype: Any) -> np.ndarray | None:
    """`y` as rows of `dtype`, classes as one column of their numbers; None for targets that only the usual step can take."""
    y = np.asarray(y)
    n_columns = 1 if kind == SOFTMAX else n_outputs
    if y.ndim == 1:
        y = y[:, None]
    if y.ndim != 2 or y.shape[1] != n_columns or y.dtype.kind not in ("iu" if kind == SOFTMAX else "biuf"):
        return None
    if kind == SOFTMAX:
        if not y.size or y.min() < 0 or y.max() >= n_outputs:
            return None
    elif y.dtype.kind == "f" and np.isnan(y).any():
        return None  # missing targets
    result: np.ndarray | None = y.astype(dtype, copy=False)
    return result

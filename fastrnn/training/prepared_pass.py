"""The passes of a small network's training step in one or two calls of compiled code.

A network of recurrent layers and dense layers takes as long to train on a small batch as Python takes to call its kernels.
For batches of a shape that comes again and again, the kernel calls of forward and backward pass are prepared once, and run
from a list. They are the kernels of the layers' own passes, in the same order, so the numbers are bitwise the same. The
squared error is computed by a call of that list; other losses are computed between the passes.

What a prepared pass depends on is compared before each step, so settings of layers, loss, optimizer and model may change at
any time: the step is then computed as usual, and prepared again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from fastrnn import losses
from fastrnn.engine import tuning
from fastrnn.engine.recurrence.network_pass import DensePass, NetworkPass
from fastrnn.engine.recurrence.plans import is_long, needs_one_thread, slice_count, thread_count
from fastrnn.engine.recurrence.training import training_numbers
from fastrnn.engine.recurrence.training_pass import CellPass
from fastrnn.engine.runtime.jit import PLAIN
from fastrnn.layers.arithmetic import activate
from fastrnn.layers.bidirectional import Bidirectional
from fastrnn.layers.cells import Cell
from fastrnn.layers.core import Dense
from fastrnn.layers.recurrent import RNN
from fastrnn.targets import item_factors
from fastrnn.training.data import Batch

__all__ = ["PreparedPass", "PreparedPasses"]

#: Shapes of batches for which a trainer keeps what it knows. They are forgotten if there are more.
_MOST_SHAPES = 4
#: The number of batches that is kept where a pass can't be prepared: it is tried again after as many more.
_LATER = -1000

# Attributes that a pass follows and that may be set at any time.
_of_recurrent = attrgetter(
    "return_sequences",
    "go_backwards",
    "stateful",
    "return_state",
    "unroll",
    "_n_threads",
    "activity_regularizer",
    "cell.dropout",
    "cell.recurrent_dropout",
)
_of_dense = attrgetter("activation", "output_activation", "activity_regularizer")


class _Made(NamedTuple):
    """What a pass was made for; another object in the place of one makes it invalid."""

    params: np.ndarray
    plan: Any
    objective: Any
    loss: Any
    layers: tuple[Any, ...]
    #: For each layer, the function that returns its options, and what it returned.
    options: tuple[tuple[Callable[[Any], Any], Any], ...]


class PreparedPass:
    """The prepared forward and backward pass of a model, for batches of one shape.

    Parameters
    ----------
    model : Model
    network : NetworkPass
    made : _Made
    """

    def __init__(self, model: Any, network: NetworkPass, made: _Made) -> None:
        self.network, self._made = network, made
        #: All gradients, which are written.
        self.grads = model.vectors()[1]
        self._recurrent = [
            (layer, d_start)
            for layer, d_start in zip(made.layers, network.d_starts, strict=True)
            if d_start is not None
        ]
        last, loss = made.layers[-1], made.loss
        #: The activation whose inputs the pass computes, for the loss; None if it computes the outputs.
        self._activation = last.activation if _ends_in_logits(last, loss) else None
        #: For the squared error, its reduction when the factors were set.
        self._squared = type(loss) is losses.MeanSquaredError and self._activation is None
        self._reduction: Any = None

    def fits(self, model: Any) -> bool:
        """Whether nothing has changed of what the pass was made for."""
        made, layers, objective = self._made, model.layers, model.trainer.objective
        if (
            made.params is not model._params
            or made.plan is not model.plan
            or made.objective is not objective
            or made.loss is not objective.loss
            or len(layers) != len(made.layers)
        ):
            return False
        for layer, known, (options, values) in zip(layers, made.layers, made.options, strict=True):
            if layer is not known or options(layer) != values:
                return False
        return True

    def squared_error(self, batch: Batch, loss_weight: Any) -> float | None:
        """Compute the gradient of a squared error; return the loss. None, and nothing done, if it is another loss."""
        network, y = self.network, batch.y
        true = network.true
        if not self._squared or batch.weight is not None or loss_weight is not None:
            return None
        if type(y) is not np.ndarray or y.dtype.kind not in "biuf":
            return None
        if y.shape != true.shape:
            if true.shape[-1] != 1 or y.shape != true.shape[:-1]:
                return None
            true = true[..., 0]
        loss = self._made.loss
        if self._reduction is not loss.reduction:
            y_pred = network.y
            factor = item_factors(loss.reduction, y_pred.shape[:-1], y_pred.dtype, None, None)
            network.error.set_factor(factor)
            self._reduction = loss.reduction
        np.copyto(network.x, batch.x)
        np.copyto(true, y, casting="unsafe")
        result = network.both()
        self._note_starts()
        return result

    def forward(self, batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the outputs, and the inputs of the last activation if the loss is computed from them."""
        network = self.network
        np.copyto(network.x, batch.x)
        network.forward()
        if self._activation is None:
            return network.y, None
        logits = network.y
        by_time = logits.swapaxes(0, 1) if logits.ndim == 3 else logits
        rows = activate(self._activation, by_time.reshape(-1, logits.shape[-1]))
        y = rows.reshape(by_time.shape)
        return (y.swapaxes(0, 1) if logits.ndim == 3 else y), logits

    def backward(self, grad: np.ndarray) -> None:
        """Write the gradients of all weights, from that of the outputs, or of the inputs of the last activation."""
        np.copyto(self.network.dy, grad)
        self.network.backward()
        self._note_starts()

    def _note_starts(self) -> None:
        for layer, d_start in self._recurrent:
            layer.d_initial_state = d_start


class PreparedPasses:
    """The prepared passes of a model's trainer, and how often each shape of a batch has come."""

    def __init__(self) -> None:
        #: By shape, a pass, or the number of batches there were.
        self._known: dict[tuple[int, ...], PreparedPass | int] = {}

    def find(self, model: Any, batch: Batch) -> PreparedPass | None:
        """The prepared pass for a batch; None if its step is to be computed as usual."""
        x = batch.x
        if PLAIN or batch.mask is not None or type(x) is not np.ndarray or batch.y is None:
            return None
        known, shape = self._known, x.shape
        found = known.get(shape, 0)
        if isinstance(found, PreparedPass):
            model.refresh_plan()
            if found.fits(model) and x.dtype == found.network.x.dtype:
                return found
            found = 0
        if found < tuning.MIN_PASSES:
            if shape not in known and len(known) >= _MOST_SHAPES:
                known.clear()
            known[shape] = found + 1
            return None
        made = self._prepare(model, batch)
        known[shape] = _LATER if made is None else made
        return made

    @staticmethod
    def _prepare(model: Any, batch: Batch) -> PreparedPass | None:
        model.refresh_plan()
        made = _made(model, batch.x.shape)
        if made is None or batch.x.ndim != 3 or batch.x.dtype != made.params.dtype:
            return None
        passes = _passes_of(made, batch.x.shape)
        if passes is None:
            return None
        return PreparedPass(model, NetworkPass(passes, batch.x.shape, made.params.dtype), made)


def _made(model: Any, shape: tuple[int, ...]) -> _Made | None:
    """What a pass of a model for inputs of this shape depends on; None if the model has no prepared passes."""
    layers, plan, objective = model.training_stack(), model.plan, model.trainer.objective
    if (
        not layers
        or model._regularized
        or model._constrained
        or plan.tables
        or plan.runs != [(0, model.vectors()[0].size)]
        or not isinstance(objective.loss, losses.Loss)
    ):
        return None
    options: list[Callable[[Any], Any]] = []
    for layer in layers:
        kind = type(layer)
        if kind is Dense:
            options.append(_of_dense)
        elif (
            isinstance(layer, RNN)
            and not isinstance(layer, Bidirectional)
            and kind.forward is RNN.forward
            and kind.backward is RNN.backward
            and isinstance(layer.cell, Cell)
            and type(layer.cell).forward_sequence is Cell.forward_sequence
            and type(layer.cell).backward_sequence is Cell.backward_sequence
        ):
            options.append(_options_of(layer, shape))
        else:
            return None
    return _Made(
        model._params,
        plan,
        objective,
        objective.loss,
        tuple(layers),
        tuple((function, function(layer)) for function, layer in zip(options, layers, strict=True)),
    )


def _options_of(layer: Any, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """The function that returns what the passes of a recurrent layer depend on, for a model's inputs of this shape."""
    inputs = shape[0], shape[1], len(layer.cell._weights["kernel"])
    if needs_one_thread(layer.cell.kernel_cell(), *inputs, layer._n_threads):
        return _of_recurrent
    # The number of threads follows from the cores that are free.
    return lambda layer: (_of_recurrent(layer), _threads_of(layer, inputs))


def _threads_of(layer: Any, shape: tuple[int, ...]) -> int | None:
    """Number of threads that compute the sequences of a dense batch; None if they split each step, or the pass is long."""
    cell, most = layer.cell.kernel_cell(), layer._n_threads
    n_batch, n_steps, n_inputs = shape
    if 0 in shape or is_long(cell, n_batch * n_steps, n_inputs):
        return None
    if needs_one_thread(cell, n_batch, n_steps, n_inputs, most):
        return 1
    if slice_count(cell, n_batch, n_steps, n_inputs, most) > 1:
        return None
    return thread_count(cell, n_batch * n_steps, n_inputs, n_batch, most)


def _ends_in_logits(layer: Any, loss: Any) -> bool:
    return loss.logit_activation is not None and layer.output_activation == loss.logit_activation


def _passes_of(made: _Made, shape: tuple[int, ...]) -> list[CellPass | DensePass] | None:
    """The passes of the layers for inputs of this shape; None if one of them has none that can be prepared."""
    found: list[CellPass | DensePass] = []
    n_batch, n_steps, _ = shape
    x: np.ndarray | None = np.empty(shape, made.params.dtype)
    n_bytes = 0
    for layer in made.layers:
        if layer.activity_regularizer is not None:
            return None
        if type(layer) is Dense:
            last = layer is made.layers[-1]
            if not found or not (
                layer.activation == "linear" or (last and _ends_in_logits(layer, made.loss))
            ):
                return None
            weights, grads = layer._weights, layer._grads
            found.append(
                DensePass(weights["kernel"], weights.get("bias"), grads["kernel"], grads.get("bias"))
            )
            x = None
            continue
        cell = layer.cell
        if x is None or layer.stateful or layer.return_state or cell.makes_initial_state:
            return None  # a recurrent layer after one that returns no sequences, or after a dense one
        if cell.dropout or cell.recurrent_dropout:
            return None
        n_threads = _threads_of(layer, x.shape)
        if n_threads is None:
            return None
        n_bytes += math.prod(x.shape[:2]) * training_numbers(cell.kernel_cell(), x.shape[2]) * x.itemsize
        found.append(cell.cell_pass(x, layer._options(), n_threads))
        x = None
        if layer.return_sequences:
            x = np.empty((n_steps, n_batch, cell.units), made.params.dtype).transpose(1, 0, 2)
    return found if n_bytes <= tuning.MAX_PASS_BYTES else None

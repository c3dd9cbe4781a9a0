"""The network for an estimator's parameters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from fastrnn import cells, layers, regularizers
from fastrnn.engine.runtime.threads import resolve
from fastrnn.layers.named_cells import is_kernel_class
from fastrnn.models.sequential import Sequential
from fastrnn.optimizers import SGD, Adagrad, Adam, Optimizer, RMSprop
from fastrnn.sequences import Ragged
from fastrnn.training import loop
from fastrnn.training.data import Batch, Batches, like_lengths
from fastrnn.training.objective import Objective
from fastrnn.training.row_states import RowStates

#: Layers by the values of `cell`.
CELLS = {key: cell.__name__ for key, cell in cells.registered().items()}
SOLVERS = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD, "adagrad": Adagrad}

ARGUMENTS = (
    "cell",
    "units",
    "activation",
    "recurrent_activation",
    "bidirectional",
    "merge_mode",
    "dropout",
    "recurrent_dropout",
    "go_backwards",
    "stateful",
    "unroll",
    "return_sequences",
    "vocabulary_size",
    "embedding_dim",
    "alpha",
    "dtype",
)
"""Parameters of an estimator that define the network; the others define its training."""


def units_of(units: Any) -> tuple[Any, ...]:
    """Widths of the recurrent layers, first to last."""
    return tuple(units) if isinstance(units, (tuple, list)) else (units,)


def is_kernel(cell: Any) -> bool:
    """Whether `cell` is a cell of the engine, a class or an instance."""
    return is_kernel_class(cell if isinstance(cell, type) else type(cell))


def kernel_of(cell: Any, width: int) -> Any:
    """An instance of an engine's cell with `width` units; its other numbers are the given ones or the defaults."""
    return cell(n_units=width) if isinstance(cell, type) else cell._replace(n_units=width)


def build(p: Any, n_features: int, batch_size: int) -> Sequential:
    """Make the network for the parameters of the estimator `p`: embedding, recurrent layers, dropout, dense layer.

    The penalty on the kernels is divided by the batch size.
    """
    n_outputs, activation, _ = p._head()
    seed, penalty = int(p._rng.randint(2**31)), p.alpha / (2 * batch_size)
    common: dict[str, Any] = {"dtype": p.dtype}

    def shrink() -> Any:
        return regularizers.L2(penalty) if penalty else None

    stack: list[Any] = []
    if p.vocabulary_size is not None:
        stack.append(layers.Embedding(p.vocabulary_size, p.embedding_dim, **common))
    widths = units_of(p.units)
    for i, width in enumerate(widths):
        cell: dict[str, Any] = {
            "dropout": p.dropout,
            "recurrent_dropout": p.recurrent_dropout,
            "kernel_regularizer": shrink(),
            "recurrent_regularizer": shrink(),
            **common,
        }
        time: dict[str, Any] = {
            "stateful": p.stateful,
            "unroll": p.unroll,
            "return_sequences": p.return_sequences or i < len(widths) - 1,
            # Outputs are in processing order, so only the first layer reads backwards.
            "go_backwards": p.go_backwards and i == 0,
        }
        if isinstance(p.cell, str):
            own = cells.registered()[p.cell].definition
            cell |= {
                name: getattr(p, name)
                for name in ("activation", "recurrent_activation")
                if name in own.activations
            }
            if p.cell == "peephole_lstm":
                cell["peephole_regularizer"] = shrink()
            layer = getattr(layers, CELLS[p.cell])(int(width), **cell, **time)
        else:
            layer = layers.RNN(layers.KernelCell(kernel_of(p.cell, int(width)), **cell), **time)
        stack.append(layers.Bidirectional(layer, merge_mode=p.merge_mode) if p.bidirectional else layer)
    if p.dropout:
        # The same mask for all steps, as inside the recurrent layers.
        noise_shape = (None, 1, None) if p.return_sequences else None
        stack.append(layers.Dropout(p.dropout, noise_shape=noise_shape, **common))
    stack.append(layers.Dense(n_outputs, activation=activation, kernel_regularizer=shrink(), **common))
    model = Sequential(stack, seed=seed)
    model.build((None, None) if p.vocabulary_size is not None else (None, None, n_features))
    return model


def _optimizer(p: Any) -> Optimizer:
    """A new optimizer with the estimator's current settings."""
    if not isinstance(p.solver, str):
        result: Optimizer = copy.deepcopy(p.solver)
        return result
    more = {"momentum": 0.9, "nesterov": True} if p.solver == "sgd" else {}
    result = SOLVERS[p.solver](learning_rate=p.learning_rate_init, clipnorm=p.clipnorm, **more)
    return result


def compile_model(model: Sequential, p: Any) -> None:
    """Compile the network with a new optimizer and its loss."""
    model.compile(optimizer=_optimizer(p), loss=p._head()[2])


def follow(model: Sequential, p: Any) -> None:
    """Give the optimizer the estimator's current settings, and keep its moments."""
    if p.loss is not p._loss:
        model.trainer.objective = Objective(p._head()[2])
    if isinstance(p.solver, str) and p.solver == p._solver:
        model.optimizer.learning_rate = p.learning_rate_init
        model.optimizer.clipnorm = p.clipnorm
        return
    wanted = _optimizer(p)
    if type(wanted) is type(model.optimizer) and wanted.get_config() == model.optimizer.get_config():
        return
    wanted.go_on_from(model.optimizer)
    model.optimizer = wanted
    wanted.claim(model)
    model.plan_updates()


def use_threads(model: Sequential, n_jobs: int | None) -> None:
    """Limit the threads of the layers to `n_jobs`; None: the cores that are free when they run."""
    n_threads = None if n_jobs is None else resolve(n_jobs)
    for layer in model.layers:
        if layer.has_states:
            layer.n_threads = n_threads


def outputs(model: Sequential, X: Any, per_step: bool, row_states: RowStates | None = None) -> np.ndarray:
    """Compute the network's outputs: one row for each sequence, or for each valid step, in order.

    Parameters
    ----------
    X : ndarray or Ragged
    per_step : bool
    row_states : RowStates, optional
        What stateful layers start from, and what they end with; by default zeros, and nothing is kept.
    """
    n_samples = len(X)
    # Batches of sequences of similar lengths need less memory; the results do not depend on it.
    order = like_lengths(X.lengths, 256) if isinstance(X, Ragged) else None
    n_rows = n_samples
    if per_step:
        n_rows = len(X.values) if isinstance(X, Ragged) else n_samples * X.shape[1]
    result: np.ndarray | None = None
    data = Batches(X, batch_size=256)
    if row_states is None and any(layer.stateful for layer in model.layers):
        row_states = RowStates(model.layers)

    def compute(x: Any, mask: Any) -> np.ndarray:
        result: np.ndarray = model.run(Batch(x, None, None, mask), False).y
        return result

    for batch, out in loop.outputs(model, data, compute, row_states=row_states, order=order):
        rows = batch.rows
        if per_step:
            if isinstance(X, Ragged):
                rows, _ = X.steps_of(rows)
            else:
                rows = slice(rows.start * X.shape[1], rows.stop * X.shape[1])
            out = out.reshape(-1, out.shape[2]) if batch.mask is None else out[batch.mask]
        if result is None:
            result = np.empty((n_rows, out.shape[-1]), out.dtype)
        result[rows] = out
    assert result is not None
    return result

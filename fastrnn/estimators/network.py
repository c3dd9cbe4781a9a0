"""The network that an estimator's parameters describe."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn import layers, regularizers
from fastrnn.engine.runtime.threads import resolve
from fastrnn.models.sequential import Sequential
from fastrnn.optimizers import SGD, Adagrad, Adam, RMSprop

CELLS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "simple_rnn": "SimpleRNN",
    "peephole_lstm": "PeepholeLSTM",
    "janet": "JANET",
    "indrnn": "IndRNN",
}
_WITHOUT_GATES = ("simple_rnn", "indrnn")
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
"""Parameters of an estimator that say what the network is; the others say how to train it."""


def units_of(units: Any) -> tuple[Any, ...]:
    """Widths of the recurrent layers, first to last."""
    return tuple(units) if isinstance(units, (tuple, list)) else (units,)


def is_kernel(cell: Any) -> bool:
    """Whether it is a cell of the engine, as a class or with its numbers."""
    return "n_units" in getattr(cell, "_fields", ()) and callable(getattr(cell, "traits", None))


def kernel_of(cell: Any, width: int) -> Any:
    """The engine's cell `width` units wide, its other numbers as they are given or by default."""
    return cell(n_units=width) if isinstance(cell, type) else cell._replace(n_units=width)


def build(
    p: Any, n_features: int, n_outputs: int, activation: str | None, penalty: float, seed: int
) -> Sequential:
    """Make the network that the estimator `p` describes: embedding, recurrent layers, dropout, dense layer.

    `penalty` is the factor of the sum of squares of each kernel.
    """
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
            # Outputs come in processing order, so only the first layer has to turn around.
            "go_backwards": p.go_backwards and i == 0,
        }
        if isinstance(p.cell, str):
            cell["activation"] = p.activation
            if p.cell not in _WITHOUT_GATES:
                cell["recurrent_activation"] = p.recurrent_activation
            if p.cell == "peephole_lstm":
                cell["peephole_regularizer"] = shrink()
            layer = getattr(layers, CELLS[p.cell])(int(width), **cell, **time)
        else:
            layer = layers.RNN(layers.KernelCell(kernel_of(p.cell, int(width)), **cell), **time)
        stack.append(layers.Bidirectional(layer, merge_mode=p.merge_mode) if p.bidirectional else layer)
    if p.dropout:
        # One draw for all steps, as inside the recurrent layers.
        noise_shape = (None, 1, None) if p.return_sequences else None
        stack.append(layers.Dropout(p.dropout, noise_shape=noise_shape, **common))
    stack.append(layers.Dense(n_outputs, activation=activation, kernel_regularizer=shrink(), **common))
    model = Sequential(stack, seed=seed)
    model.build((None, None) if p.vocabulary_size is not None else (None, None, n_features))
    return model


def compile_model(model: Sequential, p: Any, loss: str) -> None:
    """Give the network a fresh optimizer and its loss."""
    if not isinstance(p.solver, str):
        optimizer = copy.deepcopy(p.solver)
    else:
        more = {"momentum": 0.9, "nesterov": True} if p.solver == "sgd" else {}
        optimizer = SOLVERS[p.solver](learning_rate=p.learning_rate_init, clipnorm=p.clipnorm, **more)
    model.compile(optimizer=optimizer, loss=loss)


def follow(model: Sequential, p: Any) -> None:
    """Let the optimizer go on with the step size that the estimator has now."""
    if isinstance(p.solver, str):
        model.optimizer.learning_rate = p.learning_rate_init
        model.optimizer.clipnorm = p.clipnorm


def use_threads(model: Sequential, n_jobs: int | None) -> None:
    """Give the recurrent layers so many threads at most; None: what is free when they run."""
    n_threads = None if n_jobs is None else resolve(n_jobs)
    for layer in model.layers:
        if hasattr(layer, "n_threads"):
            layer.n_threads = n_threads


def forward(model: Sequential, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Compute the outputs of a batch."""
    return model.run(model.layers[0].as_input(x), mask, False, False)[0]


def train_step(
    model: Sequential, x: np.ndarray, mask: Any, y: np.ndarray, weight: Any, n_steps: int | None = None
) -> float:
    """Update the weights from a batch, piece by piece of `n_steps`; return its loss."""
    return model.train_step(model.layers[0].as_input(x), y, weight, mask, n_steps)


def set_params(model: Sequential, params: np.ndarray) -> None:
    """Put weights back that were copied from the model's vector."""
    model.params[...] = params
    model.weights_changed()


@contextlib.contextmanager
def restored_on_error(model: Sequential | None) -> Iterator[None]:
    """Put weights and optimizer of an existing model back when the block fails."""
    if model is None:
        yield
        return
    params, optimizer, state = model.params.copy(), model.optimizer, model.optimizer.get_state()
    try:
        yield
    except BaseException:
        set_params(model, params)
        optimizer.set_state(state)
        model.compile(optimizer, model.loss)
        raise

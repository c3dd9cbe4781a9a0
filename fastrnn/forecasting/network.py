"""The network of a forecaster: how it is built and trained, and how its states are updated with new steps."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import layers, optimizers
from fastrnn.callbacks import EarlyStopping
from fastrnn.forecasting.distributions import Head, HorizonLoss
from fastrnn.models import Sequential
from fastrnn.schedules import CosineDecay
from fastrnn.sequences import Ragged
from fastrnn.training.progress import Progress

__all__ = ["CELLS", "Span", "advance", "build", "compile_model", "n_epochs", "spans_of", "train"]

CELLS = {
    "gru": "GRU",
    "lstm": "LSTM",
    "simple_rnn": "SimpleRNN",
    "peephole_lstm": "PeepholeLSTM",
    "janet": "JANET",
    "indrnn": "IndRNN",
}
SOLVERS = {
    "adam": optimizers.Adam,
    "rmsprop": optimizers.RMSprop,
    "sgd": optimizers.SGD,
    "adagrad": optimizers.Adagrad,
}
#: With max_iter="auto": the largest number of updates in one fit. Short series get fewer, 4 for each horizon of data,
#: because a network overfits if it is trained on 120 months for 300 epochs.
_UPDATES = 1500
_LEAST_UPDATES = 20
_UPDATES_PER_HORIZON = 4
_LEAST_EPOCHS = 4

States = list[list[NDArray[Any]]]
"""The states of each recurrent layer, arrays of shape (n_series, units)."""


class Span(NamedTuple):
    """Steps of a series that form one training sequence; targets before `first_origin` are left out."""

    series: int
    start: int
    stop: int
    first_origin: int


def spans_of(lengths: list[int], batch_size: int, piece: int) -> list[Span]:
    """Cut long series, so that there are enough sequences for a batch.

    A sequence starts up to `piece` steps before its first target, so that its states do not depend on their initial value.

    Parameters
    ----------
    lengths : list of int
        Steps of each series.
    batch_size, piece : int
        Number of sequences in a batch, and of steps in a piece of truncated backpropagation.
    """
    longest = max(-(-sum(lengths) // batch_size), 2 * piece)
    spans = []
    for i, length in enumerate(lengths):
        n_cuts = max(length // longest, 1)
        bounds = [length * j // n_cuts for j in range(n_cuts + 1)]
        for begin, stop in itertools.pairwise(bounds):
            spans.append(Span(i, max(begin - piece, 0), stop, begin))
    return spans


def build(p: Any, n_features: int, head: Head, seed: int) -> Sequential:
    """Return the network for the forecaster's parameters `p`.

    The weights of the output layer are zero, so that training starts from the reference forecast.
    """
    dropout = p.dropout_
    widths = (p.units,) if isinstance(p.units, (int, np.integer)) else tuple(p.units)
    stack: list[Any] = [layers.Input((None, n_features))]
    for width in widths:
        stack.append(
            getattr(layers, CELLS[p.cell])(
                int(width),
                return_sequences=True,
                dropout=dropout,
                recurrent_dropout=p.recurrent_dropout,
                dtype=p.dtype,
            )
        )
    if dropout:
        stack.append(layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=p.dtype))
    stack.append(layers.Dense(head.horizon * head.n_outputs, kernel_initializer="zeros", dtype=p.dtype))
    model = Sequential(stack, seed=seed)
    for layer in model.layers:
        if p.n_jobs is not None and layer.has_states:
            layer.n_threads = p.n_jobs if p.n_jobs > 0 else None
    return model


def n_epochs(max_iter: int | str, spans: list[Span], p: Any) -> tuple[int, int]:
    """Number of epochs, and of updates in each."""
    batch_size, piece, horizon = p.batch_size, p.truncated_bptt_steps, p.horizon
    pieces = sum(-(-(s.stop - s.start) // piece) for s in spans) / len(spans)
    updates = max(round(-(-len(spans) // batch_size) * pieces), 1)
    if max_iter != "auto":
        return int(max_iter), updates
    n_steps = sum(s.stop - s.first_origin for s in spans)
    wanted = min(max(_UPDATES_PER_HORIZON * n_steps // horizon, _LEAST_UPDATES), _UPDATES)
    return max(-(-wanted // updates), _LEAST_EPOCHS), updates


def compile_model(model: Sequential, p: Any, head: Head, n_updates: int) -> None:
    """Compile the network with its loss and a new optimizer, whose learning rate decreases to zero in `n_updates`."""
    if isinstance(p.solver, str):
        rate: Any = p.learning_rate_init
        if p.learning_rate == "cosine":
            rate = CosineDecay(rate, n_updates, alpha=0.01)
        more = {"momentum": 0.9, "nesterov": True} if p.solver == "sgd" else {}
        solver = SOLVERS[p.solver](learning_rate=rate, clipnorm=p.clipnorm, **more)
    else:
        solver = copy.deepcopy(p.solver)
    model.compile(solver, HorizonLoss(head))


def train(
    model: Sequential,
    p: Any,
    sequences: tuple[list[NDArray[Any]], list[NDArray[Any]]],
    held_out: list[NDArray[Any]] | None,
    epochs: int,
    callbacks: Any = None,
) -> Any:
    """Fit the network to sequences of features and targets.

    Parameters
    ----------
    sequences : tuple of two lists
        Features (n_steps, n_features) and targets (n_steps, ...), NaN where they are missing.
    held_out : list of ndarray, optional
        Targets for validation, in the form of the training targets; the weights of the best epoch are kept.

    Returns
    -------
    History
    """
    x, y = (Ragged.from_list(part, dtype=p.dtype) for part in sequences)
    calls: list[Any] = list(callbacks or ())
    validation = None
    if held_out is not None:
        validation = (x, Ragged.from_list(held_out, dtype=p.dtype))
        calls.append(EarlyStopping(patience=p.n_iter_no_change, restore_best_weights=True))
    if p.verbose:
        calls.append(Progress(int(p.verbose), type(p).__name__))
    return model.fit(
        x,
        y,
        batch_size=p.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=calls,
        validation_data=validation,
        shuffle=p.shuffle,
        truncated_bptt_steps=p.truncated_bptt_steps,
    )


def advance(
    model: Sequential, features: list[NDArray[Any]], states: States | None, stream: Any = None
) -> tuple[NDArray[Any], States, Any]:
    """Update the states of several series with new steps.

    Parameters
    ----------
    features : list of ndarray of shape (n_steps_i, n_features)
        At least one step for each series.
    states : list, optional
        States before the new steps; zero by default.
    stream : Stream, optional
        The stream of an earlier call with the same number of series and the same weights.

    Returns
    -------
    outputs : ndarray of shape (n_series, n_outputs)
        Outputs at the last step of each series.
    states : list
    stream : Stream
    """
    n = len(features)
    if stream is None or stream.batch_size != n:
        stream = model.stream(n)
    if states is None:
        stream.reset()
    else:
        stream.states = states
    if n == 1:
        for row in features[0]:
            out = stream.step(row[None])
        return out.copy(), stream.states, stream
    lengths = np.array([len(f) for f in features])
    longest = int(lengths.max())
    # All series end at the last step of the loop; a shorter series gets its states at the step at which it begins.
    x = np.zeros((longest, n, features[0].shape[1]), features[0].dtype)
    for i, part in enumerate(features):
        x[longest - len(part) :, i] = part
    begin = longest - lengths
    first = stream.states if states is not None else None
    for t in range(longest):
        rows = np.flatnonzero(begin == t)
        if t and len(rows):
            if first is None:
                stream.reset(rows)
            else:
                now = stream.states
                for layer, before in zip(now, first, strict=True):
                    for array, start in zip(layer, before, strict=True):
                        array[rows] = start[rows]
                stream.states = now
        out = stream.step(x[t])
    return out.copy(), stream.states, stream

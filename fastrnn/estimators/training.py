"""Batches, epochs and carried states: what the estimators do with a network once the input is valid."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrnn.estimators.network import Sequential, forward, set_params, train_step
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.sequences import Ragged

States = list[list[np.ndarray]]
"""For each recurrent layer, its states over all rows: arrays of shape (n_rows, ...)."""


@dataclasses.dataclass
class Data:
    """Sequences, targets and weights, of which batches are cut without a copy of the whole."""

    X: np.ndarray | Ragged
    per_step: bool
    y: np.ndarray | Ragged | None = None
    weight: np.ndarray | Ragged | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def n_rows(self) -> int:
        """Number of outputs of the network: of sequences, or of real steps."""
        if not self.per_step:
            return len(self.X)
        return len(self.X.values) if isinstance(self.X, Ragged) else self.X.shape[0] * self.X.shape[1]

    def batch(self, index: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray | None, Any, Any]:
        """Return inputs, mask (None if all steps count), targets and weights of the samples in `index`."""
        mask = None
        if isinstance(self.X, Ragged):
            x, mask = self.X.take(index)
            if mask.all():
                mask = None
        else:
            x = self.X[index]
        return x, mask, _take(self.y, index), _take(self.weight, index)

    def rows(self) -> tuple[Any, Any]:
        """Return targets and weights with one row for each sequence or real step, as :func:`outputs` has them."""

        def flat(a: Any) -> Any:
            if isinstance(a, Ragged):
                return a.values
            return a.reshape(-1, *a.shape[2:]) if self.per_step and a is not None else a

        return flat(self.y), flat(self.weight)

    def subset(self, index: np.ndarray) -> Data:
        """Cut out some samples as a data set of its own."""
        y, weight = (None if a is None else a[index] for a in (self.y, self.weight))
        return Data(self.X[index], self.per_step, y, weight)


def _take(a: np.ndarray | Ragged | None, index: np.ndarray | slice) -> np.ndarray | None:
    if a is None:
        return None
    return a.take(index)[0] if isinstance(a, Ragged) else a[index]


def batches(order: np.ndarray | int, size: int) -> Iterator[Any]:
    """Cut an order of samples, or the first so many of them, into batches."""
    n = order if isinstance(order, int) else len(order)
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        yield part if isinstance(order, int) else order[part]


class CarriedStates:
    """States of the recurrent layers of a model, one row for each sequence of a call.

    The layers themselves hold states only while a batch runs. So a network can be used with any batch size in
    between, and is pickled without them.
    """

    def __init__(self, model: Sequential, states: States | None, n_rows: int) -> None:
        self.layers = [layer for layer in model.layers if getattr(layer, "stateful", False)]
        self.states = states
        self.n_rows = n_rows
        self.after: States = []

    def enter(self, index: np.ndarray | slice) -> None:
        """Let the layers start from the states of these rows."""
        for i, layer in enumerate(self.layers):
            layer.states = None if self.states is None else [s[index].copy() for s in self.states[i]]

    def leave(self, index: np.ndarray | slice) -> None:
        """Take the states of these rows from the layers."""
        for i, layer in enumerate(self.layers):
            if len(self.after) == i:
                self.after.append([np.zeros((self.n_rows, *s.shape[1:]), s.dtype) for s in layer.states])
            for whole, part in zip(self.after[i], layer.states, strict=True):
                whole[index] = part

    def clear(self) -> None:
        """Leave the layers without states."""
        for layer in self.layers:
            layer.states = None


def outputs(model: Sequential, data: Data, states: States | None = None, size: int = 256) -> np.ndarray:
    """Compute the network's outputs: one row for each sequence, or for each real step, in order."""
    n = len(data)
    index: Any = n
    ragged = data.X if isinstance(data.X, Ragged) else None
    if ragged is not None:
        # Sequences of like length share a batch. Results don't depend on it; memory does.
        index = np.argsort(ragged.lengths, kind="stable")
    carried = CarriedStates(model, states, n)
    result: np.ndarray | None = None
    rows: Any
    try:
        for part in batches(index, size):
            x, mask, _, _ = data.batch(part)
            carried.enter(part)
            out = forward(model, x, mask)
            if data.per_step and ragged is not None:
                rows, _ = ragged.steps_of(part)
                out = out.reshape(-1, out.shape[2]) if mask is None else out[mask]
            elif data.per_step:
                steps = out.shape[1]
                rows, out = slice(part.start * steps, part.stop * steps), out.reshape(-1, out.shape[2])
            else:
                rows = part
            if result is None:
                result = np.empty((data.n_rows, out.shape[-1]), out.dtype)
            result[rows] = out
    finally:
        carried.clear()
    assert result is not None
    return result


@dataclasses.dataclass
class Progress:
    """What training has to tell."""

    loss_curve: list[float] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)
    best_score: float = -math.inf
    ended_early: bool = False
    failure: NonFiniteLossError | None = None


@dataclasses.dataclass
class Schedule:
    """How to train: the estimator's arguments; `n_steps` is its `truncated_bptt_steps`."""

    batch_size: int
    n_steps: int | None
    max_iter: int
    shuffle: bool
    tol: float | None
    n_iter_no_change: float
    verbose: int
    title: str


def run_epoch(
    model: Sequential,
    data: Data,
    order: np.ndarray | int,
    batch_size: int,
    carried: CarriedStates,
    carry: bool = False,
    n_steps: int | None = None,
) -> float:
    """One pass over the data; the mean loss over its samples. `n_steps`: length of pieces with gradients of their own."""
    total, n = 0.0, len(data)
    try:
        for part in batches(order, batch_size):
            x, mask, y, weight = data.batch(part)
            carried.enter(part)
            total += train_step(model, x, mask, y, weight, n_steps) * len(x)
            if carry:
                carried.leave(part)
    finally:
        carried.clear()
    return total / n


def run_epochs(
    model: Sequential,
    data: Data,
    schedule: Schedule,
    rng: np.random.RandomState,
    validate: Callable[[], float] | None,
    progress: Progress,
) -> None:
    """Train until the loss, or the validation score, stops to improve; write into `progress` as it goes.

    With `validate` the best weights are put back in the end. When loss or weights stop being finite numbers, the weights
    of the last good epoch are put back, and `progress` holds the error; where there is no such epoch it is raised.
    """
    epochs, waited, best_loss, updates = 0, 0, math.inf, 0
    before = good = model.snapshot()
    best = good[0]
    carried = CarriedStates(model, None, len(data))
    bar = _bar(schedule)
    try:
        for _ in range(schedule.max_iter):
            order = rng.permutation(len(data)) if schedule.shuffle else len(data)
            updates = model.optimizer.iterations
            loss = run_epoch(model, data, order, schedule.batch_size, carried, n_steps=schedule.n_steps)
            model.check_weights()
            score = validate() if validate else None
            before, good = good, model.snapshot()
            epochs += 1
            progress.loss_curve.append(loss)
            shown = {"loss": f"{loss:.4g}"}
            margin = schedule.tol or 0.0
            if score is None:
                waited = waited + 1 if loss > best_loss - margin else 0
                best_loss = min(loss, best_loss)
            else:
                progress.scores.append(score)
                shown["validation score"] = f"{score:.4g}"
                waited = waited + 1 if not score >= progress.best_score + margin else 0
                if score > progress.best_score:
                    progress.best_score, best = score, good[0]
            bar.set_postfix(shown, refresh=False)
            bar.update()
            if schedule.tol is not None and waited > schedule.n_iter_no_change:
                progress.ended_early = True
                break
    except KeyboardInterrupt:
        if not epochs:
            raise
        if not np.isfinite(model.params).all():
            model.restore(good)
        progress.ended_early = True
        warnings.warn("Training interrupted by user.", stacklevel=4)
    except NonFiniteLossError as error:
        failed = epochs + 1
        if epochs and not validate and model.optimizer.iterations == updates:
            # At the first update: what the epoch started from is not good either.
            good, epochs = before, epochs - 1
            del progress.loss_curve[-1]
        model.restore(good)
        kept = f"The weights after epoch {epochs} are kept." if epochs else "Nothing was kept of this call."
        failure = NonFiniteLossError(
            f"the loss, its gradient or a weight became NaN or infinite in epoch {failed}. {kept} What usually helps: a "
            "lower learning_rate_init, a clipnorm (such as 1.0), scaled input and targets (StandardScaler3D), "
            "activation='tanh', dtype='float64'."
        )
        failure.__cause__ = error
        if not epochs:
            raise failure from error
        progress.ended_early, progress.failure = True, failure
    finally:
        bar.close()
    if validate and progress.scores:
        set_params(model, best)


class _NoBar:
    def set_postfix(self, *args: Any, **kwargs: Any) -> None: ...

    def update(self) -> None: ...

    def close(self) -> None: ...


def _bar(schedule: Schedule) -> Any:
    if not schedule.verbose:
        return _NoBar()
    from tqdm.auto import tqdm

    return tqdm(total=schedule.max_iter, desc=schedule.title, unit="epoch")

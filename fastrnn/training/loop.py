"""The loop over epochs for models and estimators, and the loops over batches for evaluation and prediction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.kernels.update import all_finite
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.sequences import Ragged
from fastrnn.training.callback import CallbackList
from fastrnn.training.data import Batch, Batches, like_lengths, restarting
from fastrnn.training.guard import Changes, guard, states
from fastrnn.training.prepared import pays
from fastrnn.training.prepared_epoch import PreparedEpochs
from fastrnn.training.row_states import RowStates

__all__ = ["Outcome", "Policy", "Schedule", "Task", "evaluate", "outputs", "predict", "run_epochs"]


class Schedule(NamedTuple):
    """Numbers of epochs and steps, and the order of samples."""

    epochs: int
    initial_epoch: int = 0
    #: Whether to shuffle the samples before each epoch; "batch" shuffles within batches.
    shuffle: bool | str = True
    #: Number of batches of an epoch; None: all.
    steps_per_epoch: int | None = None
    #: Time steps between two updates in truncated backpropagation through time; None: whole sequences.
    truncated_bptt_steps: int | None = None
    #: Validate after every `validation_freq` epochs, or after these epochs (counted from 1).
    validation_freq: int | Sequence[int] = 1


class Policy(NamedTuple):
    """What to do if training fails or is interrupted, and which weights to keep at the end."""

    #: Be able to go back to the last finite weights when training fails. Without, errors are raised as they come.
    keep_good: bool = True
    #: Whether Ctrl-C after the first epoch ends training without an error.
    keep_interrupted: bool = False
    #: Key of the logs; the weights of the epoch with its largest value are restored at the end.
    best_of: str | None = None


class Task(NamedTuple):
    """Arguments of `run_epochs`."""

    data: Batches
    schedule: Schedule
    rng: np.random.Generator | np.random.RandomState
    policy: Policy = Policy()
    #: Called after an epoch; returns values for its logs.
    validate: Callable[[], dict[str, float]] | None = None
    #: Initial states of the sequences, if layers do not keep them between batches.
    row_states: RowStates | None = None
    #: Records the updates, where the caller undoes them if training fails.
    changes: Changes | None = None


@dataclasses.dataclass
class Outcome:
    """The result of training."""

    #: Number of complete epochs of the model's weights.
    epochs: int = 0
    #: The error that ended training, unless a callback handled it.
    failure: NonFiniteLossError | None = None
    #: Numbers of the last epoch and of the last batch that were started, counted from 0.
    epoch: int = 0
    batch: int = 0
    #: The interrupt (Ctrl-C) that ended training, where the policy keeps what was trained until then.
    interrupt: KeyboardInterrupt | None = None


class _Weights:
    """What a failure goes back to, and a copy of the best weights.

    Updates are recorded anew from the first of an epoch on, when loss and gradient have been found finite. What an epoch
    ends with is not known to be good before that.
    """

    def __init__(self, model: Any, best_of: str | None) -> None:
        self.model, self.best_of = model, best_of
        #: The updates since the last weights that are known to be good.
        self.changes: Changes | None = None
        self.best: np.ndarray | None = None
        self.best_value = -math.inf

    def first_update(self) -> None:
        """Take the weights as good, and record the updates from here on."""
        self.changes = None  # its memory is free before new memory is taken
        self.changes = Changes(self.model)
        self.model.trainer.before_update = self.changes.before_update
        self.changes.before_update()

    def complete_epoch(self, logs: dict[str, float]) -> None:
        if self.best_of is not None and logs[self.best_of] > self.best_value:
            self.best_value = logs[self.best_of]
            if self.best is None:
                self.best = np.empty_like(self.model.weight_vector)
            np.copyto(self.best, self.model.weight_vector)

    def recover(self, updates: int) -> bool:
        """Restore the last good weights after `updates` updates of the failed epoch; return whether an epoch is lost."""
        # If the first update fails, the weights before it are not good either, unless they were validated.
        lost = updates == 0 and self.best_of is None
        if lost or updates > 0:
            self.restore()
        return lost

    def restore(self) -> None:
        """Put back the last weights that are known to be good."""
        if self.changes is not None:
            self.changes.restore()

    def finish(self) -> None:
        if self.best is not None:
            self.model.params = self.best


def run_epochs(model: Any, task: Task, calls: CallbackList) -> Outcome:
    """Train a model for several epochs.

    An epoch runs all batches, checks that the weights are finite, validates, calls the callbacks, and keeps a copy of the
    weights. Training ends after the last epoch, or when a callback sets ``model.stop_training``.

    Parameters
    ----------
    model : Model
        Built and compiled.
    task : Task
    calls : CallbackList

    Returns
    -------
    Outcome
        Its `failure` is set if the loss, a gradient or a weight became NaN or infinite; good weights were then restored.

    Raises
    ------
    NonFiniteLossError
        In this case if ``policy.keep_good`` is False, as there are no other weights to restore.
    """
    trainer, schedule, policy = model.trainer, task.schedule, task.policy
    trainer.stop_training = False
    outcome, logs = Outcome(), {}
    calls.call("on_train_begin", {})
    stream = None
    if schedule.steps_per_epoch is not None:
        stream = restarting(task.data, task.rng, schedule.shuffle)
    weights = _Weights(model, policy.best_of) if policy.keep_good else None
    trainer.prepares = pays(schedule.steps_per_epoch or task.data.n_batches)
    prepared = _prepared_epochs(model, task, calls) if trainer.prepares else None
    updates = trainer.optimizer.iterations
    try:
        for outcome.epoch in range(schedule.initial_epoch, schedule.epochs):
            trainer.objective.reset()
            calls.call("on_epoch_begin", outcome.epoch, {})
            updates = trainer.optimizer.iterations
            if weights is not None:
                trainer.before_update = weights.first_update
            elif task.changes is not None:
                trainer.before_update = task.changes.before_update
            if prepared is None or not prepared.run(task.rng, outcome):
                divide = schedule.truncated_bptt_steps is None and may_be_divided(model)
                batches = (
                    task.data.epoch(task.rng, schedule.shuffle, divide=divide) if stream is None else stream
                )
                _run_batches(model, batches, task, calls, outcome)
            trainer.check_weights(model, task.changes)
            logs = trainer.objective.logs()
            if task.validate is not None and _due(outcome.epoch, schedule.validation_freq):
                logs.update(task.validate())
            outcome.epochs += 1
            calls.call("on_epoch_end", outcome.epoch, logs)
            if weights is not None:
                weights.complete_epoch(logs)
            if trainer.stop_training:
                break
    except NonFiniteLossError as error:
        if weights is None:
            raise
        if weights.recover(trainer.optimizer.iterations - updates) and outcome.epochs:
            outcome.epochs -= 1
        if not calls.non_finite_loss(outcome.batch):
            outcome.failure = error
    except KeyboardInterrupt as interrupt:
        if not (policy.keep_interrupted and outcome.epochs):
            raise
        if weights is not None and not all_finite(model.weight_vector):
            weights.restore()
        outcome.interrupt = interrupt
    finally:
        trainer.before_update = trainer.later = None
        trainer.prepares = False
        # Also after Ctrl-C, so that callbacks close their files and the model can be used.
        calls.call("on_train_end", logs)
    if weights is not None:
        weights.finish()
    return outcome


def _prepared_epochs(model: Any, task: Task, calls: CallbackList) -> PreparedEpochs | None:
    """Epochs whose updates are made by compiled code; None if something is to be done between the updates."""
    data, schedule = task.data, task.schedule
    if (
        not PreparedEpochs.suits(data)
        or schedule.steps_per_epoch is not None
        or (schedule.truncated_bptt_steps is not None and schedule.truncated_bptt_steps < data.x.shape[1])
        or task.row_states is not None
        or calls.follows_training_batches
    ):
        return None
    return PreparedEpochs(model, data, schedule.shuffle)


def _run_batches(
    model: Any, batches: Iterator[Batch], task: Task, calls: CallbackList, outcome: Outcome
) -> None:
    """Make the updates of one epoch."""
    trainer, row_states = model.trainer, task.row_states
    limit, n_steps = task.schedule.steps_per_epoch, task.schedule.truncated_bptt_steps
    as_input = _reader(model, task.data)
    i = 0
    try:
        for batch in batches:
            outcome.batch = i
            calls.batch("train_begin", i, dict)
            if row_states is not None:
                row_states.enter(batch.rows)
            trainer.train(model, _converted(batch, as_input), n_steps)
            if row_states is not None:
                row_states.leave(batch.rows)
            calls.batch("train_end", i, trainer.objective.logs)
            i += 1
            if i == limit or trainer.stop_training:
                break
    finally:
        if row_states is not None:
            row_states.clear()
    if i == 0:
        raise ValueError("x gave no batches: an iterable must start again each time it is iterated")


def may_be_divided(model: Any) -> bool:
    """Whether batches may be computed in parts: no layer keeps the states of their rows, and the loss is a mean."""
    return model.trainer.objective.is_mean and not any(layer.stateful for layer in model.layers)


def _converted(batch: Batch, as_input: Callable[[Any], Any]) -> Batch:
    if batch.parts:
        return batch._replace(parts=tuple(_converted(part, as_input) for part in batch.parts))
    return batch._replace(x=as_input(batch.x))


def _reader(model: Any, data: Batches) -> Callable[[Any], Any]:
    """A function that converts the inputs of batches; batches of an iterable may have different shapes."""
    result: Callable[[Any], Any] = model.as_input if data.stream else model.layers[0].as_input
    return result


def _due(epoch: int, frequency: Any) -> bool:
    return epoch + 1 in frequency if isinstance(frequency, Sequence) else (epoch + 1) % frequency == 0


def evaluate(model: Any, data: Batches, calls: CallbackList, steps: int | None = None) -> dict[str, float]:
    """Compute loss and metrics over `data`, or the first `steps` batches of it."""
    trainer = model.trainer
    trainer.objective.reset()
    calls.call("on_test_begin", {})
    as_input = _reader(model, data)
    for i, batch in enumerate(data.epoch(divide=may_be_divided(model))):
        if i == steps:
            break
        calls.batch("test_begin", i, dict)
        trainer.test(model, _converted(batch, as_input))
        calls.batch("test_end", i, trainer.objective.logs)
    logs = trainer.objective.logs()
    calls.call("on_test_end", logs)
    result: dict[str, float] = logs
    return result


def outputs(
    model: Any,
    data: Batches,
    compute: Callable[[Any, Any], np.ndarray],
    calls: CallbackList | None = None,
    row_states: RowStates | None = None,
    order: list[np.ndarray] | None = None,
    steps: int | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield each batch, or the first `steps` of them, and the result of `compute` for its inputs and mask."""
    as_input = _reader(model, data)
    if calls is not None:
        calls.call("on_predict_begin", {})
    try:
        for i, batch in enumerate(data.epoch(order=order)):
            if i == steps:
                break
            if calls is not None:
                calls.batch("predict_begin", i, dict)
            if row_states is not None:
                row_states.enter(batch.rows)
            y = compute(as_input(batch.x), batch.mask)
            if row_states is not None:
                row_states.leave(batch.rows)
            if calls is not None:
                calls.batch("predict_end", i, dict)
            yield batch, y
    finally:
        if row_states is not None:
            row_states.clear()
    if calls is not None:
        calls.call("on_predict_end", {})


def predict(
    model: Any,
    data: Batches,
    compute: Callable[[Any, Any], np.ndarray],
    calls: CallbackList,
    steps: int | None = None,
    longest: int | None = None,
) -> np.ndarray:
    """Join the results of `compute` for all batches; `longest` is the number of time steps of the joined outputs."""
    with guard(*states(model.layers)), calls:
        order = None
        if isinstance(data.x, Ragged) and steps is None and not any(layer.stateful for layer in model.layers):
            order = like_lengths(data.x.lengths, data.batch_size)
            calls.params["steps"] = len(order)
        found = outputs(model, data, compute, calls, order=order, steps=steps)
        if data.stream or steps is not None:
            return _joined([np.array(y) for _, y in found])
        result: np.ndarray | None = None
        for batch, y in found:
            if result is None:
                n_steps = y.shape[1:2] if longest is None or y.ndim < 3 else (longest,)
                result = np.zeros((data.n, *n_steps, *y.shape[2:]), y.dtype)
            if longest is not None and y.ndim > 2 and batch.mask is not None:
                # Set outputs at padding to zero, so that they do not depend on the other sequences of the batch.
                y = np.where(batch.mask[:, : y.shape[1], None], y, y.dtype.type(0))
            if y.ndim > 2:
                result[batch.rows, : y.shape[1]] = y[:, : result.shape[1]]
            else:
                result[batch.rows] = y
    assert result is not None
    return result


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Join the outputs of batches of an iterable."""
    if not parts:
        raise ValueError("x gave no batches")
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError(
            "the batches of x have different numbers of steps, so their outputs can't be joined: call "
            "predict_on_batch for each"
        )
    return np.concatenate(parts)

"""Epochs of small networks, whose updates are made by few calls of compiled code."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.recurrence.epoch import Samples, Updates
from fastrnn.schedules import LearningRateSchedule
from fastrnn.training.data import Batch, Batches
from fastrnn.training.prepared import PreparedStep, prepared_step

__all__ = ["PreparedEpochs"]


class _Part(NamedTuple):
    """Successive batches of one size."""

    step: PreparedStep
    updates: Updates
    first: int
    stop: int


class PreparedEpochs:
    """Epochs over the same samples, as far as :class:`~fastrnn.training.prepared.PreparedStep` takes their batches.

    Parameters
    ----------
    model : Model
    data : Batches
        Without a mask, and not a stream.
    shuffle : bool or "batch"
    """

    def __init__(self, model: Any, data: Batches, shuffle: bool | str) -> None:
        self._model, self._data, self._shuffle = model, data, shuffle
        self._parts: list[_Part] | None = None
        self._samples: Any = None

    @staticmethod
    def suits(data: Batches) -> bool:
        """Whether the data are arrays of sequences without a mask, with one target for each, all of some weight."""
        weight = data.sample_weight
        return (
            not data.stream
            and isinstance(data.x, np.ndarray)
            and data.x.ndim == 3
            and data.x.dtype in (np.float32, np.float64)
            and data.mask is None
            and isinstance(data.y, np.ndarray)
            and (weight is None or (np.shape(weight) == (len(data.y),) and bool(np.all(weight))))
        )

    def run(self, rng: Any, outcome: Any) -> bool:
        """Make the updates of an epoch; return False, and do nothing, if they can't be made in this way.

        Parameters
        ----------
        rng : Generator or RandomState
            Draws the order of the samples.
        outcome : Outcome
            Its `batch` is set to the number of the batch that is computed.

        Raises
        ------
        NonFiniteLossError
            If loss or gradient of a batch is not finite. The updates of the batches before it are made.
        """
        parts = self._ready()
        if parts is None:
            return False
        model, place = self._model, self._place
        trainer, optimizer = model.trainer, model.optimizer
        weights = self._arrange(parts, rng)
        before = optimizer.iterations
        place[:2] = 0
        try:
            for part in parts:
                while place[0] < part.stop:
                    outcome.batch = int(place[0])
                    trainer.check_step(*part.updates.gradient())
                    if trainer.before_update is not None:
                        trainer.before_update()
                    stop = min(int(place[0]) + part.step.program.at_once, part.stop)
                    part.updates.run(stop)
                    if place[0] < stop:
                        outcome.batch = int(place[0])
                        trainer.check_step(*part.updates.last)
        finally:
            # Also after Ctrl-C, so that the optimizer counts the updates that were made.
            optimizer.iterations = before + int(place[0])
            model.weights_changed()
        self._add_losses(parts, weights)
        return True

    def _arrange(self, parts: list[_Part], rng: Any) -> np.ndarray | None:
        """Write the order of an epoch, the factors of losses, and the optimizer's numbers; return the weights in order."""
        data, samples, model = self._data, self._samples, self._model
        order = data.order(rng, self._shuffle)
        samples.y_order[...] = np.arange(data.start, data.stop) if order is None else order
        samples.x_order[...] = samples.y_order if data.places is None else data.places[samples.y_order]
        weights = None if data.sample_weight is None else data.sample_weight[samples.y_order]
        for part in parts:
            self._write_factors(part, weights)
        samples.numbers[...] = model.optimizer.next_numbers(model.vectors()[0].dtype, len(samples.numbers))
        return weights

    def _write_factors(self, part: _Part, weights: np.ndarray | None) -> None:
        """The factors of the losses of all samples in these batches."""
        n = len(part.step.program.x)
        for i in range(part.first, part.stop):
            rows = self._rows(i, n)
            weight = None if weights is None else weights[rows]
            self._samples.factors[rows] = part.step.factors(n, weight)

    def _rows(self, i: int, n: int) -> slice:
        return slice(i * self._data.batch_size, i * self._data.batch_size + n)

    def _add_losses(self, parts: list[_Part], weights: np.ndarray | None) -> None:
        """Add the losses of the batches that were computed to the mean of the epoch."""
        objective = self._model.trainer.objective
        for part in parts:
            y, n = part.step.program.y, len(part.step.program.x)
            for i in range(part.first, part.stop):
                weight = None if weights is None else weights[self._rows(i, n)]
                objective.add(float(self._samples.losses[i]), y, y, weight, None)

    def _ready(self) -> list[_Part] | None:
        """The parts of an epoch; None if its updates can't be made in this way."""
        model = self._model
        schedule = model.optimizer._schedule
        if schedule is not None and not isinstance(schedule, LearningRateSchedule):
            return None  # a function that may count its calls
        model.bind_weights()
        model.refresh_plan()
        if self._parts is None or not all(part.step.fits(model) for part in self._parts):
            self._parts = self._prepare()
        return self._parts

    def _prepare(self) -> list[_Part] | None:
        data = self._data
        n_full, n_rest = divmod(data.n, data.batch_size)
        sizes = [(data.batch_size, n_full)] * (n_full > 0) + [(n_rest, 1)] * (n_rest > 0)
        steps = [prepared_step(self._model, self._example(size)) for size, _ in sizes]
        if any(step is None for step in steps):
            return None
        y = steps[0].targets(data.y)  # type: ignore[union-attr]
        if y is None:
            return None
        n_batches = sum(n for _, n in sizes)
        x_order, y_order = np.empty((2, data.n), np.int64)
        numbers, losses = np.empty((n_batches, 5)), np.empty(n_batches)
        self._samples = Samples(data.x, y, x_order, y_order, np.empty(data.n), numbers, losses)
        self._place = np.zeros(4, np.int64)
        parts, first = [], 0
        for step, (_, n) in zip(steps, sizes, strict=True):
            assert step is not None
            updates = Updates(step.program, step.kind, self._samples, data.batch_size, self._place)
            parts.append(_Part(step, updates, first, first + n))
            first += n
        return parts

    def _example(self, size: int) -> Batch:
        """A batch of this size, to prepare a step for."""
        data, end = self._data, self._data.start + size
        rows = slice(data.start, end)
        weight = None if data.sample_weight is None else np.ones(size)
        return Batch(self._model.layers[0].as_input(data.x[:size]), data.y[rows], weight)

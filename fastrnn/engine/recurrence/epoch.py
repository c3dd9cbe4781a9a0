"""The updates of an epoch of a small network, in few calls of compiled code.

Python takes about as long between two small training steps as they take. Here each step also takes its samples from the
arrays of all of them, and a loop in compiled code makes one step after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine.recurrence.call_list import bind, words_of
from fastrnn.engine.recurrence.training import SOFTMAX, TrainingProgram
from fastrnn.engine.runtime.handover import call_part
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.launch import LAUNCHING
from fastrnn.engine.runtime.linking import address, fetch

__all__ = ["Samples", "Updates"]


class Samples(NamedTuple):
    """All samples of the data, and their order in an epoch.

    Attributes
    ----------
    x : (n, n_steps, n_inputs) array
        The inputs, of any dtype of real numbers.
    y : (m, n_outputs) array
        The targets, of the network's dtype. With classes as targets one column, the number of the class.
    x_order, y_order : (k,) array of int64
        For each sample of an epoch, in order, its row in `x` and its row in `y`. Rewritten before each epoch, as is
        `factors`.
    factors : (k,) array of float64
        The factors of the samples' losses.
    numbers : (n_batches, 5) array of float64
        The numbers of the optimizer for each update (`AdamNumbers`).
    losses : (n_batches,) array of float64
        The loss of each batch, which is written.
    """

    x: np.ndarray
    y: np.ndarray
    x_order: np.ndarray
    y_order: np.ndarray
    factors: np.ndarray
    numbers: np.ndarray
    losses: np.ndarray


@jit(inner=True)
def _take(arguments, at, k):
    """Copy the samples of the next batch, and its numbers, to the memory of a program."""
    (
        all_x,
        all_y,
        x_order,
        y_order,
        all_factors,
        all_numbers,
        place,
        size,
        by_class,
        x,
        y,
        factors,
        numbers,
    ) = fetch(arguments, at)
    first = place[0] * size
    for i in range(x.shape[0]):
        source = all_x[x_order[first + i]]
        for t in range(x.shape[1]):
            for c in range(x.shape[2]):
                x[i, t, c] = source[t, c]
        row = y_order[first + i]
        for j in range(y.shape[1]):
            if by_class:
                y[i, j] = 1 if all_y[row, 0] == j else 0
            else:
                y[i, j] = all_y[row, j]
        factors[i] = all_factors[first + i]
    for j in range(numbers.shape[0]):
        numbers[j] = all_numbers[place[0], j]


_take_call = address(_take)


@inlined
def _run_each(words):
    for i in range(0, words.shape[0], 3):
        for k in range(words[i + 2]):
            call_part(words[i], words[i + 1], k)


@jit(few_passes=True)
def _train(gradient, update, result, losses, place):
    """Compute gradients of batches up to ``place[2]``, and make updates up to ``place[3]``, one after the other.

    ``place[0]`` updates are made before, ``place[1]`` gradients are computed. Ends early at a loss or gradient that is not
    finite.
    """
    while True:
        if place[1] > place[0]:
            if place[0] >= place[3]:
                return
            _run_each(update)
            place[0] += 1
        if place[1] >= place[2]:
            return
        _run_each(gradient)
        losses[place[1]] = result[0]
        place[1] += 1
        if result[1] == 0 or result[0] - result[0] != 0:
            return


class Updates:
    """Updates from successive batches of one size.

    Parameters
    ----------
    program : TrainingProgram
        For batches of this size.
    kind : int
        Its loss.
    samples : Samples
    batch_size : int
        Number of samples of all batches but the last.
    place : (4,) array of int64
        Numbers of updates that were made and of gradients that were computed in the epoch, which are advanced, and memory
        for those to be reached.
    """

    def __init__(
        self, program: TrainingProgram, kind: int, samples: Samples, batch_size: int, place: np.ndarray
    ) -> None:
        self._place, self._losses, self._result = place, samples.losses, program.result
        taken: tuple[Any, ...] = (program.x, program.y, program.factors, program.numbers)
        take = bind(_take_call, *samples[:6], place, batch_size, int(kind == SOFTMAX), *taken)
        self._calls = [take, *program.gradient_calls], program.update_calls  # they keep the memory
        self._gradient, self._update = (words_of(calls) for calls in self._calls)

    @property
    def last(self) -> tuple[float, bool]:
        """The loss of the last batch that was computed, and whether its gradients are finite."""
        return float(self._result[0]), bool(self._result[1])

    def gradient(self) -> tuple[float, bool]:
        """Compute the gradients of the next batch; return its loss, and whether they are finite."""
        self._run(self._place[0] + 1, self._place[0])
        return self.last

    def run(self, stop: int) -> None:
        """After :meth:`gradient`, make its update and those of the batches before `stop`.

        Ends early, with ``place[0] < stop``, at a batch whose loss or gradient is not finite.
        """
        self._run(stop, stop)

    def _run(self, n_gradients: int, n_updates: int) -> None:
        self._place[2:] = n_gradients, n_updates
        with LAUNCHING:
            _train(self._gradient, self._update, self._result, self._losses, self._place)

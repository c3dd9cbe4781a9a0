"""A training step of a small network, prepared once: a recurrent layer, a dense layer, the loss, and Adam's update.

Such a step takes as long as Python needs to call its dozen kernels, and threads that train several networks wait for one
another at every call. Here the step is two calls of compiled code: one up to the gradient, one for the update.
:class:`fastrnn.engine.recurrence.epoch.Updates` makes many steps in one call.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels import update
from fastrnn.engine.kernels.packing import Weights, matrices_of, pack_piece
from fastrnn.engine.recurrence.backward import BackwardArguments
from fastrnn.engine.recurrence.call_list import bind, compile_together, run_calls, words_of
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.recurrence.kernels import backward_part, forward_part
from fastrnn.engine.recurrence.lane_plans import back_plan, dense_plan
from fastrnn.engine.recurrence.plans import (
    Options,
    is_long,
    pass_work,
    slice_count,
    thread_count,
)
from fastrnn.engine.recurrence.rows import needed_backward, needed_forward
from fastrnn.engine.recurrence.unrolled import suited
from fastrnn.engine.runtime.jit import PLAIN, jit
from fastrnn.engine.runtime.linking import address, fetch
from fastrnn.engine.runtime.memory import aligned, nothing
from fastrnn.engine.runtime.views import segment

__all__ = [
    "BINARY",
    "SOFTMAX",
    "SQUARED",
    "AdamNumbers",
    "Head",
    "TrainingProgram",
    "is_small",
    "training_numbers",
]

#: The losses: mean squared error of linear outputs; cross-entropy of sigmoids; cross-entropy of a softmax.
SQUARED, BINARY, SOFTMAX = 0, 1, 2


class Head(NamedTuple):
    """The dense layer and the loss.

    Attributes
    ----------
    kind : int
        SQUARED, BINARY or SOFTMAX.
    kernel : (n_units, n_outputs) array
    bias : (n_outputs,) array
    d_kernel, d_bias : arrays
        Their gradients, which are written.
    """

    kind: int
    kernel: np.ndarray
    bias: np.ndarray
    d_kernel: np.ndarray
    d_bias: np.ndarray


class AdamNumbers(NamedTuple):
    """Numbers of Adam's update; `rate` has the bias correction in it, `clipnorm` 0 is none."""

    rate: float
    beta_1: float
    beta_2: float
    epsilon: float
    clipnorm: float


@jit(inner=True)
def _loss(arguments, at, k):
    """Outputs, loss, and the gradients of the dense layer and of its input."""
    kind, kernel, bias, d_kernel, d_bias, h, dh, z, y, factors, result = fetch(arguments, at)
    n, n_units, n_outputs = y.shape[0], kernel.shape[0], kernel.shape[1]
    zero = kernel.dtype.type(0)
    for u in range(n_units):
        for j in range(n_outputs):
            d_kernel[u, j] = zero
    for j in range(n_outputs):
        d_bias[j] = zero
    total = 0.0
    for i in range(n):
        for j in range(n_outputs):
            z[j] = bias[j]
        for u in range(n_units):
            for j in range(n_outputs):
                z[j] += h[0, i, u] * kernel[u, j]
        highest, norm = -np.inf, 0.0
        if kind == 2:
            for j in range(n_outputs):
                if z[j] > highest:
                    highest = float(z[j])
            for j in range(n_outputs):
                norm += math.exp(float(z[j]) - highest)
        value = 0.0
        for j in range(n_outputs):
            logit, target = float(z[j]), float(y[i, j])
            if kind == 2:
                value += target * (highest + math.log(norm) - logit)
                slope = math.exp(logit - highest) / norm - target
            elif kind == 1:
                small = math.exp(-abs(logit))
                value += ((logit if logit > 0 else 0.0) - logit * target + math.log(1.0 + small)) / n_outputs
                slope = ((1.0 if logit >= 0 else small) / (1.0 + small) - target) / n_outputs
            else:
                error = logit - target
                value += error * error / n_outputs
                slope = 2.0 * error / n_outputs
            z[j] = kernel.dtype.type(slope * factors[i])
            d_bias[j] += z[j]
        total += value * factors[i]
        for u in range(n_units):
            slope = zero
            for j in range(n_outputs):
                d_kernel[u, j] += h[0, i, u] * z[j]
                slope += z[j] * kernel[u, j]
            dh[0, i, u] = slope
    result[0] = total


@jit(inner=True)
def _gather(arguments, at, k):
    """Take the cell's gradients into the vector of all, and find whether all are finite."""
    row, grads, result = fetch(arguments, at)
    n = row.shape[0]
    for i in range(n):
        grads[i] = row[i]
    result[1] = 1.0 if update.is_finite(grads) else 0.0


@jit(inner=True, few_passes=True)
def _adam(arguments, at, k):
    """Clip the gradient of each weight, and update all weights."""
    p, g, m, v, ends, numbers = fetch(arguments, at)
    rate, beta_1, beta_2, epsilon, limit = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    start = 0
    for i in range(ends.shape[0] if limit > 0 else 0):
        part = segment(g, start, ends[i] - start)
        norm = math.sqrt(update.square_sum(part))
        if norm > limit:
            update.scale(part, limit / norm)
        start = ends[i]
    update.adam(p, g, m, v, rate, beta_1, beta_2, epsilon)


_loss_call = address(_loss)
_gather_call = address(_gather)
_adam_call = address(_adam)


def is_small(cell: Any, shape: tuple[int, ...], n_threads: int | None) -> bool:
    """Whether a training step with inputs of this shape is computed by one thread, and can be prepared."""
    n_batch, n_steps, n_inputs = shape
    if PLAIN or 0 in shape:
        return False
    one = thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads) == 1
    one = one and slice_count(cell, n_batch, n_steps, n_inputs, n_threads) == 1
    return one and not is_long(cell, n_batch * n_steps, n_inputs)


def training_numbers(cell: Any, n_inputs: int) -> int:
    """Numbers that a program holds for each time step of each sequence."""
    parts = traits(cell)
    return n_inputs + (parts.n_saved + parts.n_states) * cell.n_units


class TrainingProgram:
    """A training step with fixed memory, for inputs of one shape.

    The network's first weights are those of the cell, in the order of :class:`Weights`; those of the dense layer follow.

    Parameters
    ----------
    cell : NamedTuple
    weights : Weights
        Views of `params`.
    head : Head
        With views of `params` and `grads`.
    shape : tuple
        ``(n_batch, n_steps, n_inputs)``.
    reverse : bool
        Whether the cell reads time backwards.
    params, grads, m, v : 1-D arrays
        All weights, their gradients, and Adam's means.
    ends : sequence of int
        Where each weight ends in `params`.

    Attributes
    ----------
    x : (n_batch, n_steps, n_inputs) array
        The inputs, to be written before a step.
    y : (n_batch, n_outputs) array
        The targets; of SOFTMAX one-hot.
    factors : (n_batch,) array
        Factors of the items' losses.
    numbers : (5,) array
        Those of `AdamNumbers`.
    result : (2,) array
        The loss, and whether the gradients are finite (1.0 or 0.0).
    gradient_calls, update_calls : list of Call
        The kernel calls of :meth:`gradient` and of :meth:`update`.
    at_once : int
        Number of steps that a call may make before Ctrl-C must be answered.
    """

    def __init__(
        self,
        cell: Any,
        weights: Weights,
        head: Head,
        shape: tuple[int, int, int],
        reverse: bool,
        vectors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        ends: Any,
    ) -> None:
        params, grads, m, v = vectors
        dtype = params.dtype
        n_batch, n_steps, n_inputs = shape
        cell = suited(cell, n_batch)
        options = Options(n_batch, n_steps, n_inputs, dtype, False, reverse, True, 0, False, True, False)
        plan = dense_plan(cell, options, 1)
        back = back_plan(plan, False, False)
        self.at_once = max(1, tuning.MAX_UPDATES_WORK // pass_work(cell, n_batch * n_steps, n_inputs))
        self.x = aligned(shape, dtype)
        self.y = np.zeros((n_batch, head.kernel.shape[1]), dtype)
        self.factors = np.zeros(n_batch)
        self.numbers = np.zeros(5)
        self.result = np.zeros(2)
        rows = self.x.reshape(n_batch * n_steps, n_inputs)
        packed = aligned(plan.packed.shape, dtype)
        packed_back = aligned(back.packed.shape, dtype)
        matrices = matrices_of(weights)
        final = aligned(plan.final_shape, dtype)
        d_final = aligned(plan.final_shape, dtype, zeros=True)
        row = aligned(back.grads_shape, dtype)
        logits = np.empty(head.kernel.shape[1], dtype)
        forward = ForwardArguments(
            team=None,
            cell=plan.kernel_cell,
            settings=plan.settings,
            schedule=plan.schedule,
            x=rows,
            state0=np.zeros(plan.final_shape, dtype),
            packed=packed,
            masks=nothing(dtype, 1),
            states=aligned(plan.states_shape, dtype),
            saved=aligned(plan.saved_shape, dtype),
            out=nothing(dtype, 2),
            final=final,
            work=aligned(plan.work_shape, dtype),
            borders=plan.blocks.borders,
            firsts=plan.blocks.firsts,
        )
        backward = BackwardArguments(
            team=None,
            cell=plan.kernel_cell,
            settings=back.settings,
            schedule=plan.schedule,
            x=rows,
            packed=packed_back,
            masks=forward.masks,
            states=forward.states,
            saved=forward.saved,
            d_out=nothing(dtype, 2),
            d_final=d_final,
            dx=nothing(dtype, 2),
            d_state0=np.empty(plan.final_shape, dtype),
            grads=row,
            work=aligned(back.work_shape, dtype),
            borders=plan.blocks.borders,
            firsts=plan.blocks.firsts,
        )
        size = dtype.itemsize
        n_of_cell = head_start(params, head)
        outputs = *head, final, d_final, logits, self.y, self.factors, self.result
        updated = params, grads, m, v, np.array(ends, np.int64), self.numbers
        compile_together(
            (pack_piece, (matrices, plan.packed.layout, packed, 1)),
            (forward_part(plan), forward),
            (backward_part(plan), backward),
            (_loss_call, outputs),
            (_adam_call, updated),
        )
        self.gradient_calls = [
            bind(pack_piece, matrices, plan.packed.layout, packed, 1),
            bind(forward_part(plan), *forward, needed=needed_forward(True, False, False), item_size=size),
            bind(_loss_call, *outputs),
            bind(pack_piece, matrices, back.packed.layout, packed_back, 1),
            bind(
                backward_part(plan),
                *backward,
                needed=needed_backward(True, False, False, False, False),
                item_size=size,
            ),
            bind(_gather_call, row[0, :n_of_cell], grads, self.result),
        ]
        self.update_calls = [bind(_adam_call, *updated)]
        self._gradient, self._update = words_of(self.gradient_calls), words_of(self.update_calls)

    def gradient(self) -> tuple[float, bool]:
        """Compute the gradients of all weights; return the loss, and whether they are finite."""
        run_calls(self._gradient)
        return float(self.result[0]), bool(self.result[1])

    def update(self) -> None:
        """Update the weights."""
        run_calls(self._update)


def head_start(params: np.ndarray, head: Head) -> int:
    """The number of weights before those of the dense layer."""
    return (head.kernel.ctypes.data - params.ctypes.data) // params.itemsize

"""Passes of small training steps over dense batches: what does not change from step to step is found once.

Kernels and numbers are those of :func:`run.forward` and :func:`run.backward`, which find everything anew in each call. That
takes longer than a hundred time steps of a cell with 32 units.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastrnn.engine.kernels.packing import Weights, matrices_of, pack_piece, pack_rows
from fastrnn.engine.recurrence.backward import BackwardArguments
from fastrnn.engine.recurrence.call_list import compile_together
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.recurrence.kernels import backward_kernel, backward_part, forward_kernel, forward_part
from fastrnn.engine.recurrence.lane_plans import back_plan, dense_plan
from fastrnn.engine.recurrence.plans import (
    BackPlan,
    Options,
    Plan,
    is_long,
    needs_one_thread,
)
from fastrnn.engine.recurrence.rows import needed_backward, needed_forward
from fastrnn.engine.recurrence.run import contiguous_rows
from fastrnn.engine.recurrence.unrolled import suited
from fastrnn.engine.runtime.handover import ALONE
from fastrnn.engine.runtime.jit import PLAIN
from fastrnn.engine.runtime.launch import launching
from fastrnn.engine.runtime.memory import nothing, pool, recycler

__all__ = ["CellPass", "PassTape", "TrainingPass", "cell_pass"]


class CellPass(NamedTuple):
    """What training passes of a cell over dense batches of one shape need.

    Attributes
    ----------
    plan : Plan
    matrices : tuple of arrays
        The weights, as `pack_rows` takes them.
    targets : list of (int, array)
        The gradients as vectors, each with its number in `Weights`.
    """

    plan: Plan
    matrices: tuple[np.ndarray, ...]
    targets: list[tuple[int, np.ndarray]]


def cell_pass(
    cell: Any, weights: Weights, gradients: Weights, options: Options, n_threads: int = 1
) -> CellPass:
    """What passes need that compute the sequences on this number of threads; the arrays are kept, and read in each pass."""
    plan = dense_plan(suited(cell, options.n_batch), options, n_threads)
    return CellPass(plan, matrices_of(weights), _joined(gradients))


class PassTape(NamedTuple):
    """What a backward pass needs of the forward pass."""

    of: TrainingPass
    rows: np.ndarray
    states: np.ndarray
    saved: np.ndarray

    @property
    def n_batch(self) -> int:
        """Number of sequences."""
        return self.of.plan.options.n_batch


class TrainingPass:
    """The passes of a cell over dense batches of one shape, forward and backward, on the calling thread.

    Parameters
    ----------
    cell : NamedTuple
    weights : Weights
        Kept, and read in each pass: their values may change, but they must stay these arrays.
    gradients : Weights
        Where the gradients are written to.
    shape : tuple
        ``(n_batch, n_steps, n_inputs)``.
    time_major : bool
        Whether the inputs are a transposed view of a C-contiguous time-major array; otherwise they are C-contiguous.
    reverse, sequences : bool
        As for :func:`run.forward`.
    """

    def __init__(
        self,
        cell: Any,
        weights: Weights,
        gradients: Weights,
        shape: tuple[int, int, int],
        *,
        time_major: bool,
        reverse: bool,
        sequences: bool,
    ) -> None:
        n_batch, n_steps, n_inputs = shape
        dtype = weights.kernel.dtype
        options = Options(
            n_batch, n_steps, n_inputs, dtype, time_major, reverse, True, 0, False, True, sequences
        )
        self.weights, self.gradients = weights, gradients
        self.plan, self._matrices, self._targets = cell_pass(cell, weights, gradients, options)
        self._dtype = dtype
        self._rows_shape = n_batch * n_steps, n_inputs
        self._zeros = np.zeros(self.plan.final_shape, dtype)
        self._no_masks, self._no_rows = nothing(dtype, 1), nothing(dtype, 2)
        self._launch = launching(needed_forward(True, sequences, False), dtype.itemsize)
        self._forward, self._backward = forward_kernel(self.plan), backward_kernel(self.plan)
        _compile(self.plan, self._matrices, dtype)
        #: By whether the gradient of the inputs is needed, and whether that of the outputs is given, and is time-major.
        self._back: dict[tuple[bool, bool, bool], tuple[BackPlan, launching]] = {}

    @staticmethod
    def suits(cell: Any, shape: tuple[int, ...], n_threads: int | None) -> bool:
        """Whether passes over inputs of this shape are computed by one thread, however many there are, and soon."""
        n_batch, n_steps, n_inputs = shape
        return (
            0 not in shape
            and needs_one_thread(cell, n_batch, n_steps, n_inputs, n_threads)
            and not is_long(cell, n_batch * n_steps, n_inputs)
        )

    def forward(
        self, x: np.ndarray, state0: np.ndarray | None = None
    ) -> tuple[np.ndarray | None, np.ndarray, PassTape]:
        """Return the outputs of all steps or None, the final states, and what `backward` needs, as :func:`run.forward`."""
        plan, dtype = self.plan, self._dtype
        n_batch, n_steps = plan.options.n_batch, plan.options.n_steps
        rows = (x.transpose(1, 0, 2) if plan.options.time_major else x).reshape(self._rows_shape)
        states, saved = recycler.take(plan.states_shape, dtype), recycler.take(plan.saved_shape, dtype)
        final, out = np.empty(plan.final_shape, dtype), self._no_rows
        if plan.n_lanes and plan.options.sequences:
            out = recycler.take(plan.out_shape, dtype)
        layout, shape, n_slices = plan.packed
        packed = pool.take("packed", shape, dtype)
        with self._launch:
            pack_rows(ALONE, self._matrices, layout, packed, n_slices)
            # In the order of the fields of `ForwardArguments`.
            self._forward(
                ALONE,
                plan.kernel_cell,
                plan.settings,
                plan.schedule,
                rows,
                self._zeros if state0 is None else state0,
                packed,
                self._no_masks,
                states,
                saved,
                out,
                final,
                pool.take("work", plan.work_shape, dtype),
                plan.blocks.borders,
                plan.blocks.firsts,
            )
        outputs = None
        if plan.options.sequences:
            # The saved time-major states are the outputs of rows.
            time_major = out if plan.n_lanes else states[0, n_batch:]
            outputs = time_major.reshape(n_steps, n_batch, -1).transpose(1, 0, 2)
        return outputs, final, PassTape(self, rows, states, saved)

    def backward(
        self, tape: PassTape, d_out: np.ndarray | None, d_final: np.ndarray | None, need_dx: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Write the gradients of the weights; return those of the inputs, if needed, and of the initial states."""
        plan, dtype = self.plan, self._dtype
        d_rows, d_time_major = (self._no_rows, False) if d_out is None else contiguous_rows(d_out, dtype)
        key = need_dx, d_out is not None, d_time_major
        known = self._back.get(key)
        if known is None:
            needed = needed_backward(True, d_out is not None, need_dx and not plan.n_lanes, False, False)
            known = self._back[key] = (
                back_plan(plan, need_dx, d_time_major),
                launching(needed, dtype.itemsize),
            )
        back, launch = known
        layout, shape, n_slices = back.packed
        packed = pool.take("packed", shape, dtype)
        dx = recycler.take(self._rows_shape, dtype) if need_dx else self._no_rows
        d_state0 = np.empty(plan.final_shape, dtype)
        grads = recycler.take(back.grads_shape, dtype)
        with launch:
            pack_rows(ALONE, self._matrices, layout, packed, n_slices)
            # In the order of the fields of `BackwardArguments`.
            self._backward(
                ALONE,
                plan.kernel_cell,
                back.settings,
                plan.schedule,
                tape.rows,
                packed,
                self._no_masks,
                tape.states,
                tape.saved,
                d_rows,
                self._zeros if d_final is None else d_final,
                dx,
                d_state0,
                grads,
                pool.take("work", back.work_shape, dtype),
                plan.blocks.borders,
                plan.blocks.firsts,
            )
        row, ends = grads[0], (0, *back.pieces)
        for first, target in self._targets:
            target[...] = row[ends[first] : ends[first] + target.size]
        if not need_dx:
            return None, d_state0
        n_batch, n_steps, n_inputs = plan.options[:3]
        if plan.options.time_major:
            return dx.reshape(n_steps, n_batch, n_inputs).transpose(1, 0, 2), d_state0
        return dx.reshape(n_batch, n_steps, n_inputs), d_state0


#: The cells' classes and the types of numbers whose passes are compiled, and whether for sequences as lanes.
_compiled: set[tuple[type, np.dtype, bool]] = set()


def _compile(plan: Plan, matrices: tuple[np.ndarray, ...], dtype: np.dtype) -> None:
    """Compile both passes together, which takes less time than each at its first call."""
    key = type(plan.cell), dtype, plan.n_lanes > 0
    if PLAIN or key in _compiled:
        return
    one, two, three = (nothing(dtype, n) for n in (1, 2, 3))
    forward = ForwardArguments(
        team=None,
        cell=plan.kernel_cell,
        settings=plan.settings,
        schedule=plan.schedule,
        x=two,
        state0=three,
        packed=two,
        masks=one,
        states=three,
        saved=two,
        out=two,
        final=three,
        work=two,
        borders=plan.blocks.borders,
        firsts=plan.blocks.firsts,
    )
    backward = BackwardArguments(
        team=None,
        cell=plan.kernel_cell,
        settings=plan.settings,
        schedule=plan.schedule,
        x=two,
        packed=two,
        masks=one,
        states=three,
        saved=two,
        d_out=two,
        d_final=three,
        dx=two,
        d_state0=three,
        grads=two,
        work=two,
        borders=plan.blocks.borders,
        firsts=plan.blocks.firsts,
    )
    packing = matrices, plan.packed.layout, two, plan.packed.n_slices
    compile_together((forward_part(plan), forward), (backward_part(plan), backward), (pack_piece, packing))
    _compiled.add(key)


def _joined(gradients: Weights) -> list[tuple[int, np.ndarray]]:
    """The gradients as vectors, each with its number in `Weights`; those that follow one another in memory as one."""
    found: list[tuple[int, np.ndarray]] = []
    last = -1
    for i, gradient in enumerate(gradients):
        if gradient is None:
            continue
        vector = gradient.reshape(-1)
        if found and last == i - 1 and found[-1][1].ctypes.data + found[-1][1].nbytes == vector.ctypes.data:
            first, before = found.pop()
            vector = as_strided(before, (before.size + vector.size,), before.strides)
        else:
            first = i
        found.append((first, vector))
        last = i
    return found

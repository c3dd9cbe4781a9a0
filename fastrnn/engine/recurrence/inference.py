"""Repeated inference with inputs of one shape, prepared once.

The arguments of the time loop are kept in a call list (see `call_list`), so a call passes only the input and the output.
Each Python thread has its own program and scratch memory.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.vecmath import prepare_activations
from fastrnn.engine.recurrence.call_list import Call, Program, bind, placeholder
from fastrnn.engine.recurrence.forward import ForwardArguments
from fastrnn.engine.recurrence.kernels import forward_part
from fastrnn.engine.recurrence.lane_plans import dense_plan
from fastrnn.engine.recurrence.plans import Options, Plan, is_long, slice_count, thread_count
from fastrnn.engine.recurrence.rows import needed_forward
from fastrnn.engine.recurrence.run import Weights, pack_weights
from fastrnn.engine.recurrence.schedule import mask_extent, masked_schedule
from fastrnn.engine.recurrence.unrolled import suited
from fastrnn.engine.runtime.memory import aligned, nothing, recycler

__all__ = ["InferencePlan", "inference_options", "pass_call", "prepare", "step_program"]


class _ThreadPrograms(threading.local):
    """The programs of a thread, and the schedule of the masked program."""

    dense: Program | None = None
    masked: Program | None = None
    schedule: np.ndarray | None = None


class InferencePlan:
    """Inference for batches of one shape, without dropout or initial state.

    Parameters
    ----------
    cell : NamedTuple
    packed : array
        The result of `run.pack_weights`.
    plan : Plan
        Plan of a dense batch.
    shape : tuple
        Shape of the input, ``(n_batch, n_steps, n_inputs)``.
    sequences : bool
        Whether to return all outputs, or only the last ones.
    """

    def __init__(self, cell: Any, packed: np.ndarray, plan: Plan, shape: tuple[int, ...], sequences: bool):
        self._cell, self._packed, self._plan, self._shape = cell, packed, plan, shape
        self._sequences, self._dtype = sequences, packed.dtype
        n_batch, n_steps, _ = shape
        n_states = plan.final_shape[0]
        #: The output of the last step is the first of several states; a single state is returned as it was made.
        self._picks_first = not sequences and n_states > 1
        self._out_shape = (n_batch, n_steps, cell.n_units) if sequences else plan.final_shape
        if n_states == 1 and not sequences:
            self._out_shape = plan.final_shape[1:]
        self._take = recycler.take if sequences and plan.recycle else np.empty
        self._own = _ThreadPrograms()
        #: Whether `masked` can be used for calls with a mask.
        self.takes_masks = plan.in_rows.blocks.n_owners == 1

    def _program(self, plan: Plan) -> Program:
        n_batch, n_steps, n_inputs = self._shape
        x = placeholder((n_batch * n_steps, n_inputs), self._dtype)
        state0, final = np.zeros(plan.final_shape, self._dtype), np.empty(plan.final_shape, self._dtype)
        out = placeholder(plan.out_shape, self._dtype) if self._sequences else nothing(self._dtype, 2)
        return _program(pass_call(self._cell, self._packed, plan, x, state0, out, final), plan, x, out, final)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """All outputs, or the last ones, for a C-contiguous ``x`` of the prepared shape and dtype."""
        program = self._own.dense
        if program is None:
            program = self._own.dense = self._program(self._plan)
        out = self._take(self._out_shape, self._dtype)
        program.run_out(x, out)
        return out[0] if self._picks_first else out

    def masked(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, bool]:
        """The outputs for a mask in processing order, and whether each sequence has a valid step."""
        own, (n_batch, n_steps, _) = self._own, self._shape
        schedule = masked_schedule(mask, own.schedule)
        stepped, full = mask_extent(schedule, n_batch, n_steps)
        if full:
            return self(x), True
        if own.masked is None:
            own.schedule = schedule
            own.masked = self._program(self._plan.in_rows._replace(schedule=schedule))
        out = self._take(self._out_shape, self._dtype)
        own.masked.run_out(x, out)
        return (out[0] if self._picks_first else out), stepped


def _program(call: Call, plan: Plan, x: np.ndarray, out: np.ndarray, final: np.ndarray) -> Program:
    """A program of one pass; its output is `out`, or `final` if `out` has no elements."""
    return Program([call], x, out if len(out) else final, plan.blocks.light)


def pass_call(
    cell: Any,
    packed: np.ndarray,
    plan: Plan,
    x: np.ndarray,
    state0: np.ndarray,
    out: np.ndarray,
    final: np.ndarray,
) -> Call:
    """A call for a pass over the rows `x` from the states `state0`, with its own memory."""
    dtype = packed.dtype
    prepare_activations(cell, dtype)
    arguments = ForwardArguments(
        team=None,
        cell=plan.kernel_cell,
        settings=plan.settings,
        schedule=plan.schedule,
        x=x,
        state0=state0,
        packed=packed,
        masks=nothing(dtype, 1),
        states=aligned(plan.states_shape, dtype),
        saved=nothing(dtype, 2),
        out=out,
        final=final,
        work=aligned(plan.work_shape, dtype, zeros=plan.blocks.by_units),  # zeros for the words of `turns`
        borders=plan.blocks.borders,
        firsts=plan.blocks.firsts,
    )
    needed = needed_forward(plan.dense, plan.options.sequences, plan.options.recurrent_masks)
    return bind(
        forward_part(plan), *arguments, pieces=plan.blocks.pieces, needed=needed, item_size=dtype.itemsize
    )


def inference_options(
    shape: tuple[int, ...], dtype: Any, *, reverse: bool, repeat: bool, sequences: bool
) -> Options:
    """Options of a plan for inference: batch-major inputs, no dropout, nothing saved."""
    n_batch, n_steps, n_inputs = shape
    return Options(n_batch, n_steps, n_inputs, dtype, False, reverse, repeat, 0, False, False, sequences)


def step_program(cell: Any, weights: Weights, x: np.ndarray, state: np.ndarray) -> Program:
    """A program for one time step of rows `x (n_batch, n_inputs)`, which updates `state (n_states, n_batch, n_units)`."""
    n_batch, n_inputs = x.shape
    cell = suited(cell, n_batch)
    options = inference_options((n_batch, 1, n_inputs), x.dtype, reverse=False, repeat=True, sequences=False)
    plan, out = dense_plan(cell, options, 1), nothing(x.dtype, 2)
    call = pass_call(cell, pack_weights(cell, weights), plan, x, state, out, state)
    return _program(call, plan, x, out, state)


def prepare(
    cell: Any,
    weights: Weights,
    shape: tuple[int, ...],
    *,
    reverse: bool = False,
    repeat: bool = True,
    sequences: bool = False,
    n_threads: int | None = None,
    packed: np.ndarray | None = None,
) -> InferencePlan | None:
    """Prepare passes over batches of one `shape` without dropout or initial state; arguments as in `run.forward`.

    Returns None if threads should split each step of a cell that can't compute some of its units.
    """
    n_batch, n_steps, n_inputs = shape
    cell = suited(cell, n_batch)
    if is_long(cell, n_batch * n_steps, n_inputs):  # `run.forward` can be interrupted
        return None
    if packed is None:
        packed = pack_weights(cell, weights)
    options = inference_options(shape, packed.dtype, reverse=reverse, repeat=repeat, sequences=sequences)
    n_slices = slice_count(cell, n_batch, n_steps, n_inputs, n_threads)
    n_threads = thread_count(cell, n_batch * n_steps, n_inputs, n_batch, n_threads, tuning.MIN_INFERENCE_ROWS)
    plan = dense_plan(cell, options, n_threads, n_slices)
    if n_slices > 1 and not plan.blocks.by_units:
        return None
    return InferencePlan(cell, packed, plan, shape, sequences)

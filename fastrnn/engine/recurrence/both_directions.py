"""Inference in both directions of a bidirectional layer, as one program.

The passes are independent, so two threads help even for a batch that is too small to be divided, and each reads only the
weights of one direction. Outputs of equal size are written directly to the merged array: as rows of this size, the rows of
the two directions alternate, and those of the second direction are in reverse order of time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.recurrence.call_list import Program, bind, placeholder, side_by_side
from fastrnn.engine.recurrence.inference import inference_options, pass_call
from fastrnn.engine.recurrence.lane_plans import dense_plan
from fastrnn.engine.recurrence.plans import (
    Plan,
    is_long,
    slice_count,
    threads_of_both,
)
from fastrnn.engine.recurrence.schedule import mask_extent, masked_schedule
from fastrnn.engine.recurrence.unrolled import suited
from fastrnn.engine.runtime import views
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch
from fastrnn.engine.runtime.memory import pool, recycler

__all__ = ["BidirectionalProgram", "Direction", "prepare_both"]

#: Ways to merge. A concatenation is two rows in sequence.
_CONCAT, _SUM, _AVE, _MUL = range(4)
_CODES = {"concat": _CONCAT, None: _CONCAT, "sum": _SUM, "ave": _AVE, "mul": _MUL}


@jit(inner=True)
def _merge_rows(arguments, at, k):
    ours, theirs, out, code, n_slices = fetch(arguments, at)
    n_rows, width, half = ours.shape[0], ours.shape[1], out.dtype.type(0.5)
    for r in range(k * n_rows // n_slices, (k + 1) * n_rows // n_slices):
        a, b = views.part(ours, r, 0, width), views.part(theirs, r, 0, theirs.shape[1])
        target = views.part(out, r, 0, out.shape[1])
        if code == _CONCAT:
            views.copy(a, views.segment(target, 0, width))
            views.copy(b, views.segment(target, width, b.shape[0]))
        elif code == _MUL:
            for j in range(width):
                target[j] = a[j] * b[j]
        else:
            for j in range(width):
                target[j] = a[j] + b[j]
            if code == _AVE:
                for j in range(width):
                    target[j] *= half


#: Merges slice k of the rows. Arguments: the rows of both directions, the rows of the merged output, the way to merge, and
#: the number of slices.
_merge_piece = address(_merge_rows)


class Direction(NamedTuple):
    """A cell, its weights as `run.pack_weights` returns them, and whether it reads time backwards."""

    cell: Any
    packed: np.ndarray
    reverse: bool


class _ThreadPrograms(threading.local):
    """The programs of a thread, and the schedules of the masked program."""

    dense: Program | None = None
    masked: Program | None = None
    schedules: Sequence[np.ndarray | None] = (None, None)


class BidirectionalProgram:
    """Inference in both directions for batches of one shape, without dropout or initial state.

    Outputs of masked steps are zero. Each Python thread has its own program.

    Parameters
    ----------
    directions, shape, sequences, merge
        As in :func:`prepare_both`.
    threads : tuple
        The result of `plans.threads_of_both`.
    """

    def __init__(
        self,
        directions: Sequence[Direction],
        shape: tuple[int, ...],
        sequences: bool,
        merge: str | None,
        threads: tuple[int, int, bool],
    ) -> None:
        self._directions, self._shape, self._sequences, self._merge = directions, shape, sequences, merge
        n_batch, n_steps, _ = shape
        dtype = self._dtype = directions[0].packed.dtype
        cells = [d.cell for d in directions]
        self._n_threads, pieces, self._light = threads
        self._plans = []
        for cell, _, reverse in directions:
            options = inference_options(shape, dtype, reverse=reverse, repeat=False, sequences=sequences)
            self._plans.append(dense_plan(cell, options, pieces))
        width = cells[0].n_units + (cells[1].n_units if merge == "concat" else 0)
        lead = (n_batch, n_steps) if sequences else (1, n_batch)
        self._out_shape = (lead[0] * (2 if merge is None else 1), lead[1], width)
        large = math.prod(self._out_shape) * dtype.itemsize >= recycler.smallest
        self._take = recycler.take if large else np.empty
        self._own = _ThreadPrograms()
        #: Whether `masked` can be used for calls with a mask.
        self.takes_masks = pieces == 1

    def __call__(self, x: np.ndarray) -> Any:
        """The merged output, or a list of both, for a C-contiguous ``x`` of the prepared shape and dtype."""
        own = self._own
        if own.dense is None:
            own.dense = self._program(self._plans)
        return self._run(own.dense, x)

    def masked(self, x: np.ndarray, mask: np.ndarray) -> Any:
        """The same with a mask."""
        own = self._own
        masks = [mask[:, ::-1] if d.reverse else mask for d in self._directions]
        schedules = [masked_schedule(m, s) for m, s in zip(masks, own.schedules, strict=True)]
        own.schedules = schedules
        if mask_extent(schedules[0], *self._shape[:2])[1]:
            return self(x)
        if own.masked is None:
            plans = [p.in_rows._replace(schedule=s) for p, s in zip(self._plans, schedules, strict=True)]
            own.masked = self._program(plans)
        return self._run(own.masked, x)

    def _run(self, program: Program, x: np.ndarray) -> Any:
        out = self._take(self._out_shape, self._dtype)
        program.run_out(x, out)
        if self._merge is None:
            half = len(out) // 2
            return [out[:half], out[half:]] if self._sequences else list(out)
        return out if self._sequences else out[0]

    def _program(self, plans: Sequence[Plan]) -> Program:
        """A program of both passes and, unless they write to the merged output, of the merge."""
        n_rows, dtype, sequences, merge = (
            math.prod(self._shape[:2]),
            self._dtype,
            self._sequences,
            self._merge,
        )
        sizes = [d.cell.n_units for d in self._directions]
        x = placeholder((n_rows, self._shape[2]), dtype)
        finals = [np.empty(plan.final_shape, dtype) for plan in plans]
        in_place = sequences and sizes[0] == sizes[1] and merge in ("concat", None)
        # First row of the second direction in the output, and the distance of rows.
        first, spacing = 0, 1
        if in_place:
            merged = placeholder((2 * n_rows, sizes[0]), dtype)
            outs = [merged, merged]
            first, spacing = (1, 2) if merge == "concat" else (n_rows, 1)
        elif sequences:
            outs = [pool.take(f"direction {i}", (n_rows, n), dtype) for i, n in enumerate(sizes)]
        else:
            outs = [np.empty((0, 0), dtype)] * 2
        placed = [_placed(plan, spacing, i * first, backwards=i == 1) for i, plan in enumerate(plans)]
        both = side_by_side(
            *(
                pass_call(d.cell, d.packed, plan, x, np.zeros(plan.final_shape, dtype), out, final)
                for d, plan, out, final in zip(self._directions, placed, outs, finals, strict=True)
            )
        )
        if in_place:
            return Program([both], x, merged, self._light, self._n_threads)
        rows = outs if sequences else [final[0] for final in finals]
        if merge is None:
            rows = [r.reshape(1, -1) for r in rows]
        merged = placeholder((len(rows[0]), math.prod(self._out_shape) // len(rows[0])), dtype)
        n_slices = min(self._n_threads, len(rows[0]))
        merging = bind(_merge_piece, *rows, merged, _CODES[merge], n_slices, pieces=n_slices)
        return Program([both, merging], x, merged, self._light, self._n_threads)


def prepare_both(
    directions: Sequence[Direction],
    shape: tuple[int, ...],
    *,
    sequences: bool,
    merge: str | None,
    n_threads: int | None = None,
) -> BidirectionalProgram | None:
    """Prepare passes in both directions, without dropout or initial state.

    Parameters
    ----------
    directions : two of Direction
        The outputs of the second direction are put in the order of time.
    shape : tuple
        Shape of the input, ``(n_batch, n_steps, n_inputs)``.
    sequences : bool
        Whether to return all outputs, or only the last ones.
    merge : {"concat", "sum", "mul", "ave", None}
        How the outputs are merged; None: both are returned. Except for "concat", they must have the same size.
    n_threads : int, optional
        Largest number of threads; by default all free cores.

    Returns
    -------
    BidirectionalProgram or None
        None if splitting each step of one pass uses more threads than running both passes in parallel.
    """
    n_batch, n_steps, n_inputs = shape
    cells = [suited(d.cell, n_batch) for d in directions]
    directions = [d._replace(cell=cell) for d, cell in zip(directions, cells, strict=True)]
    threads = threads_of_both(cells, shape, n_threads, tuning.MIN_INFERENCE_ROWS)
    busy = min(threads[0], 2 * threads[1])
    if any(slice_count(cell, n_batch, n_steps, n_inputs, n_threads) > busy for cell in cells):
        return None
    if any(is_long(cell, n_batch * n_steps, n_inputs) for cell in cells):  # `run.forward` can be interrupted
        return None
    return BidirectionalProgram(directions, shape, sequences, merge, threads)


def _placed(plan: Plan, spacing: int, first: int, backwards: bool) -> Plan:
    """A plan with outputs in every `spacing`-th row of an array from `first` on, or in these rows in reverse order."""
    # Copied as integers, because copying a record takes ten times as long.
    settings = plan.settings.view(np.int64).copy().view(plan.settings.dtype)
    at = settings[0]
    row, step = int(at["out_row"]) * spacing, int(at["out_step"]) * spacing
    if backwards:
        first, step = first + (plan.options.n_steps - 1) * step, -step
    at["out_row"], at["out_step"], at["out_first"] = row, step, first
    return plan._replace(settings=settings)

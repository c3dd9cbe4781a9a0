"""Plans of passes over dense batches: in rows (see `plans`), or, for small layers, with sequences as lanes of vectors.

Lanes are used where they take less time: in rows of a few units most of a vector is empty, and loops and calls for each row
take as long as its arithmetic. Results of inference are the same bits in both ways.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastrnn.engine import tuning
from fastrnn.engine.kernels.micro_kernel import lanes
from fastrnn.engine.kernels.packing import packed_rows
from fastrnn.engine.recurrence.contract import UnrollableCell, traits
from fastrnn.engine.recurrence.layouts import placed
from fastrnn.engine.recurrence.plans import (
    BackPlan,
    Options,
    Plan,
    changed,
    dense_rows_plan,
    plan_back,
    strides,
)
from fastrnn.engine.runtime.jit import PLAIN

__all__ = ["back_plan", "dense_plan"]


@functools.lru_cache(maxsize=tuning.MAX_PLANS, typed=True)
def dense_plan(cell: Any, options: Options, n_threads: int, n_slices: int = 1) -> Plan:
    """The plan of a batch without a mask; cached, because it depends only on sizes."""
    plan = dense_rows_plan(cell, options, n_threads, n_slices)
    lanes_pay = (
        n_slices == 1 and _can_be_lanes(cell, options) and _lanes_pay(cell.n_units, options, n_threads)
    )
    return _lane_plan(plan, n_threads) if lanes_pay else plan


def _can_be_lanes(cell: Any, options: Options) -> bool:
    """Whether the cell's units do not depend on one another within a step, and nothing is masked."""
    if PLAIN or options.input_groups or options.recurrent_masks or not isinstance(cell, UnrollableCell):
        return False
    if cell.units is not None:  # its loops have that number of units; lanes have several times as many
        return False
    parts = traits(cell)  # type: ignore[arg-type]
    return parts.by_units and parts.recurrent and options.n_steps >= tuning.MIN_LANE_STEPS


def _lanes_pay(n_units: int, options: Options, n_threads: int) -> bool:
    """Whether a step has fewer vectors if they hold sequences than if they hold units."""
    width = lanes(options.dtype)
    in_rows = -(-options.n_batch // n_threads) * -(-n_units // width)
    in_lanes = -(-options.n_batch // (n_threads * width)) * n_units
    kernel = n_units * options.n_inputs
    if n_units > tuning.MAX_LANE_UNITS or kernel > tuning.MAX_LANE_KERNEL:
        return False
    small = n_units <= tuning.SMALL_LANE_UNITS and kernel <= tuning.SMALL_LANE_KERNEL
    return in_rows >= in_lanes * (1 if small else tuning.MIN_LANE_GAIN)


def _block_vectors(n_vectors: int) -> int:
    """The number of vectors in a block that takes the least time, if a thread has `n_vectors` of sequences."""

    def cost(block: int) -> float:
        return -(-n_vectors // block) * (block + tuning.LANE_BLOCK_COST)

    return min(tuning.LANE_VECTORS, key=cost)


def _lane_plan(plan: Plan, n_threads: int) -> Plan:
    """`plan` with sequences as lanes."""
    cell, options = plan.cell, plan.options
    n_batch, n_steps, n_inputs, dtype = options[:4]
    parts, n_units = traits(cell), cell.n_units
    n_vectors = -(-n_batch // lanes(dtype))
    n_threads = min(n_threads, n_vectors)
    n_lanes = lanes(dtype) * _block_vectors(-(-n_vectors // n_threads))
    n_blocks = -(-n_batch // n_lanes)
    n_threads = min(n_threads, n_blocks)
    blocks = plan.blocks._replace(
        borders=np.minimum(np.arange(n_blocks + 1) * n_lanes, n_batch),
        firsts=np.arange(n_threads + 1) * n_blocks // n_threads,
        most_rows=n_lanes,
        n_owners=n_threads,
        n_threads=n_threads,
    )
    long, width = n_units * n_lanes, parts.n_gates * n_units * n_lanes
    chunk = _chunk(n_steps, n_lanes * (n_inputs + n_units), dtype, tuning.LANE_CHUNK_BYTES)
    arrays = dict(
        x=chunk * n_inputs * n_lanes,
        z=width,
        hu=width,
        operand=long,
        scratch=(parts.n_gates + 4) * long,
        spread=2 * width + parts.n_extra * long,
    )
    places, work = placed("at_", arrays, 64 // dtype.itemsize)
    # Outputs of training are time-major, as the saved states of rows are.
    out_step, out_row = strides(options.save, n_batch, n_steps)
    settings = changed(
        plan.settings,
        rows=n_lanes,
        chunk=chunk,
        n_slices=1,
        out_step=out_step,
        out_row=out_row,
        **places,
    )
    rows = n_blocks * (n_steps + 1) if options.save else n_threads * (chunk + 1)
    return plan._replace(
        settings=settings,
        packed=packed_rows(plan.packed.layout, plan.packed.shape[1], dtype, n_threads, n_threads),
        blocks=blocks,
        states_shape=(parts.n_states, rows, long),
        saved_shape=(n_blocks * n_steps if options.save else 0, parts.n_saved * long),
        work_shape=(n_threads, work),
        kernel_cell=cell._replace(n_units=long),
        n_lanes=n_lanes,
        as_rows=plan,
        back={},
    )


def _chunk(n_steps: int, numbers: int, dtype: Any, size: int) -> int:
    """The number of time steps whose buffers fit in `size` bytes, if those of one step hold this many `numbers`."""
    return max(1, min(n_steps, size // (numbers * np.dtype(dtype).itemsize)))


def back_plan(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    """The plan of a backward pass, in the way of `plan`; arguments as of `plans.plan_back`."""
    if not plan.n_lanes:
        return plan_back(plan, need_dx, d_time_major)
    known = plan.back.get((need_dx, d_time_major))
    if known is None:
        known = plan.back[need_dx, d_time_major] = _lane_back_plan(plan, need_dx, d_time_major)
    return known


def _lane_back_plan(plan: Plan, need_dx: bool, d_time_major: bool) -> BackPlan:
    back = plan_back(plan.in_rows, need_dx, d_time_major)
    parts, n_units = traits(plan.cell), plan.cell.n_units
    n_steps, n_inputs, dtype = plan.options[1:4]
    n_threads, n_lanes = plan.blocks.n_owners, plan.n_lanes
    long, width = n_units * n_lanes, parts.n_gates * n_units * n_lanes
    numbers = width * (1 + parts.split) + n_lanes * (n_inputs + n_units)
    chunk = _chunk(n_steps, numbers, dtype, tuning.LANE_BACK_CHUNK_BYTES)
    arrays = dict(
        x=chunk * n_inputs * n_lanes,
        z=chunk * width,
        hu=parts.split * chunk * width,
        h=chunk * long,
        ds=parts.n_states * long,
        operand=long,
        scratch=(parts.n_gates + 4) * long,
        spread=(1 + parts.split) * width + 2 * parts.n_extra * long,
    )
    places, work = placed("at_", arrays, 64 // dtype.itemsize)
    settings = changed(back.settings, rows=n_lanes, chunk=chunk, n_slices=1, ring=0, **places)
    layout, shape, _ = back.packed
    return back._replace(
        settings=settings,
        packed=packed_rows(layout, shape[1], dtype, n_threads, n_threads),
        grads_shape=(n_threads, back.grads_shape[1]),
        work_shape=(n_threads, work),
    )

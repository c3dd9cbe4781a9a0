"""The kernels of a plan: sequences as lanes, as rows of threads of their own, steps that threads split, or their units."""

from __future__ import annotations

from typing import Any

from fastrnn.engine.recurrence.backward import backward_pass, backward_piece, split_backward_pass
from fastrnn.engine.recurrence.by_units import units_forward_pass, units_piece
from fastrnn.engine.recurrence.forward import forward_pass, forward_piece, split_forward_pass
from fastrnn.engine.recurrence.lane_backward import lane_backward_pass, lane_backward_piece
from fastrnn.engine.recurrence.lane_forward import lane_forward_pass, lane_forward_piece
from fastrnn.engine.recurrence.plans import Plan

__all__ = ["backward_kernel", "backward_part", "forward_kernel", "forward_part"]


def forward_kernel(plan: Plan) -> Any:
    """The kernel of a whole pass, with the team; its arguments are the team's state and `ForwardArguments`."""
    if plan.blocks.n_slices > 1:
        return units_forward_pass if plan.blocks.by_units else split_forward_pass
    return lane_forward_pass if plan.n_lanes else forward_pass


def backward_kernel(plan: Plan) -> Any:
    """As `forward_kernel`, with `BackwardArguments`."""
    if plan.blocks.n_slices > 1:
        return split_backward_pass
    return lane_backward_pass if plan.n_lanes else backward_pass


def forward_part(plan: Plan) -> Any:
    """The kernel of one thread's blocks, or of its units, for call lists."""
    if plan.blocks.by_units:
        return units_piece
    return lane_forward_piece if plan.n_lanes else forward_piece


def backward_part(plan: Plan) -> Any:
    """As `forward_part`, never for units."""
    return lane_backward_piece if plan.n_lanes else backward_piece

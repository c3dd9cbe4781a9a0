"""How the loops of a cell's bodies are cut, by what loops were measured to cost."""

from __future__ import annotations

from typing import NamedTuple

from fastrnn.engine import tuning
from fastrnn.engine.equations.loops import ALL, Schedule
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS

__all__ = ["Schedules", "schedules"]


class Schedules(NamedTuple):
    """Schedules of the step forward, for rows narrower than `least_wide` units and for the others, and of the way back."""

    narrow: Schedule
    wide: Schedule
    least_wide: int
    backward: Schedule


def schedules(bits: int, rowwise: bool, vector_bits: int = VECTOR_BITS) -> Schedules:
    """The cheapest schedules for numbers of one width.

    Parameters
    ----------
    bits : int
        Width of the numbers.
    rowwise : bool
        Whether activations are calls on whole rows: little is left for the loops then, and plain ones compile faster.
    vector_bits : int
        Width of a vector register.
    """
    lanes = max(1, vector_bits // bits)
    if rowwise or lanes == 1:
        plain = Schedule(at_once=0, plain_at_once=0)
        return Schedules(plain, plain, 0, plain)
    measured = min(tuning.LOOP_COSTS, key=lambda key: (key[1] != bits, abs(key[0] - vector_bits)))
    costs = tuning.LOOP_COSTS[measured]

    def cheapest(place: int) -> Schedule:
        # Of ways that take the same time, that with the fewest functions in a loop, which needs the fewest registers.
        least = min(times[place] for times in costs.forward.values())
        functions, at_once = min(
            (
                (cut[0] or ALL, cut[1])
                for cut, times in costs.forward.items()
                if times[place] <= tuning.SAME_COST * least
            ),
        )
        return Schedule(functions, at_once=at_once)

    def at_once(place: int) -> int:
        return min(costs.backward, key=lambda n: costs.backward[n][place])

    back = Schedule(at_once=at_once(0), plain_at_once=at_once(1))
    return Schedules(cheapest(0), cheapest(1), tuning.WIDE_ROW_VECTORS * lanes, back)

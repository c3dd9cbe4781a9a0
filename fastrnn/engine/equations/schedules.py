"""How the loops of a cell's bodies are cut."""

from __future__ import annotations

from fastrnn.engine import tuning
from fastrnn.engine.equations.loops import Schedule

__all__ = ["schedules"]


def schedules(bits: int, rowwise: bool) -> tuple[Schedule, Schedule, Schedule]:
    """Schedules of the way forward with saving and without, and of the way back.

    Parameters
    ----------
    bits : int
        Width of the numbers. Both widths have the same schedules so far.
    rowwise : bool
        Whether activations are calls on whole rows: little is left for the loops then, and plain ones compile faster.
    """
    schedule = Schedule(at_once=0 if rowwise else tuning.VECTORS_AT_ONCE)
    return schedule, schedule, schedule

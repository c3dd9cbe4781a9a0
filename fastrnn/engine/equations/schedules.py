"""How loops are cut, by dtype: measured by ``python -m benchmarks.equations``."""

from __future__ import annotations

from fastrnn.engine.equations.loops import Schedule

__all__ = ["schedules"]


def schedules(bits: int, rowwise: bool) -> tuple[Schedule, Schedule, Schedule]:
    """Schedules of the way forward with saving and without, and of the way back."""
    if rowwise:  # activations are calls on rows, little else is left
        plain = Schedule(at_once=0)
        return plain, plain, plain
    return Schedule(at_once=2), Schedule(at_once=2), Schedule(at_once=2)

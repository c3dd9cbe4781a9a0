"""Cells as equations: trace a Python function, differentiate it, generate and compile its loops."""

from fastrnn.engine.equations.cell import EquationsCell, equations
from fastrnn.engine.equations.functions import FUNCTIONS

__all__ = ["FUNCTIONS", "EquationsCell", "equations"]

"""Cells by their equations: trace a Python function, differentiate it, write and compile its loops."""

from fastrnn.engine.equations.cell import EquationsCell, equations
from fastrnn.engine.equations.functions import FUNCTIONS

__all__ = ["FUNCTIONS", "EquationsCell", "equations"]

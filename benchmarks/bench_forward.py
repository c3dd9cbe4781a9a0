"""Inference on whole sequences; all outputs are returned."""

import pytest

from benchmarks.contenders import LIBRARIES, contender
from fastrnn.bench.cases import CELLS, SIZES, Case

SMALL = [size for size in SIZES if size.units <= 256]


@pytest.mark.parametrize("size", SMALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("library", "threads"), LIBRARIES)
def bench_forward(race, cell, library, threads, size, dtype):
    case = Case(cell, size, "inference", dtype)
    race(contender(case, library, threads), str(case))

"""One training step: forward, backward, weight gradients, SGD."""

import pytest

from benchmarks.contenders import INFERENCE_ONLY, LIBRARIES, contender
from fastrnn.bench.cases import CELLS, SIZES, Case

SMALL = [size for size in SIZES if size.units <= 256]


@pytest.mark.parametrize("size", SMALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("library", "threads"), [row for row in LIBRARIES if row.values[0] not in INFERENCE_ONLY]
)
def bench_training(race, cell, library, threads, size, dtype):
    case = Case(cell, size, "training", dtype)
    race(contender(case, library, threads), str(case))

"""Machine code of the hot kernels: wide vectors, one precision, and no allocation in a step.

Nothing is timed. Code from the kernels' cache can't be looked at, so each kernel is compiled here once more.
"""

from __future__ import annotations

import functools
import gc
import itertools
import re
import sys
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.engine.kernels import matmul, micro_kernel
from fastrnn.engine.recurrence.backward import backward_rows
from fastrnn.engine.recurrence.forward import forward_rows
from fastrnn.engine.runtime.jit import DISABLED
from tests.compiled import assembly

pytestmark = pytest.mark.skipif(DISABLED, reason="nothing is compiled")

LAYERS = {"SimpleRNN": layers.SimpleRNN, "GRU": layers.GRU, "LSTM": layers.LSTM}
KERNELS = {"forward": forward_rows, "backward": backward_rows}
# Vector instructions that the arithmetic of one row needs at least: a tanh or sigmoid is a quotient of polynomials,
# with 10 of them and more; a gate's gradient is three products and more.
LEAST = {
    "SimpleRNN": {"forward": 10, "backward": 3},
    "GRU": {"forward": 30, "backward": 9},
    "LSTM": {"forward": 50, "backward": 12},
}
REGISTER = {512: "zmm", 256: "ymm"}.get(micro_kernel.VECTOR_BITS)
wide = pytest.mark.skipif(REGISTER is None, reason="the host has no vectors of 256 or 512 bits")

ARITHMETIC = re.compile(r"\s+(vfn?m(?:add|sub)\d+|vmul|vdiv|vadd|vsub)(p[sd])\s(.*)")


def count_packed(assembly: str) -> Counter[tuple[str, str]]:
    """Packed multiplications, divisions, additions and their fusions, by precision and register."""
    found: Counter[tuple[str, str]] = Counter()
    for line in assembly.splitlines():
        match = ARITHMETIC.match(line)
        if match:
            registers = re.findall(r"%([xyz]mm)", match[3])
            found[match[2], max(registers)] += 1
    return found


@functools.cache
def train_all() -> None:
    """Give every kernel its signature."""
    for layer in LAYERS.values():
        model = Sequential([layer(24)])
        model.compile("sgd", "mse")
        model.train_on_batch(np.ones((5, 6, 3), "f"), np.ones((5, 24), "f"))


def inner_loops(assembly: str) -> list[list[str]]:
    """The lines of the loops that contain no other loop."""
    lines = assembly.splitlines()
    labels = {match[1]: i for i, line in enumerate(lines) if (match := re.match(r"(\.\w+):", line))}
    jumps = [
        (match[1], i) for i, line in enumerate(lines) if (match := re.match(r"\s+j\w+\s+(\.\w+)\s*$", line))
    ]
    loops = [(labels[label], i) for label, i in jumps if labels.get(label, i + 1) <= i]
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[first : last + 1] for first, last in inner]


def spilled(loop: list[str]) -> int:
    """Number of vectors that a loop stores on the stack."""
    return sum(bool(re.match(r"\s+vmov\w+\s+%[xyz]mm\d+, *-?\d*\(%r[sb]p", line)) for line in loop)


def divisions(loop: list[str]) -> int:
    """Number of packed divisions, one for each elementary function and vector."""
    return sum(bool(re.match(r"\s+vdivp[sd]\s", line)) for line in loop)


def packed(kernel: Any, cell: str = "") -> Counter[tuple[str, str]]:
    """Of a kernel, compiled anew for the float32 network of a cell."""
    return count_packed(code(kernel, cell))


@functools.cache
def code(kernel: Any, cell: str = "") -> str:
    """Assembly of a kernel, compiled anew for the float32 network of a cell."""
    train_all()
    dispatcher = getattr(kernel, "dispatcher", kernel)
    # Other tests may have had it compiled for float64 as well.
    known = [sig for sig in dispatcher.signatures if "float64" not in str(sig)]
    signatures = [sig for sig in known if re.search(rf"none.*\b{cell}\(", str(sig[:2]))]
    if not cell:
        signatures = [sig for sig in known if str(sig[0]) == "float32"]
    assert signatures, f"{dispatcher} was not compiled for {cell or 'float32'}"
    return assembly(dispatcher, signatures[0])


def test_count_packed_reads_registers_and_precision():
    assembly = """
    \tvfmadd213ps\t(%rax), %zmm1, %zmm2
    \tvmulpd\t%ymm1, %ymm2, %ymm3
    \tvfnmadd231ss\t%xmm1, %xmm2, %xmm3
    \tvdivps\t%xmm1, %xmm2, %xmm3
    \tvmovups\t%zmm1, %zmm2
    """
    assert count_packed(assembly) == {("ps", "zmm"): 1, ("pd", "ymm"): 1, ("ps", "xmm"): 1}


@wide
def test_gemm_code_multiplies_in_full_vectors_only():
    found = packed(matmul._gemm)
    tile = micro_kernel.ROWS * micro_kernel.VECTORS
    assert found["ps", REGISTER] >= tile  # the largest tile alone has this number of fused multiply-adds
    assert sum(found.values()) == found["ps", REGISTER]


@wide
def test_gemm_code_has_each_tile_once():
    """As it is written: LLVM neither unrolls the loops of tiles nor copies them, which takes longer to compile."""
    found = packed(matmul._gemm)
    rows, vectors = range(1, micro_kernel.ROWS + 1), micro_kernel.VECTORS
    masked = sum(
        r * v for r in rows for v in range(1 if r <= micro_kernel.NARROW_ROWS else vectors, vectors + 1)
    )
    whole = sum(r * vectors for r in rows)
    panels = sum(r * micro_kernel.WIDE_PANELS[r] * vectors for r in range(1, micro_kernel.WIDE_ROWS + 1))
    assert sum(found.values()) == masked + whole + panels


@wide
@pytest.mark.parametrize("direction", KERNELS)
@pytest.mark.parametrize("cell", LAYERS)
def test_cell_code_has_full_vectors(cell, direction):
    found = packed(KERNELS[direction], cell)
    assert found["ps", REGISTER] >= LEAST[cell][direction], found


@wide
@pytest.mark.parametrize(
    "direction",
    ["forward", "backward"],
)
@pytest.mark.parametrize("cell", LAYERS)
def test_cell_code_of_float32_has_no_float64(cell, direction):
    found = packed(KERNELS[direction], cell)
    assert {key: n for key, n in found.items() if key[0] == "pd"} == {}


def test_inner_loops_and_what_they_spill_are_read_from_assembly():
    text = """
.LBB0_1:
    \tvmovups\t(%rax), %zmm1
.LBB0_2:
    \tvdivps\t%zmm1, %zmm2, %zmm3
    \tvmovups\t%zmm1, 64(%rsp)
    \tvmovaps\t%ymm1, (%rbp)
    \tvmovups\t%zmm1, (%rax,%rdx)
    \tvmovups\t64(%rsp), %zmm1
    \tjne\t.LBB0_2
    \tvmovups\t%zmm1, 64(%rsp)
    \tjl\t.LBB0_1
    \tjmp\t.LBB0_3
"""
    (loop,) = inner_loops(text)
    assert (len(loop), spilled(loop), divisions(loop)) == (7, 2, 1)


@wide
@pytest.mark.parametrize("direction", KERNELS)
@pytest.mark.parametrize("cell", LAYERS)
def test_loops_of_cells_keep_vectors_in_registers(cell, direction):
    """Loops store few vectors on the stack: one for eight operations at most.

    On AVX2 the loop for rows narrower than four vectors has all functions of a step and spills more, as it always did:
    ``python -m benchmarks.loop_costs`` shows that a loop for each function takes longer there.
    """
    loops = inner_loops(code(KERNELS[direction], cell))
    operations = [sum(count_packed("\n".join(loop)).values()) for loop in loops]
    arithmetic = [
        (loop, n) for loop, n in zip(loops, operations, strict=True) if n >= LEAST["SimpleRNN"][direction]
    ]
    assert arithmetic
    for loop, n in arithmetic:
        if micro_kernel.VECTOR_BITS == 512 or divisions(loop) <= 2:
            assert spilled(loop) <= n // 8


# --- one step at a time ------------------------------------------------------------------------------------------------

STREAMS = hasattr(Sequential, "stream")


#: Of a count that other threads may add to.
REPETITIONS = 5


@pytest.mark.skipif(not STREAMS, reason="models have no stream")
@pytest.mark.parametrize("cell", LAYERS)
def test_stream_step_allocates_nothing(cell):
    from numba.core.runtime import _nrt_python, rtsys

    # Wide, so that an array of the size of inputs, gates or outputs is much larger than the memory of a call in Python.
    model = Sequential([layers.Input((None, 256)), LAYERS[cell](256), layers.Dense(256)])
    stream = model.stream(batch_size=1)
    x = np.random.default_rng(0).normal(size=(1, 256)).astype("f")

    def steps(n: int) -> None:
        for _ in itertools.repeat(None, n):
            stream.step(x)

    def handles() -> tuple[int, int]:
        before = rtsys.get_allocation_stats()
        steps(1000)
        after = rtsys.get_allocation_stats()
        return after.alloc - before.alloc, after.free - before.free

    def blocks() -> int:
        before = sys.getallocatedblocks()
        steps(1000)
        return sys.getallocatedblocks() - before

    def traced() -> tuple[int, int]:
        tracemalloc.start()
        try:
            steps(10)
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            steps(1000)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return after - before, peak - before

    # The counts are those of the process, whose other threads (of pytest-xdist, of libraries) allocate now and then. What
    # the steps themselves allocate is in every repetition, so the least of some is taken.
    steps(100)
    gc.collect()
    _nrt_python.memsys_enable_stats()
    # Entering compiled code makes a handle, of a few words, for each array that is handed over: the sample, and the
    # list of what to do. There are no others, so no arrays are made inside.
    made, freed = min(handles() for _ in range(REPETITIONS))
    assert made == freed <= 2 * 1000
    assert min(blocks() for _ in range(REPETITIONS)) <= 10  # nothing is left behind but the count itself
    kept, peaks = zip(*(traced() for _ in range(REPETITIONS)), strict=True)
    assert min(kept) <= 64
    assert min(peaks) < 512  # bytes; an array of the output has twice that
    assert np.shares_memory(stream.step(x), stream.step(x))

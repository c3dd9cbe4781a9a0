"""The register tile as machine code for processors that need not be at hand: LLVM translates for any of them.

Nothing is run. The inner loop is read: as many fused multiply-adds as the tile has accumulators, in vectors of the
full width, and no accumulator spilled to the stack.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from llvmlite import binding, ir

from fastrnn.engine.kernels.lane_product import dot_columns, emit_dots, emit_tile, most_rows
from fastrnn.engine.kernels.micro_kernel import Emitter, choose_tile
from fastrnn.engine.numba_private.symbols import x86_vector_bits
from fastrnn.engine.tuning import LANE_DOT_ROWS, LANE_VECTORS, TILES, TileShape

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


class Processor(NamedTuple):
    triple: str
    cpu: str
    tile: TileShape
    #: A multiply-add of whole vectors, for each size of a number.
    fused: dict[int, str]
    #: How many instructions one multiply-add takes.
    instructions: int
    #: An operand on the stack.
    stack: str


PROCESSORS = {
    "x86-64-v4": Processor(
        X86,
        "x86-64-v4",
        TILES["x86-64", 512],
        {4: r"vfmadd\w+ps\s.*%zmm", 8: r"vfmadd\w+pd\s.*%zmm"},
        1,
        r"\(%r[sb]p",
    ),
    "haswell": Processor(
        X86,
        "haswell",
        TILES["x86-64", 256],
        {4: r"vfmadd\w+ps\s.*%ymm", 8: r"vfmadd\w+pd\s.*%ymm"},
        1,
        r"\(%r[sb]p",
    ),
    "x86-64-v2": Processor(
        X86,
        "x86-64-v2",
        TILES["x86-64", 128],
        {4: r"\b(mul|add)ps\s", 8: r"\b(mul|add)pd\s"},
        2,
        r"\(%r[sb]p",
    ),
    "aarch64": Processor(
        ARM, "generic", TILES["aarch64", 128], {4: r"fmla\s+v\d+\.4s", 8: r"fmla\s+v\d+\.2d"}, 1, r"\[sp"
    ),
}


def loop_of(
    processor: Processor, size: int, n_arguments: int, write: Callable[[Emitter, Any], None]
) -> list[str]:
    """The instructions of the longest loop of what `write` emits, with an emitter and the function's arguments."""
    word, scalar = ir.IntType(64), ir.FloatType() if size == 4 else ir.DoubleType()
    module = ir.Module("tile")
    module.triple = processor.triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * n_arguments), "tile")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    write(Emitter(builder, scalar, size, processor.tile.bits), function.args)
    builder.ret_void()

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(processor.triple).create_target_machine(cpu=processor.cpu, opt=3)
    parsed = binding.parse_assembly(str(module))
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return longest_loop(machine.emit_assembly(parsed).splitlines())


def inner_loop(processor: Processor, size: int) -> list[str]:
    """The instructions of the largest tile's loop over the inner dimension."""

    def write(emit: Emitter, arguments: Any) -> None:
        *matrices, k, tail = arguments
        operands: list[Any] = [tuple(matrices[i : i + 3]) for i in range(0, 12, 3)]
        done = emit.builder.function.append_basic_block("done")
        shape = processor.tile
        emit.tile(shape.rows, shape.vectors, False, [*operands, k, tail], done)
        emit.builder.position_at_end(done)

    return loop_of(processor, size, 14, write)


def longest_loop(assembly: list[str]) -> list[str]:
    """The longest stretch between a label and a jump back to it."""
    labels = {line.split(":")[0]: i for i, line in enumerate(assembly) if re.match(r"\.?\w+:", line)}
    found: list[str] = []
    for i, line in enumerate(assembly):
        jump = re.match(r"\s+(?:j\w+|b\.?\w*|cbn?z\s+\w+,)\s+(\.\w+)", line)
        start = labels.get(jump[1], i) if jump else i
        if i - start > len(found):
            found = assembly[start + 1 : i + 1]
    return found


@pytest.mark.parametrize("size", [4, 8], ids=["float32", "float64"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_tile_keeps_its_sums_in_registers(name, size):
    processor = PROCESSORS[name]
    loop = inner_loop(processor, size)
    sums = [line for line in loop if re.search(processor.fused[size], line)]
    assert len(sums) == processor.instructions * processor.tile.rows * processor.tile.vectors, "\n".join(loop)
    assert not [line for line in loop if re.search(processor.stack, line)], "\n".join(loop)


@pytest.mark.parametrize("size", [4, 8], ids=["float32", "float64"])
@pytest.mark.parametrize("vectors", LANE_VECTORS)
@pytest.mark.parametrize("name", PROCESSORS)
def test_tiles_of_lanes_keep_their_sums_in_registers(name, vectors, size):
    processor = PROCESSORS[name]
    rows = most_rows(processor.tile.rows * processor.tile.vectors)[vectors]

    def write(emit: Emitter, arguments: Any) -> None:
        factors = [tuple(arguments[i : i + 4]) for i in (0, 4)]
        emit_tile(emit, rows, vectors, factors, *arguments[8:])

    loop = loop_of(processor, size, 11, write)
    sums = [line for line in loop if re.search(processor.fused[size], line)]
    assert len(sums) >= processor.instructions * rows * vectors, "\n".join(loop)
    assert not [line for line in loop if re.search(processor.stack, line)], "\n".join(loop)


@pytest.mark.parametrize("size", [4, 8], ids=["float32", "float64"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_weight_gradients_of_lanes_keep_their_sums_in_registers(name, size):
    processor = PROCESSORS[name]
    columns = dot_columns(processor.tile.rows * processor.tile.vectors)

    def write(emit: Emitter, arguments: Any) -> None:
        matrices = [tuple(arguments[i : i + 3]) for i in (0, 3, 6)]
        emit_dots(emit, LANE_DOT_ROWS, columns, matrices, arguments[9:])

    loop = loop_of(processor, size, 12, write)
    sums = [line for line in loop if re.search(processor.fused[size], line)]
    assert len(sums) >= processor.instructions * LANE_DOT_ROWS * columns, "\n".join(loop)
    # The frame pointer is one of the many addresses here, so only the stack pointer tells a spill.
    stack = processor.stack.replace("[sb]", "s")
    assert not [line for line in loop if re.search(stack, line)], "\n".join(loop)


def test_longest_loop_is_found_between_a_label_and_the_jump_to_it():
    assembly = [
        ".LBB0_1:",
        "\tmulps\t%xmm0, %xmm1",
        "\tjne\t.LBB0_1",
        "\tret",
        ".LBB0_2:",
        "\tnop",
        "\tnop",
        "\tb.ne\t.LBB0_2",
    ]
    assert longest_loop(assembly) == ["\tnop", "\tnop", "\tb.ne\t.LBB0_2"]


@pytest.mark.parametrize(
    ("machine", "bits", "forced", "tile"),
    [
        ("x86_64", 512, None, (6, 4, 512, 4)),
        ("AMD64", 256, "", (6, 2, 256, 6)),
        ("x86_64", 128, None, (4, 2, 128, 4)),
        ("x86_64", 512, "256", (6, 2, 256, 6)),
        ("aarch64", 128, None, (6, 4, 128, 6)),
        ("arm64", 256, None, (6, 4, 128, 6)),
        ("riscv64", 128, None, (4, 2, 128, 4)),
    ],
)
def test_choose_tile_goes_by_architecture_and_width(machine, bits, forced, tile):
    assert choose_tile(machine, bits, forced) == tile


@pytest.mark.parametrize("forced", ["64", "wide", "256 bit"])
def test_choose_tile_refuses_an_unknown_width(forced):
    with pytest.raises(
        ValueError, match=f"FASTRNN_VECTOR_BITS must be 128, 256 or 512, or not be set; got '{forced}'"
    ):
        choose_tile("x86_64", 512, forced)


@pytest.mark.parametrize(
    ("cpu", "features", "bits"),
    [
        ("haswell", "", 256),
        ("haswell", "+avx512f", 512),
        ("x86-64-v2", "", 128),
        ("x86-64-v4", "", 512),
        ("haswell", "-fma", 128),
    ],
)
def test_vector_width_of_a_named_processor_is_that_of_its_code(cpu, features, bits):
    assert x86_vector_bits(cpu, features) == bits


def _with_variables(**variables: str) -> subprocess.CompletedProcess:
    script = "from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS; print(VECTOR_BITS)"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_CPU", "FASTRNN_VECTOR"))}
    return subprocess.run(
        [sys.executable, "-c", script], env={**kept, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="the host is not x86-64")
def test_the_width_follows_the_processor_that_numba_is_told_to_target():
    assert _with_variables(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="").stdout == "256\n"


def test_an_unknown_processor_is_refused_before_anything_is_compiled():
    run = _with_variables(NUMBA_CPU_NAME="no-such-cpu", NUMBA_CPU_FEATURES="")
    assert run.returncode == 1
    assert (
        "NUMBA_CPU_NAME='no-such-cpu' is not a processor that LLVM knows; use a name such as 'haswell'"
        in run.stderr
    )

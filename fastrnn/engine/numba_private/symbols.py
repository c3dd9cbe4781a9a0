"""LLVM's linker and processors: symbols of addresses, features of the CPU, the width of its vectors."""

from __future__ import annotations

import subprocess
import sys

from llvmlite import binding
from llvmlite.binding import add_symbol, address_of_symbol, get_host_cpu_features, get_host_cpu_name

__all__ = [
    "add_symbol",
    "address_of_symbol",
    "get_host_cpu_features",
    "get_host_cpu_name",
    "knows_processor",
    "x86_vector_bits",
]

_PROBE = """
define void @probe(ptr %at) {
  %x = load <16 x float>, ptr %at
  %y = call <16 x float> @llvm.fmuladd.v16f32(<16 x float> %x, <16 x float> %x, <16 x float> %x)
  store <16 x float> %y, ptr %at
  ret void
}
declare <16 x float> @llvm.fmuladd.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""


def x86_vector_bits(cpu: str, features: str) -> int:
    """Width of the vectors of an x86-64 processor's fused multiply-adds; 128 if it has none.

    llvmlite does not list the features of a named processor, so the width is read from the code of a small function.

    Parameters
    ----------
    cpu : str
        LLVM's name of the processor. For an unknown name, LLVM writes to stderr and uses the base processor.
    features : str
        Features added to and removed from the processor's, as in ``"+avx2,-fma"``.
    """
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        cpu=cpu, features=features
    )
    assembly = machine.emit_assembly(binding.parse_assembly(_PROBE))
    if "vfmadd" not in assembly:
        return 128
    return 512 if "zmm" in assembly else 256


_KNOWS = """
import sys
from llvmlite import binding
binding.initialize_all_targets()
target = binding.Target.from_triple("x86_64-unknown-linux-gnu" if sys.argv[2] == "x86" else "aarch64-unknown-linux-gnu")
target.create_target_machine(cpu=sys.argv[1], features="+64bit" if sys.argv[2] == "x86" else "")
"""


def knows_processor(cpu: str, arm: bool = False) -> bool:
    """Whether LLVM knows a processor of this name.

    For an unknown name, LLVM writes to stderr or ends the process, so a separate process is used. If none can be started,
    as in a frozen application, the result is True.
    """
    if not sys.executable or "frozen" in vars(sys):
        return True
    command = [sys.executable, "-c", _KNOWS, cpu, "arm" if arm else "x86"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return "not a recognized processor" not in asked.stderr

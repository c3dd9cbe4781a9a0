"""Compiles and runs the C that `to_c` has written, and compares its outputs with the model's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from fastrnn.exceptions import ConversionError
from fastrnn.interop.common import compare
from fastrnn.models import Sequential

__all__ = ["compare_in_c"]

_N_STEPS, _SECONDS = 100, 120
_MAIN = """#include <stdio.h>
#include "{header}"
static {name}_state state;
int main(int argc, char **argv) {{
    {x_type} x[{upper}_N_INPUTS];
    {real} y[{upper}_N_OUTPUTS];
    FILE *in, *out;
    if (argc != 3 || !(in = fopen(argv[1], "rb")) || !(out = fopen(argv[2], "wb"))) return 2;
    {name}_reset(&state);
    while (fread(x, sizeof x, 1, in) == 1) {{
        if ({name}_step(&state, x, y)) return 3;
        if (fwrite(y, sizeof y, 1, out) != 1) return 4;
    }}
    return fclose(out);
}}
"""


def compare_in_c(network: Sequential, source: str, header: str, name: str) -> float | None:
    """Print the largest difference of the outputs on 100 random steps; return it, or None without a C compiler.

    The compiler is that of the environment variable `CC`, or ``cc``, ``gcc`` or ``clang``.

    Raises
    ------
    ConversionError
        If the code can't be compiled or run, or if its outputs differ by more than rounding errors.
    """
    candidates = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((path for c in candidates if c and (path := shutil.which(c))), None)
    if compiler is None:
        print("to_c: no C compiler was found (CC, cc, gcc, clang), so that no output was compared")
        return None
    first = next((layer for layer in network.layers if not layer.unchanged), network.layers[0])
    real, rng = network.layers[0].dtype, np.random.default_rng(0)
    if first.takes_tokens:
        x = rng.integers(0, first.input_dim, _N_STEPS)
    else:
        x = rng.normal(size=(_N_STEPS, network._shapes[0][-1])).astype(real)
    stream = network.stream()
    ours = np.concatenate([stream.step(x[t : t + 1]).copy() for t in range(_N_STEPS)])
    code = _MAIN.format(
        header=os.path.basename(header),
        name=name,
        upper=name.upper(),
        real="float" if real == np.float32 else "double",
        x_type="int" if first.takes_tokens else "float" if real == np.float32 else "double",
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for file in (source, header):
            shutil.copy(file, place)
        (place / "main_of_check.c").write_text(code)
        (place / "x").write_bytes((x.astype(np.int32) if first.takes_tokens else x).tobytes())
        program = place / "check.exe"
        sources = [os.path.basename(source), "main_of_check.c"]
        for command in (
            [compiler, "-std=c99", "-O1", *sources, "-o", str(program), "-lm"],
            [str(program), "x", "y"],
        ):
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_SECONDS)
            if done.returncode:
                raise ConversionError(
                    f"to_c: {os.path.basename(command[0])} ended with code {done.returncode}: {done.stderr[-500:]}"
                )
        theirs = np.frombuffer((place / "y").read_bytes(), real).reshape(_N_STEPS, -1)
    return compare(ours.reshape(theirs.shape), theirs, "to_c", x.shape, verbose=True)

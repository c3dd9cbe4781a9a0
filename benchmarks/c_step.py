"""The time of one step: the C code that `fastrnn.interop.to_c` writes, compared with a stream of this library.

python -m benchmarks.c_step    a table: microseconds a step, bytes of code, weights and states, error of int8 weights

Both run one sequence on one thread. C is compiled with the system's ``cc -O3`` (and ``-Os`` for the size of the code).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from fastrnn import Sequential, interop, layers

N_INPUTS, STEPS = 8, 20_000

TIMER = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>
#include "net.h"
int main(void) {{
    static net_state s;
    float x[NET_N_INPUTS] = {{0.1f}}, y[NET_N_OUTPUTS], sum = 0;
    double best = 1e9;
    for (int turn = 0; turn < 7; turn++) {{
        struct timespec a, b;
        net_reset(&s);
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int t = 0; t < {steps}; t++) {{
            x[t % NET_N_INPUTS] = -x[t % NET_N_INPUTS];
            net_step(&s, x, y);
            sum += y[0];
        }}
        clock_gettime(CLOCK_MONOTONIC, &b);
        double t = ((b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) * 1e-9) / {steps};
        if (t < best) best = t;
    }}
    printf("%g %g\\n", best * 1e6, (double)sum);
    return 0;
}}
"""


def model_of(cell: str, units: int) -> Sequential:
    recurrent = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}[cell](units)
    return Sequential([layers.Input((None, N_INPUTS)), recurrent, layers.Dense(1)], seed=0)


def stream_us(model: Sequential) -> float:
    stream, x = model.stream(), np.full((1, N_INPUTS), 0.1, np.float32)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(STEPS):
            stream.step(x)
        best = min(best, (time.perf_counter() - start) / STEPS)
    return best * 1e6


def c_row(model: Sequential, weights: str) -> tuple[float, int, int, int, float]:
    """Microseconds per step; bytes of machine code, weights and states; the error of int8 weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = interop.to_c(model, folder / "net.c", weights=weights)
        (folder / "main.c").write_text(TIMER.format(steps=STEPS))
        cc = shutil.which("cc") or "gcc"
        subprocess.run([cc, "-std=c99", "-O3", "main.c", "net.c", "-o", "run", "-lm"], cwd=folder, check=True)
        us = float(
            subprocess.run([folder / "run"], capture_output=True, text=True, check=True).stdout.split()[0]
        )
        subprocess.run([cc, "-std=c99", "-Os", "-c", "net.c"], cwd=folder, check=True)
        sections = subprocess.run(
            ["size", "-A", "net.o"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
        code = sum(int(n) for n in re.findall(r"^\.text\S*\s+(\d+)", sections, re.MULTILINE))
    return us, code, files.weight_bytes, files.state_bytes, files.error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--cells", nargs="+", default=["simple_rnn", "gru", "lstm"])
    given = parser.parse_args()
    print(
        "| cell | units | weights | C us | stream us | code bytes | weight bytes | state bytes | int8 error |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for cell in given.cells:
        for units in given.units:
            model = model_of(cell, units)
            ours = stream_us(model)
            for weights in ("float", "int8"):
                us, code, n_weights, n_states, error = c_row(model, weights)
                print(
                    f"| {cell} | {units} | {weights} | {us:.2f} | {ours:.2f} | {code} | {n_weights} | {n_states} | "
                    f"{error:.1e} |"
                )


if __name__ == "__main__":
    main()

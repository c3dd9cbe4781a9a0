"""What does `unroll=True` gain? python -m benchmarks.unrolled [--base COMMIT] [--batches 1 16 64]

Each size is measured with the looped and the unrolled kernels in turn, on one thread: inference of 100 time steps, a
training step of 100 time steps (forward, backward, weight gradients, SGD), and a streamed step. Looped and unrolled
layers are in processes of their own, and with `--base` the looped layer of another commit too, from a checkout in a
temporary folder. Compiling a size for the first time is timed too; it is kept on disk.

A time step of a single sequence is a chain of operations that wait for each other: the multiply-adds of the recurrent
product, whose order of additions is fixed, the functions, and the new state's way through memory to the next step. The
time of each link is measured on this machine. A table shows their sum beside the time that a step takes, and how many
times faster than the base a call would be whose steps took only that sum.

Written to benchmarks/results/: unrolled.json and unrolled.md, with the width of the vectors in their names where code is
generated for another processor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.compare import checked_out
from benchmarks.processes import JsonProcess
from benchmarks.report import described, table
from benchmarks.timing import environment, suffix
from benchmarks.unrolled_worker import N_INPUTS, N_STEPS
from fastrnn.bench.cases import CELLS
from fastrnn.bench.timing import seconds_of
from fastrnn.engine.kernels import elementary
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS, lanes
from fastrnn.engine.runtime.jit import jit

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
WORKER = Path(__file__).with_name("unrolled_worker.py")
JOBS = ("inference", "training", "streamed step")
BLOCK_SECONDS = 2e-3

#: After the recurrent product: operations of a step that wait for each other, up to the new state.
CHAINS = {
    "simple_rnn": ("tanh",),
    "gru": ("sigmoid", "fma", "tanh", "add", "fma"),
    "lstm": ("sigmoid", "fma", "tanh", "mul"),
}


# --- the links of the chain ------------------------------------------------------------------------------------------


@jit(fastmath=False)
def _add(x, n):
    y = x[0]
    for _ in range(n):
        y = y + x[1]
    x[2] = y


@jit(fastmath=False)
def _mul(x, n):
    y = x[0]
    for _ in range(n):
        y = y * x[1]
    x[2] = y


@jit
def _fma(x, n):
    y = x[0]
    for _ in range(n):
        y = y * x[1] + x[3]
    x[2] = y


@jit
def _mul_in_memory(x, n):
    for _ in range(n):
        for i in range(x.shape[0]):
            x[i] = x[i] * x[i]


@jit
def _tanh_in_memory(x, n):
    for _ in range(n):
        for i in range(x.shape[0]):
            x[i] = elementary.tanh(x[i])


@jit
def _sigmoid_in_memory(x, n):
    for _ in range(n):
        for i in range(x.shape[0]):
            x[i] = elementary.sigmoid(x[i])


def latencies() -> dict[str, float]:
    """Seconds from an operand to the result of each link; "memory" is storing a vector and loading it again."""
    repeats = 20_000  # so that the call takes no part of it
    x = np.ones(lanes(np.float32), np.float32)  # products stay as they are

    def of(function: Callable[[Any, int], None]) -> float:
        copy = x.copy()
        function(copy, 1)
        return min(seconds_of(lambda: function(copy, repeats), 1) for _ in range(50)) / repeats

    found = {"add": of(_add), "mul": of(_mul), "fma": of(_fma)}
    found["memory"] = of(_mul_in_memory) - found["mul"]
    found["tanh"] = of(_tanh_in_memory) - found["memory"]
    found["sigmoid"] = of(_sigmoid_in_memory) - found["memory"]
    return found


def chain_seconds(cell: str, units: int, links: dict[str, float]) -> float:
    """Seconds of the chain of operations of one time step of a single sequence."""
    return units * links["fma"] + sum(links[name] for name in CHAINS[cell]) + links["memory"]


# --- measuring -------------------------------------------------------------------------------------------------------


class Size(NamedTuple):
    """What is measured."""

    cell: str
    units: int
    batch: int


class Worker(JsonProcess):
    """A process with fastrnn of one folder, whose layers are looped or unrolled."""

    def __init__(self, tree: Path, cache: Path | None, unroll: bool) -> None:
        variables = {**os.environ}
        variables.pop("PYTHONPATH", None)
        if cache is not None:
            variables["NUMBA_CACHE_DIR"] = str(cache)
        super().__init__([sys.executable, "-P", str(WORKER), str(tree)], variables)
        self.unroll = unroll

    def load(self, size: Size) -> float:
        """Prepare a size; seconds until all jobs have run once."""
        return self.ask(**size._asdict(), unroll=self.unroll)

    def time(self, job: str, calls: int) -> float:
        """Seconds of one call."""
        return self.ask(job=job, calls=calls)


def best_times(workers: dict[str, Worker], job: str, rounds: int) -> dict[str, float]:
    """Least seconds of a call of each worker; blocks of calls in turn."""
    calls = max(1, int(BLOCK_SECONDS / next(iter(workers.values())).time(job, 20)))
    times = [[worker.time(job, calls) for worker in workers.values()] for _ in range(rounds)]
    return dict(zip(workers, np.min(times, axis=0).tolist(), strict=True))


def compile_seconds(cell: str) -> tuple[float, float]:
    """Seconds until all jobs have run once, with an empty cache: looped, and then unrolled."""
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(ROOT, Path(folder), False)
        try:
            looped = worker.load(Size(cell, 8, 1))
            worker.unroll = True
            return looped, worker.load(Size(cell, 8, 1))
        finally:
            worker.close()


@contextlib.contextmanager
def all_workers(base: str | None) -> Iterator[dict[str, Worker]]:
    """The processes, by the names of their figures."""
    with contextlib.ExitStack() as stack:
        places: dict[str, tuple[Path, Path | None, bool]] = {
            "looped": (ROOT, None, False),
            "unrolled": (ROOT, None, True),
        }
        if base is not None:
            old, _ = stack.enter_context(checked_out(base, "."))
            places = {"base": (old.path, old.cache, False), **places}
        workers = {}
        for name, place in places.items():
            workers[name] = Worker(*place)
            stack.callback(workers[name].close)
        yield workers


# --- the report ------------------------------------------------------------------------------------------------------


def chain_row(size: Size, times: dict[str, dict[str, float]], links: dict[str, float]) -> dict[str, float]:
    """The chain beside what a step takes, and the ratio to the base of a call whose steps took only the chain."""
    steps, single = times["inference"]["unrolled"], times["one step"]["unrolled"]
    measured = (steps - single) / (N_STEPS - 1)
    chain = chain_seconds(size.cell, size.units, links)
    row = {"chain": chain, "step": measured, "call": single - measured}
    slow = times["inference"].get("base", times["inference"]["looped"])
    return {**row, "ratio": slow / steps, "possible": slow / (row["call"] + N_STEPS * chain)}


def shown(times: dict[str, float]) -> str:
    """Microseconds of each process, and how many times faster than the others the unrolled kernels are."""
    unrolled = times["unrolled"]
    ratios = [f"{seconds / unrolled:.2f}" for name, seconds in times.items() if name != "unrolled"]
    return f"{' / '.join(f'{seconds * 1e6:.2f}' for seconds in times.values())}: {', '.join(ratios)}"


def means(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Geometric means of the ratios by job and batch size."""
    lines = []
    for other in ("looped", "base"):
        for batch in dict.fromkeys(row["batch"] for row in rows):
            texts = []
            for job in JOBS:
                ratios = [
                    row[other] / row["unrolled"]
                    for row in rows
                    if row["job"] == job and row["batch"] == batch and other in row
                ]
                if ratios:
                    texts.append(f"{job} {np.exp(np.mean(np.log(ratios))):.2f} (least {min(ratios):.2f})")
            if texts:
                lines.append(f"Geometric means of {other} / unrolled, batch {batch}: {', '.join(texts)}.")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.unrolled", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--units", type=int, nargs="+", default=(8, 16, 32))
    parser.add_argument("--batches", type=int, nargs="+", default=(1,))
    parser.add_argument("--base", help="a commit, whose looped kernels are measured too")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if min(*args.units, *args.batches, args.rounds) < 1:
        parser.error(
            f"--units, --batches and --rounds must be positive, got {args.units}, {args.batches}, {args.rounds}"
        )
    compiled = {cell: compile_seconds(cell) for cell in args.cells}
    links = latencies()
    rows, lines, chains = [], [], []
    with all_workers(args.base) as workers:
        for size in (Size(c, u, b) for c in args.cells for u in args.units for b in args.batches):
            for worker in workers.values():
                worker.load(size)
            times = {job: best_times(workers, job, args.rounds) for job in (*JOBS, "one step")}
            rows += [{**size._asdict(), "job": job, **times[job]} for job in times]
            lines.append([*size, *(shown(times[job]) for job in JOBS)])
            print(*lines[-1], sep="\t", flush=True)
            if size.batch == 1:
                chains.append({**size._asdict(), **chain_row(size, times, links)})
    against = "the looped kernels" if args.base is None else f"those of {args.base}"
    order = " / ".join(workers)
    notes = [
        described(environment()),
        f"Vectors of {VECTOR_BITS} bits; {N_STEPS} steps and {N_INPUTS} inputs, one thread. Times in us: {order}.",
        *means(rows),
        "Seconds until all have run once at 8 units and batch 1, with an empty cache: "
        + "; ".join(
            f"{cell} {first:.1f}, then unrolled {then:.1f}" for cell, (first, then) in compiled.items()
        )
        + ".",
    ]
    heads = ["cell", "units", "batch", *(f"{job}: {order}, and ratios" for job in JOBS)]
    text = notes + ["\n".join(table(heads, lines))]
    if chains:
        text += [
            f"Nanoseconds of the links of a step's chain: {', '.join(f'{k} {v * 1e9:.2f}' for k, v in links.items())}.",
            "\n".join(table(chain_heads(against), [chain_line(row) for row in chains])),
        ]
    print("\n".join([*notes, *text[len(notes) + 1 :]]))
    kept = {"environment": environment(), "bits": VECTOR_BITS, "base": args.base, "compile_seconds": compiled}
    kept |= {"latencies": links, "rows": rows, "chains": chains}
    name = f"unrolled{suffix()}"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.md").write_text("\n\n".join(text) + "\n")
    (args.out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0


def chain_heads(against: str) -> list[str]:
    return [
        "cell",
        "units",
        "chain of a step, ns",
        "step, ns",
        "chain / step",
        "call without steps, us",
        f"times {against}",
        "if steps took the chain",
    ]


def chain_line(row: dict[str, Any]) -> list[Any]:
    return [
        row["cell"],
        row["units"],
        f"{row['chain'] * 1e9:.1f}",
        f"{row['step'] * 1e9:.1f}",
        f"{row['chain'] / row['step']:.0%}",
        f"{row['call'] * 1e6:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['possible']:.2f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())

"""Is one commit slower than another? python -m benchmarks.compare OLD [NEW]

Both commits are checked out in git worktrees in a temporary folder, each with a kernel cache of its own, and run the same
few cases in worker processes that take turns, block by block: old, new, new, old, ... Ratios are new time over old time.
Two processes of one program may differ by some per cent as long as they run, so several pairs of processes are timed. The
noise of a case is the larger of two figures: half the range of the ratio between pairs, and the half-width of the 99%
interval of the median over all rounds. A case is slower if its ratio exceeds 1 + max(bound, noise). Exit code: 0 if no
case is slower, 1 if one is, 2 after an error. NEW is HEAD by default; "." is the working tree with its uncommitted changes.

First fits are compared too: the time and the CPU time of a small LSTM's first fit in a fresh process, with an empty cache of
kernels and with a full one, and the number of functions that were compiled. Where a second core is free, the time is shorter
than the CPU time, because code is made in threads.

    python -m benchmarks.compare HEAD~1              # the last commit
    python -m benchmarks.compare main . --bound 0.1  # uncommitted changes
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.processes import JsonProcess
from benchmarks.report import table
from fastrnn.bench.cases import CELLS, KINDS, Case, Size

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("compare_worker.py")
BLOCK_SECONDS = 0.03
START = """
import json, time
import numpy as np
from fastrnn import RNNClassifier
from numba.core import event

class Compiled(event.Listener):
    names = []
    def on_start(self, e): self.names.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e): pass

event.register("numba:compile", Compiled())
x = np.random.default_rng(0).standard_normal((100, 8, 8)).astype("float32")
y = (x.sum((1, 2)) > 0).astype("int64")
clocks = time.perf_counter, time.process_time
start = [clock() for clock in clocks]
RNNClassifier(units=32, max_iter=2, tol=None, random_state=0, n_jobs=%d).fit(x, y).predict(x)
print(json.dumps([[clock() - t for clock, t in zip(clocks, start)], len(Compiled.names)]))
"""
SIZES = (Size(1, 100, 32, 32), Size(32, 100, 32, 32), Size(32, 60, 64, 128))


def cases(cells: Sequence[str], most_units: int) -> list[Case]:
    sizes = [s for s in SIZES if s.units <= most_units]
    plain = [Case(c, s, kind) for c in cells for kind in KINDS for s in sizes]
    steps = [Case(c, Size(1, 1, 32, 32)) for c in cells]
    ragged = [Case(c, Size(32, 100, 32, 32), kind, variant="ragged") for c in cells for kind in KINDS]
    return [*steps, *plain, *ragged]


# --- the decision ----------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """New time over old time, its noise, and the ratio that is tolerated."""

    ratio: float
    noise: float
    bound: float

    @property
    def slower(self) -> bool:
        return self.ratio > 1 + max(self.bound, self.noise)

    @property
    def faster(self) -> bool:
        return self.ratio < 1 / (1 + max(self.bound, self.noise))

    @property
    def noisy(self) -> bool:
        """Whether the noise hides changes as large as the bound."""
        return self.noise > self.bound

    def __str__(self) -> str:
        if self.slower:
            return "SLOWER"
        if self.faster:
            return "faster"
        return "too noisy to tell" if self.noisy else "same"


def median_half_width(values: NDArray) -> float:
    """Half-width of the 99% interval of the median, from order statistics, for any distribution of the values."""
    n = len(values)
    ordered = np.sort(values)
    # The rank k with P(Binomial(n, 1/2) < k) <= 0.5%: the k-th smallest and largest values enclose the median.
    total, k = 0.0, 0
    while k < n // 2:
        total += math.comb(n, k) / 2.0**n
        if total > 0.005:
            break
        k += 1
    low, high = ordered[max(k - 1, 0)], ordered[min(n - k, n - 1)]
    return float(high - low) / 2


def decide(pairs: Sequence[tuple[ArrayLike, ArrayLike]], bound: float) -> Verdict:
    """Compare the seconds of both commits over all pairs of processes.

    Parameters
    ----------
    pairs : list of (old, new)
        Seconds of both commits, arrays of equal length; element i of both was measured in round i.
    bound : float
        Slow-down that is tolerated; 0.05 is 5%.
    """
    logs = [np.log(np.asarray(new, float)) - np.log(np.asarray(old, float)) for old, new in pairs]
    if not logs or not all(len(log) for log in logs):
        raise ValueError(f"pairs={pairs!r}: at least one pair with at least one round is needed")
    middles = [float(np.median(log)) for log in logs]
    between = (max(middles) - min(middles)) / 2
    within = median_half_width(np.concatenate(logs))
    return Verdict(math.exp(float(np.median(middles))), math.expm1(max(between, within)), bound)


# --- workers ---------------------------------------------------------------------------------------------------------


class Worker(JsonProcess):
    """A process that imports fastrnn of one commit, and runs blocks of calls on request."""

    def __init__(self, tree: Path, cache: Path, threads: int) -> None:
        variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
        variables.pop("PYTHONPATH", None)
        super().__init__([sys.executable, "-P", str(WORKER), str(ROOT), str(tree), str(threads)], variables)

    def load(self, number: int, case: Case) -> float:
        """Prepare and compile a case; return the seconds of one call."""
        size = [case.size.batch, case.size.steps, case.size.inputs, case.size.units]
        return self.ask(
            load=number, cell=case.cell, size=size, kind=case.kind, dtype=case.dtype, variant=case.variant
        )

    def time(self, number: int, calls: int) -> float:
        """Seconds per call."""
        return self.ask(run=number, calls=calls)


@dataclass(frozen=True)
class Tree:
    """A checked-out commit and its kernel cache."""

    name: str
    path: Path
    cache: Path


@contextlib.contextmanager
def checked_out(old: str, new: str) -> Iterator[tuple[Tree, Tree]]:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    with tempfile.TemporaryDirectory(prefix="compare-", ignore_cleanup_errors=True) as folder:
        made, trees = [], []
        try:
            for side, commit in (("old", old), ("new", new)):
                path, cache = Path(folder, side), Path(folder, f"{side}-kernels")
                cache.mkdir()
                if commit == ".":
                    path = ROOT
                else:
                    git("worktree", "add", "--detach", str(path), git("rev-parse", f"{commit}^{{commit}}"))
                    made.append(path)
                trees.append(Tree(commit, path, cache))
            yield trees[0], trees[1]
        finally:
            for path in made:
                git("worktree", "remove", "--force", str(path))


def race(old: Worker, new: Worker, wanted: Sequence[Case], rounds: int) -> list[tuple[NDArray, NDArray]]:
    """Seconds per call of both commits for each case, one value for each round."""
    found = []
    for number, case in enumerate(wanted):
        once = max(worker.load(number, case) for worker in (old, new))
        calls = max(1, math.ceil(BLOCK_SECONDS / max(once, 1e-9)))
        times = np.empty((rounds, 2))
        for i in range(rounds):
            # Alternate the order, so that a drift of the machine's speed affects both alike.
            for side in (0, 1) if i % 2 == 0 else (1, 0):
                times[i, side] = (old, new)[side].time(number, calls)
        found.append((times[:, 0], times[:, 1]))
    return found


def compare(
    trees: tuple[Tree, Tree], wanted: Sequence[Case], pairs: int, rounds: int, threads: int
) -> list[list[tuple[NDArray, NDArray]]]:
    """The times of each pair of processes, for each case."""
    found: list[list[tuple[NDArray, NDArray]]] = [[] for _ in wanted]
    for k in range(pairs):
        print(f"pair {k + 1} of {pairs} ...", file=sys.stderr, flush=True)
        # Alternate which process starts first, because it may get better memory.
        order = (0, 1) if k % 2 == 0 else (1, 0)
        workers: dict[int, Worker] = {}
        try:
            for side in order:
                workers[side] = Worker(trees[side].path, trees[side].cache, threads)
            for case_times, times in zip(found, race(workers[0], workers[1], wanted, rounds), strict=True):
                case_times.append(times)
        finally:
            for worker in workers.values():
                worker.close()
    return found


def first_fit(tree: Tree, cache: Path, threads: int) -> tuple[tuple[float, float], int]:
    """Seconds, and seconds of CPU time, of a first fit in a fresh process, and the number of functions that it compiles."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(tree.path)}
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", START % threads],
        env=variables, cwd=cache, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the first fit of {tree.name} failed: {done.stderr[-2000:]}")
    (elapsed, cpu), functions = json.loads(done.stdout.splitlines()[-1])
    return (elapsed, cpu), functions


def compare_starts(
    trees: tuple[Tree, Tree], rounds: int, threads: int
) -> tuple[dict[str, tuple[NDArray, NDArray]], tuple[int, int]]:
    """Seconds of first fits of both commits with an empty and with a full cache, and numbers of compiled functions."""
    times = {"empty": np.empty((rounds, 2, 2)), "full": np.empty((rounds, 2, 2))}
    functions = [0, 0]
    for i in range(rounds):
        print(f"first fit {i + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            with tempfile.TemporaryDirectory(prefix="start-") as folder:
                times["empty"][i, side], functions[side] = first_fit(trees[side], Path(folder), threads)
                times["full"][i, side], _ = first_fit(trees[side], Path(folder), threads)
    found = {
        f"first fit, {cache} cache{clock}": (t[:, 0, k], t[:, 1, k])
        for cache, t in times.items()
        for k, clock in enumerate(("", ", CPU time"))
    }
    return found, (functions[0], functions[1])


def report(wanted: Sequence[Any], verdicts: Sequence[Verdict], old_seconds: Sequence[float]) -> str:
    """The table of all cases."""
    lines = [
        (str(case), f"{seconds * 1e3:.3g}", f"{v.ratio:.3f}", f"{v.noise:.1%}", str(v))
        for case, v, seconds in zip(wanted, verdicts, old_seconds, strict=True)
    ]
    return "\n".join(table(("case", "old, ms", "new / old time", "noise", ""), lines))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", default="HEAD", help='a commit, or "." (default HEAD)')
    parser.add_argument(
        "--bound", type=float, default=0.05, help="slow-down that is tolerated (default 0.05)"
    )
    parser.add_argument("--pairs", type=int, default=3, help="pairs of processes (default 3)")
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds of each case in each pair (default 15)"
    )
    parser.add_argument("--starts", type=int, default=3, help="first fits of each kind (default 3; 0: none)")
    parser.add_argument("--threads", type=int, default=1, help="number of threads of the layers (default 1)")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--most-units", type=int, default=SIZES[-1].units)
    args = parser.parse_args(argv)
    if args.bound <= 0 or args.pairs < 1 or args.rounds < 1 or args.starts < 0:
        parser.error(
            f"--bound, --pairs and --rounds must be positive and --starts not negative, got {args.bound}, {args.pairs}, "
            f"{args.rounds}, {args.starts}"
        )
    wanted: list[Any] = list(cases(args.cells, args.most_units))
    try:
        with checked_out(args.old, args.new) as trees:
            times = compare(trees, wanted, args.pairs, args.rounds, args.threads)
            starts, functions = compare_starts(trees, args.starts, args.threads)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    if args.starts:
        wanted += starts
        times += [[pair] for pair in starts.values()]
    verdicts = [decide(pairs, args.bound) for pairs in times]
    seconds = [float(np.median(np.concatenate([old for old, _ in pairs]))) for pairs in times]
    print(report(wanted, verdicts, seconds))
    slower = sum(v.slower for v in verdicts)
    mean = math.exp(float(np.mean([math.log(v.ratio) for v in verdicts])))
    print(f"\nGeometric mean of all ratios: {mean:.3f}.")
    if args.starts:
        print(f"Functions compiled in a first fit: {functions[0]} before, {functions[1]} now.")
    print(f"{args.old} -> {args.new}: {slower} of {len(wanted)} cases slower, bound {args.bound:.0%}.")
    return 1 if slower else 0


if __name__ == "__main__":
    raise SystemExit(main())

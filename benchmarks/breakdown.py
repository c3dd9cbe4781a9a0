"""Where the time of a pass goes: python -m benchmarks.breakdown [CASE ...]

A CASE is written as in fastrnn.bench.cases: lstm-inference-B32xT100xI64xH128. The time of the calling thread is divided into
that of Python, of the matrix products, of the pointwise functions, and so on; all of it belongs to one of these parts. They
are counted by the processor's cycle counter, read around the parts of the time loops in a copy of the package (see
`instrumented`), in a process of its own.

In turn with it, the same case is timed with the package as it is. The sum of the parts, without the time that reading the
counter takes, has to be within a tenth of that time: otherwise the counters have changed what they measure, the table says
so, and the exit code is 1. As a case in which other processes took a core looks the same, it is measured up to three times
until the sum holds. Where `perf` has counters of the processor, they are given too.

Written to benchmarks/results/: breakdown.json and breakdown.md, with the width of the vectors in their names where code is
generated for another processor. For x86-64 under Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.instrumented import ROOT, copy_with_laps
from benchmarks.laps import HANDOVER, PARTS, SUPPORTED
from benchmarks.processes import JsonProcess
from benchmarks.report import described, table
from benchmarks.timing import environment, suffix
from fastrnn.bench.cases import CLOSE_SIZES, KINDS, SIZES, Case, Size, case_named
from fastrnn.bench.peers import thread_counts
from fastrnn.bench.timing import PAUSE_SECONDS, wait

RESULTS = Path(__file__).parent / "results"
#: The sum of the parts may differ from the whole by this share of it.
MOST_OFF = 0.1
TRIES = 3

_WIDE = Size(33, 80, 300, 72)
_SIZES = (Size(1, 100, 32, 32), *(size for size in SIZES + CLOSE_SIZES if size.units > 32 and size != _WIDE))
CASES = tuple(
    Case(cell, size, kind)
    for kind in KINDS
    for cell, sizes in (("lstm", _SIZES), ("gru", (_WIDE,)))
    for size in sizes
)
EVENTS = ("cycles", "instructions", "cache-misses", "context-switches", "page-faults")


@dataclass
class Row:
    """The parts of one case, in seconds per call; `others` are those of all other threads together."""

    case: str
    threads: int
    whole: float
    total: float
    #: The median over the rounds of the sum of the parts over the whole.
    ratio: float
    parts: dict[str, float]
    others: dict[str, float]
    counters: dict[str, float]
    #: How often the case was measured: the last time counts.
    tries: int = 1

    @property
    def holds(self) -> bool:
        return abs(self.ratio - 1) <= MOST_OFF

    @property
    def busy(self) -> float:
        """How many other threads are at work, on average."""
        waiting = self.others[PARTS[HANDOVER]]
        return (sum(self.others.values()) - waiting) / self.total


class Side(JsonProcess):
    """A process that runs cases with the package of a folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        variables = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        super().__init__(
            [sys.executable, "-m", "benchmarks.breakdown_worker", *arguments],
            {**(variables if arguments else os.environ), "PYTHONPATH": str(folder)},
            folder,
        )


def counters(side: Side, calls: int) -> dict[str, float]:
    """What `perf` counts in a call; empty if there is no `perf`, and without what it can't count here."""
    if shutil.which("perf") is None:
        return {}
    command = ["perf", "stat", "-x", ";", "-e", ",".join(EVENTS), "-p", str(side.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as perf:
        wait(0.1)  # until it counts
        if perf.poll() is None:
            side.ask(calls=calls)
            perf.send_signal(signal.SIGINT)
        assert perf.stderr is not None
        lines = [line.split(";") for line in perf.stderr]
    found = {line[2].partition(":")[0]: line[0] for line in lines if len(line) > 2}
    # One call more than was asked for wakes the threads.
    return {name: float(value) / (calls + 1) for name, value in found.items() if value.isdecimal()}


def measure(case: Case, threads: int, plain: Side, copy: Side, rounds: int) -> Row:
    """The parts of a case, as medians over the rounds."""
    calls = plain.ask(case=str(case), threads=threads)
    copy.ask(case=str(case), threads=threads)
    wholes, own, others = [], [], []
    for _ in range(rounds):
        wait(PAUSE_SECONDS)
        wholes.append(plain.ask(calls=calls))
        wait(PAUSE_SECONDS)
        parts, rest, _ = copy.ask(calls=calls)
        own.append(parts)
        others.append(rest)
    totals = np.sum(own, axis=1)
    middle = np.argsort(totals)[rounds // 2]  # parts of one round, so that they add up
    return Row(
        str(case),
        threads,
        float(np.median(wholes)),
        float(totals[middle]),
        float(np.median(totals / np.array(wholes))),
        dict(zip(PARTS, own[middle], strict=True)),
        dict(zip(PARTS, others[middle], strict=True)),
        counters(plain, calls),
    )


def markdown(rows: Sequence[Row], info: dict[str, Any]) -> str:
    lines = []
    for row in rows:
        shares = [f"{100 * row.parts[part] / row.total:.1f}" for part in PARTS]
        check = f"{row.ratio:.2f}" + ("" if row.holds else " **NO**")
        name, us = row.case.removesuffix("-float32"), 1e6
        lines.append(
            [
                name,
                row.threads,
                f"{row.whole * us:.4g}",
                check,
                *shares,
                f"{row.busy:.2f}" if row.threads > 1 else "",
            ]
        )
    head = [
        "case",
        "threads",
        "whole, us",
        "sum / whole",
        *(f"{part}, %" for part in PARTS),
        "others at work",
    ]
    held = sum(row.holds for row in rows)
    text = [
        described(info),
        "",
        "`whole` is the median time of a call of the package as it is; the parts are shares of the calling thread's time "
        "in a copy that counts them. The hand-over includes the wait for other threads, of which `others at work` is the "
        "number that compute something, on average. `time loop` is what the loops do between the parts: addresses and "
        "views.",
        "",
        *table(head, lines),
        "",
        f"The sum of the parts is within {MOST_OFF:.0%} of the whole in {held} of {len(rows)} rows; "
        f"{sum(row.tries > 1 for row in rows)} were measured more than once (`tries` in the JSON file).",
    ]
    counted = [row for row in rows if row.counters]
    names = [name for name in EVENTS if any(name in row.counters for row in counted)]
    missing = [name for name in EVENTS if name not in names]
    if counted:
        text += ["", "Counters of `perf`, per call:", ""]
        text += table(
            ["case", "threads", *names],
            [
                [row.case, row.threads, *(f"{row.counters.get(n, np.nan):.4g}" for n in names)]
                for row in counted
            ],
        )
    if missing:
        text += ["", f"`perf` is missing here, or has no counter of {', '.join(missing)}."]
    return "\n".join(text) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.breakdown", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: cases in which peers were close")
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help="keep the stored rows of other cases")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if not SUPPORTED:
        parser.error("the cycle counter is read on x86-64 only, under Linux and macOS, by compiled code")
    if args.rounds < 1 or min(args.threads) < 1:
        parser.error(f"--rounds {args.rounds} and --threads {args.threads} must be at least 1")
    try:
        cases = [case_named(name) for name in args.cases] or list(CASES)
    except ValueError as error:
        parser.error(str(error))
    info = environment()
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"breakdown{suffix()}"
    rows: list[Row] = []
    wanted = {(str(case), threads) for case in cases for threads in args.threads}
    if args.keep and stem.with_suffix(".json").exists():
        stored = json.loads(stem.with_suffix(".json").read_text())["rows"]
        rows = [row for row in (Row(**fields) for fields in stored) if (row.case, row.threads) not in wanted]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        copy_with_laps(folder)
        plain, copy = Side(ROOT), Side(folder, "--laps")
        stack.callback(copy.close)
        stack.callback(plain.close)
        for case in cases:
            for threads in args.threads:
                for tries in range(1, TRIES + 1):
                    row = measure(case, threads, plain, copy, args.rounds)
                    row.tries = tries
                    if row.holds:
                        break
                rows.append(row)
                parts = ", ".join(f"{part} {value * 1e6:.4g}" for part, value in row.parts.items())
                print(
                    f"{case}, {threads} threads: {row.whole * 1e6:.4g} us; {parts}; sum {row.ratio:.2f}",
                    flush=True,
                )
                content = {"environment": info, "rows": [asdict(row) for row in rows]}
                stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
                stem.with_suffix(".md").write_text(markdown(rows, info))
    print(markdown(rows, info))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

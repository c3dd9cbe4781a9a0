"""Does fastrnn get along with others? python -m benchmarks.neighbours

- Beside the threads of another library in one process, which wait actively for a while after each call: both libraries
  are called in turn, the other one with one thread and with two. With one thread it takes data out of the caches too,
  but has no thread that waits.
- On one core, while two threads were asked for: compared with one thread that was set by hand.
- In a control group with the processor time of one core or of half a core, with two threads asked for: the same. Only where
  this user may make such a group.

Every row is measured in a process of its own; times are medians of calls, and means with less than two cores.

Written to benchmarks/results/: neighbours.json and neighbours.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.cases import case_named
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import installed, peer_contenders

RESULTS = Path(__file__).parent / "results"
CASES = (
    "gru-inference-B128xT50xI256xH512",
    "lstm-inference-B32xT100xI64xH128",
    "lstm-training-B32xT100xI32xH32",
)
#: The modules that a library needs.
LIBRARIES = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino",)}
#: What a call may take longer than alone, beside others and on fewer cores than threads.
BESIDE, FEWER = 1.15, 1.1
GROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000


def median_seconds(runs: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Medians of the seconds of calls that are made in turn, for about this time."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def beside(name: str, library: str, seconds: float) -> dict[str, float]:
    """Ours alone, and in turn with a library on one thread and on several; theirs on several alone, and in turn.

    On one thread a library takes our data out of the caches as well, but none of its threads waits actively.
    """
    case = case_named(name)
    (ours,) = fastrnn_contenders(case, (2,))
    alone = median_seconds([ours.run], seconds)[0]
    found = {"ours": alone}
    for threads, key in (("1", "one"), ("2", "several")):
        best = None
        for theirs in peer_contenders(case, (library,)):
            if theirs.threads == threads:
                theirs.prepare()
                took = median_seconds([theirs.run], seconds / 2)[0]
                best = min(filter(None, (best, (took, theirs))), key=lambda pair: pair[0])
        if best is None:
            raise ValueError(f"{library} has no contender of {threads} threads")
        best[1].prepare()
        time.sleep(0.3)  # until its threads sleep
        found[f"{key}_alone"] = best[0]
        found[f"ours_{key}"], found[f"{key}_beside"] = median_seconds([ours.run, best[1].run], 2 * seconds)
    return found


def mean_seconds(run: Callable[[], Any], seconds: float) -> float:
    """Mean of the seconds of calls: a control group stops its threads in few of them, for long."""
    run()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        calls += 1
    return (time.perf_counter() - start) / calls


def fewer(name: str, cores: float, seconds: float) -> dict[str, float]:
    """One thread set by hand, and two threads, in turn block by block."""
    if cores == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    case = case_named(name)
    one, two = (next(fastrnn_contenders(case, (count,))).run for count in (1, 2))
    found = [(mean_seconds(one, seconds), mean_seconds(two, seconds)) for _ in range(3)]
    return {"one": min(pair[0] for pair in found), "two": min(pair[1] for pair in found)}


@contextlib.contextmanager
def control_group(cores: float) -> Iterator[Callable[[], None]]:
    """Make a control group with this much processor time; what is given moves the calling process into it.

    Raises
    ------
    OSError
        If this user may not, or there are no control groups.
    """
    old = (GROUPS / "cpu").is_dir()
    group = (GROUPS / "cpu" if old else GROUPS) / f"fastrnn_{os.getpid()}"
    group.mkdir()
    try:
        if old:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD)))
        else:
            (group / "cpu.max").write_text(f"{int(cores * PERIOD)} {PERIOD}")

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield enter
    finally:
        group.rmdir()


def in_process(*arguments: str, prepare: Callable[[], None] | None = None) -> dict[str, float]:
    """What this module measures in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.neighbours", "--measure", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=prepare,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def rows_beside(seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of libraries that are installed."""
    for library, modules in LIBRARIES.items():
        if not installed(*modules):
            print(f"{library} is not installed: left out", file=sys.stderr)
            continue
        for name in CASES:
            if "training" in name and library != "torch":
                continue
            yield {"beside": library, "case": name} | in_process("beside", name, library, str(seconds))


def rows_fewer(seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of less than two cores."""
    for name in CASES:
        if hasattr(os, "sched_setaffinity"):
            yield {"cores": "one core"} | {"case": name} | in_process("fewer", name, "1", str(seconds))
        for cores in (1.0, 0.5):
            try:
                with control_group(cores) as enter:
                    found = in_process("fewer", name, "2", str(seconds), prepare=enter)
            except OSError as error:
                print(f"no control group of {cores:g} cores: {error}", file=sys.stderr)
                continue
            yield {"cores": f"control group of {cores:g}", "case": name} | found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.neighbours", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each median (default 1)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        kind, name, other, seconds = args.measure
        found = (
            beside(name, other, float(seconds))
            if kind == "beside"
            else fewer(name, float(other), float(seconds))
        )
        print(json.dumps(found))
        return 0
    pairs, alone, kept = [], [], []
    for row in rows_beside(args.seconds):
        ours = row["ours_several"] / row["ours_one"]
        verdict = "" if ours <= BESIDE else " **over**"
        pairs.append(
            [
                row["beside"],
                row["case"],
                f"{row['ours'] * 1e3:.3g}",
                f"{row['ours_one'] / row['ours']:.2f}",
                f"{ours:.2f}{verdict}",
                f"{row['several_beside'] / row['several_alone']:.2f}",
            ]
        )
        kept.append(row)
        print(*pairs[-1], sep="\t", flush=True)
    for row in rows_fewer(args.seconds):
        ratio = row["two"] / row["one"]
        verdict = "" if ratio <= FEWER else " **over**"
        alone.append([row["cores"], row["case"], f"{row['one'] * 1e3:.3g}", f"{ratio:.2f}{verdict}"])
        kept.append(row)
        print(*alone[-1], sep="\t", flush=True)
    heads = [
        "library",
        "case",
        "ours alone, ms",
        "beside one thread / alone",
        "beside two threads / beside one",
        "theirs on two threads, in turn / alone",
    ]
    few = ["processor time", "case", "one thread, ms", "two threads asked for / one"]
    args.out.mkdir(parents=True, exist_ok=True)
    text = [
        described(environment()),
        "In one process with another library, called in turn. Beside its two threads ours should take at most "
        f"{BESIDE} times as long as beside one.",
        "\n".join(table(heads, pairs)),
        f"With less than two cores; two threads should take at most {FEWER} times as long as one.",
        "\n".join(table(few, alone)),
    ]
    (args.out / "neighbours.md").write_text("\n\n".join(text) + "\n")
    (args.out / "neighbours.json").write_text(
        json.dumps({"environment": environment(), "rows": kept}, indent=1) + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Compare fastrnn with its peers on a grid of sizes: python -m benchmarks.grid --sizes all --variants all

Each case (cell, size, inference or training step, variant) is run by fastrnn and by every installed peer, in turns: first
each library in a process of its own, then all in one process, as in a notebook, where the threads of one library may disturb
another.
Before timing, all must give the same output, and for training the same change of the output after one step.

Written to benchmarks/results/: grid.json (medians, with versions and processor), grid.md (a summary, then one table for each
kind and variant), ratios.png (speed of fastrnn over that of the best peer) and roofline.png, and the same of one process as
grid_one_process.json, grid_one_process.md, and so on; with `--name odd` these are odd.json, odd.md, odd_ratios.png,
odd_roofline.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.limits import machine_limits
from benchmarks.report import markdown
from benchmarks.timing import environment, suffix, time_side_by_side
from fastrnn.bench.cases import CELLS, CLOSE_SIZES, KINDS, ODD_SIZES, SIZES, VARIANTS, Case
from fastrnn.bench.leaderboard import installed_peers, measure
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import PEERS, Contender, peer_contenders
from fastrnn.bench.rows import (
    OURS,
    Row,
    best_by_library,
    case_of,
    compare_outputs,
    new_row,
    outputs_of,
    ratio,
)
from fastrnn.bench.worker import Worker

RESULTS = Path(__file__).parent / "results"
SIZE_SETS = {
    "main": SIZES,
    "odd": ODD_SIZES,
    "close": CLOSE_SIZES,
    "all": SIZES + ODD_SIZES + CLOSE_SIZES,
}
#: How libraries are run, and what the names of the files end in.
PROCESSES = {"own": "", "one": "_one_process"}


def check_outputs(contenders: Sequence[Contender], case: Case) -> None:
    """Raise AssertionError if the contenders' outputs differ at valid steps; masked steps are not compared."""
    compare_outputs(case, [(str(contender), outputs_of(contender, case)) for contender in contenders])


def measure_together(case: Case, libraries: Sequence[str], seconds: float) -> list[Row]:
    """One row for each library, number of threads and way of use, all in this process."""
    contenders = list(fastrnn_contenders(case)) if OURS in libraries else []
    contenders += peer_contenders(case, tuple(libraries))
    check_outputs(contenders, case)
    times = time_side_by_side(contenders, seconds=seconds)
    return [
        new_row(case, one.library, one.threads, one.mode, t) for one, t in zip(contenders, times, strict=True)
    ]


def write(
    rows: Sequence[Row], info: dict[str, Any], out: Path, name: str = "grid", pictures: bool = True
) -> None:
    """Write the rows as JSON and as tables, and draw the pictures if matplotlib is installed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"environment": info, "rows": list(rows)}, indent=1) + "\n")
    (out / f"{name}.md").write_text(markdown(rows, info))
    if not pictures:
        return
    try:
        from benchmarks.drawing import draw_ratios, draw_roofline
    except ImportError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return
    best = best_by_library(rows)
    stem = "" if name == "grid" else f"{name}_"
    draw_ratios(best, out / f"{stem}ratios.png")
    draw_roofline(best, info["limits"], out / f"{stem}roofline.png")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--libraries", nargs="+", choices=(OURS, *PEERS), default=(OURS, *PEERS))
    parser.add_argument(
        "--sizes", choices=tuple(SIZE_SETS), default="main", help="which sizes (default main)"
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=(*VARIANTS, "all"),
        default=("plain",),
        help="which networks (default plain); all but plain run on the odd sizes only, unless --sizes main",
    )
    parser.add_argument("--most-units", type=int, default=None, help="leave out sizes with more units")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each library and case (default 1)"
    )
    parser.add_argument(
        "--processes",
        nargs="+",
        choices=tuple(PROCESSES),
        default=tuple(PROCESSES),
        help="each library in its own process, or all in one (default both, one after the other)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the stored rows of other cases")
    parser.add_argument("--name", default="grid", help="name of the files written (default grid)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    return parser.parse_args(argv)


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The cases to measure; variants other than plain are measured at the odd sizes."""
    variants = VARIANTS if "all" in args.variants else tuple(args.variants)
    cases = []
    for kind, variant, cell in product(args.kinds, variants, args.cells):
        sizes = SIZE_SETS[args.sizes]
        if variant != "plain" and args.sizes == "all":
            sizes = ODD_SIZES
        for size in sizes:
            if args.most_units is None or size.units <= args.most_units:
                cases.append(Case(cell, size, kind, args.dtype, variant))
    return cases


def rows_of_cases(
    cases: Sequence[Case], args: argparse.Namespace, processes: str
) -> Iterator[tuple[list[Row], list[str]]]:
    """The rows of each case, and what was left out and why."""
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        if processes == "own":
            for library in args.libraries:
                if library == OURS or library in installed_peers():
                    workers[library] = Worker(library)
                    stack.callback(workers[library].close)
        for case in cases:
            failures: list[str] = []
            try:
                if processes == "own":
                    rows = measure(case, workers, args.seconds, failures)
                else:
                    rows = measure_together(case, args.libraries, args.seconds)
            except AssertionError as error:
                rows, failures = [], [f"{case}: not timed, because the networks differ: {error}"]
            yield rows, failures


def run(args: argparse.Namespace, info: dict[str, Any], processes: str) -> bool:
    """Measure all cases and write the files; return whether no library was left out."""
    name = f"{args.name}{PROCESSES[processes]}{suffix()}"
    cases, stored = cases_of(args), args.out / f"{name}.json"
    rows: list[Row] = []
    if args.keep and stored.exists():
        rows = [row for row in json.loads(stored.read_text())["rows"] if case_of(row) not in cases]
    info = {**info, "processes": processes}
    complete = True
    for case, (new, failures) in zip(cases, rows_of_cases(cases, args, processes), strict=True):
        for failure in failures:
            print(failure, file=sys.stderr, flush=True)
        complete = complete and not failures
        if not new:
            continue
        rows += new
        place = next(iter(best_by_library(new).values()))
        times = "  ".join(f"{name} {row['median_s'] * 1e3:.3g} ms" for name, row in place.items())
        print(f"{case}: {times}  ratio {ratio(place):.2f}", flush=True)
        # After every case, so that an interrupted run keeps its results.
        write(rows, info, args.out, name, pictures=False)
    write(rows, info, args.out, name, pictures=bool(rows))
    print((args.out / f"{name}.md").read_text())
    return complete


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    info = environment()
    load = info["load"]
    if load is not None and load > 0.5:
        print(
            f"the machine is busy (load {load:.1f}): expect noise, above all with two threads",
            file=sys.stderr,
        )
    info["limits"] = machine_limits()
    complete = [run(args, info, processes) for processes in args.processes]
    return 0 if all(complete) else 1


if __name__ == "__main__":
    raise SystemExit(main())

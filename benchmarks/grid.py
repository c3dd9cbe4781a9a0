"""Compare fastrnn with its peers on a grid of sizes: python -m benchmarks.grid --sizes all --variants all

Each case (cell, size, inference or training step, variant) is run by fastrnn and by every installed peer, in turns, in one
process. Before timing, all must give the same output, and for training the same change of the output after one step.
Written to benchmarks/results/: grid.json (every median, with versions and processor), grid.md (a summary, then one table
for each kind and variant), ratios.png (speed of fastrnn over that of the best peer) and roofline.png; with `--name odd`
these are odd.json, odd.md, odd_ratios.png and odd_roofline.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.limits import machine_limits
from benchmarks.report import markdown
from benchmarks.timing import environment, time_side_by_side
from fastrnn.bench.cases import CELLS, KINDS, ODD_SIZES, SIZES, VARIANTS, Case
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import PEERS, Contender, peer_contenders
from fastrnn.bench.rows import OURS, best_by_library, compare_outputs, new_row, outputs_of, ratio

RESULTS = Path(__file__).parent / "results"


def check_outputs(contenders: Sequence[Contender], case: Case) -> None:
    """Raise AssertionError if the contenders' outputs differ at valid steps; masked steps are not compared."""
    compare_outputs(case, [(str(contender), outputs_of(contender, case)) for contender in contenders])


def measure(case: Case, libraries: tuple[str, ...], seconds: float) -> list[dict[str, Any]]:
    """One row for each library and number of threads."""
    contenders = list(fastrnn_contenders(case)) if OURS in libraries else []
    contenders += peer_contenders(case, libraries)
    check_outputs(contenders, case)
    times = time_side_by_side(contenders, seconds=seconds)
    return [
        new_row(case, one.library, one.threads, one.mode, t) for one, t in zip(contenders, times, strict=True)
    ]


def write(
    rows: Sequence[dict[str, Any]], info: dict[str, Any], out: Path, name: str = "grid", pictures: bool = True
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
        "--sizes", choices=("main", "odd", "all"), default="main", help="which sizes (default main)"
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
        sizes = {"main": SIZES, "odd": ODD_SIZES, "all": SIZES + ODD_SIZES}[args.sizes]
        if variant != "plain" and args.sizes == "all":
            sizes = ODD_SIZES
        for size in sizes:
            if args.most_units is None or size.units <= args.most_units:
                cases.append(Case(cell, size, kind, args.dtype, variant))
    return cases


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
    rows: list[dict[str, Any]] = []
    refused = 0
    for case in cases_of(args):
        try:
            new = measure(case, tuple(args.libraries), args.seconds)
        except AssertionError as error:
            refused += 1
            print(f"{case}: not timed, because the networks differ: {error}", file=sys.stderr, flush=True)
            continue
        rows += new
        place = next(iter(best_by_library(new).values()))
        times = "  ".join(f"{name} {row['median_s'] * 1e3:.3g} ms" for name, row in place.items())
        print(f"{case}: {times}  ratio {ratio(place):.2f}", flush=True)
        # After every case, so that an interrupted run keeps its results.
        write(rows, info, args.out, args.name, pictures=False)
    write(rows, info, args.out, args.name)
    print((args.out / f"{args.name}.md").read_text())
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())

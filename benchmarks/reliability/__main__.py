"""Reliability figures: python -m benchmarks.reliability [--short] [--only a b ...]

Prints a table of eight parts, and writes ``results/reliability.json`` and the table of benchmarks/README.md: (a) damaged
files, (b) random inputs, (c) threads, (d) forks, (e) interrupts, (f) damaged caches of kernels, (g) memory over many
calls, (h) extreme numbers. The exit code is 1 if a promise did not hold. With ``--short`` it takes some minutes and
writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reliability import cache, concurrent, inputs, interrupts, mutations, resources
from benchmarks.reliability.parts import ROOT, Result
from benchmarks.timing import environment

RESULTS = Path(__file__).resolve().parents[1] / "results" / "reliability.json"


HEAD = "| part | what is promised | figures | holds |\n|---|---|---|---|"


class Part(NamedTuple):
    """The function of a part, and its arguments for full and short runs."""

    run: Callable[..., list[Result]]
    full: tuple[Any, ...]
    short: tuple[Any, ...]


PARTS = {
    "a": Part(mutations.run, (1_000_000,), (4_000,)),
    "b": Part(inputs.run, (20_000,), (1_500,)),
    "c": Part(concurrent.run, (120.0,), (5.0,)),  # and (d)
    "e": Part(interrupts.run, (150, 60), (4, 8)),
    "f": Part(cache.run, (1_000,), (8,)),
    "g": Part(resources.run, (100_000, 100_000), (2_000, 20_000)),  # and (h)
}


def line(result: Result) -> str:
    """A row of the table."""
    plain = {k: v for k, v in result.figures.items() if not isinstance(v, (list, dict)) and v != ""}
    figures = ", ".join(
        f"{k} {v:,}" if isinstance(v, int) and not isinstance(v, bool) else f"{k} {v}"
        for k, v in plain.items()
    )
    return f"| {result.part} | {result.promise} | {figures} | {'yes' if result.holds else '**no**'} |"


def table(kept: dict[str, Any]) -> str:
    """All kept results, in the order of their parts."""
    results = [Result(**r) for name in PARTS for r in kept["parts"].get(name, {}).get("results", [])]
    minutes = sum(part["seconds"] for part in kept["parts"].values()) / 60
    return "\n".join(
        [HEAD, *map(line, results), "", f"All parts together took {minutes:.0f} minutes with these counts."]
    )


def write(kept: dict[str, Any]) -> None:
    """Write the results, and the table between its two marks in benchmarks/README.md."""
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    readme = ROOT / "benchmarks" / "README.md"
    before, mark, rest = readme.read_text("utf-8").partition("<!-- reliability -->\n")
    _, end, after = rest.partition("<!-- end of reliability -->")
    if mark and end:
        readme.write_text(f"{before}{mark}\n{table(kept)}\n\n{end}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small numbers, to check a change")
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="(d) comes with c, (h) with g"
    )
    parser.add_argument("--count", type=float, help="replaces the first size of each part")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"parts": {}}
    print(HEAD, flush=True)
    failed = False
    for name in given.only:
        part = PARTS[name]
        first, *rest = part.short if given.short else part.full
        start = time.perf_counter()
        results = part.run(type(first)(given.count or first), *rest)
        for result in results:
            print(line(result), flush=True)
            for example, n in (
                (result.figures.get("examples") or {}).items()
                if isinstance(result.figures.get("examples"), dict)
                else []
            ):
                print(f"|  | | {n} x {example} |  |", flush=True)
            failed = failed or not result.holds
        kept["parts"][name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "environment": environment(),
            "results": [result._asdict() for result in results],
        }
        if not given.short:
            write(kept)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

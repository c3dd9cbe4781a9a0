"""The leaderboard of ``fastrnn bench``: each library in a process of its own, in turns; one table and one picture."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.bench.cases import CELLS, KINDS, Case, Size
from fastrnn.bench.drawing import draw_speed
from fastrnn.bench.peers import PEERS, installed
from fastrnn.bench.rows import (
    NAMES,
    OURS,
    TITLES,
    Row,
    best_by_library,
    compare_outputs,
    geometric_mean,
    new_row,
    ratio,
    table,
)
from fastrnn.bench.timing import PAUSE_SECONDS, wait
from fastrnn.bench.worker import LibraryFailed, Loaded, Worker
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.engine.runtime.threads import available
from fastrnn.info import cpu_name
from fastrnn.training.progress import progress

#: One sequence, small batches, and a network that fills the caches of the second level.
SIZES = (Size(1, 100, 32, 32), Size(32, 50, 32, 32), Size(32, 50, 64, 128), Size(64, 20, 128, 256))
#: Rounds of each case: at least, and at most.
LEAST_ROUNDS, MOST_ROUNDS = 5, 60


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Parameters
    ----------
    seconds : float
        Time for each library and case.
    verbose : bool
        Whether to show a progress bar.
    """

    cells: Sequence[str] = CELLS
    kinds: Sequence[str] = KINDS
    sizes: Sequence[Size] = SIZES
    libraries: Sequence[str] = tuple(PEERS)
    seconds: float = 0.5
    verbose: bool = True

    def cases(self) -> list[Case]:
        return [Case(cell, size, kind) for kind in self.kinds for cell in self.cells for size in self.sizes]


def installed_peers() -> list[str]:
    """The libraries of `PEERS` that are installed."""
    return [library for library, (modules, _) in PEERS.items() if installed(*modules)]


def run(settings: Settings) -> dict[str, Any]:
    """Measure all cases.

    All libraries have the same weights and inputs; their outputs, and the changes by one step of training, are compared
    before anything is timed. Each library uses the number of threads, and the way of use, in which it was fastest. A library
    that fails, or that computes something else, is left out of the case.

    Returns
    -------
    dict
        "machine", "versions", "rows" (see `rows.new_row`) and "failures", a list of texts.
    """
    rows: list[Row] = []
    failures: list[str] = []
    with ExitStack() as stack:
        workers = {}
        for library in (OURS, *settings.libraries):
            workers[library] = Worker(library)
            stack.callback(workers[library].close)
        for case in progress(settings.cases(), "bench", "case", settings.verbose, str):
            rows += measure(case, workers, settings.seconds, failures)
    names = ("numpy", "numba", *(module for name in settings.libraries for module in PEERS[name][0]))
    return {
        "machine": f"{cpu_name()}, {available()} cores, vectors of {VECTOR_BITS} bits",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: importlib.metadata.version(name) for name in dict.fromkeys(names)},
        "rows": rows,
        "failures": failures,
    }


def measure(case: Case, workers: dict[str, Worker], seconds: float, failures: list[str]) -> list[Row]:
    """Rows of one case, one for each library, from processes that take turns.

    Parameters
    ----------
    case : Case
    workers : dict of str to Worker
        The process of each library; those that end are taken out.
    seconds : float
        Time for each library.
    failures : list of str
        What libraries left out, and why, is appended.
    """

    def failed(library: str, error: Exception) -> None:
        failures.append(f"{case}: {library} is left out: {error}")
        if workers[library].process.poll() is not None:
            del workers[library]

    loaded: dict[str, Loaded] = {}
    for library, worker in list(workers.items()):
        try:
            found = worker.load(case, available())
            if found is not None:
                if library != OURS and OURS in loaded:
                    compare_outputs(case, [(OURS, loaded[OURS].outputs), (library, found.outputs)])
                loaded[library] = found
        except (LibraryFailed, AssertionError) as error:
            failed(library, error)
    samples: dict[str, list[float]] = {library: [] for library in loaded}
    start, turn = time.perf_counter(), 0
    while samples and (
        turn < LEAST_ROUNDS or (turn < MOST_ROUNDS and time.perf_counter() - start < seconds * len(samples))
    ):
        names = list(samples)
        for k in range(len(names)):
            library = names[(k + turn) % len(names)]
            wait(PAUSE_SECONDS)
            try:
                samples[library].append(workers[library].block())
            except LibraryFailed as error:
                del samples[library]
                failed(library, error)
        turn += 1
    return [
        new_row(case, library, loaded[library].threads, loaded[library].mode, np.array(values))
        for library, values in samples.items()
    ]


def described(found: dict[str, Any]) -> str:
    """The table in Markdown."""
    best = best_by_library(found["rows"])
    libraries = [name for name in (OURS, *PEERS) if any(name in place for place in best.values())]
    lines = []
    for case, place in best.items():
        times = [
            f"{place[n]['median_s'] * 1e3:.3g} ({place[n]['threads']})" if n in place else ""
            for n in libraries
        ]
        value = ratio(place)
        last = f"{value:.2f}" if np.isfinite(value) else ""
        lines.append((TITLES[case.kind], NAMES[case.cell], str(case.size), *times, last))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    text = [
        f"{found['machine']}, {found['date']}; {versions}.",
        "",
        "Median milliseconds, and in parentheses the number of threads with which the library was fastest. B batch, "
        "T time steps, I inputs, H units, float32. The last column is the speed of fastrnn over that of the best peer.",
        "",
        *table(("use", "cell", "size", *(f"{name}, ms" for name in libraries), "speed"), lines),
        "",
    ]
    for kind, title in TITLES.items():
        values = [ratio(place) for case, place in best.items() if case.kind == kind]
        values = [value for value in values if np.isfinite(value)]
        if values:
            text.append(
                f"{title}: geometric mean of the speeds {geometric_mean(values):.2f}, least {min(values):.2f}."
            )
    return "\n".join([*text, *(f"\n{failure.splitlines()[0]}" for failure in found["failures"])]) + "\n"


def write(found: dict[str, Any], out: Path) -> list[Path]:
    """Write the rows, the table and, if matplotlib is installed and there are peers, the picture; return the files."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "bench.json", out / "bench.md", out / "bench.png"]
    files[0].write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    files[1].write_text(described(found), encoding="utf-8")
    best = best_by_library(found["rows"])
    if not any(np.isfinite(ratio(place)) for place in best.values()):
        return files[:2]
    try:
        draw_speed({found["machine"]: best}, files[2])
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return files[:2]
    return files

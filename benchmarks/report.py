"""Tables of the grid: the best time of each library for each case, ratios, and whether the targets are met."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.bench.cases import Case
from fastrnn.bench.peers import PEERS
from fastrnn.bench.rows import OURS, TITLES, Row, best_by_library, geometric_mean, ratio, table

#: Targets for the speed relative to the best peer: at every point, and as the geometric mean.
TARGETS = {"inference": (1.05, 1.8), "training": (1.25, 2.5)}

#: Where the libraries ran; results of earlier versions are all from one process.
PLACES = {"own": "each in a process of its own", "one": "all in one process"}

_MARKS = ("<!-- speed -->", "<!-- end of speed -->")


def machine(info: dict[str, Any]) -> str:
    """Processor, cores, and vectors: those of the processor, and those that fastrnn's code uses."""
    # Results of earlier versions do not have the width.
    bits = f", vectors of {info['vector_bits']} bits in fastrnn" if "vector_bits" in info else ""
    return f"{info['cpu']}, {info['cores']} cores, {info['vector']}{bits}"


def described(info: dict[str, Any]) -> str:
    """Machine, date and versions in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    return f"{machine(info)}, {info['date']}; {versions}."


def summary(rows: Sequence[Row]) -> list[str]:
    """A table of speeds relative to the best peer, with one line for each kind and variant."""
    best = best_by_library(rows)
    lines = []
    for kind, variant in dict.fromkeys((case.kind, case.variant) for case in best):
        here = {case: ratio(p) for case, p in best.items() if (case.kind, case.variant) == (kind, variant)}
        here = {case: value for case, value in here.items() if np.isfinite(value)}
        if not here:
            continue
        each, mean = TARGETS[kind]
        slowest = min(here, key=here.__getitem__)
        below = sum(value < each for value in here.values())
        met = geometric_mean(list(here.values()))
        lines.append(
            (
                TITLES[kind],
                variant,
                len(here),
                f"{met:.2f} ({'>=' if met >= mean else '<'} {mean})",
                f"{here[slowest]:.2f} ({slowest.cell}, {slowest.size})",
                f"{below} below {each}",
            )
        )
    head = ("", "network", "points", "geometric mean (target)", "least", "points below target")
    return table(head, lines)


def overview(rows: Sequence[Row]) -> list[str]:
    """A table of speeds relative to the best peer, with one line for each size of plain networks."""
    found = {case: ratio(place) for case, place in best_by_library(rows).items() if case.variant == "plain"}
    columns = list(dict.fromkeys((case.kind, case.cell) for case in found))
    lines = []
    for size in dict.fromkeys(case.size for case in found):
        here = {(case.kind, case.cell): value for case, value in found.items() if case.size == size}
        ratios = [f"{here[c]:.2f}" if np.isfinite(here.get(c, np.nan)) else "" for c in columns]
        lines.append([size.batch, size.steps, size.inputs, size.units, *ratios])
    heads = [cell + (", training" if kind == "training" else "") for kind, cell in columns]
    return table(["B", "T", "I", "H", *heads], lines)


def below_target(rows: Sequence[Row]) -> list[Case]:
    """The points at which fastrnn is slower, relative to the best peer, than the target of every point."""
    found = {case: ratio(place) for case, place in best_by_library(rows).items()}
    return [case for case, value in found.items() if value < TARGETS[case.kind][0]]


def stored(results: Path, suffix: str = "") -> tuple[list[Row], dict[str, Any]]:
    """Rows of all runs of the grid with code of one kind, and the machine that they were measured on.

    Files with the suffix ``_256`` are of runs with vectors of that width (`timing.suffix`).
    """
    runs = [results / f"{name}{suffix}.json" for name in ("grid", "variants")]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in runs if path.exists()]
    return [row for run in found for row in run["rows"]], found[0]["environment"]


def widths(results: Path) -> list[str]:
    """Suffixes of all kinds of code of which there is a grid; the processor's own kind, without a suffix, is the first."""
    named = (re.fullmatch(r"grid(_\d+|)\.json", path.name) for path in results.glob("grid*.json"))
    return sorted(match[1] for match in named if match)


def _means(rows: Sequence[Row]) -> str:
    """The geometric means of plain networks, in a few words."""
    best = {case: ratio(place) for case, place in best_by_library(rows).items() if case.variant == "plain"}
    parts = []
    for kind in TARGETS:
        here = [value for case, value in best.items() if case.kind == kind and np.isfinite(value)]
        if here:
            parts.append(f"{TITLES[kind].lower()} {geometric_mean(here):.2f} times")
    return " and ".join(parts)


def readme_table(results: Path) -> list[str]:
    """The summaries of all runs, and that of all libraries in one process."""
    own, *others = widths(results)
    rows, info = stored(results, own)
    last = f"{machine(info)}; libraries {PLACES[info.get('processes', 'one')]}."
    apart = results / f"variants{own}.json"
    if apart.exists():
        found = json.loads(apart.read_text(encoding="utf-8"))
        where, peers = found["environment"], dict.fromkeys(row["library"] for row in found["rows"])
        named = ", ".join(name for name in peers if name != OURS)
        place = PLACES[where.get("processes", "one")]
        last += f" Networks that are not plain: {where['date']}, beside {named}, {place}."
    for suffix in others:
        other, where = stored(results, suffix)
        last += f" {machine(where)}: {_means(other)} as fast (geometric means of plain networks)."
    lines = [*summary(rows), "", last]
    together = results / "grid_one_process.json"
    if together.exists():
        found = json.loads(together.read_text(encoding="utf-8"))
        text = f"The main sizes with all libraries in one process, as in a notebook ({machine(found['environment'])}):"
        lines += ["", text, "", *summary(found["rows"])]
    return lines


def size_table(results: Path) -> list[str]:
    """All measured sizes of plain networks."""
    return overview(stored(results)[0])


def renew(readme: str, lines: Sequence[str]) -> str:
    """The text with `lines` between its two marks."""
    before, start, rest = readme.partition(_MARKS[0])
    _, end, after = rest.partition(_MARKS[1])
    if not (start and end):
        raise ValueError(f"README.md has no {' ... '.join(_MARKS)}")
    return "\n".join([before + start, "", *lines, "", end + after])


def markdown(rows: Sequence[Row], info: dict[str, Any]) -> str:
    lines = [
        described(info),
        "",
        f"Median milliseconds; all libraries took turns, {PLACES[info.get('processes', 'one')]}, each with the better of "
        "one and two threads and in its best way of use. B batch, "
        "T time steps, I inputs, H units, all outputs returned. A training step is forward, backward and SGD. `ratio` is "
        "the speed of fastrnn over that of the best peer.",
        "",
        *summary(rows),
    ]
    best = best_by_library(rows)
    for kind, variant in dict.fromkeys((case.kind, case.variant) for case in best):
        places = {case: p for case, p in best.items() if (case.kind, case.variant) == (kind, variant)}
        libraries = [name for name in (OURS, *PEERS) if any(name in place for place in places.values())]
        body = []
        for case, place in places.items():
            s = case.size
            times = [f"{place[n]['median_s'] * 1e3:.3g}" if n in place else "" for n in libraries]
            body.append([case.cell, s.batch, s.steps, s.inputs, s.units, *times, f"{ratio(place):.2f}"])
        head = ["cell", "B", "T", "I", "H", *libraries, "ratio"]
        title = TITLES[kind] + ("" if variant == "plain" else f", {variant}")
        lines += ["", f"### {title}", "", *table(head, body)]
        ratios = [r for r in map(ratio, places.values()) if np.isfinite(r)]
        if ratios:
            lines += [
                "",
                f"Geometric mean of the ratios {geometric_mean(ratios):.2f}, least {min(ratios):.2f}.",
            ]
    return "\n".join(lines) + "\n"

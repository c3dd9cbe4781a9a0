"""Rows of measurements: whether networks are equal, the fastest of each library, ratios, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.bench.cases import Case, Size
from fastrnn.bench.peers import Contender

OURS = "fastrnn"
NAMES = {"simple_rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}
TITLES = {"inference": "Inference", "training": "Training step"}

Row = dict[str, Any]
Place = dict[str, Row]


def outputs_of(contender: Contender, case: Case) -> list[NDArray[Any]]:
    """The output at valid steps, and for training the output after one step of training too."""
    valid = case.valid()
    contender.prepare()
    found = [contender.output()]
    if case.kind == "training":
        contender.run()
        found.append(contender.output())
    return found if valid is None else [output[valid] for output in found]


def compare_outputs(case: Case, outputs: Sequence[tuple[str, Sequence[NDArray[Any]]]]) -> None:
    """Compare what `outputs_of` returned for several contenders with that of the first.

    Raises
    ------
    AssertionError
        If outputs differ, or the changes by one step of training; the message names the contender.
    """
    first_name, first = outputs[0]
    tolerance = 2e-4 if case.dtype == "float32" else 1e-6  # some peers always multiply in float32

    def compare(
        name: str, what: str, value: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float
    ) -> None:
        message = f"{case}: {what} of {name} against {first_name}"
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol, err_msg=message)

    for name, found in outputs[1:]:
        compare(name, "output", found[0], first[0], tolerance, tolerance)
        if case.kind == "training":
            # In float32 a small change has few digits; a wrong gradient or a different mean differs by more than a tenth.
            change, expected = found[1] - found[0], first[1] - first[0]
            least = 0.1 * float(np.abs(expected).max()) + 1e-6
            compare(name, "change by one step", change, expected, 0, least)


def new_row(case: Case, library: str, threads: str, mode: str, seconds: NDArray[Any]) -> Row:
    """The row of one contender, from the seconds per call of its blocks."""
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return {
        "cell": case.cell,
        "kind": case.kind,
        "batch": case.size.batch,
        "steps": case.size.steps,
        "inputs": case.size.inputs,
        "units": case.size.units,
        "dtype": case.dtype,
        "variant": case.variant,
        "library": library,
        "threads": threads,
        "mode": mode,
        "median_s": float(median),
        "quartiles_s": [float(low), float(high)],
        "least_s": float(np.min(seconds)),
        "n_blocks": len(seconds),
        "gflops": case.flop / float(median) / 1e9,
        "flop_per_byte": case.flop / case.bytes,
    }


def case_of(row: Row) -> Case:
    size = Size(row["batch"], row["steps"], row["inputs"], row["units"])
    return Case(row["cell"], size, row["kind"], row["dtype"], row.get("variant", "plain"))


def best_by_library(rows: Sequence[Row]) -> dict[Case, Place]:
    """The fastest row of each library (over threads and modes), for each case."""
    best: dict[Case, Place] = {}
    for row in rows:
        place = best.setdefault(case_of(row), {})
        known = place.get(row["library"])
        if known is None or row["median_s"] < known["median_s"]:
            place[row["library"]] = row
    return best


def ratio(place: Place) -> float:
    """Speed of fastrnn over that of the best peer; NaN if either is missing."""
    peers = [row["median_s"] for library, row in place.items() if library != OURS]
    return min(peers) / place[OURS]["median_s"] if OURS in place and peers else float("nan")


def table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table."""
    rows = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *rows]


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))

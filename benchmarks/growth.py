"""How time grows with batch size, number of steps and number of units: python -m benchmarks.growth

A layer that returns its last output is run (inference) or trained (forward, backward, SGD), on all free cores. B and T
grow up to B*T = 10^7 steps, where time should be linear; H grows beyond 512, with I = H inputs, where time should be
quadratic. Written to benchmarks/results/: growth.json, growth.md (fitted slopes) and growth.png.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import TITLES, described, table
from benchmarks.timing import environment
from fastrnn.bench.cases import CELLS, GATES, KINDS, Case, Size
from fastrnn.bench.ours import new_layers
from fastrnn.bench.peers import LEARNING_RATE
from fastrnn.bench.timing import wait

RESULTS = Path(__file__).parent / "results"
STEPS_AT_ONCE, SEQUENCES_AT_ONCE = 100, 10
#: Slopes are fitted to sizes from here on; at smaller sizes the constant cost of a call counts.
FIT_FROM = {"batch": 10_000, "steps": 10_000, "units": 256}
UNITS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class Point:
    sweep: str
    size: Size

    @property
    def at(self) -> int:
        """Position on the axis: steps of all sequences together, or units."""
        return self.size.units if self.sweep == "units" else self.size.batch * self.size.steps


def points(most_steps: int, most_units: int) -> list[Point]:
    totals = [n for n in np.unique(np.geomspace(1000, 1e7, 9).round().astype(int)) if n <= most_steps]
    by_batch = [Point("batch", Size(max(1, round(n / STEPS_AT_ONCE)), STEPS_AT_ONCE, 8, 16)) for n in totals]
    by_steps = [
        Point("steps", Size(SEQUENCES_AT_ONCE, max(1, round(n / SEQUENCES_AT_ONCE)), 8, 16)) for n in totals
    ]
    by_units = [Point("units", Size(32, 20, h, h)) for h in UNITS if h <= most_units]
    return [*by_batch, *by_steps, *by_units]


def available_bytes() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return 8e9


def needed_bytes(case: Case) -> int:
    """Bytes of the inputs, and in training of the states and gates of all steps."""
    s = case.size
    kept = s.units * (GATES[case.cell] + 3) if case.kind == "training" else 0
    return 4 * s.batch * s.steps * (s.inputs + kept)


def runner(case: Case) -> Callable[[], Any]:
    from fastrnn import Sequential, optimizers

    s = case.size
    rng = np.random.default_rng(0)
    x = rng.random((s.batch, s.steps, s.inputs), np.float32)
    layers = new_layers(case, return_sequences=False)
    for layer in layers:
        layer.set_seed(0)
    model = Sequential(layers)
    model.build((None, s.steps, s.inputs))
    if case.kind == "inference":
        return lambda: model.layers[0](x)
    model.compile(optimizers.SGD(LEARNING_RATE), "mse")
    y = rng.random((s.batch, s.units), np.float32)
    return lambda: model.train_on_batch(x, y)


def seconds_of(run: Callable[[], Any], seconds: float) -> list[float]:
    """Times of single calls with all cores awake, after two calls that compile and touch the memory."""
    run()
    wait(0.05)
    run()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < seconds and len(times) < 1000):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def slope(at: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent of the power law through the points, by least squares on logarithms."""
    return float(np.polyfit(np.log(at), np.log(seconds), 1)[0])


def fits(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each curve its slope, its steepest piece, and the cost of the last point relative to a power law."""
    found = []
    for sweep, cell, kind in dict.fromkeys((r["sweep"], r["cell"], r["kind"]) for r in rows):
        part = [r for r in rows if (r["sweep"], r["cell"], r["kind"]) == (sweep, cell, kind)]
        part = [r for r in part if r["at"] >= FIT_FROM[sweep]]
        if len(part) < 2:
            continue
        at, seconds = np.array([r["at"] for r in part], float), np.array([r["median_s"] for r in part])
        power = 2 if sweep == "units" else 1
        cost = seconds / at**power
        found.append(
            {
                "sweep": sweep,
                "cell": cell,
                "kind": kind,
                "from": int(at[0]),
                "to": int(at[-1]),
                "power": power,
                "slope": slope(at, seconds),
                "steepest": float(np.max(np.diff(np.log(seconds)) / np.diff(np.log(at)))),
                "last_over_least": float(cost[-1] / cost.min()),
            }
        )
    return found


AXES = {"batch": "B*T, T = 100", "steps": "B*T, B = 10", "units": "H (B = 32, T = 20, I = H)"}


def markdown(rows: Sequence[dict[str, Any]], info: dict[str, Any]) -> str:
    lines = [
        (
            AXES[f["sweep"]],
            f["cell"],
            TITLES[f["kind"]].lower(),
            f"{f['from']:,} to {f['to']:,}",
            f["power"],
            f"{f['slope']:.2f}",
            f"{f['steepest']:.2f}",
            f"{f['last_over_least']:.2f}",
        )
        for f in fits(rows)
    ]
    head = ("axis", "cell", "", "range", "power", "fitted slope", "steepest piece", "last / least cost")
    text = (
        "Slopes of log(time) over log(size). Cost is time / size**power; `last / least cost` is the cost at the last "
        "point over the least cost in the range: 1 means that cost does not rise with size."
    )
    return "\n".join([described(info), "", text, "", *table(head, lines)]) + "\n"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib import pyplot

    sweeps = list(dict.fromkeys(r["sweep"] for r in rows))
    figure, axes = pyplot.subplots(
        1, len(sweeps), squeeze=False, layout="constrained", figsize=(4.4 * len(sweeps), 4)
    )
    colours = {"simple_rnn": "tab:green", "gru": "tab:blue", "lstm": "tab:red"}
    for ax, sweep in zip(axes[0], sweeps, strict=True):
        here = [r for r in rows if r["sweep"] == sweep]
        for cell, kind in dict.fromkeys((r["cell"], r["kind"]) for r in here):
            part = [r for r in here if (r["cell"], r["kind"]) == (cell, kind)]
            line = "-" if kind == "inference" else "--"
            ax.plot(
                [r["at"] for r in part],
                [r["median_s"] * 1e3 for r in part],
                line,
                color=colours[cell],
                marker="o",
                markersize=3,
                label=f"{cell}, {TITLES[kind].lower()}",
            )
        power = 2 if sweep == "units" else 1
        ends = np.array([min(r["at"] for r in here), max(r["at"] for r in here)], float)
        last = min(r["median_s"] for r in here if r["at"] == ends[1]) * 1e3
        law = f"slope {power}"
        ax.plot(ends, last / 3 * (ends / ends[1]) ** power, ":", color="grey", label=law)
        ax.set(xscale="log", yscale="log", xlabel=AXES[sweep], title=f"growth with {sweep}")
        if sweep == "units":
            shown = sorted({r["at"] for r in here if r["at"] & (r["at"] - 1) == 0})
            ax.set_xticks(shown, [str(n) for n in shown])
            ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms a call")
    axes[0][-1].legend(frameon=False, fontsize=7, loc="upper left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--most-steps", type=float, default=1e7, help="largest B*T (default 1e7)")
    parser.add_argument("--most-units", type=int, default=UNITS[-1], help=f"largest H (default {UNITS[-1]})")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each point (default 1)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    info = environment()
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for cell in args.cells:
        for kind in args.kinds:
            for point in points(int(args.most_steps), args.most_units):
                case = Case(cell, point.size, kind)
                if needed_bytes(case) > available_bytes() / 2:
                    print(f"{case}: needs {needed_bytes(case) / 1e9:.1f} GB, left out", flush=True)
                    continue
                times = seconds_of(runner(case), args.seconds)
                row = {"sweep": point.sweep, "at": point.at, "cell": cell, "kind": kind}
                rows.append({**row, "size": str(point.size), "median_s": float(np.median(times))})
                print(f"{case}: {np.median(times) * 1e3:.3g} ms", flush=True)
            content = {"environment": info, "rows": rows, "fits": fits(rows)}
            (args.out / "growth.json").write_text(json.dumps(content, indent=1) + "\n")
    (args.out / "growth.md").write_text(markdown(rows, info))
    try:
        draw(rows, args.out / "growth.png")
    except ImportError:
        print("matplotlib is not installed: no picture")
    print(markdown(rows, info))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

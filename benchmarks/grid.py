"""The grid of sizes against the peers: python -m benchmarks.grid

Each case (cell, size, inference or training step) is run by fastrnn and by every peer that is installed, in turns, in one
process. Before the timing all of them have to give the same output. Written to benchmarks/results/: grid.json (every
median, with versions and processor), grid.md (one table for each kind), ratios.png (speed of fastrnn over that of the
best peer) and roofline.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CELLS, KINDS, ODD_SIZES, SIZES, Case, Size
from benchmarks.ours import fastrnn_contenders
from benchmarks.peers import PEERS, Contender, peer_contenders
from benchmarks.timing import environment, time_side_by_side

OURS = "fastrnn"
RESULTS = Path(__file__).parent / "results"


def check_outputs(contenders: Sequence[Contender], case: Case) -> None:
    """A race between networks that compute different things means nothing."""
    outputs = []
    for contender in contenders:
        contender.prepare()
        outputs.append(contender.output())
    tolerance = 2e-4 if case.dtype == "float32" else 1e-9
    for contender, output in zip(contenders, outputs, strict=True):
        np.testing.assert_allclose(
            output,
            outputs[0],
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"{case}: {contender} against {contenders[0]}",
        )


def measure(case: Case, libraries: tuple[str, ...], seconds: float) -> list[dict[str, Any]]:
    """One row for each library and number of threads."""
    contenders = list(fastrnn_contenders(case)) if OURS in libraries else []
    contenders += peer_contenders(case, libraries)
    check_outputs(contenders, case)
    rows = []
    for contender, samples in zip(contenders, time_side_by_side(contenders, seconds=seconds), strict=True):
        low, median, high = np.percentile(samples, [25, 50, 75])
        rows.append(
            {
                "cell": case.cell,
                "kind": case.kind,
                "batch": case.size.batch,
                "steps": case.size.steps,
                "inputs": case.size.inputs,
                "units": case.size.units,
                "dtype": case.dtype,
                "library": contender.library,
                "threads": contender.threads,
                "median_s": float(median),
                "quartiles_s": [float(low), float(high)],
                "least_s": float(np.min(samples)),
                "n_blocks": len(samples),
                "gflops": case.flop / float(median) / 1e9,
                "flop_per_byte": case.flop / case.bytes,
            }
        )
    return rows


def key_of(row: dict[str, Any]) -> tuple[str, str, Size, str]:
    return (
        row["cell"],
        row["kind"],
        Size(row["batch"], row["steps"], row["inputs"], row["units"]),
        row["dtype"],
    )


def best_by_library(rows: Sequence[dict[str, Any]]) -> dict[tuple, dict[str, dict[str, Any]]]:
    """For each case the fastest row (over threads) of each library."""
    best: dict[tuple, dict[str, dict[str, Any]]] = {}
    for row in rows:
        place = best.setdefault(key_of(row), {})
        known = place.get(row["library"])
        if known is None or row["median_s"] < known["median_s"]:
            place[row["library"]] = row
    return best


def ratio(place: dict[str, dict[str, Any]]) -> float:
    """Speed of fastrnn over that of the best peer; nan where one of them is missing."""
    peers = [row["median_s"] for library, row in place.items() if library != OURS]
    return min(peers) / place[OURS]["median_s"] if OURS in place and peers else float("nan")


def markdown(rows: Sequence[dict[str, Any]], info: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    lines = [
        f"{info['cpu']}, {info['cores']} cores, {info['vector']}, {info['date']}; {versions}.",
        "",
        "Milliseconds, medians, all libraries in turns in one run, the best of one and two threads each; B batch, T time "
        "steps, I inputs, H units, all outputs returned. A training step is forward, backward and SGD. `ratio` is the "
        "speed of fastrnn over that of the best peer.",
    ]
    best = best_by_library(rows)
    for kind in dict.fromkeys(key[1] for key in best):
        places = {key: place for key, place in best.items() if key[1] == kind}
        libraries = [name for name in (OURS, *PEERS) if any(name in place for place in places.values())]
        title = {"inference": "Inference", "training": "Training step"}[kind]
        lines += ["", f"### {title}", "", f"| cell | B | T | I | H | {' | '.join(libraries)} | ratio |"]
        lines.append("|" + "---|" * (6 + len(libraries)))
        for (cell, _, s, _), place in places.items():
            times = [f"{place[n]['median_s'] * 1e3:.3g}" if n in place else "" for n in libraries]
            line = [cell, s.batch, s.steps, s.inputs, s.units, *times, f"{ratio(place):.2f}"]
            lines.append("| " + " | ".join(map(str, line)) + " |")
        ratios = [r for r in map(ratio, places.values()) if np.isfinite(r)]
        if ratios:
            mean = np.exp(np.mean(np.log(ratios)))
            lines += ["", f"Geometric mean of the ratios {mean:.2f}, least {min(ratios):.2f}."]
    return "\n".join(lines) + "\n"


def draw_ratios(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Heat map: sizes down, cells across, one panel for each kind; the colour is the logarithm of the ratio."""
    from matplotlib import pyplot
    from matplotlib.colors import TwoSlopeNorm

    best = best_by_library(rows)
    kinds = list(dict.fromkeys(key[1] for key in best))
    cells = list(dict.fromkeys(key[0] for key in best))
    sizes = list(dict.fromkeys(key[2] for key in best))
    dtype = rows[0]["dtype"]
    figure, axes = pyplot.subplots(
        1,
        len(kinds),
        squeeze=False,
        layout="constrained",
        figsize=(2.2 + 3.4 * len(kinds), 1.6 + 0.42 * len(sizes)),
        sharey=True,
    )
    for ax, kind in zip(axes[0], kinds, strict=True):
        table = np.array([[ratio(best.get((c, kind, s, dtype), {})) for c in cells] for s in sizes])
        norm = TwoSlopeNorm(0, vmin=-2, vmax=3)  # a quarter to eight times
        image = ax.imshow(np.log2(np.ma.masked_invalid(table)), cmap="RdYlGn", norm=norm, aspect="auto")
        for (i, j), value in np.ndenumerate(table):
            if np.isfinite(value):
                extreme = not -1.3 < np.log2(value) < 2.3
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if extreme else "black")
        ax.set_xticks(range(len(cells)), cells)
        ax.set_yticks(range(len(sizes)), [f"B{s.batch} T{s.steps} I{s.inputs} H{s.units}" for s in sizes])
        ax.set_title({"inference": "inference", "training": "training step"}[kind])
    bar = figure.colorbar(image, ax=axes[0], ticks=[-2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4", "8"])
    bar.set_label("speed of fastrnn / best peer")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def machine_limits() -> dict[str, float]:
    """GFLOP/s of the fastest product (over the libraries at hand) and GB/s of a copy, on all cores."""
    import time

    def fastest(run: Any, repeats: int = 15) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    a, b = (np.ones((1024, 1024), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    peak = 2 * 1024**3 / fastest(lambda: np.matmul(a, b, out=out)) / 1e9
    source = np.ones(2**26, dtype=np.float32)
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 7) / 1e9
    return {"gflops": peak, "gbytes_per_s": bandwidth}


def draw_roofline(rows: Sequence[dict[str, Any]], limits: dict[str, float], path: Path) -> None:
    """GFLOP/s over operations for each byte that has to move, with the machine's two roofs."""
    from matplotlib import pyplot

    best = best_by_library(rows)
    kinds = list(dict.fromkeys(key[1] for key in best))
    figure, axes = pyplot.subplots(
        1, len(kinds), squeeze=False, layout="constrained", figsize=(5.4 * len(kinds), 4.4), sharey=True
    )
    markers = {"simple_rnn": "o", "gru": "s", "lstm": "^"}
    colours = {OURS: "tab:red", "torch": "tab:orange", "keras-jax": "tab:blue", "onnxruntime": "tab:green"}
    intensity = np.logspace(-1, 3, 100)
    for ax, kind in zip(axes[0], kinds, strict=True):
        roof = np.minimum(limits["gflops"], limits["gbytes_per_s"] * intensity)
        ax.plot(intensity, roof, color="black", linewidth=1)
        for key, place in best.items():
            if key[1] != kind:
                continue
            for library, row in place.items():
                ax.plot(
                    row["flop_per_byte"],
                    row["gflops"],
                    markers[key[0]],
                    color=colours[library],
                    markersize=6 if library == OURS else 4,
                    alpha=1.0 if library == OURS else 0.6,
                )
        ax.set(xscale="log", yscale="log", xlabel="FLOP per byte that has to move", title=kind)
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("GFLOP/s of the products")
    present = {library for place in best.values() for library in place}
    for library in (name for name in colours if name in present):
        axes[0][0].plot([], [], "o", color=colours[library], label=library)
    for cell, marker in markers.items():
        axes[0][0].plot([], [], marker, color="grey", label=cell)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def write(rows: list[dict[str, Any]], info: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "grid.json").write_text(json.dumps({"environment": info, "rows": rows}, indent=1) + "\n")
    (out / "grid.md").write_text(markdown(rows, info))
    try:
        draw_ratios(rows, out / "ratios.png")
        draw_roofline(rows, info["limits"], out / "roofline.png")
    except ImportError:
        print("matplotlib is not installed: no pictures", file=sys.stderr)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--libraries", nargs="+", choices=(OURS, *PEERS), default=(OURS, *PEERS))
    parser.add_argument(
        "--sizes", choices=("main", "odd", "all"), default="main", help="which sizes (default main)"
    )
    parser.add_argument("--most-units", type=int, default=None, help="leave out sizes with more units")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each library and case (default 1)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    sizes = {"main": SIZES, "odd": ODD_SIZES, "all": SIZES + ODD_SIZES}[args.sizes]
    sizes = tuple(s for s in sizes if args.most_units is None or s.units <= args.most_units)
    info = environment()
    load = info["load"]
    if load is not None and load > 0.5:
        print(
            f"the machine is busy (load {load:.1f}): expect noise, above all with two threads",
            file=sys.stderr,
        )
    info["limits"] = machine_limits()
    rows: list[dict[str, Any]] = []
    for kind, cell, size in product(args.kinds, args.cells, sizes):
        case = Case(cell, size, kind, args.dtype)
        new = measure(case, tuple(args.libraries), args.seconds)
        rows += new
        place = next(iter(best_by_library(new).values()))
        times = "  ".join(f"{name} {row['median_s'] * 1e3:.3g} ms" for name, row in place.items())
        print(f"{case}: {times}  ratio {ratio(place):.2f}", flush=True)
        write(rows, info, args.out)  # after every case: a run that is cut short keeps what it has
    print((args.out / "grid.md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

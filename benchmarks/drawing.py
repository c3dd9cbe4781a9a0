"""The grid's pictures: ratios as a heat map for each cell, and the roofline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.colors import TwoSlopeNorm

from fastrnn.bench.cases import Case
from fastrnn.bench.rows import NAMES, OURS, TITLES, Place, ratio

MARKERS = {"simple_rnn": "o", "gru": "s", "lstm": "^"}
COLOURS = {
    OURS: "tab:red",
    "torch": "tab:orange",
    "keras-jax": "tab:blue",
    "jax": "tab:cyan",
    "onnxruntime": "tab:green",
    "openvino": "tab:purple",
}


def draw_ratios(best: Mapping[Case, Place], path: Path) -> None:
    """One heat map for each cell: rows are sizes; columns are inference and training, or the variants."""
    cells = list(dict.fromkeys(case.cell for case in best))
    kinds = list(dict.fromkeys(case.kind for case in best))
    variants = list(dict.fromkeys(case.variant for case in best))
    sizes = list(dict.fromkeys(case.size for case in best))
    dtype = next(iter(best)).dtype
    # If the columns are variants, each kind gets its own row of panels.
    if len(variants) > 1:
        panels = [[[(kind, variant) for variant in variants] for _ in cells] for kind in kinds]
    else:
        panels = [[[(kind, variants[0]) for kind in kinds] for _ in cells]]
    n_columns = len(panels[0][0])
    figure, axes = pyplot.subplots(
        len(panels),
        len(cells),
        squeeze=False,
        layout="constrained",
        figsize=(2.6 + 0.75 * n_columns * len(cells), len(panels) * (1.3 + 0.3 * len(sizes))),
        sharey=True,
    )
    norm = TwoSlopeNorm(0, vmin=-2, vmax=3)  # a quarter to eight times
    for i, line in enumerate(panels):
        for ax, cell, uses in zip(axes[i], cells, line, strict=True):
            values = np.array(
                [[ratio(best.get(Case(cell, s, use[0], dtype, use[1]), {})) for use in uses] for s in sizes]
            )
            image = ax.imshow(np.log2(np.ma.masked_invalid(values)), cmap="RdYlGn", norm=norm, aspect="auto")
            for (y, x), value in np.ndenumerate(values):
                if np.isfinite(value):
                    extreme = not -1.3 < np.log2(value) < 2.3
                    text = f"{value:.2f}" if value < 9.995 else f"{value:.0f}"
                    colour = "white" if extreme else "black"
                    ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=8)
            names = [variant if len(variants) > 1 else TITLES[kind].lower() for kind, variant in uses]
            ax.set_xticks(range(len(uses)), names, rotation=30 if len(variants) > 1 else 0, fontsize=8)
            if len(variants) > 1:
                pyplot.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
            ax.set_yticks(range(len(sizes)), [f"B{s.batch} T{s.steps} I{s.inputs} H{s.units}" for s in sizes])
            ax.tick_params(axis="y", labelsize=8)
            ax.set_title(
                NAMES[cell] + (f", {TITLES[uses[0][0]].lower()}" if len(panels) > 1 else ""), fontsize=10
            )
    bar = figure.colorbar(image, ax=axes, ticks=[-2, -1, 0, 1, 2, 3], aspect=30 * len(panels))
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4", "8"])
    bar.set_label("speed of fastrnn / best peer")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_roofline(best: Mapping[Case, Place], limits: dict[str, float], path: Path) -> None:
    """GFLOP/s over operations per byte of memory traffic, with the machine's two limits; whole sequences only."""
    kinds = list(dict.fromkeys(case.kind for case in best))
    figure, axes = pyplot.subplots(
        1, len(kinds), squeeze=False, layout="constrained", figsize=(5.4 * len(kinds), 4.6), sharey=True
    )
    places = {case: place for case, place in best.items() if case.variant == "plain"} or best
    found = [row["flop_per_byte"] for place in places.values() for row in place.values()]
    intensity = np.geomspace(min(0.5, *found) / 2, max(200.0, *found) * 2, 100)
    for ax, kind in zip(axes[0], kinds, strict=True):
        roof = np.minimum(limits["gflops"], limits["gbytes_per_s"] * intensity)
        ax.plot(intensity, roof, color="black", linewidth=1)
        # fastrnn last, so that its points are on top.
        for library in reversed(COLOURS):
            for case, place in places.items():
                if case.kind == kind and library in place:
                    row = place[library]
                    big = library == OURS
                    ax.plot(
                        row["flop_per_byte"],
                        row["gflops"],
                        MARKERS[case.cell],
                        color=COLOURS[library],
                        markersize=6 if big else 4,
                        alpha=1.0 if big else 0.6,
                    )
        ax.set(xscale="log", yscale="log", xlabel="FLOP per byte of memory traffic", title=TITLES[kind])
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("GFLOP/s of the products")
    present = {library for place in places.values() for library in place}
    handles: list[Any] = [
        pyplot.Line2D([], [], marker="o", linestyle="", color=COLOURS[name], label=name)
        for name in COLOURS
        if name in present
    ]
    handles += [
        pyplot.Line2D([], [], marker=MARKERS[cell], linestyle="", color="grey", label=NAMES[cell])
        for cell in dict.fromkeys(case.cell for case in places)
    ]
    axes[0][0].legend(handles=handles, frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

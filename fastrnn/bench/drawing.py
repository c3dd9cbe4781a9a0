"""The picture of measured speeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastrnn.bench.cases import Case
from fastrnn.bench.rows import NAMES, TITLES, Place, geometric_mean, ratio
from fastrnn.extras import extra


def draw_speed(machines: Mapping[str, Mapping[Case, Place]], path: Path) -> None:
    """Write the picture of plain networks: a point for each size, a bar for the geometric mean of each cell and use.

    Parameters
    ----------
    machines : dict of str to dict
        The name of each machine and what was measured there, from `rows.best_by_library`; each has a panel.
    path : Path
        The file to write.
    """
    pyplot = extra("matplotlib.pyplot", "plot")
    figure, axes = pyplot.subplots(
        len(machines),
        1,
        squeeze=False,
        sharex=True,
        figsize=(7.2, 0.4 + 2.5 * len(machines)),
        layout="constrained",
    )
    for ax, (machine, best) in zip(axes[:, 0], machines.items(), strict=True):
        names: list[str] = []
        spread = np.random.default_rng(0)
        for kind in TITLES:
            for cell, name in NAMES.items():
                found = [
                    ratio(place)
                    for case, place in best.items()
                    if (case.kind, case.cell, case.variant) == (kind, cell, "plain")
                ]
                values = np.array([value for value in found if np.isfinite(value)])
                if not len(values):
                    continue
                row, colour = len(names), "#0072B2" if kind == "inference" else "#D55E00"
                marker = "o" if kind == "inference" else "s"
                jitter = row + spread.uniform(-0.2, 0.2, len(values))
                ax.plot(values, jitter, marker, color=colour, alpha=0.45, markersize=4, markeredgewidth=0)
                mean = geometric_mean(list(values))
                ax.plot([mean, mean], [row - 0.38, row + 0.38], color="black", linewidth=2.5)
                beside = ax.get_yaxis_transform()  # a column at the right, where no point is
                ax.text(1.01, row, f"{mean:.1f}", transform=beside, va="center", fontweight="bold")
                names.append(f"{name}, {TITLES[kind].lower()}")
        ax.axvline(1, color="0.4", linestyle="--", linewidth=1)
        ax.set_xscale("log")
        ax.set_xticks([1, 2, 4, 8], ["as fast", "2 times", "4 times", "8 times"])
        ax.minorticks_off()
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.75)
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(machine, fontsize=9)
    figure.suptitle(
        "Speed over the best peer; a point is a size, bar and number the geometric mean", fontsize=9
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

"""Writes the tables of README.md and benchmarks/README.md, and the README's picture, from the stored results.

``python -m benchmarks.readme``

The picture has a panel for the processor's own vectors, and one for each other width of which there is a grid.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import machine, readme_table, renew, size_table, stored, widths
from fastrnn.bench.drawing import draw_speed
from fastrnn.bench.rows import best_by_library


def main() -> int:
    root = Path(__file__).resolve().parent
    results = root / "results"
    for readme, lines in ((root.parent / "README.md", readme_table), (root / "README.md", size_table)):
        text = readme.read_text(encoding="utf-8")
        readme.write_text(renew(text, lines(results)), encoding="utf-8")
    kinds = [stored(results, suffix) for suffix in widths(results)]
    draw_speed({machine(info): best_by_library(rows) for rows, info in kinds}, results / "speed.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

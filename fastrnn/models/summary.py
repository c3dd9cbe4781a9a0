"""The table of `Model.summary`."""

from __future__ import annotations

from typing import Any

__all__ = ["summary"]


def summary(model: Any, line_length: int | None, show_trainable: bool) -> str:
    """A table of a model's layers, output shapes and numbers of parameters, as text."""
    header = ["Layer (type)", "Output Shape", "Param #"]
    rows = []
    for i, layer in enumerate(model.layers):
        shape = str(model._shapes[i + 1]) if model.built else "?"
        params = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        rows.append([f"{layer.name} ({type(layer).__name__})", shape, params])
        if show_trainable:
            rows[-1].append("-" if not layer._weights else "Y" if layer.trainable else "N")
    if show_trainable:
        header.append("Trainable")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    least = [31, 22, 13, 9]
    if line_length is None:
        widths = [max(w, m) for w, m in zip(widths, least, strict=False)]
    else:
        spare = line_length - sum(widths) - 3 * len(widths) - 1
        widths[0] += max(spare, 0)

    def line(cells: list[str], bar: str) -> str:
        padded = [
            f" {cell.rjust(width) if i == 2 else cell.ljust(width)} "
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return bar + bar.join(padded) + bar

    def rule(left: str, fill: str, middle: str, right: str) -> str:
        return left + middle.join(fill * (width + 2) for width in widths) + right

    lines = [f'Model: "{model.name}"', rule("┏", "━", "┳", "┓"), line(header, "┃"), rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(rule("├", "─", "┼", "┤"))
        lines.append(line(row, "│"))
    lines.append(rule("└", "─", "┴", "┘"))
    built = [layer for layer in model.layers if layer.built]
    total = sum(layer.count_params() for layer in built)
    trained = sum(
        layer._weights[name].size for layer in built if model.trainable for name in layer.trained_weights()
    )
    size = model.layers[0].dtype.itemsize if model.layers else 4
    for title, n in (("Total", total), ("Trainable", trained), ("Non-trainable", total - trained)):
        lines.append(f" {title} params: {n:,} ({_bytes(n * size)})")
    return "\n".join(lines)


def _bytes(n: int) -> str:
    size, units = float(n), ["B", "KB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.2f} {units[0]}"

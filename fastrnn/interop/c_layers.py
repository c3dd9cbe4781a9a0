"""One step of each layer as C statements, with the constants, states and buffers that they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError
from fastrnn.interop.c_activations import ELEMENTWISE, ROWWISE
from fastrnn.interop.common import refuse
from fastrnn.layers.cells import Cell

__all__ = ["Code", "quantized", "write_layer"]


class Code:
    """Collects the parts of a C file, layer by layer."""

    def __init__(self, name: str, dtype: np.dtype, int8: bool) -> None:
        self.name, self.dtype, self.int8 = name, dtype, int8
        self.real, self.suffix = ("float", "f") if dtype == np.float32 else ("double", "")
        self.constants: list[str] = []
        self.body: list[str] = []
        #: Fields of the struct of states, and their lengths.
        self.states: list[tuple[str, int]] = []
        self.activations: list[str] = []
        self.weight_bytes = 0
        #: Number of columns of the widest product with int8 weights, the size of its array of sums.
        self.widest = 0
        self.n_buffers = 0

    # -- constants

    def vector(self, values: np.ndarray, stem: str) -> str:
        """Add a constant array of numbers; return its name."""
        if not np.isfinite(values).all():
            raise ConversionError(f"{stem} has NaN or infinite numbers, for which C has no constants")
        name = f"{self.name}_{stem}"
        digits = 9 if self.dtype == np.float32 else 17
        text = [self.number(float(v), digits) for v in values.ravel()]
        self.constants.append(f"static const {self.real} {name}[{values.size}] = {{{_wrapped(text)}}};")
        self.weight_bytes += values.size * self.dtype.itemsize
        return name

    def number(self, value: float, digits: int) -> str:
        text = f"{value:.{digits}g}"
        return (text if "." in text or "e" in text else text + ".0") + self.suffix

    def matrix(self, values: np.ndarray, stem: str) -> tuple[str, str]:
        """Add a constant matrix; return its name, and that of the scales of its columns (NULL without int8)."""
        if not self.int8:
            return self.vector(values, stem), "0"
        codes, scale = quantized(values)
        name = f"{self.name}_{stem}"
        text = [str(int(q)) for q in codes.ravel()]
        self.constants.append(f"static const signed char {name}[{codes.size}] = {{{_wrapped(text)}}};")
        self.weight_bytes += codes.size
        self.widest = max(self.widest, codes.shape[1])
        return name, self.vector(scale, f"{stem}_scale")

    # -- statements

    def add(self, *lines: str) -> None:
        self.body += [f"    {line}" for line in lines]

    def buffer(self, size: int) -> str:
        """Add a local array; return its name."""
        name = f"v{self.n_buffers}"
        self.n_buffers += 1
        self.add(f"{self.real} {name}[{size}];")
        return name

    def state(self, stem: str, size: int) -> str:
        """Add an array of states; return the expression for it in the function."""
        self.states.append((stem, size))
        return f"s->{stem}"

    def start(self, target: str, bias: np.ndarray | None, size: int, stem: str) -> None:
        """Set `target` to a bias, or to zero."""
        value = f"{self.vector(bias, stem)}[j]" if bias is not None else f"0.0{self.suffix}"
        self.loop(size, f"{target}[j] = {value};")

    def product(self, x: str, weights: np.ndarray, target: str, stem: str) -> None:
        """Add ``x @ weights`` to `target`."""
        matrix, scale = self.matrix(weights, stem)
        n, m = weights.shape
        scales = f", {scale}" if self.int8 else ""
        self.add(f"{self.name}_product({x}, {n}, {matrix}{scales}, {target}, {m});")

    def loop(self, size: int, statement: str) -> None:
        self.add(f"for (j = 0; j < {size}; j++) {statement}")

    def activate(self, layer: Any, activation: str, array: str, size: int) -> None:
        """Apply an activation in place."""
        if activation == "linear":
            return
        if activation not in ELEMENTWISE and activation not in ROWWISE:
            raise refuse(layer, "to_c", f"activation={activation!r}")
        if activation not in self.activations:
            self.activations.append(activation)
        self.add(f"{self.name}_{activation}_row({array}, {size});")


def quantized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int8 codes of a matrix and the scales of its columns, such that ``codes * scales`` approximates the matrix."""
    scale = np.abs(values).max(axis=0) / 127
    scale[scale == 0] = 1
    return np.rint(values / scale).astype(np.int8), scale.astype(values.dtype)


def _wrapped(items: list[str], width: int = 100) -> str:
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) > width:
            lines.append(line)
            line = ""
        line += f"{item}, "
    return "\n    " + "\n    ".join([*lines, line]).rstrip(", ") + "\n"


# -- layers


def _simple_rnn(code: Code, cell: Any, x: str, tag: str) -> str:
    u, w = cell.units, cell._weights
    h, z = code.state(f"h{tag}", u), code.buffer(u)
    code.start(z, w.get("bias"), u, f"b{tag}")
    code.product(x, w["kernel"], z, f"w{tag}")
    code.product(h, w["recurrent_kernel"], z, f"u{tag}")
    code.activate(cell, cell.activation, z, u)
    code.loop(u, f"{h}[j] = {z}[j];")
    return h


def _indrnn(code: Code, cell: Any, x: str, tag: str) -> str:
    u, w = cell.units, cell._weights
    h, z = code.state(f"h{tag}", u), code.buffer(u)
    code.start(z, w.get("bias"), u, f"b{tag}")
    code.product(x, w["kernel"], z, f"w{tag}")
    own = code.vector(w["recurrent_kernel"], f"u{tag}")
    code.loop(u, f"{z}[j] += {own}[j] * {h}[j];")
    code.activate(cell, cell.activation, z, u)
    code.loop(u, f"{h}[j] = {z}[j];")
    return h


def _lstm(code: Code, cell: Any, x: str, tag: str) -> str:
    u, w = cell.units, cell._weights
    h, c, z = code.state(f"h{tag}", u), code.state(f"c{tag}", u), code.buffer(4 * u)
    code.start(z, w.get("bias"), 4 * u, f"b{tag}")
    code.product(x, w["kernel"], z, f"w{tag}")
    code.product(h, w["recurrent_kernel"], z, f"u{tag}")
    i, f, g, o = z, f"({z} + {u})", f"({z} + {2 * u})", f"({z} + {3 * u})"
    peepholes = w.get("peephole_kernel")
    p = None if peepholes is None else code.vector(peepholes, f"p{tag}")
    if p:
        code.loop(u, f"{{ {i}[j] += {p}[j] * {c}[j]; {f}[j] += {p}[{u} + j] * {c}[j]; }}")
    for gate in (i, f):
        code.activate(cell, cell.recurrent_activation, gate, u)
    code.activate(cell, cell.activation, g, u)
    code.loop(u, f"{c}[j] = {f}[j] * {c}[j] + {i}[j] * {g}[j];")
    if p:
        code.loop(u, f"{o}[j] += {p}[{2 * u} + j] * {c}[j];")
    code.activate(cell, cell.recurrent_activation, o, u)
    code.loop(u, f"{h}[j] = {c}[j];")
    code.activate(cell, cell.activation, h, u)
    code.loop(u, f"{h}[j] *= {o}[j];")
    return h


def _gru(code: Code, cell: Any, x: str, tag: str) -> str:
    u, w = cell.units, cell._weights
    h, z, bias = code.state(f"h{tag}", u), code.buffer(3 * u), w.get("bias")
    after = cell.reset_after
    code.start(z, bias[0] if after and bias is not None else bias, 3 * u, f"b{tag}")
    code.product(x, w["kernel"], z, f"w{tag}")
    r, g = f"({z} + {u})", f"({z} + {2 * u})"
    if after:
        a = code.buffer(3 * u)
        code.start(a, None if bias is None else bias[1], 3 * u, f"rb{tag}")
        code.product(h, w["recurrent_kernel"], a, f"u{tag}")
        code.loop(2 * u, f"{z}[j] += {a}[j];")
    else:
        code.product(h, np.ascontiguousarray(w["recurrent_kernel"][:, : 2 * u]), z, f"u{tag}")
    code.activate(cell, cell.recurrent_activation, z, u)
    code.activate(cell, cell.recurrent_activation, r, u)
    if after:
        code.loop(u, f"{g}[j] += {r}[j] * {a}[{2 * u} + j];")
    else:
        code.loop(u, f"{r}[j] *= {h}[j];")
        code.product(r, np.ascontiguousarray(w["recurrent_kernel"][:, 2 * u :]), g, f"uh{tag}")
    code.activate(cell, cell.activation, g, u)
    code.loop(u, f"{h}[j] = {g}[j] + {z}[j] * ({h}[j] - {g}[j]);")
    return h


def _janet(code: Code, cell: Any, x: str, tag: str) -> str:
    u, w = cell.units, cell._weights
    h, z, k = code.state(f"h{tag}", u), code.buffer(2 * u), code.buffer(u)
    code.start(z, w.get("bias"), 2 * u, f"b{tag}")
    code.product(x, w["kernel"], z, f"w{tag}")
    code.product(h, w["recurrent_kernel"], z, f"u{tag}")
    g = f"({z} + {u})"
    code.loop(u, f"{k}[j] = {z}[j] - {code.number(cell.beta, 17)};")
    code.activate(cell, cell.recurrent_activation, z, u)
    code.activate(cell, cell.recurrent_activation, k, u)
    code.activate(cell, cell.activation, g, u)
    code.loop(u, f"{h}[j] = {z}[j] * {h}[j] + (1.0{code.suffix} - {k}[j]) * {g}[j];")
    return h


_CELLS: list[tuple[type, Callable[[Code, Any, str, str], str]]] = [
    (layers.PeepholeLSTMCell, _lstm),
    (layers.LSTMCell, _lstm),
    (layers.GRUCell, _gru),
    (layers.JANETCell, _janet),
    (layers.IndRNNCell, _indrnn),
    (layers.SimpleRNNCell, _simple_rnn),
]


def _recurrent(code: Code, layer: Any, x: str, tag: str) -> str:
    if layer.go_backwards or layer.return_state:
        option = "go_backwards" if layer.go_backwards else "return_state"
        raise refuse(layer, "a step in time", f"{option}=True")
    held = layer.cell
    cells = held.cells if isinstance(held, layers.StackedRNNCells) else [held]
    for k, cell in enumerate(cells):
        write = next((write for kind, write in _CELLS if isinstance(cell, kind)), None)
        if write is None or not isinstance(cell, Cell):
            raise ConversionError(
                f"layer {layer.name!r} has the cell {type(cell).__name__}, which to_c does not support"
            )
        x = write(code, cell, x, f"{tag}_{k}" if len(cells) > 1 else tag)
    return x


def write_layer(code: Code, layer: Any, x: str, size: int, tag: str) -> tuple[str, int]:
    """Write one layer's step; return the name and the length of its output."""
    while isinstance(layer, layers.TimeDistributed):
        layer = layer.layer
    if layer.has_states and not layer.reads_both_ways:
        out = _recurrent(code, layer, x, tag)
        return out, layer.compute_output_shape((None, None, size))[-1]
    if isinstance(layer, layers.Dense):
        y = code.buffer(layer.units)
        code.start(y, layer._weights.get("bias"), layer.units, f"b{tag}")
        code.product(x, layer._weights["kernel"], y, f"w{tag}")
        code.activate(layer, layer.activation, y, layer.units)
        return y, layer.units
    if isinstance(layer, layers.Activation):
        y = code.buffer(size)
        code.loop(size, f"{y}[j] = {x}[j];")
        code.activate(layer, layer.activation, y, size)
        return y, size
    if isinstance(layer, layers.Embedding):
        y, n = code.buffer(layer.output_dim), layer.output_dim
        table, scale = code.matrix(layer._weights["embeddings"], f"e{tag}")
        row = f"{table}[*x * {n} + j]"
        code.loop(n, f"{y}[j] = {row if not code.int8 else f'({code.real}){row} * {scale}[j]'};")
        return y, n
    if layer.unchanged:
        return x, size
    raise ConversionError(
        f"layer {layer.name!r} ({type(layer).__name__}) can't compute single steps, or is not supported by to_c"
    )

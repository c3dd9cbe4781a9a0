"""Models as a C99 file and its header, for microcontrollers and for programs without Python.

The code computes one time step per call: the caller has a struct of states, resets it, and passes one input after another.
No memory is allocated; weights are constants. The inner loops of products are over the columns of a weight matrix, so that
compilers can use vector instructions.
"""

from __future__ import annotations

import copy
import os
import re
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import choice
from fastrnn.exceptions import ConversionError
from fastrnn.interop.c_activations import ELEMENTWISE, NEEDS, ROWWISE
from fastrnn.interop.c_check import compare_in_c
from fastrnn.interop.c_layers import Code, quantized, write_layer
from fastrnn.interop.common import sequential_of
from fastrnn.models import Sequential
from fastrnn.saving.files import write_whole

__all__ = ["CFiles", "to_c"]

_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main".split()
)


class CFiles(NamedTuple):
    """The files that `to_c` wrote.

    Attributes
    ----------
    source, header : str
        The paths of both files.
    weight_bytes, state_bytes : int
        Sizes of the constants, and of the struct of states.
    error : float
        Largest difference of the outputs on a random sequence with int8 weights; 0.0 for floating-point weights.
    """

    source: str
    header: str
    weight_bytes: int
    state_bytes: int
    error: float


def to_c(
    model: Any,
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    weights: str = "float",
    verbose: bool = False,
) -> CFiles:
    """Write a model as C99: ``NAME_reset(&state); NAME_step(&state, x, y);``

    Parameters
    ----------
    model : Sequential or fitted estimator
        A model of layers that can be streamed: recurrent layers without `go_backwards`, Embedding, Dense, Activation,
        Masking, Dropout, TimeDistributed.
    path : str or path
        Path of the source file, such as ``"net.c"``; the header ``"net.h"`` is written to the same folder.
    name : str, optional
        Prefix of functions and types; by default the file's name.
    weights : {"float", "int8"}
        "int8" stores matrices as 8-bit integers with one scale for each column; sums are floating-point.
    verbose : bool
        Whether to print sizes and, for int8, the measured error. Otherwise the code is compiled and run, if there is a C
        compiler (`CC`, ``cc``, ``gcc``, ``clang``), and the largest difference of the outputs is printed.

    Returns
    -------
    CFiles
        Paths, sizes, and the error of int8 weights.

    Raises
    ------
    ConversionError
        If a layer can't compute single steps, or is not supported; the message names it.
    ModelFileError
        If a file can't be written.

    Notes
    -----
    ``NAME_step`` returns 0, or 1 without any effect for a token out of range. It computes in the model's dtype, needs only
    `math.h`, and is reentrant: several structs of states can be used. For an input that a Masking layer masks, the states
    do not change, and the output is that of the previous step.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.interop import to_c
    >>> model = Sequential([layers.Input((None, 2)), layers.GRU(3)], seed=0)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = to_c(model, folder / "net.c")
    >>> sorted(path.name for path in folder.iterdir())
    ['net.c', 'net.h']
    """
    network = sequential_of(model, "to_c")
    choice(weights, "weights", ("float", "int8"))
    source = os.fspath(path)
    stem, extension = os.path.splitext(source)
    if extension != ".c":
        raise ConversionError(f"path={source!r}: give a name that ends in .c")
    name = name or re.sub(r"\W", "_", os.path.basename(stem))
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in _KEYWORDS:
        raise ConversionError(
            f"name={name!r} can't be a prefix of names in C: give letters, digits and underscores"
        )
    code = Code(name, network.layers[0].dtype, weights == "int8")
    text, header, state_bytes = _written(code, network, os.path.basename(stem) + ".h")
    error = _int8_error(network) if code.int8 else 0.0
    note = (
        f" Weights are int8; largest difference to the model on a random sequence: {error:.3g}."
        if code.int8
        else ""
    )
    files = CFiles(source, stem + ".h", code.weight_bytes, state_bytes, error)
    write_whole(files.header, [header.replace("NOTE", note).encode()])
    write_whole(files.source, [text.encode()])
    if verbose:
        print(f"to_c: {files.source}, weights {files.weight_bytes} bytes, states {state_bytes} bytes.{note}")
        if not code.int8:
            compare_in_c(network, files.source, files.header, name)
    return files


def _written(code: Code, network: Sequential, header_name: str) -> tuple[str, str, int]:
    """Source, header and the size of the struct of states."""
    name, real = code.name, code.real
    first = next((layer for layer in network.layers if not layer.unchanged), network.layers[0])
    tokens = bool(first.takes_tokens)
    shape = network._shapes[0]
    if not tokens and (len(shape) != 3 or shape[-1] is None):
        raise ConversionError(
            f"the model takes inputs of shape {tuple(shape)}: a step needs (batch, time, features)"
        )
    n_inputs = 1 if tokens else shape[-1]
    x, size = "x", n_inputs
    for i, layer in enumerate(network.layers):
        code.add(f"/* {re.sub('[^A-Za-z0-9_. -]', '_', layer.name)}: {type(layer).__name__} */")
        x, size = write_layer(code, layer, x, size, str(i))
    blanks = [layer.mask_value for layer in network.layers if layer.mask_value is not None]
    if first.mask_zero:
        blanks.append(0)
    if blanks:
        code.states.append(("y", size))
    code.loop(size, f"y[j] = {'s->y[j] = ' if blanks else ''}{x}[j];")
    guards = _guards(code, blanks, n_inputs, size, first.input_dim if tokens else 0)
    x_type = "int" if tokens else real
    signature = f"int {name}_step({name}_state *s, const {x_type} *x, {real} *y)"
    fields = "".join(f"    {real} {field}[{n}];\n" for field, n in code.states) or "    char none;\n"
    state_bytes = sum(n for _, n in code.states) * code.dtype.itemsize
    upper = name.upper()
    header = f"""/* Written by fastrnn: a recurrent network, one step in time a call.NOTE */
#ifndef {upper}_H
#define {upper}_H
#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_N_INPUTS {n_inputs}
#define {upper}_N_OUTPUTS {size}

/* The states of one sequence; set them by {name}_reset before the first step. */
typedef struct {{
{fields}}} {name}_state;

void {name}_reset({name}_state *s);

/* x: {"one token" if tokens else f"{n_inputs} numbers"}; y: {size} numbers. Returns 0, or 1 for a token out of range. */
{signature};

#ifdef __cplusplus
}}
#endif
#endif
"""
    reset = "".join(f"    for (j = 0; j < {n}; j++) s->{field}[j] = 0;\n" for field, n in code.states)
    pieces = [
        f'/* Written by fastrnn; see {header_name}. */\n#include "{header_name}"\n\n#include <math.h>\n',
        *code.constants,
        "",
        _product_function(code),
        *_activation_functions(code),
        f"void {name}_reset({name}_state *s) {{\n    int j;\n{reset}    (void)s;\n    (void)j;\n}}\n",
        f"{signature} {{\n    int j;\n"
        + "\n".join([*guards, *code.body])
        + "\n    (void)s;\n    return 0;\n}\n",
    ]
    return "\n".join(pieces), header, state_bytes


def _guards(code: Code, blanks: list[Any], n_inputs: int, n_outputs: int, n_tokens: int) -> list[str]:
    """The first statements of a step, for tokens out of range and for masked inputs."""
    found = []
    if n_tokens:
        found.append(f"    if (*x < 0 || *x >= {n_tokens}) return 1;")
    for value in blanks:
        number = str(int(value)) if n_tokens else code.number(float(value), 17)
        found += [
            f"    for (j = 0; j < {n_inputs} && x[j] == {number}; j++) {{}}",
            f"    if (j == {n_inputs}) {{",
            f"        for (j = 0; j < {n_outputs}; j++) y[j] = s->y[j];",
            "        return 0;",
            "    }",
        ]
    return found


def _product_function(code: Code) -> str:
    real, name = code.real, code.name
    if f"{name}_product(" not in "\n".join(code.body):
        return ""
    if not code.int8:
        return f"""/* y += x @ w, with w of n rows and m columns. */
static void {name}_product(const {real} *x, int n, const {real} *w, {real} *y, int m) {{
    int i, j;
    for (i = 0; i < n; i++) {{
        const {real} a = x[i];
        const {real} *row = w + i * m;
        for (j = 0; j < m; j++) y[j] += a * row[j];
    }}
}}
"""
    return f"""/* y += (x @ w) * scale, with w of n rows and m columns. */
static void {name}_product(const {real} *x, int n, const signed char *w, const {real} *scale, {real} *y, int m) {{
    {real} sum[{code.widest}];
    int i, j;
    for (j = 0; j < m; j++) sum[j] = 0;
    for (i = 0; i < n; i++) {{
        const {real} a = x[i];
        const signed char *row = w + i * m;
        for (j = 0; j < m; j++) sum[j] += a * ({real})row[j];
    }}
    for (j = 0; j < m; j++) y[j] += sum[j] * scale[j];
}}
"""


def _activation_functions(code: Code) -> list[str]:
    name, written, pieces = code.name, set(), []

    def c(text: str) -> str:
        return text.replace("REAL", code.real).replace("@", code.suffix)

    def scalar(activation: str) -> None:
        for other in NEEDS[activation]:
            scalar(other)
        if activation not in written:
            written.add(activation)
            called = {other: f"{name}_{other}" for other in NEEDS[activation]}
            value = c(ELEMENTWISE[activation]).format(**called)
            pieces.append(
                f"static {code.real} {name}_{activation}({code.real} x) {{\n    return {value};\n}}\n"
            )

    for activation in code.activations:
        head = f"static void {name}_{activation}_row({code.real} *v, int n) {{"
        if activation in ROWWISE:
            pieces.append(f"{head}{c(ROWWISE[activation])}\n}}\n")
            continue
        scalar(activation)
        pieces.append(
            f"{head}\n    int j;\n    for (j = 0; j < n; j++) v[j] = {name}_{activation}(v[j]);\n}}\n"
        )
    return pieces


def _int8_error(network: Sequential, n_steps: int = 256) -> float:
    """The largest difference of the outputs on a random sequence due to int8 weights."""
    rounded = copy.deepcopy(network)
    for layer in rounded.layers:
        values = []
        for key, value in layer._weights.items():
            matrix = value.ndim == 2 and key.rpartition("/")[2] in (
                "kernel",
                "recurrent_kernel",
                "embeddings",
            )
            if matrix:
                codes, scale = quantized(value)
                value = codes * scale
            values.append(value)
        layer.set_weights(values)
    rng = np.random.default_rng(0)
    first = network.layers[0]
    if first.takes_tokens:
        x = rng.integers(1, first.input_dim, (4, n_steps))
    else:
        x = rng.normal(size=(4, n_steps, network._shapes[0][-1])).astype(first.dtype)
    return float(max(np.abs(network(x[:, :k]) - rounded(x[:, :k])).max() for k in (1, 16, n_steps)))

"""Models as ONNX graphs, with the native RNN, GRU and LSTM operators and dynamic axes for batch and time.

Recurrent operators take time as the first axis, so a graph transposes its input before the first operator, and its output
after the last. `onnx_reader` reads graphs.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError
from fastrnn.interop.common import compare, example_input, extra, refuse, run_onnx, sequential_of
from fastrnn.interop.onnx_tables import CELL_ACTIVATIONS, COMPOSED, OPERATORS, kind_of, unblocks
from fastrnn.models import Sequential
from fastrnn.saving.files import write_whole

__all__ = ["to_onnx"]

_OPSET, _IR_VERSION = 17, 8


class _Graph:
    """Collects nodes, constants, inputs and outputs of a graph."""

    def __init__(self, onnx: Any, dtype: np.dtype, streaming: bool, lengths: bool) -> None:
        self.onnx, self.dtype, self.streaming = onnx, dtype, streaming
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.lengths = "lengths" if lengths else ""
        self._names: set[str] = set()
        #: Whether time is the first axis of the current node's output.
        self.time_first = False

    def name(self, stem: str) -> str:
        """Return an unused name."""
        name, k = stem, 0
        while name in self._names:
            k += 1
            name = f"{stem}_{k}"
        self._names.add(name)
        return name

    def constant(self, value: Any, stem: str = "constant") -> str:
        name = self.name(stem)
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.asarray(value, self.dtype))

    def node(
        self, operator: str, inputs: list[str], stem: str = "", n_outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add a node; return the name of its output, or the names of its outputs."""
        outputs = [
            self.name(f"{stem or operator.lower()}_{k}" if k else stem or operator.lower())
            for k in range(n_outputs)
        ]
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def declare(self, name: str, shape: list[Any], dtype: Any, output: bool = False) -> None:
        kind = (
            self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            if dtype != "string"
            else self.onnx.TensorProto.STRING
        )
        value = self.onnx.helper.make_tensor_value_info(name, kind, shape)
        (self.outputs if output else self.inputs).append(value)
        self._names.add(name)

    def transpose(self, x: str, time_first: bool) -> str:
        """Swap batch and time if they are not in the required order."""
        if self.time_first == time_first:
            return x
        self.time_first = time_first
        result: str = self.node("Transpose", [x], perm=[1, 0, 2])
        return result


# -- layers


def _activation(graph: _Graph, layer: Any, activation: str, x: str) -> str:
    if activation == "linear":
        return x
    if activation in OPERATORS:
        operator, attributes = OPERATORS[activation]
        result: str = graph.node(operator, [x], f"{layer.name}_{activation}", **attributes)
        return result
    if activation not in COMPOSED:
        raise refuse(layer, "ONNX", f"activation={activation!r}")
    done: list[str] = []
    for operator, given in COMPOSED[activation]:
        inputs = [x if i == "x" else done[i] if isinstance(i, int) else graph.number(i[0]) for i in given]
        done.append(graph.node(operator, inputs, f"{layer.name}_{activation}"))
    return done[-1]


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    kernel, *bias = layer.get_weights()
    x = graph.node("MatMul", [x, graph.constant(kernel, f"{layer.name}/kernel")], layer.name)
    if bias:
        x = graph.node("Add", [x, graph.constant(bias[0], f"{layer.name}/bias")], f"{layer.name}_bias")
    return _activation(graph, layer, layer.activation, x)


def _recurrent(graph: _Graph, layer: Any, x: str) -> str:
    """Add a recurrent layer: one operator for each cell, which computes both directions of a bidirectional layer."""
    if isinstance(layer, layers.Bidirectional):
        if layer.forward_layer.go_backwards:
            raise refuse(layer, "ONNX", "a forward layer with go_backwards=True")
        both = [layer.forward_layer.cell, layer.backward_layer.cell]
        return _operator(graph, layer, both, layer.name, x, layer.return_sequences, [False, True])
    held = layer.cell
    cells = held.cells if isinstance(held, layers.StackedRNNCells) else [held]
    for k, cell in enumerate(cells):
        last = k == len(cells) - 1
        name = layer.name if len(cells) == 1 else f"{layer.name}_{k}"
        reverse = layer.go_backwards and k == 0
        x = _operator(graph, layer, [cell], name, x, layer.return_sequences or not last, [reverse])
    return x


def _operator(
    graph: _Graph, layer: Any, cells: list[Any], name: str, x: str, sequences: bool, reverse: list[bool]
) -> str:
    first = cells[0]
    operator = kind_of(first)
    if operator is None or any(kind_of(c) != operator or c.units != first.units for c in cells):
        kinds = " and ".join(type(c).__name__ for c in cells)
        raise refuse(
            layer, "ONNX", f"cells of the kind {kinds}", "it has RNN, GRU and LSTM, alike in both directions"
        )
    if getattr(first, "reset_after", None) != getattr(cells[-1], "reset_after", None):
        raise refuse(layer, "ONNX", "directions with unlike reset_after")
    if layer.return_state:
        raise refuse(layer, "this conversion", "return_state=True", "streaming=True gives states as outputs")
    if layer.stateful and not graph.streaming:
        raise refuse(
            layer, "a graph", "stateful=True", "give streaming=True, which makes states inputs and outputs"
        )
    if graph.streaming and reverse != [False]:
        raise refuse(layer, "a stream", "a direction that needs the future")
    if graph.lengths and reverse == [True] and sequences:
        raise refuse(layer, "ONNX", "go_backwards=True and return_sequences=True, with lengths=True,")
    states = ["h", "c"] if operator == "LSTM" else ["h"]
    x = graph.transpose(x, True)
    initial = [_state_input(graph, f"{name}_{s}", first.units) for s in states] if graph.streaming else []
    inputs = [x, *_weights(graph, cells, operator, name), graph.lengths, *initial]
    peepholes = [c._weights.get("peephole_kernel") for c in cells]
    if peepholes[0] is not None:
        rows = np.stack([np.concatenate([p[0], p[2], p[1]]) for p in peepholes])  # i, o, f
        inputs += [""] * (7 - len(inputs)) + [graph.constant(rows, f"{name}/P")]
    while inputs[-1] == "":
        inputs.pop()
    attributes = _attributes(layer, cells, operator)
    attributes["direction"] = "bidirectional" if len(cells) == 2 else "reverse" if reverse[0] else "forward"
    y, *finals = graph.node(operator, inputs, name, 1 + len(states), **attributes)
    if graph.streaming:
        axis = graph.constant(np.array([0], np.int64), "axis")
        for state, final in zip(states, finals, strict=True):
            out = f"{name}_{state}_out"
            graph.nodes.append(graph.onnx.helper.make_node("Squeeze", [final, axis], [out]))
            graph.declare(out, ["batch", first.units], graph.dtype, output=True)
    merge = layer.merge_mode if len(cells) == 2 else "concat"
    if merge is None:
        raise refuse(layer, "this conversion", "merge_mode=None")
    if sequences:
        y = _merged(graph, y, merge, axis=1, perm=[0, 2, 1, 3], keep=[0, 0, -1], single=len(cells) == 1)
        # The layer returns outputs in the order of processing, ONNX in the order of time.
        return _flipped(graph, y) if reverse == [True] else y
    graph.time_first = False
    return _merged(graph, finals[0], merge, axis=0, perm=[1, 0, 2], keep=[0, -1], single=len(cells) == 1)


def _merged(
    graph: _Graph, y: str, merge: str, axis: int, perm: list[int], keep: list[int], single: bool
) -> str:
    """Merge the outputs of all directions, which are on a separate axis."""
    if single:
        result: str = graph.node("Squeeze", [y, graph.constant(np.array([axis], np.int64), "axis")])
        return result
    if merge == "concat":
        y = graph.node("Transpose", [y], perm=perm)
        result = graph.node("Reshape", [y, graph.constant(np.array(keep, np.int64), "shape")])
        return result
    if merge == "sum":
        result = graph.node("ReduceSum", [y, graph.constant(np.array([axis], np.int64), "axis")], keepdims=0)
        return result
    operator = "ReduceMean" if merge == "ave" else "ReduceProd"
    result = graph.node(operator, [y], axes=[axis], keepdims=0)
    return result


def _flipped(graph: _Graph, y: str) -> str:
    ends = [np.array([v], np.int64) for v in (-1, np.iinfo(np.int64).min, 0, -1)]
    result: str = graph.node("Slice", [y, *(graph.constant(e, "slice") for e in ends)])
    return result


def _weights(graph: _Graph, cells: list[Any], operator: str, name: str) -> list[str]:
    w, r, b = [], [], []
    for cell in cells:
        kernel, recurrent, bias = (cell._weights.get(k) for k in ("kernel", "recurrent_kernel", "bias"))
        w.append(unblocks(kernel.T, operator))
        r.append(unblocks(recurrent.T, operator))
        halves = np.zeros((2, kernel.shape[1]), kernel.dtype)
        if bias is not None:
            halves[: bias.ndim] = bias
        b.append(np.concatenate([unblocks(half, operator) for half in halves]))
    return [graph.constant(np.stack(v), f"{name}/{k}") for k, v in (("W", w), ("R", r), ("B", b))]


def _attributes(layer: Any, cells: list[Any], operator: str) -> dict[str, Any]:
    names, alphas, betas = [], [], []
    for cell in cells:
        own = [cell.activation]
        if operator != "RNN":
            own = [cell.recurrent_activation, *[cell.activation] * (2 if operator == "LSTM" else 1)]
        for activation in own:
            if activation not in CELL_ACTIVATIONS:
                raise refuse(
                    layer,
                    f"ONNX's {operator}",
                    f"activation={activation!r}",
                    f"it has {', '.join(CELL_ACTIVATIONS)}",
                )
            called, alpha, beta = CELL_ACTIVATIONS[activation]
            names.append(called)
            alphas += [] if alpha is None else [alpha]
            betas += [] if beta is None else [beta]
    found: dict[str, Any] = {"hidden_size": cells[0].units, "activations": names}
    if alphas:
        found["activation_alpha"] = alphas
    if betas:
        found["activation_beta"] = betas
    if operator == "GRU":
        found["linear_before_reset"] = int(cells[0].reset_after)
    return found


def _state_input(graph: _Graph, name: str, units: int) -> str:
    graph.declare(name, ["batch", units], graph.dtype)
    result: str = graph.node("Unsqueeze", [name, graph.constant(np.array([0], np.int64), "axis")])
    return result


def _layer(graph: _Graph, layer: Any, x: str, ndim: int) -> tuple[str, int]:
    """Add a layer; return the name of its output and its number of axes."""
    inner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    if (layer.mask_zero or layer.mask_value is not None) and not graph.lengths:
        raise refuse(layer, "ONNX", "a mask", "give lengths=True: padding at the end, and the lengths")
    if isinstance(inner, layers.Dense):
        return _dense(graph, inner, x), ndim
    if isinstance(inner, layers.Activation):
        return _activation(graph, inner, inner.activation, x), ndim
    if isinstance(inner, layers.Embedding):
        table = graph.constant(inner.get_weights()[0], f"{inner.name}/embeddings")
        return graph.node("Gather", [table, x], inner.name, axis=0), ndim + 1
    if layer.has_states or layer.reads_both_ways:
        return _recurrent(graph, layer, x), 3 if layer.return_sequences else 2
    if isinstance(layer, layers.Flatten) and layer.data_format == "channels_last":
        x = graph.transpose(x, False) if ndim == 3 else x
        return graph.node("Flatten", [x], axis=1), 2
    if isinstance(layer, layers.RepeatVector):
        graph.time_first = True
        x = graph.node("Unsqueeze", [x, graph.constant(np.array([0], np.int64), "axis")])
        return graph.node("Tile", [x, graph.constant(np.array([layer.n, 1, 1], np.int64), "repeats")]), 3
    if inner.unchanged:
        return x, ndim
    raise ConversionError(
        f"layer {layer.name!r} ({type(layer).__name__}) has no counterpart in ONNX that is known here"
    )


# -- estimators


def _pipeline(model: Any) -> tuple[list[Any], Any]:
    """The scalers before an estimator, and the estimator."""
    steps = getattr(model, "steps", None)
    if steps is None:
        return [], model
    *before, (_, last) = steps
    for name, step in before:
        if type(step).__name__ != "StandardScaler3D" or not hasattr(step, "scale_"):
            raise ConversionError(
                f"step {name!r} ({type(step).__name__}) can't be converted: supported is a fitted StandardScaler3D"
            )
    return [step for _, step in before], last


def _scaled(graph: _Graph, scalers: list[Any], x: str) -> str:
    for scaler in scalers:
        for operator, values in (("Sub", scaler.mean_), ("Div", scaler.scale_)):
            if values is not None:
                x = graph.node(
                    operator, [x, graph.constant(np.asarray(values, graph.dtype), f"scaler/{operator}")]
                )
    return x


def _estimator_outputs(graph: _Graph, estimator: Any, x: str, per_step: bool, shape: list[Any]) -> None:
    """Add the outputs of `predict` and `predict_proba`: labels and probabilities, or numbers."""
    classes = getattr(estimator, "classes_", None)
    identity = graph.onnx.helper.make_node
    if classes is None:
        flat = getattr(estimator, "_y_is_flat", False) and not per_step
        if flat:
            graph.nodes.append(
                identity("Squeeze", [x, graph.constant(np.array([1], np.int64), "axis")], ["y"])
            )
        else:
            graph.nodes.append(identity("Identity", [x], ["y"]))
        graph.declare("y", shape[:-1] if flat else shape, graph.dtype, output=True)
        return
    if len(classes) == 2:
        x = graph.node("Concat", [graph.node("Sub", [graph.number(1.0), x]), x], axis=-1)
    best = graph.node("ArgMax", [x], axis=-1, keepdims=0)
    if classes.dtype.kind in "iub":
        table, kind = classes.astype(np.int64), "int64"
    elif classes.dtype.kind in "UO" and all(isinstance(c, str) for c in classes.tolist()):
        table, kind = classes.astype(object), "string"
    elif classes.dtype.kind == "f":
        table, kind = classes.astype(np.float64), "float64"
    else:
        raise ConversionError(
            f"classes_ has dtype {classes.dtype}: ONNX has labels of integers, floats and strings"
        )
    graph.nodes.append(identity("Gather", [graph.constant(table, "classes"), best], ["label"], axis=0))
    graph.nodes.append(identity("Identity", [x], ["probabilities"]))
    graph.declare("label", shape[:-1], kind, output=True)
    graph.declare("probabilities", [*shape[:-1], len(classes)], graph.dtype, output=True)


# -- the graph


def to_onnx(
    model: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    streaming: bool = False,
    lengths: bool = False,
    verbose: bool = False,
) -> Any:
    """Make an ONNX model, with native RNN, GRU and LSTM operators.

    Parameters
    ----------
    model : Sequential, fitted estimator, or Pipeline of StandardScaler3D and an estimator
    path : str or path, optional
        File to which the model is written.
    streaming : bool
        Whether the states of recurrent layers are inputs ``<layer>_h`` and ``<layer>_c`` of shape (batch, units), and
        outputs ``<layer>_h_out`` and ``<layer>_c_out``, to continue sequences by any number of steps.
    lengths : bool
        Whether to add an input ``lengths`` (int32, one for each sequence), for sequences padded at their end. Masking and
        ``mask_zero`` need it. Outputs of padded steps differ from those of this library.
    verbose : bool
        Whether to print the largest difference of the outputs.

    Returns
    -------
    onnx.ModelProto
        Input ``x`` of shape (batch, time, features), or (batch, time) for tokens, with any batch and time. Output ``y``, or
        for a classifier ``label`` and ``probabilities``.

    Raises
    ------
    ConversionError
        If ONNX lacks a layer or an option; the message names it.

    Notes
    -----
    The model is checked with ONNX's checker, and its outputs are compared in onnxruntime, or in ONNX's reference
    implementation if onnxruntime lacks a kernel (as for float64).

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.interop import from_onnx, to_onnx
    >>> model = Sequential([layers.Input((None, 3)), layers.GRU(4), layers.Dense(1)])
    >>> graph = to_onnx(model, "model.onnx")
    >>> from_onnx("model.onnx").count_params() == model.count_params()
    True
    """
    onnx = extra("onnx", "onnx")
    scalers, estimator = _pipeline(model)
    network = sequential_of(estimator, "to_onnx")
    graph = _Graph(onnx, network.layers[0].dtype, streaming, lengths)
    shape = network._shapes[0]
    tokens = network.layers[0].takes_tokens
    sizes: list[Any] = [
        "batch",
        *("time" if (i == 0 and len(shape) > 2) or tokens else n for i, n in enumerate(shape[1:])),
    ]
    if len(shape) > 2 and any(isinstance(layer, layers.Flatten) for layer in network.layers):
        sizes[1] = shape[1]
    graph.declare("x", sizes, np.int64 if tokens else graph.dtype)
    if lengths:
        graph.declare("lengths", ["batch"], np.int32)
    x, ndim = _scaled(graph, scalers, "x"), len(shape)
    start = x
    for layer in network.layers:
        x, ndim = _layer(graph, layer, x, ndim)
    if ndim == 3:
        x = graph.transpose(x, False)
    out = [*sizes[: ndim - 1], network._shapes[-1][-1]]
    if ndim == 3:
        out[1] = "steps" if network._shapes[-1][1] is None else network._shapes[-1][1]
        out[1] = "time" if out[1] == "steps" else out[1]
    end = x
    states, graph.outputs = graph.outputs, []
    if estimator is network:
        graph.nodes.append(onnx.helper.make_node("Identity", [x], ["y"]))
        graph.declare("y", out, graph.dtype, output=True)
    else:
        _estimator_outputs(graph, estimator, x, ndim == 3, out)
    result = _finished(graph, network, states, start, end)
    _compare(graph, network, scalers, result, verbose)
    if path is not None:
        write_whole(path, [result.SerializeToString()])
    return result


def _finished(graph: _Graph, network: Sequential, states: list[Any], start: str, end: str) -> Any:
    onnx = graph.onnx
    made = onnx.helper.make_graph(
        graph.nodes, network.name, graph.inputs, [*graph.outputs, *states], graph.constants
    )
    result = onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="fastrnn",
    )
    # Names of the network's first and last value, between scaler and labels, for the reader.
    onnx.helper.set_model_props(result, {"fastrnn.start": start, "fastrnn.end": end})
    onnx.checker.check_model(result, full_check=True)
    return result


def _compare(graph: _Graph, network: Sequential, scalers: list[Any], result: Any, verbose: bool) -> None:
    x = example_input(network)
    feeds: dict[str, np.ndarray] = {"x": x}
    mask = None
    if graph.lengths:
        feeds["lengths"] = np.array([x.shape[1], 1, x.shape[1] - 2][: len(x)], np.int32)
        mask = np.arange(x.shape[1]) < feeds["lengths"][:, None]
        if network.layers[0].mask_zero:
            x = feeds["x"] = np.where(mask, np.maximum(x, 1), 0)
    for value in graph.inputs:
        if value.name not in feeds:
            feeds[value.name] = np.zeros((len(x), value.type.tensor_type.shape.dim[1].dim_value), graph.dtype)
    name = "probabilities" if any(o.name == "probabilities" for o in graph.outputs) else "y"
    theirs = run_onnx(result, feeds, [name])[0]
    for scaler in scalers:
        x = scaler.transform(x)
    # Pass the mask, as layers may otherwise use values of padding.
    ours = network(x, mask=mask) if mask is not None else network(x)
    if name == "probabilities" and ours.shape[-1] == 1:
        ours = np.concatenate([1 - ours, ours], axis=-1)
    if mask is not None and ours.ndim == 3:
        ours, theirs = ours[mask], theirs[mask]
    compare(
        ours, theirs.reshape(ours.shape) if theirs.size == ours.size else theirs, "to_onnx", x.shape, verbose
    )

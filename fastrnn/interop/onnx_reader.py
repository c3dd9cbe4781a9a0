"""Conversion of ONNX graphs that are a stack of RNN, GRU and LSTM operators, products, tables and activations.

Operators that only move axes are skipped; model and graph are compared on random input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError, ModelFileError
from fastrnn.interop.common import compare, example_input, extra, run_onnx
from fastrnn.interop.onnx_tables import CELL_ACTIVATIONS, CELLS, COMPOSED, OPERATORS, blocks
from fastrnn.models import Sequential
from fastrnn.saving.files import read_whole

__all__ = ["from_onnx"]

#: Operators that move axes, or have no effect in inference.
_MOVES = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_MERGES = {"ReduceSum": "sum", "ReduceMean": "ave", "ReduceProd": "mul"}


class _Reader:
    """Follows a graph from its input to one of its outputs, and collects layers and weights."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.graph = onnx, model.graph
        self.constants = {t.name: t for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is not None:
                    self.constants[node.output[0]] = value
        self.layers: list[Any] = []
        self.weights: list[np.ndarray] = []
        #: Output of the last recurrent operator, "Y" or "Y_h", whose axis of directions is not merged yet.
        self.raw = ""
        #: Whether the current value has a time axis.
        self.has_time = True

    def array(self, name: str) -> np.ndarray | None:
        """The value of a constant; raises ConversionError if a node computes it."""
        if not name:
            return None
        if name not in self.constants:
            raise ConversionError(
                f"{name!r} is computed, or is an input, but must be a constant, as it is a layer's weight"
            )
        result: np.ndarray | None = self.onnx.numpy_helper.to_array(self.constants[name])
        return result

    def attributes(self, node: Any) -> dict[str, Any]:
        return {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}

    def walk(self, start: str, end: str) -> None:
        at, seen = start, 0
        while at != end:
            seen += 1
            if seen > len(self.graph.node):
                raise ConversionError("the graph has a cycle")
            composed = self.composed(at)
            if composed is not None:
                at = composed
                continue
            users = [n for n in self.graph.node if at in n.input]
            if len(users) != 1:
                raise ConversionError(
                    f"{at!r} is an input of {len(users)} nodes ({', '.join(n.op_type for n in users)}): in a stack of "
                    "layers it must be the input of one"
                )
            at = self.node(users[0], at, end)

    def node(self, node: Any, at: str, end: str) -> str:
        kind = node.op_type
        if kind in CELLS:
            return self.recurrent(node, end)
        self.raw = ""
        if kind == "Flatten" and self.has_time:
            self.layers.append(layers.Flatten())
            self.has_time = False
        elif kind in _MOVES:
            pass
        elif kind == "Tile":
            self.repeat(node)
        elif kind in _MERGES and self.layers and isinstance(self.layers[-1], layers.Bidirectional):
            self.layers[-1].merge_mode = _MERGES[kind]
        elif kind == "Slice" and self.layers and getattr(self.layers[-1], "go_backwards", False):
            pass  # puts the steps of a reversed operator into the order of processing
        elif kind == "Gather" and node.input[1] == at:
            table = self.array(node.input[0])
            assert table is not None
            self.add(layers.Embedding(*table.shape, dtype=table.dtype.name), table)
        elif kind in ("MatMul", "Gemm"):
            self.product(node, at)
        elif kind == "Add":
            self.bias(node, at)
        else:
            self.activation(node)
        result: str = node.output[0]
        return result

    def add(self, layer: Any, *weights: np.ndarray) -> None:
        self.layers.append(layer)
        self.weights += weights

    def repeat(self, node: Any) -> None:
        repeats = self.array(node.input[1])
        if repeats is None or self.has_time or repeats.shape != (3,) or np.count_nonzero(repeats != 1) > 1:
            raise self.unknown(node, "only a vector is repeated here, along a new time axis")
        self.layers.append(layers.RepeatVector(int(repeats.max())))
        self.has_time = True

    def product(self, node: Any, at: str) -> None:
        given = self.attributes(node)
        kernel = self.array(node.input[1])
        if node.input[0] != at or kernel is None or kernel.ndim != 2:
            raise self.unknown(node, "only products with a matrix from the right are known")
        if given.get("transA") or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
            raise self.unknown(node, f"it has {given}: known is transB alone")
        kernel = kernel.T if given.get("transB") else kernel
        bias = self.array(node.input[2]) if len(node.input) > 2 else None
        self.add(layers.Dense(kernel.shape[1], use_bias=bias is not None, dtype=kernel.dtype.name), kernel)
        if bias is not None:
            self.weights.append(np.broadcast_to(bias, kernel.shape[1:]))

    def bias(self, node: Any, at: str) -> None:
        bias = self.array(node.input[1] if node.input[0] == at else node.input[0])
        last = self.layers[-1] if self.layers else None
        if (
            not isinstance(last, layers.Dense)
            or last.use_bias
            or bias is None
            or bias.size not in (1, last.units)
        ):
            raise self.unknown(
                node, "it adds a constant to a value that is not a product, which no layer does"
            )
        self.layers[-1] = layers.Dense(last.units, dtype=last.dtype.name)
        self.weights.append(np.broadcast_to(bias.ravel(), (last.units,)))

    def activation(self, node: Any) -> None:
        given = self.attributes(node)
        for name, (operator, attributes) in OPERATORS.items():
            if operator == node.op_type:
                defaults = {
                    "alpha": {"HardSigmoid": 0.2, "LeakyRelu": 0.01}.get(operator, 1.0),
                    "beta": 0.5,
                    "axis": -1,
                }
                for key, value in attributes.items():
                    found = given.get(key, defaults.get(key, value))
                    if key != "axis" and abs(found - value) > 1e-6:
                        raise ConversionError(
                            f"{operator} has {key}={found:.6g}, {name!r} here has {value:.6g}"
                        )
                last = self.layers[-1] if self.layers else None
                if isinstance(last, layers.Dense) and last.activation == "linear":
                    self.layers[-1] = layers.Dense(last.units, name, last.use_bias, dtype=last.dtype.name)
                else:
                    self.layers.append(layers.Activation(name))
                return
        operators = {operator for operator, _ in OPERATORS.values()}
        known = sorted({*CELLS, *_MOVES, *_MERGES, *operators, "MatMul", "Gemm", "Add", "Gather", "Tile"})
        raise self.unknown(node, f"the operator is not known here; known are {', '.join(known)}")

    def composed(self, at: str) -> str | None:
        """If an activation of several operators begins here, add it and return its output; otherwise return None."""
        for name, steps in COMPOSED.items():
            done: list[str] = []
            for operator, wanted in steps:
                found = next(
                    (n for n in self.graph.node if self._is_step(n, operator, wanted, at, done)), None
                )
                if found is None:
                    break
                done.append(found.output[0])
            if len(done) == len(steps):
                self.layers.append(layers.Activation(name))
                return done[-1]
        return None

    def _is_step(self, node: Any, operator: str, wanted: list[Any], at: str, done: list[str]) -> bool:
        if node.op_type != operator or len(node.input) != len(wanted):
            return False
        for given, want in zip(node.input, wanted, strict=True):
            if isinstance(want, tuple):
                value = self.array(given) if given in self.constants else None
                if value is None or value.size != 1 or abs(float(value.ravel()[0]) - want[0]) > 1e-6:
                    return False
            elif given != (at if want == "x" else done[want]):
                return False
        return True

    @staticmethod
    def unknown(node: Any, what: str) -> ConversionError:
        """The error that names a node."""
        name = f" {node.name!r}" if node.name else ""
        return ConversionError(f"node{name} ({node.op_type}, to {', '.join(node.output)}): {what}")

    def recurrent(self, node: Any, end: str) -> str:
        given, operator = self.attributes(node), node.op_type
        inputs = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
        w, r, b, p = (self.array(inputs.get(k, "")) for k in ("W", "R", "B", "P"))
        if w is None or r is None or w.ndim != 3 or r.ndim != 3:
            raise self.unknown(node, "it has no weights")
        if given.get("clip") or given.get("input_forget"):
            raise self.unknown(node, "it has clip or input_forget, which no layer has")
        for key in ("h", "c"):
            if inputs.get(key) in self.constants and np.any(self.array(inputs[key])):
                raise self.unknown(node, "it starts from constant states, but layers start from zero")
        used = [o for o in node.output if o and (o == end or any(o in n.input for n in self.graph.node))]
        outputs = dict(zip(node.output, ("Y", "Y_h", "Y_c"), strict=False))
        chosen = (
            end
            if end in node.output
            else next((o for o in used if outputs[o] == "Y"), used[0] if used else "")
        )
        # The final states of a streaming graph are separate outputs; the next layer takes Y.
        if outputs.get(chosen) not in ("Y", "Y_h"):
            raise self.unknown(
                node, f"its output {outputs.get(chosen, 'nothing')} is used, supported are Y and Y_h"
            )
        sequences = self.has_time = outputs[chosen] == "Y"
        direction = given.get("direction", b"forward").decode()
        if direction == "reverse" and sequences and not any(n.op_type == "Slice" for n in self.graph.node):
            raise self.unknown(
                node,
                "it reads in reverse and outputs all steps in the order of time, but layers with "
                "go_backwards return them in the order of processing",
            )
        found = [
            self._direction(operator, given, d, [None if a is None else a[d] for a in (w, r, b, p)])
            for d in range(len(w))
        ]
        made = [layer for layer, _ in found]
        for layer in made:
            layer.return_sequences = sequences
        if direction == "bidirectional":
            made[1].go_backwards = True
            config = {"return_sequences": sequences}
            forward, backward = (type(m).from_config({**m.get_config(), **config}) for m in made)
            layer = layers.Bidirectional(forward, backward_layer=backward, dtype=forward.dtype.name)
        else:
            made[0].go_backwards = direction == "reverse"
            layer = type(made[0]).from_config({**made[0].get_config(), "go_backwards": made[0].go_backwards})
        self.add(layer, *(weight for _, weights in found for weight in weights))
        self.raw = ("batch " if given.get("layout") else "") + outputs[chosen]
        return chosen

    def _direction(
        self, operator: str, given: dict[str, Any], d: int, arrays: list[Any]
    ) -> tuple[Any, list[np.ndarray]]:
        w, r, b, p = arrays
        units = r.shape[1]
        weights = [blocks(w, operator).T, blocks(r, operator).T]
        after = bool(given.get("linear_before_reset"))
        if b is not None:
            halves = np.stack([blocks(half, operator) for half in np.split(b, 2)])
            weights.append(halves if operator == "GRU" and after else halves.sum(axis=0))
        kwargs: dict[str, Any] = {"use_bias": b is not None, "dtype": w.dtype.name}
        names = self._cell_activations(operator, given, d)
        if operator == "RNN":
            kwargs["activation"] = names[0]
        else:
            kwargs["recurrent_activation"], kwargs["activation"] = names[:2]
            if len(set(names[1:])) > 1:
                raise ConversionError(f"{operator} has the activations {names}, but cells have only two")
        if operator == "GRU":
            kwargs["reset_after"] = after
        name = CELLS[operator][0]
        if p is not None:
            i, o, f = np.split(p, 3)
            name = "PeepholeLSTM"
            weights.append(np.stack([i, f, o]))
        return getattr(layers, name)(units, **kwargs), weights

    def _cell_activations(self, operator: str, given: dict[str, Any], d: int) -> list[str]:
        count = {"RNN": 1, "GRU": 2, "LSTM": 3}[operator]
        stated = [a.decode() for a in given.get("activations", [])]
        stated = stated or (["Tanh"] if operator == "RNN" else ["Sigmoid", *["Tanh"] * (count - 1)]) * (d + 1)
        alphas, betas = list(given.get("activation_alpha", [])), list(given.get("activation_beta", []))
        defaults = {
            "LeakyRelu": (0.01, None),
            "HardSigmoid": (0.2, 0.5),
            "Elu": (1.0, None),
            "Affine": (1.0, 0.0),
        }
        names = []
        for called in stated:
            alpha, beta = defaults.get(called, (None, None))
            alpha = alphas.pop(0) if alpha is not None and alphas else alpha
            beta = betas.pop(0) if beta is not None and betas else beta
            for name, (theirs, a, b) in CELL_ACTIVATIONS.items():
                if theirs == called and all(
                    x is None or (y is not None and abs(x - y) < 1e-6) for x, y in ((a, alpha), (b, beta))
                ):
                    names.append(name)
                    break
            else:
                raise ConversionError(
                    f"{operator} has the activation {called} (alpha {alpha}, beta {beta}), which cells here lack"
                )
        return names[d * count : (d + 1) * count]


def _loaded(onnx: Any, source: Any) -> Any:
    if isinstance(source, onnx.ModelProto):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ConversionError(f"source={source!r}: give an onnx.ModelProto, or the path of a file")
    name, data = read_whole(source)
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, the checker's, ValueError, TypeError
        raise ModelFileError(
            f"{name!r} is not a valid ONNX file: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """All constants of a graph, including those of nodes and of their subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _tensors(inner)


def _check_inside(onnx: Any, model: Any) -> None:
    """Raise if weights are in separate files, because a model could name any file of the system."""
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model.graph)):
        raise ConversionError("the model has weights in other files: save it with all weights inside")


def from_onnx(source: Any, *, output: str | None = None, verbose: bool = False) -> Sequential:
    """Make a model from an ONNX graph that is a stack of layers.

    Parameters
    ----------
    source : onnx.ModelProto, or path
        A graph of the operators RNN, GRU, LSTM (also with peepholes), MatMul, Gemm, Add, Gather, activations, and operators
        that only move axes. For a graph that `to_onnx` made of an estimator, the network between scaler and labels is
        converted.
    output : str, optional
        Output of the graph to convert; by default the first.
    verbose : bool
        Whether to print the largest difference of the outputs.

    Returns
    -------
    Sequential
        Not compiled; batch is the first axis of its inputs. The graph's inputs for states and lengths have no counterpart:
        use `Sequential.stream` and masks.

    Raises
    ------
    ConversionError
        If a node has no counterpart, or the outputs of both models differ on random input.
    ModelFileError
        If the file is damaged, or not an ONNX file.

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.interop import from_onnx, to_onnx
    >>> graph = to_onnx(Sequential([layers.Input((None, 3)), layers.LSTM(4)]))
    >>> from_onnx(graph).layers[0].units
    4
    """
    onnx = extra("onnx", "onnx")
    model = _loaded(onnx, source)
    _check_inside(onnx, model)
    graph = model.graph
    props = {p.key: p.value for p in model.metadata_props}
    constants = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    names = [o.name for o in graph.output]
    if not inputs or not names or (output is not None and output not in names):
        raise ConversionError(
            f"output={output!r}: the graph has the inputs {[i.name for i in inputs]} and outputs {names}"
        )
    start = props.get("fastrnn.start", inputs[0].name)
    end = props.get("fastrnn.end", names[0]) if output is None else output
    reader = _Reader(onnx, model)
    try:
        reader.walk(start, end)
        result = _build(reader, inputs[0])
    except ConversionError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise ConversionError(f"the graph's layers don't fit together: {error}") from error
    _compare(onnx, model, reader, result, (start, end), verbose)
    return result


def _build(reader: _Reader, given: Any) -> Sequential:
    if not reader.layers:
        raise ConversionError("the graph has no layers that are supported")
    dtypes = {w.dtype.name for w in reader.weights}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float64"}:
        raise ConversionError(
            f"the weights have dtypes {sorted(dtypes)}: all must be float32, or all float64"
        )
    made = []
    for layer in reader.layers:
        config = {**layer.get_config(), "dtype": next(iter(dtypes), "float32"), "name": None}
        made.append(type(layer).from_config(config))
    dims = given.type.tensor_type.shape.dim
    model = Sequential(made)
    if made[0].takes_tokens:
        model.build((None, None))
    else:
        first = next((w for w in reader.weights), None)
        if first is None:
            raise ConversionError("the graph has no weights, so its number of features is not known")
        flat = any(isinstance(layer, layers.Flatten) for layer in made)
        steps = dims[1].dim_value if flat and len(dims) == 3 else None
        model.build((None, first.shape[0]) if len(dims) == 2 else (None, steps, first.shape[0]))
    model.set_weights([np.ascontiguousarray(w) for w in reader.weights])
    return model


def _compare(
    onnx: Any, model: Any, reader: _Reader, result: Sequential, ends: tuple[str, str], verbose: bool
) -> None:
    """Run and compare both models; `ends` are the names of the network's first and last value in the graph."""
    start, end = ends
    part = onnx.ModelProto()
    part.CopyFrom(model)
    x = example_input(result)
    feeds: dict[str, np.ndarray] = {}
    # Only the network, without the scaler before it and the labels after it.
    if start not in {i.name for i in model.graph.input}:
        for node in part.graph.node:
            for k, name in enumerate(node.output):
                if name == start:
                    node.output[k] = f"{start}/unused"
        kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
        part.graph.input.append(onnx.helper.make_tensor_value_info(start, kind, [None] * x.ndim))
    kind = onnx.helper.np_dtype_to_tensor_dtype(result.layers[0].dtype)
    if end not in {o.name for o in part.graph.output}:
        part.graph.output.append(onnx.helper.make_tensor_value_info(end, kind, None))
    first = next(n for n in model.graph.node if start in n.input)
    layout = {a.name: a for a in first.attribute}.get("layout")
    time_first = first.op_type in CELLS and not (layout and layout.i)
    feeds[start] = np.ascontiguousarray(x.swapaxes(0, 1)) if time_first and x.ndim == 3 else x
    for value in part.graph.input:
        if value.name not in feeds and value.name not in reader.constants:
            dims = value.type.tensor_type.shape.dim
            shape = [d.dim_value or len(x) for d in dims]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            full = dtype.kind in "iu" and len(shape) == 1  # lengths: all steps count
            if len(shape) == 3 and dtype.kind == "f":
                shape[1] = len(x)
            if len(shape) == x.ndim and value.name == model.graph.input[0].name:
                shape = list(x.shape)
            feeds[value.name] = np.full(shape, x.shape[1] if full else 0, dtype)
    theirs = run_onnx(part, feeds, [end])[0]
    ours = result(x)
    if reader.raw:
        batch_first, kind = reader.raw.startswith("batch"), reader.raw.rpartition(" ")[2]
        if kind == "Y":  # (time, direction, batch, units), or (batch, time, direction, units)
            theirs = theirs if batch_first else theirs.transpose(2, 0, 1, 3)
        else:
            theirs = theirs if batch_first else theirs.swapaxes(0, 1)
        theirs = theirs.reshape(ours.shape)
    elif time_first and ours.ndim == 3 and theirs.ndim == 3:
        theirs = theirs.swapaxes(0, 1)
    compare(ours, theirs, "from_onnx", x.shape, verbose)

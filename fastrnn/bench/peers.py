"""The other libraries, each in its best configuration, behind one interface: contenders.

A contender runs one case with one number of threads. `prepare` is called before a block of timed calls and makes a library's
global settings, `run` does the work once and returns when it is done, `output` gives the network's output (B, T, H) so that
a benchmark can check that all libraries compute the same.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.bench.cases import GATES, Case
from fastrnn.engine.runtime.threads import available

LEARNING_RATE = 0.01


@dataclass
class Contender:
    library: str
    threads: str
    run: Callable[[], Any]
    output: Callable[[], NDArray[Any]]
    prepare: Callable[[], Any] = lambda: None
    #: How the library is used, if there are several ways.
    mode: str = ""

    def __str__(self) -> str:
        return f"{self.library}-{self.threads}threads" + (f"-{self.mode}" if self.mode else "")


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def thread_counts(most: int = 2) -> tuple[int, ...]:
    """The powers of two up to the number of cores that are free to this process, but at most `most`."""
    return tuple(itertools.takewhile(lambda n: n <= min(available(), most), (1 << k for k in range(20))))


def gate_blocks(array: NDArray[Any], order: tuple[int, ...]) -> NDArray[Any]:
    """Reorder the gates, which are equal blocks of the last axis."""
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[i] for i in order], axis=-1)


# --- PyTorch -------------------------------------------------------------------------------------------------------


def torch_layer(case: Case) -> Any:
    """A torch layer, time first (its native layout), with the case's weights."""
    import torch

    order = {"simple_rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}[case.cell]
    kind = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell]
    both = case.variant == "bidirectional"
    layers = 2 if case.variant == "stacked" else 1
    layer = kind(case.size.inputs, case.size.units, num_layers=layers, bidirectional=both)
    layer = layer.to(getattr(torch, case.dtype))
    with torch.no_grad():
        for k in range(len(case.inputs_of)):
            kernel, recurrent, bias = case.weights(k)
            biases = bias if case.cell == "gru" else np.stack([bias, np.zeros_like(bias)])
            tail = ("_l0" if k == 0 else "_l0_reverse") if both else f"_l{k}"
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for name, value in zip(names, (kernel.T, recurrent.T, *biases), strict=True):
                reordered = gate_blocks(value.T, order).T
                getattr(layer, name + tail).copy_(torch.from_numpy(np.ascontiguousarray(reordered)))
    return layer


def torch_contenders(case: Case, counts: Sequence[int]) -> Iterator[Contender]:
    """Contenders of PyTorch, which has no masks. Ragged batches run both packed and padded."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    if case.variant == "masked":
        return
    torch.set_flush_denormal(True)
    x, y = (torch.from_numpy(np.ascontiguousarray(a.transpose(1, 0, 2))) for a in case.data())
    valid = case.valid()
    lengths: Any = case.lengths()
    share = None
    if valid is not None:
        share = torch.from_numpy((valid.T[:, :, None] / (valid.sum() * case.outputs)).astype(case.dtype))
        lengths = torch.from_numpy(lengths)

    def padded(layer: Any) -> Any:
        return layer(x)[0]

    def packed(layer: Any) -> Any:
        out, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(out, total_length=case.size.steps)[0]

    def loss_of(out: Any) -> Any:
        if share is None:
            return torch.nn.functional.mse_loss(out, y)
        return ((out - y).square() * share).sum()

    modes = {"": padded} if share is None else {"padded": padded, "packed": packed}
    for (mode, forward), threads in itertools.product(modes.items(), counts):
        layer = torch_layer(case)
        names, parameters = map(list, zip(*layer.named_parameters(), strict=True))
        # torch has two biases where the others have one; together they would learn twice as fast.
        learning = [
            p
            for name, p in zip(names, parameters, strict=True)
            if case.cell == "gru" or not name.startswith("bias_hh")
        ]

        def infer(layer: Any = layer, forward: Any = forward) -> Any:
            with torch.inference_mode():
                return forward(layer)

        # SGD by hand: for small networks torch.optim.SGD would take a fifth of the step.
        def train(
            layer: Any = layer,
            forward: Any = forward,
            parameters: list[Any] = parameters,
            learning: list[Any] = learning,
        ) -> Any:
            for p in parameters:
                p.grad = None
            loss = loss_of(forward(layer))
            loss.backward()
            with torch.no_grad():
                for p in learning:
                    p.add_(p.grad, alpha=-LEARNING_RATE)
            return loss

        def output(infer: Callable[[], Any] = infer) -> NDArray[Any]:
            result: NDArray[Any] = infer().numpy().transpose(1, 0, 2)
            return result

        layer.train(case.kind == "training")
        run = infer if case.kind == "inference" else train
        yield Contender("torch", str(threads), run, output, partial(torch.set_num_threads, threads), mode)


# --- Keras on JAX --------------------------------------------------------------------------------------------------


def keras_model(case: Case, *, masking: bool = False) -> Any:
    """A Sequential of the case's layers; with `masking`, steps of zeros are masked."""
    import keras

    s = case.size
    kinds = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}

    def layer() -> Any:
        return kinds[case.cell](s.units, return_sequences=True, dtype=case.dtype)

    if case.variant == "bidirectional":
        layers = [keras.layers.Bidirectional(layer(), dtype=case.dtype)]
    else:
        layers = [layer() for _ in case.inputs_of]
    front = [keras.layers.Masking(dtype=case.dtype)] if masking else []
    model = keras.Sequential(
        [keras.Input((s.steps, s.inputs), batch_size=s.batch, dtype=case.dtype), *front, *layers]
    )
    model.set_weights([w for k in range(len(case.inputs_of)) for w in case.weights(k)])
    return model


def keras_contenders(case: Case, counts: Sequence[int]) -> Iterator[Contender]:
    """Keras with JAX: a jitted stateless call for inference, train_on_batch (jitted) for training.

    XLA's number of threads is fixed when the process starts, so there is one configuration, and `counts` is not used.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    if keras.backend.backend() != "jax":
        return
    # Without x64, JAX would silently compute a float64 network in float32.
    x64 = case.dtype == "float64"
    jax.config.update("jax_enable_x64", x64)  # type: ignore[no-untyped-call]
    (x, y), valid = case.data(), case.valid()
    # A call accepts a mask; train_on_batch does not, so the mask is made from the inputs.
    masking = valid is not None and case.kind == "training"
    model = keras_model(case, masking=masking)
    mask = None if masking else valid
    state = [v.value for v in model.non_trainable_variables]

    @jax.jit  # type: ignore[untyped-decorator]
    def forward(trainable: Any, state: Any, x: Any) -> Any:
        return model.stateless_call(trainable, state, x, mask=mask, training=False)[0]

    def output() -> NDArray[Any]:
        return np.asarray(forward([v.value for v in model.trainable_variables], state, x))

    if case.kind == "inference":
        trainable = [v.value for v in model.trainable_variables]

        def run() -> Any:
            return np.asarray(forward(trainable, state, x))
    else:
        model.compile(keras.optimizers.SGD(LEARNING_RATE), "mse", jit_compile=True)

        def run() -> Any:
            return model.train_on_batch(x, y)

    yield Contender("keras-jax", "all", run, output, lambda: jax.config.update("jax_enable_x64", x64))  # type: ignore[no-untyped-call]


# --- JAX -----------------------------------------------------------------------------------------------------------

#: Time steps of which XLA makes one iteration of the loop.
JAX_UNROLL = 8


def _jax_layer(cell: str, weights: Sequence[Any], x: Any, mask: Any, reverse: bool) -> Any:
    """Outputs (T, B, H) of a layer for x (T, B, I), whose input product is computed before the loop over time."""
    import jax
    from jax.nn import sigmoid
    from jax.numpy import split, tanh, where, zeros

    kernel, recurrent, bias = weights
    gru, units = cell == "gru", recurrent.shape[0]
    z = x @ kernel + (bias[0] if gru else bias)

    def step(states: Any, inputs: Any) -> Any:
        h, c = states
        z, valid = inputs
        hu = h @ recurrent + bias[1] if gru else h @ recurrent
        if cell == "simple_rnn":
            new = (tanh(z + hu), c)
        elif gru:
            (update, reset, candidate), (hu_update, hu_reset, hu_candidate) = split(z, 3, 1), split(hu, 3, 1)
            update = sigmoid(update + hu_update)
            candidate = tanh(candidate + sigmoid(reset + hu_reset) * hu_candidate)
            new = (update * h + (1 - update) * candidate, c)
        else:
            i, f, g, o = split(z + hu, 4, 1)
            c_new = sigmoid(f) * c + sigmoid(i) * tanh(g)
            new = (sigmoid(o) * tanh(c_new), c_new)
        if valid is not None:
            new = (where(valid, new[0], h), where(valid, new[1], c))
        return new, new[0]

    start = zeros((x.shape[1], units), x.dtype)
    return jax.lax.scan(step, (start, start), (z, mask), reverse=reverse, unroll=min(JAX_UNROLL, len(x)))[1]


def jax_contenders(case: Case, counts: Sequence[int]) -> Iterator[Contender]:
    """JAX without Keras: jitted functions of time-major arrays that stay in JAX.

    XLA's number of threads is fixed when the process starts, so there is one configuration, and `counts` is not used.
    """
    import jax
    import jax.numpy as jnp

    x64 = case.dtype == "float64"
    jax.config.update("jax_enable_x64", x64)  # type: ignore[no-untyped-call]
    x, y = (jnp.asarray(np.ascontiguousarray(a.transpose(1, 0, 2))) for a in case.data())
    valid = case.valid()
    share = mask = None
    if valid is not None:
        mask = jnp.asarray(valid.T[:, :, None])
        share = jnp.asarray((valid.T[:, :, None] / (valid.sum() * case.outputs)).astype(case.dtype))

    def forward(weights: Any, x: Any) -> Any:
        if case.variant == "bidirectional":
            both = [_jax_layer(case.cell, w, x, mask, k == 1) for k, w in enumerate(weights)]
            return jnp.concatenate(both, axis=2)
        for layer in weights:
            x = _jax_layer(case.cell, layer, x, mask, False)
        return x

    def loss(weights: Any, x: Any, y: Any) -> Any:
        squares = (forward(weights, x) - y) ** 2
        return squares.mean() if share is None else (squares * share).sum()

    def update(weights: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, weights, gradients), value

    infer, train = jax.jit(forward), jax.jit(update)
    weights = [[jnp.asarray(w) for w in case.weights(k)] for k in range(len(case.inputs_of))]

    def run_inference() -> Any:
        return infer(weights, x).block_until_ready()

    def run_training() -> Any:
        nonlocal weights
        weights, value = train(weights, x, y)
        return jax.block_until_ready((weights, value))  # type: ignore[no-untyped-call]

    def output() -> NDArray[Any]:
        return np.asarray(infer(weights, x)).transpose(1, 0, 2)

    run = run_inference if case.kind == "inference" else run_training
    yield Contender("jax", "all", run, output, lambda: jax.config.update("jax_enable_x64", x64))  # type: ignore[no-untyped-call]


# --- ONNX Runtime --------------------------------------------------------------------------------------------------


def onnx_model(case: Case, *, with_state: bool = False) -> Any:
    """One ONNX node for each layer, time first (its native layout); `with_state` adds initial and last states."""
    from onnx import TensorProto, helper, numpy_helper

    s, gates = case.size, GATES[case.cell]
    order = {"simple_rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}[case.cell]  # ONNX: i o f c; z r h
    kind = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[case.cell]
    extra = {"linear_before_reset": 1} if case.cell == "gru" else {}
    number = getattr(TensorProto, "FLOAT" if case.dtype == "float32" else "DOUBLE")
    directions = 2 if case.variant == "bidirectional" else 1
    lengths = ["lengths"] if case.variant == "ragged" else []
    states = ["h", "c"][: 2 if case.cell == "lstm" else 1] if with_state else []
    constants: dict[str, NDArray[Any]] = {}

    def add_weights(name: str, parts: list[list[NDArray[Any]]]) -> list[str]:
        """Weights of one node, with an axis for its directions."""
        kernels, recurrents, biases = zip(*parts, strict=True)
        both = [b if case.cell == "gru" else np.stack([b, np.zeros_like(b)]) for b in biases]
        constants[f"W{name}"] = np.stack([gate_blocks(k, order).T for k in kernels])
        constants[f"R{name}"] = np.stack([gate_blocks(r, order).T for r in recurrents])
        constants[f"B{name}"] = np.stack([gate_blocks(b, order).reshape(2 * gates * s.units) for b in both])
        return [f"W{name}", f"R{name}", f"B{name}"]

    if case.variant == "stacked":
        between = helper.make_node("Squeeze", ["Y0", "axis"], ["X1"])
        constants["axis"] = np.array([1], np.int64)
        nodes = [
            helper.make_node(kind, ["X", *add_weights("0", [case.weights(0)])], ["Y0"], hidden_size=s.units),
            between,
            helper.make_node(kind, ["X1", *add_weights("1", [case.weights(1)])], ["Y"], hidden_size=s.units),
        ]
    else:
        weights = add_weights("", [case.weights(k) for k in range(directions)])
        optional = [lengths[0] if lengths else "", *states] if lengths or states else []
        outputs = ["Y", *(f"{name}_last" for name in states)]
        nodes = [helper.make_node(kind, ["X", *weights, *optional], outputs, hidden_size=s.units)]
        if directions == 2:
            nodes[0].attribute.append(helper.make_attribute("direction", "bidirectional"))
    for node in nodes:
        if node.op_type == kind:
            node.attribute.extend(helper.make_attribute(name, value) for name, value in extra.items())
    state_shape = [1, s.batch, s.units]
    graph = helper.make_graph(
        nodes,
        case.cell,
        [helper.make_tensor_value_info("X", number, [s.steps, s.batch, s.inputs])]
        + [helper.make_tensor_value_info(name, TensorProto.INT32, [s.batch]) for name in lengths]
        + [helper.make_tensor_value_info(name, number, state_shape) for name in states],
        [helper.make_tensor_value_info("Y", number, [s.steps, directions, s.batch, s.units])]
        + [helper.make_tensor_value_info(f"{name}_last", number, state_shape) for name in states],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # readable by older runtimes too
    return model


def onnxruntime_session(case: Case, threads: int, *, with_state: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    model = onnx_model(case, with_state=with_state).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnxruntime_contenders(case: Case, counts: Sequence[int]) -> Iterator[Contender]:
    # It has neither training, nor doubles, nor masks with holes.
    if case.kind == "training" or case.dtype != "float32" or case.variant == "masked":
        return
    feed = {"X": np.ascontiguousarray(case.data()[0].transpose(1, 0, 2))}
    lengths = case.lengths()
    if lengths is not None:
        feed["lengths"] = lengths.astype(np.int32)
    for threads in counts:
        session = onnxruntime_session(case, threads)

        def run(session: Any = session) -> Any:
            return session.run(None, feed)[0]

        def output(run: Callable[[], Any] = run) -> NDArray[Any]:
            # (T, directions, B, H) -> (B, T, directions * H)
            y = run().transpose(2, 0, 1, 3)
            result: NDArray[Any] = y.reshape(*y.shape[:2], -1)
            return result

        yield Contender("onnxruntime", str(threads), run, output)


# --- OpenVINO -----------------------------------------------------------------------------------------------------


def _openvino_requests(case: Case, hint: str, threads: int, n_requests: int) -> list[Any]:
    """Requests that may run at the same time, each for an equal part of the sequences."""
    # Without this module, OpenVINO does not send statistics of its use, for which it would fork a process with threads.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    part = replace(case, size=replace(case.size, batch=case.size.batch // n_requests))
    model = openvino.Core().read_model(onnx_model(part).SerializeToString())
    options = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": n_requests,
    }
    compiled = openvino.compile_model(model, "CPU", options)
    return [compiled.create_infer_request() for _ in range(n_requests)]


def openvino_contenders(case: Case, counts: Sequence[int]) -> Iterator[Contender]:
    """OpenVINO with the hint for latency, and with that for throughput: then requests of equal parts of the sequences run at
    the same time, one for each thread, if the sequences can be divided so.
    """
    # The model is made for one length of all sequences.
    if case.kind == "training" or case.dtype != "float32" or case.variant in ("masked", "ragged"):
        return
    x = case.data()[0].transpose(1, 0, 2)
    for threads, hint in itertools.product(counts, ("LATENCY", "THROUGHPUT")):
        n_requests = threads if hint == "THROUGHPUT" and case.size.batch % threads == 0 else 1
        requests = _openvino_requests(case, hint, threads, n_requests)
        feeds = [{0: np.ascontiguousarray(part)} for part in np.split(x, n_requests, axis=1)]

        def run(requests: list[Any] = requests, feeds: list[Any] = feeds) -> Any:
            if len(requests) == 1:
                requests[0].infer(feeds[0], share_inputs=True, share_outputs=True)
                return requests
            for request, feed in zip(requests, feeds, strict=True):
                request.start_async(feed, share_inputs=True)
            for request in requests:
                request.wait()
            return requests

        def output(run: Callable[[], Any] = run) -> NDArray[Any]:
            found = [np.array(request.get_output_tensor(0).data) for request in run()]
            y = np.concatenate(found, axis=2).transpose(2, 0, 1, 3)  # from (T, directions, B, H)
            return y.reshape(*y.shape[:2], -1)

        yield Contender("openvino", str(threads), run, output, mode=hint.lower())


# --- all of them ---------------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[tuple[str, ...], Callable[[Case, Sequence[int]], Iterator[Contender]]]] = {
    "torch": (("torch",), torch_contenders),
    "keras-jax": (("keras", "jax"), keras_contenders),
    "jax": (("jax",), jax_contenders),
    "onnxruntime": (("onnx", "onnxruntime"), onnxruntime_contenders),
    "openvino": (("onnx", "openvino"), openvino_contenders),
}


def peer_contenders(case: Case, libraries: tuple[str, ...] | None = None) -> Iterator[Contender]:
    """Contenders of all installed libraries that can run the case."""
    for library, (modules, contenders) in PEERS.items():
        if (libraries is None or library in libraries) and installed(*modules):
            yield from contenders(case, thread_counts())

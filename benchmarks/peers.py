"""The other libraries, each in its best configuration, behind one interface.

A contender runs one case with one number of threads. `prepare` is called before a block of timed calls (it sets what is
global in a library), `run` does the work once and returns when it is done, `output` gives the network's output as
(B, T, H) so that a benchmark can make sure that all libraries compute the same.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import GATES, Case

LEARNING_RATE = 0.01


@dataclass
class Contender:
    library: str
    threads: str
    run: Callable[[], Any]
    output: Callable[[], NDArray]
    prepare: Callable[[], Any] = lambda: None

    def __str__(self) -> str:
        return f"{self.library}-{self.threads}threads"


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def thread_counts() -> tuple[int, ...]:
    """One thread, and two where there are two."""
    return (1, 2) if (os.cpu_count() or 1) > 1 else (1,)


def gate_blocks(array: NDArray, order: tuple[int, ...]) -> NDArray:
    """Reorder the blocks of the last axis, one a gate."""
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[i] for i in order], axis=-1)


# --- PyTorch -------------------------------------------------------------------------------------------------------


def torch_layer(case: Case) -> Any:
    """A torch layer, time first (its native layout), with the case's weights."""
    import torch

    kernel, recurrent, bias = case.weights()
    biases = bias if case.cell == "gru" else np.stack([bias, np.zeros_like(bias)])
    order = {"simple_rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}[case.cell]
    kind = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell]
    layer = kind(case.size.inputs, case.size.units).to(getattr(torch, case.dtype))
    values = (kernel.T, recurrent.T, *biases)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    with torch.no_grad():
        for name, value in zip(names, values, strict=True):
            reordered = gate_blocks(value.T, order).T
            getattr(layer, name).copy_(torch.from_numpy(np.ascontiguousarray(reordered)))
    return layer


def torch_contenders(case: Case) -> Iterator[Contender]:
    import torch

    torch.set_flush_denormal(True)
    x, y = (torch.from_numpy(np.ascontiguousarray(a.transpose(1, 0, 2))) for a in case.data())
    for threads in thread_counts():
        layer = torch_layer(case)
        if case.kind == "inference":
            layer.eval()

            def run(layer: Any = layer) -> Any:
                with torch.inference_mode():
                    return layer(x)[0]
        else:
            parameters = list(layer.parameters())

            # By hand: for small networks torch.optim.SGD alone would cost a fifth of the step.
            def run(layer: Any = layer, parameters: list = parameters) -> Any:
                for p in parameters:
                    p.grad = None
                loss = torch.nn.functional.mse_loss(layer(x)[0], y)
                loss.backward()
                with torch.no_grad():
                    for p in parameters:
                        p.add_(p.grad, alpha=-LEARNING_RATE)
                return loss

        def output(layer: Any = layer) -> NDArray:
            with torch.inference_mode():
                return layer(x)[0].numpy().transpose(1, 0, 2)

        yield Contender("torch", str(threads), run, output, lambda n=threads: torch.set_num_threads(n))


# --- Keras on JAX --------------------------------------------------------------------------------------------------


def keras_model(case: Case) -> Any:
    import keras

    s = case.size
    kind = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[
        case.cell
    ]
    layer = kind(s.units, return_sequences=True, dtype=case.dtype)
    model = keras.Sequential([keras.Input((s.steps, s.inputs), batch_size=s.batch), layer])
    layer.set_weights(case.weights())
    return model


def keras_contenders(case: Case) -> Iterator[Contender]:
    """Keras with JAX: a jitted stateless call for inference, train_on_batch (jitted) for training.

    XLA takes the threads it finds when the process starts, so there is one configuration.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    if keras.backend.backend() != "jax":
        return
    # Off, JAX would compute a float64 network in float32 and say nothing.
    x64 = case.dtype == "float64"
    jax.config.update("jax_enable_x64", x64)
    x, y = case.data()
    model = keras_model(case)
    trainable = [v.value for v in model.trainable_variables]
    state = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def forward(trainable: Any, state: Any, x: Any) -> Any:
        return model.stateless_call(trainable, state, x, training=False)[0]

    def output() -> NDArray:
        return np.asarray(forward(trainable, state, x))

    if case.kind == "inference":
        run = output
    else:
        model.compile(keras.optimizers.SGD(LEARNING_RATE), "mse", jit_compile=True)

        def run() -> Any:
            return model.train_on_batch(x, y)

    yield Contender("keras-jax", "all", run, output, lambda: jax.config.update("jax_enable_x64", x64))


# --- ONNX Runtime --------------------------------------------------------------------------------------------------


def onnx_model(case: Case, *, with_state: bool = False) -> Any:
    """The layer as one ONNX node, time first (its native layout); with_state adds initial and last state."""
    from onnx import TensorProto, helper, numpy_helper

    s, gates = case.size, GATES[case.cell]
    kernel, recurrent, bias = case.weights()
    order = {"simple_rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (0, 1, 2)}[case.cell]  # ONNX: i o f c; z r h
    both = bias if case.cell == "gru" else np.stack([bias, np.zeros_like(bias)])
    tensors = {
        "W": gate_blocks(kernel, order).T[None],
        "R": gate_blocks(recurrent, order).T[None],
        "B": gate_blocks(both, order).reshape(1, 2 * gates * s.units),
    }
    kind = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[case.cell]
    extra = {"linear_before_reset": 1} if case.cell == "gru" else {}
    number = getattr(TensorProto, "FLOAT" if case.dtype == "float32" else "DOUBLE")
    states = ["h", "c"][: 2 if case.cell == "lstm" else 1] if with_state else []
    node = helper.make_node(
        kind,
        ["X", "W", "R", "B", *(["", *states] if states else [])],
        ["Y", *(f"{name}_last" for name in states)],
        hidden_size=s.units,
        **extra,
    )
    state_shape = [1, s.batch, s.units]
    graph = helper.make_graph(
        [node],
        case.cell,
        [helper.make_tensor_value_info("X", number, [s.steps, s.batch, s.inputs])]
        + [helper.make_tensor_value_info(name, number, state_shape) for name in states],
        [helper.make_tensor_value_info("Y", number, [s.steps, 1, s.batch, s.units])]
        + [helper.make_tensor_value_info(f"{name}_last", number, state_shape) for name in states],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()],
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


def onnxruntime_contenders(case: Case) -> Iterator[Contender]:
    if case.kind == "training" or case.dtype != "float32":  # it has neither
        return
    feed = {"X": np.ascontiguousarray(case.data()[0].transpose(1, 0, 2))}
    for threads in thread_counts():
        session = onnxruntime_session(case, threads)

        def run(session: Any = session) -> Any:
            return session.run(None, feed)[0]

        def output(run: Callable[[], Any] = run) -> NDArray:
            return run()[:, 0].transpose(1, 0, 2)

        yield Contender("onnxruntime", str(threads), run, output)


# --- all of them ---------------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[tuple[str, ...], Callable[[Case], Iterator[Contender]]]] = {
    "torch": (("torch",), torch_contenders),
    "keras-jax": (("keras", "jax"), keras_contenders),
    "onnxruntime": (("onnx", "onnxruntime"), onnxruntime_contenders),
}


def peer_contenders(case: Case, libraries: tuple[str, ...] | None = None) -> Iterator[Contender]:
    """Everything installed that can run the case."""
    for library, (modules, contenders) in PEERS.items():
        if (libraries is None or library in libraries) and installed(*modules):
            yield from contenders(case)

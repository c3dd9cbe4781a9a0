"""One step of one sequence with the state handed on: what a program pays that gets its data point by point."""

from __future__ import annotations

import os

import numpy as np
import pytest

from benchmarks.cases import CELLS, Case, Size
from benchmarks.ours import fastrnn_layer
from benchmarks.peers import installed, keras_model, onnxruntime_session, torch_layer

STEP = [Size(1, 1, 32, 32), Size(1, 1, 64, 128)]


def zero_states(case):
    s = case.size
    return [np.zeros((s.batch, s.units), case.dtype) for _ in range(2 if case.cell == "lstm" else 1)]


def fastrnn(case):
    """A stateful layer keeps the state itself."""
    layer = fastrnn_layer(case, stateful=True, return_sequences=False)
    x = case.data()[0]
    return lambda: layer(x)


def torch(case):
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    layer, x = torch_layer(case).eval(), torch.from_numpy(case.data()[0])
    states = [torch.from_numpy(s[None]) for s in zero_states(case)]
    state = tuple(states) if case.cell == "lstm" else states[0]

    def run():
        nonlocal state
        with torch.inference_mode():
            y, state = layer(x, state)
        return y

    return run


def keras_jax(case):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax

    layer = keras_model(case).layers[0]
    weights = [v.value for v in layer.variables if v.trainable]
    others = [v.value for v in layer.variables if not v.trainable]
    layer.return_state = True
    x = case.data()[0]
    states = zero_states(case)

    @jax.jit
    def step(weights, x, states):
        (y, *states), _ = layer.stateless_call(weights, others, x, initial_state=states)
        return y, states

    def run():
        nonlocal states
        y, states = step(weights, x, states)
        return np.asarray(y)

    return run


def onnxruntime(case):
    session = onnxruntime_session(case, 1, with_state=True)
    names = ["h", "c"][: 2 if case.cell == "lstm" else 1]
    feed = {"X": case.data()[0], **{n: s[None] for n, s in zip(names, zero_states(case), strict=True)}}

    def run():
        y, *states = session.run(None, feed)
        feed.update(zip(names, states, strict=True))
        return y

    return run


MODULES = {
    fastrnn: (),
    torch: ("torch",),
    keras_jax: ("keras", "jax"),
    onnxruntime: ("onnx", "onnxruntime"),
}


@pytest.mark.parametrize("size", STEP, ids=str)
@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("library", MODULES, ids=lambda f: f"{f.__name__}-1threads")
def bench_step(benchmark, cell, library, size, dtype):
    if not installed(*MODULES[library]):
        pytest.skip(f"{' and '.join(MODULES[library])} not installed")
    case = Case(cell, size, "inference", dtype)
    benchmark.group = f"step-{case}"
    benchmark.extra_info["library"] = library.__name__
    run = library(case)
    for _ in range(2):  # compiles
        run()
    benchmark(run)

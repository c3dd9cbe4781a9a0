"""The time of one step of one sequence, continued from the previous state, as for data that arrive point by point.

python -m benchmarks.bench_step           a table: microseconds of each library, and whether the targets are met
python -m pytest benchmarks/bench_step.py the same as pytest benchmarks
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import described, table
from benchmarks.timing import environment, time_side_by_side
from fastrnn.bench.cases import CELLS, Case, Size
from fastrnn.bench.ours import fastrnn_layer, fastrnn_model
from fastrnn.bench.peers import Contender, installed, keras_model, onnxruntime_session, torch_layer
from fastrnn.engine.tuning import MAX_UNROLLED_UNITS

STEP = [Size(1, 1, 32, 32), Size(1, 1, 64, 128), Size(1, 1, 8, 8), Size(1, 1, 8, 16)]
#: Targets at the first size: most microseconds a step, and least speed relative to onnxruntime.
MAX_US, MIN_RATIO = 3.0, 4.0


def zero_states(case):
    s = case.size
    return [np.zeros((s.batch, s.units), case.dtype) for _ in range(2 if case.cell == "lstm" else 1)]


def fastrnn(case, **options):
    """`Sequential.stream`, one step at a time."""
    model = fastrnn_model(case, return_sequences=False, **options)
    if not hasattr(model, "stream"):
        pytest.skip("models have no stream")
    stream = model.stream(batch_size=1)
    x = np.ascontiguousarray(case.data()[0][:, 0])
    return lambda: stream.step(x)


def fastrnn_unrolled(case):
    """As `fastrnn`, with kernels for this number of units."""
    if case.size.units > MAX_UNROLLED_UNITS:
        pytest.skip("only small layers are unrolled")
    return fastrnn(case, unroll=True)


def fastrnn_stateful(case):
    """A stateful layer, which keeps the state itself."""
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


def onnxruntime_bound(case):
    """Inputs and outputs are bound to memory beforehand; the new states are the initial states of the next step."""
    import onnxruntime

    session = onnxruntime_session(case, 1, with_state=True)
    names = ["h", "c"][: 2 if case.cell == "lstm" else 1]
    given = case.data()[0]

    def value(array):
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)

    x, y = value(given), value(np.zeros((1, 1, case.size.batch, case.size.units), case.dtype))
    one, other = (
        {n: value(s[None]) for n, s in zip(names, zero_states(case), strict=True)} for _ in range(2)
    )
    bindings = []
    for old, new in ((one, other), (other, one)):
        binding = session.io_binding()
        binding.bind_ortvalue_input("X", x)
        binding.bind_ortvalue_output("Y", y)
        for name in names:
            binding.bind_ortvalue_input(name, old[name])
            binding.bind_ortvalue_output(f"{name}_last", new[name])
        bindings.append(binding)

    def run():
        x.update_inplace(given)
        session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return y.numpy()

    return run


MODULES = {
    fastrnn: (),
    fastrnn_unrolled: (),
    fastrnn_stateful: (),
    torch: ("torch",),
    keras_jax: ("keras", "jax"),
    onnxruntime: ("onnx", "onnxruntime"),
    onnxruntime_bound: ("onnx", "onnxruntime"),
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


# --- a table ---------------------------------------------------------------------------------------------------------


def steppers(case: Case) -> dict[str, Callable[[], object]]:
    """All installed libraries by name; they must give the same output after three steps."""
    found = {}
    for make, modules in MODULES.items():
        if installed(*modules):
            try:
                found[make.__name__] = make(case)
            except pytest.skip.Exception as reason:
                print(f"{make.__name__}: {reason}", flush=True)
    expected = None
    for name, run in found.items():
        for _ in range(3):
            output = np.asarray(run()).flatten()  # a copy: the next step may write over it
        expected = output if expected is None else expected
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5, err_msg=f"{case}: {name}")
    return found


def markdown(rows: Sequence[dict], info: dict) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["us"]))
    lines = []
    for row in rows:
        us = row["us"]
        peers = [value for name, value in us.items() if name.startswith("onnxruntime")]
        ratio = min(peers) / us["fastrnn"] if peers and "fastrnn" in us else float("nan")
        met = ""
        if "fastrnn" in us and row["size"] == str(STEP[0]):
            met = "yes" if us["fastrnn"] <= MAX_US and ratio >= MIN_RATIO else "NO"
        values = [f"{us[name]:.2f}" if name in us else "" for name in names]
        lines.append([row["cell"], row["size"], *values, f"{ratio:.2f}", met])
    head = (
        "us a step",
        "size",
        *names,
        "speed over onnxruntime",
        f"<= {MAX_US:g} us and >= {MIN_RATIO:g}?",
    )
    return "\n".join([described(info), "", *table(head, lines)]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_step", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each library (default 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder to write to (default benchmarks/results)",
    )
    args = parser.parse_args(argv)
    info = environment()
    rows = []
    for cell in args.cells:
        for size in STEP:
            runs = steppers(Case(cell, size))
            contenders = [Contender(name, "1", run, run) for name, run in runs.items()]
            times = time_side_by_side(contenders, seconds=args.seconds)
            us = {name: float(np.median(t)) * 1e6 for name, t in zip(runs, times, strict=True)}
            rows.append({"cell": cell, "size": str(size), "us": us})
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "step.json").write_text(json.dumps({"environment": info, "rows": rows}, indent=1) + "\n")
    (args.out / "step.md").write_text(markdown(rows, info))
    print(markdown(rows, info))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

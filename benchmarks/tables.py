"""What training costs with a large embedding table: python -m benchmarks.tables [--against COMMIT]

Time: one training step of a network with a table of 500,000 x 100 (32 sequences of 20 tokens, 8 SimpleRNN units) with each
optimizer, PyTorch's dense Adam and SparseAdam on the same network beside it, and one call of `partial_fit`, which is such
a step that can be undone. "Adam, all rows used" is what Adam costs once every row has had a gradient. Then `partial_fit` of
16 units without a table, and the share of the training step in it. Memory: what a call of `partial_fit` allocates, and the
most that a fresh process ever held (resident) while it fitted with Adam, ours and Keras's, in sizes of the table.

With --against the same is measured for a commit, with its own code, in a process of its own. Written to
benchmarks/results/: tables.json and tables.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import checked_out
from benchmarks.memory import RESIDENT
from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.peers import installed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
ROWS, WIDTH, BATCH, STEPS, UNITS = 500_000, 100, 32, 20, 8
TABLE_BYTES = ROWS * WIDTH * 4

#: Measured in a fresh process, whose folder is that of the code to measure.
OURS = """
import json, time, tracemalloc
import numpy as np
from fastrnn import RNNRegressor, Sequential, layers, optimizers
rows, width, batch, steps, units = {shape}
rng = np.random.default_rng(0)

def median(run, calls):
    run(); run()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))

def batches():
    while True:
        yield rng.integers(0, rows, (batch, steps)), rng.normal(size=(batch, 1)).astype("float32")

found, stream = {{}}, batches()
kinds = {{
    "SGD": lambda: optimizers.SGD(0.001),
    "SGD with momentum": lambda: optimizers.SGD(0.001, momentum=0.9),
    "RMSprop": lambda: optimizers.RMSprop(),
    "Adagrad": lambda: optimizers.Adagrad(),
    "Adam": lambda: optimizers.Adam(),
    "Adam, all rows used": lambda: optimizers.Adam(),
    "Adam(lazy=True)": lambda: optimizers.Adam(lazy=True),
}}
for name, make in kinds.items():
    try:
        optimizer = make()
    except TypeError:
        continue
    stack = [layers.Embedding(rows, width), layers.SimpleRNN(units), layers.Dense(1)]
    model = Sequential(stack, seed=0)
    model.compile(optimizer, "mse")
    if "all" in name:
        whole = np.arange(rows).reshape(-1, steps)
        model.train_step(whole, np.ones((len(whole), 1), "float32"))
    found[f"step, {{name}}"] = median(lambda: model.train_step(*next(stream)), 20)
    del model, optimizer
for name in ("adam", "lazy", "adam, all rows used"):
    try:
        solver = optimizers.Adam(lazy=True) if name == "lazy" else "adam"
    except TypeError:
        continue
    made = RNNRegressor(cell="simple_rnn", units=units, vocabulary_size=rows, embedding_dim=width, solver=solver)
    if "all" in name:
        whole = np.arange(rows).reshape(-1, steps)
        made.set_params(batch_size=len(whole)).partial_fit(whole, np.ones(len(whole))).set_params(batch_size="auto")
    def call():
        x, y = next(stream)
        made.partial_fit(x, y[:, 0])
    found[f"partial_fit, {{name}}"] = median(call, 10)
    tracemalloc.start()
    call()
    found[f"bytes of partial_fit, {{name}}"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del made
x, y = rng.normal(size=(32, 20, 3)).astype("float32"), rng.normal(size=32).astype("float32")
made = RNNRegressor(units=16).partial_fit(x, y)
found["partial_fit, 16 units"] = median(lambda: made.partial_fit(x, y), 300)
found["step, 16 units"] = median(lambda: made.model_.train_step(x, y[:, None]), 300)
print(json.dumps(found))
"""

FIT = (
    RESIDENT
    + """
import numpy as np
{imports}
rows, width, batch, steps, units = {shape}
rng = np.random.default_rng(0)
x, y = rng.integers(0, rows, (16 * batch, steps)), rng.normal(size=(16 * batch, 1)).astype("float32")
model = Sequential([layers.Embedding(rows, width), layers.SimpleRNN(units), layers.Dense(1)])
model.compile(optimizer="adam", loss="mse")
imported = resident()
model.fit(x, y, batch_size=batch, epochs=2, verbose=0)
print(resident() - imported)
"""
)


def in_process(code: str, folder: Path, **variables: str) -> Any:
    """Run code in a fresh process, in a folder; return what it prints last."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def ours(folder: Path) -> dict[str, float]:
    """All figures of the code in a folder."""
    shape = (ROWS, WIDTH, BATCH, STEPS, UNITS)
    found = in_process(OURS.format(shape=shape), folder)
    code = FIT.format(shape=shape, imports="from fastrnn import Sequential, layers")
    return found | {"bytes of fit": in_process(code, folder)}


def keras() -> dict[str, float]:
    shape = (ROWS, WIDTH, BATCH, STEPS, UNITS)
    code = FIT.format(shape=shape, imports="from keras import Sequential, layers")
    return {"bytes of fit": in_process(code, ROOT, KERAS_BACKEND="jax")}


def torch_steps() -> Iterator[tuple[str, float]]:
    """Seconds of a training step in PyTorch, with Adam on the whole table and with SparseAdam."""
    import time

    import torch

    rng = np.random.default_rng(0)
    for name, sparse in (("step, Adam, all rows used", False), ("step, Adam(lazy=True)", True)):
        table = torch.nn.Embedding(ROWS, WIDTH, sparse=sparse)
        rnn, dense = torch.nn.RNN(WIDTH, UNITS, batch_first=True), torch.nn.Linear(UNITS, 1)
        rest = [*rnn.parameters(), *dense.parameters()]
        steps: list[Any] = (
            [torch.optim.SparseAdam(table.parameters()), torch.optim.Adam(rest)]
            if sparse
            else [torch.optim.Adam([*table.parameters(), *rest])]
        )

        def run(table: Any = table, rnn: Any = rnn, dense: Any = dense, steps: Any = steps) -> None:
            x = torch.from_numpy(rng.integers(0, ROWS, (BATCH, STEPS)))
            y = torch.from_numpy(rng.normal(size=(BATCH, 1)).astype("float32"))
            loss = ((dense(rnn(table(x))[0][:, -1]) - y) ** 2).mean()
            for step in steps:
                step.zero_grad()
            loss.backward()
            for step in steps:
                step.step()

        yield name, _median(run, time.perf_counter)


def _median(run: Callable[[], None], clock: Callable[[], float]) -> float:
    seconds = []
    for _ in range(12):
        start = clock()
        run()
        seconds.append(clock() - start)
    return float(np.median(seconds[2:]))


def measure(against: str | None) -> dict[str, dict[str, float]]:
    """Figures by whose they are."""
    columns = {"fastrnn": ours(ROOT)}
    if against is not None:
        with checked_out(against, ".") as (old, _):
            columns[against] = ours(old.path)
    if installed("torch"):
        columns["PyTorch"] = dict(torch_steps())
    if installed("keras", "jax"):
        columns["Keras (JAX)"] = keras()
    return columns


def shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if not name.startswith("bytes"):
        return f"{value * 1e3:.3g} ms"
    return f"{value / 2**20:.3g} MiB ({value / TABLE_BYTES:.2f} tables)"


def report(columns: dict[str, dict[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    lines = [[name, *(shown(name, figures.get(name)) for figures in columns.values())] for name in names]
    return table(["", *columns], lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    columns = measure(arguments.against)
    lines = report(columns)
    print("\n".join(lines))
    info = environment()
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "tables.json").write_text(json.dumps({"environment": info, **columns}, indent=1) + "\n")
    text = ["# Large embedding tables", "", described(info), "", *lines, "", "`python -m benchmarks.tables`"]
    (arguments.out / "tables.md").write_text("\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

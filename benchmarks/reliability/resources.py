"""(g) Memory over many calls; (h) denormals, long sequences, an exploding loss, and drift of float32 against float64.

``python -m benchmarks.reliability.resources COUNT`` runs (g) in this process.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.reliability.parts import Result, in_process, numbers, resident_mb, small_model
from fastrnn import NonFiniteLossError, RNNRegressor, Sequential, layers, optimizers

#: Most growth of resident memory over all calls.
MAX_MB = 5.0


def growth(count: int) -> dict[str, Any]:
    """Resident memory before and after `count` predicts, `count` steps, and a hundredth as many fits."""
    model, x, y = small_model(units=8), numbers(16, 10, 3), numbers(16, 2)
    estimator = RNNRegressor(units=4, max_iter=2, tol=None)
    stream, one = model.stream(), numbers(1, 3)

    def predicts(n: int) -> None:
        for _ in range(n):
            model.predict(x, verbose=0)

    def steps(n: int) -> None:
        for _ in range(n):
            stream.step(one)

    def fits(n: int) -> None:
        for _ in range(n):
            estimator.fit(x, y)

    found: dict[str, Any] = {}
    for name, call, n in (
        ("predicts", predicts, count),
        ("steps", steps, count),
        ("fits", fits, max(count // 100, 1)),
    ):
        call(max(n // 20, 20))  # fills caches that are allocated once
        gc.collect()
        before = resident_mb()
        call(n)
        gc.collect()
        found[name], found[f"{name} MB"] = n, round(resident_mb() - before, 2)
    return found


def denormals() -> Result:
    """Time of passes over inputs that produce denormal numbers, relative to ordinary inputs."""
    rng = np.random.default_rng(0)
    ratios = {}
    for cell in ("simple_rnn", "gru", "lstm"):
        model = small_model(cell, 64)
        ordinary = rng.normal(size=(64, 100, 3)).astype("float32")
        tiny = ordinary * np.float32(1e-41)
        times: dict[str, float] = {"ordinary": np.inf, "tiny": np.inf}
        for _ in range(15):
            for name, x in (("ordinary", ordinary), ("tiny", tiny)):
                start = time.perf_counter()
                model.predict(x, verbose=0)
                times[name] = min(times[name], time.perf_counter() - start)
        ratios[cell] = round(times["tiny"] / times["ordinary"], 3)
    return Result(
        "h denormals", "inputs of denormal numbers cost at most 10 %", ratios, max(ratios.values()) <= 1.1
    )


def long_sequences(n_steps: int) -> Result:
    """Whether outputs and gradients stay finite over many steps, and the error of float32 relative to float64."""
    figures: dict[str, Any] = {"steps": n_steps}
    holds = True
    x = numbers(1, n_steps, 3)
    for cell in ("simple_rnn", "gru", "lstm"):
        single, double = small_model(cell, 16), small_model(cell, 16, "float64")
        double.set_weights([w.astype("float64") for w in single.get_weights()])
        a, b = single.predict(x, verbose=0), double.predict(x.astype("float64"), verbose=0)
        loss = single.compute_gradients(x, numbers(1, 2))
        figures[f"{cell} drift"] = float(f"{np.abs(a - b).max():.2g}")
        holds = holds and bool(np.isfinite(a).all() and np.isfinite(single.grads).all() and np.isfinite(loss))
    return Result("h long", "very long sequences: finite outputs and gradients", figures, holds)


def exploding() -> Result:
    """Train with a learning rate that is far too high."""
    model = Sequential(
        [layers.Input((None, 3)), layers.SimpleRNN(16, activation="relu"), layers.Dense(2)], seed=0
    )
    model.compile(optimizers.SGD(1e6), "mse")
    message, x, y = "", numbers(64, 20, 3), numbers(64, 2)
    try:
        model.fit(x, y, epochs=50, verbose=0)
    except NonFiniteLossError as error:
        message = str(error)
    finite = bool(np.isfinite(model.params).all())
    figures = {"message": message[:100], "weights finite": finite}
    return Result(
        "h exploding",
        "an exploding loss ends with a message and the last finite weights",
        figures,
        finite and bool(message),
    )


def run(count: int, n_steps: int) -> list[Result]:
    ended = in_process("benchmarks.reliability.resources", count, seconds=60 + count / 20)
    found = ended.found or {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
    most = max((v for k, v in found.items() if k.endswith(" MB")), default=float("inf"))
    memory = Result(
        "g",
        f"resident memory grows less than {MAX_MB:g} MB",
        found,
        bool(ended.found) and not most >= MAX_MB,
    )
    return [memory, denormals(), long_sequences(n_steps), exploding()]


if __name__ == "__main__":
    print(json.dumps(growth(int(sys.argv[1]))))

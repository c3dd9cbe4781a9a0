"""The further cells on tasks of their papers, in a size that takes minutes: python -m benchmarks.toys

- Mackey-Glass (`EchoState`): the series with delay 17, squashed by ``tanh(x - 1)`` as in Jaeger (2001), sampled once a unit
  of time. The reservoir is driven with 3000 samples, and scikit-learn's `Ridge` predicts the next one from its states. Then
  it is driven with 1000 samples of a series that it has not seen, and runs 84 steps on its own predictions. Reported is the
  root of the mean squared error of the 84th step over 50 such series, divided by the standard deviation of the series
  (NRMSE84). Jaeger & Haas (2004) report 10**-4.2 for a reservoir of 1000 units.
- Adding problem (`CoRNN`, `MinGRU`, `MinLSTM`, `FastGRNN`, `SLSTM`; `LSTM` to compare): two numbers of a sequence of 100 are
  marked, and their sum is wanted (Hochreiter & Schmidhuber 1997). The mean as an answer has a mean squared error of 0.167.
  Rusch & Mishra (2021) report that coRNN solves it at lengths of 500 to 5000.

References
----------
Jaeger, H. & Haas, H. (2004). Harnessing nonlinearity: predicting chaotic systems and saving energy in wireless
communication. Science 304(5667), 78-80.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from benchmarks.report import table
from fastrnn import Sequential, layers, optimizers

RESULTS = Path(__file__).resolve().parent / "results"
MEAN_ERROR = 1 / 6
#: Constructor of the layers and learning rate of each cell on the adding problem. Cells whose gates don't see the state
#: need two layers, as their paper says.
ADDING: dict[str, tuple[int, dict[str, Any], float]] = {
    "LSTM": (1, {}, 5e-3),
    "CoRNN": (1, {"dt": 0.06, "gamma": 10.0, "epsilon": 5.0}, 1e-2),
    "MinGRU": (2, {}, 1e-2),
    "MinLSTM": (2, {}, 1e-2),
    "FastGRNN": (1, {}, 1e-2),
    "SLSTM": (1, {}, 5e-3),
}


def mackey_glass(n_series: int, n_samples: int, seed: int, delay: int = 17, per_unit: int = 10) -> NDArray:
    """Series of shape (n_series, n_samples): ``dx/dt = 0.2 x(t - delay) / (1 + x(t - delay)**10) - 0.1 x``, squashed.

    Runge-Kutta's method with `per_unit` steps a unit of time; the delayed value is held within a step. The first 1000 units
    are left out.
    """
    history = delay * per_unit
    n = history + (n_samples + 1000) * per_unit
    x = np.empty((n, n_series))
    x[: history + 1] = 1.2 + 0.2 * (np.random.default_rng(seed).random(n_series) - 0.5)
    h = 1 / per_unit
    for t in range(history, n - 1):
        gain = 0.2 * x[t - history] / (1 + x[t - history] ** 10)
        k1 = gain - 0.1 * x[t]
        k2 = gain - 0.1 * (x[t] + h / 2 * k1)
        k3 = gain - 0.1 * (x[t] + h / 2 * k2)
        k4 = gain - 0.1 * (x[t] + h * k3)
        x[t + 1] = x[t] + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.tanh(x[history + 1000 * per_unit :: per_unit][:n_samples].T - 1)


def echo_state_error(units: int, n_train: int, n_test: int, seed: int = 10, ahead: int = 84) -> float:
    """NRMSE of the `ahead`-th step that a reservoir with a linear read-out runs by itself."""
    series = mackey_glass(1, n_train + 1001, seed)[0]
    layer = layers.EchoState(
        units,
        leak=0.7,
        kernel_initializer={"class_name": "RandomUniform", "config": {"minval": -1.0, "maxval": 1.0}},
        bias_initializer={"class_name": "RandomUniform", "config": {"minval": -0.2, "maxval": 0.2}},
        return_sequences=True,
        dtype="float64",
        seed=seed,
    )
    states = layer(series[None, :-1, None])[0, 1000:]
    readout = Ridge(alpha=1e-11, solver="svd").fit(states, series[1001:])
    test = mackey_glass(n_test, 1000 + ahead, seed + 1)
    driven = layers.RNN(layer.cell, return_state=True)
    h = driven(test[:, :1000, None])[1]
    for step in range(ahead):
        y = readout.predict(h)
        if step < ahead - 1:
            h = layer.cell.step(y[:, None], [h])[1][0]
    return float(np.sqrt(np.mean((y - test[:, 999 + ahead]) ** 2)) / series.std())


def adding(n: int, length: int, seed: int) -> tuple[NDArray, NDArray]:
    """Sequences of numbers from 0 to 1, with a mark at one step of each half; the sum of the two that are marked."""
    rng = np.random.default_rng(seed)
    numbers, marks = rng.random((n, length)), np.zeros((n, length))
    rows = np.arange(n)
    marks[rows, rng.integers(0, length // 2, n)] = 1
    marks[rows, rng.integers(length // 2, length, n)] = 1
    return np.stack([numbers, marks], axis=2).astype("f"), (numbers * marks).sum(
        axis=1, keepdims=True
    ).astype("f")


def adding_error(name: str, units: int, updates: int, length: int, seed: int = 0) -> float:
    """Mean squared error on unseen sequences, after `updates` training steps with 50 sequences each."""
    n_layers, options, rate = ADDING[name]
    make = getattr(layers, name)
    stack = [make(units, return_sequences=k < n_layers - 1, **options) for k in range(n_layers)]
    model = Sequential([layers.Input((None, 2)), *stack, layers.Dense(1)], seed=seed)
    model.compile(optimizers.Adam(rate, clipnorm=1.0), "mse")
    x, y = adding(50 * updates, length, seed + 1)
    model.fit(x, y, batch_size=50, epochs=1, verbose=0)
    return float(model.evaluate(*adding(1000, length, seed + 2), verbose=0))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toys", description=__doc__.split("\n\n")[0])
    parser.add_argument("--reservoir", type=int, default=1000, help="units of the reservoir")
    parser.add_argument("--series", type=int, default=50, help="series that are predicted")
    parser.add_argument("--units", type=int, default=64, help="units of the cells on the adding problem")
    parser.add_argument("--updates", type=int, default=1500, help="of 50 sequences each")
    parser.add_argument("--length", type=int, default=100, help="of the adding problem's sequences")
    parser.add_argument(
        "--cells", nargs="+", choices=ADDING, default=list(ADDING), help="on the adding problem"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    nrmse = echo_state_error(args.reservoir, 3000, args.series)
    found: dict[str, Any] = {
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "mackey_glass": {"nrmse84": nrmse, "seconds": time.perf_counter() - start},
        "adding": {},
    }
    rows = [("`EchoState`", "Mackey-Glass, NRMSE84", f"10**{np.log10(nrmse):.1f}", "10**-4.2")]
    for name in args.cells:
        start = time.perf_counter()
        error = adding_error(name, args.units, args.updates, args.length)
        found["adding"][name] = {"mse": error, "seconds": time.perf_counter() - start}
        rows.append(
            (
                f"`{name}`",
                f"adding problem, {args.length} steps, MSE",
                f"{error:.4f}",
                f"mean: {MEAN_ERROR:.3f}",
            )
        )
    lines = table(("cell", "task", "here", "to compare"), rows)
    print("\n".join(lines))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "toys.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    text = "# The further cells on tasks of their papers\n\n"
    text += "`python -m benchmarks.toys` writes this page and says what the tasks are.\n\n"
    (args.out / "toys.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

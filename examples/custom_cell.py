"""Write a cell of your own in ten lines, as equations in a Python function.

The cell `Leaky` is a leaky integrator whose units learn how fast they forget::

    a = sigmoid(leak)                       one leak for each unit
    h = h_prev + a * (tanh(x @ W + h_prev @ U + b) - h_prev)

Its ten lines hold all that the engine needs:

- ``@equations("h", extra="leak")`` names the columns of the pre-activations ``z = x @ W + h_prev @ U + b`` (one gate, h) and
  a further parameter of each unit. States are named by `states`; there is one, h, if nothing else is said.
- The function computes one time step of one unit. ``z.h`` is a pre-activation, ``prev.h`` the state before the step,
  ``p.leak`` the parameter. ``activation=tanh`` is an activation that users of the cell can choose.
- It returns the new states, the output first.

The engine differentiates the function, compiles it, and keeps the code on disk; ``RNN(Leaky(n_units=32))`` is a layer, and
``RNNClassifier(cell=Leaky)`` an estimator. `check_cell` compares the compiled cell with the function on NumPy arrays, and
gradients with finite differences.

Three comparisons are printed. A GRU written here as equations is compared with the built-in GRU: the same numbers, and the
ratio of their times. `Leaky` is compared with the same cell as an object in NumPy with a gradient by hand, which Keras's
contract for cells allows too, and which is slow. Then `Leaky` learns to follow two running means of a noisy signal, one
short and one long. Writes a picture. Takes about a minute, most of it compilation in the first run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastrnn import Sequential, layers, optimizers
from fastrnn.cells import equations, sigmoid, tanh
from fastrnn.testing import check_cell

# ------------------------------------------------------------------------------- the cell as equations


@equations("h", extra="leak")
def Leaky(z, prev, p, activation=tanh):
    """A leaky integrator whose units learn how fast they forget.

    z.h is x @ W + h_prev @ U + b, prev.h the state, p.leak the parameter that `extra` declares.
    """
    a = sigmoid(p.leak)
    return prev.h + a * (activation(z.h) - prev.h)


@equations("z r h")
def OwnGRU(z, u, prev, activation=tanh, recurrent_activation=sigmoid):
    """The built-in GRU, written once more; u is the recurrent product h_prev @ U, kept apart from z."""
    g = activation(z.h + recurrent_activation(z.r + u.r) * u.h)
    return g + recurrent_activation(z.z + u.z) * (prev.h - g)


# ------------------------------------------------------------------------------- the same cell as an object in NumPy


class LeakyObject:
    """The cell with its gradient by hand; `backward` adds to `grads`, which the layer provides."""

    def __init__(self, n_inputs: int, units: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.state_size = units
        self.weights = {
            "kernel": rng.normal(size=(n_inputs, units)) / np.sqrt(n_inputs),
            "recurrent_kernel": rng.normal(size=(units, units)) / np.sqrt(units),
            "bias": np.zeros(units),
            "leak": np.zeros(units),
        }

    def call(self, x_t, states):
        w, h = self.weights, states[0]
        a = 1 / (1 + np.exp(-w["leak"]))
        h = h + a * (np.tanh(x_t @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]) - h)
        return h, [h]

    def backward(self, d_out, d_states, x_t, states):
        w, grads, h = self.weights, self.grads, states[0]
        a = 1 / (1 + np.exp(-w["leak"]))
        g = np.tanh(x_t @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])
        dh = d_out + d_states[0]
        dz = dh * a * (1 - g * g)
        grads["kernel"] += x_t.T @ dz
        grads["recurrent_kernel"] += h.T @ dz
        grads["bias"] += dz.sum(axis=0)
        grads["leak"] += (dh * (g - h)).sum(axis=0) * a * (1 - a)
        return dz @ w["kernel"].T, [dh * (1 - a) + dz @ w["recurrent_kernel"].T]


# ------------------------------------------------------------------------------- speed and training


def running_means(n_series: int, n_steps: int, spans: tuple[int, ...], seed: int):
    """Noise, and its exponential running means over about `spans` steps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_series, n_steps, 1)).astype(np.float32)
    y = np.empty((n_series, n_steps, len(spans)), np.float32)
    mean = np.zeros((n_series, len(spans)))
    for t in range(n_steps):
        mean += (x[:, t] - mean) / np.array(spans)
        y[:, t] = mean * np.sqrt(spans)
    return x, y


class Timed(NamedTuple):
    """Seconds of a training pass of each layer, and what the pass computed."""

    seconds: list[float]
    outputs: list[np.ndarray]
    gradients: list[np.ndarray]


def compare(layers_: Sequence, units: int, rounds: int) -> Timed:
    """Time forward and backward passes of layers, on one thread and in turns; they get equal weights."""
    x = np.random.default_rng(1).normal(size=(32, 100, 8)).astype(np.float32)
    for layer in layers_:
        layer.build(x.shape)
        layer.n_threads = 1
        weights = zip(layer.get_weights(), layers_[0].get_weights(), strict=True)
        layer.set_weights([given.reshape(own.shape) for own, given in weights])
    best, outputs, gradients = [np.inf] * len(layers_), [], []
    for turn in range(rounds + 1):
        for k, layer in enumerate(layers_):
            start = time.perf_counter()
            y, cache = layer.forward(x, training=True)
            dx = layer.backward(np.ones_like(y), cache)
            best[k] = min(best[k], time.perf_counter() - start)
            if turn == 0:  # also compiles
                outputs.append(y.copy())
                gradients.append(dx.copy())
    return Timed(best, outputs, gradients)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("custom_cell.png"), help="the picture")
    options = parser.parse_args(arguments)

    for cell in (LeakyObject(3, 4), Leaky(4), OwnGRU(4)):
        check_cell(cell)
    print("check_cell: the object and the equations pass")
    units = options.units
    print(f"32 series of 100 steps, {units} units, forward and backward, on one thread:")
    both = [layers.GRU(units, return_sequences=True), layers.RNN(OwnGRU(units), return_sequences=True)]
    gru = compare(both, units, rounds=200)
    for kind in (gru.outputs, gru.gradients):
        np.testing.assert_array_equal(*kind)
    built_in, own = gru.seconds
    print(f"  built-in GRU {1e3 * built_in:7.3f} ms")
    print(f"  own GRU      {1e3 * own:7.3f} ms, {own / built_in:.2f} of the built-in GRU; the same numbers")
    both = [
        layers.RNN(LeakyObject(8, units), return_sequences=True),
        layers.RNN(Leaky(units), return_sequences=True),
    ]
    leaky = compare(both, units, rounds=10)
    for kind in (leaky.outputs, leaky.gradients):
        np.testing.assert_allclose(*kind, rtol=1e-3, atol=1e-4)
    slow, fast = leaky.seconds
    print(f"  Leaky, object in NumPy {1e3 * slow:7.2f} ms")
    print(f"  Leaky, equations       {1e3 * fast:7.2f} ms, {slow / fast:.0f} times as fast")

    spans = (4, 40)
    x, y = running_means(256, 200, spans, seed=0)
    model = Sequential(
        [
            layers.RNN(Leaky(options.units), return_sequences=True),
            layers.Dense(len(spans)),
        ],
        seed=0,
    )
    model.compile(optimizers.Adam(0.02), "mse")
    model.build(x.shape)
    before = 1 / (1 + np.exp(-model.layers[0].get_weights()[-1].ravel()))
    losses = model.fit(x, y, epochs=options.epochs, validation_split=0.2, verbose=0).history
    leak = 1 / (1 + np.exp(-model.layers[0].get_weights()[-1].ravel()))
    print(
        f"validation error {losses['val_loss'][0]:.3f} -> {losses['val_loss'][-1]:.4f} (predicting the mean: 1)"
    )
    memory = np.sort(1 / leak)
    print(
        f"units remember for {memory[0]:.1f} to {memory[-1]:.1f} steps (all {1 / before[0]:.0f} at the start)"
    )
    draw(
        options.out,
        losses,
        memory,
        x[-1],
        y[-1],
        model.predict(x[-1:], verbose=0)[0],
        spans,
    )
    print(f"picture: {options.out}")


def draw(path: Path, losses: dict, memory: np.ndarray, x, y, y_pred, spans: tuple[int, ...]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for name, label in (("loss", "training"), ("val_loss", "validation")):
        axes[0].semilogy(losses[name], label=label)
    axes[0].set(title="Mean squared error", xlabel="epoch")
    axes[0].legend(frameon=False)
    axes[1].bar(np.arange(len(memory)), memory)
    axes[1].axhline(2, color="k", lw=1, ls="--", label="at the start")
    axes[1].set(title="Learned memory of each unit", xlabel="unit, sorted", ylabel="time steps")
    axes[1].legend(frameon=False)
    for k, span in enumerate(spans):
        (line,) = axes[2].plot(y[:, k], lw=3, alpha=0.35, label=f"mean over {span} steps")
        axes[2].plot(y_pred[:, k], lw=1, color=line.get_color(), label="the network")
    axes[2].set(title="A series it was not trained on", xlabel="time step")
    axes[2].set_ylim(y.min() - 0.8, None)
    axes[2].legend(frameon=False, fontsize=8, ncols=2, loc="lower left")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()

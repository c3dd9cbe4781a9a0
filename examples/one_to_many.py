"""One to many: from five numbers to a whole wave.

A damped wave is ``amplitude * exp(-decay * t) * sin(2 pi frequency * t + phase)``. The network's input is the parameters,
its output the wave: `RepeatVector` repeats the parameters at every step, an LSTM keeps the position in the wave, and a
`Dense` layer computes the value. The network learns the meaning of the parameters from examples alone.

Prints the error on waves outside the training set, by frequency and by time, and the error of the most similar wave of the
training set; and how far the frequencies and amplitudes of the predicted waves are from the requested ones, also outside
the range of the training set. Writes a picture. Takes about a minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import Sequential, layers, optimizers, schedules

N_STEPS = 60
#: Ranges of the parameters in training. Units: cycles per step, 1 per step, and none.
FREQUENCY, DECAY, AMPLITUDE = (0.02, 0.12), (0.0, 0.06), (0.3, 1.0)


class Waves(NamedTuple):
    """Parameters of waves, arrays of one length; the phase in radians."""

    frequency: NDArray
    decay: NDArray
    amplitude: NDArray
    phase: NDArray

    def inputs(self) -> NDArray:
        """The network's inputs ``(n, 5)``: scaled parameters, and the sine and cosine of the phase, which is periodic."""
        scaled = [
            2 * (value - low) / (high - low) - 1
            for value, (low, high) in zip(self, (FREQUENCY, DECAY, AMPLITUDE), strict=False)
        ]
        return np.stack([*scaled, np.sin(self.phase), np.cos(self.phase)], axis=1).astype(np.float32)

    def values(self) -> NDArray:
        """The values of the waves ``(n, N_STEPS, 1)``."""
        frequency, decay, amplitude, phase = (value[:, None] for value in self)
        t = np.arange(N_STEPS)
        wave = amplitude * np.exp(-decay * t) * np.sin(2 * np.pi * frequency * t + phase)
        return wave[..., None].astype(np.float32)


def draw_waves(n: int, rng: np.random.Generator, frequency: tuple[float, float] = FREQUENCY) -> Waves:
    """`n` waves with parameters uniform in their ranges."""
    ranges = (frequency, DECAY, AMPLITUDE, (-np.pi, np.pi))
    return Waves(*(rng.uniform(low, high, n) for low, high in ranges))


def relative_error(y_pred: NDArray, y: NDArray) -> float:
    """Root of the mean squared error over that of a flat line."""
    return float(np.sqrt(np.mean((y_pred - y) ** 2) / np.mean(y**2)))


def nearest(train: Waves, asked: Waves) -> NDArray:
    """For each requested wave, the training wave with the nearest parameters."""
    known, wanted = train.inputs(), asked.inputs()
    squares = (wanted**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * wanted @ known.T
    return train.values()[squares.argmin(axis=1)]


def measured(y: NDArray, waves: Waves, n_grid: int = 781) -> tuple[NDArray, NDArray]:
    """Frequency and amplitude of the damped sine, of the requested decay, that fits each predicted wave best."""
    t = np.arange(N_STEPS)
    frequencies = np.linspace(0.005, 0.2, n_grid)
    basis = np.stack(
        [np.sin(2 * np.pi * np.outer(frequencies, t)), np.cos(2 * np.pi * np.outer(frequencies, t))]
    )
    found = np.empty((2, len(y)))
    for i, (drawn, decay) in enumerate(zip(y[..., 0], waves.decay, strict=True)):
        # Least-squares fit of a sine and a cosine at all frequencies at once, by the normal equations.
        damped = basis * np.exp(-decay * t)
        products = damped @ drawn
        (a, b), (_, d) = np.einsum("ift,jft->ijf", damped, damped)
        determinant = a * d - b * b
        sine = (d * products[0] - b * products[1]) / determinant
        cosine = (a * products[1] - b * products[0]) / determinant
        best = (sine * products[0] + cosine * products[1]).argmax()
        found[:, i] = frequencies[best], np.hypot(sine[best], cosine[best])
    return found[0], found[1]


def report(model: Sequential, train: Waves, test: Waves, beyond: Waves) -> None:
    """Print the errors, and the deviations of frequency and amplitude."""
    y, y_pred, known = test.values(), model.predict(test.inputs()), nearest(train, test)
    print("\nerror, where 1 is that of a flat line")
    print(f"{'':<34}{'network':>9}{'nearest known wave':>20}")
    rows = [("all waves, all steps", np.ones(len(y), bool), slice(None))]
    edges = np.linspace(*FREQUENCY, 4)
    for low, high in pairwise(edges):
        chosen = (test.frequency >= low) & (test.frequency < high)
        rows.append((f"frequency {low:.3f} to {high:.3f} a step", chosen, slice(None)))
    for start in range(0, N_STEPS, 20):
        rows.append((f"steps {start} to {start + 19}", rows[0][1], slice(start, start + 20)))
    for name, chosen, steps in rows:
        errors = [relative_error(made[chosen, steps], y[chosen, steps]) for made in (y_pred, known)]
        print(f"{name:<34}{errors[0]:>9.3f}{errors[1]:>20.3f}")
    print("\ndeviations of predicted from requested waves, medians")
    print(f"{'':<34}{'frequency':>10}{'amplitude':>11}{'error':>8}")
    for name, waves in (
        ("frequencies as in training", test),
        (f"up to {beyond.frequency.max():.2f}, out of range", beyond),
    ):
        drawn = model.predict(waves.inputs())
        frequency, amplitude = measured(drawn, waves)
        off = [
            np.median(np.abs(a / b - 1))
            for a, b in ((frequency, waves.frequency), (amplitude, waves.amplitude))
        ]
        print(f"{name:<34}{off[0]:>10.1%}{off[1]:>11.1%}{relative_error(drawn, waves.values()):>8.3f}")


def draw(path: Path, history: dict, model: Sequential, test: Waves, beyond: Waves) -> None:
    """Draw the learning curve, six waves, and last a wave with a frequency outside the training range."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(14, 5.6), layout="constrained")
    first, *others = axes.ravel()
    for name, label in (("loss", "training"), ("val_loss", "validation")):
        first.semilogy(np.arange(1, len(history[name]) + 1), history[name], label=label)
    first.set(title="Learning", xlabel="epoch", ylabel="mean squared error")
    first.legend(frameon=False)
    order = np.argsort(test.frequency)[np.linspace(0, len(test.frequency) - 1, len(others) - 1).astype(int)]
    shown = [(test, i) for i in order] + [(beyond, int(beyond.frequency.argmax()))]
    for ax, (waves, i) in zip(others, shown, strict=True):
        one = Waves(*(value[i : i + 1] for value in waves))
        ax.plot(one.values()[0, :, 0], lw=3.5, alpha=0.35, label="requested")
        ax.plot(model.predict(one.inputs())[0, :, 0], lw=1.2, color="black", label="drawn")
        title = f"frequency {one.frequency[0]:.3f} a step" + (", beyond training" if waves is beyond else "")
        title += f"\ndecay {one.decay[0]:.3f} a step, amplitude {one.amplitude[0]:.2f}"
        ax.set_title(title, fontsize=9)
        ax.set(xlabel="time step", ylim=(-1.1, 1.1))
    others[0].legend(frameon=False, loc="lower right")
    axes[1, 0].set_ylabel("value")
    for ax in axes.ravel():
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, report and draw; the exit code is 0 if the network beats the nearest training wave."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    parser.add_argument("--waves", type=int, default=4000, help="to train on (default: 4000)")
    parser.add_argument("--units", type=int, default=48, help="of the LSTM (default: 48)")
    parser.add_argument("--epochs", type=int, default=40, help="default: 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a short run, only to check that the example works"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.waves, args.units, args.epochs = 400, 16, 3
    args.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(args.seed)
    train, test = draw_waves(args.waves, rng), draw_waves(500, rng)
    low, high = FREQUENCY
    beyond = draw_waves(200, rng, (high, high + 0.2 * (high - low)))

    model = Sequential(
        [
            layers.Input((train.inputs().shape[1],)),
            layers.RepeatVector(N_STEPS),
            layers.LSTM(args.units, return_sequences=True),
            layers.Dense(1),
        ],
        seed=args.seed,
    )
    model.summary()
    n_updates = args.epochs * -(-args.waves // 64)
    model.compile(optimizers.Adam(schedules.CosineDecay(0.006, n_updates), clipnorm=1.0), "mse")
    start = time.perf_counter()
    history = model.fit(
        train.inputs(),
        train.values(),
        batch_size=64,
        epochs=args.epochs,
        validation_data=(test.inputs(), test.values()),
        verbose=0,
    ).history
    print(f"{args.epochs} epochs on {args.waves} waves: {time.perf_counter() - start:.1f} s")

    report(model, train, test, beyond)
    path = args.out / "one_to_many.png"
    draw(path, history, model, test, beyond)
    print(f"\npicture: {path.resolve()}")
    y = test.values()
    better = relative_error(model.predict(test.inputs()), y) < relative_error(nearest(train, test), y)
    return int(not better and not args.quick)


if __name__ == "__main__":
    raise SystemExit(main())

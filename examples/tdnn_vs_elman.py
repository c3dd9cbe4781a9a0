"""A time-delay network is an Elman network without recurrent weights.

Both see a window of the last `k` values, ``w_t = (x_t, ..., x_{t-k+1})``, and forecast a value ahead::

    h_t = tanh(w_t @ W + h_{t-1} @ U + b)        y_t = h_t @ v + c

With ``U = 0`` that is the time-delay network (Waibel et al. 1989): a feed-forward network on a window. With trained ``U``
it is Elman's network (1990), which can also use values before the window. The script first shows that a SimpleRNN with
recurrent weights of zero equals the Dense network: same outputs, same gradients, and, with a constraint that keeps the
zeros, the same weights after training. Then both are trained on windows of several widths:

- airline: monthly growth of passenger numbers, one month ahead; the last three years are forecast. The series is short,
  so networks overfit; their weight decay was chosen on the two years before.
- Mackey-Glass: ``dx/dt = 0.2 x(t-17) / (1 + x(t-17)**10) - 0.1 x(t)``, six steps ahead (Mackey & Glass 1977).

Errors are root mean squares divided by the standard deviation of the target, so predicting the mean has the error 1. Writes
a picture. Takes about a minute.

References
----------
Waibel, Hanazawa, Hinton, Shikano & Lang (1989), Phoneme recognition using time-delay neural networks, IEEE Transactions
on Acoustics, Speech, and Signal Processing 37. Elman (1990), Finding structure in time, Cognitive Science 14. Mackey &
Glass (1977), Oscillation and chaos in physiological control systems, Science 197.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import Sequential, layers, optimizers
from fastrnn.datasets import load_airline
from fastrnn.forecasting import make_windows

KINDS = ("time-delay", "Elman")


class Job(NamedTuple):
    """A series and the settings of its training."""

    name: str
    values: NDArray
    n_train: int
    ahead: int
    widths: tuple[int, ...]
    #: Length of the training sequences, and the number of their first steps without a loss.
    length: int
    warm_up: int
    units: int
    batch_size: int
    epochs: int
    weight_decay: float
    #: Steps in a season; the naive forecast repeats the value of a season ago.
    season: int


class Windows(NamedTuple):
    """Scaled windows ``(n, k)`` and targets ``(n,)`` in time order; the first `n_train` are the training part."""

    x: NDArray
    y: NDArray
    n_train: int


class Result(NamedTuple):
    """Error and scaled forecasts of the test part."""

    error: float
    forecast: NDArray


# ------------------------------------------------------------------------------- equality


def network(kind: str, units: int, seed: int, dtype: str = "float32", **options) -> Sequential:
    """A network whose hidden layer has recurrent weights or not, applied to each step of a sequence of windows."""
    if kind == "Elman":
        hidden = layers.SimpleRNN(units, return_sequences=True, dtype=dtype, **options)
    else:
        hidden = layers.Dense(units, activation="tanh", dtype=dtype)
    return Sequential([hidden, layers.Dense(1, dtype=dtype)], seed=seed)


def show_equality() -> None:
    """Compare a Dense network with a recurrent network whose recurrent weights are zero, and print the differences."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 30, 5)), rng.normal(size=(8, 30, 1))
    plain = network("time-delay", 16, seed=0, dtype="float64")
    recurrent = network("Elman", 16, seed=0, dtype="float64", recurrent_constraint=np.zeros_like)
    for model in (plain, recurrent):
        model.build(x.shape)
        model.compile(optimizers.Adam(0.01), "mse")
    kernel, bias, *head = plain.get_weights()
    recurrent.set_weights([kernel, np.zeros((16, 16)), bias, *head])

    outputs = np.abs(plain.predict(x) - recurrent.predict(x)).max()
    for model in (plain, recurrent):
        model.compute_gradients(x, y)
    recurrent_part = slice(kernel.size, kernel.size + 16 * 16)
    both = np.delete(recurrent.grads, recurrent_part)
    gradients = np.abs(plain.grads - both).max()
    pull = np.abs(recurrent.grads[recurrent_part]).max()
    for model in (plain, recurrent):
        model.fit(x, y, epochs=50, shuffle=False, verbose=0)
    trained = np.abs(plain.params - np.delete(recurrent.params, recurrent_part)).max()
    print("U = 0 compared with no U, largest differences (float64):")
    print(f"  outputs                        {outputs:.1e}")
    print(f"  gradients of W, b, v, c        {gradients:.1e}")
    print(f"  weights after 50 Adam updates  {trained:.1e}   (U held at zero)")
    print(f"  the gradient of U is up to {pull:.1e}, so training without the constraint changes U\n")


# ------------------------------------------------------------------------------- forecasting


def mackey_glass(n: int, seed: int = 0) -> NDArray:
    """`n` values one unit of time apart, by Euler steps of 0.1; the first 500 are discarded."""
    per_unit, delay, skip = 10, 17 * 10, 500
    x = np.full(delay + 1 + (n + skip) * per_unit, 1.2)
    x[: delay + 1] += np.random.default_rng(seed).uniform(-0.1, 0.1, delay + 1)
    for i in range(delay, len(x) - 1):
        late = x[i - delay]
        x[i + 1] = x[i] + (0.2 * late / (1 + late**10) - 0.1 * x[i]) / per_unit
    return x[delay + 1 :: per_unit][skip : skip + n]


def windows(job: Job, width: int) -> Windows:
    """Windows of a width, with the same targets for every width, so that errors are comparable."""
    known = job.values[: job.n_train]
    x, y = make_windows((job.values - known.mean()) / known.std(), width, gap=job.ahead - 1)
    widest = max(job.widths)
    x, y = x[widest - width :, :, 0], y[widest - width :, 0]
    n = job.n_train - widest - job.ahead + 1
    first = n % job.length
    return Windows(x[first:].astype(np.float32), y[first:].astype(np.float32), n - first)


def scaled_error(forecast: NDArray, truth: NDArray) -> float:
    """Root mean square error over the standard deviation of the truth."""
    return float(np.sqrt(np.mean((forecast - truth) ** 2)) / truth.std())


def train(job: Job, kind: str, width: int, seed: int) -> Result:
    """Train on sequences of windows; forecast the test part in one pass over the whole series, which keeps the states."""
    x, y, n = windows(job, width)
    model = network(kind, job.units, seed)
    model.compile(optimizers.Adam(0.005, clipnorm=1.0, weight_decay=job.weight_decay), "mse")
    counts = np.ones((n // job.length, job.length), np.float32)
    counts[:, : job.warm_up] = 0
    model.fit(
        x[:n].reshape(-1, job.length, width),
        y[:n].reshape(-1, job.length, 1),
        sample_weight=counts,
        batch_size=job.batch_size,
        epochs=job.epochs,
        verbose=0,
    )
    forecast = model.predict(x[None])[0, n:, 0]
    return Result(scaled_error(forecast, y[n:]), forecast)


def naive_error(job: Job) -> float:
    """Error of repeating the value one season before the target; it is known, as seasons are longer than the horizon."""
    truth = job.values[job.n_train :]
    return scaled_error(job.values[job.n_train - job.season : -job.season], truth)


def compare(job: Job, n_repeats: int) -> dict[str, list[list[Result]]]:
    """Results of both kinds for each width and seed."""
    return {
        kind: [[train(job, kind, width, seed) for seed in range(n_repeats)] for width in job.widths]
        for kind in KINDS
    }


def median_errors(results: list[list[Result]]) -> NDArray:
    """One error for each width."""
    return np.median([[r.error for r in repeats] for repeats in results], axis=1)


def print_table(job: Job, results: dict[str, list[list[Result]]]) -> None:
    """Print errors and numbers of weights by width."""
    repeats = len(results[KINDS[0]][0])
    print(f"{job.name}, {job.ahead} ahead: test error, median of {repeats} (weights in brackets)")
    print(f"  {'values seen':<13}" + "".join(f"{kind:>20}" for kind in KINDS))
    medians = {kind: median_errors(results[kind]) for kind in KINDS}
    for i, width in enumerate(job.widths):
        cells = ""
        for kind in KINDS:
            weights = job.units * (width + 2 + job.units * (kind == "Elman")) + 1
            cells += f"{f'{medians[kind][i]:.3f} ({weights:,})':>20}"
        print(f"  {width:<13}{cells}")
    print(f"  naive, the value {job.season} before: {naive_error(job):.3f}")
    reached = medians["time-delay"] <= medians["Elman"][0]
    width = next((w for w, ok in zip(job.widths, reached, strict=True) if ok), None)
    needs = f"{width} values" if width else f"more than {job.widths[-1]} values"
    print(f"  to do as well as the Elman network with one value, the time-delay network needs {needs}\n")


def draw(path: Path, outcomes: list[tuple[Job, dict[str, list[list[Result]]]]]) -> None:
    """Draw errors by width above, and below the forecasts of networks with the smallest window."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(outcomes), figsize=(6 * len(outcomes), 7), layout="constrained")
    for (above, below), (job, results) in zip(axes.T, outcomes, strict=True):
        for kind, marker in zip(KINDS, "os", strict=True):
            above.semilogy(job.widths, median_errors(results[kind]), f"{marker}-", label=kind)
        above.axhline(naive_error(job), color="grey", ls="--", lw=1, label=f"naive, {job.season} before")
        above.set(
            title=f"{job.name}, {job.ahead} ahead",
            xlabel="width of the window, values",
            ylabel="test error (1: the mean)",
        )
        above.set_xticks(job.widths)
        above.grid(alpha=0.3)
        above.legend(frameon=False)
        x = windows(job, job.widths[0])
        shown = min(len(x.y) - x.n_train, 150)
        steps = np.arange(1, shown + 1)
        below.plot(steps, x.y[x.n_train :][:shown], color="k", lw=1.2, label="truth")
        for kind in KINDS:
            below.plot(steps, results[kind][0][0].forecast[:shown], lw=1.2, label=kind)
        seen = "one value" if job.widths[0] == 1 else f"{job.widths[0]} values"
        below.set(title=f"networks that see {seen}", xlabel="step of the test part", ylabel="value, scaled")
        below.grid(alpha=0.3)
        below.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Show the equality, then compare on both series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    parser.add_argument("--repeats", type=int, default=5, help="trainings for each network (default: 5)")
    parser.add_argument(
        "--quick", action="store_true", help="a short run, only to check that the example works"
    )
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("repeats must be positive")
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    growth = np.diff(np.log(load_airline().values))
    jobs = [
        Job("airline", growth, len(growth) - 36, 1, (1, 2, 4, 8, 12, 13), 94, 12, 16, 1, 400, 1.0, 12),
        Job("Mackey-Glass", mackey_glass(3000), 2000, 6, (1, 2, 4, 8, 16, 24), 97, 24, 32, 4, 300, 0.0, 6),
    ]
    if args.quick:
        jobs = [job._replace(widths=(1, max(job.widths)), epochs=5) for job in jobs]
        args.repeats = 1
    show_equality()
    outcomes = [(job, compare(job, args.repeats)) for job in jobs]
    for outcome in outcomes:
        print_table(*outcome)
    path = args.out / "tdnn_vs_elman.png"
    draw(path, outcomes)
    print(f"{time.perf_counter() - start:.0f} s; picture: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

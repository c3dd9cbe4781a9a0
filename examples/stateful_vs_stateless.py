"""Stateful and stateless training, compared on a task that needs a longer memory than one batch.

Long series are cut into batches of `--window` steps, with several series in a batch. The task is to compute an exponentially
weighted sum of noise, with a time constant of `span` steps::

    y_t = (1 - 1 / span) * y_{t-1} + x_t                 (then scaled to variance 1)

Two networks with equal initial weights get the same batches in the same order; `stateful_batches` makes row i of a batch
continue row i of the previous batch. The stateless network starts each batch from zero states, so it can at best sum the
values in the batch; the error of that sum is its lower limit, the floor. The stateful network starts each batch from the
final states of the previous batch. In both networks gradients are truncated at the start of the batch.

Each training is repeated with new noise and new weights. Prints quartiles of the test error (1 is the error of the mean)
and draws them as a box plot, with a part of one test series. Takes some minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import Sequential, layers, optimizers, schedules
from fastrnn.sequences import StatefulBatches, stateful_batches

SPANS = (4, 16, 64, 256)
KINDS = ("stateless", "stateful")
UNITS = 8


class Task(NamedTuple):
    """Sizes of one experiment."""

    window: int
    n_series: int
    n_time: int
    epochs: int


def fading_sums(rng: np.random.Generator, task: Task, span: int) -> tuple[NDArray, NDArray]:
    """Noise ``(n_series, n_time, 1)`` and its weighted sums, which start from zero, as a network's states do."""
    keep = 1 - 1 / span
    x = rng.normal(size=(task.n_series, task.n_time, 1))
    y = np.zeros_like(x)
    for t in range(task.n_time):
        y[:, t] = keep * y[:, t - 1] * (t > 0) + x[:, t]
    return x.astype(np.float32), (y * np.sqrt(1 - keep**2)).astype(np.float32)


def floor_of(truth: NDArray, window: int, span: int) -> float:
    """Error of a sum over each window alone, which lacks the value before the window."""
    before = np.zeros((len(truth), truth.shape[1] // window))
    before[:, 1:] = truth[:, window - 1 : -1 : window]
    left = before[..., None] * (1 - 1 / span) ** np.arange(1, window + 1)
    return float(np.mean(left**2) / np.var(truth))


def batches_of(rng: np.random.Generator, task: Task, span: int) -> StatefulBatches:
    """Batches of ``(n_series, window)`` steps of new series."""
    return stateful_batches(*fading_sums(rng, task, span), n_steps=task.window)


def train(kind: str, batches: StatefulBatches, epochs: int, seed: int) -> Sequential:
    """A network fitted to `batches`; both kinds start from the same weights."""
    recurrent = layers.GRU(UNITS, return_sequences=True, stateful=kind == "stateful")
    model = Sequential([recurrent, layers.Dense(1)], seed=seed)
    # Consecutive batches are similar, so the learning rate must become small at the end, or the weights follow them.
    rate = schedules.CosineDecay(0.01, epochs * len(batches))
    model.compile(optimizers.Adam(rate, clipnorm=1.0), "mse")
    model.fit(batches, epochs=epochs, verbose=0)
    return model


class Stretch(NamedTuple):
    """A part of a test series, and the predictions of both networks."""

    span: int
    truth: NDArray
    predicted: dict[str, NDArray]


def compare(task: Task, spans: Sequence[int], n_repeats: int, n_shown: int) -> tuple[dict, Stretch]:
    """Test errors ``{span: {kind: (n_repeats,)}}``, where "floor" is a kind too, and a stretch for a middle span."""
    errors = {span: {kind: np.empty(n_repeats) for kind in (*KINDS, "floor")} for span in spans}
    shown = Stretch(spans[len(spans) // 2], np.empty(0), {})
    for span in spans:
        for repeat in range(n_repeats):
            rng = np.random.default_rng([repeat, span])
            training, test = batches_of(rng, task, span), batches_of(rng, task, span)
            truth = np.concatenate([y[..., 0] for _, y in test], axis=1)
            errors[span]["floor"][repeat] = floor_of(truth, task.window, span)
            for kind in KINDS:
                model = train(kind, training, task.epochs, seed=repeat)
                predicted = model.predict(test).reshape(-1, task.n_series, task.window).swapaxes(0, 1)
                predicted = predicted.reshape(task.n_series, -1)
                errors[span][kind][repeat] = np.mean((predicted - truth) ** 2) / np.var(truth)
                if span == shown.span and repeat == 0:
                    shown.predicted[kind] = predicted[0, -n_shown:]
                    shown = shown._replace(truth=truth[0, -n_shown:])
    return errors, shown


def print_table(errors: dict, window: int) -> None:
    """Print quartiles of the errors."""
    n_repeats = len(errors[next(iter(errors))]["stateful"])
    print(f"unexplained fraction of the variance on test series, {n_repeats} repeats, window {window}")
    print(
        f"{'span':>5}  {'network':<10}{'lower quartile':>15}{'median':>9}{'upper quartile':>15}{'floor':>8}"
    )
    for span, by_kind in errors.items():
        for kind in KINDS:
            low, median, high = np.quantile(by_kind[kind], (0.25, 0.5, 0.75))
            least = f"{np.median(by_kind['floor']):>8.4f}" if kind == "stateless" else ""
            print(f"{span:>5}  {kind:<10}{low:>15.4f}{median:>9.4f}{high:>15.4f}{least}")
    longest = errors[max(errors)]
    better = np.mean(longest["stateful"] < longest["stateless"])
    print(f"span {max(errors)}: the stateful network was better in {better:.0%} of the repeats")


def draw(path: Path, errors: dict, shown: Stretch, window: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {"stateless": "tab:orange", "stateful": "tab:blue"}
    figure, (boxes, lines) = plt.subplots(
        1, 2, figsize=(12, 4.2), layout="constrained", width_ratios=(1, 1.25)
    )
    for k, kind in enumerate(KINDS):
        boxes.boxplot(
            [by_kind[kind] for by_kind in errors.values()],
            positions=np.arange(len(errors)) + 0.32 * k - 0.16,
            widths=0.26,
            patch_artist=True,
            boxprops={"facecolor": (colours[kind], 0.4), "edgecolor": colours[kind]},
            medianprops={"color": colours[kind], "linewidth": 2},
            whiskerprops={"color": colours[kind]},
            capprops={"color": colours[kind]},
            flierprops={"markersize": 3, "markeredgecolor": colours[kind]},
            label=kind,
        )
    for i, by_kind in enumerate(errors.values()):
        boxes.hlines(
            np.median(by_kind["floor"]),
            i - 0.42,
            i + 0.1,
            color="k",
            ls=":",
            lw=1,
            label="floor of a stateless one" if i == 0 else None,
        )
    boxes.set_yscale("log")
    boxes.set_xticks(np.arange(len(errors)), [str(span) for span in errors])
    boxes.set(
        xlabel="time constant of the task, steps",
        ylabel="test error (predicting the mean: 1)",
        title=f"Batches of {window} steps, {len(next(iter(errors.values()))['stateful'])} repeats",
    )
    boxes.legend(frameon=False, fontsize=9)
    boxes.grid(axis="y", alpha=0.3)
    steps = np.arange(len(shown.truth))
    for start in steps[::window]:
        lines.axvline(start, color="k", lw=0.4, alpha=0.4)
    lines.plot(steps, shown.truth, color="k", lw=2.5, alpha=0.3, label="target")
    for kind, values in shown.predicted.items():
        lines.plot(steps, values, lw=1.2, color=colours[kind], label=kind)
    lines.set(
        xlabel="time step; thin lines: a new batch",
        ylabel="weighted sum, scaled to variance 1",
        title=f"A test series, span {shown.span}",
        xlim=(0, len(steps) - 1),
    )
    lines.legend(frameon=False, fontsize=9, ncols=3)
    lines.margins(y=0.15)
    for ax in (boxes, lines):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare both kinds for each span."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    parser.add_argument("--spans", type=int, nargs="+", default=SPANS, help=f"default: {SPANS}")
    parser.add_argument("--window", type=int, default=16, help="time steps of a batch (default: 16)")
    parser.add_argument("--batch", type=int, default=16, help="series side by side (default: 16)")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--repeats", type=int, default=12, help="trainings of each kind (default: 12)")
    parser.add_argument(
        "--quick", action="store_true", help="a short run, only to check that the example works"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.spans, args.epochs, args.repeats = (4, 64), 4, 2
    spans = sorted(set(args.spans))
    if spans[0] < 2 or min(args.window, args.batch, args.epochs, args.repeats) < 1:
        parser.error("spans must be at least 2, all other numbers positive")
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    task = Task(args.window, args.batch, n_time=100 * args.window, epochs=args.epochs)
    errors, shown = compare(task, spans, args.repeats, n_shown=12 * args.window)
    print_table(errors, args.window)
    path = args.out / "stateful_vs_stateless.png"
    draw(path, errors, shown, args.window)
    print(f"\n{time.perf_counter() - start:.0f} s; picture: {path.resolve()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

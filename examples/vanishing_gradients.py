"""Vanishing and exploding gradients: how many steps back gradients reach, and what helps.

The task is to remember one value. A sequence has a random value at each step; the first value is marked and is the target
`lag` steps later. Memory is large enough (one number, 32 units), so the result depends on whether the gradient of the
last step reaches the first.

Three things are shown, each with a picture:

1. The gradient by time step. Backpropagation passes ``dL/dh_t`` from step to step; a step multiplies it by the Jacobian
   ``dh_t/dh_{t-1}``. Its norm, relative to that at the last step, is drawn before training and after it.
2. Exploding gradients: a SimpleRNN with large recurrent weights under plain gradient descent, as it is, and with
   `clipnorm` and `clipvalue`.
3. The lag at which each network stops learning, all with the same number of updates. Clipping does not help
   against vanishing gradients; the initial recurrent weights and the initial forget gate do.

"gain" is the factor of the orthogonal recurrent matrix that a SimpleRNN starts from. The last network is an LSTM whose
initial gates remember for 2 to 200 steps (Tallec & Ollivier 2018, Can recurrent neural networks warp time?, ICLR).

Takes some minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import Sequential, initializers, layers, optimizers
from fastrnn.exceptions import NonFiniteLossError

UNITS = 32
BATCH = 32
LEARNED = 0.1
LAGS = (1, 2, 5, 10, 20, 40, 80, 160)
LONGEST_MEMORY = 200


def simple_rnn(gain: float) -> layers.SimpleRNN:
    """A SimpleRNN that starts from `gain` times an orthogonal recurrent matrix."""
    return layers.SimpleRNN(UNITS, recurrent_initializer=initializers.Orthogonal(gain))


def remember(model: Sequential, rng: np.random.Generator) -> None:
    """Let an LSTM's forget gates start at ``1 - 1/t`` for times t up to `LONGEST_MEMORY`, its input gates at ``1/t``."""
    recurrent = model.layers[0]
    kernel, recurrent_kernel, bias = recurrent.get_weights()
    logs = np.log(rng.uniform(1, LONGEST_MEMORY - 1, UNITS))
    bias[:UNITS], bias[UNITS : 2 * UNITS] = -logs, logs
    recurrent.set_weights([kernel, recurrent_kernel, bias])


NETWORKS: dict[str, Callable[[], layers.Layer]] = {
    "SimpleRNN, gain 0.7": lambda: simple_rnn(0.7),
    "SimpleRNN, gain 1": lambda: simple_rnn(1.0),
    "SimpleRNN, gain 1.6": lambda: simple_rnn(1.6),
    "GRU": lambda: layers.GRU(UNITS),
    "LSTM": lambda: layers.LSTM(UNITS),
    "LSTM, slow forgetting": lambda: layers.LSTM(UNITS),
}
EXPLODING = "SimpleRNN, gain 1.6"


def draw(rng: np.random.Generator, n: int, lag: int) -> tuple[NDArray, NDArray]:
    """Sequences ``(n, lag + 1, 2)`` of values and a mark at the first step, and the marked values ``(n, 1)``."""
    x = np.zeros((n, lag + 1, 2), np.float32)
    x[:, :, 0] = rng.uniform(-1, 1, (n, lag + 1))
    x[:, 0, 1] = 1
    return x, x[:, 0, :1].copy()


def make(network: str, optimizer: optimizers.Optimizer, seed: int) -> Sequential:
    """A network with one output, ready to train."""
    model = Sequential([NETWORKS[network](), layers.Dense(1)], seed=seed)
    model.build((None, None, 2))
    if network == "LSTM, slow forgetting":
        remember(model, np.random.default_rng(seed))
    model.compile(optimizer, "mse")
    return model


def train(model: Sequential, lag: int, n_updates: int, seed: int) -> None:
    """Train a model on `n_updates` batches of new sequences."""
    rng = np.random.default_rng([seed, lag])
    for _ in range(n_updates):
        model.train_on_batch(*draw(rng, BATCH, lag))


def error(model: Sequential, lag: int) -> float:
    """Mean squared error on new sequences over the variance of the value; predicting the mean gives 1."""
    x, y = draw(np.random.default_rng(12345), 1000, lag)
    return float(np.mean((model.predict(x) - y) ** 2) / np.var(y))


# ------------------------------------------------------------------------------- 1. the gradient by time step


def gradient_by_step(model: Sequential, x: NDArray) -> NDArray:
    """``|dL/dh_t| / |dL/dh_T|`` for t from the last step T back to the first, averaged over the sequences.

    L is any loss of the single output; it scales all steps alike. For an LSTM h_t means both of its states.
    """
    recurrent, head = model.layers
    probe = type(recurrent).from_config({**recurrent.get_config(), "return_state": True})
    probe.build((None, None, x.shape[2]))
    probe.set_weights(recurrent.get_weights())
    states, caches = None, []
    for t in range(x.shape[1]):
        (_, *states), cache = probe.forward(x[:, t : t + 1], training=True, initial_state=states)
        caches.append(cache)
    last = np.broadcast_to(head.get_weights()[0][:, 0], (len(x), UNITS))
    d_states = [last, *(np.zeros_like(state) for state in states[1:])]
    norms = []
    for cache in reversed(caches):
        squares = sum((d.astype(np.float64) ** 2).sum(axis=1) for d in d_states)
        norms.append(np.sqrt(squares))
        probe.backward([None, *d_states], cache)
        d_states = probe.d_initial_state
    return (np.stack(norms) / norms[0]).mean(axis=1)


class Reach(NamedTuple):
    """Gradient norms of one network by steps before the last, and its error if it was trained."""

    curve: NDArray
    error: float | None


def reaches(lag: int, n_updates: int) -> dict[str, dict[str, Reach]]:
    """Curves of all networks at the start, trained without clipping, and trained with it."""
    x, _ = draw(np.random.default_rng(7), 64, lag)
    settings = {
        "at the start": None,
        "trained, no clipping": None,
        "trained, clipnorm=1": 1.0,
    }
    found: dict[str, dict[str, Reach]] = {}
    for title, clipnorm in settings.items():
        found[title] = {}
        for network in NETWORKS:
            model = make(network, optimizers.Adam(0.003, clipnorm=clipnorm), seed=0)
            reached = None
            if title != "at the start":
                train(model, lag, n_updates, seed=0)
                reached = error(model, lag)
            found[title][network] = Reach(gradient_by_step(model, x), reached)
    return found


# ------------------------------------------------------------------------------- 2. exploding gradients


class Run(NamedTuple):
    """Losses and gradient norms before clipping, by update; they end early if the loss was not finite."""

    losses: list[float]
    norms: list[float]
    error: float


def explode(lag: int, n_updates: int) -> dict[str, Run]:
    """Plain gradient descent from large recurrent weights, with each kind of clipping."""
    runs = {}
    for title, clip in {
        "no clipping": {},
        "clipnorm=1": {"clipnorm": 1.0},
        "clipvalue=0.01": {"clipvalue": 0.01},
    }.items():
        model = make(EXPLODING, optimizers.SGD(0.2, **clip), seed=0)
        rng = np.random.default_rng(1)
        losses, norms = [], []
        try:
            for _ in range(n_updates):
                x, y = draw(rng, BATCH, lag)
                with np.errstate(over="ignore"):
                    model.compute_gradients(x, y)
                norms.append(float(np.sqrt(np.square(model.grads, dtype=np.float64).sum())))
                losses.append(model.train_on_batch(x, y))
        except NonFiniteLossError:
            runs[title] = Run(losses, norms[: len(losses)], np.nan)
        else:
            runs[title] = Run(losses, norms, error(model, lag))
    return runs


# ------------------------------------------------------------------------------- 3. error by lag


def errors_by_lag(lags: Sequence[int], n_updates: int, n_repeats: int) -> dict[str, NDArray]:
    """Errors ``(lags, repeats)`` of each network, each trained from the start for each lag."""
    found = {network: np.empty((len(lags), n_repeats)) for network in NETWORKS}
    for network, errors in found.items():
        for i, lag in enumerate(lags):
            for repeat in range(n_repeats):
                model = make(network, optimizers.Adam(0.003, clipnorm=1.0), seed=repeat)
                train(model, lag, n_updates, seed=repeat)
                errors[i, repeat] = error(model, lag)
    return found


def learned_up_to(lags: Sequence[int], errors: NDArray) -> str:
    """The longest lag such that most repeats learn it and all shorter lags."""
    good = np.median(errors, axis=1) < LEARNED
    n = len(lags) if good.all() else int(good.argmin())
    if n == 0:
        return f"below {lags[0]}"
    return f"{lags[n - 1]} or more" if n == len(lags) else str(lags[n - 1])


# ------------------------------------------------------------------------------- tables and pictures


def print_tables(
    reach: dict[str, dict[str, Reach]], runs: dict[str, Run], lags: Sequence[int], by_lag: dict[str, NDArray]
) -> None:
    """Print the results of all three parts."""
    start = reach["at the start"]
    n_steps = len(next(iter(start.values())).curve)
    back = [k for k in (5, 10, 20, 40) if k < n_steps]
    clipped, free = reach["trained, clipnorm=1"], reach["trained, no clipping"]
    print("1. |dL/dh| by steps before the last, divided by its value at the last step, before training;")
    print(f"   and the error after training on lag {n_steps - 1} (1 = learned nothing)")
    print(f"{'network':<23}" + "".join(f"{k:>10}" for k in back) + f"{'no clipping':>14}{'clipnorm=1':>12}")
    for network, (curve, _) in start.items():
        print(
            f"{network:<23}"
            + "".join(f"{curve[k]:>10.1e}" for k in back)
            + f"{free[network].error:>14.3f}{clipped[network].error:>12.3f}"
        )
    print(f"\n2. {EXPLODING}, plain gradient descent")
    print(f"{'':<23}{'updates':>10}{'largest |g|':>14}{'error':>10}")
    for title, run in runs.items():
        end = "  the loss stopped being finite" if np.isnan(run.error) else ""
        print(f"{title:<23}{len(run.losses):>10}{max(run.norms):>14.3g}{run.error:>10.3f}{end}")
    n_repeats = next(iter(by_lag.values())).shape[1]
    print(f"\n3. error by lag, median of {n_repeats}; learned means below {LEARNED}")
    print(f"{'network':<23}" + "".join(f"{lag:>7}" for lag in lags) + "  learned up to lag")
    for network, errors in by_lag.items():
        medians = "".join(f"{m:>7.3f}" for m in np.median(errors, axis=1))
        print(f"{network:<23}{medians}  {learned_up_to(lags, errors)}")


def draw_pictures(
    out: Path,
    reach: dict[str, dict[str, Reach]],
    runs: dict[str, Run],
    lags: Sequence[int],
    by_lag: dict[str, NDArray],
) -> None:
    """Write the three pictures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip(NETWORKS, plt.get_cmap("tab10").colors, strict=False))

    figure, axes = plt.subplots(
        1, len(reach), figsize=(4.2 * len(reach), 4.4), sharey=True, layout="constrained"
    )
    for ax, (title, curves) in zip(axes, reach.items(), strict=True):
        for network, (curve, _) in curves.items():
            # Values that underflowed to zero have no logarithm.
            shown = np.where(curve > 0, curve, np.nan)
            ax.semilogy(np.arange(len(curve)), shown, color=colours[network], label=network)
        ax.axhline(1, color="grey", lw=0.8, ls=":")
        ax.set(title=title, xlabel="steps before the last")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(r"$|\partial L/\partial h_t|$, relative to the last step")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(out / "gradient_by_step.png", dpi=120)

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for title, run in runs.items():
        for ax, values in zip(axes, (run.losses, run.norms), strict=True):
            finite = np.where(np.isfinite(values), values, np.nan)
            (line,) = ax.semilogy(np.arange(1, len(values) + 1), finite, lw=0.9, label=title)
            if np.isnan(run.error):
                ax.axvline(len(values), color=line.get_color(), ls="--", lw=1)
    # An exploding loss has no upper limit; losses of successful training are in these decades.
    axes[0].set(title="Loss", xlabel="update", ylabel="mean squared error", ylim=(1e-3, 1e3))
    axes[1].set(
        title="Norm of the gradient, before clipping", xlabel="update", ylabel="$|g|$", ylim=(1e-1, 1e5)
    )
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.set_xlim(left=-0.02 * max(len(run.losses) for run in runs.values()))
    axes[0].legend(frameon=False)
    figure.suptitle(f"{EXPLODING}: dashed where the loss stopped being finite", fontsize=10)
    figure.savefig(out / "exploding.png", dpi=120)

    figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for network, errors in by_lag.items():
        ax.fill_between(lags, errors.min(axis=1), errors.max(axis=1), color=colours[network], alpha=0.12)
        ax.loglog(lags, np.median(errors, axis=1), "o-", ms=4, color=colours[network], label=network)
    ax.axhline(LEARNED, color="k", ls="--", lw=0.8)
    ax.text(lags[0], LEARNED * 1.1, "learned below", fontsize=8, va="bottom")
    ax.set_xticks(lags, [str(lag) for lag in lags])
    ax.minorticks_off()
    ax.set(
        xlabel="lag, steps",
        ylabel="error (1: learned nothing)",
        title=f"Remembering a value: median and range of {errors.shape[1]} trainings",
    )
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(out / "error_by_lag.png", dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all three parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for the pictures (default: out)"
    )
    parser.add_argument("--lags", type=int, nargs="+", default=LAGS, help=f"default: {LAGS}")
    parser.add_argument("--updates", type=int, default=800, help="budget of each training (default: 800)")
    parser.add_argument("--repeats", type=int, default=3, help="trainings for each lag (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="a short run, only to check that the example works"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.lags, args.updates, args.repeats = (1, 5), 40, 1
    lags = sorted(set(args.lags))
    if lags[0] < 1 or args.updates < 1 or args.repeats < 1:
        parser.error("lags, updates and repeats must be positive")
    args.out.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    results = (
        reaches(lag=40, n_updates=args.updates),
        explode(lag=20, n_updates=args.updates),
        lags,
        errors_by_lag(lags, args.updates, args.repeats),
    )
    print_tables(*results)
    draw_pictures(args.out, *results)
    print(f"\n{time.perf_counter() - start:.0f} s; pictures in {args.out.resolve()}:")
    for name in ("gradient_by_step.png", "exploding.png", "error_by_lag.png"):
        print(f"  {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Time of whole epochs of fit, data pipeline and optimizer included: python -m benchmarks.epochs

imdb: `Sequential.fit` on tokens of the shape of the IMDB reviews (20,000 x 500, Embedding(10000, 32), 32 units, Dense 1,
RMSprop, batches of 10 and 128; the tokens are random, as their values do not change the work), compared with Keras on JAX
(jitted), epoch by epoch in turns. vowels: `RNNClassifier.fit` on the Japanese vowels (random series of the same shapes if
the data are not found), compared with the same network in a plain torch loop with padded or packed batches on one and two
threads; the fastest of these counts. Written to benchmarks/results/: epochs.json and epochs.md.

    python -m benchmarks.epochs imdb --samples 20000 --rounds 3     # as in the table
    python -m benchmarks.epochs imdb --samples 1280 --rounds 2      # shorter; compare the times per sample
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.limits import micro_kernel_peak
from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.cases import CELLS, GATES
from fastrnn.bench.ours import layer_class
from fastrnn.bench.peers import installed, thread_counts
from fastrnn.bench.timing import wait

RESULTS = Path(__file__).parent / "results"

VOCABULARY, STEPS, EMBEDDING, UNITS = 10_000, 500, 32, 32
BATCHES = (10, 128)
#: Targets: speed relative to the peer.
IMDB_TARGETS = {"simple_rnn": 3.0, "gru": 2.5, "lstm": 2.0}
VOWELS_TARGET = 5.0
VOWELS_UNITS, VOWELS_BATCH, VOWELS_RATE = 100, 32, 0.003


@dataclass
class Racer:
    """A function that trains for one epoch, and one that compiles what the epoch needs."""

    library: str
    mode: str
    epoch: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None


def race(racers: Sequence[Racer], rounds: int) -> list[NDArray]:
    """Seconds per epoch, one value for each round; the order rotates by one place each round."""
    for racer in racers:
        racer.prepare()
    samples: list[list[float]] = [[] for _ in racers]
    for turn in range(rounds):
        for i in range(len(racers)):
            k = (i + turn) % len(racers)
            wait(0.1)  # until the threads of the previous racer sleep
            start = time.perf_counter()
            racers[k].epoch()
            samples[k].append(time.perf_counter() - start)
    return [np.array(s) for s in samples]


def flop_of(cell: str, n_steps: int, n_inputs: int, units: int, first: bool) -> float:
    """Operations of the matrix products of an epoch; a first layer needs no gradient of its inputs."""
    return 2.0 * GATES[cell] * units * n_steps * ((2 if first else 3) * n_inputs + 3 * units)


def row_of(
    job: str, cell: str, batch: int, n: int, flop: float, racer: Racer, seconds: NDArray
) -> dict[str, Any]:
    return {
        "job": job,
        "cell": cell,
        "batch_size": batch,
        "samples": n,
        "library": racer.library,
        "mode": racer.mode,
        "epoch_s": float(np.median(seconds)),
        "rounds_s": seconds.tolist(),
        "us_per_sample": float(np.median(seconds)) / n * 1e6,
        "flop": flop,
    }


# --- the shape of the IMDB reviews -----------------------------------------------------------------------------------


def reviews(n: int) -> tuple[NDArray, NDArray]:
    """Random tokens (n, 500), a few of them frequent, as words are; labels (n, 1)."""
    rng = np.random.default_rng(0)
    x = np.minimum(rng.zipf(1.3, (n, STEPS)), VOCABULARY - 1).astype(np.int32)
    return x, rng.integers(0, 2, (n, 1)).astype(np.float32)


def fastrnn_reviews(cell: str, seed: int = 0) -> Any:
    from fastrnn import Sequential, layers, set_random_seed

    set_random_seed(seed)
    recurrent = layer_class(cell)(UNITS)
    model = Sequential(
        [layers.Embedding(VOCABULARY, EMBEDDING), recurrent, layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def keras_reviews(cell: str, seed: int = 0) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    keras.utils.set_random_seed(seed)
    kind = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    model = keras.Sequential(
        [
            keras.Input((STEPS,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, EMBEDDING),
            kind(UNITS),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"], jit_compile=True)
    return model


def review_racers(cell: str, batch: int, n: int, libraries: Sequence[str]) -> Iterator[Racer]:
    x, y = reviews(n)
    # A full batch and the shorter last batch are all shapes of an epoch: XLA compiles for both beforehand.
    some = min(n, batch + n % batch)
    first: Any = None
    for library, make in (("fastrnn", fastrnn_reviews), ("keras-jax", keras_reviews)):
        if library not in libraries or (library == "keras-jax" and not installed("keras", "jax")):
            continue
        model = make(cell)
        if first is None:
            first, expected = model, np.asarray(model.predict(x[:8], verbose=0))
        else:
            # Times are comparable only between networks that compute the same.
            model.set_weights(first.get_weights())
            np.testing.assert_allclose(model.predict(x[:8], verbose=0), expected, rtol=1e-3, atol=1e-4)

        def fit(n: int = n, model: Any = model) -> Any:
            return model.fit(x[:n], y[:n], batch_size=batch, epochs=1, verbose=0)

        yield Racer(library, "", fit, lambda fit=fit: fit(some))


def run_imdb(args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    for cell in args.cells:
        for batch in args.batch_sizes:
            racers = list(review_racers(cell, batch, args.samples, args.libraries))
            times = race(racers, args.rounds)
            flop = flop_of(cell, args.samples * STEPS, EMBEDDING, UNITS, first=False)
            yield [
                row_of("imdb", cell, batch, args.samples, flop, r, t)
                for r, t in zip(racers, times, strict=True)
            ]


# --- the Japanese vowels ---------------------------------------------------------------------------------------------


def vowels(folder: Path | None) -> tuple[list[NDArray], NDArray, str]:
    """270 series of 7 to 29 steps and 12 channels, their speakers, and the source of the data."""
    from fastrnn import datasets
    from fastrnn.preprocessing import StandardScaler3D

    try:
        data = datasets.load_japanese_vowels(folder)
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        series = [rng.standard_normal((n, 12)).astype(np.float32) for n in rng.integers(7, 30, 270)]
        return series, np.arange(270) % 9, "made up"
    scaled = StandardScaler3D().fit_transform(data.X_train)
    labels = np.unique(data.y_train, return_inverse=True)[1]
    return [np.asarray(s, np.float32) for s in scaled], labels, "real"


def fastrnn_vowels(cell: str, series: list[NDArray], labels: NDArray, epochs: int, threads: int) -> Racer:
    from fastrnn import RNNClassifier

    def fit(n: int = epochs) -> Any:
        return RNNClassifier(
            cell=cell,
            units=VOWELS_UNITS,
            learning_rate_init=VOWELS_RATE,
            batch_size=VOWELS_BATCH,
            max_iter=n,
            tol=None,
            random_state=0,
            n_jobs=threads,
        ).fit(series, labels)

    return Racer("fastrnn", f"{threads} threads", fit, lambda: fit(1))


def torch_vowels(
    cell: str, series: list[NDArray], labels: NDArray, epochs: int, threads: int, mode: str
) -> Racer:
    """A usual training loop: Adam, cross-entropy, the output at each sequence's last step.

    Batches are slices of one padded tensor, cut to the longest sequence of the batch, so that no epoch pads again.
    """
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

    kind = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    x = pad_sequence([torch.from_numpy(s) for s in series])  # time first, its native layout
    lengths = torch.tensor([len(s) for s in series])
    y = torch.from_numpy(labels)

    def fit(n: int = epochs) -> None:
        torch.manual_seed(0)
        layer, dense = kind(x.shape[2], VOWELS_UNITS), torch.nn.Linear(VOWELS_UNITS, int(y.max()) + 1)
        optimizer = torch.optim.Adam([*layer.parameters(), *dense.parameters()], lr=VOWELS_RATE)
        for _ in range(n):
            for index in torch.randperm(len(y)).split(VOWELS_BATCH):
                optimizer.zero_grad()
                size = lengths[index]
                batch = x[: int(size.max()), index]
                if mode == "packed":
                    _, last = layer(pack_padded_sequence(batch, size, enforce_sorted=False))
                    last = (last[0] if cell == "lstm" else last)[0]
                else:
                    last = layer(batch)[0][size - 1, torch.arange(len(index))]
                loss = torch.nn.functional.cross_entropy(dense(last), y[index])
                loss.backward()
                optimizer.step()

    def with_threads(n: int = epochs) -> None:
        torch.set_flush_denormal(True)
        torch.set_num_threads(threads)
        fit(n)

    return Racer("torch", f"{mode}, {threads} threads", with_threads, lambda: with_threads(1))


def run_vowels(args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    series, labels, origin = vowels(args.folder)
    for cell in args.cells:
        racers = []
        for threads in thread_counts():
            if "fastrnn" in args.libraries:
                racers.append(fastrnn_vowels(cell, series, labels, args.epochs, threads))
            if "torch" in args.libraries and installed("torch"):
                for mode in ("padded", "packed"):
                    racers.append(torch_vowels(cell, series, labels, args.epochs, threads, mode))
        times = [t / args.epochs for t in race(racers, args.rounds)]
        flop = flop_of(cell, sum(map(len, series)), series[0].shape[1], VOWELS_UNITS, first=True)
        rows = [
            row_of("vowels", cell, VOWELS_BATCH, len(series), flop, r, t)
            for r, t in zip(racers, times, strict=True)
        ]
        yield [{**row, "data": origin} for row in rows]


# --- results ---------------------------------------------------------------------------------------------------------

JOBS = {"imdb": run_imdb, "vowels": run_vowels}


def best_rows(rows: Sequence[dict[str, Any]]) -> dict[tuple, dict[str, dict[str, Any]]]:
    """The fastest mode of each library, for each job, cell and batch size."""
    best: dict[tuple, dict[str, dict[str, Any]]] = {}
    for row in rows:
        place = best.setdefault((row["job"], row["cell"], row["batch_size"]), {})
        known = place.get(row["library"])
        if known is None or row["epoch_s"] < known["epoch_s"]:
            place[row["library"]] = row
    return best


def target_of(job: str, cell: str) -> float:
    return IMDB_TARGETS[cell] if job == "imdb" else VOWELS_TARGET


def markdown(rows: Sequence[dict[str, Any]], info: dict[str, Any]) -> str:
    lines = []
    for (job, cell, batch), place in best_rows(rows).items():
        ours = place.get("fastrnn")
        for library, row in place.items():
            if library == "fastrnn" and len(place) > 1:
                continue
            ratio, met = "", ""
            if ours is not None and row is not ours:
                value, target = row["epoch_s"] / ours["epoch_s"], target_of(job, cell)
                ratio, met = f"{value:.2f}", f"{'yes' if value >= target else 'NO'} (>= {target:g})"
            mine = "" if ours is None else f"{ours['epoch_s']:.3g}"
            name = f"{library} {row['mode']}".strip()
            theirs = "" if row is ours else f"{row['epoch_s']:.3g} ({name})"
            per_sample = "" if ours is None else f"{ours['us_per_sample']:.3g}"
            most = (
                ""
                if row is ours
                else f"{row['epoch_s'] * info['micro_kernel_gflops'] * 1e9 / row['flop']:.2f}"
            )
            lines.append((job, cell, batch, row["samples"], mine, theirs, per_sample, ratio, met, most))
    head = (
        "job",
        "cell",
        "batch",
        "samples",
        "fastrnn, s an epoch",
        "peer, s an epoch",
        "fastrnn, us a sample",
        "ratio",
        "met?",
        "ratio of the products alone, at the micro-kernel's speed",
    )
    return "\n".join([described(info), "", *table(head, lines)]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epochs", description=__doc__.split("\n\n")[0])
    parser.add_argument("jobs", nargs="*", metavar="job", help=f"any of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--libraries", nargs="+", default=("fastrnn", "keras-jax", "torch"))
    parser.add_argument("--samples", type=int, default=20_000, help="imdb: number of reviews (default 20000)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCHES, help="imdb (default 10 128)")
    parser.add_argument("--epochs", type=int, default=10, help="vowels: epochs of one fit (default 10)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs or fits of each library (default 3)")
    parser.add_argument(
        "--folder", type=Path, default=None, help="vowels: the data (default: the folder FASTRNN_DATA)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    unknown = set(args.jobs) - set(JOBS)
    if unknown:
        parser.error(f"unknown jobs {sorted(unknown)}; choose from {list(JOBS)}")
    info = {**environment(), "micro_kernel_gflops": micro_kernel_peak(threads=thread_counts()[-1])}
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for job in args.jobs or JOBS:
        for new in JOBS[job](args):
            rows += new
            for row in new:
                name = f"{row['library']} {row['mode']}".strip()
                print(
                    f"{job} {row['cell']}, batch {row['batch_size']}: {name} {row['epoch_s']:.3g} s",
                    flush=True,
                )
            (args.out / "epochs.json").write_text(
                json.dumps({"environment": info, "rows": rows}, indent=1) + "\n"
            )
            (args.out / "epochs.md").write_text(markdown(rows, info))
    print(markdown(rows, info))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Networks trained on real data: python -m benchmarks.real_data [vowels sms imdb authorship]

Japanese vowels (ragged, RNNClassifier, five seeds), SMS spam, IMDB reviews and the Federalist papers in the published
set-ups (Sequential). Each job writes its curves and times to benchmarks/results/: <job>.json, <job>.csv, <job>.png;
real_data.md summarises all of these files. The data are read from the folder that FASTRNN_DATA names.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import environment
from examples import authorship
from fastrnn import RNNClassifier, Sequential, datasets, layers, set_random_seed
from fastrnn.preprocessing import StandardScaler3D
from fastrnn.text import Tokenizer, pad_sequences

RESULTS = Path(__file__).parent / "results"
LAYERS: dict[str, Callable[[int], Any]] = {
    "simple_rnn": layers.SimpleRNN,
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "bilstm": lambda units: layers.Bidirectional(layers.LSTM(units)),
}
NAMES = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU", "bilstm": "Bidirectional(LSTM)"}
#: What the table is compared with.
FIGURES = (
    "Published, from single runs: SMS spam SimpleRNN .9722, LSTM .9641; IMDB SimpleRNN .846, LSTM .893, bidirectional LSTM "
    "on reversed text .886; Federalist papers .94 with windows held back. The Federalist papers need the published "
    "units, windows and epochs for that (`--full`): the example has fewer by default."
)
#: The networks of each published set-up.
PUBLISHED = {"sms": ("simple_rnn", "lstm"), "imdb": ("simple_rnn", "lstm", "bilstm")}


# --- the jobs --------------------------------------------------------------------------------------------------------


def vowels(seed: int = 0, *, folder: Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Classify speakers: 270 training and 370 test series of 7 to 29 steps, 9 speakers."""
    data = datasets.load_japanese_vowels(folder)
    scaler = StandardScaler3D().fit(data.X_train)
    X_train, X_test = scaler.transform(data.X_train), scaler.transform(data.X_test)
    settings = {
        "cell": "gru",
        "units": 100,
        "dropout": 0.2,
        "learning_rate_init": 0.003,
        "batch_size": 32,
        "max_iter": 60,
        "tol": None,
        **overrides,
    }
    start = time.perf_counter()
    model = RNNClassifier(random_state=seed, **settings).fit(X_train, data.y_train)
    seconds = time.perf_counter() - start
    return {
        "settings": settings,
        "seed": seed,
        "test_accuracy": float(model.score(X_test, data.y_test)),
        "fit_s": seconds,
        "curves": {"loss": list(map(float, model.loss_curve_))},
    }


def token_network(
    cell: str, vocabulary: int, embedding: int, units: int, optimizer: str, seed: int, threads: int | None
) -> Sequential:
    set_random_seed(seed)
    model = Sequential(
        [
            layers.Embedding(vocabulary, embedding),
            LAYERS[cell](units),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.layers[1].n_threads = threads
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model


def fit_text(model: Sequential, x: np.ndarray, y: np.ndarray, **fit: Any) -> dict[str, Any]:
    start = time.perf_counter()
    history = model.fit(x, y, **fit)
    seconds = time.perf_counter() - start
    curves = {name: list(map(float, values)) for name, values in history.history.items()}
    return {
        "settings": {key: value for key, value in fit.items() if key != "verbose"},
        "best_val_accuracy": max(curves["val_accuracy"]),
        "fit_s": seconds,
        "epoch_s": seconds / len(curves["loss"]),
        "curves": curves,
    }


def sms(
    cell: str = "simple_rnn",
    seed: int = 0,
    *,
    epochs: int = 10,
    folder: Path | None = None,
    verbose: int = 0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Classify spam: 100 words, length 50, Embedding 20, 64 units, Adam, batch 128; the last fifth is for validation.

    Rarer words become one token. Dropping them instead lowers the accuracy by about .003; the published accuracy of a
    single run is then within the range over seeds instead of below its mean.
    """
    texts, y = datasets.load_sms_spam(folder)
    tokenizer = Tokenizer(num_words=100, oov_token="<rare>")
    tokenizer.fit_on_texts(texts)
    x = pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=50)
    model = token_network(cell, 100, 20, 64, "adam", seed, threads)
    done = fit_text(model, x, y, batch_size=128, epochs=epochs, validation_split=0.2, verbose=verbose)
    return {"cell": cell, "seed": seed, **done}


def imdb(
    cell: str = "simple_rnn",
    seed: int = 0,
    *,
    epochs: int = 10,
    folder: Path | None = None,
    verbose: int = 0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Classify reviews: 10,000 words, length 500, Embedding 32, 32 units, RMSprop, batch 128, a fifth for validation.

    As in Keras's own copy of the data, rarer words are one token. As published, the bidirectional network reads reversed
    reviews: their first 500 words, from the last of these to the first.
    """
    texts, y = datasets.load_imdb("train", folder)
    tokenizer = Tokenizer(num_words=10000, oov_token="<rare>")
    tokenizer.fit_on_texts(texts)
    rows = tokenizer.texts_to_sequences(texts)
    x = pad_sequences([row[::-1] for row in rows] if cell == "bilstm" else rows, maxlen=500)
    order = np.random.default_rng(seed).permutation(len(x))  # the file is sorted by class
    model = token_network(cell, 10000, 32, 32, "rmsprop", seed, threads)
    fit = {"batch_size": 128, "epochs": epochs, "validation_split": 0.2, "verbose": verbose}
    return {"cell": cell, "seed": seed, **fit_text(model, x[order], y[order], **fit)}


# --- results ---------------------------------------------------------------------------------------------------------


def write_curves(path: Path, curves: dict[str, list[float]]) -> None:
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", *curves])
        rows.writerows(
            [i, *map("{:.6g}".format, values)]
            for i, values in enumerate(zip(*curves.values(), strict=True), start=1)
        )


def draw_curves(path: Path, curves: dict[str, list[float]], title: str) -> None:
    from matplotlib import pyplot

    from fastrnn.plotting import plot_learning_curves

    axes = plot_learning_curves(curves, title=title)
    axes[0].figure.savefig(path, dpi=110)
    pyplot.close(axes[0].figure)


def keep(
    name: str,
    result: dict[str, Any],
    curves: dict[str, list[float]],
    out: Path,
    draw: Callable[[Path], None] | None = None,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), **result}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    write_curves(out / f"{name}.csv", curves)
    if draw is None:
        draw_curves(out / f"{name}.png", curves, name.replace("_", " "))
    else:
        draw(out / f"{name}.png")


def run_vowels(args: argparse.Namespace) -> None:
    runs = [vowels(seed, folder=args.folder, n_jobs=args.threads) for seed in range(args.seeds or 5)]
    accuracy = [run["test_accuracy"] for run in runs]
    curves = {f"seed {run['seed']}": run["curves"]["loss"] for run in runs}
    summary = {
        "settings": runs[0]["settings"],
        "test_accuracy": accuracy,
        "mean": float(np.mean(accuracy)),
        "std": float(np.std(accuracy)),
        "fit_s": [run["fit_s"] for run in runs],
    }
    keep("vowels", summary, {"loss": list(np.mean(list(curves.values()), axis=0))}, args.out)


def run_text(job: Any, args: argparse.Namespace) -> None:
    for cell in args.cells or PUBLISHED[job.__name__]:
        options = {
            "epochs": args.epochs, "folder": args.folder, "verbose": args.verbose, "threads": args.threads,
        }  # fmt: skip
        runs = [job(cell, seed, **options) for seed in range(args.seeds or 1)]
        best = [run["best_val_accuracy"] for run in runs]
        result = {**runs[0], "best_val_accuracy": best, "fit_s": [run["fit_s"] for run in runs]}
        result["curves"] = dict(runs[0]["curves"])
        for run in runs[1:]:
            result["curves"] |= {
                f"{name}, seed {run['seed']}": values
                for name, values in run["curves"].items()
                if name.startswith("val")
            }
        keep(f"{job.__name__}_{cell}", result, runs[0]["curves"], args.out)


def run_authorship(args: argparse.Namespace) -> None:
    setup = authorship.FULL if args.full else authorship.DEFAULT
    result = authorship.study(args.folder, setup, verbose=args.verbose, threads=args.threads)
    curves = {
        f"{split}_{name}": values
        for split in ("window", "paper")
        for name, values in result[f"{split}_split"]["curves"].items()
    }
    name = "authorship_full" if args.full else "authorship"
    keep(name, result, curves, args.out, draw=lambda path: authorship.draw(path, result))


JOBS = {
    "vowels": run_vowels,
    "sms": lambda args: run_text(sms, args),
    "imdb": lambda args: run_text(imdb, args),
    "authorship": run_authorship,
}


# --- the summary -----------------------------------------------------------------------------------------------------


def rows_of(name: str, result: dict[str, Any]) -> list[tuple[str, str, str, float]]:
    """Job, measure, value and seconds of fitting, for each row of the table."""
    if name == "vowels":
        measure = f"{result['mean']:.4f} +- {result['std']:.4f}"
        seeds = len(result["test_accuracy"])
        return [
            (
                f"Japanese vowels, GRU, {seeds} seeds",
                "test accuracy",
                measure,
                float(np.median(result["fit_s"])),
            )
        ]
    if name.startswith("authorship"):
        cell = f"SimpleRNN({result['settings']['units']})"
        return [
            (
                f"Federalist papers, {cell}, {what} held back",
                "accuracy on windows",
                f"{result[f'{what[:-1]}_split']['window_accuracy']:.4f}",
                result[f"{what[:-1]}_split"]["fit_s"],
            )
            for what in ("windows", "papers")
        ]
    title = "SMS spam" if name.startswith("sms") else "IMDB"
    cell = NAMES[result["cell"]]
    if name == "imdb_bilstm":
        cell += ", reversed text"
    # One run's results have numbers, those of several seeds have lists.
    best, seconds = np.atleast_1d(result["best_val_accuracy"]), float(np.median(result["fit_s"]))
    several = f" +- {best.std():.4f}" if len(best) > 1 else ""
    seeds = f", {len(best)} seeds" if len(best) > 1 else ""
    return [(f"{title}, {cell}{seeds}", "best val_accuracy", f"{best.mean():.4f}{several}", seconds)]


def describe_authorship(result: dict[str, Any]) -> str:
    setup = authorship.Setup(**result["settings"])
    kind = "the published set-up" if setup == authorship.FULL else "the example's defaults"
    return (
        f"{result['n_windows']:,} windows of {setup.width} characters, one at every {setup.stride}; {setup.epochs} epochs "
        f"in batches of {setup.batch_size}, {setup.units} units ({kind}). Published with every window and a random split "
        f"of them: .94.\n\n```\n{authorship.report(result)}\n```\n"
    )


def describe(out: Path) -> str:
    """The text of real_data.md, from the files of all jobs in the folder."""
    lines = ["| job | measure | value | fit, s | run |", "|---|---|---|---|---|"]
    names = ["vowels", *(f"{job}_{cell}" for job in ("sms", "imdb") for cell in LAYERS)]
    names += ["authorship", "authorship_full"]
    results = {
        name: json.loads((out / f"{name}.json").read_text())
        for name in names
        if (out / f"{name}.json").exists()
    }
    for name, result in results.items():
        info = result["environment"]
        run = f"{info['date']}, {info['commit']}, {info['load']:.1f}"
        for what, measure, value, seconds in rows_of(name, result):
            lines.append(f"| {what} | {measure} | {value} | {seconds:.1f} | {run} |")
    machines = {f"{r['environment']['cpu']}, {r['environment']['cores']} cores" for r in results.values()}
    text = (
        f"{'; '.join(sorted(machines))}. The last column is the day, the commit, and the load of the machine at the end: "
        f"where it exceeds the number of cores, the times are too long.\n\n{FIGURES}\n\n"
        + "\n".join(lines)
        + "\n"
    )
    for name, result in results.items():
        if name.startswith("authorship"):
            text += f"\n## {name.replace('_', ', ').capitalize()}\n\n{describe_authorship(result)}\n"
            text += f"![curves and votes]({name}.png)\n"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_data", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("jobs", nargs="*", metavar="job", help=f"any of {', '.join(JOBS)} (default: all)")
    parser.add_argument(
        "--cells",
        nargs="+",
        choices=LAYERS,
        default=None,
        help="for the texts (default: those of the set-up)",
    )
    parser.add_argument(
        "--full", action="store_true", help="authorship with every window, 20 epochs: ten times the work"
    )
    parser.add_argument(
        "--seeds", type=int, default=None, help="for the vowels (default 5) and the texts (default 1)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="for the texts (default 10)")
    parser.add_argument(
        "--folder", type=Path, default=None, help="the data (default: the folder FASTRNN_DATA)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    parser.add_argument("--threads", type=int, default=None, help="default: the number of free cores")
    parser.add_argument("--verbose", type=int, default=0)
    args = parser.parse_args(argv)
    unknown = set(args.jobs) - set(JOBS)
    if unknown:
        parser.error(f"unknown jobs {sorted(unknown)}; choose from {list(JOBS)}")
    for job in args.jobs or JOBS:
        JOBS[job](args)
        # After each job, so that an interrupted run keeps its results.
        (args.out / "real_data.md").write_text(describe(args.out))
    print(describe(args.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

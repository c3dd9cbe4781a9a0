"""Who wrote it, Hamilton or Madison? A character network reads the Federalist papers through windows of 30 characters.

An embedding, a SimpleRNN and a Dense(1) classify each window, and the windows of a paper vote on its author. The network
is trained twice. First as it is often published, on a random part of all windows: neighbouring windows share most of their
characters, so the held-out windows are nearly known, and their accuracy is too high. Then with whole papers held out, which
measures how well the network classifies new papers.

Both models vote on the five papers of the folder "unknown". Their heads name the author; the network does not see them, so
the votes can be checked. A network may prefer one author in all papers. The held-out papers show which fraction of the votes
separates the authors, and the votes are compared with this border too.

The papers are read from --data. Without it they are read from the folder that FASTRNN_DATA names, or downloaded once (1 MB,
extra "data"). Their heads, signatures and line breaks are left
out, because they would reveal the author. The defaults (every second window and 64 units) take a few minutes on two cores.
--full is the published set-up (all windows, SimpleRNN(256), 20 epochs in batches of 4096) and takes over ten times as long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from fastrnn import Sequential, layers
from fastrnn.datasets import DataNotFoundError, federalist_head, fetch_federalist, load_federalist
from fastrnn.text import Tokenizer, text_windows

AUTHORS = ("Hamilton", "Madison")  # the network's output is the probability of the second


class Setup(NamedTuple):
    """How the network is trained."""

    stride: int
    epochs: int
    batch_size: int
    units: int
    embedding: int = 100
    width: int = 30
    seed: int = 0


DEFAULT = Setup(stride=2, epochs=15, batch_size=512, units=64)
FULL = Setup(stride=1, epochs=20, batch_size=4096, units=256)
QUICK = Setup(stride=60, epochs=2, batch_size=256, units=32)


class Papers(NamedTuple):
    """Texts, their numbers among the 85 papers, and their authors: 0 is Hamilton, 1 is Madison."""

    texts: list[str]
    numbers: list[int]
    authors: NDArray


def read_papers(folder: Path | None) -> tuple[Papers, Papers]:
    """Papers of known authors and papers to attribute, in lower case, without heads and signatures.

    Both authors wrote three of the known papers together; these are in Madison's folder.
    """
    read = load_federalist if folder else fetch_federalist
    bodies = read(folder, body_only=True)
    heads = [list(map(federalist_head, group)) for group in read(folder, drop_author_line=False)]

    def papers(groups: Sequence[int], authors: Sequence[int]) -> Papers:
        texts = [text.lower() for i in groups for text in bodies[i]]
        return Papers(texts, [number or 0 for i in groups for number, _ in heads[i]], np.array(authors))

    known = papers((0, 1), [0] * len(bodies.hamilton) + [1] * len(bodies.madison))
    return known, papers((2,), [AUTHORS.index(names[-1].title()) for _, names in heads[2]])


def network(n_tokens: int, setup: Setup, threads: int | None = None) -> Sequential:
    model = Sequential(
        [
            layers.Embedding(n_tokens, setup.embedding),
            layers.SimpleRNN(setup.units),
            layers.Dense(1, activation="sigmoid"),
        ],
        seed=setup.seed,
    )
    model.layers[1].n_threads = threads
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def votes(model: Sequential, windows: Sequence[NDArray]) -> list[float]:
    """The fraction of each paper's windows that vote for Madison."""
    return [float(np.mean(model.predict(rows, batch_size=1024) > 0.5)) for rows in windows]


def study(folder: Path | None, setup: Setup, verbose: int = 0, threads: int | None = None) -> dict[str, Any]:
    """Train and test with both splits, and let both models vote on the unknown papers.

    Returns
    -------
    dict
        ``window_split`` and ``paper_split``, each with curves, the accuracy on windows held back, seconds, and the votes
        on the unknown papers; ``paper_split`` also with the votes on the papers held back.
    """
    known, unknown = read_papers(folder)
    tokenizer = Tokenizer(char_level=True, oov_token="<other>")
    tokenizer.fit_on_texts(known.texts)

    def cut(papers: Papers) -> list[NDArray]:
        rows = tokenizer.texts_to_sequences(papers.texts)
        return [text_windows(row, setup.width, setup.stride) for row in rows]

    by_paper, to_vote = cut(known), cut(unknown)
    windows = np.concatenate(by_paper)
    paper = np.repeat(np.arange(len(by_paper)), [len(rows) for rows in by_paper])
    y = known.authors[paper]
    papers_held_back = np.sort(
        train_test_split(
            np.arange(len(by_paper)), test_size=0.25, stratify=known.authors, random_state=setup.seed
        )[1]
    )
    splits = {
        "window_split": train_test_split(np.arange(len(y)), test_size=0.2, random_state=setup.seed)[1],
        "paper_split": np.flatnonzero(np.isin(paper, papers_held_back)),
    }
    result: dict[str, Any] = {
        "settings": setup._asdict(),
        "n_windows": len(y),
        "share_of_madison": float(y.mean()),
        "unknown": {"numbers": unknown.numbers, "authors": unknown.authors.tolist()},
    }
    for name, held_back in splits.items():
        trained = np.setdiff1d(np.arange(len(y)), held_back)
        model = network(tokenizer.vocabulary_size, setup, threads)
        if verbose:
            print(
                f"{name.replace('_', ' ')}: {len(trained):,} windows, {len(held_back):,} held back",
                flush=True,
            )
        start = time.perf_counter()
        history = model.fit(
            windows[trained],
            y[trained],
            batch_size=setup.batch_size,
            epochs=setup.epochs,
            validation_data=(windows[held_back], y[held_back]),
            validation_batch_size=1024,
            verbose=verbose,
        ).history
        result[name] = {
            "window_accuracy": history["val_accuracy"][-1],
            "fit_s": time.perf_counter() - start,
            "votes": votes(model, to_vote),
            "curves": {key: list(map(float, values)) for key, values in history.items()},
        }
    held = result["paper_split"]["held_back"] = {
        "numbers": [known.numbers[i] for i in papers_held_back],
        "authors": known.authors[papers_held_back].tolist(),
        "votes": votes(model, [by_paper[i] for i in papers_held_back]),
    }
    held["paper_accuracy"] = accuracy(held["votes"], held["authors"])
    unseen = (held["votes"] + result["paper_split"]["votes"], held["authors"] + unknown.authors.tolist())
    result["paper_split"]["auc_of_unseen_papers"] = float(roc_auc_score(unseen[1], unseen[0]))
    for name in splits:
        result[name]["unknown_accuracy"] = accuracy(result[name]["votes"], unknown.authors)
    return result


def accuracy(shares: Sequence[float], authors: Any, border: float = 0.5) -> float:
    """Fraction of papers on the right author's side of the border."""
    return float(np.mean((np.array(shares) > border) == np.array(authors)))


def border_of(held_back: Mapping[str, Any]) -> float:
    """The fraction of votes for Madison halfway between the two authors' means over the papers held back."""
    shares, authors = np.array(held_back["votes"]), np.array(held_back["authors"])
    return float((shares[authors == 0].mean() + shares[authors == 1].mean()) / 2)


# --- report and picture ----------------------------------------------------------------------------------------------


def vote_table(
    title: str, papers: Mapping[str, Any], shares: Sequence[float], border: float | None = None
) -> list[str]:
    """A line for each paper: fractions of the votes, margin, majority, and the author by the border if it is given."""
    head = f"{title:<22}{'Hamilton':>10}{'Madison':>10}{'margin':>9}   {'majority':<10}"
    lines = [head + ("" if border is None else f"{f'> {border:.1%}':<10}") + "in truth"]
    for number, share, author in zip(papers["numbers"], shares, papers["authors"], strict=True):
        verdicts = [share > 0.5] + ([] if border is None else [share > border])
        names = "".join(
            f"{AUTHORS[verdict] + (' ' if verdict == author else '*'):<10}" for verdict in verdicts
        )
        lines.append(
            f"  No. {number:<16}{1 - share:>10.1%}{share:>10.1%}{abs(2 * share - 1):>9.1%}   {names}{AUTHORS[author]}"
        )
    return lines


def report(result: Mapping[str, Any]) -> str:
    window, paper, unknown = result["window_split"], result["paper_split"], result["unknown"]
    held = paper["held_back"]
    border = border_of(held)
    most = max(result["share_of_madison"], 1 - result["share_of_madison"])
    by_border = accuracy(paper["votes"], unknown["authors"], border)
    lines = [
        f"{'held back':<22}{'windows right':>14}{'papers right':>14}{'unknown right':>15}{'fit, s':>9}",
        f"{'windows (leaks)':<22}{window['window_accuracy']:>14.1%}{'-':>14}"
        f"{window['unknown_accuracy']:>15.0%}{window['fit_s']:>9.1f}",
        f"{'papers':<22}{paper['window_accuracy']:>14.1%}{held['paper_accuracy']:>14.0%}"
        f"{paper['unknown_accuracy']:>15.0%}{paper['fit_s']:>9.1f}",
        f"{'  by the border':<22}{'':>14}{'':>14}{by_border:>15.0%}",
        f"{'the commoner author':<22}{most:>14.1%}",
        "",
        *vote_table("paper held back", held, held["votes"]),
        "",
        *vote_table("unknown, paper split", unknown, paper["votes"], border),
        "",
        *vote_table("unknown, window split", unknown, window["votes"]),
        "",
        "* is wrong. The border is halfway between the two authors' mean fractions over the papers held back.",
        "Of all pairs of unseen papers, one by each author, Madison's paper has more votes for Madison in "
        f"{paper['auc_of_unseen_papers']:.0%}.",
    ]
    return "\n".join(lines)


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draw accuracies by epoch for both splits, and the votes on the unknown papers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (curves, bars) = pyplot.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
    splits = (("window_split", "windows (leaks)", "C1"), ("paper_split", "papers", "C0"))
    for name, label, color in splits:
        of = result[name]["curves"]
        epochs = np.arange(1, len(of["accuracy"]) + 1)
        curves.plot(epochs, of["accuracy"], color=color, alpha=0.6, label=f"{label}: training")
        curves.plot(epochs, of["val_accuracy"], "--", marker=".", color=color, label=f"{label}: validation")
    most = max(result["share_of_madison"], 1 - result["share_of_madison"])
    curves.axhline(most, color="grey", linewidth=0.8, linestyle=":", label="the commoner author")
    curves.set(title="Windows of 30 characters", xlabel="epoch", ylabel="accuracy")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.legend(frameon=False, fontsize=8, title="held back")

    held, unknown = result["paper_split"]["held_back"], result["unknown"]
    n, n_held = len(unknown["numbers"]), len(held["numbers"])
    at, at_held = np.arange(n), n + 0.6 + np.arange(n_held)
    for shift, (name, label, color) in zip((-0.2, 0.2), splits, strict=True):
        lean = 100 * np.array(result[name]["votes"]) - 50
        bars.barh(at + shift, lean, 0.38, left=50, color=color, label=label)
    bars.barh(at_held, 100 * np.array(held["votes"]) - 50, 0.6, left=50, color="C0")
    names = [
        f"No. {number}, {AUTHORS[author]}"
        for part in (unknown, held)
        for number, author in zip(part["numbers"], part["authors"], strict=True)
    ]
    bars.set_yticks([*at, *at_held], names, fontsize=8)
    bars.invert_yaxis()
    bars.axvline(50, color="black", linewidth=0.8)
    border = 100 * border_of(held)
    bars.axvline(
        border, color="C0", linewidth=1, linestyle="--", label=f"border of the papers, {border:.1f}%"
    )
    bars.axhline(n - 0.2, color="grey", linewidth=0.8, linestyle=":")
    shares = [*result["window_split"]["votes"], *result["paper_split"]["votes"], *held["votes"]]
    reach = 100 * max(abs(share - 0.5) for share in shares) + 3
    bars.set(
        title="The unknown papers (above the line) and those held back",
        xlabel="\N{LEFTWARDS ARROW} Hamilton    share of windows for Madison, %    Madison \N{RIGHTWARDS ARROW}",
        xlim=(50 - reach, 50 + reach),
    )
    bars.legend(frameon=False, fontsize=8, loc="best", title="model of the split by")
    for ax in (curves, bars):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="the published set-up: every window, 20 epochs")
    size.add_argument("--quick", action="store_true", help="few windows, a small network: a trial run")
    for name, what in (
        ("stride", "characters from a window to the next"),
        ("epochs", "of each training"),
        ("batch-size", "windows in a batch"),
        ("units", "of the recurrent layer"),
        ("seed", "of the splits and the first weights"),
    ):
        default = getattr(DEFAULT, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=None, help=f"{what} (default: {default})")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder with the folder federalist (default: FASTRNN_DATA, or downloaded)",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    args = parser.parse_args(argv)
    setup = FULL if args.full else QUICK if args.quick else DEFAULT
    chosen = {name: getattr(args, name, None) for name in Setup._fields}
    setup = setup._replace(**{name: value for name, value in chosen.items() if value is not None})
    for name in ("stride", "epochs", "batch_size", "units"):
        if getattr(setup, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(setup, name)}: give a number of at least 1")
    try:
        result = study(args.data, setup, verbose=2)
    except (DataNotFoundError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{report(result)}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "authorship.png"
    draw(path, result)
    print(f"\npicture: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Is a movie review positive? Embedding -> SimpleRNN, LSTM, GRU or a bidirectional LSTM on the reversed text -> Dense(1).

The set-up is the well-known one: 25,000 reviews, the 10,000 most frequent words, the last 500 words of each review,
RMSprop, 20% of the reviews for validation. Prints a row for each epoch, the accuracy on the test set, and the network's
scores of single words and phrases. Writes a picture of the learning curves.

The reviews are read from --data. Without it they are read from the folder that FASTRNN_DATA names, or downloaded once
(84 MB, extra "data"). The defaults (SimpleRNN, batches of 128) take a minute or two on two cores, half of it reading and
counting words; --cell lstm and gru take about twice as long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import Sequential, callbacks, layers
from fastrnn.datasets import DataNotFoundError, fetch_imdb, load_imdb
from fastrnn.plotting import plot_learning_curves
from fastrnn.text import Tokenizer, pad_sequences

CELLS = {
    "simple_rnn": layers.SimpleRNN,
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "bilstm": lambda units: layers.Bidirectional(layers.LSTM(units)),
}

PHRASES = (
    ("good", "not good", "not very good", "bad", "not bad", "not bad at all"),
    ("i loved this movie", "i wanted to love this movie", "everybody loved this movie but me"),
    ("a great cast and a boring plot", "a boring plot but a great cast"),
    ("i have never seen a better film", "i have never seen a worse film"),
)


class Reviews(NamedTuple):
    """Texts, their labels, and the settings that convert texts to rows of tokens."""

    texts: list[str]
    y: NDArray
    tokenizer: Tokenizer
    n_steps: int
    backwards: bool

    def encode(self, texts: Sequence[str]) -> NDArray:
        """Rows of the last `n_steps` tokens; of a reversed text, these are the first words, last word first."""
        return self.pad(self.tokenizer.texts_to_sequences(texts))

    def pad(self, rows: Sequence[Sequence[int]]) -> NDArray:
        return pad_sequences([row[::-1] if self.backwards else row for row in rows], maxlen=self.n_steps)


def read(split: str, n: int | None, folder: Path | None, seed: int) -> tuple[list[str], NDArray]:
    """`n` reviews in random order: the file is sorted by class."""
    texts, y = load_imdb(split, folder) if folder else fetch_imdb(split)
    order = np.random.default_rng(seed).permutation(len(texts))[:n]
    return [texts[i] for i in order], y[order]


class EpochTable(callbacks.Callback):
    """Prints a row at the end of each epoch and keeps its seconds."""

    def on_train_begin(self, logs=None):
        self.seconds: list[float] = []
        names = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
        print("".join(f"{name:>14}" for name in names))

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)
        cells = "".join(f"{logs[name]:>14.4f}" for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        print(f"{epoch + 1:>14}{cells}{self.seconds[-1]:>14.2f}", flush=True)


def first_step_seconds(model: Sequential, x: NDArray, y: NDArray) -> float:
    """Time by which a first step and prediction exceed the second ones, measured on a copy of the model.

    It is the time to compile the kernels, or to load them from disk in later runs.
    """
    twin = model.copy()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        twin.train_on_batch(x, y)
        twin.predict_on_batch(x)
        seconds.append(time.perf_counter() - start)
    return max(0.0, seconds[0] - seconds[1])


def excerpt(text: str, backwards: bool, n_words: int = 22) -> str:
    """The part of a review that the network has read last."""
    words = text.replace("<br />", " ").split()
    if len(words) <= n_words:
        return " ".join(words)
    return " ".join(words[:n_words]) + " ..." if backwards else "... " + " ".join(words[-n_words:])


def show_reviews(title: str, reviews: Reviews, p: NDArray, rows: Sequence[int]) -> None:
    print(f"\n{title}")
    for i in rows:
        side = "positive" if reviews.y[i] else "negative"
        print(f"  {p[i]:.3f} ({side})  {excerpt(reviews.texts[i], reviews.backwards)}")


def turning_points(model: Sequential, reviews: Reviews, text: str, n: int) -> list[tuple[str, float, float]]:
    """The `n` words that change the estimate most as the text grows: their contexts, estimates before and after."""
    words = reviews.tokenizer.texts_to_sequences([text])[0]
    p = model.predict(reviews.pad([words[:k] for k in range(len(words) + 1)]))[:, 0]
    name = reviews.tokenizer.index_word
    found = []
    for k in np.sort(np.argsort(-np.abs(np.diff(p)))[:n]):
        context = " ".join([name[word] for word in words[max(0, k - 5) : k]] + [name[words[k]].upper()])
        found.append((context, float(p[k]), float(p[k + 1])))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=CELLS, default="simple_rnn", help="default: simple_rnn")
    parser.add_argument("--epochs", type=int, default=None, help="default: 10")
    parser.add_argument("--batch-size", type=int, default=128, help="default: 128; 10 in the older set-up")
    parser.add_argument("--units", type=int, default=32, help="default: 32")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the order and of the initial weights (default: 0)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder with imdb.jsonl.gz (default: FASTRNN_DATA, or downloaded)",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    parser.add_argument(
        "--quick", action="store_true", help="1,000 reviews of 80 words, 2 epochs: a trial run"
    )
    args = parser.parse_args(argv)
    for name in ("epochs", "batch_size", "units"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value}: give a number of at least 1")
    n, n_words, n_steps = (1000, 2000, 80) if args.quick else (None, 10000, 500)
    epochs = args.epochs or (2 if args.quick else 10)

    start = time.perf_counter()
    try:
        texts, y = read("train", n, args.data, args.seed)
    except (DataNotFoundError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    tokenizer = Tokenizer(num_words=n_words, oov_token="<rare>")  # rarer words are one token
    tokenizer.fit_on_texts(texts)
    reviews = Reviews(texts, y, tokenizer, n_steps, backwards=args.cell == "bilstm")
    x = reviews.encode(texts)
    print(f"{len(x):,} reviews read and made into tokens in {time.perf_counter() - start:.1f} s")

    model = Sequential(
        [layers.Embedding(n_words, 32), CELLS[args.cell](args.units), layers.Dense(1, activation="sigmoid")],
        seed=args.seed,
    )
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    model.build((None, n_steps))
    model.summary()
    jit = first_step_seconds(model, x[: args.batch_size], y[: args.batch_size])
    table = EpochTable()
    best = callbacks.EarlyStopping("val_accuracy", patience=epochs, restore_best_weights=True)
    history = model.fit(
        x,
        y,
        batch_size=args.batch_size,
        epochs=epochs,
        validation_split=0.2,
        callbacks=[table, best],
        verbose=0,
    ).history
    test_texts, test_y = read("test", n, args.data, args.seed)
    accuracy = model.evaluate(reviews.encode(test_texts), test_y, batch_size=256)[1]
    print(
        f"\nbest val_accuracy  {max(history['val_accuracy']):.4f} in epoch {best.best_epoch + 1}\n"
        f"test accuracy      {accuracy:.4f} with the weights of that epoch, {len(test_y):,} other reviews\n"
        f"seconds an epoch   {np.median(table.seconds):.2f}, validation included\n"
        f"seconds of JIT     {jit:.2f} before the first step (compilation, or loading from disk)"
    )

    n_train = len(x) - len(x) // 5
    learn_from(model, reviews._replace(texts=texts[n_train:], y=y[n_train:]))
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"sentiment_{args.cell}.png"
    draw(path, history, f"{args.cell}, {args.units} units, batches of {args.batch_size}")
    print(f"\npicture: {path}")
    return 0


def learn_from(model: Sequential, reviews: Reviews) -> None:
    """Print the network's scores of validation reviews and of phrases."""
    p = model.predict(reviews.encode(reviews.texts))[:, 0]
    order = np.argsort(p)
    end = "beginnings" if reviews.backwards else "ends"
    show_reviews(f"the most positive validation reviews, by their {end}", reviews, p, order[: -3 - 1 : -1])
    show_reviews("the most negative", reviews, p, order[:3])
    show_reviews("the surest mistakes", reviews, p, np.argsort(-np.abs(p - reviews.y))[:3])

    print("\nscores of single phrases")
    for group in PHRASES:
        for phrase, value in zip(group, model.predict(reviews.encode(group))[:, 0], strict=True):
            print(f"  {value:.3f}  {phrase}")

    short = np.array([len(text) <= 1200 for text in reviews.texts])
    mixed = int(np.argmin(np.where(short, np.abs(p - 0.5), 1)))
    side = "positive" if reviews.y[mixed] else "negative"
    print(
        f"\nthe short review it is least sure of ({p[mixed]:.3f}, {side}): words that moved the estimate most"
    )
    for context, before, after in turning_points(model, reviews, reviews.texts[mixed], 8):
        print(f"  {before:.3f} -> {after:.3f}  {context}")


def draw(path: Path, history: dict[str, list[float]], title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = plot_learning_curves(history, title=title)
    axes[0].figure.savefig(path, dpi=120)
    pyplot.close(axes[0].figure)


if __name__ == "__main__":
    raise SystemExit(main())

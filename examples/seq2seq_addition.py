"""Addition as translation: "535+61" in, "596" out, character by character.

The task is an example of the Keras site: sums of two numbers of up to three digits, with the question reversed. An encoder
reads the question, and a decoder writes the answer, in one of two forms:

states
    The decoder starts from the encoder's final states (`EncoderDecoder`). In training its inputs are the right answer,
    shifted by one character; in validation they are its own outputs.
repeat
    The decoder's input at every step is the encoder's last output (`RepeatVector`), without its own outputs. This is the
    form on the Keras site.

After each epoch two accuracies on questions outside the training set are printed: that of single characters, which the
Keras site reports, and that of whole answers. At the end, the accuracy by the length of the numbers and some answers are
printed. Writes a picture of the learning curves. Takes some minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastrnn import EncoderDecoder, Sequential, layers, optimizers, schedules
from fastrnn.callbacks import Callback
from fastrnn.plotting import plot_learning_curves

CHARACTERS = "0123456789+ "
#: The decoder's first input: a token that stands for no character.
START = len(CHARACTERS)
EPOCHS = {"states": 12, "repeat": 20}


def encode(texts: Sequence[str], length: int) -> NDArray:
    """Tokens ``(n, length)`` of texts padded with spaces."""
    return np.array([[CHARACTERS.index(c) for c in text.ljust(length)] for text in texts])


def decode(tokens: NDArray) -> str:
    """The text of tokens, without the spaces around it."""
    return "".join(CHARACTERS[t] for t in tokens).strip()


def sums(n: int, digits: int, seed: int) -> NDArray:
    """`n` pairs of numbers of 1 to `digits` digits; no pair occurs twice, in either order."""
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    while len(found) < n:
        a, b = (int(rng.integers(10 ** rng.integers(1, digits + 1))) for _ in range(2))
        found.setdefault((min(a, b), max(a, b)), (a, b))
    # Pairs of short numbers are found early. Shuffle, so that training and validation have the same fraction of them.
    return rng.permutation(list(found.values()))


def make(form: str, units: int, n_answer: int, seed: int) -> EncoderDecoder | Sequential:
    """The network, not yet compiled."""
    n = len(CHARACTERS)
    reader = [layers.Embedding(n, 32), layers.LSTM(units)]
    end = layers.Dense(n, activation="softmax")
    if form == "states":
        writer = [layers.Embedding(n + 1, 32), layers.LSTM(units), end]
        return EncoderDecoder(reader, writer, start=START, seed=seed)
    writer = [layers.RepeatVector(n_answer), layers.LSTM(units, return_sequences=True), end]
    return Sequential([*reader, *writer], seed=seed)


def whole_answer(y_true: NDArray, y_pred: NDArray) -> NDArray:
    """Whether all characters of an answer are right."""
    return (y_true == y_pred.argmax(axis=-1)).all(axis=-1)


class Report(Callback):
    """Prints a line for each epoch."""

    def on_train_begin(self, logs=None):
        self.start = time.perf_counter()
        print("epoch     loss   validation: loss   characters   whole answers   seconds")

    def on_epoch_end(self, epoch, logs=None):
        print(
            f"{epoch + 1:5d}{logs['loss']:9.4f}{logs['val_loss']:19.4f}{logs['val_accuracy']:13.2%}"
            f"{logs['val_whole_answer']:16.2%}{time.perf_counter() - self.start:10.1f}",
            flush=True,
        )


def report(pairs: NDArray, answers: Sequence[str]) -> None:
    """Print the fraction of right answers by the length of the numbers, and some answers, wrong ones first."""
    right = np.array([answer == str(a + b) for answer, (a, b) in zip(answers, pairs, strict=True)])
    n_digits = np.char.str_len(pairs.max(axis=1).astype(str))
    print("\ndigits of the longer number   questions   whole answers right")
    for digits in np.unique(n_digits):
        chosen = n_digits == digits
        print(f"{digits:27d}{chosen.sum():12d}{right[chosen].mean():22.2%}")
    print()
    wrong_first = [*np.flatnonzero(~right)[:4], *np.flatnonzero(right)]
    for i in wrong_first[:10]:
        comment = "right" if right[i] else f"wrong, it is {pairs[i].sum()}"
        a, b = pairs[i]
        print(f"  {a}+{b} = {answers[i]}".ljust(20) + comment)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, report and draw; the exit code is 0 if at least 99% of the characters are right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    parser.add_argument("--form", choices=list(EPOCHS), default="states")
    parser.add_argument("--digits", type=int, default=3, help="of the largest numbers (default: 3)")
    parser.add_argument(
        "--questions", type=int, default=50_000, help="a tenth of them for validation (default: 50000)"
    )
    parser.add_argument("--units", type=int, default=128, help="of both LSTM layers (default: 128)")
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument(
        "--rate", type=float, default=0.004, help="learning rate at the start (default: 0.004)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a short run, only to check that the example works"
    )
    args = parser.parse_args(argv)
    if args.quick:
        args.digits, args.questions, args.units, args.epochs = 2, 2000, 48, 4
    epochs = args.epochs or EPOCHS[args.form]
    if not 0 < args.digits < 10 or not 10 <= args.questions <= 10 ** (2 * args.digits) // 4:
        parser.error("digits must be 1 to 9, questions 10 to half the number of possible sums")
    args.out.mkdir(parents=True, exist_ok=True)

    pairs = sums(args.questions, args.digits, args.seed)
    n_question, n_answer = 2 * args.digits + 1, args.digits + 1
    x = encode([f"{a}+{b}".ljust(n_question)[::-1] for a, b in pairs], n_question)
    y = encode([str(total) for total in pairs.sum(axis=1)], n_answer)
    held = len(x) // 10
    train, test = slice(0, -held), slice(-held, None)

    model = make(args.form, args.units, n_answer, args.seed)
    batch_size = 64
    n_updates = epochs * -(-(len(x) - held) // batch_size)
    model.compile(
        optimizers.Adam(schedules.CosineDecay(args.rate, n_updates)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy", whole_answer],
    )
    history = model.fit(
        x[train],
        y[train],
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(x[test], y[test]),
        callbacks=[Report()],
        verbose=0,
    )

    tokens = model.predict(x[test]).argmax(axis=-1)
    report(pairs[test], [decode(row) for row in tokens])
    characters, whole = (tokens == y[test]).mean(), (tokens == y[test]).all(axis=1).mean()
    print(f"\n{held} questions outside the training set: {characters:.2%} of the characters are right,")
    print(f"{whole:.2%} of the whole answers")

    axes = plot_learning_curves(history)
    for ax, title in zip(axes, ("Cross-entropy", "Single characters", "Whole answers"), strict=True):
        ax.set_title(title)
    axes[0].set_yscale("log")
    axes[1].set_ylabel("share that is right")
    axes[2].set_ylabel("share that is right")
    path = args.out / f"addition_{args.form}.png"
    axes[0].figure.savefig(path, dpi=120)
    print(f"picture: {path.resolve()}")
    return int(characters < 0.99 and not args.quick)


if __name__ == "__main__":
    raise SystemExit(main())

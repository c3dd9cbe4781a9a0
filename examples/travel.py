"""Train a model, and run it in onnxruntime, Keras, PyTorch and a C program with the same results.

Each image of 8 x 8 pixels is a sequence of its rows. The trained classifier is saved and loaded, then exported to each
installed library. The table shows the largest difference of the probabilities, and how many labels differ.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastrnn
from fastrnn import RNNClassifier, interop

Probabilities = NDArray[np.float32]

MAIN = """
#include <stdio.h>
#include "digits.h"
int main(int argc, char **argv) {
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    float x[DIGITS_N_INPUTS], y[DIGITS_N_OUTPUTS];
    digits_state s;
    int t = 0;
    if (argc != 3 || !in || !out) return 1;
    while (fread(x, sizeof x, 1, in) == 1) {
        if (t == 0) digits_reset(&s);
        digits_step(&s, x, y);
        if (++t == 8) { fwrite(y, sizeof y, 1, out); t = 0; }
    }
    fclose(in);
    return fclose(out);
}
"""


def train(n_epochs: int) -> tuple[RNNClassifier, NDArray, NDArray]:
    """A classifier, and images and labels outside its training set."""
    X, y = load_digits(return_X_y=True)
    X = (X.reshape(-1, 8, 8) / 16).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    model = RNNClassifier(
        cell="gru", units=32, max_iter=n_epochs, tol=None, learning_rate_init=0.003, random_state=0
    )
    return model.fit(X_train, y_train), X_test, y_test


def in_onnxruntime(model: RNNClassifier, X: NDArray, out: Path) -> Probabilities:
    import onnxruntime

    path = out / "digits.onnx"
    interop.to_onnx(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"x": X})[0]


def in_keras(model: RNNClassifier, X: NDArray, out: Path) -> Probabilities:
    import keras

    theirs = interop.to_keras(model)
    theirs.save(out / "digits.keras")
    again = interop.from_keras(out / "digits.keras")
    if not all(
        np.array_equal(a, b) for a, b in zip(again.get_weights(), model.model_.get_weights(), strict=True)
    ):
        raise AssertionError("the weights came back from the .keras file with other values")
    return keras.ops.convert_to_numpy(theirs(X))


def in_pytorch(model: RNNClassifier, X: NDArray, out: Path) -> Probabilities:
    import torch

    module = interop.to_torch(model)
    torch.save(module.state_dict(), out / "digits.pt")
    with torch.no_grad():
        return module(torch.tensor(X)).numpy()


def in_c(model: RNNClassifier, X: NDArray, out: Path) -> Probabilities:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ImportError("no C compiler")
    files = interop.to_c(model, out / "digits.c")
    (out / "main.c").write_text(MAIN)
    program = [compiler, "-std=c99", "-O2", "main.c", "digits.c", "-o", "digits", "-lm"]
    subprocess.run(program, cwd=out, check=True)
    (out / "images").write_bytes(X.tobytes())
    subprocess.run([str(out / "digits"), "images", "scores"], cwd=out, check=True)
    print(f"C: {files.weight_bytes} bytes of weights, {files.state_bytes} bytes of states")
    return np.frombuffer((out / "scores").read_bytes(), np.float32).reshape(len(X), -1)


PLACES: dict[str, Callable[[RNNClassifier, NDArray, Path], Probabilities]] = {
    "onnxruntime": in_onnxruntime,
    "Keras": in_keras,
    "PyTorch": in_pytorch,
    "C": in_c,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("travel"), help="folder for the files that are written"
    )
    parser.add_argument("--quick", action="store_true", help="train for 3 epochs only")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("KERAS_BACKEND", "torch")

    model, X, y = train(3 if given.quick else 40)
    model.save(given.out / "digits.fastrnn")
    here = model.predict_proba(X)
    loaded = fastrnn.load(given.out / "digits.fastrnn").predict_proba(X)
    print(f"accuracy on {len(X)} images: {model.score(X, y):.3f}\n")
    print("where            largest difference  labels that differ")
    print(
        f"{'saved, loaded':<16} {np.abs(loaded - here).max():>18.1e}  {(loaded.argmax(1) != here.argmax(1)).sum():>18}"
    )
    for place, score in PLACES.items():
        try:
            there = score(model, X, given.out)
        except ImportError as error:
            print(f"{place:<16} left out: {error}")
            continue
        differ = int((there.argmax(1) != here.argmax(1)).sum())
        print(f"{place:<16} {np.abs(there - here).max():>18.1e}  {differ:>18}")


if __name__ == "__main__":
    main()

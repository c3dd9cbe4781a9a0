"""Makes the models of the tests of files, and damages files so that only their content is wrong, not their checksum.

``python -m tests.saved_files`` writes ``golden/model_v1.fastrnn`` anew; it must stay as it is while version 1 is read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import Sequential, layers, optimizers, schedules

GOLDEN = Path(__file__).parent / "golden" / "model_v1.fastrnn"


def data(n=24, n_steps=6, n_features=3, dtype="float32"):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, n_steps, n_features)).astype(dtype), rng.integers(0, 3, n)


def rich_model(seed=3, optimizer="adam"):
    """Every kind of state: dropout's generators in wrappers and cells, a schedule, regularizers, metrics."""
    model = Sequential(
        [
            layers.Input((None, 3)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, dropout=0.2, recurrent_dropout=0.1)),
            layers.Dropout(0.3),
            layers.RNN(
                layers.StackedRNNCells([layers.GRUCell(3), layers.DropoutWrapper(layers.JANETCell(2), 0.8)])
            ),
            layers.Dense(3, activation="softmax", kernel_regularizer="l2", kernel_constraint="max_norm"),
        ],
        seed=seed,
    )
    rate = schedules.ExponentialDecay(0.01, 10, 0.9)
    made = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "sgd": optimizers.SGD}[optimizer](rate)
    model.compile(made, "crossentropy", metrics=["accuracy"])
    return model


def small_model(seed=0, units=2):
    model = Sequential([layers.Input((None, 1)), layers.GRU(units), layers.Dense(1)], seed=seed)
    model.compile("sgd", "mse")
    return model


def parts(path):
    """Header and tensors' bytes of a file."""
    raw = Path(path).read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path, change_content=None, change_metadata=None, body=None):
    """Change the contents of a file and correct its checksum, as an attacker would."""
    header, old = parts(path)
    metadata = header["__metadata__"]
    if change_content is not None:
        content = json.loads(metadata["content"])
        change_content(content)
        metadata["content"] = json.dumps(content, separators=(",", ":"))
    metadata["checksum"] = "0" * 64
    if change_metadata is not None:
        change_metadata(metadata, header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    raw = struct.pack("<Q", len(text)) + text + (old if body is None else body)
    if metadata.get("checksum") == "0" * 64:
        raw = raw.replace(
            b'"checksum":"' + b"0" * 64, b'"checksum":"' + hashlib.sha256(raw).hexdigest().encode()
        )
    Path(path).write_bytes(raw)


def golden_model():
    model = rich_model()
    x, y = data()
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    return model


if __name__ == "__main__":
    model = golden_model()
    fastrnn.save({"model": model, "x": data()[0], "y": model.predict(data()[0])}, GOLDEN)

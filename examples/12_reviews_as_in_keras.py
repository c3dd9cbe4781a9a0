"""
Movie reviews as in Keras
=========================

The bidirectional LSTM of Keras's examples for the IMDB reviews, in the same words: only the imports differ.

With ``--full`` the page trains on all 25,000 reviews for two epochs, which takes some minutes on two cores; it reads them
from the folder that ``FASTRNN_DATA`` names, or downloads them (84 MB). Otherwise it takes 2,000 reviews if they are at
hand. If they are not, it makes reviews of a few words, so that it runs anywhere.
"""

# %%
# The data
# --------
# The 20,000 most frequent words, and the last 200 words of each review. The files are sorted by class, so reviews are drawn
# in random order.
import sys

import numpy as np

from fastrnn import Sequential, layers
from fastrnn.datasets import DataNotFoundError, fetch_imdb, load_imdb
from fastrnn.plotting import LossCurveDisplay
from fastrnn.text import Tokenizer, pad_sequences

max_features = 20000
maxlen = 200
rng = np.random.default_rng(0)
full = "--full" in sys.argv
n, read = (25000, fetch_imdb) if full else (2000, load_imdb)


def made_reviews(count):
    """Reviews of a few words, where the data set is not at hand."""
    words = {0: ["dull", "weak", "flat", "silly"], 1: ["fine", "great", "moving", "funny"]}
    labels = rng.integers(0, 2, count)
    things = ["film", "story", "acting", "music", "ending", "script"]
    return [
        " ".join(f"a {rng.choice(words[k])} {rng.choice(things)}" for _ in range(rng.integers(2, 5)))
        for k in labels
    ], labels


def some_reviews(split):
    texts, labels = read(split)
    order = rng.permutation(len(texts))[:n]
    return [texts[i] for i in order], labels[order]


try:
    (train_texts, y_train), (val_texts, y_val) = some_reviews("train"), some_reviews("test")
except DataNotFoundError:
    if full:
        raise
    (train_texts, y_train), (val_texts, y_val) = made_reviews(400), made_reviews(100)
    maxlen = 12

tokenizer = Tokenizer(num_words=max_features, oov_token="<unk>")
tokenizer.fit_on_texts(train_texts)
x_train, x_val = (
    pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=maxlen) for texts in (train_texts, val_texts)
)
print(len(x_train), "training sequences,", len(x_val), "validation sequences")

# %%
# The model
# ---------
# Two bidirectional LSTMs; the first returns all steps, the second the last of each direction.
model = Sequential(
    [
        layers.Input(shape=(None,), dtype="int32"),
        layers.Embedding(max_features, 128),
        layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
        layers.Bidirectional(layers.LSTM(64)),
        layers.Dense(1, activation="sigmoid"),
    ],
    seed=0,
)
model.summary()

# %%
# Train and evaluate
# ------------------
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, batch_size=32, epochs=2, validation_data=(x_val, y_val), verbose=2)

# %%
LossCurveDisplay.from_history(history)

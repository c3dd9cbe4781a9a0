"""
Text
====

From strings to a classifier, with Keras's words for models: the review model of Keras's guide in small.

The same script on 25,000 real reviews is ``examples/sentiment_imdb.py``: it downloads the IMDB data set with
``fastrnn.datasets.fetch_imdb``, and trains SimpleRNN, LSTM, GRU or both directions. ``fetch_sms_spam`` and
``fetch_federalist`` bring two more sets of texts.
"""

# %%
# Tokens
# ------
# A handful of phrases, so that the page runs without a download. A tokenizer numbers the words by how often they
# occur; 0 is padding.
import tempfile
from pathlib import Path

import numpy as np

from fastrnn import RNNClassifier, Sequential, callbacks, layers, optimizers
from fastrnn.plotting import AttributionDisplay, LossCurveDisplay
from fastrnn.text import Tokenizer, pad_sequences

rng = np.random.default_rng(0)
good, bad = ["fine", "great", "moving", "funny"], ["dull", "weak", "flat", "silly"]
things = ["film", "story", "acting", "music", "ending", "script"]


def review(words):
    picked = [f"a {rng.choice(words)} {rng.choice(things)}" for _ in range(rng.integers(2, 5))]
    return ", ".join(picked)


labels = rng.integers(0, 2, 400)
texts = [review(good if label else bad) for label in labels]
tokenizer = Tokenizer(num_words=1000)
tokenizer.fit_on_texts(texts)
sequences = tokenizer.texts_to_sequences(texts)
tokens = pad_sequences(sequences, maxlen=12)
print(texts[0], "->", tokens[0])

# %%
# A model
# -------
# ``mask_zero=True`` hides the padding from all layers that follow.
folder = Path(tempfile.mkdtemp())
model = Sequential(
    [layers.Embedding(1000, 16, mask_zero=True), layers.LSTM(16), layers.Dense(1, activation="sigmoid")],
    seed=0,
)
model.compile(optimizer=optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(
    tokens,
    labels,
    epochs=8,
    validation_split=0.2,
    class_weight={0: 1.0, 1: 2.0},
    callbacks=[
        callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
        callbacks.ModelCheckpoint(folder / "best.fastrnn", save_best_only=True),
    ],
    verbose=0,
)
model.summary()

# %%
LossCurveDisplay.from_history(history)

# %%
# The same as an estimator
# ------------------------
# ``vocabulary_size`` makes the first layer an embedding. Sequences keep their own lengths; nothing is padded by hand.
classifier = RNNClassifier(
    cell="lstm",
    units=16,
    vocabulary_size=1000,
    embedding_dim=16,
    learning_rate_init=0.01,
    max_iter=8,
    tol=None,
)
X = [np.array(s) for s in sequences]
classifier.set_params(random_state=0).fit(X[:300], labels[:300])
print(f"accuracy {classifier.score(X[300:], labels[300:]):.2f}")

# %%
# Which words decided
# -------------------
words = {number: word for word, number in tokenizer.word_index.items()}
AttributionDisplay.from_estimator(
    classifier, X[300:], sample=0, labels=[words[t] for t in X[300]], random_state=0, title=texts[300]
)

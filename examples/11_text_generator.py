"""
A text generator
================

One character after the other: a network learns which character comes next, and a stream writes with it.

The text is the documentation of this library, which every installation has. Another text is one line away:
``text = Path("shakespeare.txt").read_text()``.
"""

# %%
# Characters
# ----------
import inspect

import numpy as np

from fastrnn import Sequential, callbacks, forecasting, layers, models, optimizers, streaming, text
from fastrnn.plotting import HiddenStateDisplay, LossCurveDisplay

documented = [
    streaming.Stream,
    models.Sequential,
    layers.Bidirectional,
    text.Tokenizer,
    forecasting.RNNForecaster,
]
documented += [callbacks.EarlyStopping, callbacks.ReduceLROnPlateau, layers.RNN, models.Model.fit]
corpus = "\n".join(inspect.getdoc(thing) for thing in documented)
alphabet = sorted(set(corpus))
token = {character: i for i, character in enumerate(alphabet)}
tokens = np.array([token[character] for character in corpus])
print(f"{len(corpus):,} characters, {len(alphabet)} different ones")

# %%
# Train
# -----
# Windows of 40 characters; the target of each step is the character that follows.
windows = np.lib.stride_tricks.sliding_window_view(tokens, 41)[::8]
model = Sequential(
    [
        layers.Embedding(len(alphabet), 32),
        layers.LSTM(128, return_sequences=True),
        layers.Dense(len(alphabet), activation="softmax"),
    ],
    seed=0,
)
model.compile(optimizers.Adam(0.005, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(windows[:, :-1], windows[:, 1:], epochs=16, batch_size=64, verbose=0)
LossCurveDisplay.from_history(history)

# %%
# Write
# -----
# The stream keeps the states. The temperature divides the logarithms of the probabilities: near 0 the most probable
# character is always taken, above 1 rare ones come more often.
rng = np.random.default_rng(0)


def write(start, n, temperature):
    stream = model.stream()
    written = start
    for character in start[:-1]:
        stream.step(np.array([token[character]]))
    for _ in range(n):
        probabilities = stream.step(np.array([token[written[-1]]]))[0].astype(np.float64)
        weights = probabilities ** (1 / temperature)
        written += alphabet[rng.choice(len(alphabet), p=weights / weights.sum())]
    return written


for temperature in (0.2, 0.7, 1.2):
    print(f"--- temperature {temperature}\n{write('The ', 160, temperature)}\n")

# %%
# What the units do while they read
# ---------------------------------
phrase = "Train for a number of epochs."
HiddenStateDisplay.from_estimator(model, np.array([[token[c] for c in phrase]]), labels=list(phrase))

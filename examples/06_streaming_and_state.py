"""
Streaming and state
===================

One time step at a time, long series in pieces, and states that go on from call to call, also by the names of series.
"""

# %%
# A stream
# --------
# ``step`` computes one time step and allocates no memory. The stream has a copy of the weights, and states of its
# own.
import numpy as np

from fastrnn import RNNClassifier, RNNRegressor, Sequential, layers, stateful_batches
from fastrnn.plotting import plot_forecast

model = Sequential([layers.Input((None, 3)), layers.GRU(32), layers.Dense(1)], seed=0)
x = np.random.default_rng(0).normal(size=(1, 50, 3)).astype("float32")
stream = model.stream(batch_size=1)
outputs = [stream.step(x[:, t]).copy() for t in range(50)]
print(np.abs(outputs[-1] - model.predict(x, verbose=0)).max())

# %%
# A stream of an estimator
# ------------------------
# It answers after each sample as ``predict`` or ``predict_proba`` would for the sequence so far, in the user's labels and
# units. Several series advance together; ``where`` leaves out those without a sample, and ``missing="skip"`` those whose
# sample is not finite. ``examples/sensor_stream.py`` shows its latency.
recordings = np.random.default_rng(0).normal(size=(200, 30, 2))
states = np.where(recordings[..., 0].cumsum(axis=1) > 0, "up", "down")[:, -1]
classifier = RNNClassifier(units=16, learning_rate_init=0.01, max_iter=20, tol=None, random_state=0)
classifier.fit(recordings, states)
live = classifier.stream(n_series=3, method="predict_proba", missing="skip")
for t in range(30):
    answers = live.step(recordings[:3, t])
print(np.abs(answers - classifier.predict_proba(recordings[:3])).max())
live.reset(rows=[1])
print(live.step(recordings[:3, 0], where=[False, True, False]).round(2))

# %%
# A long series in pieces
# -----------------------
# With ``stateful=True`` row i of a ``partial_fit`` goes on from the states at which row i of the call before stopped.
time = np.arange(2000)
series = np.sin(time / 15) + np.sin(time / 40)
piece = 100
model = RNNRegressor(
    cell="lstm", units=16, stateful=True, return_sequences=True, learning_rate_init=0.01, random_state=0
)
for _ in range(15):
    model.reset_states()
    for start in range(0, 1800, piece):
        part = series[start : start + piece + 1]
        model.partial_fit(part[None, :-1, None], part[None, 1:])
model.reset_states()
ahead = model.predict(series[None, :-1, None])[0].ravel()
plot_forecast(series[-200:], {"one step ahead": ahead[-199:]}, ylabel="value")

# %%
# States by series
# ----------------
# Machines report when they can, each by its name. ``partial_fit`` and ``predict`` go on from the states of the series that
# are named; ``predict`` changes them with ``advance=True`` only. ``max_series`` bounds how many are kept, and ``save`` keeps
# them with the estimator.
by_name = RNNRegressor(
    units=8, stateful=True, return_sequences=True, learning_rate_init=0.01, max_series=1000, random_state=0
)
machines = {name: np.sin(np.arange(401) / (10 + 3 * i)) for i, name in enumerate(["press", "saw", "drill"])}
for _ in range(10):
    by_name.reset_states()
    for start in range(0, 360, 20):
        present = [name for name in machines if (start // 20 + len(name)) % 4]  # a machine is silent at times
        pieces = np.stack([machines[name][start : start + 21, None] for name in present])
        by_name.partial_fit(pieces[:, :-1], pieces[:, 1:], series=present)
now = np.stack([machines[name][360:380, None] for name in ["drill", "press"]])
print("next:", by_name.predict(now, series=["drill", "press"], advance=True)[:, -1].ravel().round(2))
print("came:", [round(float(machines[name][380]), 2) for name in ["drill", "press"]])

# %%
# Truncated backpropagation through time
# --------------------------------------
# ``truncated_bptt_steps=100``, of ``fit`` and of the estimators, trains on pieces of 100 steps. States are passed
# from piece to piece, gradients are not, and memory is that of one piece.
short = RNNRegressor(
    units=16, return_sequences=True, truncated_bptt_steps=100, max_iter=3, tol=None, random_state=0
)
short.fit(series[None, :-1, None], series[None, 1:])
print(np.round(short.loss_curve_, 3))

# %%
# Series of unequal length in stateful batches
# --------------------------------------------
# ``stateful_batches`` cuts series so that row i of a batch continues row i of the batch before. ``fit`` resets
# the states of a row where a series starts.
many = [series[: 300 + 70 * i, None] for i in range(4)]
batches = stateful_batches([s[:-1] for s in many], [s[1:] for s in many], batch_size=2, n_steps=50)
network = Sequential([layers.GRU(8, stateful=True, return_sequences=True), layers.Dense(1)], seed=0)
network.compile("adam", "mse")
print(np.round(network.fit(batches, epochs=2, verbose=0).history["loss"], 3))

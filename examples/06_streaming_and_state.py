"""
Streaming and state
===================

One time step at a time, long series in pieces, and states that go on from call to call.
"""

# %%
# A stream
# --------
# ``step`` computes one time step and allocates no memory. The stream has a copy of the weights, and states of its
# own.
import numpy as np

from fastrnn import RNNRegressor, Sequential, layers, stateful_batches
from fastrnn.plotting import plot_forecast

model = Sequential([layers.Input((None, 3)), layers.GRU(32), layers.Dense(1)], seed=0)
x = np.random.default_rng(0).normal(size=(1, 50, 3)).astype("float32")
stream = model.stream(batch_size=1)
outputs = [stream.step(x[:, t]).copy() for t in range(50)]
print(np.abs(outputs[-1] - model.predict(x, verbose=0)).max())

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
# Truncated backpropagation through time
# --------------------------------------
# ``truncated_bptt_steps=100``, of ``fit`` and of the estimators, trains on pieces of 100 steps. States are passed
# from piece to piece, gradients are not, and memory is that of one piece.
short = RNNRegressor(
    units=16, return_sequences=True, truncated_bptt_steps=100, max_iter=3, tol=None, random_state=0
)
short.fit(series[None, :-1, None], series[None, 1:])
print(short.loss_curve_)

# %%
# Series of unequal length in stateful batches
# --------------------------------------------
# ``stateful_batches`` cuts series so that row i of a batch continues row i of the batch before. ``fit`` resets
# the states of a row where a series starts.
many = [series[: 300 + 70 * i, None] for i in range(4)]
batches = stateful_batches([s[:-1] for s in many], [s[1:] for s in many], batch_size=2, n_steps=50)
network = Sequential([layers.GRU(8, stateful=True, return_sequences=True), layers.Dense(1)], seed=0)
network.compile("adam", "mse")
print(network.fit(batches, epochs=2, verbose=0).history["loss"])

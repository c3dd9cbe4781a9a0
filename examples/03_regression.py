"""
Regression
==========

One number for each sequence, several, or one for each time step.
"""

# %%
# One number for a sequence
# -------------------------
# Windows of two years of airline passengers, and the month that follows.
import numpy as np

from fastrnn import RNNRegressor
from fastrnn.datasets import load_airline
from fastrnn.plotting import AttributionDisplay, plot_forecast

airline = load_airline()
z = np.log(airline.values)
mean, scale = z[:108].mean(), z[:108].std()
windows = np.lib.stride_tricks.sliding_window_view((z - mean) / scale, 25)
X, y, n_train = windows[:, :24], windows[:, 24], 84
model = RNNRegressor(cell="lstm", units=32, learning_rate_init=0.01, max_iter=150, tol=None, random_state=0)
model.fit(X[:n_train], y[:n_train])
print(f"R2 on months that were not seen: {model.score(X[n_train:], y[n_train:]):.2f}")

# %%
forecast = np.exp(model.predict(X[n_train:]) * scale + mean)
plot_forecast(
    airline.values, {"one month ahead": forecast}, time=airline.time, ylabel="passengers, thousands"
)

# %%
# Which months it looks at:
AttributionDisplay.from_estimator(model, X, sample=-1, labels=airline.time[-25:-1], random_state=0)

# %%
# One number for each step
# ------------------------
# With ``return_sequences=True`` there is a target for each step, here the running mean of what was read so far.
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 20, 1))
y = np.cumsum(X[..., 0], axis=1) / np.arange(1, 21)
steps = RNNRegressor(
    cell="gru", units=32, return_sequences=True, learning_rate_init=0.01, max_iter=40, tol=None
)
steps.set_params(random_state=0).fit(X, y)
print(steps.predict(X[:2]).shape, f"R2 {steps.score(X, y):.2f}")

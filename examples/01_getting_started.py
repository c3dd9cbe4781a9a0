"""
Getting started
===============

A classifier that works like any other of scikit-learn, tuned, looked at, and saved. You need to know scikit-learn,
and nothing else.

``X`` holds sequences. It is an array ``(n_samples, n_timesteps, n_features)``, padded with NaN or not; an array
``(n_samples, n_timesteps)`` of one variable; or a list of arrays ``(n_timesteps_i, n_features)`` of any lengths.
There is one target for each sequence, or for each time step with ``return_sequences=True``.
"""

# %%
# Data
# ----
# Pictures of digits, read row by row: eight time steps of eight pixels.
import tempfile
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from fastrnn import RNNClassifier, StandardScaler3D, load, save
from fastrnn.estimators import search_progress
from fastrnn.plotting import LossCurveDisplay

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# Fit
# ---
# ``tol=None`` says that 30 epochs are what you want; by default training stops when the loss no longer falls.
classifier = RNNClassifier(cell="gru", units=64, max_iter=30, tol=None, random_state=0)
model = make_pipeline(StandardScaler3D(), classifier)
model.fit(X_train, y_train)
print(f"accuracy on the test set: {model.score(X_test, y_test):.3f}")

# %%
LossCurveDisplay.from_estimator(model)

# %%
# Tune
# ----
# Parameters are searched as those of any estimator. joblib's backend "fastrnn" trains two models at a time in this process,
# each with one thread; ``search_progress`` shows a bar that counts the fits.
short = make_pipeline(StandardScaler3D(), RNNClassifier(max_iter=5, tol=None, random_state=0))
grid = {"rnnclassifier__cell": ["simple_rnn", "gru"], "rnnclassifier__learning_rate_init": [0.001, 0.01]}
search = GridSearchCV(short, grid, cv=2)
with joblib.parallel_config(backend="fastrnn", n_jobs=2), search_progress(search):
    search.fit(X_train[:600], y_train[:600])
print(search.best_params_)

# %%
# Save
# ----
# The file holds data and no code. ``load`` gives the pipeline back, with the scaler and the class labels.
folder = Path(tempfile.mkdtemp())
save(model, folder / "digits.fastrnn")
again = load(folder / "digits.fastrnn")
print((again.predict(X_test) == model.predict(X_test)).all())

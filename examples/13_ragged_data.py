"""
Sequences of any lengths
========================

Lists, padding, long tables, targets for each time step, and the ragged types of awkward and pyarrow.

All of it works in pipelines, searches and cross-validation. The answer for a sequence does not depend on the sequences
beside it.
"""

# %%
# Lists of arrays, and padding
# ----------------------------
# Steps at the end or at the beginning in which every feature is NaN are no steps. They are not computed.
from itertools import pairwise

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from fastrnn import Ragged, RNNClassifier, StandardScaler3D, from_long_frame, per_step
from fastrnn.plotting.common import COLOURS, new_axes
from fastrnn.preprocessing import SequenceImputer

rng = np.random.default_rng(0)
lengths = rng.integers(3, 30, size=200)
X = [rng.normal(size=(n, 2)) for n in lengths]
y = np.where([x[-3:, 0].sum() > 0 for x in X], "rises", "falls")
model = RNNClassifier(units=16, learning_rate_init=0.01, max_iter=30, tol=None, random_state=0).fit(X, y)

padded = np.full((len(X), lengths.max(), 2), np.nan)
for row, x in zip(padded, X, strict=True):
    row[: len(x)] = x
ragged = Ragged.from_list(X)  # one block of memory
print(ragged)
for given in (padded, ragged):
    print((model.predict_proba(given) == model.predict_proba(X)).all())

# %%
# A long table
# ------------
# Measurements often come with a row for each time step of each series: here pumps, of which some samples are missing.
# ``from_long_frame`` takes frames of pandas and polars. The ids are sorted, in the order of ``groupby``.
ids, hours = np.repeat(np.arange(200), lengths), np.concatenate([np.arange(n) for n in lengths])
table = pd.DataFrame({"pump": ids, "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, "h")})
table[["load", "heat"]] = np.concatenate(X)
table["state"] = np.where(table.groupby("pump")["load"].cumsum() > 0, "full", "empty")
table.loc[rng.random(len(table)) < 0.05, "load"] = np.nan
table = table.sample(frac=1, random_state=0)

steps, pumps = from_long_frame(table, series="pump", time="time", channels=["load", "heat"])
print(steps, steps.columns, pumps[:5])

# %%
# A pipeline takes them as any other sequences. Missing samples are filled, and flagged by a further feature.
pipeline = make_pipeline(
    SequenceImputer(strategy="previous", add_indicator=True),
    StandardScaler3D(),
    RNNClassifier(units=16, learning_rate_init=0.01, max_iter=30, tol=None, random_state=0),
)
answers = cross_val_predict(pipeline, steps, y, cv=5)
print(f"accuracy {np.mean(answers == y):.2f}")

# %%
# A target for each time step
# ---------------------------
# The name of one column gives its values. ``per_step`` makes a scorer of scikit-learn judge the valid time steps.
states, _ = from_long_frame(table, series="pump", time="time", channels="state")
each_step = pipeline.set_params(rnnclassifier__return_sequences=True)
search = GridSearchCV(
    each_step, {"rnnclassifier__cell": ["gru", "lstm"]}, scoring=per_step("roc_auc"), cv=KFold(3)
)
search.fit(steps, states)
print(search.best_params_, f"area under the curve {search.best_score_:.3f}")

# %%
# awkward and pyarrow
# -------------------
# Arrays of type ``n * var * 2 * float64``, arrays of records, and columns of lists are read by their own buffers::
#
#     pipeline.predict(awkward.Array(events))
#     pipeline.predict(pyarrow.parquet.read_table("events.parquet").column("steps"))

# %%
# Accuracy by length, in the folds above:
ax = new_axes(figsize=(6, 3.4))
edges = np.array([3, 9, 15, 21, 30])
right = [np.mean((answers == y)[(lengths >= a) & (lengths < b)]) for a, b in pairwise(edges)]
ax.bar([f"{a} to {b - 1}" for a, b in pairwise(edges)], right, color=COLOURS[0])
ax.set(xlabel="steps", ylabel="accuracy in folds", ylim=(0, 1))

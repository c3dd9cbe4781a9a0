"""
Write a cell
============

A cell is the equations of one time step. The engine differentiates the function, compiles it, and keeps the
machine code on disk, also for a script or a notebook. ``layers.RNN`` and the estimators take it as they take the
built-in cells, which are written in the same way. ``examples/custom_cell.py`` compares its speed with a built-in
cell's and with NumPy's.
"""

# %%
# The function
# ------------
# Two gates, and one further parameter for each unit. ``z.f`` is ``x @ W_f + h_prev @ U_f + b_f``.
import numpy as np

from fastrnn import RNNClassifier, Sequential, layers
from fastrnn.cells import equations, sigmoid, tanh
from fastrnn.plotting import HiddenStateDisplay
from fastrnn.testing import check_cell


@equations("f g", extra="w")
def Forgetful(z, prev, p, activation=tanh, recurrent_activation=sigmoid):
    f = recurrent_activation(z.f + p.w * prev.h)
    return f * prev.h + (1 - f) * activation(z.g)


# %%
# A branch is written as ``where(condition, a, b)``; what can't be compiled is an error at the definition, which
# shows the line. ``check_cell`` compares gradients with finite differences, and runs masks, threads and the same
# function on NumPy arrays.
check_cell(Forgetful(4))

# %%
# Use
# ---
model = Sequential([layers.RNN(Forgetful(16)), layers.Dense(1)])
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 10, 2))
y = (X[:, :5, 0].sum(axis=1) > 0).astype(int)
classifier = RNNClassifier(
    cell=Forgetful, units=16, learning_rate_init=0.02, max_iter=30, tol=None, random_state=0
)
classifier.fit(X, y)
print(f"accuracy {classifier.score(X, y):.2f}")
HiddenStateDisplay.from_estimator(classifier, X)

# %%
# A file in ``fastrnn/cells`` that names its cell in ``__all__`` is enough for a layer, a value of the estimators'
# ``cell``, and tests.

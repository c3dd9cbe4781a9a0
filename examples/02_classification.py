"""
Classification
==============

Sequences of any lengths, rare classes, early stopping, and which steps moved the decision.

Recurrent parameters have Keras's names (``cell units activation bidirectional dropout return_sequences
stateful``), training parameters those of ``MLPClassifier`` (``solver alpha batch_size learning_rate_init max_iter
early_stopping tol``).
"""

# %%
# Sequences of unequal length
# ---------------------------
# Two variables, 5 to 19 steps. The class is whether the first variable went up on the whole; the rarer class
# counts more with ``class_weight="balanced"``.
import numpy as np

from fastrnn import RNNClassifier
from fastrnn.plotting import AttributionDisplay, GradientFlowDisplay, HiddenStateDisplay, LossCurveDisplay

rng = np.random.default_rng(0)
X = [rng.normal(size=(n, 2)) for n in rng.integers(5, 20, size=400)]
y = np.where([x[:, 0].sum() > 2 for x in X], "up", "other")

# %%
# Early stopping
# --------------
# A tenth of the samples is held back. Training stops when their score no longer improves, and the best weights
# are kept.
classifier = RNNClassifier(
    cell="lstm",
    units=16,
    learning_rate_init=0.01,
    class_weight="balanced",
    early_stopping=True,
    random_state=0,
)
classifier.fit(X[:300], y[:300])
print(f"{classifier.n_iter_} epochs, accuracy on new sequences {classifier.score(X[300:], y[300:]):.2f}")
print(classifier.classes_, classifier.predict_proba(X[300:303]).round(2))

# %%
LossCurveDisplay.from_estimator(classifier)

# %%
# Which steps moved the decision
# ------------------------------
# Gradient times input, for one sequence. The second picture checks it on all of them: the answer falls fastest
# when the steps that are attributed most are deleted first.
AttributionDisplay.from_estimator(classifier, X[300:], sample=0, random_state=0)

# %%
# What the units do, and how far back gradients reach
# ---------------------------------------------------
HiddenStateDisplay.from_estimator(classifier, X[300:], sample=0)

# %%
GradientFlowDisplay.from_estimator(classifier, X[300:], y[300:])

# %%
# Other cells
# -----------
# ``cell`` is one of these, or a cell of your own (see "Write a cell"):
#
# =================  ==================  ==================================================================================
# ``cell=``          layer               what it is
# =================  ==================  ==================================================================================
# ``simple_rnn``     ``SimpleRNN``       of Keras; so are ``lstm``, ``LSTM`` and ``gru``, ``GRU``
# ``peephole_lstm``  ``PeepholeLSTM``    gates see the cell state (Gers & Schmidhuber 2000)
# ``janet``          ``JANET``           an LSTM with a forget gate only (van der Westhuizen & Lasenby 2018)
# ``indrnn``         ``IndRNN``          each unit sees its own past only (Li et al. 2018)
# ``min_gru``        ``MinGRU``          a GRU without a recurrent product (Feng et al. 2024)
# ``min_lstm``       ``MinLSTM``         an LSTM without a recurrent product (Feng et al. 2024)
# ``fast_grnn``      ``FastGRNN``        gate and candidate share their weights (Kusupati et al. 2018)
# ``slstm``          ``SLSTM``           exponential gates with a stabiliser (Beck et al. 2024)
# ``co_rnn``         ``CoRNN``           coupled oscillators (Rusch & Mishra 2021)
# ``echo_state``     ``EchoState``       a reservoir of fixed weights, to be read out by ``Ridge`` (Jaeger 2001)
# =================  ==================  ==================================================================================
for cell in ("simple_rnn", "min_gru"):
    other = RNNClassifier(cell=cell, units=16, learning_rate_init=0.01, max_iter=20, tol=None, random_state=0)
    print(cell, other.fit(X[:300], y[:300]).score(X[300:], y[300:]))

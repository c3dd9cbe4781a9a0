"""
Coming from other libraries
===========================

Words mapped, and differences said.

scikit-learn's MLP
------------------

``RNNClassifier`` and ``RNNRegressor`` have the parameters of ``MLPClassifier`` for training: ``solver alpha
batch_size learning_rate_init max_iter shuffle random_state tol verbose warm_start early_stopping
validation_fraction n_iter_no_change``. ``hidden_layer_sizes`` is ``units``, a number or one for each layer;
``activation`` is that of the recurrent layer.

=====================================  ==========================================================================
``MLPClassifier``                      ``RNNClassifier``
=====================================  ==========================================================================
``hidden_layer_sizes=(64, 32)``        ``units=(64, 32)``, and ``cell="lstm"``
``X (n_samples, n_features)``          ``X (n_samples, n_timesteps, n_features)``, or a list of arrays
``StandardScaler``                     ``StandardScaler3D``
``loss_curve_``, ``n_iter_``           the same
=====================================  ==========================================================================

Defaults that differ: ``alpha=0.0`` (there .0001), batches of 32 (there 200), and gradients are clipped (``clipnorm=1.0``).
There is no ``learning_rate="adaptive"``; models take schedules, see :mod:`fastrnn.schedules`.

PyTorch
-------

=====================================  ==========================================================================
``torch.nn``                           here
=====================================  ==========================================================================
``LSTM(8, 32, batch_first=True)``      ``layers.LSTM(32, return_sequences=True)``: the input size is found
``LSTM(8, 32, num_layers=2)``          two layers
``bidirectional=True``                 ``layers.Bidirectional(layers.LSTM(32))``
``output, (h, c) = lstm(x)``           ``output, h, c = layers.LSTM(32, return_state=True)(x)``
``pack_padded_sequence``               ``Ragged.from_list``, or a list of arrays for the estimators
``clip_grad_norm_(..., 1.0)``          ``optimizers.Adam(clipnorm=1.0)`` clips each weight as Keras does;
                                       ``global_clipnorm=1.0`` the whole gradient
``GRU``                                ``layers.GRU`` (``reset_after=True``, the same equations)
weights                                ``interop.from_torch(module)``, ``interop.to_torch(model)``
the loop over batches                  ``model.fit``, or ``model.train_on_batch`` in a loop of your own
=====================================  ==========================================================================

Initial weights are Keras's (Glorot uniform and orthogonal, forget gates with a bias of 1). Layers but GRU have one
bias where ``torch.nn`` has two, which ``from_torch`` adds. ``dropout=`` is between layers there, and on the inputs of the
layer here.

aeon
----

=====================================  ==========================================================================
aeon                                   here
=====================================  ==========================================================================
``X (n_cases, n_channels, n_steps)``   ``X.transpose(0, 2, 1)``: time before features
list of ``(n_channels, n_steps_i)``    list of ``(n_steps_i, n_channels)``
``load_from_ts_file``                  ``datasets.read_ts``, ``datasets.read_arff``
``n_epochs``                           ``max_iter``
=====================================  ==========================================================================

``fit``, ``predict``, ``predict_proba`` and ``score`` are scikit-learn's on both sides. Series of unequal length are not
padded here, and a target may be given for each step (``return_sequences=True``).

statsforecast, neuralforecast, darts
------------------------------------

The table of words is in :mod:`fastrnn.forecasting`. What they call a window (``input_size``) has no word here: the
states reach back to the first step. A backtest is one pass without a refit unless ``refit=True``.

Keras
-----

Arguments, defaults, names and weight shapes are those of Keras 3.15.1, and so are the numbers. The module
``tests.differential`` (extra ``peers``) draws layers, options, masks and optimizers, and compares outputs, states,
gradients and trained weights. It differs on purpose in this:

=======================================================  ==================================
Keras                                                    here
=======================================================  ==================================
``activity_regularizer`` of SimpleRNN: ignored           applied, divided by the batch size
states in ``train_on_batch``: kept or not, by backend    kept
masked steps before the first valid one: zeros or state  zeros
cross-entropy: from clipped probabilities, by backend    from logits
a weight per sequence, targets per step: an error        the weight applies to each step
loss of an epoch depends on how steps fall into batches  every item counts alike
``AUC`` without positives or negatives: 0                NaN
targets whose shapes don't fit: broadcast                refused
softmax cross-entropy of one output: 0                   refused
``float64``: products in float32, by backend             float64 throughout
derivative of the l1 penalty at 0: 1 on JAX              0
``sparsemax``: sums cumulative sums                      Martins & Astudillo (2016)
``unroll=True``: the graph has each time step            the number of units is a constant
=======================================================  ==================================
"""

# %%
# A page of Keras's guide runs with another import.
import numpy as np

from fastrnn import Sequential, layers
from fastrnn.plotting import LossCurveDisplay

model = Sequential()
model.add(layers.Embedding(input_dim=1000, output_dim=16))
model.add(layers.Bidirectional(layers.LSTM(16, return_sequences=True)))
model.add(layers.Bidirectional(layers.LSTM(8)))
model.add(layers.Dense(10, activation="softmax"))
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

rng = np.random.default_rng(0)
x = rng.integers(0, 1000, size=(256, 20))
y = x[:, -1] % 10
history = model.fit(x, y, epochs=12, validation_split=0.2, verbose=0)
model.summary()
LossCurveDisplay.from_history(history)

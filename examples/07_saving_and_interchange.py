"""
Saving and interchange
======================

``model.save(path)``, ``estimator.save(path)`` and ``fastrnn.save(object, path)`` write one safetensors file, and
``fastrnn.load(path)`` reads it: configuration, weights, the optimizer's state, random generators, class labels,
scalers, tokenizers and the epochs so far, so that training goes on with the numbers that it would have had
otherwise. Reading a file runs no code; classes of your own are passed by name (``custom_objects=``). A file is
written whole or not at all, also if the process is killed. ``SECURITY.md`` says what is promised.

``fastrnn.interop`` carries models to and from other libraries, and compares both sides on random input before it
returns:

==========================  =======================================================================  ==========
function                    carries                                                                  extra
==========================  =======================================================================  ==========
``from_keras to_keras``     models in a row; ``.keras``, ``.h5`` and ``.weights.h5`` files           ``keras``
``from_torch to_torch``     RNN, LSTM, GRU, Linear, Embedding; modules and state dicts               ``torch``
``from_onnx to_onnx``       native RNN, LSTM and GRU nodes; states; scaler and labels of estimators  ``onnx``
``to_c``                    one C99 file and header, weights in float or int8
==========================  =======================================================================  ==========

What the other side lacks raises ``ConversionError``, which names the layer. ``examples/travel.py`` scores one
classifier in all four.
"""

# %%
# Training goes on from a file
# ----------------------------
import tempfile
from pathlib import Path

import numpy as np

from fastrnn import Sequential, layers, load
from fastrnn.interop import to_c
from fastrnn.plotting import LossCurveDisplay

rng = np.random.default_rng(0)
x, y = rng.normal(size=(200, 12, 3)), rng.normal(size=(200, 1))


def start():
    model = Sequential([layers.Input((None, 3)), layers.LSTM(16), layers.Dense(1)], seed=0)
    model.compile("adam", "mse")
    return model


folder = Path(tempfile.mkdtemp())
model = start()
model.fit(x, y, epochs=3, verbose=0)
model.save(folder / "half.fastrnn")
again = load(folder / "half.fastrnn")
for going_on in (model, again):
    going_on.fit(x, y, epochs=6, initial_epoch=3, verbose=0)
print((model.get_weights()[0] == again.get_weights()[0]).all())
LossCurveDisplay.from_estimator(again)

# %%
# C for a machine without Python
# ------------------------------
# ``net_reset(&s); net_step(&s, x, y);``
to_c(again, folder / "net.c")
print((folder / "net.h").read_text()[-700:])

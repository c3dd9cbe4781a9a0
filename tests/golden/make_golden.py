"""Make the golden files: numbers of Keras 3.15.1 that the tests hold fastrnn to without Keras.

``python -m tests.golden.make_golden`` writes one ``.npz`` a case next to this file. Each holds the case as JSON (see
``tests/differential.py`` for what it says; weights and inputs follow from its ``array_seed``) and every result. Keras
runs on JAX, in float64; a masked layer with an initial state runs unrolled there, since the looped one gives the initial
state where the other backends give zeros.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
OPTIMIZERS = [
    ["SGD", {"learning_rate": 0.05, "momentum": 0.5}],
    ["RMSprop", {"learning_rate": 0.01}],
    ["Adam", {"learning_rate": 0.01}],
]
SHAPE = {"dtype": "float64", "n_batch": 3, "n_steps": 5, "n_inputs": 2, "mask": None}


def layer(name, mask=None, initial_state=True, **options):
    spec = [name, {"units": 4, "return_sequences": True, "return_state": True, **options}]
    return {**SHAPE, "kind": "layer", "layers": [spec], "mask": mask, "initial_state": initial_state}


def bidirectional(name, mode, mask=None, backward=None, **options):
    inner = {"units": 3, "return_sequences": True, "return_state": True, **options}
    wrapper = {"layer": [name, inner], "merge_mode": mode}
    if backward:
        wrapper["backward_layer"] = [name, {**inner, "go_backwards": True, **backward}]
    return {
        **SHAPE,
        "kind": "layer",
        "layers": [["Bidirectional", wrapper]],
        "mask": mask,
        "initial_state": mask is None or inner["return_sequences"],
    }


def model(*layers, loss="mse", mask=None, tokens=False, sample_weight=False, optimizers=None):
    return {
        **SHAPE,
        "kind": "model",
        "layers": [list(spec) for spec in layers],
        "mask": mask,
        "tokens": tokens,
        "loss": loss,
        "optimizers": optimizers or OPTIMIZERS,
        "sample_weight": sample_weight,
    }


def dense(units, activation=None):
    return "Dense", {"units": units, "activation": activation}


MASKING = ("Masking", {"mask_value": 0.0})
EMBEDDING = ("Embedding", {"input_dim": 11, "output_dim": 3, "mask_zero": True})

CASES = {
    "simple_rnn": layer("SimpleRNN"),
    "lstm": layer("LSTM"),
    "gru": layer("GRU"),
    "gru_reset_before": layer("GRU", reset_after=False),
    "simple_rnn_relu_backwards_no_bias": layer(
        "SimpleRNN", activation="relu", use_bias=False, go_backwards=True
    ),
    "lstm_hard_sigmoid_softsign": layer("LSTM", activation="softsign", recurrent_activation="hard_sigmoid"),
    "gru_reset_before_backwards_no_bias": layer("GRU", reset_after=False, use_bias=False, go_backwards=True),
    "simple_rnn_masked": layer("SimpleRNN", mask="random", unroll=True),
    "lstm_masked": layer("LSTM", mask="leading", unroll=True, go_backwards=True),
    "gru_masked_last": layer("GRU", mask="random", unroll=True, return_sequences=False),
    "lstm_masked_zero": layer("LSTM", mask="random", zero_output_for_mask=True),
    "bidirectional_lstm_concat": bidirectional("LSTM", "concat"),
    "bidirectional_gru_mul_masked": bidirectional("GRU", "mul", mask="random"),
    "bidirectional_rnn_ave_last": bidirectional("SimpleRNN", "ave", return_sequences=False),
    "bidirectional_lstm_sum_own": bidirectional("LSTM", "sum", backward={"activation": "relu"}),
    "train_rnn_regression": model(("SimpleRNN", {"units": 4}), dense(2)),
    "train_lstm_masked_binary": model(
        MASKING, ("LSTM", {"units": 4}), dense(1, "sigmoid"), loss="binary_crossentropy", mask="trailing"
    ),
    "train_gru_tokens": model(
        EMBEDDING,
        ("GRU", {"units": 4}),
        dense(3, "softmax"),
        loss="sparse_categorical_crossentropy",
        mask="trailing",
        tokens=True,
    ),
    "train_stack_per_step": model(
        MASKING,
        ("GRU", {"units": 4, "return_sequences": True, "reset_after": False}),
        ("LSTM", {"units": 3, "return_sequences": True}),
        dense(3, "softmax"),
        loss="categorical_crossentropy",
        mask="random",
    ),
    "train_lstm_weighted": model(("LSTM", {"units": 4}), dense(1), loss="huber", sample_weight=True),
    "train_clipped": model(
        ("LSTM", {"units": 4, "go_backwards": True}),
        dense(2),
        optimizers=[
            ["SGD", {"learning_rate": 0.05, "clipnorm": 0.1}],
            ["RMSprop", {"learning_rate": 0.01, "clipvalue": 0.02, "centered": True, "momentum": 0.5}],
            ["Adam", {"learning_rate": 0.01, "global_clipnorm": 0.1, "amsgrad": True}],
        ],
    ),
    "train_bidirectional": model(
        ("Bidirectional", {"layer": ["LSTM", {"units": 3}], "merge_mode": "concat"}), dense(2)
    ),
}


def main():
    os.environ["KERAS_BACKEND"] = "jax"
    from tests import differential, keras_oracle

    keras = keras_oracle.load()
    for number, (name, case) in enumerate(CASES.items()):
        case = {**case, "array_seed": 1000 + number}
        if not differential.usable(case):
            raise SystemExit(f"{name}: Keras on JAX can't judge this case")
        results = differential.run_keras(case)
        note = json.dumps({"case": case, "made_with": f"keras {keras.__version__} on jax"})
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, note=np.array(note), **results)
        print(f"{path.name}: {len(results)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

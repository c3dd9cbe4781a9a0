"""ONNX's names and orders of cells, gates and activations, for the writer and the reader.

The blocks of rows are in the order i, o, f, c for ONNX's LSTM, and i, f, c, o here; z, r, h for GRU in both. ONNX's weights
are the transpose of those here, and its bias has two halves, for inputs and for the state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import layers

__all__ = ["CELLS", "CELL_ACTIVATIONS", "COMPOSED", "OPERATORS", "blocks", "kind_of", "unblocks"]

#: Operator -> layer, and the index of ONNX's block of rows for each gate of the layer.
CELLS: dict[str, tuple[str, list[int]]] = {
    "RNN": ("SimpleRNN", [0]),
    "GRU": ("GRU", [0, 1, 2]),
    "LSTM": ("LSTM", [0, 2, 3, 1]),
}

#: Activations inside recurrent operators: name here -> ONNX's name, alpha, beta.
CELL_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "elu": ("Elu", 1.0, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
}

#: Activations that are one operator: name here -> ONNX's operator and its attributes.
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "celu": ("Celu", {"alpha": 1.0}),
    "elu": ("Elu", {"alpha": 1.0}),
    "exponential": ("Exp", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}

#: Activations of several operators, as steps ``(operator, inputs)``: "x" is the activation's input, an integer is the output
#: of that step, a float in a tuple is a constant.
COMPOSED: dict[str, list[tuple[str, list[Any]]]] = {
    "silu": [("Sigmoid", ["x"]), ("Mul", ["x", 0])],
    "relu6": [("Clip", ["x", (0.0,), (6.0,)])],
    "hard_tanh": [("Clip", ["x", (-1.0,), (1.0,)])],
    "tanh_shrink": [("Tanh", ["x"]), ("Sub", ["x", 0])],
    "log_sigmoid": [("Neg", ["x"]), ("Softplus", [0]), ("Neg", [1])],
    "mish": [("Softplus", ["x"]), ("Tanh", [0]), ("Mul", ["x", 1])],
    "gelu": [
        ("Mul", ["x", (0.7071067811865476,)]),
        ("Erf", [0]),
        ("Add", [1, (1.0,)]),
        ("Mul", [2, (0.5,)]),
        ("Mul", ["x", 3]),
    ],
}


def blocks(array: np.ndarray, operator: str) -> np.ndarray:
    """Reorder ONNX's rows into the order of gates here."""
    order = CELLS[operator][1]
    parts = np.split(array, len(order))
    return np.concatenate([parts[g] for g in order])


def unblocks(array: np.ndarray, operator: str) -> np.ndarray:
    """Reorder rows into ONNX's order of gates."""
    order = CELLS[operator][1]
    parts = np.split(array, len(order))
    return np.concatenate([parts[order.index(g)] for g in range(len(order))])


def kind_of(cell: Any) -> str | None:
    """The ONNX operator for a cell, or None."""
    for operator, base in (("LSTM", layers.LSTMCell), ("GRU", layers.GRUCell), ("RNN", layers.SimpleRNNCell)):
        if isinstance(cell, base):
            return operator
    return None

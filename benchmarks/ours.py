"""fastrnn behind the same interface as its peers: through the public layers and Sequential, as a user calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case
from benchmarks.peers import LEARNING_RATE, Contender, thread_counts


def layer_class(cell: str) -> Any:
    from fastrnn import layers

    return {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]


def fastrnn_layer(case: Case, **kwargs: Any) -> Any:
    """A layer with the case's weights."""
    s = case.size
    layer = layer_class(case.cell)(s.units, dtype=case.dtype, **{"return_sequences": True, **kwargs})
    layer.build((s.batch if kwargs.get("stateful") else None, s.steps, s.inputs))
    layer.set_weights(case.weights())
    return layer


def fastrnn_model(case: Case) -> Any:
    """The layer alone in a Sequential, compiled as the peers are."""
    from fastrnn import Sequential, optimizers

    s = case.size
    layer = layer_class(case.cell)(s.units, return_sequences=True, dtype=case.dtype)
    model = Sequential([layer])
    model.build((None, s.steps, s.inputs))
    model.set_weights(case.weights())
    model.compile(optimizers.SGD(LEARNING_RATE), "mse")
    return model


def fastrnn_contenders(case: Case) -> Iterator[Contender]:
    x, y = case.data()
    for threads in thread_counts():
        if case.kind == "inference":
            layer = fastrnn_layer(case)
            layer.n_threads = threads

            def run(layer: Any = layer) -> Any:
                return layer(x)

            output = run
        else:
            model = fastrnn_model(case)
            model.layers[-1].n_threads = threads

            def run(model: Any = model) -> Any:
                return model.train_on_batch(x, y)

            def output(model: Any = model) -> NDArray:
                return np.asarray(model.predict_on_batch(x))

        yield Contender("fastrnn", str(threads), run, output)

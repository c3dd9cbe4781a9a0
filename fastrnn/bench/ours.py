"""fastrnn as a contender, through its public layers and Sequential, as users call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import layers, optimizers
from fastrnn.bench.cases import Case
from fastrnn.bench.peers import LEARNING_RATE, Contender, thread_counts
from fastrnn.models import Sequential


def layer_class(cell: str) -> Any:
    return {"simple_rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]


def new_layers(case: Case, **kwargs: Any) -> list[Any]:
    """The layers of a case, without weights."""

    def layer() -> Any:
        arguments = {"return_sequences": True, "dtype": case.dtype, **kwargs}
        return layer_class(case.cell)(case.size.units, **arguments)

    if case.variant == "bidirectional":
        return [layers.Bidirectional(layer())]
    return [layer() for _ in case.inputs_of]


def set_weights(case: Case, given: list[Any]) -> None:
    """Build the layers and give them the case's weights."""
    s = case.size
    weights = [case.weights(k) for k in range(len(case.inputs_of))]
    if case.variant == "bidirectional":
        weights = [[*weights[0], *weights[1]]]
    inputs = s.inputs
    for layer, values in zip(given, weights, strict=True):
        layer.build((s.batch if layer.stateful else None, s.steps, inputs))
        layer.set_weights(values)
        inputs = s.units


def fastrnn_layer(case: Case, **kwargs: Any) -> Any:
    """The only layer of a case, possibly bidirectional, with its weights."""
    (layer,) = found = new_layers(case, **kwargs)
    set_weights(case, found)
    return layer


def fastrnn_model(case: Case, threads: int | None = None, **kwargs: Any) -> Any:
    """A compiled Sequential of the case's layers."""
    found = new_layers(case, **kwargs)
    set_weights(case, found)
    for layer in found:
        layer.n_threads = threads
    model = Sequential(found)
    model.build((None, case.size.steps, case.size.inputs))
    model.compile(optimizers.SGD(LEARNING_RATE), "mse")
    return model


def fastrnn_contenders(
    case: Case, threads: Sequence[int] | None = None, **kwargs: Any
) -> Iterator[Contender]:
    """One contender for each number of threads; a single layer is called directly. `kwargs` are passed to the layers."""
    (x, y), mask = case.data(), case.valid()
    for count in thread_counts() if threads is None else threads:
        model = fastrnn_model(case, count, **kwargs)
        network = model if len(model.layers) > 1 else model.layers[0]

        def infer(network: Any = network) -> Any:
            return network(x, mask=mask)

        def train(model: Any = model) -> Any:
            return model.train_on_batch(x, y, mask=mask)

        def output(model: Any = model) -> NDArray[Any]:
            return np.asarray(model.predict_on_batch(x, mask=mask))

        yield Contender("fastrnn", str(count), infer if case.kind == "inference" else train, output)

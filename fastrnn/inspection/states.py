"""Hidden states, and gradients of the loss with respect to them, by time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import integer
from fastrnn.inspection.network import Recorder, open_network
from fastrnn.layers.base import Layer
from fastrnn.layers.stacked import StackedRNNCells
from fastrnn.models.base import tree
from fastrnn.models.passes import backward, forward
from fastrnn.models.sequential import Sequential
from fastrnn.training.data import Batch, whole

__all__ = ["gradient_norms", "hidden_states"]


def _recurrent(model: Sequential) -> dict[str, Layer]:
    """Recurrent layers by name, including both directions of bidirectional layers."""
    found: dict[str, Layer] = {}
    for layer in tree(model.layers):
        if layer.has_states and layer.return_sequences is not None and not layer.reads_both_ways:
            # Number equal names, as the directions of two bidirectional layers have the same names.
            same = sum(name == layer.name or name.startswith(f"{layer.name}_") for name in found)
            found[f"{layer.name}_{same}" if layer.name in found else layer.name] = layer
    if not found:
        raise ValueError("the model has no recurrent layer")
    for name, layer in found.items():
        if any(isinstance(inner, StackedRNNCells) for inner in layer.inner_layers()):
            raise ValueError(
                f"layer {name!r} is a stack of cells in one layer: use one RNN layer for each cell, so that each can be "
                "inspected"
            )
    return found


def _chosen(names: Sequence[str], layer: str | int | None) -> str:
    if layer is None:
        return names[-1]
    if isinstance(layer, str):
        if layer not in names:
            raise ValueError(f"layer={layer!r} is none of the recurrent layers {list(names)}")
        return layer
    number = integer(layer, "layer", -len(names))
    if number >= len(names):
        raise ValueError(f"layer={layer!r}: there are {len(names)} recurrent layers, {list(names)}")
    result: str = names[number]
    return result


class _Steps(NamedTuple):
    """The results of running a recurrent layer step by step, in its order of reading."""

    layer: Any
    states: list[list[NDArray[Any]]]
    """States after each step."""
    caches: list[Any]
    lengths: NDArray[Any]
    """Number of valid steps of each sequence."""
    mask: NDArray[Any] | None

    def of_sequences(self, by_step: NDArray[Any]) -> list[NDArray[Any]]:
        """The valid steps of an array (time, batch, ...), as one array for each sequence."""
        rows = by_step.swapaxes(0, 1)
        return list(rows) if self.mask is None else [r[m] for r, m in zip(rows, self.mask, strict=True)]


def _replay(recorder: Recorder) -> _Steps:
    layer: Any = recorder.release()
    x, mask = recorder.x, recorder.mask
    if layer.go_backwards:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    layer.return_state, layer.return_sequences = True, False
    layer.go_backwards = layer.zero_output_for_mask = layer.stateful = False
    states, caches, before = [], [], None
    for t in range(x.shape[1]):
        step = None if mask is None else np.ascontiguousarray(mask[:, t : t + 1])
        (_, *before), cache = layer.forward(
            np.ascontiguousarray(x[:, t : t + 1]), mask=step, training=True, initial_state=before
        )
        before = [np.array(state) for state in before]
        states.append(before)
        caches.append(cache)
    lengths = np.full(len(x), x.shape[1]) if mask is None else mask.sum(axis=1)
    return _Steps(layer, states, caches, lengths, mask)


def hidden_states(estimator: Any, X: Any, *, layer: str | int | None = None) -> list[NDArray[Any]]:
    """Compute the hidden state of a recurrent layer after each time step.

    Parameters
    ----------
    estimator : fitted estimator, Pipeline, search or Sequential
    X : array-like
        Sequences, in a form that the estimator takes.
    layer : str or int, optional
        Name or number of the recurrent layer; by default the last. A bidirectional layer counts as two.

    Returns
    -------
    list of ndarray of shape (n_timesteps_i, units)
        In the order of time, without padding. For an LSTM the output `h`, not the cell state `c`.

    Raises
    ------
    sklearn.exceptions.NotFittedError, fastrnn.exceptions.NotBuiltError
        If the network has no weights yet.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.inspection import hidden_states
    >>> model = Sequential([layers.Input((None, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
    >>> states = hidden_states(model, np.ones((4, 5, 2)))
    >>> len(states), states[0].shape
    (4, (5, 3))
    """
    network = open_network(estimator, X)
    names = _recurrent(network.model)
    recorder = Recorder(names[_chosen(list(names), layer)])
    x, mask = network.batch()
    forward(network.model.layers, x, mask, True)
    backwards = recorder.layer.go_backwards
    steps = _replay(recorder)
    found = steps.of_sequences(np.stack([state[0] for state in steps.states]))
    return [h[::-1] for h in found] if backwards else found


def gradient_norms(estimator: Any, X: Any, y: Any) -> dict[str, list[NDArray[Any]]]:
    """Compute the norm of the gradient of the loss with respect to the states after each time step.

    For a sequence with the loss L it is ``|dL/ds_t|``, where ``s_t`` are all states after step t (`h` and `c` of an LSTM),
    with the total derivative, through all later steps and outputs. If it vanishes toward the first steps, the network
    can't learn from them.

    Parameters
    ----------
    estimator : fitted estimator, Pipeline, search or compiled Sequential
    X : array-like
        Sequences, in a form that the estimator takes. All are computed in one batch, so pass at most some hundreds.
    y : array-like
        Targets, as in ``fit``.

    Returns
    -------
    dict of str to list of ndarray of shape (n_timesteps_i,)
        Norms by name of the recurrent layer; steps are in the layer's order of reading, without padding.

    References
    ----------
    Bengio, Y., Simard, P. and Frasconi, P. (1994). Learning long-term dependencies with gradient descent is
    difficult. IEEE Transactions on Neural Networks 5(2), 157-166.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import RNNRegressor
    >>> from fastrnn.inspection import gradient_norms
    >>> X = np.random.default_rng(0).normal(size=(20, 30, 1))
    >>> model = RNNRegressor(cell="simple_rnn", units=4, max_iter=2, tol=None, random_state=0).fit(X, X[:, -1, 0])
    >>> norms = gradient_norms(model, X, X[:, -1, 0])["simple_rnn"]
    >>> len(norms), norms[0].shape, bool(norms[0][0] < norms[0][-1])
    (20, (30,), True)
    """
    network = open_network(estimator, X, y)
    model = network.model
    model.trainer.need("gradient_norms")
    recorders = {name: Recorder(layer) for name, layer in _recurrent(model).items()}
    x, mask = network.batch()
    given = whole(network.y)[0] if network.estimator is not None else y
    judged = model.trainer.judge(model, Batch(x, given, mask=mask), training=True)
    # The loss is a mean over the batch; multiply by its size, so that gradients are those of single sequences.
    backward(model.layers, judged.grad * judged.grad.dtype.type(len(x)), judged.caches, judged.from_logits, 0)
    return {name: _norms(recorder) for name, recorder in recorders.items()}


def _norms(recorder: Recorder) -> list[NDArray[Any]]:
    dy, per_step = recorder.dy, recorder.layer.return_sequences
    steps = _replay(recorder)
    d_states = [np.zeros_like(state) for state in steps.states[-1]]
    if not per_step:
        d_states[0] = d_states[0] + dy
    norms = np.empty((len(steps.states), len(d_states[0])))
    for t in range(len(norms) - 1, -1, -1):
        if per_step:
            d_states[0] = d_states[0] + dy[:, t]
        norms[t] = np.sqrt(sum((d.astype(np.float64) ** 2).sum(axis=1) for d in d_states))
        steps.layer.backward([None, *d_states], steps.caches[t])
        d_states = [np.array(d) for d in steps.layer.d_initial_state]
    return steps.of_sequences(norms)

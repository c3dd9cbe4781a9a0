"""The model: layers in a row, with all weights in one vector and all gradients in another."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.exceptions import NotBuiltError
from fastrnn.layers import deserialize
from fastrnn.layers.arithmetic import activate
from fastrnn.layers.base import Layer, as_rows, check_mask
from fastrnn.layers.core import InputLayer
from fastrnn.optimizers import Plan, Table
from fastrnn.random import new_seed
from fastrnn.registry import serialize
from fastrnn.streaming import Stream
from fastrnn.training import Trainer

__all__ = ["Sequential", "load_model"]


class Sequential(Trainer):
    """Layers in a row.

    Parameters
    ----------
    layers : iterable of Layer, optional
        The first may be :func:`~fastrnn.layers.Input`, which states the input's shape, so that weights exist at once.
    trainable : bool
        Whether training changes weights at all.
    name : str, optional
    seed : int or SeedSequence, optional
        Of initial weights, dropout and the order of samples; otherwise they come from
        :func:`fastrnn.set_random_seed`.

    Attributes
    ----------
    layers : list of Layer
        Without the input layer.
    params, grads : ndarray
        All weights and their gradients, one vector each; the layers' arrays are views of them.
    optimizer, loss
        Set by :meth:`compile`.
    history : History
        Of the last :meth:`fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> model = Sequential([layers.LSTM(8), layers.Dense(1)], seed=0)
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((4, 5, 2)), np.zeros((4, 1))
    >>> history = model.fit(x, y, verbose=0)
    >>> model.predict(x).shape
    (4, 1)
    """

    def __init__(
        self,
        layers: Iterable[Layer] | None = None,
        trainable: bool = True,
        name: str | None = None,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        self.name = name or "sequential"
        self.trainable = trainable
        self._seed = new_seed(seed)
        self._rng = np.random.Generator(np.random.SFC64(self._seed.spawn(1)[0]))
        self.layers: list[Any] = []
        self._input_layer: InputLayer | None = None
        #: Shapes between the layers, known once the model is built.
        self._shapes: list[Any] = []
        self._guessed = False
        self._params: np.ndarray | None = None
        self._grads: np.ndarray | None = None
        for layer in layers or ():
            self.add(layer)

    # -- layers

    def add(self, layer: Layer) -> None:
        """Add a layer at the end."""
        if isinstance(layer, InputLayer):
            if self.layers or self._input_layer is not None:
                raise ValueError(f"{layer!r} must come first")
            self._input_layer = layer
            self._shapes = [layer.batch_shape]
            return
        if not isinstance(layer, Layer):
            raise TypeError(f"layers holds {layer!r}: give objects from fastrnn.layers")
        if any(layer is other for other in self.layers):
            raise ValueError(
                f"{layer!r} is in the model already; make a second layer, two can't share weights here"
            )
        if getattr(layer, "return_state", False):
            raise ValueError(
                f"layer {layer.name!r} has return_state=True, which gives several outputs: "
                "in a row of layers each has one, leave it out"
            )
        if getattr(layer, "merge_mode", "") is None:
            raise ValueError(
                f"layer {layer.name!r} has merge_mode=None, which gives two outputs: "
                "in a row of layers each has one, merge them"
            )
        self._name(layer)
        layer.set_seed(self._seed.spawn(1)[0])
        if self.layers and layer.dtype != self.layers[0].dtype:
            raise ValueError(
                f"layer {layer.name!r} has dtype {layer.dtype}, the others {self.layers[0].dtype}: "
                "all layers of a model share one"
            )
        self.layers.append(layer)
        self._params = None
        if len(self.layers) == 1 and not self._shapes:
            if layer.input_shape is not None:
                self._shapes = [(None, *layer.input_shape)]
            elif layer.takes_tokens:
                # Any number of tokens: enough to know for most layers that follow.
                self._shapes, self._guessed = [(None, None)], True
        if self._shapes:
            self._grow()

    def pop(self) -> Layer:
        """Take the last layer away and return it."""
        layer = self.layers.pop()
        self._shapes = self._shapes[: len(self.layers) + 1]
        self._params = None
        return layer

    def _name(self, layer: Layer) -> None:
        taken = {other.name for other in self.layers}
        if layer.name in taken:
            if not layer._auto_named:
                raise ValueError(f"name={layer.name!r} is taken by another layer of the model")
            stem, number = layer.name, 1
            while f"{stem}_{number}" in taken:
                number += 1
            layer.name = f"{stem}_{number}"

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Return a layer by its name or position."""
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"name={name!r}: the layers are {[layer.name for layer in self.layers]}")

    # -- building

    @property
    def built(self) -> bool:
        """Whether all weights exist."""
        return bool(self.layers) and len(self._shapes) == len(self.layers) + 1

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights.

        Parameters
        ----------
        input_shape : tuple
            With the batch axis, None where a size is open: ``(None, None, 3)`` for any batch and number of steps.
        """
        self._need_layers()
        if not self._shapes or (self._guessed and not self.built):
            self._shapes, self._guessed = [tuple(input_shape)], False
        self._grow()

    def _grow(self) -> None:
        """Build the layers that are not built yet."""
        while len(self._shapes) <= len(self.layers):
            layer, shape = self.layers[len(self._shapes) - 1], self._shapes[-1]
            if self._guessed and len(self._shapes) > 1 and shape[-1] is None:
                # As after Flatten, where the number of steps counts: the first data will tell.
                return
            layer.ensure_built(shape)
            self._shapes.append(layer.compute_output_shape(shape))

    def _ensure_ready(self, shape: tuple[int | None, ...]) -> None:
        if not self.built:
            self.build(shape)
        self._check_input(self._shapes[0], shape)
        if self._params is None:
            self._pack()

    def _check_input(self, expected: Any, shape: Any) -> None:
        """Complain about an input of another shape; another number of steps is fine unless it was stated."""
        alike = [a is None or b is None or a == b for a, b in zip(expected, shape, strict=False)]
        steps = 1 if len(expected) > 2 or self.layers[0].takes_tokens else 0
        if steps and self._input_layer is None:
            alike[steps:2] = [True]
        if len(expected) != len(shape) or not all(alike[1:]):
            raise ValueError(f"the model takes inputs of shape {tuple(expected)}, got {tuple(shape)}")

    def _pack(self) -> None:
        """Move all weights into one vector, and their gradients into another."""
        dtype = self.layers[0].dtype
        size = sum(value.size for layer in self.layers for value in layer._weights.values())
        params, grads = np.empty(size, dtype), np.zeros(size, dtype)
        at = 0
        for layer in self.layers:
            views: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
            for name, value in layer._weights.items():
                for views_of, vector in zip(views, (params, grads), strict=True):
                    views_of[name] = vector[at : at + value.size].reshape(value.shape)
                at += value.size
            layer.bind(*views)
        self._params, self._grads = params, grads
        self.plan_updates()

    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        if self._params is None:
            if not self.built:
                raise NotBuiltError(
                    "the model has no weights yet: call build(input_shape), fit, or start with Input(shape)"
                )
            self._pack()
        assert self._params is not None
        assert self._grads is not None
        return self._params, self._grads

    @property
    def params(self) -> np.ndarray:  # type: ignore[override]
        """All weights, as one vector."""
        return self._vectors()[0]

    @property
    def grads(self) -> np.ndarray:  # type: ignore[override]
        """The gradients of all weights, as one vector."""
        return self._vectors()[1]

    def plan_updates(self) -> None:
        """Work out which weights training changes, and where backward passes may end.

        Called by `compile`; call it yourself after changing a layer's ``trainable``.
        """
        if self._params is None:
            if self.built:
                self._pack()
            return
        variables: list[tuple[int, int]] = []
        tables: list[Table] = []
        at = 0
        self._first_trained = len(self.layers)
        for i, layer in enumerate(self.layers):
            trained = self.trainable and layer.trainable
            if trained and layer._weights:
                self._first_trained = min(self._first_trained, i)
            for name, value in layer._weights.items():
                start, at = at, at + value.size
                if not trained:
                    continue
                sparse = getattr(layer, "sparse_tables", ())
                if name in sparse and self.optimizer is not None and self.optimizer.lazy:
                    tables.append(Table(start, at, value.shape, layer.touched_rows))
                else:
                    variables.append((start, at))
        runs: list[tuple[int, int]] = []
        for start, stop in variables:
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        self.plan = Plan(variables, runs, tables)
        self._constrained = [
            layer for layer in self.layers if layer._constraints and layer.trainable and self.trainable
        ]
        self._regularized = [layer for layer in self.layers if layer._regularizers]

    def weights_changed(self) -> None:
        for layer in self.layers:
            layer.weights_version += 1

    def constrain(self) -> None:
        for layer in self._constrained:
            layer.apply_constraints()

    # -- passes

    def run(self, x: Any, mask: Any, training: bool, want_logits: bool) -> Any:
        if mask is not None:
            mask = check_mask(mask, x.shape)
        caches: list[Any] = []
        penalty = 0.0
        logits = None
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            out_mask = layer.compute_mask(x, mask)
            if (
                i == last
                and want_logits
                and layer.output_activation == self.loss.logit_activation
                and layer.activity_regularizer is None
            ):
                logits, cache = layer.forward_linear(x, mask, training)
                rows, back = as_rows(logits)
                y = back(activate(layer.output_activation, rows))
            else:
                y, cache = layer.forward(x, mask, training)
            if layer.activity_regularizer is not None:
                penalty += layer.activity_regularizer(y) / len(y)
                cache = (cache, y)
            if training:
                caches.append(cache)
            x, mask = y, out_mask
        for layer in self._regularized:
            penalty += layer.regularization()
        return x, mask, logits, caches, penalty

    def back(self, dy: np.ndarray, caches: list[Any], from_logits: bool) -> None:
        stop = self._first_trained
        for i in range(len(self.layers) - 1, stop - 1, -1):
            layer, cache = self.layers[i], caches[i]
            # What a layer kept is free for reuse as soon as its gradient is known.
            caches[i] = None
            if layer.activity_regularizer is not None:
                cache, y = cache
                gradient = layer.activity_regularizer.gradient(y)
                dy = dy + gradient / gradient.dtype.type(len(y))
            if from_logits:
                dy, from_logits = layer.backward_linear(dy, cache, i > stop), False
            else:
                dy = layer.backward(dy, cache, i > stop)
        for layer in self._regularized:
            layer.add_regularization_gradient()

    def __call__(self, x: Any, mask: Any = None, training: bool = False) -> np.ndarray:
        """Compute the outputs for a batch."""
        self._need_layers()
        return self.run(self._input(x), mask, training, False)[0]

    # -- weights and states

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weights, layer after layer, in Keras's order."""
        return [value for layer in self.layers for value in layer.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights from arrays in the order of :meth:`get_weights`."""
        self._vectors()
        weights = list(weights)
        expected = sum(len(layer._weights) for layer in self.layers)
        if len(weights) != expected:
            raise ValueError(f"the model has {expected} weights, got {len(weights)}")
        at = 0
        for layer in self.layers:
            n = len(layer._weights)
            layer.set_weights(weights[at : at + n])
            at += n

    def count_params(self) -> int:
        """Return the number of weights."""
        if not self.built:
            raise NotBuiltError("the model has no weights yet: call build(input_shape) first")
        return sum(layer.count_params() for layer in self.layers)

    def reset_states(self) -> None:
        """Set the states of stateful layers to zero."""
        for layer in self.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()

    reset_state = reset_states

    def stream(self, batch_size: int = 1) -> Stream:
        """Prepare to run one time step at a time, in microseconds.

        Parameters
        ----------
        batch_size : int
            Number of sequences that advance side by side.

        Returns
        -------
        Stream
            With the weights as they are now, and states of its own, at zero.
        """
        self._vectors()
        return Stream(self.layers, self._shapes[0], batch_size)

    # -- configuration, copies and files

    def get_config(self) -> dict[str, Any]:
        """Return name and layers as plain data, without weights."""
        stated = [] if self._input_layer is None else [self._input_layer]
        return {"name": self.name, "layers": [serialize(layer) for layer in [*stated, *self.layers]]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """Make a model from what :meth:`get_config` returned, with new weights."""
        return cls([deserialize(layer) for layer in config["layers"]], name=config.get("name"))

    def __getstate__(self) -> dict[str, Any]:
        # The plan holds bound methods, the vectors would be written twice: both are made anew from the layers.
        state = {k: v for k, v in self.__dict__.items() if k not in ("_params", "_grads", "plan")}
        return {**state, "_params": None, "_grads": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.built:
            self._pack()

    def copy(self) -> Sequential:
        """Return an independent copy, weights and optimizer included."""
        return copy.deepcopy(self)

    def save(self, path: str | os.PathLike) -> None:
        """Write the model to a file that :func:`load_model` reads. Only load files that you trust: it is a pickle."""
        with open(path, "wb") as file:
            pickle.dump(self, file, protocol=5)

    def save_weights(self, path: str | os.PathLike) -> None:
        """Write the weights to an ``.npz`` file."""
        with open(path, "wb") as file:
            np.savez(file, *self.get_weights())

    def load_weights(self, path: str | os.PathLike) -> None:
        """Read the weights that :meth:`save_weights` wrote."""
        with np.load(path) as file:
            self.set_weights([file[f"arr_{i}"] for i in range(len(file.files))])

    # -- summary

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Print a table of layers, output shapes and numbers of parameters.

        Parameters
        ----------
        line_length : int, optional
            Width of the table.
        print_fn : function, optional
            Called with the text instead of printing it.
        show_trainable : bool
            Add a column that says whether training changes the layer.
        positions, expand_nested, layer_range
            Of Keras; without effect.
        """
        text = _summary(self, line_length, show_trainable)
        (print_fn or print)(text)


def load_model(path: str | os.PathLike) -> Sequential:
    """Read a model that ``Sequential.save`` wrote. Only load files that you trust: it is a pickle."""
    with open(path, "rb") as file:
        model = pickle.load(file)
    if not isinstance(model, Sequential):
        raise ValueError(f"{os.fspath(path)!r} holds no model but {type(model).__name__}")
    return model


def _summary(model: Sequential, line_length: int | None, show_trainable: bool) -> str:
    header = ["Layer (type)", "Output Shape", "Param #"]
    rows = []
    for i, layer in enumerate(model.layers):
        shape = str(model._shapes[i + 1]) if model.built else "?"
        params = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        rows.append([f"{layer.name} ({type(layer).__name__})", shape, params])
        if show_trainable:
            rows[-1].append("-" if not layer._weights else "Y" if layer.trainable else "N")
    if show_trainable:
        header.append("Trainable")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    least = [31, 22, 13, 9]
    if line_length is None:
        widths = [max(w, m) for w, m in zip(widths, least, strict=False)]
    else:
        spare = line_length - sum(widths) - 3 * len(widths) - 1
        widths[0] += max(spare, 0)

    def line(cells: list[str], bar: str) -> str:
        padded = [
            f" {cell.rjust(width) if i == 2 else cell.ljust(width)} "
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return bar + bar.join(padded) + bar

    def rule(left: str, fill: str, middle: str, right: str) -> str:
        return left + middle.join(fill * (width + 2) for width in widths) + right

    lines = [f'Model: "{model.name}"', rule("┏", "━", "┳", "┓"), line(header, "┃"), rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(rule("├", "─", "┼", "┤"))
        lines.append(line(row, "│"))
    lines.append(rule("└", "─", "┴", "┘"))
    counts = [
        (layer.count_params() if layer.built else 0, layer.trainable and model.trainable)
        for layer in model.layers
    ]
    size = model.layers[0].dtype.itemsize if model.layers else 4
    total, trained = sum(n for n, _ in counts), sum(n for n, yes in counts if yes)
    for title, n in (("Total", total), ("Trainable", trained), ("Non-trainable", total - trained)):
        lines.append(f" {title} params: {n:,} ({_bytes(n * size)})")
    return "\n".join(lines)


def _bytes(n: int) -> str:
    size, units = float(n), ["B", "KB", "MB", "GB", "TB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.2f} {units[0]}"

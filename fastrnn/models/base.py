"""Base class of models: building, the vector of weights, the plan of updates, copies, files, the summary."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from fastrnn import saving
from fastrnn.checks import flag, real_array
from fastrnn.engine.runtime.memory import aligned
from fastrnn.exceptions import ModelFileError, NotBuiltError
from fastrnn.layers.base import Layer, is_cell
from fastrnn.layers.core import InputLayer
from fastrnn.models.summary import summary
from fastrnn.optimizers import Plan, Table
from fastrnn.random import new_seed
from fastrnn.registry import snake_case
from fastrnn.training.data import Batch
from fastrnn.training.step import ForwardPass

__all__ = ["Network", "load_model"]


class Network:
    """Layers whose weights are views of one vector and whose gradients are views of another.

    A subclass fills `layers`, in the order of their weights, and, when it is built, `_shapes` (the shape of the input,
    then of the output of each layer). It defines ``build``, ``run``, ``back``, ``get_config`` and ``from_config``.


    Parameters
    ----------
    trainable : bool
        Whether training changes any weights at all.
    name : str, optional
        By default the class name in snake case.
    seed : int or SeedSequence, optional
        Seed of initial weights, dropout and the order of samples; by default from the global seed, see
        :func:`fastrnn.set_random_seed`.
    """

    #: Identifies models in modules that can't import this class.
    is_network = True
    #: Number of the last vector that any model has put its weights into.
    _last_binding = 0
    #: Whether the input shape is a guess that the data may change.
    _guessed = False
    # Default number of time steps of the output, for models that generate sequences.
    n_steps: int | None = None

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: give a string or None")
        self.name = name or snake_case(type(self).__name__)
        self._trainable = flag(trainable, "trainable")
        #: Value of `Layer.trainable_changes` when the updates were planned.
        self._planned_at: tuple[int, bool, bool] | None = None
        self._seed = new_seed(seed)
        self._rng = np.random.Generator(np.random.SFC64(self._seed.spawn(1)[0]))
        self.layers: list[Any] = []
        self._input_layer: InputLayer | None = None
        #: The shape of the input, then of the output of each layer, as far as they are known.
        self._shapes: list[Any] = []
        self._params: np.ndarray | None = None
        self._grads: np.ndarray | None = None
        #: Number of the vector, and all layers with weights in it, including layers inside layers.
        self._binding, self._parts = 0, list[Layer]()
        #: The input shape that was checked last, since the weights were moved into their vector.
        self._fitting: tuple[int | None, ...] | None = None

    # -- layers

    @staticmethod
    def _check_layer(layer: Any, others: Sequence[Any]) -> None:
        """Raise if `layer` can't be in a model with `others`."""
        if not isinstance(layer, Layer):
            raise TypeError(f"layers holds {layer!r}: give objects from fastrnn.layers")
        if is_cell(layer):
            raise ValueError(f"{layer!r} is a cell, which computes one time step: use RNN(cell)")
        if any(layer is other for other in others):
            raise ValueError(
                f"{layer!r} is in the model already: add another layer, as weights can't be shared in a model"
            )
        if others and layer.dtype != others[0].dtype:
            raise ValueError(
                f"layer {layer.name!r} has dtype {layer.dtype}, the others {others[0].dtype}: "
                "all layers of a model must have the same dtype"
            )

    def _adopt(self, layer: Layer) -> None:
        """Name and seed a layer, and append it to the model."""
        self._name(layer)
        seed = self._seed.spawn(1)[0]
        if layer.binding is None:
            layer.set_seed(seed)
        for part in tree([layer]):
            part.binding = part.binding or 0
        self.layers.append(layer)
        self._params = None

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
            if not isinstance(index, int) or not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"index={index!r}: the model has {len(self.layers)} layers")
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
        """Make the weights."""
        raise NotImplementedError

    def _ensure_ready(self, shape: tuple[int | None, ...]) -> None:
        """Create the weights for inputs of `shape` if they do not exist."""
        if self._params is not None and shape == self._fitting:
            self.bind_weights()
            return
        if not self.built:
            self.build(shape)
        self._check_input(self._shapes[0], shape)
        if self._params is None:
            self._pack()
        self._fitting = shape

    def _check_input(self, expected: Any, shape: Any) -> None:
        """Raise for an input of another shape. The number of steps may differ unless it was given."""
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
        params, grads = aligned(size, dtype), aligned(size, dtype, zeros=True)
        at = 0
        for layer in self.layers:
            views: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
            for name, value in layer._weights.items():
                for views_of, vector in zip(views, (params, grads), strict=True):
                    views_of[name] = vector[at : at + value.size].reshape(value.shape)
                at += value.size
            layer.bind(*views)
        self._params, self._grads, self._fitting = params, grads, None
        self._parts = list(tree(self.layers))
        self._binding = Network._last_binding = next(_bindings)
        for layer in self._parts:
            layer.binding = self._binding
        self.plan_updates()

    def bind_weights(self) -> None:
        """Move the weights back into this model's vector, if another model that shares a layer has moved them."""
        if self._binding == Network._last_binding:
            return
        for layer in self._parts:
            if layer.binding != self._binding:
                self._pack()
                return

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """All weights as one vector, and their gradients as another. Who writes weights calls :meth:`weights_changed`."""
        if self._params is None:
            if not self.built:
                raise NotBuiltError(
                    "the model has no weights yet: call build(input_shape), fit, or start with Input(shape)"
                )
            self._pack()
        self.bind_weights()
        assert self._params is not None
        assert self._grads is not None
        return self._params, self._grads

    @property
    def params(self) -> np.ndarray:
        """All weights, as one vector.

        The array is read-only, because kernels use packed copies of the weights, which must be renewed after a change.
        Assign a whole vector (``model.params = values``), or call :meth:`set_weights`.
        """
        view = self.vectors()[0].view()
        view.flags.writeable = False
        return view

    @params.setter
    def params(self, values: Any) -> None:
        vector = self.weight_vector
        values = real_array(values, name="params")
        if values.shape != vector.shape:
            raise ValueError(
                f"params has shape {values.shape}: the model has {vector.size} weights, {vector.shape}"
            )
        vector[...] = values
        self.weights_changed()

    @property
    def weight_vector(self) -> np.ndarray:
        """The writable vector of `params`. Call :meth:`weights_changed` after writing to it."""
        return self.vectors()[0]

    @property
    def grads(self) -> np.ndarray:
        """The gradients of all weights, as one vector."""
        return self.vectors()[1]

    @property
    def trainable(self) -> bool:
        """Whether training changes any weights at all."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = flag(value, "trainable")
        self._planned_at = None

    def refresh_plan(self) -> None:
        """Plan the updates again if ``trainable`` of any layer, or a setting of the optimizer, has changed the plan."""
        planned = self._planned_at
        if (
            planned is None
            or planned[0] != Layer.trainable_changes
            or (planned[2] and planned[1] != self._updates_rows)
        ):
            self.plan_updates()

    def plan_updates(self) -> None:
        """Find which weights training changes, and at which layer backward passes may end."""
        tables_exist = any(layer.sparse_tables for layer in self.layers)
        self._planned_at = Layer.trainable_changes, self._updates_rows, tables_exist
        if self._params is None:
            if self.built:
                self._pack()
            return
        variables: list[tuple[int, int]] = []
        tables: list[Table] = []
        at = 0
        self._first_trained = len(self.layers)
        for i, layer in enumerate(self.layers):
            trained = set(layer.trained_weights()) if self.trainable else set()
            if trained:
                self._first_trained = min(self._first_trained, i)
            for name, value in layer._weights.items():
                start, at = at, at + value.size
                if name not in trained:
                    continue
                if name in layer.sparse_tables and self._updates_rows:
                    tables.append(Table(start, at, value.shape, layer.touched_rows, layer.mark_touched_rows))
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

    @property
    def _updates_rows(self) -> bool:
        """Whether updates of embeddings change only rows that have a gradient."""
        return False

    @property
    def n_threads(self) -> int | None:
        """Largest number of threads that all layers allow; None if no layer sets it."""
        return min([n for layer in self.layers if (n := layer.n_threads) is not None], default=None)

    def weights_changed(self) -> None:
        """Notify all layers that their weights have changed."""
        for layer in self.layers:
            layer.weights_changed()

    def constrain(self) -> None:
        """Project the weights onto what their constraints allow."""
        for layer in self._constrained:
            layer.apply_constraints()

    def _weight_penalty(self) -> float:
        result: float = sum(layer.regularization() for layer in self._regularized)
        return result

    def _add_penalty_gradients(self) -> None:
        for layer in self._regularized:
            layer.add_regularization_gradient()

    def run(self, batch: Batch, training: bool, logits_of: str | None = None) -> ForwardPass:
        """Compute the outputs of a batch.

        Parameters
        ----------
        batch : Batch
            Its targets are used by models whose decoder reads the targets of previous steps.
        training : bool
        logits_of : str, optional
            If the last layer has this activation, return its input too.
        """
        raise NotImplementedError

    def back(self, dy: np.ndarray, caches: Any, from_logits: bool) -> None:
        """Write the gradients of all weights."""
        raise NotImplementedError

    def training_stack(self) -> list[Any] | None:
        """The layers, if `run` and `back` do no more than to call one after the other; otherwise None."""
        return None

    def expected_output(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
        """Check inputs of `shape`; return the shape of the outputs, or None if it is not known."""
        return None

    def as_input(self, x: Any) -> Any:
        """Convert `x` for the first layer, and create the weights if they do not exist."""
        x = self.layers[0].as_input(x) if self.layers else np.asarray(x)
        self._ensure_ready((None, *x.shape[1:]))
        return x

    def _need_layers(self) -> None:
        if not self.layers:
            raise ValueError("the model has no layers: add some first")

    # -- weights and states

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weights, layer after layer, in Keras's order."""
        if self._params is not None:
            self.bind_weights()
        return [value for layer in self.layers for value in layer.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights from arrays in the order of :meth:`get_weights`."""
        self.vectors()
        if not isinstance(weights, (list, tuple)):
            raise ValueError(f"weights={weights!r}: give a list of arrays, as get_weights() returns it")
        expected = sum(len(layer._weights) for layer in self.layers)
        if len(weights) != expected:
            raise ValueError(f"the model has {expected} weights, got {len(weights)}")
        rest = iter(weights)
        parts = [list(itertools.islice(rest, len(layer._weights))) for layer in self.layers]
        checked = [layer._as_weights(part) for layer, part in zip(self.layers, parts, strict=True)]
        for layer, part in zip(self.layers, checked, strict=True):
            layer.set_weights(part)

    def count_params(self) -> int:
        """Return the number of weights."""
        if not self.built:
            raise NotBuiltError("the model has no weights yet: call build(input_shape) first")
        return sum(layer.count_params() for layer in self.layers)

    def reset_states(self, rows: Any = None) -> None:
        """Set the states of stateful layers to zero.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Sequences of the batch whose states are reset; the others keep theirs. By default all are reset, and the next
            batch may have another size.
        """
        for layer in self.layers:
            layer.reset_state(rows)

    reset_state = reset_states

    # -- configuration, copies and files

    def __getstate__(self) -> dict[str, Any]:
        # The plan has bound methods, and the layers contain the vectors' values: both are made again from the layers.
        state = {k: v for k, v in self.__dict__.items() if k not in ("_params", "_grads", "_parts", "plan")}
        return {**state, "_params": None, "_grads": None, "_parts": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for layer in tree(self.layers):
            layer.binding = 0
        if self.built:
            self._pack()

    def copy(self) -> Self:
        """Return an independent copy, weights and optimizer included."""
        return copy.deepcopy(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file that :func:`fastrnn.load` reads: see :func:`fastrnn.save`."""
        saving.save(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone, to be read by :meth:`load_weights`."""
        self.vectors()
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read the weights from a file of :meth:`save_weights` or :meth:`save`; after an error the model is unchanged."""
        self.vectors()
        saving.load_weights(self, path)

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
            Arguments of Keras without effect.
        """
        text = summary(self, line_length, show_trainable)
        (print_fn or print)(text)


#: Numbers for the vectors of weights.
_bindings = itertools.count(1)


def tree(layers: Iterable[Layer]) -> Iterator[Layer]:
    """All layers, including layers inside layers."""
    for layer in layers:
        yield layer
        yield from tree(layer.inner_layers())


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Any:
    """Read a model from a file of its ``save``; as :func:`fastrnn.load`, for models only.

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.models import load_model
    >>> Sequential([layers.Input((None, 3)), layers.GRU(4)]).save("model.fastrnn")
    >>> load_model("model.fastrnn").layers[0].units
    4
    """
    model = saving.load(path, custom_objects, compile)
    if not isinstance(model, Network):
        raise ModelFileError(
            f"{os.fspath(path)!r} contains {type(model).__name__}, not a model: read it with fastrnn.load"
        )
    return model

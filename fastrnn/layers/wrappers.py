"""Layers that contain other layers: their base class, and a layer that applies another one to every time step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import flag
from fastrnn.layers import deserialize
from fastrnn.layers.arrays import RowLayout
from fastrnn.layers.base import TABLES, Layer, Shape, is_cell
from fastrnn.layers.core import InputLayer
from fastrnn.layers.streamed import Streamed
from fastrnn.random import new_seed

__all__ = ["TimeDistributed", "Wrapper", "revive"]


def revive(value: Any) -> Any:
    """Make a layer from its configuration, or copy a layer."""
    if isinstance(value, Mapping) and "class_name" in value:
        return deserialize(dict(value))
    return copy.deepcopy(value)


def plain(layer: Any) -> Any:
    """The configuration of a layer of this library; a copy of a user-defined layer."""
    from fastrnn import layers

    name = type(layer).__name__
    if name in layers.__all__ and layers.get_class(name) is type(layer):
        return {"class_name": name, "config": layer.get_config()}
    return copy.deepcopy(layer)


class Wrapper(Layer):
    """Base class of layers that contain other layers, the children.

    For a model it is one layer: the children's weights, gradients, penalties and constraints have the names
    ``"<child>/<weight>"``, in the order of the children. A subclass calls :meth:`_hold` in its constructor, and builds the
    children in ``build``, at whose end it calls :meth:`_adopt`. It runs children by :meth:`_run` and :meth:`_back`, which
    apply the children's activity regularizers.

    Parameters
    ----------
    **kwargs
        As for :class:`Layer`; `dtype` is that of the children.

    Examples
    --------
    >>> from fastrnn.layers import Dense, TimeDistributed
    >>> isinstance(TimeDistributed(Dense(2)), Wrapper), TimeDistributed(Dense(2)).layer.units
    (True, 2)
    """

    #: Arguments of the constructor that are layers.
    _held = frozenset({"layer", "backward_layer", "cell"})
    _children: dict[str, Layer]

    def __init__(self, **kwargs: Any) -> None:
        self._children = {}
        self._own_trainable = True
        self._n_threads: int | None = None
        #: Activity penalties of the children, of the last pass.
        self._penalties: list[float] = []
        super().__init__(**kwargs)

    def _hold(self, **children: Layer) -> None:
        """Set the children. They must have this layer's dtype; they become frozen if this layer is."""
        self._children = children
        for prefix, child in children.items():
            if child.dtype != self.dtype:
                raise ValueError(
                    f"layer {self.name!r} ({type(self).__name__}) has dtype {self.dtype}, its {prefix} has "
                    f"{child.dtype}: give both the same"
                )
        if not self._own_trainable:
            self.trainable = False

    @staticmethod
    def _with_dtype(kwargs: dict[str, Any], child: Any) -> dict[str, Any]:
        """`kwargs` with the child's dtype if no dtype is given."""
        if kwargs.get("dtype") is None and isinstance(child, Layer):
            return {**kwargs, "dtype": child.dtype.name}
        return kwargs

    @property
    def trainable(self) -> bool:  # type: ignore[override]
        """Whether training changes any of the weights; setting this sets it for all children."""
        children = self._children.values()
        return self._own_trainable and (not children or any(child.trainable for child in children))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._own_trainable = flag(value, "trainable")
        Layer.trainable_changes += 1
        for child in self._children.values():
            child.trainable = bool(value)

    @property
    def weights_version(self) -> int:  # type: ignore[override]
        """Grows whenever the weights change, here or in a child."""
        return sum(child.weights_version for child in self._children.values())

    @weights_version.setter
    def weights_version(self, value: int) -> None:
        for child in self._children.values():
            child.weights_version += 1

    def weights_changed(self) -> None:
        for child in self._children.values():
            child.weights_changed()

    def inner_layers(self) -> list[Layer]:
        return list(self._children.values())

    @property
    def n_threads(self) -> int | None:  # type: ignore[override]
        """Largest number of threads of the children; None: all cores that this process may use."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, value: int | None) -> None:
        self._n_threads = value
        for child in self._children.values():
            child.n_threads = value

    # -- weights

    def _adopt(self) -> None:
        """Put the children's arrays, not copies, into this layer's dicts."""
        for table in TABLES:
            vars(self)[table] = {
                f"{prefix}/{name}" if prefix else name: value
                for prefix, child in self._children.items()
                for name, value in vars(child)[table].items()
            }
        # A model calls `regularization`, which includes activity penalties, only for layers with an entry here.
        for prefix, child in self._children.items():
            if child.activity_regularizer is not None:
                self._regularizers[f"{prefix}/activity"] = child.activity_regularizer

    def _refresh(self) -> None:
        """Enter the children's arrays anew: another model that holds a child may have moved them."""
        for child in self._children.values():
            if isinstance(child, Wrapper):
                child._refresh()
        if self.built:
            self._adopt()

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weights, child after child, in Keras's order."""
        self._refresh()
        return super().get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights from arrays in the order of :meth:`get_weights`."""
        self._refresh()
        super().set_weights(weights)

    def bind(self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]) -> None:
        for prefix, child in self._children.items():
            views: list[dict[str, np.ndarray]] = []
            for arrays in (params, grads):
                views.append({n: arrays[f"{prefix}/{n}" if prefix else n] for n in child._weights})
            child.bind(*views)
        self._adopt()
        self.weights_changed()

    def set_seed(self, seed: Any) -> None:
        sequence = new_seed(seed)
        super().set_seed(sequence)
        children = self._seeded()
        for child, part in zip(children, sequence.spawn(len(children)), strict=True):
            child.set_seed(part)

    def _seeded(self) -> list[Layer]:
        """The layers that draw random numbers."""
        return list(self._children.values())

    def _trained(self) -> dict[str, Layer]:
        """The children whose weights training changes, unless they are frozen."""
        return self._children if self._own_trainable else {}

    def trained_weights(self) -> list[str]:
        return [
            f"{prefix}/{name}" if prefix else name
            for prefix, child in self._trained().items()
            for name in child.trained_weights()
        ]

    def regularization(self) -> float:
        penalty = float(sum(self._penalties))
        return penalty + sum(child.regularization() for child in self._trained().values())

    def add_regularization_gradient(self) -> None:
        for child in self._trained().values():
            child.add_regularization_gradient()

    def apply_constraints(self) -> None:
        for child in self._trained().values():
            child.apply_constraints()

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of stateful children, of some sequences or of all; see :meth:`LSTM.reset_state`."""
        for child in self._children.values():
            child.reset_state(rows)

    reset_states = reset_state

    # -- passes

    def _run(self, child: Layer, x: Any, mask: Any, training: bool, *, size: int = 0, **more: Any) -> Any:
        """Run a child's forward pass; activity penalties are divided by the batch size `size`."""
        y, cache = child.forward(x, mask=mask, training=training, **more)
        regularizer = child.activity_regularizer
        if regularizer is None:
            return y, cache
        out = y[0] if isinstance(y, list) else y
        size = size or len(out)
        self._penalties.append(regularizer(out) / size)
        return y, (cache, out, size)

    @staticmethod
    def _back(child: Layer, dy: Any, cache: Any, need_dx: bool) -> Any:
        """Run a child's backward pass."""
        regularizer = child.activity_regularizer
        if regularizer is not None:
            cache, out, size = cache
            more = regularizer.gradient(out) / out.dtype.type(size)
            if isinstance(dy, list):
                dy = [more if dy[0] is None else dy[0] + more, *dy[1:]]
            else:
                dy = more if dy is None else dy + more
        return child.backward(dy, cache, need_dx)

    # -- configuration and copies

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls(**{k: v if v is None or k not in cls._held else revive(v) for k, v in config.items()})

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for key in config.keys() & self._held:
            layer = getattr(self, key)
            config[key] = None if layer is None else plain(layer)
        return config

    def __getstate__(self) -> dict[str, Any]:
        # Weights are pickled only with the children, so that unpickling makes one copy of each.
        state = {**self.__dict__, "_weights": {}, "_grads": {}}
        state.pop("binding", None)  # a copy is in no model
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._adopt()


class TimeDistributed(Wrapper):
    """Applies a layer to every time step of an input ``(batch, time, ...)``, with the same weights.

    Parameters
    ----------
    layer : Layer
        A layer of arrays without the time axis.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.TimeDistributed(layers.Dense(2))(np.ones((3, 4, 5))).shape
    (3, 4, 2)
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(f"layer={layer!r}: TimeDistributed needs a layer of fastrnn.layers")
        if is_cell(layer):
            raise ValueError(f"layer={layer!r} is a cell, which needs a time loop: use RNN(cell)")
        if isinstance(layer, InputLayer):
            raise ValueError(f"layer={layer!r} only declares a shape: it must be the first layer of a model")
        if layer.merge_mode is None:
            raise ValueError(
                f"layer={layer!r} has merge_mode=None, which gives two outputs: TimeDistributed takes layers with one"
            )
        if layer.return_state or layer.stateful:
            raise ValueError(
                f"layer={layer!r}: TimeDistributed runs all time steps in parallel, so return_state and stateful "
                "have no meaning inside it"
            )
        super().__init__(**self._with_dtype(kwargs, layer))
        self._hold(layer=layer)

    @property
    def layer(self) -> Layer:
        """The layer that is applied."""
        return self._children["layer"]

    @property
    def output_activation(self) -> str | None:  # type: ignore[override]
        """The activation at the end of the layer, which the loss may compute instead."""
        return None if self.layer.activity_regularizer is not None else self.layer.output_activation

    def _inner(self, shape: Any) -> Shape:
        if not isinstance(shape, (tuple, list)) or len(shape) < 3:
            raise ValueError(
                f"layer {self.name!r} (TimeDistributed) takes inputs (batch, time, ...) with at least 3 axes, "
                f"got shape {shape}"
            )
        return (shape[0], *shape[2:])

    def _check_shape(self, shape: Shape) -> None:
        inner = self._inner(shape)
        super()._check_shape(shape)
        self.layer._check_shape(inner)

    def build(self, input_shape: Shape) -> None:
        self.layer.ensure_built(self._inner(input_shape))
        self._adopt()
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        inner = self.layer.compute_output_shape(self._inner(input_shape))
        return (inner[0], input_shape[1], *inner[1:])

    def as_input(self, x: Any) -> np.ndarray:
        return self.layer.as_input(x)

    @staticmethod
    def _flat(x: np.ndarray) -> tuple[np.ndarray, tuple[int, int, bool]]:
        """All time steps as one batch, in their order in memory."""
        time_major = x.ndim > 3 and not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous
        if x.ndim == 3:
            layout = RowLayout(x)
            return layout.rows(x), (*x.shape[:2], layout.time_major)
        moved = x.swapaxes(0, 1) if time_major else x
        return moved.reshape(-1, *x.shape[2:]), (*x.shape[:2], time_major)

    @staticmethod
    def _shaped(y: np.ndarray, lead: tuple[int, int, bool]) -> np.ndarray:
        n_batch, n_steps, time_major = lead
        if time_major:
            return y.reshape(n_steps, n_batch, *y.shape[1:]).swapaxes(0, 1)
        return y.reshape(n_batch, n_steps, *y.shape[1:])

    @staticmethod
    def _as_flat(dy: np.ndarray, lead: tuple[int, int, bool]) -> np.ndarray:
        moved = dy.swapaxes(0, 1) if lead[2] else dy
        return np.ascontiguousarray(moved).reshape(-1, *dy.shape[2:])

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        self._penalties.clear()
        flat, lead = self._flat(x)
        y, cache = self._run(self.layer, flat, None, training, size=len(x))
        return self._shaped(y, lead), (cache, lead)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        inner, lead = cache
        dx = self._back(self.layer, self._as_flat(dy, lead), inner, need_dx)
        return None if dx is None else self._shaped(dx, lead)

    def streamed(self, x: Any) -> Streamed:
        return self.layer.streamed(x)

    def forward_linear(
        self, x: Any, mask: np.ndarray | None = None, training: bool = False
    ) -> tuple[Any, Any]:
        """The output before the activation, and what `backward_linear` needs."""
        self._penalties.clear()
        flat, lead = self._flat(x)
        z, cache = self.layer.forward_linear(flat, None, training)  # type: ignore[attr-defined]
        return self._shaped(z, lead), (cache, lead)

    def backward_linear(self, dz: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        """As `backward`, from the gradient of the output before the activation."""
        inner, lead = cache
        dx = self.layer.backward_linear(self._as_flat(dz, lead), inner, need_dx)  # type: ignore[attr-defined]
        return None if dx is None else self._shaped(dx, lead)

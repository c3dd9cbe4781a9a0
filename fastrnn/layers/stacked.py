"""Cells made of other cells: several in a row, one with dropout, or a user's own object."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import number
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.cells import Cell
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.wrappers import Wrapper, plain, revive
from fastrnn.random import check_seed

__all__ = ["CustomCell", "DropoutWrapper", "StackedRNNCells", "as_cell", "check_cell_contract"]

CONTRACT = (
    "a cell has state_size (an integer or a list of integers) and call(x_t, states) -> (output, new states), and to be "
    "trained backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)"
)


def check_cell_contract(cell: Any, name: str = "cell") -> None:
    """Raise unless `cell` can be stepped."""
    if isinstance(cell, type):
        raise ValueError(f"{name}={cell!r} is a class: give an instance of it")
    if isinstance(cell, Layer) and cell.return_sequences is not None:
        raise ValueError(
            f"{name}={cell!r} has a time loop of its own: give a cell, such as LSTMCell, which does one step"
        )
    if isinstance(cell, (Cell, CustomCell, StackedRNNCells, DropoutWrapper)):
        return
    if not callable(getattr(cell, "call", None)):
        raise ValueError(f"{name}={cell!r} has no call method: {CONTRACT}")
    sizes = getattr(cell, "state_size", None)
    if sizes is None:
        raise ValueError(f"{name}={cell!r} has no state_size: {CONTRACT}")
    sizes = sizes if isinstance(sizes, (list, tuple)) else [sizes]
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size <= 0:
            raise ValueError(
                f"{name}={cell!r} has state_size={cell.state_size!r}: give a positive integer, or a list of them"
            )
    if not sizes:
        raise ValueError(f"{name}={cell!r} has state_size={cell.state_size!r}: give at least one state")


def is_kernel_class(cls: type) -> bool:
    """Whether `cls` is a class of cells of the engine: a NamedTuple with a method `traits`."""
    return issubclass(cls, tuple) and callable(getattr(cls, "traits", None))


def is_kernel(cell: Any) -> bool:
    """Whether `cell` is a cell of the engine."""
    return is_kernel_class(type(cell))


def as_cell(cell: Any, dtype: Any = None, name: str = "cell") -> Any:
    """Return a cell of this library as it is, a kernel or an object of the user's inside a layer that steps it."""
    if isinstance(cell, list) or type(cell) is tuple:
        return StackedRNNCells(cell, dtype=dtype)
    if is_kernel(cell):
        from fastrnn.layers.more_cells import KernelCell

        return KernelCell(cell, dtype=dtype)
    check_cell_contract(cell, name)
    if isinstance(cell, (Cell, CustomCell, StackedRNNCells, DropoutWrapper)):
        return cell
    return CustomCell(cell, dtype=dtype)


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class CustomCell(Layer):
    """A user's own cell, an object with Keras's cell contract, in plain NumPy.

    The object has

    - ``state_size``: an integer, or a list of integers, one for each state;
    - ``call(x_t, states) -> (output, new_states)``, where ``x_t`` is ``(batch, features)`` and each state
      ``(batch, size)``; it may also take `training`;
    - optionally ``output_size``, ``get_initial_state(batch_size)``, ``build(input_shape)``.

    Weights are in its dict ``weights``: name -> array; a subclass of :class:`~fastrnn.layers.Layer` gets it from
    ``add_weight``. To be trained it has

    - ``backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)``: from the gradients with respect to the output and
      to the new states, and the arguments that `call` had, the gradients with respect to those. The gradients of the
      weights are *added* to ``self.grads[name]``, arrays that are there (and zero at the start) when training begins.

    A model moves the arrays in ``weights`` and ``grads`` into its own vectors before training, so `call` should look
    weights up in the dict. Attributes that are the same arrays (``self.kernel = self.add_weight(...)``) are replaced too.

    Parameters
    ----------
    cell : object
    **kwargs
        As for :class:`Layer`.
    """

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        check_cell_contract(cell)
        if isinstance(cell, Layer):
            kwargs = {"name": cell.name, "trainable": cell.trainable, **kwargs}
            kwargs["dtype"] = kwargs.get("dtype") or cell.dtype.name
        kwargs.setdefault("name", getattr(cell, "name", None))
        super().__init__(**kwargs)
        self.cell = cell
        self._call_training = _takes(cell.call, "training")

    @property
    def state_size(self) -> Any:
        """Length of the state, or a list of lengths."""
        return self.cell.state_size

    @property
    def state_sizes(self) -> list[int]:
        """Lengths of the states."""
        sizes = self.cell.state_size
        return [int(size) for size in sizes] if isinstance(sizes, (list, tuple)) else [int(sizes)]

    @property
    def output_size(self) -> int:
        """Length of the output."""
        size = getattr(self.cell, "output_size", None)
        return self.state_sizes[0] if size is None else int(size)

    @property
    def is_differentiable(self) -> bool:
        """Whether the object has a method `backward`."""
        return callable(getattr(self.cell, "backward", None))

    @property
    def makes_initial_state(self) -> bool:
        """Whether the object has a method `get_initial_state`."""
        return callable(getattr(self.cell, "get_initial_state", None))

    def build(self, input_shape: Shape) -> None:
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build(input_shape)
            if isinstance(self.cell, Layer):
                self.cell.built = True
        self._share()
        self.built = True

    def _share(self) -> None:
        """Hold the same dicts of weights and gradients as the object."""
        cell = self.cell
        if isinstance(cell, Layer):
            cell.weights, cell.grads = cell._weights, cell._grads  # type: ignore[attr-defined]
            self._regularizers, self._constraints = cell._regularizers, cell._constraints
        weights = getattr(cell, "weights", None)
        if weights is None:
            return
        if not isinstance(weights, dict):
            raise ValueError(f"cell={cell!r} has weights={weights!r}: give a dict of name to array")
        if not isinstance(getattr(cell, "grads", None), dict):
            cell.grads = {}
        for name, value in weights.items():
            array = np.ascontiguousarray(value, dtype=self.dtype)
            self._put(weights, name, array)
            grad = cell.grads.get(name)
            if grad is None or np.shape(grad) != array.shape or grad.dtype != self.dtype:
                cell.grads[name] = np.zeros(array.shape, self.dtype)
        self._weights, self._grads = weights, cell.grads

    def _put(self, table: dict[str, Any], name: str, array: np.ndarray) -> None:
        """Replace an array, also where an attribute of the object is the same one."""
        old = table[name]
        if old is array:
            return
        for key, value in self._attributes().items():
            if value is old:
                setattr(self.cell, key, array)
        table[name] = array

    def _attributes(self) -> dict[str, Any]:
        """The object's attributes; one with slots has none that could be replaced."""
        return dict(getattr(self.cell, "__dict__", {}))

    def bind(self, params, grads):
        for name, value in list(self._weights.items()):
            params[name][...] = value
            grads[name][...] = 0
            self._put(self._weights, name, params[name])
            self._put(self._grads, name, grads[name])
        self.weights_changed()

    def set_seed(self, seed: Any) -> None:
        super().set_seed(seed)
        if isinstance(self.cell, Layer):
            self.cell.set_seed(seed)

    def get_initial_state(self, batch_size: int = 1) -> list[np.ndarray]:
        """Return what the object says, or zeros."""
        if not self.makes_initial_state:
            return [np.zeros((batch_size, size), self.dtype) for size in self.state_sizes]
        states = self.cell.get_initial_state(batch_size=batch_size)
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        return [np.asarray(state, self.dtype) for state in states]

    def step(self, x: Any, states: Any, training: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
        """One time step, with what the object returned checked."""
        more = {"training": training} if self._call_training else {}
        out, new = self.cell.call(x, states, **more)
        new = list(new) if isinstance(new, (list, tuple)) else [new]
        shapes = [(len(x), size) for size in (self.output_size, *self.state_sizes)]
        if [np.shape(a) for a in (out, *new)] != shapes:
            raise ValueError(
                f"cell={self.cell!r}: call returned an output and states of shapes "
                f"{[np.shape(a) for a in (out, *new)]}, by its output_size and state_size they should be {shapes}"
            )
        return np.asarray(out, self.dtype), [np.asarray(s, self.dtype) for s in new]

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step: the output and the new states."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        return self.step(x, list(states) if isinstance(states, (list, tuple)) else [states], training)

    def get_config(self) -> dict[str, Any]:
        # The arguments of the object's constructor are not known, so the configuration holds the object itself.
        return {**super().get_config(), "cell": self.cell}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls(**{**config, "cell": copy.deepcopy(config["cell"])})

    def __getstate__(self) -> dict[str, Any]:
        # Pickling copies the weights: record which attributes are the same arrays.
        links = {
            key: name
            for key, value in self._attributes().items()
            for name, weight in self._weights.items()
            if value is weight
        }
        return {**self.__dict__, "_weights": {}, "_grads": {}, "_links": links}

    def __setstate__(self, state: dict[str, Any]) -> None:
        links = state.pop("_links")
        self.__dict__.update(state)
        if self.built:
            self._share()
        for key, name in links.items():
            setattr(self.cell, key, self._weights[name])


class DropoutWrapper(Wrapper):
    """A cell with dropout of its inputs and outputs, but not of the states that go from step to step.

    New factors are drawn at every time step (Zaremba et al. 2014), as TensorFlow 1's class of this name did.

    Parameters
    ----------
    cell : cell
    input_keep_prob, output_keep_prob : float
        Fraction of the inputs, or outputs, that is kept in training, above 0 up to 1.
    seed : int, optional
        Of the random numbers; by default they come from the model's seed.
    **kwargs
        As for :class:`Layer`.

    References
    ----------
    Zaremba, W., Sutskever, I. & Vinyals, O. (2014). Recurrent neural network regularization. arXiv:1409.2329.
    """

    def __init__(
        self,
        cell: Any,
        input_keep_prob: float = 1.0,
        output_keep_prob: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (("input_keep_prob", input_keep_prob), ("output_keep_prob", output_keep_prob)):
            number(value, name, 0, 1, above=True)
        cell = as_cell(cell, kwargs.get("dtype"))
        super().__init__(**self._with_dtype(kwargs, cell))
        self.input_keep_prob, self.output_keep_prob = float(input_keep_prob), float(output_keep_prob)
        self.seed = check_seed(seed)
        dtype = self.dtype.name
        self._before = Dropout(1 - self.input_keep_prob, dtype=dtype)
        self._after = Dropout(1 - self.output_keep_prob, dtype=dtype)
        self._hold(cell=cell)
        if seed is not None:
            self.set_seed(seed)

    @property
    def cell(self) -> Any:
        """The cell inside."""
        return self._children["cell"]

    def _seeded(self) -> list[Layer]:
        return [self.cell, self._before, self._after]

    def set_seed(self, seed: Any) -> None:
        super().set_seed(seed if self.seed is None else self.seed)

    @property
    def state_size(self) -> Any:
        """That of the cell inside."""
        return self.cell.state_size

    @property
    def output_size(self) -> int:
        """That of the cell inside."""
        return self.cell.output_size

    def get_initial_state(self, batch_size: int = 1) -> Any:
        """Return that of the cell inside."""
        return self.cell.get_initial_state(batch_size)

    def build(self, input_shape: Shape) -> None:
        self.cell.ensure_built(input_shape)
        self._adopt()
        self.built = True

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step: the output and the new states."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        out, states = self.cell(self._before.forward(x, None, training)[0], states, training)
        return self._after.forward(out, None, training)[0], states

    call = __call__


class StackedRNNCells(Wrapper):
    """Several cells as one cell: each takes the output of the one before it.

    States are a list with one entry for each cell, itself a list where the cell has several states. (TensorFlow 1 had it
    as MultiRNNCell.)

    Parameters
    ----------
    cells : list of cells
        Of this library, or a user's own (see :class:`CustomCell`).
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> stack = layers.StackedRNNCells([layers.LSTMCell(8), layers.GRUCell(6)])
    >>> layers.RNN(stack, return_sequences=True)(np.ones((4, 5, 2))).shape
    (4, 5, 6)
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        if not isinstance(cells, (list, tuple)) or not cells:
            raise ValueError(f"cells={cells!r}: give a list of at least one cell")
        given = next((c for c in cells if isinstance(c, Layer)), None)
        kwargs = self._with_dtype(kwargs, given)
        made = [as_cell(c, kwargs.get("dtype"), f"cells[{k}]") for k, c in enumerate(cells)]
        for k, cell in enumerate(made):
            if any(cell is other for other in made[:k]):
                raise ValueError(
                    f"cells[{k}] is in the list already: make a second cell, two cells can't have the same weights"
                )
        super().__init__(**kwargs)
        self._hold(**{str(k): cell for k, cell in enumerate(made)})

    @property
    def cells(self) -> list[Any]:
        """The cells, first to last."""
        return list(self._children.values())

    @property
    def state_size(self) -> list[Any]:
        """State sizes, one entry for each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """That of the last cell."""
        return self.cells[-1].output_size

    def get_initial_state(self, batch_size: int = 1) -> list[Any]:
        """Return the cells' initial states, one entry for each cell."""
        return [nested(cell.get_initial_state(batch_size), cell.state_size) for cell in self.cells]

    def build(self, input_shape: Shape) -> None:
        shape = tuple(input_shape)
        for cell in self.cells:
            cell.ensure_built(shape)
            shape = (shape[0], cell.output_size)
        self._adopt()
        self.built = True

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step: the output, and one entry of new states for each cell."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        if not isinstance(states, (list, tuple)) or len(states) != len(self.cells):
            n = len(states) if isinstance(states, (list, tuple)) else 1
            raise ValueError(f"states has {n} entries, there are {len(self.cells)} cells: give one for each")
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            x, after = cell(x, state if isinstance(state, (list, tuple)) else [state], training)
            new.append(nested(after, cell.state_size))
        return x, new

    call = __call__

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": [plain(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls(**{**config, "cells": [revive(cell) for cell in config["cells"]]})


def nested(states: Sequence[Any], state_size: Any) -> Any:
    """A cell's states as an entry in the list of a stack: the array itself where the cell has one state only."""
    single = not isinstance(state_size, (list, tuple))
    return states[0] if single and isinstance(states, (list, tuple)) else list(states)

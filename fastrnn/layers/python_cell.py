"""A cell that is stepped in Python: an object of the user's with Keras's cell contract."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import real_array
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.over_time import TimeOptions
from fastrnn.layers.streamed import PythonStep, Streamed

__all__ = ["CustomCell", "check_contract"]

CONTRACT = (
    "a cell has state_size (an integer or a list of integers) and call(x_t, states) -> (output, new states), and to be "
    "trained backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)"
)


def check_contract(cell: Any, name: str = "cell") -> None:
    """Raise unless `cell` is an object that can be stepped."""
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


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class _Step(NamedTuple):
    """Data of one time step for `backward`."""

    x: np.ndarray
    states: list[np.ndarray]
    valid: np.ndarray | None


class _Cache(NamedTuple):
    """What `backward_sequence` needs."""

    steps: list[_Step]
    options: TimeOptions


class CustomCell(Layer):
    """A user-defined cell in NumPy, an object with the methods of Keras's cells.

    It is stepped in Python, which is slow: a small layer takes 20 to 100 times as long as a compiled one. A cell whose step
    can be written as equations is compiled instead (see :func:`fastrnn.cells.equations`).

    The object has

    - ``state_size``: an integer, or a list of integers, one for each state;
    - ``call(x_t, states) -> (output, new_states)``, where ``x_t`` is ``(batch, features)`` and each state
      ``(batch, size)``; it may also take `training`;
    - optionally ``output_size``, ``get_initial_state(batch_size)``, ``build(input_shape)``.

    Weights are in its dict ``weights``: name -> array; a subclass of :class:`~fastrnn.layers.Layer` gets it from
    ``add_weight``. To be trained it has

    - ``backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)``: computes the gradients of the arguments of `call`
      from those of the output and of the new states. It *adds* the gradients of the weights to ``self.grads[name]``, arrays
      that the layer provides and sets to zero.

    A model moves the arrays in ``weights`` and ``grads`` into its own vectors before training, so `call` should read weights
    from the dict. Attributes that are the same arrays (``self.kernel = self.add_weight(...)``) are replaced too.

    Parameters
    ----------
    cell : object
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, CustomCell
    >>> class Mean:  # of all inputs so far, with a state of sums and one of counts
    ...     state_size = [2, 1]
    ...
    ...     def call(self, x_t, states):
    ...         total, count = states[0] + x_t, states[1] + 1
    ...         return total / count, [total, count]
    >>> RNN(CustomCell(Mean()))(np.arange(6.0).reshape(1, 3, 2))
    array([[2., 3.]], dtype=float32)
    """

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        check_contract(cell)
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
        """Share the dicts of weights and gradients with the object."""
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
        """Replace an array in a dict, and attributes of the object that are the same array."""
        old = table[name]
        if old is array:
            return
        for key, value in self._attributes().items():
            if value is old:
                setattr(self.cell, key, array)
        table[name] = array

    def _attributes(self) -> dict[str, Any]:
        """The object's attributes; empty for an object with slots."""
        return dict(getattr(self.cell, "__dict__", {}))

    def bind(self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]) -> None:
        for name, value in list(self._weights.items()):
            params[name][...] = value
            self._put(self._weights, name, params[name])
            self._put(self._grads, name, grads[name])
        self.weights_changed()

    def set_seed(self, seed: Any) -> None:
        super().set_seed(seed)
        if isinstance(self.cell, Layer):
            self.cell.set_seed(seed)

    def get_initial_state(self, batch_size: int = 1) -> list[np.ndarray]:
        """Return the object's initial states, or zeros."""
        if not self.makes_initial_state:
            return [np.zeros((batch_size, size), self.dtype) for size in self.state_sizes]
        states = self.cell.get_initial_state(batch_size=batch_size)
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        return [np.asarray(state, self.dtype) for state in states]

    def step(self, x: Any, states: Any, training: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
        """Compute one time step, and check the shapes of its results."""
        more = {"training": training} if self._call_training else {}
        out, new = self.cell.call(x, states, **more)
        new = list(new) if isinstance(new, (list, tuple)) else [new]
        shapes = [(len(x), size) for size in (self.output_size, *self.state_sizes)]
        if [np.shape(a) for a in (out, *new)] != shapes:
            raise ValueError(
                f"cell={self.cell!r}: call returned an output and states of shapes "
                f"{[np.shape(a) for a in (out, *new)]}, but its output_size and state_size require {shapes}"
            )
        return np.asarray(out, self.dtype), [np.asarray(s, self.dtype) for s in new]

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step: the output and the new states."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        return self.step(x, list(states) if isinstance(states, (list, tuple)) else [states], training)

    # -- whole sequences

    def as_states(self, states: Any, n_batch: int, name: str = "initial_state") -> list[np.ndarray]:
        """Return states as arrays ``(n_batch, size)``, or raise if their number or shapes are wrong."""
        several = isinstance(states, (list, tuple))
        given = list(states) if several else [states]
        if len(given) != len(self.state_sizes):
            raise ValueError(
                f"{name} has {len(given)} arrays, the cell {self.name!r} has {len(self.state_sizes)} states"
            )
        arrays = []
        for k, (state, size) in enumerate(zip(given, self.state_sizes, strict=True)):
            label = f"{name}[{k}]" if several else name
            array = real_array(state, self.dtype, label)
            if array.shape != (n_batch, size):
                raise ValueError(
                    f"{label} has shape {array.shape}: the batch needs {(n_batch, size)}, (batch, size)"
                )
            arrays.append(array)
        return arrays

    def forward_sequence(
        self, x: np.ndarray, mask: np.ndarray | None, training: bool, states: Any, options: TimeOptions
    ) -> tuple[np.ndarray, list[np.ndarray], Any]:
        """As :meth:`fastrnn.layers.cells.Cell.forward_sequence`, in Python."""
        if training and not self.is_differentiable:
            raise ValueError(
                f"cell={self.cell!r} has no backward method, so it can't be trained: add "
                "backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)"
            )
        n_batch, n_steps, _ = x.shape
        states = self.get_initial_state(n_batch) if states is None else list(states)
        last = np.zeros((n_batch, self.output_size), self.dtype)
        outputs = np.empty((n_steps if options.sequences else 0, *last.shape), self.dtype)
        steps: list[_Step] = []
        for s in range(n_steps):
            t = n_steps - 1 - s if options.reverse else s
            valid = None if mask is None else mask[:, t, None]
            if valid is not None and valid.all():
                valid = None
            xt = np.ascontiguousarray(x[:, t])
            if training:
                steps.append(_Step(xt, states, valid))
            if valid is None:
                last, states = self.step(xt, states, training)
            elif valid.any():
                out, new = self.step(xt, states, training)
                last = np.where(valid, out, 0 if options.zero_masked else last)
                states = [np.where(valid, a, b) for a, b in zip(new, states, strict=True)]
            elif options.zero_masked:
                last = np.zeros_like(last)
            if options.sequences:
                outputs[s] = last
        y = outputs.swapaxes(0, 1) if options.sequences else last
        return y, states, _Cache(steps, options) if training else None

    def backward_sequence(
        self, d_out: Any, d_states: Any, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, list[np.ndarray]]:
        """As :meth:`fastrnn.layers.cells.Cell.backward_sequence`, in Python."""
        for grad in self._grads.values():
            grad[...] = 0
        steps, options = cache
        n_steps, n_batch = len(steps), len(steps[0].x)
        d_states = [None] * len(self.state_sizes) if d_states is None else d_states
        d_states = [
            np.zeros((n_batch, size), self.dtype) if d is None else np.array(d, self.dtype)
            for d, size in zip(d_states, self.state_sizes, strict=True)
        ]
        # Masked steps repeat the output of an earlier step, whose gradient is the sum of theirs.
        carried = np.zeros((n_batch, self.output_size), self.dtype)
        if not options.sequences and d_out is not None:
            carried = carried + d_out
        dx = np.zeros((n_steps, n_batch, steps[0].x.shape[1]), self.dtype)
        for s in reversed(range(n_steps)):
            step = steps[s]
            if options.sequences and d_out is not None:
                carried = carried + d_out[:, s]
            valid = step.valid
            if valid is not None and not valid.any():
                if options.zero_masked:
                    carried = np.zeros_like(carried)
                continue
            d_new = (carried, d_states)
            if valid is not None:
                d_new = np.where(valid, carried, 0), [np.where(valid, d, 0) for d in d_states]
            dxt, d_prev = self._step_back(*d_new, step, need_dx)
            if dxt is not None:
                dx[n_steps - 1 - s if options.reverse else s] = dxt
            if valid is None:
                d_states, carried = [np.asarray(d, self.dtype) for d in d_prev], np.zeros_like(carried)
            else:
                d_states = [np.where(valid, a, b) for a, b in zip(d_prev, d_states, strict=True)]
                carried = np.where(valid | options.zero_masked, 0, carried)
        return dx.swapaxes(0, 1) if need_dx else None, d_states

    def _step_back(
        self, d_out: np.ndarray, d_states: list[Any], step: _Step, need_dx: bool
    ) -> tuple[Any, list[Any]]:
        """One time step back, with what the object returned checked."""
        dxt, d_prev = self.cell.backward(d_out, d_states, step.x, step.states)
        d_prev = list(d_prev) if isinstance(d_prev, (list, tuple)) else [d_prev]
        got = [None if dxt is None else np.shape(dxt), *(np.shape(d) for d in d_prev)]
        expected = [step.x.shape, *(d.shape for d in d_states)]
        if got != expected and not (dxt is None and not need_dx and got[1:] == expected[1:]):
            raise ValueError(
                f"cell={self.cell!r}: backward returned gradients of shapes {got} of x_t and states, "
                f"they should be {expected}"
            )
        return dxt, d_prev

    def prepare(self, shape: tuple[int, ...], options: TimeOptions) -> None:
        """There is nothing to prepare."""

    def streamed(self, x: np.ndarray, unroll: bool = False) -> Streamed:
        states = [np.array(state, order="C") for state in self.get_initial_state(len(x))]
        out = np.zeros((len(x), self.output_size), self.dtype)

        def run(given: np.ndarray) -> np.ndarray:
            # `step` checks what the object returns before anything here is changed.
            y, new = self.step(given, [state.copy() for state in states])
            for state, value in zip(states, new, strict=True):
                state[...] = value
            out[...] = y
            return out

        return Streamed((PythonStep(run, x, out),), out, (states,))

    # -- configuration and copies

    def get_config(self) -> dict[str, Any]:
        # The arguments of the object's constructor are not known, so the configuration contains the object.
        return {**super().get_config(), "cell": self.cell}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls(**{**config, "cell": copy.deepcopy(config["cell"])})

    def __getstate__(self) -> dict[str, Any]:
        # Pickling copies the weights, so record which attributes are the same arrays.
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

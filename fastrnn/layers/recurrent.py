"""The recurrent layer: it has a cell, runs it over the time steps, and keeps its states."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import flag
from fastrnn.layers.arrays import check_mask, check_not_empty, restarted
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.named_cells import (
    GRUCell,
    IndRNNCell,
    JANETCell,
    LSTMCell,
    PeepholeLSTMCell,
    SimpleRNNCell,
)
from fastrnn.layers.over_time import TimeOptions, shown
from fastrnn.layers.stacked import as_cell
from fastrnn.layers.streamed import Streamed
from fastrnn.layers.wrappers import Wrapper
from fastrnn.registry import choices

__all__ = ["GRU", "JANET", "LSTM", "RNN", "IndRNN", "PeepholeLSTM", "SimpleRNN"]

#: What stands at the end of the docstring of a layer with a cell of its own.
_OPTIONS = """
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`RNN`.
    """


class RNN(Wrapper):
    """A recurrent layer of any cell.

    Inputs have shape ``(batch, time, features)``. The output is ``(batch, output_size)``, or ``(batch, time,
    output_size)`` with `return_sequences`.

    :class:`LSTM` and its like are this layer with a cell of their own, whose arguments they take. In a stack of cells each
    one runs over the whole sequence before the next; the results are those of the stack stepped as a whole.

    Parameters
    ----------
    cell : cell, or list of cells
        :class:`LSTMCell` and its like, a cell made by :func:`fastrnn.cells.equations` such as ``MyCell(n_units=8)``,
        :class:`StackedRNNCells` (a list becomes one), :class:`DropoutWrapper`, or an object with Keras's cell contract,
        which is stepped in Python and therefore slow (see :class:`CustomCell`).
    return_sequences : bool
        Whether to return the outputs of all time steps; by default only that of the last step.
    return_state : bool
        Return a list ``[output, *states]``; each state has shape ``(batch, units)``. States of a stack are a list with one
        entry for each cell.
    go_backwards : bool
        Whether to read the time steps from the last to the first. With `return_sequences` the first output is that of the
        last time step.
    stateful : bool
        Whether the initial states of row i are the final states of row i in the previous call.
    unroll : bool
        For single sequences, use kernels that are compiled for the number of units, at most 64: the same results, sooner.
        Compiling them takes two to three seconds for each number of units, once. Batches of several sequences, and
        dropout of the recurrent products, run through the same kernels either way.
    zero_output_for_mask : bool
        Whether the output of a masked step is zero; by default it is the output of the previous step.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> from fastrnn.cells import equations, tanh
    >>> @equations("h")
    ... def Leaky(z, prev, leak=0.1):
    ...     return prev.h + leak * (tanh(z.h) - prev.h)
    >>> layers.RNN(Leaky(n_units=8, leak=0.2))(np.ones((4, 5, 2))).shape
    (4, 8)
    >>> layers.RNN([layers.LSTMCell(8), layers.GRUCell(6)], return_sequences=True)(np.ones((4, 5, 2))).shape
    (4, 5, 6)
    """

    #: The class of cells whose arguments a subclass takes in place of `cell`.
    cell_class: Any = None

    input_ndim = 3
    has_states = True
    return_sequences: bool

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        cell = as_cell(cell, kwargs.get("dtype"))
        if cell.activity_regularizer is not None:
            raise ValueError(
                f"cell={cell!r} has an activity_regularizer, a penalty on a layer's output: give it to RNN"
            )
        super().__init__(**self._with_dtype(kwargs, cell))
        self.return_sequences = flag(return_sequences, "return_sequences")
        self.return_state = flag(return_state, "return_state")
        self.go_backwards = flag(go_backwards, "go_backwards")
        self.stateful = flag(stateful, "stateful")
        self.unroll = flag(unroll, "unroll")
        self.zero_output_for_mask = flag(zero_output_for_mask, "zero_output_for_mask")
        #: States after the last call, if `stateful`: one entry for each state (or cell of a stack), None for zeros.
        self.states: list[Any] | None = None
        #: Gradient with respect to the initial state, from the last `backward`; nested as the states.
        self.d_initial_state: list[Any] | None = None
        self._ready: tuple[tuple[Any, ...], Any] | None = None
        #: The input shape that was last found to fit, since the layer was built.
        self._fitting: Sequence[int | None] | None = None
        # An empty prefix, so that the weights of the layer have the names of the cell's weights.
        self._hold(**{"": cell})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cell_class" not in vars(cls):
            return
        for name in cls.cell_class._arguments():
            if name not in _OF_LAYERS:
                setattr(cls, name, _OfCell(name))
        if "__init__" not in vars(cls):
            cls.__init__ = _with_arguments_of(cls.cell_class)  # type: ignore[method-assign]
        cls.__doc__ = f"{cls.__doc__}\n\n    {cls.cell_class.__doc__}{_OPTIONS}"

    @property
    def cell(self) -> Any:
        """The cell."""
        return self._children[""]

    @property
    def state_size(self) -> Any:
        """That of the cell."""
        return self.cell.state_size

    # -- randomness: the cell draws all numbers, so a layer and its cell are one

    @property
    def _rng_(self) -> np.random.Generator | None:  # type: ignore[override]
        result: np.random.Generator | None = self.cell._rng_
        return result

    @_rng_.setter
    def _rng_(self, value: np.random.Generator | None) -> None:
        for cell in self._children.values():
            cell._rng_ = value

    def set_seed(self, seed: Any) -> None:
        self.cell.set_seed(seed)

    def _seeded(self) -> list[Layer]:
        return [] if self.cell_class is not None else [self.cell]

    # -- states

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of a stateful layer.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Only those of these sequences of the batch, which start anew in the next call while the others go on.
            All by default, after which another batch size will do.
        """
        if rows is None:
            self.states = None
        elif self.states is not None:
            initial = self.cell.get_initial_state(_batch_size(self.states))
            self.states = restarted(self.states, initial, rows)

    reset_states = reset_state

    def _start(self, initial_state: Any, n_batch: int) -> Any:
        """The states before the first step, as the cell takes them; None for zeros."""
        cell = self.cell
        if initial_state is not None:
            return cell.as_states(initial_state, n_batch)
        if self.stateful and self.states is not None:
            if _batch_size(self.states) != n_batch:
                raise ValueError(
                    f"stateful layer {self.name!r} holds the states of {_batch_size(self.states)} sequences, got a batch "
                    f"of {n_batch}: go on with the same batch size, or call reset_state() first"
                )
            return cell.as_states(self.states, n_batch)
        if cell.makes_initial_state:
            return cell.as_states(cell.get_initial_state(n_batch), n_batch, "get_initial_state(batch_size)")
        return None

    # -- shapes and weights

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        self.cell._check_shape((shape[0], *shape[2:]))

    def ensure_built(self, input_shape: Sequence[int | None]) -> None:
        # Calls repeat one shape, and the checks of layer and cell would take a third of the time of a single step.
        if input_shape != self._fitting:
            super().ensure_built(input_shape)
            self._fitting = input_shape

    def build(self, input_shape: Shape) -> None:
        self._fitting = None
        self.cell.ensure_built((input_shape[0], *input_shape[2:]))
        self._adopt()
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Any:
        n_batch, n_steps = input_shape[:2]
        size = self.cell.output_size
        output = (n_batch, n_steps, size) if self.return_sequences else (n_batch, size)
        if not self.return_state:
            return output
        sizes = self.cell.state_size
        return [output, *_shapes(n_batch, sizes if isinstance(sizes, (list, tuple)) else [sizes])]

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        return mask if self.return_sequences else None

    # -- passes

    def _options(self) -> TimeOptions:
        return TimeOptions(
            self.return_sequences, self.go_backwards, self.zero_output_for_mask, self._n_threads, self.unroll
        )

    def forward(
        self, x: Any, mask: np.ndarray | None = None, training: bool = False, initial_state: Any = None
    ) -> tuple[Any, Any]:  # type: ignore[override]
        if mask is not None:
            mask = check_mask(mask, x.shape)
        if initial_state is None and not training:
            plan = self._plan_for(x)
            if plan is not None:
                if mask is None:
                    return plan(x), None
                if plan.takes_masks:
                    options = self._options()
                    ordered = options.in_order(mask)
                    y, stepped = plan.masked(x, ordered)
                    return shown(y, ordered, stepped, options)[0], None
        check_not_empty(self, x.shape)
        start = self._start(initial_state, len(x))
        y, final, cache = self.cell.forward_sequence(x, mask, training, start, self._options())
        if self.stateful:
            self.states = _copied(final)
        return ([y, *final] if self.return_state else y), cache

    def _plan_for(self, x: np.ndarray, make: bool = True) -> Any:
        """The prepared pass for inputs like `x`, or None; it depends on shape and weights only. A missing one is made."""
        if self.stateful or self.return_state:
            return None
        shape, ready = x.shape, self._ready
        key = self._children[""].weights_version, shape, self._n_threads
        if ready is None or ready[0] != key:
            if not make:
                return None
            ready = self._ready = key, self._prepare(shape)
        # Most types of arrays are the same object.
        fits = (x.dtype is self._dtype or x.dtype == self._dtype) and x.flags.c_contiguous
        return ready[1] if fits else None

    def _prepare(self, shape: tuple[int, ...]) -> Any:
        cell = self.cell
        return None if cell.makes_initial_state else cell.prepare(shape, self._options())

    def backward(self, dy: Any, cache: Any, need_dx: bool = True) -> Any:
        if cache is None:
            raise ValueError(
                f"layer {self.name!r}: only a forward pass with training=True can be differentiated"
            )
        d_out, d_states = dy, None
        if self.return_state:
            d_out, *d_states = dy
        dx, self.d_initial_state = self.cell.backward_sequence(d_out, d_states, cache, need_dx)
        return dx

    def streamed(self, x: np.ndarray) -> Streamed:
        if self.go_backwards or self.return_state:
            option = "go_backwards" if self.go_backwards else "return_state"
            raise ValueError(
                f"layer {self.name!r} has {option}=True: a stream computes forward in time, and its layers return one "
                "output each"
            )
        result: Streamed = self.cell.streamed(x, self.unroll)
        return result

    def __call__(self, x: Any, mask: Any = None, initial_state: Any = None, training: bool = False) -> Any:  # type: ignore[override]
        """Compute the outputs for ``x (batch, time, features)``; the first call creates the weights.

        Parameters
        ----------
        x : array_like of shape (batch, time, features)
        mask : array of bool of shape (batch, time), optional
            False where a step is padding, which does not change the states.
        initial_state : list, optional
            Arrays ``(batch, size)``, one for each state; for a stack one entry for each cell, which is a list if the cell
            has several states. Used in place of the states of a stateful layer.
        training : bool
            Whether to apply dropout.

        Returns
        -------
        ndarray, or with `return_state` a list ``[output, *states]``
        """
        if mask is None is initial_state and training is False and type(x) is np.ndarray:
            # Calls repeat one shape: its checks would take as long as ten time steps of a small layer.
            plan = self._plan_for(x, make=False)
            if plan is not None:
                return plan(x)
        x = self.as_input(x)
        training = flag(training, "training")
        if not self.built:
            self._check_call(x, mask, initial_state)
        self.ensure_built((None, *x.shape[1:]))
        return self.forward(x, mask=mask, training=training, initial_state=initial_state)[0]

    def _check_call(self, x: Any, mask: Any, initial_state: Any = None) -> None:
        super()._check_call(x, mask)
        check_not_empty(self, x.shape)
        if initial_state is not None:
            self.cell.as_states(initial_state, len(x))

    # -- configuration and copies

    @classmethod
    def _arguments(cls) -> list[str]:
        return [name for name in super()._arguments() if cls.cell_class is None or name != "cell"]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.cell_class is None:
            return config
        # A cell may take fewer arguments than its base class has.
        left_out = set(self.cell._arguments()) - set(self.cell.get_config()) - set(Layer._arguments())
        return {key: value for key, value in config.items() if key not in left_out}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ready": None}


#: Arguments that a layer with a cell of its own keeps, or hands to the cell as well.
_OF_LAYERS = frozenset(Layer._arguments())
_OF_TIME = frozenset(RNN._arguments()) - _OF_LAYERS - {"cell"}


class _OfCell:
    """An argument of the cell as an attribute of its layer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, cls: Any) -> Any:
        return self if layer is None else getattr(layer.cell, self.name)

    def __set__(self, layer: Any, value: Any) -> None:
        setattr(layer.cell, self.name, value)


def _with_arguments_of(cell_class: Any) -> Callable[..., None]:
    """A constructor of a layer that makes its cell, of the cell's arguments and those of :class:`RNN`."""
    found: dict[str, inspect.Parameter] = {}
    for base in (*cell_class.__mro__, RNN):
        if "__init__" in vars(base) and base is not object:
            for parameter in inspect.signature(vars(base)["__init__"]).parameters.values():
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    if base is RNN:
                        parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
                    found.setdefault(parameter.name, parameter)
    del found["cell"]

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        for key in kwargs:
            if key not in found:
                raise TypeError(
                    f"{type(self).__name__}() got an unknown argument {key!r}: {choices(key, self._arguments())}"
                )
        of_layer = {k: v for k, v in kwargs.items() if k in _OF_TIME or k in _OF_LAYERS}
        of_cell = {k: v for k, v in kwargs.items() if k not in of_layer}
        of_cell |= {k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs}
        cell = cell_class(*args, **of_cell)
        RNN.__init__(self, cell, **{**of_layer, "trainable": cell.trainable})

    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        sorted(found.values(), key=lambda parameter: parameter.kind)
    )
    return __init__


class SimpleRNN(RNN):
    """A layer of simple recurrent cells."""

    cell_class = SimpleRNNCell


class LSTM(RNN):
    """A layer of long short-term memory cells."""

    cell_class = LSTMCell


class GRU(RNN):
    """A layer of gated recurrent units."""

    cell_class = GRUCell


class PeepholeLSTM(RNN):
    """A layer of peephole cells."""

    cell_class = PeepholeLSTMCell


class JANET(RNN):
    """A layer of cells with a forget gate as their only gate."""

    cell_class = JANETCell


class IndRNN(RNN):
    """A layer of independently recurrent units."""

    cell_class = IndRNNCell


def _batch_size(states: Any) -> int:
    while isinstance(states, list):
        states = states[0]
    return len(states)


def _copied(states: Any) -> Any:
    return [_copied(s) for s in states] if isinstance(states, list) else np.array(states)


def _shapes(n_batch: int | None, sizes: Any) -> list[Any]:
    return [_shapes(n_batch, s) if isinstance(s, (list, tuple)) else (n_batch, s) for s in sizes]

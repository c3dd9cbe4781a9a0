"""A recurrent layer around any cell: one of the library's, a stack of them, or a user's own object."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import flag, real_array
from fastrnn.layers.arrays import check_mask, check_not_empty, restarted
from fastrnn.layers.base import Shape
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.stacked import CustomCell, DropoutWrapper, StackedRNNCells, as_cell, nested
from fastrnn.layers.time_loops import EngineLoop, PythonLoop
from fastrnn.layers.wrappers import Wrapper

__all__ = ["RNN"]


class RNN(Wrapper):
    """A recurrent layer of any cell.

    A cell of this library runs through the same kernels as the layer of the same name. In a stack each cell runs over
    the whole sequence before the next one; the results are those of the stack stepped as a whole. An object of your own
    is stepped in Python.

    Inputs have shape ``(batch, time, features)``; the output is ``(batch, output_size)``, or ``(batch, time,
    output_size)`` with `return_sequences`.

    Parameters
    ----------
    cell : cell, or list of cells
        :class:`LSTMCell` and its like, :class:`StackedRNNCells` (a list becomes one), :class:`DropoutWrapper`, a kernel
        of the engine (see :class:`KernelCell`), or an object with Keras's cell contract (see :class:`CustomCell`).
    return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask : bool
        As for :class:`~fastrnn.layers.recurrent.Recurrent`. States of a stack are a list with one entry for each cell.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> class Leaky:
    ...     state_size = 3
    ...     def call(self, x_t, states):
    ...         h = 0.9 * states[0] + 0.1 * x_t
    ...         return h, [h]
    ...     def backward(self, d_out, d_states, x_t, states):
    ...         d = d_out + d_states[0]
    ...         return 0.1 * d, [0.9 * d]
    >>> layers.RNN(Leaky())(np.ones((2, 4, 3))).round(3)
    array([[0.344, 0.344, 0.344],
           [0.344, 0.344, 0.344]], dtype=float32)
    """

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
        #: Gradient with respect to the initial state, of the last `backward`; laid out as the states.
        self.d_initial_state: list[Any] | None = None
        # An empty prefix: the weights of the layer have the names that they have in the cell.
        self._hold(**{"": cell})
        self._stages: list[Any] | None = None
        self._stages_for: Any = None

    @property
    def cell(self) -> Any:
        """The cell."""
        return self._children[""]

    @property
    def state_size(self) -> Any:
        """That of the cell."""
        return self.cell.state_size

    def _loops(self) -> list[Any]:
        """Time loops and dropout layers, in the order in which they are applied to a sequence."""
        order: list[Any] = []

        def visit(cell: Any) -> None:
            if isinstance(cell, StackedRNNCells):
                for inner in cell.cells:
                    visit(inner)
            elif isinstance(cell, DropoutWrapper):
                order.append(cell._before)
                visit(cell.cell)
                order.append(cell._after)
            else:
                order.append(cell)

        visit(self.cell)
        recurrent = [item for item in order if not isinstance(item, Dropout)]
        wanted = (self.return_sequences, self.go_backwards, self.zero_output_for_mask)
        # Bidirectional sets attributes after the layer was made.
        if self._stages is None or self._stages_for != wanted:
            self._stages_for = wanted
            self._stages = []
            for item in order:
                if isinstance(item, Dropout):
                    self._stages.append(item)
                    continue
                last = item is recurrent[-1]
                loop = PythonLoop if isinstance(item, CustomCell) else EngineLoop
                self._stages.append(
                    loop(
                        item,
                        return_sequences=self.return_sequences or not last,
                        # Outputs are in the order of processing, so only the first loop reverses it.
                        go_backwards=self.go_backwards and item is recurrent[0],
                        zero_output_for_mask=self.zero_output_for_mask and last,
                    )
                )
        return self._stages

    def _checked_states(self, states: Any, n_batch: int, source: str = "initial_state") -> list[Any]:
        """As :meth:`_flat_states`; raise if an array has the wrong shape, before any loop starts."""
        flat = self._flat_states(states)
        cells = [stage.cell for stage in self._loops() if not isinstance(stage, Dropout)]
        for k, (cell, given) in enumerate(zip(cells, flat, strict=True)):
            for j, (state, size) in enumerate(zip(given, _sizes(cell), strict=True)):
                several = len(given) > 1 or len(cells) == 1
                name = source + f"[{k}]" * (len(cells) > 1) + f"[{j}]" * several
                shape = real_array(state, name=name).shape
                if shape != (n_batch, size):
                    raise ValueError(
                        f"{name} has shape {shape}: the batch needs {(n_batch, size)}, (batch, size)"
                    )
        return flat

    def _flat_states(self, states: Any) -> list[Any]:
        """States of a stack as one list for each time loop."""
        return _split(self.cell, states)

    def reset_state(self, rows: Any = None) -> None:
        """Forget the states of a stateful layer: of some sequences or of all, see :meth:`LSTM.reset_state`."""
        if rows is None:
            self.states = None
        elif self.states is not None:
            n_batch = len(self._flat_states(self.states)[0][0])
            initial = self._flat_states(self.cell.get_initial_state(n_batch))
            self.states = _join(self.cell, restarted(self._flat_states(self.states), initial, rows))

    reset_states = reset_state

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        self.cell._check_shape((shape[0], *shape[2:]))

    def build(self, input_shape: Shape) -> None:
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

    def compute_mask(self, x, mask=None):
        return mask if self.return_sequences else None

    def forward(self, x, mask=None, training=False, initial_state=None):  # type: ignore[override]
        n_batch = len(x)
        check_not_empty(self, x.shape)
        if mask is not None:
            mask = check_mask(mask, x.shape)
        states: list[Any] | None = None
        if initial_state is not None:
            states = self._checked_states(initial_state, n_batch)
        elif self.stateful and self.states is not None:
            states = self._flat_states(self.states)
            if len(states[0][0]) != n_batch:
                raise ValueError(
                    f"stateful layer {self.name!r} holds the states of {len(states[0][0])} sequences, got a batch of "
                    f"{n_batch}: go on with the same batch size, or call reset_state() first"
                )
        elif _has_own_start(self.cell):
            states = self._checked_states(
                self.cell.get_initial_state(n_batch), n_batch, "get_initial_state(batch_size)"
            )
        loops = self._loops()
        caches: list[Any] = []
        final: list[list[np.ndarray]] = []
        y = x
        for stage in loops:
            if isinstance(stage, Dropout):
                y, cache = stage.forward(y, None, training)
            else:
                stage.n_threads = self.n_threads
                start = None if states is None else states[len(final)]
                (y, *after), cache = stage.forward(y, mask=mask, training=training, initial_state=start)
                if mask is not None and stage.go_backwards:
                    mask = mask[:, ::-1]
                final.append(after)
            caches.append(cache)
        joined = _join(self.cell, final)
        if self.stateful:
            self.states = _copied(joined)
        return ([y, *joined] if self.return_state else y), caches if training else None

    def backward(self, dy, cache, need_dx=True):
        if cache is None:
            raise ValueError(
                f"layer {self.name!r}: only a forward pass with training=True can be differentiated"
            )
        loops = self._loops()
        d_states: list[Any] | None = None
        if self.return_state:
            dy, *given = dy
            if any(d is not None for d in given):
                d_states = self._flat_states(given)
        k = sum(not isinstance(stage, Dropout) for stage in loops)
        starts: list[Any] = [None] * k
        first = next(i for i, stage in enumerate(loops) if not isinstance(stage, Dropout))
        for i in range(len(loops) - 1, -1, -1):
            stage = loops[i]
            if isinstance(stage, Dropout):
                dy = None if dy is None else stage.backward(dy, cache[i])
                continue
            k -= 1
            d_final = [None] * len(_sizes(stage.cell)) if d_states is None else d_states[k]
            dy = stage.backward([dy, *d_final], cache[i], need_dx or i > first)
            starts[k] = stage.d_initial_state
        self.d_initial_state = _join(self.cell, starts)
        return dy

    def __call__(self, x, mask=None, initial_state=None, training=False):  # type: ignore[override]
        """Compute the outputs for ``x (batch, time, features)``; the first call makes the weights.

        Parameters
        ----------
        x : array_like of shape (batch, time, features)
        mask : array of bool of shape (batch, time), optional
            False where a step is padding: it leaves the states as they are.
        initial_state : list, optional
            Arrays ``(batch, size)``, one for each state; for a stack one entry for each cell, itself a list where the
            cell has several states. Overrides the states of a stateful layer.
        training : bool
            Whether dropout acts.

        Returns
        -------
        ndarray, or with `return_state` a list ``[output, *states]``
        """
        x = self.as_input(x)
        training = flag(training, "training")
        if not self.built:
            self._check_call(x, mask, initial_state)
        self.ensure_built((None, *x.shape[1:]))
        return self.forward(x, mask=mask, training=training, initial_state=initial_state)[0]

    def _check_call(self, x, mask, initial_state=None):
        super()._check_call(x, mask)
        check_not_empty(self, x.shape)
        if initial_state is not None:
            self._checked_states(initial_state, len(x))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_stages": None}


def _inner(cell: Any) -> Any:
    while isinstance(cell, DropoutWrapper):
        cell = cell.cell
    return cell


def _has_own_start(cell: Any) -> bool:
    """Whether the cell, or a cell inside it, makes its initial states."""
    cell = _inner(cell)
    if isinstance(cell, StackedRNNCells):
        return any(_has_own_start(c) for c in cell.cells)
    return isinstance(cell, CustomCell) and cell.makes_initial_state


def _sizes(cell: Any) -> list[Any]:
    sizes = cell.state_size
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]


def _split(cell: Any, states: Any) -> list[Any]:
    """States of a cell as one list of arrays for each cell inside it, first to last."""
    cell = _inner(cell)
    given = list(states) if isinstance(states, (list, tuple)) else [states]
    if not isinstance(cell, StackedRNNCells):
        if len(given) != len(_sizes(cell)):
            raise ValueError(
                f"initial_state has {len(given)} arrays, the cell {cell.name!r} has {len(_sizes(cell))} "
                "states"
            )
        return [given]
    if len(given) != len(cell.cells):
        raise ValueError(
            f"initial_state has {len(given)} entries, there are {len(cell.cells)} cells: give one entry for each, a list "
            "where a cell has several states"
        )
    split: list[Any] = []
    for inner, state in zip(cell.cells, given, strict=True):
        split += [[None] * len(_sizes(inner))] if state is None else _split(inner, state)
    return split


def _join(cell: Any, parts: list[Any]) -> Any:
    """The inverse of `_split`."""
    parts = list(parts)

    def join(cell: Any) -> Any:
        cell = _inner(cell)
        if isinstance(cell, StackedRNNCells):
            return [nested(join(inner), inner.state_size) for inner in cell.cells]
        return list(parts.pop(0))

    return join(cell)


def _copied(states: Any) -> Any:
    return [_copied(s) for s in states] if isinstance(states, list) else np.array(states)


def _shapes(n_batch: int | None, sizes: Any) -> list[Any]:
    return [_shapes(n_batch, s) if isinstance(s, (list, tuple)) else (n_batch, s) for s in sizes]

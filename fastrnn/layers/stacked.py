"""Cells made of other cells: several in a row, and one with dropout; and what else is taken for a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import number
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.cells import Cell
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.named_cells import KernelCell, is_kernel
from fastrnn.layers.over_time import ChainedPlans, TimeOptions
from fastrnn.layers.python_cell import CustomCell, check_contract
from fastrnn.layers.streamed import Streamed
from fastrnn.layers.wrappers import Wrapper, plain, revive
from fastrnn.random import check_seed

__all__ = ["DropoutWrapper", "StackedRNNCells", "as_cell"]


def as_cell(cell: Any, dtype: Any = None, name: str = "cell") -> Any:
    """Return a cell of this library unchanged, or a layer around a kernel or a user-defined object."""
    if isinstance(cell, list) or type(cell) is tuple:
        return StackedRNNCells(cell, dtype=dtype)
    if is_kernel(cell):
        return KernelCell(cell, dtype=dtype)
    if isinstance(cell, type):
        raise ValueError(f"{name}={cell!r} is a class: give an instance of it")
    if isinstance(cell, Layer) and cell.return_sequences is not None:
        raise ValueError(
            f"{name}={cell!r} is a layer with a time loop of its own: give a cell, such as LSTMCell"
        )
    if isinstance(cell, (Cell, CustomCell, StackedRNNCells, DropoutWrapper)):
        return cell
    check_contract(cell, name)
    return CustomCell(cell, dtype=dtype)


class DropoutWrapper(Wrapper):
    """A cell with dropout of its inputs and outputs, but not of its states.

    New masks are drawn at every time step (Zaremba et al. 2014), as in TensorFlow 1's class of this name.

    Parameters
    ----------
    cell : cell
    input_keep_prob, output_keep_prob : float
        Fraction of the inputs, or outputs, that is kept in training, above 0 up to 1.
    seed : int, optional
        Seed of the random numbers; by default it comes from the model's seed.
    **kwargs
        As for :class:`Layer`.

    References
    ----------
    Zaremba, W., Sutskever, I. & Vinyals, O. (2014). Recurrent neural network regularization. arXiv:1409.2329.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, DropoutWrapper, GRUCell
    >>> RNN(DropoutWrapper(GRUCell(4), input_keep_prob=0.8, seed=0))(np.ones((2, 3, 5))).shape
    (2, 4)
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
        result: int = self.cell.output_size
        return result

    def get_initial_state(self, batch_size: int = 1) -> Any:
        """Return that of the cell inside."""
        return self.cell.get_initial_state(batch_size)

    @property
    def makes_initial_state(self) -> bool:
        """Whether the initial states are other than zero."""
        result: bool = self.cell.makes_initial_state
        return result

    def as_states(self, states: Any, n_batch: int, name: str = "initial_state") -> Any:
        """As the cell inside takes them."""
        return self.cell.as_states(states, n_batch, name)

    def build(self, input_shape: Shape) -> None:
        self.cell.ensure_built(input_shape)
        self._adopt()
        self.built = True

    def forward_sequence(
        self, x: np.ndarray, mask: np.ndarray | None, training: bool, states: Any, options: TimeOptions
    ) -> tuple[np.ndarray, list[Any], Any]:
        """As :meth:`fastrnn.layers.cells.Cell.forward_sequence`."""
        x, before = self._before.forward(x, None, training)
        y, final, cache = self.cell.forward_sequence(x, mask, training, states, options)
        y, after = self._after.forward(y, None, training)
        return y, final, (before, cache, after) if training else None

    def backward_sequence(
        self, d_out: Any, d_states: Any, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, list[Any]]:
        """As :meth:`fastrnn.layers.cells.Cell.backward_sequence`."""
        before, inner, after = cache
        d_out = None if d_out is None else self._after.backward(d_out, after)
        dx, starts = self.cell.backward_sequence(d_out, d_states, inner, need_dx)
        return None if dx is None else self._before.backward(dx, before), starts

    def prepare(self, shape: tuple[int, ...], options: TimeOptions) -> Any:
        """As :meth:`fastrnn.layers.cells.Cell.prepare`: there is no dropout in inference."""
        return self.cell.prepare(shape, options)

    def streamed(self, x: np.ndarray, unroll: bool = False) -> Streamed:
        result: Streamed = self.cell.streamed(x, unroll)
        return result

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step: the output and the new states."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        out, states = self.cell(self._before.forward(x, None, training)[0], states, training)
        return self._after.forward(out, None, training)[0], states

    call = __call__


class StackedRNNCells(Wrapper):
    """A stack of cells as one cell: each cell takes the output of the previous one.

    States are a list with one entry for each cell, which is a list if the cell has several states. (MultiRNNCell in
    TensorFlow 1.)

    Parameters
    ----------
    cells : list of cells
        Cells of this library, or user-defined cells (see :class:`CustomCell`).
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
                    f"cells[{k}] is in the list already: add another cell, as weights can't be shared in a stack"
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
        """The output size of the last cell."""
        result: int = self.cells[-1].output_size
        return result

    @property
    def makes_initial_state(self) -> bool:
        """Whether the initial states of a cell are other than zero."""
        return any(cell.makes_initial_state for cell in self.cells)

    def get_initial_state(self, batch_size: int = 1) -> list[Any]:
        """Return the cells' initial states, one entry for each cell."""
        return [_entry(cell.get_initial_state(batch_size), cell) for cell in self.cells]

    def as_states(self, states: Any, n_batch: int, name: str = "initial_state") -> list[Any]:
        """Return each cell's states as it takes them, or raise if their number or shapes are wrong."""
        given = list(states) if isinstance(states, (list, tuple)) else [states]
        if len(given) != len(self.cells):
            raise ValueError(
                f"{name} has {len(given)} entries, there are {len(self.cells)} cells: give one entry for each, a list "
                "if a cell has several states"
            )
        return [
            cell.as_states(state, n_batch, f"{name}[{k}]")
            for k, (cell, state) in enumerate(zip(self.cells, given, strict=True))
        ]

    # -- whole sequences: each cell runs over all steps before the next one

    def _options(self, options: TimeOptions) -> list[TimeOptions]:
        """Options of the cells, first to last."""
        n = len(self.cells)
        # Outputs are in the order of processing, so only the first cell reverses it.
        return [
            TimeOptions(
                options.sequences or k < n - 1,
                options.reverse and k == 0,
                options.zero_masked and k == n - 1,
                options.n_threads,
                options.unroll,
            )
            for k in range(n)
        ]

    def forward_sequence(
        self, x: np.ndarray, mask: np.ndarray | None, training: bool, states: Any, options: TimeOptions
    ) -> tuple[np.ndarray, list[Any], Any]:
        """As :meth:`fastrnn.layers.cells.Cell.forward_sequence`; states have one entry for each cell."""
        final, caches = [], []
        for k, (cell, own) in enumerate(zip(self.cells, self._options(options), strict=True)):
            start = None if states is None else states[k]
            x, after, cache = cell.forward_sequence(x, mask, training, start, own)
            mask = own.in_order(mask)
            final.append(_entry(after, cell))
            caches.append(cache)
        return x, final, caches if training else None

    def backward_sequence(
        self, d_out: Any, d_states: Any, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, list[Any]]:
        """As :meth:`fastrnn.layers.cells.Cell.backward_sequence`; states have one entry for each cell."""
        starts: list[Any] = []
        for k in range(len(self.cells) - 1, -1, -1):
            d = None if d_states is None else d_states[k]
            if d is not None and not isinstance(d, (list, tuple)):
                d = [d]
            d_out, start = self.cells[k].backward_sequence(d_out, d, cache[k], need_dx or k > 0)
            starts.append(_entry(start, self.cells[k]))
        return d_out, starts[::-1]

    def prepare(self, shape: tuple[int, ...], options: TimeOptions) -> ChainedPlans | None:
        """As :meth:`fastrnn.layers.cells.Cell.prepare`."""
        plans = []
        for cell, own in zip(self.cells, self._options(options), strict=True):
            plan = cell.prepare(shape, own)
            if plan is None:
                return None
            plans.append(plan)
            shape = (*shape[:2], cell.output_size)
        return ChainedPlans(tuple(plans))

    def streamed(self, x: np.ndarray, unroll: bool = False) -> Streamed:
        parts, states = [], []
        for cell in self.cells:
            step = cell.streamed(x, unroll)
            parts += step.parts
            states += step.states
            x = step.output
        return Streamed(tuple(parts), x, tuple(states))

    def build(self, input_shape: Shape) -> None:
        shape = tuple(input_shape)
        for cell in self.cells:
            cell.ensure_built(shape)
            shape = (shape[0], cell.output_size)
        self._adopt()
        self.built = True

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """Compute one time step: the output, and one entry of new states for each cell."""
        x = self.as_input(x)
        self.ensure_built((None, x.shape[1]))
        if not isinstance(states, (list, tuple)) or len(states) != len(self.cells):
            n = len(states) if isinstance(states, (list, tuple)) else 1
            raise ValueError(f"states has {n} entries, there are {len(self.cells)} cells: give one for each")
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            x, after = cell(x, state if isinstance(state, (list, tuple)) else [state], training)
            new.append(_entry(after, cell))
        return x, new

    call = __call__

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": [plain(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls(**{**config, "cells": [revive(cell) for cell in config["cells"]]})


def _entry(states: Any, cell: Any) -> Any:
    """A cell's states as an entry in the list of a stack: an array if the cell has only one state."""
    return list(states) if isinstance(cell.state_size, (list, tuple)) else states[0]

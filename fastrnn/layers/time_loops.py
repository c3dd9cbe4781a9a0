"""The loops over time inside RNN: one in the engine for this library's cells, one in Python for a user's own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.layers.base import Layer
from fastrnn.layers.cells import Cell
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.stacked import CustomCell

__all__ = ["EngineLoop", "PythonLoop"]


class EngineLoop(Recurrent):
    """The time loop of a recurrent layer, with the weights of a cell that is a layer of its own."""

    def __init__(
        self, cell: Cell, *, return_sequences: bool, go_backwards: bool, zero_output_for_mask: bool
    ) -> None:
        # The constructor of the base class would make weights and options; those of the cell are used.
        Layer.__init__(self, dtype=cell.dtype.name, name=cell.name)
        self.cell = cell
        self.return_sequences, self.go_backwards = return_sequences, go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        self.return_state, self.stateful, self.states = True, False, None
        self._packed = None
        self.d_initial_state = None

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.cell.units

    @property
    def _traits(self) -> Any:  # type: ignore[override]
        return self.cell._traits

    @property
    def weights_version(self) -> int:  # type: ignore[override]
        return self.cell.weights_version

    @weights_version.setter
    def weights_version(self, value: int) -> None:
        pass

    def kernel_cell(self) -> Any:
        return self.cell.kernel_cell()

    def kernel_weights(self) -> Any:
        return self.cell.kernel_weights()

    def take_gradients(self, gradients: Any) -> None:
        self.cell.take_gradients(gradients)

    def draw_masks(self, n_batch: int, n_inputs: int) -> Any:
        return self.cell.draw_masks(n_batch, n_inputs)

    def stack_states(self, states: Any, n_batch: int, name: str = "initial_state") -> np.ndarray:
        return self.cell.stack_states(states, n_batch, name)


class _Step(NamedTuple):
    """What `backward` needs of one time step of a user's cell."""

    x: np.ndarray
    states: list[np.ndarray]
    valid: np.ndarray | None


class PythonLoop:
    """The time loop of a user's cell, in Python."""

    n_threads: int | None = None

    def __init__(
        self, cell: CustomCell, *, return_sequences: bool, go_backwards: bool, zero_output_for_mask: bool
    ) -> None:
        self.cell = cell
        self.return_sequences, self.go_backwards = return_sequences, go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        self.d_initial_state: list[np.ndarray] | None = None

    def _start(self, initial_state: Any, n_batch: int) -> list[np.ndarray]:
        cell = self.cell
        if initial_state is None:
            return cell.get_initial_state(n_batch)
        return [np.asarray(s, cell.dtype) for s in initial_state]

    def forward(self, x, mask=None, training=False, initial_state=None):
        cell = self.cell
        if training and not cell.is_differentiable:
            raise ValueError(
                f"cell={cell.cell!r} has no backward method, so it can't be trained: add "
                "backward(d_out, d_states, x_t, states) -> (dx_t, d_states_prev)"
            )
        n_batch, n_steps, _ = x.shape
        states = self._start(initial_state, n_batch)
        last = np.zeros((n_batch, cell.output_size), cell.dtype)
        outputs = np.empty((n_steps if self.return_sequences else 0, *last.shape), cell.dtype)
        steps: list[_Step] = []
        for s in range(n_steps):
            t = n_steps - 1 - s if self.go_backwards else s
            valid = None if mask is None else mask[:, t, None]
            if valid is not None and valid.all():
                valid = None
            xt = np.ascontiguousarray(x[:, t])
            if training:
                steps.append(_Step(xt, states, valid))
            if valid is None:
                last, states = cell.step(xt, states, training)
            elif valid.any():
                out, new = cell.step(xt, states, training)
                last = np.where(valid, out, 0 if self.zero_output_for_mask else last)
                states = [np.where(valid, a, b) for a, b in zip(new, states, strict=True)]
            elif self.zero_output_for_mask:
                last = np.zeros_like(last)
            if self.return_sequences:
                outputs[s] = last
        y = outputs.swapaxes(0, 1) if self.return_sequences else last
        return [y, *states], steps if training else None

    def backward(self, dy, steps, need_dx=True):
        cell = self.cell
        for grad in cell._grads.values():
            grad[...] = 0
        dy, *d_states = dy
        n_steps, n_batch = len(steps), len(steps[0].x)
        d_states = [
            np.zeros((n_batch, size), cell.dtype) if d is None else np.array(d, cell.dtype)
            for d, size in zip(d_states, cell.state_sizes, strict=True)
        ]
        # Masked steps repeat the output of an earlier step: their gradients are added up until that step comes.
        carried = np.zeros((n_batch, cell.output_size), cell.dtype)
        if not self.return_sequences and dy is not None:
            carried = carried + dy
        dx = np.zeros((n_steps, n_batch, steps[0].x.shape[1]), cell.dtype)
        for s in reversed(range(n_steps)):
            step = steps[s]
            if self.return_sequences and dy is not None:
                carried = carried + dy[:, s]
            valid = step.valid
            if valid is not None and not valid.any():
                if self.zero_output_for_mask:
                    carried = np.zeros_like(carried)
                continue
            d_out, d_new = carried, d_states
            if valid is not None:
                d_out = np.where(valid, d_out, 0)
                d_new = [np.where(valid, d, 0) for d in d_states]
            dxt, d_prev = cell.cell.backward(d_out, d_new, step.x, step.states)
            d_prev = list(d_prev) if isinstance(d_prev, (list, tuple)) else [d_prev]
            got = [None if dxt is None else np.shape(dxt), *(np.shape(d) for d in d_prev)]
            expected = [step.x.shape, *(d.shape for d in d_states)]
            if got != expected and not (dxt is None and not need_dx and got[1:] == expected[1:]):
                raise ValueError(
                    f"cell={cell.cell!r}: backward returned gradients of shapes {got} of x_t and states, "
                    f"they should be {expected}"
                )
            if dxt is not None:
                t = n_steps - 1 - s if self.go_backwards else s
                dx[t] = dxt
            if valid is None:
                d_states, carried = [np.asarray(d, cell.dtype) for d in d_prev], np.zeros_like(carried)
            else:
                d_states = [np.where(valid, a, b) for a, b in zip(d_prev, d_states, strict=True)]
                carried = np.where(valid | self.zero_output_for_mask, 0, carried)
        self.d_initial_state = d_states
        return dx.swapaxes(0, 1) if need_dx else None

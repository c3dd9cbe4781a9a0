"""Recurrent layers: a cell and a loop over time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import flag
from fastrnn.engine.recurrence import run
from fastrnn.engine.recurrence.inference import InferencePlan, prepare, step_program
from fastrnn.layers.arrays import check_mask, check_not_empty, restarted
from fastrnn.layers.base import Shape
from fastrnn.layers.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from fastrnn.layers.streamed import Streamed

__all__ = ["GRU", "LSTM", "Recurrent", "SimpleRNN"]


class _Cache(NamedTuple):
    """What `backward` needs."""

    #: What the engine saved for each time step.
    tape: run.Tape
    #: Which sequences' last output is their state, ``(batch,)`` of bool; None if it is for all.
    ends_valid: np.ndarray | None


class Recurrent(Cell):
    """Base class of recurrent layers: a cell with a loop over time.

    Inputs have shape ``(batch, time, features)``. The output is ``(batch, units)``, or ``(batch, time, units)`` with
    `return_sequences`.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for the cell.
    return_sequences : bool
        Return the output of every time step; by default that of the last one.
    return_state : bool
        Return a list ``[output, *states]``; each state has shape ``(batch, units)``.
    go_backwards : bool
        Read the time steps from the last to the first. With `return_sequences` the first output is that of the last
        time step.
    stateful : bool
        Start row i of each call from the states of row i at the end of the call before.
    unroll : bool
        Accepted as an argument of Keras. It has no effect: sequences of any length run through the same kernels.
    zero_output_for_mask : bool
        Make the output of a masked step zero; by default it is that of the step before.
    """

    input_ndim = 3
    has_states = True
    return_sequences: bool

    def __init__(
        self,
        units: int,
        *args: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self.return_sequences = flag(return_sequences, "return_sequences")
        self.return_state = flag(return_state, "return_state")
        self.go_backwards = flag(go_backwards, "go_backwards")
        self.stateful = flag(stateful, "stateful")
        self.unroll = flag(unroll, "unroll")
        self.zero_output_for_mask = flag(zero_output_for_mask, "zero_output_for_mask")
        #: States after the last call, if `stateful`: a list of arrays ``(batch, units)``, or None for zeros.
        self.states: list[np.ndarray] | None = None
        self._packed: tuple[int, run.Weights, np.ndarray] | None = None
        self._ready: tuple[tuple, InferencePlan | None] | None = None
        #: Gradient with respect to the initial state, of the last `backward`.
        self.d_initial_state: list[np.ndarray] | None = None

    def reset_state(self, rows: Any = None) -> None:
        """Forget the states of a stateful layer.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Only those of these sequences of the batch, which start from zero in the next call while the others go on.
            All by default, after which another batch size will do.
        """
        if rows is None:
            self.states = None
        elif self.states is not None:
            self.states = restarted(self.states, self.get_initial_state(len(self.states[0])), rows)

    reset_states = reset_state

    def forward(self, x, mask=None, training=False, initial_state=None):  # type: ignore[override]
        if initial_state is None and not (training or self.stateful or self.return_state):
            # What depends on the shape and the weights only was prepared by the call before.
            ready = self._ready
            if ready is None or ready[0] != (self.weights_version, x.shape, self.n_threads):
                ready = self._ready = self._prepare(x.shape)
            prepared = ready[1]
            if prepared is not None and x.flags.c_contiguous and x.dtype == self._dtype:
                if mask is None:
                    return prepared(x), None
                if prepared.takes_masks:
                    mask = self._in_order(mask, x.shape)
                    y, stepped = prepared.masked(x, mask)
                    return self._shown(y, mask, stepped)[0], None
        n_batch, _, n_inputs = x.shape
        check_not_empty(self, x.shape)
        state0 = self._start(initial_state, n_batch)
        if mask is not None:
            mask = self._in_order(mask, x.shape)
        input_masks, recurrent_masks = self.draw_masks(n_batch, n_inputs) if training else (None, None)
        cell = self.kernel_cell()
        weights, packed = self._ready_weights(cell, training)
        result = run.forward(
            cell,
            weights,
            x,
            state0,
            mask=mask,
            reverse=self.go_backwards,
            repeat=not self.zero_output_for_mask,
            input_masks=input_masks,
            recurrent_masks=recurrent_masks,
            sequences=self.return_sequences,
            save=training,
            n_threads=self.n_threads,
            packed=packed,
        )
        if self.stateful:
            self.states = [state.copy() for state in result.final]
        y, ends_valid = self._shown(
            result.out if self.return_sequences else result.final[0], mask, result.stepped
        )
        cache = None if result.tape is None else _Cache(result.tape, ends_valid)
        return ([y, *result.final] if self.return_state else y), cache

    def _in_order(self, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask as an array in the order in which the steps are computed."""
        mask = check_mask(mask, shape)
        return mask[:, ::-1] if self.go_backwards else mask

    def _shown(self, y: Any, mask: np.ndarray | None, stepped: bool) -> tuple[Any, np.ndarray | None]:
        """The output, and which sequences' last output is their state; None if it is for all."""
        if mask is None or self.return_sequences or (stepped and not self.zero_output_for_mask):
            return y, None
        # The output of a masked step is zero before the first valid step, and always with zero_output_for_mask.
        ends_valid = mask[:, -1] if self.zero_output_for_mask else np.asarray(mask.any(axis=1))
        return np.where(ends_valid[:, None], y, y.dtype.type(0)), ends_valid

    def _ready_weights(self, cell: Any, training: bool) -> tuple[run.Weights, np.ndarray | None]:
        """The weights as the engine takes them, and for inference their packed copy, made once per change of weights."""
        if training:
            return self.kernel_weights(), None
        if self._packed is None or self._packed[0] != self.weights_version:
            weights = self.kernel_weights()
            self._packed = self.weights_version, weights, run.pack_weights(cell, weights)
        return self._packed[1:]

    def _prepare(self, shape: tuple[int, ...]) -> tuple[tuple, InferencePlan | None]:
        cell = self.kernel_cell()
        if 0 in shape or shape[2] != len(self._weights["kernel"]):
            return (), None  # `forward` raises the error
        weights, packed = self._ready_weights(cell, training=False)
        prepared = prepare(
            cell,
            weights,
            shape,
            reverse=self.go_backwards,
            repeat=not self.zero_output_for_mask,
            sequences=self.return_sequences,
            n_threads=self.n_threads,
            packed=packed,
        )
        return (self.weights_version, shape, self.n_threads), prepared

    def streamed(self, x):
        if self.go_backwards or self.return_state:
            option = "go_backwards" if self.go_backwards else "return_state"
            raise ValueError(
                f"layer {self.name!r} has {option}=True: a stream goes forward in time and its layers return one "
                "output each"
            )
        state = np.zeros((self._traits.n_states, len(x), self.units), self._dtype)
        program = step_program(self.kernel_cell(), self.kernel_weights(), x, state)
        return Streamed(program.calls, state[0], state)

    def _start(self, initial_state: Any, n_batch: int) -> np.ndarray | None:
        if initial_state is not None:
            return self.stack_states(initial_state, n_batch)
        if self.stateful and self.states is not None:
            if len(self.states[0]) != n_batch:
                raise ValueError(
                    f"stateful layer {self.name!r} holds the states of {len(self.states[0])} sequences, "
                    f"got a batch of {n_batch}: go on with the same batch size, or call reset_state() first"
                )
            return self.stack_states(self.states, n_batch, "states")
        return None

    def backward(self, dy, cache, need_dx=True):
        if cache is None:
            raise ValueError(
                f"layer {self.name!r}: only a forward pass with training=True can be differentiated"
            )
        d_out, d_final = dy, None
        if self.return_state or not self.return_sequences:
            n_states = self._traits.n_states
            d_final = np.zeros((n_states, cache.tape.n_batch, self.units), self._dtype)
            if self.return_state:
                d_out, *d_states = dy
                for k, d in enumerate(d_states):
                    if d is not None:
                        d_final[k] = d
            if not self.return_sequences:
                if d_out is not None:
                    d_final[0] += d_out if cache.ends_valid is None else d_out * cache.ends_valid[:, None]
                d_out = None
        dx, d_state0, gradients = run.backward(cache.tape, d_out, d_final, need_dx=need_dx)
        self.d_initial_state = list(d_state0)
        self.take_gradients(gradients)
        return dx

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_packed": None, "_ready": None}

    def compute_mask(self, x, mask=None):
        return mask if self.return_sequences else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        n_batch, n_steps = input_shape[:2]
        output = (n_batch, n_steps, self.units) if self.return_sequences else (n_batch, self.units)
        if not self.return_state:
            return output
        return [output, *[(n_batch, self.units)] * self._traits.n_states]

    def __call__(self, x, mask=None, initial_state=None, training=False):  # type: ignore[override]
        """Compute the outputs for ``x (batch, time, features)``; the first call makes the weights.

        Parameters
        ----------
        x : array_like of shape (batch, time, features)
        mask : array of bool of shape (batch, time), optional
            False where a step is padding: it leaves the states as they are.
        initial_state : list of arrays of shape (batch, units), optional
            Overrides the states of a stateful layer.
        training : bool
            Whether dropout acts.

        Returns
        -------
        ndarray, or with `return_state` a list of ndarray
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
            self.stack_states(initial_state, len(x))


class SimpleRNN(Recurrent, SimpleRNNCell):
    __doc__ = f"""A layer of simple recurrent cells.

    {SimpleRNNCell.__doc__}
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """


class LSTM(Recurrent, LSTMCell):
    __doc__ = f"""A layer of long short-term memory cells.

    {LSTMCell.__doc__}
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """


class GRU(Recurrent, GRUCell):
    __doc__ = f"""A layer of gated recurrent units.

    {GRUCell.__doc__}
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """

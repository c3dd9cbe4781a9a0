"""Networks that run one time step at a time, for samples that arrive one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import empty, ndarray

from fastrnn.checks import as_array, choice
from fastrnn.engine.recurrence.call_list import Program
from fastrnn.engine.recurrence.guarded import GuardedProgram, write_answer
from fastrnn.layers.arrays import check_positive_int
from fastrnn.layers.base import Layer
from fastrnn.layers.streamed import PythonStep

__all__ = ["Stream"]


class Stream:
    """A network that advances by one time step per call and keeps its states; made by ``model.stream()``.

    All layers run in one call of compiled code; their arguments and weights are prepared once, when the stream is made.
    A step allocates no arrays. The weights are copies: make another stream after training. A user's cell that is stepped in
    Python (:class:`fastrnn.layers.CustomCell`) cuts the call in two and is run between them.

    Parameters
    ----------
    layers : sequence of Layer
        Built layers that can compute single steps: recurrent layers that go forward, Embedding, Dense, Activation,
        Dropout, Masking, TimeDistributed of these. Each returns its output of the step, whether it has
        `return_sequences` or not.
    input_shape : tuple
        Input shape of the first layer, with the batch axis.
    batch_size : int
        Number of sequences that advance together.
    missing : {"raise", "skip"}
        What is done about a sample with NaN or infinity, which would spoil the states for good: an error, or its sequence is
        left as it is, as if there were no sample.

    Raises
    ------
    TypeError
        If a layer can't compute single steps, such as Bidirectional, which needs future steps.
    ValueError
        If an option of a layer does not allow it, such as `go_backwards`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential
    >>> from fastrnn.layers import Dense, GRU, Input
    >>> model = Sequential([Input((None, 3)), GRU(8), Dense(2)])
    >>> stream = model.stream()
    >>> sequence = np.ones((1, 5, 3), "float32")
    >>> for t in range(5):
    ...     y = stream.step(sequence[:, t])
    >>> bool(np.allclose(y, model(sequence)))
    True
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Sequence[int | None],
        batch_size: int = 1,
        missing: str = "raise",
    ) -> None:
        self.batch_size = check_positive_int(batch_size, "batch_size")
        self.missing = choice(missing, "missing", ("raise", "skip"))
        first = next((layer for layer in layers if not layer.unchanged), layers[0])
        self._tokens: int = (first.input_dim or 0) if first.takes_tokens else 0  # type: ignore[attr-defined]
        if self._tokens:
            x = np.zeros(self.batch_size, np.int64)
        else:
            n_features = input_shape[-1]
            if len(input_shape) != 3 or n_features is None:
                raise ValueError(
                    f"the model takes inputs of shape {tuple(input_shape)}: a stream needs (batch, time, features) or "
                    "tokens (batch, time)"
                )
            x = np.zeros((self.batch_size, n_features), layers[0].dtype)
        self._shape: tuple[int, ...] = x.shape
        self._dtype = x.dtype
        #: Input values that mask a step: those of Masking layers, and token 0 with `mask_zero`.
        self._blanks = [layer.mask_value for layer in layers if layer.mask_value is not None]
        if first.mask_zero:
            self._blanks.append(0)
        parts: list[Any] = []
        self._states: list[list[np.ndarray]] = []
        at = x
        for layer in layers:
            step = layer.streamed(at)
            parts += step.parts
            at = step.output
            self._states += [list(states) for states in step.states]
        #: What a sequence starts from: zeros, but for a user's cell that has initial states of its own.
        self._starts = [[state.copy() for state in states] for states in self._states]
        # The buffers hold one step at a time, and compiled code releases the GIL.
        self._program = GuardedProgram(_joined(parts, x, at), x, at, self._tokens)
        self._enter, self._place = self._program.enter, self._program.at
        #: The number of dimensions of samples that need no further checks in Python; none has -1.
        self._n_dims = -1 if self._blanks else x.ndim
        self._at = at
        at[...] = 0
        self._output: Any = at.view()
        self._output.flags.writeable = False

    def step(self, x: Any, where: Any = None) -> np.ndarray:
        """Advance by one time step.

        Parameters
        ----------
        x : array_like of shape (batch_size, n_features), or (batch_size,) for tokens
            A C-contiguous array of the model's dtype is not copied. If a Masking layer (or `mask_zero`) masks a row, the
            states and the output of its sequence do not change.
        where : array_like of bool of shape (batch_size,), optional
            Which sequences have a sample in this step. The states and the outputs of the others do not change, and their
            rows of `x` are not read.

        Returns
        -------
        ndarray of shape (batch_size, n_outputs)
            Read-only, and overwritten by the next step: copy it to keep it.

        Raises
        ------
        TypeError, ValueError
            If `x` has the wrong shape or dtype, tokens out of range, or, unless they are skipped, NaN or infinity; the
            states do not change.
        """
        if (
            where is None
            and x.__class__ is ndarray
            and x.dtype is self._dtype
            and x.ndim == self._n_dims
            and self._enter(x, self._place)
        ):
            result: np.ndarray = self._output
            return result
        return self._step_checked(x, where)

    def _step_checked(self, x: Any, where: Any, out: np.ndarray | None = None) -> np.ndarray:
        """A step with any input, which may have to be converted, refused, or skipped in part; `out` as in `_result`."""
        if where is None and not self._blanks:
            x = self._checked(x)
            with self._program.alone():
                if self._program.run(x):
                    return self._result(out)
        return self._step_some(x, where, out)

    def _result(self, out: np.ndarray | None) -> np.ndarray:
        """The output in the memory of the stream, or in `out` if it is given."""
        if out is None:
            result: np.ndarray = self._output
            return result
        write_answer(self._at, out)
        return out

    def _answering(self, shape: tuple[int, ...], dtype: np.dtype) -> Callable[..., np.ndarray]:
        """What makes a step as :meth:`step` does, but returns an answer (see `guarded`) in a new array."""
        enter = self._program.answering(empty(shape, dtype))
        sample, n_dims, place, output = self._dtype, self._n_dims, self._place, self._at

        def step(x: Any, where: Any = None) -> np.ndarray:
            out = empty(shape, dtype)
            if (
                where is None
                and x.__class__ is ndarray
                and x.dtype is sample
                and x.ndim == n_dims
                and enter(x, place, output, out)
            ):
                return out
            return self._step_checked(x, where, out)

        return step

    def _step_some(self, x: Any, where: Any, out: np.ndarray | None) -> np.ndarray:
        """Advance the sequences that have a sample."""
        wanted = np.ones(self.batch_size, bool) if where is None else self._wanted(where)
        x = self._checked(x, wanted)
        rows = x.reshape(self.batch_size, -1)
        for value in self._blanks:
            wanted = wanted & ~(rows == value).all(axis=1)
        if not self._tokens:
            bad = wanted & ~np.isfinite(rows).all(axis=1)
            if bad.any() and self.missing == "raise":
                i = int(bad.argmax())
                k = int(np.isfinite(rows[i]).argmin())
                raise ValueError(
                    f"x[{i}, {k}] is {rows[i, k]}, which would spoil the states of sequence {i} for good. Fill it, leave "
                    "the sequence out by step(x, where=mask), or make the stream with missing='skip'."
                )
            wanted = wanted & ~bad
        idle = ~wanted
        x = x.copy()
        x[idle] = 0
        with self._program.alone():
            if wanted.any():
                changed = [state for states in self._states for state in states] + [self._at]
                kept = [(array, array[idle]) for array in changed]
                self._program.run(x)
                for array, before in kept:
                    array[idle] = before
            return self._result(out)

    def _wanted(self, where: Any) -> np.ndarray:
        mask = np.asarray(where)
        if mask.dtype != bool or mask.shape not in ((), (self.batch_size,)):
            raise ValueError(
                f"where={where!r}: give a mask of bool with an entry for each of the {self.batch_size} sequences"
            )
        return np.broadcast_to(mask, self.batch_size)

    def _checked(self, x: Any, wanted: np.ndarray | None = None) -> np.ndarray:
        x = as_array(x)
        if self._tokens:
            x = x.reshape(-1) if x.ndim == 2 and x.shape[1] == 1 else x
            if x.dtype.kind not in "iu":
                raise TypeError(f"x has dtype {x.dtype}: the model takes integer tokens")
        elif x.dtype.kind not in "iufb":
            raise TypeError(f"x has dtype {x.dtype}: give numbers")
        if x.shape != self._shape:
            raise ValueError(f"x has shape {x.shape}: a step of this stream takes {self._shape}")
        tokens = x if wanted is None else x[wanted]
        if self._tokens and tokens.size and not (tokens.min() >= 0 and tokens.max() < self._tokens):
            raise ValueError(
                f"x has tokens from {tokens.min()} to {tokens.max()}: give 0 to {self._tokens - 1}"
            )
        return np.require(x, self._dtype, ("C", "W"))

    def run(self, x: Any) -> np.ndarray:
        """Advance by several time steps of each sequence.

        Parameters
        ----------
        x : array_like of shape (batch_size, n_steps, n_features), or (batch_size, n_steps) for tokens

        Returns
        -------
        ndarray of shape (batch_size, n_steps, n_outputs)
        """
        x = as_array(x)
        expected = (self.batch_size, None, *self._shape[1:])
        if x.ndim != len(expected) or x.shape[0] != self.batch_size or x.shape[2:] != self._shape[1:]:
            raise ValueError(f"x has shape {x.shape}: this stream takes {expected}, (batch, time, ...)")
        out = np.empty((self.batch_size, x.shape[1], self._output.shape[1]), self._output.dtype)
        for t in range(x.shape[1]):
            out[:, t] = self.step(x[:, t])
        return out

    @property
    def states(self) -> list[list[np.ndarray]]:
        """Copies of the states, for each recurrent layer (each cell of a stack) a list of arrays ``(batch_size, units)``.

        They can be assigned.
        """
        with self._program.alone():
            return [[state.copy() for state in states] for states in self._states]

    @states.setter
    def states(self, value: Any) -> None:
        value = list(value)
        if len(value) != len(self._states):
            raise ValueError(
                f"states has {len(value)} entries: the stream has {len(self._states)} recurrent layers"
            )
        pairs = []
        for k, (new, states) in enumerate(zip(value, self._states, strict=True)):
            if len(new) != len(states):
                raise ValueError(f"states[{k}] has {len(new)} arrays: this layer has {len(states)} states")
            for j, (given, state) in enumerate(zip(new, states, strict=True)):
                array = np.asarray(given, state.dtype)
                if array.shape != state.shape:
                    raise ValueError(
                        f"states[{k}][{j}] has shape {array.shape}: this layer's have {state.shape}"
                    )
                pairs.append((state, array))
        with self._program.alone():
            for state, array in pairs:
                state[...] = array

    @property
    def output(self) -> np.ndarray:
        """A copy of the last output, ``(batch_size, n_outputs)``, zeros before the first step. It can be assigned."""
        with self._program.alone():
            return self._at.copy()

    @output.setter
    def output(self, value: Any) -> None:
        array = np.asarray(value, self._at.dtype)
        if array.shape != self._at.shape:
            raise ValueError(f"output has shape {array.shape}: that of this stream has {self._at.shape}")
        with self._program.alone():
            self._at[...] = array

    def reset(self, rows: Any = None) -> None:
        """Set states to what a sequence starts from, which is zero but for a user's cell that says otherwise.

        Parameters
        ----------
        rows : int, slice, sequence of int or mask of bool, optional
            Sequences whose states are reset; by default all.
        """
        if rows is None:
            rows = slice(None)
        elif not isinstance(rows, slice):
            rows = np.atleast_1d(np.asarray(rows))
            if rows.dtype == bool and rows.shape == (self.batch_size,):
                rows = np.flatnonzero(rows)
            if rows.dtype.kind not in "iu" or not ((rows >= 0) & (rows < self.batch_size)).all():
                raise ValueError(
                    f"rows={rows.tolist()}: give numbers of sequences, 0 to {self.batch_size - 1}"
                )
        with self._program.alone():
            for states, starts in zip(self._states, self._starts, strict=True):
                for state, start in zip(states, starts, strict=True):
                    state[rows] = start[rows]

    def __reduce__(self) -> Any:
        raise TypeError("a stream can't be pickled: pickle the model, and stream.states if they are needed")

    def __repr__(self) -> str:
        return f"Stream(batch_size={self.batch_size}, input {self._shape}, output {self._output.shape})"


def _joined(parts: Sequence[Any], x: np.ndarray, out: np.ndarray) -> list[Any]:
    """Programs of the parts of all layers: one of all compiled ones that follow each other."""
    programs: list[Any] = []
    calls: list[Any] = []

    def finish(end: np.ndarray) -> None:
        if calls:
            programs.append(Program(calls, x, end))
            calls.clear()

    for part in parts:
        if isinstance(part, PythonStep):
            finish(part.input)
            programs.append(part)
            x = part.output
        else:
            calls.append(part)
    finish(out)
    if not programs:
        raise ValueError("the model has no layer that computes anything")
    return programs

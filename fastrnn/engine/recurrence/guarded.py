"""Programs whose input is checked in compiled code, and which one thread runs at a time.

In a time step of a small network, a lock of Python, the choice of machine code by the types of arguments, and checks of the
input in Python take several times as long as the arithmetic. Here one call of compiled code does all of it: it compares the
shape and the layout of the input with the expected ones, looks for NaN and infinity, claims the program, runs it, and frees
it. As compiled code claims and frees, no signal can come between.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import typeof, types
from numba.extending import intrinsic

from fastrnn.engine.numba_private import services
from fastrnn.engine.numba_private.services import PLAIN, array_value
from fastrnn.engine.recurrence.call_list import Program, call_all
from fastrnn.engine.runtime.handover import store, swap
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import any_failed, check
from fastrnn.engine.runtime.views import data_address, segment, stretch

__all__ = ["GuardedProgram", "write_answer"]

# Indices in the memory of a program. LENGTH: of this memory. OWNED: whether a thread has claimed the program. ROWS, COLUMNS:
# the shape of the input. LIMIT: tokens must be below it. From WORDS on: the words of the program (see `call_list`).
LENGTH, OWNED, ROWS, COLUMNS, LIMIT, WORDS = 0, 1, 2, 3, 4, 5
#: Values of OWNED: by the thread that is in `_enter`, by the holder of the lock.
BY_ENTRY, BY_HOLDER = 1, 2


@intrinsic
def _memory_at(typingctx, at):
    """The array of int64 at an address, which holds its own length."""
    kind = types.Array(types.int64, 1, "C")

    def codegen(context, builder, signature, args):
        size = context.get_constant(types.intp, 8)
        data = builder.inttoptr(args[0], context.get_data_type(types.int64).as_pointer())
        return array_value(context, builder, kind, data, [builder.load(data)], [size], size)

    return kind(types.intp), codegen


def _is_valid(x, memory):
    """Whether an input has the expected shape, no gaps, and neither NaN nor infinity; or only tokens below the limit."""


def _finite_below(largest: np.floating) -> Callable:
    """The body of `_is_valid` for numbers whose largest is `largest`."""
    none, one = largest.dtype.type(0), largest.dtype.type(1)

    def numbers_are_valid(x, memory):
        n, width, size = memory[ROWS], memory[COLUMNS], x.itemsize
        if x.shape[0] != n or x.shape[1] != width or data_address(x) & (size - 1):
            return False
        if (width != 1 and x.strides[1] != size) or (n != 1 and x.strides[0] != width * size):
            return False
        flat, bad = stretch(x, 0, n * width), none  # sums of the numbers' own type are computed in vectors
        for k in range(flat.shape[0]):
            bad += none if abs(flat[k]) <= largest else one  # NaN compares as false
        return bad == none

    return numbers_are_valid


_BODIES = {bits: _finite_below(np.finfo(f"float{bits}").max) for bits in (32, 64)}


def _tokens_are_valid(x, memory):
    n, size = memory[ROWS], x.itemsize
    if x.shape[0] != n or data_address(x) & (size - 1) or (n != 1 and x.strides[0] != size):
        return False
    bad = 0
    for i in range(n):
        bad += x[i] < 0 or x[i] >= memory[LIMIT]
    return bad == 0


@body_of(_is_valid)
def _body_for(x, memory):
    return _BODIES[x.dtype.bitwidth] if x.ndim == 2 else _tokens_are_valid


@inlined
def _claim(x, memory):
    """Claim the program if the input is valid and no thread has claimed it; return whether this was done."""
    return _is_valid(x, memory) and swap(memory, OWNED, 0, BY_ENTRY)


@jit
def _enter(x, at):
    """Run the program at an address, unless the input is invalid or a thread has claimed it; return whether it was run."""
    memory = _memory_at(at)
    if not _claim(x, memory):
        return False
    call_all(x, segment(memory, WORDS, memory[LENGTH] - WORDS))
    store(memory, OWNED, 0)
    return not any_failed()


def _answer(source, out):
    """Write what a caller wants of the output `source` to a new array.

    Parameters
    ----------
    source : (n, k) array
    out : array
        Numbers of any size, ``(n, k)``, or ``(n,)`` if k is 1. If k is 1, ``(n, 2)``: 1 - p and p for each p. Integers
        ``(n,)``: the index of the largest value, or, if k is 1, whether it exceeds .5.
    """
    _answer_of(out.ndim, out.dtype.kind == "i")(source, out)


def _numbers(source, out):
    for i in range(out.shape[0]):
        out[i] = source[i, 0]


def _indices(source, out):
    for i in range(out.shape[0]):
        best = 0
        if source.shape[1] == 1:
            best = 1 if source[i, 0] > 0.5 else 0
        else:
            largest = source[i, 0]
            for k in range(1, source.shape[1]):
                value = source[i, k]
                if value > largest or (value != value and largest == largest):  # the first NaN, as `argmax`
                    best, largest = k, value
        out[i] = best


def _rows(source, out):
    for i in range(out.shape[0]):
        if out.shape[1] > source.shape[1]:
            out[i, 0], out[i, 1] = 1 - source[i, 0], source[i, 0]
        else:
            for k in range(out.shape[1]):
                out[i, k] = source[i, k]


@body_of(_answer)
def _answer_for(source, out):
    return _answer_of(out.ndim, isinstance(out.dtype, types.Integer))


def _answer_of(n_dims: int, is_index: bool) -> Callable:
    if n_dims == 2:
        return _rows
    return _indices if is_index else _numbers


@jit
def _enter_answering(x, at, source, out):
    """As `_enter`, and write the answer to `out` before another thread can run the program."""
    memory = _memory_at(at)
    if not _claim(x, memory):
        return False
    call_all(x, segment(memory, WORDS, memory[LENGTH] - WORDS))
    _answer(source, out)
    store(memory, OWNED, 0)
    return not any_failed()


@jit(few_passes=True)
def _own(at, claim):
    """Claim a program for the holder of its lock, unless a thread runs it, or free it; return whether this was done."""
    memory = _memory_at(at)
    if claim:  # a holder that was interrupted may have left it claimed
        return swap(memory, OWNED, 0, BY_HOLDER) or memory[OWNED] == BY_HOLDER
    store(memory, OWNED, 0)
    return True


def _never(x: np.ndarray, at: int, *arrays: np.ndarray) -> bool:
    return False


@jit
def write_answer(source, out):
    """Compute an answer (see `_answer`)."""
    _answer(source, out)


class GuardedProgram:
    """Programs that are run in turn, by one thread at a time, if their input is valid.

    Parameters
    ----------
    programs : sequence of Program or of objects with a method `run`
    input : ndarray
        An input: numbers ``(n, width)``, which must be finite, or tokens ``(n,)`` of int64.
    output : ndarray
        C-contiguous array to which the last program writes.
    limit : int
        Tokens must be below it.

    Attributes
    ----------
    enter : callable
        ``enter(x, at)`` runs the programs on `x`, an ndarray (of no subclass) with the input's dtype and number of
        dimensions, and returns True. It returns False, and runs nothing, if `x` has another shape, gaps, or invalid
        elements, if another thread runs the programs, and always on the stock path or if there are several programs: then
        :meth:`run` is needed.
    at : int
        The second argument of `enter`.
    """

    def __init__(
        self, programs: Sequence[Any], input: np.ndarray, output: np.ndarray, limit: int = 0
    ) -> None:
        self._programs, self._input, self._output, self._limit = tuple(programs), input, output, limit
        self._lock, self._held = threading.RLock(), False
        self.enter: Callable[[np.ndarray, int], bool] = _never
        self.at = 0
        (first, *others) = self._programs
        if PLAIN or others or not isinstance(first, Program):
            return
        # The second memory is for the holder of the lock, who has claimed the first one.
        self._memory = np.zeros((2, WORDS + len(first.words)), np.int64)
        self._memory[:, LENGTH] = self._memory.shape[1]
        self._memory[:, ROWS], self._memory[:, COLUMNS] = len(input), input[0].size
        self._memory[:, LIMIT] = limit
        self._memory[:, WORDS:] = first.words
        self.at, self._holders = (memory.ctypes.data for memory in self._memory)
        self.enter = services.dispatcher.entry_of(_enter, (typeof(input), types.intp))

    def answering(self, out: np.ndarray) -> Callable[[np.ndarray, int, np.ndarray, np.ndarray], bool]:
        """As `enter`: ``answering(out)(x, at, output, out)`` also makes the answer (see `_answer`) in arrays like `out`."""
        if not self.at:
            return _never
        kinds = typeof(self._input), types.intp, typeof(self._output), typeof(out)
        entry: Callable = services.dispatcher.entry_of(_enter_answering, kinds)
        return entry

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread runs the programs, and keep them for this thread in the block, which may be nested."""
        with self._lock:
            outer = self._held
            try:
                self._held = True
                while self.at and not _own(self.at, True):
                    time.sleep(0)
                yield
            finally:
                self._held = outer
                if self.at and not outer:
                    _own(self.at, False)

    def run(self, x: np.ndarray) -> bool:
        """Run on `x`, in a block of :meth:`alone`; return False, and run nothing, if it has NaN or infinity.

        Parameters
        ----------
        x : ndarray
            C-contiguous, of the input's dtype and shape; tokens are in their range.
        """
        if self.at:
            done = self.enter(x, self._holders)
            check()
            return done
        if not self._limit and not np.isfinite(x).all():
            return False
        for program in self._programs:
            x = program.run(x)
        return True

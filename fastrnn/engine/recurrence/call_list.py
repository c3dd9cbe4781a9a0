"""Lists of kernel calls with arguments in fixed memory, for small calls that are repeated.

Passing a dozen arrays from Python to a kernel takes longer than one time step of a small network. Here they are passed once:
a :class:`Call` is the address of a kernel and the address of its arguments, in a block of memory that is kept; a
:class:`Program` is a list of calls, each of which reads the output of the previous one. Running it writes the addresses of
the input and of the output into the arguments of the first and of the last call, then runs the calls in turn. A call of
several pieces is shared with the team of threads; so are several independent calls.

A program owns its memory, so two threads can't run it at the same time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided

from fastrnn.engine.numba_private.services import PLAIN
from fastrnn.engine.runtime import threads
from fastrnn.engine.runtime.handover import ALONE, call_part, share
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.launch import LAUNCHING
from fastrnn.engine.runtime.linking import Slots, address, address_of, begin, check, failed, fetch
from fastrnn.engine.runtime.views import data_address

__all__ = [
    "Call",
    "Program",
    "bind",
    "call_all",
    "compile_together",
    "placeholder",
    "run_calls",
    "share_calls",
    "side_by_side",
    "words_of",
]

# Larger than the arguments of any kernel.
_BLOCK_BYTES = 4096


@intrinsic
def _write(typingctx, at, value):
    """Write a number to an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


def _in_memory(value: Any) -> tuple[bytes, int]:
    """A value as kernels hold it in memory, and its alignment. A kernel that wrote it would have to be compiled first.

    Arrays are without references: their owner keeps them.
    """
    if isinstance(value, tuple):
        data, alignment = b"", 1
        for item in value:
            part, needed = _in_memory(item)
            data += bytes(-len(data) % needed) + part
            alignment = max(alignment, needed)
        return data + bytes(-len(data) % alignment), alignment
    if isinstance(value, np.ndarray):
        numbers = (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
        return struct.pack(f"{len(numbers)}q", *numbers), 8
    if isinstance(value, bool):
        return bytes([value]), 1
    if value is None or isinstance(value, (int, np.int64)):
        return struct.pack("q", value or 0), 8
    if isinstance(value, float):
        return struct.pack("d", value), 8
    raise TypeError(f"an argument of a bound kernel can't be {value!r}")


@inlined
def _write_address(words, x, i, end):
    """Write the address of `x` to the addresses in ``words[i:end]``."""
    while i < end:
        _write(words[i], data_address(x))
        i += 1


# `words` is [end of the input's places, end of the output's places, these places (addresses of arguments)], then [kernel,
# arguments, pieces] for each call.
@inlined
def call_all(x, words):
    """Write the address of the input to its places, and make the calls in turn on this thread."""
    _write_address(words, x, 2, words[0])
    for i in range(words[1], words.shape[0], 3):
        for k in range(words[i + 2]):
            call_part(words[i], words[i + 1], k)


@jit
def _run(x, words):
    call_all(x, words)


@jit
def _run_alone(words):
    for i in range(0, words.shape[0], 3):
        for k in range(words[i + 2]):
            call_part(words[i], words[i + 1], k)


@jit
def _run_shared(state, words):
    for i in range(0, words.shape[0], 3):
        if words[i + 2] == 1:
            call_part(words[i], words[i + 1], 0)
        else:
            share(state, words[i], words[i + 1], words[i + 2])


@jit
def _run_out(state, x, words, out):
    _write_address(words, x, 2, words[0])
    _write_address(words, out, words[0], words[1])
    for i in range(words[1], words.shape[0], 3):
        share(state, words[i], words[i + 1], words[i + 2])


@jit(inner=True, entry=True)
def _one_of(arguments, at, k):
    (jobs,) = fetch(arguments, at)
    call_part(jobs[k, 0], jobs[k, 1], jobs[k, 2])


_any_call = address(_one_of)


class Call(NamedTuple):
    """A kernel and its arguments, which is called once for each piece."""

    function: Any  # its address, or the kernel itself without a compiler
    block: np.ndarray
    arguments: tuple
    pieces: int
    #: The calls of which it consists, if there are several.
    members: tuple[Call, ...] = ()


def bind(
    kernel: Any, *arguments: Any, pieces: int = 1, needed: Sequence[Slots] = (), item_size: int = 4
) -> Call:
    """Fix the arguments of a kernel, and compile all functions that its calls need.

    Parameters
    ----------
    kernel : callable
        The result of `linking.address` for the kernel.
    *arguments
        Its arguments; arrays are kept as long as the call exists.
    pieces : int
        Number of times that the kernel is called, with indices from 0 on; the calls may run in parallel.
    needed : sequence of Slots
        Slots of the functions linked on demand that the kernel calls.
    item_size : int
        Size in bytes of the numbers in its arrays.
    """
    block = np.zeros(_BLOCK_BYTES, np.uint8)
    if PLAIN:
        return Call(kernel(arguments), block, arguments, pieces)
    data = _in_memory(arguments)[0]
    if len(data) > _BLOCK_BYTES:
        raise ValueError(f"arguments of {len(data)} bytes do not fit a block")
    block[: len(data)] = np.frombuffer(data, np.uint8)
    key = (kernel, *(_kind(a) for a in arguments))
    if key not in _addresses:
        _addresses[key] = address_of(kernel, tuple(typeof(a) for a in arguments))
    for slots in needed:  # known only after the kernel is compiled
        slots.fill(item_size)
    return Call(_addresses[key], block, arguments, pieces)


def compile_together(*calls: tuple[Any, tuple]) -> None:
    """Compile the kernels of several calls, each given with its arguments, side by side, before they are bound."""
    if PLAIN:
        return
    missing = [
        (kernel, tuple(map(typeof, arguments)))
        for kernel, arguments in calls
        if (kernel, *map(_kind, arguments)) not in _addresses
    ]
    if missing:
        begin(missing)


def side_by_side(*members: Call) -> Call:
    """Independent calls as one call with all their pieces."""
    pieces = [(member, k) for member in members for k in range(member.pieces)]
    jobs = np.empty((len(pieces), 3), object if PLAIN else np.int64)
    for i, (member, k) in enumerate(pieces):
        jobs[i, 0], jobs[i, 2] = member.function, k
        jobs[i, 1] = member.arguments if PLAIN else member.block.ctypes.data
    return bind(_any_call, jobs, pieces=len(pieces))._replace(members=members)


#: Addresses of kernels for kinds of arguments, because getting Numba's types of a dozen arrays takes longer than a call.
_addresses: dict[tuple, int] = {}


def _kind(argument: Any) -> Any:
    """A key that identifies the type of an argument."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        return (
            argument.dtype,
            argument.ndim,
            flags.c_contiguous,
            flags.f_contiguous,
            flags.writeable,
            flags.aligned,
        )
    return type(argument)


def placeholder(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of this shape whose address is replaced in each call; it needs almost no memory."""
    if PLAIN:
        return np.empty(shape, dtype)
    strides = [dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return as_strided(np.empty(1, dtype), shape, strides)


class Program:
    """Calls that are run in turn.

    Parameters
    ----------
    calls : sequence of Call
    input : ndarray
        C-contiguous array that is an argument of the first call only.
    output : ndarray
        C-contiguous array to which the last call writes.
    light : bool
        Whether the work is too small to wake a thread.
    n_threads : int, optional
        Largest number of threads; by default the number of pieces.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        input: np.ndarray,
        output: np.ndarray,
        light: bool = False,
        n_threads: int | None = None,
    ) -> None:
        self.calls, self.light = tuple(calls), light
        self.input, self.output = input, output
        self._threads = max(p.pieces for p in self.calls) if n_threads is None else n_threads
        if PLAIN:
            return
        inputs, outputs = _places(self.calls[0], input), _places(self.calls[-1], output)
        if not inputs:
            raise ValueError("the input must be one argument of the first call")
        self._writes = bool(outputs)
        ends = [2 + len(inputs), 2 + len(inputs) + len(outputs)]
        jobs = [word for p in self.calls for word in (p.function, p.block.ctypes.data, p.pieces)]
        self._words = np.array([*ends, *inputs, *outputs, *jobs], np.int64)

    @property
    def words(self) -> np.ndarray:
        """The program as compiled code reads it; not on the stock path."""
        return self._words

    def run(self, x: np.ndarray) -> np.ndarray:
        """Run on a C-contiguous `x` of the input's dtype and size; the output is valid until the next run."""
        if PLAIN:
            self.input[...] = x.reshape(self.input.shape)
            for step in self.calls:
                for piece in range(step.pieces):
                    step.function(step.arguments, 0, piece)
        else:
            _run(x, self._words)
            if failed[0]:
                check()
        return self.output

    def run_out(self, x: np.ndarray, out: np.ndarray) -> None:
        """As :meth:`run`, and write to `out`; with the team, if a call has several pieces.

        The output must be exactly one argument of the last call. Later calls of :meth:`run` write to `out` too.
        """
        if PLAIN:
            out[...] = self.run(x).reshape(out.shape)
        elif not self._writes:
            raise ValueError("the output must be one argument of the last call")
        elif self._threads == 1:
            _run_out(ALONE, x, self._words, out)
            if failed[0]:
                check()
        else:
            with threads.parallel_region(self._threads, self.light) as team, LAUNCHING:
                _run_out(ALONE if team is None else team, x, self._words, out)


def words_of(calls: Sequence[Call]) -> np.ndarray:
    """Calls in the form that :func:`run_calls` takes, for the private path; the calls must be kept."""
    return np.array([w for p in calls for w in (p.function, p.block.ctypes.data, p.pieces)], np.int64)


def run_calls(words: np.ndarray) -> None:
    """Run calls in turn on this thread."""
    _run_alone(words)
    if failed[0]:
        check()


def share_calls(words: np.ndarray, n_threads: int, light: bool) -> None:
    """As :func:`run_calls`, with the pieces of each call shared between threads; `light` work does not wake them."""
    with threads.parallel_region(n_threads, light) as team, LAUNCHING:
        _run_shared(ALONE if team is None else team, words)


def _places(step: Call, array: np.ndarray) -> list[int]:
    """Addresses of an array's pointer in the arguments of a call, or of each member; empty if one does not have it."""
    found = [_where(member, array) for member in step.members or (step,)]
    return found if all(found) else []


def _where(step: Call, array: np.ndarray) -> int:
    """Address of an array's pointer in the arguments of a call; 0 unless the array is exactly one argument."""
    (found,) = np.nonzero(step.block.view(np.int64) == array.ctypes.data)
    return step.block.ctypes.data + 8 * int(found[0]) if len(found) == 1 else 0

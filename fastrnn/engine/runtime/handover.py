"""Distribution of the parts of a job to threads, through a word in shared memory.

A job is a function, the address of its arguments, and a number of parts. The calling thread claims the shared `state`,
writes the job into it, computes parts itself, and waits until all parts are done; the other threads of the team spin on the
same word and compute parts too. If another thread has claimed the state, the calling thread computes the job alone. Each
free thread takes the next part, so a thread that the system suspends does not delay the others, as it would at a barrier.
Each part writes to fixed numbers, so results do not depend on which thread computed it.

The word is ``job << 32 | parts << 16 | next``. A thread takes a part by a compare-and-swap of the whole word, which fails if
another job has begun; the function and arguments that were read before are then not used.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.numba_private.services import PLAIN, add_symbol, cgutils
from fastrnn.engine.runtime.jit import body_of, inlined, jit
from fastrnn.engine.runtime.linking import Arguments, function_of, linked, note_failure
from fastrnn.engine.runtime.views import data_address
from fastrnn.engine.tuning import SPINS_BEFORE_YIELD

__all__ = [
    "ALONE",
    "STOP",
    "WAITED",
    "add_to",
    "call_part",
    "load",
    "new_state",
    "offer",
    "pause",
    "serve",
    "share",
    "store",
    "swap",
]

# Indices in the state, on separate cache lines. WAITED: nanoseconds for which `share` waited for the last part. OWNED:
# whether a thread has claimed the team for a job; compiled code claims and frees it, so it can't be interrupted.
WORD, DONE, JOB, STOP, WAITED, OWNED = 0, 8, 16, 24, 32, 40
#: Index of the clock's ticks per second, if it does not count nanoseconds.
FREQUENCY = WAITED + 3
_MASK = 0xFFFF

_MACHINE = platform.machine().lower()
_POSIX = sys.platform in ("linux", "darwin")
_WINDLL: Any = getattr(ctypes, "WinDLL", None)
_KERNEL32 = _WINDLL("kernel32") if _WINDLL is not None and sys.platform == "win32" else None


def new_state() -> np.ndarray:
    """The shared memory of a team, without a job."""
    state = np.zeros(48, np.int64)
    if _KERNEL32 is not None:
        frequency = ctypes.c_int64()
        _KERNEL32.QueryPerformanceFrequency(ctypes.byref(frequency))
        state[FREQUENCY] = frequency.value
    return state


def _word(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to an element."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


_ARRAY = types.Array(types.int64, 1, "C")


@intrinsic
def load(typingctx, array, index):
    """Read an element, and no other number before it."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_word(context, builder, signature.args[0], *args), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write an element after all numbers that were written before."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(
            args[2], _word(context, builder, signature.args[0], args[0], args[1]), "release", 8
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def add_to(typingctx, array, index, value):
    """Add to an element; return what it was."""

    def codegen(context, builder, signature, args):
        where = _word(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", where, args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def swap(typingctx, array, index, old, new):
    """Replace `old` by `new` if the element is still `old`; return whether it was."""

    def codegen(context, builder, signature, args):
        where = _word(context, builder, signature.args[0], args[0], args[1])
        return builder.extract_value(builder.cmpxchg(where, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spin loop."""

    def codegen(context, builder, signature, args):
        if _MACHINE in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif _MACHINE in ("aarch64", "arm64"):
            builder.asm(ir.FunctionType(ir.VoidType(), []), "yield", "", [], True)
        return context.get_dummy_value()

    return types.void(), codegen


if PLAIN:  # one thread

    @inlined
    def load(array, index):
        """Read an element."""
        return array[index]

    @inlined
    def store(array, index, value):
        """Write an element."""
        array[index] = value

    @inlined
    def add_to(array, index, value):
        """Add to an element; return what it was."""
        array[index] += value
        return array[index] - value

    @inlined
    def swap(array, index, old, new):
        """Replace `old` by `new`; return whether the element was `old`."""
        if array[index] != old:
            return False
        array[index] = new
        return True

    @inlined
    def pause():
        """Do nothing: no other thread is waited for."""


if _POSIX:
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())
    _clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
    _MONOTONIC = time.CLOCK_MONOTONIC

    @inlined
    def offer():
        """Let another thread have the core."""
        _sched_yield()

    @inlined
    def _clock(state):
        """Nanoseconds since some moment."""
        _clock_gettime(_MONOTONIC, data_address(state) + 8 * (WAITED + 1))
        return state[WAITED + 1] * 1_000_000_000 + state[WAITED + 2]

elif _KERNEL32 is not None:
    _switch_to_thread = types.ExternalFunction("fastrnn_switch_to_thread", types.int32())
    _performance_counter = types.ExternalFunction("fastrnn_performance_counter", types.int32(types.intp))
    if not PLAIN:
        for _symbol, _function in (
            ("fastrnn_switch_to_thread", _KERNEL32.SwitchToThread),
            ("fastrnn_performance_counter", _KERNEL32.QueryPerformanceCounter),
        ):
            add_symbol(_symbol, ctypes.cast(_function, ctypes.c_void_p).value or 0)

    @inlined
    def offer():
        """Let another thread have the core."""
        _switch_to_thread()

    @inlined
    def _clock(state):
        """Nanoseconds since some moment."""
        _performance_counter(data_address(state) + 8 * (WAITED + 1))
        ticks, frequency = state[WAITED + 1], state[FREQUENCY]
        return ticks // frequency * 1_000_000_000 + ticks % frequency * 1_000_000_000 // frequency

else:

    @inlined
    def offer():
        """Do nothing: there is no function to yield the core on this system."""

    @inlined
    def _clock(state):
        """Return 0: without a clock, no wait is considered too long."""
        return 0


#: The state of a thread without a team.
ALONE = np.zeros(0, np.int64)


@intrinsic
def call_part(typingctx, function, at, part):
    """Call a function, by an address from `linking.address`, for one part."""

    def codegen(context, builder, signature, args):
        kinds = (Arguments(types.Tuple(())), types.intp, types.intp)
        kind = context.call_conv.get_function_type(types.none, kinds)
        where = builder.inttoptr(args[0], kind.as_pointer())
        stand_in = context.get_constant_null(kinds[0])
        status, _ = context.call_conv.call_function(
            builder, where, types.none, kinds, [stand_in, args[1], args[2]]
        )
        note_failure(builder, status, 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


if PLAIN:

    def call_part(function, arguments, part):
        """Call a function, for one part."""
        function(arguments, 0, part)

    @body_of(call_part)
    def _(record, *kinds):
        function = function_of(record)
        return lambda record, arguments, part: function(arguments, 0, part)


@inlined
def _take(state):
    """Compute one part, if there is one left; return whether there was one."""
    while True:
        word = load(state, WORD)
        part = word & _MASK
        if part >= (word >> 16) & _MASK:
            return False
        function, at = state[JOB], state[JOB + 1]
        if swap(state, WORD, word, word + 1):
            call_part(function, at, part)
            add_to(state, DONE, 1)
            return True


def _share(state, function, at, parts):
    """Compute all parts of a job (at most 65535), with the threads that serve `state` unless it is empty."""
    if state.shape[0] == 0 or not swap(state, OWNED, 0, 1):
        for k in range(parts):
            call_part(function, at, k)
        return
    state[JOB], state[JOB + 1] = function, at
    store(state, DONE, 0)
    store(state, WORD, (((load(state, WORD) >> 32) + 1) << 32) | (parts << 16))
    while _take(state):
        pass
    spins = 0
    while load(state, DONE) < parts and spins < SPINS_BEFORE_YIELD:
        spins += 1
        pause()
    state[WAITED] = 0
    if spins == SPINS_BEFORE_YIELD:
        start = _clock(state)
        while load(state, DONE) < parts:
            offer()
        state[WAITED] = _clock(state) - start
    store(state, OWNED, 0)


def _share_alone(state, function, at, parts):
    """Have all parts of a job done, one after the other."""
    for k in range(parts):
        call_part(function, at, k)


share = inlined(_share_alone) if PLAIN else linked(jit(inner=True, few_passes=True)(_share))


@jit
def serve(state, spins):
    """Compute parts of jobs until `spins` checks in a row found no part (returns False), or until the end (True)."""
    idle = 0
    while idle < spins:
        if load(state, STOP):
            return True
        if _take(state):
            idle = 0
        else:
            idle += 1
            pause()
    return False

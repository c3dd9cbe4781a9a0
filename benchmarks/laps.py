"""Counters in compiled code of what each thread spends its time on, for `breakdown`.

A thread has a row of words: its number, the cycle counter at its last lap, a part that was announced, and for each of
`PARTS` the ticks and the number of laps. A lap adds the ticks since the last lap of the thread to a part, so nothing is left
out and nothing is counted twice. The first row is that of the thread which Python called last; other threads take the next
free row.

`instrumented` copies this module into the engine of a copy of the package, and inserts the laps there.
"""

from __future__ import annotations

import platform
import sys
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.numba_private.services import PLAIN, add_symbol, cgutils
from fastrnn.engine.runtime.jit import inlined, jit
from fastrnn.engine.runtime.linking import linked

#: What time is spent on.
PARTS = (
    "Python",
    "input products",
    "recurrent products",
    "pointwise functions",
    "gradients of weights",
    "moving rows",
    "packing weights",
    "loss and update",
    "hand-over",
    "time loop",
)
PYTHON, INPUTS, RECURRENT, POINTWISE, WEIGHTS, ROWS, PACKING, UPDATE, HANDOVER, LOOP = range(len(PARTS))

THREADS, WORDS = 64, 64
#: Words of a row.
_LAST, _ANNOUNCED, _TICKS, _LAPS = 1, 2, 8, 32

SUPPORTED = not PLAIN and sys.platform in ("linux", "darwin") and platform.machine().lower() in ("x86_64",)

# A row fills whole cache lines, so threads do not write to the same one.
_memory = np.zeros((THREADS + 1) * WORDS, np.int64)
_offset = -(_memory.ctypes.data // 8) % 8
rows = _memory[_offset : _offset + THREADS * WORDS].reshape(THREADS, WORDS)

_SYMBOL = "fastrnn_laps"
if not PLAIN:
    add_symbol(_SYMBOL, rows.ctypes.data)

_word = ir.IntType(64)
_pthread_self = types.ExternalFunction("pthread_self", types.intp())


@intrinsic
def first_row(typingctx):
    """The address of the first row."""

    def codegen(context, builder, signature, args):
        module = builder.module
        table = module.globals.get(_SYMBOL) or ir.GlobalVariable(module, _word, _SYMBOL)
        return builder.ptrtoint(table, _word)

    return types.intp(), codegen


def _pointer(builder: Any, row: Any, index: Any) -> Any:
    at = builder.add(row, builder.mul(index, _word(8)))
    return builder.inttoptr(at, _word.as_pointer())


def _ticks(builder: Any) -> Any:
    """The cycle counter, after all instructions before have been computed."""
    fence = ir.FunctionType(ir.VoidType(), [])
    builder.call(cgutils.get_or_insert_function(builder.module, fence, "llvm.x86.sse2.lfence"), [])
    kind = ir.FunctionType(_word, [])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])


@intrinsic
def lap(typingctx, row, part):
    """Add the ticks since the last lap to a part."""

    def codegen(context, builder, signature, args):
        row, part = args
        now, last = _ticks(builder), _pointer(builder, row, _word(_LAST))
        ticks = _pointer(builder, row, builder.add(part, _word(_TICKS)))
        laps = _pointer(builder, row, builder.add(part, _word(_LAPS)))
        builder.store(builder.add(builder.load(ticks), builder.sub(now, builder.load(last))), ticks)
        builder.store(builder.add(builder.load(laps), _word(1)), laps)
        builder.store(now, last)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def _restart(typingctx, row):
    """Begin a lap."""

    def codegen(context, builder, signature, args):
        builder.store(_ticks(builder), _pointer(builder, args[0], _word(_LAST)))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def _get(typingctx, row, index):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(_pointer(builder, *args), "monotonic", 8)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def _put(typingctx, row, index, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _pointer(builder, args[0], args[1]), "monotonic", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def _claim(typingctx, row, number):
    """Write a thread's number to a row that has none; return whether it was free."""

    def codegen(context, builder, signature, args):
        where = _pointer(builder, args[0], _word(0))
        return builder.extract_value(builder.cmpxchg(where, _word(0), args[1], "acq_rel", "acquire"), 1)

    return types.boolean(types.intp, types.intp), codegen


@linked
@jit(inner=True)
def enter():
    """For kernels that Python calls, at their beginning: make the first row this thread's; return its address."""
    row = first_row()
    _put(row, 0, _pthread_self())
    lap(row, PYTHON)
    return row


@linked
@jit(inner=True)
def own_row():
    """The address of this thread's row."""
    me, row = _pthread_self(), first_row()
    for _ in range(THREADS - 1):
        if _get(row, 0) == me:
            return row
        if _get(row, 0) == 0 and _claim(row, me):
            _restart(row)
            return row
        row += 8 * WORDS
    return row


@inlined
def announce(row, part):
    """Say what the pieces are part of that other threads are about to compute."""
    _put(row, _ANNOUNCED, part)


@linked
@jit(inner=True)
def announced():
    """What the thread that Python called has announced."""
    return _get(first_row(), _ANNOUNCED)


@jit
def _from_python():
    enter()


@jit
def _many_laps(n):
    row = enter()
    for _ in range(n):
        lap(row, LOOP)


def ticks_and_laps() -> tuple[np.ndarray, np.ndarray]:
    """Ticks, and numbers of laps, of each thread and part until now."""
    _from_python()
    n = len(PARTS)
    return rows[:, _TICKS : _TICKS + n].copy(), rows[:, _LAPS : _LAPS + n].copy()


def seconds_of_parts(run: Any, calls: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Seconds per call of each part on the calling thread, the same on all other threads, and seconds in all.

    The time that the laps themselves take is left out.
    """
    n = 2000
    cost = np.inf
    _many_laps(n)
    for _ in range(9):
        before, _ = ticks_and_laps()
        _many_laps(n)
        after, _ = ticks_and_laps()
        cost = min(cost, float((after - before)[0, LOOP]) / n)
    ticks, laps = ticks_and_laps()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    then, passed = ticks_and_laps()
    elapsed = time.perf_counter() - start
    ticks, laps = then - ticks, passed - laps
    tick = elapsed / ticks[0].sum()
    found = np.maximum(ticks - cost * laps, 0) * (tick / calls)
    return found[0], found[1:].sum(axis=0), elapsed / calls

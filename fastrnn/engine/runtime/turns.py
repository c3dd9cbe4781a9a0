"""Stages of a job that several threads compute: each stage has a slice for each thread, and needs all slices of the last.

The threads run the same loop over the stages, and each computes its own slice, so that what it reads stays in its cache. At
the end of a stage they wait for one another through words in memory, without the hand-over of a function and its arguments.
A slice whose thread has not come yet is computed by those that wait, and so is that of a thread which the system suspends
before it begins a stage. So a job is done however few threads come, and which thread computes a slice changes no result.

The words of a slice are two lines of the cache: the number of stages that were begun, which its own thread writes; and the
number of stages that are done and whether its thread is there, which all read. The words must be zero before the first
thread comes, and are zero again when the last one has left.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.numba_private.services import PLAIN, array_field, array_value
from fastrnn.engine.runtime.handover import add_to, load, offer, pause, store, swap
from fastrnn.engine.runtime.jit import inlined
from fastrnn.engine.tuning import SPINS_BEFORE_YIELD

__all__ = ["arrive", "begun", "finish", "leave", "next_turn", "turn_bytes", "turn_words"]

# Indices in the words of a slice, and in those of the job, which come first. All that is written by different threads is
# two lines apart, because processors fetch lines in pairs.
_WORDS, _LEFT = 32, 0
_BEGUN, _DONE, _THERE = 0, 16, 17


@inlined
def turn_bytes(n_slices: int) -> int:
    """Bytes of the words of a job with this number of slices."""
    return 8 * _WORDS * (1 + n_slices)


if PLAIN:

    @inlined
    def turn_words(memory):
        """A 1-D array as integers."""
        return memory.view(np.int64)

else:

    @intrinsic
    def turn_words(typingctx, memory):
        """A 1-D array without gaps as integers."""
        result = types.Array(types.int64, 1, "C")

        def codegen(context, builder, signature, args):
            size = context.get_constant(
                types.intp, context.get_abi_sizeof(context.get_data_type(memory.dtype))
            )
            shape = array_field(context, builder, memory, args[0], "shape")
            n = builder.udiv(builder.mul(builder.extract_value(shape, 0), size), size.type(8))
            data = array_field(context, builder, memory, args[0], "data")
            data = builder.bitcast(data, context.get_data_type(types.int64).as_pointer())
            return array_value(context, builder, result, data, [n], [size.type(8)], size.type(8))

        return result(memory), codegen


@inlined
def _at(k):
    """Index of the words of slice `k`."""
    return (1 + k) * _WORDS


@inlined
def arrive(words, k):
    """Say that the thread of slice `k` is there."""
    store(words, _at(k) + _THERE, 1)


@inlined
def begun(words, k):
    """Number of stages of slice `k` that were begun."""
    return load(words, _at(k) + _BEGUN)


@inlined
def finish(words, k, stage):
    """Say that slice `k` of a stage is done."""
    store(words, _at(k) + _DONE, stage + 1)


@inlined
def next_turn(words, k, stage, n_slices):
    """Wait until slice `k` of a stage may be computed; return `k`.

    Return another slice if that of the stage before must be computed first, and -1 if another thread has begun slice `k`.
    The caller must compute the slice, then call `finish`.
    """
    spins = 0
    while True:
        ready = True
        for other in range(n_slices):
            at = _at(other)
            if load(words, at + _DONE) >= stage:
                continue
            ready = False
            if load(words, at + _THERE) and spins < SPINS_BEFORE_YIELD:
                continue
            if other != k and swap(words, at + _BEGUN, stage - 1, stage):
                store(words, at + _THERE, 0)
                return other
        if ready:
            break
        spins += 1
        if spins < SPINS_BEFORE_YIELD:
            pause()
        else:
            offer()
    if swap(words, _at(k) + _BEGUN, stage, stage + 1):
        store(words, _at(k) + _THERE, 1)
        return k
    return -1


@inlined
def leave(words, n_slices):
    """End the part of a thread. The last one sets the words to zero."""
    if add_to(words, _LEFT, 1) == n_slices - 1:
        for k in range(n_slices):
            at = _at(k)
            store(words, at + _BEGUN, 0)
            store(words, at + _DONE, 0)
            store(words, at + _THERE, 0)
        store(words, _LEFT, 0)

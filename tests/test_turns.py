"""Stages that several threads compute together: every slice is computed once, after all slices of the stage before."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastrnn.engine.runtime import turns
from fastrnn.engine.runtime.jit import PLAIN, jit
from fastrnn.engine.runtime.turns import arrive, begun, finish, leave, next_turn

N_SLICES, N_STAGES = 3, 400


@jit
def run_slice(words, x, k):
    """Row ``s + 1`` of `x` is made from all numbers of row `s`."""
    n_stages, n_slices = x.shape[0] - 1, x.shape[1]
    arrive(words, k)
    stage = begun(words, k)
    while stage < n_stages:
        turn = next_turn(words, k, stage, n_slices)
        if turn < 0:
            stage = begun(words, k)
            continue
        now = stage if turn == k else stage - 1
        total = 0
        for i in range(n_slices):
            total += x[now, i] * (i + 1)
        x[now + 1, turn] += (total + turn) % 1_000_003  # added, so that a slice computed twice shows
        finish(words, turn, now)
        if turn == k:
            stage += 1
    leave(words, n_slices)


@jit
def come(words, k):
    arrive(words, k)


def start(n_stages=N_STAGES):
    x = np.zeros((n_stages + 1, N_SLICES), np.int64)
    x[0] = np.arange(N_SLICES) + 5
    return np.zeros(turns.turn_bytes(N_SLICES) // 8, np.int64), x


def expected(n_stages=N_STAGES):
    _, x = start(n_stages)
    for s in range(n_stages):
        x[s + 1] = (x[s] @ np.arange(1, N_SLICES + 1) + np.arange(N_SLICES)) % 1_000_003
    return x


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_one_thread_computes_the_slices_of_all(order):
    words, x = start()
    for k in order:
        run_slice(words, x, k)
    np.testing.assert_array_equal(x, expected())
    assert not words.any()


@pytest.mark.parametrize("n_stages", [0, 1])
def test_jobs_of_few_stages_end(n_stages):
    words, x = start(n_stages)
    for k in range(N_SLICES):
        run_slice(words, x, k)
    np.testing.assert_array_equal(x, expected(n_stages))
    assert not words.any()


def test_slice_of_a_thread_that_does_not_go_on_is_computed_by_another():
    words, x = start()
    come(words, 1)  # and then the system suspends it
    for k in range(N_SLICES):
        run_slice(words, x, k)
    np.testing.assert_array_equal(x, expected())
    assert not words.any()


@pytest.mark.skipif(
    PLAIN, reason="one thread at a time is all that runs without the compiler of this library"
)
@pytest.mark.parametrize("n_threads", [2, N_SLICES])
def test_threads_compute_every_slice_once_and_in_order(n_threads):
    words, right = start()[0], expected()
    for _ in range(20):
        x = start()[1]
        left, lock = list(range(N_SLICES)), threading.Lock()

        def work(x=x, left=left, lock=lock):
            while True:
                with lock:
                    if not left:
                        return
                    k = left.pop()
                run_slice(words, x, k)

        workers = [threading.Thread(target=work) for _ in range(n_threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        np.testing.assert_array_equal(x, right)
        assert not words.any()

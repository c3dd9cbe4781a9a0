"""How a pass is laid out: schedules of masks, threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastrnn.cells.lstm import LSTM
from fastrnn.engine import tuning
from fastrnn.engine.recurrence import plans
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.recurrence.plans import thread_count
from fastrnn.engine.recurrence.schedule import dense_schedule, masked_schedule, row_bounds, unpacked


def naive_schedule(mask):
    """The parts of a schedule as Python objects."""
    n_batch, n_steps = mask.shape
    order = sorted(range(n_batch), key=lambda b: -mask[b].sum())
    active = [sum(mask[b].sum() > s for b in range(n_batch)) for s in range(n_steps + 1)]
    starts = [sum(active[:s]) for s in range(n_steps + 1)]
    times = [[t for t in range(n_steps) if mask[b, t]] for b in order]
    return starts, active, order, times


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (5, 4), (40, 9), (7, 1)])
def test_masked_schedule_matches_naive(shape, rng):
    n_batch, n_steps = shape
    for k in range(20):
        mask = rng.random(shape) < rng.random()
        if k % 4 == 0:
            mask[rng.integers(n_batch)] = False
        schedule = masked_schedule(mask[:, ::-1])  # not contiguous
        starts, active, order, times = naive_schedule(mask[:, ::-1])
        at = n_steps + 1
        assert schedule[:at].tolist() == starts
        assert schedule[at : 2 * at].tolist() == active
        assert schedule[2 * at : 2 * at + n_batch].tolist() == order
        assert schedule[2 * at + n_batch] == 0
        found = schedule[2 * at + n_batch + 1 :].reshape(n_batch, n_steps)
        for row, expected in zip(found.tolist(), times, strict=True):
            assert row[: len(expected)] == expected
            assert sorted(row) == list(range(n_steps))


def test_full_mask_gives_the_dense_schedule():
    masked, dense = masked_schedule(np.ones((3, 5), bool)), dense_schedule(3, 5)
    np.testing.assert_array_equal(masked[: 2 * 6 + 3], dense[: 2 * 6 + 3])
    np.testing.assert_array_equal(masked[2 * 6 + 4 :].reshape(3, 5), np.tile(np.arange(5), (3, 1)))


def test_threads_follow_the_work(monkeypatch):
    monkeypatch.setattr(plans.threads, "resolve", lambda n: 16 if n is None else n)
    step = 4 * 32 * (32 + 32)  # multiply-adds of one row
    assert thread_count(LSTM(32), tuning.MIN_THREAD_WORK // step - 1, 32, 100, None) == 1
    assert thread_count(LSTM(32), tuning.MIN_THREAD_WORK // step + 1, 32, 100, None) == 2
    assert thread_count(LSTM(32), 3 * tuning.MIN_THREAD_WORK // step + 1, 32, 100, None) == 4
    assert thread_count(LSTM(32), 10**6, 32, 100, None) == 16
    assert thread_count(LSTM(32), 10**6, 32, 3, None) == 3
    assert thread_count(LSTM(32), 10**6, 32, 1, None) == 1
    assert [thread_count(LSTM(32), 10**6, 32, n, None, min_rows=2) for n in (2, 3, 4, 5)] == [1, 2, 2, 3]


def test_ragged_batches_share_what_does_not_depend_on_their_lengths():
    options = plans.Options(4, 6, 3, np.dtype("float32"), False, False, True, 0, False, True, False)
    found = []
    for lengths in ([6, 4, 2, 1], [6, 6, 5, 2]):
        mask = np.arange(6) < np.array(lengths)[:, None]
        found.append(plans.plan_pass(LSTM(5), options, masked_schedule(mask), 1))
    first, second = found
    assert first.settings is second.settings
    assert first.back is second.back
    for plan, n_steps in ((first, 13), (second, 19)):
        assert plan.saved_shape == (n_steps, 5 * traits(LSTM(5)).n_saved)
        assert plan.states_shape == (2, 4 + n_steps, 5)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_threads_have_as_equal_shares_as_rows_allow(n_threads, rng):
    for _ in range(30):
        n_batch, n_steps = int(rng.integers(1, 20)), int(rng.integers(1, 30))
        lengths = np.sort(rng.integers(0, n_steps + 1, n_batch))[::-1]
        schedule = masked_schedule(np.arange(n_steps) < lengths[:, None])
        bounds = row_bounds(schedule, n_batch, n_steps, n_threads)
        assert bounds[0] == 0
        assert bounds[-1] == n_batch
        assert 2 <= len(bounds) <= n_threads + 1
        most = max(lengths[a:b].sum() for a, b in itertools.pairwise(bounds))
        if n_threads == 2:
            assert most == min(max(lengths[:k].sum(), lengths[k:].sum()) for k in range(1, n_batch + 1))
        else:
            assert most <= lengths.sum() / n_threads + n_steps


def test_unpacked_schedule_has_a_row_of_times_for_each_sequence():
    dense = unpacked(dense_schedule(3, 4), 3, 4)
    assert dense.dense
    assert dense.times.tolist() == [[0, 1, 2, 3]] * 3
    assert dense.starts[-1] == 12
    mask = np.arange(4) < np.array([2, 4, 0])[:, None]
    masked = unpacked(masked_schedule(mask), 3, 4)
    assert not masked.dense
    assert masked.order.tolist() == [1, 0, 2]
    assert masked.times[:2].tolist() == [[0, 1, 2, 3]] * 2
    assert masked.active.tolist() == [2, 2, 1, 1, 0]

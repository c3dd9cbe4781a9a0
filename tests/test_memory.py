"""Memory for kernels: its alignment, and that memory in use is not reused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fastrnn import Ragged, RNNClassifier, Sequential
from fastrnn.engine.runtime.memory import Pool, Recycler, aligned, nothing
from fastrnn.layers import Dense
from fastrnn.training.data import like_lengths


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [0, 5, (3, 7), (2, 3, 5), (0, 4)])
def test_aligned_starts_at_a_cache_line(shape, dtype):
    for _ in range(10):
        array = aligned(shape, dtype)
        assert array.size == 0 or array.ctypes.data % 64 == 0
        assert array.shape == (shape if isinstance(shape, tuple) else (shape,))
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable


@pytest.mark.parametrize("take", [aligned, Recycler().take], ids=["aligned", "recycler"])
def test_large_arrays_begin_at_different_places_of_their_pages(take):
    """Equal offsets would slow down an update that reads several of them together."""
    arrays = [take((100_000,), np.dtype("float32")) for _ in range(5)]
    places = {a.ctypes.data % 4096 for a in arrays}
    assert len(places) == 5
    assert all(place % 64 == 0 for place in places)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_weights_gradients_and_moments_lie_apart(optimizer):
    model = Sequential([Dense(500)], seed=0)
    model.compile(optimizer, "mse")
    x = np.ones((4, 200), "float32")
    model.train_on_batch(x, np.ones((4, 500), "float32"))
    model.optimizer.set_state(model.optimizer.get_state())
    vectors = [model.params, model.grads, *model.optimizer._state.values()]
    assert len({v.ctypes.data % 4096 for v in vectors}) == len(vectors)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_arrays_that_several_callers_share_have_nothing_to_write(n_dims):
    shared = nothing(np.dtype("float32"), n_dims)
    assert shared is nothing(np.dtype("float32"), n_dims)
    assert shared.shape == (0,) * n_dims
    pool = Pool()
    assert not np.shares_memory(pool.take("a", (4,), "float32"), pool.take("b", (4,), "float32"))


def test_recycler_gives_memory_again_only_when_nobody_looks_at_it():
    recycler, shape, dtype = Recycler(), (200, 200), np.dtype("float32")
    first = recycler.take(shape, dtype)
    address = first.ctypes.data
    view = first[3:].T
    del first
    second = recycler.take(shape, dtype)
    assert second.ctypes.data != address
    assert not np.shares_memory(view, second)
    del view
    third = recycler.take(shape, dtype)
    assert third.ctypes.data == address
    assert third.ctypes.data % 64 == 0
    assert not np.shares_memory(second, third)


def test_recycler_keeps_a_bounded_number_of_buffers():
    recycler, dtype = Recycler(), np.dtype("float32")
    kept = [recycler.take((n * 20_000,), dtype) for n in range(1, 3 * Recycler.most)]
    for k, array in enumerate(kept):
        array.fill(k)
    assert len(recycler.owners) == len(recycler.starts) <= Recycler.most
    for k, array in enumerate(kept):  # those that it forgot are still whole
        assert (array == k).all()


def test_recycler_leaves_small_arrays_to_the_allocator():
    recycler = Recycler()
    recycler.take((10,), np.dtype("float32"))
    assert not recycler.owners


def test_pool_gives_the_same_memory_for_a_name():
    pool, dtype = Pool(), np.dtype("float64")
    a = pool.take("work", (4, 5), dtype)
    assert np.shares_memory(a, pool.take("work", (2, 3), dtype))
    assert not np.shares_memory(a, pool.take("other", (4, 5), dtype))
    assert pool.take("work", (100, 100), dtype).shape == (100, 100)


@pytest.mark.parametrize("kind", ["model", "estimator"])
def test_predict_of_one_long_and_many_short_sequences_takes_memory_of_their_steps(kind):
    """Padded together, 255 sequences of 10 steps and one of 100,000 would take 800 MB."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 8)).astype("float32") for n in [10] * 200 + [100_000] + [10] * 55]
    model = RNNClassifier(cell="gru", units=4, max_iter=1, tol=None, random_state=0)
    model.fit([a[:10] for a in arrays[:20]], np.arange(20) % 3)
    given = Ragged.from_list(arrays) if kind == "model" else arrays
    predict = model.model_.predict if kind == "model" else model.predict_proba
    predict(given)  # what is compiled and kept is no part of it
    tracemalloc.start()
    try:
        found = predict(given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * sum(a.nbytes for a in arrays)
    for k in (0, 199, 200, 201, 255):
        np.testing.assert_array_equal(found[k], model.model_(arrays[k][None])[0])


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_of_like_lengths_hold_each_sequence_once_and_little_padding(size):
    rng = np.random.default_rng(size)
    for _ in range(30):
        lengths = (rng.pareto(0.7, int(rng.integers(1, 300))) * 100).astype(np.int64).clip(1, 10**7) + 1
        batches = like_lengths(lengths, size)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        for rows in batches:
            assert 0 < len(rows) <= size
            assert len(rows) * lengths[rows].max() <= max(2 * lengths[rows].sum(), 1 << 16)

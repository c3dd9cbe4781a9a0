"""One step at a time gives what whole sequences give, and nothing else changes."""

from __future__ import annotations

import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastrnn import Sequential
from fastrnn.engine.numba_private.services import PLAIN
from fastrnn.engine.recurrence import guarded
from fastrnn.layers import (
    GRU,
    JANET,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    IndRNN,
    Input,
    Masking,
    PeepholeLSTM,
    SimpleRNN,
    TimeDistributed,
)

CELLS = [
    lambda **k: SimpleRNN(5, **k),
    lambda **k: SimpleRNN(5, activation="relu", **k),
    lambda **k: LSTM(5, **k),
    lambda **k: LSTM(5, recurrent_activation="hard_sigmoid", **k),
    lambda **k: GRU(5, **k),
    lambda **k: GRU(5, reset_after=False, **k),
    lambda **k: GRU(5, use_bias=False, **k),
    lambda **k: PeepholeLSTM(5, **k),
    lambda **k: JANET(5, **k),
    lambda **k: IndRNN(5, **k),
]
IDS = "simple_rnn simple_rnn-relu lstm lstm-hard gru gru-before gru-no_bias peephole janet indrnn".split()


def with_bias(model, rng):
    """Weights that are nowhere zero."""
    model.set_weights([rng.standard_normal(w.shape) * 0.5 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_batch", [1, 3, 70])
@pytest.mark.parametrize("cell", CELLS, ids=IDS)
def test_stream_matches_whole_sequence(cell, n_batch, dtype, rng):
    layers = [Input((None, 4)), cell(return_sequences=True, dtype=dtype), Dropout(0.5, dtype=dtype)]
    layers += [cell(return_sequences=True, dtype=dtype), TimeDistributed(Dense(3, "tanh", dtype=dtype))]
    model = with_bias(Sequential(layers), rng)
    x = rng.standard_normal((n_batch, 9, 4)).astype(dtype)
    whole = model.predict(x, verbose=0)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    stream = model.stream(n_batch)
    steps = np.stack([stream.step(np.ascontiguousarray(x[:, t])).copy() for t in range(9)], axis=1)
    np.testing.assert_allclose(steps, whole, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(model.stream(n_batch).run(x), steps)


def test_stream_of_tokens(rng):
    model = Sequential([Embedding(7, 4), LSTM(5, return_sequences=True), Dense(3), Activation("softmax")])
    model.build((None, None))
    with_bias(model, rng)
    tokens = rng.integers(0, 7, (2, 6))
    stream = model.stream(2)
    np.testing.assert_allclose(stream.run(tokens), model.predict(tokens, verbose=0), rtol=1e-5)
    before = stream.states
    for wrong in (7, -1):
        with pytest.raises(ValueError, match=f"tokens from .*{wrong}|tokens from {wrong}.*give 0 to 6"):
            stream.step([0, wrong])
    with pytest.raises(TypeError, match="x has dtype float64.*integer tokens"):
        stream.step([0.5, 1.0])
    for old, new in zip(before[0], stream.states[0], strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", ["masking", "mask_zero"])
def test_blank_rows_change_nothing(kind, rng):
    if kind == "masking":
        model = Sequential([Input((None, 3)), Masking(-1.0), GRU(4, return_sequences=True), Dense(2)])
        x = rng.standard_normal((3, 6, 3)).astype("float32")
        x[0, 2], x[1, 4:], x[2, 1:3] = -1, -1, -1
    else:
        model = Sequential([Input((None,), dtype="int32"), Embedding(9, 3, mask_zero=True)])
        model.add(GRU(4, return_sequences=True))
        model.add(Dense(2))
        x = rng.integers(1, 9, (3, 6))
        x[0, 2], x[1, 4:], x[2, 1:3] = 0, 0, 0
    with_bias(model, rng)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.stream(3).run(x), expected, rtol=1e-5, atol=1e-6)
    stream = model.stream(1)
    first = stream.step(x[:1, 0]).copy()
    np.testing.assert_array_equal(stream.step(np.full_like(x[:1, 0], -1 if kind == "masking" else 0)), first)


def model_of(rng, *layers):
    return with_bias(Sequential([Input((None, 3)), *layers]), rng)


def test_states_can_be_read_and_set(rng):
    model = model_of(rng, LSTM(4, return_sequences=True), GRU(2))
    x = rng.standard_normal((2, 8, 3)).astype("float32")
    stream = model.stream(2)
    stream.run(x[:, :4])
    kept = stream.states
    assert [len(layer) for layer in kept] == [2, 1]
    rest = stream.run(x[:, 4:])
    other = model.stream(2)
    other.states = kept
    np.testing.assert_array_equal(other.run(x[:, 4:]), rest)
    with pytest.raises(ValueError, match="states has 1 entries: the stream has 2 recurrent layers"):
        other.states = kept[:1]
    with pytest.raises(ValueError, match=r"states\[1\]\[0\] has shape \(3, 2\): this layer's have \(2, 2\)"):
        other.states = [kept[0], np.zeros((1, 3, 2))]


def test_reset_of_some_rows(rng):
    model = model_of(rng, LSTM(4))
    x = rng.standard_normal((3, 5, 3)).astype("float32")
    stream, fresh = model.stream(3), model.stream(3)
    stream.run(x)
    stream.reset(rows=[1])
    np.testing.assert_array_equal(stream.run(x)[1], fresh.run(x)[1])
    stream.reset()
    np.testing.assert_array_equal(stream.run(x), model.stream(3).run(x))
    with pytest.raises(ValueError, match=r"rows=\[3\]: give numbers of sequences, 0 to 2"):
        stream.reset(rows=3)


def test_stream_keeps_the_weights_it_was_made_with(rng):
    model = model_of(rng, Dense(4), SimpleRNN(4), Dense(1))
    x = rng.standard_normal((1, 3)).astype("float32")
    stream = model.stream()
    before = stream.step(x).copy()
    model.set_weights([w * 2 for w in model.get_weights()])
    stream.reset()
    np.testing.assert_array_equal(stream.step(x), before)
    assert not np.allclose(model.stream().step(x), before)


def test_output_is_read_only_and_inputs_may_be_lists(rng):
    stream = model_of(rng, SimpleRNN(4)).stream()
    y = stream.step([[1, 2, 3]])
    with pytest.raises(ValueError, match="read-only"):
        y[0, 0] = 1
    frozen = np.array([[1, 2, 3]], "float32")
    frozen.flags.writeable = False
    stream.reset()
    np.testing.assert_array_equal(stream.step(frozen), y)


def test_streams_do_not_share_memory(rng):
    model = model_of(rng, LSTM(4))
    x = rng.standard_normal((1, 200, 3)).astype("float32")
    expected = model.stream().run(x)
    results = {}

    def work(k):
        results[k] = model.stream().run(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([Bidirectional(LSTM(2))], TypeError, "layer 'bidirectional' .Bidirectional. can't be streamed"),
        ([LSTM(2, go_backwards=True)], ValueError, "go_backwards=True"),
        ([LSTM(2, return_sequences=True), Flatten()], TypeError, "Flatten"),
    ],
    ids=["bidirectional", "go_backwards", "flatten"],
)
def test_what_has_no_step(layers, error, words):
    model = Sequential([Input((5, 3)), *layers])
    with pytest.raises(error, match=words):
        model.stream()


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None])
def test_batch_size_is_checked(batch_size, rng):
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}: give a positive integer"):
        model_of(rng, LSTM(2)).stream(batch_size)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((2, 3)), ValueError, r"x has shape \(2, 3\): a step of this stream takes \(1, 3\)"),
        (np.zeros(3), ValueError, r"x has shape \(3,\)"),
        (np.array([["a", "b", "c"]]), TypeError, "give numbers"),
    ],
)
def test_bad_steps(x, error, words, rng):
    stream = model_of(rng, LSTM(2)).stream()
    with pytest.raises(error, match=words):
        stream.step(x)
    with pytest.raises(ValueError, match="this stream takes"):
        stream.run(np.zeros((1, 3)))


def test_stream_is_not_pickled(rng):
    with pytest.raises(TypeError, match="pickle the model"):
        pickle.dumps(model_of(rng, LSTM(2)).stream())


def test_steps_from_several_threads_are_made_one_after_the_other():
    model = Sequential([Input((None, 3)), GRU(24), Dense(2)])
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    alone, shared = model.stream(16), model.stream(16)
    n_threads, n_steps = 4, 200
    for _ in range(n_threads * n_steps):
        alone.step(x)

    def work():
        for _ in range(n_steps):
            shared.step(x)

    pool = [threading.Thread(target=work) for _ in range(n_threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    for ours, theirs in zip(shared.states, alone.states, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def odd_copies(x):
    """Arrays equal to a matrix that lie differently in memory, by name."""
    n, width = x.shape
    wide = np.zeros((2 * n, 2 * width), x.dtype)
    wide[::2, ::2] = x
    room = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    room[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "contiguous": x.copy(),
        "strided": wide[::2, ::2],
        "fortran": np.asfortranarray(x),
        "backward": x[::-1, ::-1].copy()[::-1, ::-1],
        "broadcast rows": np.broadcast_to(x[0], x.shape) if (x == x[0]).all() else x,
        "unaligned": room,
        "swapped bytes": x.astype(x.dtype.newbyteorder()),
        "frozen": frozen,
        "other dtype": x.astype("float64" if x.dtype == np.float32 else "float32"),
        "list": x.tolist(),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (4, 1), (1, 1)])
def test_step_takes_samples_in_any_layout(shape, dtype, rng):
    n, width = shape
    layers = [Input((None, width)), GRU(4, return_sequences=True, dtype=dtype), Dense(2, dtype=dtype)]
    model = with_bias(Sequential(layers), rng)
    for x in (rng.integers(-9, 9, shape).astype(dtype) / 8, np.tile(np.arange(width, dtype=dtype), (n, 1))):
        expected = model.predict(np.repeat(x[:, None], 2, axis=1), verbose=0)
        for name, copy in odd_copies(x).items():
            stream = model.stream(n)
            for t in range(2):
                np.testing.assert_allclose(
                    stream.step(copy), expected[:, t], rtol=2e-6, atol=1e-6, err_msg=name
                )


@pytest.mark.parametrize(
    "shape", [(3, 4), (2, 6), (12, 1), (1, 12), (12,), (4, 3, 1), (1, 4, 3), (4, 2), (3, 3)]
)
def test_step_refuses_arrays_of_other_shapes(shape, rng):
    stream = model_of(rng, GRU(4)).stream(4)
    stream.step(np.ones((4, 3), "float32"))
    before = stream.states
    with pytest.raises(
        ValueError, match=rf"x has shape {re.escape(str(shape))}: a step of this stream takes \(4, 3\)"
    ):
        stream.step(np.ones(shape, "float32"))
    np.testing.assert_array_equal(stream.states, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_at_each_place(value, dtype, rng):
    layers = [Input((None, 19)), LSTM(4, return_sequences=True, dtype=dtype), Dense(2, dtype=dtype)]
    stream = with_bias(Sequential(layers), rng).stream(2)
    x = rng.standard_normal((2, 19)).astype(dtype)
    y = stream.step(x).copy()
    before = stream.states
    for i, k in np.ndindex(x.shape):
        bad = x.copy()
        bad[i, k] = value
        with pytest.raises(ValueError, match=rf"x\[{i}, {k}\] is {value}, which would spoil"):
            stream.step(bad)
        np.testing.assert_array_equal(stream.states, before)
        np.testing.assert_array_equal(stream.output, y)
    largest = np.full_like(x, np.finfo(dtype).max)  # the sum of these is infinite, each of them is not
    with np.errstate(all="ignore"):
        assert not np.array_equal(stream.step(largest), y)


@pytest.mark.parametrize("wrong", [-1, 7, 2**62])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint64"])
def test_tokens_out_of_range_are_refused_in_arrays(wrong, dtype, rng):
    if wrong != np.array(wrong).astype(dtype):
        wrong = 8
    model = Sequential([Embedding(7, 4), GRU(5)])
    model.build((None, None))
    stream = with_bias(model, rng).stream(2)
    tokens = np.array([0, 6], dtype)
    stream.step(tokens)
    before = stream.states
    with pytest.raises(ValueError, match="give 0 to 6"):
        stream.step(np.array([3, wrong], dtype))
    np.testing.assert_array_equal(stream.states, before)
    np.testing.assert_allclose(
        stream.step(tokens), model.predict(np.c_[tokens, tokens], verbose=0), rtol=1e-5
    )
    wide = np.zeros(4, dtype)
    wide[::2] = tokens
    stream.reset()
    np.testing.assert_array_equal(stream.step(wide[::2]), model.stream(2).step(tokens))


def test_steps_of_all_kinds_exclude_each_other(rng):
    """Each thread's steps change the states by amounts that do not depend on the order: lost steps would be seen."""
    model = Sequential([Input((None, 1)), SimpleRNN(1, activation="linear")])
    model.build((None, None, 1))
    model.set_weights([np.ones((1, 1)), np.ones((1, 1)), np.zeros(1)])  # h = h + x
    n, n_steps = 64, 300
    stream = model.stream(n)
    one, mask = np.ones((n, 1), "float32"), np.arange(n) % 2 == 0

    def whole():
        for _ in range(n_steps):
            stream.step(one)

    def some():
        for _ in range(n_steps):
            stream.step(one, mask)

    def converted():
        for _ in range(n_steps):
            stream.step(one.astype("float64"))

    def read():
        for _ in range(n_steps):
            ((states,),) = stream.states
            even, odd = states[mask], states[~mask]
            assert (even == even[0]).all()
            assert (odd == odd[0]).all()

    with ThreadPoolExecutor(5) as pool:
        for done in [pool.submit(f) for f in (whole, some, converted, read, whole)]:
            done.result()
    np.testing.assert_array_equal(stream.output[mask], 4 * n_steps)
    np.testing.assert_array_equal(stream.output[~mask], 3 * n_steps)


def test_stream_works_after_a_thread_was_interrupted_while_it_held_the_states(rng, monkeypatch):
    stream = model_of(rng, GRU(4)).stream()
    x = np.ones((1, 3), "float32")
    expected = stream.step(x).copy()

    def interrupted(x):
        raise KeyboardInterrupt

    stream.reset()
    with monkeypatch.context() as patch:
        patch.setattr(stream._program, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.step(x, where=[True])
    np.testing.assert_array_equal(stream.step(x), expected)


@pytest.mark.skipif(PLAIN, reason="programs are claimed in compiled code")
def test_program_left_claimed_by_an_interrupted_thread_is_claimed_again(rng):
    stream = model_of(rng, GRU(4)).stream()
    x = np.ones((1, 3), "float32")
    expected = stream.step(x).copy()
    stream.reset()
    stream._program._memory[0, guarded.OWNED] = guarded.BY_HOLDER
    assert not stream._program.enter(x, stream._program.at)
    np.testing.assert_array_equal(stream.step(x), expected)
    assert stream._program.enter(x, stream._program.at)

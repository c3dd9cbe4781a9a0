"""One step at a time gives what whole sequences give, and nothing else changes."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from fastrnn import Sequential
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

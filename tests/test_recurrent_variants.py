"""Ways to compute the same thing give the same thing: parallel, masked, padded, split, pickled.

Each test compares outputs, states, the gradient of the input and those of the weights.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastrnn import Sequential, layers, optimizers
from fastrnn.engine import tuning
from tests import naive
from tests.layer_cases import (
    CELLS,
    DTYPES,
    GRADIENT_TOLERANCE,
    KINDS,
    LAYER_NAMES,
    assert_all_close,
    finite_difference,
    gradients,
    gradients_of,
    initial_states,
    make_layer,
    run,
)

FULL = {"return_sequences": True, "return_state": True}


def everything(layer, x, **call):
    results, dx, grads = gradients_of(layer, x, **call)
    return [*results, dx, *grads, *layer.d_initial_state]


def problem(cell, rng, options=None, *, dtype=np.float64, n_batch=5, n_steps=8, n_inputs=3, units=7):
    weights = naive.random_weights(cell, n_inputs, units, rng, dtype=dtype, **(options or {}))
    x = rng.normal(size=(n_batch, n_steps, n_inputs)).astype(dtype)
    return weights, x, initial_states(cell, n_batch, units, rng, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_full_mask_matches_no_mask(cell, options, dtype, rng):
    weights, x, initial = problem(cell, rng, options, dtype=dtype)
    for more in ({}, {"go_backwards": True}, {"zero_output_for_mask": True}):
        layer = make_layer(cell, 7, weights, 3, dtype, **FULL, **options, **more)
        assert_all_close(
            everything(layer, x, initial_state=initial, mask=np.ones(x.shape[:2], bool)),
            everything(layer, x, initial_state=initial),
            **GRADIENT_TOLERANCE[np.dtype(dtype).name],
        )


@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_padded_matches_unpadded(cell, options, sequences, rng):
    """A right-padded batch is each of its sequences alone, outputs, states and gradients."""
    lengths = [1, 8, 3, 5, 2, 8, 7]
    weights, x, initial = problem(cell, rng, options, n_batch=len(lengths))
    mask = np.arange(8) < np.array(lengths)[:, None]
    layer = make_layer(cell, 7, weights, 3, return_sequences=sequences, return_state=True, **options)
    d_results = [rng.normal(size=r.shape) for r in run(layer, x)[0]]
    if sequences:
        d_results[0][~mask] = 0  # no loss on the padding
    results, dx, grads = gradients_of(layer, x, d_results, mask=mask, initial_state=initial)
    total = [np.zeros_like(g) for g in grads]
    for b, n in enumerate(lengths):
        one = [d[b : b + 1] for d in d_results]
        if sequences:
            one[0] = one[0][:, :n]
        alone, dx_alone, grads_alone = gradients_of(
            layer, x[b : b + 1, :n], one, initial_state=[s[b : b + 1] for s in initial]
        )
        np.testing.assert_allclose(dx[b, :n], dx_alone[0], rtol=1e-10, atol=1e-12)
        if sequences:
            np.testing.assert_allclose(results[0][b, :n], alone[0][0], rtol=1e-11, atol=1e-12)
        assert_all_close(
            [r[b : b + 1] for r in results[sequences:]], alone[sequences:], rtol=1e-11, atol=1e-12
        )
        total = [t + g for t, g in zip(total, grads_alone, strict=True)]
    assert_all_close(grads, total, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_batch", [2, 15, 70])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_batched_matches_single(cell, options, n_batch, dtype, rng):
    weights, x, initial = problem(cell, rng, options, dtype=dtype, n_batch=n_batch, n_steps=5, units=17)
    mask = rng.random(x.shape[:2]) < 0.8
    layer = make_layer(cell, 17, weights, 3, dtype, **FULL, **options)
    results, dx, grads = gradients_of(layer, x, d_results=None, seed=3, mask=mask, initial_state=initial)
    d_rng = np.random.default_rng(3)
    d_results = [d_rng.normal(size=r.shape).astype(dtype) for r in results]
    total = [np.zeros_like(g) for g in grads]
    for b in range(n_batch):
        row = slice(b, b + 1)
        alone, dx_alone, grads_alone = gradients_of(
            layer,
            x[row],
            [d[row] for d in d_results],
            mask=mask[row],
            initial_state=[s[row] for s in initial],
        )
        tolerance = GRADIENT_TOLERANCE[np.dtype(dtype).name]
        assert_all_close([*[r[row] for r in results], dx[row]], [*alone, dx_alone], **tolerance)
        total = [t + g for t, g in zip(total, grads_alone, strict=True)]
    scale = 1 if dtype == np.float64 else 5  # sums of n_batch rounded gradients
    assert_all_close(grads, total, rtol=tolerance["rtol"] * scale, atol=tolerance["atol"] * scale)


@pytest.mark.parametrize("split", [1, 3, 7])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_split_sequence_with_state_matches_whole(cell, options, split, rng):
    weights, x, initial = problem(cell, rng, options)
    mask = rng.random(x.shape[:2]) < 0.8
    mask[:, [0, split]] = True  # what a masked step repeats is known to one call only
    layer = make_layer(cell, 7, weights, 3, **FULL, **options)
    whole, _ = run(layer, x, mask=mask, initial_state=initial)
    first, _ = run(layer, x[:, :split], mask=mask[:, :split], initial_state=initial)
    second, _ = run(layer, x[:, split:], mask=mask[:, split:], initial_state=first[1:])
    joined = [np.concatenate([first[0], second[0]], axis=1), *second[1:]]
    assert_all_close(joined, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_backwards_is_forwards_on_the_reversed_input(cell, options, rng):
    weights, x, initial = problem(cell, rng, options)
    mask = rng.random(x.shape[:2]) < 0.7
    backwards = make_layer(cell, 7, weights, 3, go_backwards=True, **FULL, **options)
    forwards = make_layer(cell, 7, weights, 3, **FULL, **options)
    theirs = everything(backwards, x, mask=mask, initial_state=initial)
    ours = everything(forwards, x[:, ::-1].copy(), mask=mask[:, ::-1].copy(), initial_state=initial)
    dx = 1 + naive.N_STATES[cell]
    ours[dx] = ours[dx][:, ::-1]
    assert_all_close(theirs, ours, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_pickled_layer_computes_the_same(cell, options, rng):
    weights, x, initial = problem(cell, rng, options)
    layer = make_layer(cell, 7, weights, 3, dropout=0.3, recurrent_dropout=0.2, **FULL, **options)
    everything(layer, x)  # whatever the layer keeps between calls is pickled too
    copy = pickle.loads(pickle.dumps(layer))
    for one in (layer, copy):
        one.set_seed(4)
    assert_all_close(
        everything(copy, x, initial_state=initial),
        everything(layer, x, initial_state=initial),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_config_makes_the_same_layer(cell, options, rng):
    weights, x, initial = problem(cell, rng, options)
    layer = make_layer(
        cell,
        7,
        weights,
        3,
        activation="softsign",
        go_backwards=True,
        zero_output_for_mask=True,
        **FULL,
        **options,
    )
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, None, 3))
    copy.set_weights(layer.get_weights())
    mask = rng.random(x.shape[:2]) < 0.7
    call = {"mask": mask, "initial_state": initial}
    assert_all_close(everything(copy, x, **call), everything(layer, x, **call), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_batch", [64, 200])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_parallel_matches_serial(cell, options, n_batch, dtype, rng):
    weights, x, initial = problem(
        cell, rng, options, dtype=dtype, n_batch=n_batch, n_steps=20, n_inputs=24, units=48
    )
    masks = [None, np.arange(20) < rng.integers(1, 21, n_batch)[:, None]]
    for mask in masks:
        layer = make_layer(cell, 48, weights, 24, dtype, **FULL, **options)
        layer.n_threads = 1
        serial = everything(layer, x, mask=mask, initial_state=initial)
        layer.n_threads = 2
        parallel = everything(layer, x, mask=mask, initial_state=initial)
        again = everything(layer, x, mask=mask, initial_state=initial)
        assert_all_close(again, parallel, rtol=0, atol=0)
        # Sums over the batch may be added in another order; relative to the largest entry they agree.
        for a, e in zip(parallel, serial, strict=True):
            limit = (1e-5 if dtype == np.float32 else 1e-12) * max(1.0, np.abs(e).max())
            np.testing.assert_allclose(a, e, rtol=0, atol=limit)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_small_calls_agree_on_any_number_of_threads(cell, options, sequences, rng, monkeypatch):
    """Inference without mask or state: each row is computed by one thread, so they agree to the last bit."""
    weights, x, _ = problem(cell, rng, options, dtype=np.float32, n_batch=7, n_steps=5, units=9)
    layer = make_layer(cell, 9, weights, 3, np.float32, return_sequences=sequences, **options)
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    found = []
    for n_threads in (1, 2, 3):
        layer.n_threads = n_threads
        found += [layer(x), layer(-x), layer(x)]
    for at in range(3, 9):
        np.testing.assert_array_equal(found[at], found[at % 3])
    np.testing.assert_array_equal(found[2], found[0])
    assert not np.array_equal(found[1], found[0])


@pytest.mark.parametrize("time_major", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", ["simple_rnn", "gru", "lstm"])
def test_sequences_of_a_large_batch_match_a_small_batch(cell, training, backwards, time_major, rng):
    """Inputs of many rows are multiplied in place, those of few rows are copied first; the numbers of a row are the same."""
    weights, x, _ = problem(cell, rng, {}, dtype=np.float32, n_batch=83, n_steps=6, units=9)
    if time_major:
        x = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    layer = make_layer(cell, 9, weights, 3, np.float32, return_sequences=True, go_backwards=backwards)
    layer.n_threads = 1
    many = layer.forward(x, training=training)[0]
    for start, end in ((0, 1), (1, 3), (3, 11), (11, 27), (80, 83)):
        few = layer.forward(x[start:end], training=training)[0]
        np.testing.assert_array_equal(many[start:end], few)


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_masked_calls_keep_nothing_of_the_call_before(cell, options, sequences, zero, rng):
    """A call reuses the plan of the previous call; the first call of a layer has no plan to reuse."""
    weights, x, _ = problem(cell, rng, options, dtype=np.float32, n_batch=4, n_steps=6, units=5)
    more = {"return_sequences": sequences, "zero_output_for_mask": zero, "go_backwards": zero, **options}
    layer = make_layer(cell, 5, weights, 3, np.float32, **more)
    masks = [rng.random((4, 6)) < share for share in (0.5, 1.1, 0.0, 0.8, 0.3)]

    def check() -> None:
        for mask in masks:
            new = make_layer(cell, 5, weights, 3, np.float32, **more)
            np.testing.assert_array_equal(layer(x, mask=mask), new(x, mask=mask))
        new = make_layer(cell, 5, weights, 3, np.float32, **more)
        np.testing.assert_array_equal(layer(x), new(x))

    check()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(check).result()
    weights = [2 * w for w in weights]
    layer.set_weights(weights)
    check()


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_same_call_gives_the_same_bits(cell, options, rng):
    weights, x, initial = problem(cell, rng, options, dtype=np.float32, n_batch=50, n_steps=20, units=32)
    layer = make_layer(cell, 32, weights, 3, np.float32, **FULL, **options)
    first = everything(layer, x, initial_state=initial)
    for _ in range(3):
        assert_all_close(everything(layer, x, initial_state=initial), first, rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_two_forwards_before_their_backwards(cell, rng):
    """The cache of a call is its own: backward of an earlier call is right after a later one."""
    weights, x, _ = problem(cell, rng)
    other = rng.normal(size=x.shape)
    layer = make_layer(cell, 7, weights, 3, return_sequences=True)
    dy = rng.normal(size=(5, 8, 7))
    _, dx, grads = gradients_of(layer, x, [dy])
    _, cache = run(layer, x, training=True)
    run(layer, other, training=True)
    dx_late, grads_late = gradients(layer, [dy], cache)
    assert_all_close([dx_late, *grads_late], [dx, *grads], rtol=0, atol=0)


# --------------------------------------------------------------------------------------------- stateful


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_stateful_calls_match_whole(cell, options, rng):
    weights, x, _ = problem(cell, rng, options)
    plain = make_layer(cell, 7, weights, 3, **FULL, **options)
    stateful = make_layer(cell, 7, weights, 3, n_batch=5, stateful=True, **FULL, **options)
    whole, _ = run(plain, x)
    for _ in range(2):
        parts = [run(stateful, x[:, a:b])[0] for a, b in ((0, 3), (3, 4), (4, 8))]
        np.testing.assert_allclose(
            np.concatenate([p[0] for p in parts], axis=1), whole[0], rtol=1e-12, atol=1e-13
        )
        assert_all_close(parts[-1][1:], whole[1:], rtol=1e-12, atol=1e-13)
        assert_all_close(list(stateful.states), whole[1:], rtol=1e-12, atol=1e-13)
        stateful.reset_state()
        assert stateful.states is None or not any(s.any() for s in stateful.states)


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_state_is_read_and_replaced(cell, rng):
    weights, x, initial = problem(cell, rng)
    layer = make_layer(cell, 7, weights, 3, n_batch=5, stateful=True, **FULL)
    run(layer, x)
    (_, *after), _ = run(layer, x, initial_state=initial)
    y, states = naive.recurrent(cell, x, weights, initial_state=initial)
    assert_all_close(after, states, rtol=1e-11, atol=1e-12)  # an explicit state overrides the kept one
    (_, *again), _ = run(layer, x)
    _, states = naive.recurrent(cell, x, weights, initial_state=states)
    assert_all_close(again, states, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_results_are_not_the_kept_state(cell, rng):
    weights, x, _ = problem(cell, rng)
    layer = make_layer(cell, 7, weights, 3, n_batch=5, stateful=True, return_state=True)
    (first, *states), _ = run(layer, x)
    kept = [s.copy() for s in [first, *states]]
    run(layer, x)
    assert_all_close([first, *states], kept, rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_rejects_another_batch_size(cell, rng):
    weights, x, _ = problem(cell, rng)
    layer = make_layer(cell, 7, weights, 3, n_batch=5, stateful=True)
    run(layer, x)
    with pytest.raises(ValueError, match=r"(?s)5 .*batch of 3"):
        run(layer, x[:3])


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_stateful_training_carries_the_state_between_batches(cell, options, rng):
    model = Sequential(
        [
            getattr(layers, LAYER_NAMES[cell])(7, stateful=True, dtype="float64", **options),
            layers.Dense(1, dtype="float64"),
        ]
    )
    model.build((5, 8, 3))
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    # A small rate: with an unbounded activation the weights must not grow out of the range that finite differences resolve.
    rate = 0.02
    model.compile(optimizers.SGD(rate), "mse")
    states = None
    for step in range(5):
        x, target = rng.normal(size=(5, 8, 3)), rng.normal(size=(5, 1))
        *weights, kernel, bias = model.get_weights()

        def loss(weights, states=states, x=x, target=target, head=(kernel, bias)):
            y, after = naive.recurrent(cell, x, weights, initial_state=states, **options)
            return naive.loss("mse", target, naive.dense(y, head)), after

        expected, states = loss(weights)
        np.testing.assert_allclose(model.train_on_batch(x, target), expected, rtol=1e-11)
        # The gradient stops at the border: the step is that of a loss that takes the old state as given.
        gradient = finite_difference(lambda: loss(weights)[0], weights[0])  # noqa: B023 - called at once
        np.testing.assert_allclose(model.get_weights()[0], weights[0] - rate * gradient, rtol=1e-7, atol=1e-9)
        if step == 2:
            model.reset_states()
            states = None


# --------------------------------------------------------------------------------------------- bad input

BAD = [
    ({"units": 0}, {}, "units"),
    ({"units": -3}, {}, "units"),
    ({"activation": "tnah"}, {}, "tanh"),
    ({"no_such_option": 1}, {}, "no_such_option"),
    ({"dtype": "float16"}, {}, "dtype"),
    ({}, {"x": np.zeros((2, 3))}, "3"),
    ({}, {"x": np.zeros((2, 4, 9))}, "9"),
    ({}, {"mask": np.ones((2, 5), bool)}, "mask"),
    ({}, {"mask": np.ones((2, 4))}, "mask"),
    ({}, {"initial_state": [np.zeros((2, 6))]}, "initial_state"),
    ({}, {"initial_state": [np.zeros((3, 5)), np.zeros((3, 5)), np.zeros((3, 5))]}, "initial_state"),
]


@pytest.mark.parametrize(("constructor", "call", "message"), BAD, ids=[f"{c or list(k)}" for c, k, _ in BAD])
@pytest.mark.parametrize("cell", CELLS)
def test_bad_input_is_named(cell, constructor, call, message):
    def make_and_call():
        layer = getattr(layers, LAYER_NAMES[cell])(**{"units": 5, **constructor})
        layer.build((None, None, 3))
        layer(**{"x": np.zeros((2, 4, 3), np.float32), **call})

    with pytest.raises((ValueError, TypeError), match=message):
        make_and_call()

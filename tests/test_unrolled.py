"""Unrolled cells: the same numbers as the looped ones, for every cell, and when they are chosen."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastrnn import RNNClassifier, Sequential, layers, load
from fastrnn.cells import registered
from fastrnn.cells.gru import GRUBefore
from fastrnn.cells.lstm import LSTM
from fastrnn.engine import tuning
from fastrnn.engine.kernels.micro_kernel import lanes
from fastrnn.engine.numba_private.services import STOCK
from fastrnn.engine.recurrence import both_directions, inference, run
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.recurrence.unrolled import suited, unrolled_if_small

CELLS = {**registered(), "gru_before": GRUBefore}


def weights_of(cell, n_inputs, dtype, rng):
    t, u = traits(cell), cell.n_units

    def draw(*shape):
        return (rng.normal(size=shape) * 0.5).astype(dtype)

    width = t.n_gates * u
    return run.Weights(
        draw(n_inputs, width),
        draw(u, width) if t.recurrent else None,
        draw(width),
        draw(width) if t.split else None,
        draw(t.n_extra * u) if t.n_extra else None,
    )


def both(cell, units, dtype="float32", n_inputs=3, n_steps=7, seed=0):
    """A looped and an unrolled cell, weights and an input of one sequence."""
    rng = np.random.default_rng(seed)
    looped = CELLS[cell](units)
    x = rng.normal(size=(1, n_steps, n_inputs)).astype(dtype)
    return looped, looped.unrolled(), weights_of(looped, n_inputs, dtype, rng), x, rng


@pytest.mark.parametrize(
    "units", [5, 4]
)  # 4 units are in one vector, and the products of most cells in their steps
@pytest.mark.parametrize("cell", CELLS)
def test_unrolled_forward_has_the_bits_of_the_looped_one(cell, units):
    looped, unrolled, weights, x, rng = both(cell, units)
    state0 = rng.normal(size=(traits(looped).n_states, 1, units)).astype(x.dtype)
    for options in ({}, {"reverse": True}, {"mask": np.array([[1, 0, 1, 1, 0, 1, 0]], bool)}):
        expected = run.forward(looped, weights, x, state0, sequences=True, **options)
        found = run.forward(unrolled, weights, x, state0, sequences=True, **options)
        np.testing.assert_array_equal(found.out, expected.out)
        np.testing.assert_array_equal(found.final, expected.final)


@pytest.mark.parametrize(
    ("cell", "units"),
    [
        ("lstm", 1),
        ("lstm", 8),
        ("lstm", 16),
        ("lstm", 17),
        ("gru", 24),
        ("gru", 11),
        ("gru", 16),
        ("gru", 64),
        ("simple_rnn", 32),
        ("simple_rnn", 33),
    ],
)
def test_unrolled_forward_has_the_bits_of_the_looped_one_at_any_width(cell, units):
    looped, unrolled, weights, x, _ = both(cell, units)
    expected = run.forward(looped, weights, x, sequences=True).out
    np.testing.assert_array_equal(run.forward(unrolled, weights, x, sequences=True).out, expected)


@pytest.mark.parametrize("units", [5, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_unrolled_gradients_are_those_of_the_looped_cell(cell, units):
    looped, unrolled, weights, x, rng = both(cell, units, "float64")
    d_out = rng.normal(size=(1, 7, units))
    d_final = rng.normal(size=(traits(looped).n_states, 1, units))
    for mask in (None, np.array([[1, 0, 1, 1, 0, 1, 0]], bool)):
        results = []
        for kind in (looped, unrolled):
            tape = run.forward(kind, weights, x, mask=mask, sequences=True, save=True).tape
            dx, d_state0, gradients = run.backward(tape, d_out, d_final)
            results.append([dx, d_state0, *(g for g in gradients if g is not None)])
        for expected, found in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_unrolled_gradients_match_finite_differences():
    _, unrolled, weights, x, rng = both("lstm", 4, "float64", n_steps=5)
    d_out = rng.normal(size=(1, 5, 4))
    tape = run.forward(unrolled, weights, x, sequences=True, save=True).tape
    _, _, gradients = run.backward(tape, d_out)
    for array, gradient in zip(weights, gradients, strict=True):
        if array is None:
            continue
        for index in rng.integers(0, array.size, 6):
            values = []
            for sign in (1, -1):
                array.flat[index] += sign * 1e-6
                values.append(float((run.forward(unrolled, weights, x, sequences=True).out * d_out).sum()))
                array.flat[index] -= sign * 1e-6
            assert gradient.flat[index] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.skipif(STOCK, reason="no cell is unrolled on the stock path")
def test_steps_compute_their_products_where_units_fill_vectors():
    n = lanes("float32")
    for units in (n // 2, n, n // 2 * 4):
        assert LSTM(units).unrolled().computes_product(32)
        assert not LSTM(units).computes_product(32)  # for any number of units
    for units in (1, n - 1, n + 1):
        assert not LSTM(units).unrolled().computes_product(32)
    assert (
        not LSTM(n)
        .unrolled()
        .variant({"activation": None, "recurrent_activation": None})
        .computes_product(32)
    )
    assert not GRUBefore(n).unrolled().computes_product(32)  # whose last product needs a gate


@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_prepared_inference_and_steps_have_the_bits_of_the_looped_ones(cell):
    looped, unrolled, weights, x, _ = both(cell, 8)
    mask = np.array([[1, 1, 0, 1, 1, 0, 0]], bool)
    outputs = []
    for kind in (looped, unrolled):
        plan = inference.prepare(kind, weights, x.shape, sequences=True)
        state = np.zeros((traits(kind).n_states, 1, 8), x.dtype)
        program = inference.step_program(kind, weights, x[:, 0], state)
        steps = [program.run(np.ascontiguousarray(x[:, t]))[0].copy() for t in range(x.shape[1])]
        outputs.append([plan(x), plan.masked(x, mask)[0], *steps])
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(outputs[1][0][0], np.reshape(outputs[1][2:], (-1, 8)), rtol=0, atol=1e-6)


def test_unrolled_inference_in_both_directions_has_the_bits_of_the_looped_one():
    looped, unrolled, weights, x, _ = both("gru", 6)
    packed = run.pack_weights(looped, weights)
    outputs = []
    for kind in (looped, unrolled):
        sides = [both_directions.Direction(kind, packed, reverse) for reverse in (False, True)]
        program = both_directions.prepare_both(sides, x.shape, sequences=True, merge="concat")
        outputs.append(program(x))
    np.testing.assert_array_equal(outputs[1], outputs[0])


def test_batches_and_dropout_run_looped():
    unrolled = LSTM(4).unrolled()
    assert suited(unrolled, 1) is unrolled
    for cell in (suited(unrolled, 2), suited(unrolled, 1, recurrent_masks=True)):
        assert type(cell) is LSTM
        assert cell == LSTM(4)
    rng = np.random.default_rng(0)
    weights, x = weights_of(unrolled, 3, "float32", rng), rng.normal(size=(5, 6, 3)).astype("f")
    masks = rng.integers(0, 2, (4, 5, 4)).astype("f") * 2
    for options in ({}, {"recurrent_masks": masks}):
        expected = run.forward(LSTM(4), weights, x, **options).final
        np.testing.assert_array_equal(run.forward(unrolled, weights, x, **options).final, expected)


def test_only_small_layers_are_unrolled():
    assert unrolled_if_small(LSTM(tuning.MAX_UNROLLED_UNITS)).units == tuning.MAX_UNROLLED_UNITS
    large = LSTM(tuning.MAX_UNROLLED_UNITS + 1)
    assert unrolled_if_small(large) is large


def test_unrolled_cells_keep_activations_and_numbers():
    cell = LSTM.using(activation="gelu")(6)
    unrolled = cell.unrolled()
    assert unrolled.units == 6
    assert unrolled.choice == cell.choice
    assert unrolled.unrolled() == unrolled
    assert type(unrolled.looped()) is type(cell)
    by_code = LSTM.with_activations(6, {"activation": "mish", "recurrent_activation": "softmax"})
    assert tuple(by_code.unrolled()) == tuple(by_code)
    rng = np.random.default_rng(1)
    weights, x = weights_of(by_code, 3, "float32", rng), rng.normal(size=(1, 6, 3)).astype("f")
    np.testing.assert_array_equal(
        run.forward(by_code.unrolled(), weights, x).final, run.forward(by_code, weights, x).final
    )


# --- layers, models, estimators ----------------------------------------------------------------------------------------


def models(*layers_of, n_inputs=3, **options):
    """Two models with the same weights, the second of them unrolled."""
    made = []
    for unroll in (False, True):
        model = Sequential([make(unroll=unroll, **options) for make in layers_of], seed=4)
        model.build((None, None, n_inputs))
        made.append(model)
    made[1].set_weights(made[0].get_weights())
    return made


def lstm(**options):
    return layers.LSTM(6, return_sequences=True, **options)


def both_ways(unroll):
    return layers.Bidirectional(layers.GRU(5, unroll=unroll))


def stack(unroll):
    return layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)], unroll=unroll)


@pytest.mark.parametrize("last", [both_ways, stack])
def test_unrolled_layers_predict_and_stream_the_same_bits(last):
    looped, unrolled = models(lstm, last)
    x = np.random.default_rng(2).normal(size=(4, 7, 3)).astype("f")
    expected = looped.predict(x, verbose=0)
    np.testing.assert_array_equal(unrolled.predict(x, verbose=0), expected)
    for row in range(4):  # a single sequence, which uses the unrolled kernels, gives its row of the batch
        np.testing.assert_array_equal(unrolled.predict(x[row : row + 1], verbose=0), expected[row : row + 1])
    if last is stack:
        streams = [model.stream(batch_size=1) for model in (looped, unrolled)]
        for t in range(7):
            steps = [stream.step(x[:1, t]) for stream in streams]
            np.testing.assert_array_equal(steps[1], steps[0])


def test_unroll_uses_the_kernels_for_the_number_of_units():
    layer = layers.LSTM(6, unroll=True)
    assert layer.cell.kernel_cell(layer.unroll).units == 6
    assert layers.LSTM(6).cell.kernel_cell(layers.LSTM(6).unroll).units is None
    large = layers.LSTM(tuning.MAX_UNROLLED_UNITS + 1, unroll=True)
    assert large.cell.kernel_cell(True).units is None


def test_unrolled_models_train_and_restore(tmp_path):
    looped, unrolled = models(
        lambda unroll: layers.SimpleRNN(7, unroll=unroll), lambda unroll: layers.Dense(1)
    )
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 9, 3)).astype("f"), rng.normal(size=(12, 1)).astype("f")
    for model in (looped, unrolled):
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=1, epochs=2, shuffle=False, verbose=0)
    for expected, found in zip(looped.get_weights(), unrolled.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    unrolled.save(tmp_path / "unrolled.fastrnn")
    restored = load(tmp_path / "unrolled.fastrnn")
    assert restored.layers[0].unroll
    for model in (pickle.loads(pickle.dumps(unrolled)), restored):
        np.testing.assert_array_equal(model.predict(x[:1], verbose=0), unrolled.predict(x[:1], verbose=0))


def test_unrolled_estimators_predict_the_same():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(20, 6, 2)), rng.integers(0, 2, 20)
    fitted = [
        RNNClassifier(units=5, unroll=unroll, max_iter=3, tol=None, random_state=0).fit(x, y)
        for unroll in (False, True)
    ]
    np.testing.assert_array_equal(fitted[1].predict_proba(x[:1]), fitted[0].predict_proba(x[:1]))

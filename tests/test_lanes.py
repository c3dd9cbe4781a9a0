"""Small layers with sequences as lanes of vectors: the numbers of sequences as rows, for every cell, and the choice."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers
from fastrnn.cells import registered
from fastrnn.cells.gru import GRUBefore
from fastrnn.cells.lstm import LSTM
from fastrnn.engine import tuning
from fastrnn.engine.kernels.micro_kernel import lanes
from fastrnn.engine.recurrence import both_directions, inference, lane_plans, run
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.runtime.jit import PLAIN
from tests.test_unrolled import weights_of

pytestmark = pytest.mark.skipif(PLAIN, reason="sequences are rows where kernels are not compiled")

CELLS = {name: cell for name, cell in registered().items() if traits(cell(2)).recurrent}
CELLS["gru_before"] = GRUBefore
#: Units, inputs, sequences, steps: whole vectors; parts of them; several blocks; more inputs than units.
SIZES = [(8, 8, 16, 12), (7, 3, 5, 9), (16, 1, 37, 33), (5, 20, 70, 21), (3, 2, 2, 3)]


@pytest.fixture
def choose(monkeypatch):
    """Choose sequences as lanes, or as rows, whatever takes less time."""

    def chosen(as_lanes):
        monkeypatch.setattr(lane_plans, "_lanes_pay", lambda *sizes: as_lanes)
        lane_plans.dense_plan.cache_clear()

    yield chosen
    monkeypatch.undo()
    lane_plans.dense_plan.cache_clear()


def case(cell, size, dtype="float32", seed=0):
    """A cell, weights, inputs, initial states, and gradients of the outputs and the final states."""
    units, n_inputs, n_batch, n_steps = size
    rng = np.random.default_rng(seed)
    made = CELLS[cell](units)
    states = traits(made).n_states, n_batch, units

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    weights = weights_of(made, n_inputs, dtype, rng)
    return (
        made,
        weights,
        draw(n_batch, n_steps, n_inputs),
        draw(*states),
        draw(n_batch, n_steps, units),
        draw(*states),
    )


def as_time_major(x):
    return np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lanes_give_the_bits_and_the_gradients_of_rows(cell, dtype, choose):
    kept = traits(CELLS[cell](2)).by_units
    for size in SIZES:
        made, weights, x, state0, d_out, d_final = case(cell, size, dtype)
        for options in ({}, {"reverse": True}, {"n_threads": 2}):
            given = as_time_major(x) if options else x
            results = []
            for as_lanes in (False, True):
                choose(as_lanes)
                inferred = run.forward(made, weights, given, state0, sequences=True, **options)
                trained = run.forward(made, weights, given, state0, sequences=True, save=True, **options)
                assert (trained.tape.plan.n_lanes > 0) == (as_lanes and kept)
                exact = inferred.out, inferred.final, trained.out, trained.final
                dx, d_state0, gradients = run.backward(trained.tape, d_out, d_final)
                results.append((exact, [dx, d_state0, *(g for g in gradients if g is not None)]))
            for rows, by_lanes in zip(*(r[0] for r in results), strict=True):
                np.testing.assert_array_equal(by_lanes, rows)
            bound = 2e-5 if dtype == "float32" else 1e-13
            for rows, by_lanes in zip(*(r[1] for r in results), strict=True):
                np.testing.assert_allclose(by_lanes, rows, rtol=0, atol=bound * max(1, np.abs(rows).max()))


@pytest.mark.parametrize("cell", ["simple_rnn", "gru", "lstm"])
def test_gradients_by_lanes_match_finite_differences(cell, choose):
    choose(True)
    made, weights, x, _, d_out, _ = case(cell, (4, 3, 6, 5), "float64")
    tape = run.forward(made, weights, x, sequences=True, save=True).tape
    assert tape.plan.n_lanes
    dx, _, gradients = run.backward(tape, d_out)
    rng = np.random.default_rng(1)
    for array, gradient in [*zip(weights, gradients, strict=True), (x, dx)]:
        if array is None:
            continue
        for index in rng.integers(0, array.size, 6):
            values = []
            for sign in (1, -1):
                array.flat[index] += sign * 1e-6
                values.append(float((run.forward(made, weights, x, sequences=True).out * d_out).sum()))
                array.flat[index] -= sign * 1e-6
            assert gradient.flat[index] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_a_row_alone_has_the_bits_of_its_row_in_lanes(choose):
    choose(True)
    made, weights, x, *_ = case("lstm", (8, 4, 50, 20))
    whole = run.forward(made, weights, x, sequences=True, n_threads=2).out
    for row in (0, 17, 49):
        alone = run.forward(made, weights, x[row : row + 1].copy(), sequences=True).out
        np.testing.assert_array_equal(alone[0], whole[row])


def test_numbers_that_overflow_in_one_sequence_stay_there(choose):
    """Lanes without a sequence must not add to the gradients, and those of NaN must not reach others."""
    choose(True)
    made, weights, x, _, d_out, _ = case("lstm", (4, 3, 5, 9))
    x[2, 4] = np.nan
    out = run.forward(made, weights, x, sequences=True).out
    assert np.isnan(out[2, 4:]).all()
    assert np.isfinite(np.delete(out, 2, axis=0)).all()
    relu = CELLS["simple_rnn"].using(activation="relu")(4)
    weights = weights_of(relu, 3, "float32", np.random.default_rng(0))
    weights.bias[:] = 1e30
    weights.recurrent[:] = -np.eye(4) * 1e9
    tape = run.forward(relu, weights, x[:2], sequences=True, save=True).tape
    assert tape.plan.n_lanes
    _, _, gradients = run.backward(tape, d_out[:2])
    assert np.isfinite(gradients.bias).all()


def test_masks_use_rows_and_full_masks_lanes(choose):
    made, weights, x, *_ = case("gru", (6, 3, 20, 8))
    mask = np.random.default_rng(0).random((20, 8)) < 0.7
    found = []
    for as_lanes in (False, True):
        choose(as_lanes)
        plan = inference.prepare(made, weights, x.shape, sequences=True, n_threads=1)
        tape = run.forward(made, weights, x, mask=mask, save=True).tape
        assert tape.plan.n_lanes == 0
        assert (run.forward(made, weights, x, mask=mask | True, save=True).tape.plan.n_lanes > 0) == as_lanes
        found.append((plan(x), plan.masked(x, mask)[0], plan.masked(x, mask | True)[0]))
    for rows, by_lanes in zip(*found, strict=True):
        np.testing.assert_array_equal(by_lanes, rows)


@pytest.mark.parametrize("merge", ["concat", "sum", None])
def test_both_directions_by_lanes_have_the_bits_of_rows(merge, choose):
    made, weights, x, *_ = case("gru", (6, 3, 20, 8))
    mask = np.random.default_rng(0).random((20, 8)) < 0.7
    found = []
    for as_lanes in (False, True):
        choose(as_lanes)
        sides = [
            both_directions.Direction(made, run.pack_weights(made, weights), reverse)
            for reverse in (False, True)
        ]
        program = both_directions.prepare_both(sides, x.shape, sequences=True, merge=merge)
        found.append([*np.atleast_2d(program(x)), *np.atleast_2d(program.masked(x, mask))])
    for rows, by_lanes in zip(*found, strict=True):
        np.testing.assert_array_equal(by_lanes, rows)


def test_dropout_and_activations_over_all_units_use_rows(choose):
    choose(True)
    made, weights, x, *_ = case("lstm", (4, 3, 20, 6))
    masks = np.ones((4, 20, 4), "float32")
    assert run.forward(made, weights, x, save=True, recurrent_masks=masks).tape.plan.n_lanes == 0
    inputs = np.ones((1, 20, 3), "float32")
    assert run.forward(made, weights, x, save=True, input_masks=inputs).tape.plan.n_lanes == 0
    softmax = LSTM.with_activations(4, {"activation": "softmax"})
    assert run.forward(softmax, weights, x, save=True).tape.plan.n_lanes == 0


def test_lanes_are_chosen_for_small_layers_and_full_vectors():
    width = lanes("float32")

    def n_lanes(units, n_batch, n_inputs=3):
        rng = np.random.default_rng(0)
        made = LSTM(units)
        x = np.zeros((n_batch, 5, n_inputs), "float32")
        return run.forward(made, weights_of(made, n_inputs, "float32", rng), x, save=True).tape.plan.n_lanes

    assert n_lanes(8, 4 * width) > 0
    assert n_lanes(8, 1) == 0
    assert n_lanes(tuning.MAX_LANE_UNITS + 1, 4 * width) == 0
    assert n_lanes(8, 4 * width, tuning.MAX_LANE_KERNEL // 8 + 1) == 0


@pytest.mark.parametrize("loss", ["mse", "mae"])
@pytest.mark.parametrize("sequences", [False, True])
def test_models_train_by_lanes_as_by_rows(loss, sequences, choose):
    """In all ways in which steps are prepared: none, of a layer, of a network, and of an epoch."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 7, 3)).astype("float32")
    y = rng.normal(size=(40, 7, 2) if sequences else (40, 2)).astype("float32")
    found = []
    for as_lanes in (False, True):
        choose(as_lanes)
        model = Sequential(
            [
                layers.GRU(6, return_sequences=True),
                layers.LSTM(5, return_sequences=sequences),
                layers.Dense(2),
            ],
            seed=4,
        )
        model.compile("adam", loss)
        model.fit(x, y, batch_size=20, epochs=60, shuffle=False, verbose=0)
        found.append([*model.get_weights(), model.predict(x, verbose=0)])
    for rows, by_lanes in zip(*found, strict=True):
        np.testing.assert_allclose(by_lanes, rows, rtol=2e-3, atol=2e-4)

"""Outputs and states of the recurrent layers against the naive oracle."""

from __future__ import annotations

import numpy as np
import pytest

from tests import naive
from tests.layer_cases import (
    ACTIVATION_PLACES,
    CELLS,
    DTYPES,
    KINDS,
    MASKS,
    OPTIONS,
    TOLERANCE,
    assert_all_close,
    cells_times,
    initial_states,
    make_layer,
    mask_of,
    run,
)

LAYER_ONLY = ("use_bias", "unroll", "return_state")


def check_against_naive(
    cell, options, dtype, rng, *, n_batch=8, n_steps=6, n_inputs=3, units=5, mask=None, scale=0.7
):
    """Run both with the same numbers and compare everything that comes out."""
    options = dict(options)
    if options.pop("mask", False):
        mask = mask_of("holes", "leading", "trailing", "none", "full", "both_ends", "first_only", "last_only")
    shape = {k: v for k, v in options.items() if k in ("use_bias", "reset_after")}
    weights = naive.random_weights(cell, n_inputs, units, rng, dtype=dtype, scale=scale, **shape)
    x = rng.normal(size=(n_batch, n_steps, n_inputs)).astype(dtype)
    initial = initial_states(cell, n_batch, units, rng, dtype) if options.pop("initial", False) else None
    layer = make_layer(cell, units, weights, n_inputs, dtype, **options)
    results, _ = run(layer, x, mask=mask, initial_state=initial)
    y, states = naive.recurrent(
        cell,
        x.astype(np.float64),
        [w.astype(np.float64) for w in weights],
        mask=mask,
        initial_state=initial,
        **{k: v for k, v in options.items() if k not in LAYER_ONLY},
    )
    assert all(r.dtype == dtype for r in results)
    expected = [y, *states] if options.get("return_state") else [y]
    assert_all_close(results, expected, **TOLERANCE[np.dtype(dtype).name])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), cells_times(OPTIONS))
def test_forward_matches_naive(cell, options, dtype, rng):
    check_against_naive(cell, options, dtype, rng)


@pytest.mark.parametrize("name", [*sorted(naive.ACTIVATIONS), None])
@pytest.mark.parametrize(("cell", "options", "place"), ACTIVATION_PLACES)
def test_every_activation_matches_naive(cell, options, place, name, rng):
    check_against_naive(
        cell,
        {**options, place: name, "return_sequences": True},
        np.float64,
        rng,
        n_batch=3,
        n_steps=3,
        scale=0.2 if name == "exponential" else 0.7,  # exp of exp of exp must stay a number
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n_batch", "n_steps", "n_inputs", "units"),
    [
        (1, 1, 1, 1),
        (1, 3, 2, 7),
        (1, 20, 32, 32),
        (2, 5, 1, 16),
        (3, 4, 5, 8),
        (4, 2, 16, 17),
        (5, 40, 3, 4),
        (7, 3, 33, 31),
        (16, 3, 10, 33),
        (17, 9, 64, 50),
        (33, 2, 7, 100),
        (64, 3, 4, 65),
        (130, 2, 2, 3),
    ],
)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_any_size_matches_naive(cell, options, n_batch, n_steps, n_inputs, units, dtype, rng):
    check_against_naive(
        cell,
        {**options, "initial": True, "return_sequences": True, "return_state": True},
        dtype,
        rng,
        n_batch=n_batch,
        n_steps=n_steps,
        n_inputs=n_inputs,
        units=units,
    )


@pytest.mark.parametrize("zero", [False, True], ids=["repeat", "zero"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("pattern", MASKS)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_mask_matches_naive(cell, options, pattern, backwards, zero, rng):
    mask = MASKS[pattern]
    for sequences in (True, False):
        case = {"return_sequences": sequences, "go_backwards": backwards, "zero_output_for_mask": zero}
        check_against_naive(
            cell,
            {**options, **case, "initial": True, "return_state": True},
            np.float64,
            rng,
            n_batch=len(mask),
            mask=mask,
        )


@pytest.mark.parametrize("n_batch", [1, 40])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_random_masks_match_naive(cell, options, n_batch, rng):
    for density in (0.1, 0.5, 0.9):
        mask = rng.random((n_batch, 25)) < density
        check_against_naive(
            cell,
            {**options, "initial": True, "return_sequences": True, "return_state": True},
            np.float64,
            rng,
            n_batch=n_batch,
            n_steps=25,
            units=9,
            mask=mask,
        )


@pytest.mark.parametrize("junk", [1e30, np.nan, np.inf])
@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps_are_never_read(cell, junk, rng):
    mask = mask_of("holes", "leading", "trailing", "none")
    weights = naive.random_weights(cell, 3, 5, rng)
    layer = make_layer(cell, 5, weights, 3, return_sequences=True, return_state=True)
    x = rng.normal(size=(4, 6, 3))
    clean, _ = run(layer, np.where(mask[:, :, None], x, 0.0), mask=mask)
    dirty, _ = run(layer, np.where(mask[:, :, None], x, junk), mask=mask)
    assert_all_close(dirty, clean, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_nan_in_one_sample_stays_in_that_sample(cell, dtype, rng):
    weights = naive.random_weights(cell, 3, 5, rng, dtype=dtype)
    layer = make_layer(cell, 5, weights, 3, dtype, return_sequences=True)
    x = rng.normal(size=(6, 4, 3)).astype(dtype)
    (expected,), _ = run(layer, x)
    x[2, 1, 0] = np.nan
    (y,), _ = run(layer, x)
    assert np.isnan(y[2, 1:]).all()
    np.testing.assert_array_equal(y[2, 0], expected[2, 0])
    np.testing.assert_array_equal(np.delete(y, 2, axis=0), np.delete(expected, 2, axis=0))


@pytest.mark.parametrize("cell", CELLS)
def test_large_values_saturate_without_nan(cell, rng):
    for dtype in DTYPES:
        weights = [w * 100 for w in naive.random_weights(cell, 3, 5, rng, dtype=dtype)]
        layer = make_layer(cell, 5, weights, 3, dtype, return_sequences=True)
        x = (rng.normal(size=(4, 6, 3)) * 1e3).astype(dtype)
        (y,), _ = run(layer, x)
        expected, _ = naive.recurrent(cell, x, weights, return_sequences=True)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "time_major": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "strided": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "read_only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_memory_layout_of_input_does_not_matter(cell, layout, rng):
    weights = naive.random_weights(cell, 3, 5, rng)
    layer = make_layer(cell, 5, weights, 3, return_sequences=True)
    x = rng.normal(size=(4, 6, 3))
    (expected,), _ = run(layer, x)
    (y,), _ = run(layer, LAYOUTS[layout](x))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_forward_leaves_its_arguments_alone(cell, rng):
    weights = naive.random_weights(cell, 3, 5, rng)
    layer = make_layer(cell, 5, weights, 3, return_sequences=True, return_state=True)
    x, initial, mask = rng.normal(size=(4, 6, 3)), initial_states(cell, 4, 5, rng), rng.random((4, 6)) < 0.5
    copies = [a.copy() for a in (x, mask, *initial)]
    for training in (False, True):
        run(layer, x, mask=mask, initial_state=initial, training=training)
    for a, b in zip((x, mask, *initial), copies, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_earlier_results_survive_later_calls(cell, rng):
    weights = naive.random_weights(cell, 3, 5, rng)
    layer = make_layer(cell, 5, weights, 3, return_sequences=True, return_state=True)
    first, _ = run(layer, rng.normal(size=(4, 6, 3)))
    kept = [r.copy() for r in first]
    run(layer, rng.normal(size=(4, 6, 3)))
    assert_all_close(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_new_weights_take_effect(cell, rng):
    x = rng.normal(size=(4, 6, 3))
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3)
    run(layer, x)
    weights = naive.random_weights(cell, 3, 5, rng)
    layer.set_weights(weights)
    (y,), _ = run(layer, x)
    np.testing.assert_allclose(y, naive.recurrent(cell, x, weights)[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_call_returns_what_forward_returns(cell, rng):
    weights = naive.random_weights(cell, 3, 5, rng)
    x, initial, mask = rng.normal(size=(4, 6, 3)), initial_states(cell, 4, 5, rng), rng.random((4, 6)) < 0.5
    layer = make_layer(cell, 5, weights, 3, return_sequences=True, return_state=True)
    called = layer(x, mask=mask, initial_state=initial)
    assert isinstance(called, list)
    assert len(called) == 1 + naive.N_STATES[cell]
    assert_all_close(called, run(layer, x, mask=mask, initial_state=initial)[0], rtol=0, atol=0)
    plain = make_layer(cell, 5, weights, 3)(x)
    assert isinstance(plain, np.ndarray)
    assert plain.shape == (4, 5)

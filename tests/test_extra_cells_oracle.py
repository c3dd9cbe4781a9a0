"""Peephole LSTM, JANET and IndRNN against the naive versions, which follow their papers line by line.

Gradients are held against finite differences of the naive forward pass, so that no part of the library is on both sides.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests import naive
from tests.layer_cases import (
    DTYPES,
    GRADIENT_TOLERANCE,
    MASKS,
    OPTIONS,
    TOLERANCE,
    assert_all_close,
    finite_difference,
    gradients,
    gradients_of,
    initial_states,
    make_layer,
    mask_of,
    run,
)
from tests.test_recurrent_dropout import for_naive, recording

# Smooth activations for finite differences, and bounded gates, or the networks explode.
KINDS = [
    ("peephole_lstm", {}),
    ("peephole_lstm", {"activation": "mish", "recurrent_activation": "tanh"}),
    ("janet", {}),
    ("janet", {"beta": 0.25, "activation": "gelu", "recurrent_activation": "tanh"}),
    ("indrnn", {}),
    ("indrnn", {"activation": "tanh"}),
]
DEFAULTS = [kind for kind in KINDS if not kind[1]]
FULL = {"return_sequences": True, "return_state": True}
GRADIENT = {"rtol": 1e-7, "atol": 1e-9}
# Options of the naive versions; the other options only change the form of the layer's outputs.
OF_THE_LOOP = ("go_backwards", "return_sequences", "zero_output_for_mask")
OF_THE_STEP = ("activation", "recurrent_activation", "beta")
RATES = [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.25, "recurrent_dropout": 0.5}]


def drawn_case(cell, options, rng, dtype=np.float64, n_batch=3, n_steps=6, n_inputs=4, units=5):
    """A layer with weights, and what it is called with."""
    options = dict(options)
    mask = None
    if options.pop("mask", False):
        mask = mask_of("holes", "leading", "none", "trailing", "full")
        n_batch = len(mask)
    initial = initial_states(cell, n_batch, units, rng, dtype) if options.pop("initial", False) else None
    shape = {k: options[k] for k in ("use_bias",) if k in options}
    weights = naive.random_weights(cell, n_inputs, units, rng, dtype=dtype, **shape)
    x = rng.normal(size=(n_batch, n_steps, n_inputs)).astype(dtype)
    layer = make_layer(cell, units, weights, n_inputs, dtype, **options)
    return layer, weights, x, {"mask": mask, "initial_state": initial}, options


def naive_results(cell, x, weights, options, **call):
    told = {k: v for k, v in options.items() if k in (*OF_THE_LOOP, *OF_THE_STEP)}
    y, states = naive.recurrent(cell, x, weights, **told, **call)
    return [y, *states] if options.get("return_state") else [y]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_forward_matches_naive(cell, form, options, dtype, rng):
    layer, weights, x, call, options = drawn_case(cell, {**form, **options}, rng, dtype)
    expected = naive_results(cell, x, weights, options, **call)
    for training in (False, True):
        results, _ = run(layer, x, training=training, **call)
        assert results[0].dtype == dtype
        assert_all_close(results, expected, **TOLERANCE[np.dtype(dtype).name])


@pytest.mark.parametrize("zero", [False, True], ids=["repeat", "zero"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("pattern", MASKS)
@pytest.mark.parametrize(("cell", "form"), DEFAULTS)
def test_masked_forward_matches_naive(cell, form, pattern, backwards, zero, rng):
    mask = MASKS[pattern]
    options = {**FULL, **form, "go_backwards": backwards, "zero_output_for_mask": zero, "initial": True}
    layer, weights, x, call, options = drawn_case(cell, options, rng, n_batch=len(mask))
    call["mask"] = mask
    assert_all_close(
        run(layer, x, **call)[0], naive_results(cell, x, weights, options, **call), **TOLERANCE["float64"]
    )


@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1), (5, 3, 1, 8), (3, 2, 9, 1), (2, 4, 3, 17), (19, 2, 2, 33)], ids=str
)
@pytest.mark.parametrize(("cell", "form"), DEFAULTS)
def test_forward_of_any_size_matches_naive(cell, form, size, rng):
    n_batch, n_steps, n_inputs, units = size
    layer, weights, x, call, options = drawn_case(
        cell, {**form, **FULL, "initial": True}, rng, np.float64, n_batch, n_steps, n_inputs, units
    )
    assert_all_close(
        run(layer, x, **call)[0], naive_results(cell, x, weights, options, **call), **TOLERANCE["float64"]
    )


def check_gradient(cell, options, rng, masks=None, **sizes):
    """The layer's gradients against finite differences of the naive version, under the same dropout masks."""
    sizes = {"n_batch": 2, "n_steps": 4, "n_inputs": 2, "units": 3, **sizes}
    layer, weights, x, call, options = drawn_case(cell, options, rng, **sizes)
    drawn = recording(layer)
    results, cache = run(layer, x, training=True, **call)
    # Passes of small dense batches are prepared, and draw nothing, unless there is dropout.
    masks_of_the_pass = drawn[0] if drawn else (None, None)
    factors = dict(zip(("x_masks", "h_masks"), map(for_naive, masks_of_the_pass), strict=True))
    d_results = [rng.normal(size=r.shape) for r in results]
    dx, d_weights = gradients(layer, d_results, cache)

    def scalar():
        now = naive_results(cell, x, weights, options, **call, **factors)
        return sum((r * d).sum() for r, d in zip(now, d_results, strict=True))

    checked = {"x": (dx, x), **dict(zip(layer._weights, zip(d_weights, weights, strict=True), strict=True))}
    if call["initial_state"] is not None:
        for k, pair in enumerate(zip(layer.d_initial_state, call["initial_state"], strict=True)):
            checked[f"initial state {k}"] = pair
    for name, (actual, of) in checked.items():
        np.testing.assert_allclose(
            actual, finite_difference(scalar, of), err_msg=f"gradient of {name}", **GRADIENT
        )
    assert max(np.abs(actual).max() for actual, _ in checked.values()) > 1e-6, "says nothing: all vanish"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_gradient_matches_naive(cell, form, options, rng):
    # A mask of six steps; the others may be shorter.
    check_gradient(cell, {**form, **options}, rng, n_steps=6 if "mask" in options else 4)


# IndRNN has no recurrent product, and so no recurrent dropout.
DROPOUTS = [
    (cell, form, rates)
    for cell, form in DEFAULTS
    for rates in RATES
    if not (cell == "indrnn" and "recurrent_dropout" in rates)
]


@pytest.mark.parametrize("extra", [{}, {"go_backwards": True}, {"mask": True}, {"use_bias": False}])
@pytest.mark.parametrize(("cell", "form", "rates"), DROPOUTS)
def test_dropout_matches_naive_under_its_masks(cell, form, rates, extra, rng):
    options = {**form, **extra, **rates, **FULL, "initial": True}
    layer, weights, x, call, told = drawn_case(cell, options, rng, n_inputs=6, units=9)
    drawn = recording(layer)
    results, _ = run(layer, x, training=True, **call)
    x_masks, h_masks = map(for_naive, drawn[0])
    expected = naive_results(cell, x, weights, told, **call, x_masks=x_masks, h_masks=h_masks)
    assert_all_close(results, expected, **TOLERANCE["float64"])
    plain = naive_results(cell, x, weights, told, **call)
    assert np.abs(plain[0] - expected[0]).max() > 1e-3
    assert_all_close(run(layer, x, **call)[0], plain, **TOLERANCE["float64"])
    check_gradient(cell, options, rng, n_steps=6, n_inputs=3, units=4)


@pytest.mark.parametrize(("cell", "form"), DEFAULTS)
def test_float32_gradient_is_close_to_float64(cell, form, rng):
    found = {}
    weights = naive.random_weights(cell, 7, 20, rng)
    x, mask = rng.normal(size=(9, 12, 7)), rng.random((9, 12)) < 0.7
    for dtype in DTYPES:
        layer = make_layer(cell, 20, weights, 7, dtype, return_sequences=True, **form)
        _, dx, grads = gradients_of(layer, x.astype(dtype), mask=mask)
        assert all(g.dtype == dtype for g in [dx, *grads])
        found[dtype] = [dx, *grads]
    assert_all_close(found[np.float32], found[np.float64], **GRADIENT_TOLERANCE["float32"])


def test_oracles_follow_the_papers_in_cases_worked_out_by_hand():
    """One unit, one step, round numbers: what each equation gives."""
    one = np.ones((1, 1, 1))
    # JANET: s = 0.5, candidate tanh(0.25), from h = 2.
    weights = [np.array([[0.5, 0.25]]), np.zeros((1, 2)), np.zeros(2)]
    y, _ = naive.recurrent("janet", one, weights, initial_state=[np.full((1, 1), 2.0)])
    expected = 2 / (1 + np.exp(-0.5)) + (1 - 1 / (1 + np.exp(0.5))) * np.tanh(0.25)
    np.testing.assert_allclose(y, [[expected]], rtol=1e-14)
    # IndRNN: relu(3 * 1 + 0.5 * 2 - 1) = 3; below zero it is cut off.
    weights = [np.array([[3.0]]), np.array([0.5]), np.array([-1.0])]
    y, _ = naive.recurrent("indrnn", one, weights, initial_state=[np.full((1, 1), 2.0)])
    assert y == 3
    y, _ = naive.recurrent("indrnn", -one, weights, initial_state=[np.full((1, 1), 2.0)])
    assert y == 0
    # Peepholes alone: z is zero, the old cell is 2, so i and f see 2 p_i and 2 p_f, o sees p_o times the new cell.
    weights = [np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4), np.array([[0.5], [-0.5], [1.0]])]
    y, (_, c) = naive.recurrent(
        "peephole_lstm", one, weights, initial_state=[np.zeros((1, 1)), np.full((1, 1), 2.0)]
    )
    cell = 2 / (1 + np.exp(1))
    np.testing.assert_allclose(c, [[cell]], rtol=1e-14)
    np.testing.assert_allclose(y, [[np.tanh(cell) / (1 + np.exp(-cell))]], rtol=1e-14)

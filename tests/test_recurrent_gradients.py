"""Gradients of the recurrent layers against finite differences of their own forward pass, in float64.

The forward pass is held against the naive oracle elsewhere. Biases and initial states are never zero here: a gradient
that forgets them would pass otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.engine import tuning
from fastrnn.engine.runtime.memory import recycler
from tests import naive
from tests.layer_cases import (
    ACTIVATION_PLACES,
    CELLS,
    GRADIENT_TOLERANCE,
    KINDS,
    MASKS,
    OPTIONS,
    assert_all_close,
    cells_times,
    finite_difference,
    gradients,
    gradients_of,
    initial_states,
    make_layer,
    mask_of,
    run,
)

TOLERANCE = {"rtol": 1e-7, "atol": 1e-9}


def check_gradient(
    cell,
    options,
    rng,
    *,
    n_batch=2,
    n_steps=6,
    n_inputs=2,
    units=3,
    mask=None,
    scale=0.7,
    tolerance=TOLERANCE,
):
    options = dict(options)
    if options.pop("mask", False):
        mask = mask_of("holes", "leading", "none", "trailing")
        n_batch = len(mask)
    shape = {k: v for k, v in options.items() if k in ("use_bias", "reset_after")}
    weights = naive.random_weights(cell, n_inputs, units, rng, scale=scale, **shape)
    x = rng.normal(size=(n_batch, n_steps, n_inputs))
    initial = initial_states(cell, n_batch, units, rng) if options.pop("initial", True) else None
    layer = make_layer(cell, units, weights, n_inputs, **options)

    def outputs():
        layer.set_seed(5)  # the same dropout masks every time
        return run(layer, x, mask=mask, initial_state=initial, training=True)

    results, cache = outputs()
    d_results = [rng.normal(size=r.shape) for r in results]

    def scalar():
        layer.set_weights(weights)
        return sum((r * d).sum() for r, d in zip(outputs()[0], d_results, strict=True))

    dx, d_weights = gradients(layer, d_results, cache)
    checked = {"x": (dx, x), **dict(zip(layer._weights, zip(d_weights, weights, strict=True), strict=True))}
    if initial is not None:
        for k, pair in enumerate(zip(layer.d_initial_state, initial, strict=True)):
            checked[f"initial state {k}"] = pair
    for name, (actual, of) in checked.items():
        expected = finite_difference(scalar, of)
        np.testing.assert_allclose(actual, expected, err_msg=f"gradient of {name}", **tolerance)
    assert max(np.abs(actual).max() for actual, _ in checked.values()) > 1e-6, "says nothing: all vanish"


@pytest.mark.parametrize(("cell", "options"), cells_times(OPTIONS))
def test_gradient_matches_finite_difference(cell, options, rng):
    check_gradient(cell, {"initial": False, **options}, rng)


@pytest.mark.parametrize("name", [*sorted(naive.ACTIVATIONS), None])
@pytest.mark.parametrize(("cell", "options", "place"), ACTIVATION_PLACES)
def test_gradient_of_every_activation_matches_finite_difference(cell, options, place, name, rng):
    scale = 0.2 if name == "exponential" else 0.7
    check_gradient(cell, {**options, place: name, "return_sequences": True}, rng, n_steps=2, scale=scale)


@pytest.mark.parametrize("zero", [False, True], ids=["repeat", "zero"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("pattern", [p for p in MASKS if p not in ("mixed", "none")])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_masked_gradient_matches_finite_difference(cell, options, pattern, backwards, zero, rng):
    case = {
        "go_backwards": backwards,
        "zero_output_for_mask": zero,
        "return_sequences": True,
        "return_state": True,
    }
    check_gradient(cell, {**options, **case}, rng, mask=MASKS[pattern])


@pytest.mark.parametrize(
    "extra", [{}, {"go_backwards": True}, {"mask": True}, {"unroll": True}, {"use_bias": False}]
)
@pytest.mark.parametrize(
    "rates",
    [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.3}],
)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_gradient_under_dropout_matches_finite_difference(cell, options, rates, extra, rng):
    check_gradient(cell, {**options, **rates, **extra, "return_sequences": True}, rng, n_inputs=3, units=4)


@pytest.mark.parametrize(
    ("n_batch", "n_steps", "n_inputs", "units"),
    [(1, 1, 1, 1), (5, 3, 1, 8), (3, 2, 9, 1), (2, 2, 3, 17), (17, 2, 2, 4)],
)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_gradient_at_any_size_matches_finite_difference(
    cell, options, n_batch, n_steps, n_inputs, units, rng
):
    size = {"n_batch": n_batch, "n_steps": n_steps, "n_inputs": n_inputs, "units": units}
    check_gradient(cell, {**options, "return_sequences": True}, rng, **size)


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_float32_gradient_is_close_to_float64(cell, options, rng):
    n_inputs, units = 7, 20
    weights = naive.random_weights(cell, n_inputs, units, rng, **options)
    x = rng.normal(size=(9, 12, n_inputs))
    initial = initial_states(cell, 9, units, rng)
    mask = rng.random((9, 12)) < 0.7
    found = {}
    for dtype in (np.float32, np.float64):
        layer = make_layer(cell, units, weights, n_inputs, dtype, return_sequences=True, **options)
        _, dx, grads = gradients_of(
            layer, x.astype(dtype), mask=mask, initial_state=[s.astype(dtype) for s in initial]
        )
        assert all(g.dtype == dtype for g in [dx, *grads])
        found[dtype] = [dx, *grads]
    assert_all_close(found[np.float32], found[np.float64], **GRADIENT_TOLERANCE["float32"])


@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps_get_exactly_no_gradient(cell, sequences, rng):
    mask = mask_of("holes", "leading", "trailing", "none", "both_ends")
    weights = naive.random_weights(cell, 3, 5, rng)
    layer = make_layer(cell, 5, weights, 3, return_sequences=sequences)
    x = rng.normal(size=(5, 6, 3))
    _, dx, grads = gradients_of(layer, x, mask=mask)
    assert not dx[~mask].any()
    assert (np.abs(dx[mask]).max(axis=1) > 0).all()
    # What stands in the masked steps changes no weight's gradient.
    _, _, others = gradients_of(layer, np.where(mask[:, :, None], x, 1e3), mask=mask)
    assert_all_close(others, grads, rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_is_written_not_added(cell, rng):
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3, return_sequences=True)
    x = rng.normal(size=(4, 6, 3))
    _, dx, grads = gradients_of(layer, x)
    _, dx_again, grads_again = gradients_of(layer, x)
    assert_all_close([dx_again, *grads_again], [dx, *grads], rtol=0, atol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_without_dx_is_the_same(cell, rng):
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3, return_sequences=True)
    x, dy = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6, 5))
    _, cache = run(layer, x, training=True)
    _, grads = gradients(layer, [dy], cache)
    _, cache = run(layer, x, training=True)
    assert layer.backward(dy, cache, need_dx=False) is None
    assert_all_close([layer._grads[name] for name in layer._weights], grads, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_leaves_dy_alone(cell, rng):
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3, return_sequences=True)
    dy = rng.normal(size=(4, 6, 5))
    kept = dy.copy()
    _, cache = run(layer, rng.normal(size=(4, 6, 3)), training=True)
    gradients(layer, [dy], cache)
    np.testing.assert_array_equal(dy, kept)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_takes_dy_in_any_layout(cell, rng):
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3, return_sequences=True)
    x, dy = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6, 5))
    _, dx, grads = gradients_of(layer, x, [dy])
    for other in (
        np.asfortranarray(dy),
        np.ascontiguousarray(dy.swapaxes(0, 1)).swapaxes(0, 1),
        np.repeat(dy, 2, axis=2)[:, :, ::2],
    ):
        _, dx_other, grads_other = gradients_of(layer, x, [other])
        assert_all_close([dx_other, *grads_other], [dx, *grads], rtol=0, atol=0)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_does_not_depend_on_what_memory_held(cell, n_threads, rng, monkeypatch):
    """Several blocks a thread, and sequences without a step, in memory that is full of NaN."""
    layer = make_layer(cell, 5, naive.random_weights(cell, 3, 5, rng), 3, return_sequences=True)
    layer.n_threads = n_threads
    x = rng.normal(size=(150, 4, 3))
    lengths = rng.integers(0, 5, 150)
    lengths[[0, 149]] = 4, 0
    mask = np.arange(4) < lengths[:, None]
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    found = []
    for take in (recycler.take, lambda shape, dtype: np.full(shape, np.nan, dtype)):
        monkeypatch.setattr(recycler, "take", take)
        for m in (None, mask, np.zeros_like(mask)):
            y, cache = layer.forward(x, m, True)
            dx = layer.backward(np.ones_like(y), cache)
            found.append([dx, *(g.copy() for g in layer._grads.values())])
    for kept, poisoned in zip(found[:3], found[3:], strict=True):
        for a, b in zip(kept, poisoned, strict=True):
            np.testing.assert_array_equal(a, b)
    assert all((g == 0).all() for g in found[2])

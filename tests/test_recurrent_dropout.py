"""Dropout of inputs and of the recurrent product: which masks are drawn, and what they multiply."""

from __future__ import annotations

import numpy as np
import pytest

from tests import naive
from tests.layer_cases import KINDS, TOLERANCE, assert_all_close, initial_states, make_layer, run

RATES = [
    {"dropout": 0.4},
    {"recurrent_dropout": 0.4},
    {"dropout": 0.25, "recurrent_dropout": 0.5},
]
FULL = {"return_sequences": True, "return_state": True}


def recording(layer):
    """The list that every pair of masks the layer draws is added to."""
    drawn, draw = [], layer.cell.draw_masks

    def wrapper(*sizes):
        drawn.append(draw(*sizes))
        return drawn[-1]

    layer.cell.draw_masks = wrapper
    return drawn


def for_naive(factors):
    return None if factors is None else factors[0] if len(factors) == 1 else list(factors)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("extra", [{}, {"go_backwards": True}, {"masked": True}, {"unroll": True}])
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_forward_under_dropout_matches_naive(cell, options, rates, extra, dtype, rng):
    extra = dict(extra)
    weights = naive.random_weights(cell, 6, 9, rng, dtype=dtype, **options)
    x, initial = rng.normal(size=(4, 5, 6)).astype(dtype), initial_states(cell, 4, 9, rng, dtype)
    mask = rng.random((4, 5)) < 0.6 if extra.pop("masked", False) else None
    layer = make_layer(cell, 9, weights, 6, dtype, **FULL, **options, **rates, **extra)
    drawn = recording(layer)
    results, _ = run(layer, x, mask=mask, initial_state=initial, training=True)
    ((x_masks, h_masks),) = drawn
    y, states = naive.recurrent(
        cell,
        x,
        weights,
        mask=mask,
        initial_state=initial,
        return_sequences=True,
        go_backwards=extra.get("go_backwards", False),
        x_masks=for_naive(x_masks),
        h_masks=for_naive(h_masks),
        **options,
    )
    assert_all_close(results, [y, *states], **TOLERANCE[np.dtype(dtype).name])
    # Without training nothing is dropped, and nothing is drawn.
    results, _ = run(layer, x, mask=mask, initial_state=initial)
    assert len(drawn) == 1
    plain, _ = naive.recurrent(
        cell,
        x,
        weights,
        mask=mask,
        initial_state=initial,
        return_sequences=True,
        go_backwards=extra.get("go_backwards", False),
        **options,
    )
    np.testing.assert_allclose(results[0], plain, **TOLERANCE[np.dtype(dtype).name])
    assert np.abs(plain - y).max() > 1e-3


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_masks_are_inverted_and_drawn_for_each_call(cell, options, rates, rng):
    weights = naive.random_weights(cell, 50, 60, rng, **options)
    layer = make_layer(cell, 60, weights, 50, **options, **rates)
    drawn = recording(layer)
    x = rng.normal(size=(40, 2, 50))
    for _ in range(2):
        run(layer, x, training=True)
    n_gates = naive.N_GATES[cell]
    # Masks for each gate, of the input too, as soon as there is recurrent dropout; otherwise one for all gates.
    expected = [
        (rates.get("dropout", 0), (n_gates if "recurrent_dropout" in rates else 1, 40, 50)),
        (rates.get("recurrent_dropout", 0), (n_gates, 40, 60)),
    ]
    for place, (rate, shape) in enumerate(expected):
        first, second = drawn[0][place], drawn[1][place]
        if not rate:
            assert first is None
            continue
        assert first.shape == shape
        np.testing.assert_allclose(np.unique(first), [0, 1 / (1 - rate)])
        # Five standard deviations of the mean of `first.size` draws.
        assert abs((first > 0).mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / first.size)
        assert (first != second).mean() > 0.2
        for a in range(shape[0]):
            for b in range(a):
                assert (first[a] != first[b]).mean() > 0.2


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_seed_decides_the_masks(cell, options, rng):
    weights = naive.random_weights(cell, 6, 9, rng, **options)
    x = rng.normal(size=(4, 5, 6))
    results = []
    for seed in (3, 3, 4):
        layer = make_layer(cell, 9, weights, 6, dropout=0.3, recurrent_dropout=0.3, seed=seed, **options)
        results.append(run(layer, x, training=True)[0][0])
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 1e-3

"""How the tests make, run and differentiate a recurrent layer, and the tables of cells, options and masks."""

from __future__ import annotations

import itertools

import numpy as np

from tests import naive

LAYER_NAMES = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
CELLS = tuple(LAYER_NAMES)
#: Cells that Keras has not.
EXTRA_LAYER_NAMES = {"peephole_lstm": "PeepholeLSTM", "janet": "JANET", "indrnn": "IndRNN"}
#: GRU's two forms are two cells as far as the mathematics goes.
KINDS = [("simple_rnn", {}), ("lstm", {}), ("gru", {}), ("gru", {"reset_after": False})]
ACTIVATION_PLACES = [
    (cell, form, place)
    for cell, form in KINDS
    for place in ("activation", "recurrent_activation")
    if (cell, place) != ("simple_rnn", "recurrent_activation")
]
DTYPES = (np.float32, np.float64)
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 3e-6}, "float64": {"rtol": 1e-11, "atol": 1e-12}}
GRADIENT_TOLERANCE = {"float32": {"rtol": 2e-4, "atol": 2e-5}, "float64": {"rtol": 1e-10, "atol": 1e-11}}

#: Options that shape the computation, each alone and some together. "initial" and "mask" stand for arrays.
OPTIONS = [
    {},
    {"use_bias": False},
    {"go_backwards": True},
    {"return_sequences": True},
    {"return_sequences": True, "return_state": True},
    {"return_state": True},
    {"unroll": True, "return_sequences": True},
    {"initial": True},
    {"initial": True, "return_sequences": True, "return_state": True, "use_bias": False},
    {"initial": True, "go_backwards": True, "return_sequences": True, "return_state": True},
    {"mask": True},
    {"mask": True, "return_sequences": True, "return_state": True},
    {"mask": True, "initial": True, "return_sequences": True, "return_state": True},
    {"mask": True, "initial": True, "return_state": True},
    {"mask": True, "initial": True, "return_sequences": True, "go_backwards": True, "return_state": True},
    {"mask": True, "initial": True, "return_sequences": True, "zero_output_for_mask": True},
    {"mask": True, "initial": True, "zero_output_for_mask": True, "return_state": True},
    {"mask": True, "return_sequences": True, "zero_output_for_mask": True, "go_backwards": True},
    {"mask": True, "initial": True, "unroll": True, "return_sequences": True, "return_state": True},
    {"mask": True, "initial": True, "unroll": True, "return_sequences": True, "zero_output_for_mask": True},
]

#: One row per pattern; as a batch they are the hardest mask there is.
MASK_ROWS = {
    "full": "111111",
    "trailing": "111000",
    "leading": "000111",
    "holes": "101101",
    "both_ends": "011100",
    "first_only": "100000",
    "last_only": "000001",
    "none": "000000",
}


def mask_of(*rows):
    return np.array([[c == "1" for c in MASK_ROWS[r]] for r in rows])


MASKS = {name: mask_of(name, name) for name in MASK_ROWS} | {"mixed": mask_of(*MASK_ROWS)}


def cells_times(options, kinds=KINDS):
    """Pairs ``(cell, options)`` with GRU's form merged into the options."""
    return [(cell, {**form, **o}) for (cell, form), o in itertools.product(kinds, options)]


def initial_states(cell, n_batch, units, rng, dtype=np.float64):
    return [rng.normal(size=(n_batch, units)).astype(dtype) * 0.8 for _ in range(naive.N_STATES[cell])]


def make_layer(cell, units, weights, n_inputs, dtype=np.float64, n_batch=None, **options):
    """A built fastrnn layer with the given weights."""
    from fastrnn import layers

    name = (LAYER_NAMES | EXTRA_LAYER_NAMES)[cell]
    layer = getattr(layers, name)(units, dtype=np.dtype(dtype).name, **options)
    layer.build((n_batch, None, n_inputs))
    layer.set_weights(weights)
    return layer


def run(layer, x, mask=None, initial_state=None, training=False):
    """``([output, *states], cache)``; the states only with ``return_state``."""
    extra = {} if initial_state is None else {"initial_state": initial_state}
    y, cache = layer.forward(x, mask=mask, training=training, **extra)
    return list(y) if isinstance(y, (list, tuple)) else [y], cache


def gradients(layer, d_results, cache):
    """``(dx, [d_kernel, d_recurrent_kernel, d_bias])`` of ``sum(result * d_result)``.

    The gradient of the initial state is in ``layer.d_initial_state`` then.
    """
    for grad in layer._grads.values():
        grad[...] = np.nan  # backward overwrites; whatever it leaves out shows
    dx = layer.backward(d_results if len(d_results) > 1 else d_results[0], cache)
    return dx, [g.copy() for g in layer._grads.values()]


def gradients_of(layer, x, d_results=None, seed=7, **call):
    """Forward and backward in one: ``(results, dx, weight_gradients)``, with made-up output gradients."""
    results, cache = run(layer, x, training=call.pop("training", True), **call)
    if d_results is None:
        rng = np.random.default_rng(seed)
        d_results = [rng.normal(size=r.shape).astype(r.dtype) for r in results]
    dx, grads = gradients(layer, d_results, cache)
    return results, dx, grads


def finite_difference(f, x, step=1e-4):
    """Gradient of the scalar function ``f`` at the float64 array ``x``, which is changed in place and restored.

    Fourth-order central differences: the error is of the order of 1e-11 for well-scaled functions.
    """
    assert x.dtype == np.float64
    gradient = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        value = x[index]
        samples = []
        for k in (-2, -1, 1, 2):
            x[index] = value + k * step
            samples.append(f())
        x[index] = value
        gradient[index] = (samples[0] - 8 * samples[1] + 8 * samples[2] - samples[3]) / (12 * step)
    return gradient


def assert_all_close(actual, expected, **tolerance):
    assert len(actual) == len(expected)
    for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, err_msg=f"array {k}", **tolerance)

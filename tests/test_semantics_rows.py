"""What a network must show that no other file does: start values, penalties and bounds of recurrent weights, the forms
of input and output, gradients over time, and networks whose recurrent weights are zero.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastrnn import Sequential, constraints, initializers, layers, optimizers, regularizers
from tests import naive
from tests.layer_cases import (
    CELLS,
    KINDS,
    LAYER_NAMES,
    assert_all_close,
    finite_difference,
    gradients_of,
    make_layer,
    mask_of,
    run,
)

N_INPUTS, UNITS = 3, 4
PLACES = ("kernel", "recurrent", "bias")


def recurrent(cell, **options):
    return getattr(layers, LAYER_NAMES[cell])(UNITS, dtype="float64", **options)


# --------------------------------------------------------------------------------------------- start values


@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_initializers_reach_their_weights(cell, form):
    values = {"kernel": 0.1, "recurrent": 0.2, "bias": 0.3}
    options = {f"{place}_initializer": initializers.Constant(value) for place, value in values.items()}
    layer = recurrent(cell, **options, **form)
    layer.build((None, None, N_INPUTS))
    kernel, recurrent_kernel, bias = layer.get_weights()
    np.testing.assert_array_equal(kernel, 0.1)
    np.testing.assert_array_equal(recurrent_kernel, 0.2)
    forget = np.zeros(bias.shape, bool)
    if cell == "lstm":
        forget[UNITS : 2 * UNITS] = True
    np.testing.assert_array_equal(bias[~forget], 0.3)
    np.testing.assert_array_equal(bias[forget], 1)


def test_unit_forget_bias_can_be_left_out():
    layer = recurrent("lstm", bias_initializer="zeros", unit_forget_bias=False)
    layer.build((None, None, N_INPUTS))
    np.testing.assert_array_equal(layer.get_weights()[2], 0)


@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_default_recurrent_kernel_is_orthogonal_as_a_whole(cell, form):
    layer = recurrent(cell, **form)
    layer.build((None, None, N_INPUTS))
    kernel, recurrent_kernel, _ = layer.get_weights()
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(UNITS), atol=1e-12)
    bound = np.sqrt(6 / sum(kernel.shape))
    assert bound / 2 < np.abs(kernel).max() <= bound


# --------------------------------------------------------------------------------------------- penalties and bounds


def penalised(cell, sequences, **form):
    own = {
        "kernel": regularizers.L2(0.3),
        "recurrent": regularizers.L1(0.2),
        "bias": regularizers.L1L2(0.1, 0.4),
    }
    activity = regularizers.L2(0.5)
    layer = recurrent(
        cell,
        activity_regularizer=activity,
        return_sequences=sequences,
        **{f"{place}_regularizer": penalty for place, penalty in own.items()},
        **form,
    )
    model = Sequential([layer], seed=0)
    model.build((None, None, N_INPUTS))
    model.compile("sgd", "mse")
    return model, list(own.values()), activity


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_penalties_are_added_to_the_loss(cell, form, sequences, rng):
    model, penalties, activity = penalised(cell, sequences, **form)
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng, **form)
    model.set_weights(weights)
    x = rng.normal(size=(5, 6, N_INPUTS))
    y, _ = naive.recurrent(cell, x, weights, return_sequences=sequences, **form)
    target = rng.normal(size=y.shape)
    expected = np.mean((y - target) ** 2) + 0.5 * np.sum(y**2) / 5
    for penalty, w in zip(penalties, weights, strict=True):
        expected += penalty.l1 * np.abs(w).sum() if hasattr(penalty, "l1") else 0
        expected += penalty.l2 * np.square(w).sum() if hasattr(penalty, "l2") else 0
    assert model.evaluate(x, target, verbose=0) == pytest.approx(expected, rel=1e-10)
    assert model.compute_gradients(x, target) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_gradient_of_penalties_matches_finite_difference(cell, form, sequences, rng):
    model, *_ = penalised(cell, sequences, **form)
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng, **form)
    # |w| has no derivative at 0: stay away from it.
    model.set_weights([np.copysign(np.maximum(np.abs(w), 0.01), w) for w in weights])
    x = rng.normal(size=(5, 6, N_INPUTS))
    target = rng.normal(size=model.predict(x, verbose=0).shape)
    model.compute_gradients(x, target)
    found = model.grads.copy()
    params = model.params.copy()

    def loss():
        model.params = params
        return model.test_on_batch(x, target)

    np.testing.assert_allclose(found, finite_difference(loss, params), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_constraints_hold_their_weights_after_a_step(cell, form, rng):
    bounds = {
        "kernel": constraints.MaxNorm(0.5),
        "recurrent": constraints.UnitNorm(axis=1),
        "bias": constraints.NonNeg(),
    }
    x, target = rng.normal(size=(5, 6, N_INPUTS)), rng.normal(size=(5, UNITS))
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng, **form)
    outcomes = []
    for options in ({}, {f"{place}_constraint": bound for place, bound in bounds.items()}):
        model = Sequential([recurrent(cell, **options, **form)])
        model.build((None, None, N_INPUTS))
        model.set_weights(weights)
        model.compile(optimizers.SGD(0.3), "mse")
        model.train_on_batch(x, target)
        outcomes.append(model.get_weights())
    free, bound = outcomes
    for place, w, got in zip(PLACES, free, bound, strict=True):
        projected = bounds[place](w)
        assert not np.allclose(projected, w)
        np.testing.assert_allclose(got, projected, rtol=1e-10, atol=1e-12)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("cell", "form"), KINDS)
def test_penalties_and_bounds_match_keras(cell, form, rng):
    """For SimpleRNN without activity_regularizer, which Keras drops there."""
    from tests import keras_oracle

    try:
        keras = keras_oracle.load()
    except ImportError as error:
        pytest.skip(str(error))
    options = {
        "kernel_regularizer": "l2",
        "recurrent_regularizer": "l1",
        "bias_regularizer": "l2",  # an l1 penalty at 0, where non_neg leads, has another derivative in Keras
        "kernel_constraint": "max_norm",
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "dtype": "float64",
        **({} if cell == "simple_rnn" else {"activity_regularizer": "l2"}),
        **form,
    }
    x, target = rng.normal(size=(5, 6, N_INPUTS)), rng.normal(size=(5, UNITS))
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng, **form)
    outcomes = []
    for module, model_of in ((layers, Sequential), (keras.layers, keras.Sequential)):
        model = model_of([getattr(module, LAYER_NAMES[cell])(UNITS, **options)])
        model.build((None, 6, N_INPUTS))
        model.set_weights(weights)
        model.compile("rmsprop", "mse")
        losses = [float(model.train_on_batch(x, target)) for _ in range(3)]
        outcomes.append((losses, [np.array(w) for w in model.get_weights()]))
    (losses, ours), (their_losses, theirs) = outcomes
    np.testing.assert_allclose(losses, their_losses, rtol=1e-6)
    assert_all_close(ours, theirs, rtol=1e-6, atol=1e-8)


# --------------------------------------------------------------------------------------------- both directions


@pytest.mark.parametrize("mode", ["sum", "mul", "concat", "ave", None])
def test_own_backward_layer_gradient_matches_finite_difference(mode, rng):
    mask = mask_of("full", "holes", "leading", "trailing")
    x = rng.normal(size=(4, 6, N_INPUTS))
    layer = layers.Bidirectional(
        recurrent("lstm", return_sequences=True),
        merge_mode=mode,
        backward_layer=recurrent("lstm", return_sequences=True, activation="softsign", go_backwards=True),
    )
    layer.build((None, None, N_INPUTS))
    layer.set_weights([rng.normal(size=w.shape) * 0.5 for w in layer.get_weights()])
    outputs = run(layer, x, mask)[0]
    d_outputs = [rng.normal(size=y.shape) for y in outputs]
    _, dx, d_weights = gradients_of(layer, x, d_outputs, mask=mask)

    def value():
        layer.weights_changed()
        return sum((y * d).sum() for y, d in zip(run(layer, x, mask)[0], d_outputs, strict=True))

    arrays = [x, *layer._weights.values()]
    assert_all_close([dx, *d_weights], [finite_difference(value, a) for a in arrays], rtol=1e-6, atol=1e-8)


# --------------------------------------------------------------------------------------------- training


def test_progress_bar_shows_what_is_left(capsys, rng):
    model = Sequential([layers.SimpleRNN(2), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(rng.normal(size=(8, 3, 1)), np.zeros((8, 1)), batch_size=2, epochs=1)
    shown = capsys.readouterr().err
    assert re.search(r"Epoch 1/1: +100%.* 4/4 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(batch/s|s/batch), loss=", shown)


def many_to_one(rng):
    x = rng.normal(size=(256, 6, 1))
    return [layers.GRU(16), layers.Dense(1)], x, x.mean(axis=1)


def one_to_many(rng):
    """Input: a number; output: a sine wave of that frequency."""
    x = rng.uniform(0.2, 1, size=(256, 1))
    y = np.sin(x * np.arange(6))[..., None]
    return [layers.RepeatVector(6), layers.GRU(16, return_sequences=True), layers.Dense(1)], x, y


def many_to_many_in_step(rng):
    """At each step, the difference from the step before."""
    x = rng.normal(size=(256, 6, 1))
    y = np.diff(x, axis=1, prepend=0)
    return [layers.GRU(16, return_sequences=True), layers.Dense(1)], x, y


def many_to_many_out_of_step(rng):
    """Three numbers are read first, then told in reverse order."""
    x = rng.choice([-1.0, 1.0], size=(256, 3, 1))
    decoder = [layers.RepeatVector(3), layers.GRU(24, return_sequences=True), layers.Dense(1)]
    return [layers.GRU(24), *decoder], x, x[:, ::-1]


@pytest.mark.parametrize(
    "form",
    [many_to_one, one_to_many, many_to_many_in_step, many_to_many_out_of_step],
    ids=lambda f: f.__name__,
)
def test_forms_of_input_and_output_train(form, rng):
    parts, x, y = form(rng)
    model = Sequential(parts, seed=0)
    model.compile(optimizers.Adam(0.02), "mse")
    model.fit(x[:192], y[:192], batch_size=32, epochs=40, verbose=0)
    # 1 is what the mean of the targets would reach.
    assert model.predict(x[192:], verbose=0).shape == y[192:].shape
    assert model.evaluate(x[192:], y[192:], verbose=0) < 0.1 * np.var(y)


# --------------------------------------------------------------------------------------------- gradients over time


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_gradient_vanishes_or_explodes_with_each_step(factor, rng):
    """In a linear network whose recurrent kernel is `factor` times a rotation, each step back multiplies its norm."""
    rotation = np.linalg.qr(rng.normal(size=(UNITS, UNITS)))[0]
    weights = [np.eye(UNITS), factor * rotation, np.zeros(UNITS)]
    layer = make_layer("simple_rnn", UNITS, weights, UNITS, activation=None)
    _, dx, _ = gradients_of(layer, rng.normal(size=(2, 30, UNITS)))
    norms = np.linalg.norm(dx, axis=2)
    np.testing.assert_allclose(norms[:, :-1] / norms[:, 1:], factor, rtol=1e-10)


@pytest.mark.parametrize(
    "clip", [{"clipnorm": 0.01}, {"clipvalue": 0.01}, {"global_clipnorm": 0.01}], ids=str
)
def test_clipping_bounds_the_step_of_an_exploding_gradient(clip, rng):
    weights = [np.eye(UNITS), 2 * np.eye(UNITS), np.zeros(UNITS)]
    layer = recurrent("simple_rnn", activation=None)
    model = Sequential([layer])
    model.build((None, None, UNITS))
    model.set_weights(weights)
    model.compile(optimizers.SGD(1.0, **clip), "mse")
    before = model.params.copy()
    x, target = rng.normal(size=(2, 60, UNITS)), np.zeros((2, UNITS))
    model.compute_gradients(x, target)
    assert np.abs(model.grads).max() > 1e10
    model.train_on_batch(x, target)
    steps = [np.abs(a - b) for a, b in zip(weights, model.get_weights(), strict=True)]
    assert np.abs(model.params - before).max() > 1e-5
    if "clipvalue" in clip:
        assert max(step.max() for step in steps) <= 0.01 * (1 + 1e-6)
    elif "clipnorm" in clip:
        assert max(np.linalg.norm(step) for step in steps) <= 0.01 * (1 + 1e-6)
    else:
        assert np.linalg.norm(model.params - before) <= 0.01 * (1 + 1e-6)


# --------------------------------------------------------------------------------------------- without recurrence


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_elman_network_without_recurrent_weights_is_a_time_delay_network(activation, rng):
    """Windows of past inputs, a hidden layer, an output: with Ws = 0 the Elman network is the feed-forward one."""
    series, width = rng.normal(size=(2, 20)), 4
    x = np.lib.stride_tricks.sliding_window_view(series, width, axis=1)
    kernel, bias = rng.normal(size=(width, UNITS)), rng.normal(size=UNITS)
    head = [rng.normal(size=(UNITS, 1)), rng.normal(size=1)]
    options = {"activation": activation, "dtype": "float64"}
    elman = Sequential(
        [layers.SimpleRNN(UNITS, return_sequences=True, **options), layers.Dense(1, dtype="float64")]
    )
    delay = Sequential([layers.Dense(UNITS, **options), layers.Dense(1, dtype="float64")])
    for model, weights in (
        (elman, [kernel, np.zeros((UNITS, UNITS)), bias, *head]),
        (delay, [kernel, bias, *head]),
    ):
        model.build(x.shape)
        model.set_weights(weights)
        model.compile("sgd", "mse")
    np.testing.assert_allclose(
        elman.predict(x, verbose=0), delay.predict(x, verbose=0), rtol=1e-12, atol=1e-13
    )
    y = rng.normal(size=(*x.shape[:2], 1))
    assert elman.compute_gradients(x, y) == pytest.approx(delay.compute_gradients(x, y), rel=1e-12)
    found = [g for layer in elman.layers for g in layer._grads.values()]
    expected = [g for layer in delay.layers for g in layer._grads.values()]
    assert_all_close([found[0], *found[2:]], expected, rtol=1e-10, atol=1e-12)
    # The recurrent weights are zero, but not their gradient: they are what the Elman network can learn beyond.
    assert np.abs(found[1]).max() > 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_a_network_without_time_has_no_recurrence(cell, rng):
    """Over a single step from a zero state, the recurrent kernel doesn't count."""
    weights = naive.random_weights(cell, N_INPUTS, UNITS, rng)
    x = rng.normal(size=(5, 1, N_INPUTS))
    first = make_layer(cell, UNITS, weights, N_INPUTS)(x)
    weights[1] = np.zeros_like(weights[1])
    np.testing.assert_array_equal(make_layer(cell, UNITS, weights, N_INPUTS)(x), first)

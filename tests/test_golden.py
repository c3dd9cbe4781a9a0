"""Numbers that must come out, worked by hand or published: small networks, parameter counts, cells stepped by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Sequential, layers
from tests import naive
from tests.layer_cases import CELLS, KINDS, LAYER_NAMES, make_layer, run

# A network with one input, two units and one output, worked by hand over the inputs 1, 2.
WS = np.array([[0.1, 0.2], [0.3, 0.4]])
WX = np.array([[0.5, 0.6]])
B = np.array([0.1, -0.1])
WO, BO = np.array([[1.0], [2.0]]), np.array([0.1])
X = np.array([[[1.0], [2.0]]])
PRE_ACTIVATIONS = np.array([[0.6, 0.5], [1.2923401, 1.39225678]])
STATES = np.array([[0.53704957, 0.46211716], [0.85973818, 0.88366641]])
OUTPUTS = np.array([[1.56128388], [2.72707101]])


@pytest.mark.parametrize("unroll", [False, True])
def test_plain_rnn_by_hand(unroll):
    rnn = make_layer("simple_rnn", 2, [WX, WS, B], 1, return_sequences=True, unroll=unroll)
    dense = layers.Dense(1, dtype="float64")
    dense.build((None, None, 2))
    dense.set_weights([WO, BO])
    states = rnn(X)
    np.testing.assert_allclose(states[0], STATES, atol=5e-9)
    np.testing.assert_allclose(dense(states)[0], OUTPUTS, atol=5e-9)


def test_plain_rnn_pre_activations_by_hand():
    linear = make_layer("simple_rnn", 2, [WX, WS, B], 1, activation=None)
    first = linear(X[:, :1])
    np.testing.assert_allclose(first, PRE_ACTIVATIONS[:1], atol=5e-9)
    second = linear(X[:, 1:], initial_state=[np.tanh(first)])
    np.testing.assert_allclose(second, PRE_ACTIVATIONS[1:], atol=5e-9)


def test_plain_rnn_as_a_model():
    model = Sequential(
        [layers.SimpleRNN(2, return_sequences=True, dtype="float64"), layers.Dense(1, dtype="float64")]
    )
    model.build((None, None, 1))
    model.set_weights([WX, WS, B, WO, BO])
    np.testing.assert_allclose(model.predict(X, verbose=0)[0], OUTPUTS, atol=5e-9)


MODELS = [
    (
        lambda: [layers.Embedding(1000, 64), layers.LSTM(128), layers.Dense(10)],
        [64_000, 98_816, 1_290],
        164_106,
        (10,),
    ),
    (
        lambda: [
            layers.Embedding(1000, 64),
            layers.GRU(256, return_sequences=True),
            layers.SimpleRNN(128),
            layers.Dense(10),
        ],
        [64_000, 247_296, 49_280, 1_290],
        361_866,
        (10,),
    ),
    (
        lambda: [
            layers.Embedding(10_000, 32),
            *(layers.SimpleRNN(32, return_sequences=True) for _ in range(3)),
            layers.SimpleRNN(32),
        ],
        [320_000, 2_080, 2_080, 2_080, 2_080],
        328_320,
        (32,),
    ),
]


@pytest.mark.parametrize(("make", "params", "total", "output"), MODELS, ids=["lstm", "gru-rnn", "four-rnn"])
def test_published_parameter_counts(make, params, total, output, capsys):
    model = Sequential(make())
    model.build((None, None))
    assert [layer.count_params() for layer in model.layers] == params
    assert model.count_params() == total
    model.summary()
    printed = capsys.readouterr().out
    for number in [*params, total]:
        assert f"{number:,}" in printed
    tokens = np.random.default_rng(0).integers(0, 1000, (3, 7))
    assert model.predict(tokens, verbose=0).shape == (3, *output)


@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_parameters_do_not_depend_on_the_number_of_steps(cell, options, rng):
    counts, layer = set(), None
    for n_steps in (10, 1000):
        layer = getattr(layers, LAYER_NAMES[cell])(16, return_sequences=True, **options)
        model = Sequential([layer, layers.Dense(3)])
        model.build((None, n_steps, 5))
        counts.add(model.count_params())
        assert model.predict(rng.normal(size=(2, n_steps, 5)), verbose=0).shape == (2, n_steps, 3)
    (count,) = counts
    gates = naive.N_GATES[cell]
    biases = 2 if cell == "gru" and not options else 1
    assert count == gates * 16 * (5 + 16 + biases) + 16 * 3 + 3


@pytest.mark.parametrize("cell", CELLS)
def test_dense_after_sequences_works_per_step(cell, rng):
    x = rng.normal(size=(3, 6, 4)).astype(np.float32)
    rnn = getattr(layers, LAYER_NAMES[cell])(8, return_sequences=True)
    dense = layers.Dense(5, activation="tanh")
    y = rnn(x)
    per_step = np.stack([dense(np.ascontiguousarray(y[:, t])) for t in range(6)], axis=1)
    np.testing.assert_allclose(dense(y), per_step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_batch", [4, 2])
@pytest.mark.parametrize(("cell", "options"), KINDS)
def test_cell_stepped_by_hand_equals_the_layer(cell, options, n_batch, rng):
    x = rng.normal(size=(n_batch, 80, 100)) * 0.3
    weights = naive.random_weights(cell, 100, 64, rng, **options)
    stepper = getattr(layers, LAYER_NAMES[cell] + "Cell")(64, dtype="float64", **options)
    stepper.build((None, 100))
    stepper.set_weights(weights)
    states = [np.zeros((n_batch, 64)) for _ in range(naive.N_STATES[cell])]
    outputs = []
    for t in range(80):
        out, states = stepper(x[:, t], states)
        assert out.shape == (n_batch, 64)
        assert isinstance(states, list)
        outputs.append(out)
    if cell == "lstm":
        assert len(states) == 2
    np.testing.assert_array_equal(out, states[0])  # the output is h
    layer = make_layer(cell, 64, weights, 100, return_sequences=True, return_state=True, **options)
    (y, *finals), _ = run(layer, x)
    np.testing.assert_allclose(np.stack(outputs, axis=1), y, rtol=1e-10, atol=1e-11)
    for final, state in zip(finals, states, strict=True):
        np.testing.assert_allclose(state, final, rtol=1e-10, atol=1e-11)


# GRU's two forms, one step worked by hand: z = s(.1 + .2h), r = s(.3 - .4h), candidate = tanh(.5 + ...), h = .5.
def test_gru_forms_by_hand():
    def s(v):
        return 1 / (1 + np.exp(-v))

    x, h = np.array([[[1.0]]]), np.array([[0.5]])
    kernel, recurrent = np.array([[0.1, 0.3, 0.5]]), np.array([[0.2, -0.4, 0.7]])
    before = np.array([0.01, 0.02, 0.03])
    after = np.array([[0.01, 0.02, 0.03], [0.04, 0.05, 0.06]])
    z, r = s(0.1 + 0.01 + 0.1), s(0.3 + 0.02 - 0.2)
    expected = z * 0.5 + (1 - z) * np.tanh(0.5 + 0.03 + r * 0.5 * 0.7)
    layer = make_layer("gru", 1, [kernel, recurrent, before], 1, reset_after=False)
    np.testing.assert_allclose(layer(x, initial_state=[h]), [[expected]], rtol=1e-12)
    z, r = s(0.1 + 0.01 + 0.1 + 0.04), s(0.3 + 0.02 - 0.2 + 0.05)
    expected = z * 0.5 + (1 - z) * np.tanh(0.5 + 0.03 + r * (0.5 * 0.7 + 0.06))
    layer = make_layer("gru", 1, [kernel, recurrent, after], 1)
    np.testing.assert_allclose(layer(x, initial_state=[h]), [[expected]], rtol=1e-12)

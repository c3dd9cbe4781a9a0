"""Initializers, regularizers and constraints."""

import math

import numpy as np
import pytest

from fastrnn import constraints, initializers, regularizers
from fastrnn.random import new_generator, set_random_seed

SCALED = {
    "glorot_uniform": ("fan_avg", 1, "uniform"),
    "glorot_normal": ("fan_avg", 1, "normal"),
    "he_uniform": ("fan_in", 2, "uniform"),
    "he_normal": ("fan_in", 2, "normal"),
    "lecun_uniform": ("fan_in", 1, "uniform"),
    "lecun_normal": ("fan_in", 1, "normal"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCALED)
def test_variance_and_range(name, dtype, rng):
    mode, scale, kind = SCALED[name]
    w = initializers.get(name)((300, 500), dtype, rng)
    variance = scale / {"fan_in": 300, "fan_avg": 400}[mode]
    assert w.dtype == dtype
    assert w.var() == pytest.approx(variance, rel=0.03)
    assert w.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / w.size))
    limit = math.sqrt(3 * variance) if kind == "uniform" else 2 * math.sqrt(variance) / 0.87962566
    assert np.abs(w).max() <= limit * 1.0001


@pytest.mark.parametrize("shape", [(4, 4), (3, 12), (12, 3), (2, 3, 4)])
def test_orthogonal(shape, rng):
    w = initializers.Orthogonal(gain=2.0)(shape, "float64", rng)
    assert w.shape == shape
    flat = w.reshape(-1, shape[-1]) / 2
    product = flat @ flat.T if flat.shape[0] < flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_constants(rng):
    np.testing.assert_array_equal(initializers.get("zeros")((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.get("ones")((2,)), np.ones(2))
    np.testing.assert_array_equal(initializers.Constant(3)((2,)), [3, 3])
    np.testing.assert_array_equal(initializers.Identity(2)((2, 3)), [[2, 0, 0], [0, 2, 0]])
    given = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.get(given)((2, 3), "float64"), given)


def test_random_ranges(rng):
    u = initializers.RandomUniform(-2, 1)((1000,), "float32", rng)
    assert -2 <= u.min() < -1.9
    assert 0.9 < u.max() <= 1
    t = initializers.TruncatedNormal(1.0, 0.5)((5000,), "float64", rng)
    assert np.abs(t - 1).max() <= 1
    assert initializers.get("uniform").maxval == 0.05


@pytest.mark.parametrize("name", ["random_normal", "glorot_uniform", "orthogonal", "truncated_normal"])
def test_seed_makes_values_repeat(name):
    cls = type(initializers.get(name))
    np.testing.assert_array_equal(cls(seed=3)((4, 4)), cls(seed=3)((4, 4)))
    one = cls(seed=3)
    np.testing.assert_array_equal(one((4, 4)), one((4, 4)))
    assert not np.array_equal(cls(seed=3)((4, 4)), cls(seed=4)((4, 4)))
    set_random_seed(5)
    first = cls()((4, 4))
    set_random_seed(5)
    np.testing.assert_array_equal(first, cls()((4, 4)))


def test_config_round_trip():
    for name in SCALED:
        one = initializers.get(name)
        again = initializers.get({"class_name": type(one).__name__, "config": one.get_config()})
        assert type(again) is type(one)
    assert initializers.VarianceScaling(2.0, "fan_out", "uniform").get_config()["mode"] == "fan_out"


def test_bad_arguments():
    with pytest.raises(ValueError, match="kernel_initializer='glorot' is not an initializer: did you mean"):
        initializers.get("glorot", "kernel_initializer")
    with pytest.raises(ValueError, match="at least two axes"):
        initializers.Orthogonal()((3,))
    with pytest.raises(ValueError, match="initial values have shape"):
        initializers.get(np.ones(3))((4,))
    with pytest.raises(ValueError, match="seed=-1"):
        set_random_seed(-1)
    with pytest.raises(ValueError, match="mode='fan'"):
        initializers.VarianceScaling(mode="fan")


def test_generators_differ_and_repeat():
    set_random_seed(1)
    a, b = new_generator(), new_generator()
    assert a.random() != b.random()
    assert new_generator(4).random() == new_generator(4).random()


# -- regularizers

REGULARIZERS = [
    regularizers.L1(0.3),
    regularizers.L2(0.2),
    regularizers.L1L2(0.1, 0.2),
    regularizers.OrthogonalRegularizer(0.5),
    regularizers.OrthogonalRegularizer(0.5, "columns"),
]


@pytest.mark.parametrize("penalty", REGULARIZERS, ids=repr)
def test_regularizer_gradient_matches_finite_difference(penalty, rng):
    x = rng.normal(size=(4, 3))
    expected = np.empty_like(x)
    for i in np.ndindex(*x.shape):
        value = x[i]
        x[i] = value + 1e-6
        high = penalty(x)
        x[i] = value - 1e-6
        low = penalty(x)
        x[i] = value
        expected[i] = (high - low) / 2e-6
    np.testing.assert_allclose(penalty.gradient(x), expected, atol=1e-8)
    assert penalty.gradient(x.astype("float32")).dtype == np.float32


def test_regularizer_names_and_bad_arguments():
    assert regularizers.get("l2").l2 == 0.01
    both = regularizers.get("l1_l2")
    assert (both.l1, both.l2) == (0.01, 0.01)
    for name in ("L1L2", "l1l2"):  # as in Keras, the class with its own defaults
        none = regularizers.get(name)
        assert (none.l1, none.l2) == (0, 0)
    again = regularizers.get({"class_name": "L1L2", "config": {"l1": 0.5, "l2": 0.25}})
    assert (again.l1, again.l2) == (0.5, 0.25)
    with pytest.raises(ValueError, match="l2=-1"):
        regularizers.L2(-1)
    with pytest.raises(TypeError, match="has no gradient"):
        regularizers.get(lambda x: 0.0)
    with pytest.raises(ValueError, match="regularizer='l3'"):
        regularizers.get("l3")


# -- constraints


def test_constraints(rng):
    w = rng.normal(size=(5, 4)) * 3
    norms = np.linalg.norm(w, axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(constraints.MaxNorm(2)(w), axis=0), np.minimum(norms, 2), rtol=1e-6
    )
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm(1)(w), axis=1), 1, rtol=1e-6)
    assert (constraints.NonNeg()(w) >= 0).all()
    moved = np.linalg.norm(constraints.MinMaxNorm(1, 3, rate=0.5)(w), axis=0)
    np.testing.assert_allclose(moved, 0.5 * norms + 0.5 * np.clip(norms, 1, 3), rtol=1e-6)
    assert constraints.get("max_norm").max_value == 2
    with pytest.raises(ValueError, match="constraint='norm'"):
        constraints.get("norm")


def loaded(oracle):
    try:
        return oracle.load()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.peers
@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("regularizers", "L1", {}),
        ("regularizers", "L2", {"l2": 0.3}),
        ("regularizers", "L1L2", {"l1": 0.1, "l2": 0.2}),
        ("regularizers", "OrthogonalRegularizer", {"mode": "rows"}),
        ("regularizers", "OrthogonalRegularizer", {"mode": "columns"}),
        ("constraints", "MaxNorm", {"max_value": 1.5, "axis": 1}),
        ("constraints", "NonNeg", {}),
        ("constraints", "UnitNorm", {"axis": [0, 1]}),
        ("constraints", "MinMaxNorm", {"min_value": 0.5, "rate": 0.3}),
    ],
)
def test_matches_keras(module, name, options, rng):
    from tests import keras_oracle

    keras = loaded(keras_oracle)
    w = rng.normal(size=(4, 3))
    mine = {"regularizers": regularizers, "constraints": constraints}[module]
    expected = keras_oracle.to_numpy(getattr(getattr(keras, module), name)(**options)(keras_oracle.tensor(w)))
    np.testing.assert_allclose(getattr(mine, name)(**options)(w), expected, rtol=1e-6)

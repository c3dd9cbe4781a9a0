"""Settings of an optimizer that change between updates: the next update follows them, or they are refused."""

import copy

import numpy as np
import pytest

from fastrnn import Sequential, layers, optimizers
from fastrnn.training.guard import Changes
from fastrnn.update_plan import Plan

N = 7
WHOLE = Plan([(0, N)], [(0, N)], [])


def updated(optimizer, p, gradients):
    for g in gradients:
        optimizer.apply(p, g.copy(), WHOLE)
    return p


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_set_after_updates_starts_from_zero(nesterov, dtype, rng):
    gradients = rng.normal(size=(6, N)).astype(dtype)
    changed = optimizers.SGD(0.1, nesterov=nesterov)
    p = updated(changed, rng.normal(size=N).astype(dtype), gradients[:3])
    expected = updated(optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov), p.copy(), gradients[3:])
    changed.momentum = 0.9
    np.testing.assert_array_equal(updated(changed, p, gradients[3:]), expected)


@pytest.mark.parametrize("cls", [optimizers.SGD, optimizers.RMSprop, optimizers.Adam, optimizers.Adagrad])
def test_weight_decay_set_after_updates_shrinks_the_weights_first(cls, rng):
    gradients = rng.normal(size=(4, N))
    changed, without = cls(0.1), cls(0.1)
    p, plain = (updated(optimizer, np.ones(N), gradients[:3]) for optimizer in (changed, without))
    changed.weight_decay = 0.5
    expected = updated(without, plain * (1 - 0.5 * 0.1), gradients[3:])
    np.testing.assert_allclose(updated(changed, p, gradients[3:]), expected, rtol=1e-12)


def test_factors_set_after_updates_are_used(rng):
    changed, g = optimizers.Adam(0.1), rng.normal(size=(2, N))
    p = updated(changed, np.ones(N), g[:1])
    m, v = ((1 - b) * x for b, x in ((0.9, g[0]), (0.999, g[0] ** 2)))
    changed.beta_1, changed.beta_2, changed.epsilon = 0.5, 0.75, 0.01
    m, v = 0.5 * m + 0.5 * g[1], 0.75 * v + 0.25 * g[1] ** 2
    step = 0.1 * np.sqrt(1 - 0.75**2) / (1 - 0.5**2)
    expected = p - step * m / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(updated(changed, p, g[1:]), expected, rtol=1e-12)


def as_a_whole(cls):
    """The class, without updates of single rows."""
    return type(cls.__name__, (cls,), {"updates_rows": property(lambda self: False)})


def model_with_a_table(optimizer):
    stack = [layers.Embedding(12, 3, dtype="float64"), layers.SimpleRNN(2, dtype="float64")]
    model = Sequential(stack, seed=0)
    model.compile(optimizer, "mse")
    return model


def batches(rng, n):
    return [(rng.integers(0, 12, (2, 3)), rng.normal(size=(2, 2))) for _ in range(n)]


CHANGES = {
    "SGD": [
        ("momentum", 0.9),
        ("weight_decay", 0.2),
        ("momentum", 0.0),
        ("weight_decay", None),
        ("momentum", 0.5),
    ],
    "RMSprop": [
        ("weight_decay", 0.2),
        ("weight_decay", None),
        ("momentum", 0.9),
        ("rho", 0.5),
        ("momentum", 0.0),
    ],
    "Adam": [("weight_decay", 0.2), ("weight_decay", None), ("beta_1", 0.5), ("epsilon", 1e-3)],
    "Adagrad": [("weight_decay", 0.2), ("weight_decay", None), ("epsilon", 1e-3)],
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_reach_embedding_tables(name, rng):
    """A table of which some rows are updated changes as one that is always updated as a whole."""
    cls = getattr(optimizers, name)
    by_rows, whole = model_with_a_table(cls(0.05)), model_with_a_table(as_a_whole(cls)(0.05))
    for setting in (None, *CHANGES[name]):
        for model in (by_rows, whole):
            if setting is not None:
                setattr(model.optimizer, *setting)
        for x, y in batches(rng, 4):
            before = by_rows.params.copy()
            for model in (by_rows, whole):
                model.train_step(x, y)
            np.testing.assert_allclose(by_rows.params, whole.params, rtol=1e-10, atol=1e-12)
            assert not np.array_equal(by_rows.params, before)
        assert bool(by_rows.plan.tables) == (by_rows.optimizer.weight_decay is None)


@pytest.mark.parametrize("name", CHANGES)
def test_updates_after_a_change_can_be_undone(name, rng):
    model = model_with_a_table(getattr(optimizers, name)(0.05))
    for setting in (None, *CHANGES[name]):
        if setting is not None:
            setattr(model.optimizer, *setting)
        before = model.params.copy(), copy.deepcopy(model.optimizer.get_state()), model.optimizer.get_config()
        changes = Changes(model)
        model.trainer.before_update = changes.before_update
        given = batches(rng, 3)
        for x, y in given:
            model.train_step(x, y)
        after = model.params.copy()
        changes.restore()
        model.trainer.before_update = None
        np.testing.assert_equal(
            (model.params, model.optimizer.get_state(), model.optimizer.get_config()), before
        )
        for x, y in given:
            model.train_step(x, y)
        np.testing.assert_array_equal(model.params, after)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("SGD", "lazy", True),
        ("RMSprop", "centered", True),
        ("RMSprop", "lazy", True),
        ("Adam", "amsgrad", True),
        ("Adam", "lazy", True),
        ("Adagrad", "initial_accumulator_value", 0.5),
    ],
)
def test_what_decides_on_the_moments_is_fixed_from_the_first_update_on(name, setting, value, rng):
    optimizer = getattr(optimizers, name)(0.1)
    setattr(optimizer, setting, value)  # before the first update it is as if it had been given
    assert optimizer.get_config()[setting] == value
    gradients = rng.normal(size=(2, N))
    given = getattr(optimizers, name)(0.1, **{setting: value})
    np.testing.assert_array_equal(*(updated(one, np.ones(N), gradients) for one in (optimizer, given)))
    old = type(value)(0)
    with pytest.raises(ValueError, match=rf"{setting}={old!r}: .*after the first update.*{name}.from_config"):
        setattr(optimizer, setting, old)
    assert optimizer.get_config()[setting] == value
    setattr(optimizer, setting, value)  # no change


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("momentum", 2, "momentum=2: give a number from 0 to 1"),
        ("weight_decay", -1, "weight_decay=-1: give a non-negative number or None"),
        ("clipnorm", "1", "clipnorm='1': give a non-negative number or None"),
        (
            "clipvalue",
            0.5,
            "give only one of clipnorm, clipvalue and global_clipnorm, got clipnorm=1.0, clipvalue=0.5",
        ),
        ("nesterov", "no", "nesterov='no': give True or False"),
    ],
)
def test_changed_settings_are_checked_as_arguments_are(setting, value, message):
    optimizer = optimizers.SGD(0.1, clipnorm=1.0)
    config = optimizer.get_config()
    with pytest.raises(ValueError, match=message):
        setattr(optimizer, setting, value)
    assert optimizer.get_config() == config


def test_weight_decay_of_a_lazy_optimizer_is_refused_later_too():
    optimizer = optimizers.Adam(lazy=True)
    with pytest.raises(ValueError, match=r"lazy=True.*weight_decay=0.1.*give only one"):
        optimizer.weight_decay = 0.1

"""A solver object: `partial_fit` follows its settings and keeps its moments."""

import copy

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from fastrnn import RNNRegressor
from fastrnn.optimizers import SGD, Adam, RMSprop


@pytest.fixture
def data(rng):
    x = rng.normal(size=(32, 5, 2))
    return x, x[:, -1, 0]


def regressor(solver):
    return RNNRegressor(units=4, solver=solver, random_state=0)


def test_learning_rate_of_a_solver_object_takes_effect(data):
    model = regressor(Adam(0.01)).partial_fit(*data)
    before = model.model_.params.copy()
    model.solver.learning_rate = 0
    model.partial_fit(*data)
    np.testing.assert_array_equal(model.model_.params, before)
    model.solver.learning_rate = 0.01
    model.partial_fit(*data)
    assert not np.array_equal(model.model_.params, before)


@pytest.mark.parametrize("name", ["clipnorm", "clipvalue", "global_clipnorm", "weight_decay"])
def test_other_settings_of_a_solver_object_take_effect(name, data):
    """As if the object had been given with that setting, and the moments it has."""
    changed, fresh = regressor(Adam(0.01)).partial_fit(*data), regressor(Adam(0.01)).partial_fit(*data)
    setattr(changed.solver, name, 1e-3)
    setattr(fresh.model_.optimizer, name, 1e-3)
    fresh.model_.plan_updates()
    fresh.set_params(solver=copy.deepcopy(changed.solver))
    before = changed.model_.params.copy()
    for model in (changed, fresh):
        model.partial_fit(*data)
    np.testing.assert_array_equal(changed.model_.params, fresh.model_.params)
    plain = regressor(Adam(0.01)).partial_fit(*data).partial_fit(*data)
    assert not np.array_equal(changed.model_.params, plain.model_.params)
    assert not np.array_equal(changed.model_.params, before)


@pytest.mark.parametrize("first", ["adam", Adam(0.001, clipnorm=1.0)], ids=["name", "object"])
def test_new_solver_of_the_same_class_keeps_the_moments(first, data):
    going, replaced = regressor(first), regressor(first)
    for model in (going, replaced):
        model.partial_fit(*data).partial_fit(*data)
    replaced.set_params(solver=Adam(0.001, clipnorm=1.0))
    for model in (going, replaced):
        model.partial_fit(*data)
    np.testing.assert_array_equal(going.model_.params, replaced.model_.params)
    assert replaced.model_.optimizer.iterations == 3


def test_solver_of_another_class_starts_anew(data):
    model = regressor(Adam(0.01)).partial_fit(*data).partial_fit(*data)
    model.set_params(solver=RMSprop(0.01)).partial_fit(*data)
    assert isinstance(model.model_.optimizer, RMSprop)
    assert model.model_.optimizer.iterations == 1
    model.set_params(solver=SGD(0.01, momentum=0.5)).partial_fit(*data).set_params(solver=SGD(0.01))
    model.partial_fit(*data)
    assert model.model_.optimizer.iterations == 1


def test_failed_partial_fit_with_a_new_solver_leaves_the_old_one(data):
    x, y = data
    model, still = (regressor(Adam(0.01)).partial_fit(x, y) for _ in range(2))
    model.set_params(solver=SGD(1e30), batch_size=4)
    with pytest.raises(FloatingPointError):
        model.partial_fit(x * 1e3, y * 1e30)
    model.set_params(solver=still.solver, batch_size="auto")
    for one in (model, still):
        one.partial_fit(x, y)
    np.testing.assert_array_equal(model.model_.params, still.model_.params)


def test_the_solver_object_itself_is_not_changed_by_training(data):
    solver = Adam(0.01)
    regressor(solver).partial_fit(*data)
    assert solver.iterations == 0


@pytest.mark.parametrize(
    ("name", "value"), [("units", "4"), ("dropout", 2.0), ("shuffle", "no"), ("solver", "adm")]
)
def test_parameters_that_change_between_calls_are_checked(name, value, data):
    model = regressor("adam").partial_fit(*data).partial_fit(*data)
    before = model.model_.params.copy()
    setattr(model, name, value)
    for _ in range(2):  # what was refused is not taken for checked
        with pytest.raises(ValueError, match=f"The '{name}' parameter of RNNRegressor must be"):
            model.partial_fit(*data)
    np.testing.assert_array_equal(model.model_.params, before)


def test_parameters_that_stay_are_checked_once(data, monkeypatch):
    model, checks = regressor("adam"), []
    check = BaseEstimator._validate_params

    def noted(made):
        if isinstance(made, RNNRegressor):
            checks.append(made)
        check(made)

    monkeypatch.setattr(BaseEstimator, "_validate_params", noted)
    for _ in range(3):
        model.partial_fit(*data)
    assert checks == [model]
    copied = copy.deepcopy(model)  # is checked by itself
    copied.partial_fit(*data)
    model.set_params(tol=0.25).partial_fit(*data)
    assert checks == [model, copied, model]

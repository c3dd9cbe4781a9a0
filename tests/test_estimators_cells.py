"""Every kind of cell behind the estimators: those with a name, and a user's own kernel."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastrnn import RNNClassifier, RNNRegressor, layers
from fastrnn.cells.janet import JANET
from fastrnn.cells.peephole_lstm import PeepholeLSTM
from fastrnn.engine.recurrence.contract import Traits
from tests.test_extra_cells import LeakyTestCell


class Unset(NamedTuple):
    n_units: int
    power: float
    leak: float

    def traits(self):
        return Traits(n_gates=1)


NAMES = ["peephole_lstm", "janet", "indrnn"]
KERNELS = [LeakyTestCell, JANET, JANET(n_units=1, beta=0.5)]
CELLS = [*NAMES, *KERNELS]


def name_of(cell):
    return (
        cell
        if isinstance(cell, str)
        else cell.__name__
        if isinstance(cell, type)
        else type(cell).__name__ + "()"
    )


every_cell = pytest.mark.parametrize("cell", CELLS, ids=name_of)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 6, 2))
    return X, np.where(X.sum((1, 2)) > 0, "up", "down")


def classifier(cell, **arguments):
    defaults = {"units": 10, "learning_rate_init": 0.02, "max_iter": 25, "tol": None, "random_state": 0}
    return RNNClassifier(cell=cell, **{**defaults, **arguments})


@every_cell
def test_classifier_learns(cell, data):
    X, y = data
    model = classifier(cell).fit(X, y)
    assert model.score(X, y) > 0.9


@every_cell
def test_regressor_learns_ragged_steps_in_two_layers(cell, data):
    X = [x[:n] for x, n in zip(data[0], np.arange(48) % 6 + 1, strict=True)]
    y = [x.cumsum(axis=0)[:, 0] for x in X]
    model = RNNRegressor(
        cell=cell,
        units=(10, 8),
        return_sequences=True,
        learning_rate_init=0.01,
        max_iter=40,
        tol=None,
        random_state=0,
    ).fit(X, y)
    assert [p.shape for p in model.predict(X)] == [t.shape for t in y]
    assert model.score(X, y) > 0.7
    assert [layer.count_params() > 0 for layer in model.model_.layers] == [True] * 3


@every_cell
def test_copies_go_on_alike(cell, data):
    X, y = data
    model = classifier(cell, max_iter=2).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    for m in (model, again):
        m.partial_fit(X, y)
    np.testing.assert_array_equal(again.model_.params, model.model_.params)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    np.testing.assert_array_equal(
        fresh.fit(X, y).model_.params, classifier(cell, max_iter=2).fit(X, y).model_.params
    )


def test_grid_search_over_cells(data):
    X, y = data
    search = GridSearchCV(classifier("lstm", max_iter=3), {"cell": CELLS}, cv=2, error_score="raise").fit(
        X, y
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.cell in CELLS
    assert len(set(search.cv_results_["mean_test_score"])) > 1


@every_cell
@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"go_backwards": True, "units": (4, 3)},
        {"dropout": 0.2, "alpha": 0.1},
        {"dtype": "float64", "n_jobs": 1},
    ],
    ids=lambda o: "-".join(o),
)
def test_options_train(cell, options, data):
    X, y = data
    model = classifier(cell, max_iter=4, **options).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@every_cell
def test_partial_fit_carries_states(cell, data):
    X = data[0].cumsum(axis=1)
    y = X[..., 0]
    still = {"return_sequences": True, "dtype": "float64", "learning_rate_init": 1e-300, "random_state": 0}
    still["normalize_y"] = False  # the targets of a part have another mean
    whole = RNNRegressor(cell=cell, units=4, **still).partial_fit(X, y).predict(X)
    model = RNNRegressor(cell=cell, units=4, stateful=True, **still).partial_fit(X[:, :4], y[:, :4])
    np.testing.assert_allclose(model.predict(X[:, 4:]), whole[:, 4:], rtol=1e-9)
    model.reset_states(rows=[3])
    fresh = RNNRegressor(cell=cell, units=4, **still).partial_fit(X, y).predict(X[3:4, 4:])
    np.testing.assert_allclose(model.predict(X[:, 4:])[3], fresh[0], rtol=1e-9)


def test_kernels_keep_their_numbers_and_take_the_widths(data):
    model = classifier(JANET(n_units=1, beta=0.5), units=(4, 3), max_iter=1).fit(*data)
    assert [layer.cell.kernel for layer in model.model_.layers[:2]] == [
        JANET(4, beta=0.5),
        JANET(3, beta=0.5),
    ]
    assert classifier(PeepholeLSTM, max_iter=1).fit(*data).model_.layers[0].cell.kernel == PeepholeLSTM(10)


def test_alpha_reaches_peepholes(data):
    model = classifier("peephole_lstm", alpha=1.0, max_iter=1).fit(*data).model_.layers[0]
    assert isinstance(model, layers.PeepholeLSTM)
    assert set(model._regularizers) == {"kernel", "recurrent_kernel", "peephole_kernel"}


@pytest.mark.parametrize(
    ("cell", "arguments", "message"),
    [
        ("elman", {}, "'cell' parameter of RNNClassifier must be a str among .* or a cell of the engine"),
        (dict, {}, "'cell' parameter of RNNClassifier must be"),
        ((4,), {}, "'cell' parameter of RNNClassifier must be"),
        (Unset, {}, "cell=Unset has no default for leak, power: give an instance of it"),
        ("indrnn", {"recurrent_dropout": 0.1}, "recurrent_dropout=0.1: IndRNN has no recurrent product"),
    ],
    ids=["unknown", "class", "tuple", "no-default", "recurrent_dropout"],
)
def test_cells_that_cannot_be_used_are_named(cell, arguments, message, data):
    model = classifier(cell, **arguments)
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    assert not hasattr(model, "model_")

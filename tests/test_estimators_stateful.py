"""Stateful partial_fit: row i goes on from where row i of the call before stopped."""

import pickle

import numpy as np
import pytest

from fastrnn.estimators import RNNClassifier, RNNRegressor
from fastrnn.optimizers import SGD

CELLS = ["simple_rnn", "lstm", "gru"]


def make(cell="lstm", **arguments):
    defaults = {"units": 5, "stateful": True, "dtype": "float64", "random_state": 0, "return_sequences": True}
    # The split and the whole, and the gradient of the loss, are compared in the units of y.
    defaults["normalize_y"] = False
    return RNNRegressor(cell=cell, **{**defaults, **arguments})


def still(cell="lstm", **arguments):
    """A network with constant weights, so that calls differ only in their states."""
    return make(cell, learning_rate_init=1e-300, **arguments)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 12, 2))
    return X, X.cumsum(axis=1)[..., 0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", [5, (5, 4)])
@pytest.mark.parametrize("batch_size", ["auto", 4, 1])
def test_split_sequence_with_state_matches_whole(data, cell, units, batch_size):
    X, y = data
    whole = still(cell, units=units, stateful=False).partial_fit(X, y).predict(X)
    model = still(cell, units=units, batch_size=batch_size)
    model.partial_fit(X[:, :5], y[:, :5])
    np.testing.assert_allclose(model.predict(X[:, 5:]), whole[:, 5:], rtol=1e-9)
    model.partial_fit(X[:, 5:7], y[:, 5:7])
    np.testing.assert_allclose(model.predict(X[:, 7:]), whole[:, 7:], rtol=1e-9)


def test_states_are_those_of_the_layers(data):
    X, y = data
    model = still(units=(5, 4)).partial_fit(X, y)
    assert [[s.shape for s in layer] for layer in model.states_] == [[(6, 5)] * 2, [(6, 4)] * 2]
    reached = model.predict(X[:, :1])
    fresh = still(units=(5, 4)).partial_fit(X, y).reset_states().predict(X[:, :1])
    assert np.abs(reached - fresh).max() > 1e-3


def test_rows_keep_to_themselves(data):
    X, y = data
    together = still().partial_fit(X[:, :5], y[:, :5]).predict(X[:, 5:])
    for i in range(3):
        alone = still().partial_fit(X[i : i + 1, :5], y[i : i + 1, :5]).predict(X[i : i + 1, 5:])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-9)


def test_predict_reads_the_state_and_never_writes_it(data):
    X, y = data
    model = make().partial_fit(X[:, :5], y[:, :5])
    before = [[s.copy() for s in layer] for layer in model.states_]
    first = model.predict(X[:, 5:])
    np.testing.assert_array_equal(model.predict(X[:, 5:]), first)
    model.score(X[:, 5:], y[:, 5:])
    for a, b in zip(model.states_, before, strict=True):
        for s, t in zip(a, b, strict=True):
            np.testing.assert_array_equal(s, t)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_stop_at_the_border_of_a_call(data, cell):
    """The second call's step is the gradient of its own loss with the carried states held constant."""
    X, y = data
    rate = 0.1
    model = make(cell, solver=SGD(rate), units=3).partial_fit(X[:, :6], y[:, :6])
    start = model.model_.params.copy()
    probe = pickle.loads(pickle.dumps(model))  # its states stay those at the border
    model.partial_fit(X[:, 6:], y[:, 6:])
    gradient = (start - model.model_.params) / rate

    def loss(params):
        probe.model_.set_weights(unflatten(params, probe.model_.get_weights()))
        return np.mean((probe.predict(X[:, 6:]) - y[:, 6:]) ** 2)

    for k in range(0, len(start), 3):
        step = np.zeros_like(start)
        step[k] = 1e-5
        numeric = (loss(start + step) - loss(start - step)) / 2e-5
        np.testing.assert_allclose(gradient[k], numeric, rtol=1e-5, atol=1e-8)


def unflatten(vector, like):
    ends = np.cumsum([w.size for w in like])
    return [part.reshape(w.shape) for part, w in zip(np.split(vector, ends[:-1]), like, strict=True)]


@pytest.mark.parametrize("cell", CELLS)
def test_reset_states_starts_from_zero(data, cell):
    X, y = data
    model = still(cell).partial_fit(X, y)
    assert model.reset_states() is model
    assert model.states_ is None
    fresh = still(cell, stateful=False).partial_fit(X, y)
    np.testing.assert_allclose(model.predict(X), fresh.predict(X), rtol=1e-9)


def test_reset_of_some_rows(data):
    X, y = data
    model = still().partial_fit(X[:, :5], y[:, :5])
    went_on = model.predict(X[:, 5:])
    model.reset_states(rows=[1, 4])
    after = model.predict(X[:, 5:])
    fresh = still(stateful=False).partial_fit(X, y).predict(X[:, 5:])
    np.testing.assert_allclose(after[[1, 4]], fresh[[1, 4]], rtol=1e-9)
    np.testing.assert_array_equal(after[[0, 2, 3, 5]], went_on[[0, 2, 3, 5]])


def test_reset_before_fit_is_harmless():
    model = make()
    assert model.reset_states() is model
    assert not hasattr(model, "states_")


def test_other_batch_size_is_an_error_until_reset(data):
    X, y = data
    model = make().partial_fit(X, y)
    before = model.model_.params.copy()
    for call in (lambda: model.partial_fit(X[:4], y[:4]), lambda: model.predict(X[:4])):
        with pytest.raises(
            ValueError, match=r"X holds 4 sequences, but with stateful=True.*had 6.*reset_states"
        ):
            call()
    np.testing.assert_array_equal(model.model_.params, before)
    model.reset_states()
    assert model.predict(X[:1, :1]).shape == (1, 1)
    model.partial_fit(X[:4], y[:4])
    assert len(model.states_[0][0]) == 4


def test_fit_holds_no_states(data):
    """Cross-validation needs this, as its parts differ in size."""
    X, y = data
    model = make(max_iter=2, tol=None, batch_size=4).fit(X, y)
    plain = make(max_iter=2, tol=None, batch_size=4, stateful=False).fit(X, y)
    assert model.states_ is None
    np.testing.assert_array_equal(model.model_.params, plain.model_.params)
    assert model.predict(X[:3]).shape == (3, 12)


def test_survives_pickling(data):
    X, y = data
    model = make(batch_size=4).partial_fit(X[:, :5], y[:, :5])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X[:, 5:]), model.predict(X[:, 5:]))
    model.partial_fit(X[:, 5:], y[:, 5:])
    again.partial_fit(X[:, 5:], y[:, 5:])
    np.testing.assert_array_equal(again.model_.params, model.model_.params)
    np.testing.assert_array_equal(again.states_[0][0], model.states_[0][0])


def test_ragged_rows_go_on_from_their_own_ends(data):
    X, y = data
    lengths = [3, 5, 1, 5, 2, 4]
    first = [x[:n] for x, n in zip(X, lengths, strict=True)]
    model = still().partial_fit(first, [t[:n] for t, n in zip(y, lengths, strict=True)])
    whole = still(stateful=False).partial_fit(X, y).predict(X)
    rest = model.predict([x[n:] for x, n in zip(X, lengths, strict=True)])
    for got, expected, n in zip(rest, whole, lengths, strict=True):
        np.testing.assert_allclose(got, expected[n:], rtol=1e-9)


def test_classifier_is_stateful_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 10, 1))
    y = (X.sum((1, 2)) > 0).astype(int)
    model = RNNClassifier(units=4, stateful=True, random_state=0, learning_rate_init=1e-300)
    model.partial_fit(X[:, :5], y, classes=[0, 1])
    whole = RNNClassifier(units=4, random_state=0, learning_rate_init=1e-300).partial_fit(
        X, y, classes=[0, 1]
    )
    np.testing.assert_allclose(model.predict_proba(X[:, 5:]), whole.predict_proba(X), rtol=1e-5)


def test_refuses_batches_that_can_not_continue():
    X, y = np.zeros((4, 3, 1)), np.zeros((4, 3))
    with pytest.raises(ValueError, match=r"stateful=True can't be used with bidirectional=True"):
        make(bidirectional=True).partial_fit(X, y)


def test_learns_a_series_piece_by_piece():
    """Rows that continue a series: the state has information that the current piece lacks."""
    t = np.arange(2001) / 4
    wave = np.sin(t)
    rows = wave[:2000].reshape(4, 500)
    after = wave[1:2001].reshape(4, 500)
    model = RNNRegressor(
        cell="gru", units=16, stateful=True, return_sequences=True, learning_rate_init=0.01, random_state=0
    )
    for _ in range(3):
        model.reset_states()
        for k in range(0, 500, 20):
            model.partial_fit(rows[:, k : k + 20, None], after[:, k : k + 20])
    assert np.mean(model.loss_curve_[-10:]) < 0.02

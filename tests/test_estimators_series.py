"""States by series: each id has its own, whichever rows of whichever call it is."""

import pickle
import sys

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastrnn
from fastrnn import RNNClassifier, RNNRegressor
from fastrnn.exceptions import NonFiniteLossError

# Weights that don't move, so that only states make a difference between calls.
STILL = {
    "units": (4, 3),
    "stateful": True,
    "dtype": "float64",
    "random_state": 0,
    "learning_rate_init": 1e-300,
}
STILL |= {"return_sequences": True, "batch_size": 3}
NAMES = np.array(["pump", "fan", "valve", "motor", "belt"])


def still(**options):
    return RNNRegressor(**{**STILL, "normalize_y": False, **options})


@pytest.fixture
def data(rng):
    X = rng.normal(size=(5, 12, 2))
    return X, X.cumsum(axis=1)[..., 0]


@pytest.fixture
def whole(data):
    """Predictions for whole series by a network without carried states."""
    X, y = data
    return still(stateful=False).partial_fit(X, y).predict(X)


def started(data, **options):
    """A network that has been made, and has seen no series yet."""
    X, y = data
    return still(**options).partial_fit(X, y).reset_states()


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_series_come_and_go_in_any_order(cell, data):
    X, y = data
    whole = still(stateful=False, cell=cell).partial_fit(X, y).predict(X)
    model, seen, rng = started(data, cell=cell), np.zeros(5, int), np.random.default_rng(3)
    for k in range(14):
        rows = rng.permutation(5)[: rng.integers(1, 6)]
        rows = rows[seen[rows] < 12]
        if not len(rows):
            continue
        n = rng.integers(1, 3)
        pieces = [X[i, seen[i] : seen[i] + n] for i in rows]
        targets = [y[i, seen[i] : seen[i] + n] for i in rows]
        expected = [whole[i, seen[i] : seen[i] + n] for i in rows]
        got = model.predict(pieces, series=NAMES[rows])
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8)
        if k % 2:
            model.predict(pieces, series=NAMES[rows], advance=True)
        else:
            model.partial_fit(pieces, targets, series=NAMES[rows])
        seen[rows] += [len(piece) for piece in pieces]
    assert (seen > 6).all()


def test_predict_changes_states_only_with_advance(data, whole):
    X, _ = data
    model = started(data)
    model.predict(X[:, :5], series=NAMES, advance=True)
    kept = pickle.dumps(model.series_states_)
    first = model.predict(X[:, 5:], series=NAMES)
    np.testing.assert_array_equal(model.predict(X[:, 5:], series=NAMES), first)
    np.testing.assert_allclose(first, whole[:, 5:], rtol=1e-8)
    model.predict(X[:, 5:])
    model.score(X[:, 5:], whole[:, 5:])
    assert pickle.dumps(model.series_states_) == kept


def test_silent_series_and_empty_pieces_are_left_alone(data, whole):
    X, y = data
    model = started(data)
    model.partial_fit(X[:, :4], y[:, :4], series=NAMES)
    model.partial_fit([X[0, 4:8], X[1, :0]], [y[0, 4:8], y[1, :0]], series=["pump", "fan"])
    got = model.predict([X[0, 8:], X[1, 4:], X[2, 4:]], series=["pump", "fan", "valve"])
    for row, (a, start) in enumerate(zip(got, (8, 4, 4), strict=True)):
        np.testing.assert_allclose(a, whole[row, start:], rtol=1e-8)


def test_rows_without_ids_have_states_of_their_own(data, whole):
    X, y = data
    model = started(data)
    model.partial_fit(X[:, :4], y[:, :4])
    model.partial_fit(X[:2, :6], y[:2, :6], series=NAMES[:2])
    np.testing.assert_allclose(model.predict(X[:, 4:]), whole[:, 4:], rtol=1e-8)
    np.testing.assert_allclose(model.predict(X[:2, 6:], series=NAMES[:2]), whole[:2, 6:], rtol=1e-8)
    model.predict(X[:, 4:8], advance=True)
    np.testing.assert_allclose(model.predict(X[:, 8:]), whole[:, 8:], rtol=1e-8)


@pytest.mark.parametrize(
    "ids", [[3, 1, 4, 15, 9], [1, "1", 2.5, "2.5", (1,)], [("a", 1), ("a", 2), "b", 4, 5.5], list("vwxyz")]
)
def test_ids_may_be_numbers_strings_and_tuples(ids, data, whole):
    X, _ = data
    model = started(data)
    model.predict(X[:, :7], series=ids, advance=True)
    assert list(model.series_states_) == ids
    np.testing.assert_allclose(model.predict(X[:, 7:], series=ids), whole[:, 7:], rtol=1e-8)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba", "predict"])
def test_classifiers_carry_states_too(method, rng):
    X = rng.normal(size=(6, 8, 1))
    y = np.array([0, 1, 2, 0, 1, 2])
    options = {"units": 4, "random_state": 0, "learning_rate_init": 1e-300, "dtype": "float64"}
    model = RNNClassifier(**options, stateful=True).partial_fit(X, y, classes=[0, 1, 2]).reset_states()
    plain = RNNClassifier(**options).partial_fit(X, y, classes=[0, 1, 2])
    model.partial_fit(X[:, :3], y, series=range(6))
    getattr(model, method)(X[::-1, 3:5], series=range(5, -1, -1), advance=True)
    np.testing.assert_allclose(
        getattr(model, method)(X[:, 5:], series=range(6)), getattr(plain, method)(X), rtol=1e-6
    )


def test_training_with_series_is_training_with_the_rows_in_order(data):
    X, y = data
    options = {"learning_rate_init": 0.01, "normalize_y": True}
    by_row, by_series = still(**options), still(**options)
    for t in (0, 4, 8):
        by_row.partial_fit(X[:, t : t + 4], y[:, t : t + 4])
        by_series.partial_fit(X[:, t : t + 4], y[:, t : t + 4], series=NAMES)
    np.testing.assert_array_equal(by_row.model_.params, by_series.model_.params)


# ---- the bound


def test_least_recently_used_series_are_forgotten(data, whole):
    X, _ = data
    model = started(data, max_series=3)
    for name in ("pump", "fan", "valve"):
        model.predict(X[:1, :4], series=[name], advance=True)
    model.predict(X[:1, :1], series=["fan"])  # looks, and changes nothing
    model.predict(X[:1, 4:5], series=["pump"], advance=True)
    model.predict(X[3:4, :4], series=["motor"], advance=True)
    assert list(model.series_states_) == ["valve", "pump", "motor"]
    np.testing.assert_allclose(model.predict(X[:1], series=["fan"]), whole[:1], rtol=1e-8)
    with pytest.raises(ValueError, match="5 rows, more than max_series=3"):
        model.predict(X, series=NAMES)


def test_memory_of_a_series_is_as_stated(data):
    X, _ = data
    model = started(data, cell="lstm", units=64, dtype="float32")
    for k in range(200):
        model.predict(X[:, :1], series=range(5 * k, 5 * k + 5), advance=True)
    one = model.series_states_[7]
    overhead = sum(sys.getsizeof(array) - array.nbytes for layer in one for array in layer)
    overhead += sys.getsizeof(one) + sum(map(sys.getsizeof, one)) + sys.getsizeof(model.series_states_) / 1000
    assert sum(array.nbytes for layer in one for array in layer) == 2 * 64 * 4
    assert overhead < 600


# ---- life


def test_states_are_pickled_and_saved_with_the_estimator(data, tmp_path):
    X, y = data
    model = started(data)
    model.partial_fit(X[:, :5], y[:, :5], series=[1, "b", 3, 4, 5])
    model.save(tmp_path / "model")
    for other in (pickle.loads(pickle.dumps(model)), fastrnn.load(tmp_path / "model")):
        again = pickle.loads(pickle.dumps(model))
        for one in (other, again):
            one.partial_fit(X[:2, 5:8], y[:2, 5:8], series=[1, "b"])
        np.testing.assert_array_equal(
            other.predict(X[:2, 8:], series=["b", 1]), again.predict(X[:2, 8:], series=["b", 1])
        )
        assert list(other.series_states_) == list(again.series_states_) == [3, 4, 5, 1, "b"]


def test_fit_and_reset_forget(data, whole):
    X, y = data
    model = started(data)
    model.predict(X[:, :5], series=NAMES, advance=True)
    assert model.reset_states(series=["fan", "unknown"]) is model
    got = model.predict(X[:2, 5:], series=NAMES[:2])
    np.testing.assert_allclose(got[0], whole[0, 5:], rtol=1e-8)
    assert np.abs(got[1] - whole[1, 5:]).max() > 1e-4
    assert "fan" not in model.series_states_
    model.reset_states()
    assert model.series_states_ == {}
    model.predict(X[:, :5], series=NAMES, advance=True)
    model.set_params(max_iter=1, tol=None).fit(X, y)
    assert model.series_states_ == {}
    assert model.states_ is None
    assert not hasattr(clone(model), "series_states_")


def test_a_call_that_fails_leaves_the_states(data):
    X, y = data
    model = started(data, learning_rate_init=1e-3)
    model.partial_fit(X[:, :5], y[:, :5], series=NAMES)
    kept = pickle.dumps(model.series_states_)
    model.set_params(learning_rate_init=1e300, clipnorm=None)
    with pytest.raises(NonFiniteLossError):
        model.partial_fit(X[:, 5:], 1e200 * y[:, 5:], series=NAMES)
    assert pickle.dumps(model.series_states_) == kept


def test_series_are_routed_as_metadata(data):
    from sklearn.pipeline import make_pipeline

    from fastrnn.preprocessing import StandardScaler3D

    X, y = data
    with sklearn.config_context(enable_metadata_routing=True):
        model = still().set_predict_request(series=True, advance=True)
        pipeline = make_pipeline(StandardScaler3D(), model)
        pipeline.fit(X, y)
        pipeline.predict(X[:, :4], series=NAMES, advance=True)
        assert list(pipeline[-1].series_states_) == NAMES.tolist()


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (NAMES[:4], "5 rows: give one id for each"),
        (["a", "b", "a", "c", "d"], "'a' twice"),
        ("pump", r"such as \['pump'\]"),
        (7, "one id for each row"),
        ([1.0, np.nan, 2, 3, 4], r"series\[1\] is nan"),
        ([None, "a", "b", "c", "d"], r"series\[0\] is None"),
        (NAMES[:, None], r"series\[0\] is array.*can't be an id"),
    ],
)
def test_ids_that_can_not_be_are_refused(series, message, data):
    X, y = data
    model = started(data)
    for call in (lambda: model.predict(X, series=series), lambda: model.partial_fit(X, y, series=series)):
        with pytest.raises(ValueError, match=message):
            call()
    assert model.series_states_ == {}


def test_states_need_stateful(data):
    X, y = data
    model = still(stateful=False)
    with pytest.raises(NotFittedError):
        model.predict(X, series=NAMES)
    for call in (
        lambda: model.partial_fit(X, y, series=NAMES),
        lambda: model.partial_fit(X, y).predict(X, series=NAMES),
        lambda: model.predict(X, advance=True),
    ):
        with pytest.raises(ValueError, match="stateful=True only"):
            call()
    with pytest.raises(ValueError, match=r"give a list of ids, \['pump'\]"):
        started(data).reset_states(series="pump")

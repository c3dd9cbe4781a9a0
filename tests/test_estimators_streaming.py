"""Streams of estimators: after each sample what predict gives for the samples so far."""

import pickle
import threading

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import fastrnn
from fastrnn import RNNClassifier, RNNRegressor, Sequential, layers
from fastrnn.engine.recurrence import guarded
from fastrnn.estimators.streaming import EstimatorStream

MADE = {"cell": "gru", "units": 5, "max_iter": 2, "tol": None, "random_state": 0, "batch_size": 7}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def data(rng):
    return rng.normal(size=(24, 6, 3)), rng.normal(size=24)


def made(kind, X, y, **options):
    options = {**MADE, **options}
    if kind == "numbers":
        return RNNRegressor(**options).fit(X, 100 * y + 5)
    if kind == "two numbers":
        return RNNRegressor(**options).fit(X, np.c_[y, 100 * y])
    labels = np.array(["a", "b", "c"])[np.digitize(y, [0.0] if kind == "two classes" else [-0.5, 0.5])]
    return RNNClassifier(**options).fit(X, labels)


KINDS = [
    ("numbers", "predict"),
    ("two numbers", "predict"),
    ("two classes", "predict"),
    ("two classes", "predict_proba"),
    ("three classes", "predict"),
    ("three classes", "predict_proba"),
]


@pytest.mark.parametrize("cell", ["gru", "lstm", "simple_rnn", "indrnn", "min_gru"])
@pytest.mark.parametrize(("kind", "method"), KINDS)
def test_each_step_gives_what_predict_gives_for_the_samples_so_far(kind, method, cell, data):
    X, y = data
    model = made(kind, X, y, cell=cell, units=(4, 3))
    for n in (1, 5):
        stream = model.stream(n, method=method)
        for t in range(6):
            now, expected = stream.step(X[:n, t]), getattr(model, method)(X[:n, : t + 1])
            assert now.dtype == expected.dtype
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(now, expected, **CLOSE)
            else:
                np.testing.assert_array_equal(now, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_for_time_steps(dtype, data):
    X, _ = data
    model = RNNRegressor(**MADE, return_sequences=True, dtype=dtype).fit(X, X[..., 0].cumsum(axis=1))
    np.testing.assert_allclose(model.stream(24).run(X), model.predict(X), **CLOSE)


def test_tokens_and_single_variables(data, rng):
    tokens = rng.integers(0, 9, (24, 6))
    model = made("three classes", tokens, data[1], vocabulary_size=9, embedding_dim=3)
    stream = model.stream(24, method="predict_proba")
    for t in range(6):
        np.testing.assert_allclose(
            stream.step(tokens[:, t]), model.predict_proba(tokens[:, : t + 1]), **CLOSE
        )
    with pytest.raises(ValueError, match="tokens from"):
        stream.step(np.full(24, 9))
    table = data[0][..., 0]
    model = made("numbers", table, data[1])
    one, all_of_them = model.stream(), model.stream(24)
    for t in range(6):
        together = all_of_them.step(table[:, t])
        single = one.step(float(table[0, t]))
    np.testing.assert_allclose(together, model.predict(table), **CLOSE)
    np.testing.assert_allclose(single, model.predict(table[:1]), **CLOSE)


@pytest.mark.parametrize("form", [list, tuple, np.asarray, lambda v: v.astype("f"), lambda v: v[None]])
def test_forms_of_a_sample(form, data):
    X, y = data
    model = made("numbers", X, y)
    stream = model.stream()
    for t in range(6):
        now = stream.step(form(X[0, t]))
    np.testing.assert_allclose(now, model.predict(X[:1]), **CLOSE)


def test_a_data_frame_is_matched_by_its_names(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    y = data[1]
    model = made("numbers", pd.DataFrame({"load": data[0][:, 0, 0]}), y)
    assert model.stream(24).step(pd.DataFrame({"load": y})).shape == (24,)
    with pytest.raises(ValueError, match="feature names"):
        model.stream(24).step(pd.DataFrame({"other": y}))


def test_answers_are_not_overwritten_by_later_steps(data):
    X, y = data
    for kind, method in KINDS:
        stream = made(kind, X, y).stream(4, method=method)
        first = stream.step(X[:4, 0])
        before = first.copy()
        stream.step(-9 * X[:4, 1])
        np.testing.assert_array_equal(first, before)


# ---- samples that are not there


def test_series_without_a_sample_are_left_as_they_are(data, rng):
    X, y = data
    model = made("three classes", X, y)
    stream = model.stream(24, method="predict_proba")
    here = rng.uniform(size=(24, 6)) < 0.6
    here[0], here[1, :3] = False, False
    for t in range(6):
        x = X[:, t].copy()
        x[~here[:, t]] = np.nan  # not read
        last = stream.step(x, where=here[:, t])
        for i in range(24):
            seen = X[i, : t + 1][here[i, : t + 1]]
            np.testing.assert_allclose(last[i], model.predict_proba([seen])[0], **CLOSE)


def test_nothing_happens_where_no_series_has_a_sample(data):
    X, y = data
    stream = made("numbers", X, y).stream(3)
    first = stream.step(X[:3, 0])
    before = stream.state
    np.testing.assert_array_equal(stream.step(X[:3, 1], where=np.zeros(3, bool)), first)
    np.testing.assert_equal(stream.state, before)
    for mask in ([1, 0, 1], [True, False]):
        with pytest.raises(ValueError, match="where="):
            stream.step(X[:3, 1], where=mask)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_and_the_state_is_left(bad, data):
    X, y = data
    stream = made("numbers", X, y).stream(3)
    stream.step(X[:3, 0])
    before, x = stream.state, X[:3, 1].copy()
    x[1, 2] = bad
    for given in (x, x.astype("f")):
        with pytest.raises(ValueError, match=r"x\[1, 2\] is .*where=mask.*missing='skip'"):
            stream.step(given)
    np.testing.assert_equal(stream.state, before)
    with pytest.raises(ValueError, match="n_steps|spoil"):
        stream.run(np.stack([X[:3, 1], x], axis=1))
    np.testing.assert_equal(stream.state, before)
    x[1, 2] = 1e39  # infinite in float32
    with pytest.raises(ValueError, match="spoil"), np.errstate(over="ignore"):
        stream.step(x)


def test_samples_that_are_not_finite_can_be_skipped(data):
    X, y = data
    model = made("numbers", X, y)
    stream = model.stream(3, missing="skip")
    gaps = X[:3].copy()
    gaps[1, 2, 0], gaps[2, :5] = np.nan, np.inf
    for t in range(6):
        last = stream.step(gaps[:, t])
    seen = [X[0], np.delete(X[1], 2, axis=0), X[2, 5:]]
    np.testing.assert_allclose(last, model.predict(seen), **CLOSE)


def test_streams_of_models_refuse_and_skip_too(rng):
    model = Sequential([layers.Input((None, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
    x = rng.normal(size=(2, 2)).astype("f")
    stream = model.stream(2)
    first = stream.step(x).copy()
    states = stream.states
    bad = x.copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"x\[0, 0\] is nan"):
        stream.step(bad)
    np.testing.assert_equal(stream.states, states)
    both = stream.step(x, where=[False, True])
    np.testing.assert_array_equal(both[0], first[0])
    assert both[1] != first[1]
    skipping = model.stream(2, missing="skip")
    assert (skipping.step(bad)[0] == 0).all()
    with pytest.raises(ValueError, match="missing='fill'"):
        model.stream(2, missing="fill")


# ---- states


def test_state_can_be_read_set_saved_and_pickled(data, tmp_path):
    X, y = data
    stream = made("numbers", X, y).stream(4)
    stream.run(X[:4, :3])
    kept = stream.state
    fastrnn.save(kept, tmp_path / "state")
    copies = [pickle.loads(pickle.dumps(stream)), made("numbers", X, y).stream(4), stream.estimator.stream(4)]
    copies[1].state = fastrnn.load(tmp_path / "state")
    copies[2].state = kept
    expected = stream.run(X[:4, 3:])
    for other in copies:
        assert isinstance(other, EstimatorStream)
        np.testing.assert_array_equal(other.run(X[:4, 3:]), expected)
    stream.state = kept
    np.testing.assert_array_equal(stream.run(X[:4, 3:]), expected)
    with pytest.raises(ValueError, match="state"):
        stream.state = {"states": kept["states"]}
    before = stream.state
    with pytest.raises(ValueError, match="output has shape"):
        stream.state = {"states": kept["states"], "output": kept["output"][:2]}
    np.testing.assert_equal(stream.state, before)


@pytest.mark.parametrize("rows", [[1, 3], np.array([False, True, False, True]), slice(1, None, 2)])
def test_reset_of_some_series(rows, data):
    X, y = data
    model = made("numbers", X, y)
    stream = model.stream(4)
    stream.run(X[:4, :3])
    assert stream.reset(rows) is stream
    last = stream.run(X[:4, 3:])[:, -1]
    expected = np.where([0, 1, 0, 1], model.predict(X[:4, 3:]), model.predict(X[:4]))
    np.testing.assert_allclose(last, expected, **CLOSE)
    stream.reset()
    np.testing.assert_allclose(stream.run(X[:4])[:, -1], model.predict(X[:4]), **CLOSE)
    with pytest.raises(ValueError, match="rows="):
        stream.reset([4])


def test_stateful_estimators_go_on_from_the_states_of_partial_fit(data):
    X, _ = data
    model = RNNRegressor(**MADE, stateful=True, return_sequences=True)
    model.partial_fit(X[:5, :3], X[:5, :3, 0])
    np.testing.assert_allclose(model.stream(5).run(X[:5, 3:]), model.predict(X[:5, 3:]), **CLOSE)
    with pytest.raises(ValueError, match="had 5"):
        model.stream(4)


@pytest.mark.parametrize(("kind", "method"), KINDS)
def test_answers_of_the_fast_path_and_of_others_are_the_same(kind, method, data):
    """A sample in the network's dtype is taken by compiled code as it is; a list, a mask and float64 take other ways."""
    X, y = data
    model = made(kind, X, y)
    x = X[:5, 0].astype("f")
    streams = [model.stream(5, method=method) for _ in range(4)]
    for _ in range(3):
        answers = [
            streams[0].step(x),
            streams[1].step(x.tolist()),
            streams[2].step(x, where=np.ones(5, bool)),
            streams[3].step(x.astype("d")),
        ]
        for other in answers[1:]:
            assert other.dtype == answers[0].dtype
            assert not np.shares_memory(other, answers[0])
            np.testing.assert_array_equal(other, answers[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_are_what_numpy_says(dtype, rng):
    for n, k in ((1, 1), (7, 1), (1, 2), (7, 2), (7, 4)):
        source = rng.random((n, k)).astype(dtype)
        source[0] = 0.5
        source[-1, -1] = np.nan
        index = np.empty(n, np.intp)
        guarded.write_answer(source, index)
        np.testing.assert_array_equal(index, source[:, 0] > 0.5 if k == 1 else source.argmax(1))
        for wanted in ("float32", "float64"):
            rows = np.empty((n, k), wanted)
            guarded.write_answer(source, rows)
            np.testing.assert_array_equal(rows, source.astype(wanted))
        if k == 1:
            flat, two = np.empty(n, "float64"), np.empty((n, 2), dtype)
            guarded.write_answer(source, flat)
            guarded.write_answer(source, two)
            np.testing.assert_array_equal(flat, source[:, 0])
            np.testing.assert_array_equal(two, np.c_[1 - source, source])


def test_states_and_answers_read_together_belong_together(data):
    """A regressor that adds its samples: its state is its answer, whatever another thread does meanwhile."""
    X, _ = data
    model = RNNRegressor(
        **{**MADE, "cell": "simple_rnn", "units": 1, "return_sequences": True, "normalize_y": False}
    )
    model.fit(X[:, :, :1], X[:, :, 0])
    weights = [np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)]
    model.model_.set_weights([w * 0.5 if i == 1 else w for i, w in enumerate(weights)])
    stream = model.stream(2)
    going = threading.Event()

    def work():
        x = np.ones((2, 1), "f")
        while not going.is_set():
            stream.step(x)
            stream.reset()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(300):
            state = stream.state
            np.testing.assert_allclose(np.nan_to_num(state["output"]), state["states"][0][0], **CLOSE)
    finally:
        going.set()
        thread.join()


def test_steps_of_two_threads_come_one_after_the_other(data):
    X, y = data
    model = made("three classes", X, y)
    stream, x = model.stream(2, method="predict_proba"), X[:2, 0].astype("f")
    found: list[np.ndarray] = []

    def work():
        for _ in range(300):
            found.append(stream.step(x))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = model.stream(2, method="predict_proba")
    expected = [alone.step(x) for _ in range(1200)]
    found.sort(key=lambda row: row.tobytes())
    expected.sort(key=lambda row: row.tobytes())
    np.testing.assert_array_equal(found, expected)


# ---- what can't be


@pytest.mark.parametrize("option", ["bidirectional", "go_backwards"])
def test_estimators_that_read_backward_are_refused(option, data):
    X, y = data
    with pytest.raises(ValueError, match=rf"{option}=True.*call predict"):
        made("numbers", X, y, **{option: True}).stream()


def test_bad_arguments_are_named(data):
    X, y = data
    model = made("numbers", X, y)
    with pytest.raises(NotFittedError):
        RNNRegressor().stream()
    for options in ({"method": "predict_proba"}, {"missing": "fill"}, {"n_series": 0}):
        with pytest.raises((ValueError, TypeError)):
            model.stream(**options)
    stream = model.stream(2)
    for x in (X[0, 0], X[:3, 0], X[:2, 0, :2], np.array([["a"] * 3] * 2)):
        with pytest.raises((ValueError, TypeError), match="x has"):
            stream.step(x)

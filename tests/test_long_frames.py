"""Sequences from long data frames of pandas and polars: order, types, errors, and scikit-learn's tools."""

import datetime
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from fastrnn import Ragged, RNNClassifier, RNNRegressor, StandardScaler3D, from_long_frame
from fastrnn.preprocessing import SequenceImputer

LENGTHS = {"p03": 3, "p01": 5, "p12": 2, "p02": 4, "p10": 3, "p07": 6}
MADE = {"units": 3, "max_iter": 3, "tol": None, "random_state": 0, "learning_rate_init": 0.02}


def columns(shuffled=True):
    rng = np.random.default_rng(0)
    ids = np.repeat(list(LENGTHS), list(LENGTHS.values()))
    hours = np.concatenate([np.arange(n) for n in LENGTHS.values()])
    order = rng.permutation(len(ids))
    if not shuffled:
        order = np.arange(len(ids))
    load, heat = rng.normal(size=(2, len(ids)))
    table = {
        "pump": ids,
        "time": np.datetime64("2024-03-30T22", "us") + hours.astype("m8[h]"),
        "load": load,
        "heat": heat.astype("f"),
        "state": np.where(load > 0, "up", "down"),
    }
    return {name: values[order] for name, values in table.items()}


@pytest.fixture(params=["pandas", "polars"])
def made(request):
    """A function that makes a data frame of columns."""
    library = pytest.importorskip(request.param, reason=f"needs {request.param}")
    return lambda table: library.DataFrame(
        {name: list(v) if v.dtype.kind == "U" else v for name, v in table.items()}
    )


@pytest.fixture
def pd():
    return pytest.importorskip("pandas", reason="needs pandas")


def expected(*names):
    """The sequences in the order of ids and hours, by a plain loop."""
    table = columns(shuffled=False)
    found = []
    for name in sorted(LENGTHS):
        rows = [i for i, pump in enumerate(table["pump"]) if pump == name]
        found.append(np.array([[table[column][i] for column in names] for i in rows]))
    return found


def same(a, b):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_long_frame_rows_become_steps_in_order_of_time(made):
    X, ids = from_long_frame(made(columns()), series="pump", time="time", channels=["heat", "load"])
    assert ids.tolist() == sorted(LENGTHS)
    same(X, expected("heat", "load"))
    assert X.columns == ("heat", "load")
    assert X.dtype == np.float64


def test_long_frame_takes_all_other_columns_and_keeps_their_dtype(made):
    table = columns()
    del table["state"]
    X, _ = from_long_frame(made(table), series="pump", time="time")
    assert X.columns == ("load", "heat")
    X, _ = from_long_frame(made(table), series="pump", time="time", channels=["heat"])
    assert X.dtype == np.float32


def test_long_frame_of_one_name_gives_values_of_steps(made):
    y, _ = from_long_frame(made(columns()), series="pump", time="time", channels="state")
    assert y.shape == (6, None)
    same(y, [steps[:, 0] for steps in expected("state")])
    assert y.dtype.kind == "U"


@pytest.mark.parametrize("kind", ["integer", "float", "date", "zone", "period"])
def test_long_frame_takes_times_of_any_kind(kind, pd):
    table = columns()
    stamps = pd.Series(table["time"])
    hours = ((table["time"] - table["time"].min()) / np.timedelta64(1, "h")).astype(int)
    table["time"] = {
        "integer": hours,
        "float": hours / 7,
        "date": [datetime.date(2024, 1, 1 + h) for h in hours],
        # The clocks go from 2 h to 3 h here, and back in the local time of another zone.
        "zone": stamps.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
        "period": stamps.dt.to_period("h"),
    }[kind]
    X, _ = from_long_frame(pd.DataFrame(table), series="pump", time="time", channels=["load"])
    same(X, expected("load"))


def test_long_frame_takes_nullable_columns_and_objects_of_numbers(pd):
    frame = pd.DataFrame({"id": [2, 1, 1], "t": [0, 1, 0], "a": [1, None, 3], "b": [1, 2, 3]}).astype(
        {"a": "Int64", "b": object, "id": "category"}
    )
    X, ids = from_long_frame(frame, series="id", time="t")
    assert ids.tolist() == [1, 2]
    same(X, [[[3, 3], [np.nan, 2]], [[1, 1]]])


def test_long_frame_missing_numbers_are_nan_for_the_imputer(made):
    table = columns()
    table["load"][5] = np.nan
    X, _ = from_long_frame(made(table), series="pump", time="time", channels=["load", "heat"])
    assert np.isnan(X.values).sum() == 1
    with pytest.raises(ValueError, match="SequenceImputer"):
        RNNRegressor().fit(X, np.zeros(6))
    assert np.isfinite(SequenceImputer().fit_transform(X).values).all()


def changed(**parts):
    table = columns()
    for name, (row, value) in parts.items():
        table[name] = table[name].astype(object) if isinstance(value, str) or value is None else table[name]
        table[name][row] = value
    return table


def doubled():
    table = columns()
    return {name: np.concatenate([values, values[4:5]]) for name, values in table.items()}


BAD = {
    "series": (columns(), {"series": "device"}, r"series: frame has no column 'device'; its columns are \['pump', 'time'"),
    "time": (columns(), {"time": "hour"}, r"time: frame has no column 'hour'"),
    "channel": (columns(), {"channels": ["load", "cold"]}, r"channels: frame has no column 'cold'"),
    "text": (columns(), {"channels": None}, r"column 'state' holds .*'(up|down)', no numbers: leave it out of channels"),
    "stamps": (columns(), {"channels": ["time"]}, r"channels contains 'time'"),
    "twice": (columns(), {"channels": ["load", "load"]}, r"contains a column twice"),
    "none": (columns(), {"channels": []}, r"channels is empty"),
    "same": (columns(), {"time": "pump"}, r"series and time are both 'pump'"),
    "doubled": (doubled(), {}, r"the series 'p\d\d' has more than one row of time = 2024-03-3.*rows 4 and 23: keep one"),
    "nat": (changed(time=(7, np.datetime64("NaT"))), {}, r"column 'time' is missing in row 7.*drop the row"),
    "id": (changed(pump=(3, None)), {}, r"column 'pump' is missing in row 3"),
    "times as text": (columns(), {"time": "state"}, r"holds text, such as '(up|down)'.*to_datetime"),
    "empty": ({name: values[:0] for name, values in columns().items()}, {}, r"frame has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_long_frame_errors_name_column_value_and_remedy(name, made):
    table, given, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        from_long_frame(made(table), **{"series": "pump", "time": "time", "channels": ["load"], **given})


def test_long_frame_refuses_what_is_no_frame_and_names_in_the_index(pd):
    for given, message in (
        ([1], "is a list"),
        (np.ones((2, 3)), "is a ndarray"),
        (pd.Series([1]), "is a Series"),
    ):
        with pytest.raises(TypeError, match=message):
            from_long_frame(given, series="a", time="b")
    frame = pd.DataFrame(columns()).set_index(["pump", "time"])
    with pytest.raises(ValueError, match=r"'pump' is a level of the index: pass frame.reset_index\(\)"):
        from_long_frame(frame, series="pump", time="time")
    frame = pd.DataFrame(columns())
    frame.columns = ["pump", "time", "load", "load", "state"]
    with pytest.raises(ValueError, match="more than one column 'load'"):
        from_long_frame(frame, series="pump", time="time", channels=["load"])
    polars = pytest.importorskip("polars", reason="needs polars")
    with pytest.raises(TypeError, match=r"LazyFrame.*call its collect\(\)"):
        from_long_frame(polars.LazyFrame({"a": [1]}), series="a", time="b")


# ---- through scikit-learn's tools


def test_long_frame_passes_through_scikit_learn_and_equals_the_list(made):
    X, _ = from_long_frame(made(columns()), series="pump", time="time", channels=["load", "heat"])
    lists, y = expected("load", "heat"), np.arange(6.0)
    model = make_pipeline(StandardScaler3D(), RNNRegressor(**MADE))
    fitted, other = clone(model).fit(X, y), clone(model).fit(lists, y)
    same(fitted.predict(X), other.predict(lists))
    for i in range(6):  # as the sequence alone
        np.testing.assert_allclose(fitted.predict(X[[i]]), other.predict([lists[i]]), rtol=1e-6)
    same(pickle.loads(pickle.dumps(fitted)).predict(pickle.loads(pickle.dumps(X))), other.predict(lists))
    same(cross_val_predict(model, X, y, cv=3), cross_val_predict(model, lists, y, cv=3))
    searches = [GridSearchCV(model, {"rnnregressor__units": [2, 3]}, cv=3).fit(x, y) for x in (X, lists)]
    same(*(search.cv_results_["mean_test_score"] for search in searches))


def test_long_frame_labels_of_steps_train_as_the_list(made):
    frame = made(columns())
    X, _ = from_long_frame(frame, series="pump", time="time", channels=["load", "heat"])
    y, _ = from_long_frame(frame, series="pump", time="time", channels="state")
    model = RNNClassifier(**MADE, return_sequences=True)
    lists = [steps[:, 0] for steps in expected("state")]
    same(
        clone(model).fit(X, y).predict_proba(X),
        clone(model).fit(expected("load", "heat"), lists).predict_proba(expected("load", "heat")),
    )


@pytest.mark.parametrize("model", [StandardScaler3D(), RNNRegressor(**MADE)], ids=["scaler", "estimator"])
def test_names_of_ragged_are_compared_with_those_of_fit(model, made):
    frame = made(columns())
    X, other = (
        from_long_frame(frame, series="pump", time="time", channels=c)[0]
        for c in (["load", "heat"], ["heat", "load"])
    )
    fitted = clone(model).fit(X, np.arange(6.0))
    assert fitted.feature_names_in_.tolist() == ["load", "heat"]
    call = fitted.predict if hasattr(fitted, "predict") else fitted.transform
    same(call(X), call(X[np.arange(6)]))
    with pytest.raises(
        ValueError, match=r"X has the features \['heat', 'load'\].*was fitted with \['load', 'heat'\]"
    ):
        call(other)
    plain = clone(model).fit(list(X), np.arange(6.0))
    call = plain.predict if hasattr(plain, "predict") else plain.transform
    with pytest.warns(UserWarning, match="was fitted without"):
        call(X)


def test_ragged_columns_stay_with_their_values():
    X = Ragged(np.ones((5, 2)), [0, 2, 2, 5], columns=["a", "b"])
    assert X[1:].columns == X.without_empty().columns == X.with_values(np.zeros((5, 2))).columns == ("a", "b")
    assert X.with_values(np.zeros((5, 3))).columns is None
    with pytest.raises(ValueError, match="columns has 1 names"):
        Ragged(np.ones((5, 2)), [0, 5], columns=["a"])


def test_long_frame_as_x_names_the_function_that_reads_it(made):
    with pytest.raises(
        (TypeError, ValueError), match=r"row for each time step of each series is read by fastrnn.from_long"
    ):
        RNNRegressor().fit(made(columns()), np.zeros(23))

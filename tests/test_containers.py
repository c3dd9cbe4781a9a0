"""Whatever is given for X, y or weights: an error names the argument, the value and what to pass instead."""

import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, StandardScaler3D
from fastrnn.sequences import as_object_array, as_sequences

X = np.random.default_rng(0).normal(size=(8, 4, 2))
Y = np.array([0, 1] * 4)


def cells(value):
    out = np.empty((8, 4), object)
    for place in np.ndindex(out.shape):
        out[place] = value
    return out


class Thing:
    pass


BAD = {
    "int": (3, r"X is 3, a single number: pass shape"),
    "float": (2.5, r"X is 2.5, a single number"),
    "bool": (True, r"X is True, a single number"),
    "array without dimensions": (np.array(3.0), r"X has 0 dimensions"),
    "text": ("abc", r"X must hold numbers.*integer tokens"),
    "matrix": (np.matrix(X[..., 0]), r"X is an np.matrix.*pass np.asarray\(X\)"),
    "set": ({1, 2}, r"X is a set, which has no order: pass a list"),
    "frozenset": (frozenset([1]), r"X is a frozenset"),
    "dict": ({"a": X[0]}, r"X is a dict: .*list\(X.values\(\)\)"),
    "generator": ((x for x in X), r"X is a generator.*pass list\(X\)"),
    "map": (map(np.asarray, X), r"X is a map.*pass list\(X\)"),
    "object": (Thing(), r"X is a Thing object"),
    "cells with arrays": (cells(np.zeros(2)), r"X\[0, 0\] is an array of shape \(2,\)"),
    "cells with lists": (cells([1, 2]), r"X\[0, 0\] is \[1, 2\], which is no number.*list of arrays"),
    "cells with text": (cells("a"), r"X\[0, 0\] is 'a', which is no number"),
    "cells with dicts": (
        cells({"a": 1}),
        r"X\[0, 0\] is {'a': 1}.*argument must be a string or a real number",
    ),
    "None in a list": ([X[0], None, *X[2:]], r"X\[1\] is None.*one sequence"),
    "dict in a list": ([X[0], {"a": 1}, *X[2:]], r"X\[1\] is a dict"),
    "set in a list": ([X[0], {1, 2}, *X[2:]], r"X\[1\] is a set"),
    "generator in a list": ([X[0], (v for v in X), *X[2:]], r"X\[1\] is a generator"),
    "text in a list": ([X[0], "abc", *X[2:]], r"X\[1\] is a str"),
    "number in a list": ([X[0], 3.0, *X[2:]], r"X\[1\] has shape \(\)"),
    "times": (np.zeros((8, 4), "M8[s]"), r"datetime64.*differences in a unit"),
    "durations": (np.zeros((8, 4), "m8[s]"), r"timedelta64.*Divide by a unit"),
    "structured": (np.zeros((8, 4), [("a", float)]), r"structured_to_unstructured"),
}


def _again(name):
    """Generators are used up by a test."""
    return {"generator": (x for x in X), "map": map(np.asarray, X)}.get(name, BAD[name][0])


@pytest.mark.parametrize("made", [RNNClassifier, RNNRegressor, StandardScaler3D])
@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_what_is_no_collection_of_sequences_is_refused_with_the_remedy(name, made):
    with pytest.raises((TypeError, ValueError), match=BAD[name][1]):
        made().fit(_again(name), Y)


VALUES = {
    "set": (lambda: {1, 2}, "is a set, which has no order: pass a list with a value for each sequence"),
    "dict": (lambda: {"a": 1}, "is a dict: pass its values as a list"),
    "generator": (lambda: (v for v in Y), r"is a generator.*pass list\("),
    "map": (lambda: map(int, Y), r"is a map.*pass list\("),
    "text": (lambda: "abc", "is 'abc', a single text"),
    "matrix": (lambda: np.matrix(Y), r"is an np.matrix.*pass np.asarray\("),
    "None in a list": (lambda: [1.0, None, *Y[2:]], r"\[1\] is None: give a value, or leave this sample out"),
    "None in an array": (lambda: np.array([1.0, 2.0, None, *Y[3:]]), r"\[2\] is None"),
}


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("made", [RNNClassifier, RNNRegressor])
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_what_holds_no_values_of_sequences_is_refused_with_the_remedy(name, made, per_step):
    make, message = VALUES[name]
    model, y = made(return_sequences=per_step), np.repeat(Y[:, None], 4, axis=1) if per_step else Y
    with pytest.raises((TypeError, ValueError), match=f"y ?{message}"):
        model.fit(X, make())
    with pytest.raises((TypeError, ValueError), match=f"sample_weight ?{message}"):
        model.fit(X, y, sample_weight=make())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (3.0, "y is 3.0, a single value: pass a list"),
        (np.array(3.0), r"y is array\(3.\), a single value"),
        ([[1.0], [1.0, 2.0]] * 4, "y holds lists of unequal lengths.*return_sequences=True"),
    ],
)
@pytest.mark.parametrize("made", [RNNClassifier, RNNRegressor])
def test_values_of_a_wrong_shape_are_refused_with_the_remedy(made, y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        made().fit(X, y)


@pytest.mark.parametrize("y", [["up", "down"] * 4, np.array(["up", "down"] * 4, object)])
def test_labels_for_a_regressor_are_refused_with_the_remedy(y):
    with pytest.raises(ValueError, match="y holds 'up', a text: RNNRegressor learns numbers. RNNClassifier"):
        RNNRegressor().fit(X, y)


def test_missing_values_of_a_column_are_refused():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    with pytest.raises(ValueError, match="Input y contains NaN"):
        RNNRegressor().fit(X, pd.Series([None, *[1.0] * 7], dtype=object))


def test_object_arrays_and_lists_of_numbers_are_read():
    np.testing.assert_array_equal(as_sequences(cells(2)), np.full((8, 4, 1), 2.0))
    np.testing.assert_array_equal(as_sequences([[1, 2], [3, 4]])[0], [[1], [2]])


# ---- data frames in a list


@pytest.fixture
def pd():
    return pytest.importorskip("pandas", reason="needs pandas")


def frames(pd, lengths=(4,) * 8, columns=("load", "heat")):
    return [pd.DataFrame(x[:n], columns=list(columns)) for x, n in zip(X, lengths, strict=True)]


@pytest.mark.parametrize("lengths", [(4,) * 8, (4, 3, 2, 4, 1, 4, 3, 2)], ids=["equal", "ragged"])
@pytest.mark.parametrize("wrap", [list, tuple, as_object_array])
def test_columns_of_data_frames_in_a_list_must_be_those_of_fit(lengths, wrap, pd):
    given = wrap(frames(pd, lengths))
    for model in (RNNClassifier(units=2, max_iter=1, tol=None).fit(given, Y), StandardScaler3D().fit(given)):
        assert model.feature_names_in_.tolist() == ["load", "heat"]
        call = model.predict if isinstance(model, RNNClassifier) else model.transform
        call(given)
        turned = wrap([frame[["heat", "load"]] for frame in given])
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            call(turned)
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- other"):
            call(wrap(frames(pd, lengths, ("load", "other"))))


def test_data_frames_of_one_list_must_agree(pd):
    given = frames(pd)
    given[2] = given[2][["heat", "load"]]
    message = (
        r"X\[2\] is a data frame with columns \['heat', 'load'\], but X\[0\] has columns \['load', 'heat'\]"
    )
    for made in (RNNClassifier, StandardScaler3D):
        with pytest.raises(ValueError, match=message):
            made().fit(given, Y)
    given[2] = X[2]
    with pytest.raises(ValueError, match=r"X\[2\] is no data frame"):
        RNNClassifier().fit(given, Y)


def test_worst_channel_of_a_list_of_data_frames_is_named_by_its_column(pd):
    given = [frame * [1, 1e5] for frame in frames(pd)]
    with pytest.warns(UserWarning, match="channel 'heat'"):
        RNNClassifier(units=2, max_iter=1, tol=None).fit(given, Y)

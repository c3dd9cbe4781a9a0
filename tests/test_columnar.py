"""Awkward arrays and pyarrow columns of lists as X, y and weights: the numbers of a list of arrays, or a clear error.

The libraries are imported by fixtures, because awkward makes the first compilation of kernels slower.
"""

import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline

from fastrnn import (
    Ragged,
    RNNClassifier,
    RNNRegressor,
    Sequential,
    StandardScaler3D,
    estimators,
    layers,
    per_step,
    set_random_seed,
    stateful_batches,
)
from fastrnn.preprocessing import SequenceImputer
from fastrnn.sequences import as_sequences, as_step_values, read_sequences

LENGTHS = [3, 1, 4, 2, 5, 2, 3, 4, 1, 5, 2, 3]
MADE = {"units": 3, "max_iter": 3, "tol": None, "random_state": 0, "learning_rate_init": 0.02}


def arrays(n_features=2, dtype="float64"):
    rng = np.random.default_rng(0)
    shape = () if n_features is None else (n_features,)
    return [rng.normal(size=(n, *shape)).astype(dtype) for n in LENGTHS]


X = arrays()
Y = np.array([x[0, 0] for x in X])
STEPS = [np.where(x[:, 0] > 0, "up", "down") for x in X]


def awkward_var(items):
    ak = pytest.importorskip("awkward", reason="needs awkward")
    return ak.Array([np.asarray(x).tolist() for x in items])


def awkward_regular(items):
    """Channels of a fixed number."""
    ak = pytest.importorskip("awkward", reason="needs awkward")
    return ak.unflatten(np.concatenate(items), [len(x) for x in items])


def awkward_items(items):
    return list(awkward_var(items))


def arrow(kind=None, wrap=lambda pa, column: column):
    def made(items):
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
        lists = [np.asarray(x).tolist() for x in items]
        return wrap(pa, pa.array(lists) if kind is None else pa.array(lists, kind(pa, np.ndim(items[0]))))

    return made


def of_lists(outer, inner):
    return lambda pa, ndim: getattr(pa, outer)(pa.float64() if ndim == 1 else pa.list_(pa.float64(), *inner))


FORMS = {
    "awkward_var": awkward_var,
    "awkward_regular": awkward_regular,
    "awkward_items": awkward_items,
    "arrow_list": arrow(),
    "arrow_fixed_inside": arrow(of_lists("list_", (2,))),
    "arrow_large": arrow(of_lists("large_list", ())),
    "arrow_view": arrow(of_lists("list_view", (2,))),
    "arrow_chunked": arrow(wrap=lambda pa, c: pa.chunked_array([c[:5], c[5:5], c[5:]])),
    "arrow_table_column": arrow(wrap=lambda pa, c: pa.table({"x": c}).column("x")),
    "arrow_slice": arrow(wrap=lambda pa, c: pa.concat_arrays([c[-2:], c, c[:3]])[2:-3]),
    "polars": lambda items: pytest.importorskip("polars", reason="needs polars").Series(
        [np.asarray(x).tolist() for x in items]
    ),
    "arrow_scalars": arrow(wrap=lambda pa, c: list(c)),
    "arrow_items": arrow(wrap=lambda pa, c: [item.values for item in c]),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.mark.parametrize("n_features", [2, None])
def test_columnar_forms_are_read_as_the_list_of_arrays(form, n_features):
    items = arrays(n_features)
    got, expected = as_sequences(form(items)), as_sequences(items)
    assert isinstance(got, Ragged)
    np.testing.assert_array_equal(got.offsets, expected.offsets)
    np.testing.assert_array_equal(got.values, expected.values)
    assert got.values.dtype == np.float64


@pytest.mark.parametrize("made", [awkward_regular, arrow(), FORMS["arrow_fixed_inside"]])
def test_columnar_sequences_without_steps_stay(made):
    items = [X[0], np.zeros((0, 2)), X[1]]
    got = as_sequences(made(items))
    np.testing.assert_array_equal(got.lengths, [3, 0, 1])
    np.testing.assert_array_equal(got.values, np.concatenate(items))


def test_columnar_keeps_dtypes_and_copies_no_numbers():
    ak = pytest.importorskip("awkward", reason="needs awkward")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    given = ak.unflatten(values, [2, 4])
    assert np.shares_memory(as_sequences(given).values, values)
    column = pa.ListArray.from_arrays([0, 2, 6], pa.FixedSizeListArray.from_arrays(values.ravel(), 2))
    assert as_sequences(column).values.dtype == np.float32
    assert np.shares_memory(as_sequences(column).values, values)
    tokens = pa.array([[1, 2], [3]])
    assert as_sequences(tokens, vocabulary_size=4).dtype.kind == "i"
    assert as_sequences(ak.Array([[1, 2], [3]]), vocabulary_size=4).shape == (2, None)


def test_awkward_array_of_one_shape_is_an_array():
    ak = pytest.importorskip("awkward", reason="needs awkward")
    assert isinstance(as_sequences(ak.Array(np.ones((4, 3, 2)))), np.ndarray)
    assert read_sequences(ak.Array(np.ones((4, 3)))).is_table


def test_arrow_table_of_numbers_stays_a_table():
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    assert read_sequences(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]})).is_table


# ---- errors

AWKWARD_BAD = {
    "sequence": ([None, [1.0]], r"X\[0\] is missing \(null\): leave the sequence out"),
    "step": ([[[1.0, 2.0]], [[3.0, 4.0], None]], r"X\[1\], step 1, is missing"),
    "number": ([[1.0], [2.0, None]], r"X\[1\], step 1, has a missing value.*SequenceImputer"),
    "feature": ([[[1.0, 2.0]], [[3.0, None]]], r"X\[1\], step 0, has a missing value"),
    "width": (
        [[[1.0, 2.0]], [[3.0, 4.0], [5.0]]],
        r"X\[1\], step 1, has 1 features, but the first step has 2",
    ),
    "text": ([["a"], ["b", "c"]], r"must hold numbers"),
    "nan": ([[1.0], [2.0, np.nan]], r"NaN at sample 1, step 1"),
    "empty": ([[], []], r"no time step|0 feature"),
    "none": ([], r"0 sample|Found X with 0|1-D"),
}


@pytest.mark.parametrize("library", ["awkward", "pyarrow"])
@pytest.mark.parametrize("name", AWKWARD_BAD)
def test_columnar_missing_and_unequal_parts_are_refused(name, library):
    module = pytest.importorskip(library, reason=f"needs {library}")
    data, message = AWKWARD_BAD[name]
    given = module.Array(data) if library == "awkward" else module.array(data)
    for made in (RNNRegressor(), StandardScaler3D()):
        if name == "empty" and isinstance(made, StandardScaler3D):
            continue
        with pytest.raises(ValueError, match=message):
            made.fit(given, np.zeros(len(data)))


def test_columnar_records_are_features_with_names():
    ak = pytest.importorskip("awkward", reason="needs awkward")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    data = [[{"load": 1.0, "heat": 2}], [], [{"load": 3.0, "heat": 4}] * 2]
    turned = [[{"heat": 2, "load": 1.0}], [], [{"heat": 4, "load": 3.0}] * 2]
    for made in (
        ak.Array,
        pa.array,
        lambda items: list(ak.Array(items)),
        lambda items: list(pa.array(items)),
    ):
        got = as_sequences(made(data))
        np.testing.assert_array_equal(got.values, [[1, 2], [3, 4], [3, 4]])
        np.testing.assert_array_equal(got.lengths, [1, 0, 2])
        scaler = StandardScaler3D().fit(made(data))
        assert scaler.feature_names_in_.tolist() == ["load", "heat"]
        with pytest.raises(ValueError, match=r"X has the features \['heat', 'load'\]"):
            scaler.transform(made(turned))
        with pytest.raises(ValueError, match=r"X\[1\], step 0, has a missing value"):
            as_sequences(made([[], [{"load": None, "heat": 4}], [{"load": 3.0, "heat": 4}]]))
    for made in (ak.Array, pa.array):
        with pytest.raises(TypeError, match="field 'a' is no number"):
            as_sequences(made([[{"a": [1.0], "b": 2.0}], []]))


def test_columnar_unions_and_tables_are_refused_with_the_remedy():
    ak = pytest.importorskip("awkward", reason="needs awkward")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    with pytest.raises(TypeError, match=r"type union"):
        as_sequences(ak.Array([[1, "a"], [2]]))
    with pytest.raises(TypeError, match=r"steps of type decimal128"):
        as_sequences(pa.array([[1]], pa.list_(pa.decimal128(3))))
    with pytest.raises(TypeError, match=r"Table, whose column 'x' holds lists.*X.column\('x'\)"):
        as_sequences(pa.table({"id": [1], "x": [[1.0]]}))


def test_imputer_reads_missing_numbers_of_columns_as_nan():
    ak = pytest.importorskip("awkward", reason="needs awkward")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    data = [[[1.0, None], [2.0, 5.0]], [[None, 7.0]]]
    expected = SequenceImputer().fit_transform([np.array([[1, np.nan], [2, 5]]), np.array([[np.nan, 7.0]])])
    for given in (ak.Array(data), pa.array(data)):
        got = SequenceImputer().fit_transform(given)
        assert isinstance(got, Ragged)
        np.testing.assert_array_equal(got.values, np.concatenate(expected))


def test_columnar_step_values_are_read_as_the_list():
    labels, lists = awkward_var(STEPS), Ragged.from_list(X)
    expected = as_step_values(STEPS, lists)
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    text = pa.array([s.tolist() for s in STEPS])
    for given in (labels, text, list(labels), pa.chunked_array([text])):
        np.testing.assert_array_equal(as_step_values(given, lists), expected)
    with pytest.raises(ValueError, match=r"y\[2\] has shape"):
        as_step_values(awkward_var([STEPS[0], STEPS[1], STEPS[0], *STEPS[3:]]), lists)
    with pytest.raises(ValueError, match=r"y\[0\], step 0, has a missing value"):
        as_step_values(pa.array([[None, "up", "up"], *(s.tolist() for s in STEPS[1:])]), lists)


# ---- through scikit-learn's tools

WHOLE = ["awkward_var", "awkward_regular", "arrow_list", "arrow_fixed_inside", "arrow_chunked", "polars"]


def same(a, b):
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", WHOLE)
def test_columnar_passes_through_scikit_learn_and_equals_the_list(name):
    given = FORMS[name](X)
    made = make_pipeline(StandardScaler3D(), RNNRegressor(**MADE))
    model, expected = clone(made).fit(given, Y), clone(made).fit(X, Y)
    same(model.predict(given), expected.predict(X))
    for i in (0, 4, 8):  # as the sequence alone
        np.testing.assert_allclose(model.predict(given[i : i + 1]), expected.predict([X[i]]), rtol=1e-6)
    same(pickle.loads(pickle.dumps(model)).predict(pickle.loads(pickle.dumps(given))), expected.predict(X))
    same(cross_val_predict(made, given, Y, cv=3), cross_val_predict(made, X, Y, cv=3))
    grid = {"rnnregressor__units": [2, 3], "standardscaler3d__with_mean": [True, False]}
    found = [GridSearchCV(made, grid, cv=3).fit(x, Y) for x in (given, X)]
    same(found[0].cv_results_["mean_test_score"], found[1].cv_results_["mean_test_score"])
    same(found[0].predict(given), found[1].predict(X))


@pytest.mark.parametrize("name", WHOLE)
def test_columnar_labels_of_steps_pass_through_scikit_learn(name):
    given = FORMS[name](X)
    labels = FORMS["arrow_list" if name.startswith("arrow") else "awkward_var"](STEPS)
    made = RNNClassifier(**MADE, return_sequences=True)
    weights = FORMS["arrow_list" if name.startswith("arrow") else "awkward_var"](
        [np.arange(1.0, len(x) + 1) for x in X]
    )
    expected = clone(made).fit(X, STEPS, sample_weight=[np.arange(1.0, len(x) + 1) for x in X])
    model = clone(made).fit(given, labels, sample_weight=weights)
    same(model.predict(given), expected.predict(X))
    same(model.predict_proba(given), expected.predict_proba(X))
    assert model.score(given, labels) == expected.score(X, STEPS)
    cv = KFold(3)
    scores = [
        cross_val_score(made, x, y, cv=cv, scoring=per_step("roc_auc"))
        for x, y in ((given, labels), (X, STEPS))
    ]
    same(*scores)
    same(
        estimators.cross_val_predict(made, given, labels, cv=cv, method="predict_proba"),
        estimators.cross_val_predict(made, X, STEPS, cv=cv, method="predict_proba"),
    )


@pytest.mark.parametrize("name", WHOLE)
def test_columnar_transformers_give_ragged_and_invert_it(name):
    scaler = StandardScaler3D().fit(FORMS[name](X))
    got = scaler.transform(FORMS[name](X))
    assert isinstance(got, Ragged)
    same(got, scaler.transform(X))
    same(scaler.inverse_transform(FORMS[name](list(got))), scaler.inverse_transform(list(got)))


@pytest.mark.parametrize("name", WHOLE)
def test_columnar_data_of_models_equal_ragged(name):
    given, ragged = FORMS[name](X), Ragged.from_list(X)
    models = []
    for x in (given, ragged):
        set_random_seed(0)
        model = Sequential([layers.GRU(3), layers.Dense(1)])
        model.compile("adam", "mse")
        history = model.fit(x, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
        models.append((history.history["loss"], model.predict(x), model.evaluate(x, Y, verbose=0)))
    for one, other in zip(*models, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", WHOLE)
def test_columnar_series_are_cut_into_stateful_batches_as_the_list(name):
    options = {"n_steps": 2, "batch_size": 3}
    for one, other in zip(
        stateful_batches(FORMS[name](X), FORMS[name](X), **options),
        stateful_batches(X, X, **options),
        strict=True,
    ):
        for left, right in zip(one, other, strict=True):
            same(list(left), list(right))


def test_layers_say_that_an_awkward_array_has_unequal_lengths():
    with pytest.raises(ValueError, match="sequences of unequal shapes.*Ragged.from_list"):
        Sequential([layers.GRU(3)])(awkward_var(X))


def test_ragged_labels_of_steps_pass_an_integer_cv():
    made = RNNClassifier(**MADE, return_sequences=True)
    scores = [
        cross_val_score(made, Ragged.from_list(X), y, cv=3, scoring=per_step("accuracy"))
        for y in (Ragged.from_list(STEPS), STEPS)
    ]
    same(*scores)


def test_ragged_is_an_object_array_of_its_sequences():
    array = np.asarray(Ragged.from_list([X[0], X[6]]))
    assert array.shape == (2,)
    same(array, [X[0], X[6]])
    with pytest.raises(ValueError, match="use their `values`"):
        np.asarray(Ragged.from_list(X), dtype=np.float64)


def test_columnar_libraries_are_not_imported():
    code = (
        "import sys, numpy as np\nfrom fastrnn.sequences import as_sequences\n"
        "as_sequences([np.ones((2, 1)), np.ones((3, 1))])\n"
        "assert not {'awkward', 'pyarrow', 'pandas', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("library", ["awkward", "pyarrow", "polars", "pandas", "scipy.sparse"])
def test_library_that_another_thread_is_importing_is_no_error(library, monkeypatch):
    """It is in `sys.modules` already, without its classes: Numba imports awkward when it compiles."""
    monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    X = [np.zeros((3, 2)), np.zeros((1, 2))]
    assert as_sequences(X).lengths.tolist() == [3, 1]
    assert len(as_sequences(np.zeros((2, 3, 1)))) == 2

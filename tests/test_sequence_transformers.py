"""The transformers of sequences against loops over single sequences, in every form of X."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrnn
from fastrnn import Ragged, RNNClassifier
from fastrnn.preprocessing import (
    CalendarFeatures,
    LagFeatures,
    RobustScaler3D,
    SequenceDifferencer,
    SequenceImputer,
    SequencePadder,
    SequenceResampler,
    StandardScaler3D,
)
from fastrnn.sequences import as_object_array

DEFAULTS = [
    CalendarFeatures(),
    LagFeatures(),
    RobustScaler3D(),
    SequenceDifferencer(),
    SequenceImputer(),
    SequencePadder(),
    SequenceResampler(),
    StandardScaler3D(),
]
#: All ways to transform; those that make padded arrays of lists are in the tests of padding.
TRANSFORMERS = [
    StandardScaler3D(),
    RobustScaler3D(quantile_range=(10, 90), unit_variance=True),
    *(SequenceImputer(strategy=s) for s in ("linear", "previous", "mean", "median", "constant")),
    SequenceImputer(add_indicator=True),
    SequenceResampler(n_timesteps=4),
    *(SequenceResampler(rate=r, method=m) for r in (0.4, 1.7) for m in ("linear", "previous", "mean")),
    *(SequenceDifferencer(lag=lag, first=f) for lag in (1, 3) for f in ("zero", "keep", "drop")),
    *(LagFeatures(lags=(0, 2, 1), first=f) for f in ("repeat", "zero", "drop")),
    CalendarFeatures(time=1, cycles=("hour", "day", "week", "month", "year")),
    CalendarFeatures(time=0, cycles=("week",), encoding="circle"),
]
CHANGED = {"_missing": SequenceImputer, "_lag": LagFeatures}
ids = [str(t).replace(" ", "").replace("\n", "") for t in TRANSFORMERS]
every = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=ids)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal([3, -2], [2, 10], size=(length, 2)) for length in (5, 1, 3, 8, 2)]


def padded(arrays, pre=False, width=None):
    X = np.full((len(arrays), width or max(map(len, arrays)), arrays[0].shape[1]), np.nan)
    for row, a in zip(X, arrays, strict=True):
        row[len(row) - len(a) :] = a if pre else row[len(row) - len(a) :]
        if not pre:
            row[: len(a)] = a
    return X


def real(row):
    return row[~np.isnan(row).all(axis=-1)]


@parametrize_with_checks(DEFAULTS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# ---- forms of X


@every
def test_results_are_those_of_each_sequence_alone(transformer, arrays):
    fitted = clone(transformer).fit(arrays)
    together = fitted.transform(arrays)
    for a, got in zip(arrays, together, strict=True):
        alone = fitted.transform([a])[0]
        np.testing.assert_array_equal(got, alone)
        if len(alone):
            np.testing.assert_array_equal(fitted.transform(a[None])[0], alone)


@every
@pytest.mark.parametrize("pre", [False, True])
def test_forms_of_sequences_agree(transformer, arrays, pre):
    fitted = clone(transformer).fit(arrays)
    expected = fitted.transform(arrays)
    assert isinstance(expected, list)
    from_objects = fitted.transform(as_object_array(arrays))
    assert from_objects.dtype == object
    from_ragged = fitted.transform(Ragged.from_list(arrays))
    assert isinstance(from_ragged, Ragged)
    from_padded = fitted.transform(padded(arrays, pre))
    assert from_padded.ndim == 3
    for i, wanted in enumerate(expected):
        np.testing.assert_array_equal(from_objects[i], wanted)
        np.testing.assert_array_equal(from_ragged[i], wanted)
        np.testing.assert_array_equal(real(from_padded[i]), wanted)
        blank = np.isnan(from_padded[i]).all(axis=1)
        if pre and len(wanted):  # padding stays on its side
            assert not blank[len(blank) - len(wanted) :].any()


@every
def test_dense_arrays_stay_dense_and_keep_their_dtype(transformer, rng):
    X = rng.normal(size=(4, 7, 2))
    for dtype in (np.float32, np.float64):
        out = clone(transformer).fit_transform(X.astype(dtype))
        assert out.dtype == dtype
        assert out.ndim == 3
        assert not np.isnan(out).any()
    np.testing.assert_array_equal(
        clone(transformer).fit_transform(np.rint(X * 9).astype(int)),
        clone(transformer).fit_transform(np.rint(X * 9)),
    )


@every
def test_input_is_left_as_it_was(transformer, arrays):
    before = copy.deepcopy(arrays)
    clone(transformer).fit_transform(arrays)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@every
def test_pickles_clones_and_files_transform_alike(transformer, arrays, tmp_path):
    fitted = clone(transformer).fit(arrays)
    assert clone(fitted).get_params() == transformer.get_params()
    fastrnn.save(make_pipeline(fitted), tmp_path / "transformer")
    for again in (pickle.loads(pickle.dumps(fitted)), fastrnn.load(tmp_path / "transformer")):
        for a, b in zip(again.transform(arrays), fitted.transform(arrays), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(NotFittedError):
        clone(fitted).transform(arrays)


@every
def test_empty_sequences_stay_empty(transformer, arrays):
    out = clone(transformer).fit(arrays).transform([arrays[0], np.zeros((0, 2))])
    assert len(out[1]) == 0
    assert out[1].shape[1] == out[0].shape[1]


@every
def test_features_are_counted_and_named(transformer, arrays):
    fitted = clone(transformer).fit(arrays)
    names = fitted.get_feature_names_out()
    assert len(names) == fitted.transform(arrays)[0].shape[1]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 2"):
        fitted.transform([np.zeros((4, 3))])


def test_names_say_what_features_are(arrays):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frames = [pd.DataFrame(a, columns=["load", "heat"]) for a in arrays]

    def names(transformer):
        return transformer.fit(frames).get_feature_names_out().tolist()

    assert names(StandardScaler3D()) == ["load", "heat"]
    assert names(LagFeatures(lags=(0, 7))) == ["load", "heat", "load_lag7", "heat_lag7"]
    assert names(SequenceImputer(add_indicator=True)) == ["load", "heat", "load_missing", "heat_missing"]
    assert names(CalendarFeatures(time="heat", cycles=("day",))) == ["load", "heat_day"]
    assert names(CalendarFeatures(encoding="circle")) == ["heat", "load_day_sin", "load_day_cos"]
    with pytest.raises(ValueError, match="feature names should match"):
        StandardScaler3D().fit(frames).transform([frame[["heat", "load"]] for frame in frames])


def test_tables_stay_tables_and_name_their_columns(rng):
    X = rng.normal(size=(5, 6))
    for transformer in DEFAULTS:
        fitted = clone(transformer).fit(X)
        assert fitted.transform(X).shape == X.shape
        assert len(fitted.get_feature_names_out()) == 6
    shorter = SequenceDifferencer(first="drop").fit(X)
    np.testing.assert_array_equal(shorter.transform(X), np.diff(X))
    assert shorter.get_feature_names_out().tolist() == ["step0", "step1", "step2", "step3", "step4"]
    assert LagFeatures(lags=(0, 1)).fit_transform(X).shape == (5, 6, 2)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_data_frames_where_there_can_be_some(library, arrays):
    pytest.importorskip(library, reason=f"needs {library}")
    lags = LagFeatures(lags=(0, 1)).set_output(transform=library).fit(arrays)
    frames = lags.transform(arrays)
    for frame, a in zip(frames, arrays, strict=True):
        assert list(frame.columns) == ["x0", "x1", "x0_lag1", "x1_lag1"]
        np.testing.assert_array_equal(frame.to_numpy()[:, :2], a)
    scaled = make_pipeline(lags, StandardScaler3D()).set_output(transform=library).fit_transform(arrays)
    assert list(scaled[0].columns) == ["x0", "x1", "x0_lag1", "x1_lag1"]
    table = StandardScaler3D().set_output(transform=library).fit_transform(np.eye(3))
    assert list(table.columns) == ["x0", "x1", "x2"]
    with pytest.raises(
        ValueError, match=r"has 3 dimensions, which a data frame does not have\. Pass X as a list"
    ):
        lags.transform(padded(arrays))


def test_set_output_keeps_the_index_of_pandas():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0]}, index=[7, 8, 9])
    kept = SequenceDifferencer().set_output(transform="pandas").fit_transform([frame])[0]
    assert kept.index.tolist() == [7, 8, 9]
    assert kept["a"].tolist() == [0, 1, 2]
    shorter = SequenceDifferencer(first="drop").set_output(transform="pandas").fit_transform([frame])[0]
    assert shorter["a"].tolist() == [1, 2]


# ---- what each computes


def test_robust_scaler_is_that_of_scikit_learn_on_stacked_steps(arrays):
    options = {"quantile_range": (20.0, 70.0), "unit_variance": True}
    ours = RobustScaler3D(**options).fit(arrays)
    theirs = RobustScaler(**options).fit(np.concatenate(arrays))
    np.testing.assert_array_equal(ours.center_, theirs.center_)
    np.testing.assert_array_equal(
        np.concatenate(ours.transform(arrays)), theirs.transform(np.concatenate(arrays))
    )
    for back, a in zip(ours.inverse_transform(ours.transform(arrays)), arrays, strict=True):
        np.testing.assert_allclose(back, a)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(padded(arrays))), padded(arrays))


@pytest.mark.parametrize("padding", ["post", "pre"])
@pytest.mark.parametrize("truncating", ["post", "pre"])
@pytest.mark.parametrize("value", [np.nan, 0.0, -1.5])
def test_padder_pads_and_truncates_as_a_loop_does(arrays, padding, truncating, value):
    padder = SequencePadder(n_timesteps=3, padding=padding, truncating=truncating, value=value)
    expected = np.full((5, 3, 2), value)
    for row, a in zip(expected, arrays, strict=True):
        kept = a[:3] if truncating == "post" else a[-3:]
        row[slice(len(kept)) if padding == "post" else slice(3 - len(kept), 3)] = kept
    for X in (
        arrays,
        as_object_array(arrays),
        Ragged.from_list(arrays),
        padded(arrays),
        padded(arrays, True),
    ):
        np.testing.assert_array_equal(clone(padder).fit_transform(X), expected)
    assert SequencePadder().fit(arrays).n_timesteps_ == 8


def test_padder_takes_padding_off_again(arrays):
    padder = SequencePadder(padding="pre").fit(arrays)
    for back, a in zip(padder.inverse_transform(padder.transform(arrays)), arrays, strict=True):
        np.testing.assert_array_equal(back, a)
    with pytest.raises(ValueError, match=r"value=0\.0: padding by a number can't be told from data"):
        SequencePadder(value=0.0).fit(arrays).inverse_transform(padded(arrays))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20])
def test_resampler_interpolates_as_numpy_does(arrays, n):
    linear = SequenceResampler(n_timesteps=n).fit_transform(arrays)
    previous = SequenceResampler(n_timesteps=n, method="previous").fit_transform(arrays)
    mean = SequenceResampler(n_timesteps=n, method="mean").fit_transform(arrays)
    for i, a in enumerate(arrays):
        at = np.linspace(0, len(a) - 1, n) if n > 1 else np.array([(len(a) - 1) / 2])
        wanted = np.stack([np.interp(at, np.arange(len(a)), column) for column in a.T], axis=1)
        np.testing.assert_allclose(linear[i], wanted)
        np.testing.assert_array_equal(previous[i], a[np.floor(at + 1e-9).astype(int)])
        edges = np.arange(n + 1) * len(a) // n
        pieces = [a[b : max(e, b + 1)] for b, e in pairwise(edges)]
        np.testing.assert_allclose(mean[i], [piece.mean(axis=0) for piece in pieces])


def test_resampler_changes_the_rate():
    X = [np.arange(10.0), np.arange(3.0), np.arange(1.0)]
    halved = SequenceResampler(rate=0.5, method="mean").fit_transform(X)
    assert [len(x) for x in halved] == [5, 2, 1]
    np.testing.assert_allclose(halved[0], [0.5, 2.5, 4.5, 6.5, 8.5])
    assert SequenceResampler(rate=2.0).fit_transform(np.zeros((2, 6, 3))).shape == (2, 12, 3)


def test_imputer_fills_as_pandas_does(rng):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    arrays = [rng.normal(size=(n, 2)) for n in (12, 1, 30, 5)]
    for a in arrays:
        a[rng.random(a.shape) < 0.4] = np.nan
    arrays[1][:] = np.nan
    arrays[3][:, 0] = np.nan
    stacked = np.concatenate(arrays)
    mean = SimpleImputer().fit(stacked).statistics_
    linear, previous = (
        SequenceImputer(strategy=s).fit(arrays).transform(arrays) for s in ("linear", "previous")
    )
    for i, a in enumerate(arrays):
        frame = pd.DataFrame(a)
        wanted = frame.interpolate("linear", limit_direction="both").fillna(dict(enumerate(mean)))
        np.testing.assert_allclose(linear[i], wanted)
        np.testing.assert_allclose(previous[i], frame.ffill().fillna(dict(enumerate(mean))))
    for strategy in ("mean", "median"):
        np.testing.assert_allclose(
            np.concatenate(SequenceImputer(strategy=strategy).fit_transform(arrays)),
            SimpleImputer(strategy=strategy).fit_transform(stacked),
        )
    filled = np.concatenate(SequenceImputer(strategy="constant", fill_value=9.0).fit_transform(arrays))
    np.testing.assert_array_equal(filled, np.where(np.isnan(stacked), 9, stacked))


def test_imputer_flags_and_takes_back(rng):
    X = rng.normal(size=(3, 6, 2))
    X[0, 2] = X[1, 0, 1] = np.nan
    X[2, 4:] = np.nan  # padding
    imputer = SequenceImputer(add_indicator=True).fit(X)
    out = imputer.transform(X)
    inside = np.isnan(X)
    inside[2, 4:] = False
    assert np.isnan(out[2, 4:]).all()
    np.testing.assert_array_equal(out[..., 2:] == 1, inside)
    np.testing.assert_array_equal(imputer.inverse_transform(out), X)
    with pytest.raises(ValueError, match="add_indicator=False: filled values can't be told"):
        SequenceImputer().fit(X).inverse_transform(X)
    with pytest.raises(ValueError, match="X has 2 features in a step, but what SequenceImputer gave has 4"):
        imputer.inverse_transform(np.zeros((1, 3, 2)))
    with pytest.raises(ValueError, match="inf"):
        imputer.transform(np.full((1, 2, 2), np.inf))


def test_previous_fills_without_later_steps(rng):
    x = rng.normal(size=(20, 2))
    x[rng.random(x.shape) < 0.5] = np.nan
    imputer = SequenceImputer(strategy="previous").fit([x])
    whole = imputer.transform([x])[0]
    for n in range(1, 20):
        np.testing.assert_array_equal(imputer.transform([x[:n]])[0], whole[:n])


def test_differences_and_sums(arrays):
    keep = SequenceDifferencer(lag=2, first="keep").fit(arrays)
    for got, a in zip(keep.transform(arrays), arrays, strict=True):
        np.testing.assert_array_equal(got[:2], a[:2])
        np.testing.assert_array_equal(got[2:], a[2:] - a[:-2])
    for back, a in zip(keep.inverse_transform(keep.transform(arrays)), arrays, strict=True):
        np.testing.assert_allclose(back, a)
    X = padded(arrays, pre=True)
    np.testing.assert_allclose(keep.inverse_transform(keep.transform(X)), X)
    with pytest.raises(ValueError, match=r"first='zero': sums need the first values .* Set first='keep'"):
        SequenceDifferencer().fit(arrays).inverse_transform(arrays)


@pytest.mark.parametrize("first", ["repeat", "zero", "drop"])
def test_lags_are_those_of_a_loop(arrays, first):
    out = LagFeatures(lags=(0, 2), first=first).fit_transform(arrays)
    for got, a in zip(out, arrays, strict=True):
        rows = []
        for t in range(len(a)):
            if t < 2 and first == "drop":
                continue
            earlier = a[t - 2] if t >= 2 else a[0] if first == "repeat" else 0 * a[0]
            rows.append(np.concatenate([a[t], earlier]))
        np.testing.assert_array_equal(got, np.array(rows).reshape(-1, 4))


def test_calendar_is_that_of_pandas():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    stamps = pd.date_range("1968-02-28 01:30", periods=900, freq="61h")
    frame = pd.DataFrame({"load": np.arange(900.0), "time": stamps})
    cycles = ("hour", "day", "week", "month", "year")
    calendar = CalendarFeatures(time="time", cycles=cycles).fit([frame])
    got = calendar.transform([frame])[0]
    day = (stamps - stamps.normalize()) / pd.Timedelta("1D")
    np.testing.assert_array_equal(got[:, 0], frame["load"])
    np.testing.assert_allclose(got[:, 1], stamps.minute / 60)
    np.testing.assert_allclose(got[:, 2], day)
    np.testing.assert_allclose(got[:, 3], (stamps.day_of_week + day) / 7)
    np.testing.assert_allclose(got[:, 4], (stamps.day - 1 + day) / stamps.days_in_month)
    np.testing.assert_allclose(got[:, 5], (stamps.day_of_year - 1 + day) / (365 + stamps.is_leap_year))
    circle = CalendarFeatures(time=1, cycles=("week",), encoding="circle").fit_transform([frame])[0]
    np.testing.assert_allclose(
        np.arctan2(circle[:, 1], circle[:, 2]) / (2 * np.pi) % 1, got[:, 3], atol=1e-12
    )
    local = frame.assign(time=stamps.tz_localize("UTC").tz_convert("Asia/Tokyo"))
    there = calendar.transform([local])[0]
    np.testing.assert_allclose(there[:, 2], (got[:, 2] + 9 / 24) % 1)


def test_calendar_takes_times_of_numpy_and_polars():
    seconds = np.array([[0.0, 21600.0], [43200.0, 64800.0]])
    stamps = seconds.astype("datetime64[s]")
    expected = CalendarFeatures().fit_transform(seconds)
    np.testing.assert_allclose(expected, [[0, 0.25], [0.5, 0.75]])
    np.testing.assert_array_equal(CalendarFeatures().fit_transform(stamps), expected)
    np.testing.assert_array_equal(CalendarFeatures().fit_transform(list(stamps)), expected)
    pl = pytest.importorskip("polars", reason="needs polars")
    frames = [pl.DataFrame({"t": row.astype("datetime64[us]")}) for row in stamps]
    got = CalendarFeatures(time="t").fit_transform(frames)
    np.testing.assert_array_equal(np.stack(got)[:, :, 0], expected)


# ---- arguments and messages


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (RobustScaler3D(with_centering="no"), "with_centering='no'"),
        (RobustScaler3D(quantile_range=(75, 25)), r"quantile_range=\(75, 25\): give the lower"),
        (RobustScaler3D(quantile_range=50), "quantile_range=50: give"),
        (SequencePadder(n_timesteps=0), "n_timesteps=0"),
        (SequencePadder(padding="left"), "padding='left': give 'post' or 'pre'"),
        (SequencePadder(truncating="left"), "truncating='left'"),
        (SequencePadder(value="0"), "value='0'"),
        (SequenceResampler(rate=0), "rate=0"),
        (SequenceResampler(n_timesteps=1.5), r"n_timesteps=1\.5"),
        (SequenceResampler(method="cubic"), "method='cubic'"),
        (SequenceImputer(strategy="knn"), "strategy='knn'"),
        (SequenceImputer(fill_value=None), "fill_value=None"),
        (SequenceDifferencer(lag=0), "lag=0"),
        (SequenceDifferencer(first="nan"), "first='nan'"),
        (LagFeatures(lags=()), r"lags=\(\)"),
        (LagFeatures(lags=(1, -1)), "-1 is no number of earlier steps"),
        (LagFeatures(lags=(1, 1)), "give each lag once"),
        (CalendarFeatures(time=5), "time=5: X has 2 features"),
        (CalendarFeatures(time="when"), "time='when': X has no column names"),
        (CalendarFeatures(cycles=("day", "moon")), "cycles='moon'"),
        (CalendarFeatures(cycles="day"), "cycles='day': give a tuple"),
        (CalendarFeatures(encoding="onehot"), "encoding='onehot'"),
    ],
)
def test_bad_arguments_are_named_and_leave_the_object_as_it_was(transformer, message, arrays):
    before = pickle.dumps(transformer)
    with pytest.raises((TypeError, ValueError), match=message):
        transformer.fit(arrays)
    assert pickle.dumps(transformer) == before


def test_times_that_can_not_be_read_are_refused():
    with pytest.raises(ValueError, match=r"in float32, which holds seconds up to 2\*\*24"):
        CalendarFeatures().fit(np.full((1, 2, 1), 1.7e9, np.float32))
    with pytest.raises(ValueError, match="no year of the calendar"):
        CalendarFeatures().fit(np.full((1, 2, 1), 1e15))
    with pytest.raises(ValueError, match="NaT, a time that is missing"):
        CalendarFeatures().fit(np.array([["NaT", "2024-01-01"]], "datetime64[s]"))


def test_a_failed_fit_leaves_a_fitted_transformer_as_it_was(arrays):
    for transformer in TRANSFORMERS:
        fitted = clone(transformer).fit(arrays)
        before = pickle.dumps(fitted)
        for bad in ([], [np.zeros((2, 3)), np.zeros((2, 4))], np.full((2, 2, 2), np.inf)):
            with pytest.raises(ValueError):
                fitted.fit(bad)
            assert pickle.dumps(fitted) == before


# ---- among other estimators


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 99), st.sampled_from(TRANSFORMERS))
def test_any_lengths_give_what_each_sequence_gives_alone(lengths, seed, transformer):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, 2)) for n in lengths]
    if transformer._takes_missing:
        for a in arrays:
            a[rng.random(a.shape) < 0.3] = np.nan
    fitted = clone(transformer).fit([*arrays, np.ones((3, 2))])
    for a, got in zip(arrays, fitted.transform(arrays), strict=True):
        np.testing.assert_array_equal(got, fitted.transform([a])[0])


@pytest.mark.parametrize("form", ["list", "objects", "padded", "frames"])
def test_pipelines_and_searches_take_every_form(form, rng):
    arrays = [rng.normal(size=(n, 2)) for n in rng.integers(3, 8, 40)]
    y = np.array([a[-1, 0] > 0 for a in arrays])
    X = arrays
    if form == "objects":
        X = as_object_array(arrays)
    elif form == "padded":
        X = padded(arrays, width=8)
    elif form == "frames":
        pd = pytest.importorskip("pandas", reason="needs pandas")
        X = [pd.DataFrame(a, columns=["a", "b"]) for a in arrays]
    network = RNNClassifier(cell="gru", units=4, max_iter=2, tol=None, random_state=0)
    steps = (
        SequenceImputer(add_indicator=True),
        LagFeatures(lags=(0, 1)),
        RobustScaler3D(),
        SequencePadder(),
    )
    pipeline = make_pipeline(*steps, network)
    search = GridSearchCV(pipeline, {"lagfeatures__lags": [(0,), (0, 2)]}, cv=2, error_score="raise").fit(
        X, y
    )
    alone = GridSearchCV(pipeline, {"lagfeatures__lags": [(0,), (0, 2)]}, cv=2).fit(arrays, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert clone(search).fit(X, y).best_params_ == search.best_params_
    np.testing.assert_array_equal(search.predict(X), pickle.loads(pickle.dumps(search)).predict(X))

"""StandardScaler3D against the same arithmetic on flattened steps."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastrnn.preprocessing import StandardScaler3D
from fastrnn.sequences import Ragged, as_object_array


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal([1, -2, 1e3], [2, 0.1, 1], size=(length, 3)) for length in (3, 1, 4, 9)]


@parametrize_with_checks([StandardScaler3D()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_scales_over_samples_and_time():
    X = np.random.default_rng(0).normal([1, 5], [2, 3], size=(6, 4, 2))
    reference = StandardScaler().fit(X.reshape(-1, 2))
    scaler = StandardScaler3D().fit(X)
    np.testing.assert_allclose(scaler.mean_, reference.mean_)
    np.testing.assert_allclose(scaler.var_, reference.var_)
    np.testing.assert_allclose(scaler.transform(X).reshape(-1, 2), reference.transform(X.reshape(-1, 2)))
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)


@pytest.mark.parametrize("wrap", [list, as_object_array, Ragged.from_list])
def test_collections_keep_their_form(arrays, wrap):
    X = wrap(arrays)
    out = StandardScaler3D().fit_transform(X)
    assert type(out) is type(X)
    reference = StandardScaler().fit_transform(np.concatenate(arrays))
    np.testing.assert_allclose(np.concatenate(list(out)), reference)
    assert [a.shape for a in out] == [a.shape for a in arrays]


def test_one_dimensional_sequences_stay_one_dimensional():
    out = StandardScaler3D().fit_transform([np.array([1.0, 2.0]), np.array([3.0])])
    assert [a.shape for a in out] == [(2,), (1,)]
    np.testing.assert_allclose(np.concatenate(out), [-np.sqrt(1.5), 0, np.sqrt(1.5)])


def test_padding_stays_and_does_not_count(arrays):
    X = np.full((4, 9, 3), np.nan)
    for row, a in zip(X, arrays, strict=True):
        row[9 - len(a) :] = a
    scaler = StandardScaler3D().fit(X)
    np.testing.assert_allclose(scaler.mean_, np.concatenate(arrays).mean(axis=0))
    out = scaler.transform(X)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(X))
    np.testing.assert_allclose(np.concatenate(scaler.transform(arrays)), out[~np.isnan(X[..., 0])])


def test_partial_fit_matches_fit(arrays):
    whole = StandardScaler3D().fit(arrays)
    parts = StandardScaler3D()
    for a in arrays:
        parts.partial_fit([a])
    assert parts.n_steps_seen_ == whole.n_steps_seen_ == 17
    np.testing.assert_allclose(parts.mean_, whole.mean_)
    np.testing.assert_allclose(parts.var_, whole.var_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_dtype(dtype):
    X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(dtype)
    assert StandardScaler3D().fit_transform(X).dtype == dtype


def test_constant_feature_is_only_shifted():
    X = np.full((3, 4, 1), 1e6 + 0.1)
    np.testing.assert_allclose(StandardScaler3D().fit_transform(X), 0, atol=1e-6)


def test_options():
    X = np.random.default_rng(0).normal(3, 2, size=(5, 4, 2))
    np.testing.assert_allclose(StandardScaler3D(with_std=False).fit_transform(X), X - X.mean((0, 1)))
    np.testing.assert_allclose(StandardScaler3D(with_mean=False).fit_transform(X), X / X.std((0, 1)))


def test_table_is_one_variable():
    X = np.random.default_rng(0).normal(size=(5, 4))
    scaler = StandardScaler3D().fit(X)
    assert scaler.mean_.shape == (1,)
    assert scaler.transform(X).shape == X.shape
    np.testing.assert_allclose(scaler.transform(X), (X - X.mean()) / X.std())
    assert scaler.transform(np.zeros((2, 9, 1))).shape == (2, 9, 1)


def test_refuses_other_features():
    scaler = StandardScaler3D().fit(np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="X has 3 features, but StandardScaler3D is expecting 2"):
        scaler.transform(np.zeros((3, 4, 3)))
    with pytest.raises(NotFittedError):
        clone(scaler).transform(np.zeros((3, 4, 2)))


def test_survives_pickling(arrays):
    scaler = StandardScaler3D().fit(arrays)
    again = pickle.loads(pickle.dumps(scaler))
    again.partial_fit(arrays[:1])
    assert again.n_steps_seen_ == 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_computes_what_the_scaler_of_scikit_learn_computes(dtype):
    X = np.random.default_rng(0).normal([1, -2, 1e3], [2, 0.1, 1], size=(40, 50, 3)).astype(dtype)
    steps = X.reshape(-1, 3)
    ours, theirs = StandardScaler3D().fit(X), StandardScaler().fit(steps)
    np.testing.assert_array_equal(ours.scale_, theirs.scale_)
    np.testing.assert_array_equal(ours.transform(X).reshape(-1, 3), theirs.transform(steps))
    back = ours.inverse_transform(ours.transform(X))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, X, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


def test_many_steps_are_read_in_blocks():
    # More than one block of 2**20 numbers; the result is that of all at once.
    X = np.random.default_rng(0).normal(100, 3, size=(7, 200_000, 1)).astype(np.float32)
    scaler = StandardScaler3D().fit(X)
    assert scaler.n_steps_seen_ == 1_400_000
    np.testing.assert_allclose(scaler.mean_, X.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, X.var(dtype=np.float64), rtol=1e-10)


def test_bad_options_and_input_leave_the_scaler_as_it_was(arrays):
    with pytest.raises(ValueError, match="with_std='yes': give True or False"):
        StandardScaler3D(with_std="yes").fit(arrays)
    scaler = StandardScaler3D().fit(arrays)
    before = pickle.dumps(scaler)
    for bad in (np.zeros((3, 4, 2)), [], [np.zeros((2, 3)), np.zeros((2, 4))], np.full((2, 2, 3), np.inf)):
        with pytest.raises(ValueError):
            scaler.partial_fit(bad)
        assert pickle.dumps(scaler) == before


def test_inverse_transform_keeps_padding_and_lengths(arrays):
    X = np.full((4, 9, 3), np.nan)
    for row, a in zip(X, arrays, strict=True):
        row[: len(a)] = a
    scaler = StandardScaler3D().fit(arrays)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)
    for out, a in zip(scaler.inverse_transform(scaler.transform(arrays)), arrays, strict=True):
        np.testing.assert_allclose(out, a)

"""Conversion and validation of sequences: every accepted form, and each refusal with its message."""

import numpy as np
import pytest

from fastrnn.sequences import (
    Ragged,
    as_object_array,
    as_sequences,
    as_step_values,
    lay_out_steps,
    read_sequences,
)

NAN = np.nan


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 2)) for length in (3, 1, 4)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ragged_take_by_kernel_matches_the_loop(dtype):
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(length, 3)).astype(dtype) for length in (4, 1, 7, 2)]
    index = np.array([3, 0, 2, 2])
    x, mask = Ragged.from_list(sequences).take(index)
    # Numbers of another type are converted on the way, row by row.
    other, other_mask = Ragged.from_list(sequences, np.float16).take(index, dtype)
    np.testing.assert_array_equal(mask, other_mask)
    np.testing.assert_array_equal(x[~mask], 0)
    for row, k in enumerate(index):
        np.testing.assert_array_equal(x[row, : len(sequences[k])], sequences[k])
        np.testing.assert_array_equal(
            other[row, : len(sequences[k])], sequences[k].astype(np.float16).astype(dtype)
        )
    assert x.swapaxes(0, 1).flags.c_contiguous
    assert other.swapaxes(0, 1).flags.c_contiguous


def test_ragged_take_pads_at_the_end(arrays):
    ragged = Ragged.from_list(arrays)
    x, mask = ragged.take(np.array([2, 1]), np.float32)
    assert x.shape == (2, 4, 2)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0], arrays[2].astype(np.float32))
    np.testing.assert_array_equal(x[1, :1], arrays[1].astype(np.float32))
    assert not x[1, 1:].any()
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1], [1, 0, 0, 0]])


def test_ragged_take_is_time_major_in_memory(arrays):
    x, _ = Ragged.from_list(arrays).take(slice(None))
    assert x.swapaxes(0, 1).flags.c_contiguous


def test_ragged_indexing_matches_lists(arrays):
    ragged = Ragged.from_list(arrays)
    np.testing.assert_array_equal(ragged[1], arrays[1])
    np.testing.assert_array_equal(ragged[-1], arrays[2])
    for key in ([2, 0], np.array([2, 0]), slice(1, None), np.array([True, False, True])):
        expected = [arrays[i] for i in np.arange(3)[key]]
        for got, want in zip(ragged[key], expected, strict=True):
            np.testing.assert_array_equal(got, want)
    with pytest.raises(IndexError):
        ragged[3]


def test_ragged_describes_itself(arrays):
    ragged = Ragged.from_list(arrays)
    assert len(ragged) == 3
    assert ragged.shape == (3, None, 2)
    assert ragged.ndim == 3
    np.testing.assert_array_equal(ragged.lengths, [3, 1, 4])
    assert "3 sequences, 1 to 4 steps" in repr(ragged)


@pytest.mark.parametrize("offsets", [[0, 3], [1, 8], [], [0, 5, 3, 8]])
def test_ragged_refuses_wrong_offsets(offsets):
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.zeros((8, 1)), offsets)


def test_three_dimensions_stay_as_they_are():
    X = np.random.default_rng(0).normal(size=(4, 3, 2))
    assert as_sequences(X) is X or np.shares_memory(as_sequences(X), X)
    assert read_sequences(X).n_columns == 2


def test_table_is_one_variable():
    sequences = read_sequences(np.zeros((4, 3)))
    assert sequences.data.shape == (4, 3, 1)
    assert sequences.is_table
    assert (sequences.n_features, sequences.n_columns) == (1, 3)


@pytest.mark.parametrize("wrap", [list, tuple, as_object_array, Ragged.from_list])
def test_collections_of_arrays_become_ragged(arrays, wrap):
    ragged = as_sequences(wrap(arrays), dtype=np.float32)
    assert isinstance(ragged, Ragged)
    assert ragged.dtype == np.float32
    for got, want in zip(ragged, arrays, strict=True):
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_list_of_equal_arrays_is_a_collection_too():
    """So that what comes out doesn't depend on which lengths happen to meet in a fold."""
    assert isinstance(as_sequences([np.zeros((3, 2))] * 2), Ragged)


def test_one_dimensional_sequences_have_one_variable():
    ragged = as_sequences([np.arange(3.0), np.arange(5.0)])
    assert ragged.shape == (2, None, 1)
    assert as_sequences([[1.0, 2.0], [3.0]]).shape == (2, None, 1)


def test_nested_lists_are_arrays():
    assert as_sequences([[1.0, 2.0], [3.0, 4.0]]).shape == (2, 2, 1)
    assert as_sequences([[[1.0, 2.0]], [[3.0, 4.0]]]).shape == (2, 1, 2)
    assert as_sequences([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]).shape == (2, None, 2)


def test_numbers_in_an_object_array_are_a_table():
    assert as_sequences(np.ones((3, 2), object)).dtype == np.float64


@pytest.mark.parametrize("side", ["end", "beginning", "both"])
def test_nan_padding_is_dropped(arrays, side):
    X = np.full((3, 6, 2), NAN)
    for row, a in zip(X, arrays, strict=True):
        start = {"end": 0, "beginning": 6 - len(a), "both": 1}[side]
        row[start : start + len(a)] = a
    ragged = as_sequences(X)
    for got, want in zip(ragged, arrays, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(ragged.padded_mask(), ~np.isnan(X[..., 0]))
    np.testing.assert_array_equal(ragged.restore(ragged.values), X)
    np.testing.assert_array_equal(ragged[[2, 0]].restore(ragged[[2, 0]].values), X[[2, 0]])


def test_restore_marks_padding_by_dtype():
    X = np.array([[[1.0], [2.0]], [[3.0], [NAN]]])
    ragged = as_sequences(X)
    np.testing.assert_array_equal(ragged.restore(np.array([7, 8, 9])), [[7, 8], [9, NAN]])
    assert ragged.restore(np.array(["a", "b", "c"])).tolist() == [["a", "b"], ["c", None]]


def test_tokens_in_all_forms():
    plain = as_sequences(np.array([[1, 2], [3, 0]], np.int32), vocabulary_size=4)
    assert plain.dtype == np.int32
    assert as_sequences([[1, 2], [3, 0]], vocabulary_size=4).shape == (2, 2)
    ragged = as_sequences([[1, 2, 3], [0]], vocabulary_size=4)
    assert ragged.shape == (2, None)
    assert ragged.dtype.kind == "i"
    padded = as_sequences([[1.0, 2.0], [3.0, NAN]], vocabulary_size=4)
    np.testing.assert_array_equal(padded.values, [1, 2, 3])
    assert padded.dtype.kind == "i"
    assert as_sequences(np.array([[1.0, 3.0]]), vocabulary_size=4).dtype.kind == "i"


def test_step_values_follow_the_steps(arrays):
    ragged = as_sequences(arrays)
    y = [np.arange(len(a)) for a in arrays]
    flat = as_step_values(y, ragged)
    np.testing.assert_array_equal(flat, np.concatenate(y))
    for got, want in zip(lay_out_steps(flat, ragged), y, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(as_step_values(as_object_array(y), ragged), flat)
    np.testing.assert_array_equal(as_step_values([a.tolist() for a in y], ragged), flat)


def test_step_values_of_a_padded_array_ignore_padding():
    X = np.array([[[1.0], [2.0], [NAN]], [[NAN], [NAN], [3.0]]])
    ragged = as_sequences(X)
    np.testing.assert_array_equal(as_step_values([[5, 6, -1], [-1, -1, 7]], ragged), [5, 6, 7])
    np.testing.assert_array_equal(as_step_values([[5, 6], [7]], ragged), [5, 6, 7])


def test_step_values_of_an_array():
    X = np.zeros((2, 3, 4))
    y = np.arange(6).reshape(2, 3)
    flat = as_step_values(y, X)
    np.testing.assert_array_equal(lay_out_steps(flat, X), y)
    y2 = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_array_equal(lay_out_steps(as_step_values(y2, X), X), y2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((2, 4)), r"y has 4 steps but X has 3"),
        (np.zeros((3, 3)), r"y holds 3 sequences but X holds 2"),
        (np.zeros(2), r"with return_sequences=True it holds one value for each step"),
        ([np.zeros(3), np.zeros(2)], r"y\[1\] has shape \(2,\) but X\[1\] has 3 steps"),
        ([np.zeros((3, 1)), np.zeros((3, 2))], r"y\[1\] has shape \(3, 2\) but y\[0\]"),
    ],
)
def test_step_values_refuses(y, message):
    with pytest.raises(ValueError, match=message):
        as_step_values(y, np.zeros((2, 3, 1)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), r"1-D array of shape \(3,\).*Reshape your data"),
        (np.zeros((1, 2, 3, 4)), r"X has 4 dimensions, shape \(1, 2, 3, 4\)"),
        (np.array(3.0), r"X is 3, a single number|X has 0 dimensions, shape \(\)"),
        (3, r"X is 3, a single number|X has 0 dimensions, shape \(\)"),
        (np.zeros((0, 3, 2)), r"0 sample\(s\)"),
        ([], r"0 sample\(s\)"),
        (np.zeros((3, 0, 2)), r"0 time step\(s\) \(shape=\(3, 0, 2\)\)"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        (Ragged(np.zeros((0, 1)), [0]), r"0 sample\(s\)"),
        ([np.zeros((2, 1)), np.zeros((2, 3))], r"X\[1\] has shape \(2, 3\), but X\[0\] has shape \(2, 1\)"),
        ([np.zeros((2, 1)), np.zeros((2, 1, 1))], r"X\[1\] has shape \(2, 1, 1\)"),
        ([np.zeros((2, 0)), np.zeros((2, 0))], r"0 feature\(s\)"),
        ([np.array(["a"]), np.array(["b", "c"])], r"X\[0\] must hold numbers"),
        ([np.zeros(2), [[1], [2, 3]]], r"X\[1\] can't be read as one sequence"),
        (np.array([["a", "b"]]), r"X must hold numbers.*vocabulary_size"),
        (np.ones((2, 2), complex), r"Complex data not supported"),
        ([np.ones(2, complex)], r"Complex data not supported"),
        (None, r"got None for X"),
        (np.array([[1.0, NAN]]), r"NaN at sample 0, step 1, feature 0.*X\[:, :, None\]"),
        (
            np.array([[[1.0, NAN], [1.0, 2.0]]]),
            r"NaN inside a sequence: sample 0, step 0, feature\(s\) \[1\]",
        ),
        (np.array([[[1.0], [NAN], [1.0]]]), r"NaN inside a sequence: sample 0, step 1"),
        ([np.zeros(2), np.array([1.0, NAN])], r"NaN at sample 1, step 1"),
        (np.array([[[1.0], [np.inf]]]), r"inf \(infinity\) at sample 0, step 1, feature 0"),
        (np.array([[[1.0], [-np.inf], [NAN]]]), r"inf \(infinity\) at sample 0, step 1"),
    ],
)
def test_refuses(X, message):
    with pytest.raises(ValueError, match=message):
        as_sequences(X)


def test_refuses_objects_that_are_not_numbers():
    X = np.ones((2, 2), object)
    X[0, 0] = {"foo": "bar"}
    with pytest.raises(TypeError, match="string or a real number"):
        as_sequences(X)


def test_refuses_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="sparse input is not supported"):
        as_sequences(sparse.eye_array(3).tocsr())


def test_refuses_what_the_dtype_cannot_hold():
    X = np.array([[[1.0], [1e39]]])
    assert as_sequences(X, dtype=np.float64) is not None
    with pytest.raises(ValueError, match=r"1e\+39 at sample 0, step 1.*too large for dtype float32"):
        as_sequences(X, dtype=np.float32)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1, 4]], r"token 4 at sample 0, step 1, outside \[0, 4\).*vocabulary_size"),
        ([[1, 2], [-1, 2]], r"token -1 at sample 1, step 0"),
        ([[1.5, 2]], r"contains 1.5 at sample 0, step 0.*integer token"),
        ([[1.0, NAN, 2.0]], r"NaN inside a sequence"),
        ([[1.0, np.inf]], r"contains inf at sample 0, step 1"),
        ([np.array([1, 2]), np.array([1, 9, 1])], r"token 9 at sample 1, step 1"),
        (np.zeros((2, 3, 1), int), r"X has 3 dimensions.*of tokens, as vocabulary_size is set"),
        ([np.zeros((2, 1), int), np.zeros((3, 1), int)], r"X\[0\] has shape \(2, 1\).*of tokens"),
        (Ragged(np.zeros((2, 3)), [0, 1, 2]), r"each step is one integer token"),
        ([["a", "b"]], r"must hold numbers"),
    ],
)
def test_refuses_tokens(X, message):
    with pytest.raises(ValueError, match=message):
        as_sequences(X, vocabulary_size=4)


def test_names_the_argument():
    with pytest.raises(ValueError, match="^Found series with 0 sample"):
        as_sequences(np.zeros((0, 1, 1)), name="series")


def test_does_not_write_into_its_input(arrays):
    X = np.full((2, 3, 1), NAN)
    X[0], X[1, 1] = 1.0, 2.0
    before = X.copy()
    X.flags.writeable = False
    as_sequences(X)
    np.testing.assert_array_equal(X, before)

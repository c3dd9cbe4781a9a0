"""Both directions as one program: bitwise the same numbers as one after the other."""

from __future__ import annotations

import itertools
import pickle
import threading

import numpy as np
import pytest

from fastrnn import layers
from fastrnn.engine import tuning
from fastrnn.engine.recurrence import plans
from fastrnn.engine.recurrence.both_directions import Direction, prepare_both
from fastrnn.engine.recurrence.call_list import Program
from fastrnn.engine.runtime import threads
from fastrnn.layers import bidirectional
from tests.layer_cases import EXTRA_LAYER_NAMES, KINDS, LAYER_NAMES

N_INPUTS, UNITS = 3, 5
MODES = ["concat", "sum", "mul", "ave", None]
ALL_KINDS = [*KINDS, *((cell, {}) for cell in EXTRA_LAYER_NAMES)]


def pattern(cell="gru", units=UNITS, dtype="float32", **options):
    return getattr(layers, (LAYER_NAMES | EXTRA_LAYER_NAMES)[cell])(units, dtype=dtype, **options)


def one_after_the_other(layer, x, mask=None):
    """Outputs of the layer without the combined program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "_run_prepared", lambda x, mask: None)
        return layer(x, mask=mask)


def assert_same(found, expected):
    for a, b in zip(*(r if isinstance(r, list) else [r] for r in (found, expected)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.fixture
def runs(monkeypatch):
    """The programs that were run."""
    found: list[Program] = []
    run = Program.run_out
    monkeypatch.setattr(Program, "run_out", lambda self, x, out: (found.append(self), run(self, x, out))[1])
    return found


@pytest.mark.parametrize("with_mask", [False, True], ids=["dense", "mask"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cell", "form"), ALL_KINDS)
def test_same_bits_as_one_after_the_other(cell, form, mode, sequences, with_mask, rng, runs):
    for dtype, (n_batch, n_steps) in itertools.product(("float32", "float64"), ((1, 9), (6, 4))):
        layer = layers.Bidirectional(
            pattern(cell, dtype=dtype, return_sequences=sequences, **form), merge_mode=mode
        )
        x = rng.normal(size=(n_batch, n_steps, N_INPUTS)).astype(dtype)
        masks = [rng.random((n_batch, n_steps)) < share for share in (0.7, 0.3, 1)] if with_mask else [None]
        if with_mask:
            masks[0][0] = False
        for mask in masks:
            runs.clear()
            found = layer(x, mask=mask)
            assert len(runs) == 1
            assert_same(found, one_after_the_other(layer, x, mask))


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("mode", MODES)
def test_same_bits_on_any_number_of_threads(mode, sequences, rng, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    monkeypatch.setattr(threads, "resolve", lambda n: n)
    layer = layers.Bidirectional(pattern(return_sequences=sequences), merge_mode=mode)
    for n_batch in (1, 3, 11):
        x = rng.normal(size=(n_batch, 8, N_INPUTS)).astype(np.float32)
        found = []
        for n_threads in (1, 2, 3, 4):
            layer.n_threads = n_threads
            found.append([layer(x), layer(-x), layer(x)])
        for results in found[1:]:
            for a, b in zip(results, found[0], strict=True):
                assert_same(a, b)
        assert_same(found[0][2], found[0][0])
        assert not np.array_equal(found[0][1][0], found[0][0][0])


@pytest.mark.parametrize(
    ("n_threads", "n_batch", "expected"),
    [(1, 64, (1, 1)), (2, 1, (2, 1)), (2, 64, (2, 1)), (3, 64, (3, 3)), (4, 64, (4, 2)), (4, 1, (4, 1))],
)
def test_threads_and_pieces(n_threads, n_batch, expected, monkeypatch):
    """A thread for each pass; where the number is odd, a piece of each pass for every thread."""
    monkeypatch.setattr(threads, "resolve", lambda n: n)
    cells = [pattern("lstm", 512).cell.kernel_cell()] * 2
    assert plans.threads_of_both(cells, (n_batch, 50, 64), n_threads, 2) == (*expected, False)
    assert plans.threads_of_both(cells, (n_batch, 50, 64), n_threads)[1] <= n_batch


def test_small_passes_are_alone_and_long_ones_are_not(monkeypatch):
    monkeypatch.setattr(threads, "resolve", lambda n: 8)
    cells = [pattern("simple_rnn", 8).cell.kernel_cell()] * 2
    assert plans.threads_of_both(cells, (1, 10, 1), None) == (1, 1, True)
    # Small products, but many steps.
    assert plans.threads_of_both(cells, (1, 100, 1), None) == (2, 1, True)


def test_steps_are_shared_where_that_keeps_more_threads_busy(rng, monkeypatch, runs):
    """One sequence can use two threads, one for each direction."""
    shape = (1, 30, 64)
    directions = [Direction(pattern("lstm", 256).cell.kernel_cell(), np.zeros((1, 0), np.float32), False)] * 2
    for n, expected in ((1, True), (2, True), (3, False), (8, False)):
        with monkeypatch.context() as patch:
            patch.setattr(threads, "resolve", lambda given, n=n: n)
            assert plans.slice_count(directions[0].cell, *shape, None) == n
            pair = prepare_both(directions, shape, sequences=True, merge="concat")
            assert (pair is not None) == expected
    layer = layers.Bidirectional(pattern(return_sequences=True))
    x = rng.normal(size=(1, 5, N_INPUTS)).astype(np.float32)
    expected = layer(x)
    monkeypatch.setattr(bidirectional, "prepare_both", lambda *args, **kwargs: None)
    layer.weights_changed()
    runs.clear()
    assert_same(layer(x), expected)
    assert len(runs) == 2


@pytest.mark.parametrize("sequences", [False, True], ids=["last", "sequences"])
def test_sizes_and_cells_of_their_own(sequences, rng, runs):
    options = {"return_sequences": sequences}
    x = rng.normal(size=(4, 6, N_INPUTS)).astype(np.float32)
    theirs = pattern("lstm", UNITS + 2, go_backwards=True, **options)
    layer = layers.Bidirectional(pattern(**options), backward_layer=theirs)
    assert layer(x).shape[-1] == 2 * UNITS + 2
    assert len(runs) == 1
    assert_same(layer(x), one_after_the_other(layer, x))
    # Two outputs that can't be halves of one array.
    theirs = pattern("lstm", UNITS + 2, go_backwards=True, **options)
    layer = layers.Bidirectional(pattern(**options), merge_mode=None, backward_layer=theirs)
    assert_same(layer(x), one_after_the_other(layer, x))


@pytest.mark.parametrize("mode", MODES)
def test_the_first_may_be_the_one_that_reads_backwards(mode, rng):
    x = rng.normal(size=(3, 7, N_INPUTS)).astype(np.float32)
    mask = rng.random((3, 7)) < 0.6
    layer = layers.Bidirectional(
        pattern(go_backwards=True, return_sequences=True),
        merge_mode=mode,
        backward_layer=pattern(return_sequences=True),
    )
    for given in (None, mask):
        assert_same(layer(x, mask=given), one_after_the_other(layer, x, given))


def test_other_weights_shapes_and_options_between_calls(rng):
    layer = layers.Bidirectional(pattern(return_sequences=True))
    x = rng.normal(size=(4, 6, N_INPUTS)).astype(np.float32)
    first = layer(x)
    kept = first.copy()
    for changed in (layer, layer.forward_layer, layer.backward_layer):
        before = layer(x)
        changed.set_weights([w * 0.5 for w in changed.get_weights()])
        after = layer(x)
        assert not np.array_equal(before, after)
        assert_same(after, one_after_the_other(layer, x))
    for given in (x[:2], x[:, :3], np.asfortranarray(x), x.swapaxes(0, 1), x):
        assert_same(layer(given), one_after_the_other(layer, given))
    np.testing.assert_array_equal(first, kept)  # results are the caller's
    with pytest.raises(ValueError, match="was built for 3 features, got 4"):
        layer(np.zeros((4, 6, 4), np.float32))
    with pytest.raises(ValueError, match="at least one sequence"):
        layer(x[:0])
    with pytest.raises(ValueError, match="mask has shape"):
        layer(x, mask=np.ones((4, 5), bool))


def test_called_from_several_threads_at_once(rng, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_THREAD_WORK", 0)
    layer = layers.Bidirectional(pattern("lstm", return_sequences=True))
    inputs = [rng.normal(size=(n, 20, N_INPUTS)).astype(np.float32) for n in (2, 2, 3)]
    expected = [one_after_the_other(layer, x) for x in inputs]
    wrong: list[int] = []

    def call(k: int) -> None:
        wrong.extend(k for _ in range(30) if not np.array_equal(layer(inputs[k]), expected[k]))

    callers = [threading.Thread(target=call, args=(k,)) for k in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_copies_have_programs_of_their_own(rng):
    layer = layers.Bidirectional(pattern(return_sequences=True))
    x = rng.normal(size=(2, 5, N_INPUTS)).astype(np.float32)
    expected = layer(x)
    twin = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(twin(x), expected)
    twin.set_weights([w * 0 for w in twin.get_weights()])
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(twin(x), 0)


def test_what_needs_more_than_outputs_is_done(rng, runs):
    """States, and penalties of one direction's output, are no part of the program."""
    x = rng.normal(size=(2, 5, N_INPUTS)).astype(np.float32)
    layer = layers.Bidirectional(pattern(activity_regularizer="l2"))
    layer(x)
    assert layer.regularization() > 0
    assert len(layers.Bidirectional(pattern(return_state=True))(x)) == 3
    stateful = layers.Bidirectional(pattern(stateful=True))
    assert not np.array_equal(stateful(x), stateful(x))
    around_cell = layers.Bidirectional(layers.RNN(layers.LSTMCell(UNITS), return_sequences=True))
    assert around_cell(x).shape == (2, 5, 2 * UNITS)

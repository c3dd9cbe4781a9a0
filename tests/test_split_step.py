"""Steps whose columns and rows several threads share give what one thread gives, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import layers, set_random_seed
from fastrnn.cells.gru import GRU, GRUBefore
from fastrnn.cells.indrnn import IndRNN
from fastrnn.cells.lstm import LSTM
from fastrnn.cells.simple_rnn import SimpleRNN
from fastrnn.engine.kernels import matmul, packing
from fastrnn.engine.kernels.micro_kernel import VECTORS, lanes
from fastrnn.engine.recurrence import inference, lane_plans, layouts, plans, run
from fastrnn.engine.recurrence.training_pass import TrainingPass
from fastrnn.engine.runtime import jit, threads
from fastrnn.engine.runtime.handover import ALONE, OWNED, WORD
from tests.layer_cases import gradients_of

pytestmark = pytest.mark.skipif(jit.DISABLED, reason="without a compiler there is one thread")

CASES = [
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu", "use_bias": False}),
    ("LSTM", {}),
    ("LSTM", {"activation": "softsign", "go_backwards": True}),
    ("LSTM", {"dropout": 0.3, "recurrent_dropout": 0.4}),
    ("GRU", {}),
    ("GRU", {"recurrent_activation": "hard_sigmoid", "dropout": 0.3}),
    ("GRU", {"reset_after": False}),
    ("PeepholeLSTM", {}),
    ("JANET", {}),
    ("IndRNN", {}),
]


def with_shares(monkeypatch, shares):
    """Make every later pass use this number of slices; returns the list of numbers that were planned."""
    planned = []

    def slice_count(*args):
        planned.append(shares)
        return shares

    for module in (run, inference):
        monkeypatch.setattr(module, "slice_count", slice_count)
    # Prepared training passes are for one thread.
    monkeypatch.setattr(TrainingPass, "suits", staticmethod(lambda *sizes: False))
    return planned


def everything(layer, x, mask):
    layer.set_seed(3)  # the same dropout
    results, dx, grads = gradients_of(layer, x, mask=mask)
    return [layer(x, mask=mask), *results, dx, *grads, *layer.d_initial_state]


def layer_of(name, dtype="float32", units=70, n_inputs=20, **options):
    set_random_seed(0)
    layer = getattr(layers, name)(units, return_sequences=True, dtype=dtype, **options)
    layer.build((None, None, n_inputs))
    rng = np.random.default_rng(1)
    layer.set_weights([w + rng.normal(size=w.shape) / 20 for w in layer.get_weights()])  # biases are not zero
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("n_batch", [1, 5])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_split_step_changes_no_bit(name, options, n_batch, masked, dtype, rng, monkeypatch):
    x = rng.normal(size=(n_batch, 7, 20)).astype(dtype)
    mask = rng.random((n_batch, 7)) < 0.6 if masked else None
    layer = layer_of(name, dtype, **options)
    found = []
    for shares in (1, 2, 3):
        layer.n_threads = shares if shares > 1 else 1
        planned = with_shares(monkeypatch, shares)
        found.append(everything(layer, x, mask))
        assert planned
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(a).all() for a in found[0])
    assert found[0][0].any()


#: Units of which several threads compute some each: their panels have no vectors without use.
DIVIDED_UNITS = 3 * VECTORS * lanes(np.float32) - 2


@pytest.fixture
def every_layer_apart(monkeypatch):
    """Layers of any size have their gates packed one by one."""
    cached = plans._sizes, plans.dense_rows_plan, lane_plans.dense_plan, layouts.packing
    monkeypatch.setattr(layouts.tuning, "MIN_APART_UNITS", 1)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("every_layer_apart")
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("n_batch", [1, 9])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_step_split_by_units_changes_no_bit(name, options, n_batch, masked, rng, monkeypatch):
    x = rng.normal(size=(n_batch, 7, 20)).astype(np.float32)
    mask = rng.random((n_batch, 7)) < 0.6 if masked else None
    layer = layer_of(name, units=DIVIDED_UNITS, **options)
    assert layouts.gates_apart(LSTM(DIVIDED_UNITS), np.float32)
    assert layouts.slices_are_even(DIVIDED_UNITS, 3, np.float32)
    found = []
    for shares in (1, 3):
        layer.n_threads = shares
        with_shares(monkeypatch, shares)
        found.append(everything(layer, x, mask))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found[0][0].any()


@pytest.mark.parametrize(
    ("cell", "masks", "n_slices", "expected"),
    [
        (LSTM(512), 0, 2, True),
        (GRU(511), 0, 2, True),
        (LSTM(512), 4, 2, False),  # a mask for each gate
        (LSTM(512), 0, 1, False),
        (LSTM(100), 0, 2, False),  # too small
        (GRUBefore(512), 0, 2, False),  # the candidate's product needs the reset gate of all units
        (LSTM.with_activations(512, {"activation": "softmax"}), 0, 2, False),  # mixes all units
    ],
)
def test_plan_divides_units(cell, masks, n_slices, expected):
    options = plans.Options(4, 9, 20, np.dtype(np.float32), False, False, True, masks, False, False, True)
    assert lane_plans.dense_plan(cell, options, 1, n_slices).blocks.by_units == expected


@pytest.mark.parametrize(("cell", "prepared"), [(LSTM(512), True), (GRUBefore(512), False)])
def test_inference_that_divides_units_is_prepared(cell, prepared, rng):
    width = cell.traits().n_gates * 512
    weights = run.Weights(
        *(rng.normal(size=s).astype(np.float32) / 20 for s in ((20, width), (512, width), (width,)))
    )
    x = rng.normal(size=(1, 9, 20)).astype(np.float32)
    plan = inference.prepare(cell, weights, x.shape, sequences=True, n_threads=2)
    assert (plan is not None) == prepared
    if prepared:
        alone = run.forward(cell, weights, x, sequences=True, n_threads=1).out
        for _ in range(3):
            np.testing.assert_array_equal(plan(x), alone)


@pytest.mark.usefixtures("every_layer_apart")
def test_blocks_of_rows_divide_units_one_after_the_other(rng, monkeypatch):
    """More sequences than a block has, some of them shorter."""
    x = rng.normal(size=(plans.tuning.MAX_BLOCK_ROWS + 7, 5, 20)).astype(np.float32)
    mask = rng.random(x.shape[:2]) < 0.8
    layer = layer_of("GRU", units=DIVIDED_UNITS)
    found = []
    for shares in (1, 3):
        layer.n_threads = shares
        with_shares(monkeypatch, shares)
        found.append([layer(x), layer(x, mask=mask)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_split_step_is_done_alone_where_the_team_works_for_others(rng, monkeypatch):
    layer, x = layer_of("LSTM"), rng.normal(size=(3, 5, 20)).astype(np.float32)
    alone = everything(layer, x, None)
    with_shares(monkeypatch, 4)
    team = threads._team
    team.state[OWNED] = 1  # as in a job of another thread
    word = int(team.state[WORD])
    try:
        busy = everything(layer, x, None)
        assert team.state[WORD] == word
    finally:
        team.state[OWNED] = 0
    for a, b in zip(busy, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_split_step_flushes_denormals_on_every_thread(rng, monkeypatch):
    """A product of denormal states is zero on every thread."""
    layer = layer_of("SimpleRNN", activation="linear", use_bias=False, units=600)
    kernel, recurrent = (np.full_like(w, 1e-20) for w in layer.get_weights())
    layer.set_weights([kernel, recurrent])
    x = np.full((2, 3, 20), 1e-19, np.float32)
    with_shares(monkeypatch, 2)
    for _ in range(20):
        assert not layer(x).any()


@pytest.mark.parametrize(
    ("cell", "n_batch", "n_threads", "expected"),
    [
        (LSTM(512), 1, 2, 2),  # nothing else could use the second thread
        (LSTM(512), 1, 1, 1),
        (LSTM(512), 4, 2, 2),  # two rows each would take longer than half of four
        (LSTM(512), 9, 2, 2),  # five and four
        (LSTM(512), 8, 2, 1),  # four and four fill the tiles
        (LSTM(512), 64, 2, 1),
        (LSTM(32), 1, 2, 1),  # too small a step to be shared
        (LSTM(128), 4, 2, 1),
        (LSTM(128), 1, 2, 2),
        (LSTM(128), 1, 16, 2),  # not more than find enough work
        (LSTM(512), 1, 16, 16),
        (IndRNN(4096), 1, 2, 1),  # no recurrent product
        (SimpleRNN(64), 3, 2, 1),
        (SimpleRNN(511), 9, 2, 2),  # each computes units of its own
        (SimpleRNN(511), 8, 2, 1),
    ],
)
def test_slice_count(cell, n_batch, n_threads, expected, monkeypatch):
    monkeypatch.setattr(threads, "resolve", lambda n: n)
    assert plans.slice_count(cell, n_batch, 1000, 32, n_threads) == expected


def test_slice_count_of_a_short_call_is_one():
    """Its arguments stay prepared, and no thread is woken for it."""
    assert plans.slice_count(LSTM(512), 1, 1, 32, 2) == 1


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n_slices", [1, 2, 3, 40])
def test_rows_packed_in_slices_are_whole(n_slices, transposed, rng):
    pieces = tuple(rng.normal(size=(7, 3 * 70)).astype(np.float32) for _ in range(5))
    sizes = [
        3 * (matmul.packed_size(70, 7, np.float32) if transposed else matmul.packed_size(7, 70, np.float32))
    ] * 5
    ends = np.cumsum(sizes)
    layout = np.column_stack([ends - sizes, ends, [3] * 5, [transposed] * 5]).astype(np.int64)
    rows = np.full((2, 1, ends[-1]), np.nan, np.float32)
    packing.pack_rows(ALONE, pieces, layout, rows[0], 1)
    packing.pack_rows(ALONE, pieces, layout, rows[1], n_slices)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.isfinite(rows[0]).all()

"""Training on dask arrays and iterators in one process: which batches there are, and that memory stays that of a block."""

import subprocess
import sys

import numpy as np
import pytest

from fastrnn import Sequential, layers

da = pytest.importorskip("dask.array", reason="the extra 'dask' is not installed")

from fastrnn.distributed import DaskBatches  # noqa: E402

X = np.random.default_rng(0).standard_normal((50, 4, 2)).astype(np.float32)
Y = X[:, -1, :1]
WEIGHT = np.arange(50) % 3 + 1.0


def spread(array, rows=20, columns=-1):
    return da.from_array(array, chunks=(rows, *[columns] * (array.ndim - 1)))


def model():
    found = Sequential([layers.Input((4, 2)), layers.GRU(3), layers.Dense(1)], seed=0)
    found.compile("adam", "mse")
    return found


def test_dask_batches_are_those_of_each_block_in_turn():
    batches = DaskBatches(spread(X, columns=1), spread(Y, 7), WEIGHT, batch_size=8)
    assert len(batches) == 8
    for _ in range(2):
        found = list(batches)
        assert [len(x) for x, _, _ in found] == [8, 8, 4, 8, 8, 4, 8, 2]
        for k, whole in enumerate((X, Y, WEIGHT)):
            np.testing.assert_array_equal(np.concatenate([batch[k] for batch in found]), whole)
    assert [len(batch) for batch in DaskBatches(spread(X))] == [1, 1, 1]


def test_shuffled_dask_batches_have_each_sample_once_in_an_order_of_their_own():
    batches = DaskBatches(spread(X), spread(Y), batch_size=8, shuffle=True, seed=3)
    passes = [[np.concatenate(parts) for parts in zip(*batches, strict=True)] for _ in range(2)]
    for x, y in passes:
        np.testing.assert_array_equal(x[:, -1, :1], y)
        np.testing.assert_array_equal(np.sort(y, axis=0), np.sort(Y, axis=0))
    assert not np.array_equal(passes[0][1], passes[1][1])
    again = DaskBatches(spread(X), spread(Y), batch_size=8, shuffle=True, seed=3)
    np.testing.assert_array_equal(np.concatenate([y for _, y in again]), passes[0][1])


def test_training_on_dask_batches_equals_training_on_arrays_bitwise():
    ours, theirs = model(), model()
    ours.fit(DaskBatches(spread(X, 16), spread(Y, 16), spread(WEIGHT, 16), batch_size=8), epochs=3, verbose=0)
    theirs.fit(X, Y, sample_weight=WEIGHT, batch_size=8, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(ours.params, theirs.params)
    blocks = DaskBatches(spread(X, 16), spread(Y, 16), batch_size=16)
    assert ours.evaluate(blocks) == pytest.approx(theirs.evaluate(X, Y), rel=1e-6)
    np.testing.assert_allclose(
        ours.predict(DaskBatches(spread(X, 16))), theirs.predict(X), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((X,), {}, TypeError, "X is ndarray: give a dask array"),
        ((spread(X), Y[:9]), {}, ValueError, "X has 50 samples, y has 9"),
        ((spread(X), Y, WEIGHT[1:]), {}, ValueError, "X has 50 samples, sample_weight has 49"),
        ((spread(X), None, WEIGHT), {}, ValueError, "sample_weight: give y too"),
        ((spread(X),), {"batch_size": 0}, ValueError, "batch_size=0"),
        ((spread(X),), {"shuffle": "yes"}, ValueError, "shuffle='yes'"),
        ((spread(X),), {"seed": -1}, ValueError, "seed=-1"),
    ],
)
def test_dask_batches_refuse_bad_input(arguments, options, error, words):
    with pytest.raises(error, match=words):
        DaskBatches(*arguments, **options)


#: 400 MB of data in blocks of 4 MB; a process that held them all would grow by that.
MEMORY = """
import sys
import dask, dask.array as da, numpy as np
from fastrnn import RNNClassifier, Sequential, layers
from fastrnn.distributed import DaskBatches
N, BLOCK = int(sys.argv[2]), 200

def blocks(n, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n // BLOCK):
        x = rng.random((BLOCK, 50, 100), np.float32)
        yield x, x[:, -1, :1]

def dask_arrays(n):
    X = da.random.default_rng(0).random((n, 50, 100), dtype=np.float32, chunks=(BLOCK, -1, -1))
    return X, X[:, -1, :1]

def network():
    model = Sequential([layers.Input((50, 100)), layers.SimpleRNN(2), layers.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    return model

def work(n):
    if sys.argv[1] == "dask":
        network().fit(DaskBatches(*dask_arrays(n), batch_size=100), verbose=0)
    elif sys.argv[1] == "iterator":
        network().fit(blocks(n), verbose=0)
    elif sys.argv[1] == "predict":
        model = network()
        model.predict(DaskBatches(dask_arrays(n)[0], batch_size=100), verbose=0)
    elif sys.argv[1] == "partial_fit":
        X, y = dask_arrays(n)
        classifier = RNNClassifier(cell="simple_rnn", units=2, random_state=0)
        for x, labels in DaskBatches(X, y[:, 0] > 0.5, batch_size=BLOCK):
            classifier.partial_fit(x, labels, classes=[False, True])
    else:
        X, y = dask.compute(*dask_arrays(n))
        network().fit(X, y, verbose=0)

def most_memory():
    # In MiB. getrusage's maximum includes that of the parent process before exec.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

dask.config.set(scheduler="synchronous")
work(4 * BLOCK)
before = most_memory()
work(N)
print(most_memory() - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="the largest resident memory is in /proc, which only Linux has"
)
@pytest.mark.parametrize("way", ["dask", "iterator", "predict", "partial_fit", "in memory"])
def test_data_larger_than_the_bound_of_memory_are_trained_on_within_it(way):
    code = [sys.executable, "-c", MEMORY, way, "20000"]
    grown = float(subprocess.run(code, check=True, capture_output=True, text=True).stdout)
    assert (grown > 350) == (way == "in memory"), grown
    assert way == "in memory" or grown < 60, grown

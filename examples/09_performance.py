"""
Performance
===========

Which settings count, why, and how to measure.

- **The first fit compiles** for some seconds; compiled kernels are kept on disk, and a later process loads them in
  a fraction of a second. ``fastrnn.warmup()``, or the command ``fastrnn warmup``, compiles the usual kernels in
  advance. ``NUMBA_CACHE_DIR`` names the folder where they are kept; ``fastrnn info`` prints versions, vector width,
  threads, and the size of this cache.
- **Batch size** counts most. A recurrent network works step by step; rows of a batch are what can be computed side
  by side.
- **Padding costs nothing**: work is in proportion to the real steps. Pass lists of arrays, and don't pad by hand.
- **Threads**: ``n_jobs=None`` uses the cores that are free to the process, and one inside a joblib worker.
- **float32** is the default and about twice as fast as float64.
- ``unroll=True`` compiles a kernel with the number of units as a constant; ``benchmarks/results/unrolled.md`` says where
  that is faster.
- **Kernels are compiled for the processor at hand.** ``NUMBA_CPU_NAME=haswell`` with an empty ``NUMBA_CPU_FEATURES=``
  compiles for AVX2 on any x86-64 machine (with the name alone, Numba keeps the features of the host);
  ``FASTRNN_VECTOR_BITS`` (128, 256, 512) sets the width of the vectors. With a Numba newer than those that were
  tried, or with ``FASTRNN_STOCK_NUMBA=1``, kernels are compiled by public functions of Numba only: the same results,
  slower, and 10 to 20 seconds of compiling in each process.
- **Idle threads wait actively for the next call,** for 0.5 ms, because waking a thread takes longer than a small call.
  ``FASTRNN_SPIN_US`` sets another time in microseconds. With 0 they sleep soon after each call, for servers and laptops;
  then small calls that follow each other closely are slower.

The measured figures, with their commands, are in ``benchmarks/README.md`` and ``benchmarks/results``. ``fastrnn bench``
times this machine: fastrnn and what is installed of PyTorch, Keras on JAX and ONNX Runtime, in one table and one picture.
"""

# %%
# Measure
# -------
# A prediction before the clock starts, several runs, and the least of them.
import time

import numpy as np

from fastrnn import RNNRegressor, Sequential, fit_many, layers
from fastrnn.distributed import communication
from fastrnn.plotting.common import COLOURS, new_axes


def milliseconds(function, n=7):
    function()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


model = Sequential([layers.Input((None, 16)), layers.LSTM(64)], seed=0)
batches = (1, 2, 4, 8, 16, 32, 64, 128)
inputs = [np.random.default_rng(0).normal(size=(n, 50, 16)).astype("float32") for n in batches]
took = [milliseconds(lambda x=x: model.predict(x, verbose=0)) for x in inputs]

# %%
# The time of a sequence, in a batch of that size:
ax = new_axes(figsize=(6, 3.4))
ax.loglog(batches, np.array(took) / batches, "o-", color=COLOURS[0])
ax.set(xlabel="sequences in a batch", ylabel="milliseconds a sequence", title="LSTM(64), 50 steps")
ax.set_xticks(batches, [str(n) for n in batches])
ax.grid(alpha=0.3)

# %%
# Half of the steps are padding
# -----------------------------
x = inputs[-1]
real = np.arange(50) < np.random.default_rng(0).integers(1, 51, size=128)[:, None]
print(f"all steps {milliseconds(lambda: model.predict(x, verbose=0)):.2f} ms")
print(f"{real.mean():.0%} of them {milliseconds(lambda: model.predict(x, mask=real, verbose=0)):.2f} ms")

# %%
# Many small models
# -----------------
# One model for each of many series: ``fit_many`` trains them side by side in this process, each as a fit by itself would.
# A network this small takes longer to call than to compute, so its training steps are prepared once.
rng = np.random.default_rng(0)
data = [(x, x[:, -5:, 0].sum(axis=1)) for x in rng.normal(size=(20, 100, 50, 3)).astype("float32")]
small = RNNRegressor(cell="gru", units=16, max_iter=20, tol=None, random_state=0)
models = fit_many(small, data)
print(f"{len(models)} models, R2 of the first {models[0].score(*data[0]):.2f}")

# %%
# More than one memory, and more than one machine
# -----------------------------------------------
# One process trains on data larger than its memory from any iterable of batches, or from the blocks of dask arrays:
# ``model.fit(DaskBatches(X, y, batch_size=256, shuffle=True))``, see :class:`fastrnn.distributed.DaskBatches`.
#
# Searches run on a dask cluster as they are: ``with joblib.parallel_config("dask"): GridSearchCV(...).fit(X, y)``. One
# network is trained by a whole cluster with :mod:`fastrnn.distributed` (extra ``dask``), on data larger than one
# memory::
#
#     from dask import array
#     from distributed import Client
#     from fastrnn.distributed import DaskRNNClassifier
#
#     client = Client("tcp://scheduler:8786")
#     X = array.from_zarr("sequences.zarr")  # (n_samples, n_timesteps, n_features)
#     model = DaskRNNClassifier(cell="gru", units=64, batch_size=65536).fit(X, y)
#     model.predict(X).to_zarr("answers.zarr")  # block by block
#
# :class:`fastrnn.distributed.DaskRNNForecaster` does the same for many series, which the workers hold.
#
# Each update sends all weights to every worker, and a gradient back. This is the global batch whose computation takes as
# long as that. The time of a sequence is three times that of a prediction above, as the backward pass has twice the work.
n_weights = sum(weight.size for weight in model.get_weights())
seconds_per_sequence = 3 * took[-1] / batches[-1] / 1000
bandwidths = {"1 Gbit/s": 1.25e8, "10 Gbit/s": 1.25e9, "100 Gbit/s": 1.25e10}
workers = np.array([8, 16, 32, 64, 125, 250, 500, 1000])
print(f"{n_weights} weights, {1e6 * seconds_per_sequence:.0f} us a sequence")
print("workers   MB a step  " + "  ".join(f"{name:>11}" for name in bandwidths))
for n in workers:
    found = [communication(int(n), n_weights, w, seconds_per_sequence) for w in bandwidths.values()]
    print(f"{n:7d}  {found[0].n_bytes / 1e6:10.1f}  " + "  ".join(f"{f.break_even_batch:11d}" for f in found))

# %%
ax = new_axes(figsize=(6, 3.4))
for (name, bandwidth), colour in zip(bandwidths.items(), COLOURS, strict=False):
    even = [
        communication(int(n), n_weights, bandwidth, seconds_per_sequence).break_even_batch for n in workers
    ]
    ax.loglog(workers, even, "o-", color=colour, label=name)
ax.set(xlabel="workers", ylabel="sequences", title="Global batch from which computation takes longer")
ax.legend(frameon=False)
ax.grid(alpha=0.3)

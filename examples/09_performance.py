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

The measured figures, with their commands, are in ``benchmarks/README.md`` and ``benchmarks/results``.
"""

# %%
# Measure
# -------
# A prediction before the clock starts, several runs, and the least of them.
import time

import numpy as np

from fastrnn import RNNRegressor, Sequential, fit_many, layers
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

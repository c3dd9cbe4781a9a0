"""The micro-kernel compared with OpenBLAS (NumPy) and oneDNN (torch), on one core; group names show the operations."""

import numpy as np
import pytest

from benchmarks.limits import packed_product
from fastrnn.bench.peers import installed

SIZES = [(m, k, n) for m in (1, 16, 64) for k in (32, 128, 512, 2048) for n in (128, 512, 2048)]


def ours(a, b):
    return packed_product(a, b)


def openblas(a, b):
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, user_api="blas")
    out = np.zeros((len(a), b.shape[1]), b.dtype)
    return lambda: np.matmul(a, b, out=out), out


def onednn(a, b):
    if not installed("torch"):
        pytest.skip("torch not installed")
    import torch

    torch.set_num_threads(1)
    out = np.zeros((len(a), b.shape[1]), b.dtype)
    arrays = [torch.from_numpy(array) for array in (a, b, out)]
    return lambda: torch.mm(*arrays[:2], out=arrays[2]), out


@pytest.mark.parametrize("size", SIZES, ids=lambda s: "M{}xK{}xN{}".format(*s))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", [ours, openblas, onednn], ids=lambda f: f"{f.__name__}-1threads")
def bench_matmul(benchmark, library, dtype, size):
    m, k, n = size
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    run, out = library(a, b)
    run()
    np.testing.assert_allclose(out, a @ b, rtol=1e-3, atol=1e-3)
    benchmark.group = f"matmul-M{m}xK{k}xN{n}-{dtype}, {2 * m * k * n / 1e9:.4f} GFLOP"
    benchmark.pedantic(run, rounds=60, iterations=max(1, int(2e7 / (2 * m * k * n))), warmup_rounds=3)
    benchmark.extra_info["gflops"] = 2 * m * k * n / 1e9 / benchmark.stats.stats.median

"""Speed limits of the machine: the micro-kernel, the fastest library's matrix product, a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fastrnn.bench.peers import thread_counts
from fastrnn.engine.kernels import matmul
from fastrnn.engine.runtime.handover import share
from fastrnn.engine.runtime.jit import jit
from fastrnn.engine.runtime.linking import address, fetch, spill
from fastrnn.engine.runtime.threads import parallel_region
from fastrnn.engine.runtime.views import planes


@numba.njit(nogil=True)
def _product(a, packed, n, out, start, repeats):
    for _ in range(repeats):
        matmul.product(a, packed, n, out, start)


def packed_product(a: NDArray, b: NDArray, repeats: int = 1) -> tuple[Callable[[], Any], NDArray]:
    """A function that computes ``a @ b`` with the micro-kernel and b packed beforehand, and the result's array."""
    n = b.shape[1]
    packed = np.zeros(matmul.packed_size(*b.shape, b.dtype), b.dtype)
    matmul.pack(b, packed, 0, n, False, 0, 1)
    out, start = np.zeros((len(a), n), b.dtype), np.zeros((0, n), b.dtype)
    return lambda: _product(a, packed, n, out, start, repeats), out


def fastest(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def micro_kernel_peak(dtype: str = "float32", *, threads: int = 1, repeats: int = 15) -> float:
    """GFLOP/s of the micro-kernel on `threads` cores, the best of a few sizes that fit the caches."""
    best = 0.0
    for m, k, n in ((32, 128, 512), (64, 256, 512), (64, 512, 256), (128, 512, 512)):
        flop = 2 * m * k * n
        calls = max(1, round(2e8 / flop))
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        runs = [packed_product(a, b, calls)[0] for _ in range(threads)]
        runs[0]()

        def together(runs: list = runs) -> None:
            workers = [threading.Thread(target=run) for run in runs[1:]]
            for worker in workers:
                worker.start()
            runs[0]()
            for worker in workers:
                worker.join()

        best = max(best, threads * calls * flop / fastest(together, repeats) / 1e9)
    return best


@jit
def _product_part(arguments, at, k):
    a, packed, n, out, start, repeats = fetch(arguments, at)
    for _ in range(repeats):
        matmul.product(a, packed, n, planes(out, k, 0, a.shape[0], n), start)


_part = address(_product_part)


@jit
def _products(state, parts, *args):
    share(state, _part(args), spill(args), parts)


def micro_kernel_work(flop: float, threads: int = 1) -> Callable[[], Any]:
    """A function that runs `flop` operations of the micro-kernel on `threads` threads, at a size that fits the caches."""
    m, k, n = 64, 256, 512
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype("float32") for shape in ((m, k), (k, n)))
    packed = np.zeros(matmul.packed_size(k, n, b.dtype), b.dtype)
    matmul.pack(b, packed, 0, n, False, 0, 1)
    out, start = np.zeros((threads, m, n), b.dtype), np.zeros((0, n), b.dtype)
    repeats = max(1, round(flop / threads / (2 * m * k * n)))

    def run() -> None:
        if threads == 1:
            _product(a, packed, n, out[0], start, repeats)
            return
        with parallel_region(threads) as state:
            if state is None:
                for k in range(threads):
                    _product(a, packed, n, out[k], start, repeats)
            else:
                _products(state, threads, a, packed, n, out, start, repeats)

    return run


def machine_limits() -> dict[str, float]:
    """GFLOP/s of the fastest installed matrix product, and GB/s of a copy, on all cores."""
    a, b = (np.ones((1024, 1024), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    blas = 2 * 1024**3 / fastest(lambda: np.matmul(a, b, out=out), 15) / 1e9
    ours = micro_kernel_peak(threads=thread_counts()[-1])
    source = np.ones(2**26, dtype=np.float32)
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 7) / 1e9
    return {"gflops": max(blas, ours), "gbytes_per_s": bandwidth}

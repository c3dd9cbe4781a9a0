"""The micro-kernel against NumPy: any size, any strides, every vector width; and what it looks like in machine code."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from fastrnn.engine.kernels import matmul, micro_kernel
from fastrnn.engine.runtime import jit as jit_module
from fastrnn.engine.runtime.views import block
from tests.limits import HANG_SECONDS

TOLERANCE = {"float32": 2e-5, "float64": 1e-13}
#: Whole tiles, single rows and columns, and every kind of remainder.
SIZES = [
    (1, 1, 1),
    (1, 7, 50),
    (3, 1, 200),
    (4, 64, 64),
    (5, 3, 17),
    (7, 50, 100),
    (33, 100, 7),
    (16, 33, 130),
    (0, 3, 5),
]


@jit_module.jit
def _product(a, packed, n, c, start, offset):
    matmul.product(a, packed, n, block(c, 0, a.shape[0], offset, n), start)


@jit_module.jit
def _product_tn(a, b, c, accumulate, panel):
    matmul.product_tn(a, b, c, accumulate, panel)


def packed_of(b):
    out = np.full(matmul.packed_size(*b.shape, b.dtype), np.nan, b.dtype)
    matmul.pack(np.ascontiguousarray(b), out, 0, b.shape[1], False, 0, 1)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))
def test_product_matches_numpy(size, dtype, rng):
    m, k, n = size
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    bias = rng.normal(size=(1, n)).astype(dtype)
    tolerance = TOLERANCE[np.dtype(dtype).name]
    for start, extra in ((bias[:0], 0), (bias, bias)):
        around = np.full((m + 1, n + 5), 7, dtype)
        _product(a, packed_of(b), n, around, start, 2)
        np.testing.assert_allclose(around[:m, 2 : n + 2], extra + a @ b, rtol=tolerance, atol=tolerance)
        around[:m, 2 : n + 2] = 7
        assert (around == 7).all()  # nothing beside the result was written


@pytest.mark.skipif(jit_module.PLAIN, reason="products are NumPy's, which adds in orders of its own")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("k", "n"), [(5, 16), (32, 128), (40, 200), (300, 150)])
def test_product_of_few_rows_is_that_of_many_to_the_last_bit(k, n, dtype, rng):
    """Tiles differ by the number of rows, also in the panels that they take together."""
    a, b = rng.normal(size=(13, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    start, packed = rng.normal(size=(13, n)).astype(dtype), packed_of(b)
    for zeros in (False, True):
        together, alone = np.zeros((13, n), dtype), np.zeros((13, n), dtype)
        _product(a, packed, n, together, start[: 0 if zeros else 13], 0)
        for rows in (1, 2, 3, 5):
            for i in range(0, 13, rows):
                _product(
                    a[i : i + rows], packed, n, alone[i : i + rows], start[i : i if zeros else i + rows], 0
                )
            np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES[:-1], ids=lambda s: "x".join(map(str, s)))
def test_product_of_columns_with_strides_matches_numpy(size, dtype, rng):
    m, k, n = size
    a = rng.normal(size=(k + 2, m + 3)).astype(dtype)[1:-1, 2:-1].T  # element strides in both directions
    b = rng.normal(size=(k, n + 4)).astype(dtype)[:, 1 : n + 1]
    packed = np.empty(matmul.packed_size(k, n, dtype), dtype)
    matmul.pack(np.ascontiguousarray(b), packed, 0, n, False, 0, 1)
    out = np.zeros((m, n), dtype)
    _product(a, packed, n, out, out[:0], 0)
    np.testing.assert_allclose(
        out, a @ b, rtol=TOLERANCE[np.dtype(dtype).name], atol=TOLERANCE[np.dtype(dtype).name]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "size", [*SIZES[:-1], (48, 30, 64), (128, 33, 130), (130, 20, 7)], ids=lambda s: "x".join(map(str, s))
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_product_tn_matches_numpy(size, dtype, accumulate, rng):
    m, k, n = size
    a, b = rng.normal(size=(k, m)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    c = rng.normal(size=(m, n)).astype(dtype)
    expected = a.T @ b + (c if accumulate else 0)
    panel = np.full(matmul.panel_size(k, n, dtype), np.nan, dtype)
    _product_tn(a, b, c, accumulate, panel)
    tolerance = TOLERANCE[np.dtype(dtype).name]
    np.testing.assert_allclose(c, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("turn_a", "turn_b"), itertools.product((False, True), repeat=2))
def test_matmul_matches_numpy(turn_a, turn_b, dtype, rng):
    for m, k, n in SIZES[:-1]:
        a = rng.normal(size=(k, m) if turn_a else (m, k)).astype(dtype)
        b = rng.normal(size=(n, k) if turn_b else (k, n)).astype(dtype)
        bias = rng.normal(size=n).astype(dtype)
        expected = (a.T if turn_a else a) @ (b.T if turn_b else b)
        tolerance = TOLERANCE[np.dtype(dtype).name]
        turned = {"transpose_a": turn_a, "transpose_b": turn_b}
        np.testing.assert_allclose(
            matmul.matmul(a, b, bias=bias, **turned), expected + bias, rtol=tolerance, atol=tolerance
        )
        out = np.ones((m, n), dtype)
        assert matmul.matmul(a, b, out, accumulate=True, **turned) is out
        np.testing.assert_allclose(out, expected + 1, rtol=tolerance, atol=tolerance)


def test_matmul_names_shapes_without_product():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 5\).*no product"):
        matmul.matmul(np.zeros((2, 3), "f"), np.zeros((4, 5), "f"))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 50), (7, 64), (5, 200), (16, 32), (70, 100)])
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_pack_of_columns_round_trips(k, n, turned, dtype, rng):
    b = rng.normal(size=(k, n + 6)).astype(dtype)
    part = b[:, 4 : 4 + n]
    expected = part.T if turned else part
    packed = np.full(matmul.packed_size(*expected.shape, dtype), np.nan, dtype)
    matmul.pack(b, packed, 4, n, turned, 0, 1)
    np.testing.assert_array_equal(matmul.unpack(packed, *expected.shape), expected)
    assert np.isfinite(packed).all()  # the padding is written too


def test_nan_and_inf_reach_only_their_row_and_column(rng):
    a, b = rng.normal(size=(9, 20)).astype("f"), rng.normal(size=(20, 70)).astype("f")
    a[4, 3], b[5, 66] = np.nan, np.inf
    out = matmul.matmul(a, b)
    bad = ~np.isfinite(out)
    assert bad[4].all()
    assert bad[:, 66].all()
    assert bad.sum() == 70 + 9 - 1


@pytest.mark.skipif(jit_module.DISABLED, reason="nothing is compiled")
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_vector_width_matches_numpy(bits):
    """Wider vectors than the host's are cut by the compiler: every tile shape runs on every machine."""
    here = os.path.dirname(os.path.abspath(__file__))
    tests = [
        f"{here}/test_matmul.py::{name}"
        for name in (
            "test_product_matches_numpy",
            "test_product_of_few_rows_is_that_of_many_to_the_last_bit",
            "test_product_tn_matches_numpy",
            "test_pack_of_columns_round_trips",
        )
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "FASTRNN_VECTOR_BITS": str(bits)},
        cwd=os.path.dirname(here),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.skipif(jit_module.DISABLED, reason="nothing is compiled")
@pytest.mark.skipif(bool(os.environ.get("NUMBA_CPU_NAME")), reason="another CPU is targeted")
def test_micro_kernel_uses_the_widest_registers():
    kernel = numba.njit(
        matmul._gemm.dispatcher.py_func
    )  # code that comes from the disk cache can't be inspected
    strided = numba.types.NamedUniTuple(numba.intp, 3, micro_kernel.Strided)
    kernel.compile((numba.float32, *[strided] * 4, *[numba.intp] * 3))
    (code,) = kernel.inspect_asm().values()
    register = {512: "zmm", 256: "ymm"}.get(micro_kernel.VECTOR_BITS)
    if register is None:
        pytest.skip("no wide vectors on this host")
    fused = [line for line in code.splitlines() if "vfmadd" in line]
    assert len([line for line in fused if register in line]) > 0.9 * len(fused) > 0

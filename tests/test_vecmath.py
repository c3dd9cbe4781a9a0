"""Elementary functions and activations: accuracy, limits, gradients, and that the loops are vector code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrnn.engine.kernels import vecmath
from fastrnn.engine.kernels.vecmath import (
    ACTIVATIONS,
    ROWWISE,
    activate,
    activate_backward,
    activate_backward_row,
    activate_grad_row,
    activate_row,
    resolve,
)
from fastrnn.engine.runtime.jit import DISABLED, jit
from tests.compiled import assembly
from tests.limits import HANG_SECONDS

mpmath = pytest.importorskip("mpmath")

needs_jit = pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
FLOATS = [np.float32, np.float64]
NAMES = sorted(ACTIVATIONS)


@jit
def tanh_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.tanh(x[i])


@jit
def sigmoid_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.sigmoid(x[i])


@jit
def exp_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.exp(x[i])


@jit
def expm1_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.expm1(x[i])


@jit
def log_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.log(x[i])


@jit
def log1p_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.log1p(x[i])


@jit
def normal_cdf_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.normal_cdf(x[i])


@jit
def erf_loop(x, y):
    for i in range(x.shape[0]):
        y[i] = vecmath.erf(x[i])


LOOPS = {
    "tanh": tanh_loop,
    "sigmoid": sigmoid_loop,
    "exp": exp_loop,
    "expm1": expm1_loop,
    "log": log_loop,
    "log1p": log1p_loop,
    "erf": erf_loop,
    "normal_cdf": normal_cdf_loop,
}


def mp_function(name: str):
    own = {
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "normal_cdf": lambda v: mpmath.ncdf(max(min(v, 50), -50)) if v == v else v,
    }
    return own.get(name) or getattr(mpmath, name)


def sweep(name: str, dtype: type, n: int) -> np.ndarray:
    """Points over the whole domain: even ones, ones near zero, and ones where exponents change."""
    span = {np.float32: 85.0, np.float64: 700.0}[dtype]
    rng = np.random.default_rng(1)
    if name == "log":
        x = np.concatenate([np.exp(rng.uniform(-span, span, n)), rng.uniform(0.4, 2.5, n)])
    elif name == "log1p":
        tiny = np.exp(rng.uniform(-60, -1e-3, n))
        x = np.concatenate([np.exp(rng.uniform(-span, span, n)), tiny, -tiny])
    else:
        wide = span if name in ("exp", "expm1") else 30.0
        tiny = np.exp(rng.uniform(-60, 3, n))
        x = np.concatenate([rng.uniform(-wide, wide, n), rng.uniform(-2, 2, n), tiny, -tiny])
    return x.astype(dtype)


def call(name: str, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    with np.errstate(all="ignore"):
        LOOPS[name](x, y)
    return y


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", LOOPS)
def test_elementary_accuracy(name: str, dtype: type) -> None:
    x = sweep(name, dtype, 200 if DISABLED else 3000)
    y = call(name, x)
    with mpmath.workdps(40):
        exact = [mp_function(name)(mpmath.mpf(float(v))) for v in x]
        error = np.array([float(abs(mpmath.mpf(float(a)) - b)) for a, b in zip(y, exact, strict=True)])
        size = np.array([float(abs(b)) for b in exact])
    ulps = error / np.spacing(size.astype(dtype))
    if dtype is np.float32:
        assert ((ulps <= 4) | (error <= 5e-7)).all()
    else:
        assert (error <= 1e-14 * np.maximum(1, size)).all()
        if name != "normal_cdf":  # whose tail is a difference
            assert ulps[size > 1e-300].max() <= 4
    if name in ("exp", "expm1", "log", "log1p", "sigmoid"):
        assert ulps[size > np.finfo(dtype).tiny].max() <= 4  # good in relative terms too


@needs_jit
@pytest.mark.parametrize(
    "start", [7, *(pytest.param(k, marks=pytest.mark.slow) for k in range(16) if k != 7)], ids=str
)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_every_float32_in_range(name: str, start: int) -> None:
    """All of the 380 million numbers with absolute value from 1e-6 to 20; a sixteenth of them unless -m slow is given."""
    bits = np.arange(
        np.float32(1e-6).view(np.int32) + start, np.float32(20).view(np.int32), 16, dtype=np.int32
    )
    for sign in (1, -1):
        for part in np.array_split(bits, 8):
            x = part.view(np.float32) * np.float32(sign)
            y = call(name, x)
            wide = x.astype(np.float64)
            exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
            assert np.abs(y - exact).max() <= 5e-7
            assert y.max() <= 1
            assert y.min() >= (-1 if name == "tanh" else 0)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", LOOPS)
def test_elementary_special_values(name: str, dtype: type) -> None:
    big = np.finfo(dtype).max
    tiny = np.finfo(dtype).smallest_subnormal * 5
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, big, -big, tiny, 1e30, 89, -110, 711, -760], dtype)
    y = call(name, x)
    with np.errstate(all="ignore"), mpmath.workdps(30):
        if name in ("sigmoid", "erf", "normal_cdf"):
            expected = np.array([float(mp_function(name)(mpmath.mpf(float(v)))) for v in x]).astype(dtype)
        else:
            expected = getattr(np, name)(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=1e-6 if dtype is np.float32 else 1e-14, atol=3e-7)
    assert (np.isinf(y) == np.isinf(expected)).all()


def reference(name: str, x: np.ndarray) -> np.ndarray:
    """Each activation in NumPy, for finite float64."""
    erf = np.vectorize(lambda v: float(mpmath.erf(v)))
    sig = 1 / (1 + np.exp(-x))
    rows = x - x.max(-1, keepdims=True)
    selu_scale, selu_alpha = 1.0507009873554805, 1.6732632423543772
    table = {
        "linear": lambda: x,
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: sig,
        "relu": lambda: np.maximum(x, 0),
        "relu6": lambda: np.clip(x, 0, 6),
        "leaky_relu": lambda: np.where(x > 0, x, 0.2 * x),
        "elu": lambda: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "celu": lambda: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "selu": lambda: selu_scale * np.where(x > 0, x, selu_alpha * np.expm1(np.minimum(x, 0))),
        "softplus": lambda: np.logaddexp(x, 0),
        "softsign": lambda: x / (1 + abs(x)),
        "soft_shrink": lambda: np.sign(x) * np.maximum(abs(x) - 0.5, 0),
        "hard_shrink": lambda: np.where(abs(x) > 0.5, x, 0),
        "tanh_shrink": lambda: x - np.tanh(x),
        "hard_tanh": lambda: np.clip(x, -1, 1),
        "hard_sigmoid": lambda: np.clip(x + 3, 0, 6) / 6,
        "hard_silu": lambda: x * np.clip(x + 3, 0, 6) / 6,
        "silu": lambda: x * sig,
        "mish": lambda: x * np.tanh(np.logaddexp(x, 0)),
        "gelu": lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "gelu_approximate": lambda: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "exponential": lambda: np.exp(x),
        "log_sigmoid": lambda: -np.logaddexp(-x, 0),
        "sparse_plus": lambda: np.where(x <= -1, 0, np.where(x >= 1, x, 0.25 * (x + 1) ** 2)),
        "sparse_sigmoid": lambda: np.clip(0.5 * (x + 1), 0, 1),
        "squareplus": lambda: (x + np.sqrt(x * x + 4)) / 2,
        "softmax": lambda: np.exp(rows) / np.exp(rows).sum(-1, keepdims=True),
        "log_softmax": lambda: rows - np.log(np.exp(rows).sum(-1, keepdims=True)),
        "sparsemax": lambda: np.apply_along_axis(_simplex, -1, x),
    }
    return table[{"swish": "silu", "hard_swish": "hard_silu"}.get(name, name)]()


def _simplex(row: np.ndarray) -> np.ndarray:
    ordered = np.sort(row)[::-1]
    sums = np.cumsum(ordered) - 1
    k = np.nonzero(ordered > sums / np.arange(1, len(row) + 1))[0][-1]
    return np.maximum(row - sums[k] / (k + 1), 0)


def points(dtype: type, rows: int = 12, width: int = 37) -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, width)) * np.geomspace(0.01, 12, rows)[:, None]
    x[0, :5] = [0.0, 1e-5, -1e-5, 3.3, -3.3]
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_activation_matches_reference(name: str, dtype: type) -> None:
    x = points(dtype)
    wide = x.astype(np.float64)
    y = activate(name, x)
    assert y.dtype == dtype
    assert y.shape == x.shape
    ulps, tol = (4 * 2**-23, 5e-7) if dtype is np.float32 else (1e-14, 1e-14)
    if ACTIVATIONS[name] in ROWWISE:
        tol *= 4  # sums along a row
    np.testing.assert_allclose(y, reference(name, wide), rtol=ulps, atol=tol)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_matches_finite_difference(name: str) -> None:
    x = points(np.float64, rows=6, width=11)
    kinks = np.array([0, 0.5, -0.5, 1, -1, 3, -3, 6])
    x = np.where(abs(x[..., None] - kinks).min(-1) < 1e-4, x + 3e-4, x)
    v = np.random.default_rng(5).normal(size=x.shape)
    y = activate(name, x)
    dx = activate_backward(name, x, y, v)
    h = 1e-6
    expected = np.empty_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += h
        down[at] -= h
        expected[at] = ((activate(name, up) - activate(name, down)) * v).sum() / (2 * h)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(dx, expected, atol=1e-8 * scale, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_in_float32_matches_float64(name: str) -> None:
    x = points(np.float32)
    v = np.random.default_rng(5).normal(size=x.shape).astype(np.float32)
    wide, wide_v = x.astype(np.float64), v.astype(np.float64)
    got = activate_backward(name, x, activate(name, x), v)
    expected = activate_backward(name, wide, activate(name, wide), wide_v)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6 * max(1, abs(expected).max()))


@pytest.mark.peers
@pytest.mark.parametrize("name", [name for name in NAMES if name != "sparsemax"])
def test_activation_matches_keras(name: str) -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    x = points(np.float32)
    tensor = keras.ops.convert_to_tensor(x)
    if name == "gelu_approximate":
        expected = np.asarray(keras.activations.gelu(tensor, approximate=True))
    else:
        function = keras.activations.get(name)
        expected = np.asarray(function(tensor))
        assert resolve(function) == ACTIVATIONS[name]
    np.testing.assert_allclose(activate(name, x), expected, rtol=3e-6, atol=2e-6)


def test_sparsemax_is_a_projection_on_the_simplex() -> None:
    """Keras 3.15.1 adds up cumulative sums, so that its rows don't sum to one; here they do, as in the paper."""
    y = activate("sparsemax", np.array([[0.5, 0.5, 0.5], [0.1, 0.2, 0.3], [0.0, 4.0, 0.0]]))
    np.testing.assert_allclose(y, [[1 / 3] * 3, [0.7 / 3, 1 / 3, 1.3 / 3], [0, 1, 0]])
    np.testing.assert_allclose(activate("sparsemax", points(np.float64)).sum(1), 1)


@pytest.mark.peers
def test_every_activation_of_keras_is_known() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(ALL_OBJECTS_DICT) - set(ACTIVATIONS) == {"glu", "threshold"}


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity(name: str, dtype: type) -> None:
    """NaN gives NaN, and an infinity the limit: never NaN, even where a formula has infinity times zero."""
    big = 300.0
    x = np.array([[np.nan], [np.inf], [-np.inf], [big], [-big]], dtype)
    if ACTIVATIONS[name] in ROWWISE:
        x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]], dtype)
        y = activate(name, x)
        assert np.isnan(y[0]).all()
        assert np.isfinite(y[1]).all()
        return
    y = activate(name, x)[:, 0]
    assert np.isnan(y[0])
    assert not np.isnan(y[1:]).any()
    for at_infinity, far in ((y[1], y[3]), (y[2], y[4])):
        if np.isinf(at_infinity):
            assert abs(far) > 50
            assert np.sign(far) == np.sign(at_infinity)
        else:
            assert at_infinity == pytest.approx(far, abs=5e-3)


@pytest.mark.parametrize("name", ["tanh", "softplus", "gelu", "softmax", "sparsemax"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 5), (0, 4), (3, 0)])
def test_any_shape_and_in_place(name: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    y = activate(name, x)
    assert y.shape == shape
    out = x.copy() if shape else np.array(float(x))
    assert activate(name, out, out=out) is out
    np.testing.assert_array_equal(out, y)
    if len(shape) == 3:
        view = np.asfortranarray(x)
        np.testing.assert_array_equal(activate(name, view), y)
        np.testing.assert_array_equal(activate(name, x[:, ::2]), activate(name, x[:, ::2].copy()))


@jit
def rows_forward(code, x):
    for i in range(x.shape[0]):
        activate_row(code, x[i])


@jit
def rows_slope(code, x, y, d):
    for i in range(x.shape[0]):
        activate_grad_row(code, x[i], y[i], d[i])


@jit
def rows_backward(code, x, y, dy, dx):
    for i in range(x.shape[0]):
        activate_backward_row(code, x[i], y[i], dy[i], dx[i])


@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["linear", "tanh", "sigmoid", "relu", "mish", "softmax", "sparsemax"])
def test_rows_in_kernels_match_arrays(name: str, dtype: type) -> None:
    code = ACTIVATIONS[name]
    x = points(dtype)
    v = np.random.default_rng(2).normal(size=x.shape).astype(dtype)
    y, z = activate(name, x), x.copy()
    rows_forward(code, z)
    np.testing.assert_array_equal(z, y)
    dx = np.empty_like(x)
    rows_backward(code, x, y, v, dx)
    np.testing.assert_array_equal(dx, activate_backward(name, x, y, v))
    rows_backward(code, x, y, v, v)  # in place
    np.testing.assert_array_equal(v, dx)
    if code not in ROWWISE:
        z, d = np.empty_like(x), np.empty_like(x)
        rows_slope(code, x, z, d)
        # Products and sums may be fused differently where the slope is computed too.
        np.testing.assert_allclose(z, y, rtol=4 * np.finfo(dtype).eps, atol=0)
        np.testing.assert_allclose(d, activate_backward(name, x, y, np.ones_like(x)), rtol=1e-6, atol=1e-7)
        z[:] = x
        rows_slope(code, z, z, d)  # in place
        np.testing.assert_allclose(z, y, rtol=4 * np.finfo(dtype).eps, atol=0)


@needs_jit
def test_kernel_in_a_fresh_process_calls_the_table(tmp_path: Path) -> None:
    """The address differs from process to process; a cached kernel must find it, and say when it isn't there."""
    script = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from kernel_module import rows
from fastrnn.engine.kernels import vecmath
x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
try:
    rows(vecmath.ACTIVATIONS["softsign"], x)
except RuntimeError as error:
    assert "prepare" in str(error), error
else:
    raise SystemExit("an activation was left out")
rows(vecmath.prepare("softsign"), x)
assert np.allclose(x, np.linspace(-1, 1, 6).reshape(2, 3) / (1 + abs(np.linspace(-1, 1, 6).reshape(2, 3))))
print(sum(rows.stats.cache_hits.values()), sum(vecmath._entry.stats.cache_hits.values()))
"""
    (tmp_path / "kernel_module.py").write_text(
        "from fastrnn.engine.runtime.jit import jit\nfrom fastrnn.engine.kernels.vecmath import activate_row\n"
        "@jit\ndef rows(code, x):\n    for i in range(x.shape[0]):\n        activate_row(code, x[i])\n"
    )
    env = dict(
        os.environ, NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONPATH=str(Path(vecmath.__file__).parents[3])
    )
    outs = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env=env,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )
        for _ in range(2)
    ]
    assert [out.returncode for out in outs] == [0, 0], outs[0].stderr + outs[1].stderr
    assert [out.stdout.strip() for out in outs] == ["0 0", "1 1"]


@needs_jit
@pytest.mark.parametrize("dtype", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_vector_code(name: str, dtype: type) -> None:
    import llvmlite.binding as llvm

    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        pytest.skip("code is compiled for another CPU than the host")
    features = llvm.get_host_cpu_features()
    if not (features.get("avx2") or features.get("avx512f")):
        pytest.skip("the host has neither AVX2 nor AVX-512")
    loop = LOOPS[name]
    call(name, np.ones(64, dtype))
    signature = next(s for s in loop.signatures if s[0].dtype.name == np.dtype(dtype).name)
    code = assembly(loop, signature)
    suffix = "ps" if dtype is np.float32 else "pd"
    assert re.search(rf"\bv(mul|div|fn?m\w+){suffix}\b[^\n]*%?[yz]mm", code), "no packed arithmetic"


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("glu", "halves the number of features"),
        ("threshold", "needs a threshold"),
        ("thanh", "none of this name.*'tanh'"),
        (lambda x: x, "function of your own"),
        (999, "not a code"),
        (3.5, "none of this name"),
    ],
)
def test_unknown_activation_lists_the_names(activation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(activation)


def test_resolve_and_name_of() -> None:
    assert resolve(None) == vecmath.LINEAR == 0
    assert resolve("swish") == resolve("silu")
    assert [vecmath.name_of(resolve(n)) for n in ("tanh", "hard_swish")] == ["tanh", "hard_silu"]
    assert vecmath.prepare("relu") == ACTIVATIONS["relu"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: activate("tanh", [1.0]), TypeError, "x must be an array of float32 or float64, got list"),
        (lambda: activate("tanh", np.zeros(3, int)), TypeError, "x must be an array .* got int"),
        (lambda: activate("tanh", np.zeros(3), out=np.zeros(4)), ValueError, r"out must be .* shape \(3,\)"),
        (lambda: activate("tanh", np.zeros(3), out=np.zeros(6)[::2]), ValueError, "C-contiguous"),
        (
            lambda: activate_backward("tanh", np.zeros(3), np.zeros(3), np.zeros(4)),
            ValueError,
            r"dy has shape \(4,\)",
        ),
    ],
)
def test_bad_arguments_say_so(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

"""Elementary functions that LLVM vectorises inside other kernels' loops: `tanh(x)`, `sigmoid(x)`, `exp(x)`, ...

In compiled code, each takes one float32 or float64 number and is arithmetic without branches or library calls, so that loops
around it are vectorised. Called from Python, each is NumPy's function. The activations of networks are built on them in
:mod:`fastrnn.engine.kernels.vecmath`.

Accuracy: float32 within 4 units in the last place or 5e-7, float64 within 1e-14 relative or absolute. NaN gives NaN,
infinities give the limits.

The coefficients minimise the largest error: polynomials by Chebyshev interpolation in 40 digits, rational functions by
reweighted least squares.
"""

# The functions below may only fuse a product and a sum. Reordering would break the argument reductions, which use constants
# in two parts and rounding by adding a large number.

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.engine.runtime.jit import DISABLED, body_of

__all__ = ["erf", "exp", "expm1", "log", "log1p", "normal_cdf", "sigmoid", "tanh"]

_intrinsic: Any = intrinsic  # as Any, because its declared type includes the typing context as an argument

_F = np.float32
_D = np.float64


# ----------------------------------------------------------------------------------------------------------------
# Functions for calls from Python
# ----------------------------------------------------------------------------------------------------------------


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


def sigmoid(x: Any) -> Any:
    """Logistic function 1 / (1 + exp(-x)), accurate for negative x too."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def exp(x: Any) -> Any:
    """Exponential."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)


def expm1(x: Any) -> Any:
    """Exponential minus one, exact near zero."""
    with np.errstate(over="ignore"):
        return np.expm1(x)


def log(x: Any) -> Any:
    """Natural logarithm."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def log1p(x: Any) -> Any:
    """Natural logarithm of 1 + x, exact near zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(x)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Any) -> Any:
    """Error function."""
    return np.asarray(x).dtype.type(_erf(x)) if np.ndim(x) == 0 else _erf(x).astype(x.dtype)


def normal_cdf(x: Any) -> Any:
    """Standard normal distribution function (1 + erf(x / sqrt(2))) / 2."""
    return (1 + erf(x * x.dtype.type(0.7071067811865476))) / 2


# ----------------------------------------------------------------------------------------------------------------
# Bits
# ----------------------------------------------------------------------------------------------------------------

# Adding 1.5 * 2**23 (or 2**52) rounds a small number to the nearest integer, which is in the low bits of the sum.
_ROUND_F = _F(12582912.0)
_ROUND_D = _D(6755399441055744.0)
_FORMATS = {types.float32: (32, 23, 127, 12582912.0), types.float64: (64, 52, 1023, 6755399441055744.0)}


def _llvm(typ: Any) -> tuple[ir.Type, ir.Type, Callable[[int], ir.Constant], int, int]:
    bits, mantissa, bias, _ = _FORMATS[typ]
    integer = ir.IntType(bits)
    real = ir.FloatType() if bits == 32 else ir.DoubleType()
    return real, integer, lambda value: ir.Constant(integer, value), mantissa, bias


@_intrinsic
def _power_of_two(typingctx, rounded):
    """Compute 2**n in the normal range, where `rounded` is _ROUND + n."""

    def codegen(context, builder, signature, args):
        real, integer, const, mantissa, bias = _llvm(rounded)
        # The shift removes all bits of _ROUND and keeps those of n.
        exponent = builder.shl(builder.bitcast(args[0], integer), const(mantissa))
        return builder.bitcast(builder.add(exponent, const(bias << mantissa)), real)

    return rounded(rounded), codegen


@_intrinsic
def _times_power_of_two(typingctx, x, rounded):
    """Scale x by 2**n for any n, with two factors, so that neither overflows before the product."""

    def codegen(context, builder, signature, args):
        real, integer, const, mantissa, bias = _llvm(rounded)
        low = builder.and_(builder.bitcast(args[1], integer), const(0xFFF))
        # Bits 0 to 11 hold n modulo 4096; a shift of unsigned numbers by one works for vectors of any width.
        n = builder.and_(builder.add(low, const(2048)), const(0xFFF))
        half = builder.lshr(n, const(1))
        rest = builder.sub(n, half)
        out = args[0]
        for part in (half, rest):
            exponent = builder.add(part, const(bias - 1024))
            out = builder.fmul(out, builder.bitcast(builder.shl(exponent, const(mantissa)), real))
        return out

    return x(x, rounded), codegen


@_intrinsic
def _exponent_and_mantissa(typingctx, x):
    """Split into (k, m) with x = m * 2**k and m from sqrt(1/2) to sqrt(2), for normal positive x."""
    out_type = types.UniTuple(x, 2)

    def codegen(context, builder, signature, args):
        real, integer, const, mantissa, bias = _llvm(x)
        root = 0x3F3504F3 if mantissa == 23 else 0x3FE6A09E667F3BCD
        one = bias << mantissa
        bits = builder.add(builder.bitcast(args[0], integer), const(one - root))
        # Convert the biased exponent to a float by the low bits of 2**mantissa, as few CPUs convert 64-bit integers.
        power = (bias + mantissa) << mantissa
        k = builder.bitcast(builder.or_(builder.lshr(bits, const(mantissa)), const(power)), real)
        k = builder.fsub(k, ir.Constant(real, float(2**mantissa + bias)))
        m = builder.add(builder.and_(bits, const((1 << mantissa) - 1)), const(root))
        return context.make_tuple(builder, out_type, [k, builder.bitcast(m, real)])

    return out_type(x), codegen


# ----------------------------------------------------------------------------------------------------------------
# float32
# ----------------------------------------------------------------------------------------------------------------

# tanh(x) = x P(x**2) / Q(x**2) for |x| <= 8, where 1 - tanh(8) is 2e-7; never above 1 in float32.
_TF = _F(8.0)
_TF1, _TF2, _TF3, _TF4 = _F(0.134445238), _F(0.00357162838), _F(2.1895147e-05), _F(1.52310607e-08)
_TG1, _TG2, _TG3, _TG4 = _F(0.467778512), _F(0.0261645594), _F(0.000341134104), _F(8.5227161e-07)

_LOG2E_F = _F(1.4426950408889634)
_LN2_HIGH_F, _LN2_LOW_F = _F(0.693359375), _F(-0.00021219444005469057)
# (exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2
_EF0, _EF1, _EF2 = _F(0.5), _F(0.16666576666119928), _F(0.041666554212984150)
_EF3, _EF4 = _F(0.0083632328836826182), _F(0.0013926250831497612)
_ONE_F, _ZERO_F, _INF_F, _NAN_F = _F(1.0), _F(0.0), _F(np.inf), _F(np.nan)
_EXP_LOW_F, _EXP_HIGH_F = _F(-104.0), _F(89.0)
_SIGMOID_LOW_F, _SIGMOID_HIGH_F = _F(-87.0), _F(87.0)
_SIGMOID_LEAST_F = _F(np.exp(-87.0))
_EXPM1_LOW_F, _EXPM1_BIG_F = _F(-80.0), _F(40.0)
# (log((1 + s) / (1 - s)) - 2 s) / s**3 in powers of s**2
_LF0, _LF1, _LF2, _LF3 = (
    _F(0.66666666553525362),
    _F(0.40000122633698783),
    _F(0.28550730844773807),
    _F(0.23332912804368643),
)
_TINY_F, _TINY_SCALE_F, _TINY_SHIFT_F = _F(np.finfo(np.float32).tiny), _F(2.0**24), _F(24.0)
_TWO_F = _F(2.0)
# erf(x) = x P(x**2) / Q(x**2) for |x| <= 3.83
_RF = _F(3.83)
_RF0, _RF1, _RF2 = _F(1.12837915), _F(0.189658596), _F(0.0526668083)
_RF3, _RF4, _RF5 = _F(0.00373794451), _F(0.000285045261), _F(2.06643268e-06)
_RG1, _RG2, _RG3 = _F(0.501413338), _F(0.113815389), _F(0.0149134757)
_RG4, _RG5 = _F(0.0011572642), _F(3.8268714e-05)

# exp(a**2 / 2) Phi(-a) / t in powers of t = 1 / (1 + a / sqrt(8)): the tail, without the cancellation in 1 + erf.
_NF0, _NF1, _NF2 = _F(0.141045157), _F(0.14113984), _F(0.121983166)
_NF3, _NF4, _NF5 = _F(0.0993896322), _F(-0.00830593941), _F(0.131448715)
_NF6, _NF7, _NF8 = _F(-0.236869052), _F(0.13905346), _F(-0.0288850052)
_ROOT_EIGHTH_F, _HALF_F = _F(0.35355339059327373), _F(0.5)
_ROOT_HALF_D, _HALF_D = _D(0.7071067811865476), _D(0.5)


def _tanh_f(x):
    # Polynomials in pairs of terms: fewer operations wait for each other than in Horner's form. The last term is added at
    # the end, as there, so that the rounding of the other operations is small beside it.
    u = x * x
    v = u * u
    p = ((_TF4 * u + _TF3) * v + (_TF2 * u + _TF1)) * u + _ONE_F
    q = ((_TG4 * u + _TG3) * v + (_TG2 * u + _TG1)) * u + _ONE_F
    y = x * p / q
    # Exactly 1 from there on, where the fraction is 3e-7 too small: 1 - y * y must be zero for a saturated unit.
    limit = -_ONE_F if x < _ZERO_F else _ONE_F
    return limit if u >= _TF * _TF else y  # in this form NaN is kept


def _sigmoid_masked_f(x):
    rounded = _ROUND_F - x * _LOG2E_F
    n = rounded - _ROUND_F
    r = -x - n * _LN2_HIGH_F
    r = r - n * _LN2_LOW_F
    v = r * r
    p = (_EF4 * v + (_EF3 * r + _EF2)) * v + (_EF1 * r + _EF0)
    s = _power_of_two(rounded)
    y = _ONE_F / (p * (s * v) + (s * r + (s + _ONE_F)))
    # Beyond these limits the power of two has no meaning.
    y = _ONE_F if x > _SIGMOID_HIGH_F else y
    return _SIGMOID_LEAST_F if x < _SIGMOID_LOW_F else y


def _sigmoid_clamped_f(x):
    x = _SIGMOID_HIGH_F if x > _SIGMOID_HIGH_F else x  # in this form NaN is kept, and it is one instruction
    x = _SIGMOID_LOW_F if x < _SIGMOID_LOW_F else x
    rounded = _ROUND_F - x * _LOG2E_F
    n = rounded - _ROUND_F
    r = -x - n * _LN2_HIGH_F
    r = r - n * _LN2_LOW_F
    v = r * r
    p = ((_EF4 * v + (_EF3 * r + _EF2)) * v + (_EF1 * r + _EF0)) * v + r
    s = _power_of_two(rounded)
    return _ONE_F / (s * p + (s + _ONE_F))


#: With AVX-512 the limits are a mask of the division, which costs nothing. Without it, fewer instructions are faster, though
#: more of them wait for each other.
_sigmoid_f = _sigmoid_masked_f if VECTOR_BITS == 512 else _sigmoid_clamped_f


def _exp_f(x):
    x = _EXP_HIGH_F if x > _EXP_HIGH_F else x
    x = _EXP_LOW_F if x < _EXP_LOW_F else x
    rounded = x * _LOG2E_F + _ROUND_F
    n = rounded - _ROUND_F
    r = x - n * _LN2_HIGH_F
    r = r - n * _LN2_LOW_F
    p = ((((_EF4 * r + _EF3) * r + _EF2) * r + _EF1) * r + _EF0) * r * r + r
    return _times_power_of_two(p + _ONE_F, rounded)


def _expm1_f(x):
    x = _EXP_HIGH_F if x > _EXP_HIGH_F else x
    x = _EXPM1_LOW_F if x < _EXPM1_LOW_F else x
    rounded = x * _LOG2E_F + _ROUND_F
    n = rounded - _ROUND_F
    r = x - n * _LN2_HIGH_F
    r = r - n * _LN2_LOW_F
    p = ((((_EF4 * r + _EF3) * r + _EF2) * r + _EF1) * r + _EF0) * r * r + r
    s = _power_of_two(rounded)
    small = s * p + (s - _ONE_F)
    big = _times_power_of_two(p + _ONE_F, rounded)
    return big if x > _EXPM1_BIG_F else small


def _log_f(x):
    scaled = x * _TINY_SCALE_F
    tiny = x < _TINY_F
    k, m = _exponent_and_mantissa(scaled if tiny else x)
    k = k - _TINY_SHIFT_F if tiny else k
    f = m - _ONE_F
    s = f / (f + _TWO_F)
    z = s * s
    q = (((_LF3 * z + _LF2) * z + _LF1) * z + _LF0) * z
    y = k * _LN2_HIGH_F + (f - (s * (f - q) - k * _LN2_LOW_F))
    y = x if x == _INF_F else y
    y = -_INF_F if x == _ZERO_F else y
    return y if x >= _ZERO_F else _NAN_F


def _log1p_f(x):
    u = _ONE_F + x
    lost = (x - (u - _ONE_F)) / u
    y = log(u)
    return y + lost if (u > _ZERO_F) & (u < _INF_F) else y


def _erf_f(x):
    x = _RF if x > _RF else x
    x = -_RF if x < -_RF else x
    u = x * x
    p = ((((_RF5 * u + _RF4) * u + _RF3) * u + _RF2) * u + _RF1) * u + _RF0
    q = ((((_RG5 * u + _RG4) * u + _RG3) * u + _RG2) * u + _RG1) * u + _ONE_F
    return x * p / q


def _normal_cdf_f(x):
    a = -x if x < _ZERO_F else x
    t = _ONE_F / (_ONE_F + a * _ROOT_EIGHTH_F)
    p = (((_NF8 * t + _NF7) * t + _NF6) * t + _NF5) * t + _NF4
    p = ((((p * t + _NF3) * t + _NF2) * t + _NF1) * t + _NF0) * t
    tail = p * exp(-_HALF_F * a * a)
    return tail if x < _ZERO_F else _ONE_F - tail


# ----------------------------------------------------------------------------------------------------------------
# float64
# ----------------------------------------------------------------------------------------------------------------

_LOG2E_D = _D(1.4426950408889634)
_LN2_HIGH_D, _LN2_LOW_D = _D(0.6931471804855391), _D(7.440617110012397e-11)
_ED0, _ED1, _ED2 = _D(0.50000000000000010314), _D(0.1666666666666666746), _D(0.041666666666623820532)
_ED3, _ED4, _ED5 = _D(0.0083333333333300381973), _D(0.0013888888917367080562), _D(0.00019841269863171556026)
_ED6, _ED7 = _D(0.000024801521057868205199), _D(2.7557268276905696187e-6)
_ED8, _ED9 = _D(2.7620201591031548792e-7), _D(2.5100472505694996003e-8)
_ONE_D, _ZERO_D, _INF_D, _NAN_D, _TWO_D = _D(1.0), _D(0.0), _D(np.inf), _D(np.nan), _D(2.0)
_EXP_LOW_D, _EXP_HIGH_D = _D(-746.0), _D(710.0)
_SIGMOID_LOW_D, _SIGMOID_HIGH_D = _D(-708.0), _D(708.0)
_EXPM1_LOW_D, _EXPM1_BIG_D = _D(-700.0), _D(100.0)
_TD = _D(20.0)
_LD0, _LD1, _LD2, _LD3 = (
    _D(0.66666666666666697321),
    _D(0.39999999999898191947),
    _D(0.28571428626570203622),
    _D(0.22222211037816587724),
)
_LD4, _LD5, _LD6 = _D(0.1818289618348308656), _D(0.1533148723586573324), _D(0.14619343453512615192)
_TINY_D, _TINY_SCALE_D, _TINY_SHIFT_D = _D(np.finfo(np.float64).tiny), _D(2.0**54), _D(54.0)
# erf(x) = x A(x**2) for |x| <= 1
_RA0, _RA1, _RA2 = _D(1.128379167095512567), _D(-0.3761263890318354044), _D(0.1128379167094500627)
_RA3, _RA4, _RA5 = _D(-0.02686617064323777036), _D(0.005223977607116422732), _D(-0.0008548325975389692081)
_RA6, _RA7, _RA8 = _D(0.0001205529490483970792), _D(-0.00001492473690741966034), _D(1.644742470331736241e-6)
_RA9, _RA10, _RA11 = _D(-1.62084838018707059e-7), _D(1.37200645467776856e-8), _D(-7.795898827002142242e-10)
# (1 + x) exp(x**2) erfc(x) for 1 <= x <= 6 in powers of (x - 3) / (x + 3)
_RB0, _RB1, _RB2 = _D(0.7160046047255598098), _D(-0.2309273330838092406), _D(0.09902075367943361609)
_RB3, _RB4, _RB5 = _D(-0.01023538889900049426), _D(-0.02380391310785961642), _D(0.02195776401249571956)
_RB6, _RB7, _RB8 = _D(-0.009750689331402700973), _D(0.001618569108794652148), _D(0.0006458150985835851286)
_RB9, _RB10, _RB11 = (
    _D(-0.000367287553079199127),
    _D(-0.00002056242008138714494),
    _D(0.00005610271707211878631),
)
_RB12, _RB13 = _D(-1.449380497211420999e-6), _D(-8.855410816395701017e-6)
_RB14, _RB15 = _D(1.140856234896026693e-7), _D(1.144181951544523883e-6)
_SIX_D, _THREE_D = _D(6.0), _D(3.0)


def _tanh_d(x):
    x = _TD if x > _TD else x
    x = -_TD if x < -_TD else x
    x = x + x
    rounded = x * _LOG2E_D + _ROUND_D
    n = rounded - _ROUND_D
    r = x - n * _LN2_HIGH_D
    r = r - n * _LN2_LOW_D
    q = (((_ED9 * r + _ED8) * r + _ED7) * r + _ED6) * r + _ED5
    q = ((((q * r + _ED4) * r + _ED3) * r + _ED2) * r + _ED1) * r + _ED0
    p = q * r * r + r
    s = _power_of_two(rounded)
    e = s * p + (s - _ONE_D)
    return e / (e + _TWO_D)


def _sigmoid_d(x):
    x = _SIGMOID_HIGH_D if x > _SIGMOID_HIGH_D else x
    x = _SIGMOID_LOW_D if x < _SIGMOID_LOW_D else x
    rounded = _ROUND_D - x * _LOG2E_D
    n = rounded - _ROUND_D
    r = -x - n * _LN2_HIGH_D
    r = r - n * _LN2_LOW_D
    q = (((_ED9 * r + _ED8) * r + _ED7) * r + _ED6) * r + _ED5
    q = ((((q * r + _ED4) * r + _ED3) * r + _ED2) * r + _ED1) * r + _ED0
    p = q * r * r + r
    s = _power_of_two(rounded)
    return _ONE_D / (s * p + (s + _ONE_D))


def _exp_d(x):
    x = _EXP_HIGH_D if x > _EXP_HIGH_D else x
    x = _EXP_LOW_D if x < _EXP_LOW_D else x
    rounded = x * _LOG2E_D + _ROUND_D
    n = rounded - _ROUND_D
    r = x - n * _LN2_HIGH_D
    r = r - n * _LN2_LOW_D
    q = (((_ED9 * r + _ED8) * r + _ED7) * r + _ED6) * r + _ED5
    q = ((((q * r + _ED4) * r + _ED3) * r + _ED2) * r + _ED1) * r + _ED0
    p = q * r * r + r
    return _times_power_of_two(p + _ONE_D, rounded)


def _expm1_d(x):
    x = _EXP_HIGH_D if x > _EXP_HIGH_D else x
    x = _EXPM1_LOW_D if x < _EXPM1_LOW_D else x
    rounded = x * _LOG2E_D + _ROUND_D
    n = rounded - _ROUND_D
    r = x - n * _LN2_HIGH_D
    r = r - n * _LN2_LOW_D
    q = (((_ED9 * r + _ED8) * r + _ED7) * r + _ED6) * r + _ED5
    q = ((((q * r + _ED4) * r + _ED3) * r + _ED2) * r + _ED1) * r + _ED0
    p = q * r * r + r
    s = _power_of_two(rounded)
    small = s * p + (s - _ONE_D)
    big = _times_power_of_two(p + _ONE_D, rounded)
    return big if x > _EXPM1_BIG_D else small


def _log_d(x):
    scaled = x * _TINY_SCALE_D
    tiny = x < _TINY_D
    k, m = _exponent_and_mantissa(scaled if tiny else x)
    k = k - _TINY_SHIFT_D if tiny else k
    f = m - _ONE_D
    s = f / (f + _TWO_D)
    z = s * s
    q = ((((((_LD6 * z + _LD5) * z + _LD4) * z + _LD3) * z + _LD2) * z + _LD1) * z + _LD0) * z
    y = k * _LN2_HIGH_D + (f - (s * (f - q) - k * _LN2_LOW_D))
    y = x if x == _INF_D else y
    y = -_INF_D if x == _ZERO_D else y
    return y if x >= _ZERO_D else _NAN_D


def _log1p_d(x):
    u = _ONE_D + x
    lost = (x - (u - _ONE_D)) / u
    y = log(u)
    return y + lost if (u > _ZERO_D) & (u < _INF_D) else y


def _erf_d(x):
    a = -x if x < _ZERO_D else x
    a = _SIX_D if a > _SIX_D else a
    u = a * a
    p = ((((_RA11 * u + _RA10) * u + _RA9) * u + _RA8) * u + _RA7) * u + _RA6
    p = ((((((p * u + _RA5) * u + _RA4) * u + _RA3) * u + _RA2) * u + _RA1) * u + _RA0) * a
    t = (a - _THREE_D) / (a + _THREE_D)
    q = ((((((_RB15 * t + _RB14) * t + _RB13) * t + _RB12) * t + _RB11) * t + _RB10) * t + _RB9) * t + _RB8
    q = (
        ((((((q * t + _RB7) * t + _RB6) * t + _RB5) * t + _RB4) * t + _RB3) * t + _RB2) * t + _RB1
    ) * t + _RB0
    far = _ONE_D - exp(-u) * q / (_ONE_D + a)
    y = far if a > _ONE_D else p
    return -y if x < _ZERO_D else y


def _normal_cdf_d(x):
    return _HALF_D * (_ONE_D + erf(x * _ROOT_HALF_D))


def _scalar(function: Callable, single: Callable, double: Callable) -> None:
    def pick(x):
        return {types.float32: single, types.float64: double}.get(x)

    body_of(function, fastmath={"contract"})(pick)


if not DISABLED:
    _scalar(tanh, _tanh_f, _tanh_d)
    _scalar(sigmoid, _sigmoid_f, _sigmoid_d)
    _scalar(exp, _exp_f, _exp_d)
    _scalar(expm1, _expm1_f, _expm1_d)
    _scalar(log, _log_f, _log_d)
    _scalar(log1p, _log1p_f, _log1p_d)
    _scalar(erf, _erf_f, _erf_d)
    _scalar(normal_cdf, _normal_cdf_f, _normal_cdf_d)

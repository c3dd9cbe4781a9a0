"""Initial values of weights, by Keras's names and with its distributions."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn.checks import choice, integer, number
from fastrnn.random import check_seed, new_generator, truncated_normal, uniform
from fastrnn.registry import Configurable, Registry

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
]

#: While a model is read from a file: the number of bytes of weights that may still be allocated, in a list of one item.
_bytes_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("bytes_left", default=None)

#: The standard deviation of a standard normal cut off at two standard deviations.
_TRUNCATED_STD = 0.87962566103423978


class Initializer(Configurable):
    """Base class. A subclass defines ``__call__(shape, dtype, rng) -> ndarray`` of that shape and dtype.

    An initializer with a `seed` returns the same values at every call. Without a seed it draws from `rng`, a generator that
    the layer passes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.initializers import Initializer
    >>> class Halves(Initializer):
    ...     def __call__(self, shape, dtype, rng):
    ...         return np.full(shape, 0.5, dtype)
    >>> Halves()((2,), np.float32, None)
    array([0.5, 0.5], dtype=float32)
    """

    seed: int | None = None

    def _generator(self, rng: np.random.Generator | None) -> np.random.Generator:
        if self.seed is not None or rng is None:
            return new_generator(self.seed)
        return rng

    def __call__(
        self, shape: tuple[int, ...], dtype: Any = "float32", rng: np.random.Generator | None = None
    ) -> np.ndarray:
        raise NotImplementedError


class Constant(Initializer):
    """Every weight equals `value`.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.Constant(0.5)((2, 2)).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    _config_names = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        self.value = number(value, "value")

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        return np.full(shape, self.value, dtype)


class Zeros(Initializer):
    """Every weight is 0.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.Zeros()((2, 2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """Every weight is 1.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.Ones()((2, 2)).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        return np.ones(shape, dtype)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.Identity()((2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    _config_names = ("gain",)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = number(gain, "gain")

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity initializes matrices only, got shape={tuple(shape)}")
        result: np.ndarray = self.gain * np.eye(*shape, dtype=dtype)
        return result


class RandomNormal(Initializer):
    """Normal with `mean` and `stddev`.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.RandomNormal(seed=0)((200, 100)).std().round(3).item()
    0.05000000074505806
    """

    _config_names = ("mean", "stddev", "seed")

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        self.mean, self.stddev = number(mean, "mean"), number(stddev, "stddev", 0)
        self.seed = check_seed(seed)

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        result: np.ndarray = (
            self._generator(rng).normal(self.mean, self.stddev, shape).astype(dtype, copy=False)
        )
        return result


class TruncatedNormal(RandomNormal):
    """Normal with `mean` and `stddev`; values more than two standard deviations from the mean are drawn again.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.TruncatedNormal(seed=0)((200, 100)).std().round(3).item()
    0.04399999976158142
    """

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        values = truncated_normal(self._generator(rng), shape)
        result: np.ndarray = (self.mean + self.stddev * values).astype(dtype, copy=False)
        return result


class RandomUniform(Initializer):
    """Uniform between `minval` and `maxval`.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.RandomUniform(seed=0)((200, 100)).std().round(3).item()
    0.028999999165534973
    """

    _config_names = ("minval", "maxval", "seed")

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval = number(minval, "minval")
        self.maxval = number(maxval, "maxval", minval)
        self.seed = check_seed(seed)

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        return uniform(self._generator(rng), self.minval, self.maxval, shape, dtype)


class VarianceScaling(Initializer):
    """Zero mean and variance ``scale / n``, where n is fan_in, fan_out, or the mean of both.

    Parameters
    ----------
    scale : float
        Positive.
    mode : {"fan_in", "fan_out", "fan_avg"}
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        ``"normal"`` is another name of the first.
    seed : int, optional
    input_axes, output_axes : int or sequence of int, optional
        Axes that count as inputs and outputs; by default the last but one and the last, times the size of all
        axes before them.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.VarianceScaling(seed=0)((200, 100)).std().round(3).item()
    0.07100000232458115
    """

    _config_names: tuple[str, ...] = ("scale", "mode", "distribution", "seed", "input_axes", "output_axes")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ) -> None:
        if isinstance(distribution, str):
            distribution = distribution.lower()
        if distribution == "normal":
            distribution = "truncated_normal"
        self.scale = number(scale, "scale", 0, above=True)
        self.mode = choice(mode, "mode", ("fan_in", "fan_out", "fan_avg"))
        known = ("truncated_normal", "untruncated_normal", "uniform")
        self.distribution, self.seed = choice(distribution, "distribution", known), check_seed(seed)
        self.input_axes, self.output_axes = _axes(input_axes, "input_axes"), _axes(output_axes, "output_axes")

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = self._generator(rng)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return uniform(rng, -limit, limit, shape, dtype)
        if self.distribution == "untruncated_normal":
            result: np.ndarray = (math.sqrt(variance) * rng.standard_normal(shape)).astype(dtype, copy=False)
            return result
        return (math.sqrt(variance) / _TRUNCATED_STD * truncated_normal(rng, shape)).astype(dtype, copy=False)


class _Preset(VarianceScaling):
    """A variance scaling whose first three arguments are fixed by `_preset`."""

    _preset: tuple[float, str, str]
    _config_names = ("seed", "input_axes", "output_axes")

    def __init__(self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None) -> None:
        super().__init__(*self._preset, seed, input_axes, output_axes)


class GlorotUniform(_Preset):
    """Uniform within ``sqrt(6 / (fan_in + fan_out))`` (Glorot & Bengio, 2010).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.GlorotUniform(seed=0)((200, 100)).std().round(3).item()
    0.08100000023841858
    """

    _preset = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Preset):
    """Truncated normal of variance ``2 / (fan_in + fan_out)`` (Glorot & Bengio, 2010).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.GlorotNormal(seed=0)((200, 100)).std().round(3).item()
    0.0820000022649765
    """

    _preset = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Preset):
    """Uniform within ``sqrt(6 / fan_in)`` (He et al., 2015).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.HeUniform(seed=0)((200, 100)).std().round(3).item()
    0.10000000149011612
    """

    _preset = (2.0, "fan_in", "uniform")


class HeNormal(_Preset):
    """Truncated normal of variance ``2 / fan_in`` (He et al., 2015).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.HeNormal(seed=0)((200, 100)).std().round(3).item()
    0.10000000149011612
    """

    _preset = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Preset):
    """Uniform within ``sqrt(3 / fan_in)`` (LeCun et al., 1998).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.LecunUniform(seed=0)((200, 100)).std().round(3).item()
    0.07000000029802322
    """

    _preset = (1.0, "fan_in", "uniform")


class LecunNormal(_Preset):
    """Truncated normal of variance ``1 / fan_in`` (LeCun et al., 1998).

    Examples
    --------
    >>> from fastrnn import initializers
    >>> initializers.LecunNormal(seed=0)((200, 100)).std().round(3).item()
    0.07100000232458115
    """

    _preset = (1.0, "fan_in", "truncated_normal")


class Orthogonal(Initializer):
    """`gain` times a matrix with orthonormal rows or columns, whichever are fewer (Saxe et al., 2014).

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import initializers
    >>> w = initializers.Orthogonal(seed=0)((4, 4), "float64")
    >>> bool(np.allclose(w @ w.T, np.eye(4)))
    True
    """

    _config_names = ("gain", "seed")

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain, self.seed = number(gain, "gain"), check_seed(seed)

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs at least two axes, got shape={tuple(shape)}")
        n_rows, n_columns = math.prod(shape[:-1]), shape[-1]
        normal = self._generator(rng).standard_normal((max(n_rows, n_columns), min(n_rows, n_columns)))
        q, r = np.linalg.qr(normal)
        # With the signs of R's diagonal, Q is uniformly distributed over all such matrices.
        q *= np.sign(np.diagonal(r))
        result: np.ndarray = (self.gain * (q.T if n_rows < n_columns else q).reshape(shape)).astype(dtype)
        return result


def _axes(value: Any, name: str) -> Any:
    """Return `value` as an int or a list of them, or raise if it is neither; None stays."""
    if isinstance(value, (list, tuple)):
        return [integer(axis, f"{name}[{k}]", -32) for k, axis in enumerate(value)]
    return integer(value, name, -32, optional=True)


def _fans(shape: tuple[int, ...], input_axes: Any, output_axes: Any) -> tuple[float, float]:
    rank = len(shape)
    if rank == 0:
        return 1, 1
    if input_axes is None and output_axes is None:
        if rank == 1:
            return shape[0], shape[0]
        others = math.prod(shape[:-2])
        return shape[-2] * others, shape[-1] * others

    def axes(given: Any, default: int) -> set[int]:
        given = default if given is None else given
        given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        return {axis % rank for axis in given}

    ins, outs = axes(input_axes, -2), axes(output_axes, -1)
    others = math.prod(n for axis, n in enumerate(shape) if axis not in ins | outs)
    return others * math.prod(shape[i] for i in ins), others * math.prod(shape[i] for i in outs)


_registry = Registry(
    "initializer",
    [
        Constant,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        Identity,
        LecunNormal,
        LecunUniform,
        Ones,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        Zeros,
    ],
    {
        "normal": RandomNormal,
        "uniform": RandomUniform,
        "one": Ones,
        "zero": Zeros,
        "IdentityInitializer": Identity,
        "OrthogonalInitializer": Orthogonal,
    },
)


def get(identifier: Any, argument: str = "initializer") -> Any:
    """Return the initializer for `identifier`: a name, a config, an array of values, or a callable.

    Examples
    --------
    >>> from fastrnn import initializers
    >>> type(initializers.get("glorot_uniform")).__name__
    'GlorotUniform'
    """
    if isinstance(identifier, np.ndarray):
        return _Given(identifier)
    return _registry.get(identifier, argument)


class _Given(Initializer):
    """An array of initial values."""

    _config_names = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __call__(self, shape: Any, dtype: Any = "float32", rng: Any = None) -> np.ndarray:
        if tuple(shape) != self.values.shape:
            raise ValueError(f"initial values have shape {self.values.shape}, the weight has {tuple(shape)}")
        return self.values.astype(dtype)


_registry.table["_Given"] = _Given  # its name in a layer's configuration


@contextlib.contextmanager
def zeros_within(n_bytes: int) -> Iterator[None]:
    """Within the block, initialize all weights with zeros, as their values are set later; `n_bytes` limits their size.

    Raises
    ------
    ValueError
        In the block, before memory is allocated for a weight that exceeds the limit.
    """
    token = _bytes_left.set([n_bytes])
    try:
        yield
    finally:
        _bytes_left.reset(token)


def call(initializer: Any, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """Return initial values from an initializer, or from a function ``f(shape, dtype=...)`` of the user's."""
    left = _bytes_left.get()
    if left is not None:
        left[0] -= math.prod(shape) * np.dtype(dtype).itemsize
        if left[0] < 0:
            raise ValueError(
                f"the layers have more weights than the file has values; one weight has shape {tuple(shape)}"
            )
        return np.zeros(shape, dtype)
    if isinstance(initializer, Initializer):
        values = initializer(shape, dtype, rng)
    else:
        values = np.asarray(initializer(shape, dtype=np.dtype(dtype).name), dtype)
    if values.shape != tuple(shape):
        raise ValueError(
            f"{initializer!r} returned shape {values.shape} for a weight of shape {tuple(shape)}"
        )
    return values

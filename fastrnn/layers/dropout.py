"""Dropout between layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import integer, number
from fastrnn.layers.base import Layer, Shape
from fastrnn.random import check_seed

__all__ = ["Dropout"]


class Dropout(Layer):
    """Sets a fraction of the inputs to zero in training and divides the others by ``1 - rate``.

    Inputs may have any shape. Outside of training the output is the input.

    Parameters
    ----------
    rate : float
        Fraction of the inputs that is set to zero, from 0 to 1.
    noise_shape : sequence of int or None, optional
        Shape of the random mask, which is broadcast: ``(None, 1, 5)`` drops the same features at all time steps. None
        means the input's size.
    seed : int, optional
        Seed of the layer's random numbers; by default it comes from the model's seed.
    **kwargs
        As for :class:`Layer`.

    References
    ----------
    Srivastava et al. (2014), Dropout: a simple way to prevent neural networks from overfitting, JMLR 15.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Dropout(0.5, seed=0)(np.ones((1, 6)), training=True).tolist()
    [[2.0, 2.0, 0.0, 0.0, 2.0, 0.0]]
    """

    unchanged = True

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(noise_shape, str) or (
            noise_shape is not None and not isinstance(noise_shape, Sequence)
        ):
            raise ValueError(f"noise_shape={noise_shape!r}: give a tuple of integers and None")
        if noise_shape is not None:
            noise_shape = tuple(
                integer(size, "noise_shape (each size)", optional=True) for size in noise_shape
            )
        self.rate = float(number(rate, "rate", 0, 1))
        self.noise_shape = noise_shape
        self.seed = check_seed(seed)
        if seed is not None:
            super().set_seed(seed)

    def set_seed(self, seed: int | np.random.SeedSequence | None) -> None:
        # A layer with a seed keeps it when a model seeds its layers.
        super().set_seed(seed if self.seed is None else self.seed)

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if self.noise_shape is None:
            return
        if len(self.noise_shape) != len(shape):
            raise ValueError(
                f"noise_shape={self.noise_shape!r} has {len(self.noise_shape)} axes, the input has {len(shape)}"
            )
        for size, n in zip(self.noise_shape, shape, strict=True):
            if size not in (None, 1) and n is not None and n != size:
                raise ValueError(
                    f"noise_shape={self.noise_shape!r} does not fit an input of shape {shape}: "
                    "each size must be that of the input, 1 or None"
                )

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        if not training or self.rate == 0:
            return x, None
        if self.noise_shape is None:
            shape = x.shape
        else:
            shape = tuple(
                n if size is None else size for size, n in zip(self.noise_shape, x.shape, strict=True)
            )
        # Draw time-major masks for time-major inputs, so that the output is time-major too.
        time_major = x.ndim == 3 and not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous
        if time_major:
            shape = (shape[1], shape[0], shape[2])
        kept = self._rng.random(shape, dtype=np.float32) >= self.rate
        scale = x.dtype.type(0 if self.rate == 1 else 1 / (1 - self.rate))
        factors = np.multiply(kept, scale, dtype=x.dtype)
        if time_major:
            factors = factors.swapaxes(0, 1)
        return x * factors, factors

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if not need_dx:
            return None
        return dy if cache is None else dy * cache

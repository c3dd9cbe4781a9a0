"""Layers without states: Dense, Activation, and layers that reshape or mask their input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.checks import choice, flag, integer, number
from fastrnn.engine.kernels.matmul import matmul, pack, packed_size
from fastrnn.engine.kernels.vecmath import prepare
from fastrnn.engine.recurrence import stateless
from fastrnn.engine.recurrence.call_list import bind
from fastrnn.engine.runtime.memory import aligned
from fastrnn.layers.arithmetic import activate, activate_backward, check_activation
from fastrnn.layers.arrays import RowLayout, as_rows, check_positive_int
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.streamed import Streamed

__all__ = [
    "Activation",
    "ActivityRegularization",
    "Dense",
    "Flatten",
    "Input",
    "InputLayer",
    "Masking",
    "RepeatVector",
]


class InputLayer(Layer):
    """Declares the shape of a model's input; :func:`Input` makes one.

    Parameters
    ----------
    shape : tuple, optional
        Shape without the batch axis; None for sizes that may vary, as in ``(None, 3)`` for any number of time steps.
    batch_size : int, optional
        Fixed batch size.
    dtype : str, optional
        Dtype of the input data, such as ``"int32"`` for tokens.
    batch_shape : tuple, optional
        Shape with the batch axis, in place of `shape` and `batch_size`.
    sparse, ragged, input_tensor, optional
        Arguments of Keras; only their defaults are supported.
    name : str, optional

    Examples
    --------
    >>> from fastrnn.layers import InputLayer
    >>> InputLayer(shape=(10, 3)).batch_shape
    (None, 10, 3)
    """

    unchanged = True

    def __init__(
        self,
        shape: Sequence[int | None] | int | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: Any = None,
        ragged: Any = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(name=name, **unknown)
        for key, value in (("sparse", sparse), ("ragged", ragged), ("input_tensor", input_tensor)):
            if value:
                raise NotImplementedError(f"{key}={value!r} is not supported; give dense arrays of numbers")
        if batch_shape is not None:
            if shape is not None or batch_size is not None:
                raise ValueError("give either batch_shape, or shape and batch_size")
            batch_size, shape = batch_shape[0], tuple(batch_shape[1:])
        if shape is None:
            raise ValueError(
                "Input needs shape, such as shape=(None, 3) for any number of steps of 3 features"
            )
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        self.shape = tuple(integer(size, "shape (each size)", optional=True) for size in shape)
        self.batch_size = integer(batch_size, "batch_size", optional=True)
        try:
            self.data_dtype = None if dtype is None else np.dtype(dtype)
        except TypeError:
            raise ValueError(
                f"dtype={dtype!r}: give the name of a dtype, such as 'float32' or 'int32'"
            ) from None
        self.batch_shape: Shape = (self.batch_size, *self.shape)
        self.sparse, self.ragged, self.input_tensor, self.optional = sparse, ragged, input_tensor, optional
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": self.batch_shape,
            "dtype": None if self.data_dtype is None else self.data_dtype.name,
            "name": self.name,
        }

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        return x, None

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return dy


def Input(*args: Any, **kwargs: Any) -> InputLayer:  # noqa: N802
    """Make an :class:`InputLayer`, which must be the first layer of a model.

    Examples
    --------
    >>> from fastrnn import layers
    >>> layers.Input((None, 3)).batch_shape
    (None, None, 3)
    """
    return InputLayer(*args, **kwargs)


def unsupported(layer: str, **arguments: Any) -> None:
    """Raise for arguments of Keras that are not supported, unless they have their default."""
    for key, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"{layer}: {key}={value!r} is not supported, leave it at None")


class Dense(Layer):
    """Computes ``activation(x @ kernel + bias)`` over the last axis.

    Inputs have shape ``(batch, ..., n_inputs)``, outputs ``(batch, ..., units)``. Weights are ``kernel (n_inputs,
    units)`` and ``bias (units,)``, the same for all axes between.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str, optional
        Name of an activation; None is linear.
    use_bias : bool
    kernel_initializer, bias_initializer : initializer
    kernel_regularizer, bias_regularizer, activity_regularizer : regularizer, optional
    kernel_constraint, bias_constraint : constraint, optional
    lora_rank, lora_alpha, quantization_config : None
        Arguments of Keras; not supported.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Dense(3)(np.ones((2, 5))).shape
    (2, 3)
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: None = None,
        lora_alpha: None = None,
        quantization_config: None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        unsupported(
            "Dense", lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config
        )
        self.units = check_positive_int(units, "units")
        self.activation = check_activation(activation)
        if self.units == 1 and self.activation == "softmax":
            warnings.warn(
                f"layer {self.name!r} (Dense): the softmax of one output is always 1; use activation='sigmoid' for a "
                "probability",
                stacklevel=2,
            )
        self.use_bias = flag(use_bias, "use_bias")
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "kernel_constraint")
        self.bias_constraint = constraints.get(bias_constraint, "bias_constraint")
        self.output_activation = self.activation

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if len(shape) < 2 or (shape[-1] is None and not self.built):
            raise ValueError(
                f"layer {self.name!r} (Dense) needs inputs (batch, ..., features) with a known number of features, "
                f"got shape {tuple(shape)}"
            )

    def build(self, input_shape: Shape) -> None:
        n_inputs: Any = input_shape[-1]
        self.add_weight(
            "kernel",
            (n_inputs, self.units),
            self.kernel_initializer,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        if self.use_bias:
            self.add_weight(
                "bias", (self.units,), self.bias_initializer, self.bias_regularizer, self.bias_constraint
            )
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def streamed(self, x: Any) -> Streamed:
        kernel = np.ascontiguousarray(self._weights["kernel"])
        packed = aligned(packed_size(len(kernel), self.units, self.dtype), self.dtype)
        pack(kernel, packed, 0, self.units, False, 0, 1)
        bias = self._weights.get("bias", np.empty(0, self.dtype)).reshape(-1, self.units).copy()
        out = np.empty((len(x), self.units), self.dtype)
        code = prepare(self.activation, self.dtype)
        return Streamed((bind(stateless.dense_step, x, packed, bias, code, out),), out)

    def forward_linear(
        self, x: Any, mask: np.ndarray | None = None, training: bool = False
    ) -> tuple[Any, Any]:
        """Return the output before the activation, and what `backward_linear` needs."""
        layout = RowLayout(x)
        rows = layout.rows(x)
        z = matmul(rows, self._weights["kernel"], bias=self._weights.get("bias"))
        return layout.back(z), (layout, rows)

    def backward_linear(self, dz: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        """As `backward`, from the gradient of the output before the activation."""
        layout, rows = cache
        dz = layout.rows(dz)
        matmul(rows, dz, out=self._grads["kernel"], transpose_a=True)
        if self.use_bias:
            np.add.reduce(dz, axis=0, out=self._grads["bias"])
        if not need_dx:
            return None
        result: np.ndarray | None = layout.back(matmul(dz, self._weights["kernel"], transpose_b=True))
        return result

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        z, cache = self.forward_linear(x, mask, training)
        if self.activation == "linear":
            return z, (cache, None, None)
        layout = cache[0]
        z = layout.rows(z)
        y = activate(self.activation, z)
        return layout.back(y), (cache, z, y)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        linear, z, y = cache
        if self.activation != "linear":
            layout = linear[0]
            dy = layout.back(activate_backward(self.activation, z, y, layout.rows(dy)))
        return self.backward_linear(dy, linear, need_dx)


class Activation(Layer):
    """Applies an activation to an input of any shape.

    Parameters
    ----------
    activation : str
        Name of the activation.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Activation("relu")(np.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = check_activation(activation)
        self.output_activation = self.activation

    def streamed(self, x: Any) -> Streamed:
        out = np.empty_like(x)
        code = prepare(self.activation, self.dtype)
        return Streamed((bind(stateless.activation_step, x, code, out),), out)

    def forward_linear(
        self, x: Any, mask: np.ndarray | None = None, training: bool = False
    ) -> tuple[Any, Any]:
        return x, None

    def backward_linear(self, dz: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return dz

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        rows, back = as_rows(x)
        y = activate(self.activation, rows)
        return back(y), (x, rows, y)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        x, rows, y = cache
        layout = RowLayout(x)
        return layout.back(activate_backward(self.activation, rows, y, layout.rows(dy)))


class ActivityRegularization(Layer):
    """Returns its input and adds ``(l1 * sum(|x|) + l2 * sum(x**2)) / batch_size`` to the loss.

    Parameters
    ----------
    l1, l2 : float
        Non-negative factors of the penalties.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.ActivityRegularization(l2=0.1)(np.ones((1, 2))).tolist()
    [[1.0, 1.0]]
    """

    unchanged = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        penalty = regularizers.L1L2(l1, l2)
        super().__init__(activity_regularizer=penalty, **kwargs)
        self.l1, self.l2 = penalty.l1, penalty.l2

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activity_regularizer"]
        return config

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        return x, None

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return dy


class Flatten(Layer):
    """Joins all axes after the batch axis: ``(batch, a, b, ...)`` becomes ``(batch, a * b * ...)``.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        With "channels_first", the second axis is moved to the end first.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    supports_masking = False

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = ("channels_last", "channels_first", None)
        self.data_format = choice(data_format, "data_format", known) or "channels_last"

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        sizes = input_shape[1:]
        return (input_shape[0], None if None in sizes else math.prod(sizes))  # type: ignore[arg-type]

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        if mask is not None:
            warnings.warn(
                f"layer {self.name!r} (Flatten) joins the time steps, so the following layers get no mask and use padding",
                stacklevel=2,
            )
        return None

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        shape = x.shape
        if self.data_format == "channels_first" and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)
        return x.reshape(len(x), -1), shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if self.data_format == "channels_first" and len(cache) > 2:
            return np.moveaxis(dy.reshape(cache[0], *cache[2:], cache[1]), -1, 1)
        return dy.reshape(cache)


class RepeatVector(Layer):
    """Repeats an input of shape ``(batch, features)`` along a new time axis: the output is ``(batch, n, features)``.

    Parameters
    ----------
    n : int
        Number of time steps.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.RepeatVector(3)(np.ones((2, 5))).shape
    (2, 3, 5)
    """

    input_ndim = 2

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = check_positive_int(n, "n")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.n, input_shape[1])

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        # A copy, because products can't read a view with stride 0.
        y = np.empty((self.n, *x.shape), x.dtype)
        y[...] = x
        return y.swapaxes(0, 1), None

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return dy.sum(axis=1) if need_dx else None


class Masking(Layer):
    """Masks the time steps whose features all equal `mask_value`, and sets them to zero.

    Inputs and outputs have shape ``(batch, time, features)``.

    Parameters
    ----------
    mask_value : float
        Compared in the layer's dtype; not NaN.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> x = np.array([[[1.0], [0.0], [2.0]]])
    >>> layers.Masking(0.0).compute_mask(x).tolist()
    [[True, False, True]]
    """

    input_ndim = 3
    unchanged = True  # outputs of masked steps are zero, but a stream does not compute these steps

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # NaN is rejected, because no number equals it.
        self.mask_value = number(mask_value, "mask_value")

    def _found(self, x: np.ndarray) -> np.ndarray:
        result: np.ndarray = (x != self.mask_value).any(axis=-1)
        return result

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        return self._found(x) if mask is None else self._found(x) & mask

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        if self.mask_value == 0:
            return x, None
        found = self._found(x)
        return np.where(found[..., None], x, x.dtype.type(0)), found

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if not need_dx:
            return None
        return dy if cache is None else dy * cache[..., None]

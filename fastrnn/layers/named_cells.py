"""The cells with names of their own: Keras's, three more, and any cell of the engine."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastrnn import initializers
from fastrnn.cells.gru import GRU as GRUKernel
from fastrnn.cells.gru import GRUBefore as GRUBeforeKernel
from fastrnn.cells.indrnn import IndRNN as IndRNNKernel
from fastrnn.cells.janet import JANET as JANETKernel
from fastrnn.cells.lstm import LSTM as LSTMKernel
from fastrnn.cells.peephole_lstm import PeepholeLSTM as PeepholeLSTMKernel
from fastrnn.cells.simple_rnn import SimpleRNN as SimpleRNNKernel
from fastrnn.checks import flag, number
from fastrnn.engine.recurrence.contract import Traits
from fastrnn.layers.arithmetic import check_activation
from fastrnn.layers.base import Shape
from fastrnn.layers.cells import Cell

__all__ = [
    "GRUCell",
    "IndRNNCell",
    "JANETCell",
    "KernelCell",
    "LSTMCell",
    "PeepholeLSTMCell",
    "SimpleRNNCell",
    "is_kernel",
    "is_kernel_class",
]


class SimpleRNNCell(Cell):
    """``h = activation(x @ kernel + h_prev @ recurrent_kernel + bias)`` (Elman 1990); one state, h.

    Weights: ``kernel (n_inputs, units)``, ``recurrent_kernel (units, units)``, ``bias (units,)``.
    Parameters are those of :class:`Cell`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, SimpleRNNCell
    >>> RNN(SimpleRNNCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    kernel_type = SimpleRNNKernel


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); two states, h and c.

    With ``z = x @ kernel + h_prev @ recurrent_kernel + bias``, whose columns are z_i, z_f, z_c and z_o::

        i, f, o = recurrent_activation(z_i), recurrent_activation(z_f), recurrent_activation(z_o)
        c = f * c_prev + i * activation(z_c)
        h = o * activation(c)

    Weights: ``kernel (n_inputs, 4 * units)``, ``recurrent_kernel (units, 4 * units)``, ``bias (4 * units,)``.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Of the three gates.
    unit_forget_bias : bool
        Start the forget gate's bias at one.
    use_cudnn
        An argument of Keras without effect.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, LSTMCell
    >>> RNN(LSTMCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    kernel_type = LSTMKernel
    _activations = ("activation", "recurrent_activation")

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
        recurrent_activation: str | None = "sigmoid",
        use_bias: bool = True,
        *,
        unit_forget_bias: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        self.recurrent_activation = check_activation(recurrent_activation, "recurrent_activation")
        self.unit_forget_bias = flag(unit_forget_bias, "unit_forget_bias")
        super().__init__(units, activation, use_bias, **kwargs)
        self.use_cudnn = use_cudnn

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.use_bias and self.unit_forget_bias:
            self._weights["bias"][self.units : 2 * self.units] = 1


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014); one state, h.

    With ``x_k = x @ kernel + bias`` and ``u_k = h_prev @ recurrent_kernel + recurrent_bias`` for the columns k of z, r, h::

        z, r = recurrent_activation(x_z + u_z), recurrent_activation(x_r + u_r)
        g = activation(x_h + r * u_h)                                     with reset_after
        g = activation(x_h + (r * h_prev) @ recurrent_kernel_h)           without
        h = z * h_prev + (1 - z) * g

    Weights: ``kernel (n_inputs, 3 * units)``, ``recurrent_kernel (units, 3 * units)``, ``bias (2, 3 * units)`` (input row,
    recurrent row) with `reset_after`, ``(3 * units,)`` without.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Of the two gates.
    reset_after : bool
        Whether to apply the reset gate after the recurrent product, or before it.
    use_cudnn
        An argument of Keras without effect.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, GRUCell
    >>> RNN(GRUCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    _activations = ("activation", "recurrent_activation")

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
        recurrent_activation: str | None = "sigmoid",
        use_bias: bool = True,
        *,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        self.recurrent_activation = check_activation(recurrent_activation, "recurrent_activation")
        self.reset_after = flag(reset_after, "reset_after")
        super().__init__(units, activation, use_bias, **kwargs)
        self.use_cudnn = use_cudnn

    @property
    def kernel_type(self) -> Any:  # type: ignore[override]
        """The engine's cell for this value of `reset_after`."""
        return GRUKernel if self.reset_after else GRUBeforeKernel


def is_kernel_class(cls: type) -> bool:
    """Whether `cls` is a class of cells of the engine: a NamedTuple with a method `traits`."""
    return issubclass(cls, tuple) and callable(getattr(cls, "traits", None))


def is_kernel(cell: Any) -> bool:
    """Whether `cell` is a cell of the engine."""
    return is_kernel_class(type(cell))


class KernelCell(Cell):
    """A cell made of a kernel of the engine, given as a NamedTuple.

    Parameters
    ----------
    kernel : NamedTuple
        A kernel with ``n_units`` and ``traits()``, and bodies of `step_forward` and `step_backward` (see
        `fastrnn.engine.recurrence.contract`).
    use_bias : bool
    extra_initializer, extra_regularizer, extra_constraint
        Options of the kernel's parameters other than kernel, recurrent kernel and bias.
    **kwargs
        As for :class:`Cell`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.cells.janet import JANET
    >>> from fastrnn.layers import RNN, KernelCell
    >>> RNN(KernelCell(JANET(n_units=8, beta=0.5)))(np.ones((4, 5, 2))).shape
    (4, 8)
    """

    def __init__(
        self,
        kernel: Any,
        use_bias: bool = True,
        *,
        extra_initializer: Any = "zeros",
        extra_regularizer: Any = None,
        extra_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if not is_kernel(kernel):
            raise ValueError(
                f"kernel={kernel!r}: give an instance of a NamedTuple with n_units and traits(), such as "
                "fastrnn.cells.lstm.LSTM(n_units=8)"
            )
        found = kernel.traits()
        if not isinstance(found, Traits):
            raise ValueError(f"kernel={kernel!r}: its traits() must return a Traits, got {found!r}")
        self.kernel = kernel
        for name in ("units", "activation"):
            if name in kwargs:
                raise TypeError(f"{name}={kwargs[name]!r}: it is defined by the kernel, leave it out")
        super().__init__(kernel.n_units, None, use_bias, **kwargs)
        self._set_extra(extra_initializer, extra_regularizer, extra_constraint)

    @functools.cached_property
    def _kernel_cell(self) -> Any:
        return self.kernel

    @property
    def kernel_type(self) -> Any:  # type: ignore[override]
        """The kernel's class."""
        return type(self.kernel)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self._start_as_defined()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("units", "activation")}


class PeepholeLSTMCell(LSTMCell):
    """Long short-term memory whose gates depend on the cell state (Gers & Schmidhuber 2000); two states, h and c.

    With z as for :class:`LSTMCell`, and p_i, p_f and p_o, the rows of ``peephole_kernel (3, units)``::

        i, f = recurrent_activation(z_i + p_i * c_prev), recurrent_activation(z_f + p_f * c_prev)
        c = f * c_prev + i * activation(z_c)
        h = recurrent_activation(z_o + p_o * c) * activation(c)

    Weights are those of :class:`LSTMCell`, then ``peephole_kernel``.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, **kwargs
        As for :class:`LSTMCell`.
    peephole_initializer, peephole_regularizer, peephole_constraint
        Options of the peephole weights. With the default, zeros, the initial cell is an LSTM without peepholes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, PeepholeLSTMCell
    >>> RNN(PeepholeLSTMCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    kernel_type: Any = PeepholeLSTMKernel
    extra_name = "peephole_kernel"

    def __init__(
        self,
        units: int,
        *args: Any,
        peephole_initializer: Any = "zeros",
        peephole_regularizer: Any = None,
        peephole_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, *args, **kwargs)
        self._set_extra(peephole_initializer, peephole_regularizer, peephole_constraint)
        self.peephole_initializer, self.peephole_regularizer, self.peephole_constraint = (
            self.extra_initializer,
            self.extra_regularizer,
            self.extra_constraint,
        )


class JANETCell(Cell):
    """Long short-term memory with a forget gate as its only gate (van der Westhuizen & Lasenby 2018); one state, h.

    With ``z = x @ kernel + h_prev @ recurrent_kernel + bias``, whose columns are z_f and z_g::

        h = recurrent_activation(z_f) * h_prev + (1 - recurrent_activation(z_f - beta)) * activation(z_g)

    Weights: ``kernel (n_inputs, 2 * units)``, ``recurrent_kernel (units, 2 * units)``, ``bias (2 * units,)``.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Activation of the forget gate.
    beta : float
        Subtracted from the pre-activation of the gate in the factor of the candidate, see the equation.
    unit_forget_bias : bool
        Whether the initial bias of the forget gate is 1.
    t_max : int, optional
        If given, the initial biases of the forget gate are logarithms of random numbers from 1 to ``t_max - 1``, so that
        the memory of a unit lasts about this number of steps (Tallec & Ollivier 2018).

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, JANETCell
    >>> RNN(JANETCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    kernel_type = JANETKernel
    _activations = ("activation", "recurrent_activation")

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
        recurrent_activation: str | None = "sigmoid",
        use_bias: bool = True,
        *,
        beta: float = 1.0,
        unit_forget_bias: bool = True,
        t_max: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.recurrent_activation = check_activation(recurrent_activation, "recurrent_activation")
        self.beta = float(number(beta, "beta"))
        super().__init__(units, activation, use_bias, **kwargs)
        self.unit_forget_bias = flag(unit_forget_bias, "unit_forget_bias")
        self.t_max = number(t_max, "t_max", 2, above=True, optional=True)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if not self.use_bias:
            return
        forget = self._weights["bias"][: self.units]
        if self.t_max is not None:
            forget[...] = np.log(self._rng.uniform(1, self.t_max - 1, self.units))
        elif self.unit_forget_bias:
            forget[...] = 1


class IndRNNCell(Cell):
    """``h = activation(x @ kernel + recurrent_kernel * h_prev + bias)``: each unit depends on its own past only.

    Weights: ``kernel (n_inputs, units)``, ``recurrent_kernel (units,)``, ``bias (units,)``. One state, h. There is no
    recurrent product, so `recurrent_dropout` must be 0 (Li et al. 2018).

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_initializer
        Initializer of the vector of recurrent weights; by default uniform from 0 to 1, as in the paper. For long sequences
        their absolute values should be below about ``2 ** (1 / n_steps)``, for example by `recurrent_constraint`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import RNN, IndRNNCell
    >>> RNN(IndRNNCell(4), return_sequences=True)(np.ones((2, 3, 5))).shape
    (2, 3, 4)
    """

    kernel_type = IndRNNKernel
    extra_name = "recurrent_kernel"

    def __init__(
        self,
        units: int,
        activation: str | None = "relu",
        use_bias: bool = True,
        *,
        recurrent_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        if recurrent_initializer is None:
            recurrent_initializer = initializers.RandomUniform(0.0, 1.0)
        super().__init__(units, activation, use_bias, recurrent_initializer=recurrent_initializer, **kwargs)
        self._set_extra(*self._weight_options("recurrent"))

    def _extra_shape(self) -> tuple[int, ...]:
        return (self.units,)

"""Cells beyond Keras's, and any cell of the engine as a layer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.cells.indrnn import IndRNN as IndRNNKernel
from fastrnn.cells.janet import JANET as JANETKernel
from fastrnn.cells.peephole_lstm import PeepholeLSTM as PeepholeLSTMKernel
from fastrnn.checks import flag, number
from fastrnn.engine.recurrence import run
from fastrnn.engine.recurrence.contract import Traits
from fastrnn.layers.arithmetic import check_activation
from fastrnn.layers.base import Shape
from fastrnn.layers.cells import Cell, LSTMCell
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.stacked import is_kernel

__all__ = ["JANET", "IndRNN", "IndRNNCell", "JANETCell", "KernelCell", "PeepholeLSTM", "PeepholeLSTMCell"]


class _TraitsCell(Cell):
    """A cell whose weights follow from its kernel's traits.

    Weights: ``kernel (n_inputs, n_gates * units)``; ``recurrent_kernel`` if the kernel is recurrent; ``bias``, of two rows
    if it is split; and ``extra (n_extra, units)``, which stands in the recurrent kernel's place where there is none.
    """

    #: What `extra` is called, as a weight and in the names of its arguments.
    extra_name = "extra"
    extra_initializer: Any = "zeros"
    extra_regularizer: Any = None
    extra_constraint: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.recurrent_dropout and not self._traits.recurrent:
            raise ValueError(
                f"recurrent_dropout={self.recurrent_dropout!r}: {type(self).__name__} has no recurrent product to apply "
                "it to, leave it at 0"
            )

    def _set_extra(self, initializer: Any, regularizer: Any, constraint: Any) -> None:
        name = self.extra_name
        self.extra_initializer = initializers.get(initializer, f"{name}_initializer")
        self.extra_regularizer = regularizers.get(regularizer, f"{name}_regularizer")
        self.extra_constraint = constraints.get(constraint, f"{name}_constraint")

    def _bias_shape(self) -> tuple[int, ...]:
        width = self._traits.n_gates * self.units
        return (2, width) if self._traits.split else (width,)

    def _extra_shape(self) -> tuple[int, ...]:
        return (self._traits.n_extra, self.units)

    def build(self, input_shape: Shape) -> None:
        n_inputs: Any = input_shape[-1]
        parts = self._traits
        width = parts.n_gates * self.units
        shapes: dict[str, tuple[tuple[int, ...], str]] = {"kernel": ((n_inputs, width), "kernel")}
        if parts.recurrent:
            shapes["recurrent_kernel"] = ((self.units, width), "recurrent")
        elif parts.n_extra:
            shapes[self.extra_name] = (self._extra_shape(), "extra")
        if self.use_bias:
            shapes["bias"] = (self._bias_shape(), "bias")
        if parts.recurrent and parts.n_extra:
            shapes[self.extra_name] = (self._extra_shape(), "extra")
        for name, (shape, stem) in shapes.items():
            self.add_weight(name, shape, *self._weight_options(stem))
        self.built = True

    def kernel_weights(self) -> run.Weights:
        weights = self._weights
        bias, recurrent_bias = weights.get("bias"), None
        if bias is not None and bias.ndim == 2:
            bias, recurrent_bias = bias
        recurrent = weights["recurrent_kernel"] if self._traits.recurrent else None
        extra = weights.get(self.extra_name) if self._traits.n_extra else None
        return run.Weights(weights["kernel"], recurrent, bias, recurrent_bias, extra)

    def take_gradients(self, gradients: run.Weights) -> None:
        grads = self._grads
        grads["kernel"][...] = gradients.kernel
        if self._traits.recurrent:
            grads["recurrent_kernel"][...] = gradients.recurrent
        if self.use_bias and self._traits.split:
            grads["bias"][0], grads["bias"][1] = gradients.bias, gradients.recurrent_bias
        elif self.use_bias:
            grads["bias"][...] = gradients.bias
        if self._traits.n_extra:
            grads[self.extra_name][...] = np.reshape(
                np.asarray(gradients.extra), grads[self.extra_name].shape
            )


class KernelCell(_TraitsCell):
    """Any cell of the engine, by its NamedTuple: what a cell file of your own needs to become a layer.

    Parameters
    ----------
    kernel : NamedTuple
        With ``n_units`` and ``traits()``, and bodies of `step_forward` and `step_backward` (see
        `fastrnn.engine.recurrence.contract`).
    use_bias : bool
    extra_initializer, extra_regularizer, extra_constraint
        Of the kernel's further parameters.
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
                raise TypeError(f"{name}={kwargs[name]!r}: the kernel says that, leave it out")
        super().__init__(kernel.n_units, None, use_bias, **kwargs)
        self._set_extra(extra_initializer, extra_regularizer, extra_constraint)

    @functools.cached_property
    def _kernel_cell(self) -> Any:
        return self.kernel

    @property
    def kernel_type(self) -> Any:  # type: ignore[override]
        """The kernel's class."""
        return type(self.kernel)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("units", "activation")}


class PeepholeLSTMCell(_TraitsCell, LSTMCell):
    """Long short-term memory whose gates see the cell state (Gers & Schmidhuber 2000); two states, h and c.

    Weights are those of :class:`LSTMCell`, then ``peephole_kernel (3, units)``: what input, forget and output gate see of
    the cell state. The equations stand in `fastrnn.cells.peephole_lstm`.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, **kwargs
        As for :class:`LSTMCell`.
    peephole_initializer, peephole_regularizer, peephole_constraint
        Of the peephole weights; at zero, to start with, the cell is a plain LSTM.
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

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.use_bias and self.unit_forget_bias:
            self._weights["bias"][self.units : 2 * self.units] = 1


class JANETCell(_TraitsCell):
    """Long short-term memory with nothing but a forget gate (van der Westhuizen & Lasenby 2018); one state, h.

    Weights, columns in the order f, g: ``kernel (n_inputs, 2 * units)``, ``recurrent_kernel (units, 2 * units)``,
    ``bias (2 * units,)``. The equations stand in `fastrnn.cells.janet`.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Of the forget gate.
    beta : float
        How much less the gate lets in than it lets go.
    unit_forget_bias : bool
        Start the forget gate's bias at one.
    t_max : int, optional
        Start the forget gate's bias at logarithms of times drawn from 1 to ``t_max - 1`` instead, so that units remember
        for about so many steps (Tallec & Ollivier 2018).
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

    @functools.cached_property
    def _kernel_cell(self) -> Any:
        activation, recurrent = self._activation_codes()
        return JANETKernel(self.units, activation, recurrent, self.beta)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if not self.use_bias:
            return
        forget = self._weights["bias"][: self.units]
        if self.t_max is not None:
            forget[...] = np.log(self._rng.uniform(1, self.t_max - 1, self.units))
        elif self.unit_forget_bias:
            forget[...] = 1


class IndRNNCell(_TraitsCell):
    """``h = activation(x @ kernel + recurrent_kernel * h_prev + bias)``, each unit sees only its own past (Li et al. 2018).

    Weights: ``kernel (n_inputs, units)``, ``recurrent_kernel (units,)``, ``bias (units,)``. One state, h. There is no
    recurrent product, so `recurrent_dropout` must stay 0.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_initializer
        Of the vector of recurrent weights; from 0 to 1 uniformly, as in the paper. Keep their size below
        ``2 ** (1 / n_steps)`` or so by `recurrent_constraint` for long sequences.
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


class PeepholeLSTM(Recurrent, PeepholeLSTMCell):
    __doc__ = f"""A layer of peephole cells.

    {PeepholeLSTMCell.__doc__}
    Time-related parameters are those of :class:`Recurrent`.
    """


class JANET(Recurrent, JANETCell):
    __doc__ = f"""A layer of cells with nothing but a forget gate.

    {JANETCell.__doc__}
    Time-related parameters are those of :class:`Recurrent`.
    """


class IndRNN(Recurrent, IndRNNCell):
    __doc__ = f"""A layer of independently recurrent units.

    {IndRNNCell.__doc__}
    Time-related parameters are those of :class:`Recurrent`.
    """

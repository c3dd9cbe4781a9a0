"""Cells that Keras does not have, and any cell of the engine as a layer."""

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


class ExtraCell(Cell):
    """A cell whose kernel's traits say which weights it has.

    Weights: ``kernel (n_inputs, n_gates * units)``; ``recurrent_kernel (units, n_gates * units)`` if the kernel is
    recurrent; ``bias (n_gates * units,)``, or ``(2, n_gates * units)`` if it is split; and ``extra (n_extra, units)``.
    `extra` comes last, or second where there is no recurrent kernel.
    """

    #: What `extra` is called, as a weight and in the names of its arguments.
    extra_name = "extra"
    extra_initializer: Any = "zeros"
    extra_regularizer: Any = None
    extra_constraint: Any = None
    bias_initializer: Any

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

    def _start_as_defined(self) -> None:
        """Set biases and further parameters to what the cell's definition says, unless an initializer was chosen."""
        if not hasattr(self.kernel_type, "definition"):
            return
        definition, bias = self.kernel_type.definition, self._weights.get("bias")
        for name, value in definition.start.items():
            if name in definition.extra:
                if isinstance(self.extra_initializer, initializers.Zeros):
                    self._weights[self.extra_name][definition.extra.index(name)] = value
            elif bias is not None and isinstance(self.bias_initializer, initializers.Zeros):
                at = definition.gates.index(name) * self.units
                bias[..., at : at + self.units] = value

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


class KernelCell(ExtraCell):
    """A cell whose equations are a kernel of the engine, given as a NamedTuple; for kernels of your own.

    Parameters
    ----------
    kernel : NamedTuple
        With ``n_units`` and ``traits()``, and bodies of `step_forward` and `step_backward` (see
        `fastrnn.engine.recurrence.contract`).
    use_bias : bool
    extra_initializer, extra_regularizer, extra_constraint
        Of the parameters that the kernel has besides kernel, recurrent kernel and bias.
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

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self._start_as_defined()

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: v for k, v in config.items() if k not in ("units", "activation")}


class PeepholeLSTMCell(ExtraCell, LSTMCell):
    """Long short-term memory whose gates depend on the cell state (Gers & Schmidhuber 2000); two states, h and c.

    Weights are those of :class:`LSTMCell`, then ``peephole_kernel (3, units)``: the factors of the cell state in the
    input, forget and output gate. The equations are in `fastrnn.cells.peephole_lstm`.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, **kwargs
        As for :class:`LSTMCell`.
    peephole_initializer, peephole_regularizer, peephole_constraint
        Of the peephole weights. With the default, zeros, the untrained cell is a plain LSTM.
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


class JANETCell(ExtraCell):
    """Long short-term memory with a forget gate as its only gate (van der Westhuizen & Lasenby 2018); one state, h.

    Weights, columns in the order f, g: ``kernel (n_inputs, 2 * units)``, ``recurrent_kernel (units, 2 * units)``,
    ``bias (2 * units,)``. The equations are in `fastrnn.cells.janet`.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Of the forget gate.
    beta : float
        Subtracted from the pre-activation of the gate where the gate weighs the new candidate.
    unit_forget_bias : bool
        Start the forget gate's bias at one.
    t_max : int, optional
        Start the forget gate's bias at the logarithms of numbers drawn from 1 to ``t_max - 1`` instead: a unit's memory
        then lasts about that number of steps (Tallec & Ollivier 2018).
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


class IndRNNCell(ExtraCell):
    """``h = activation(x @ kernel + recurrent_kernel * h_prev + bias)``: each unit depends on its own past only.

    Weights: ``kernel (n_inputs, units)``, ``recurrent_kernel (units,)``, ``bias (units,)``. One state, h. There is no
    recurrent product, so `recurrent_dropout` must be 0 (Li et al. 2018).

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_initializer
        Of the vector of recurrent weights; uniform from 0 to 1 by default, as in the paper. For long sequences their
        absolute values should stay below about ``2 ** (1 / n_steps)``, for example by `recurrent_constraint`.
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
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """


class JANET(Recurrent, JANETCell):
    __doc__ = f"""A layer of cells with a forget gate as their only gate.

    {JANETCell.__doc__}
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """


class IndRNN(Recurrent, IndRNNCell):
    __doc__ = f"""A layer of independently recurrent units.

    {IndRNNCell.__doc__}
    Inputs, outputs and the parameters `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll` and
    `zero_output_for_mask` are those of :class:`~fastrnn.layers.recurrent.Recurrent`.
    """

"""Recurrent cells: weights, their configuration, and one time step.

A layer of the module `recurrent` is a cell and a loop over time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.cells.gru import GRU as GRUKernel
from fastrnn.cells.gru import GRUBefore as GRUBeforeKernel
from fastrnn.cells.lstm import LSTM as LSTMKernel
from fastrnn.cells.simple_rnn import SimpleRNN as SimpleRNNKernel
from fastrnn.checks import flag, number
from fastrnn.engine.recurrence import run
from fastrnn.engine.recurrence.contract import traits
from fastrnn.layers.arithmetic import check_activation
from fastrnn.layers.arrays import check_positive_int
from fastrnn.layers.base import Layer, Shape
from fastrnn.random import check_seed

__all__ = ["Cell", "GRUCell", "LSTMCell", "SimpleRNNCell"]


class Cell(Layer):
    """Base class of cells that the engine runs.

    A subclass sets `kernel_type`, a class of `fastrnn.cells`, and overrides `_bias_shape` if its bias is not a vector of
    one number for each column of the kernel.

    Parameters
    ----------
    units : int
        Length of the state and of the output.
    activation : str or None
        Of the candidate state and of the output; None is linear.
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer : initializer
    kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer : regularizer, optional
    kernel_constraint, recurrent_constraint, bias_constraint : constraint, optional
    dropout : float
        Fraction of the inputs that is set to zero in training, from 0 to below 1. One draw serves all time steps.
    recurrent_dropout : float
        Fraction of the previous output that is set to zero in the recurrent products, from 0 to below 1. One draw
        serves all time steps. If it is not 0, every gate has draws of its own, for its inputs too.
    seed : int, optional
        Of the random numbers of dropout and of the initial weights; by default they come from the model's seed.
    **kwargs
        As for :class:`Layer`.
    """

    kernel_type: Any
    #: Names of the arguments that hold activations, in the order of the kernel's fields.
    _activations: tuple[str, ...] = ("activation",)

    def __init__(
        self,
        units: int,
        activation: str | None = "tanh",
        use_bias: bool = True,
        *,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_positive_int(units, "units")
        self.activation = check_activation(activation)
        self.use_bias = flag(use_bias, "use_bias")
        for weight, initializer, regularizer, constraint in (
            ("kernel", kernel_initializer, kernel_regularizer, kernel_constraint),
            ("recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint),
            ("bias", bias_initializer, bias_regularizer, bias_constraint),
        ):
            for kind, module, value in (
                ("initializer", initializers, initializer),
                ("regularizer", regularizers, regularizer),
                ("constraint", constraints, constraint),
            ):
                name = f"{weight}_{kind}"
                setattr(self, name, module.get(value, name))
        self.dropout = float(number(dropout, "dropout", 0, 1, below=True))
        self.recurrent_dropout = float(number(recurrent_dropout, "recurrent_dropout", 0, 1, below=True))
        self.seed = check_seed(seed)
        if seed is not None:
            super().set_seed(seed)

    def set_seed(self, seed: int | np.random.SeedSequence | None) -> None:
        # A layer with a seed of its own keeps it when a model seeds its layers.
        super().set_seed(seed if self.seed is None else self.seed)

    # -- what the engine needs

    @functools.cached_property
    def _kernel_cell(self) -> Any:
        own = {name: getattr(self, name) for name in self._activations}
        numbers = {name: getattr(self, name) for name in self.kernel_type.definition.numbers}
        return self.kernel_type.with_activations(self.units, own, **numbers)

    def _weight_options(self, name: str) -> list[Any]:
        """Initializer, regularizer and constraint of the weight whose arguments start with `name`."""
        return [getattr(self, f"{name}_{kind}") for kind in ("initializer", "regularizer", "constraint")]

    def kernel_cell(self) -> Any:
        """The cell as the engine's kernels take it."""
        return self._kernel_cell

    @functools.cached_property
    def _traits(self) -> Any:
        return traits(self._kernel_cell)

    def kernel_weights(self) -> run.Weights:
        """The weights as the engine's kernels take them."""
        weights = self._weights
        bias = weights.get("bias")
        if bias is not None and bias.ndim == 2:
            return run.Weights(weights["kernel"], weights["recurrent_kernel"], bias[0], bias[1])
        return run.Weights(weights["kernel"], weights.get("recurrent_kernel"), bias)

    def take_gradients(self, gradients: run.Weights) -> None:
        """Copy the engine's gradients into the layer's gradients."""
        grads = self._grads
        grads["kernel"][...] = gradients.kernel
        if "recurrent_kernel" in grads:
            grads["recurrent_kernel"][...] = gradients.recurrent
        if self.use_bias:
            if grads["bias"].ndim == 2:
                grads["bias"][0], grads["bias"][1] = gradients.bias, gradients.recurrent_bias
            else:
                grads["bias"][...] = gradients.bias

    def draw_masks(self, n_batch: int, n_inputs: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw the factors of dropout for one call.

        Returns
        -------
        input_factors : ndarray of shape (1 or n_gates, n_batch, n_inputs), or None
        recurrent_factors : ndarray of shape (n_gates, n_batch, units), or None
        """
        n_gates = self._traits.n_gates
        n_masks = n_gates if self.recurrent_dropout else 1
        return (
            self._factors(self.dropout, (n_masks, n_batch, n_inputs)),
            self._factors(self.recurrent_dropout, (n_gates, n_batch, self.units)),
        )

    def _factors(self, rate: float, shape: tuple[int, ...]) -> np.ndarray | None:
        if rate == 0:
            return None
        kept = self._rng.random(shape, dtype=np.float32) >= rate
        return np.multiply(kept, self.dtype.type(1 / (1 - rate)), dtype=self.dtype)

    # -- weights

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if not self.built and shape[-1] is None:
            raise ValueError(
                f"layer {self.name!r} needs to know the number of features, got input shape {shape}"
            )

    def build(self, input_shape: Shape) -> None:
        n_inputs: Any = input_shape[-1]
        width = self._traits.n_gates * self.units
        shapes: dict[str, tuple[int, ...]] = {"kernel": (n_inputs, width), "recurrent": (self.units, width)}
        if self.use_bias:
            shapes["bias"] = self._bias_shape()
        for name, shape in shapes.items():
            self.add_weight(
                "recurrent_kernel" if name == "recurrent" else name, shape, *self._weight_options(name)
            )
        self.built = True

    def _bias_shape(self) -> tuple[int, ...]:
        return (self._traits.n_gates * self.units,)

    # -- one step

    @property
    def state_size(self) -> Any:
        """Length of the state, or a list of lengths."""
        n_states = self._traits.n_states
        return self.units if n_states == 1 else [self.units] * n_states

    @property
    def output_size(self) -> int:
        """Length of the output."""
        return self.units

    def get_initial_state(self, batch_size: int = 1) -> list[np.ndarray]:
        """Return zeros for each state."""
        return [np.zeros((batch_size, self.units), self.dtype) for _ in range(self._traits.n_states)]

    def stack_states(self, states: Any, n_batch: int, name: str = "initial_state") -> np.ndarray:
        """Return states as one array ``(n_states, n_batch, units)``, or raise if their number or shapes are wrong."""
        n_states = self._traits.n_states
        given = list(states) if isinstance(states, (list, tuple)) else [states]
        if len(given) != n_states:
            raise ValueError(f"{name} has {len(given)} arrays: {type(self).__name__} has {n_states} states")
        stacked = np.empty((n_states, n_batch, self.units), self.dtype)
        for k, state in enumerate(given):
            state = np.asarray(state)
            if state.dtype.kind not in "biuf":
                raise TypeError(f"{name}[{k}] has dtype {state.dtype}: give real numbers, (batch, units)")
            if state.shape != (n_batch, self.units):
                raise ValueError(
                    f"{name}[{k}] has shape {state.shape}: the batch needs {(n_batch, self.units)}, (batch, units)"
                )
            stacked[k] = state
        return stacked

    def step(self, x: Any, states: Any, training: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
        """Compute one time step from ``x (batch, features)``: the output and the new states."""
        x = self.as_input(x)
        if x.ndim != 2:
            raise ValueError(f"x has shape {x.shape}: a cell steps over (batch, features)")
        self.ensure_built((None, x.shape[1]))
        masks = self.draw_masks(*x.shape) if training else (None, None)
        result = run.forward(
            self.kernel_cell(),
            self.kernel_weights(),
            x[:, None],
            self.stack_states(states, len(x), "states"),
            input_masks=masks[0],
            recurrent_masks=masks[1],
        )
        return result.final[0], list(result.final)

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """One time step.

        Parameters
        ----------
        x : array_like of shape (batch, features)
        states : list of arrays of shape (batch, units)
        training : bool
            Whether dropout acts.

        Returns
        -------
        output : array of shape (batch, units)
        states : list of arrays
        """
        return self.step(x, states, training)


class SimpleRNNCell(Cell):
    """``h = activation(x @ kernel + h_prev @ recurrent_kernel + bias)`` (Elman 1990); one state, h.

    Weights: ``kernel (n_inputs, units)``, ``recurrent_kernel (units, units)``, ``bias (units,)``.
    Parameters are those of :class:`Cell`.
    """

    kernel_type = SimpleRNNKernel


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997); two states, h and c.

    Weights, columns in the order i, f, c, o: ``kernel (n_inputs, 4 * units)``, ``recurrent_kernel (units, 4 * units)``,
    ``bias (4 * units,)``. The equations are in `fastrnn.cells.lstm`.

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
        super().__init__(units, activation, use_bias, **kwargs)
        self.recurrent_activation = check_activation(recurrent_activation, "recurrent_activation")
        self.unit_forget_bias = flag(unit_forget_bias, "unit_forget_bias")
        self.use_cudnn = use_cudnn

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if self.use_bias and self.unit_forget_bias:
            self._weights["bias"][self.units : 2 * self.units] = 1


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014); one state, h.

    Weights, columns in the order z, r, h: ``kernel (n_inputs, 3 * units)``, ``recurrent_kernel (units, 3 * units)``,
    ``bias (2, 3 * units)`` (input row, recurrent row) with `reset_after`, ``(3 * units,)`` without. The equations are
    in `fastrnn.cells.gru`.

    Parameters
    ----------
    units, activation, use_bias, **kwargs
        As for :class:`Cell`.
    recurrent_activation : str or None
        Of the two gates.
    reset_after : bool
        Apply the reset gate after the recurrent product, or before it.
    use_cudnn
        An argument of Keras without effect.
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
        super().__init__(units, activation, use_bias, **kwargs)
        self.recurrent_activation = check_activation(recurrent_activation, "recurrent_activation")
        self.reset_after = flag(reset_after, "reset_after")
        self.use_cudnn = use_cudnn

    @property
    def kernel_type(self) -> Any:  # type: ignore[override]
        """The engine's cell of this form."""
        return GRUKernel if self.reset_after else GRUBeforeKernel

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

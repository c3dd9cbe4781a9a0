"""Cells that the engine runs: their weights, one time step, and whole sequences.

The layer of the module `recurrent` has a cell, and keeps its states and options.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.checks import flag, number
from fastrnn.engine.recurrence import run
from fastrnn.engine.recurrence.contract import traits
from fastrnn.engine.recurrence.inference import InferencePlan, prepare, step_program
from fastrnn.engine.recurrence.plans import Options
from fastrnn.engine.recurrence.training_pass import CellPass, PassTape, TrainingPass, cell_pass
from fastrnn.engine.recurrence.unrolled import unrolled_if_small
from fastrnn.layers.arithmetic import check_activation
from fastrnn.layers.arrays import check_positive_int
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.over_time import TimeOptions, shown
from fastrnn.layers.streamed import Streamed
from fastrnn.random import check_seed

__all__ = ["Cell"]

#: Shapes of batches for which a cell keeps what its passes need. They are forgotten if there are more.
_MOST_SHAPES = 32


class _Cache(NamedTuple):
    """What `backward_sequence` needs."""

    #: What the engine saved for each time step.
    tape: run.Tape | PassTape
    #: Booleans ``(batch,)``, True for sequences whose last output is their state; None if all are True.
    ends_valid: np.ndarray | None
    #: Whether all outputs were given.
    sequences: bool


class Cell(Layer):
    """Base class of cells that the engine runs.

    A subclass sets `kernel_type`, a class of `fastrnn.cells`, whose traits say which weights it has: ``kernel (n_inputs,
    n_gates * units)``; ``recurrent_kernel (units, n_gates * units)`` if there is a recurrent product; ``bias (n_gates *
    units,)``, or ``(2, n_gates * units)`` if that product has a bias of its own; and further parameters, ``extra (n_extra,
    units)``, which come last, or second where there is no recurrent kernel.

    Parameters
    ----------
    units : int
        Length of the state and of the output.
    activation : str or None
        Activation of the candidate state and of the output; None is linear.
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer : initializer
    kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer : regularizer, optional
    kernel_constraint, recurrent_constraint, bias_constraint : constraint, optional
    dropout : float
        Fraction of the inputs that is set to zero in training, from 0 to below 1. All time steps have the same mask.
    recurrent_dropout : float
        Fraction of the previous output that is set to zero in the recurrent products, from 0 to below 1. All time steps
        have the same mask. If it is not 0, every gate has its own masks, for inputs too.
    seed : int, optional
        Seed of dropout and of the initial weights; by default it comes from the model's seed.
    **kwargs
        As for :class:`Layer`.
    """

    kernel_type: Any
    #: Names of the arguments that hold activations, in the order of the kernel's fields.
    _activations: tuple[str, ...] = ("activation",)
    #: What the further parameters are called, as a weight and in the names of its arguments.
    extra_name = "extra"
    extra_initializer: Any = "zeros"
    extra_regularizer: Any = None
    extra_constraint: Any = None
    bias_initializer: Any
    #: Whether the initial states are other than zero.
    makes_initial_state = False

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
        if self.recurrent_dropout and not self._traits.recurrent:
            raise ValueError(
                f"recurrent_dropout={self.recurrent_dropout!r}: {self.kernel_type.__name__} has no recurrent product to "
                "apply it to, leave it at 0"
            )
        self.seed = check_seed(seed)
        if seed is not None:
            super().set_seed(seed)
        self._packed: tuple[int, run.Weights, np.ndarray] | None = None
        self._training: dict[Any, TrainingPass | None] = {}

    def set_seed(self, seed: int | np.random.SeedSequence | None) -> None:
        # A layer with a seed keeps it when a model seeds its layers.
        super().set_seed(seed if self.seed is None else self.seed)

    # -- interface of the engine

    @functools.cached_property
    def _kernel_cell(self) -> Any:
        own = {name: getattr(self, name) for name in self._activations}
        numbers = {name: getattr(self, name) for name in self.kernel_type.definition.numbers}
        return self.kernel_type.with_activations(self.units, own, **numbers)

    def _weight_options(self, name: str) -> list[Any]:
        """Initializer, regularizer and constraint of the weight whose arguments start with `name`."""
        return [getattr(self, f"{name}_{kind}") for kind in ("initializer", "regularizer", "constraint")]

    @functools.cached_property
    def _unrolled_cell(self) -> Any:
        return unrolled_if_small(self._kernel_cell)

    def kernel_cell(self, unroll: bool = False) -> Any:
        """The cell as the engine's kernels take it; `unroll`: with the number of units as a constant of its code."""
        return self._unrolled_cell if unroll else self._kernel_cell

    @functools.cached_property
    def _traits(self) -> Any:
        return traits(self._kernel_cell)

    def kernel_weights(self) -> run.Weights:
        """The weights in the form that the engine's kernels take."""
        return self._as_kernel(self._weights)

    def _as_kernel(self, weights: dict[str, np.ndarray]) -> run.Weights:
        """Weights or gradients in the form that the engine's kernels take."""
        parts = self._traits
        bias, recurrent_bias = weights.get("bias"), None
        if bias is not None and bias.ndim == 2:
            bias, recurrent_bias = bias
        recurrent = weights["recurrent_kernel"] if parts.recurrent else None
        extra = weights[self.extra_name] if parts.n_extra else None
        return run.Weights(weights["kernel"], recurrent, bias, recurrent_bias, extra)

    def packed_weights(self) -> tuple[run.Weights, np.ndarray]:
        """The weights, and their copy as inference reads it, which is made once per change of weights."""
        if self._packed is None or self._packed[0] != self.weights_version:
            weights = self.kernel_weights()
            packed = run.pack_weights(self.kernel_cell(), weights)
            self._packed = self.weights_version, weights, packed
        return self._packed[1:]

    def _training_pass(self, x: np.ndarray, options: TimeOptions) -> TrainingPass | None:
        """The passes for dense inputs of this shape and memory order; None where they are not prepared."""
        weights = self._weights
        time_major = not x.flags.c_contiguous and x.transpose(1, 0, 2).flags.c_contiguous
        key = x.shape, time_major, options
        known = self._training.get(key)
        if known is not None:
            # A model may have moved the weights into its vector.
            if known.weights.kernel is weights["kernel"]:
                return known
        elif key in self._training:
            return None
        if len(self._training) >= _MOST_SHAPES:
            self._training.clear()
        cell = self.kernel_cell(options.unroll)
        if (
            x.shape[2] == len(weights["kernel"])
            and x.dtype == self._dtype
            and TrainingPass.suits(cell, x.shape, options.n_threads)
        ):
            known = TrainingPass(
                cell,
                self.kernel_weights(),
                self._as_kernel(self._grads),
                x.shape,
                time_major=time_major,
                reverse=options.reverse,
                sequences=options.sequences,
            )
        self._training[key] = known
        return known

    def cell_pass(self, x: np.ndarray, options: TimeOptions, n_threads: int) -> CellPass:
        """Training passes for dense inputs of this shape, C-contiguous or time-major, on this number of threads."""
        time_major = not x.flags.c_contiguous
        of = *x.shape, self._dtype, time_major, options.reverse, True, 0, False, True, options.sequences
        weights, gradients = self.kernel_weights(), self._as_kernel(self._grads)
        return cell_pass(self.kernel_cell(options.unroll), weights, gradients, Options(*of), n_threads)

    def take_gradients(self, gradients: run.Weights) -> None:
        """Copy the engine's gradients into the layer's gradients."""
        grads, parts = self._grads, self._traits
        grads["kernel"][...] = gradients.kernel
        if parts.recurrent:
            grads["recurrent_kernel"][...] = gradients.recurrent
        if self.use_bias and grads["bias"].ndim == 2:
            grads["bias"][0], grads["bias"][1] = gradients.bias, gradients.recurrent_bias
        elif self.use_bias:
            grads["bias"][...] = gradients.bias
        if parts.n_extra:
            own = grads[self.extra_name]
            own[...] = np.reshape(np.asarray(gradients.extra), own.shape)

    def draw_masks(self, n_batch: int, n_inputs: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Draw the factors of dropout for one call.

        Returns
        -------
        input_factors : ndarray of shape (1 or n_gates, n_batch, n_inputs), or None
        recurrent_factors : ndarray of shape (n_gates, n_batch, units), or None
        """
        if not self.dropout and not self.recurrent_dropout:
            return None, None
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
        result: np.ndarray | None = np.multiply(kept, self.dtype.type(1 / (1 - rate)), dtype=self.dtype)
        return result

    # -- weights

    def _check_shape(self, shape: Shape) -> None:
        super()._check_shape(shape)
        if not self.built and shape[-1] is None:
            raise ValueError(f"layer {self.name!r} needs a known number of features, got input shape {shape}")

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
            shapes["bias"] = ((2, width) if parts.split else (width,), "bias")
        if parts.recurrent and parts.n_extra:
            shapes[self.extra_name] = (self._extra_shape(), "extra")
        for name, (shape, stem) in shapes.items():
            self.add_weight(name, shape, *self._weight_options(stem))
        self.built = True

    def _extra_shape(self) -> tuple[int, ...]:
        return (self._traits.n_extra, self.units)

    def _set_extra(self, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Take the options of the further parameters."""
        name = self.extra_name
        self.extra_initializer = initializers.get(initializer, f"{name}_initializer")
        self.extra_regularizer = regularizers.get(regularizer, f"{name}_regularizer")
        self.extra_constraint = constraints.get(constraint, f"{name}_constraint")

    def _start_as_defined(self) -> None:
        """Initialize biases and further parameters as in the cell's definition, unless an initializer was given."""
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

    def as_states(self, states: Any, n_batch: int, name: str = "initial_state") -> np.ndarray:
        """Return states as one array ``(n_states, n_batch, units)``, or raise if their number or shapes are wrong."""
        n_states, several = self._traits.n_states, isinstance(states, (list, tuple))
        given = list(states) if several else [states]
        if len(given) != n_states:
            raise ValueError(f"{name} has {len(given)} arrays, the cell {self.name!r} has {n_states} states")
        stacked = np.empty((n_states, n_batch, self.units), self.dtype)
        for k, state in enumerate(given):
            array, label = np.asarray(state), f"{name}[{k}]" if several else name
            if array.dtype.kind not in "biuf":
                raise TypeError(f"{label} has dtype {array.dtype}: give real numbers, (batch, units)")
            if array.shape != (n_batch, self.units):
                raise ValueError(
                    f"{label} has shape {array.shape}: the batch needs {(n_batch, self.units)}, (batch, units)"
                )
            stacked[k] = array
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
            self.as_states(states, len(x), "states"),
            input_masks=masks[0],
            recurrent_masks=masks[1],
        )
        return result.final[0], list(result.final)

    def __call__(self, x: Any, states: Any, training: bool = False) -> Any:  # type: ignore[override]
        """Compute one time step.

        Parameters
        ----------
        x : array_like of shape (batch, features)
        states : list of arrays of shape (batch, units)
        training : bool
            Whether to apply dropout.

        Returns
        -------
        output : array of shape (batch, units)
        states : list of arrays
        """
        return self.step(x, states, training)

    # -- whole sequences

    def forward_sequence(
        self, x: np.ndarray, mask: np.ndarray | None, training: bool, states: Any, options: TimeOptions
    ) -> tuple[np.ndarray, list[Any], Any]:
        """Run over the time steps.

        Parameters
        ----------
        x : array of shape (batch, time, features)
        mask : array of bool of shape (batch, time), optional
            In the order of time.
        training : bool
            Whether dropout acts and a cache is kept.
        states : as :meth:`as_states` returns them, or None
            Before the first step; None is zeros.
        options : TimeOptions

        Returns
        -------
        y : array of shape (batch, time, units), or (batch, units)
        states : list of arrays
            After the last step.
        cache : object
            For :meth:`backward_sequence`; None unless `training`.
        """
        if training and mask is None and not (self.dropout or self.recurrent_dropout):
            ready = self._training_pass(x, options)
            if ready is not None:
                out, final, tape = ready.forward(x, states)
                return (final[0] if out is None else out), list(final), _Cache(tape, None, options.sequences)
        n_batch, _, n_inputs = x.shape
        mask = options.in_order(mask)
        input_masks, recurrent_masks = self.draw_masks(n_batch, n_inputs) if training else (None, None)
        weights, packed = (self.kernel_weights(), None) if training else self.packed_weights()
        result = run.forward(
            self.kernel_cell(options.unroll),
            weights,
            x,
            states,
            mask=mask,
            reverse=options.reverse,
            repeat=not options.zero_masked,
            input_masks=input_masks,
            recurrent_masks=recurrent_masks,
            sequences=options.sequences,
            save=training,
            n_threads=options.n_threads,
            packed=packed,
        )
        y = result.out if options.sequences else result.final[0]
        y, ends_valid = shown(y, mask, result.stepped, options)
        cache = None if result.tape is None else _Cache(result.tape, ends_valid, options.sequences)
        return y, list(result.final), cache

    def backward_sequence(
        self, d_out: Any, d_states: Any, cache: Any, need_dx: bool
    ) -> tuple[np.ndarray | None, list[Any]]:
        """Write the weights' gradients; return those of the inputs and of the states before the first step.

        Parameters
        ----------
        d_out : array, optional
            Gradient with respect to `y`; None is zero.
        d_states : list, optional
            Gradients with respect to the states after the last step; None, for one of them or all, is zero.
        cache : object
            From :meth:`forward_sequence`.
        need_dx : bool
        """
        tape, d_final = cache.tape, None
        if d_states is not None or not cache.sequences:
            d_final = np.zeros((self._traits.n_states, tape.n_batch, self.units), self._dtype)
            for k, d in enumerate(d_states or ()):
                if d is not None:
                    d_final[k] = d
            if not cache.sequences:
                if d_out is not None:
                    d_final[0] += d_out if cache.ends_valid is None else d_out * cache.ends_valid[:, None]
                d_out = None
        if isinstance(tape, PassTape):
            dx, d_state0 = tape.of.backward(tape, d_out, d_final, need_dx)
        else:
            dx, d_state0, gradients = run.backward(tape, d_out, d_final, need_dx=need_dx)
            self.take_gradients(gradients)
        return dx, list(d_state0)

    def prepare(self, shape: tuple[int, ...], options: TimeOptions) -> InferencePlan | None:
        """Inference for inputs of one shape with the weights as they are; None where that gains nothing."""
        if 0 in shape or shape[2] != len(self._weights["kernel"]):
            return None  # `forward_sequence` raises the error
        weights, packed = self.packed_weights()
        return prepare(
            self.kernel_cell(options.unroll),
            weights,
            shape,
            reverse=options.reverse,
            repeat=not options.zero_masked,
            sequences=options.sequences,
            n_threads=options.n_threads,
            packed=packed,
        )

    def streamed(self, x: Any, unroll: bool = False) -> Streamed:
        state = np.zeros((self._traits.n_states, len(x), self.units), self._dtype)
        program = step_program(self.kernel_cell(unroll), self.kernel_weights(), x, state)
        return Streamed(program.calls, state[0], (list(state),))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_packed": None, "_training": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_training": {}, **state})  # pickles of earlier versions have none

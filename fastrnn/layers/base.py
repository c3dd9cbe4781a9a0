"""Base class of layers: weights by name, a forward and a backward pass, a configuration."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.checks import as_shape, flag, real_array
from fastrnn.exceptions import NotBuiltError
from fastrnn.layers.arrays import check_dtype, check_mask
from fastrnn.layers.streamed import Streamed
from fastrnn.random import new_generator
from fastrnn.registry import choices, serialize, snake_case

__all__ = ["TABLES", "Layer", "Shape", "is_cell"]

Shape = tuple[int | None, ...]


#: Attributes of a layer that are dicts with an entry for each weight, by its name.
TABLES = ("_weights", "_grads", "_regularizers", "_constraints")


def is_cell(layer: Any) -> bool:
    """Whether `layer` is a cell, which computes one time step."""
    return layer.state_size is not None and layer.return_sequences is None


def _remembering_shape(build: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `build`: check the shape, keep it to check later inputs, and leave the layer unchanged if `build` fails."""

    @functools.wraps(build)
    def remembering(self: Layer, input_shape: Shape) -> None:
        if input_shape is not None or not self.takes_tokens:
            input_shape = as_shape(input_shape, "input_shape")
            before, self._build_shape = self._build_shape, None
            try:
                self._check_shape(input_shape)
            finally:
                self._build_shape = before
        kept = {table: dict(vars(self)[table]) for table in TABLES}
        try:
            build(self, input_shape)
        except Exception:
            vars(self).update(kept)
            raise
        self._build_shape = input_shape

    return remembering


class Layer:
    """Base class of layers.

    A subclass defines ``build(input_shape)``, ``forward(x, mask, training) -> (y, cache)`` and ``backward(dy, cache,
    need_dx) -> dx``. Shapes include the batch axis; None is a size that may vary. `x` and `y` are arrays of shape
    ``(batch, ...)``, `dx` and `dy` have the shapes of `x` and `y`, and `cache` has what `backward` needs. `backward`
    overwrites the gradients of the weights, the arrays in ``_grads``.

    Parameters
    ----------
    activity_regularizer : regularizer, optional
        Penalty on the output, divided by the batch size.
    trainable : bool
        Whether training changes the weights.
    dtype : {"float32", "float64"}, optional
        Dtype of weights and computation; None means float32.
    autocast : bool
        An argument of Keras without effect: inputs are always cast to `dtype`.
    name : str, optional
        By default the class name in snake case, numbered inside a model.
    input_shape : tuple, optional
        Shape of the input without the batch axis, for the first layer of a model.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.layers import Dense
    >>> layer = Dense(2)
    >>> layer(np.ones((4, 3))).shape, [w.shape for w in layer.get_weights()]
    ((4, 2), [(3, 2), (2,)])
    """

    # Properties of a layer. Models, streams and training read these attributes; a subclass sets those that differ.

    #: Whether the layer passes on a mask; otherwise its output has no mask.
    supports_masking = True
    #: Required number of axes of the input, including the batch axis; None if any number is allowed.
    input_ndim: int | None = None
    #: Whether inputs are integers, which are not converted to `dtype`.
    takes_tokens = False
    #: Number of tokens of a layer with `takes_tokens`; None if it is not known.
    input_dim: int | None = None
    #: Whether token 0 is padding.
    mask_zero = False
    #: A step whose features all have this value is padding; None: the layer does not mask steps by their values.
    mask_value: float | None = None
    #: Whether the output of a time step is the input, outside of training.
    unchanged = False
    #: Name of the activation at the end of `forward`, if the layer also has `forward_linear` and `backward_linear`.
    output_activation: str | None = None
    #: Weights of which an optimizer may update only the rows that `touched_rows` returns.
    sparse_tables: tuple[str, ...] = ()
    #: Shape of the random mask of a dropout layer; None: that of the input.
    noise_shape: tuple[int | None, ...] | None = None

    #: Number of the vector that contains the weights, 0 before there is one; None: the layer is in no model.
    binding: int | None = None

    # Time and states.

    #: Whether the layer loops over time steps and has states.
    has_states = False
    #: Length of the state of a cell or recurrent layer, or a list of lengths; None for other layers.
    state_size: Any = None
    #: Whether the states of one call are the initial states of the next.
    stateful = False
    #: States after the last call of a stateful layer; None: the next call starts from the initial states.
    states: Any = None
    #: Gradient of the initial states, written by `backward`.
    d_initial_state: Any = None
    #: Whether the output of every time step is returned; None: the layer has no such option.
    return_sequences: bool | None = None
    #: Whether `forward` returns a list ``[output, *states]``.
    return_state = False
    #: Whether the layer reads the time steps from the last to the first.
    go_backwards = False
    #: Whether the layer reads the time steps in both directions.
    reads_both_ways = False
    #: How two outputs are merged; None: the layer returns both. "" for layers with one output.
    merge_mode: str | None = ""
    #: Largest number of threads to use; None: all cores that this process may use.
    n_threads: int | None = None

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        for key in unknown:
            raise TypeError(
                f"{type(self).__name__}() got an unknown argument {key!r}: {choices(key, self._arguments())}"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: give a string or None")
        self.activity_regularizer = regularizers.get(activity_regularizer, "activity_regularizer")
        self.trainable = trainable
        self._dtype = check_dtype(dtype)
        self.autocast = autocast
        self._auto_named = name is None
        self.name = name or snake_case(type(self).__name__)
        self.input_shape = None if input_shape is None else as_shape(input_shape, "input_shape")
        self.built = False
        self._build_shape: Shape | None = None
        self._weights: dict[str, np.ndarray] = {}
        self._grads: dict[str, np.ndarray] = {}
        self._regularizers: dict[str, Any] = {}
        self._constraints: dict[str, Any] = {}
        self._rng_: np.random.Generator | None = None
        #: Increases whenever the weights change, so that packed copies of them can be kept until then.
        self.weights_version = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = _remembering_shape(cls.build)  # type: ignore[method-assign]

    #: How often `trainable` was set on any layer. Models compare it to find whether their plan of updates is up to date.
    trainable_changes = 0

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights. Setting it takes effect at the next update."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = flag(value, "trainable")
        Layer.trainable_changes += 1

    # -- configuration

    @classmethod
    def _arguments(cls) -> list[str]:
        names = []
        for base in cls.__mro__:
            if "__init__" in vars(base) and base is not object:
                for parameter in inspect.signature(vars(base)["__init__"]).parameters.values():
                    if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                        names.append(parameter.name)
        return [n for n in dict.fromkeys(names) if n != "self"]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        config = {key: serialize(getattr(self, key, None)) for key in self._arguments()}
        config["dtype"] = self.dtype.name
        if config.get("input_shape") is None:
            config.pop("input_shape", None)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """Make a layer from the result of :meth:`get_config`, which does not contain weights."""
        return cls(**config)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of weights and computation."""
        return self._dtype

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {'built' if self.built else 'not built'}>"

    # -- randomness

    @property
    def _rng(self) -> np.random.Generator:
        if self._rng_ is None:
            self._rng_ = new_generator()
        return self._rng_

    def set_seed(self, seed: int | np.random.SeedSequence | None) -> None:
        """Seed the layer's random numbers (initial weights, dropout)."""
        self._rng_ = new_generator(seed)

    # -- weights

    def build(self, input_shape: Shape) -> None:
        """Create the weights for inputs of `input_shape`, with the batch axis; None for sizes that may vary."""
        self.built = True

    def ensure_built(self, input_shape: Sequence[int | None]) -> None:
        """Build the layer if it is not built, otherwise compare the shape with that for which it was built."""
        shape = tuple(input_shape)
        self._check_shape(shape)
        if not self.built:
            self.build(shape)
            self.built = True
        if self._build_shape is None:
            self._build_shape = shape

    def _check_shape(self, shape: Shape) -> None:
        if self.input_ndim is not None and len(shape) != self.input_ndim:
            axes = {2: "(batch, features)", 3: "(batch, time, features)"}.get(self.input_ndim, "")
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes inputs with {self.input_ndim} axes {axes}, "
                f"got shape {shape}"
            )
        built = self._build_shape
        if built is not None and self._weights and len(shape) > 1:
            expected, got = built[-1], shape[-1]
            if expected is not None and got is not None and expected != got:
                raise ValueError(
                    f"layer {self.name!r} ({type(self).__name__}) was built for {expected} features, "
                    f"got {got} (shape {shape})"
                )

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        constraint: Any = None,
    ) -> np.ndarray:
        """Create a weight; the order of calls is the order of :meth:`get_weights`."""
        initializer = initializers.get(initializer)
        value = initializers.call(initializer, tuple(shape), self.dtype, self._rng)
        self._weights[name] = np.ascontiguousarray(value)
        self._grads[name] = np.zeros(value.shape, self.dtype)
        if regularizer is not None:
            penalty = self._regularizers[name] = regularizers.get(regularizer)
            self._try_out(penalty.gradient, name, f"regularizer {penalty!r}", lambda: penalty(value.copy()))
        if constraint is not None:
            limit = self._constraints[name] = constraints.get(constraint)
            self._try_out(limit, name, f"constraint {limit!r}")
        return self._weights[name]

    def _try_out(
        self, function: Callable[..., Any], name: str, what: str, more: Callable[..., Any] = lambda: None
    ) -> None:
        """Raise if `function` does not return an array of the weight's shape, to find this before training."""
        value = self._weights[name]
        try:
            more()
            shape = np.shape(function(value.copy()))
        except Exception as error:
            raise ValueError(
                f"layer {self.name!r}: the {what} can't take the weight {name!r} of shape {value.shape}: {error}"
            ) from error
        if shape != value.shape:
            raise ValueError(
                f"layer {self.name!r}: the {what} returns shape {shape} for the weight {name!r} of shape {value.shape}"
            )

    def bind(self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]) -> None:
        """Move the weights into the arrays `params` and the gradients into `grads`, views of a model's flat vectors.

        Those of the gradients hold zeros.
        """
        for name, value in self._weights.items():
            params[name][...] = value
            self._weights[name], self._grads[name] = params[name], grads[name]
        self.weights_changed()

    def weights_changed(self) -> None:
        """Notify the layer that its weights have changed."""
        self.weights_version += 1

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weights, in Keras's order."""
        return [value.copy() for value in self._weights.values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights from arrays in the order of :meth:`get_weights`."""
        if not self.built:
            raise NotBuiltError(
                f"layer {self.name!r} has no weights yet: call build(input_shape) or the layer itself first"
            )
        for target, value in zip(self._weights.values(), self._as_weights(weights), strict=True):
            target[...] = value
        self.weights_changed()

    def _as_weights(self, weights: Any) -> list[np.ndarray]:
        """Return `weights` as arrays, or raise if :meth:`set_weights` can't take them."""
        if not isinstance(weights, (list, tuple)):
            raise ValueError(f"weights={weights!r}: give a list of arrays, as get_weights() returns it")
        arrays = [real_array(w, self.dtype, f"weights[{k}]") for k, w in enumerate(weights)]
        expected, got = [w.shape for w in self._weights.values()], [w.shape for w in arrays]
        if got != expected:
            raise ValueError(f"layer {self.name!r} takes weights of shapes {expected}, got {got}")
        return arrays

    def count_params(self) -> int:
        """Return the number of weights."""
        if not self.built:
            raise NotBuiltError(f"layer {self.name!r} has no weights yet: build it first")
        return sum(math.prod(w.shape) for w in self._weights.values())

    def trained_weights(self) -> list[str]:
        """Return the names of the weights that training changes."""
        return list(self._weights) if self.trainable else []

    def regularization(self) -> float:
        """Return the sum of the penalties on the weights, 0 for a frozen layer."""
        penalties = self._regularizers if self.trainable else {}
        result: float = sum((penalty(self._weights[name]) for name, penalty in penalties.items()), 0.0)
        return result

    def add_regularization_gradient(self) -> None:
        """Add the penalties' derivatives to the gradients."""
        if self.trainable:
            for name, penalty in self._regularizers.items():
                self._grads[name] += penalty.gradient(self._weights[name])

    def apply_constraints(self) -> None:
        """Apply the constraints to the weights, unless they are frozen."""
        if self.trainable:
            for name, constraint in self._constraints.items():
                self._weights[name][...] = constraint(self._weights[name])

    # -- computation

    def forward(
        self, x: np.ndarray, mask: np.ndarray | None = None, training: bool = False
    ) -> tuple[Any, Any]:
        """Return the output, and a cache of what `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        """Write the weights' gradients and return that of the input."""
        raise NotImplementedError

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        """Return the mask of the output."""
        return mask if self.supports_masking else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the output, batch axis included."""
        return tuple(input_shape)

    def as_input(self, x: Any) -> np.ndarray:
        """`x` as an array of the layer's dtype."""
        if type(x) is np.ndarray and x.dtype == self._dtype:
            return x
        return real_array(x, self._dtype)

    def _check_call(self, x: np.ndarray, mask: Any, initial_state: Any = None) -> None:
        """Check the arguments of a call before the weights are created."""
        self._check_shape((None, *x.shape[1:]))
        if mask is not None:
            check_mask(mask, x.shape)

    def inner_layers(self) -> list[Layer]:
        """Return the layers inside this layer."""
        return []

    def reset_state(self, rows: Any = None) -> None:
        """Reset the states of a stateful layer; has no effect on other layers.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Sequences of the batch whose states are reset; all by default.
        """

    def streamed(self, x: np.ndarray) -> Streamed:
        """Return one time step on the rows `x (batch, features)`, with the current weights."""
        if self.unchanged:
            return Streamed((), x)
        raise TypeError(
            f"layer {self.name!r} ({type(self).__name__}) can't be streamed: it can't compute single time steps, or has "
            "no compiled step"
        )

    def why_not_by_step(self) -> str:
        """Return why the layer can't compute a sequence step by step, as a decoder does; "" if it can."""
        if self.reads_both_ways or self.go_backwards:
            return "reads backwards, but later steps are not computed yet"
        if self.mask_zero or self.mask_value is not None:
            return "masks steps: mark padding of the targets by `end`, or by sample_weight 0"
        if self.has_states or self.takes_tokens:
            return ""
        try:
            keeps_steps = self.compute_output_shape((None, 7, 5))[:2] == (None, 7)
        except (ValueError, TypeError, IndexError):
            keeps_steps = False
        return "" if keeps_steps else "does not keep the time axis, but the decoder computes step by step"

    def why_not_in_pieces(self, input_shape: Shape) -> str:
        """Return why truncated backpropagation can't cut sequences into pieces along time; "" if it can.

        Parameters
        ----------
        input_shape : tuple
            Shape of a batch of sequences longer than a piece, with the batch axis.
        """
        if self.reads_both_ways:
            return "also reads backwards, which takes the whole sequence: leave one of the two out"
        if self.go_backwards:
            return "has go_backwards=True, but pieces are in the order of time: leave one of the two out"
        if self.return_state:
            return "passes its last states to other layers, so it needs whole sequences"
        if self.return_sequences is False:
            return (
                "gives one output for a sequence, but each piece needs its own targets: set "
                "return_sequences=True and give targets for every step, or leave truncated_bptt_steps out"
            )
        if self.noise_shape is not None and self.noise_shape[1] not in (None, 1):
            return f"has noise_shape={self.noise_shape!r} of a fixed length: give None or 1 for the time axis"
        shape = self.compute_output_shape(input_shape)
        if len(shape) < 3 or shape[1] != input_shape[1]:
            return "does not keep the time axis, so it needs whole sequences"
        return ""

    def __call__(self, x: Any, mask: Any = None, training: bool = False, **kwargs: Any) -> Any:
        """Compute the output for `x`; the first call creates the weights.

        Parameters
        ----------
        x : array_like of shape (batch, ...)
        mask : array of bool of shape (batch, time), optional
            False where a step is padding.
        training : bool
            Whether to apply dropout.

        Returns
        -------
        ndarray or list of ndarray
        """
        x = self.as_input(x)
        training = flag(training, "training")
        if mask is not None:
            mask = check_mask(mask, x.shape)
        self.ensure_built((None, *x.shape[1:]))
        return self.forward(x, mask=mask, training=training, **kwargs)[0]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("binding", None)  # a copy is in no model
        # Copies, because pickling views of a model's vector would write the whole vector for each.
        state["_weights"] = {name: value.copy() for name, value in self._weights.items()}
        state["_grads"] = {name: value.shape for name, value in self._grads.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._grads = {name: np.zeros(shape, self.dtype) for name, shape in state["_grads"].items()}

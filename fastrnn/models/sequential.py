"""A stack of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import as_shape
from fastrnn.layers import deserialize
from fastrnn.layers.arrays import check_mask
from fastrnn.layers.base import Layer
from fastrnn.layers.core import InputLayer
from fastrnn.layers.python_cell import CustomCell
from fastrnn.models.base import tree
from fastrnn.models.model import Model
from fastrnn.models.passes import backward, forward
from fastrnn.registry import serialize
from fastrnn.streaming import Stream
from fastrnn.training.data import Batch
from fastrnn.training.guard import attributes, guard
from fastrnn.training.step import ForwardPass

__all__ = ["Sequential"]


class Sequential(Model):
    """A stack of layers, each of which takes the output of the previous layer.

    Parameters
    ----------
    layers : iterable of Layer, optional
        If the first is :func:`~fastrnn.layers.Input` with the shape of the inputs, the weights are created at once.
    trainable : bool
        Whether training changes weights at all.
    name : str, optional
    seed : int or SeedSequence, optional
        Seed of initial weights, dropout and the order of samples; by default from the global seed, see
        :func:`fastrnn.set_random_seed`.

    Attributes
    ----------
    layers : list of Layer
        The layers without the input layer.
    params, grads : ndarray
        All weights and their gradients, one vector each; the layers' arrays are views of them.
    optimizer, loss
        Set by :meth:`compile`.

    Notes
    -----
    A layer may be in several models, which then share its weights: training one of them changes the others too. Each
    model has its own optimizer. For example, ``Sequential(model.layers[:2]).predict(x)`` computes the outputs of the second
    layer of a model. A copy of a model, or a model read from a file, shares no weights.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> model = Sequential([layers.LSTM(8), layers.Dense(1)], seed=0)
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((4, 5, 2)), np.zeros((4, 1))
    >>> history = model.fit(x, y, verbose=0)
    >>> model.predict(x).shape
    (4, 1)
    """

    #: The input shape that was checked last, with the number of layers, and the output shape for it.
    _walked: tuple[Any, Any] | None = None

    def __init__(
        self,
        layers: Iterable[Layer] | None = None,
        trainable: bool = True,
        name: str | None = None,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        super().__init__(trainable, name, seed)
        self._guessed = False
        if isinstance(layers, Layer) or not (layers is None or isinstance(layers, Iterable)):
            raise TypeError(f"layers={layers!r}: give a list of layers")
        for layer in layers or ():
            self.add(layer)

    # -- layers

    def add(self, layer: Layer) -> None:
        """Add a layer at the end."""
        if isinstance(layer, InputLayer):
            if self.layers or self._input_layer is not None:
                raise ValueError(f"{layer!r} must come first")
            self._input_layer = layer
            self._shapes = [layer.batch_shape]
            return
        self._check_layer(layer, self.layers)
        if layer.return_state:
            raise ValueError(
                f"layer {layer.name!r} has return_state=True, which gives several outputs: "
                "layers of a Sequential have one output, leave it out"
            )
        if layer.merge_mode is None:
            raise ValueError(
                f"layer {layer.name!r} has merge_mode=None, which gives two outputs: "
                "layers of a Sequential have one output, merge them"
            )
        if layer.takes_tokens and self.layers:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}) takes tokens, but layers output numbers: it must come first"
            )
        before = attributes(self, "layers", "_shapes", "_guessed", "_params"), attributes(layer, "name")
        with guard(*before):
            self._adopt(layer)
            if len(self.layers) == 1 and not self._shapes:
                if layer.input_shape is not None:
                    self._shapes = [(None, *layer.input_shape)]
                elif layer.takes_tokens:
                    # Tokens of any number of steps, which is enough for most following layers.
                    self._shapes, self._guessed = [(None, None)], True
            if self._shapes:
                self._grow()

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        self._need_layers()
        self._walked = None
        layer = self.layers.pop()
        for part in tree([layer]):
            part.binding = None
        self._shapes = self._shapes[: len(self.layers) + 1]
        self._params = None
        result: Layer = layer
        return result

    # -- building

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights.

        Parameters
        ----------
        input_shape : tuple
            With the batch axis; None for sizes that may vary: ``(None, None, 3)`` for any batch and number of steps.
        """
        self._need_layers()
        shape = as_shape(input_shape, "input_shape")
        if self.built:
            self._check_input(self._shapes[0], shape)
        if not self._shapes or (self._guessed and not self.built):
            _walk(self.layers, shape)
            self._shapes, self._guessed = [shape], False
        self._grow()

    def expected_output(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
        if not self.built:
            result: tuple[int | None, ...] | None = _walk(self.layers, shape)
            return result
        self._check_input(self._shapes[0], shape)
        # Skip the check for the same shape as before, as it would slow down short predictions.
        if self._walked is None or self._walked[0] != (shape, len(self.layers)):
            self._walked = (shape, len(self.layers)), _walk(self.layers, shape)
        result = self._walked[1]
        return result

    def _grow(self) -> None:
        """Build the layers that are not built yet."""
        if not self._guessed:
            # Check all layers before the first one gets weights.
            _walk(self.layers[len(self._shapes) - 1 :], self._shapes[-1])
        while len(self._shapes) <= len(self.layers):
            layer, shape = self.layers[len(self._shapes) - 1], self._shapes[-1]
            if self._guessed and len(self._shapes) > 1 and shape[-1] is None:
                # The shape depends on the number of steps, as after Flatten: build the rest with the first data.
                return
            layer.ensure_built(shape)
            self._shapes.append(layer.compute_output_shape(shape))

    # -- passes

    def run(self, batch: Batch, training: bool, logits_of: str | None = None) -> ForwardPass:
        x, mask = batch.x, batch.mask
        if mask is not None:
            mask = check_mask(mask, x.shape)
        found = forward(self.layers, x, mask, training, logits_of)
        if not self._regularized:
            return found
        return found._replace(penalty=found.penalty + self._weight_penalty())

    def back(self, dy: np.ndarray, caches: Any, from_logits: bool) -> None:
        backward(self.layers, dy, caches, from_logits, self._first_trained)
        self._add_penalty_gradients()

    def training_stack(self) -> list[Any] | None:
        own = type(self)
        return self.layers if own.run is Sequential.run and own.back is Sequential.back else None

    def __call__(self, x: Any, mask: Any = None, training: bool = False) -> np.ndarray:
        """Compute the outputs for a batch."""
        self._need_layers()
        result: np.ndarray = self.run(Batch(self.as_input(x), mask=mask), training).y
        return result

    # -- configuration, copies and files

    def stream(self, batch_size: int = 1, missing: str = "raise") -> Stream:
        """Make a stream, which runs the model one time step at a time, within microseconds.

        Parameters
        ----------
        batch_size : int
            Number of sequences that advance together.
        missing : {"raise", "skip"}
            What is done about samples with NaN or infinity: an error, or their sequences are left as they are.

        Returns
        -------
        Stream
            With a copy of the current weights, and with states of its own, which start from zero.
        """
        self.vectors()
        return Stream(self.layers, self._shapes[0], batch_size, missing)

    def get_config(self) -> dict[str, Any]:
        """Return name and layers as plain data, without weights."""
        stated = [] if self._input_layer is None else [self._input_layer]
        return {"name": self.name, "layers": [serialize(layer) for layer in [*stated, *self.layers]]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """Make a model from the result of :meth:`get_config`, with new weights."""
        if not isinstance(config, Mapping) or "layers" not in config:
            raise ValueError(f"config={config!r}: give the result of get_config(), with its layers")
        return cls([deserialize(layer) for layer in config["layers"]], name=config.get("name"))


def _knows_its_shapes(layer: Any) -> bool:
    """Whether the output shape of a layer is known before it has weights; for user-defined layers it may not be."""
    if not type(layer).__module__.startswith("fastrnn.") or isinstance(layer, CustomCell):
        return False
    return all(map(_knows_its_shapes, layer.inner_layers()))


def _walk(layers: Sequence[Any], shape: Any) -> Any:
    """Check the input shape of each layer; return the shape of the last output, or None if it is not known."""
    for layer in layers:
        if not _knows_its_shapes(layer):
            return None
        layer._check_shape(shape)
        shape = layer.compute_output_shape(shape)
    return shape

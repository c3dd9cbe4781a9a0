"""Sequence to sequence: an encoder whose final states start a decoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import integer
from fastrnn.layers import deserialize
from fastrnn.layers.arrays import check_mask
from fastrnn.layers.base import Layer
from fastrnn.layers.core import InputLayer
from fastrnn.models.decoder_checks import Outputs, check_end, check_parts, check_start, read_targets
from fastrnn.models.decoder_layers import join_states, n_outputs, output_shape, part_states, set_returns
from fastrnn.models.model import Model
from fastrnn.models.passes import backward, forward
from fastrnn.registry import serialize
from fastrnn.sequences.ragged import Ragged
from fastrnn.training.data import Batch, Batches
from fastrnn.training.loop import predict
from fastrnn.training.step import ForwardPass

__all__ = ["EncoderDecoder"]


class _Caches(NamedTuple):
    """What the backward pass needs: the caches of both parts, and the decoder's final states."""

    encoder: list[Any]
    decoder: list[Any]
    finals: list[Any]


class EncoderDecoder(Model):
    r"""An encoder reads a sequence, and a decoder generates another sequence from the encoder's final states.

    Recurrent layer k of the decoder starts from the final states of recurrent layer k of the encoder::

        s_0 = encoder(x_1 ... x_n)
        y_t, s_t = decoder(input_t, s_{t-1}),   input_1 = start,   input_t = target_{t-1}  (training)
                                                                   input_t = y_{t-1}       (prediction)

    In training the decoder's inputs are the targets of the previous steps (teacher forcing); in prediction they are its own
    outputs, the most probable token at each step. Targets and inputs may have different lengths. There are two kinds of
    outputs:

    - tokens, where the decoder starts with an :class:`~fastrnn.layers.Embedding` or ends with a softmax. Targets are
      integers ``(batch, time)``, or one-hot ``(batch, time, n_classes)``. A decoder without an embedding reads one-hot
      vectors of `n_classes`.
    - numbers, in all other cases. Targets are ``(batch, time, n_outputs)``, and outputs are the next inputs.

    Everything else is as in :class:`~fastrnn.Sequential`: ``compile``, ``fit(x, y)``, ``evaluate``, ``summary``,
    callbacks, weights (the encoder's first) and files. If `Input` with the shape of the inputs is the encoder's first
    layer, the weights are created at once.

    Parameters
    ----------
    encoder : iterable of Layer
        Must end with a recurrent layer, whose outputs are not used. Masks (of ``Embedding(mask_zero=True)``,
        ``Masking`` or ragged inputs) are supported. The states of a ``Bidirectional`` layer are concatenated, so the
        decoder's layer has twice its units.
    decoder : iterable of Layer
        Layers that can compute single steps, with as many recurrent layers as the encoder, of the same state sizes. The
        last layer computes the outputs. `return_sequences` and `return_state` of all layers are set as needed.
    start : int, float, array or "last", optional
        The decoder's first input. For tokens an integer, required with an embedding; without one, None means zeros.
        For numbers one value, or one for each output; None means zeros. ``"last"`` is the last valid step of `x`, whose
        first features must be the outputs, as in the continuation of a series.
    end : int, optional
        The token that ends a sequence. Targets after it are padding, and count neither in the loss nor in metrics;
        predicted tokens after it are `end`.
    teacher_forcing : {"training", "always"}
        With "training", the decoder's inputs in `evaluate` and validation are its own outputs, as in `predict`. With
        "always" they are the targets, so that losses are comparable with that of training.
    trainable, name, seed
        As for :class:`~fastrnn.Sequential`.

    Attributes
    ----------
    encoder, decoder : list of Layer
        Both parts; `layers` holds all.
    n_steps : int or None
        Steps of the longest targets of training, the default number of steps of `predict`.

    Raises
    ------
    ValueError
        If the parts don't fit together, or a layer of the decoder needs the whole sequence.

    References
    ----------
    Sutskever, I., Vinyals, O. & Le, Q. V. (2014). Sequence to sequence learning with neural networks. NeurIPS 27.

    Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder for statistical machine translation.
    EMNLP, 1724-1734.

    Williams, R. J. & Zipser, D. (1989). A learning algorithm for continually running fully recurrent neural networks.
    Neural Computation 1(2), 270-280 (teacher forcing).

    Examples
    --------
    Tokens, with 10 as the start token:

    >>> import numpy as np
    >>> from fastrnn import EncoderDecoder, layers
    >>> x = np.random.default_rng(0).integers(0, 10, (64, 5))
    >>> model = EncoderDecoder(
    ...     encoder=[layers.Embedding(10, 8), layers.GRU(16)],
    ...     decoder=[layers.Embedding(11, 8), layers.GRU(16), layers.Dense(10, activation="softmax")],
    ...     start=10,
    ...     seed=0,
    ... )
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(x, x[:, ::-1], epochs=2, verbose=0)
    >>> model.predict(x).shape
    (64, 5, 10)
    >>> model.predict(x, n_steps=3, tokens=True).shape
    (64, 3)

    Numbers, the continuation of a series:

    >>> model = EncoderDecoder(
    ...     encoder=[layers.LSTM(16)], decoder=[layers.LSTM(16), layers.Dense(1)], start="last", seed=0
    ... )
    >>> model.compile("adam", "mse")
    >>> series = np.sin(np.arange(0, 40, 0.1)).reshape(10, 40, 1)
    >>> history = model.fit(series[:, :30], series[:, 30:], verbose=0)
    >>> model.predict(series[:, :30], n_steps=20).shape
    (10, 20, 1)
    """

    def __init__(
        self,
        encoder: Iterable[Layer],
        decoder: Iterable[Layer],
        start: Any = None,
        end: int | None = None,
        teacher_forcing: str = "training",
        trainable: bool = True,
        name: str | None = None,
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        super().__init__(trainable, name, seed)
        reading: list[Any] = list(encoder)
        writing: list[Any] = list(decoder)
        if reading and isinstance(reading[0], InputLayer):
            self._input_layer = reading.pop(0)
        if teacher_forcing not in ("training", "always"):
            raise ValueError(f"teacher_forcing={teacher_forcing!r}: give 'training' or 'always'")
        self.teacher_forcing = teacher_forcing
        self.n_steps: int | None = None
        check_parts(reading, writing)
        self._n_outputs = n_outputs(writing)
        self._tokens_in = writing[0].takes_tokens
        #: Whether outputs are probabilities of classes, not numbers.
        self.classes = self._tokens_in or writing[-1].output_activation == "softmax"
        outputs = Outputs(self._n_outputs, self.classes)
        self.start, self.end = check_start(start, reading[0], writing[0], outputs), check_end(end, outputs)
        together = [*reading, *writing]
        for i, layer in enumerate(together):
            self._check_layer(layer, together[:i])
        for prefix, part in (("encoder", reading), ("decoder", writing)):
            for layer in part:
                if layer._auto_named:
                    layer.name = f"{prefix}_{layer.name.removeprefix(prefix + '_')}"
                self._adopt(layer)
                if layer.has_states:
                    # Only the states of the encoder's last layer are used.
                    set_returns(layer, sequences=layer is not reading[-1])
        self._n_encoder = len(reading)
        first = reading[0]
        if self._input_layer is not None:
            self.build(self._input_layer.batch_shape)
        elif first.input_shape is not None:
            self.build((None, *first.input_shape))
        elif first.takes_tokens:
            self.build((None, None))

    @property
    def encoder(self) -> list[Any]:
        """The layers of the encoder."""
        return self.layers[: self._n_encoder]

    @property
    def decoder(self) -> list[Any]:
        """The layers of the decoder."""
        return self.layers[self._n_encoder :]

    # -- building

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights.

        Parameters
        ----------
        input_shape : tuple
            Shape of the encoder's input, with the batch axis; None for sizes that may vary.
        """
        if self.built:
            return
        shape: Any = tuple(input_shape)
        if not self.classes and isinstance(self.start, str) and (shape[-1] or 0) < self._n_outputs:
            raise ValueError(
                f"start='last' needs inputs whose first {self._n_outputs} features are the outputs, got shape {shape}"
            )
        shapes = [shape]
        for i, layer in enumerate(self.layers):
            if i == self._n_encoder:
                shape = (None, None) if self._tokens_in else (None, None, self._n_outputs)
            layer.ensure_built(shape)
            shape = output_shape(layer, shape)
            shapes.append(shape)
        self._shapes = shapes

    def plan_updates(self) -> None:
        super().plan_updates()
        if self._params is None:
            return
        # The backward pass through the decoder may end at a layer if no layer below is trained, and no layer of the encoder
        # that gets gradients from its states.
        n, decoder = self._n_encoder, self.decoder
        trained = [
            i for i, layer in enumerate(decoder) if self.trainable and layer.trainable and layer._weights
        ]
        if self._first_trained < n:
            trained.append(next(i for i, layer in enumerate(decoder) if layer.has_states))
        self._decoder_stop = min(trained, default=len(decoder))

    def attach(self, data: Batches) -> None:
        if isinstance(data.first.y, Ragged):
            raise ValueError(
                "y is ragged: pad the targets to one length, and give `end`, or sample_weight 0 for padding"
            )
        super().attach(data)

    # -- passes

    def run(self, batch: Batch, training: bool, logits_of: str | None = None) -> ForwardPass:
        x, y, mask = batch.x, batch.y, batch.mask
        targets, out_mask = (None, None) if y is None else self._targets(y, len(x))
        n_steps = self._count(None) if targets is None else targets.shape[1]
        first, states, caches, penalty = self._encode(x, mask, training)
        if targets is not None and (training or self.teacher_forcing == "always"):
            shown = np.concatenate([first[:, None], targets[:, :-1]], axis=1)
            found = forward(self.decoder, shown, None, training, logits_of, states)
        else:
            found = self._write(first, states, n_steps, logits_of)
        if training:
            self.n_steps = max(n_steps, self.n_steps or 0)
        return found._replace(
            mask=out_mask,
            caches=_Caches(caches, found.caches, found.finals),
            penalty=penalty + found.penalty + self._weight_penalty(),
        )

    def back(self, dy: np.ndarray, caches: Any, from_logits: bool) -> None:
        d_finals = [[None] * len(final) for final in caches.finals]
        d_starts = backward(self.decoder, dy, caches.decoder, from_logits, self._decoder_stop, d_finals)
        if self._first_trained < self._n_encoder:
            readers = [layer for layer in self.encoder if layer.has_states]
            d_finals = [part_states(layer, d) for layer, d in zip(readers, d_starts, strict=True)]
            backward(self.encoder, None, caches.encoder, False, self._first_trained, d_finals)
        self._add_penalty_gradients()

    def _encode(self, x: Any, mask: Any, training: bool) -> tuple[np.ndarray, list[Any], list[Any], float]:
        """Run the encoder: the decoder's first input and initial states, caches, penalty."""
        if mask is not None:
            mask = check_mask(mask, x.shape)
        first = self._first(x, mask)
        found = forward(self.encoder, x, mask, training)
        readers = (layer for layer in self.encoder if layer.has_states)
        states = [join_states(layer, final) for layer, final in zip(readers, found.finals, strict=True)]
        return first, states, found.caches, found.penalty

    def _first(self, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """The decoder's first input, for each row of `x`."""
        n = len(x)
        if self._tokens_in:
            return np.full(n, self.start)
        dtype = self.layers[0].dtype
        if isinstance(self.start, str):
            mask = self.layers[0].compute_mask(x, mask)
            if mask is None:
                return x[:, -1, : self._n_outputs]
            last = x.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
            found = x[np.arange(n), last, : self._n_outputs]
            return np.where(mask.any(axis=1, keepdims=True), found, x.dtype.type(0))
        if self.classes:
            return self._as_read(np.full(n, -1 if self.start is None else self.start))
        return np.broadcast_to(self.start, (n, self._n_outputs)).astype(dtype)

    def _as_read(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens as inputs of the decoder: unchanged, or one-hot (zeros for a token below 0)."""
        if self._tokens_in:
            return tokens
        result: np.ndarray = (tokens[..., None] == np.arange(self._n_outputs)).astype(self.layers[0].dtype)
        return result

    def _fed_back(self, y: np.ndarray) -> np.ndarray:
        """The decoder's input in the step after the output `y`."""
        return self._as_read(y.argmax(axis=-1)) if self.classes else y

    def _write(
        self, first: np.ndarray, states: list[Any], n_steps: int, logits_of: str | None = None
    ) -> ForwardPass:
        """Run the decoder; the input of each step is the output of the previous step."""
        read, steps = first, []
        for _ in range(n_steps):
            steps.append(forward(self.decoder, read[:, None], None, False, logits_of, states))
            read, states = self._fed_back(steps[-1].y[:, 0]), steps[-1].finals
        logits = [step.logits for step in steps if step.logits is not None]
        return ForwardPass(
            y=np.concatenate([step.y for step in steps], axis=1),
            mask=None,
            logits=np.concatenate(logits, axis=1) if logits else None,
            caches=[],
            penalty=sum(step.penalty for step in steps),
            finals=[],
        )

    def _targets(self, y: Any, n_batch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets as tokens or numbers, and the mask of steps that count (None if all do)."""
        outputs = Outputs(self._n_outputs, self.classes)
        targets, mask = read_targets(y, n_batch, outputs, self.end, self.layers[0].dtype)
        return (self._as_read(targets) if self.classes else targets), mask

    def _count(self, n_steps: int | None) -> int:
        if n_steps is not None:
            result: int = integer(n_steps, "n_steps")
            return result
        if self.n_steps is None:
            raise ValueError("n_steps is missing: give the number of steps, as the model was not trained yet")
        return self.n_steps

    def __call__(
        self, x: Any, y: Any = None, mask: Any = None, training: bool = False, n_steps: int | None = None
    ) -> np.ndarray:
        """Compute the outputs for a batch.

        Parameters
        ----------
        x : array_like of shape (batch, time, features) or (batch, time)
        y : array_like, optional
            Targets, as `fit` takes them, for teacher forcing; without them the decoder's inputs are its own outputs.
        mask : array of bool of shape (batch, time), optional
            Mask of `x`.
        training : bool
            Whether to apply dropout.
        n_steps : int, optional
            Number of steps to generate, without `y`.

        Returns
        -------
        ndarray of shape (batch, n_steps, n_outputs)
        """
        x = self.as_input(x)
        targets = None if y is None else self._targets(y, len(x))[0]
        n_steps = self._count(n_steps) if targets is None else targets.shape[1]
        first, states, _, _ = self._encode(x, mask, training)
        if targets is None:
            result: np.ndarray = self._write(first, states, n_steps).y
            return result
        shown = np.concatenate([first[:, None], targets[:, :-1]], axis=1)
        result = forward(self.decoder, shown, None, training, None, states).y
        return result

    # -- stepping and prediction

    def encode(self, x: Any, mask: Any = None) -> tuple[np.ndarray, list[Any]]:
        """Run the encoder, to generate outputs with :meth:`step`, for example by sampling or beam search.

        Parameters
        ----------
        x : array_like of shape (batch, time, features) or (batch, time)
        mask : array of bool of shape (batch, time), optional

        Returns
        -------
        inputs : ndarray
            The decoder's first input.
        states : list
            One entry for each recurrent layer of the decoder, a list of arrays ``(batch, size)``.

        Examples
        --------
        Generate the most probable token at each step, as `predict` does::

            inputs, states = model.encode(x)
            for t in range(n_steps):
                probabilities, states = model.step(inputs, states)
                inputs = probabilities.argmax(axis=-1)
        """
        first, states, _, _ = self._encode(self.as_input(x), mask, False)
        return first, states

    def step(self, inputs: Any, states: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        """Compute one step of the decoder.

        Parameters
        ----------
        inputs : array_like of shape (batch,) for tokens, (batch, n_outputs) for numbers
        states : list
            States from :meth:`encode` or the previous step; rows may be selected and repeated.

        Returns
        -------
        outputs : ndarray of shape (batch, n_outputs)
        states : list
        """
        inputs = np.asarray(inputs)
        if self.classes and inputs.ndim == 1:
            inputs = self._as_read(inputs)
        read = self.decoder[0].as_input(inputs)[:, None]
        found = forward(self.decoder, read, None, False, None, states)
        return found.y[:, 0], found.finals

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        mask: Any = None,
        *,
        n_steps: int | None = None,
        tokens: bool = False,
    ) -> np.ndarray:
        """Generate a sequence for each sample; the decoder's inputs are its own outputs.

        Parameters
        ----------
        x, batch_size, verbose, steps, callbacks, mask
            As for :meth:`fastrnn.Sequential.predict`.
        n_steps : int, optional
            Number of steps to generate; by default that of the longest targets in training.
        tokens : bool
            Whether to return tokens instead of probabilities.

        Returns
        -------
        ndarray of shape (samples, n_steps, n_outputs), or (samples, n_steps) with `tokens`
            Outputs of all steps (probabilities after a softmax), or the most probable tokens as int64. All tokens after
            the first `end` are `end`.
        """
        n_steps = self._count(n_steps)
        if tokens and not self.classes:
            raise ValueError("tokens=True: the outputs of this model are numbers")
        write = self._tokens if tokens else self._outputs
        data, calls = self._prediction_data(x, batch_size, verbose, steps, callbacks, mask)
        return predict(self, data, lambda x, mask: write(x, mask, n_steps), calls, steps)

    def _outputs(self, x: Any, mask: Any, n_steps: int) -> np.ndarray:
        first, states, _, _ = self._encode(x, mask, False)
        result: np.ndarray = self._write(first, states, n_steps).y
        return result

    def _tokens(self, x: Any, mask: Any, n_steps: int) -> np.ndarray:
        inputs, states, _, _ = self._encode(x, mask, False)
        out = np.full((len(x), n_steps), -1 if self.end is None else self.end)
        ended = np.zeros(len(x), bool)
        for t in range(n_steps):
            y, states = self.step(inputs, states)
            inputs = y.argmax(axis=-1)
            if self.end is not None:
                inputs[ended] = self.end
                ended |= inputs == self.end
            out[:, t] = inputs
            if ended.all():
                break
        return out

    # -- configuration

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data, without weights."""
        stated = [] if self._input_layer is None else [self._input_layer]
        return {
            "name": self.name,
            "encoder": [serialize(layer) for layer in [*stated, *self.encoder]],
            "decoder": [serialize(layer) for layer in self.decoder],
            "start": self.start.tolist() if isinstance(self.start, np.ndarray) else self.start,
            "end": self.end,
            "teacher_forcing": self.teacher_forcing,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EncoderDecoder:
        """Make a model from the result of :meth:`get_config`, with new weights."""
        parts = {key: [deserialize(layer) for layer in config[key]] for key in ("encoder", "decoder")}
        return cls(**{**config, **parts})

"""Sequence to sequence: an encoder whose final states start a decoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.layers import deserialize
from fastrnn.layers.arrays import check_mask, check_positive_int
from fastrnn.layers.base import Layer
from fastrnn.layers.core import InputLayer
from fastrnn.models.base import Model
from fastrnn.models.decoder_layers import (
    is_recurrent,
    join_states,
    n_outputs,
    output_shape,
    part_states,
    set_returns,
    state_sizes,
    why_not_by_step,
)
from fastrnn.models.passes import backward, forward
from fastrnn.registry import serialize

__all__ = ["EncoderDecoder"]


class _Caches(NamedTuple):
    """What the way back needs: the caches of both parts, and the states that the decoder ended with."""

    encoder: list[Any]
    decoder: list[Any]
    finals: list[Any]


class EncoderDecoder(Model):
    r"""Layers that read a sequence, and layers that write another one from what the first have understood.

    The recurrent layers of the decoder start from the final states of those of the encoder, first to first, second to
    second::

        s_0 = encoder(x_1 ... x_n)
        y_t, s_t = decoder(input_t, s_{t-1}),   input_1 = start,   input_t = target_{t-1}  (training)
                                                                   input_t = y_{t-1}       (prediction)

    In training the decoder is shown the targets, one step late (teacher forcing); in prediction it runs freely on what it
    wrote itself, the likeliest token at each step. Targets may be of any length, other than that of the inputs. There are
    two kinds:

    - tokens, where the decoder starts with an :class:`~fastrnn.layers.Embedding` or ends with a softmax. Targets are
      integers ``(batch, time)``, or one-hot ``(batch, time, n_classes)``. A decoder without an embedding reads one-hot
      vectors of `n_classes`.
    - numbers, in all other cases. Targets are ``(batch, time, n_outputs)``, and what is fed back is the output.

    Everything else is as in :class:`~fastrnn.Sequential`: ``compile``, ``fit(x, y)``, ``evaluate``, ``summary``,
    callbacks, weights (the encoder's first) and files. `Input` at the encoder's start states the shape of its inputs, so
    that weights exist at once.

    Parameters
    ----------
    encoder : iterable of Layer
        Ends with a recurrent layer, of which only the final states are used. Masks (of ``Embedding(mask_zero=True)``,
        ``Masking`` or ragged inputs) work as everywhere. The states of a ``Bidirectional`` layer are joined, so that it
        starts a decoder of twice the units.
    decoder : iterable of Layer
        Works step by step, with as many recurrent layers as the encoder, of the same state sizes. Its last layer gives the
        outputs. `return_sequences` and `return_state` of both parts are set as needed.
    start : int, float, array or "last", optional
        What the decoder reads first. For tokens an integer, needed with an embedding; without one, None stands for zeros.
        For numbers a value or one for each output; None stands for zeros; ``"last"`` for the last valid step of `x`, which
        must have the outputs for its first features, as where a series goes on.
    end : int, optional
        The token behind which targets are padding: those steps count neither in the loss nor in metrics, and tokens that
        are predicted end with it.
    teacher_forcing : {"training", "always"}
        Whether `evaluate` and validation let the decoder run freely, so that they measure what `predict` gives, or show it
        the targets there too, so that losses compare with that of training.
    trainable, name, seed
        As for :class:`~fastrnn.Sequential`.

    Attributes
    ----------
    encoder, decoder : list of Layer
        Both parts; `layers` holds all.
    n_steps : int or None
        Steps of the longest targets that the model was trained on: so many are predicted unless told otherwise.

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

    Numbers: a series goes on where it was left.

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
        self._check_parts(reading, writing)
        self._n_outputs = n_outputs(writing)
        self._tokens_in = writing[0].takes_tokens
        #: Whether outputs are classes, rather than numbers that are fed back as they are.
        self.classes = self._tokens_in or writing[-1].output_activation == "softmax"
        self.start, self.end = self._check_start(start, reading[0], writing[0]), self._check_end(end)
        together = [*reading, *writing]
        for i, layer in enumerate(together):
            self._check_layer(layer, together[:i])
        for prefix, part in (("encoder", reading), ("decoder", writing)):
            for layer in part:
                if layer._auto_named:
                    layer.name = f"{prefix}_{layer.name.removeprefix(prefix + '_')}"
                self._adopt(layer)
                if is_recurrent(layer):
                    # Of what the encoder's last layer writes, its states are used.
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
        """Layers that read."""
        return self.layers[: self._n_encoder]

    @property
    def decoder(self) -> list[Any]:
        """Layers that write."""
        return self.layers[self._n_encoder :]

    # -- checks of what is given

    @staticmethod
    def _check_parts(reading: list[Any], writing: list[Any]) -> None:
        for name, part in (("encoder", reading), ("decoder", writing)):
            if not part:
                raise ValueError(f"{name} has no layers: give at least one recurrent layer")
            for layer in part:
                if not isinstance(layer, Layer) or isinstance(layer, InputLayer):
                    raise TypeError(
                        f"{name} holds {layer!r}: give layers of fastrnn.layers, Input only as the encoder's first"
                    )
                if getattr(layer, "stateful", False):
                    raise ValueError(
                        f"{name}: layer {layer.name!r} is stateful, but each answer starts from its own question: "
                        "leave stateful out"
                    )
                if getattr(layer, "merge_mode", "") is None:
                    raise ValueError(f"{name}: layer {layer.name!r} has merge_mode=None: merge its outputs")
        if not is_recurrent(reading[-1]):
            raise ValueError(
                f"encoder ends with {reading[-1]!r}: only the states of its recurrent layers are used, end with one"
            )
        for layer in writing:
            wrong = why_not_by_step(layer)
            if wrong:
                raise ValueError(f"decoder: layer {layer.name!r} ({type(layer).__name__}) {wrong}")
        sizes = [[state_sizes(layer) for layer in part if is_recurrent(layer)] for part in (reading, writing)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"encoder has recurrent layers with states of sizes {sizes[0]}, decoder {sizes[1]}: each layer of the "
                "decoder starts from the states of one of the encoder, make them equal"
            )

    def _check_start(self, start: Any, reader: Layer, writer: Any) -> Any:
        n = self._n_outputs
        if self.classes:
            if n < 2:
                raise ValueError(f"decoder has {n} output, classes need one each: end with Dense(n_classes)")
            known = getattr(writer, "input_dim", n)
            if start is None and not self._tokens_in:
                return None
            if not _is_integer(start) or not 0 <= start < known:
                raise ValueError(
                    f"start={start!r}: the decoder reads tokens, give the one it reads first, from 0 to {known - 1} "
                    + (
                        "(a token of its own needs an Embedding one larger)"
                        if self._tokens_in
                        else "or None for zeros"
                    )
                )
            return int(start)
        if isinstance(start, str):
            if start != "last":
                raise ValueError(f"start={start!r}: give numbers, 'last' or None")
            if reader.takes_tokens:
                raise ValueError("start='last' needs numbers for inputs, but the encoder reads tokens")
            return start
        values = np.zeros(n) if start is None else np.asarray(start)
        if values.dtype.kind not in "iuf" or values.shape not in ((), (n,)) or not np.isfinite(values).all():
            raise ValueError(
                f"start={start!r}: give a number, {n} numbers (one for each output), 'last' or None"
            )
        return np.broadcast_to(values, (n,)).astype(float)

    def _check_end(self, end: Any) -> int | None:
        if end is None:
            return None
        if not self.classes:
            raise ValueError(f"end={end!r} is a token, but the outputs are numbers: leave it out")
        if not _is_integer(end) or not 0 <= end < self._n_outputs:
            raise ValueError(f"end={end!r}: give one of the decoder's classes, 0 to {self._n_outputs - 1}")
        return int(end)

    # -- building

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights.

        Parameters
        ----------
        input_shape : tuple
            Of the encoder's input, with the batch axis, None where a size is open.
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
        # The way back through the decoder ends where nothing below is trained, neither in it nor, by its states, in the
        # encoder.
        n, decoder = self._n_encoder, self.decoder
        trained = [
            i for i, layer in enumerate(decoder) if self.trainable and layer.trainable and layer._weights
        ]
        if self._first_trained < n:
            trained.append(next(i for i, layer in enumerate(decoder) if is_recurrent(layer)))
        self._decoder_stop = min(trained, default=len(decoder))

    def _attach(self, data: Any) -> None:
        y = None if data is None else (*data._first, None)[1] if data.stream else data.y
        if hasattr(y, "lengths"):
            raise ValueError(
                "y is ragged: pad the targets to one length, and give `end`, or sample_weight 0 for padding"
            )
        super()._attach(data)

    # -- passes

    def run(self, x: Any, mask: Any, training: bool, want_logits: bool, y: Any = None) -> Any:
        targets, out_mask = (None, None) if y is None else self._targets(y, len(x))
        n_steps = self._count(None) if targets is None else targets.shape[1]
        first, states, caches, penalty = self._encode(x, mask, training)
        activation = self.loss.logit_activation if want_logits else None
        if targets is not None and (training or self.teacher_forcing == "always"):
            shown = np.concatenate([first[:, None], targets[:, :-1]], axis=1)
            y_pred, _, logits, decoder, more, finals = forward(
                self.decoder, shown, None, training, activation, states
            )
        else:
            decoder, finals = [], []
            y_pred, logits, more = self._write(first, states, n_steps, activation)
        if training:
            self.n_steps = max(n_steps, self.n_steps or 0)
        kept = _Caches(caches, decoder, finals)
        return y_pred, out_mask, logits, kept, penalty + more + self._weight_penalty()

    def back(self, dy: np.ndarray, caches: Any, from_logits: bool) -> None:
        d_finals = [[None] * len(final) for final in caches.finals]
        d_starts = backward(self.decoder, dy, caches.decoder, from_logits, self._decoder_stop, d_finals)
        if self._first_trained < self._n_encoder:
            readers = [layer for layer in self.encoder if is_recurrent(layer)]
            d_finals = [part_states(layer, d) for layer, d in zip(readers, d_starts, strict=True)]
            backward(self.encoder, None, caches.encoder, False, self._first_trained, d_finals)
        self._add_penalty_gradients()

    def _encode(self, x: Any, mask: Any, training: bool) -> tuple[np.ndarray, list[Any], list[Any], float]:
        """Read `x`: the decoder's first input and initial states, caches, penalty."""
        if mask is not None:
            mask = check_mask(mask, x.shape)
        first = self._first(x, mask)
        _, _, _, caches, penalty, finals = forward(self.encoder, x, mask, training)
        readers = (layer for layer in self.encoder if is_recurrent(layer))
        states = [join_states(layer, final) for layer, final in zip(readers, finals, strict=True)]
        return first, states, caches, penalty

    def _first(self, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """What the decoder reads first, for each row of `x`."""
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
        """Tokens as the decoder reads them: as they are, or one-hot (zeros for a token below 0)."""
        if self._tokens_in:
            return tokens
        return (tokens[..., None] == np.arange(self._n_outputs)).astype(self.layers[0].dtype)

    def _fed_back(self, y: np.ndarray) -> np.ndarray:
        """What the decoder reads after it has written `y`."""
        return self._as_read(y.argmax(axis=-1)) if self.classes else y

    def _write(
        self, first: np.ndarray, states: list[Any], n_steps: int, activation: str | None
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Run freely: outputs, logits and penalty."""
        read, penalty = first, 0.0
        outputs, logits = [], []
        for _ in range(n_steps):
            y, _, z, _, more, states = forward(self.decoder, read[:, None], None, False, activation, states)
            outputs.append(y)
            logits.append(z)
            penalty += more
            read = self._fed_back(y[:, 0])
        joined = None if logits[0] is None else np.concatenate(logits, axis=1)
        return np.concatenate(outputs, axis=1), joined, penalty

    def _targets(self, y: Any, n_batch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets as the decoder reads them, and which steps count (None: all)."""
        y, n = np.asarray(y), self._n_outputs
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y has dtype {y.dtype}: give {'integer tokens' if self.classes else 'numbers'}")
        shape = y.shape
        if self.classes:
            wanted = f"({n_batch}, time) or one-hot ({n_batch}, time, {n})"
            if y.ndim == 3:
                y = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
            right = y.ndim == 2 and (len(shape) == 2 or shape[-1] in (1, n))
        else:
            wanted = f"({n_batch}, time, {n})"
            if y.ndim == 2 and n == 1:
                y = y[..., None]
            right = y.ndim == 3 and y.shape[-1] == n
        if not right or len(y) != n_batch or y.shape[1] == 0:
            raise ValueError(f"y has shape {shape}: the model takes targets {wanted}")
        if not self.classes:
            return y.astype(self.layers[0].dtype), None
        tokens = y.astype(np.int64)
        if y.dtype.kind == "f" and not np.array_equal(tokens, y):
            raise ValueError("y holds fractions or NaN: give integer tokens")
        if tokens.min() < 0 or tokens.max() >= n:
            wrong = tokens.min() if tokens.min() < 0 else tokens.max()
            raise ValueError(f"y holds token {wrong}: the decoder's classes are 0 to {n - 1}")
        mask = None
        if self.end is not None:
            ends = tokens == self.end
            mask = np.asarray(ends.cumsum(axis=1) - ends == 0)
            mask = None if mask.all() else mask
        return self._as_read(tokens), mask

    def _count(self, n_steps: int | None) -> int:
        if n_steps is not None:
            return check_positive_int(n_steps, "n_steps")
        if self.n_steps is None:
            raise ValueError(
                "n_steps is missing: the model was not trained yet, so say how many steps to write"
            )
        return self.n_steps

    def __call__(
        self, x: Any, y: Any = None, mask: Any = None, training: bool = False, n_steps: int | None = None
    ) -> np.ndarray:
        """Compute the outputs for a batch.

        Parameters
        ----------
        x : array_like of shape (batch, time, features) or (batch, time)
        y : array_like, optional
            Targets that the decoder is shown (teacher forcing), as `fit` takes them; without them it runs freely.
        mask : array of bool of shape (batch, time), optional
            Of `x`.
        training : bool
            Whether dropout acts.
        n_steps : int, optional
            Number of steps to write, without `y`.

        Returns
        -------
        ndarray of shape (batch, n_steps, n_outputs)
        """
        x = self._input(x)
        targets = None if y is None else self._targets(y, len(x))[0]
        n_steps = self._count(n_steps) if targets is None else targets.shape[1]
        first, states, _, _ = self._encode(x, mask, training)
        if targets is None:
            return self._write(first, states, n_steps, None)[0]
        shown = np.concatenate([first[:, None], targets[:, :-1]], axis=1)
        return forward(self.decoder, shown, None, training, None, states)[0]

    # -- stepping and prediction

    def encode(self, x: Any, mask: Any = None) -> tuple[np.ndarray, list[Any]]:
        """Read `x`, to write by hand with :meth:`step`: by sampling, with a beam, under constraints.

        Parameters
        ----------
        x : array_like of shape (batch, time, features) or (batch, time)
        mask : array of bool of shape (batch, time), optional

        Returns
        -------
        inputs : ndarray
            What the decoder reads first.
        states : list
            One entry for each recurrent layer of the decoder, a list of arrays ``(batch, size)``.

        Examples
        --------
        Free running with the likeliest token, which is what `predict` does::

            inputs, states = model.encode(x)
            for t in range(n_steps):
                probabilities, states = model.step(inputs, states)
                inputs = probabilities.argmax(axis=-1)
        """
        first, states, _, _ = self._encode(self._input(x), mask, False)
        return first, states

    def step(self, inputs: Any, states: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        """One step of the decoder.

        Parameters
        ----------
        inputs : array_like of shape (batch,) for tokens, (batch, n_outputs) for numbers
        states : list
            Of :meth:`encode` or of the step before; rows may be chosen and repeated.

        Returns
        -------
        outputs : ndarray of shape (batch, n_outputs)
        states : list
        """
        inputs = np.asarray(inputs)
        if self.classes and inputs.ndim == 1:
            inputs = self._as_read(inputs)
        read = self.decoder[0].as_input(inputs)[:, None]
        y, _, _, _, _, states = forward(self.decoder, read, None, False, None, states)
        return y[:, 0], states

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
        """Write a sequence for each sample, running freely.

        Parameters
        ----------
        x, batch_size, verbose, steps, callbacks, mask
            As for :meth:`fastrnn.Sequential.predict`.
        n_steps : int, optional
            Number of steps to write; by default that of the longest targets in training.
        tokens : bool
            Return the tokens themselves, where the outputs are classes.

        Returns
        -------
        ndarray of shape (samples, n_steps, n_outputs), or (samples, n_steps) with `tokens`
            Outputs of all steps (probabilities after a softmax); or int64 tokens, the likeliest at each step. Behind the
            first `end` token all tokens are `end`.
        """
        n_steps = self._count(n_steps)
        if tokens and not self.classes:
            raise ValueError("tokens=True: the outputs of this model are numbers")
        write = self._tokens if tokens else self._outputs
        return self._predict(
            lambda part, given: write(part, given, n_steps), x, batch_size, steps, callbacks, mask
        )

    def _outputs(self, x: Any, mask: Any, n_steps: int) -> np.ndarray:
        first, states, _, _ = self._encode(x, mask, False)
        return self._write(first, states, n_steps, None)[0]

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
        """Make a model from what :meth:`get_config` returned, with new weights."""
        parts = {key: [deserialize(layer) for layer in config[key]] for key in ("encoder", "decoder")}
        return cls(**{**config, **parts})


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

"""A layer that converts integer tokens to vectors."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import constraints, initializers, regularizers
from fastrnn.checks import as_array, flag
from fastrnn.engine.kernels.update import gather, mark_rows, scatter_add, zero_rows
from fastrnn.engine.recurrence import stateless
from fastrnn.engine.recurrence.call_list import bind
from fastrnn.layers.arrays import check_positive_int
from fastrnn.layers.base import Layer, Shape
from fastrnn.layers.core import unsupported
from fastrnn.layers.streamed import Streamed
from fastrnn.layers.vectors import read_vectors

__all__ = ["Embedding"]

_NONE = np.empty(0, np.int64)
# Dtypes of tokens for which kernels are compiled.
_TOKENS = (np.dtype(np.int32), np.dtype(np.int64))


class Embedding(Layer):
    """Looks up a row of the table ``embeddings (input_dim, output_dim)`` for each token.

    Inputs are integers of shape ``(batch, time)``, from 0 to `input_dim` - 1; outputs are ``(batch, time, output_dim)``.

    Parameters
    ----------
    input_dim : int
        Number of tokens, one more than the largest.
    output_dim : int
        Length of the vectors.
    embeddings_initializer : initializer
    embeddings_regularizer : regularizer, optional
    embeddings_constraint : constraint, optional
    mask_zero : bool
        Whether token 0 is padding, which is masked in all following layers.
    weights : array of shape (input_dim, output_dim), optional
        Initial values.
    lora_rank, lora_alpha, quantization_config : None
        Arguments of Keras; not supported.
    **kwargs
        As for :class:`Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import layers
    >>> layers.Embedding(100, 8)(np.array([[1, 2, 3]])).shape
    (1, 3, 8)
    """

    takes_tokens = True
    input_dim: int

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: None = None,
        lora_alpha: None = None,
        quantization_config: None = None,
        **kwargs: Any,
    ) -> None:
        input_length = kwargs.pop("input_length", None)
        if input_length is not None:
            warnings.warn("input_length has no effect, leave it out", DeprecationWarning, stacklevel=2)
        super().__init__(**kwargs)
        unsupported(
            "Embedding", lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config
        )
        self.input_dim = check_positive_int(input_dim, "input_dim")
        self.output_dim = check_positive_int(output_dim, "output_dim")
        self.embeddings_initializer = initializers.get(embeddings_initializer, "embeddings_initializer")
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer, "embeddings_regularizer")
        self.embeddings_constraint = constraints.get(embeddings_constraint, "embeddings_constraint")
        self.mask_zero = flag(mask_zero, "mask_zero")
        #: Rows of the table whose gradient may differ from zero, sorted; None before the first backward pass.
        self.sparse_rows: np.ndarray | None = None
        self._marks: np.ndarray | None = None
        if weights is not None:
            self.ensure_built((None, None))
            self.set_weights(
                weights if isinstance(weights, (list, tuple)) and len(weights) == 1 else [weights]
            )

    @classmethod
    def from_vectors(
        cls,
        path: str | os.PathLike[str],
        word_index: Mapping[str, int],
        *,
        input_dim: int | None = None,
        trainable: bool = False,
        **kwargs: Any,
    ) -> Embedding:
        r"""Make the layer from pretrained word vectors in a text file.

        Parameters
        ----------
        path : path
            A file of GloVe, fastText or word2vec as text, gzipped or not: a word and its numbers on each line.
        word_index : mapping of str to int
            Tokens by word, such as ``Tokenizer.word_index``.
        input_dim : int, optional
            Number of tokens; words with larger tokens are left out. By default all words, and token 0.
        trainable : bool
            Whether training changes the vectors.
        **kwargs
            As for the class. Words that the file lacks start from `embeddings_initializer`.

        Returns
        -------
        Embedding
            Its `output_dim` is that of the file. Token 0, the padding, has a vector of zeros.

        Raises
        ------
        ValueError
            If the file has none of the words, or a line does not fit; the message names it.

        References
        ----------
        Pennington, J., Socher, R. and Manning, C. (2014). GloVe: global vectors for word representation. EMNLP.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from fastrnn import layers
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "vectors.txt"
        >>> _ = path.write_text("good 1 0\nbad -1 0\n")
        >>> layer = layers.Embedding.from_vectors(path, {"good": 1, "bad": 2})
        >>> layer.get_weights()[0].tolist()
        [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
        """
        if not isinstance(word_index, Mapping) or not word_index:
            raise ValueError(f"word_index={word_index!r}: give tokens by word, such as Tokenizer.word_index")
        size = check_positive_int(
            max(word_index.values()) + 1 if input_dim is None else input_dim, "input_dim"
        )
        wanted = {word: token for word, token in word_index.items() if token < size}
        found = read_vectors(path, wanted)
        if not found:
            raise ValueError(f"{os.fspath(path)} has none of the {len(wanted)} words of word_index")
        layer = cls(size, len(next(iter(found.values()))), trainable=trainable, **kwargs)
        layer.ensure_built((None, None))
        (table,) = layer.get_weights()
        table[0] = 0
        for word, vector in found.items():
            table[wanted[word]] = vector
        layer.set_weights([table])
        return layer

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("weights", None)
        return config

    def build(self, input_shape: Shape | None = None) -> None:
        self.add_weight(
            "embeddings",
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            self.embeddings_regularizer,
            self.embeddings_constraint,
        )
        self.built = True

    def _check_shape(self, shape: Shape) -> None:
        """Accept any number of tokens."""

    def bind(self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray]) -> None:
        super().bind(params, grads)
        self.sparse_rows = None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.output_dim)

    def compute_mask(self, x: Any, mask: np.ndarray | None = None) -> np.ndarray | None:
        if not self.mask_zero:
            return mask
        found = x != 0
        result: np.ndarray | None = found if mask is None else found & mask
        return result

    def as_input(self, x: Any) -> np.ndarray:
        x = as_array(x)
        if x.dtype.kind not in "iu":
            if x.dtype.kind not in "fb":
                raise TypeError(f"layer {self.name!r} (Embedding) takes integer tokens, got dtype {x.dtype}")
            with np.errstate(invalid="ignore"):  # the error below names NaN
                tokens = x.astype(np.int64)
            if x.dtype.kind == "f" and not np.array_equal(tokens, x):
                raise ValueError(
                    f"layer {self.name!r} (Embedding) takes integer tokens, got fractions or NaN"
                )
            x = tokens
        result: np.ndarray = x
        return result

    def forward(self, x: Any, mask: np.ndarray | None = None, training: bool = False) -> tuple[Any, Any]:
        # Rows are written in time-major order, which a recurrent layer reads without a copy.
        time_major = x.T if x.ndim == 2 else x
        tokens = np.ascontiguousarray(time_major, dtype=x.dtype if x.dtype in _TOKENS else np.int64).ravel()
        table = self._weights["embeddings"]
        out = np.empty((tokens.size, self.output_dim), self.dtype)
        wrong = gather(table, tokens, out)
        if wrong >= 0:
            raise ValueError(
                f"layer {self.name!r} (Embedding): token {tokens[wrong]} is out of range, input_dim={self.input_dim} "
                f"takes tokens from 0 to {self.input_dim - 1}"
            )
        y = out.reshape(*time_major.shape, self.output_dim)
        return (y.swapaxes(0, 1) if x.ndim == 2 else y), (tokens, x.ndim)

    def streamed(self, x: Any) -> Streamed:
        out = np.empty((len(x), self.output_dim), self.dtype)
        return Streamed((bind(stateless.gather_step, x, self._weights["embeddings"].copy(), out),), out)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        tokens, ndim = cache
        if ndim == 2:
            dy = dy.swapaxes(0, 1)
        dy = np.ascontiguousarray(dy).reshape(-1, self.output_dim)
        grad = self._grads["embeddings"]
        self.clear_gradient()
        if self._marks is None:
            self._marks = np.zeros(self.input_dim, np.uint8)
        self.sparse_rows = mark_rows(tokens, self._marks)
        scatter_add(dy, tokens, grad)
        return None

    @property
    def sparse_tables(self) -> tuple[str, ...]:  # type: ignore[override]
        """Weights of which an optimizer may update only the rows that `touched_rows` returns."""
        return () if self._regularizers or self._constraints else ("embeddings",)

    def touched_rows(self) -> np.ndarray:
        """Return the rows of the table whose gradient may differ from zero, sorted."""
        return _NONE if self.sparse_rows is None else self.sparse_rows

    def mark_touched_rows(self, rows: np.ndarray) -> None:
        """Set what :meth:`touched_rows` returns, when gradients of several batches were added."""
        self.sparse_rows = rows

    def clear_gradient(self) -> None:
        """Set the gradient to zero in the rows that the last backward pass wrote."""
        if self._regularizers:
            self._grads["embeddings"][...] = 0
        elif self.sparse_rows is not None:
            zero_rows(self._grads["embeddings"], self.sparse_rows)

    def add_regularization_gradient(self) -> None:
        super().add_regularization_gradient()
        if self._regularizers:
            # The penalty changes the gradient of every row.
            self.sparse_rows = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "sparse_rows": None, "_marks": None}

"""Convert text to integer tokens, with Keras's names: a tokenizer for words or characters, padding, windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from fastrnn.sequences import as_object_array
from fastrnn.sequences.containers import column_names

__all__ = ["FILTERS", "Tokenizer", "pad_sequences", "text_to_word_sequence", "text_windows"]

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""Characters that separate words. The apostrophe is not among them: "don't" is one word."""


def text_to_word_sequence(
    text: str, filters: str = FILTERS, lower: bool = True, split: str = " "
) -> list[str]:
    """Split a text into words.

    Parameters
    ----------
    text : str
        The text.
    filters : str
        Each of these characters is replaced by `split`.
    lower : bool
        Whether to lower-case the text first.
    split : str
        Separator of words.

    Returns
    -------
    list of str
        The words, without empty ones.

    Examples
    --------
    >>> from fastrnn.text import text_to_word_sequence
    >>> text_to_word_sequence("A fine film, really!")
    ['a', 'fine', 'film', 'really']
    """
    if lower:
        text = text.lower()
    text = text.translate({ord(character): split for character in filters})
    return [word for word in text.split(split) if word]


class Tokenizer(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg, misc]
    """Convert words or characters to integers, in decreasing order of their frequency.

    Index 0 is reserved for padding. The indices are Keras's: index 1 is the out-of-vocabulary token if `oov_token` is
    set. The words follow in decreasing order of their counts; words with equal counts keep the order in which they were
    first seen.

    Parameters
    ----------
    num_words : int or None
        Keep words with an index below this number, that is the ``num_words - 1`` most frequent ones (counting the
        out-of-vocabulary token). None keeps all words. An `Embedding` of the tokens needs ``input_dim=num_words``.
    filters : str
        Characters that separate words; not used with ``char_level=True``.
    lower : bool
        Whether to lower-case.
    split : str
        Separator of words.
    char_level : bool
        Whether each character is a token.
    oov_token : str or None
        Token that replaces unknown words. None leaves unknown words out of the sequences.
    analyzer : callable, optional
        Takes a text and returns its tokens, in place of `filters`, `lower`, `split` and `char_level`.

    Attributes
    ----------
    word_counts : dict of str to int
        How often each token was seen, in the order in which tokens were first seen.
    word_docs : dict of str to int
        In how many texts each token was seen.
    word_index : dict of str to int
        The index of each token, also of those beyond `num_words`.
    index_word : dict of int to str
        The token of each index.
    document_count : int
        How many texts were seen.

    Notes
    -----
    It is a transformer of scikit-learn too: :meth:`fit` counts the tokens of texts, :meth:`transform` gives an object array
    of integer arrays, as the estimators take them with ``vocabulary_size``. A text without a known token is an empty
    sequence.

    Examples
    --------
    >>> tokenizer = Tokenizer(oov_token="<unk>")
    >>> tokenizer.fit_on_texts(["The cat sat.", "The dog, the cat!"])
    >>> tokenizer.texts_to_sequences(["The bird sat"])
    [[2, 1, 4]]

    In a pipeline:

    >>> from sklearn.pipeline import make_pipeline
    >>> from fastrnn import RNNClassifier
    >>> texts = ["good film", "bad film", "very good", "very bad"] * 10
    >>> model = make_pipeline(
    ...     Tokenizer(num_words=50, oov_token="<unk>"),
    ...     RNNClassifier(units=8, vocabulary_size=50, learning_rate_init=0.05, max_iter=20, tol=None, random_state=0),
    ... )
    >>> model.fit(texts, ["+", "-", "+", "-"] * 10).predict(["a good one", "so bad"]).tolist()
    ['+', '-']
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self.num_words = num_words
        self.filters = filters
        self.lower = lower
        self.split = split
        self.char_level = char_level
        self.oov_token = oov_token
        self.analyzer = analyzer
        self._check_arguments()
        self._forget()

    def _check_arguments(self) -> None:
        if self.num_words is not None and self.num_words < 2:
            raise ValueError(
                f"num_words={self.num_words!r} keeps no word; pass at least 2, or None for all words"
            )
        if not self.split:
            raise ValueError(
                "split='' cannot separate words; pass a separator, or char_level=True for characters"
            )
        if self.analyzer is not None and not callable(self.analyzer):
            raise TypeError(
                f"analyzer={self.analyzer!r}: give a function that takes a text and returns its tokens"
            )

    def _forget(self) -> None:
        self.word_counts: dict[str, int] = {}
        self.word_docs: dict[str, int] = {}
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}
        self.document_count = 0

    def _tokens(self, text: str | Sequence[str]) -> Sequence[str]:
        if self.analyzer is not None:
            return [str(token) for token in self.analyzer(text)]  # type: ignore[arg-type]
        if not isinstance(text, str):  # already split
            return [token.lower() for token in text] if self.lower else text
        if self.char_level:
            return text.lower() if self.lower else text
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit(self, X: Iterable[str | Sequence[str]], y: Any = None) -> Tokenizer:
        """Count the tokens of texts, forgetting those of earlier ones.

        Parameters
        ----------
        X : iterable of str, or of sequences of tokens
        y : None
            Ignored.

        Returns
        -------
        Tokenizer
            The object itself.

        Raises
        ------
        TypeError, ValueError
            If one of them is no text. What was counted before is kept then.
        """
        self._check_arguments()
        texts = _as_texts(X, "X")
        kept = vars(self).copy()
        self._forget()
        try:
            self.fit_on_texts(texts)
        except Exception:
            self.__dict__.update(kept)
            raise
        return self

    def transform(self, X: Iterable[str | Sequence[str]]) -> NDArray[Any]:
        """Turn texts into sequences of tokens.

        Parameters
        ----------
        X : iterable of str, or of sequences of tokens

        Returns
        -------
        ndarray of object of shape (n_texts,)
            An int64 array of shape (n_tokens,) for each text, empty for one without a known token.
        """
        sequences = self.texts_to_sequences(_as_texts(X, "X"))
        return as_object_array(np.array(sequence, np.int64) for sequence in sequences)

    def inverse_transform(self, X: Iterable[Iterable[int]]) -> list[str]:
        """Return the texts of token sequences: :meth:`sequences_to_texts`."""
        return self.sequences_to_texts(X)

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.word_index)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags

    def fit_on_texts(self, texts: Iterable[str | Sequence[str]]) -> None:
        """Count the tokens of `texts` and assign their indices; repeated calls add to the counts."""
        if isinstance(texts, str):
            raise ValueError("texts is one string; pass a list of strings, [texts] for a single one")
        counts, docs = Counter(self.word_counts), Counter(self.word_docs)
        for text in texts:
            tokens = self._tokens(text)
            counts.update(tokens)
            docs.update(set(tokens))
            self.document_count += 1
        self.word_counts, self.word_docs = dict(counts), dict(docs)
        by_count = sorted(
            counts, key=counts.__getitem__, reverse=True
        )  # stable: equal counts keep the order in which tokens were first seen
        if self.oov_token is not None:
            by_count = [self.oov_token] + [word for word in by_count if word != self.oov_token]
        self.word_index = {word: i for i, word in enumerate(by_count, start=1)}
        self.index_word = {i: word for word, i in self.word_index.items()}

    def texts_to_sequences(self, texts: Iterable[str | Sequence[str]]) -> list[list[int]]:
        """Return the tokens of each text. Unknown words become `oov_token`, or are left out if it is None."""
        if isinstance(texts, str):
            raise ValueError("texts is one string; pass a list of strings, [texts] for a single one")
        if not self.word_index:
            raise NotFittedError("this Tokenizer is not fitted; call fit or fit_on_texts first")
        limit = self.num_words if self.num_words is not None else len(self.word_index) + 1
        known = {word: i for word, i in self.word_index.items() if i < limit}
        if self.oov_token is None:
            return [[known[token] for token in self._tokens(text) if token in known] for text in texts]
        oov = self.word_index[self.oov_token]
        return [[known.get(token, oov) for token in self._tokens(text)] for text in texts]

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Return the texts of token sequences, without padding; without `oov_token`, unknown indices are left out."""
        limit = self.num_words if self.num_words is not None else len(self.word_index) + 1
        glue = "" if self.char_level else self.split
        oov = self.oov_token
        texts = []
        for sequence in sequences:
            words = []
            for token in sequence:
                word = self.index_word.get(int(token)) if token < limit else None
                if word is not None:
                    words.append(word)
                elif oov is not None and token != 0:
                    words.append(oov)
            texts.append(glue.join(words))
        return texts

    @property
    def vocabulary_size(self) -> int:
        """The largest possible index plus 1, the `input_dim` of an `Embedding`."""
        known = len(self.word_index) + 1
        return known if self.num_words is None else min(self.num_words, known)


def _as_texts(X: Any, name: str) -> list[str | Sequence[str]]:
    """A list of texts, each a string or a sequence of tokens."""
    if isinstance(X, str):
        raise ValueError(f"{name} is one string; pass a list of strings, [{name}] for a single one")
    if column_names(X) is not None or (np.ndim(X) > 1 and isinstance(X, np.ndarray)):
        raise ValueError(
            f"{name} has several columns: pass one column of texts, such as frame['text'] (a ColumnTransformer takes a "
            "column by its name, not by a list of names)"
        )
    if not isinstance(X, Iterable):
        raise TypeError(f"{name} is {X!r}: pass a list of strings")
    texts = list(X)
    for i, text in enumerate(texts):
        if not isinstance(text, (str, list, tuple, np.ndarray)):
            raise TypeError(
                f"{name}[{i}] is {text!r}, which is no text: pass a string ('' for an empty document), or a list of tokens"
            )
    return texts


def pad_sequences(
    sequences: Iterable[Sequence[Any] | NDArray[Any]],
    maxlen: int | None = None,
    dtype: str | np.dtype | type = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> NDArray[Any]:
    """Pad or cut sequences to a common length.

    Parameters
    ----------
    sequences : list of sequences
        Each of shape (n_timesteps_i,) or (n_timesteps_i, ...), the trailing shape the same for all.
    maxlen : int or None
        The common length; None takes the longest.
    dtype : dtype
        Type of the result.
    padding : {"pre", "post"}
        Whether padding is added at the start or at the end.
    truncating : {"pre", "post"}
        Whether long sequences are cut at the start or at the end.
    value : float
        The value of padding.

    Returns
    -------
    ndarray of shape (n_samples, maxlen, ...)

    Raises
    ------
    ValueError
        If an argument is unknown, the sequences differ in their trailing shape, or an integer `dtype` can't represent a
        value exactly.

    Examples
    --------
    >>> from fastrnn.text import pad_sequences
    >>> pad_sequences([[1, 2], [3, 4, 5, 6]], maxlen=3).tolist()
    [[0, 1, 2], [4, 5, 6]]
    """
    for name, choice in (("padding", padding), ("truncating", truncating)):
        if choice not in ("pre", "post"):
            raise ValueError(f"{name}={choice!r} is unknown; pass 'pre' or 'post'")
    if maxlen is not None and maxlen < 1:
        raise ValueError(f"maxlen={maxlen!r} leaves no step; pass at least 1, or None for the longest length")
    rows = list(sequences)
    for i, row in enumerate(rows):
        if not isinstance(row, Sized):
            raise ValueError(f"sequences[{i}] is {row!r}, which has no length; pass a list of sequences")
    if maxlen is None:
        maxlen = max((len(row) for row in rows), default=0)
    trailing = next((np.shape(row)[1:] for row in rows if len(row)), ())
    out = np.full((len(rows), maxlen, *trailing), _exactly(value, dtype, "value"), dtype=dtype)
    for i, row in enumerate(rows):
        if not len(row):
            continue
        kept = _exactly(row[-maxlen:] if truncating == "pre" else row[:maxlen], dtype, f"sequences[{i}]")
        if kept.shape[1:] != trailing:
            raise ValueError(f"sequences[{i}] has steps of shape {kept.shape[1:]}, others of {trailing}")
        if padding == "post":
            out[i, : len(kept)] = kept
        else:
            out[i, maxlen - len(kept) :] = kept
    return out


def _exactly(values: Any, dtype: Any, name: str) -> NDArray[Any]:
    """`values` as an array of `dtype`; raises if an integer dtype would change a number."""
    given = np.asarray(values)
    if np.dtype(dtype).kind not in "iu" or given.dtype.kind not in "iuf":
        return given.astype(dtype)
    with np.errstate(invalid="ignore"):
        cast = given.astype(dtype)
    wrong = given[cast != given]
    if wrong.size:
        raise ValueError(
            f"{name} holds {wrong.flat[0]!s}, which dtype={np.dtype(dtype).name!r} can't hold: give dtype='float32', or "
            "integers in its range"
        )
    return cast


@overload
def text_windows(text: str, width: int, step: int = 1) -> list[str]: ...
@overload
def text_windows(text: NDArray[Any] | Sequence[int], width: int, step: int = 1) -> NDArray[Any]: ...
def text_windows(text: Any, width: int, step: int = 1) -> Any:
    """Cut a text into windows of `width` characters that start `step` characters apart; incomplete windows are left out.

    Windows overlap if ``step < width``. A random split of overlapping windows puts text of the test set into the
    training set.

    Parameters
    ----------
    text : str, or array-like of int of shape (n_tokens,)
        A text, or its tokens, which are then looked up once and not once for each window.
    width, step : int
        Tokens (or characters) in a window, and between the starts of two windows.

    Returns
    -------
    list of str, or ndarray of shape (n_windows, width)
        The array is a read-only view of the tokens; int32 if `text` is a list.

    Raises
    ------
    ValueError
        If `width` or `step` is below 1, or the tokens aren't integers in one row.

    Examples
    --------
    >>> text_windows("abcde", 3)
    ['abc', 'bcd', 'cde']
    >>> text_windows([1, 2, 3, 4, 5], 3, step=2)
    array([[1, 2, 3],
           [3, 4, 5]], dtype=int32)
    """
    for name, number in (("width", width), ("step", step)):
        if number < 1:
            raise ValueError(f"{name}={number!r} must be at least 1")
    if isinstance(text, str):
        return [text[i : i + width] for i in range(0, len(text) - width + 1, step)]
    tokens = np.asarray(text)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise ValueError(
            f"text has shape {tokens.shape} and dtype {tokens.dtype}; pass a string, or integer tokens of shape "
            "(n_tokens,)"
        )
    if not isinstance(text, np.ndarray):
        tokens = tokens.astype(np.int32)
    if len(tokens) < width:
        return np.empty((0, width), tokens.dtype)
    return np.lib.stride_tricks.sliding_window_view(tokens, width)[::step]

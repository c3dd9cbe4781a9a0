"""Read sequences, and the targets of their steps, into arrays or Ragged.

Used by models, estimators and transformers; does not need scikit-learn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import loaded, refuse_masked
from fastrnn.sequences.columnar import read_columnar
from fastrnn.sequences.containers import (
    column_names,
    frames_of,
    numbers_of_objects,
    refuse_item,
    refuse_other_containers,
)
from fastrnn.sequences.ragged import Ragged, join_steps

__all__ = ["Sequences", "as_sequences", "as_step_values", "lay_out_steps", "read_sequences"]

_RESHAPE = (
    "Reshape your data: X.reshape(1, -1, 1) for one sequence of one variable, "
    "X.reshape(-1, n_timesteps, n_features) for several sequences."
)

_TOKENS = "Text must be converted to integer tokens first; then set vocabulary_size."
_CONVERT = {
    "M": "Times are no features: pass differences in a unit, such as (X - X[:, :1]) / np.timedelta64(1, 's').",
    "m": "Divide by a unit, such as X / np.timedelta64(1, 's').",
    "V": "Of a structured array pass numpy.lib.recfunctions.structured_to_unstructured(X).",
}


class Sequences(NamedTuple):
    """Validated sequences, and whether they were a two-dimensional table, for scikit-learn's checks of features.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import Sequences
    >>> Sequences(np.zeros((2, 3, 1)), is_table=False).data.shape
    (2, 3, 1)
    """

    data: np.ndarray | Ragged
    """(n_samples, n_timesteps, n_features), (n_samples, n_timesteps) of tokens, or Ragged."""
    is_table: bool
    """True for a two-dimensional table of numbers: sequences of one variable, a column for each step."""

    @property
    def n_features(self) -> int:
        """Variables in one time step (1 for tokens)."""
        return 1 if len(self.data.shape) == 2 else int(self.data.shape[2])  # type: ignore[arg-type]

    @property
    def n_columns(self) -> int:
        """scikit-learn's number of features: the columns of a table, otherwise the variables of a step."""
        return int(self.data.shape[1]) if self.is_table else self.n_features  # type: ignore[arg-type]


def as_sequences(
    X: Any, *, vocabulary_size: int | None = None, dtype: Any = None, name: str = "X"
) -> np.ndarray | Ragged:
    """Validate sequences in any of the accepted forms.

    Parameters
    ----------
    X : array-like
        One of

        - an array of shape (n_samples, n_timesteps, n_features); steps at the end or at the beginning of a
          sequence in which all features are NaN are padding, and a sequence of nothing else is empty;
        - an array of shape (n_samples, n_timesteps), one variable, without padding;
        - a list or an object array of arrays of shape (n_timesteps_i, n_features) or (n_timesteps_i,), of which
          some may be empty, ``[]`` or of shape (0, n_features);
        - a :class:`Ragged`;
        - an awkward array of type ``n * var * float`` or ``n * var * n_features * float``, or a pyarrow column of lists
          of numbers or of lists;
        - with `vocabulary_size`, tokens: integers in an array of shape (n_samples, n_timesteps), where NaN at
          the end or at the beginning is padding, or a list of arrays of shape (n_timesteps_i,).
    vocabulary_size : int, optional
        X holds tokens in ``[0, vocabulary_size)``.
    dtype : floating dtype, optional
        Raise if a number is too large for this dtype, in which it will be used. Ragged results are converted to it;
        arrays are not converted, to avoid a second copy of the data.
    name : str, default="X"
        Name of X in messages.

    Returns
    -------
    ndarray of shape (n_samples, n_timesteps, n_features) or, for tokens, (n_samples, n_timesteps); or Ragged
        Ragged for lists, for arrays with padding, and for columns of lists.

    Raises
    ------
    ValueError
        For another number of dimensions, no samples, NaN or infinity, tokens that aren't integers or outside the
        vocabulary.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import as_sequences
    >>> as_sequences([np.ones((2, 3)), np.ones((4, 3))])
    Ragged(2 sequences, 2 to 4 steps, values (6, 3) float64)
    """
    return read_sequences(X, vocabulary_size=vocabulary_size, dtype=dtype, name=name).data


def read_sequences(
    X: Any,
    *,
    vocabulary_size: int | None = None,
    dtype: Any = None,
    name: str = "X",
    missing: bool = False,
) -> Sequences:
    """As :func:`as_sequences`; the result also says whether X was a table.

    With ``missing=True`` NaN that is not padding is a missing value and stays: in lists and tables any NaN, in three
    dimensions all but the steps at the end and at the beginning in which every feature is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import read_sequences
    >>> read_sequences(np.ones((2, 5))).n_features
    1
    """
    tokens = vocabulary_size is not None
    if X is None:
        raise ValueError(f"Expected array-like (array or non-string sequence), got None for {name}.")
    # If scipy.sparse is not imported, X is not a sparse matrix.
    sparse = loaded("scipy.sparse", "issparse")
    if sparse is not None and sparse.issparse(X):
        raise TypeError(
            f"{name} is a sparse matrix, and sparse input is not supported: use {name}.toarray()."
        )
    X = read_columnar(X, name, missing=missing)
    if isinstance(X, Ragged):
        ragged = X
        _check_kind(X.values, name)
    else:
        refuse_other_containers(X, name)
        frames_of(X, name)
        array = _as_one_array(X, name)
        if array is not None:
            return _read_array(array, vocabulary_size, dtype, name, missing)
        ragged = _join(X, tokens, name)
    if not tokens and ragged.values.ndim == 1:
        ragged = ragged.with_values(ragged.values[:, None])
    if tokens:
        values = _check_tokens(ragged.values, vocabulary_size, name, ragged)
    else:
        values = _check_numbers(ragged.values, dtype, name, ragged, missing=missing)
        values = values if dtype is None else values.astype(dtype, copy=False)
    if len(ragged) == 0:
        raise ValueError(f"Found {name} with 0 sample(s) while a minimum of 1 is required.")
    return Sequences(ragged if values is ragged.values else ragged.with_values(values), False)


def _as_one_array(X: Any, name: str) -> np.ndarray | None:
    """X as one array, or None if it is a collection of sequences."""
    refuse_masked(X, name)
    is_frame = column_names(X) is not None
    if not isinstance(X, np.ndarray):
        if isinstance(X, (list, tuple)):
            if any(isinstance(item, np.ndarray) and item.ndim for item in X):
                return None
            try:
                X = np.asarray(X)
            except ValueError:  # lists of unequal length
                return None
        else:
            X = np.asarray(X)
    if X.dtype.kind == "O":
        if X.ndim == 1 and len(X) and all(np.ndim(item) > 0 or isinstance(item, list) for item in X):
            return None
        X = numbers_of_objects(X, name, is_frame)
    _check_kind(X, name)
    result: np.ndarray | None = X
    return result


def _check_kind(X: np.ndarray, name: str) -> None:
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {X.dtype}.")
    if X.dtype.kind not in "fbiu":
        raise ValueError(
            f"{name} must hold numbers, got dtype {X.dtype}. {_CONVERT.get(X.dtype.kind, _TOKENS)}"
        )


def _read_array(
    X: np.ndarray, vocabulary_size: int | None, dtype: Any, name: str, missing: bool
) -> Sequences:
    tokens = vocabulary_size is not None
    if X.ndim and X.shape[0] == 0:
        raise ValueError(f"Found {name} with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
    if X.ndim == 1:
        raise ValueError(
            f"Expected a 2-D or 3-D array for {name}, got a 1-D array of shape {X.shape}. {_RESHAPE}"
        )
    if X.ndim not in ((2,) if tokens else (2, 3)):
        wanted = (
            "(n_samples, n_timesteps) of tokens, as vocabulary_size is set"
            if tokens
            else "(n_samples, n_timesteps, n_features) or (n_samples, n_timesteps)"
        )
        raise ValueError(
            f"{name} has {X.ndim} dimensions, shape {X.shape}; give a list of arrays or shape {wanted}."
        )
    if X.size == 0:
        what = "time step(s)" if X.ndim == 3 and X.shape[1] == 0 else "feature(s)"
        raise ValueError(
            f"Found {name} with 0 {what} (shape={X.shape}) while a minimum of 1 is required. "
            "Pass at least one variable and one time step; sequences without steps are passed in a list of arrays, or "
            "as rows of NaN."
        )
    if tokens:
        ragged = _without_padding(X[:, :, None], name) if X.dtype.kind == "f" else None
        if ragged is None:
            return Sequences(_check_tokens(X, vocabulary_size, name), False)
        return Sequences(
            ragged.with_values(_check_tokens(ragged.values[:, 0], vocabulary_size, name, ragged)), False
        )
    if X.ndim == 3:
        ragged = _without_padding(X, name, missing)
        if ragged is not None:
            values = _check_numbers(ragged.values, dtype, name, ragged, missing=missing)
            return Sequences(
                ragged.with_values(values if dtype is None else values.astype(dtype, copy=False)), False
            )
    return Sequences(
        _check_numbers(X.reshape(*X.shape[:2], -1), dtype, name, is_table=X.ndim == 2, missing=missing),
        X.ndim == 2,
    )


def _without_padding(X: np.ndarray, name: str, missing: bool = False) -> Ragged | None:
    """The sequences of an array padded with NaN, without the padding; None if there is no NaN.

    With `missing`, NaN inside a sequence stays.
    """
    if X.dtype.kind != "f" or not np.isnan(X.min()):
        return None
    is_nan = np.isnan(X)
    blank = is_nan.all(axis=2)
    real = ~blank
    lengths = real.sum(axis=1)
    starts = real.argmax(axis=1)
    ends = np.where(lengths > 0, X.shape[1] - real[:, ::-1].argmax(axis=1), starts)
    step = np.arange(X.shape[1])
    inside = is_nan.any(axis=2) & (real | ((ends - starts) != lengths)[:, None] & blank)
    if missing:
        lengths, real = ends - starts, (step >= starts[:, None]) & (step < ends[:, None])
    elif inside.any():
        inside &= (step >= starts[:, None]) & (step < ends[:, None])
        i, t = np.argwhere(inside)[0]
        features = np.flatnonzero(is_nan[i, t]).tolist()
        raise ValueError(
            f"{name} contains NaN inside a sequence: sample {i}, step {t}, feature(s) {features}. Only steps at the "
            "end or at the beginning in which every feature is NaN count as padding; fill gaps inside first, for "
            "example by interpolation (fastrnn.preprocessing.SequenceImputer)."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(X[real], offsets, starts=starts.astype(np.int64), n_timesteps=X.shape[1])


def _join(X: Any, tokens: bool, name: str) -> Ragged:
    """Join a list of sequences into one Ragged; messages name the invalid sequence."""
    arrays: list[np.ndarray] = []
    first: int | None = None
    for i, item in enumerate(X):
        refuse_item(item, f"{name}[{i}]")
        try:
            refuse_masked(item, f"{name}[{i}]")
            array = np.asarray(item)
            array = array.astype(np.float64) if array.dtype.kind == "O" else array
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}[{i}] can't be read as one sequence of numbers: {error}") from error
        if array.ndim not in ((1,) if tokens else (1, 2)):
            wanted = "(n_timesteps,) of tokens" if tokens else "(n_timesteps, n_features) or (n_timesteps,)"
            raise ValueError(f"{name}[{i}] has shape {array.shape}; each sequence must have shape {wanted}.")
        if array.dtype.kind == "c":
            raise ValueError(f"Complex data not supported: {name}[{i}] has dtype {array.dtype}.")
        if array.size and array.dtype.kind not in "fbiu":
            raise ValueError(f"{name}[{i}] must hold numbers, got dtype {array.dtype}.")
        arrays.append(array)
        if not array.size and array.ndim == 1:
            continue  # [] does not say how many features a step has
        if first is None:
            first = i
        elif array.shape[1:] != arrays[first].shape[1:]:
            raise ValueError(
                f"{name}[{i}] has shape {array.shape}, but {name}[{first}] has shape {arrays[first].shape}: all "
                "sequences must have the same number of features."
            )
    ragged = Ragged.from_list(arrays)
    if ragged.values.ndim == 2 and ragged.values.shape[1] == 0:
        raise ValueError(f"Found {name} with 0 feature(s) while a minimum of 1 is required.")
    return ragged


def _place(flat: int, values: np.ndarray, ragged: Ragged | None) -> str:
    """Describe sample, step and feature of the element with this flat index, for a message."""
    position = np.unravel_index(flat, values.shape)
    if ragged is None:
        sample, step, rest = position[0], position[1], position[2:]
    else:
        sample = np.searchsorted(ragged.offsets, position[0], side="right") - 1
        step, rest = position[0] - ragged.offsets[sample], position[1:]
        step += 0 if ragged.starts is None else ragged.starts[sample]
    feature = f", feature {rest[0]}" if rest else ""
    return f"sample {sample}, step {step}{feature}"


def _check_numbers(
    values: np.ndarray,
    dtype: Any,
    name: str,
    ragged: Ragged | None = None,
    is_table: bool = False,
    missing: bool = False,
) -> np.ndarray:
    """Raise if a value is NaN (unless `missing`), infinite, or too large for `dtype`.

    Two passes over the data, no temporary array.
    """
    if values.size == 0:
        return values
    low, high = float(values.min()), float(values.max())
    if missing and np.isnan(low):
        low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        if np.isnan(low):
            return values
    limit = float(np.finfo(dtype or np.float64).max)
    if values.dtype.kind == "f":
        # The limit would be infinite in a smaller dtype, and infinite values would pass the check.
        limit = min(limit, float(np.finfo(values.dtype).max))
    if -limit <= low and high <= limit:  # False for NaN too
        return values
    with np.errstate(invalid="ignore"):
        bad = np.abs(values) > limit if missing else ~(np.abs(values) <= limit)
    flat = int(np.argmax(bad))
    value = values.reshape(-1)[flat]
    where = _place(flat, values, ragged)
    if np.isnan(value):
        advice = (
            f"To mark padding with NaN pass three dimensions, {name}[:, :, None]; otherwise fill the gaps first."
            if is_table
            else "Fill or interpolate missing values first, for example by fastrnn.preprocessing.SequenceImputer."
        )
        raise ValueError(f"{name} contains NaN at {where}. {advice}")
    if np.isinf(value):
        raise ValueError(f"{name} contains inf (infinity) at {where}; it must be finite.")
    raise ValueError(
        f"{name} contains {value} at {where}, too large for dtype {np.dtype(dtype)} (inf); scale the data or use "
        "dtype='float64'."
    )


def _check_tokens(
    values: np.ndarray, vocabulary_size: int | None, name: str, ragged: Ragged | None = None
) -> np.ndarray:
    assert vocabulary_size is not None
    if values.ndim > 2 or (ragged is not None and values.ndim > 1):
        raise ValueError(
            f"{name} has shape {ragged.shape if ragged else values.shape}, but with vocabulary_size set each step "
            "is one integer token."
        )
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values))
        if not whole.all():
            flat = int(np.argmin(whole))
            raise ValueError(
                f"{name} contains {values.reshape(-1)[flat]} at {_place(flat, values, ragged)}; with "
                f"vocabulary_size={vocabulary_size} every element must be an integer token (finite, no NaN or inf "
                "inside a sequence)."
            )
    if values.size:
        low, high = values.min(), values.max()
        if low < 0 or high >= vocabulary_size:
            flat = int(np.argmin(values) if low < 0 else np.argmax(values))
            raise ValueError(
                f"{name} contains the token {int(values.reshape(-1)[flat])} at {_place(flat, values, ragged)}, "
                f"outside [0, {vocabulary_size}). Set vocabulary_size above the largest token, or replace rare and "
                "unknown tokens by a token below it."
            )
    return values if values.dtype.kind in "iu" else values.astype(np.int64)


def as_step_values(y: Any, X: np.ndarray | Ragged, name: str = "y") -> np.ndarray:
    """Flatten targets or weights of single steps, in the order of the valid steps of X.

    Parameters
    ----------
    y : array-like
        Shape (n_samples, n_timesteps) or (n_samples, n_timesteps, n_outputs) as X or as the padded array that X
        came from, or a list of arrays of shape (n_timesteps_i,) or (n_timesteps_i, n_outputs), or what
        :func:`as_sequences` takes in place of a list.
        Values at padded steps are not read.
    X : ndarray or Ragged
        The validated sequences.

    Returns
    -------
    ndarray of shape (total_timesteps,) or (total_timesteps, n_outputs)

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import Ragged, as_step_values
    >>> X = Ragged.from_list([np.zeros((2, 1)), np.zeros((1, 1))])
    >>> as_step_values([[1, 2], [3]], X)
    array([1, 2, 3])
    """
    y = read_columnar(y, name)
    array = None if isinstance(y, Ragged) else _as_steps_array(y)
    n_samples = len(y) if array is None else len(array)
    if n_samples != len(X):
        raise ValueError(
            f"{name} holds {n_samples} sequences but X holds {len(X)}: inconsistent numbers of samples."
        )
    if array is not None:
        if array.ndim not in (2, 3):
            raise ValueError(
                f"{name} has shape {array.shape}; with return_sequences=True it holds one value for each "
                "step: shape (n_samples, n_timesteps) or (n_samples, n_timesteps, n_outputs), or a list of "
                "arrays."
            )
        n_timesteps = X.n_timesteps if isinstance(X, Ragged) else X.shape[1]
        if n_timesteps == array.shape[1]:
            return array[X.padded_mask()] if isinstance(X, Ragged) else array.reshape(-1, *array.shape[2:])
        if not isinstance(X, Ragged):
            raise ValueError(
                f"{name} has {array.shape[1]} steps but X has {X.shape[1]}: with return_sequences=True every "
                "step of X needs a value."
            )
    lengths = X.lengths if isinstance(X, Ragged) else np.full(len(X), X.shape[1])
    arrays: list[np.ndarray] = []
    first: int | None = None
    for i, (item, length) in enumerate(zip(y if array is None else array, lengths.tolist(), strict=True)):
        steps = np.asarray(item)
        if steps.ndim not in (1, 2) or len(steps) != length:
            raise ValueError(
                f"{name}[{i}] has shape {steps.shape} but X[{i}] has {length} steps: with return_sequences=True "
                f"{name} holds one value for each step."
            )
        arrays.append(steps)
        if not len(steps):
            continue
        if first is None:
            first = i
        elif steps.shape[1:] != arrays[first].shape[1:]:
            raise ValueError(
                f"{name}[{i}] has shape {steps.shape} but {name}[{first}] has {arrays[first].shape}: the number of "
                "outputs must not change."
            )
    return join_steps([steps for steps in arrays if len(steps)] or arrays)


def _as_steps_array(y: Any) -> np.ndarray | None:
    """Values of single steps as one array, or None if they are a collection of sequences."""
    if not isinstance(y, np.ndarray):
        if isinstance(y, (list, tuple)) and any(isinstance(item, np.ndarray) and item.ndim for item in y):
            return None
        try:
            y = np.asarray(y)
        except ValueError:  # lists of unequal length
            return None
    return None if y.dtype.kind == "O" and y.ndim == 1 else y


def lay_out_steps(values: np.ndarray, X: np.ndarray | Ragged) -> np.ndarray:
    """Undo :func:`as_step_values`: `values` has one row for each valid step, the result has the layout of X.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.sequences import lay_out_steps
    >>> lay_out_steps(np.arange(4), np.zeros((2, 2, 1)))
    array([[0, 1],
           [2, 3]])
    """
    if isinstance(X, Ragged):
        return X.restore(values)
    return values.reshape(*X.shape[:2], *values.shape[1:])

"""The parameters of the estimators: their defaults, checks and descriptions."""

from __future__ import annotations

import copy
import functools
import operator
import textwrap
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from fastrnn.cells import registered
from fastrnn.engine.kernels.vecmath import ACTIVATIONS
from fastrnn.estimators import network
from fastrnn.losses import Loss
from fastrnn.optimizers import Optimizer

__all__ = ["Parameters", "with_shared_documentation"]

_POSITIVE = Interval(Integral, 1, None, closed="left")
_FRACTION = Interval(Real, 0, 1, closed="left")


class _Kernel(HasMethods):  # type: ignore[misc]
    def is_satisfied_by(self, val: Any) -> bool:
        return network.is_kernel(val)

    def __str__(self) -> str:
        return "a cell of the engine, such as fastrnn.cells.janet.JANET"


@functools.cache
def _names(cls: type[BaseEstimator]) -> list[str]:
    result: list[str] = cls._get_param_names()
    return result


@dataclass(kw_only=True, eq=False, repr=False)
class Parameters(BaseEstimator):  # type: ignore[misc]
    """The constructor's arguments that classifier and regressor share; scikit-learn reads them from the signature."""

    cell: Any = "lstm"
    units: int | tuple[int, ...] = 64
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    bidirectional: bool = False
    merge_mode: str = "concat"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    go_backwards: bool = False
    stateful: bool = False
    max_series: int = 10_000
    unroll: bool = False
    return_sequences: bool = False
    loss: Any = None
    solver: Any = "adam"
    alpha: float = 0.0
    batch_size: int | str = "auto"
    truncated_bptt_steps: int | None = None
    learning_rate_init: float = 0.001
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float | None = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: Any = 0.1
    n_iter_no_change: float = 10
    clipnorm: float | None = 1.0
    vocabulary_size: int | None = None
    embedding_dim: int = 32
    dtype: str = "float32"
    n_jobs: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "cell": [StrOptions(set(network.CELLS)), _Kernel("traits")],
        "units": [_POSITIVE, tuple, list],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "recurrent_activation": [StrOptions(set(ACTIVATIONS))],
        "bidirectional": ["boolean"],
        "merge_mode": [StrOptions({"concat", "sum", "mul", "ave"})],
        "dropout": [_FRACTION],
        "recurrent_dropout": [_FRACTION],
        "go_backwards": ["boolean"],
        "stateful": ["boolean"],
        "max_series": [_POSITIVE],
        "unroll": ["boolean"],
        "return_sequences": ["boolean"],
        "loss": [str, Loss, None],
        "solver": [StrOptions(set(network.SOLVERS)), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), _POSITIVE],
        "truncated_bptt_steps": [_POSITIVE, None],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [_POSITIVE],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
        ],
        "n_iter_no_change": [_POSITIVE, Options(Real, {np.inf})],
        "clipnorm": [Interval(Real, 0, None, closed="neither"), None],
        "vocabulary_size": [_POSITIVE, None],
        "embedding_dim": [_POSITIVE],
        "dtype": [StrOptions({"float32", "float64"})],
        "n_jobs": [_POSITIVE, Options(Integral, {-1}), None],
    }

    def _validate_params(self) -> None:
        """Check each parameter, unless all are the objects that were checked last.

        To check them takes as long as an update of a small network.
        """
        values = [vars(self).get(name) for name in _names(type(self))]  # type: ignore[arg-type]
        checked = _checked.get(self)
        if checked is None or not all(map(operator.is_, values, checked)):
            super()._validate_params()
            _checked[self] = values

    def _check_combinations(self, incremental: bool) -> None:
        units = network.units_of(self.units)
        if not units or any(isinstance(u, bool) or not isinstance(u, Integral) or u < 1 for u in units):
            raise ValueError(
                f"The 'units' parameter of {type(self).__name__} must be an int in the range [1, inf) or a tuple "
                f"of these. Got {self.units!r} instead."
            )
        if isinstance(self.cell, type):
            needed = set(self.cell._fields) - set(self.cell._field_defaults) - {"n_units"}  # type: ignore[attr-defined]
            if needed:
                raise ValueError(
                    f"cell={self.cell.__name__} has no default for {', '.join(sorted(needed))}: give an instance of it "
                    "with these numbers; its n_units are replaced by 'units'."
                )
        if incremental and self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True: it trains for one epoch. Set "
                "early_stopping=False."
            )
        if self.go_backwards and self.return_sequences:
            raise ValueError(
                "go_backwards=True can't be used with return_sequences=True: the outputs would be in the reverse order "
                "of y. Use bidirectional=True, or reverse the sequences and y."
            )
        if self.truncated_bptt_steps is not None and not self.return_sequences:
            raise ValueError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} needs targets for every step, but with "
                "return_sequences=False there is one for a sequence, and only its last piece would be trained. Set "
                "return_sequences=True and give targets for every step, or leave truncated_bptt_steps at None."
            )
        if self.truncated_bptt_steps is not None and self.bidirectional:
            raise ValueError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} can't be used with bidirectional=True: the backward "
                "direction reads each sequence from its end, so it can't take it piece by piece."
            )
        if self.stateful and self.bidirectional:
            raise ValueError(
                "stateful=True can't be used with bidirectional=True: the backward direction would have to start from "
                "the end of steps that are not known yet."
            )

    def _network_arguments(self) -> dict[str, Any]:
        """Return the parameters that can't change while the weights are kept."""
        names = network.ARGUMENTS
        return {name: copy.copy(getattr(self, name)) for name in names}

    def _check_same_network(self) -> None:
        for name, before in self._architecture.items():
            now = getattr(self, name)
            if now != before:
                raise ValueError(
                    f"{name}={now!r}, but the network was made with {name}={before!r}, and partial_fit and "
                    f"warm_start=True continue its training. Set {name} back, or call fit with warm_start=False."
                )


#: The parameters of estimators that were checked last.
_checked: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


def _cells() -> str:
    """The values of `cell` with their descriptions."""
    kinds = {key: (cell.__doc__ or "").split(" (")[0] for key, cell in registered().items()}
    lines = [f'"{key}": {text[:1].lower()}{text[1:]}' for key, text in kinds.items()]
    described = textwrap.fill("; ".join(lines) + ".", 110, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f'cell : str or cell, default="lstm"\n        Kind of the recurrent layers.\n{described}'


PARAMETERS = (
    _cells()
    + """
        Cells without a recurrent product need ``recurrent_dropout=0``. A user-defined cell is given as its class or as an
        instance with its numbers, see :func:`fastrnn.cells.equations`.
    units : int or tuple of int, default=64
        Width of the recurrent layer; a tuple stacks several, first to last.
    activation : str, default="tanh"
        Activation of the recurrent layers, by Keras's names; not used by a user-defined cell.
    recurrent_activation : str, default="sigmoid"
        Activation of the gates; not used by cells without gates and by a user-defined cell.
    bidirectional : bool, default=False
        Whether to read each sequence in both directions.
    merge_mode : {"concat", "sum", "mul", "ave"}, default="concat"
        How the outputs of the two directions are merged.
    dropout : float, default=0.0
        Fraction of the inputs of each recurrent layer, and of the inputs of the output layer, that is dropped in
        training; all time steps of a sequence have the same mask.
    recurrent_dropout : float, default=0.0
        Fraction of the recurrent state that is dropped in training; all time steps have the same mask.
    go_backwards : bool, default=False
        Whether to read each sequence from its end. Not with ``return_sequences=True``.
    stateful : bool, default=False
        Whether row i of a call of `partial_fit` continues row i of the previous call. See Notes.
    max_series : int, default=10_000
        Most series whose states are kept by id, see Notes; beyond it those least recently used are forgotten.
    unroll : bool, default=False
        For single sequences, use kernels that are compiled for the number of units, at most 64: the same predictions,
        sooner. Compiling them takes two to three seconds for each number of units, once.
    return_sequences : bool, default=False
        Whether there is a target for each time step instead of one for each sequence.
    loss : str, Loss or None, default=None
        Loss that training minimises: a name or an object of :mod:`fastrnn.losses`, or a user-defined loss, whose gradient
        is compared with finite differences before training. None: the cross-entropy, or the mean squared error. A
        classifier passes it one-hot classes, or for two classes one column of zeros and ones.
    solver : {"adam", "rmsprop", "sgd", "adagrad"} or optimizer, default="adam"
        "sgd" has Nesterov's momentum of 0.9. An object from :mod:`fastrnn.optimizers` is used as it is, so that
        `learning_rate_init` and `clipnorm` don't touch it. `partial_fit` follows changes of it, and goes on with the
        moments as long as its class has the same ones. With a large vocabulary, ``Adam(lazy=True)`` updates, and keeps
        copies of, the embeddings of the tokens in a batch only.
    alpha : float, default=0.0
        Strength of the L2 penalty on all kernels; it is divided by the batch size when added to the loss.
    batch_size : int or "auto", default="auto"
        Number of sequences in a batch; "auto" is ``min(32, n_samples)``.
    truncated_bptt_steps : int or None, default=None
        Cut each batch into pieces of this length, and make one update from each piece. A piece starts from the final
        states of the previous one, and gradients stop at its start, so memory is that of one piece. Needs
        ``return_sequences=True``. None: gradients are not truncated.
    learning_rate_init : float, default=0.001
        Learning rate of the solver.
    max_iter : int, default=200
        Maximum number of epochs of one `fit`.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch, and to choose validation samples at random. `partial_fit` with
        ``stateful=True`` does not shuffle.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, dropout, shuffling and the choice of validation samples. The same integer and the same
        `n_jobs` give bitwise the same network.
    tol : float or None, default=1e-4
        Training stops when the loss, or with early stopping the validation score, did not improve by `tol` for more
        than `n_iter_no_change` consecutive epochs. For a loss, `tol` is relative to its scale: the variance of the targets
        for the squared error, 1 for the cross-entropy. None: always `max_iter` epochs.
    verbose : bool or int, default=False
        0 is silent; 1 shows a progress bar over the epochs, except in worker processes; 2 prints one line for each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous fit.
    early_stopping : bool, default=False
        Whether to use `validation_fraction` of the samples for validation, stop training by their score, and restore the
        best weights.
    validation_fraction : float or splitter, default=0.1
        Fraction of the samples to validate on: random ones (classes in proportion; a sample that is the only one of its
        class is trained on), the last ones with ``shuffle=False``, as for a series in time. Or a splitter of
        :mod:`sklearn.model_selection`, whose last split is taken, such as ``TimeSeriesSplit(5)``. Only used with
        ``early_stopping=True`` and without `validation_data`.
    n_iter_no_change : int, default=10
        Number of epochs without improvement, see `tol`.
    clipnorm : float or None, default=1.0
        Largest norm of the gradient of each weight array; larger gradients are scaled down.
    vocabulary_size : int or None, default=None
        If given, X has integer tokens in ``[0, vocabulary_size)``, which an embedding converts to vectors.
    embedding_dim : int, default=32
        Length of these vectors. Only used with `vocabulary_size`.
    dtype : {"float32", "float64"}, default="float32"
        Dtype of weights and computation.
    n_jobs : int or None, default=None
        Number of threads. None: the number of free cores, 1 inside a joblib worker; -1: all cores."""
)

ATTRIBUTES = """n_features_in_ : int
        Features of one time step; for a two-dimensional X, which holds one variable, its number of columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only if X was a data frame whose column names are all strings.
    n_iter_ : int
        Number of epochs, including those of previous fits with ``warm_start=True``, and of `partial_fit`.
    loss_ : float
        Mean loss in the last epoch.
    loss_curve_ : list of float
        Mean loss in each epoch.
    best_loss_ : float or None
        Least mean loss of an epoch; None with early stopping.
    validation_scores_ : list of float or None
        Score on the validation samples after each epoch; None without early stopping.
    best_validation_score_ : float or None
        Best of these scores.
    model_ : fastrnn.Sequential
        The network.
    states_ : list of list of ndarray, or None
        With ``stateful=True``: for each recurrent layer, the states after the last `partial_fit`, one row for each
        sequence; None when they are zero.
    series_states_ : dict
        With ``stateful=True``: the states of series by their ids, those least recently used first."""

NOTES = """X is one of

    - an array of shape (n_samples, n_timesteps, n_features). Steps at the end, or at the beginning, of a sequence in
      which all features are NaN are padding, which is not computed; a sequence of padding only is empty;
    - an array of shape (n_samples, n_timesteps): one variable. As for any table in scikit-learn, the number of
      columns must be the same in `predict` as in `fit`; for ``X[:, :, None]`` it may differ;
    - a list, or an object array, of arrays of shape (n_timesteps_i, n_features) or, for one variable,
      (n_timesteps_i,), which may be empty; :func:`fastrnn.sequences.as_object_array` makes such an array;
    - an awkward array of type ``n * var * n_features * float`` or ``n * var * float``, or a pyarrow column of lists of lists
      or of numbers;
    - with `vocabulary_size`, integer tokens: an array of shape (n_samples, n_timesteps) or a list of arrays of
      shape (n_timesteps_i,).

    With ``return_sequences=True`` targets, weights of steps and predictions have the form of X: (n_samples,
    n_timesteps), or a list (for predictions an object array) of arrays. Where X is padded, targets are ignored and
    predictions are NaN.

    The prediction for an empty sequence is computed from the initial state of the network: zeros, or the carried state. It
    is scored as any other prediction. Training leaves empty sequences out; with ``return_sequences=True`` they have no
    targets and no predictions.

    With ``stateful=True`` the initial states of row i in a call of `partial_fit` are the final states of row i in the
    previous call, so long series can be passed in pieces. Gradients stop at the start of a call. `predict` starts from the
    states of its rows and does not change them; `reset_states` sets them to zero, as does `fit`, which treats its rows as
    whole sequences. Until then, every call must have the same number of rows.

    With ``series=ids`` states belong to series instead of rows: each series goes on from its own state, a new one starts
    from zero, one that is not in the call is left as it is, and rows may come in any number and order. ``predict(...,
    advance=True)`` lets states go on; without it `predict` never changes them. The states of `max_series` series are kept,
    and go into pickles and files; a series takes the memory of its states (`units` numbers for each layer, twice as many
    for "lstm") and about 0.5 kB.

    The loss is a mean over samples; sample weights and class weights are scaled to a mean of 1 over all samples. In `fit`
    equal samples (the same sequence and target) are merged into one with the sum of their weights, and samples of weight 0
    left out, before batches are cut: a sample of weight 2 is trained on exactly as one that is there twice. The order of the
    samples has no influence where weights are unequal after that. Nothing is merged with ``shuffle=False``, where the order
    matters, with ``stateful=True`` and in `partial_fit`. If the loss is not finite, training stops with
    :class:`fastrnn.exceptions.NonFiniteLossError` and keeps the weights of the last epoch with a finite loss."""


def with_shared_documentation(cls: type) -> type:
    """Fill the shared paragraphs into the docstring of a class."""
    if cls.__doc__:  # there is none under python -OO
        for mark, text in (("{parameters}", PARAMETERS), ("{attributes}", ATTRIBUTES), ("{notes}", NOTES)):
            cls.__doc__ = cls.__doc__.replace(mark, text)
    return cls

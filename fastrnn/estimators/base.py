"""What classifier and regressor share: parameters, training, carried states, validation."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastrnn import saving
from fastrnn.engine.kernels.vecmath import ACTIVATIONS
from fastrnn.estimators import network
from fastrnn.estimators.training import (
    CarriedStates,
    Data,
    Progress,
    Schedule,
    States,
    outputs,
    run_epoch,
    run_epochs,
)
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.layers.arrays import restarted
from fastrnn.optimizers import Optimizer
from fastrnn.preprocessing import check_features
from fastrnn.sequences import Ragged, Sequences, as_step_values, read_sequences

_POSITIVE = Interval(Integral, 1, None, closed="left")
_FRACTION = Interval(Real, 0, 1, closed="left")


class _Kernel(HasMethods):
    def is_satisfied_by(self, val: Any) -> bool:
        return network.is_kernel(val)

    def __str__(self) -> str:
        return "a cell of the engine, such as fastrnn.cells.janet.JANET"


@dataclass(kw_only=True, eq=False, repr=False)
class BaseRNN(BaseEstimator):
    """What classifier and regressor share.

    The fields are the constructor's arguments, said once; scikit-learn reads them from the signature.
    """

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
    unroll: bool = False
    return_sequences: bool = False
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
    validation_fraction: float = 0.1
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
        "unroll": ["boolean"],
        "return_sequences": ["boolean"],
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
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_POSITIVE, Options(Real, {np.inf})],
        "clipnorm": [Interval(Real, 0, None, closed="neither"), None],
        "vocabulary_size": [_POSITIVE, None],
        "embedding_dim": [_POSITIVE],
        "dtype": [StrOptions({"float32", "float64"})],
        "n_jobs": [_POSITIVE, Options(Integral, {-1}), None],
    }

    # ---- what the two kinds do in their own way

    @abstractmethod
    def _read_targets(self, y: Any, X: np.ndarray | Ragged, known: bool, classes: Any) -> dict[str, Any]:
        """Validate y; return the fitted attributes it gives rise to, and "targets": one row for each unit."""

    @abstractmethod
    def _class_weights(self, targets: np.ndarray, found: dict[str, Any], incremental: bool) -> Any:
        """Weights of the rows of `targets`, or None."""

    @abstractmethod
    def _score_outputs(self, targets: np.ndarray, out: np.ndarray, weight: np.ndarray | None) -> float:
        """Score of the network's outputs on validated targets."""

    @abstractmethod
    def _head(self) -> tuple[int, str | None, str]:
        """Width and activation of the output layer, and the loss."""

    # ---- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on sequences.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps, n_features), or another form that the class describes
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; with ``return_sequences=True`` of shape (n_samples, n_timesteps) or (n_samples, n_timesteps,
            n_outputs), or a list of arrays.
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative weights; with ``return_sequences=True`` also one for each step, in the form of y.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None) -> Any:
        self._validate_params()
        self._check_combinations(incremental)
        known = hasattr(self, "model_") and (incremental or self.warm_start)
        sequences = read_sequences(X, vocabulary_size=self.vocabulary_size, dtype=self.dtype)
        if known:
            check_features(self, X, sequences, reset=False, tokens=self.vocabulary_size is not None)
            self._check_same_network()
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        found = self._read_targets(y, sequences.data, known, classes)
        targets = found.pop("targets")
        weight = self._read_weights(sample_weight, sequences.data, targets, found, incremental)
        laid_out = self._lay_out(sequences.data, targets, weight)
        data = Data(sequences.data, self.return_sequences, *laid_out)
        states = self._states_for(len(data)) if known and incremental else None

        # Work goes on in a shallow copy, so that a call that fails leaves this object as it was; a network that both
        # share is put back by `restored_on_error`.
        trained = copy.copy(self)
        trained.__dict__.update(found)
        if known and incremental:
            trained._rng = copy.deepcopy(self._rng)
        else:
            trained._rng = check_random_state(self.random_state)
        if known:
            trained.loss_curve_ = list(self.loss_curve_)
        else:
            check_features(trained, X, sequences, reset=True)
            trained.loss_curve_ = []
        if self.stateful:
            trained._set_states(None)
        failure = None
        with network.restored_on_error(self.model_ if known else None):
            if not known:
                width, activation, _ = trained._head()
                seed = int(trained._rng.randint(2**31))
                penalty = self.alpha / (2 * self._batch_size(len(data)))
                trained._architecture = self._network_arguments()
                trained.model_ = network.build(
                    trained, sequences.n_features, width, activation, penalty, seed
                )
            network.use_threads(trained.model_, self.n_jobs)
            if known and incremental and self.solver == self._solver:
                network.follow(trained.model_, self)
            else:
                network.compile_model(trained.model_, trained, trained._head()[2])
                trained._solver = self.solver
            if incremental:
                trained._one_pass(data, states)
            else:
                failure = trained._many_epochs(data, targets)
        self.__dict__ = trained.__dict__
        if failure is not None:
            raise failure
        return self

    def _one_pass(self, data: Data, states: Any) -> None:
        """Train one epoch, from carried states when stateful."""
        carried = CarriedStates(self.model_, states, len(data))
        shuffle = self.shuffle and not self.stateful
        order: Any = self._rng.permutation(len(data)) if shuffle else len(data)
        loss = run_epoch(
            self.model_,
            data,
            order,
            self._batch_size(len(data)),
            carried,
            carry=self.stateful,
            n_steps=self.truncated_bptt_steps,
        )
        self.model_.check_weights()
        if self.stateful:
            self._set_states(carried.after)
        self.loss_curve_.append(loss)
        self._finish(None)

    def _many_epochs(self, data: Data, targets: np.ndarray) -> NonFiniteLossError | None:
        """Train until `max_iter` or until nothing improves any more; return what ended it early, if anything."""
        validate: Callable[[], float] | None = None
        progress = Progress(self.loss_curve_)
        if self.early_stopping:
            part, rest = self._split(data, targets)
            held_out, data = data.subset(part), data.subset(rest)
            y, weight = held_out.rows()

            def score_held_out() -> float:
                out = outputs(self.model_, held_out)
                if not np.isfinite(out).all():
                    raise NonFiniteLossError("an output for the validation samples became NaN or infinite")
                return self._score_outputs(y, out, weight)

            validate = score_held_out
        schedule = Schedule(
            batch_size=self._batch_size(len(data)),
            n_steps=self.truncated_bptt_steps,
            max_iter=self.max_iter,
            shuffle=self.shuffle,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            title=type(self).__name__,
            verbose=bool(self.verbose),
        )
        run_epochs(self.model_, data, schedule, self._rng, validate, progress)
        self._finish(progress if validate else None)
        if self.tol is not None and not progress.ended_early:
            warnings.warn(
                f"Maximum number of epochs (max_iter={self.max_iter}) reached before the "
                f"{'validation score' if validate else 'loss'} stopped to improve by tol={self.tol}. Raise "
                "max_iter, or set tol=None to say that max_iter epochs are what you want.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return progress.failure

    def _finish(self, progress: Progress | None) -> None:
        """Set the attributes that tell of the training."""
        self.n_iter_ = len(self.loss_curve_)
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = None if progress else min(self.loss_curve_)
        self.validation_scores_ = progress.scores if progress else None
        self.best_validation_score_ = progress.best_score if progress else None

    def _split(self, data: Data, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples for validation and those for training."""
        per_class = isinstance(self, ClassifierMixin) and not self.return_sequences
        rest, part = train_test_split(
            np.arange(len(data)),
            test_size=self.validation_fraction,
            random_state=self._rng,
            stratify=targets if per_class else None,
        )
        if len(part) < 2:
            raise ValueError(
                f"The validation set is too small, {len(part)} sample(s). Increase validation_fraction="
                f"{self.validation_fraction} or the number of samples, {len(data)}."
            )
        return np.sort(part), np.sort(rest)

    def _batch_size(self, n_samples: int) -> int:
        return min(32 if self.batch_size == "auto" else int(self.batch_size), n_samples)

    # ---- states

    def _states_for(self, n_rows: int) -> Any:
        """Return the carried states if they suit a call with `n_rows` sequences."""
        states = getattr(self, "states_", None) if self.stateful else None
        if states and len(states[0][0]) != n_rows:
            raise ValueError(
                f"X holds {n_rows} sequences, but with stateful=True each row goes on from the state of the same "
                f"row of the partial_fit before, which had {len(states[0][0])}. Pass as many rows, in the same "
                "order, or call reset_states() to start from zero with another batch size."
            )
        return states

    def reset_states(self, rows: Any = None) -> Any:
        """Set the carried states to zero.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Only of these rows; the others go on. All rows by default, after which another number of rows will do.

        Returns
        -------
        self
        """
        states = getattr(self, "states_", None)
        if states is None:
            return self
        if rows is None:
            self._set_states(None)
            return self
        zeros = [[np.zeros_like(s) for s in layer] for layer in states]
        self._set_states(restarted(states, zeros, rows))
        return self

    def _set_states(self, states: States | None) -> None:
        self.states_ = states

    # ---- validation

    def _check_combinations(self, incremental: bool) -> None:
        units = network.units_of(self.units)
        if not units or any(isinstance(u, bool) or not isinstance(u, Integral) or u < 1 for u in units):
            raise ValueError(
                f"The 'units' parameter of {type(self).__name__} must be an int in the range [1, inf) or a tuple "
                f"of such. Got {self.units!r} instead."
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
                "partial_fit does not support early_stopping=True: it makes one pass over what it is given. Set "
                "early_stopping=False."
            )
        if self.go_backwards and self.return_sequences:
            raise ValueError(
                "go_backwards=True can't go with return_sequences=True: the outputs would stand against the order "
                "of y. Use bidirectional=True, or reverse the sequences and y."
            )
        if self.truncated_bptt_steps is not None and not self.return_sequences:
            raise ValueError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} needs targets for every step, but with "
                "return_sequences=False there is one for a sequence, and only its last piece would learn. Set "
                "return_sequences=True and give targets for every step, or leave truncated_bptt_steps at None."
            )
        if self.truncated_bptt_steps is not None and self.bidirectional:
            raise ValueError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} can't go with bidirectional=True: the backward "
                "direction reads each sequence from its end, so it can't take it piece by piece."
            )
        if self.stateful and self.bidirectional:
            raise ValueError(
                "stateful=True can't go with bidirectional=True: the backward direction would have to start from "
                "the end of what has not been given yet."
            )

    def _network_arguments(self) -> dict[str, Any]:
        """Return the parameters that can't change while the weights stay."""
        names = network.ARGUMENTS
        return {name: copy.copy(getattr(self, name)) for name in names}

    def _check_same_network(self) -> None:
        for name, before in self._architecture.items():
            now = getattr(self, name)
            if now != before:
                raise ValueError(
                    f"{name}={now!r}, but the network was made with {name}={before!r}, and partial_fit and "
                    f"warm_start=True go on with it. Set {name} back, or call fit with warm_start=False."
                )

    def _read_weights(
        self, sample_weight: Any, X: np.ndarray | Ragged, targets: np.ndarray, found: dict, incremental: bool
    ) -> np.ndarray | None:
        """Return one weight for each row of `targets`, or None."""
        by_class = self._class_weights(targets, found, incremental)
        if sample_weight is None and by_class is None:
            return None
        weight = np.ones(len(targets)) if sample_weight is None else self._rows_of_weights(sample_weight, X)
        if weight.min() < 0:
            raise ValueError(
                f"Negative values in sample_weight (the least is {weight.min()}): weights must be at least 0."
            )
        if by_class is not None:
            weight = weight * by_class
        if incremental:
            # One call may see few classes, or only light samples: the scale belongs to the weights then.
            return weight.astype(self.dtype)
        total = weight.sum()
        if not total > 0:
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return (weight * (len(weight) / total)).astype(self.dtype)

    def _rows_of_weights(self, sample_weight: Any, X: np.ndarray | Ragged) -> np.ndarray:
        if not self.return_sequences:
            return _check_sample_weight(sample_weight, X, dtype=np.float64)
        if not isinstance(sample_weight, Real) and np.ndim(next(iter(sample_weight))) > 0:
            rows = as_step_values(sample_weight, X, "sample_weight")
            return check_array(rows, ensure_2d=False, dtype=np.float64, input_name="sample_weight").ravel()
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        return np.repeat(weight, X.lengths if isinstance(X, Ragged) else X.shape[1])

    def _lay_out(self, X: np.ndarray | Ragged, *rows: np.ndarray | None) -> tuple[Any, ...]:
        """Shape one row for each step as X is shaped."""
        if not self.return_sequences:
            return rows
        if isinstance(X, Ragged):
            return tuple(None if r is None else X.with_values(r) for r in rows)
        return tuple(None if r is None else r.reshape(*X.shape[:2], *r.shape[1:]) for r in rows)

    # ---- prediction

    def _outputs(self, X: Any) -> tuple[np.ndarray, Sequences]:
        """Validate X and compute the network's outputs, one row for each sequence or real step."""
        check_is_fitted(self)
        tokens = self._architecture["vocabulary_size"]
        sequences = read_sequences(X, vocabulary_size=tokens, dtype=self._architecture["dtype"])
        check_features(self, X, sequences, reset=False, tokens=tokens is not None)
        data = Data(sequences.data, self._architecture["return_sequences"])
        network.use_threads(self.model_, self.n_jobs)
        return outputs(self.model_, data, self._states_for(len(data))), sequences

    def _rows_to_score(self, y: Any, sample_weight: Any, X: np.ndarray | Ragged) -> tuple[Any, Any]:
        """Return targets and weights in the order of the rows of :meth:`_outputs`."""
        if not self._architecture["return_sequences"]:
            return y, sample_weight
        weight = None if sample_weight is None else self._rows_of_weights(sample_weight, X)
        return as_step_values(y, X), weight

    def save(self, path: Any) -> None:
        """Write the estimator, fitted or not, to a file that :func:`fastrnn.load` reads: see :func:`fastrnn.save`."""
        saving.save(self, path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.single_output = not self.return_sequences
        return tags

"""Base class of classifier and regressor: training, carried states, validation, prediction."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastrnn import saving
from fastrnn.checks import flag
from fastrnn.engine.runtime.interrupts import held
from fastrnn.estimators import network
from fastrnn.estimators.failures import failure_of, undo_training, undo_updates
from fastrnn.estimators.loss import check_gradient
from fastrnn.estimators.parameters import Parameters
from fastrnn.estimators.repeats import merge_repeats
from fastrnn.estimators.response import lay_out, row_weights, rows_of, scaled_weights, with_steps
from fastrnn.estimators.scale import warn_of_input
from fastrnn.estimators.series import SeriesStates, keep, read_ids, states_of
from fastrnn.estimators.stopping import SCORE, StoppingRule
from fastrnn.estimators.streaming import EstimatorStream
from fastrnn.estimators.validation import split
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.layers.arrays import restarted
from fastrnn.preprocessing.features import check_features
from fastrnn.sequences import Ragged, Sequences, as_step_values, read_sequences
from fastrnn.training.callback import CallbackList
from fastrnn.training.data import Batches
from fastrnn.training.guard import Changes, Undo, generator, guard
from fastrnn.training.loop import Policy, Schedule, Task, run_epochs
from fastrnn.training.progress import Progress
from fastrnn.training.row_states import RowStates, States


class _Training(NamedTuple):
    """What a training is called with: validated, encoded, and laid out in batches."""

    sequences: Sequences
    #: The fitted attributes that follow from y.
    found: dict[str, Any]
    #: One row for each sequence or step.
    targets: np.ndarray
    data: Batches
    ids: list[Any] | None


@dataclass(kw_only=True, eq=False, repr=False)
class BaseRNN(Parameters):
    """Base class of classifier and regressor."""

    # ---- methods of the subclasses

    @abstractmethod
    def _read_targets(self, y: Any, X: np.ndarray | Ragged, known: bool, classes: Any) -> dict[str, Any]:
        """Validate y; return the fitted attributes that depend on it, and "targets": one row for each sequence or step."""

    @abstractmethod
    def _class_weights(
        self, targets: np.ndarray, weight: np.ndarray | None, found: dict[str, Any], incremental: bool
    ) -> Any:
        """Factors for the weights of the rows of `targets`, or None."""

    @abstractmethod
    def _score_outputs(self, targets: np.ndarray, out: np.ndarray, weight: np.ndarray | None) -> float:
        """Return the score of the network's outputs on validated targets."""

    def _begin_training(
        self, data: Batches, held_out: Batches | None, known: bool, incremental: bool
    ) -> float:
        """Convert targets and network to the units of training; return the scale of the loss, to which `tol` is relative.

        `known` means that the network was trained before, `incremental` means `partial_fit`.
        """
        return 1.0

    def _end_training(self) -> None:
        """Convert the network to the units of y."""

    @abstractmethod
    def _head(self) -> tuple[int, str | None, Any]:
        """Width and activation of the output layer, and the loss."""

    # ---- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Any:
        """Train on sequences.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps, n_features), or another form that the class describes
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; with ``return_sequences=True`` of shape (n_samples, n_timesteps) or (n_samples, n_timesteps,
            n_outputs), or a list of arrays.
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative weights; with ``return_sequences=True`` also one for each step, in the form of y.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` for validation, in place of a part of the samples, with
            ``early_stopping=True``. A pipeline passes it on without transforming its X.

        Returns
        -------
        self

        Raises
        ------
        NonFiniteLossError
            If the loss stops being finite. The weights of the last good epoch are kept.
        KeyboardInterrupt
            At Ctrl-C. If an epoch was complete, the last finite weights are kept (with early stopping, the best ones), and
            the estimator is fitted; otherwise it is left as it was.
        """
        return self._fit(X, y, sample_weight, incremental=False, validation_data=validation_data)

    def save(self, path: Any) -> None:
        """Write the estimator, fitted or not, to a file that :func:`fastrnn.load` reads: see :func:`fastrnn.save`."""
        saving.save(self, path)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        incremental: bool,
        classes: Any = None,
        validation_data: Any = None,
        series: Any = None,
    ) -> Any:
        known, read = self._read_training(X, y, sample_weight, incremental, classes, validation_data, series)
        sequences, found, targets, data, ids = read
        states = self._states_for(data.n, ids) if known and incremental else None

        # On a shallow copy, so that a failed call leaves this object unchanged; the network, which both share, is restored.
        trained = copy.copy(self)
        trained.__dict__.update(found)
        undo: list[Undo] = []
        changes = Changes(self.model_, delay=True) if known and incremental else None
        if changes is not None:
            undo = [*undo_updates(self.model_, changes), generator(self._rng)]
        else:
            trained._rng = check_random_state(self.random_state)
            if known:
                undo = undo_training(self.model_)
        if not known:
            check_features(trained, X, sequences, reset=True)
            trained.loss_curve_, trained.best_loss_ = [], None
        if self.vocabulary_size is None and not (known and incremental):
            warn_of_input(X, sequences.data, vars(trained).get("feature_names_in_"), stacklevel=4)
        if self.stateful and ids is None:
            trained._set_states(None)
        if self.stateful and not (known and incremental):
            trained.states_, trained.series_states_ = None, {}
        if self.loss is not None:
            width, _, loss = trained._head()
            check_gradient(loss, targets, width)
        held_out = None if validation_data is None else trained._read_held_out(*validation_data)
        failure: BaseException | None = None
        with guard(*undo) as undoing:
            if not known:
                trained._architecture = self._network_arguments()
                trained.model_ = network.build(trained, sequences.n_features, self._batch_size(data.n))
            network.use_threads(trained.model_, self.n_jobs)
            if known and incremental:
                network.follow(trained.model_, self)
            else:
                network.compile_model(trained.model_, trained)
            trained._solver, trained._loss = self.solver, self.loss
            if self.early_stopping and held_out is None:
                data, held_out = trained._hold_out(data, targets)
            scale = trained._begin_training(data, held_out, known, incremental)
            after = None
            if incremental:
                after = trained._one_pass(data, states, changes)
            else:
                failure = trained._many_epochs(data, held_out, scale)
            trained._end_training()
            if changes is not None and changes.delayed:
                with held():  # what was left out can't be undone: it is made with all the rest, or not at all
                    changes.complete()
                    self._take(trained, after, ids)
                    undoing.dismiss()
        self._take(trained, after, ids)
        if failure is not None:
            raise failure
        return self

    def _take(self, trained: Any, after: States | None, ids: list[Any] | None) -> None:
        """Take over the fitted attributes of a copy, and the last states of series."""
        self.__dict__ = trained.__dict__
        if after is not None:
            self._carry(after, ids)

    def _read_training(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        classes: Any = None,
        validation_data: Any = None,
        series: Any = None,
    ) -> tuple[bool, _Training]:
        """Check the arguments of a training, and change nothing; return whether the network is trained on."""
        self._validate_params()
        self._check_combinations(incremental)
        self._check_validation_data(validation_data)
        known = self.__sklearn_is_fitted__() and (incremental or self.warm_start)
        sequences = read_sequences(X, vocabulary_size=self.vocabulary_size, dtype=self.dtype)
        if known:
            check_features(self, X, sequences, reset=False, tokens=self.vocabulary_size is not None)
            self._check_same_network()
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        per_step = self.return_sequences
        x, kept = with_steps(sequences.data, per_step, in_place=incremental and self.stateful)
        found = self._read_targets(y, sequences.data, known, classes)
        targets = found.pop("targets")[kept]
        weight = None if sample_weight is None else row_weights(sample_weight, sequences.data, per_step)[kept]
        places: np.ndarray | None = None
        if self.shuffle and not incremental and not self.stateful:
            by_class = vars(self).get("class_weight") is not None
            places, rows, weight = merge_repeats(x, targets, weight, per_step, by_class)
            targets = targets[rows]
            if per_step and places is not None:  # targets of steps have the layout of x
                x, places = x[places], None
        weight = self._all_weights(weight, targets, found, incremental)
        y, weight = lay_out(targets, x, per_step), lay_out(weight, x, per_step)
        data = Batches(x, y, weight, self._batch_size(len(y)), places=places)
        ids = None if series is None else read_ids(series, data.n, self.stateful, self.max_series)
        return known, _Training(sequences, found, targets, data, ids)

    def _one_pass(self, data: Batches, before: States | None, changes: Changes | None) -> States | None:
        """Train one epoch, from carried states when stateful, and return the last ones; `changes` records its updates."""
        row_states = RowStates(self.model_.layers, before, data.n) if self.stateful else None
        schedule = Schedule(
            epochs=1,
            shuffle=self.shuffle and not self.stateful,
            truncated_bptt_steps=self.truncated_bptt_steps,
        )
        rule = StoppingRule()
        task = Task(
            data, schedule, self._rng, Policy(keep_good=False), row_states=row_states, changes=changes
        )
        run_epochs(self.model_, task, CallbackList([rule], self.model_, {}))
        self._finish(rule.losses, None)
        return None if row_states is None else row_states.after

    def _many_epochs(
        self, data: Batches, held_out: Batches | None, scale: float
    ) -> NonFiniteLossError | KeyboardInterrupt | None:
        """Train until `max_iter` or until there is no improvement; return the error that ended training early, if any.

        What was learned until then is kept.

        Improvements of the loss are relative to `scale`.
        """
        model = self.model_
        validate = None if held_out is None else self._validation(held_out)
        rule = StoppingRule(self.tol, self.n_iter_no_change, scale)
        task = Task(
            data,
            Schedule(self.max_iter, shuffle=self.shuffle, truncated_bptt_steps=self.truncated_bptt_steps),
            self._rng,
            Policy(keep_interrupted=True, best_of=None if validate is None else SCORE),
            validate,
            RowStates(model.layers) if self.stateful else None,
        )
        bar = [Progress(int(self.verbose), type(self).__name__)] if self.verbose else []
        calls = CallbackList([rule, *bar], model, {"epochs": self.max_iter})
        outcome = run_epochs(model, task, calls)
        failure = outcome.interrupt or failure_of(outcome)
        self._finish(rule.losses[: outcome.epochs], rule if self.early_stopping else None)
        if self.tol is not None and not rule.ended and failure is None:
            warnings.warn(
                f"Maximum number of epochs (max_iter={self.max_iter}) reached before the "
                f"{SCORE if self.early_stopping else 'loss'} stopped improving by tol={self.tol}. Increase "
                "max_iter, or set tol=None to always train for max_iter epochs.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return failure

    def _hold_out(self, data: Batches, targets: np.ndarray) -> tuple[Batches, Batches]:
        """Split the data into samples for training and for validation."""
        per_class = isinstance(self, ClassifierMixin) and not self.return_sequences
        part, rest = split(self, data.n, targets.reshape(-1) if per_class else None, self._rng)
        kept = data.subset(rest)
        kept.batch_size = self._batch_size(kept.n)
        return kept, data.subset(part)

    def _check_validation_data(self, given: Any) -> None:
        if given is None:
            return
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError("validation_data: give a tuple (X, y) or (X, y, sample_weight).")
        if not self.early_stopping:
            raise ValueError(
                "validation_data is only used with early_stopping=True: set it, or leave validation_data out."
            )

    def _read_held_out(self, X: Any, y: Any, sample_weight: Any = None) -> Batches:
        """Validate the contents of `validation_data`, as the training data."""
        sequences = read_sequences(X, vocabulary_size=self.vocabulary_size, dtype=self.dtype)
        check_features(self, X, sequences, reset=False, tokens=self.vocabulary_size is not None)
        per_step = self.return_sequences
        if per_step and isinstance(sequences.data, Ragged) and not len(sequences.data.values):
            raise ValueError("validation_data: all sequences are empty, so there is no step to score.")
        targets = self._read_targets(y, sequences.data, True, None)["targets"]
        weight = None if sample_weight is None else row_weights(sample_weight, sequences.data, per_step)
        laid_out = [lay_out(values, sequences.data, per_step) for values in (targets, weight)]
        return Batches(sequences.data, laid_out[0], laid_out[1])

    def _validation(self, held_out: Batches) -> Callable[[], dict[str, float]]:
        """A function that computes the score on the validation samples."""
        y, weight = (rows_of(v, self.return_sequences) for v in (held_out.y, held_out.sample_weight))

        def validate() -> dict[str, float]:
            out = network.outputs(self.model_, held_out.x, self.return_sequences)
            if not np.isfinite(out).all():
                raise NonFiniteLossError("an output for the validation samples became NaN or infinite")
            return {SCORE: self._score_outputs(y, out, weight)}

        return validate

    def _finish(self, losses: list[float], rule: StoppingRule | None) -> None:
        """Set the fitted attributes of the training, after everything that may fail."""
        known: float | None = vars(self).get("best_loss_")
        before = self.loss_curve_ if known is None else [known]
        best = min([*before, *losses])
        # In place, because a copy would take longer with each call.
        self.loss_curve_ += losses
        self.n_iter_ = len(self.loss_curve_)
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = None if rule else best
        self.validation_scores_ = rule.scores if rule else None
        self.best_validation_score_ = rule.best_score if rule else None

    def _batch_size(self, n_samples: int) -> int:
        return min(32 if self.batch_size == "auto" else int(self.batch_size), n_samples)

    def stream(
        self, n_series: int = 1, *, method: str = "predict", missing: str = "raise"
    ) -> EstimatorStream:
        """Make a stream, which answers after each sample of one or several series.

        Parameters
        ----------
        n_series : int
            Number of series that advance together, whatever the batch size of training was.
        method : {"predict", "predict_proba"}
            What its steps return.
        missing : {"raise", "skip"}
            What is done about samples with NaN or infinity: an error, or their series are left as they are.

        Returns
        -------
        EstimatorStream
            With a copy of the current weights. With ``stateful=True`` it goes on from the states of `partial_fit`.
        """
        check_is_fitted(self)
        return EstimatorStream(self, n_series, method, missing)

    # ---- states

    def _states_for(self, n_rows: int, ids: list[Any] | None = None) -> States | None:
        """Return the carried states of series by `ids`, or by rows if they suit a call with `n_rows` sequences."""
        if ids is not None:
            return states_of(vars(self).get("series_states_", {}), ids)
        states = vars(self).get("states_") if self.stateful else None
        if states and len(states[0][0]) != n_rows:
            raise ValueError(
                f"X holds {n_rows} sequences, but with stateful=True each row continues the same row of the previous "
                f"partial_fit, which had {len(states[0][0])} rows. Pass the same number of rows, in the same "
                "order, or call reset_states() to start from zero with another number of rows."
            )
        return states

    def _carry(self, after: States, ids: list[Any] | None) -> None:
        """Keep the last states of a call."""
        if ids is None:
            self._set_states(after)
        else:
            if "series_states_" not in vars(self):
                self.series_states_: SeriesStates = {}
            keep(self.series_states_, ids, after, self.max_series)

    def reset_states(self, rows: Any = None, *, series: Any = None) -> Any:
        """Set the carried states to zero.

        Parameters
        ----------
        rows : array-like of int or bool, optional
            Rows whose states are reset; the others keep theirs. By default all are reset, and the next call may have
            another number of rows.
        series : array-like of ids, optional
            Only of these series, which may be unknown. Without `rows` and `series` all states are reset.

        Returns
        -------
        self
        """
        kept = vars(self).get("series_states_", {})
        if series is not None:
            if isinstance(series, (str, bytes)) or np.ndim(series) == 0:
                raise ValueError(f"series={series!r}: give a list of ids, [{series!r}]")
            for name in np.asarray(series).tolist():
                kept.pop(name, None)
        elif rows is None:
            kept.clear()
        states = vars(self).get("states_")
        if states is None or (rows is None and series is not None):
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

    def _all_weights(
        self, weight: np.ndarray | None, targets: np.ndarray, found: dict[str, Any], incremental: bool
    ) -> np.ndarray | None:
        """Return the product of sample weights and class weights for each row of `targets`, or None."""
        by_class = self._class_weights(targets, weight, found, incremental)
        if weight is None and by_class is None:
            return None
        if weight is None:
            weight = np.ones(len(targets))
        if by_class is not None:
            weight = weight * by_class
        # Not scaled in partial_fit, where a call may contain few classes or only samples of small weight.
        return (weight if incremental else scaled_weights(weight)).astype(self.dtype)

    # ---- prediction

    def _read(self, X: Any) -> Sequences:
        """Validate X for prediction."""
        tokens = self._architecture["vocabulary_size"]
        sequences = read_sequences(X, vocabulary_size=tokens, dtype=self._architecture["dtype"])
        check_features(self, X, sequences, reset=False, tokens=tokens is not None)
        return sequences

    def _outputs(self, X: Any, series: Any = None, advance: bool = False) -> tuple[np.ndarray, Sequences]:
        """Validate X and compute the network's outputs, one row for each sequence or real step.

        They start from the carried states of rows, or of `series`, which go on with `advance`.
        """
        check_is_fitted(self)
        sequences = self._read(X)
        n_rows, stateful = len(sequences.data), self._architecture["stateful"]
        ids = None if series is None else read_ids(series, n_rows, stateful, self.max_series)
        if flag(advance, "advance") and not stateful:
            raise ValueError(
                "advance=True: states are carried from call to call with stateful=True only. Set it and fit, or leave "
                "advance out."
            )
        network.use_threads(self.model_, self.n_jobs)
        row_states = None
        if stateful:
            before = self._states_for(n_rows, ids)
            row_states = RowStates(self.model_.layers, before, n_rows if advance else None)
        per_step = self._architecture["return_sequences"]
        rows = network.outputs(self.model_, sequences.data, per_step, row_states)
        if advance and row_states is not None:
            self._carry(row_states.after, ids)
        return rows, sequences

    def _rows_to_score(self, y: Any, sample_weight: Any, X: np.ndarray | Ragged) -> tuple[Any, Any]:
        """Return targets and weights in the order of the rows of :meth:`_outputs`."""
        if not self._architecture["return_sequences"]:
            return y, sample_weight
        weight = None if sample_weight is None else row_weights(sample_weight, X, True)
        return as_step_values(y, X), weight

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.single_output = not self.return_sequences
        return tags

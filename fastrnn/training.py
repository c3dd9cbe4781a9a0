"""Training: batches, epochs, validation, and what one step does.

:class:`Trainer` is the half of a model that trains. The other half (``model.py``) gives it ``run``, ``back``, ``params``,
``grads`` and ``plan``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import losses, metrics, optimizers
from fastrnn._training_pieces import Piece, carried_states, check_pieces, cut
from fastrnn.callbacks import CallbackList, History, Progress
from fastrnn.engine.update import all_finite
from fastrnn.exceptions import NonFiniteLossError, NotCompiledError

__all__ = ["Batches", "Trainer", "class_weights"]

_HELP = "What usually helps: a lower learning_rate, clipnorm=1.0 on the optimizer, scaled inputs and targets, float64"


def _is_ragged(x: Any) -> bool:
    return hasattr(x, "lengths") and hasattr(x, "take")


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """Weights of samples (or time steps) from weights of their classes; a class that isn't named weighs 1."""
    y = np.asarray(y)
    if y.ndim > 1:
        y = y[..., 0] if y.shape[-1] == 1 else y.argmax(axis=-1)
    classes = np.rint(y).astype(np.int64)
    weights = np.ones(classes.shape, np.float32)
    for label, weight in class_weight.items():
        weights[classes == int(label)] = weight
    return weights


class Batches:
    """Cuts data into batches, without a copy of the whole.

    Parameters
    ----------
    x : ndarray, Ragged, or iterable of batches
        An iterable gives tuples ``(x, y)`` or ``(x, y, sample_weight)`` of arrays or Ragged, and is gone through anew at
        each epoch.
    y, sample_weight : array_like, optional
    batch_size : int
    start, stop : int, optional
        Use only these samples.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.stream = y is None and not isinstance(x, np.ndarray) and _is_stream(x)
        self.x, self.y, self.sample_weight = x, y, sample_weight
        if self.stream:
            if batch_size is not None:
                raise ValueError(f"batch_size={batch_size!r}: leave it out where x is an iterable of batches")
            self.n = -1
            self._first: Any = next(iter(x), None)
            if self._first is None:
                raise ValueError("x gave no batches")
            if iter(x) is x:
                # A generator has lost its first batch by that.
                self.x = itertools.chain([self._first], x)
            return
        if not _is_ragged(x):
            self.x = x = np.asarray(x)
        if x.ndim < 2:
            raise ValueError(f"x has shape {tuple(x.shape)}: give (batch, ...), at least two axes")
        if batch_size is None:
            batch_size = 32
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size <= 0:
            raise ValueError(f"batch_size={batch_size!r}: give a positive integer")
        self.batch_size = int(batch_size)
        for name, part in (("y", y), ("sample_weight", sample_weight)):
            if part is None:
                continue
            if not _is_ragged(part):
                part = np.asarray(part)
                setattr(self, name, part)
            if len(part) != len(x):
                raise ValueError(f"x has {len(x)} samples, {name} has {len(part)}: they must be equally many")
        self.start, self.stop = start, len(x) if stop is None else stop
        self.n = self.stop - self.start
        if self.n == 0:
            raise ValueError("x holds no samples")

    @property
    def n_batches(self) -> int | None:
        """Number of batches, None if that is not known."""
        if self.stream:
            return len(self.x) if hasattr(self.x, "__len__") else None
        return -(-self.n // self.batch_size)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the input with an open batch axis."""
        if self.stream:
            x = self._first[0]
            return (None, *(x.shape if _is_ragged(x) else np.shape(x))[1:])
        return (None, *self.x.shape[1:])

    def epoch(
        self, rng: np.random.Generator | None = None, shuffle: bool | str = False
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Yield ``x, mask, y, sample_weight`` of each batch."""
        if self.stream:
            for batch in self.x:
                x, y, weight = (*batch, None, None)[:3]
                x, mask = _whole(x)
                yield np.asarray(x), mask, _whole(y)[0], _whole(weight)[0]
            return
        order = None
        if shuffle and rng is not None:
            if shuffle == "batch":
                order = np.arange(self.start, self.stop)
                for i in range(0, self.n, self.batch_size):
                    rng.shuffle(order[i : i + self.batch_size])
            else:
                order = rng.permutation(self.n)
                if self.start:
                    order += self.start
        for i in range(0, self.n, self.batch_size):
            end = min(i + self.batch_size, self.n)
            index = slice(self.start + i, self.start + end) if order is None else order[i:end]
            x, mask = _take(self.x, index)
            yield x, mask, _take(self.y, index)[0], _take(self.sample_weight, index)[0]

    def split(self, fraction: float) -> tuple[Batches, Batches]:
        """The first samples, and the last `fraction` of them."""
        if not 0 < fraction < 1:
            raise ValueError(f"validation_split={fraction!r}: give a number between 0 and 1")
        if self.stream:
            raise ValueError(
                "validation_split needs arrays: give validation_data with an iterable of batches"
            )
        at = math.floor(self.n * (1 - fraction))
        if at in (0, self.n):
            raise ValueError(f"validation_split={fraction!r} of {self.n} samples leaves one part empty")
        parts = (self.x, self.y, self.sample_weight, self.batch_size)
        return Batches(*parts, 0, at), Batches(*parts, at, self.n)


def _is_stream(x: Any) -> bool:
    if _is_ragged(x) or hasattr(x, "__array__"):
        return False
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and isinstance(x[0], tuple)
    return hasattr(x, "__iter__") or hasattr(x, "__next__")


def _take(part: Any, index: Any) -> tuple[Any, np.ndarray | None]:
    """Some samples of an array or a Ragged, and which steps are real if not all are."""
    if part is None:
        return None, None
    if not isinstance(part, np.ndarray):
        values, mask = part.take(index)
        return values, None if mask.all() else mask
    return (part[index] if isinstance(index, slice) else part.take(index, axis=0)), None


def _whole(part: Any) -> tuple[Any, np.ndarray | None]:
    """All samples of a Ragged, padded, and which steps are real; anything else as it is."""
    return _take(part, slice(None)) if _is_ragged(part) else (part, None)


class Trainer:
    """Compiling, fitting, evaluating and predicting."""

    optimizer: Any = None
    loss: Any = None
    stop_training = False
    history: History | None = None

    # Given by the model.
    layers: list[Any]
    params: np.ndarray
    grads: np.ndarray
    plan: optimizers.Plan
    _rng: np.random.Generator

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: float | None = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Set optimizer, loss and metrics.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or Loss
            ``"crossentropy"`` takes the kind that targets and outputs call for.
        loss_weights : float, optional
            Factor of the loss.
        metrics, weighted_metrics : list of str or Metric, optional
            The latter take sample weights into account.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Of Keras; without effect.
        """
        self.optimizer = optimizers.get(optimizer)
        if not (isinstance(loss, str) and loss.lower() in ("crossentropy", "ce")):
            loss = losses.get(loss)
        self.loss = loss
        if loss_weights is not None and not isinstance(loss_weights, (int, float)):
            raise TypeError(f"loss_weights={loss_weights!r}: give a number, the model has one output")
        self._loss_weight = loss_weights
        self._metric_names = (_as_list(metrics), _as_list(weighted_metrics))
        for name in (*self._metric_names[0], *self._metric_names[1]):
            _check_metric(name)
        self._metrics: list[Any] | None = None
        self._weighted: list[Any] = []
        self.stop_training = False
        self.plan_updates()
        self.reset_metrics()

    def plan_updates(self) -> None:
        """Work out which weights the optimizer updates, and how."""
        raise NotImplementedError

    def run(self, x: Any, mask: Any, training: bool, want_logits: bool, y: Any = None) -> Any:
        """Compute ``y, mask, logits, caches, penalty``; given by the model.

        `y` are the targets, if they are known, for models that look at those of the steps before.
        """
        raise NotImplementedError

    def back(self, dy: np.ndarray, caches: list[Any], from_logits: bool) -> None:
        """Compute the gradients; given by the model."""
        raise NotImplementedError

    def weights_changed(self) -> None:
        """Tell all layers that their weights have other values now; given by the model."""
        raise NotImplementedError

    def _ensure_ready(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights if that is still to do; given by the model."""
        raise NotImplementedError

    def _need(self, what: str) -> None:
        if self.optimizer is None:
            raise NotCompiledError(f"{what}() needs a loss: call compile(optimizer=..., loss=...) first")
        if self.loss is None:
            raise NotCompiledError(f"{what}() needs a loss: give compile() one, such as loss='mse'")

    # -- metrics

    def reset_metrics(self) -> None:
        """Forget the running means of loss and metrics."""
        self._loss_total = self._loss_count = 0.0
        for metric in self._all_metrics():
            metric.reset_state()

    def _all_metrics(self) -> list[Any]:
        return [*(self._metrics or ()), *self._weighted]

    @property
    def metrics_names(self) -> list[str]:
        """Names of loss and metrics, in the order of what :meth:`evaluate` returns."""
        return ["loss", *(m.name for m in self._all_metrics())]

    def _resolve(self, y: Any, y_pred: np.ndarray) -> None:
        if isinstance(self.loss, str):
            y = np.asarray(y)
            if y_pred.shape[-1] == 1:
                name = "binary_crossentropy"
            elif y.ndim < y_pred.ndim or y.shape[-1] == 1:
                name = "sparse_categorical_crossentropy"
            else:
                name = "categorical_crossentropy"
            self.loss = losses.get(name)
        self._metrics, self._weighted = (
            [metrics.resolve(m, y, y_pred) for m in names] for names in self._metric_names
        )
        seen: set[str] = {"loss"}
        for metric in self._all_metrics():
            name, number = metric.name, 0
            while metric.name in seen:
                number += 1
                metric.name = f"{name}_{number}"
            seen.add(metric.name)

    def _account(
        self, loss: float, y: Any, y_pred: np.ndarray, weight: Any, mask: Any, piece: Piece | None = None
    ) -> None:
        n, plain = float(len(y_pred)), None
        if piece is not None:
            n *= piece.share
            plain = np.full(len(y_pred), piece.span)
            weight = plain if weight is None else np.asarray(weight) * piece.span
        self._loss_total += loss * n
        self._loss_count += n
        for metric in self._metrics:  # type: ignore[union-attr]
            metric.update_state(y, y_pred, plain, mask)
        for metric in self._weighted:
            metric.update_state(y, y_pred, weight, mask)

    def _logs(self) -> dict[str, float]:
        logs = {"loss": self._loss_total / self._loss_count if self._loss_count else 0.0}
        for metric in self._all_metrics():
            logs[metric.name] = metric.result()
        return logs

    # -- steps

    def _loss_of(
        self, x: Any, mask: Any, y: Any, weight: Any, training: bool
    ) -> tuple[float, np.ndarray, Any, Any, Any, bool]:
        """One pass forward: loss, outputs, mask, gradient, caches, and whether the gradient is that of logits."""
        if y is None:
            raise ValueError("y is missing: training and evaluation need targets")
        want = isinstance(self.loss, losses.Loss) and self.loss.logit_activation is not None
        given = mask
        y_pred, mask, logits, caches, penalty = self.run(x, given, training, want, y)
        if self._metrics is None:
            self._resolve(y, y_pred)
        if given is not None and mask is None and not np.any(given, axis=1).all():
            # A sequence without a step has no output to judge.
            mask = np.any(given, axis=1)
        if logits is not None and self.loss.logit_activation != self._last_activation:
            logits = None
        if training:
            loss, grad = self.loss.value_and_grad(y, y_pred, weight, mask, logits)
        else:
            loss, grad = self.loss.value(y, y_pred, weight, mask, logits), None
        if self._loss_weight is not None:
            loss *= self._loss_weight
            if grad is not None:
                grad *= grad.dtype.type(self._loss_weight)
        return loss + penalty, y_pred, mask, grad, caches, logits is not None

    @property
    def _last_activation(self) -> str | None:
        return self.layers[-1].output_activation

    def compute_gradients(self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None) -> float:
        """Write the gradient of the loss of one batch into ``grads`` and return the loss."""
        self._need("compute_gradients")
        batch = self._batch_of(x, y, sample_weight, mask)
        loss, _, _, grad, caches, from_logits = self._loss_of(*batch, True)
        self.back(grad, caches, from_logits)
        return loss

    def train_step(
        self, x: Any, y: Any, sample_weight: Any = None, mask: Any = None, n_steps: int | None = None
    ) -> float:
        """Make one update from a batch and return its loss; metrics are accounted for.

        Parameters
        ----------
        x, y, sample_weight, mask
            As the layers and the loss take them.
        n_steps : int, optional
            Truncate backpropagation through time: make one update from each piece of so many steps, in the order of
            time, each starting from the states that the piece before ended with. The loss is then the mean over the
            pieces. The model must take it, see `fit`.

        Raises
        ------
        NonFiniteLossError
            If loss or gradient are not finite. The weights are those before the call, or before the piece.
        """
        if n_steps is None or x.shape[1] <= n_steps:
            return self._step(x, y, sample_weight, mask)
        total = 0.0
        with carried_states(self.layers):
            for piece in cut(x, y, sample_weight, mask, n_steps):
                total += piece.share * self._step(*piece[:4], piece)
        return total

    # Numbers that overflow are found and told of below; NumPy's warnings would only come on top.
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _step(self, x: Any, y: Any, sample_weight: Any, mask: Any, piece: Piece | None = None) -> float:
        """One update from a batch, or from the arrays of a piece of one."""
        loss, y_pred, out_mask, grad, caches, from_logits = self._loss_of(x, mask, y, sample_weight, True)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss became {loss}; the weights were left as they were. {_HELP}.")
        if piece is not None and out_mask is not None and not out_mask.any():
            # A layer masked all of it: moments of the optimizer must not move the weights for nothing.
            return loss
        self.back(grad, caches, from_logits)
        plan = self.plan
        for start, stop in plan.runs:
            self._check_gradient(self.grads[start:stop])
        for table in plan.tables:
            grads = self.grads[table.start : table.stop].reshape(table.shape)
            self._check_gradient(grads[table.rows()].ravel())
        self.optimizer.apply(self.params, self.grads, plan)
        self.constrain()
        self.weights_changed()
        self._account(loss, y, y_pred, sample_weight, out_mask, piece)
        return loss

    def constrain(self) -> None:
        """Project the weights onto what their constraints allow; given by the model."""
        raise NotImplementedError

    @staticmethod
    def _check_gradient(grads: np.ndarray) -> None:
        if not all_finite(grads):
            raise NonFiniteLossError(
                f"a gradient became NaN or infinite; the weights were left as they were. {_HELP}."
            )

    def _input(self, x: Any) -> Any:
        x = self.layers[0].as_input(x) if self.layers else np.asarray(x)
        self._ensure_ready((None, *x.shape[1:]))
        return x

    def _batch_of(self, x: Any, y: Any, sample_weight: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
        """``x, mask, y, sample_weight`` of a single batch as arrays; of a Ragged the mask is its own, unless given."""
        x, real = _whole(x)
        y, sample_weight = (
            None if part is None else np.asarray(_whole(part)[0]) for part in (y, sample_weight)
        )
        return self._input(x), real if mask is None else mask, y, sample_weight

    # -- fitting

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Any] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        truncated_bptt_steps: int | None = None,
    ) -> History:
        """Train for a number of epochs.

        Parameters
        ----------
        x : array of shape (samples, time, features) or (samples, time), Ragged, or iterable of batches
        y : array_like
            Targets.
        batch_size : int, optional
            32 by default.
        epochs : int
            Where to stop, counted from 0, not from `initial_epoch`.
        verbose : {"auto", 0, 1, 2}
            Silent, a progress bar, or one line for each epoch.
        callbacks : list of Callback, optional
        validation_split : float
            Share of the samples, the last ones, that is held back for validation.
        validation_data : tuple, optional
            ``(x, y)`` or ``(x, y, sample_weight)``.
        shuffle : bool or "batch"
            Whether samples come in another random order at each epoch; ``"batch"`` shuffles within batches.
        class_weight : dict of int to float, optional
        sample_weight : array_like, optional
            One weight for each sample, or for each of its time steps.
        initial_epoch : int
        steps_per_epoch, validation_steps : int, optional
            Stop after so many batches.
        validation_batch_size : int, optional
        validation_freq : int or sequence of int
            Validate each so many epochs, or after these (counted from 1).
        truncated_bptt_steps : int, optional
            Truncated backpropagation through time: cut the sequences of each batch into pieces of so many steps. The
            pieces are trained on one after the other, one update each. States go on from piece to piece, gradients
            stop at the border, so that memory is that of a piece. Each batch starts from zero states (stateful layers
            from those of the batch before). Needs an output and a target for every step. For sequences of no more
            steps it changes nothing; by default gradients go all the way. Callbacks are called once for a batch.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            If the loss stops being finite. The model keeps the weights of the last good epoch.

        References
        ----------
        Williams, R. J. & Peng, J. (1990). An efficient gradient-based algorithm for on-line training of recurrent
        network trajectories. Neural Computation 2(4), 490-501.
        """
        self._need("fit")
        data, validation = self._data(
            x,
            y,
            batch_size,
            validation_split,
            validation_data,
            class_weight,
            sample_weight,
            validation_batch_size,
        )
        if truncated_bptt_steps is not None:
            truncated_bptt_steps = check_pieces(self.layers, data.shape, truncated_bptt_steps)
        self._ensure_ready(data.shape)
        for part in (data, validation):
            self._attach(part)
        history = History()
        if self.history is not None:
            self.history.model = None
        self.history = history
        verbose = 1 if verbose == "auto" else int(verbose)
        steps = data.n_batches if steps_per_epoch is None else steps_per_epoch
        every = [history, *(callbacks or ())]
        calls = CallbackList(
            [*every, Progress(verbose)] if verbose else every,
            self,
            {"verbose": verbose, "epochs": epochs, "steps": steps},
        )
        self.stop_training = False
        logs: dict[str, float] = {}
        calls.call("on_train_begin", {})
        before = good = self.snapshot()
        stream = _restarting(data, self._rng, shuffle) if steps_per_epoch is not None else None
        try:
            for epoch in range(initial_epoch, epochs):
                self.reset_metrics()
                calls.call("on_epoch_begin", epoch, {})
                batches = data.epoch(self._rng, shuffle) if stream is None else stream
                updates = self.optimizer.iterations
                try:
                    self._epoch(batches, calls, steps_per_epoch, truncated_bptt_steps)
                    self.check_weights()
                except NonFiniteLossError as error:
                    # Where the first update fails, what the epoch started from is not good either.
                    self.restore(before if self.optimizer.iterations == updates else good)
                    handlers = [c for c in calls.callbacks if hasattr(c, "on_non_finite_loss")]
                    if not handlers:
                        raise NonFiniteLossError(
                            f"in epoch {epoch + 1}: {str(error).split(';')[0]}; the last good weights were put back. "
                            f"{_HELP}."
                        ) from error
                    for handler in handlers:
                        handler.on_non_finite_loss(self._batch)
                    break
                logs = self._logs()
                if validation is not None and _due(epoch, validation_freq):
                    found = self._evaluate(validation, validation_steps, calls)
                    logs.update({f"val_{key}": value for key, value in found.items()})
                calls.call("on_epoch_end", epoch, logs)
                if self.stop_training:
                    break
                before, good = good, self.snapshot()
        finally:
            # Also after Ctrl-C: callbacks close their files, and the model can be used and trained on.
            calls.call("on_train_end", logs)
        return history

    def _attach(self, data: Batches | None) -> None:
        """Tell batches that continue each other whose states to reset where they start anew."""
        if data is not None and hasattr(data.x, "attach"):
            data.x.attach(self)

    def snapshot(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Return copies of the weights and of the optimizer's state, for :meth:`restore`."""
        return self.params.copy(), self.optimizer.get_state()

    def restore(self, kept: tuple[np.ndarray, dict[str, Any]]) -> None:
        """Put back what :meth:`snapshot` returned."""
        self.params[...] = kept[0]
        self.optimizer.set_state(kept[1])
        self.weights_changed()

    def check_weights(self) -> None:
        """Raise `NonFiniteLossError` if a weight is not finite, which the loss shows at the next batch only."""
        if not all_finite(self.params):
            raise NonFiniteLossError("a weight became NaN or infinite")

    def _epoch(
        self, batches: Iterator[Any], calls: CallbackList, limit: int | None, n_steps: int | None
    ) -> None:
        prepare = self.layers[0].as_input
        i = 0
        for x, mask, y, weight in batches:
            self._batch = i
            calls.batch("train_begin", i, dict)
            self.train_step(prepare(x), y, weight, mask, n_steps)
            calls.batch("train_end", i, self._logs)
            i += 1
            if i == limit or self.stop_training:
                break
        if i == 0:
            raise ValueError("x gave no batches: an iterable must start anew each time it is gone through")

    def _data(
        self,
        x: Any,
        y: Any,
        batch_size: int | None,
        validation_split: float,
        validation_data: Any,
        class_weight: Mapping[int, float] | None,
        sample_weight: Any,
        validation_batch_size: int | None,
    ) -> tuple[Batches, Batches | None]:
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError("give either class_weight or sample_weight, not both")
            if y is None or _is_ragged(y):
                raise ValueError("class_weight needs y as an array; give sample_weight instead")
        data = Batches(x, y, sample_weight, batch_size)
        validation = None
        if validation_data is not None:
            if _is_stream(validation_data) or not isinstance(validation_data, (tuple, list)):
                validation = Batches(validation_data)
            elif len(validation_data) in (2, 3):
                size = validation_batch_size or (None if data.stream else data.batch_size)
                xv, yv, weights = (*validation_data, None)[:3]
                validation = Batches(xv, yv, weights, size)
            else:
                raise ValueError(
                    f"validation_data has {len(validation_data)} parts: give (x, y) or (x, y, sample_weight)"
                )
        elif validation_split:
            data, validation = data.split(validation_split)
            validation.batch_size = validation_batch_size or validation.batch_size
        if class_weight is not None:
            # Only of what is trained on, so that validation compares with runs without weights.
            weights = class_weights(data.y, class_weight)
            data = Batches(data.x, data.y, weights, data.batch_size, data.start, data.stop)
        return data, validation

    # -- evaluation and prediction

    def _evaluate(
        self, data: Batches, steps: int | None = None, calls: CallbackList | None = None
    ) -> dict[str, float]:
        self.reset_metrics()
        if calls is not None:
            calls.call("on_test_begin", {})
        for i, (x, mask, y, weight) in enumerate(data.epoch()):
            if i == steps:
                break
            if calls is not None:
                calls.batch("test_begin", i, dict)
            x = self.layers[0].as_input(x)
            loss, y_pred, out_mask, *_ = self._loss_of(x, mask, y, weight, False)
            self._account(loss, y, y_pred, weight, out_mask)
            if calls is not None:
                calls.batch("test_end", i, self._logs)
        logs = self._logs()
        if calls is not None:
            calls.call("on_test_end", logs)
        return logs

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Compute loss and metrics.

        Returns
        -------
        float, list of float, or dict
            The loss; with metrics a list that starts with it; with `return_dict` all by name.
        """
        self._need("evaluate")
        data = Batches(x, y, sample_weight, batch_size)
        self._ensure_ready(data.shape)
        self._attach(data)
        calls = CallbackList(callbacks or (), self, {"verbose": 0, "steps": data.n_batches})
        logs = self._evaluate(data, steps, calls)
        if verbose not in (0, "auto"):
            print(", ".join(f"{key}={value:.4g}" for key, value in logs.items()))
        return logs if return_dict else _values(logs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        mask: Any = None,
    ) -> np.ndarray:
        """Compute the outputs for many samples.

        Parameters
        ----------
        x : array, Ragged or iterable of batches
        batch_size : int, optional
            By default 32 in stateful models, 256 otherwise; results don't depend on it.
        verbose, steps, callbacks
            As in :meth:`fit`; ``"auto"`` is silent.
        mask : array of bool of shape (samples, time), optional

        Returns
        -------
        ndarray
            For a Ragged input with an output for each step, padding is zero.
        """
        longest = int(x.lengths.max()) if _is_ragged(x) and len(x) else None
        return self._predict(
            lambda part, m: self.run(part, m, False, False)[0], x, batch_size, steps, callbacks, mask, longest
        )

    def _predict(
        self,
        compute: Callable[[Any, Any], np.ndarray],
        x: Any,
        batch_size: int | None,
        steps: int | None,
        callbacks: Sequence[Any] | None,
        mask: Any,
        longest: int | None = None,
    ) -> np.ndarray:
        """Join what `compute` gives for each batch; `longest`: the steps of its outputs where batches differ in them."""
        self._need_layers()
        if batch_size is None and not _is_stream(x):
            batch_size = 32 if any(getattr(layer, "stateful", False) for layer in self.layers) else 256
        # The mask takes the place of weights: it is cut into the same batches.
        data = Batches(x, None, mask, batch_size)
        self._ensure_ready(data.shape)
        self._attach(data)
        calls = CallbackList(callbacks or (), self, {"verbose": 0, "steps": data.n_batches})
        calls.call("on_predict_begin", {})
        parts: list[np.ndarray] = []
        whole: np.ndarray | None = None
        at = 0
        prepare = self.layers[0].as_input
        for i, (batch, batch_mask, _, given) in enumerate(data.epoch()):
            if i == steps:
                break
            calls.batch("predict_begin", i, dict)
            if data.stream:
                given = None  # what comes along with batches are weights
            y = compute(prepare(batch), given if given is not None else batch_mask)
            calls.batch("predict_end", i, dict)
            if data.stream or (steps is not None):
                parts.append(np.array(y))
                continue
            if whole is None:
                n_steps = y.shape[1:2] if longest is None or y.ndim < 3 else (longest,)
                whole = np.zeros((data.n, *n_steps, *y.shape[2:]), y.dtype)
            if y.ndim > 2:
                whole[at : at + len(y), : y.shape[1]] = y
            else:
                whole[at : at + len(y)] = y
            at += len(y)
        calls.call("on_predict_end", {})
        if whole is None:
            if not parts:
                raise ValueError("x gave no batches")
            if len({part.shape[1:] for part in parts}) > 1:
                raise ValueError(
                    "the batches of x have unequal numbers of steps, so their outputs don't fit together: call "
                    "predict_on_batch for each"
                )
            whole = np.concatenate(parts)
        return whole

    def _need_layers(self) -> None:
        if not self.layers:
            raise ValueError("the model has no layers: add some first")

    # -- single batches

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
        mask: Any = None,
    ) -> Any:
        """Make one update from a batch.

        Returns
        -------
        float, list of float, or dict
            Loss and metrics of this batch, as :meth:`evaluate` returns them.
        """
        self._need("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError("give either class_weight or sample_weight, not both")
            sample_weight = class_weights(y, class_weight)
        self.reset_metrics()
        x, mask, y, sample_weight = self._batch_of(x, y, sample_weight, mask)
        self.train_step(x, y, sample_weight, mask)
        logs = self._logs()
        return logs if return_dict else _values(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, mask: Any = None
    ) -> Any:
        """Compute loss and metrics of a batch; returns as :meth:`train_on_batch`."""
        self._need("test_on_batch")
        self.reset_metrics()
        x, mask, y, sample_weight = self._batch_of(x, y, sample_weight, mask)
        loss, y_pred, out_mask, *_ = self._loss_of(x, mask, y, sample_weight, False)
        self._account(loss, y, y_pred, sample_weight, out_mask)
        logs = self._logs()
        return logs if return_dict else _values(logs)

    def predict_on_batch(self, x: Any, mask: Any = None) -> np.ndarray:
        """Compute the outputs for a batch."""
        self._need_layers()
        x, mask, *_ = self._batch_of(x, None, None, mask)
        return self.run(x, mask, False, False)[0]


def _values(logs: dict[str, float]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _check_metric(name: Any) -> None:
    if not (isinstance(name, str) and name.lower() in ("accuracy", "acc")):
        metrics.get(name)


def _due(epoch: int, frequency: Any) -> bool:
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else epoch + 1 in frequency


def _restarting(data: Batches, rng: np.random.Generator, shuffle: bool | str) -> Iterator[Any]:
    """Batches without end, for epochs that are counted in steps."""
    while True:
        empty = True
        for batch in data.epoch(rng, shuffle):
            empty = False
            yield batch
        if empty:
            return

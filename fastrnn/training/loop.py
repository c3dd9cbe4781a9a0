"""Training over epochs, evaluation and prediction.

:class:`Trainer` is the half of a model that trains; the other half (``model.py``) knows the layers. What a single batch
does stands in ``_training_steps``, how data become batches in ``_training_data``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import as_array, flag, integer, real_array
from fastrnn.exceptions import NonFiniteLossError
from fastrnn.layers.arrays import check_mask
from fastrnn.losses import Loss
from fastrnn.training.callback import CallbackList, History, check_callbacks
from fastrnn.training.checks import (
    check_class_weight,
    check_schedule_of_fit,
    check_targets,
    check_verbose,
    check_weights,
    states_kept_on_error,
)
from fastrnn.training.data import Batches, class_weights, is_ragged, is_stream, restarting, training_data
from fastrnn.training.progress import Progress
from fastrnn.training.step import HELP, Steps, by_position
from fastrnn.training.truncation import check_pieces

__all__ = ["Batches", "Trainer", "class_weights"]


class Trainer(Steps):
    """Fitting, evaluating and predicting."""

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
        self._need_layers()
        verbose, callbacks = check_verbose(verbose), check_callbacks(callbacks)
        check_schedule_of_fit(
            epochs,
            initial_epoch,
            shuffle,
            validation_split,
            validation_freq,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        check_class_weight(class_weight)
        data, validation = training_data(
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
        for part in (data, validation):
            self._check_data(part)
        self._ensure_ready(data.shape)
        for part in (data, validation):
            self._attach(part)
        history = History()
        if self.history is not None:
            self.history.model = None
        self.history = history
        verbose = 1 if verbose == "auto" else int(verbose)
        steps = data.n_batches if steps_per_epoch is None else steps_per_epoch
        every = [history, *callbacks]
        calls = CallbackList(
            [*every, Progress(verbose)] if verbose else every,
            self,
            {"verbose": verbose, "epochs": epochs, "steps": steps},
        )
        self.stop_training = False
        logs: dict[str, float] = {}
        calls.call("on_train_begin", {})
        before = good = self.snapshot()
        stream = restarting(data, self._rng, shuffle) if steps_per_epoch is not None else None
        try:
            for epoch in range(initial_epoch, epochs):
                self.reset_metrics()
                calls.call("on_epoch_begin", epoch, {})
                batches = data.epoch(self._rng, shuffle) if stream is None else stream
                updates = self.optimizer.iterations
                try:
                    self._epoch(batches, self._prepare(data), calls, steps_per_epoch, truncated_bptt_steps)
                    self.check_weights()
                except NonFiniteLossError as error:
                    # Where the first update fails, what the epoch started from is not good either.
                    self.restore(before if self.optimizer.iterations == updates else good)
                    handlers = [c for c in calls.callbacks if hasattr(c, "on_non_finite_loss")]
                    if not handlers:
                        raise NonFiniteLossError(
                            f"in epoch {epoch + 1}: {str(error).split(';')[0]}; the last good weights were put back. "
                            f"{HELP}."
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

    def _check_data(self, data: Batches | None) -> None:
        """Raise what the first batch would raise."""
        if data is None:
            return
        y, weight = data.y, data.sample_weight
        if data.stream:
            _, y, weight = (*data._first, None, None)[:3]
        if y is None:
            raise ValueError("y is missing: training and evaluation need targets")
        output = self._expect(data.shape)
        if output is not None and isinstance(self.loss, Loss):
            if not is_ragged(y):
                y = as_array(y, "y")
            check_targets(self.loss, y, check_weights(weight), output, self.layers[0].dtype)

    def _attach(self, data: Batches | None) -> None:
        """Tell batches that continue each other whose states to reset where they start anew."""
        if data is not None and hasattr(data.x, "attach"):
            data.x.attach(self)

    def _prepare(self, data: Batches) -> Callable[[Any], Any]:
        """What makes an input of what `data` gives; each batch of an iterable may have another shape."""
        return self._input if data.stream else self.layers[0].as_input

    def _epoch(
        self,
        batches: Iterator[Any],
        prepare: Callable[[Any], Any],
        calls: CallbackList,
        limit: int | None,
        n_steps: int | None,
    ) -> None:
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

    # -- evaluation and prediction

    def _evaluate(
        self, data: Batches, steps: int | None = None, calls: CallbackList | None = None
    ) -> dict[str, float]:
        self.reset_metrics()
        if calls is not None:
            calls.call("on_test_begin", {})
        prepare = self._prepare(data)
        for i, (x, mask, y, weight) in enumerate(data.epoch()):
            if i == steps:
                break
            if calls is not None:
                calls.batch("test_begin", i, dict)
            x = prepare(x)
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
        self._need_layers()
        verbose, return_dict = check_verbose(verbose), flag(return_dict, "return_dict")
        integer(steps, "steps", optional=True)
        data = Batches(x, y, sample_weight, batch_size)
        self._check_data(data)
        self._ensure_ready(data.shape)
        self._attach(data)
        calls = CallbackList(check_callbacks(callbacks), self, {"verbose": 0, "steps": data.n_batches})
        with states_kept_on_error(self.layers):
            logs = self._evaluate(data, steps, calls)
        if verbose not in (0, "auto"):
            print(", ".join(f"{key}={value:.4g}" for key, value in logs.items()))
        return logs if return_dict else by_position(logs)

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
        check_verbose(verbose)
        longest = int(x.lengths.max()) if is_ragged(x) and len(x) else None
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
        integer(steps, "steps", optional=True)
        callbacks = check_callbacks(callbacks)
        if mask is not None:
            if is_stream(x) or is_ragged(x):
                raise ValueError(
                    "mask: leave it out where x is an iterable of batches, or Ragged, which says itself which steps "
                    "are real"
                )
            mask = check_mask(mask, real_array(x).shape)
        if batch_size is None and not is_stream(x):
            batch_size = 32 if any(getattr(layer, "stateful", False) for layer in self.layers) else 256
        # The mask takes the place of weights: it is cut into the same batches.
        data = Batches(x, None, mask, batch_size)
        self._expect(data.shape)
        self._ensure_ready(data.shape)
        self._attach(data)
        calls = CallbackList(callbacks, self, {"verbose": 0, "steps": data.n_batches})
        with states_kept_on_error(self.layers):
            return self._join(compute, data, steps, calls, longest)

    def _join(
        self,
        compute: Callable[[Any, Any], np.ndarray],
        data: Batches,
        steps: int | None,
        calls: CallbackList,
        longest: int | None,
    ) -> np.ndarray:
        """The outputs of all batches, one after another."""
        calls.call("on_predict_begin", {})
        parts: list[np.ndarray] = []
        whole: np.ndarray | None = None
        at = 0
        prepare = self._prepare(data)
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


def _due(epoch: int, frequency: Any) -> bool:
    return epoch + 1 in frequency if isinstance(frequency, Sequence) else (epoch + 1) % frequency == 0

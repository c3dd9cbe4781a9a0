"""Callbacks: the base class, the list that training calls, and the history that every `fit` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Callback", "CallbackList", "History", "TerminateOnNaN", "check_callbacks"]

Logs = dict[str, float]


class Callback:
    """Base class: every hook does nothing.

    Attributes
    ----------
    model : Sequential
        Set before training starts.
    params : dict
        ``verbose``, ``epochs``, ``steps``, and ``do_validation``: whether there are validation data.

    Examples
    --------
    >>> from fastrnn.callbacks import Callback
    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, "of", self.params["epochs"], sorted(logs))
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[Shout()])
    epoch 0 of 2 ['loss']
    epoch 1 of 2 ['loss']
    """

    #: Batches after which `after_batch` is called, with a function that computes the logs when they are needed:
    #: "train_end", "test_end", "predict_end" or None.
    shown_batches: str | None = None

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.model: Any = None

    def after_batch(self, batch: int, logs: Callable[[], Logs]) -> None:
        """Show the progress after one of `shown_batches`."""

    def close(self) -> None:
        """Remove what `after_batch` shows, when the work ends or fails."""

    def set_params(self, params: dict[str, Any]) -> None:
        """Set the parameters of the call of `fit`."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Set the model."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run after the last epoch, also when training was interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before each epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after each epoch, with its loss and metrics."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each training batch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each training batch, with the means of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before an evaluation, including validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each batch of an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each batch of a prediction."""

    def on_non_finite_loss(self, batch: int) -> None:
        """Run if loss or weights are not finite. If a callback overrides this method, training ends without an error."""


_BATCH_HOOKS = {
    "train_begin": ("on_train_batch_begin", "on_batch_begin"),
    "train_end": ("on_train_batch_end", "on_batch_end"),
    "test_begin": ("on_test_batch_begin",),
    "test_end": ("on_test_batch_end",),
    "predict_begin": ("on_predict_batch_begin",),
    "predict_end": ("on_predict_batch_end",),
}


class CallbackList:
    """Calls hooks of several callbacks; those of batches only where one overrides them.

    Examples
    --------
    >>> from fastrnn.callbacks import CallbackList, LambdaCallback
    >>> calls = CallbackList([LambdaCallback(on_train_begin=lambda logs: print("begin"))], None, {})
    >>> calls.call("on_train_begin", {})
    begin
    """

    def __init__(self, callbacks: Sequence[Any], model: Any, params: dict[str, Any]) -> None:
        self.callbacks, self.params = check_callbacks(callbacks), params
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self._listeners: dict[str, list[Callable[..., Any]]] = {
            when: [getattr(c, names[0]) for c in self.callbacks if any(_overrides(c, n) for n in names)]
            for when, names in _BATCH_HOOKS.items()
        }
        self._bars = [c for c in self.callbacks if isinstance(c, Callback) and c.shown_batches]

    def call(self, hook: str, *args: Any) -> None:
        """Call `hook` of each callback."""
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        """Close the bars, also after an error."""
        for bar in self._bars:
            bar.close()

    def non_finite_loss(self, batch: int) -> bool:
        """Call the callbacks that override `on_non_finite_loss`; return whether there are any."""
        handlers = [c for c in self.callbacks if _overrides(c, "on_non_finite_loss")]
        for handler in handlers:
            handler.on_non_finite_loss(batch)
        return bool(handlers)

    @property
    def follows_training_batches(self) -> bool:
        """Whether a callback or a bar is to be called for each training batch."""
        hooks = self._listeners["train_begin"] or self._listeners["train_end"]
        return bool(hooks) or any(bar.shown_batches == "train_end" for bar in self._bars)

    def batch(self, when: str, batch: int, logs: Callable[[], Logs]) -> None:
        """Call a batch hook; `logs` is called only if a callback overrides the hook."""
        for bar in self._bars:
            if bar.shown_batches == when:
                bar.after_batch(batch, logs)
        listeners = self._listeners[when]
        if listeners:
            current = logs()
            for listener in listeners:
                listener(batch, current)


def check_callbacks(callbacks: Any) -> list[Any]:
    """`callbacks` as a list, empty for None; raises if they are not callbacks."""
    if callbacks is None:
        return []
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks={callbacks!r}: give a list of callbacks")
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"callbacks holds the class {callback.__name__}: give an instance of it")
        if not all(hasattr(callback, name) for name in ("on_epoch_end", "set_model", "set_params")):
            raise TypeError(
                f"callbacks holds {callback!r}: give objects with the hooks of fastrnn.callbacks.Callback"
            )
    return list(callbacks)


def _overrides(callback: Any, hook: str) -> bool:
    if hook in vars(callback):
        return True
    method = getattr(type(callback), hook, None)
    return method is not None and method is not getattr(Callback, hook)


class History(Callback):
    """Records loss and metrics of each epoch; every `fit` returns one.

    If `on_epoch_end` is called twice for an epoch, the values of the second call replace those of the first.

    Attributes
    ----------
    history : dict of str to list of float
    epoch : list of int

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0)
    >>> history.epoch, len(history.history["loss"])
    ([0, 1], 2)
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        #: Names of the values that were recorded for the last epoch.
        self._recorded: set[str] = set()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if self.epoch[-1:] != [epoch]:
            self.epoch.append(epoch)
            self._recorded = set()
        for key, value in logs.items():
            values = self.history.setdefault(key, [])
            if key in self._recorded:
                values[-1] = value
            else:
                values.append(value)
        self._recorded.update(logs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": None}


class TerminateOnNaN(Callback):
    """Ends training without an error when the loss is NaN or infinite.

    Without this callback, `fit` raises :class:`~fastrnn.exceptions.NonFiniteLossError`. In both cases the model's last
    finite weights are restored.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.callbacks import TerminateOnNaN
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> targets = np.full((4, 1), np.inf)
    >>> history = model.fit(np.ones((4, 2)), targets, epochs=9, verbose=0, callbacks=[TerminateOnNaN()])
    >>> history.epoch
    []
    """

    def on_non_finite_loss(self, batch: int) -> None:
        """Print a message; `fit` calls this instead of raising the error."""
        print(f"Batch {batch}: the loss is not finite, training ends", file=sys.stderr)
        self.model.stop_training = True

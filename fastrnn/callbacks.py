"""Callbacks of training, with Keras's hooks.

A callback of your own is a subclass of :class:`Callback` that overrides some hooks. Hooks of batches are called only where
a callback overrides them.
"""

from __future__ import annotations

import csv
import inspect
import math
import os
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.checks import flag, integer, number
from fastrnn.registry import choices
from fastrnn.schedules import LearningRateSchedule
from fastrnn.training.callback import Callback, CallbackList, History, Logs, TerminateOnNaN
from fastrnn.training.monitor import Monitor
from fastrnn.training.progress import Progress

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "Progress",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]


class EarlyStopping(Monitor):
    """Stops training when a quantity no longer improves.

    Parameters
    ----------
    monitor : str
        Key of the epoch's logs, such as "loss", "val_loss" or ``val_`` and the name of a metric.
    min_delta : float
        Smallest change that is an improvement.
    patience : int
        Training stops after this number of epochs without an improvement.
    verbose : int
        Whether to print when training stops and weights are restored: 0 or 1.
    mode : {"auto", "min", "max"}
        Whether a smaller or a larger value is better. "auto" means "min" for the loss, and the `direction` of a
        metric.
    baseline : float, optional
        An epoch that is not better than this does not reset the count of epochs without an improvement.
    restore_best_weights : bool
        End with the weights of the best epoch.
    start_from_epoch : int
        The first epoch that is compared, counted from 0.

    Attributes
    ----------
    stopped_epoch : int
        The epoch after which training stopped, counted from 0; 0 if it did not stop.
    best_epoch : int
        The epoch with the best value.

    Raises
    ------
    ValueError
        By `fit`, if ``mode="auto"`` and the metric does not declare a direction.

    Examples
    --------
    >>> from fastrnn import callbacks
    >>> callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True).patience
    3
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose = integer(patience, "patience", 0), verbose
        self.baseline = number(baseline, "baseline", optional=True)
        self.restore_best_weights = flag(restore_best_weights, "restore_best_weights")
        self.start_from_epoch = integer(start_from_epoch, "start_from_epoch", 0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = math.nan
        self.best_weights: np.ndarray | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            # If nothing ever improves, the first epoch was the best.
            self.best_weights, self.best_epoch = self.model.params.copy(), epoch
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.params.copy()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                print(f"Weights of the best epoch restored: {self.best_epoch + 1}")
            self.model.params = self.best_weights

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": None}


def _path(value: Any, name: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name}={value!r}: give a path")
    return os.fspath(value)


def _check_settable(callback: Callback) -> None:
    """Raise unless the optimizer's learning rate can be set."""
    if isinstance(callback.model.optimizer._schedule, LearningRateSchedule):
        raise TypeError(
            f"{type(callback).__name__} sets the learning rate, which follows a schedule: give the optimizer a number, "
            "or leave the callback out"
        )


class ModelCheckpoint(Monitor):
    """Saves the model, or its weights, as training goes on.

    Parameters
    ----------
    filepath : str or path
        May contain fields such as ``{epoch:02d}`` and ``{val_loss:.3f}``. If the program is killed while a file is
        written, the previous file of that name is left unchanged.
    monitor : str
        Key of the logs, with `save_best_only`.
    verbose : int
        Whether to print when a file is written: 0 or 1.
    save_best_only : bool
        Save only if the value is better than at the last saving.
    save_weights_only : bool
        Save by ``model.save_weights``; by default by ``model.save``.
    mode : {"auto", "min", "max"}
        As for :class:`EarlyStopping`.
    save_freq : "epoch" or int
        Save after each epoch, or after each `save_freq` batches.
    initial_value_threshold : float, optional
        With `save_best_only`, the model is saved only if the value is better than this.

    Examples
    --------
    >>> import tempfile, os
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.callbacks import ModelCheckpoint
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> folder = tempfile.mkdtemp()
    >>> saving = ModelCheckpoint(os.path.join(folder, "best-{epoch:02d}.fastrnn"), monitor="loss")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[saving])
    >>> sorted(os.listdir(folder))
    ['best-01.fastrnn', 'best-02.fastrnn']
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch":
            try:
                save_freq = integer(save_freq, "save_freq")
            except ValueError:
                raise ValueError(
                    f"save_freq={save_freq!r}: give 'epoch' or a positive number of batches"
                ) from None
        self.filepath = _path(filepath, "filepath")
        try:
            list(string.Formatter().parse(self.filepath))
        except ValueError as error:
            raise ValueError(
                f"filepath={filepath!r}: {error}; write fields as {{epoch:02d}}, and a brace itself twice"
            ) from None
        self.verbose = verbose
        self.save_best_only = flag(save_best_only, "save_best_only")
        self.save_weights_only = flag(save_weights_only, "save_weights_only")
        self.save_freq = save_freq
        if initial_value_threshold is not None:
            self.best = number(initial_value_threshold, "initial_value_threshold")
        self._epoch = self._batches = 0
        if save_freq != "epoch":
            self.on_train_batch_end = self._after_batch  # type: ignore[method-assign]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _after_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % self.save_freq == 0:  # type: ignore[operator]
            self._save(self._epoch, logs or {})

    def _save(self, epoch: int, logs: Logs) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if value is None or not self._better(value, self.best):
                return
            self.best = value
        try:
            path = Path(self.filepath.format(epoch=epoch + 1, **logs))
        except KeyError as error:
            raise KeyError(
                f"filepath={self.filepath!r} names {error}, which is not among {['epoch', *logs]}"
            ) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saving to {path}")
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)


class ReduceLROnPlateau(Monitor):
    """Lowers the learning rate when a quantity no longer improves.

    Parameters
    ----------
    monitor : str
        Key of the epoch's logs.
    factor : float
        The rate is multiplied by this number; at least 0 and below 1.
    patience : int
        The rate is lowered after this number of epochs without an improvement.
    verbose : int
        Whether to print when the rate is lowered: 0 or 1.
    mode : {"auto", "min", "max"}
        As for :class:`EarlyStopping`.
    min_delta : float
        Smallest change that is an improvement.
    cooldown : int
        Number of epochs after a reduction in which epochs without an improvement are not counted.
    min_lr : float
        The rate is not lowered below it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.callbacks import ReduceLROnPlateau
    >>> model = Sequential([layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile("sgd", "mse")  # the targets are met from the start, so that no epoch improves
    >>> lower = ReduceLROnPlateau("loss", factor=0.5, patience=1)
    >>> history = model.fit(np.ones((4, 2)), np.zeros((4, 1)), epochs=3, verbose=0, callbacks=[lower])
    >>> float(model.optimizer.learning_rate)
    0.0025
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = number(factor, "factor", 0, 1, below=True)
        self.patience, self.verbose = integer(patience, "patience", 0), verbose
        self.cooldown, self.min_lr = integer(cooldown, "cooldown", 0), number(min_lr, "min_lr", 0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        _check_settable(self)
        self.wait = self.cooldown_counter = 0
        self.best = math.nan

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                old = self.model.optimizer.learning_rate
                if old > self.min_lr:
                    new = max(old * self.factor, self.min_lr)
                    self.model.optimizer.learning_rate = new
                    if self.verbose:
                        print(f"Epoch {epoch + 1}: learning rate reduced to {new:.4g}")
                    self.cooldown_counter, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, rate) -> float`` or ``schedule(epoch) -> float``, with epochs counted from 0.
    verbose : int
        Whether to print the rates: 0 or 1.

    Examples
    --------
    >>> from fastrnn import callbacks
    >>> calls = [callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9)]
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(f"schedule={schedule!r}: give a function of epoch and rate, or of epoch")
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = True
        try:
            inspect.signature(schedule).bind(0, 0.1)
        except TypeError:
            self._takes_rate = False
        except ValueError:
            pass

    def on_train_begin(self, logs: Logs | None = None) -> None:
        _check_settable(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self._takes_rate:
            rate = self.schedule(epoch, self.model.optimizer.learning_rate)
        else:
            rate = self.schedule(epoch)
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate set to {rate}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class LambdaCallback(Callback):
    """A callback whose hooks are given as functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end, on_train_begin, on_train_end, on_train_batch_begin, on_train_batch_end : callable
        Called as the hooks of :class:`Callback` of these names: ``(epoch, logs)``, ``(logs)`` or ``(batch, logs)``.
    **kwargs : callable
        Functions for further hooks of :class:`Callback`, by name.

    Examples
    --------
    >>> from fastrnn import callbacks
    >>> calls = [callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))]
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Callable[..., Any],
    ) -> None:
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for hook, function in hooks.items():
            if hook not in vars(Callback):
                known = [name for name in vars(Callback) if name.startswith("on_")]
                raise TypeError(f"LambdaCallback() got an unknown hook {hook!r}: {choices(hook, known)}")
            if function is not None:
                if not callable(function):
                    raise ValueError(f"{hook}={function!r}: give a function or None")
                setattr(self, hook, function)


class CSVLogger(Callback):
    """Writes a row for each epoch to a file.

    The columns are those of the first epoch's logs, and those of validation if there is any.

    Parameters
    ----------
    filename : str or path
    separator : str
        One character.
    append : bool
        Append to a file that exists, under its columns; by default it is overwritten.

    Raises
    ------
    ValueError
        By `fit`, if the file that is appended to does not start with a column "epoch".

    Examples
    --------
    >>> from fastrnn import callbacks
    >>> logger = callbacks.CSVLogger("log.csv")
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator={separator!r}: give one character")
        self.filename, self.separator = _path(filename, "filename"), separator
        self.append = flag(append, "append")
        self._file: Any = None
        self._keys: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        path = Path(self.filename)
        self._keys = None
        if self.append and path.exists() and path.stat().st_size > 0:
            with path.open(newline="") as file:
                first, *self._keys = next(csv.reader(file, delimiter=self.separator))
            if first != "epoch":
                raise ValueError(
                    f"filename={self.filename!r}: its first column is {first!r}, but a log of epochs starts with 'epoch': "
                    "give another file, or append=False"
                )
        self._file = path.open("a" if self.append else "w", newline="")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if self._keys is None:
            self._keys = sorted(logs)
            # The first epoch may have no validation, but later epochs need these columns.
            if self.params.get("do_validation", False) and not any(k.startswith("val_") for k in self._keys):
                self._keys += [f"val_{key}" for key in self._keys if key in self.model.metrics_names]
            self._row(["epoch", *self._keys])
        left_out = sorted(logs.keys() - set(self._keys))
        if left_out:
            warnings.warn(f"CSVLogger: {self.filename!r} has no columns for {left_out}", stacklevel=2)
        self._row([epoch, *(logs.get(key, "NA") for key in self._keys)])
        self._file.flush()

    def _row(self, values: list[Any]) -> None:
        csv.writer(self._file, delimiter=self.separator).writerow(values)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

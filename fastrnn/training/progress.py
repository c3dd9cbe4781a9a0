"""The progress of training, as a bar or as lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastrnn.training.callback import Callback, Logs

__all__ = ["Progress"]


class Progress(Callback):
    """The progress bar and the lines of ``verbose=1`` and ``verbose=2``.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 shows a bar, 2 prints one line for each epoch.
    title : str, optional
        If given, one bar with this title counts the epochs; otherwise each epoch has a bar that counts its batches.
    """

    #: Seconds between two refreshes of the bar.
    interval = 0.1

    def __init__(self, verbose: int, title: str | None = None) -> None:
        super().__init__()
        self.verbose, self.title = verbose, title
        self.shows_batches = verbose == 1 and title is None
        self._bar: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.verbose == 1 and self.title is not None:
            self._open(self.params.get("epochs"), self.title, "epoch")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._start = time.perf_counter()
        self._next = self._start + self.interval
        if self.shows_batches:
            title = f"Epoch {epoch + 1}/{self.params.get('epochs')}"
            self._open(self.params.get("steps"), title, "batch")

    def after_batch(self, batch: int, logs: Callable[[], Logs]) -> None:
        """Refresh the bar after each `interval`; the running means are computed only then."""
        now = time.perf_counter()
        if self._bar is not None and now >= self._next:
            self._next = now + self.interval
            self._show(batch + 1, logs())

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.shows_batches and self._bar is not None:
            self._show(self.params.get("steps") or self._bar.n, logs)
            self._close()
        elif self._bar is not None:
            self._show(self._bar.n + 1, logs)
        elif self.verbose == 2:
            seconds = time.perf_counter() - self._start
            print(f"Epoch {epoch + 1}/{self.params.get('epochs')} - {seconds:.1f}s - {_text(logs, ' - ')}")

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def _open(self, total: int | None, title: str, unit: str) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc=title, unit=unit, leave=True)

    def _show(self, done: int, logs: Logs | None) -> None:
        self._bar.set_postfix_str(_text(logs), refresh=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _text(logs: Logs | None, separator: str = ", ") -> str:
    return separator.join(f"{key}={value:.4g}" for key, value in (logs or {}).items())

"""The progress of long work, as a bar or as lines."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

from fastrnn.engine.runtime.threads import in_worker
from fastrnn.training.callback import Callback, CallbackList, Logs, check_callbacks

__all__ = ["BatchProgress", "Progress", "new_bar", "progress", "shown"]

#: Seconds between two refreshes of a bar: in a terminal or notebook, and where the output is a file.
REFRESH, REFRESH_IN_FILES = 0.1, 10.0


def new_bar(total: int | None, title: str, unit: str) -> Any:
    """A progress bar of tqdm on the standard error stream, for terminals, notebooks and logs.

    In a file, such as the log of a job, a bar is written at most every ten seconds. In worker processes of joblib and
    multiprocessing no bar is shown, because the bars of several processes would overwrite each other.

    Parameters
    ----------
    total : int or None
        The number of units, if it is known.
    title, unit : str
        What is done, and what is counted.
    """
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # A notebook without the package ipywidgets gets a bar of text.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        leave=True,
        disable=in_worker(),
        mininterval=REFRESH_IN_FILES if _in_file() else REFRESH,
    )


def _in_file() -> bool:
    """Whether bars are written neither to a notebook nor to a terminal."""
    return "ipykernel" not in sys.modules and not sys.stderr.isatty()


def progress(
    items: Collection[Any],
    title: str,
    unit: str,
    shown: bool = True,
    label: Callable[[Any], str] | None = None,
) -> Iterator[Any]:
    """Yield the items, with a bar that counts them.

    Parameters
    ----------
    items : iterable with a length
    title, unit : str
        As in `new_bar`.
    shown : bool
        Whether to show the bar.
    label : callable, optional
        Gives the text beside the bar while an item is worked on.

    Examples
    --------
    >>> from fastrnn.training.progress import progress
    >>> [2 * n for n in progress(range(3), "double", "number", shown=False)]
    [0, 2, 4]
    """
    if not shown:
        yield from items
        return
    with new_bar(len(items), title, unit) as bar:
        for item in items:
            if label is not None:
                bar.set_postfix_str(label(item), refresh=not _in_file())
            yield item
            bar.update()


class _Bar(Callback):
    """A bar that is refreshed after each `REFRESH` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        #: Batches since the bar was opened, also those after its last refresh.
        self._done = 0

    def _open(self, total: int | None, title: str, unit: str) -> None:
        self._bar, self._done = new_bar(total, title, unit), 0

    def _start_clock(self) -> None:
        self._start = time.perf_counter()
        self._next = self._start + REFRESH

    def after_batch(self, batch: int, logs: Callable[[], Logs]) -> None:
        """Refresh the bar after each `REFRESH` seconds; the running means are computed only then."""
        now, self._done = time.perf_counter(), batch + 1
        if self._bar is not None and now >= self._next:
            self._next = now + REFRESH
            self._show(self._done, logs())

    def _show(self, done: int, logs: Logs | None) -> None:
        self._bar.set_postfix_str(_text(logs), refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class BatchProgress(_Bar):
    """The progress bar and the line of ``evaluate`` and ``predict``.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 shows a bar that counts the batches, 2 prints one line at the end.
    title : {"evaluate", "predict"}

    Examples
    --------
    >>> from fastrnn.training.progress import BatchProgress
    >>> line = BatchProgress(2, "evaluate")
    >>> line.on_test_begin()
    >>> line.on_test_end({"loss": 0.25})
    evaluate - 0.0s - loss=0.25
    """

    def __init__(self, verbose: int, title: str) -> None:
        super().__init__()
        self.verbose, self.title = verbose, title
        if verbose == 1:
            self.shown_batches = "test_end" if title == "evaluate" else "predict_end"

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._start_clock()
        if self.verbose == 1:
            self._open(self.params.get("steps"), self.title, "batch")

    def on_test_end(self, logs: Logs | None = None) -> None:
        if self._bar is not None:
            self._show(self._done, logs)
            self.close()
        elif self.verbose == 2:
            seconds = time.perf_counter() - self._start
            print(" - ".join(filter(None, (self.title, f"{seconds:.1f}s", _text(logs, " - ")))))

    on_predict_begin, on_predict_end = on_test_begin, on_test_end


def shown(callbacks: Any, model: Any, verbose: Any, steps: int | None, title: str) -> CallbackList:
    """The callbacks of ``evaluate`` or ``predict``, with what `verbose` shows; "auto" shows nothing.

    Examples
    --------
    >>> from fastrnn.training.progress import shown
    >>> len(shown(None, None, 1, 8, "predict").callbacks)
    1
    """
    level = 0 if verbose == "auto" else int(verbose)
    bar = [BatchProgress(level, title)] if level else []
    return CallbackList([*check_callbacks(callbacks), *bar], model, {"verbose": level, "steps": steps})


class Progress(_Bar):
    """The progress bar and the lines of ``verbose=1`` and ``verbose=2``.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 shows a bar (see `new_bar`), 2 and above prints one line for each epoch.
    title : str, optional
        If given, one bar with this title counts the epochs; otherwise each epoch has a bar that counts its batches.

    Examples
    --------
    >>> from fastrnn.callbacks import Progress
    >>> lines = Progress(2)
    >>> lines.params = {"epochs": 3}
    >>> lines.on_epoch_begin(0)
    >>> lines.on_epoch_end(0, {"loss": 0.25})
    Epoch 1/3 - 0.0s - loss=0.25
    """

    def __init__(self, verbose: int, title: str | None = None) -> None:
        super().__init__()
        self.verbose, self.title = verbose, title
        self.shown_batches = "train_end" if verbose == 1 and title is None else None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.verbose == 1 and self.title is not None:
            self._open(self.params.get("epochs"), self.title, "epoch")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._start_clock()
        if self.shown_batches:
            self._open(self.params.get("steps"), f"Epoch {epoch + 1}/{self.params.get('epochs')}", "batch")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.shown_batches and self._bar is not None:
            self._show(self._done, logs)
            self.close()
        elif self._bar is not None:
            self._show(self._bar.n + 1, logs)
        elif self.verbose > 1:
            seconds = time.perf_counter() - self._start
            print(f"Epoch {epoch + 1}/{self.params.get('epochs')} - {seconds:.1f}s - {_text(logs, ' - ')}")

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.close()


def _text(logs: Logs | None, separator: str = ", ") -> str:
    return separator.join(f"{key}={value:.4g}" for key, value in (logs or {}).items())

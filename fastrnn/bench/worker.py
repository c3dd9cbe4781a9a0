"""One library in a process of its own.

Requests and replies are pickled, on the standard input and output. A request is a name of a method of `Work` and its
arguments; a reply is a pair of what it returned and, if it failed, the error's text.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastrnn.bench.cases import Case
from fastrnn.bench.rows import OURS, outputs_of
from fastrnn.bench.timing import PAUSE_SECONDS, calibrate, seconds_of, wait

#: Blocks of each configuration from which the best is chosen: more than 64 calls, after which fastrnn prepares training.
TRIAL_BLOCKS = 12


class Loaded(NamedTuple):
    """The best configuration of a library for a case, and its outputs: see `outputs_of`."""

    threads: str
    mode: str
    outputs: list[NDArray[Any]]


class LibraryFailed(RuntimeError):
    """A library raised an error, or its process ended."""


class Work:
    """What the process does on request."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.run: Any = None

    def load(self, case: Case, most_threads: int) -> Loaded | None:
        """Choose the fastest configuration; None if the library can't run the case."""
        from fastrnn.bench.ours import fastrnn_contenders
        from fastrnn.bench.peers import PEERS, thread_counts

        make = fastrnn_contenders if self.library == OURS else PEERS[self.library][1]
        trials = []
        for contender in make(case, thread_counts(most_threads)):
            outputs = outputs_of(contender, case)
            calls = calibrate(contender.run)
            wait(PAUSE_SECONDS)
            contender.run()
            seconds = min(seconds_of(contender.run, calls) for _ in range(TRIAL_BLOCKS))
            trials.append((seconds, contender, calls, outputs))
        if not trials:
            return None
        _, self.contender, self.calls, outputs = min(trials, key=lambda trial: trial[0])
        return Loaded(self.contender.threads, self.contender.mode, outputs)

    def block(self) -> float:
        """Seconds per call."""
        self.contender.prepare()
        self.contender.run()  # wakes the library's own threads
        return seconds_of(self.contender.run, self.calls)


class Worker:
    """A process of one library, seen from the process that asks.

    Raises
    ------
    LibraryFailed
        In `load` and `block`, if the library raised an error or the process ended.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from fastrnn.bench.worker import main; main(sys.argv[1])",
                library,
            ],
            env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "jax"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def load(self, case: Case, most_threads: int) -> Loaded | None:
        result: Loaded | None = self._ask("load", case, most_threads)
        return result

    def block(self) -> float:
        result: float = self._ask("block")
        return result

    def _ask(self, *request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            value, error = pickle.load(self.process.stdout)
        except (EOFError, OSError):
            code = self.process.wait()
            raise LibraryFailed(f"its process ended with exit code {code}") from None
        if error:
            raise LibraryFailed(error)
        return value

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def main(library: str) -> None:
    """Answer requests until the standard input ends."""
    # What a library prints must not mix with the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    work = Work(library)
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = (getattr(work, name)(*arguments), "")
        except Exception as error:  # any error of another library is reported, and ends only its own part
            reply = (None, f"{type(error).__name__}: {error}")
        pickle.dump(reply, replies)
        replies.flush()

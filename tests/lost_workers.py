"""A worker of a dask cluster whose process is killed in the middle of a step, the same step on every machine."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from fastrnn.distributed.workers import Workers

__all__ = ["kill_in_step"]


def kill_in_step(step: int, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the process of a worker as soon as the requests of a step have been sent.

    The later steps need what the worker had, so they end after the scheduler has missed it.
    """
    pid = next(iter(client.run(os.getpid).values()))
    plain, steps = Workers._in_loop, []

    def in_loop(workers: Workers, coroutine: Any) -> Any:
        sent = plain(workers, coroutine)
        steps.append(step)
        if len(steps) == step:
            os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        return sent

    monkeypatch.setattr(Workers, "_in_loop", in_loop)

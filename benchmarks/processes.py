"""A process that answers requests: lines of JSON on its standard input, and one line for each on its standard output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["JsonProcess"]


class JsonProcess:
    """A process that reads requests until its input ends.

    Parameters
    ----------
    command : sequence of str
    env : mapping
        Its environment variables.
    cwd : path, optional
        Its working folder.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> Any:
        """Send a request; return the reply."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise RuntimeError(
                f"a process ended with exit code {code}, see its message above: {self.process.args}"
            )
        return json.loads(line)

    def close(self) -> None:
        """End the input, and with it the process."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

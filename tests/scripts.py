"""Python scripts that tests run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.limits import HANG_SECONDS

__all__ = ["run_script"]

ROOT = Path(__file__).resolve().parents[1]


def run_script(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code that may import fastrnn and tests, with further environment variables; what it printed is text."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )

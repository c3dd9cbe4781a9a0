"""A pytest plug-in: skipped tests can be counted as failed, or their names written to a file.

``--no-skips`` turns a skip into a failure unless its reason is in `ALLOWED`. ``--write-skipped FILE`` writes the names
of the skipped tests, one a line, for ``pytest @FILE`` in an environment that has what they need. ``.ci/run`` uses both:
each test runs in at least one of its environments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

#: Reasons that hold on some machines whatever is installed, as regular expressions.
ALLOWED = [
    r"the host has no vectors of 256 or 512 bits",
    r"no wide vectors on this host",
    r"another CPU is targeted",
    r"the host is not x86-64",
    r"the host has neither AVX2 nor AVX-512",
    r"code is compiled for another CPU than the host",
    r"one thread only",
    r"there is one core only",
    r"the platform has no (fork|owners and modes|timers and affinities)",
    r"the platform can't pin processes",
    r"the processes are forked",
    r"SIGINT can't be sent to a process by its number",
    r"Windows cannot run them",
    r"root may write everywhere",
    r"no C compiler",
    r"this system lets no user mount a file system",
    r"only Linux limits memory and CPU time here",
    r"needs fork, signals and limits of POSIX",
    r"SCIPY_ARRAY_API is not set",  # a check of scikit-learn, for estimators that take arrays of other libraries
    r"NUMBA_DISABLE_JIT",
]
#: Allowed if no folder with real data is given.
NO_DATA = r"no real data: set FASTRNN_DATA"


def is_allowed(reason: str) -> bool:
    patterns = ALLOWED if os.environ.get("FASTRNN_DATA") else [*ALLOWED, NO_DATA]
    return any(re.search(pattern, reason) for pattern in patterns)


def reason_of(report: Any) -> str:
    """Why a test was skipped, from its report: (path, line, 'Skipped: reason')."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastrnn")
    group.addoption(
        "--no-skips",
        action="store_true",
        help="count a skipped test as failed, unless tests/skips.py allows its reason",
    )
    group.addoption("--write-skipped", metavar="FILE", help="write the names of the skipped tests to FILE")


def pytest_configure(config: pytest.Config) -> None:
    # Processes of pytest-xdist report to the first one, which alone writes the file.
    if config.getoption("--write-skipped") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Names(Path(config.getoption("--write-skipped"))), "write-skipped")
    if config.getoption("--no-skips"):
        config.pluginmanager.register(_NoSkips(), "no-skips")


class _Names:
    """Collects the names of skipped tests, and of files that are skipped as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, None] = {}  # a dict keeps the order and drops repeats

    def _note(self, report: Any) -> None:
        # A test that is expected to fail is reported as skipped too.
        if report.skipped and not hasattr(report, "wasxfail"):
            self.names[report.nodeid] = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self) -> None:
        self.path.write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8")


class _NoSkips:
    """Turns skips into failures."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        return _failed_if_skipped((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        return _failed_if_skipped((yield))


def _failed_if_skipped(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail") and not is_allowed(reason_of(report)):
        reason = reason_of(report)
        report.outcome = "failed"
        report.longrepr = (
            f"skipped, but --no-skips is set and tests/skips.py does not allow this reason: {reason}"
        )
    return report

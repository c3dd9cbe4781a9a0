"""Shared fixtures: seeds, real data, and test ids that name what is tested."""

from __future__ import annotations

import contextlib
import os
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import fastrnn
from tests.skips import pytest_addoption, pytest_configure  # noqa: F401  # pytest finds them here

#: The same examples on every run, however slow the machine is.
settings.register_profile(
    "fastrnn",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fastrnn")


def pytest_sessionstart():
    """Let Ctrl-C work: a shell starts commands in the background with SIGINT ignored, which child processes inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def data_folder() -> Path | None:
    """The folder with the real data sets, which the environment variable FASTRNN_DATA names."""
    named = os.environ.get("FASTRNN_DATA")
    return Path(named) if named and Path(named).is_dir() else None


def pytest_collection_modifyitems(items):
    if data_folder() is not None:
        return
    skip = pytest.mark.skip(
        reason="no real data: set FASTRNN_DATA to the folder with imdb.jsonl.gz, sms_spam.csv, ..."
    )
    for item in items:
        if "needs_data" in item.keywords:
            item.add_marker(skip)


def pytest_make_parametrize_id(config, val, argname):
    """Options as ``mask-go_backwards``, dtypes and functions by name, so that an id says what failed.

    Ids must be the same in every process, because processes of pytest-xdist compare them.
    """
    if isinstance(val, dict):
        named = {k: v.__name__ if isinstance(v, FunctionType) else v for k, v in val.items()}
        return "+".join(k if v is True else f"{k}={v}" for k, v in named.items()) or "default"
    if isinstance(val, type) and issubclass(val, np.generic):
        return np.dtype(val).name
    return None


@pytest.fixture
def data_dir() -> Path:
    folder = data_folder()
    if folder is None:
        pytest.skip("no real data: set FASTRNN_DATA to the folder that holds it")
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package with an engine and a cell, for tests of the cache."""
    from tests import small_package

    return small_package.make(tmp_path)


@pytest.fixture
def rng(request) -> np.random.Generator:
    """A generator seeded by the test's own id: each test has its own numbers, the same on every run."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


@contextlib.contextmanager
def seeded(name: str) -> Iterator[None]:
    """Context in which objects made without a seed take theirs from `name`; afterwards from where they did before."""
    # Nothing should draw from NumPy's global generator; if it does, it does so the same way on each run.
    before, numpys = fastrnn.random._global, np.random.get_state()  # noqa: NPY002
    fastrnn.set_random_seed(zlib.crc32(name.encode()))
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        fastrnn.random._global = before
        np.random.set_state(numpys)  # noqa: NPY002


@pytest.fixture(autouse=True)
def _seed_of_the_test(request):
    """Give each test its own seed, the same on every run: layers and models made without a seed take theirs from here."""
    with seeded(request.node.nodeid):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """What a fixture of a module makes must not depend on the test that needs it first."""
    if fixturedef.scope == "function":
        return (yield)
    with seeded(f"{fixturedef.baseid}::{fixturedef.argname}-{request.param_index}"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Nor what a module makes when it is imported, on the modules that were imported before."""
    with seeded(collector.nodeid):
        return (yield)

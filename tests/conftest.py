"""Shared fixtures: seeds, real data, and test ids that name what is tested."""

from __future__ import annotations

import os
import signal
import zlib
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import fastrnn
from tests.skips import pytest_addoption, pytest_configure  # noqa: F401  # pytest finds them here


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


@pytest.fixture(autouse=True, scope="module")
def _seed_for_fixtures_of_the_module(request):
    fastrnn.set_random_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _seed_global_generators(request, _seed_for_fixtures_of_the_module):
    """Give each test its own seed, the same on every run: layers and models made without a seed take theirs from here."""
    fastrnn.set_random_seed(zlib.crc32(request.node.nodeid.encode()))
    # Nothing should draw from NumPy's global generator; if it does, it does so the same way on each run.
    np.random.seed(0)  # noqa: NPY002

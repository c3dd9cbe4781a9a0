"""The stock path: public names of Numba only, and the numbers of the usual path."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastrnn.engine.numba_private import services
from tests import stock_scenarios
from tests.limits import HANG_SECONDS
from tests.stock_scenarios import CELLS, SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
WALL = ROOT / "fastrnn" / "engine" / "numba_private"
pytestmark = pytest.mark.skipif(services.DISABLED, reason="nothing is compiled")


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != "FASTRNN_STOCK_NUMBA"}
    done = subprocess.run(
        [sys.executable, "-W", "always", *arguments],
        env={**env, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def _numbers(path: Path, names: tuple[str, ...], stock: str) -> np.lib.npyio.NpzFile:
    _run("-m", "tests.stock_scenarios", str(path), *names, FASTRNN_STOCK_NUMBA=stock)
    return np.load(path)


def _compare(stock: np.lib.npyio.NpzFile, usual: np.lib.npyio.NpzFile, *names: str) -> None:
    assert sorted(stock.files) == sorted(usual.files)
    assert {key.partition(":")[0] for key in stock.files} == set(names)
    for key in stock.files:
        if key.endswith("warnings"):
            continue
        assert stock[key].dtype == usual[key].dtype
        single = stock[key].dtype == np.float32
        # Sums of gradients are in another order. Adam makes steps of the rounding of a gradient that is nothing else, as
        # that of the sLSTM's input bias, which its normaliser cancels.
        rtol, atol = (2e-6, 1e-5) if single else (1e-12, 1e-12)
        np.testing.assert_allclose(stock[key], usual[key], rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_stock_path_gives_the_usual_numbers(name, tmp_path):
    """In the stage `stock` of .ci/run; the other stages run what `newer` does."""
    _compare(
        _numbers(tmp_path / "stock.npz", (name,), "1"), _numbers(tmp_path / "usual.npz", (name,), "0"), name
    )


def test_scenarios_are_of_all_cells_and_options():
    assert set(CELLS) < set(SCENARIOS)
    assert {"ragged", "masks", "streaming", "rules", "activations", "threads"} < set(SCENARIOS)
    assert stock_scenarios.MASK.any()
    assert not stock_scenarios.MASK.all()


IMPORTS = """
import importlib, pkgutil, sys
import fastrnn
for room in ("engine", "cells", "layers", "estimators", "training", "models", "info"):
    module = importlib.import_module(f"fastrnn.{room}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        if not found.name.startswith("fastrnn.engine.numba_private."):
            importlib.import_module(found.name)
print(*(name for name in sys.modules if name.startswith("fastrnn.engine.numba_private.")))
print(fastrnn.info.describe()["compiled kernels"]["compiler"])
"""


def test_stock_path_imports_no_module_with_private_names():
    imported, compiler = _run("-c", IMPORTS, FASTRNN_STOCK_NUMBA="1").stdout.splitlines()
    names = {name.rpartition(".")[2] for name in imported.split()}
    assert names == {"services", "redirect", "stock"}
    assert "stock path" in compiler
    usual = _run("-c", IMPORTS, FASTRNN_STOCK_NUMBA="0").stdout.splitlines()
    assert "stock" not in {name.rpartition(".")[2] for name in usual[0].split()}
    assert usual[1] == "enabled"


@pytest.mark.parametrize("name", ["services", "redirect", "stock"])
def test_modules_of_the_stock_path_import_public_names_only(name):
    """`services` imports the other modules only where it does not choose the stock path."""
    tree = ast.parse((WALL / f"{name}.py").read_text("utf-8"))
    names = []
    for node in tree.body:  # what is imported whatever is chosen
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    numba = [n for n in names if n.startswith(("numba", "llvmlite"))]
    public = r"numba(\.(types|config|njit|extending\.overload))?"
    assert [n for n in numba if not re.fullmatch(public, n)] == []
    private = [n for n in names if "numba_private" in n and not n.endswith(("redirect.Redirect", "services"))]
    assert private == []


NEWER = """
import warnings
import numpy as np
import numba
numba.__version__ = "99.1.0"
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from fastrnn import layers
    layer = layers.SimpleRNN(4, seed=0)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("f")
    y = layer(x)
    layer(x)
    from fastrnn.engine.numba_private import services
    from tests import naive, stock_scenarios
    expected, _ = naive.recurrent("simple_rnn", x, layer.get_weights())
    np.testing.assert_allclose(y, expected, atol=1e-6)
print(services.PATH)
for w in said:
    print(w.category.__name__, w.message)
"""

#: Then the numbers of scenarios, in the process whose kernels are compiled.
AND_SCENARIOS = """
import sys
stock_scenarios.main(*sys.argv[1:])
"""


class Newer(NamedTuple):
    """A process with a newer Numba, which takes the stock path by itself."""

    said: list[str]
    numbers: np.lib.npyio.NpzFile


SHORT_FORM = ("simple_rnn", "threads")


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """One process for several tests, because it compiles for 20 s and the stock path keeps no code on disk."""
    path = tmp_path_factory.mktemp("newer") / "numbers.npz"
    said = _run("-c", NEWER + AND_SCENARIOS, str(path), *SHORT_FORM).stdout.splitlines()
    return Newer(said[: -len(SHORT_FORM)], np.load(path))


def test_newer_numba_gives_the_usual_numbers(newer, tmp_path):
    _compare(newer.numbers, _numbers(tmp_path / "usual.npz", SHORT_FORM, "0"), *SHORT_FORM)


def test_more_threads_than_the_stock_path_has_are_one_warning(newer):
    (said,) = newer.numbers["threads: warnings"]
    assert said.startswith(
        "RuntimeWarning n_jobs=2: 1 thread is used, kernels of the stock path run in one thread"
    )
    one, *several = (newer.numbers[f"threads: {key}"] for key in ("one thread", "first", "last"))
    for probabilities in several:
        np.testing.assert_allclose(probabilities, one, atol=1e-5)


def test_newer_numba_takes_the_stock_path_with_one_warning(newer):
    path, *warned = newer.said
    assert path == "stock"
    assert len(warned) == 1
    assert re.match(
        r"RuntimeWarning Numba 99\.1\.0 is newer than .*public functions only.*slower.*same results",
        warned[0],
    )


def test_newer_numba_is_used_as_usual_where_that_is_asked_for():
    path, *warned = _run("-c", NEWER, FASTRNN_STOCK_NUMBA="0").stdout.splitlines()
    assert (path, warned) == ("private", [])


def test_variable_with_another_value_is_refused():
    code = "import fastrnn.engine.numba_private.services"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FASTRNN_STOCK_NUMBA": "yes"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FASTRNN_STOCK_NUMBA='yes' must be 1" in done.stderr


def test_versions_tried_are_those_that_may_be_installed():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (numba,) = (d for d in dependencies if d.startswith("numba"))
    assert numba.endswith("<" + ".".join(map(str, services.FIRST_UNTRIED)))

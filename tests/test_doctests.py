"""Every public name has an example in its docstring, and the examples run."""

import doctest
import importlib
import inspect
import sys

import pytest

import fastrnn

#: Kernels, and earlier import paths.
LEFT_OUT = ("batches", "engine", "model", "seq2seq")
MODULES = [name for name in fastrnn._MODULES if name not in LEFT_OUT]


def public(name):
    """Classes and functions that a module lists as public, by name."""
    module = importlib.import_module(f"fastrnn.{name}")
    found = {key: getattr(module, key) for key in module.__all__}
    return {key: value for key, value in found.items() if inspect.isclass(value) or inspect.isfunction(value)}


def docstrings(value):
    """Docstrings of a public name and of its own public methods."""
    yield "", inspect.getdoc(value) or ""
    if inspect.isclass(value):
        for name, member in vars(value).items():
            method = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if not name.startswith("_") and inspect.isfunction(method):
                yield f".{name}", inspect.getdoc(method) or ""


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parser, said = doctest.DocTestParser(), []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for name, value in public(module).items():
        for part, text in docstrings(value):
            if ">>>" not in text:
                continue
            if "plotting" in text or "axes_" in text or "Display" in text:
                pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed").use("Agg")
            if "LocalCluster" in text:
                pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
            for library in ("pandas", "polars"):
                if f"import {library}" in text or ("read_long" in text and library == "polars"):
                    pytest.importorskip(library, reason="the extra 'frames' is not installed")
            names = dict(vars(sys.modules[value.__module__]))
            runner.run(parser.get_doctest(text, names, f"{module}.{name}{part}", None, None), out=said.append)
    assert not runner.failures, "".join(said)


def test_public_names_have_an_example():
    without = {
        f"{module}.{name}"
        for module in MODULES
        for name, value in public(module).items()
        if ">>>" not in (inspect.getdoc(value) or "")
    }
    assert without == set()

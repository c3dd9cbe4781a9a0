"""Every public name has an example in its docstring, and the examples run."""

import doctest
import importlib
import inspect
import os
import re
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


#: Optional libraries by words of the examples that need them, with the extra that installs them.
NEEDED = {
    "plotting": ("matplotlib", "plot"),
    "axes_": ("matplotlib", "plot"),
    "Display": ("matplotlib", "plot"),
    "import dask": ("dask", "dask"),
    "LocalCluster": ("distributed", "dask"),
    "import pandas": ("pandas", "frames"),
    "import polars": ("polars", "frames"),
    "read_long": ("polars", "frames"),
    "fetch_": ("pooch", "data"),
    "_keras": ("keras", "keras"),
    "_onnx": ("onnx", "onnx"),
    "to_torch": ("torch", "torch"),
}
#: Examples that read published files. The airline series is part of the package.
DATA = re.compile(r"\b(load|fetch)_(etth1|federalist|imdb|japanese_vowels|sms_spam|vic_elec)\(")


def lacks(text):
    """Why an example can't run here, or None."""
    for word, (library, extra) in NEEDED.items():
        if word in text:
            try:
                importlib.import_module(library)
            except ImportError:
                return f"{library} of the extra '{extra}' is not installed"
    if DATA.search(text) and "folder=" not in text and not os.environ.get("FASTRNN_DATA"):
        return "no real data: set FASTRNN_DATA"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    parser, said, left_out = doctest.DocTestParser(), [], {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for name, value in public(module).items():
        for part, text in docstrings(value):
            if ">>>" not in text:
                continue
            reason = lacks(text[text.index(">>>") :])
            if reason:
                left_out[reason] = None
                continue
            names = dict(vars(sys.modules[value.__module__]))
            runner.run(parser.get_doctest(text, names, f"{module}.{name}{part}", None, None), out=said.append)
    assert not runner.failures, "".join(said)
    if left_out:  # only after the others have run
        pytest.skip("; ".join(left_out))


def test_public_names_have_an_example():
    without = {
        f"{module}.{name}"
        for module in MODULES
        for name, value in public(module).items()
        if ">>>" not in (inspect.getdoc(value) or "")
    }
    assert without == set()


def test_examples_of_public_names_are_run_whole():
    """An example that is marked as left out is none."""
    left_out = [
        f"{module}.{name}{part}"
        for module in MODULES
        for name, value in public(module).items()
        for part, text in docstrings(value)
        if "+SKIP" in text
    ]
    assert left_out == []

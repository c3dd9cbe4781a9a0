"""show_versions, and the command fastrnn."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import command, info
from fastrnn.engine.kernels.micro_kernel import VECTOR_BITS
from fastrnn.engine.runtime import threads
from tests.limits import HANG_SECONDS

ROOT = Path(__file__).resolve().parent.parent


def test_describe_says_what_is_installed_and_used(monkeypatch):
    monkeypatch.setenv("FASTRNN_DATA", "/somewhere")
    found = info.describe()
    assert found["versions"]["fastrnn"] == fastrnn.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["numba"] == importlib.metadata.version("numba")
    assert "not installed" not in found["versions"].values()
    assert found["processor"]["vector width, bits"] == VECTOR_BITS
    if VECTOR_BITS == 512:
        assert "avx512f" in found["processor"]["features"].split()
    assert found["threads"]["used by default"] == threads.resolve(None)
    assert found["environment"]["FASTRNN_DATA"] == "/somewhere"


def test_describe_counts_the_kernels_of_a_cache(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    code = """
import json, numpy as np
from fastrnn import info, layers
before = info.describe()["compiled kernels"]
layers.GRU(4)(np.ones((2, 3, 2), np.float32))
print(json.dumps([before, info.describe()["compiled kernels"]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    before, after = json.loads(done.stdout)
    if after["compiler"] == "disabled":
        assert after["files"] == before["files"]
        return
    new = list(tmp_path.rglob("*.nbc"))
    assert new
    assert after["files"] - before["files"] == len(new)
    assert after["size, bytes"] - before["size, bytes"] == sum(path.stat().st_size for path in new)
    assert str(tmp_path) in after["folders"]
    assert str(tmp_path) not in before["folders"]


def test_show_versions_and_the_command_print_the_same(capsys):
    fastrnn.show_versions()
    shown = capsys.readouterr().out
    assert re.search(rf"^  numpy +{re.escape(np.__version__)}$", shown, re.M)
    assert re.search(rf"^  vector width, bits +{VECTOR_BITS}$", shown, re.M)
    assert command.main(["info"]) == 0
    assert capsys.readouterr().out == shown
    assert command.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == info.describe()


def test_command_is_declared_and_refuses_what_it_does_not_know(capsys):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, name = scripts["fastrnn"].partition(":")
    assert getattr(sys.modules[module], name) is command.main
    for bad in ([], ["inform"], ["info", "--yaml"]):
        with pytest.raises(SystemExit) as stopped:
            command.main(bad)
        assert stopped.value.code == 2
        assert "usage: fastrnn" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork, signals and limits of POSIX")
def test_command_info_ends_quietly_where_the_reader_has_ended():
    """As in ``fastrnn info | head -3``."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from fastrnn.command import main; raise SystemExit(main(['info']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(HANG_SECONDS) == 1


def test_command_warmup_hands_its_options_on(monkeypatch, capsys):
    from fastrnn.estimators import warmup as module

    calls = []
    monkeypatch.setattr(module, "warmup", lambda **options: calls.append(options))
    assert command.main(["warmup"]) == 0
    assert command.main(["warmup", "gru", "--dtype", "float32", "float64", "--no-training", "--quiet"]) == 0
    assert calls == [
        {"dtypes": ["float32"], "training": True, "verbose": True},
        {"cells": ["gru"], "dtypes": ["float32", "float64"], "training": False, "verbose": False},
    ]
    monkeypatch.undo()
    for bad, words in ((["gruu"], "did you mean 'gru'"), (["gru", "--dtype", "float16"], "float16")):
        assert command.main(["warmup", *bad]) == 2
        assert words in capsys.readouterr().err

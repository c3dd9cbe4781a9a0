"""The command fastrnn bench."""

import json
import re
import time

import numpy as np
import pytest

from fastrnn import command
from fastrnn.bench import leaderboard, worker
from fastrnn.bench.cases import Case, Size
from fastrnn.bench.leaderboard import Settings
from fastrnn.bench.rows import best_by_library, ratio

SMALL = Size(2, 3, 4, 5)


class Invented:
    """A worker of invented times, in seconds per call; the outputs of `wrong` differ, and the process of `lost` ends."""

    times = {"fastrnn": 2e-3, "torch": 6e-3, "keras-jax": 4e-3, "onnxruntime": 1e-3}
    wrong = "onnxruntime"
    lost = ""

    def __init__(self, library):
        self.library, self.process, self.ended = library, self, None

    def poll(self):
        return self.ended

    def load(self, case, most_threads):
        return worker.Loaded("2", "", [np.full(3, self.library == self.wrong, float)] * 2)

    def block(self):
        if self.library == self.lost:
            self.ended = 1
            raise worker.LibraryFailed("its process ended with exit code 1")
        return self.times[self.library]

    def close(self):
        pass


@pytest.fixture
def invented(monkeypatch):
    monkeypatch.setattr(leaderboard, "Worker", Invented)
    monkeypatch.setattr(leaderboard, "wait", lambda seconds: None)
    return monkeypatch


def settings(*libraries, **options):
    return Settings(("gru",), sizes=(SMALL,), libraries=libraries, seconds=1e-3, verbose=False, **options)


def test_bench_ratio_is_that_to_the_best_peer_that_computes_the_same(invented, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    pytest.importorskip("torch", reason="the extra 'peers' is not installed")
    found = leaderboard.run(settings("torch", "keras-jax", "onnxruntime", kinds=("inference",)))
    (place,) = best_by_library(found["rows"]).values()
    assert set(place) == {"fastrnn", "torch", "keras-jax"}
    assert ratio(place) == pytest.approx(2)
    assert len(found["failures"]) == 1
    assert "onnxruntime is left out" in found["failures"][0]
    text = leaderboard.described(found)
    assert re.search(
        r"^\| Inference \| GRU \| B2xT3xI4xH5 \| 2 \(2\) \| 6 \(2\) \| 4 \(2\) \| 2.00 \|$", text, re.M
    )
    assert "geometric mean of the speeds 2.00" in text
    files = leaderboard.write(found, tmp_path)
    assert [file.name for file in files] == ["bench.json", "bench.md", "bench.png"]
    assert json.loads(files[0].read_text())["rows"] == found["rows"]
    assert files[1].read_text() == text
    assert files[2].stat().st_size > 5_000


def test_bench_goes_on_without_a_library_whose_process_ends(invented):
    invented.setattr(Invented, "lost", "fastrnn")
    invented.setattr(leaderboard, "PEERS", {})
    found = leaderboard.run(settings(kinds=("inference", "training")))
    assert found["rows"] == []
    assert len(found["failures"]) == 1, "a process that ended is not asked again"
    assert "fastrnn is left out: its process ended" in found["failures"][0]


def test_bench_worker_reports_errors_and_ends():
    one = worker.Worker("fastrnn")
    try:
        with pytest.raises(worker.LibraryFailed, match="KeyError: 'nonsense'"):
            one.load(Case("nonsense", SMALL), 1)
        loaded = one.load(Case("gru", SMALL), 1)
        assert loaded.threads == "1"
        assert loaded.outputs[0].shape == (2, 3, 5)
        start = time.perf_counter()
        block = one.block()
        assert 0 < block < time.perf_counter() - start
        one.process.kill()
        with pytest.raises(worker.LibraryFailed, match="its process ended"):
            one.block()
    finally:
        one.close()


@pytest.mark.peers
def test_bench_command_compares_with_what_is_installed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    if "torch" not in (peers := leaderboard.installed_peers()):
        pytest.skip("the extra 'peers' is not installed")
    monkeypatch.setattr(leaderboard, "SIZES", (SMALL, SMALL))
    options = ["--quick", "--quiet", "--cells", "gru", "--seconds", "0.01", "--out", str(tmp_path)]
    assert command.main(["bench", *options]) == 0, capsys.readouterr()
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["failures"] == []
    best = best_by_library(found["rows"])
    assert {case.kind for case in best} == {"inference", "training"}
    for case, place in best.items():
        expected = set(peers) - ({"onnxruntime", "openvino"} if case.kind == "training" else set())
        assert set(place) == {"fastrnn", *expected}
        assert ratio(place) > 0
    assert (tmp_path / "bench.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "bench.png").stat().st_size > 5_000


def test_bench_command_refuses_what_it_does_not_know(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(leaderboard, "installed_peers", list)
    for bad, words in (
        (["--cells", "gruu"], "did you mean 'gru'"),
        (["--peers", "tensorflow"], "known are 'jax', 'keras-jax', 'onnxruntime', 'openvino', 'torch'"),
        (["--peers", "torch"], "torch is not installed: pip install torch"),
        (["--seconds", "0"], "--seconds 0.0: give a number above 0"),
    ):
        assert command.main(["bench", *bad, "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

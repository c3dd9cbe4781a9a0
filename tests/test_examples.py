"""Every example says how it is used, and runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.limits import HANG_SECONDS

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
#: The pages of the guide, which run from top to bottom.
PAGES = [path for path in SCRIPTS if path.name[:2].isdigit()]
EXAMPLES = [path for path in SCRIPTS if path not in PAGES]

#: What pages need besides matplotlib.
NEEDED = {"13_ragged_data": "pandas"}

#: Those with a short run that needs no data and draws pictures.
QUICK = [
    path
    for path in EXAMPLES
    if '"--quick"' in (text := path.read_text()) and not re.search(r"--data|to_onnx", text)
]


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(script.parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANG_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_help(script):
    result = run(script, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_pages_of_the_guide_are_numbered_without_a_gap():
    assert [int(path.name[:2]) for path in PAGES] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_of_the_guide_runs_to_a_picture(page, tmp_path):
    pytest.importorskip("matplotlib")
    if page.stem in NEEDED:
        pytest.importorskip(NEEDED[page.stem], reason=f"needs {NEEDED[page.stem]}")
    # Run where files may be written, and look at the figures that are open at the end.
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); from matplotlib import pyplot; "
        "pyplot.gcf().savefig('page.png'); print(len(pyplot.get_fignums()))"
    )
    root = str(page.parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, str(page)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 1
    assert (tmp_path / "page.png").stat().st_size > 5000


@pytest.mark.needs_data
@pytest.mark.parametrize("cell", ["simple_rnn", "bilstm"])
def test_sentiment_imdb_quick(cell, data_dir, tmp_path):
    pytest.importorskip("matplotlib")
    if not (data_dir / "imdb.jsonl.gz").exists():
        pytest.skip(f"{data_dir / 'imdb.jsonl.gz'} is missing")
    result = run(
        EXAMPLES[0].with_name("sentiment_imdb.py"),
        *("--quick", "--cell", cell, "--data", str(data_dir), "--out", str(tmp_path)),
    )
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^ +([12])((?: +\d+\.\d+){5})$", result.stdout, re.M)
    assert [epoch for epoch, _ in rows] == ["1", "2"]
    losses = [float(values.split()[0]) for _, values in rows]
    assert losses[1] < losses[0]
    validation = [float(values.split()[3]) for _, values in rows]
    best = float(re.search(r"best val_accuracy +([\d.]+)", result.stdout).group(1))
    assert best == max(validation)
    assert "seconds of JIT" in result.stdout
    assert (tmp_path / f"sentiment_{cell}.png").stat().st_size > 10_000


@pytest.mark.needs_data
def test_authorship_quick(data_dir, tmp_path):
    pytest.importorskip("matplotlib")
    if not (data_dir / "federalist").is_dir():
        pytest.skip(f"{data_dir / 'federalist'} is missing")
    result = run(
        EXAMPLES[0].with_name("authorship.py"),
        *("--quick", "--data", str(data_dir), "--out", str(tmp_path)),
    )
    assert result.returncode == 0, result.stderr
    side = r"(Hamilton|Madison)(\*?) +"
    votes = re.findall(
        rf"^  No\. (\d+) +([\d.]+)% +([\d.]+)% +([\d.]+)%   {side}(?:{side})?(Hamilton|Madison)$",
        result.stdout,
        re.M,
    )
    # Eight papers held back, and the five unknown ones by both models.
    assert len(votes) == 18
    assert [int(number) for number, *_ in votes[8:13]] == [43, 38, 60, 17, 30]
    assert [truth for *_, truth in votes[8:13]] == ["Madison"] * 2 + ["Hamilton"] * 3
    border = float(re.search(r"majority +> ([\d.]+)%", result.stdout).group(1))
    means = [
        np.mean([float(v[2]) for v in votes[:8] if v[-1] == author]) for author in ("Hamilton", "Madison")
    ]
    assert border == pytest.approx(np.mean(means), abs=0.11)
    for _, hamilton, madison, margin, vote, wrong, by_border, wrong_by_border, truth in votes:
        assert float(hamilton) + float(madison) == pytest.approx(100, abs=0.11)
        assert abs(float(hamilton) - float(madison)) == pytest.approx(float(margin), abs=0.11)
        if hamilton != madison:
            assert vote == ("Madison" if float(madison) > float(hamilton) else "Hamilton")
        assert (vote != truth) == bool(wrong)
        if by_border:
            assert (by_border != truth) == bool(wrong_by_border)
            if abs(float(madison) - border) > 0.1:
                assert by_border == ("Madison" if float(madison) > border else "Hamilton")
    assert (tmp_path / "authorship.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["sentiment_imdb", "authorship"])
def test_example_without_its_data_says_how_to_get_it(name, tmp_path):
    result = run(EXAMPLES[0].with_name(f"{name}.py"), "--quick", "--data", str(tmp_path))
    assert result.returncode == 2
    assert "is missing; it comes from" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("script", QUICK, ids=lambda path: path.stem)
def test_example_quick_run(script, tmp_path):
    pytest.importorskip("matplotlib")
    result = run(script, "--quick", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) > 2
    assert "Warning" not in result.stderr, result.stderr
    pictures = list(tmp_path.rglob("*.png"))
    assert pictures
    assert all(path.stat().st_size > 5000 for path in pictures)


@pytest.mark.parametrize("form", ["states", "repeat"])
def test_seq2seq_addition_reports_what_it_predicts(form, tmp_path):
    pytest.importorskip("matplotlib")
    script = EXAMPLES[0].with_name("seq2seq_addition.py")
    result = run(script, "--quick", "--form", form, "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    epochs = re.findall(r"^ +(\d) +([\d.]+) +([\d.]+) +([\d.]+%) +([\d.]+%) +[\d.]+$", result.stdout, re.M)
    assert [epoch for epoch, *_ in epochs] == ["1", "2", "3", "4"]
    assert float(epochs[-1][1]) < float(epochs[0][1])
    # What validation says after the last epoch is what the answers themselves come to.
    assert (
        f"training set: {epochs[-1][3]} of the characters are right,\n{epochs[-1][4]} of the" in result.stdout
    )
    assert (tmp_path / f"addition_{form}.png").stat().st_size > 10_000


def test_one_to_many_beats_the_nearest_known_wave(tmp_path):
    pytest.importorskip("matplotlib")
    script = EXAMPLES[0].with_name("one_to_many.py")
    result = run(script, "--waves", "1000", "--epochs", "20", "--units", "32", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^(.{34}) +([\d.]+) +([\d.]+)$", result.stdout, re.M)
    assert len(rows) == 7
    assert float(rows[0][1]) < 0.5 * float(rows[0][2])
    assert (tmp_path / "one_to_many.png").stat().st_size > 10_000


@pytest.mark.peers
def test_travel_quick_scores_alike_everywhere(tmp_path):
    """In each library that is here, probabilities differ by rounding only, and no label differs."""
    result = run(EXAMPLES[0].with_name("travel.py"), "--quick", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    rows = re.findall(
        r"^(saved, loaded|onnxruntime|Keras|PyTorch|C) +(\d\.\de[+-]\d+) +(\d+)$", result.stdout, re.M
    )
    left_out = re.findall(r"^(\w+) +left out", result.stdout, re.M)
    assert [place for place, *_ in rows] == [
        place for place in ("saved, loaded", "onnxruntime", "Keras", "PyTorch", "C") if place not in left_out
    ]
    assert max(float(difference) for _, difference, _ in rows) < 1e-5
    assert {differ for *_, differ in rows} == {"0"}
    assert rows[0][1] == "0.0e+00"


def test_forecasting_airline(tmp_path):
    pytest.importorskip("matplotlib")
    result = run(EXAMPLES[0].with_name("forecasting.py"), "--series", "airline", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    error, naive = map(
        float, re.search(r"^mase +([\d.]+) +seasonal naive +([\d.]+)", result.stdout, re.M).groups()
    )
    assert error < 0.6 < naive
    assert (tmp_path / "forecast_airline.png").stat().st_size > 10_000

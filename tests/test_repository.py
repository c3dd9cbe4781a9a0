"""What the README promises: its commands name files that exist, the main job comes out, the grid writes its results."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def readme_command(name):
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"<!-- command: {name} -->\n```bash\n(.+)\n```", text)
    assert found, f"README.md has no fenced line after <!-- command: {name} -->"
    return found.group(1)


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_readme_command_is_one_line_that_sets_everything_up(name):
    command = readme_command(name)
    assert command.startswith('VENV="${VENV:-.venv}"; python3 -m venv "$VENV" && ')
    extras = set(re.search(r"\.\[(\w+)\]", command).group(1).split(","))
    assert all(re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.M) for extra in extras)
    for path in re.findall(r"\S+\.py", command):
        assert (ROOT / path).exists()


def run_python(*args, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_readme_code_runs_as_it_is_shown(tmp_path):
    blocks = re.findall(r"^```python\n(.+?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 4  # the doors
    for block in blocks:
        statements = [line for line in block.splitlines() if not re.match(r"from |import |#|$", line)]
        assert len(statements) <= 5, block
    code = tmp_path / "readme.py"
    code.write_text("\n".join(blocks), encoding="utf-8")
    done = run_python("-W", "error::UserWarning", str(code), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.split()[0])
    assert accuracy == pytest.approx(0.96, abs=0.02)  # what the comment beside it says
    mase = float(re.search(r"\] ([\d.]+)$", done.stdout, re.M).group(1))
    assert mase == pytest.approx(0.45, abs=0.05)  # of the backtest, as its comment says
    assert {path.name for path in tmp_path.glob("*.fastrnn")} == {"reviews.fastrnn"}


def test_readme_is_one_screen_and_a_half():
    """The commands, four doors, one picture, the newer cells and one table of figures; the rest is the guide."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 135
    assert len(re.findall(r"!\[", text)) == 1


def test_picture_of_the_readme_is_drawn_from_stored_results(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    from benchmarks import report
    from fastrnn.bench import drawing

    rows, info = report.stored(ROOT / "benchmarks" / "results")
    drawing.draw_speed({info["cpu"]: report.best_by_library(rows)}, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_readme_shows_each_width_of_which_there_is_a_grid(tmp_path):
    from benchmarks import report

    results = ROOT / "benchmarks" / "results"
    rows, info = report.stored(results)
    (tmp_path / "grid.json").write_text(json.dumps({"rows": rows, "environment": info}))
    assert report.widths(tmp_path) == [""]
    (tmp_path / "grid_one_process.json").write_text("{}")
    slower = [
        {**row, "median_s": 2 * row["median_s"]} if row["library"] == "fastrnn" else row for row in rows
    ]
    there = {**info, "vector_bits": 256}
    (tmp_path / "grid_256.json").write_text(json.dumps({"rows": slower, "environment": there}))
    assert report.widths(tmp_path) == ["", "_256"]
    (tmp_path / "grid_one_process.json").unlink()
    *_, line = report.readme_table(tmp_path)
    means = [
        float(value) for value in re.findall(r"plain \| \d+ \| ([\d.]+)", "\n".join(report.summary(rows)))
    ]
    other = [float(value) for value in re.findall(r"([\d.]+) times", line)]
    assert "vectors of 256 bits in fastrnn: inference" in line
    np.testing.assert_allclose(other, np.array(means) / 2, atol=0.011)


def test_quickstart_reaches_its_figures_and_draws_them(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    done = run_python("examples/quickstart.py", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.search(r"test accuracy\s+([\d.]+)", done.stdout).group(1))
    network, naive = map(float, re.findall(r"MASE\s+([\d.]+)", done.stdout))
    assert accuracy >= 0.97
    assert network < naive
    pictures = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(pictures) == {
        "digits_learning_curves.png",
        "airline_learning_curve.png",
        "airline_forecast.png",
    }
    assert min(pictures.values()) > 10_000


def test_grid_compares_equal_networks_and_writes_its_results(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    from benchmarks import grid, report
    from benchmarks.timing import environment
    from fastrnn.bench.cases import KINDS, Case, Size

    rows = []
    for kind in KINDS:
        rows += grid.measure_together(Case("gru", Size(2, 3, 4, 5), kind), ("fastrnn",), seconds=0.01)
    # A peer of known speed: the ratio and the best of two thread counts are arithmetic.
    for row in list(rows):
        for threads, factor in (("1", 3.0), ("2", 2.0)):
            peer = {"library": "torch", "threads": threads, "median_s": factor * row["median_s"]}
            rows.append({**row, **peer})
    best = report.best_by_library(rows)
    assert len(best) == 2
    for place in best.values():
        assert place["torch"]["threads"] == "2"
        assert report.ratio(place) == pytest.approx(2)
    info = {**environment(), "limits": {"gflops": 100.0, "gbytes_per_s": 20.0}}
    grid.write(rows, info, tmp_path)
    assert json.loads((tmp_path / "grid.json").read_text())["environment"]["versions"]["numpy"]
    assert "| gru | 2 | 3 | 4 | 5 |" in (tmp_path / "grid.md").read_text()
    assert (tmp_path / "ratios.png").stat().st_size > 5_000
    assert (tmp_path / "roofline.png").stat().st_size > 5_000


def test_grid_counts_only_steps_that_are_not_masked():
    from fastrnn.bench.cases import VARIANTS, Case, Size

    size = Size(8, 40, 5, 3)
    plain, *others = (Case("gru", size, "training", variant=v) for v in VARIANTS)
    by_name = {case.variant: case for case in others}
    assert by_name["bidirectional"].flop == 2 * plain.flop
    assert by_name["stacked"].flop == plain.flop + Case("gru", Size(8, 40, 3, 3), "training").flop
    for name in ("masked", "ragged"):
        case = by_name[name]
        assert case.flop * 8 * 40 == plain.flop * case.valid().sum()
        assert (case.data()[0][~case.valid()] == 0).all()
    assert by_name["ragged"].lengths().max() == 40


def test_grid_refuses_to_race_networks_that_learn_differently():
    import dataclasses

    from benchmarks import grid
    from fastrnn.bench.cases import Case, Size

    case = Case("lstm", Size(3, 4, 2, 5), "training", variant="ragged")
    one, other = (next(grid.fastrnn_contenders(case, (1,))) for _ in range(2))
    grid.check_outputs([one, other], case)
    one, other = (next(grid.fastrnn_contenders(case, (1,))) for _ in range(2))
    eager = dataclasses.replace(other, run=lambda: [other.run(), other.run()])
    with pytest.raises(AssertionError, match="change by one step"):
        grid.check_outputs([one, eager], case)


def test_real_data_reports_every_job_with_a_file(tmp_path):
    from benchmarks import real_data

    here = {"cpu": "a processor", "cores": 2, "date": "2001-02-03", "commit": "abc123", "load": 1.5}
    part = {"window_accuracy": 0.75, "fit_s": 9.0, "votes": [0.25, 0.6], "unknown_accuracy": 0.5}
    held_back = {"numbers": [3, 4], "authors": [1, 0], "votes": [0.9, 0.5], "paper_accuracy": 1.0}
    found = {
        "imdb_gru": {"cell": "gru", "best_val_accuracy": 0.875, "fit_s": 12.0},
        "vowels": {"mean": 0.98, "std": 0.01, "test_accuracy": [0.97, 0.99], "fit_s": [1.0, 3.0]},
        "authorship": {
            "settings": {"stride": 3, "epochs": 2, "batch_size": 64, "units": 8},
            "n_windows": 1234,
            "window_split": part,
            "paper_split": {**part, "held_back": held_back, "auc_of_unseen_papers": 1.0},
            "unknown": {"numbers": [17, 43], "authors": [0, 0]},
            "share_of_madison": 0.5,
        },
    }
    for name, result in found.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"environment": here, **result}))
    text = real_data.describe(tmp_path)
    assert "a processor, 2 cores" in text
    assert "| IMDB, GRU | best val_accuracy | 0.8750 | 12.0 | 2001-02-03, abc123, 1.5 |" in text
    assert "| Japanese vowels, GRU, 2 seeds | test accuracy | 0.9800 +- 0.0100 | 2.0 |" in text
    assert "1,234 windows of 30 characters, one at every 3; 2 epochs in batches of 64" in text
    # Against the border, halfway between .9 and .5, the vote for No. 43 turns.
    assert re.search(r"No\. 43 +40\.0% +60\.0% +20\.0%   Madison\* +Hamilton +Hamilton\n", text)
    assert re.search(r"by the border +100%", text)
    assert (
        "| Federalist papers, SimpleRNN(8), papers held back | accuracy on windows | 0.7500 | 9.0 |" in text
    )
    (tmp_path / "authorship.json").rename(tmp_path / "authorship_full.json")
    assert "## Authorship, full\n" in real_data.describe(tmp_path)
    (tmp_path / "authorship_full.json").unlink()
    assert "Hamilton" not in real_data.describe(tmp_path)


def test_grid_refuses_to_race_networks_that_differ():
    import numpy as np

    from benchmarks import grid
    from fastrnn.bench.cases import Case, Size
    from fastrnn.bench.peers import Contender

    right = Contender("a", "1", lambda: None, lambda: np.zeros(3))
    wrong = Contender("b", "1", lambda: None, lambda: np.full(3, 1e-2))
    with pytest.raises(AssertionError, match="against a-1threads"):
        grid.check_outputs([right, wrong], Case("gru", Size(1, 1, 1, 1)))


@pytest.mark.peers
def test_peers_start_from_the_same_network():
    # A process of its own: Keras keeps the backend that it was first imported with.
    script = """
from benchmarks import grid
from fastrnn.bench import peers
from fastrnn.bench.cases import CELLS, KINDS, VARIANTS, Case, Size
libraries = set()
plain = [(cell, kind, "plain") for cell in CELLS for kind in KINDS]
others = [(cell, kind, v) for v in VARIANTS[1:] for cell, kind in (("gru", "inference"), ("lstm", "training"))]
for cell, kind, variant in plain + others:
    case = Case(cell, Size(3, 5, 3, 4), kind, variant=variant)
    found = [*grid.fastrnn_contenders(case), *peers.peer_contenders(case)]
    grid.check_outputs(found, case)
    libraries |= {contender.library for contender in found}
print(len(libraries))
"""
    done = run_python("-c", script, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    if int(done.stdout.split()[-1]) == 1:
        pytest.skip("the extra 'peers' is not installed")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_documents_name_files_and_tests_that_exist(name):
    text = (ROOT / name).read_text("utf-8")
    paths = re.findall(r"\b(?:fastrnn|tests|examples|benchmarks)/[\w./]*\w", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    here = (ROOT / name).parent
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if not (here / link).exists()] == []
    for path, test in re.findall(r"(tests/\w+\.py)::(\w+)", text):
        assert f"def {test}(" in (ROOT / path).read_text("utf-8")
    for module in re.findall(r"python -m ((?:benchmarks|tests)\.\w+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_citation_names_the_version_and_the_licence_of_the_package():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    import fastrnn

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert cited["version"] == fastrnn.__version__
    assert cited["license"] == project["license"]
    assert [author["name"] for author in cited["authors"]] == [
        author["name"] for author in project["authors"]
    ]
    # What the format asks for (https://citation-file-format.github.io, 1.2.0).
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["type"] == "software"

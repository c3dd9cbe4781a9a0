"""The other libraries in the benchmarks compute the same networks, and the grid of both ways to run them."""

import json

import pytest

from benchmarks import grid, report
from fastrnn.bench import peers
from fastrnn.bench.cases import Case, Size
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.rows import case_of, compare_outputs, outputs_of

SMALL = Size(4, 11, 3, 5)


def compare(library, case):
    """The modes of a library that were compared with fastrnn's outputs and changes by one step."""
    modules, contenders = peers.PEERS[library]
    if not peers.installed(*modules):
        pytest.skip("the extra 'peers' is not installed")
    ours = outputs_of(next(fastrnn_contenders(case, (1,))), case)
    found = list(contenders(case, (1, 2)))
    for one in found:
        compare_outputs(case, [("fastrnn", ours), (str(one), outputs_of(one, case))])
    return [(one.threads, one.mode) for one in found]


# test_peers_start_from_the_same_network compares all libraries and variants in float32.


@pytest.mark.peers
def test_peers_jax_learns_the_same_in_float64_under_a_mask():
    assert compare("jax", Case("gru", SMALL, "training", "float64", "masked")) == [("all", "")]


@pytest.mark.peers
def test_peers_openvino_runs_with_each_hint():
    hints = ("latency", "throughput")
    expected = [(threads, hint) for threads in ("1", "2") for hint in hints]
    assert compare("openvino", Case("simple_rnn", SMALL, variant="stacked")) == expected


@pytest.mark.peers
def test_peers_openvino_takes_sequences_that_can_not_be_divided():
    assert len(compare("openvino", Case("lstm", Size(3, 4, 2, 5)))) == 4
    assert compare("openvino", Case("lstm", SMALL, "training")) == []


def test_grid_runs_each_library_alone_and_all_in_one_process(tmp_path, monkeypatch, capsys):
    libraries = ["fastrnn"] + ["torch"] * peers.installed("torch")
    options = [
        "--libraries",
        *libraries,
        "--cells",
        "gru",
        "--kinds",
        "inference",
        "--seconds",
        "0",
        "--keep",
    ]
    for size in (SMALL, Size(2, 3, 4, 5)):
        monkeypatch.setitem(grid.SIZE_SETS, "main", (size,))
        assert grid.main([*options, "--out", str(tmp_path)]) == 0, capsys.readouterr().err
    for processes, ending in grid.PROCESSES.items():
        name = f"grid{ending}{grid.suffix()}"
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert content["environment"]["processes"] == processes
        assert {case_of(row).size for row in content["rows"]} == {SMALL, size}
        assert {row["library"] for row in content["rows"]} == set(libraries)
        text = (tmp_path / f"{name}.md").read_text()
        assert report.PLACES[processes] in text
        assert f"vectors of {content['environment']['vector_bits']} bits in fastrnn" in text


def test_grid_says_what_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(grid.SIZE_SETS, "main", (SMALL,))

    def differ(case, libraries, seconds):
        raise AssertionError("outputs of torch")

    monkeypatch.setattr(grid, "measure_together", differ)
    options = ["--processes", "one", "--cells", "gru", "--kinds", "inference", "--out", str(tmp_path)]
    assert grid.main(options) == 1
    assert "not timed, because the networks differ: outputs of torch" in capsys.readouterr().err

"""The benchmark tools run, and decide correctly on invented figures. No times are tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare, epochs, growth, neighbours, ratios, search, start, unrolled
from fastrnn.bench.cases import Case, Size
from fastrnn.engine.runtime.jit import DISABLED


def made_up(rng, slower: float, spread: float, rounds: int = 15, pairs: int = 3, drift: float = 0.0):
    """Times of old and new in pairs of processes: `slower` times as long, with noise in rounds and between pairs."""
    found = []
    for k in range(pairs):
        machine = rng.uniform(1, 2, rounds)  # equal for both sides of a round
        old, new = machine * rng.lognormal(0, spread, (2, rounds))
        found.append((old, new * slower * (1 + drift * (k - (pairs - 1) / 2))))
    return found


# --- compare -----------------------------------------------------------------------------------------------------------


def test_compare_finds_what_is_slower_and_by_how_much(rng):
    verdict = compare.decide(made_up(rng, 1.12, 0.01), 0.05)
    assert verdict.slower
    assert str(verdict) == "SLOWER"
    assert verdict.ratio == pytest.approx(1.12, abs=0.02)
    assert verdict.noise < 0.05


def test_compare_calls_equal_and_faster_ones_not_slower(rng):
    assert str(compare.decide(made_up(rng, 1.0, 0.01), 0.05)) == "same"
    assert str(compare.decide(made_up(rng, 0.8, 0.01), 0.05)) == "faster"
    # Within the bound, at any confidence.
    assert not compare.decide(made_up(rng, 1.03, 0.001), 0.05).slower


def test_compare_reports_nothing_for_noise():
    verdicts = [compare.decide(made_up(np.random.default_rng(i), 1.0, 0.3), 0.05) for i in range(300)]
    assert sum(v.slower for v in verdicts) <= 3
    assert all(v.noisy for v in verdicts)


def test_compare_takes_a_difference_between_processes_for_noise(rng):
    # 10% and more in every round of one pair, nothing in another pair: processes differ like this.
    verdict = compare.decide(made_up(rng, 1.08, 0.005, drift=0.2), 0.05)
    assert verdict.noise > 0.15
    assert not verdict.slower


def test_compare_median_half_width_holds_the_median():
    missed = 0
    for i in range(400):
        values = np.random.default_rng(i).exponential(1, 45)
        half = compare.median_half_width(values)
        assert half > 0
        missed += abs(np.median(values) - np.log(2)) > 2 * half
    assert missed <= 4
    assert compare.median_half_width(np.array([3.0])) == 0


def test_compare_exit_code_says_whether_a_case_is_slower(monkeypatch, capsys, rng):
    import contextlib

    @contextlib.contextmanager
    def no_trees(old, new):
        yield None, None

    for slower, code in ((1.2, 1), (1.0, 0)):
        monkeypatch.setattr(compare, "checked_out", no_trees)
        monkeypatch.setattr(
            compare,
            "compare",
            lambda trees, wanted, *rest, slower=slower: [made_up(rng, slower, 0.01) for _ in wanted],
        )
        assert compare.main(["a", "b", "--cells", "gru", "--starts", "0"]) == code
        assert ("SLOWER" in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize(("slower", "code"), [(1.3, 1), (1.0, 0)])
def test_compare_takes_first_fits_for_cases(monkeypatch, capsys, slower, code):
    import contextlib

    monkeypatch.setattr(compare, "checked_out", lambda old, new: contextlib.nullcontext(("old", "new")))
    monkeypatch.setattr(
        compare, "compare", lambda trees, wanted, *rest: [[(np.ones(5), np.ones(5))] for _ in wanted]
    )

    def first_fit(tree, cache, threads):
        known = (cache / "known").exists()
        (cache / "known").touch()
        seconds = (1.0 if known else 4.0) * (slower if tree == "new" and not known else 1)
        return (seconds, 1.0), 26 if tree == "new" else 28

    monkeypatch.setattr(compare, "first_fit", first_fit)
    assert compare.main(["a", "b", "--cells", "gru"]) == code
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "first fit, " in line]
    assert ["CPU time" in line for line in lines] == [False, True, False, True]
    assert ["SLOWER" in line for line in lines] == [bool(code), False, False, False]
    assert "Functions compiled in a first fit: 28 before, 26 now." in out


def test_compare_needs_samples():
    with pytest.raises(ValueError, match="at least one pair"):
        compare.decide([], 0.05)


# --- ratios, growth ----------------------------------------------------------------------------------------------------


def test_ratios_line_handles_both_kinds_of_targets():
    def line(measured, at_most, by_chance=False):
        spread = (measured - 0.1, measured + 0.1)
        return ratios.Line("", "", measured, spread, 1.0, at_most, by_chance).met

    assert line(0.95, at_most=True)
    assert not line(1.05, at_most=True)
    assert line(1.05, at_most=False)
    assert not line(0.95, at_most=False)
    assert line(0.95, at_most=False, by_chance=True)
    assert not line(0.85, at_most=False, by_chance=True)


def test_ratios_run_and_say_what_is_met(tmp_path, monkeypatch, capsys):
    size = Size(16, 5, 2, 3)
    monkeypatch.setattr(ratios, "BATCHES", (size,))
    arguments = ["ragged", "mask", "--cells", "gru", "--kinds", "inference", "--seconds", "0"]
    ratios.main([*arguments, "--out", str(tmp_path)])
    lines = json.loads((tmp_path / "ratios.json").read_text())["lines"]
    assert [line["what"].split()[0] for line in lines] == ["ragged", "mask", "mask"]
    assert f"{sum(line['met'] for line in lines)} of 3 met." in capsys.readouterr().out


def test_growth_fits_find_the_exponent_and_a_knee():
    at = np.geomspace(1e3, 1e7, 9)
    rows = [
        {
            "sweep": "steps",
            "cell": "gru",
            "kind": kind,
            "at": n,
            "median_s": 1e-8 * n * (knee if n > 5e5 else 1),
        }
        for kind, knee in (("inference", 1), ("training", 1.5))
        for n in at
    ]
    straight, bent = growth.fits(rows)
    assert straight["slope"] == pytest.approx(1)
    assert straight["last_over_least"] == pytest.approx(1)
    assert straight["from"] == 10_000
    assert bent["last_over_least"] == pytest.approx(1.5)
    assert bent["steepest"] > 1.3


def test_growth_leaves_out_what_does_not_fit_the_memory(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    small, large = Size(2, 5, 8, 16), Size(200, 100, 8, 16)
    sizes = [growth.Point("batch", small), growth.Point("batch", large)]
    monkeypatch.setattr(growth, "points", lambda *limits: sizes)
    monkeypatch.setattr(
        growth, "available_bytes", lambda: 4 * growth.needed_bytes(Case("gru", small, "training"))
    )
    growth.main(["--cells", "gru", "--seconds", "0", "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("left out") == 2
    assert [row["size"] for row in json.loads((tmp_path / "growth.json").read_text())["rows"]] == [
        str(small)
    ] * 2
    assert (tmp_path / "growth.png").stat().st_size > 5_000


# --- epochs, start -------------------------------------------------------------------------------------------------------


def test_epochs_table_holds_ours_against_the_best_way_of_the_peer():
    def row(library, mode, seconds):
        racer = epochs.Racer(library, mode, print)
        return epochs.row_of("vowels", "gru", 32, 270, 9e9, racer, np.array([seconds, 9.0, 0.0]))

    rows = [row("fastrnn", "1 threads", 2.0), row("fastrnn", "2 threads", 1.0)]
    rows += [row("torch", "packed", 6.0), row("torch", "padded", 4.5)]
    info = {"cpu": "", "cores": 2, "vector": "", "date": "", "versions": {}, "micro_kernel_gflops": 16.0}
    text = epochs.markdown(rows, info)
    assert "| vowels | gru | 32 | 270 | 1 | 4.5 (torch padded) | 3.7e+03 | 4.50 | NO (>= 5) | 8.00 |" in text


def test_epochs_count_the_products_of_a_step_forward_and_back():
    n_inputs, units = 12, 100
    forward, back = n_inputs + units, (n_inputs + units) + units  # of the weights, and of the states
    assert epochs.flop_of("lstm", 7, n_inputs, units, first=True) == 2 * 4 * units * 7 * (forward + back)
    assert epochs.flop_of("gru", 7, n_inputs, units, first=False) == 3 * 2 * 3 * units * 7 * forward


def test_epochs_take_one_time_a_round():
    (racer,) = epochs.review_racers("simple_rnn", 4, 6, ("fastrnn",))
    racer.prepare()
    (times,) = epochs.race([racer], 2)
    assert times.shape == (2,)


def test_start_targets_report_what_is_met():
    middle = {
        "fastrnn, bare import": {"import": 0.1},
        "fastrnn, cold": {"fit_alone": 6.0, "first_fit": 7.0},
        "fastrnn, digits": {"process": 2.0},
        "torch, digits": {"process": 3.0},
    }
    assert [(value, met) for _, value, _, met in start.targets(middle)] == [
        (0.1, True),
        (6.0, False),
        (2.0, True),
    ]


# --- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(DISABLED, reason="takes minutes without a compiler")
@pytest.mark.parametrize("cell", ["simple_rnn", "gru", "lstm"])
def test_memory_of_a_training_step_is_saved_gates_states_and_inputs(cell):
    from benchmarks import memory

    found = memory.step(cell, (64, 200, 32, 32))
    assert found["peak"] <= memory.STEP_TARGET * found["formula"]


# --- README ------------------------------------------------------------------------------------------------------------


def test_readme_shows_the_speed_that_was_measured():
    from benchmarks import report

    root = Path(__file__).resolve().parents[1]
    for name, lines in (("README.md", report.readme_table), ("benchmarks/README.md", report.size_table)):
        readme = (root / name).read_text(encoding="utf-8")
        assert readme == report.renew(readme, lines(root / "benchmarks" / "results"))
    with pytest.raises(ValueError, match="README"):
        report.renew("no marks", [])


# --- search ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT")
def test_search_writes_times_and_accuracies_of_each_library(tmp_path):
    assert search.main(["--quick", "--out", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "search.json").read_text())
    page = (tmp_path / "search.md").read_text()
    libraries = [row["library"] for row in stored["rows"]]
    assert libraries == (["fastrnn", "skorch"] if search.installed("skorch", "torch") else ["fastrnn"])
    assert stored["environment"]["vector"] in page
    for row in stored["rows"]:
        assert row["seconds"] > 0
        assert 0 <= row["mean_cv_accuracy"] <= row["best_cv_accuracy"] <= 1
        assert f"{row['test_accuracy']:.3f}" in page
    ways = {row["way"]: row for row in stored["small"]}
    assert set(ways) == {way for way in search.SMALL_WAYS if "processes" not in way}
    assert all(row["largest_difference_of_scores"] < 1e-4 for row in ways.values())


def test_search_has_24_candidates_of_each_library():
    names = {"cell": "cell", "units": "units", "rate": "lr", "batch": "batch_size"}
    found = search.candidates(names, 1)
    assert len(found) == len({json.dumps(one) for one in found}) == 24
    assert search.candidates(names, 12) == found[::12]


# --- unrolled ----------------------------------------------------------------------------------------------------------


def test_unrolled_chain_has_all_links_and_tells_what_is_possible():
    links = {"add": 1e-9, "mul": 2e-9, "fma": 3e-9, "memory": 4e-9, "tanh": 5e-9, "sigmoid": 6e-9}
    assert unrolled.chain_seconds("simple_rnn", 8, links) == pytest.approx(33e-9)
    assert unrolled.chain_seconds("lstm", 16, links) == pytest.approx(68e-9)
    assert unrolled.chain_seconds("gru", 1, links) == pytest.approx(25e-9)
    times = {
        "inference": {"base": 20e-6, "looped": 12e-6, "unrolled": 10.94e-6},
        "one step": {"base": 2e-6, "looped": 1.5e-6, "unrolled": 1.04e-6},
    }
    row = unrolled.chain_row(unrolled.Size("simple_rnn", 8, 1), times, links)
    assert row["step"] == pytest.approx(100e-9)
    assert row["call"] == pytest.approx(0.94e-6)
    assert row["ratio"] == pytest.approx(20 / 10.94)
    assert row["possible"] == pytest.approx(20 / (0.94 + 3.3))


@pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
def test_unrolled_measures_links_and_processes(tmp_path):
    links = unrolled.latencies()
    assert set(links) >= {link for chain in unrolled.CHAINS.values() for link in chain}
    assert np.isfinite(list(links.values())).all()
    unrolled.main(["--units", "4", "--rounds", "1", "--cells", "simple_rnn", "--out", str(tmp_path)])
    (stored,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert {row["job"] for row in stored["rows"]} == {*unrolled.JOBS, "one step"}
    assert all(row["looped"] > 0 and row["unrolled"] > 0 for row in stored["rows"])
    assert len(stored["chains"]) == 1


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_neighbours_compare_two_threads_with_one_and_tell_what_is_over(tmp_path, monkeypatch, capsys):
    found = neighbours.fewer("simple_rnn-inference-B8xT5xI2xH4", 2, 0.01)
    assert found["one"] > 0
    assert found["two"] > 0
    rows = [
        {"cores": "one core", "case": "a", "one": 1.0, "two": 1.2},
        {"cores": "half", "case": "a", "one": 1.0, "two": 1.0},
    ]
    monkeypatch.setattr(neighbours, "rows_fewer", lambda seconds: rows)
    both = {
        "beside": "torch",
        "case": "a",
        "ours": 1.0,
        "ours_one": 1.1,
        "ours_several": 1.32,
        "several_alone": 1.0,
        "several_beside": 1.5,
    }
    monkeypatch.setattr(neighbours, "rows_beside", lambda seconds: [both])
    assert neighbours.main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "neighbours.md").read_text("utf-8")
    assert "1.20 **over**" in text
    assert "| torch | a | 1e+03 | 1.10 | 1.20 **over** | 1.50 |" in text
    assert json.loads((tmp_path / "neighbours.json").read_text("utf-8"))["rows"] == [both, *rows]


def test_neighbours_leave_out_control_groups_that_can_not_be_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(neighbours, "GROUPS", tmp_path / "none")
    monkeypatch.setattr(neighbours, "in_process", lambda *arguments: {"one": 1.0, "two": 1.0})
    assert {row["cores"] for row in neighbours.rows_fewer(0.01)} <= {"one core"}
    assert "no control group of 0.5 cores" in capsys.readouterr().err

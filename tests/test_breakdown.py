"""The tool that divides a pass into parts. No times are tested."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import breakdown, laps
from benchmarks.instrumented import RULES, Rule, copy_with_laps, with_laps
from benchmarks.report import below_target
from fastrnn.bench.cases import CELLS, KINDS, ODD_SIZES, VARIANTS, Case, Size, case_named
from fastrnn.bench.rows import new_row

needs_counter = pytest.mark.skipif(not laps.SUPPORTED, reason="the host is not x86-64, or NUMBA_DISABLE_JIT")


def row(ratio):
    parts = dict.fromkeys(laps.PARTS, 1e-6)
    others = {**parts, "hand-over": 4e-6}
    return breakdown.Row("gru-inference-B1xT1xI1xH1-float32", 2, 1e-5, 1e-5, ratio, parts, others, {})


def test_breakdown_case_is_named_as_it_is_shown():
    for cell in CELLS:
        for kind in KINDS:
            for variant in VARIANTS:
                case = Case(cell, ODD_SIZES[0], kind, "float64", variant)
                assert case_named(str(case)) == case
    assert case_named("gru-training-B2xT3xI4xH5").dtype == "float32"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gruu-inference-B1xT1xI1xH1", "no name of a case: write it as lstm-inference-B1xT100xI32xH32"),
        ("gru-inference-B1xT1xI1", "one of inference, training"),
        ("gru-inference-B1xT0xI1xH1", "must be at least 1, got (1, 0, 1, 1)"),
    ],
)
def test_breakdown_refuses_what_is_no_case(name, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(breakdown, "SUPPORTED", True)
    with pytest.raises(SystemExit):
        breakdown.main([name, "--out", str(tmp_path / "out")])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_breakdown_says_where_the_sum_is_not_the_whole():
    info = {"cpu": "", "cores": 2, "vector": "AVX2", "vector_bits": 256, "date": "", "versions": {}}
    text = breakdown.markdown([row(1.09), row(1.11), row(0.89)], info)
    assert text.count("**NO**") == 2
    assert "within 10% of the whole in 1 of 3 rows" in text
    assert "AVX2, vectors of 256 bits in fastrnn" in text
    assert row(1.0).busy == pytest.approx(0.9)


def test_breakdown_laps_are_around_the_calls_that_are_named():
    source = """'About.'
from __future__ import annotations

def f(x):
    'Text.'
    y = x
    g(y)
    for i in y:
        h(i)
    return y
"""
    made = with_laps(source, {"f": Rule({"g": 1, "h": 5}, piece=True, last=9)}, "f.py")
    lines = [line.strip() for line in made.splitlines()]
    assert lines[lines.index("lap_row = own_row()") :] == [
        "lap_row = own_row()",
        "lap(lap_row, 8)",
        "y = x",
        "lap(lap_row, 9)",
        "g(y)",
        "lap(lap_row, 1)",
        "for i in y:",
        "h(i)",
        "lap(lap_row, 5)",
        "lap_result = y",
        "lap(lap_row, 9)",
        "return lap_result",
    ]
    with pytest.raises(ValueError, match="f.py has no function g"):
        with_laps(source, {"g": Rule()}, "f.py")
    with pytest.raises(ValueError, match=r"does not call \['k'\]"):
        with_laps(source, {"f": Rule({"g": 1, "k": 5})}, "f.py")


def test_breakdown_rules_fit_the_engine(tmp_path):
    copy_with_laps(tmp_path)
    for file in RULES:
        text = (tmp_path / "fastrnn/engine" / file).read_text("utf-8")
        compile(text, file, "exec")
        assert "lap(" in text
    assert "lap(" not in (tmp_path / "fastrnn/engine/kernels/matmul.py").read_text("utf-8")


@needs_counter
def test_breakdown_measures_again_until_the_sum_holds(tmp_path, monkeypatch, capsys):
    ratios = iter([1.0, 1.5, 1.3, 1.02, 1.2, 0.8, 1.11])
    names = ["gru-inference-B1xT1xI1xH1", "gru-inference-B1xT2xI1xH1", "gru-inference-B1xT3xI1xH1"]
    monkeypatch.setattr(breakdown, "measure", lambda case, *_: replace(row(next(ratios)), case=str(case)))
    options = ["--threads", "2", "--keep", "--out", str(tmp_path)]
    assert breakdown.main([names[0], *options]) == 0
    assert breakdown.main([*names[1:], *options]) == 1
    assert "within 10% of the whole in 2 of 3 rows; 2 were measured more than once" in capsys.readouterr().out
    rows = json.loads((tmp_path / f"breakdown{breakdown.suffix()}.json").read_text())["rows"]
    assert [(one["ratio"], one["tries"]) for one in rows] == [(1.0, 1), (1.02, 3), (1.11, 3)]


@needs_counter
def test_breakdown_counts_what_a_training_step_does(tmp_path, capsys):
    name = "simple_rnn-training-B4xT30xI8xH8"
    breakdown.main([name, "--threads", "1", "--rounds", "2", "--out", str(tmp_path)])
    (found,) = json.loads((tmp_path / f"breakdown{breakdown.suffix()}.json").read_text())["rows"]
    for part in laps.PARTS:
        assert found["parts"][part] > 0, part
    assert sum(found["parts"].values()) == pytest.approx(found["total"])
    assert set(found["others"].values()) == {0}
    assert name in capsys.readouterr().out


# --- limits ------------------------------------------------------------------------------------------------------------


def test_limits_count_only_the_products_that_a_layer_needs():
    from benchmarks.limits import product_flop

    b, t, i, h = 3, 5, 7, 11
    case = Case("gru", Size(b, t, i, h))
    assert product_flop(case) == case.flop
    # Forward, gradients of the weights, and gradients of the states but not of the inputs.
    products = [(i, 3 * h), (h, 3 * h), (i, 3 * h), (h, 3 * h), (3 * h, h)]
    assert product_flop(replace(case, kind="training")) == 2 * b * t * sum(k * n for k, n in products)


def test_limits_take_the_points_below_target():
    size, rows = Size(2, 3, 4, 5), []
    for kind, peer in (("inference", 1.04e-3), ("training", 1.26e-3)):
        for library, seconds in (("fastrnn", 1e-3), ("torch", peer)):
            rows.append(new_row(Case("lstm", size, kind), library, "1", "", np.array([seconds])))
    assert below_target(rows) == [Case("lstm", size)]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(("batch", "units", "threads"), [(2, 5, 1), (4, 40, 2), (9, 511, 2)])
def test_limits_compute_the_recurrent_products_of_a_case(batch, units, threads, back, monkeypatch):
    """Every thread has as many columns, and every step as many products, as the pass has."""
    from benchmarks import limits

    calls = []
    monkeypatch.setattr(limits, "_all_steps", lambda state, parts, *args: calls.append((parts, *args)))
    limits.recurrent_work(Case("lstm", Size(batch, 3, 4, units)), threads, back=back)()
    ((parts, a, packed, out, steps, n_groups),) = calls
    assert (parts, steps) == (threads, 3)
    assert len(a) == len(out) == threads
    assert (
        a.shape[1] * a.shape[2] * out.shape[2] * threads >= batch * units * 4 * units
    )  # whole panels and rows
    assert packed.shape[1] >= a.shape[2] * out.shape[2]
    assert out.shape[2] % n_groups == 0


def test_limits_hold_a_pass_against_products_and_functions(tmp_path, capsys):
    from benchmarks import limits

    cases = [f"{cell}-training-B2xT3xI4xH5" for cell in ("lstm", "gru")]
    assert limits.main([*cases, "--threads", "1", "--seconds", "0", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / f"limits{breakdown.suffix()}.json").read_text())["rows"]
    assert [row["case"] for row in found] == [f"{case}-float32" for case in cases]
    assert all(0 < row["pointwise"] < row["measured"] for row in found)
    assert all(0 < row["products"] < row["measured"] for row in found)  # of a few thousand operations
    assert all(row["products"] <= row["in_place"] for row in found)
    near = limits.Near("lstm-inference-B1xT1xI1xH1-float32", 1, 0.4, 0.5, 0.35, 1.0)
    assert near.share == pytest.approx(0.85)
    assert near.share_of_best == pytest.approx(0.75)
    info = {"cpu": "", "cores": 2, "vector": "AVX2", "date": "", "versions": {}}
    assert "1 of 2 are at 85%" in limits.markdown([near, replace(near, measured=1.01)], info)
    with pytest.raises(SystemExit):
        limits.main([f"{cases[0]}-float32-masked"])
    assert "plain networks" in capsys.readouterr().err

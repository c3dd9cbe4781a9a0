"""The further cells on tasks of their papers, in short form; ``python -m benchmarks.toys`` is the long one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import toys
from fastrnn.cells import registered


def test_mackey_glass_has_the_spread_that_smaller_steps_give():
    x = toys.mackey_glass(40, 200, seed=1)
    assert x.shape == (40, 200)
    np.testing.assert_allclose(x.std(), toys.mackey_glass(40, 200, seed=1, per_unit=40).std(), rtol=0.05)


def test_echo_state_cell_runs_on_its_own_predictions():
    assert toys.echo_state_error(150, 1500, 5) < 0.3  # the mean of the series would give 1


def test_adding_problem_marks_one_number_in_each_half():
    x, y = toys.adding(50, 20, 0)
    assert (x[:, :10, 1].sum(axis=1) == 1).all()
    assert (x[:, 10:, 1].sum(axis=1) == 1).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(axis=1), y[:, 0], rtol=1e-6)
    assert abs(((y - 1) ** 2).mean() - toys.MEAN_ERROR) < 0.05


@pytest.mark.parametrize("name", [name for name in toys.ADDING if name != "LSTM"])
def test_cell_learns_the_adding_problem(name):
    assert toys.adding_error(name, 32, 900, 20) < toys.MEAN_ERROR / 2


def test_results_are_those_of_the_table():
    found = json.loads((toys.RESULTS / "toys.json").read_text("utf-8"))
    text = (toys.RESULTS / "toys.md").read_text("utf-8")
    assert f"10**{np.log10(found['mackey_glass']['nrmse84']):.1f}" in text
    for name, entry in found["adding"].items():
        assert f"`{name}`" in text
        assert f"{entry['mse']:.4f}" in text
        assert entry["mse"] < toys.MEAN_ERROR / 4


def test_readme_has_a_row_for_each_newer_cell_with_the_stored_result():
    found = json.loads((toys.RESULTS / "toys.json").read_text("utf-8"))
    lines = (toys.RESULTS.parents[1] / "README.md").read_text("utf-8").splitlines()
    rows = {name: line for name in registered() for line in lines if line.startswith(f"| `{name}` |")}
    figures = {cell.__name__: found["adding"].get(cell.__name__) for cell in registered().values()}
    for name in ("min_gru", "min_lstm", "fast_grnn", "slstm", "co_rnn"):
        mse = figures[registered()[name].__name__]["mse"]
        assert rows[name].endswith(f"| {f'{mse:.4f}'.lstrip('0')} |")
    assert f"10^{np.log10(found['mackey_glass']['nrmse84']):.1f} in Mackey-Glass" in rows["echo_state"]

"""A few drawn cases against Keras on every run; ``python -m tests.differential`` runs thousands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import differential, keras_oracle

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
try:
    keras_oracle.load()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

REGRESSIONS = json.loads((Path(__file__).parent / "golden" / "regressions.json").read_text())


@pytest.mark.parametrize("number", range(60))
def test_drawn_case_matches_keras(number):
    (case,) = differential.cases([1, number], 1)
    verdict, details = differential.check(case)
    assert verdict != "differs", f"{details}\n{json.dumps(case)}"


@pytest.mark.parametrize("case", REGRESSIONS, ids=[c.get("why", str(k)) for k, c in enumerate(REGRESSIONS)])
def test_case_that_once_differed_matches(case):
    verdict, details = differential.check(case)
    assert verdict != "differs", f"{details}\n{json.dumps(case)}"


def test_comparison_finds_a_wrong_number():
    """The comparison itself can fail: one weight off by 1e-8 in float64, a missing array, a NaN."""
    expected = {"a": np.ones((2, 3)), "b": np.zeros(4)}
    assert not differential.differences({k: v.copy() for k, v in expected.items()}, expected, 1e-10)
    for wrong in (
        {**expected, "a": expected["a"] + np.array([0, 0, 1e-8])},
        {"a": expected["a"]},
        {**expected, "b": np.array([0, np.nan, 0, 0])},
        {**expected, "b": np.zeros(3)},
    ):
        assert differential.differences(wrong, expected, 1e-10)


def test_drawing_reaches_every_option():
    drawn = [differential.draw_case(np.random.default_rng([0, k])) for k in range(400)]
    text = json.dumps(drawn)
    for word in (
        *differential.RECURRENT,
        *("Bidirectional", "backward_layer", "Embedding", "Masking", "unroll", "go_backwards"),
        *("zero_output_for_mask", "use_bias", "reset_after", "recurrent_activation", "clipnorm", "amsgrad"),
        *(loss for loss, _ in differential.HEADS),
    ):
        assert f'"{word}"' in text, word
    assert {c["mask"] for c in drawn} == {None, "random", "sparse", "trailing", "leading", "full"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [0, 1])
def test_difference_that_rounding_does_not_explain_is_reported(number, dtype, monkeypatch):
    """An error of 1e-8 in float64, of 1e-3 in float32, shows, though last digits of the weights move the results too."""
    drawn = differential.cases(5, 40)
    case = next(c for c in drawn if c["dtype"] == dtype and c["kind"] == ("layer", "model")[number])
    right = differential.run_fastrnn
    monkeypatch.setattr(
        differential,
        "run_fastrnn",
        lambda case: {k: v + (1e-8 if dtype == "float64" else 1e-3) for k, v in right(case).items()},
    )
    assert differential.check(case)[0] == "differs"

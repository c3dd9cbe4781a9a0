"""fastrnn against stored numbers of Keras 3.15.1; see ``golden/make_golden.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import differential
from tests.golden.make_golden import CASES

FOLDER = Path(__file__).parent / "golden"


def load(name):
    with np.load(FOLDER / f"{name}.npz") as stored:
        results = {key: stored[key] for key in stored.files}
    return json.loads(str(results.pop("note")))["case"], results


def load_for_us(name):
    case, results = load(name)
    if absent := differential.missing(case):
        pytest.skip(f"fastrnn has no layer {', '.join(absent)}")
    return case, results


@pytest.mark.parametrize("name", CASES)
def test_matches_stored_keras(name):
    case, expected = load_for_us(name)
    assert not differential.differences(differential.run_fastrnn(case), expected, tolerance=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_float32_matches_stored_keras(name):
    case, expected = load_for_us(name)
    if case["kind"] == "layer":
        # The arrays are drawn in float64 and rounded, so both dtypes see the same numbers to float32's precision.
        actual = differential.run_fastrnn({**case, "dtype": "float32"})
        assert all(a.dtype == np.float32 for a in actual.values())
        assert not differential.differences(actual, expected, tolerance=5e-6)
    else:
        actual = differential.run_fastrnn({**case, "dtype": "float32"})
        before = {k: v for k, v in expected.items() if "before" in k}
        assert not differential.differences({k: actual[k] for k in before}, before, tolerance=2e-6)
        # Weights after 5 steps of an optimizer that divides by the gradient's size keep fewer digits.
        assert not differential.differences(actual, expected, tolerance=2e-4)


def test_stored_files_are_those_of_the_table():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(CASES)
    for name, case in CASES.items():
        stored, _ = load(name)
        assert {**stored, "array_seed": None} == {**json.loads(json.dumps(case)), "array_seed": None}

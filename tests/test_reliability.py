"""The reliability figures count what they say: a crash, a hang and a wrong number of a process with a damaged cache."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest

from benchmarks.reliability import __main__ as command
from benchmarks.reliability import cache
from tests.limits import HANG_SECONDS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
N_FILES, N_BYTES = 6, 100


@pytest.fixture
def home(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("whole", "other"):
        (tmp_path / folder / "kernels").mkdir(parents=True)
        for k in range(N_FILES):
            (tmp_path / folder / "kernels" / f"{k}.nbc").write_bytes(rng.bytes(N_BYTES))
    (tmp_path / "answer").write_text('{"answer": 1.0}')
    return tmp_path


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def too_slow():
    time.sleep(1e5)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (lambda: {"answer": 1.0}, None),
        (lambda: {"answer": 2.0}, "wrong"),
        (dict, "wrong"),
        (killed, "crashes"),
        (lambda: 1 / 0, "crashes"),
        (too_slow, "hangs"),
    ],
    ids=["right", "wrong", "nothing", "killed", "exception", "hang"],
)
def test_damaged_cache_case_is_counted_by_how_its_process_ends(home, monkeypatch, answer, counted):
    monkeypatch.setattr(cache, "answer", answer)
    monkeypatch.setattr(cache, "TIME_LIMIT", 0.05 if answer is too_slow else HANG_SECONDS)
    found = cache.cases(8, 0, home)
    assert found["processes"] == 9  # two in the case "two at once"
    assert {case: found[case] for case in cache.CASES[:8]} == dict.fromkeys(cache.CASES[:8], 1)
    assert {kind: found[kind] for kind in ("crashes", "hangs", "wrong")} == {
        kind: 9 * (kind == counted) for kind in ("crashes", "hangs", "wrong")
    }
    assert bool(found.get("examples")) == (counted in ("crashes", "hangs"))
    assert not (home / "used").exists()


@pytest.mark.parametrize("case", cache.CASES[:7])
def test_damaged_cache_case_changes_the_files_that_it_should(home, case):
    folder = home / "whole"
    files = sorted(folder.rglob("*.nbc"))
    before = {p.name: p.read_bytes() for p in files}
    cache.change(case, folder, np.random.default_rng(1))
    after = {p.name: p.read_bytes() for p in folder.rglob("*.nbc")}
    changed = [name for name in before if before[name] != after.get(name)]
    assert len(changed) == (5 if case == "two at once" else 1)
    removed = case in ("removed", "read-only", "two at once")
    assert len(after) == N_FILES - removed * len(changed)
    if case == "one bit":
        old, new = (np.unpackbits(np.frombuffer(side[changed[0]], np.uint8)) for side in (before, after))
        assert (old != new).sum() == 1
    if case == "read-only":
        assert not any(p.stat().st_mode & 0o222 for p in [folder, *folder.rglob("*")])
        for p in [folder, *folder.rglob("*")]:
            p.chmod(0o755)


def test_reliability_table_states_the_time_of_all_parts():
    kept = json.loads(command.RESULTS.read_text("utf-8"))
    minutes = sum(part["seconds"] for part in kept["parts"].values()) / 60
    assert command.table(kept).endswith(f"All parts together took {minutes:.0f} minutes with these counts.")

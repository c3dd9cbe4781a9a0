"""(f) The cache of compiled kernels damaged, truncated, read-only, written by two processes at once, or of another CPU.

Each case runs in a fresh process with a changed copy of a complete cache; the process must compute the right numbers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.parts import ROOT, Ended, Result, in_process, numbers, small_model

CASES = ("one bit", "some bytes", "truncated", "empty", "removed", "read-only", "two at once")
MODULE = "benchmarks.reliability.cache"


def answer() -> dict[str, Any]:
    """Numbers of a short training."""
    model = small_model("gru", 4)
    model.fit(numbers(8, 5, 3), numbers(8, 2), epochs=2, verbose=0)
    return {"answer": float(model.predict(numbers(4, 5, 3), verbose=0).sum(dtype=np.float64))}


def change(case: str, folder: Path, rng: np.random.Generator) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path = files[int(rng.integers(len(files)))]
    raw = bytearray(path.read_bytes())
    if case == "one bit" and raw:
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    elif case == "some bytes" and raw:
        for at in rng.integers(len(raw), size=16):
            raw[int(at)] = int(rng.integers(256))
    elif case == "truncated":
        raw = raw[: int(rng.integers(len(raw) + 1))]
    elif case == "empty":
        raw = bytearray()
    elif case == "removed":
        path.unlink()
        return
    elif case == "read-only":
        for p in [*files, *{q.parent for q in files}]:
            p.chmod(0o555)
        return
    path.write_bytes(raw)


def run(count: int, seed: int = 0) -> list[Result]:
    counts: Counter[str] = Counter()
    examples: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        whole, home = Path(name) / "whole", Path(name) / "home"
        # A copy of the sources has no kernels beside it, unlike the installed package.
        for part in ("fastrnn", "benchmarks"):
            shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__", "results"))

        def started(folder: Path) -> Ended:
            empty = {"HOME": name, "XDG_CACHE_HOME": name, "PYTHONDONTWRITEBYTECODE": "1"}
            return in_process(MODULE, home=home, NUMBA_CACHE_DIR=str(folder), **empty)

        first = started(whole)
        if not first.found:
            return [Result("f", "damaged cache", {"stderr": first.errors[-300:]}, False)]
        right = first.found["answer"]

        def one(k: int) -> None:
            case, rng = CASES[k % len(CASES)], np.random.default_rng(seed + k)
            folder = Path(name) / f"copy{k}"
            if case == "two at once":
                folder.mkdir()
                with ThreadPoolExecutor(2) as pool:
                    both = pool.map(started, [folder] * 2)
                    ended = list(both)
            else:
                shutil.copytree(whole, folder)
                change(case, folder, rng)
                ended = [started(folder)]
            for e in ended:
                counts["processes"] += 1
                counts["crashes"] += e.crashed
                counts["hangs"] += e.hung
                counts["wrong"] += bool(e.found) and e.found["answer"] != right  # type: ignore[index]
                if e.crashed:
                    examples.append(f"{case}: {e.errors[-150:]}")
            counts[case] += 1
            for p in [folder, *folder.rglob("*")]:
                os.chmod(p, 0o755)
            shutil.rmtree(folder)

        for k in range(count):
            one(k)
    figures = {**counts, **({"examples": examples[:3]} if examples else {})}
    holds = not (counts["crashes"] or counts["hangs"] or counts["wrong"])
    return [Result("f", "damaged caches: right numbers, no crash", figures, holds)]


if __name__ == "__main__":
    print(json.dumps(answer()))
    sys.exit(0)

"""(f) The cache of compiled kernels damaged, truncated, read-only, written by two processes at once, or of another CPU.

Each case is a changed copy of a complete cache, and a process without any kernel in memory, which must compute the right
numbers. ``python -m benchmarks.reliability.cache COUNT SEED FOLDER`` imports the package once and forks these processes;
where there is no fork, each is started by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.parts import ROOT, Ended, Result, in_process, numbers, small_model

#: The last two compile several kernels or all of them, so they are rarer.
DAMAGES = ("one bit", "some bytes", "truncated", "empty", "removed", "read-only")
CASES = (
    *DAMAGES,
    "two at once",
    "another CPU",
    *(2 * DAMAGES),
    *(9 * ("one bit", "some bytes", "truncated")),
)
MODULE = "benchmarks.reliability.cache"
PROMISE = "damaged caches: right numbers, no crash"
#: Seconds after which a process is said to hang.
TIME_LIMIT = 300.0


def answer() -> dict[str, Any]:
    """Numbers of a short training."""
    model = small_model("gru", 4)
    model.fit(numbers(8, 5, 3), numbers(8, 2), epochs=2, verbose=0)
    return {"answer": float(model.predict(numbers(4, 5, 3), verbose=0).sum(dtype=np.float64))}


def change(case: str, folder: Path, rng: np.random.Generator) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    path = files[int(rng.integers(len(files)))]
    raw = bytearray(path.read_bytes())
    if case == "one bit":
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    elif case == "some bytes":
        for at in rng.integers(len(raw), size=16):
            raw[int(at)] = int(rng.integers(256))
    elif case == "truncated":
        raw = raw[: int(rng.integers(len(raw)))]
    elif case == "empty":
        raw = bytearray()
    elif case in ("removed", "read-only", "two at once"):
        for k in rng.choice(len(files), 5 if case == "two at once" else 1, replace=False):
            files[k].unlink()
    if path.exists():
        path.write_bytes(raw)
    if case == "read-only":
        for p in [*folder.rglob("*"), folder]:
            p.chmod(0o555)


def forked(n: int) -> list[Ended]:
    """The answers of `n` children that run at the same time."""
    children = []
    for _ in range(n):
        file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
        pid = os.fork()
        if pid == 0:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                os.write(1, f"\n{json.dumps(answer())}\n".encode())
            except BaseException:
                os.write(2, traceback.format_exc().encode())
                os._exit(1)
            os._exit(0)
        children.append((pid, file))
    ended = []
    start = time.perf_counter()
    for pid, file in children:
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if time.perf_counter() - start > TIME_LIMIT:
                os.kill(pid, signal.SIGKILL)
                done = os.waitpid(pid, 0)
                break
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        with file:
            file.seek(0)
            text = file.read()
        lines = [line for line in text.splitlines() if line.startswith("{")]
        found = json.loads(lines[-1]) if lines else None
        hung = seconds > TIME_LIMIT
        ended.append(Ended(found, not hung and done[1] != 0, hung, seconds, text[-2000:]))
    return ended


def started(n: int) -> list[Ended]:
    """The answers of `n` processes that are started at the same time, for systems without fork."""
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: in_process(MODULE, seconds=TIME_LIMIT), range(n)))


def cases(count: int, seed: int, home: Path) -> dict[str, Any]:
    """Counts of all cases; `home` has the folders `whole`, `other` and `used`, the last one named by NUMBA_CACHE_DIR."""
    counts: Counter[str] = Counter(crashes=0, hangs=0, wrong=0)
    examples: list[str] = []
    right = json.loads((home / "answer").read_text())["answer"]
    processes = forked if hasattr(os, "fork") else started
    used = home / "used"
    for k in range(count):
        case, rng = CASES[k % len(CASES)], np.random.default_rng(seed + k)
        shutil.copytree(home / ("other" if case == "another CPU" else "whole"), used)
        if case != "another CPU":
            change(case, used, rng)
        for e in processes(2 if case == "two at once" else 1):
            counts["processes"] += 1
            counts["crashes"] += e.crashed
            counts["hangs"] += e.hung
            counts["wrong"] += not (e.crashed or e.hung) and (e.found or {}).get("answer") != right
            if e.crashed or e.hung:
                examples.append(f"{case}: {e.errors[-150:]}")
        counts[case] += 1
        for p in [used, *used.rglob("*")]:
            p.chmod(0o755)
        shutil.rmtree(used)
    return {**counts, **({"examples": examples[:3]} if examples else {})}


def run(count: int, seed: int = 0) -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        home, sources = Path(name), Path(name) / "sources"
        # A copy of the sources has no kernels beside it, unlike the installed package.
        for part in ("fastrnn", "benchmarks"):
            shutil.copytree(
                ROOT / part, sources / part, ignore=shutil.ignore_patterns("__pycache__", "results")
            )

        def process(folder: str, *arguments: Any, seconds: float = 600, **environment: str) -> Ended:
            empty = {"HOME": name, "XDG_CACHE_HOME": name, "PYTHONDONTWRITEBYTECODE": "1"}
            return in_process(
                MODULE,
                *arguments,
                seconds=seconds,
                home=sources,
                NUMBA_CACHE_DIR=str(home / folder),
                **empty,
                **environment,
            )

        first, other = process("whole"), process("other", NUMBA_CPU_NAME="generic")
        if not (first.found and other.found):
            return [Result("f", PROMISE, {"stderr": (first.errors + other.errors)[-300:]}, False)]
        (home / "answer").write_text(json.dumps(first.found))
        ended = process("used", count, seed, home, seconds=TIME_LIMIT + 20 * count)
        figures = ended.found or {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
    holds = bool(ended.found) and not (figures["crashes"] or figures["hangs"] or figures["wrong"])
    return [Result("f", PROMISE, figures, holds)]


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(cases(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print(json.dumps(answer()))

"""Ctrl-C at random moments, in fresh processes: python -m benchmarks.interrupts --count 300

Each run starts a process that imports fastrnn and begins one of the scenarios below; it is sent SIGINT after a random time.
It must end with KeyboardInterrupt or the right numbers, and the same work repeated in the same process must give the right
numbers. Anything else is a fault: other exceptions, wrong numbers, a crash, or no end within `--timeout` seconds.

The cache of compiled kernels is complete in most runs. In the others some of its files are missing, so that the interrupt
arrives while kernels are compiled. Prints a table and exits with 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

COMMON = """
import hashlib, signal, sys, warnings
import numpy as np
from fastrnn import RNNClassifier, Sequential, layers, set_random_seed

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 9, 3)).astype("f")
y = np.arange(24) % 2
mask = np.arange(9) < rng.integers(1, 10, size=24)[:, None]
ragged = [row[: 1 + k % 9] for k, row in enumerate(X)]

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

def classifier(**options):
    return RNNClassifier(units=6, max_iter=2, batch_size=12, tol=None, random_state=0, **options)
"""

#: The code that is interrupted: bodies of functions that return a digest of their numbers.
SCENARIOS = {
    "fit": "return digest(classifier().fit(X, y).predict_proba(X))",
    "ragged": "return digest(classifier(cell='gru').fit(ragged, y).predict_proba(ragged))",
    "mask": """
    layer = layers.LSTM(6, seed=0, return_sequences=True)
    return digest(layer(X, mask=mask), layer(X))""",
    "predict": """
    layer = layers.GRU(6, seed=0)
    return digest(layer(X), layer(X[:1]), layer(X[:5, :4], mask=mask[:5, :4]))""",
    "recurrent_dropout": """
    model = classifier(cell='gru', dropout=0.2, recurrent_dropout=0.3)
    return digest(model.fit(ragged, y).predict_proba(ragged))""",
    "activations": """
    layer = layers.LSTM(6, seed=0, activation="softsign", recurrent_activation="hard_sigmoid")
    return digest(layer(X), layers.Dense(3, activation="mish")(X[:, 0]))""",
    "stream": """
    model = Sequential([layers.Input((None, 3)), layers.GRU(6, seed=0), layers.Dense(2, activation="softmax")])
    stream = model.stream(24)
    return digest(*(stream.step(np.ascontiguousarray(X[:, t])).copy() for t in range(9)), model.predict(X, verbose=0))""",
    "threads": """
    layer = layers.SimpleRNN(64, seed=0, return_sequences=True)
    layer.n_threads = 2
    big = np.tile(X, (8, 2, 1))
    return digest(*(layer(big[: 100 + k]) for k in range(20)))""",
}

WORKER = """
def scenario():
    set_random_seed(0)
    {body}

def attempt():
    try:
        return scenario()
    except KeyboardInterrupt:
        return "interrupted"
    except BaseException as error:
        return f"{{type(error).__name__}}: {{error}}".replace("\\n", " ")

# A shell starts background jobs with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
first = second = None
try:
    print("ready", flush=True)
    first = attempt()
    print(first, flush=True)
    sys.stdin.readline()  # the signal has been sent
except KeyboardInterrupt:
    if first is None:
        print("interrupted")
for _ in range(2):
    try:
        second = attempt()
        if second != "interrupted":  # the signal may reach the process late
            break
    except KeyboardInterrupt:
        pass
print(second, flush=True)
"""


class Outcome(NamedTuple):
    """How one run ended, with the details of a fault."""

    scenario: str
    kind: str  # "interrupted" or "right", or else a fault: "wrong", "error", "crash", "hang"
    detail: str = ""

    @property
    def fault(self) -> bool:
        """Whether this outcome is a fault."""
        return self.kind not in ("interrupted", "right")


def _start(name: str, cache: Path | None) -> subprocess.Popen:
    body = SCENARIOS[name].strip()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    if cache is not None:
        env["NUMBA_CACHE_DIR"] = str(cache)
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + WORKER.format(body=body)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reference(name: str, cache: Path | None, timeout: float) -> tuple[str, float]:
    """The digest of the right numbers, and the seconds that they took."""
    process = _start(name, cache)
    assert process.stdout is not None
    process.stdout.readline()
    start = time.perf_counter()
    first = process.stdout.readline()
    seconds = time.perf_counter() - start
    out, error = process.communicate("\n", timeout=timeout)
    lines = (first + out).split("\n")
    if process.returncode or lines[0] != lines[1] or len(lines[0]) != 64:
        raise RuntimeError(f"{name} fails without any interrupt: {lines} {error[-2000:]}")
    return lines[0], seconds


def interrupted(name: str, cache: Path | None, delay: float, right: str, timeout: float) -> Outcome:
    """Run one scenario, interrupted after `delay` seconds."""
    process = _start(name, cache)
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            return Outcome(name, "error", process.communicate(timeout=timeout)[1][-500:])
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate("\n", timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return Outcome(name, "hang", process.communicate()[1][-2000:])
    if process.returncode:
        return Outcome(name, "crash", f"exit code {process.returncode}: {error[-1500:]}")
    lines = out.splitlines()
    for text in lines:
        if text != right and text != "interrupted":
            return Outcome(name, "wrong" if len(text) == 64 else "error", f"{lines} {error[-500:]}")
    if lines[1] != right:
        return Outcome(name, "error", f"the second call was interrupted, too: {lines}")
    return Outcome(name, "right" if lines[0] == right else "interrupted")


def run(
    count: int,
    names: Sequence[str] = tuple(SCENARIOS),
    *,
    compiling: float = 0.15,
    seed: int = 0,
    processes: int = 2,
    timeout: float = 240.0,
    report: bool = False,
) -> list[Outcome]:
    """Interrupt `count` processes, cycling through the scenarios.

    Parameters
    ----------
    count : int
    names : sequence of str
        Keys of `SCENARIOS`.
    compiling : float
        The fraction of runs with an incomplete cache. If zero, the processes share the usual cache.
    seed : int
        Seed of the random moments.
    processes : int
        Number of processes that run at a time.
    timeout : float
        Seconds after which a process counts as hung.
    report : bool
        Whether to print each fault at once, and the progress.
    """
    draw = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full" if compiling else None
        rights = {}
        for name in names:
            reference(name, full, timeout)  # fills the cache
            rights[name] = reference(name, full, timeout)

        def one(k: int, moment: float, lacks: float | None) -> Outcome:
            name = names[k % len(names)]
            right, seconds = rights[name]
            if lacks is None or full is None:
                return interrupted(name, full, moment * 1.2 * seconds, right, timeout)
            cache = Path(folder) / f"cache{k}"
            shutil.copytree(full, cache)
            pick = random.Random(k)
            for path in sorted(cache.rglob("*.nbc")):
                if pick.random() < lacks:
                    path.unlink()
            result = interrupted(name, cache, moment * 4.0, right, timeout)
            shutil.rmtree(cache, ignore_errors=True)
            return result

        jobs = [
            (k, draw.random(), draw.choice([0.1, 0.3]) if draw.random() < compiling else None)
            for k in range(count)
        ]
        with concurrent.futures.ThreadPoolExecutor(processes) as pool:
            for done, outcome in enumerate(pool.map(lambda job: one(*job), jobs), 1):
                outcomes.append(outcome)
                if report and outcome.fault:
                    print(f"{outcome.scenario}: {outcome.kind}: {outcome.detail}", flush=True)
                if report and done % 50 == 0:
                    print(f"{done} of {count}", flush=True)
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts of the outcomes of each scenario."""
    kinds = ["interrupted", "right", "wrong", "error", "crash", "hang"]
    rows = [f"{'scenario':18}" + "".join(f"{kind:>12}" for kind in kinds)]
    names = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    counts = collections.Counter((outcome.scenario, outcome.kind) for outcome in outcomes)
    for name in names:
        rows.append(f"{name:18}" + "".join(f"{counts[name, kind]:12}" for kind in kinds))
    totals = collections.Counter(outcome.kind for outcome in outcomes)
    rows.append(f"{'all':18}" + "".join(f"{totals[kind]:12}" for kind in kinds))
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument(
        "--compiling", type=float, default=0.15, help="share of runs with an incomplete cache"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds after which a process hangs")
    given = parser.parse_args(arguments)
    outcomes = run(
        given.count,
        given.scenario or tuple(SCENARIOS),
        compiling=given.compiling,
        seed=given.seed,
        processes=given.processes,
        timeout=given.timeout,
        report=True,
    )
    print(table(outcomes))
    return int(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

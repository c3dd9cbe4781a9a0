"""Ctrl-C at random moments, in fresh processes: python -m benchmarks.interrupts --count 300

Each run is a process that has imported fastrnn and loaded no kernel. It begins one of the scenarios below, and is sent
SIGINT after a random time. It must end with KeyboardInterrupt or the right numbers, and the same work repeated in the same
process must give the right numbers. Anything else is a fault: other exceptions, wrong numbers, a crash, or no end within
`--timeout` seconds.

Importing takes longer than most scenarios, so a server imports fastrnn once and forks a process for each run. Every tenth
run starts its own interpreter. The cache of compiled kernels is complete in most runs. In the others some of its files are
missing, so that the interrupt arrives while kernels are compiled. Prints a table and exits with 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import environment

ROOT = Path(__file__).resolve().parent.parent

COMMON = """
import hashlib, os, signal, sys, warnings
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
{functions}

def attempt(scenario):
    try:
        set_random_seed(0)
        return scenario()
    except KeyboardInterrupt:
        return "interrupted"
    except BaseException as error:
        return f"{{type(error).__name__}}: {{error}}".replace("\\n", " ")

def ignore(*_):
    pass

def run(scenario):
    first = None
    try:
        print("ready", os.getpid(), flush=True)
        first = attempt(scenario)
        signal.signal(signal.SIGINT, ignore)  # it comes too late from here on
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, ignore)  # there is only one
    print(first or "interrupted", flush=True)
    sys.stdin.readline()  # the signal has been sent
    print(attempt(scenario), flush=True)

# A shell starts background jobs with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in iter(sys.stdin.readline, ""):
    if not (name := name.strip()):
        continue  # for a child that did not wait for it
    child = os.fork() if hasattr(os, "fork") else 0
    if child == 0:
        run(SCENARIOS[name])
        sys.stdout.flush()
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
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


class Server:
    """A process that has imported fastrnn, and forks one more for each run."""

    def __init__(self, cache: Path | None) -> None:
        functions = "\n".join(f"def _{name}():\n    {body.strip()}" for name, body in SCENARIOS.items())
        functions += "\nSCENARIOS = {" + ", ".join(f"{name!r}: _{name}" for name in SCENARIOS) + "}"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        if cache is not None:
            env["NUMBA_CACHE_DIR"] = str(cache)
        self.cache = cache
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the server
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMON + WORKER.format(functions=functions)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, name: str, delay: float | None, timeout: float) -> tuple[list[str], float, str]:
        """Run one scenario, interrupted after `delay` seconds.

        Returns the lines that it printed, the seconds that the first attempt took, and what went wrong.
        """
        self._say(name)
        ready = self._hear().split()
        if len(ready) != 2 or ready[0] != "ready":
            return [], 0.0, f"error: {ready} {self.error()}"
        pid, start, lines = int(ready[1]), time.perf_counter(), []
        late = threading.Event()

        def end() -> None:
            late.set()
            os.kill(pid, signal.SIGKILL)

        watch = threading.Timer(timeout, end)
        watch.start()
        try:
            if delay is not None:
                time.sleep(delay)
                os.kill(pid, signal.SIGINT)
            seconds = 0.0
            while not (line := self._hear()).startswith("ended"):
                if not lines:
                    seconds = time.perf_counter() - start
                    self._say("")
                if not line:
                    return lines, seconds, f"crash: the server ended {self.error()}"
                lines.append(line)
        finally:
            watch.cancel()
        if late.is_set():
            return lines, seconds, f"hang: {lines} {self.error()}"
        code = int(line.split()[1])
        return lines, seconds, f"crash: exit code {code}: {self.error()}" if code else ""

    def error(self) -> str:
        """The end of what was written to stderr."""
        self._errors.seek(0)
        return self._errors.read()[-1500:]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def reference(server: Server, name: str, timeout: float) -> tuple[str, float]:
    """The digest of the right numbers, and the seconds that they took."""
    lines, seconds, wrong = server.run(name, None, timeout)
    if wrong or len(lines) != 2 or lines[0] != lines[1] or len(lines[0]) != 64:
        raise RuntimeError(f"{name} fails without any interrupt: {lines} {wrong}")
    return lines[0], seconds


def interrupted(server: Server, name: str, delay: float, right: str, timeout: float) -> Outcome:
    """Run one scenario, interrupted after `delay` seconds."""
    lines, _, wrong = server.run(name, delay, timeout)
    if wrong:
        kind, _, detail = wrong.partition(": ")
        return Outcome(name, kind, detail)
    for text in lines:
        if text != right and text != "interrupted":
            return Outcome(name, "wrong" if len(text) == 64 else "error", f"{lines} {server.error()[-500:]}")
    if len(lines) != 2 or lines[1] != right:
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
    """Interrupt `count` processes, the scenarios in turn.

    Parameters
    ----------
    count : int
    names : sequence of str
        Keys of `SCENARIOS`.
    compiling : float
        The share of runs whose cache lacks a part of its files. Zero: the processes share the usual cache.
    seed : int
        Of the moments.
    processes : int
        How many run at a time.
    timeout : float
        Seconds after which a process is said to hang.
    report : bool
        Print each fault at once, and the numbers so far.
    """
    draw = random.Random(seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(cache: Path | None) -> Server:
            server = Server(cache)
            stack.callback(server.close)
            return server

        full = Path(folder) / "full" if compiling else None
        first = start(full)
        for name in names:
            reference(first, name, timeout)  # fills the cache
        rights = {name: reference(first, name, timeout) for name in names}
        # For each of those that run at a time: one server with the whole cache, one with a cache that lacks files.
        idle: queue.SimpleQueue[tuple[Server, Server | None]] = queue.SimpleQueue()
        for k in range(processes):
            idle.put((start(full), start(Path(folder) / f"cache{k}") if compiling else None))

        def one(k: int, moment: float, lacks: float | None) -> Outcome:
            name = names[k % len(names)]
            right, seconds = rights[name]
            servers = idle.get()
            server, lacking = servers
            try:
                delay = moment * 1.2 * seconds
                if lacks is not None and lacking is not None and lacking.cache is not None:
                    _copy_a_part(full, lacking.cache, lacks, k)
                    server, delay = lacking, moment * 2.0
                if k % 10 == 0:
                    with contextlib.closing(Server(server.cache)) as own:
                        return interrupted(own, name, delay, right, timeout)
                return interrupted(server, name, delay, right, timeout)
            finally:
                idle.put(servers)

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


def _copy_a_part(full: Path | None, cache: Path, lacks: float, seed: int) -> None:
    """Make a copy of a cache, without a random share of its files."""
    assert full is not None
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(full, cache)
    pick = random.Random(seed)
    for path in sorted(cache.rglob("*.nbc")):
        if pick.random() < lacks:
            path.unlink()


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


def _write(path: Path, given: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    info = environment()
    head = [
        "# Ctrl-C at random moments",
        "",
        f"`python -m benchmarks.interrupts --count {given.count} --seed {given.seed}`, {info['date']}, {info['cpu']}, "
        f"Numba {info['versions']['numba']}. Every run but those counted under the last four kinds ended with",
        "KeyboardInterrupt or the right numbers, and the next call gave the right numbers.",
    ]
    path.write_text("\n".join([*head, "", "```", table(outcomes), "```", ""]), "utf-8")


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
    parser.add_argument("--out", type=Path, help="folder to write interrupts.md to")
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
    if given.out:
        _write(given.out / "interrupts.md", given, outcomes)
    return int(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

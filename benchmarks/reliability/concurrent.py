"""(c) Threads that predict, step and fit at once; (d) forks after parallel use, and while another thread compiles.

``python -m benchmarks.reliability.concurrent SCENE SECONDS`` runs one scene in this process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from benchmarks.reliability.parts import Result, in_process, numbers, small_model


def threads_together(seconds: float, n_threads: int = 16) -> dict[str, Any]:
    """Some threads predict with one shared model, some step streams of their own, some fit models of their own."""
    x, y, one = numbers(40, 9, 3), numbers(40, 2), numbers(1, 3)
    shared = small_model(units=16)
    expected = shared.predict(x, verbose=0)

    def trained(k: int) -> np.ndarray:
        model = small_model("lstm", 6, seed=k)
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
        return model.params.copy()

    def stepped() -> np.ndarray:
        stream = shared.stream()
        for _ in range(50):
            out = stream.step(one)
        return out.copy()

    right_fit, right_step = [trained(k) for k in range(n_threads)], stepped()
    counts = {"predicts": 0, "streams of 50 steps": 0, "fits": 0, "wrong": 0}
    errors: list[str] = []
    lock, end = threading.Lock(), time.monotonic() + seconds

    def work(k: int) -> None:
        while time.monotonic() < end:
            try:
                if k % 3 == 0:
                    name, right = "predicts", np.array_equal(shared.predict(x, verbose=0), expected)
                elif k % 3 == 1:
                    name, right = "streams of 50 steps", np.array_equal(stepped(), right_step)
                else:
                    name, right = "fits", np.array_equal(trained(k), right_fit[k])
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
                return
            with lock:
                counts[name] += 1
                counts["wrong"] += not right

    threads = [threading.Thread(target=work, args=(k,)) for k in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"threads": n_threads, "seconds": seconds, **counts, "errors": errors[:5]}


def _trained(n_threads: int | None) -> float:
    """The sum of a trained model's outputs. With another number of threads, gradients are rounded differently."""
    model, x = small_model("lstm", 32), numbers(64, 30, 3)
    for layer in model.layers:
        layer.n_threads = n_threads
    model.fit(x, numbers(64, 2), verbose=0)
    return float(model.predict(x, verbose=0).sum())


def _child(queue: Any) -> None:
    queue.put(_trained(None))  # one thread, as in any worker process


def started(method: str) -> dict[str, Any]:
    """A child process trains and predicts after this process did so on all cores."""
    _trained(None)
    expected = _trained(1)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_child, args=(queue,)) for _ in range(4)]
    start = time.monotonic()
    for child in children:
        child.start()
    for child in children:
        child.join(90)
    hung = sum(child.is_alive() for child in children)
    for child in children:
        if child.is_alive():
            child.kill()
    wrong = sum(queue.get(timeout=5) != expected for child in children if child.exitcode == 0)
    failed = sum(child.exitcode not in (0, None) for child in children) - hung
    return {
        "children": 4,
        "hung": hung,
        "failed": max(failed, 0),
        "wrong": wrong,
        "s": round(time.monotonic() - start, 1),
    }


def fork_while_compiling() -> dict[str, Any]:
    """Fork repeatedly while another thread compiles kernels for the first time; the children use kernels."""
    model, x = small_model("gru", 8), numbers(4, 5, 3)
    model.predict(x, verbose=0)

    def compile_others() -> None:
        for dtype in ("float64", "float32"):
            for cell in ("simple_rnn", "lstm"):
                other = small_model(cell, 8, dtype)
                other.fit(numbers(4, 5, 3, dtype=dtype), numbers(4, 2, dtype=dtype), verbose=0)

    compiler = threading.Thread(target=compile_others, daemon=True)
    compiler.start()
    counts = {"forks while compiling": 0, "worked": 0, "clear error": 0, "hung": 0, "crashed": 0}
    while compiler.is_alive() and counts["forks while compiling"] < 8:
        child = os.fork()
        if child == 0:
            try:
                small_model("lstm", 8).predict(x, verbose=0)
                os._exit(0)
            except BaseException:
                os._exit(7)
        counts["forks while compiling"] += 1
        limit = time.monotonic() + 60
        done, status = 0, 0
        while not done and time.monotonic() < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts["hung"] += 1
        elif os.WIFSIGNALED(status):
            counts["crashed"] += 1
        else:
            counts["worked" if os.WEXITSTATUS(status) == 0 else "clear error"] += 1
    compiler.join(120)
    return counts


def run(seconds: float) -> list[Result]:
    """All scenes."""
    module = "benchmarks.reliability.concurrent"
    ended = in_process(module, "threads", seconds, seconds=seconds + 300)
    found = ended.found or {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
    results = [
        Result(
            "c",
            "threads at once: numbers of one thread",
            found,
            bool(ended.found) and not (found["wrong"] or found["errors"]),
        )
    ]
    methods = [m for m in ("fork", "forkserver") if m in multiprocessing.get_all_start_methods()]
    for scene in [*methods, *(["compiling"] if "fork" in methods else [])]:
        import tempfile

        with tempfile.TemporaryDirectory() as cache:
            more = {"NUMBA_CACHE_DIR": cache} if scene == "compiling" else {}
            ended = in_process(module, scene, 0, seconds=600, **more)
        found = ended.found or {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
        bad = not ended.found or any(found.get(key) for key in ("hung", "failed", "wrong", "crashed"))
        results.append(Result(f"d {scene}", "a child works, or gets a clear error at once", found, not bad))
    return results


if __name__ == "__main__":
    scene, given = sys.argv[1], float(sys.argv[2])
    if scene == "threads":
        print(json.dumps(threads_together(given)))
    else:
        print(json.dumps(fork_while_compiling() if scene == "compiling" else started(scene)))

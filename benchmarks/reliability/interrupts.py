"""(e) Ctrl-C at random moments of fit, search and predict: how soon the call ends, and whether the object can be used.

Kernels are compiled beforehand; ``python -m benchmarks.interrupts`` tests interrupts of compilation in fresh processes.
``python -m benchmarks.reliability.interrupts COUNT`` runs all scenes in this process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV

from benchmarks.reliability.parts import Result, in_process, numbers, small_model
from fastrnn import RNNClassifier

#: Most seconds from the signal to the end of the call.
MAX_SECONDS = 0.5
SCENES = ("model.fit", "classifier.fit", "search", "predict")


def scenes() -> dict[str, tuple[Callable[[], Any], Callable[[], bool]]]:
    """For each scene, the call to interrupt, and a function that says whether the object is usable."""
    x, y = numbers(256, 40, 3), np.arange(256) % 3
    model, classifier = small_model(units=32), RNNClassifier(cell="gru", units=16, max_iter=10_000, tol=None)
    model.fit(x, numbers(256, 2), verbose=0)
    RNNClassifier(cell="gru", units=16, max_iter=1, tol=None).fit(x, y)
    search = GridSearchCV(
        RNNClassifier(units=8, max_iter=40, tol=None),
        {"cell": ["gru"], "units": list(range(4, 16))},
        n_jobs=1,
        cv=3,
    )

    def usable() -> bool:
        return bool(np.isfinite(model.predict(x[:8], verbose=0)).all() and np.isfinite(model.params).all())

    def classifies() -> bool:
        """It is fitted if an epoch was complete."""
        return not hasattr(classifier, "model_") or bool(np.isfinite(classifier.predict_proba(x[:8])).all())

    def predict_for_long() -> None:
        while True:
            model.predict(x, verbose=0)

    return {
        "model.fit": (lambda: model.fit(x, numbers(256, 2), epochs=10_000, verbose=0), usable),
        "classifier.fit": (lambda: classifier.fit(x, y), classifies),
        "search": (lambda: search.fit(x, y), lambda: not hasattr(search, "best_estimator_")),
        "predict": (predict_for_long, usable),
    }


def work(count: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    random.seed(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found: dict[str, Any] = {}
    for name, (begin, usable) in scenes().items():
        waits, unusable, others = [], 0, []
        for _ in range(count):
            sent: list[float] = []

            def interrupt(sent: list[float] = sent) -> None:
                time.sleep(0.05 + random.random() * 0.3)
                sent.append(time.perf_counter())
                os.kill(os.getpid(), signal.SIGINT)

            sender = threading.Thread(target=interrupt)
            try:
                sender.start()
                begin()
                others.append("it ended without KeyboardInterrupt")
            except KeyboardInterrupt:
                waits.append(time.perf_counter() - sent[0])
            except BaseException as error:
                others.append(f"{type(error).__name__}: {str(error)[:80]}")
            sender.join()
            unusable += not usable()
        found[name] = {
            "interrupts": count,
            "slowest answer s": round(max(waits), 3) if waits else None,
            "not usable": unusable,
            "other ends": others[:3],
        }
        print(json.dumps(found), flush=True)  # if the process hangs later, the last line is read
    return found


def run(count: int) -> list[Result]:
    ended = in_process("benchmarks.reliability.interrupts", count, seconds=300 + 10 * count)
    if not ended.found:
        figures = {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
        return [Result("e", "Ctrl-C is answered", figures, False)]
    missing = set(SCENES) - set(ended.found)
    promise = f"Ctrl-C is answered within {MAX_SECONDS} s, the object stays usable"
    return [
        Result(
            f"e {name}",
            promise,
            figures,
            (figures["slowest answer s"] or 0) <= MAX_SECONDS
            and not figures["not usable"]
            and not figures["other ends"],
        )
        for name, figures in ended.found.items()
    ] + [
        Result(f"e {name}", promise, {"hung": ended.hung, "crashed": ended.crashed}, False)
        for name in sorted(missing)
    ]


if __name__ == "__main__":
    print(json.dumps(work(int(sys.argv[1]))))

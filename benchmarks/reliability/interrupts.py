"""(e) Ctrl-C at random moments of fit, search, predict and compilation: how soon the call ends, and what works afterwards.

``python -m benchmarks.reliability.interrupts COUNT`` runs the scenes whose kernels are compiled beforehand in this process.
Compilation is interrupted in fresh processes that lack a part of the kernels (`benchmarks.interrupts`). It finishes first,
so that its row has no limit of time.
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
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from benchmarks import interrupts as compiling
from benchmarks.reliability.parts import Result, in_process, numbers, small_model
from fastrnn import RNNClassifier

#: Most seconds from the signal to the end of the call.
MAX_SECONDS = 0.5
SCENES = ("model.fit", "classifier.fit", "search", "predict")


class Scene(NamedTuple):
    """A call that takes long, what must hold after each interrupt of it, and what must hold after the last."""

    begin: Callable[[], Any]
    usable: Callable[[], bool]
    works: Callable[[], bool]


def scenes() -> dict[str, Scene]:
    x, y, targets = numbers(256, 40, 3), np.arange(256) % 3, numbers(256, 2)
    trained, predicting = small_model(units=32), small_model(units=32)
    trained.fit(x, targets, verbose=0)
    expected = predicting.predict(x, verbose=0)
    classifier = RNNClassifier(cell="gru", units=16, max_iter=10_000, tol=None, random_state=0)
    clone(classifier).set_params(max_iter=1).fit(x, y)
    search = GridSearchCV(
        RNNClassifier(units=8, max_iter=40, tol=None, random_state=0),
        {"cell": ["gru"], "units": list(range(4, 16))},
        n_jobs=1,
        cv=3,
    )

    def finite() -> bool:
        return bool(
            np.isfinite(trained.predict(x[:8], verbose=0)).all() and np.isfinite(trained.params).all()
        )

    def trains() -> bool:
        before = trained.params.copy()
        trained.fit(x, targets, verbose=0)
        return finite() and not np.array_equal(before, trained.params)

    def classifies() -> bool:
        """It is fitted if an epoch was complete."""
        return not hasattr(classifier, "model_") or bool(np.isfinite(classifier.predict_proba(x[:8])).all())

    def classifies_like_a_new_one() -> bool:
        classifier.set_params(max_iter=2).fit(x, y)
        return np.array_equal(classifier.predict_proba(x), clone(classifier).fit(x, y).predict_proba(x))

    def searches_like_a_new_one() -> bool:
        search.set_params(estimator__max_iter=1, param_grid={"units": [4, 5]}).fit(x, y)
        found = (search, clone(search).fit(x, y))
        mine, other = (s.cv_results_["mean_test_score"] for s in found)
        return np.array_equal(mine, other)

    def predict_for_long() -> None:
        while True:
            predicting.predict(x, verbose=0)

    def predicts() -> bool:
        return np.array_equal(predicting.predict(x, verbose=0), expected)

    return {
        "model.fit": Scene(lambda: trained.fit(x, targets, epochs=10_000, verbose=0), finite, trains),
        "classifier.fit": Scene(lambda: classifier.fit(x, y), classifies, classifies_like_a_new_one),
        "search": Scene(
            lambda: search.fit(x, y), lambda: not hasattr(search, "best_estimator_"), searches_like_a_new_one
        ),
        "predict": Scene(predict_for_long, predicts, predicts),
    }


def work(count: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    random.seed(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found: dict[str, Any] = {}
    for name, scene in scenes().items():
        waits, unusable, others = [], 0, []
        for _ in range(count):
            sent: list[float] = []

            def interrupt(sent: list[float] = sent) -> None:
                time.sleep(random.random() * 0.35)
                sent.append(time.perf_counter())
                os.kill(os.getpid(), signal.SIGINT)

            sender = threading.Thread(target=interrupt)
            try:
                sender.start()
                scene.begin()
                others.append("it ended without KeyboardInterrupt")
            except KeyboardInterrupt:
                waits.append(time.perf_counter() - sent[0])
            except BaseException as error:
                others.append(f"{type(error).__name__}: {str(error)[:80]}")
            sender.join()
            unusable += not scene.usable()
        found[name] = {
            "interrupts": count,
            "slowest answer s": round(max(waits), 3) if waits else None,
            "not usable": unusable + (not scene.works()),
            "other ends": others[:3],
        }
        print(json.dumps(found), flush=True)  # if the process hangs later, the last line is read
    return found


def compilation(count: int) -> Result:
    """Interrupt `count` processes, each while it compiles what its cache lacks."""
    outcomes = compiling.run(count, compiling=1.0)
    faults = [outcome for outcome in outcomes if outcome.fault]
    figures = {
        "interrupts": count,
        **Counter(outcome.kind for outcome in outcomes),
        **(
            {"examples": [f"{fault.scenario}: {fault.detail[-150:]}" for fault in faults[:3]]}
            if faults
            else {}
        ),
    }
    return Result(
        "e compile",
        "Ctrl-C while compiling: KeyboardInterrupt or right numbers; then right numbers",
        figures,
        not faults,
    )


def run(count: int, n_compilations: int) -> list[Result]:
    ended = in_process("benchmarks.reliability.interrupts", count, seconds=300 + 10 * count)
    found = ended.found or {}
    promise = f"Ctrl-C is answered within {MAX_SECONDS} s, the object stays usable"
    missing = {"crashed": ended.crashed, "hung": ended.hung, "stderr": ended.errors[-300:]}
    results = []
    for name in SCENES:
        figures = found.get(name, missing)
        holds = name in found and not (figures["not usable"] or figures["other ends"])
        holds = holds and (figures["slowest answer s"] or 0) <= MAX_SECONDS
        results.append(Result(f"e {name}", promise, figures, holds))
    return results + ([compilation(n_compilations)] if os.name == "posix" else [])


if __name__ == "__main__":
    print(json.dumps(work(int(sys.argv[1]))))

"""Grid search in scikit-learn, fastrnn beside skorch and PyTorch: python -m benchmarks.search

`vowels`: GridSearchCV of 24 candidates and 5 folds on the Japanese vowels (random series of the same shapes if the data are
not found), with `RNNClassifier`, and with skorch's `NeuralNetClassifier` over the same networks in PyTorch. Each library has
a process of its own. It first tries its ways to run a search on a part of the candidates: skorch with padded and with
packed batches, which its data loader reads as whole batches; either with one and two threads, or in joblib's two processes.
The fastest way of each library takes part in the rounds, in turns. Imports, compilation and the start of joblib's processes
come before.

`small`: the same number of fits with dense sequences and a small network (GRU 16, 100 x 50 x 3, 20 epochs): the ways in
which scikit-learn can run them, with joblib's backend "fastrnn" among them, and the largest difference of their scores.

Written to benchmarks/results/: search.json and search.md.

    python -m benchmarks.search           # about four minutes
    python -m benchmarks.search --quick   # a few candidates, one epoch
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks.processes import JsonProcess
from benchmarks.report import described, table
from benchmarks.timing import environment, wait
from fastrnn.bench.peers import installed, thread_counts

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
#: Values of the parameters: 24 candidates.
CELLS, UNITS, RATES, BATCHES = ("gru", "lstm"), (32, 64, 100), (0.003, 0.01), (16, 32)
FOLDS, CHANNELS, JOBS = 5, 12, 2
#: Target: times as fast as skorch.
TARGET = 3.0


class Task(NamedTuple):
    """What a search is asked for."""

    epochs: int
    #: Every first, second, third, ... of the candidates.
    every: int = 1
    folder: str | None = None


class Vowels(NamedTuple):
    """Japanese vowels, scaled by the mean and the spread of each channel."""

    X: list[NDArray[Any]]
    y: NDArray[Any]
    X_test: list[NDArray[Any]]
    y_test: NDArray[Any]
    origin: str


def vowels(folder: str | None) -> Vowels:
    from fastrnn import datasets
    from fastrnn.preprocessing import StandardScaler3D

    try:
        data = datasets.load_japanese_vowels(folder)
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        X = [rng.standard_normal((n, CHANNELS)).astype("f") for n in rng.integers(7, 30, 640)]
        y = np.arange(640) % 9
        return Vowels(X[:270], y[:270], X[270:], y[270:], "made up")
    scaler = StandardScaler3D().fit(data.X_train)
    parts = [[x.astype("f") for x in scaler.transform(part)] for part in (data.X_train, data.X_test)]
    labels = [np.unique(part, return_inverse=True)[1] for part in (data.y_train, data.y_test)]
    return Vowels(parts[0], labels[0], parts[1], labels[1], "real")


def candidates(names: dict[str, str], every: int) -> list[dict[str, list[Any]]]:
    """The candidates as a list of grids, with the parameters' names in a library."""
    values = itertools.product(CELLS, UNITS, RATES, BATCHES)
    found = [
        dict(zip(names.values(), ([v] for v in some), strict=True))
        for some in itertools.islice(values, None, None, every)
    ]
    return found


# --- the two libraries -----------------------------------------------------------------------------------------------


def fastrnn_search(task: Task, data: Vowels, way: str) -> GridSearchCV:
    from fastrnn import RNNClassifier

    names = {"cell": "cell", "units": "units", "rate": "learning_rate_init", "batch": "batch_size"}
    model = RNNClassifier(max_iter=task.epochs, tol=None, random_state=0)
    return _searched(model, candidates(names, task.every), data.X, data.y, way)


FASTRNN_WAYS = ("backend fastrnn, 2 threads", "joblib, 2 processes", "one fit at a time, 2 threads")


def skorch_search(task: Task, data: Vowels, way: str) -> GridSearchCV:
    import torch
    from skorch import NeuralNetClassifier

    from benchmarks.search_torch import Network, WholeBatches, unchanged

    mode, _, rest = way.partition(", ")
    torch.set_num_threads(1 if "processes" in rest else int(rest.split()[-2]))
    torch.set_flush_denormal(True)
    names = {"cell": "module__cell", "units": "module__units", "rate": "lr", "batch": "batch_size"}
    model = NeuralNetClassifier(
        Network,
        module__packed=mode == "packed",
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=task.epochs,
        train_split=None,
        callbacks="disable",
        verbose=0,
        dataset=WholeBatches,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=unchanged,
        iterator_valid__collate_fn=unchanged,
    )
    return _searched(model, candidates(names, task.every), padded(data.X), data.y, rest)


SKORCH_WAYS = tuple(
    f"{mode}, {way}"
    for mode in ("padded", "packed")
    for way in ("joblib, 2 processes", "one fit at a time, 1 thread", "one fit at a time, 2 threads")
)


def padded(series: list[NDArray[Any]]) -> NDArray[Any]:
    """One array, in whose last channel stands the length: scikit-learn indexes it as samples."""
    out = np.zeros((len(series), max(map(len, series)), CHANNELS + 1), np.float32)
    for row, x in zip(out, series, strict=True):
        row[: len(x), :CHANNELS], row[:, CHANNELS] = x, len(x)
    return out


def _searched(model: Any, grid: Any, X: Any, y: NDArray[Any], way: str) -> GridSearchCV:
    backend: Any = nullcontext()
    if "processes" in way:
        backend = joblib.parallel_config("loky", n_jobs=JOBS)
    elif "backend" in way:
        backend = joblib.parallel_config(way.split(", ")[0].removeprefix("backend "), n_jobs=JOBS)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with backend, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GridSearchCV(model, grid, cv=folds, error_score="raise").fit(X, y)


class Library(NamedTuple):
    """How a library searches."""

    search: Callable[[Task, Vowels, str], GridSearchCV]
    ways: Sequence[str]
    #: The series as its estimator takes them.
    given: Callable[[list[NDArray[Any]]], Any]


LIBRARIES = {
    "fastrnn": Library(fastrnn_search, FASTRNN_WAYS, list),
    "skorch": Library(skorch_search, SKORCH_WAYS, padded),
}


def run(library: str, task: Task, way: str) -> dict[str, Any]:
    """Search in this process; seconds, and the level of accuracy."""
    this, data = LIBRARIES[library], vowels(task.folder)
    start = time.perf_counter()
    search = this.search(task, data, way)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "best_cv_accuracy": float(search.best_score_),
        "mean_cv_accuracy": float(np.mean(search.cv_results_["mean_test_score"])),
        "test_accuracy": float(search.score(this.given(data.X_test), data.y_test)),
        "fits": len(search.cv_results_["params"]) * FOLDS,
        "best": {key.removeprefix("module__"): value for key, value in search.best_params_.items()},
        "data": data.origin,
    }


# --- processes -------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests for searches, a line of JSON each, until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        found = run(request["library"], Task(*request["task"]), request["way"])
        print(json.dumps(found), file=answers, flush=True)


class Process(JsonProcess):
    """A process in which one library searches."""

    def __init__(self, library: str) -> None:
        self.library = library
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        super().__init__(
            [sys.executable, "-c", "from benchmarks.search import serve; serve()"],
            {**os.environ, "PYTHONPATH": path},
            ROOT,
        )

    def run(self, task: Task, way: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask(library=self.library, task=task, way=way)
        return answer

    def best_way(self, task: Task, first: bool) -> tuple[str, dict[str, float]]:
        """The fastest way for a part of the search, and the seconds of all; or the `first` without a trial."""
        if first:
            return LIBRARIES[self.library].ways[0], {}
        some = task._replace(every=max(task.every, 5), epochs=max(1, task.epochs // 6))
        seconds: dict[str, float] = {}
        for way in LIBRARIES[self.library].ways:
            self.run(some._replace(epochs=1), way)  # compiles, and starts processes
        for way in 2 * LIBRARIES[self.library].ways:
            wait(0.1)
            taken = self.run(some, way)["seconds"]
            seconds[way] = min(taken, seconds.get(way, taken))
        return min(seconds, key=seconds.__getitem__), seconds


def compare(task: Task, rounds: int, quick: bool = False) -> list[dict[str, Any]]:
    """A row for each library."""
    names = [name for name in LIBRARIES if name == "fastrnn" or installed("skorch", "torch")]
    processes = [Process(name) for name in names]
    try:
        ways = [process.best_way(task, quick) for process in processes]
        for process, (way, _) in zip(processes, ways, strict=True):
            process.run(task._replace(epochs=1), way)  # compiles what other candidates need
        answers: list[list[dict[str, Any]]] = [[] for _ in processes]
        for turn in range(rounds):
            for i in range(len(processes)):
                k = (i + turn) % len(processes)
                wait(0.2)
                answers[k].append(processes[k].run(task, ways[k][0]))
    finally:
        for process in processes:
            process.close()
    rows = []
    for name, (way, trials), found in zip(names, ways, answers, strict=True):
        seconds = [answer["seconds"] for answer in found]
        rows.append(
            {
                **found[0],
                "library": name,
                "way": way,
                "seconds": float(np.median(seconds)),
                "rounds_s": seconds,
                "trials_s": trials,
            }
        )
    return rows


# --- small networks, dense sequences ---------------------------------------------------------------------------------

SMALL_WAYS = (
    "one fit at a time, 2 threads",
    "joblib, 2 processes",
    "backend threading, 2 threads",
    "backend fastrnn, 2 threads",
)


FIRST = "joblib, 2 processes, first call"


def small(epochs: int, every: int, rounds: int, quick: bool = False) -> list[dict[str, Any]]:
    """A row for each way in which scikit-learn can run the search; if `quick`, without processes."""
    from fastrnn import RNNRegressor

    X = np.random.default_rng(0).standard_normal((100, 50, 3)).astype("f")
    y = X[:, -5:, 0].sum(axis=1)
    bins = np.digitize(y, np.quantile(y, [0.25, 0.5, 0.75]))
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(X, bins))
    values = itertools.product((0.001, 0.003, 0.01, 0.03), (8, 16, 32), (12, 16))
    grid = [
        {"learning_rate_init": [rate], "batch_size": [batch], "units": [units]}
        for rate, batch, units in itertools.islice(values, None, None, every)
    ]
    model = RNNRegressor(cell="gru", max_iter=epochs, tol=None, random_state=0)

    def search(way: str) -> tuple[float, NDArray[Any]]:
        backend: Any = nullcontext()
        if not way.startswith("one"):
            name = "loky" if "processes" in way else way.split(", ")[0].removeprefix("backend ")
            backend = joblib.parallel_config(name, n_jobs=JOBS)
        start = time.perf_counter()
        with backend:
            found = GridSearchCV(model, grid, cv=folds).fit(X, y)
        return time.perf_counter() - start, found.cv_results_["mean_test_score"]

    search(SMALL_WAYS[0])
    search(SMALL_WAYS[-1])
    ways = [way for way in SMALL_WAYS if not (quick and "processes" in way)]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    scores: dict[str, NDArray[Any]] = {}
    if not quick:
        get_reusable_executor().shutdown(wait=True)
        taken, scores[FIRST] = search("joblib, 2 processes")
        seconds[FIRST] = [taken]
    for turn in range(rounds):
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            wait(0.1)
            taken, scores[way] = search(way)
            seconds[way].append(taken)
    return [
        {
            "way": way,
            "fits": len(grid) * FOLDS,
            "seconds": float(np.median(taken)),
            "rounds_s": taken,
            "largest_difference_of_scores": float(np.abs(scores[way] - scores[SMALL_WAYS[0]]).max()),
        }
        for way, taken in seconds.items()
    ]


# --- results ---------------------------------------------------------------------------------------------------------


def page(rows: list[dict[str, Any]], others: list[dict[str, Any]], task: Task, info: dict[str, Any]) -> str:
    ours = next(row for row in rows if row["library"] == "fastrnn")
    body = [
        [
            row["library"],
            row["way"],
            f"{row['seconds']:.1f}",
            f"{row['best_cv_accuracy']:.3f}",
            f"{row['mean_cv_accuracy']:.3f}",
            f"{row['test_accuracy']:.3f}",
            f"{row['seconds'] / ours['seconds']:.2f}",
        ]
        for row in rows
    ]
    head = [
        "library",
        "fastest way",
        "s",
        "best candidate, accuracy in folds",
        "mean of candidates",
        "test accuracy",
        "times fastrnn",
    ]
    lines = [
        f"# Searches: {ours['fits']} fits of {task.epochs} epochs on the Japanese vowels ({ours['data']} data)",
        "",
        described(info),
        "",
        *table(head, body),
        "",
    ]
    for row in rows:
        if row["library"] != "fastrnn":
            ratio = row["seconds"] / ours["seconds"]
            lines += [f"Target: {TARGET:.0f} times as fast as {row['library']}. Found: {ratio:.2f}.", ""]
    for row in rows:
        if row["trials_s"]:
            tried = "; ".join(f"{way} {seconds:.2f} s" for way, seconds in row["trials_s"].items())
            lines += [
                f"The ways of {row['library']}, with a fifth of the candidates and a sixth of the epochs: {tried}.",
                "",
            ]
    quickest = next(row for row in others if "fastrnn" in row["way"])
    body = [
        [
            row["way"],
            f"{row['seconds']:.2f}",
            f"{row['seconds'] / quickest['seconds']:.2f}",
            f"{row['largest_difference_of_scores']:.1e}",
        ]
        for row in others
    ]
    head = ["way", "s", "times backend fastrnn", "largest difference of a mean score"]
    lines += [
        f"## Small networks: {others[0]['fits']} fits, GRU 12 and 16, 100 x 50 x 3",
        "",
        *table(head, body),
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few candidates, one epoch, one round")
    parser.add_argument("--epochs", type=int, default=30, help="vowels: epochs of a fit (default 30)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", default=None, help="the data (default: the folder FASTRNN_DATA)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    task = Task(1, 12, args.folder) if args.quick else Task(args.epochs, 1, args.folder)
    rounds = 1 if args.quick else args.rounds
    info = environment()
    rows = compare(task, rounds, args.quick)
    others = small(1, 12, 1, quick=True) if args.quick else small(20, 1, rounds)
    text = page(rows, others, task, info)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    stored = {
        "environment": info,
        "threads": thread_counts(),
        "task": task._asdict(),
        "rows": rows,
        "small": others,
    }
    (args.out / "search.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    (args.out / "search.md").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

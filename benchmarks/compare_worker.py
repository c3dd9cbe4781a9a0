"""One side of `compare`: python -P compare_worker.py BENCHMARKS TREE THREADS

The cases come from fastrnn.bench of the folder BENCHMARKS, the rest of fastrnn from the folder TREE. Requests are lines of
JSON on the standard input, replies are lines of JSON on the standard output.
"""

import importlib
import importlib.util
import json
import os
import sys
import time


def main() -> None:
    benchmarks, tree, threads = sys.argv[1:4]
    # Redirect what a library prints, so that it does not mix with the replies.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    sys.path.insert(0, tree)
    import fastrnn

    # Both sides run the same cases, also if the tree has no fastrnn.bench.
    folder = os.path.join(benchmarks, "fastrnn", "bench")
    found = importlib.util.spec_from_file_location(
        "fastrnn.bench", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    sys.modules["fastrnn.bench"] = importlib.util.module_from_spec(found)
    # Where the number of free cores and the models were in older commits.
    if importlib.util.find_spec("fastrnn.engine.threads"):
        sys.modules["fastrnn.engine.runtime.threads"] = importlib.import_module("fastrnn.engine.threads")
    if not importlib.util.find_spec("fastrnn.models"):
        sys.modules["fastrnn.models"] = fastrnn
    from fastrnn.bench.cases import Case, Size
    from fastrnn.bench.ours import fastrnn_contenders

    if not os.path.abspath(fastrnn.__file__).startswith(os.path.abspath(tree) + os.sep):
        raise SystemExit(f"fastrnn was imported from {fastrnn.__file__}, not from {tree}")

    runs = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            case = Case(
                request["cell"],
                Size(*request["size"]),
                request["kind"],
                request["dtype"],
                request["variant"],
            )
            (contender,) = fastrnn_contenders(case, (int(threads),))
            runs = {request["load"]: contender.run}
            run, calls = contender.run, 3
            run()
        else:
            run, calls = runs[request["run"]], request["calls"]
        start = time.perf_counter()
        for _ in range(calls):
            run()
        print(json.dumps((time.perf_counter() - start) / calls), file=answers, flush=True)


if __name__ == "__main__":
    main()

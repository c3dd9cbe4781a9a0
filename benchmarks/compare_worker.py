"""One side of `compare`: python -P compare_worker.py BENCHMARKS TREE THREADS

The cases come from the folder BENCHMARKS, fastrnn from the folder TREE. Requests are lines of JSON on the standard input,
replies are lines of JSON on the standard output.
"""

import json
import os
import sys
import time


def main() -> None:
    benchmarks, tree, threads = sys.argv[1:4]
    # Redirect what a library prints, so that it does not mix with the replies.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    sys.path.insert(0, benchmarks)
    from benchmarks.cases import Case, Size
    from benchmarks.ours import fastrnn_contenders

    assert "fastrnn" not in sys.modules
    sys.path[0] = tree
    import fastrnn

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

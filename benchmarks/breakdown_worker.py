"""One side of `breakdown`, in a process of its own: the package as it is, or the copy with laps.

The package is that of the folder from which the process is started. Requests are lines of JSON on the standard input,
replies are lines of JSON on the standard output.
"""

from __future__ import annotations

import json
import os
import sys

from fastrnn.bench.cases import case_named
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.timing import calibrate, seconds_of


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    with_laps = sys.argv[1:] == ["--laps"]
    run, calls = None, 1
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            (contender,) = fastrnn_contenders(case_named(request["case"]), (request["threads"],))
            run = contender.run
            calls = calibrate(run)
            reply = calls
        else:
            calls = request["calls"]
            run()
            if with_laps:
                from fastrnn.engine.runtime.laps import seconds_of_parts

                own, others, seconds = seconds_of_parts(run, calls)
                reply = [list(own), list(others), seconds]
            else:
                reply = seconds_of(run, calls)
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()

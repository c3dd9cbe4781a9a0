"""One process of `unrolled`: python -P unrolled_worker.py TREE

fastrnn comes from the folder TREE, which may hold another commit. Requests are lines of JSON on the standard input,
replies are lines of JSON on the standard output:

- ``{"cell": "lstm", "units": 8, "batch": 1, "unroll": true}`` makes a model of one layer and runs each of its jobs once;
  the reply is the time in seconds until all have run;
- ``{"job": "inference", "calls": 10}``: the reply is the time in seconds of one call.
"""

import json
import os
import sys
import time

N_INPUTS, N_STEPS = 8, 100
CLASSES = {"simple_rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}


def jobs(cell: str, units: int, batch: int, unroll: bool) -> dict:
    """What is timed, by name: functions without arguments."""
    import numpy as np

    from fastrnn import Sequential, layers

    options = {"unroll": True} if unroll else {}
    model = Sequential([getattr(layers, CLASSES[cell])(units, **options)], seed=0)
    layer = model.layers[0]
    layer.n_threads = 1
    model.build((None, None, N_INPUTS))
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, N_STEPS, N_INPUTS)).astype("f")
    y = rng.normal(size=(batch, units)).astype("f")
    one_step, sample = np.ascontiguousarray(x[:, :1]), np.ascontiguousarray(x[:, 0])
    stream = model.stream(batch_size=batch)
    return {
        "inference": lambda: layer(x),
        "one step": lambda: layer(one_step),
        "training": lambda: model.train_on_batch(x, y),
        "streamed step": lambda: stream.step(sample),
    }


def main() -> None:
    tree = sys.argv[1]
    # Redirect what a library prints, so that it does not mix with the replies.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, tree)
    import fastrnn

    if not os.path.abspath(fastrnn.__file__).startswith(os.path.abspath(tree) + os.sep):
        raise SystemExit(f"fastrnn was imported from {fastrnn.__file__}, not from {tree}")
    made: dict = {}
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        if "job" in request:
            job, calls = made[request["job"]], request["calls"]
            job()  # wakes the processor, and the start is not that of the request
            start = time.perf_counter()
            for _ in range(calls):
                job()
            reply = (time.perf_counter() - start) / calls
        else:
            made = jobs(**request)
            for job in made.values():
                job()
            reply = time.perf_counter() - start
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()

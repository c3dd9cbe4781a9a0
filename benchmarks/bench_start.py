"""Cold and warm start, in fresh processes: import, first fit of a small LSTM classifier, first prediction.

Cold means an empty kernel cache. The script prints its own times, so that the start of the interpreter isn't in them; the
round's time (which pytest-benchmark shows) is the whole process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import installed

ROOT = Path(__file__).resolve().parent.parent

DATA = """
import json, time
start = time.perf_counter()
import numpy as np
rng = np.random.default_rng(0)
x = rng.standard_normal((100, 8, 8)).astype("float32")
y = (x.sum((1, 2)) > 0).astype("int64")
numpy_done = time.perf_counter()
{imports}
imported = time.perf_counter()
{fit}
fitted = time.perf_counter()
print(json.dumps({{"import": imported - numpy_done, "first_fit": fitted - imported, "all": fitted - start}}))
"""

SCRIPTS = {
    "fastrnn": (
        "from fastrnn import RNNClassifier",
        "RNNClassifier(cell='lstm', units=32, max_iter=2, batch_size=32, random_state=0).fit(x, y).predict(x)",
    ),
    "torch": (
        "import torch",
        """
torch.manual_seed(0)
x, y = torch.from_numpy(x), torch.from_numpy(y)
lstm, dense = torch.nn.LSTM(8, 32, batch_first=True), torch.nn.Linear(32, 2)
optimizer = torch.optim.Adam([*lstm.parameters(), *dense.parameters()])
for epoch in range(2):
    for batch in torch.randperm(len(x)).split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(dense(lstm(x[batch])[0][:, -1]), y[batch])
        loss.backward()
        optimizer.step()
with torch.inference_mode():
    dense(lstm(x)[0][:, -1]).argmax(1)
""",
    ),
    "keras-jax": (
        "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras",
        """
model = keras.Sequential([keras.Input((8, 8)), keras.layers.LSTM(32), keras.layers.Dense(2, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy')
model.fit(x, y, batch_size=32, epochs=2, verbose=0)
model.predict(x, verbose=0)
""",
    ),
}
MODULES = {"fastrnn": (), "torch": ("torch",), "keras-jax": ("keras", "jax")}


def start(library, cache):
    imports, fit = SCRIPTS[library]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", DATA.format(imports=imports, fit=fit)],
        env=environment,
        cwd=cache,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("state", ["cold", "warm"])
@pytest.mark.parametrize("library", [*SCRIPTS])
def bench_start(benchmark, library, state, tmp_path):
    if not installed(*MODULES[library]):
        pytest.skip(f"{' and '.join(MODULES[library])} not installed")
    if library != "fastrnn" and state == "cold":
        pytest.skip(f"{library} keeps no kernels on disk: every start is the same")
    folders = iter(range(100))

    def setup():
        if state == "warm":
            return (library, tmp_path), {}
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return (library, folder), {}

    if state == "warm":
        start(library, tmp_path)
    times = []
    benchmark.group = "start"
    benchmark.pedantic(lambda *args: times.append(start(*args)), setup=setup, rounds=3, iterations=1)
    for name in times[0]:
        benchmark.extra_info[f"{name}_s"] = sorted(row[name] for row in times)[len(times) // 2]
    print(f"\n{library}, {state}: " + ", ".join(f"{k} {v:.2f}" for k, v in benchmark.extra_info.items()))

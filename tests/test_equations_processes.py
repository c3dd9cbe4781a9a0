"""A cell of a user's own script or notebook: the second process compiles nothing, workers get the same cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn.engine.runtime.jit import DISABLED
from tests.compiled import LISTEN
from tests.limits import HANG_SECONDS

pytestmark = pytest.mark.skipif(DISABLED, reason="nothing is compiled")
ROOT = Path(__file__).resolve().parents[1]

BY_EQUATIONS = """
from fastrnn.cells import equations, tanh

@equations("h")
def Leaky(z, prev, activation=tanh, leak=0.5):
    return prev.h + leak * (activation(z.h) - prev.h)
"""

BY_HAND = """
from typing import NamedTuple
from fastrnn.engine.kernels.vecmath import tanh
from fastrnn.engine.recurrence.contract import Traits, step_backward, step_forward
from fastrnn.engine.runtime.jit import implements
from fastrnn.engine.runtime.views import fill, part, plane

class Leaky(NamedTuple):
    n_units: int
    def traits(self):
        return Traits(n_gates=1)

@implements(step_forward, Leaky)
def forward(cell, phase, step):
    for r in range(step.z.shape[0]):
        zr, h = part(step.z, r, 0, cell.n_units), plane(step.states, 0, r, cell.n_units)
        for j in range(cell.n_units):
            h[j] = tanh(zr[j])

@implements(step_backward, Leaky)
def backward(cell, phase, step):
    for r in range(step.dz.shape[0]):
        dh, h = plane(step.ds, 0, r, cell.n_units), plane(step.states, 0, r, cell.n_units)
        out = part(step.dz, r, 0, cell.n_units)
        for j in range(cell.n_units):
            out[j] = dh[j] - dh[j] * h[j] * h[j]
        fill(dh, 0)
"""

USE = """
from fastrnn import RNNClassifier

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 6, 3)).astype("f"), np.arange(40) % 3

def model():
    return RNNClassifier(cell=Leaky, units=17, max_iter=2, tol=None, random_state=0, n_jobs=1)

def digest(fitted):
    return hashlib.sha256(fitted.predict_proba(X).tobytes()).hexdigest()

def work(fitted):
    own = []
    class Other(event.Listener):
        def on_start(self, e): own.append(e.data["dispatcher"].py_func.__name__)
        def on_end(self, e): pass
    event.register("numba:compile", Other())
    return os.getpid(), own, digest(fitted), digest(model().fit(X, y))

if __name__ == "__main__":
    import os
    first = model().fit(X, y)
    result = {"compiled": compiled, "result": digest(first)}
    if "workers" in sys.argv:
        from joblib import Parallel, delayed
        from sklearn.model_selection import GridSearchCV
        pids, own, digests, fitted = zip(*Parallel(n_jobs=2)(delayed(work)(first) for _ in range(2)))
        search = GridSearchCV(model(), {"units": [3, 5]}, cv=2, n_jobs=2, error_score="raise").fit(X, y)
        result |= {"elsewhere": os.getpid() not in pids, "worker_compiled": own, "worker_results": digests + fitted}
        result["best"] = search.best_params_["units"]
    print(json.dumps(result))
"""

#: A notebook's cells are no file, and their names are in __main__.
NOTEBOOK = """
import linecache, sys
text = open(sys.argv[1]).read()
linecache.cache["/tmp/ipykernel_1/2.py"] = (len(text), None, text.splitlines(True), "/tmp/ipykernel_1/2.py")
exec(compile(text, "/tmp/ipykernel_1/2.py", "exec"))
"""


def run(cache: Path, path: Path, way: str, *arguments: str) -> dict:
    command = [sys.executable, str(path)] if way == "script" else [sys.executable, "-c", NOTEBOOK, str(path)]
    process = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all, whose cells differ: what does not depend on the cell is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("way", ["script", "notebook"])
def test_cell_of_a_script_is_compiled_once(way, tmp_path, cache):
    path = tmp_path / "own_cell.py"
    cell = BY_EQUATIONS if way == "script" else BY_EQUATIONS.replace("- prev.h)", "- 0.9 * prev.h)")
    path.write_text(LISTEN + "import os\n" + cell + USE, encoding="utf-8")
    first = run(cache, path, way)
    second = run(cache, path, way, "workers")
    assert first["compiled"]  # the listener does listen
    assert second["compiled"] == []
    assert second["result"] == first["result"]
    assert second["elsewhere"]
    assert second["worker_compiled"] == [[], []]
    assert second["worker_results"] == [first["result"]] * 4
    assert second["best"] in (3, 5)
    # Other equations of the same name in the same file are another cell.
    path.write_text(path.read_text(encoding="utf-8").replace("leak=0.5", "leak=0.25"), encoding="utf-8")
    number = run(cache, path, way)
    path.write_text(
        path.read_text(encoding="utf-8").replace("prev.h + leak", "prev.h / 2 + leak"), encoding="utf-8"
    )
    equations = run(cache, path, way)
    assert number["compiled"] == []  # a number is a field, not a part of the code
    assert equations["compiled"]
    assert len({first["result"], number["result"], equations["result"]}) == 3


def test_cell_written_by_hand_in_a_script_works_in_the_second_process(tmp_path, cache):
    path = tmp_path / "own_cell.py"
    path.write_text(LISTEN + BY_HAND + USE, encoding="utf-8")
    first, second = (run(cache, path, "script") for _ in range(2))
    assert first["compiled"]
    assert second["compiled"] == []
    assert second["result"] == first["result"]

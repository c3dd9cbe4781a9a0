"""Time of the import and of the first fit, in fresh processes: python -m benchmarks.start

import   `import fastrnn` in a process that has imported NumPy
cold     the first fit and prediction of a small LSTM classifier, with an empty cache of kernels
warm     the same with a filled cache; also torch and Keras on JAX, which keep no kernels on disk
warmup   `fastrnn.warmup()` with an empty cache, and the first fit of a later process
digits   the whole process, interpreter included: import, fit on scikit-learn's digits, predict; fastrnn and torch

The times are medians; the libraries take turns. Written to benchmarks/results/: start.json, start.md and start.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import described, table
from benchmarks.timing import environment
from fastrnn.bench.peers import installed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
MODULES = {"fastrnn": (), "torch": ("torch",), "keras-jax": ("keras", "jax")}

#: Targets: most seconds.
IMPORT_TARGET, COLD_TARGET, WARM_TARGET = 0.15, 5.0, 0.5

TIMED = """
import json, time
start = time.perf_counter()
import numpy as np
{data}
numpy_done = time.perf_counter()
{imports}
imported = time.perf_counter()
fitted = None
{work}
done = time.perf_counter()
fit = {{}} if fitted is None else {{"fit_alone": fitted - imported}}
print(json.dumps({{"import": imported - numpy_done, **fit, "first_fit": done - imported, "all": done - start}}))
"""

SMALL = """
rng = np.random.default_rng(0)
x = rng.standard_normal((100, 8, 8)).astype("float32")
y = (x.sum((1, 2)) > 0).astype("int64")
"""

IMPORTS = {
    "fastrnn": "from fastrnn import RNNClassifier",
    "torch": "import torch",
    "keras-jax": "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras",
}

FITS = {
    "fastrnn": """
model = RNNClassifier(
    cell="{cell}", units={units}, max_iter={epochs}, tol=None, batch_size=32, random_state=0
).fit(x, y)
fitted = time.perf_counter()
model.predict(x)
""",
    "torch": """
torch.manual_seed(0)
x, y = torch.from_numpy(x), torch.from_numpy(y)
layer = torch.nn.{kind}(x.shape[2], {units}, batch_first=True)
dense = torch.nn.Linear({units}, int(y.max()) + 1)
optimizer = torch.optim.Adam([*layer.parameters(), *dense.parameters()])
for epoch in range({epochs}):
    for batch in torch.randperm(len(x)).split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(dense(layer(x[batch])[0][:, -1]), y[batch])
        loss.backward()
        optimizer.step()
with torch.inference_mode():
    dense(layer(x)[0][:, -1]).argmax(1)
""",
    "keras-jax": """
model = keras.Sequential(
    [keras.Input(x.shape[1:]), keras.layers.{kind}({units}), keras.layers.Dense(int(y.max()) + 1, activation="softmax")]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs={epochs}, verbose=0)
model.predict(x, verbose=0)
""",
}


def fit_of(library: str, *, cell: str = "lstm", units: int = 32, epochs: int = 2) -> str:
    return FITS[library].format(cell=cell, kind=cell.upper(), units=units, epochs=epochs)


def run(script: str, cache: Path) -> dict[str, float]:
    """The times that the script prints, and the seconds of the whole process."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, cwd=cache, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return {**json.loads(done.stdout.splitlines()[-1]), "process": seconds}


def first_fit(library: str, cache: Path) -> dict[str, float]:
    return run(TIMED.format(data=SMALL, imports=IMPORTS[library], work=fit_of(library)), cache)


def bare_import(cache: Path) -> dict[str, float]:
    """`import fastrnn` alone; fails if it imports Numba or scikit-learn."""
    check = 'import sys\nfound = {"numba", "sklearn"} & set(sys.modules)\nassert not found, found'
    return run(TIMED.format(data="", imports="import fastrnn", work=check), cache)


def digits(library: str, cache: Path) -> dict[str, float]:
    """Fit the digits, read from a file, so that only libraries that need scikit-learn import it."""
    data = f"x, y = np.load({str(cache / 'digits.npz')!r}).values()"
    work = fit_of(library, cell="gru", units=64, epochs=5)
    return run(TIMED.format(data=data, imports=IMPORTS[library], work=work), cache)


def save_digits(cache: Path) -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    np.savez(cache / "digits.npz", x=(x.reshape(-1, 8, 8) / 16).astype(np.float32), y=y.astype(np.int64))


def warmed_up(cache: Path) -> dict[str, float]:
    """`fastrnn.warmup()` in a fresh process."""
    return run(TIMED.format(data="", imports="import fastrnn", work="fastrnn.warmup()"), cache)


def has_warmup() -> bool:
    import fastrnn

    return hasattr(fastrnn, "warmup")


# --- all measurements ------------------------------------------------------------------------------------------------


def measure(rounds: int, libraries: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}

    def add(name: str, row: dict[str, float]) -> None:
        found.setdefault(name, []).append(row)
        print(name + ": " + ", ".join(f"{key} {value:.3f} s" for key, value in row.items()), flush=True)

    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        warm = Path(folder, "warm")
        warm.mkdir()
        save_digits(warm)
        for work in (first_fit, digits):
            work("fastrnn", warm)  # fills the cache
        for turn in range(rounds):
            cold = Path(folder, f"cold{turn}")
            cold.mkdir()
            add("fastrnn, cold", first_fit("fastrnn", cold))
            add("fastrnn, bare import", bare_import(warm))
            for library in libraries:
                add(f"{library}, warm", first_fit(library, warm))
            for library in libraries:
                if library != "keras-jax":
                    add(f"{library}, digits", digits(library, warm))
            if has_warmup():
                fresh = Path(folder, f"fresh{turn}")
                fresh.mkdir()
                add("fastrnn, warmup()", warmed_up(fresh))
                add("fastrnn, after warmup()", first_fit("fastrnn", fresh))
    return found


def medians(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(np.median([row[key] for row in rows])) for key in rows[0]}
        for name, rows in found.items()
    }


def targets(middle: dict[str, dict[str, float]]) -> list[tuple[str, float, str, bool]]:
    """The targets: name, measured value, target, whether it is met."""
    lines = []

    def at_most(what: str, name: str, key: str, limit: float, note: str = "") -> None:
        if name in middle:
            value = middle[name][key]
            lines.append((what, value, f"<= {limit:.3g} s{note}", value <= limit))

    at_most("import fastrnn, over NumPy", "fastrnn, bare import", "import", IMPORT_TARGET)
    at_most("first fit, empty cache", "fastrnn, cold", "fit_alone", COLD_TARGET)
    at_most("first fit, warm, beyond imports", "fastrnn, warm", "first_fit", WARM_TARGET)
    at_most("first fit after warmup(), beyond imports", "fastrnn, after warmup()", "first_fit", WARM_TARGET)
    if "torch, digits" in middle:
        limit = middle["torch, digits"]["process"]
        at_most("import, fit on the digits, predict", "fastrnn, digits", "process", limit, " (torch)")
    return lines


def markdown(middle: dict[str, dict[str, float]], info: dict[str, Any]) -> str:
    keys = ("import", "first_fit", "all", "process")
    body = [[name, *(f"{row[key]:.2f}" for key in keys)] for name, row in middle.items()]
    head = ("s", "import, after NumPy", "first fit and prediction", "both and NumPy", "whole process")
    aims = [
        (what, f"{value:.3f} s", target, "yes" if met else "NO")
        for what, value, target, met in targets(middle)
    ]
    lines = [
        described(info),
        "",
        *table(("what", "measured", "target", "met?"), aims),
        "",
        *table(head, body),
    ]
    return "\n".join(lines) + "\n"


def draw(middle: dict[str, dict[str, float]], path: Path) -> None:
    from matplotlib import pyplot

    names = list(middle)[::-1]
    figure, ax = pyplot.subplots(layout="constrained", figsize=(7, 0.8 + 0.4 * len(names)))
    left = np.zeros(len(names))
    parts = {
        "interpreter, NumPy, data": [
            middle[n]["process"] - middle[n]["import"] - middle[n]["first_fit"] for n in names
        ],
        "import": [middle[n]["import"] for n in names],
        "first fit and prediction, or warmup()": [middle[n]["first_fit"] for n in names],
    }
    for (label, values), colour in zip(parts.items(), ("lightgrey", "tab:blue", "tab:red"), strict=True):
        ax.barh(names, values, left=left, label=label, color=colour)
        left += np.array(values)
    for y, total in enumerate(left):
        ax.text(total, y, f" {total:.2f}", va="center", fontsize=8)
    ax.set(xlabel="seconds of a fresh process", xlim=(0, 1.12 * left.max()))
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.split("\n\n")[0])
    parser.add_argument("--libraries", nargs="+", choices=MODULES, default=tuple(MODULES))
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each kind (default 5)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder to write to (default benchmarks/results)"
    )
    args = parser.parse_args(argv)
    info = environment()
    libraries = [name for name in args.libraries if installed(*MODULES[name])]
    found = measure(args.rounds, libraries)
    middle = medians(found)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "start.json").write_text(
        json.dumps({"environment": info, "processes": found}, indent=1) + "\n"
    )
    (args.out / "start.md").write_text(markdown(middle, info))
    try:
        draw(middle, args.out / "start.png")
    except ImportError:
        print("matplotlib is not installed: no picture")
    print(markdown(middle, info))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

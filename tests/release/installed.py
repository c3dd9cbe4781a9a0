"""Uses fastrnn where only its wheel or sdist is installed; `.ci/run release` runs this apart from the source tree."""

import contextlib
import importlib
import importlib.metadata
import io
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import RNNClassifier, load
from fastrnn.datasets import load_airline
from fastrnn.forecasting import RNNForecaster


def main() -> None:
    package = Path(fastrnn.__file__).parent
    assert package.is_relative_to(sysconfig.get_path("purelib")), f"{package} is not what was installed"
    assert importlib.metadata.version("fastrnn") == fastrnn.__version__
    assert (package / "py.typed").exists()
    # Nothing but the package: no tests, benchmarks or examples beside it.
    tops = {Path(str(file)).parts[0] for file in importlib.metadata.files("fastrnn") or ()}
    assert {top for top in tops if not top.endswith(".dist-info") and top != ".."} == {"fastrnn"}, tops
    # No extra is installed, and none is needed to import.
    for name in fastrnn.__all__:
        getattr(fastrnn, name)
    for extra in ("matplotlib", "pandas", "pooch", "torch", "keras", "onnx"):
        with contextlib.suppress(ImportError):
            importlib.import_module(extra)
            raise AssertionError(f"{extra} is installed: this environment shows too little")

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8, 2))
    y = (X[:, :, 0].sum(axis=1) > 0).astype(int)
    model = RNNClassifier(
        cell="gru", units=8, max_iter=40, tol=None, learning_rate_init=0.01, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.9
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.fastrnn"
        model.save(path)
        assert (load(path).predict(X) == model.predict(X)).all()
    passengers = load_airline().values
    forecast = RNNForecaster(horizon=12, max_iter=2, random_state=0).fit(passengers[:-12]).predict()
    assert np.asarray(forecast).shape == (12,)
    said = ""
    try:
        fastrnn.plotting.plot_learning_curves({"loss": [1.0]})
    except ImportError as error:
        said = str(error)
    assert 'pip install "fastrnn[plot]"' in said

    with contextlib.redirect_stdout(io.StringIO()) as shown:
        fastrnn.show_versions()
    command = Path(sys.executable).with_name("fastrnn.exe" if sys.platform == "win32" else "fastrnn")
    done = subprocess.run([command, "info"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == shown.getvalue().splitlines()[0]
    print(f"fastrnn {fastrnn.__version__} in {package.parent} works")


if __name__ == "__main__":
    main()

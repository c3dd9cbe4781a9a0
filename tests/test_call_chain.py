"""The Python functions between `RNNClassifier.fit` and the kernels of the forward and backward pass, from the stack.

``pytest -s tests/test_call_chain.py`` prints the frames.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn
import fastrnn.training
from fastrnn import RNNClassifier, Sequential, layers
from fastrnn.engine.recurrence import kernels as engine_kernels
from fastrnn.engine.recurrence import run, training_pass

PACKAGE = Path(fastrnn.__file__).parent
MOST_FRAMES, MOST_FILES = 14, 8


class Watched:
    """A kernel that is called through a Python frame, which a profile function sees."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, *arguments):
        return self.kernel(*arguments)


def frames_at_kernels(monkeypatch, train):
    """The package's frames, outermost first, at each moment a kernel of a pass is entered, by the pass."""
    kernels = {}

    def watched(name, chosen):
        def choose(plan):
            kernel = Watched(chosen(plan))
            kernels[id(kernel)] = name, kernel
            return kernel

        return choose

    for name in ("forward", "backward"):
        for module in (run, training_pass):
            monkeypatch.setattr(
                module, f"{name}_kernel", watched(name, getattr(engine_kernels, f"{name}_kernel"))
            )
    found = {"forward": [], "backward": []}

    def profile(frame, event, argument):
        if event != "call" or frame.f_code is not Watched.__call__.__code__:
            return
        stack, at = [], frame.f_back
        while at is not None:
            path = Path(at.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                stack.append((path.relative_to(PACKAGE).as_posix(), at.f_code.co_qualname))
            at = at.f_back
        found[kernels[id(frame.f_locals["self"])][0]].append(stack[::-1])

    sys.setprofile(profile)
    try:
        train()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 5, 3)).astype("float32"), np.arange(8) % 2


@pytest.fixture
def classifier():
    """One whose passes are not prepared, because of the dropout."""
    return RNNClassifier(units=4, dropout=0.1, max_iter=1, tol=None, random_state=0, n_jobs=1)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, ("engine/recurrence/run.py", "_launch")),
        ({"dropout": 0.0}, ("engine/recurrence/training_pass.py", "TrainingPass.{}")),
    ],
    ids=["any batch", "small dense batch"],
)
def test_fit_reaches_the_kernel_in_few_frames(options, end, data, classifier, monkeypatch):
    found = frames_at_kernels(monkeypatch, lambda: classifier.set_params(**options).fit(*data))
    for direction, stacks in found.items():
        assert stacks, f"no {direction} kernel was entered"
        deepest = max(stacks, key=len)
        files = list(dict.fromkeys(path for path, _ in deepest))
        print(f"\n{direction}: {len(deepest)} frames in {len(files)} files")
        for path, name in deepest:
            print(f"    {path:28}{name}")
        assert deepest[0] == ("estimators/base.py", "BaseRNN.fit")
        assert deepest[-1] == (end[0], end[1].format(direction))
        assert len(deepest) <= MOST_FRAMES
        assert len(files) <= MOST_FILES


def walk_of_the_docstring():
    """The two lists of (file, function) in the docstring of `fastrnn.training`."""
    lists, path = [[]], ""
    for line in fastrnn.training.__doc__.splitlines():
        words = line.split()
        if not line.startswith("    ") or not words:
            if lists[-1]:
                lists.append([])
            continue
        if words[0].endswith(".py"):
            path = words.pop(0)
        lists[-1].append((path, words[0].rstrip(",")))
    return [found for found in lists if found]


def forward_end(found):
    """What calls the kernel."""
    return max(found["forward"], key=len)[-1]


def test_walk_of_the_docstring_is_the_stack(data, classifier, monkeypatch):
    forward, backward = walk_of_the_docstring()
    found = frames_at_kernels(monkeypatch, lambda: classifier.fit(*data))
    for walk, stacks in ((forward, found["forward"]), (backward, found["backward"])):
        stack = max(stacks, key=len)
        assert [frame for frame in stack if frame in walk] == walk
    assert forward[0] == ("estimators/base.py", "BaseRNN.fit")
    assert forward[-1] == forward_end(found)
    assert len(fastrnn.training.__doc__.splitlines()) <= 40


def test_models_and_partial_fit_run_the_same_loop(data, classifier, monkeypatch):
    x, y = data
    model = Sequential([layers.LSTM(4), layers.Dense(1, activation="sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    trainings = {
        "Model.fit": lambda: model.fit(x, y[:, None], verbose=0),
        "BaseRNN.fit": lambda: classifier.fit(x, y),
        "RNNClassifier.partial_fit": lambda: classifier.partial_fit(x, y),
    }
    loop = [("training/loop.py", "run_epochs"), ("training/loop.py", "_run_batches")]
    for entry, train in trainings.items():
        with monkeypatch.context() as patch:
            (stack, *_) = frames_at_kernels(patch, train)["forward"]
        assert stack[0][1] == entry
        assert [frame for frame in stack if frame in loop] == loop

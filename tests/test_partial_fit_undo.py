"""A call of partial_fit that fails or is interrupted leaves everything as it was, without a copy of large tables."""

import copy
import tracemalloc

import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, load
from fastrnn.optimizers import SGD, Adam, RMSprop

VOCABULARY = 50
SOLVERS = {
    "adam": "adam",
    "adam-lazy": lambda: Adam(0.01, lazy=True),
    "amsgrad": lambda: Adam(0.01, amsgrad=True),
    "rmsprop": "rmsprop",
    "rmsprop-momentum": lambda: RMSprop(0.01, momentum=0.5, centered=True),
    "sgd": "sgd",
    "sgd-lazy": lambda: SGD(0.01, momentum=0.9, lazy=True),
    "decay": lambda: Adam(0.01, weight_decay=0.01),
    "adagrad": "adagrad",
}


def estimator(solver="adam", **options):
    solver = SOLVERS[solver]
    return RNNRegressor(
        **{
            "cell": "gru",
            "units": 3,
            "dropout": 0.2,
            "vocabulary_size": VOCABULARY,
            "embedding_dim": 4,
            "batch_size": 4,
            "random_state": 0,
            "solver": solver if isinstance(solver, str) else solver(),
        }
        | options
    )


def data(rng, n=12, tokens=VOCABULARY):
    return rng.integers(0, tokens, (n, 6)), rng.normal(size=n)


def state_of(made):
    """All that a later call depends on, copied."""
    optimizer = made.model_.optimizer
    return {
        "weights": made.model_.params.copy(),
        "optimizer": copy.deepcopy(optimizer.get_state()),
        "config": optimizer.get_config(),
        "curve": list(made.loss_curve_),
        "states": copy.deepcopy(made.states_) if made.stateful else None,
        "rng": made._rng.get_state(),
        "layers": [layer._rng.bit_generator.state for layer in made.model_.layers],
        "others": [made.n_iter_, made.loss_, made.best_loss_],
    }


def fail(made, at, error, monkeypatch):
    """Let a call fail after the update of batch `at`."""
    trainer, calls = made.model_.trainer, []
    train = trainer.train

    def failing(*arguments):
        loss = train(*arguments)
        calls.append(0)
        if len(calls) == at:
            raise error
        return loss

    monkeypatch.setattr(trainer, "train", failing)


@pytest.mark.parametrize("stateful", [False, True], ids=["stateless", "stateful"])
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a fault")], ids=["interrupt", "error"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_failed_partial_fit_leaves_all_as_it_was(solver, error, at, stateful, rng, monkeypatch):
    made = estimator(solver, stateful=stateful)
    # The first calls use few rows: what fails uses others.
    for _ in range(3):
        made.partial_fit(*data(rng, tokens=10))
    before, twin = state_of(made), copy.deepcopy(made)
    with monkeypatch.context() as patch:
        fail(made, at, error, patch)
        with pytest.raises(type(error)):
            made.partial_fit(*data(rng))
    np.testing.assert_equal(state_of(made), before)
    # Going on gives what it gives where nothing failed.
    x, y = data(rng)
    for either in (made, twin):
        either.partial_fit(x, y).partial_fit(x, y)
    np.testing.assert_equal(state_of(made), state_of(twin))


@pytest.mark.parametrize("solver", ["adam", "rmsprop", "sgd"])
def test_failed_partial_fit_after_a_change_of_the_solver(solver, rng, monkeypatch):
    made = estimator("adam", learning_rate_init=0.01)
    made.partial_fit(*data(rng))
    before = state_of(made)
    made.set_params(solver=Adam(0.5) if solver == "adam" else solver, learning_rate_init=0.5, clipnorm=None)
    with monkeypatch.context() as patch:
        fail(made, 2, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            made.partial_fit(*data(rng))
    np.testing.assert_equal(state_of(made), before)


def test_weights_that_overflow_in_the_last_update_are_put_back(rng):
    """The loss of the next batch would show it, but there is none."""
    x, y = data(rng, n=4)
    made = estimator("sgd", dropout=0.0).partial_fit(x, y)
    before = state_of(made)
    made.set_params(learning_rate_init=1e38, clipnorm=None)
    with pytest.raises(FloatingPointError):
        made.partial_fit(x, y * 1e20)
    np.testing.assert_equal(state_of(made)["weights"], before["weights"])


ROWS, WIDTH = 200_000, 50


@pytest.mark.parametrize("solver", ["adam", "adam-lazy", "rmsprop", "sgd"])
def test_partial_fit_makes_no_copy_of_a_table(solver, rng):
    x, y = rng.integers(0, ROWS, (32, 10)), rng.normal(size=32)
    made = estimator(solver, vocabulary_size=ROWS, embedding_dim=WIDTH)
    for _ in range(2):  # everything is compiled, and the moments are there
        made.partial_fit(x, y)
    tracemalloc.start()
    try:
        made.partial_fit(*(x, y))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ROWS * WIDTH * 4 / 20


def test_estimators_take_a_lazy_solver(tmp_path, rng):
    """Rows of other batches do not change, and the option is saved in the file."""
    x = np.array([[1, 2, 3], [4, 5, 6]] * 4)
    made = RNNClassifier(units=3, vocabulary_size=9, solver=Adam(0.01, lazy=True), random_state=0)
    made.partial_fit(x, [0, 1] * 4, classes=[0, 1])
    before = made.model_.layers[0].get_weights()[0]
    made.save(tmp_path / "made")
    read = load(tmp_path / "made")
    for either in (made, read):
        either.partial_fit(np.full((4, 3), 7), [0, 1, 0, 1])
        after = either.model_.layers[0].get_weights()[0]
        assert np.flatnonzero((after != before).any(axis=1)).tolist() == [7]
    np.testing.assert_array_equal(made.model_.params, read.model_.params)

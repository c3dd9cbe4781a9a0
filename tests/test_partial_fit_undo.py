"""A call of partial_fit that fails or is interrupted leaves everything as it was, without a copy of large tables."""

import copy
import signal
import tracemalloc

import numpy as np
import pytest

from fastrnn import RNNClassifier, RNNRegressor, load
from fastrnn.optimizers import SGD, Adam, RMSprop
from fastrnn.update_plan import Later, Plan, Table

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


@pytest.mark.parametrize("solver", ["adam", "amsgrad", "sgd"])
@pytest.mark.parametrize("n", [3, 4, 12], ids=["one-short-batch", "one-batch", "batches"])
def test_rows_without_a_gradient_move_as_if_at_once(solver, n, rng, monkeypatch):
    later, at_once = (estimator(solver) for _ in range(2))
    complete, done = Later.complete, []
    monkeypatch.setattr(Later, "complete", lambda self: done.append(len(self.updates)) or complete(self))
    for _ in range(4):
        x, y = data(rng, n=n)
        later.partial_fit(x, y)
        with monkeypatch.context() as patch:
            patch.setattr(type(later.model_.optimizer), "may_wait", lambda *_: False)
            at_once.partial_fit(x, y)
        np.testing.assert_equal(state_of(later), state_of(at_once))
    assert done == [1, 1, 1]  # not in the first call, which makes the moments


def test_interrupt_while_the_rest_is_updated_comes_after_it(rng, monkeypatch):
    made, twin = (estimator("adam", stateful=True) for _ in range(2))
    x, y = data(rng, n=4)
    for either in (made, twin):
        either.partial_fit(x, y)
    complete = Later.complete

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        complete(self)

    with monkeypatch.context() as patch:
        patch.setattr(Later, "complete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.partial_fit(x, y)
    twin.partial_fit(x, y)
    np.testing.assert_equal(state_of(made), state_of(twin))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", ["learning_rate", "epsilon", "momentum", "velocity", "gradient", "schedule"])
def test_rows_wait_only_where_no_number_can_become_infinite(what, dtype):
    """Whatever the weights are: the largest number, less a step, is finite."""
    top = np.finfo(dtype).max
    optimizer, table = Adam(0.001), Table(0, 6, (3, 2), lambda: np.array([0]), lambda rows: None)
    p, g = np.full(6, top, dtype), np.array([1, -1, 0, 0, 0, 0], dtype)
    assert not optimizer.may_wait(table, g)  # there are no moments yet
    optimizer.apply(p, g.copy(), Plan([], [], [table]))
    optimizer.apply(p, g.copy(), Plan([], [], [table._replace(rows=lambda: np.array([1]))]))
    assert optimizer.may_wait(table, g)
    if what == "learning_rate":
        optimizer.learning_rate = 1e-9 * float(top)
    elif what == "epsilon":
        optimizer.epsilon = 1.0 / float(top)
    elif what == "schedule":
        optimizer.learning_rate = lambda: 0.001
    elif what == "gradient":
        g[1] = -np.sqrt(top)
    else:
        state = optimizer.get_state()
        state["vectors"][what][3] = np.sqrt(top) if what == "momentum" else top
        optimizer.set_state(state)
    assert not optimizer.may_wait(table, g)


@pytest.mark.parametrize("what", ["learning_rate", "momentum", "gradient"])
def test_rows_of_sgd_wait_only_where_no_number_can_become_infinite(what):
    top = float(np.finfo("float32").max)
    optimizer, table = SGD(0.001, momentum=0.9), Table(0, 6, (3, 2), lambda: np.array([0]), lambda rows: None)
    p, g = np.full(6, top, "float32"), np.array([1, -1, 0, 0, 0, 0], "float32")
    optimizer.apply(p, g.copy(), Plan([], [], [table]))
    assert optimizer.may_wait(table, g)
    if what == "learning_rate":
        optimizer.learning_rate = 1e-7 * top
    elif what == "gradient":
        g[1] = -top / 2
    else:
        state = optimizer.get_state()
        state["vectors"]["momentum"][3] = 1e-7 * top
        optimizer.set_state(state)
    assert not optimizer.may_wait(table, g)


def test_bound_of_momentum_grows_with_each_gradient():
    optimizer, table = SGD(0.5, momentum=0.9), Table(0, 2, (1, 2), lambda: np.array([0]), lambda rows: None)
    p, g = np.zeros(2), np.array([4.0, -8.0])
    optimizer.apply(p, g, Plan([], [], [table]))
    for t in range(5):
        assert optimizer.may_wait(table, g)
        optimizer.apply(p, g, Plan([], [], [table]), Later({0}, lambda: None))
        moments = np.abs(optimizer.vectors(2)[0]).max()
        assert moments <= optimizer._bounds[0] <= 4 * (t + 2)


ROWS, WIDTH = 200_000, 50


@pytest.mark.parametrize("used", ["some", "all"])
@pytest.mark.parametrize("solver", ["adam", "adam-lazy", "rmsprop", "sgd"])
def test_partial_fit_makes_no_copy_of_a_table(solver, used, rng):
    x, y = rng.integers(0, ROWS, (32, 10)), rng.normal(size=32)
    made = estimator(solver, vocabulary_size=ROWS, embedding_dim=WIDTH, batch_size="auto")
    for _ in range(2):  # everything is compiled, and the moments are there
        made.partial_fit(x, y)
    if used == "all":
        whole = np.arange(ROWS).reshape(-1, 10)
        made.set_params(batch_size=len(whole)).partial_fit(whole, np.ones(len(whole)))
        made.set_params(batch_size="auto").partial_fit(x, y)
    tracemalloc.start()
    try:
        made.partial_fit(*(x, y))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ROWS * WIDTH * 4 / (20 if used == "some" else 10)  # there are indices of all rows


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

"""Memory and copies of training with large tables and long histories."""

import tracemalloc

import numpy as np
import pytest

from fastrnn import RNNRegressor, Sequential, layers

ROWS, WIDTH = 100_000, 50


def model(optimizer):
    made = Sequential([layers.Embedding(ROWS, WIDTH), layers.SimpleRNN(4), layers.Dense(1)], seed=0)
    made.compile(optimizer, "mse")
    return made


def peak(optimizer, x):
    """Sizes of the table that a fit allocates at most, on top of weights and gradients."""
    y = np.ones((len(x), 1))
    model(optimizer).fit(x[:2], y[:2], verbose=0)  # what is compiled now takes no memory later
    made = model(optimizer)
    tracemalloc.start()
    try:
        made.fit(x, y, batch_size=len(x), verbose=0, epochs=3)
        return tracemalloc.get_traced_memory()[1] / (ROWS * WIDTH * 4)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("optimizer", "n_moments"), [("adam", 2), ("rmsprop", 1), ("sgd", 0)])
def test_fit_takes_memory_for_the_rows_in_use(optimizer, n_moments):
    """Moments have a place for each row, which the system gives when it is written to; copies are made of rows in use."""
    assert peak(optimizer, np.random.default_rng(0).integers(0, ROWS, (64, 10))) < n_moments + 0.2


@pytest.mark.parametrize(("optimizer", "n_moments"), [("adam", 2), ("rmsprop", 1), ("sgd", 0)])
def test_fit_with_all_rows_in_use_keeps_one_copy_of_weights_and_moments(optimizer, n_moments):
    """The outputs of the table and their gradient are as large as the table here."""
    assert peak(optimizer, np.arange(ROWS).reshape(-1, 10)) < 2 * n_moments + 1 + 2.5


def test_partial_fit_does_not_copy_the_history():
    x, y = np.zeros((4, 3, 1)), np.zeros(4)
    made = RNNRegressor(units=2, random_state=0).partial_fit(x, y)
    curve = made.loss_curve_
    made.loss_curve_ += [1.0] * 1_000_000
    made.partial_fit(x, y)
    assert made.loss_curve_ is curve
    assert made.n_iter_ == len(curve) == 1_000_002
    assert made.best_loss_ == min(curve)

    class Unread(list):
        """A history that nobody goes through: it is appended to, and its last items are read."""

        def __iter__(self):
            raise AssertionError("all of the history is read")

        def __getitem__(self, key):
            assert not isinstance(key, slice), "a part of the history is copied"
            return super().__getitem__(key)

    made.loss_curve_ = Unread([1.0] * 1_000_000)
    made.partial_fit(x, y)
    tracemalloc.start()
    try:
        made.partial_fit(x, y)
        assert (
            tracemalloc.get_traced_memory()[1] < 1_000_000
        )  # a copy of the history takes eight times as much
    finally:
        tracemalloc.stop()
    assert type(made.loss_curve_) is Unread
    assert len(made.loss_curve_) == 1_000_002


def test_failed_partial_fit_leaves_the_history(rng):
    x, y = rng.normal(size=(8, 3, 1)), rng.normal(size=8)
    made = RNNRegressor(units=2, random_state=0, batch_size=4, solver="sgd", learning_rate_init=1e30)
    with pytest.raises(FloatingPointError):
        made.partial_fit(x, y * 1e30)
    made.set_params(learning_rate_init=0.1).partial_fit(x, y)
    before, best = list(made.loss_curve_), made.best_loss_
    with pytest.raises(FloatingPointError):
        made.set_params(learning_rate_init=1e30, clipnorm=None).partial_fit(x * 1e3, y * 1e30)
    assert (made.loss_curve_, made.best_loss_) == (before, best)

"""How the tests of bad input say what is refused, and the data that they give.

Each table has rows (what, call, words): the call must fail, and its message must have all the words, which name the
argument, the value, or what would do instead.
"""

from __future__ import annotations

import numpy as np
import pytest

NAN, INF = float("nan"), float("inf")
N, T, F, U = 4, 5, 3, 2
X = np.random.default_rng(0).normal(size=(N, T, F))
Y = np.random.default_rng(1).normal(size=(N, 1))
FLAT = X[:, 0]
TOKENS = np.arange(N * T).reshape(N, T) % 6
REFUSALS = (ValueError, TypeError, NotImplementedError)


def zeros(*sizes: int, n: int = N) -> list[np.ndarray]:
    return [np.zeros((n, size)) for size in sizes]


def refused(call, words) -> str:
    """The message of `call`, which must fail by what it was given and say so."""
    with pytest.raises(REFUSALS) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    return message


def rows(table):
    return [pytest.param(call, words, id=what) for what, call, *words in table]


# ------------------------------------------------------------------------------- objects of a user's own


class NoState:
    def call(self, x_t, states):
        return x_t, [x_t]


class NoCall:
    state_size = 3


class TextSize(NoState):
    state_size = "three"


class WrongStart(NoState):
    state_size = F

    def get_initial_state(self, batch_size):
        return np.zeros((batch_size, F + 1))


class Hook:
    on_epoch_end = None

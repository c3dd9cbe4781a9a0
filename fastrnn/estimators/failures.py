"""What a failed training puts back, and the error that it raises."""

from __future__ import annotations

import functools
from typing import Any

from fastrnn.exceptions import NonFiniteLossError
from fastrnn.training.guard import Changes, Undo, attributes, generators
from fastrnn.training.loop import Outcome

__all__ = ["failure_of", "undo_training", "undo_updates"]


def undo_updates(model: Any, changes: Changes) -> list[Undo]:
    """What puts a network back that was trained on with its optimizer."""
    head = model.layers[-1]
    return [
        attributes(model.trainer, "optimizer", "objective"),
        changes.restore,
        # Turned into the units of training before the first update.
        functools.partial(head.set_weights, head.get_weights()),
        model.plan_updates,
        *generators(model.layers),
    ]


def undo_training(model: Any) -> list[Undo]:
    """What puts a network back that was trained with another optimizer: its own is left as it is."""
    return [
        attributes(model.trainer, "optimizer", "objective"),
        functools.partial(setattr, model, "params", model.weight_vector.copy()),
        model.plan_updates,
        *generators(model.layers),
    ]


def failure_of(outcome: Outcome) -> NonFiniteLossError | None:
    """The error of a training whose numbers overflowed; raised if no epoch is left."""
    if outcome.failure is None:
        return None
    kept = outcome.epochs
    failure = NonFiniteLossError(
        f"the loss, its gradient or a weight became NaN or infinite in epoch {outcome.epoch + 1}. "
        + (f"The weights after epoch {kept} are kept. " if kept else "The estimator is unchanged. ")
        + "What usually helps: a lower learning_rate_init, a clipnorm (such as 1.0), scaled input and targets "
        "(StandardScaler3D), activation='tanh', dtype='float64'."
    )
    failure.__cause__ = outcome.failure
    if not kept:
        raise failure
    return failure

"""The rule that ends `fit` of the estimators."""

from __future__ import annotations

import math

from fastrnn.training.callback import Callback, Logs

__all__ = ["SCORE", "StoppingRule"]

#: The name of the score on held-out samples among the logs of an epoch.
SCORE = "validation score"


class StoppingRule(Callback):
    """Records losses and scores, and ends training when they no longer improve.

    Parameters
    ----------
    tol : float, optional
        Least improvement; None: training is never ended.
    n_iter_no_change : float
        Training ends after more than this number of consecutive epochs without an improvement.
    scale : float
        Scale of the loss, to which `tol` is relative. For scores, `tol` is absolute.
    """

    def __init__(
        self, tol: float | None = None, n_iter_no_change: float = math.inf, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.tol, self.n_iter_no_change, self.scale = tol, n_iter_no_change, scale
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_score = -math.inf
        #: Whether this rule has ended training.
        self.ended = False
        self._best_loss, self._waited = math.inf, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        loss, margin = logs["loss"], self.tol or 0.0
        self.losses.append(loss)
        if SCORE in logs:
            score = logs[SCORE]
            self.scores.append(score)
            improved = score >= self.best_score + margin
            if score > self.best_score:
                self.best_score = score
        else:
            improved = loss <= self._best_loss - margin * self.scale
            self._best_loss = min(loss, self._best_loss)
        self._waited = 0 if improved else self._waited + 1
        if self.tol is not None and self._waited > self.n_iter_no_change:
            self.ended = self.model.stop_training = True

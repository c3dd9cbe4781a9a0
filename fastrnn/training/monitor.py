"""The base class of callbacks that monitor an entry of the epochs' logs."""

from __future__ import annotations

import math
import warnings

from fastrnn.checks import choice, number
from fastrnn.training.callback import Callback, Logs

__all__ = ["Monitor"]


class Monitor(Callback):
    """Compares an entry of the logs with its best value so far.

    Parameters
    ----------
    monitor : str
        Key of the logs.
    mode : {"auto", "min", "max"}
        Whether a smaller or a larger value is better; "auto" uses the `direction` of the metric.
    min_delta : float
        Smallest change that is an improvement.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        if not isinstance(monitor, str):
            raise ValueError(f"monitor={monitor!r}: give a key of the epoch's logs, such as 'val_loss'")
        self.monitor = monitor
        self.mode = choice(mode, "mode", ("auto", "min", "max"))
        self.min_delta = abs(number(min_delta, "min_delta"))
        self.best = math.nan
        self._larger_is_better = mode == "max"

    def _set_direction(self, must: bool) -> None:
        """With ``mode="auto"``, find whether a larger value is better from the model's metrics.

        With `must`, raise if no metric has the monitored name; otherwise a callback may still add the value.
        """
        name = self.monitor.removeprefix("val_")
        if self.mode != "auto" or name == "loss":
            return
        objective = self.model.trainer.objective
        direction = objective.direction(name)
        if direction is None and (must or objective.has_metric(name)):
            raise ValueError(
                f"{type(self).__name__}: mode='auto' can't find whether a larger or a smaller {self.monitor!r} is better: "
                "give mode='max' or mode='min'"
            )
        self._larger_is_better = direction == "max"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._set_direction(must=False)

    def _better(self, value: float, than: float) -> bool:
        if math.isnan(than):
            return not math.isnan(value)
        result: bool = (
            value - self.min_delta > than if self._larger_is_better else value + self.min_delta < than
        )
        return result

    def _value(self, logs: Logs | None) -> float | None:
        value = (logs or {}).get(self.monitor)
        if value is not None:
            self._set_direction(must=True)
        else:
            warnings.warn(
                f"{type(self).__name__}: monitor={self.monitor!r} is not among {sorted(logs or {})}, so it has no effect",
                stacklevel=2,
            )
        return value

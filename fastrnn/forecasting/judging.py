"""Evaluation of a forecaster: backtests and its score."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.validation import check_is_fitted

from fastrnn.forecasting.backtest import Backtest, backtest
from fastrnn.forecasting.frames import subset
from fastrnn.forecasting.metrics import naive_scale
from fastrnn.forecasting.series import Series

__all__ = ["Judging"]


class Judging:
    """The methods of a forecaster that compare forecasts with the truth.

    Attributes are set by `fit` of the forecaster.
    """

    horizon: int
    seasons_: tuple[int, ...]
    _series: list[Series]
    _states: list[list[NDArray[Any]]]
    _outputs: NDArray[Any]
    _read_update: Any
    _effect_of: Any

    def backtest(
        self,
        y: Any,
        X: Any = None,
        static: Any = None,
        *,
        start: Any = None,
        step: int = 1,
        horizon: int | None = None,
        refit: bool = False,
    ) -> Backtest:
        """Forecast from many origins in one pass over the series, without training.

        Parameters
        ----------
        y, X, static
            As in `fit`: whole series from their first step on.
        start : int, float or stamp, optional
            The first step to forecast: a number of steps (if negative, from the end), a fraction of each series, or a
            stamp. By default `horizon` steps before the end.
        step : int, default=1
            Steps between two origins.
        horizon : int, optional
            Steps ahead, at most the `horizon` of `fit`.
        refit : bool, default=False
            Whether to fit a clone on the steps up to each origin: first on those up to the first origin of each series, then
            up to the second, and so on. Series without such an origin are left out of that fit.

        Returns
        -------
        Backtest

        Notes
        -----
        Without `refit`, all forecasts use the fitted network: for a fair evaluation, fit it on the steps before `start`. No
        forecast depends on steps after its origin in any other way.
        """
        check_is_fitted(self)
        return backtest(self, y, X, static, start=start, step=step, horizon=horizon, refit=refit)

    def score(self, y: Any, X: Any = None) -> float:
        """Return the negative mean absolute scaled error of the forecasts of `y`, the steps after the last known ones.

        If y is longer than the horizon, a forecast is made every `horizon` steps. The errors are scaled by those of the
        seasonal naive forecast on the known steps; the mean is over the series for which it has errors, and NaN with a
        warning if there are none.

        Parameters
        ----------
        y, X
            As in `update`.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        panel, rows, fresh = self._read_update(y, X, None)
        if fresh:
            raise ValueError(f"series {fresh[0].name!r} was not in fit; it can't be scored")
        judged: Any = copy.copy(self)
        judged._series = [s.copy() for s in self._series]
        judged._states = [[a.copy() for a in layer] for layer in self._states]
        judged._stream, judged._outputs = None, self._outputs.copy()
        scales = {s.name: naive_scale(s.values(), self.seasons_[0]) for s in self._series}
        errors: dict[Any, list[NDArray[Any]]] = {name: [] for name in panel.names}
        index = {s.name: i for i, s in enumerate(self._series)}
        for begin in range(0, max(map(len, panel.values)), self.horizon):
            part = [v[begin : begin + self.horizon] for v in panel.values]
            for i, row in enumerate(rows):
                if row is not None:
                    series = judged._series[index[panel.names[i]]]
                    series.x = series.lay_covariates(row, known=len(series.history))
                    series.effect = judged._effect_of(series.x)
            raw, _, future = judged._raw(None, None)
            forecasts = judged._values(judged._head.point(raw), self.horizon, future)
            for name, truth, start in zip(panel.names, part, panel.starts, strict=True):
                gap = start - len(self._series[index[name]].history) if begin == 0 else 0
                ahead = forecasts[index[name]][gap : gap + len(truth)]
                errors[name].append(np.abs(truth[: len(ahead)] - ahead))
            left = [i for i, v in enumerate(part) if len(v)]
            steps = subset(panel, left)
            steps.values = [part[i] for i in left]
            steps.starts = [panel.starts[i] + begin for i in left]
            judged._append(steps, [rows[i] for i in left])
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            mases = [np.nanmean(np.concatenate(e)) / scales[name] for name, e in errors.items()]
            score = -float(np.nanmean(mases))
        if math.isnan(score):
            warnings.warn(
                "the score is NaN: no series has both a known value in y and a seasonal naive forecast with errors; the "
                "latter has none for a constant series, whose absolute error is in backtest(...).metrics()",
                UndefinedMetricWarning,
                stacklevel=2,
            )
        return score

"""The series of a forecaster and the states of its network, which are updated with new steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from fastrnn.forecasting import network
from fastrnn.forecasting.covariates import read_covariates, read_static
from fastrnn.forecasting.effect import CovariateEffect
from fastrnn.forecasting.frames import Columns, Panel, read_panel, subset
from fastrnn.forecasting.series import FeaturePlan, Series, check_values
from fastrnn.forecasting.targets import SeriesHistory

__all__ = ["ForecasterStates"]


class ForecasterStates:
    """The methods of a forecaster that read series and update states.

    Attributes are set by `fit` of the forecaster.
    """

    freq: Any
    id_col: str
    time_col: str
    target_col: str
    dtype: str
    log_: bool
    n_series_: int
    model_: Any
    _head: Any
    _plan: FeaturePlan
    _panel: Panel
    _series: list[Series]
    _encoder: Any
    _effect: CovariateEffect | None

    # -- reading

    def _read(self, y: Any, known: dict[Any, Any] | None = None) -> Panel:
        columns = Columns(self.id_col, self.time_col, self.target_col)
        return read_panel(y, freq=self.freq, columns=columns, known=known)

    def _make_series(self, panel: Panel, X: Any, static: Any) -> list[Series]:
        """Validate the values of a panel of new series, and make the series."""
        plan = self._plan
        rows: list[Any] = [None] * len(panel.values)
        if plan.covariates is not None:
            if X is None:
                raise ValueError(
                    f"X is missing: the forecaster was fitted with the covariates {plan.covariates.names}"
                )
            rows = read_covariates(X, panel, plan.covariates.names)[1]
        elif X is not None:
            raise ValueError("X is given, but the forecaster was fitted without covariates; fit it with X")
        table = None
        if self._encoder is not None:
            if static is None:
                raise ValueError("static is missing: the forecaster was fitted with static columns")
            table = read_static(static, panel.names, panel.columns)
        elif static is not None:
            raise ValueError(
                "static is given, but the forecaster was fitted without static columns; fit it with static"
            )
        out = []
        for name, axis, values, row in zip(panel.names, panel.axes, panel.values, rows, strict=True):
            self._check_values(values, 0, axis, name)
            series = Series(name, axis, SeriesHistory(plan.targets))
            if row is not None:
                series.x = series.lay_covariates(row, known=0)
                series.effect = self._effect_of(series.x)
                if len(series.x) < len(values):
                    raise ValueError(
                        f"X of series {name!r} ends at {axis.name(len(series.x) - 1)}, before the series, which ends at "
                        f"{axis.name(len(values) - 1)}; give a row for each step"
                    )
            if table is not None:
                series.static = self._encoder.transform(name, table[name])
            series.extend(values)
            out.append(series)
        return out

    def _effect_of(self, x: NDArray[Any]) -> NDArray[Any] | None:
        return None if self._effect is None else self._effect(x)

    def _check_values(self, values: NDArray[Any], start: int, axis: Any, name: Any) -> None:
        check_values(values, start, axis, name, self.log_, self._head.counts)

    # -- states

    def _settle(self) -> None:
        """Run the network over all series, and keep the states and outputs of the last step."""
        ahead = self._plan.covariates.n_ahead if self._plan.covariates is not None else 0
        self._stream = None
        self._states: network.States = []
        self._outputs = np.zeros((len(self._series), self._head.horizon * self._head.n_outputs))
        for begin in range(0, len(self._series), 512):
            part = self._series[begin : begin + 512]
            for series in part:
                series.behind = min(ahead, len(series.history) - 1)
            features = [self._plan.scaled(s, 0, len(s.history) - s.behind) for s in part]
            out, states, _ = network.advance(self.model_, features, None)
            self._outputs[begin : begin + 512] = out
            self._states = states if not self._states else _joined(self._states, states)
        self._outputs = self._outputs.astype(self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**state, "_stream": None} if "_stream" in state else state

    def __sklearn_is_fitted__(self) -> bool:
        return vars(self).keys() >= {"model_", "_states"}

    def update(self, y: Any, X: Any = None, static: Any = None) -> Any:
        """Append new steps and update the states, without training; the time is that of the new steps only.

        Parameters
        ----------
        y : as in `fit`
            The new steps. Steps between them and the last known steps are missing; arrays follow without a gap. In a long
            frame, series without rows are unchanged, and new series begin.
        X : optional
            Covariates of the new steps.
        static : optional
            Static covariates of new series.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        panel, rows, fresh = self._read_update(y, X, static)
        self._append(panel, rows)
        if fresh:
            self._series += fresh
            self._panel.names = [*self._panel.names, *(s.name for s in fresh)]
            self._panel.axes = [*self._panel.axes, *(s.axis for s in fresh)]
            self.n_series_ = len(self._series)
            self._settle()
        return self

    def _read_update(self, y: Any, X: Any, static: Any) -> tuple[Panel, list[Any], list[Series]]:
        """Validate new steps; return the panel of known series, their covariates, and new series."""
        known = dict(zip(self._panel.names, self._panel.axes, strict=True))
        panel = self._read(y, known)
        if panel.kind in ("array", "matrix", "list"):
            if len(panel.names) != len(self._series):
                raise ValueError(f"y holds {len(panel.names)} series, the forecaster {len(self._series)}")
            panel.starts = [len(s.history) for s in self._series]
            panel.names = list(self._panel.names)
            panel.axes = list(self._panel.axes)
        if static is not None and self._encoder is None:
            raise ValueError("static is given, but the forecaster was fitted without static columns")
        by_name = {s.name: s for s in self._series}
        old = [i for i, name in enumerate(panel.names) if name in by_name]
        new = [i for i, name in enumerate(panel.names) if name not in by_name]
        if new and panel.kind not in ("long", "polars"):
            raise ValueError(
                f"y has the series {panel.names[new[0]]!r}, which was not in fit; pass it in a long frame"
            )
        plan = self._plan.covariates
        rows: list[Any] = [None] * len(panel.names)
        if plan is not None:
            if X is None:
                raise ValueError(f"X is missing: the forecaster was fitted with the covariates {plan.names}")
            rows = read_covariates(X, panel, plan.names)[1]
        elif X is not None:
            raise ValueError("X is given, but the forecaster was fitted without covariates")
        for i in old:
            series, start, values = by_name[panel.names[i]], panel.starts[i], panel.values[i]
            n = len(series.history)
            if start < n:
                raise ValueError(
                    f"series {series.name!r}: the new steps start at {series.axis.name(start)}, but those up to "
                    f"{series.axis.name(n - 1)} are known; pass only later ones"
                )
            series.axis.check_clock(np.array([n - 1, start]), repr(series.name))
            if rows[i] is not None and rows[i][0] + len(rows[i][1]) < start + len(values):
                raise ValueError(
                    f"X of series {series.name!r} ends before its new steps; give a row for each"
                )
            self._check_values(values, start, series.axis, series.name)
        fresh = self._make_series(subset(panel, new), X, static) if new else []
        return subset(panel, old), [rows[i] for i in old], fresh

    def _append(self, panel: Panel, rows: list[Any]) -> None:
        """Extend the histories and update the states of their series."""
        index = {s.name: i for i, s in enumerate(self._series)}
        which, features = [], []
        ahead = self._plan.covariates.n_ahead if self._plan.covariates is not None else 0
        for name, start, values, row in zip(panel.names, panel.starts, panel.values, rows, strict=True):
            i = index[name]
            series = self._series[i]
            n = len(series.history)
            if row is not None:
                series.x = series.lay_covariates(row, known=n)
                series.effect = self._effect_of(series.x)
            gap = start - n
            series.extend(np.concatenate([np.full(gap, np.nan), values]) if gap else values)
            begin, stop = n - series.behind, len(series.history)
            series.behind = min(ahead, stop - begin)
            if stop - series.behind > begin:
                which.append(i)
                features.append(self._plan.scaled(series, begin, stop - series.behind))
        if not which:
            return
        if len(which) == len(self._series) and which == list(range(len(which))):
            self._outputs, self._states, self._stream = network.advance(
                self.model_, features, self._states, self._stream
            )
            return
        rows_ = np.asarray(which)
        states = [[a[rows_] for a in layer] for layer in self._states]
        out, states, _ = network.advance(self.model_, features, states)
        self._outputs[rows_] = out
        for layer, part in zip(self._states, states, strict=True):
            for array, new in zip(layer, part, strict=True):
                array[rows_] = new

    def _outputs_ahead(self, horizon: int, X: Any) -> tuple[NDArray[Any], list[Series]]:
        """Outputs at the last step, with the covariates of future steps."""
        plan = self._plan.covariates
        assert plan is not None
        series = self._series
        if plan.n_ahead:
            if X is None and any(_n_rows(s) < len(s.history) + horizon for s in series):
                raise ValueError(
                    f"X is missing: the covariates {[n for n, p in zip(plan.names, plan.past, strict=True) if not p]} must "
                    f"be known for the {horizon} steps ahead"
                )
            if X is not None:
                panel = copy.copy(self._panel)
                panel.values = [np.zeros(0)] * len(series)
                panel.starts = [len(s.history) for s in series]
                rows = read_covariates(X, panel, plan.names)[1]
                series = [copy.copy(s) for s in series]
                for s, (start, table) in zip(series, rows, strict=True):
                    n = len(s.history)
                    if start + len(table) < n + horizon:
                        raise ValueError(
                            f"X of series {s.name!r} reaches {max(start + len(table) - n, 0)} steps into the future, to "
                            f"{s.axis.name(start + len(table) - 1)}; the horizon takes {horizon}"
                        )
                    s.x = s.lay_covariates((start, table), known=min(n, start) if start > 0 else n)
                    s.effect = self._effect_of(s.x)
        if not any(s.behind for s in series):
            return self._outputs, series
        features = [self._plan.scaled(s, len(s.history) - s.behind, len(s.history)) for s in series]
        return network.advance(self.model_, features, self._states)[0], series


def _n_rows(series: Series) -> int:
    return 0 if series.x is None else len(series.x)


def _joined(states: network.States, more: network.States) -> network.States:
    return [
        [np.concatenate(pair) for pair in zip(a, b, strict=True)] for a, b in zip(states, more, strict=True)
    ]

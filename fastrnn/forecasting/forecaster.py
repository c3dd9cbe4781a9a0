"""The forecaster: one recurrent network for one or thousands of series."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastrnn import saving
from fastrnn.forecasting import network
from fastrnn.forecasting.axes import season_of_frequency
from fastrnn.forecasting.covariates import CovariatePlan, StaticEncoder, read_covariates, read_static
from fastrnn.forecasting.distributions import DISTRIBUTIONS, make_head
from fastrnn.forecasting.effect import fit_effect, values_without_effect
from fastrnn.forecasting.frames import Panel, write_panel
from fastrnn.forecasting.judging import Judging
from fastrnn.forecasting.linear import fit_linear
from fastrnn.forecasting.parameters import ForecasterParameters
from fastrnn.forecasting.series import FeaturePlan, Series, warn_of_little_data
from fastrnn.forecasting.states import ForecasterStates
from fastrnn.forecasting.targets import SeriesHistory, TargetPlan, references_for
from fastrnn.forecasting.uncertainty import Uncertainty

__all__ = ["RNNForecaster"]

#: With at least this number of series, features include properties of the series, and dropout="auto" is 0.
_MANY_SERIES = 20
#: With fewer series, dropout="auto" is 0.2 if all steps together are at least this number of horizons, else 0.5.
_MANY_HORIZONS = 500


@dataclass(eq=False, repr=False)
class RNNForecaster(ForecasterStates, Judging, Uncertainty, ForecasterParameters):
    """Recurrent network that forecasts one or many series.

    One network is trained on all series. Each time step of each series is an origin from which `horizon` steps are
    forecast, so one pass over the data trains all origins, and one pass computes a backtest from all origins. The network
    learns how the future differs from a simple forecast; see :mod:`fastrnn.forecasting.targets`.

    Parameters
    ----------
    horizon : int
        Steps ahead.
    season_length : int or tuple of int, optional
        Steps in a season, or in several seasons. By default that of the index's frequency: 12 for months, 24 for hours;
        1 for arrays. With a daily season, the weekly season is used too: 24 means 24 and 168.
    quantiles : tuple of float, optional
        Forecast these quantiles, which never cross; the loss is the pinball loss.
    distribution : {"normal", "student_t", "poisson", "negative_binomial"}, optional
        Forecast a distribution; the loss is the negative log-likelihood. The last two are for counts.
    target : {"auto", "last", "season", "smooth", "drift", "linear"}, default="auto"
        The simple forecast that is subtracted from the future. "last": the last value. The others add a second one: the
        value one season before, a mean over the same step of earlier seasons, or the value one season before plus the
        growth over a season. "auto": all these. "linear": all these and a linear function of the last two of the longest
        season, for which `fit` needs many steps (:mod:`fastrnn.forecasting.linear`). The one with the smallest error up to
        the origin is used.
    logarithm : bool or "auto", default="auto"
        Whether to work on logarithms. "auto": if all values in `fit` are positive.
    loss : {"absolute_error", "squared_error"}, default="absolute_error"
        Loss without quantiles and distribution.
    lags : tuple of int, optional
        Lags of earlier values that are additional inputs of the network at each step.
    past_covariates : tuple, optional
        Columns of X that are not known ahead.
    calendar : bool, default=False
        Whether the time of day, the day of the week and the time of the year are inputs of the network.
    cell : {"gru", "lstm", "simple_rnn", "peephole_lstm", "janet", "indrnn"}, default="gru"
        Kind of the recurrent layers.
    units : int or tuple of int, default=48
        Width of the recurrent layer; a tuple stacks several.
    dropout : float or "auto", default="auto"
        As in :class:`fastrnn.RNNRegressor`; "auto": 0 for at least 20 series; otherwise 0.2, or 0.5 if all steps together
        are less than 500 horizons.
    recurrent_dropout : float, default=0.0
        As in :class:`fastrnn.RNNRegressor`.
    solver : {"adam", "rmsprop", "sgd", "adagrad"} or optimizer, default="adam"
    learning_rate : {"cosine", "constant"}, default="cosine"
        With "cosine", the learning rate decreases to zero within one `fit`.
    learning_rate_init : float, default=0.003
    batch_size : int, default=32
        Number of sequences in a batch. Long series are cut into about this number of sequences.
    truncated_bptt_steps : int, default=192
        Steps of truncated backpropagation: each piece of a sequence starts from the final states of the previous piece,
        and gradients stop at its start.
    max_iter : int or "auto", default="auto"
        Number of epochs; "auto": at least 4, for about 1500 updates, or fewer for short series.
    shuffle : bool, default=True
    random_state : int, RandomState or None, default=None
    verbose : bool or int, default=False
        0 is silent; 1 shows a progress bar over the epochs, except in worker processes; 2 prints one line for each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous fit.
    early_stopping : bool, default=False
        Whether to use the last steps of each series for validation, stop when their loss no longer decreases, and keep the
        best weights.
    validation_fraction : float, default=0.1
        Fraction of each series for validation, at least `horizon` steps.
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
    clipnorm : float or None, default=1.0
    freq : str or int, optional
        Frequency of the stamps, an integer if they are integers; by default it is inferred.
    id_col, time_col, target_col : str
        Columns of long frames.
    dtype : {"float32", "float64"}, default="float32"
    n_jobs : int or None, default=None
        Number of threads; None means all free cores.

    Attributes
    ----------
    model_ : fastrnn.Sequential
    n_series_ : int
    seasons_ : tuple of int
    dropout_ : float
    log_ : bool
        Whether the series are forecast as logarithms.
    loss_curve_ : list of float
    n_iter_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.forecasting import RNNForecaster
    >>> wave = 10 + np.sin(np.arange(200) * 2 * np.pi / 12)
    >>> forecaster = RNNForecaster(12, season_length=12, max_iter=2, random_state=0).fit(wave)
    >>> forecaster.predict().shape
    (12,)
    """

    # -- fitting

    def fit(self, y: Any, X: Any = None, static: Any = None, callbacks: Any = None) -> RNNForecaster:
        """Train on series.

        Parameters
        ----------
        y : array, list of arrays, pandas Series or DataFrame, or polars DataFrame
            One series (n_steps,), several of equal length (n_steps, n_series), a list of arrays of any lengths; a Series
            or wide frame with a DatetimeIndex, PeriodIndex or RangeIndex; or a long frame with columns for the id, the
            time and the value. NaN and gaps are missing steps.
        X : array, list of arrays, or frame, optional
            Covariates (n_steps, n_columns) of all series or, as a list or long frame, of each series. They must be known
            ahead, except for `past_covariates`.
        static : frame, dict or array, optional
            Numbers and categories that describe each series.
        callbacks : list of Callback, optional
            Callbacks of :mod:`fastrnn.callbacks`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the input is not valid; the forecaster is then unchanged.
        """
        self._check_parameters()
        return self._fit_panel(self._read(y), X, static, callbacks)

    def _fit_panel(self, panel: Panel, X: Any, static: Any, callbacks: Any = None) -> RNNForecaster:
        """Fit to series that have been read, with valid parameters."""
        longest = max(map(len, panel.values))
        if longest <= self.horizon:
            raise ValueError(
                f"horizon={self.horizon} is not shorter than the longest series, which has {longest} steps; give longer "
                "series or a smaller horizon"
            )
        if self.lags and max(self.lags) >= longest:
            raise ValueError(
                f"lags={self.lags!r}: a lag must be shorter than the longest series, which has {longest} steps"
            )
        new = copy.copy(self)
        new.seasons_ = self._seasons(panel, longest)
        counts = self.distribution is not None and DISTRIBUTIONS[self.distribution].counts
        positive = all((v[~np.isnan(v)] > 0).all() for v in panel.values)
        new.log_ = bool(positive and not counts) if self.logarithm == "auto" else bool(self.logarithm)
        new._head = make_head(self.horizon, self.loss, self.quantiles, self.distribution)
        references = references_for(new.seasons_, self.target)
        targets = TargetPlan(
            self.horizon,
            references,
            new.log_,
            zero_based=counts,
            season=new.seasons_[0],
            compare=len(panel.values) >= _MANY_SERIES,
        )
        new._read_plans(panel, X, static, targets)
        new._series = new._make_series(panel, X, static)
        warn_of_little_data(panel, self.horizon)
        last = [s.history.last_value for s in new._series]
        new._fallback = float(np.nanmedian(last)) if np.isfinite(last).any() else 0.0
        if not np.isfinite(last).any():
            raise ValueError("all series are missing throughout; there is nothing to learn from")
        new._panel = replace(panel, values=[], starts=[])
        new.n_series_ = len(new._series)
        new.dropout_ = self._dropout(panel)
        new._train(callbacks, self.max_iter, fresh=not (self.warm_start and "model_" in vars(self)))
        new._correlation = None
        new._settle()
        self.__dict__ = new.__dict__
        return self

    def _dropout(self, panel: Panel) -> float:
        if self.dropout != "auto":
            return float(self.dropout)
        if len(panel.values) >= _MANY_SERIES:
            return 0.0
        return 0.2 if sum(map(len, panel.values)) >= _MANY_HORIZONS * self.horizon else 0.5

    def _seasons(self, panel: Panel, longest: int) -> tuple[int, ...]:
        given = self.season_length
        first = season_of_frequency(panel.axes[0]) if given is None else given
        seasons = tuple(first) if isinstance(first, (tuple, list)) else (int(first),)
        if given is not None and max(seasons) >= longest:
            raise ValueError(
                f"season_length={given!r} is not shorter than the longest series, which has {longest} steps"
            )
        if len(seasons) == 1 and seasons[0] % 24 == 0 and not isinstance(given, (tuple, list)):
            seasons = (seasons[0], 7 * seasons[0])
        kept = tuple(m for m in seasons if 2 * m <= longest)
        return kept or (1,)

    def _read_plans(self, panel: Panel, X: Any, static: Any, targets: TargetPlan) -> None:
        """Set the plans of covariates, the calendar and static columns."""
        plan = None
        if X is not None:
            names, rows = read_covariates(X, panel)
            past = set(self.past_covariates or ())
            unknown = past - set(names)
            if unknown:
                raise ValueError(
                    f"past_covariates names {sorted(map(str, unknown))}, which X does not have: {names}"
                )
            plan = CovariatePlan(names, [n in past for n in names], self.horizon).fit([r for _, r in rows])
        elif self.past_covariates:
            raise ValueError(
                f"past_covariates={self.past_covariates!r} names columns of X, but X was not given"
            )
        self._effect = None
        if (
            plan is not None
            and plan.n_ahead
            and (self.log_ or len(panel.values) == 1)
            and not self._head.counts
        ):
            self._effect = fit_effect(plan, panel, rows, self.seasons_, self.log_)
        if targets.references[-1].kind == "linear":
            known = values_without_effect(self._effect, panel, rows if plan else None, self.log_)
            linear = fit_linear(known, targets.references[-1].lag, self.horizon)
            left = targets.references if linear else targets.references[:-1]
            targets = targets._replace(linear=linear, references=left)
        self._encoder = None
        n_static = 0
        if static is not None:
            table = read_static(static, panel.names, panel.columns)
            self._encoder = StaticEncoder().fit(table)
            n_static = len(self._encoder.transform(panel.names[0], table[panel.names[0]]))
        empty = np.zeros(0, np.float32)
        self._plan = FeaturePlan(targets, tuple(self.lags or ()), plan, self.calendar, n_static, empty, empty)

    def _train(
        self, callbacks: Any, max_iter: int | str, fresh: bool, since: list[int] | None = None
    ) -> None:
        """Fit the network to all origins, or to those from `since` on."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31))
        piece, lengths = self.truncated_bptt_steps, [len(s.history) for s in self._series]
        if since is None:
            spans = network.spans_of(lengths, self.batch_size, piece)
        else:
            spans = [
                network.Span(i, max(begin - piece, 0), length, begin)
                for i, (begin, length) in enumerate(zip(since, lengths, strict=True))
                if length > begin
            ]
        raw = [self._plan.raw(self._series[s.series], s.start, s.stop) for s in spans]
        if fresh:
            self._plan = self._plan.fit(raw)
        for part in raw:
            part -= self._plan.mean
            part *= self._plan.spread
        y, held_out = self._targets(spans)
        epochs, updates = network.n_epochs(max_iter, spans, self)
        if fresh:
            self.model_ = network.build(self, raw[0].shape[1], self._head, seed)
            self.loss_curve_: list[float] = []
        else:
            self.model_ = self.model_.copy()
            self.loss_curve_ = list(self.loss_curve_)
        if fresh or since is None or self.learning_rate == "cosine":
            # A new optimizer, because the learning rate decreased to zero in the previous fit.
            network.compile_model(self.model_, self, self._head, epochs * updates)
        history = self._fit_network((raw, y), held_out, epochs, callbacks)
        self.loss_curve_ += [float(v) for v in history.history["loss"]]
        self.validation_curve_ = [float(v) for v in history.history.get("val_loss", [])] or None
        self.n_iter_ = len(self.loss_curve_)

    def _fit_network(
        self,
        sequences: tuple[list[NDArray[Any]], list[NDArray[Any]]],
        held_out: list[NDArray[Any]] | None,
        epochs: int,
        callbacks: Any,
    ) -> Any:
        """Train `model_`; see `network.train`."""
        return network.train(self.model_, self, sequences, held_out, epochs, callbacks)

    def _targets(self, spans: list[network.Span]) -> tuple[list[NDArray[Any]], list[NDArray[Any]] | None]:
        """Targets of each span for training and for validation."""
        y, held = [], []
        for span in spans:
            history = self._series[span.series].history
            z = history.targets(span.start, span.stop)
            z[: span.first_origin - span.start] = np.nan
            if self.early_stopping:
                n_held = max(self.horizon, math.ceil(self.validation_fraction * len(history)))
                reaches = np.arange(span.start, span.stop)[:, None] + np.arange(1, self.horizon + 1)
                later = reaches >= max(len(history) - n_held, 1)
                held.append(self._with_scale(np.where(later, z, np.float32(np.nan)), history, span))
                z[later] = np.nan
            y.append(self._with_scale(z, history, span))
        if not any(np.isfinite(z).any() for z in y):
            raise ValueError(
                f"no origin has a known target: the series are too short for horizon={self.horizon}, or early_stopping "
                "holds all of them back"
            )
        return y, held if self.early_stopping else None

    def _with_scale(self, z: NDArray[Any], history: SeriesHistory, span: network.Span) -> NDArray[Any]:
        if not self._head.needs_scale:
            return z
        scale = history.scale(np.arange(span.start, span.stop)).astype(np.float32)
        return np.concatenate([z, scale[:, None]], axis=1)

    def partial_fit(self, y: Any, X: Any = None, static: Any = None) -> RNNForecaster:
        """Append new steps and train for one pass over the origins whose targets they complete.

        Parameters
        ----------
        y, X, static
            As in `update`, or as in `fit` if the forecaster is not fitted.

        Returns
        -------
        self
        """
        if not self.__sklearn_is_fitted__():
            first = copy.copy(self)
            first.max_iter = 1
            first.fit(y, X, static)
            first.max_iter = self.max_iter
            self.__dict__ = first.__dict__
            return self
        new = copy.copy(self)
        new._series = [s.copy() for s in self._series]
        new._states = [[a.copy() for a in layer] for layer in self._states]
        new._panel = copy.copy(self._panel)
        new._stream, new._outputs = None, self._outputs.copy()
        since = {s.name: max(len(s.history) - self.horizon, 0) for s in self._series}
        new.update(y, X, static)
        new._train(None, 1, fresh=False, since=[since.get(s.name, 0) for s in new._series])
        new._settle()
        self.__dict__ = new.__dict__
        return self

    # -- forecasting

    def save(self, path: Any) -> None:
        """Write the forecaster to a file that :func:`fastrnn.load` reads: see :func:`fastrnn.save`."""
        saving.save(self, path)

    def predict(self, horizon: int | None = None, X: Any = None) -> Any:
        """Forecast the steps that follow the last known steps.

        Parameters
        ----------
        horizon : int, optional
            Number of steps, at most the `horizon` of `fit`, which is the default.
        X : optional
            The covariates known ahead, one row for each future step.

        Returns
        -------
        object
            Forecasts in the form of y in `fit`: (horizon,), (horizon, n_series), a list of arrays, or a Series or frame
            with the index of the future steps. With `quantiles` there is one more axis, or columns "q0.1" and so on.
        """
        raw, horizon, series = self._raw(horizon, X)
        if self.quantiles is not None:
            return self._write(
                self._head.quantiles_of(raw), horizon, [f"q{q:g}" for q in self.quantiles], series
            )
        return self._write(self._head.point(raw), horizon, [self.target_col], series)

    def _raw(self, horizon: int | None, X: Any) -> tuple[NDArray[Any], int, list[Series]]:
        """Raw outputs of the network for all series, (n_series, horizon, n_outputs), the steps that are wanted, and the
        series with the covariates of the future.
        """
        check_is_fitted(self)
        horizon = self._check_horizon(horizon)
        outputs, series = self._outputs, self._series
        if self._plan.covariates is not None:
            outputs, series = self._outputs_ahead(horizon, X)
        elif X is not None:
            raise ValueError("X is given, but the forecaster was fitted without covariates")
        return outputs.reshape(len(series), self._head.horizon, self._head.n_outputs), horizon, series

    def _check_horizon(self, horizon: int | None) -> int:
        most = self._head.horizon
        if horizon is None:
            result: int = most
            return result
        if (
            isinstance(horizon, bool)
            or not isinstance(horizon, (int, np.integer))
            or not 1 <= horizon <= most
        ):
            raise ValueError(
                f"horizon={horizon!r}: give an integer from 1 to {most}, the horizon of fit; for more, fit with a longer one"
            )
        return int(horizon)

    def _values(
        self, z: NDArray[Any], horizon: int, all_series: list[Series] | None = None
    ) -> list[NDArray[Any]]:
        """Convert outputs z of each series, (n_series, horizon, ...), to values."""
        out = []
        for series, part in zip(all_series or self._series, z, strict=True):
            out.append(self._at_end(series, part[None])[0, :horizon])
        return out

    def _write(
        self,
        z: NDArray[Any],
        horizon: int,
        labels: list[str],
        series: list[Series],
        values: list[NDArray[Any]] | None = None,
    ) -> Any:
        ends = [len(s.history) for s in self._series]
        return write_panel(self._panel, ends, values or self._values(z, horizon, series), labels)

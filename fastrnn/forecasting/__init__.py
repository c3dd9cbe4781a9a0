r"""Forecasting with recurrent networks.

:class:`RNNForecaster` trains one network on all origins of one or many series in one pass; its `backtest` computes the
forecasts from all origins in one pass too. :class:`ConformalIntervals` makes intervals from a backtest,
:class:`ForecastDisplay` and :class:`BacktestDisplay` draw. Scaled errors, :func:`make_windows` and :func:`seasonal_naive`
can be used without a forecaster.

Names in other packages
-----------------------
================================  ==========================  ===========================  ===============================
here                              statsforecast               neuralforecast               darts
================================  ==========================  ===========================  ===============================
``horizon``                       ``h``                       ``h``                        ``output_chunk_length``, ``n``
``season_length``                 ``season_length``           (of the models' scaling)     ``K`` of ``NaiveSeasonal``
``fit(y)``, long frame            ``fit(df)``                 ``fit(df)``                  ``fit(series)``
``id_col, time_col, target_col``  the same                    the same                     ``from_group_dataframe``
``X``, known ahead                ``X_df``                    ``futr_exog_list``           ``future_covariates``
``past_covariates``               --                          ``hist_exog_list``           ``past_covariates``
``static``                        --                          ``static_df``                ``static_covariates``
``quantiles``                     ``level`` (percent)         ``loss=MQLoss``              ``QuantileRegression``
``distribution``                  --                          ``loss=DistributionLoss``    ``likelihood``
``ConformalIntervals``            ``ConformalIntervals``      ``PredictionIntervals``      ``ConformalNaiveModel``
``sample``                        ``simulate``                ``simulate``                 ``predict(num_samples=...)``
``backtest``                      ``cross_validation``        ``cross_validation``         ``historical_forecasts``
``backtest(refit=True)``          the same, ``refit=True``    the same, ``refit=True``     the same, ``retrain=True``
``start, step``                   ``n_windows, step_size``    ``n_windows, step_size``     ``start, stride``
``max_iter`` (epochs)             --                          ``max_steps`` (updates)      ``n_epochs``
``update``                        ``forward`` of a model      ``predict(df)``              ``predict(series=...)``
``freq``                          ``freq``                    ``freq``                     ``freq`` of a ``TimeSeries``
``save``, ``fastrnn.load``        ``save``, ``load``          ``save``, ``load``           ``save``, ``load``
================================  ==========================  ===========================  ===============================

There is no window of inputs (`input_size`, `input_chunk_length`): the states depend on all steps since the first.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastrnn.forecasting.metrics import coverage, interval_width, mase, naive_scale, pinball, rmsse, smape
from fastrnn.forecasting.windows import make_windows, seasonal_naive

if TYPE_CHECKING:  # what the names below are, for type checkers and editors
    from fastrnn.forecasting.backtest import Backtest as Backtest
    from fastrnn.forecasting.display import BacktestDisplay as BacktestDisplay
    from fastrnn.forecasting.display import ForecastDisplay as ForecastDisplay
    from fastrnn.forecasting.forecaster import RNNForecaster as RNNForecaster
    from fastrnn.forecasting.intervals import ConformalIntervals as ConformalIntervals

__all__ = [
    "Backtest",
    "BacktestDisplay",
    "ConformalIntervals",
    "ForecastDisplay",
    "RNNForecaster",
    "coverage",
    "interval_width",
    "make_windows",
    "mase",
    "naive_scale",
    "pinball",
    "rmsse",
    "seasonal_naive",
    "smape",
]


#: Names that are imported at first use: the forecaster needs scikit-learn and SciPy, the errors do not.
_LATER = {
    "Backtest": "backtest",
    "BacktestDisplay": "display",
    "ConformalIntervals": "intervals",
    "ForecastDisplay": "display",
    "RNNForecaster": "forecaster",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

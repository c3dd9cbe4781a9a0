"""The forecaster with the interface of sktime; needs sktime, the extra ``sktime``."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from fastrnn.extras import extra
from fastrnn.forecasting.forecaster import RNNForecaster

pd = extra("pandas", "sktime")
BaseForecaster: Any = extra("sktime.forecasting.base", "sktime").BaseForecaster

__all__ = ["SktimeForecaster"]


class SktimeForecaster(BaseForecaster):  # type: ignore[misc]
    """A forecaster with sktime's methods, for one series at a time.

    Parameters
    ----------
    forecaster : RNNForecaster, optional
        Cloned in `fit`, with the largest step of `fh` as its horizon; by default a forecaster with default parameters.

    Attributes
    ----------
    forecaster_ : RNNForecaster

    Examples
    --------
    >>> from sktime.datasets import load_airline  # doctest: +SKIP
    >>> from fastrnn.forecasting.sktime import SktimeForecaster  # doctest: +SKIP
    >>> SktimeForecaster().fit(load_airline(), fh=[1, 2, 3]).predict()  # doctest: +SKIP
    """

    _tags = {
        "y_inner_mtype": "pd.Series",
        "X_inner_mtype": "pd.DataFrame",
        "scitype:y": "univariate",
        "requires-fh-in-fit": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:missing_values": True,
        "capability:pred_int": False,
    }

    def __init__(self, forecaster: RNNForecaster | None = None) -> None:
        self.forecaster = forecaster
        super().__init__()

    def _fit(self, y: Any, X: Any, fh: Any) -> SktimeForecaster:
        steps = fh.to_relative(self.cutoff)
        chosen = RNNForecaster(1) if self.forecaster is None else clone(self.forecaster)
        self.forecaster_ = chosen.set_params(horizon=int(max(steps))).fit(y, X)
        return self

    def _predict(self, fh: Any, X: Any = None) -> Any:
        steps = np.asarray(fh.to_relative(self.cutoff), int)
        forecast = self.forecaster_.predict(int(steps.max()), X)
        index = fh.to_absolute_index(self.cutoff)
        return pd.Series(forecast.to_numpy()[steps - 1], index=index, name=self._y.name)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters for the tests of sktime."""
        small = RNNForecaster(1, units=4, max_iter=1, random_state=0)
        return [{"forecaster": small}, {"forecaster": clone(small).set_params(target="last", cell="lstm")}]

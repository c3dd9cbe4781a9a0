"""Parameters of a forecaster, and their checks."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastrnn.forecasting.distributions import DISTRIBUTIONS
from fastrnn.forecasting.network import CELLS, SOLVERS
from fastrnn.optimizers import Optimizer

__all__ = ["ForecasterParameters"]

_POSITIVE = Interval(Integral, 1, None, closed="left")
_FRACTION = Interval(Real, 0, 1, closed="left")


@dataclass(eq=False, repr=False)
class ForecasterParameters(BaseEstimator):  # type: ignore[misc]
    """The constructor's arguments, as fields of a dataclass; scikit-learn reads them from the signature."""

    horizon: int
    _: KW_ONLY
    season_length: int | tuple[int, ...] | None = None
    quantiles: tuple[float, ...] | None = None
    distribution: str | None = None
    target: str = "auto"
    logarithm: bool | str = "auto"
    loss: str = "absolute_error"
    lags: tuple[int, ...] | None = None
    past_covariates: tuple[Any, ...] | None = None
    calendar: bool = False
    cell: str = "gru"
    units: int | tuple[int, ...] = 48
    dropout: float | str = "auto"
    recurrent_dropout: float = 0.0
    solver: Any = "adam"
    learning_rate: str = "cosine"
    learning_rate_init: float = 0.003
    batch_size: int = 32
    truncated_bptt_steps: int = 192
    max_iter: int | str = "auto"
    shuffle: bool = True
    random_state: Any = None
    verbose: bool | int = False
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    clipnorm: float | None = 1.0
    freq: Any = None
    id_col: str = "unique_id"
    time_col: str = "ds"
    target_col: str = "y"
    dtype: str = "float32"
    n_jobs: int | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "horizon": [_POSITIVE],
        "season_length": [_POSITIVE, tuple, list, None],
        "quantiles": [tuple, list, np.ndarray, None],
        "distribution": [StrOptions(set(DISTRIBUTIONS)), None],
        "target": [StrOptions({"auto", "last", "season", "smooth", "drift", "linear"})],
        "logarithm": ["boolean", StrOptions({"auto"})],
        "loss": [StrOptions({"absolute_error", "squared_error"})],
        "lags": [tuple, list, None],
        "past_covariates": [tuple, list, None],
        "calendar": ["boolean"],
        "cell": [StrOptions(set(CELLS))],
        "units": [_POSITIVE, tuple, list],
        "dropout": [_FRACTION, StrOptions({"auto"})],
        "recurrent_dropout": [_FRACTION],
        "solver": [StrOptions(set(SOLVERS)), Optimizer],
        "learning_rate": [StrOptions({"cosine", "constant"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [_POSITIVE],
        "truncated_bptt_steps": [_POSITIVE],
        "max_iter": [_POSITIVE, StrOptions({"auto"})],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_POSITIVE],
        "clipnorm": [Interval(Real, 0, None, closed="neither"), None],
        "freq": "no_validation",
        "id_col": [str],
        "time_col": [str],
        "target_col": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "n_jobs": [_POSITIVE, Options(Integral, {-1}), None],
    }

    def _check_parameters(self) -> None:
        """Validate each parameter, and combinations of them."""
        self._validate_params()
        if self.quantiles is not None and self.distribution is not None:
            raise ValueError(
                f"quantiles={self.quantiles!r} and distribution={self.distribution!r}: give one of the two; a "
                "distribution gives any quantile by predict_quantiles"
            )
        if self.quantiles is not None:
            levels = np.asarray(self.quantiles, np.float64)
            if not levels.size or levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
                raise ValueError(
                    f"quantiles={self.quantiles!r}: give numbers between 0 and 1, such as (.1, .5, .9)"
                )
            if (np.diff(levels) <= 0).any():
                raise ValueError(
                    f"quantiles={self.quantiles!r}: give them in ascending order, without duplicates"
                )
        for name in ("horizon", "units", "season_length", "lags"):
            value = getattr(self, name)
            if isinstance(value, (bool, np.bool_)):
                raise ValueError(f"{name}={value!r}: give a positive integer")
            if isinstance(value, (tuple, list)) and (
                not value or not all(_is_positive_int(v) for v in value)
            ):
                raise ValueError(f"{name}={value!r}: give positive integers")
        if self.logarithm is True and self.distribution in ("poisson", "negative_binomial"):
            raise ValueError(
                f"logarithm=True can't be used with the counts of distribution={self.distribution!r}"
            )
        if self.cell == "indrnn" and self.recurrent_dropout:
            raise ValueError(
                f"recurrent_dropout={self.recurrent_dropout}: cell='indrnn' has none, leave it at 0"
            )


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)
